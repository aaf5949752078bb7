//! Sessions instead of refresh tokens, second factors, mailed links, invitations, API keys, mail;
//! tenants that can be suspended and have limits.

use crate::helpers::{migration, platform_table, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    run(
        manager,
        "ALTER TABLE app_user
            ADD COLUMN name text NOT NULL DEFAULT '',
            ADD COLUMN email_verified_at timestamptz,
            ADD COLUMN totp_secret text,
            ADD COLUMN totp_enabled_at timestamptz,
            ADD COLUMN totp_last_step bigint NOT NULL DEFAULT 0;
         UPDATE app_user SET email_verified_at = created_at;
         ALTER TABLE tenant
            ADD COLUMN suspended_at timestamptz,
            ADD COLUMN suspended_reason text,
            ADD COLUMN frozen boolean NOT NULL DEFAULT false,
            ADD COLUMN require_mfa boolean NOT NULL DEFAULT false,
            ADD COLUMN limits jsonb NOT NULL DEFAULT '{}';
         DROP TABLE refresh_token;",
    )
    .await?;
    platform_table(
        manager,
        "session",
        "id uuid PRIMARY KEY,
         user_id uuid NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
         tenant_id uuid NOT NULL REFERENCES tenant (id),
         generation int NOT NULL DEFAULT 0,
         token_sha256 text NOT NULL,
         key_id text NOT NULL,
         rotated_at timestamptz NOT NULL DEFAULT now(),
         expires_at timestamptz NOT NULL,
         stale_at timestamptz,
         revoked_at timestamptz,
         impersonator_id uuid REFERENCES app_user (id),
         ip text,
         user_agent text,
         created_at timestamptz NOT NULL DEFAULT now()",
        None,
    )
    .await?;
    // A process that has heard of an end need not ask for each request.
    run(
        manager,
        "CREATE INDEX session_of_user ON session (user_id, tenant_id) WHERE revoked_at IS NULL;
         CREATE INDEX session_ended ON session (greatest(revoked_at, stale_at));
         CREATE FUNCTION session_ended() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_notify('session', NEW.id::text || ' ' ||
                CASE WHEN NEW.revoked_at IS NULL THEN
                    (extract(epoch FROM NEW.stale_at) * 1000)::bigint::text ELSE 'end' END);
            RETURN NULL; END $$;
         CREATE TRIGGER session_ended AFTER UPDATE OF revoked_at, stale_at ON session
            FOR EACH ROW WHEN (NEW.revoked_at IS NOT NULL OR NEW.stale_at IS NOT NULL)
            EXECUTE FUNCTION session_ended();",
    )
    .await?;
    platform_table(
        manager,
        "link",
        "id uuid PRIMARY KEY,
         user_id uuid NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
         purpose text NOT NULL CHECK (purpose IN ('verify_email', 'reset_password', 'change_email')),
         email text NOT NULL,
         expires_at timestamptz NOT NULL,
         used_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now()",
        None,
    )
    .await?;
    platform_table(
        manager,
        "recovery_code",
        "id uuid PRIMARY KEY,
         user_id uuid NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
         code_sha256 text NOT NULL,
         used_at timestamptz,
         UNIQUE (user_id, code_sha256)",
        None,
    )
    .await?;
    platform_table(
        manager,
        "mail",
        "id uuid PRIMARY KEY,
         recipient text NOT NULL,
         letter jsonb NOT NULL,
         attempts int NOT NULL DEFAULT 0,
         next_at timestamptz NOT NULL DEFAULT now(),
         sent_at timestamptz,
         failed_at timestamptz,
         last_error text,
         created_at timestamptz NOT NULL DEFAULT now()",
        None,
    )
    .await?;
    run(
        manager,
        "CREATE INDEX link_of_user ON link (user_id);
         CREATE INDEX mail_waiting ON mail (next_at) WHERE sent_at IS NULL AND failed_at IS NULL;
         CREATE FUNCTION mail_written() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_notify('mail', ''); RETURN NULL; END $$;
         CREATE TRIGGER mail_written AFTER INSERT ON mail
            FOR EACH STATEMENT EXECUTE FUNCTION mail_written();",
    )
    .await?;
    tenant_table(
        manager,
        "invitation",
        "email text NOT NULL CHECK (email = lower(email)),
         role text NOT NULL CHECK (role IN ('OWNER', 'ADMIN', 'BILLING', 'MEMBER', 'VIEWER')),
         invited_by uuid REFERENCES app_user (id) ON DELETE SET NULL,
         expires_at timestamptz NOT NULL,
         accepted_at timestamptz,
         revoked_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now()",
        "SELECT, INSERT, UPDATE",
    )
    .await?;
    tenant_table(
        manager,
        "api_key",
        "name text NOT NULL,
         role text NOT NULL CHECK (role IN ('OWNER', 'ADMIN', 'BILLING', 'MEMBER', 'VIEWER')),
         scopes jsonb NOT NULL,
         addresses jsonb NOT NULL,
         secret_sha256 text NOT NULL,
         expires_at timestamptz,
         last_used_at timestamptz,
         revoked_at timestamptz,
         created_by uuid REFERENCES app_user (id) ON DELETE SET NULL,
         created_at timestamptz NOT NULL DEFAULT now()",
        "SELECT, INSERT, UPDATE",
    )
    .await?;
    run(
        manager,
        "CREATE UNIQUE INDEX invitation_open ON invitation (tenant_id, email)
            WHERE accepted_at IS NULL AND revoked_at IS NULL;",
    )
    .await
});
