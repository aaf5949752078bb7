//! Which heads of the chains stand in the platform's trail already, and in whose name a tenant's limits
//! were set: nobody below that one changes them.

use crate::helpers::{migration, platform_table, run};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    platform_table(
        manager,
        "audit_anchor",
        "tenant_id uuid PRIMARY KEY REFERENCES tenant (id),
         seq bigint NOT NULL",
        None,
    )
    .await?;
    run(
        manager,
        "CREATE INDEX audit_log_anchored ON audit_log USING gin (data jsonb_path_ops)
            WHERE kind = 'AUDIT_ANCHORED';
         ALTER TABLE tenant ADD COLUMN limits_by uuid REFERENCES tenant (id)",
    )
    .await
});
