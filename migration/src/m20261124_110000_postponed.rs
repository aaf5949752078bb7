//! What could not be worked on is looked at again after a while, and does not stand before the others.

use crate::helpers::{migration, run};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    run(
        manager,
        "ALTER TABLE orders ADD COLUMN next_at timestamptz NOT NULL DEFAULT now();
         ALTER TABLE checkout ADD COLUMN next_at timestamptz NOT NULL DEFAULT now();
         ALTER TABLE subscription ADD COLUMN next_at timestamptz NOT NULL DEFAULT now();
         CREATE INDEX orders_due ON orders (next_at) WHERE status IN ('pending_payment', 'paid');",
    )
    .await
});
