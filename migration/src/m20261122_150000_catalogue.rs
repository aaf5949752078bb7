//! What is sold: categories, products and their prices. A row belongs to its seller, the platform or a
//! reseller; whoever stands below the seller in the tree sees it, too.

use crate::helpers::{migration, run, tenant_table};
use sea_orm_migration::prelude::*;

/// What of a product or a price is at Stripe: which version of the row, and why not the newest.
const SYNC: &str = "stripe_id text UNIQUE,
    sync_state text NOT NULL DEFAULT 'pending' CHECK (sync_state IN ('pending', 'synced', 'failed')),
    sync_error text,
    version bigint NOT NULL DEFAULT 1 CHECK (version > 0),
    synced_version bigint NOT NULL DEFAULT 0 CHECK (synced_version BETWEEN 0 AND version)";

migration!(|manager| {
    // A tenant learns the ids of those above it and nothing else of the tree.
    run(
        manager,
        "DROP POLICY tenant ON tenant_ancestry;
         CREATE POLICY tenant ON tenant_ancestry TO migrapanel_tenant
            USING (descendant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid)
            WITH CHECK (false);
         GRANT SELECT ON tenant_ancestry TO migrapanel_tenant;",
    )
    .await?;
    tenant_table(
        manager,
        "category",
        "name text NOT NULL,
         description text NOT NULL,
         position int NOT NULL,
         archived_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now()",
        "SELECT, INSERT, UPDATE",
    )
    .await?;
    let product = format!(
        "category_id uuid,
         name text NOT NULL,
         description text NOT NULL,
         kind text NOT NULL CHECK (kind IN ('cloudpod_plan', 'hosting_plan', 'addon')),
         specification jsonb NOT NULL CHECK (specification->>'kind' = kind),
         position int NOT NULL,
         archived_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now(),
         {SYNC},
         FOREIGN KEY (tenant_id, category_id) REFERENCES category (tenant_id, id)"
    );
    tenant_table(manager, "product", &product, "SELECT, INSERT, UPDATE").await?;
    let price = format!(
        "product_id uuid NOT NULL,
         currency text NOT NULL CHECK (currency ~ '^[a-z]{{3}}$'),
         amount bigint NOT NULL CHECK (amount >= 0),
         billing text NOT NULL CHECK (billing IN ('one_off', 'month', 'year')),
         setup_fee bigint CHECK (setup_fee >= 0),
         trial_days int CHECK (trial_days > 0),
         CHECK (trial_days IS NULL OR billing <> 'one_off'),
         archived_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now(),
         {SYNC},
         FOREIGN KEY (tenant_id, product_id) REFERENCES product (tenant_id, id)"
    );
    // What a price says is never changed: orders and subscriptions rest on it.
    tenant_table(manager, "price", &price, "SELECT, INSERT").await?;
    run(
        manager,
        "GRANT UPDATE (archived_at, sync_state, sync_error, version) ON price TO migrapanel_tenant;
         REVOKE UPDATE, DELETE ON price FROM migrapanel_system;
         GRANT UPDATE (stripe_id, sync_state, sync_error, synced_version)
            ON price TO migrapanel_system;
         CREATE UNIQUE INDEX category_one_name ON category (tenant_id, lower(name))
            WHERE archived_at IS NULL;
         CREATE UNIQUE INDEX product_one_name ON product (tenant_id, lower(name))
            WHERE archived_at IS NULL;
         CREATE INDEX product_by_category ON product (tenant_id, category_id);
         CREATE INDEX price_by_product ON price (tenant_id, product_id);
         CREATE INDEX product_to_sync ON product (id) WHERE sync_state <> 'synced';
         CREATE INDEX price_to_sync ON price (id) WHERE sync_state <> 'synced';",
    )
    .await?;
    for table in ["category", "product", "price"] {
        run(
            manager,
            &format!(
                "CREATE POLICY published ON {table} FOR SELECT TO migrapanel_tenant USING (EXISTS (
                    SELECT FROM tenant_ancestry a WHERE a.ancestor_id = {table}.tenant_id
                    AND a.descendant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid))"
            ),
        )
        .await?;
    }
    Ok(())
});
