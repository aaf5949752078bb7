//! What was said of a node can be set right before it is enrolled.

use crate::helpers::{migration, run};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    run(
        manager,
        "GRANT UPDATE (cluster, name, storage, template_storage, backup_storage, bridge)
            ON node TO migrapanel_tenant;",
    )
    .await
});
