//! Consoles of containers: who asked for one, and which are open.

use crate::helpers::{migration, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    // One row from the ticket to the end. Whose it is: a login's or a key's.
    tenant_table(
        manager,
        "cloudpod_console",
        "cloudpod_id uuid NOT NULL,
         session_id uuid REFERENCES session (id) ON DELETE CASCADE,
         key_id uuid REFERENCES api_key (id) ON DELETE CASCADE,
         ticket_sha256 text NOT NULL UNIQUE,
         expires_at timestamptz NOT NULL,
         ip text,
         opened_at timestamptz,
         seen_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, cloudpod_id) REFERENCES cloudpod (tenant_id, id),
         CHECK ((session_id IS NULL) <> (key_id IS NULL)),
         CHECK ((opened_at IS NULL) = (seen_at IS NULL))",
        "SELECT",
    )
    .await?;
    run(
        manager,
        "CREATE INDEX cloudpod_console_of_pod ON cloudpod_console (tenant_id, cloudpod_id);
         CREATE INDEX cloudpod_console_of_session ON cloudpod_console (session_id);
         CREATE INDEX cloudpod_console_of_key ON cloudpod_console (key_id);",
    )
    .await
});
