//! When somebody asked for a running job to be stopped.

use crate::helpers::{migration, run};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    run(manager, "ALTER TABLE job ADD COLUMN cancel_requested_at timestamptz").await
});
