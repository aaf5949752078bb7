//! The outbox, jobs with their lease and fence, stored steps, and the jobs' logs.

use crate::helpers::{migration, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    tenant_table(
        manager,
        "outbox",
        "kind text NOT NULL,
         payload jsonb NOT NULL,
         traceparent text,
         created_at timestamptz NOT NULL DEFAULT now(),
         sent_at timestamptz",
        "INSERT",
    )
    .await?;
    tenant_table(
        manager,
        "job",
        "kind text NOT NULL,
         phase text NOT NULL,
         state text NOT NULL CHECK (state IN ('queued', 'running', 'unwinding', 'done', 'failed')),
         server_id uuid NOT NULL REFERENCES server (id),
         subject text NOT NULL,
         actor jsonb NOT NULL,
         request_id uuid,
         traceparent text,
         run int NOT NULL DEFAULT 1,
         lease_owner uuid,
         lease_until timestamptz,
         fence bigint NOT NULL DEFAULT 0,
         attempts int NOT NULL DEFAULT 0,
         queued_at timestamptz NOT NULL DEFAULT now(),
         deadline_at timestamptz,
         error_code text,
         error_message text,
         result jsonb,
         created_at timestamptz NOT NULL DEFAULT now(),
         started_at timestamptz,
         completed_at timestamptz",
        "SELECT, INSERT, UPDATE",
    )
    .await?;
    run(
        manager,
        "CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;
         CREATE INDEX job_waiting ON job (queued_at) WHERE state IN ('queued', 'running', 'unwinding');
         CREATE UNIQUE INDEX job_one_at_a_time ON job (server_id, subject)
            WHERE state IN ('running', 'unwinding');
         CREATE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_notify('outbox', ''); RETURN NULL; END $$;
         CREATE TRIGGER outbox_notify AFTER INSERT ON outbox
            FOR EACH STATEMENT EXECUTE FUNCTION outbox_notify();
         CREATE FUNCTION job_notify() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_notify('job', NEW.id::text); RETURN NULL; END $$;
         CREATE TRIGGER job_notify AFTER INSERT OR UPDATE ON job
            FOR EACH ROW EXECUTE FUNCTION job_notify();",
    )
    .await?;
    tenant_table(
        manager,
        "job_step",
        "job_id uuid NOT NULL,
         run int NOT NULL,
         seq int NOT NULL,
         name text NOT NULL,
         state text NOT NULL CHECK (state IN ('started', 'done', 'failed', 'undone', 'undo_failed')),
         input jsonb NOT NULL,
         output jsonb,
         error text,
         started_at timestamptz NOT NULL DEFAULT now(),
         finished_at timestamptz,
         UNIQUE (job_id, run, name),
         FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)",
        "SELECT",
    )
    .await?;
    tenant_table(
        manager,
        "job_log",
        "job_id uuid NOT NULL,
         seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
         level text NOT NULL CHECK (level IN ('info', 'warn', 'error')),
         step text,
         message text NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)",
        "SELECT, INSERT",
    )
    .await?;
    run(
        manager,
        "CREATE INDEX job_log_by_job ON job_log (job_id, seq);
         REVOKE UPDATE, DELETE ON job_log FROM migrapanel_system;
         CREATE FUNCTION job_log_notify() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_notify('job', NEW.job_id::text); RETURN NULL; END $$;
         CREATE TRIGGER job_log_notify AFTER INSERT ON job_log
            FOR EACH ROW EXECUTE FUNCTION job_log_notify();",
    )
    .await
});
