//! The audit trail tells more, cannot be changed by anybody, and is sealed in a chain of hashes.

use crate::helpers::{migration, platform_table, run};
use sea_orm_migration::prelude::*;

const OF_TENANT: &str = "tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid";

migration!(|manager| {
    run(
        manager,
        "ALTER TABLE audit_log
            ADD COLUMN actor_label text,
            ADD COLUMN impersonator_id uuid,
            ADD COLUMN impersonator_label text,
            ADD COLUMN user_agent text,
            ADD COLUMN before jsonb,
            ADD COLUMN after jsonb;
         UPDATE audit_log SET actor_label = (SELECT email FROM app_user u WHERE u.id = actor_id);
         DROP INDEX audit_log_newest;
         CREATE INDEX audit_log_newest ON audit_log (tenant_id, created_at DESC, id DESC);",
    )
    .await?;
    // The seals of a tenant's chain, numbered from 1 without a gap.
    platform_table(
        manager,
        "audit_seal",
        "tenant_id uuid NOT NULL REFERENCES tenant (id),
         seq bigint NOT NULL CHECK (seq > 0),
         audit_id uuid NOT NULL UNIQUE,
         hash text NOT NULL,
         sealed_at timestamptz NOT NULL DEFAULT now(),
         PRIMARY KEY (tenant_id, seq),
         FOREIGN KEY (tenant_id, audit_id) REFERENCES audit_log (tenant_id, id)",
        Some(OF_TENANT),
    )
    .await?;
    // What waits for its seal. An entry that is neither here nor sealed came in by another way.
    platform_table(
        manager,
        "audit_unsealed",
        "tenant_id uuid NOT NULL REFERENCES tenant (id),
         audit_id uuid NOT NULL,
         PRIMARY KEY (tenant_id, audit_id),
         FOREIGN KEY (tenant_id, audit_id) REFERENCES audit_log (tenant_id, id)",
        Some(OF_TENANT),
    )
    .await?;
    platform_table(
        manager,
        "audit_unknown_login",
        "quarter timestamptz NOT NULL,
         ip text NOT NULL,
         count bigint NOT NULL,
         PRIMARY KEY (quarter, ip)",
        None,
    )
    .await?;
    run(
        manager,
        "INSERT INTO audit_unsealed (tenant_id, audit_id) SELECT tenant_id, id FROM audit_log;
         GRANT INSERT ON audit_unsealed TO migrapanel_tenant;
         REVOKE UPDATE, DELETE ON audit_seal FROM migrapanel_system;
         REVOKE UPDATE ON audit_unsealed FROM migrapanel_system;",
    )
    .await?;
    triggers(manager).await
});

/// The labels are looked up as the schema's owner, since a tenant sees no person but through its
/// memberships. The owner can change an entry only by disabling the trigger, which is a change of
/// the schema.
async fn triggers(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    run(
        manager,
        "CREATE FUNCTION audit_label() RETURNS trigger LANGUAGE plpgsql
            SECURITY DEFINER SET search_path = public, pg_temp AS $$ BEGIN
            IF NEW.actor_label IS NULL AND NEW.actor_kind = 'user' THEN
                SELECT email INTO NEW.actor_label FROM app_user WHERE id = NEW.actor_id;
            ELSIF NEW.actor_label IS NULL AND NEW.actor_kind = 'key' THEN
                SELECT name INTO NEW.actor_label FROM api_key WHERE id = NEW.actor_id;
            END IF;
            IF NEW.impersonator_id IS NOT NULL THEN
                SELECT email INTO NEW.impersonator_label FROM app_user WHERE id = NEW.impersonator_id;
            END IF;
            RETURN NEW; END $$;
         CREATE TRIGGER audit_label BEFORE INSERT ON audit_log
            FOR EACH ROW EXECUTE FUNCTION audit_label();
         CREATE FUNCTION audit_wait_for_seal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO audit_unsealed (tenant_id, audit_id) VALUES (NEW.tenant_id, NEW.id);
            RETURN NULL; END $$;
         CREATE TRIGGER audit_wait_for_seal AFTER INSERT ON audit_log
            FOR EACH ROW EXECUTE FUNCTION audit_wait_for_seal();
         CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'nothing in % is ever changed or removed', TG_TABLE_NAME
                USING ERRCODE = 'insufficient_privilege'; END $$;
         CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
            FOR EACH STATEMENT EXECUTE FUNCTION append_only();
         CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seal
            FOR EACH STATEMENT EXECUTE FUNCTION append_only();
         ALTER TABLE audit_log ENABLE ALWAYS TRIGGER append_only;
         ALTER TABLE audit_seal ENABLE ALWAYS TRIGGER append_only;",
    )
    .await
}
