//! Room that is held for a pod while a larger plan is being paid for.

use crate::helpers::{migration, run};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    run(
        manager,
        "ALTER TABLE placement ADD COLUMN grown_until timestamptz;
         CREATE INDEX placement_grown ON placement (grown_until) WHERE grown_until IS NOT NULL;",
    )
    .await
});
