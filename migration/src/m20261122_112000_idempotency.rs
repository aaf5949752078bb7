//! Answers that are given again when a request is repeated with its `Idempotency-Key`.

use crate::helpers::{migration, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    tenant_table(
        manager,
        "idempotency",
        "scope_sha256 text NOT NULL UNIQUE,
         request_sha256 text NOT NULL,
         role text NOT NULL,
         status int NOT NULL,
         sealed_body text NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now()",
        "SELECT, INSERT",
    )
    .await?;
    run(manager, "CREATE INDEX idempotency_oldest ON idempotency (created_at)").await
});
