//! Messages that no worker could act on, and what finds jobs newest first.

use crate::helpers::{migration, platform_table, run};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    // One row for each message, however often it came: `digest` is of its queue and its bytes.
    platform_table(
        manager,
        "dead_letter",
        "id uuid PRIMARY KEY,
         digest text NOT NULL UNIQUE,
         queue text NOT NULL,
         payload bytea NOT NULL,
         bytes bigint NOT NULL,
         reason text NOT NULL CHECK (reason IN ('unreadable', 'foreign', 'failing')),
         error text NOT NULL,
         count bigint NOT NULL DEFAULT 1,
         tries int NOT NULL DEFAULT 1,
         first_at timestamptz NOT NULL DEFAULT now(),
         last_at timestamptz NOT NULL DEFAULT now(),
         dead_at timestamptz,
         replayed_at timestamptz",
        None,
    )
    .await?;
    run(
        manager,
        "CREATE INDEX dead_letter_newest ON dead_letter (last_at DESC, id) WHERE dead_at IS NOT NULL;
         CREATE INDEX job_newest ON job (created_at DESC, id DESC);
         CREATE INDEX job_newest_of_tenant ON job (tenant_id, created_at DESC, id DESC);",
    )
    .await
});
