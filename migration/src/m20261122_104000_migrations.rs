//! Migrations of cPanel accounts: what was read, planned, approved, made and found in the way.

use crate::helpers::{migration, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    tenant_table(
        manager,
        "migration",
        "source_path text NOT NULL,
         target_user text NOT NULL,
         state text NOT NULL CHECK (state IN ('queued', 'analyzing', 'analyzed', 'applying', 'completed',
            'completed_with_losses', 'failed', 'rolling_back', 'rolled_back', 'undo_failed', 'cancelled')),
         current_step text,
         progress int NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
         progress_note text,
         activate_domains boolean NOT NULL,
         plan jsonb,
         options jsonb,
         plan_digest text,
         operations jsonb,
         expanded_bytes bigint,
         applied_at timestamptz,
         FOREIGN KEY (tenant_id, id) REFERENCES job (tenant_id, id)",
        "SELECT, INSERT, UPDATE",
    )
    .await?;
    tenant_table(
        manager,
        "migration_approval",
        "job_id uuid NOT NULL,
         user_id uuid NOT NULL REFERENCES app_user (id),
         token_sha256 text NOT NULL UNIQUE,
         plan_digest text NOT NULL,
         options jsonb NOT NULL,
         expanded_bytes bigint NOT NULL,
         expires_at timestamptz NOT NULL,
         used_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, job_id) REFERENCES migration (tenant_id, id)",
        "SELECT, INSERT, UPDATE",
    )
    .await?;
    tenant_table(
        manager,
        "migration_backup",
        "job_id uuid NOT NULL UNIQUE,
         path text NOT NULL,
         format text NOT NULL,
         sha256 text NOT NULL,
         size_bytes bigint NOT NULL,
         seen_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, job_id) REFERENCES migration (tenant_id, id)",
        "SELECT",
    )
    .await?;
    tenant_table(
        manager,
        "migration_resource",
        "job_id uuid NOT NULL,
         operation_id text NOT NULL,
         component text NOT NULL,
         action text NOT NULL,
         summary text NOT NULL,
         outcome text NOT NULL,
         detail text NOT NULL,
         recorded_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (job_id, operation_id),
         FOREIGN KEY (tenant_id, job_id) REFERENCES migration (tenant_id, id)",
        "SELECT",
    )
    .await?;
    tenant_table(
        manager,
        "migration_conflict",
        "job_id uuid NOT NULL,
         conflict_id text NOT NULL,
         message text NOT NULL,
         resolutions jsonb NOT NULL,
         chosen jsonb,
         recorded_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (job_id, conflict_id),
         FOREIGN KEY (tenant_id, job_id) REFERENCES migration (tenant_id, id)",
        "SELECT, INSERT, UPDATE, DELETE",
    )
    .await?;
    run(
        manager,
        "CREATE FUNCTION migration_notify() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_notify('job', NEW.id::text); RETURN NULL; END $$;
         CREATE TRIGGER migration_notify AFTER INSERT OR UPDATE ON migration
            FOR EACH ROW EXECUTE FUNCTION migration_notify();",
    )
    .await
});
