//! An approval belongs to whoever previewed: a person, or an API key.

use crate::helpers::{migration, run};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    run(
        manager,
        "ALTER TABLE migration_approval
            ALTER COLUMN user_id DROP NOT NULL,
            ADD COLUMN key_id uuid REFERENCES api_key (id),
            ADD CONSTRAINT migration_approval_whose CHECK (num_nonnulls(user_id, key_id) = 1)",
    )
    .await
});
