//! Which of a migration's disabled things somebody has asked to be switched on.

use crate::helpers::{migration, run};
use sea_orm_migration::prelude::*;

migration!(|manager| { run(manager, "ALTER TABLE migration ADD COLUMN confirming jsonb").await });
