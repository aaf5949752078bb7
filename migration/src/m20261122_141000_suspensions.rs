//! In whose name a tenant was suspended: nobody below that one lets it go on.

use crate::helpers::{migration, run};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    run(manager, "ALTER TABLE tenant ADD COLUMN suspended_by uuid REFERENCES tenant (id)").await
});
