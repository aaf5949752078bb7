//! Orders: what was bought, how each came to where it stands, and the room that is held for it.

use crate::helpers::{migration, run, tenant_table};
use sea_orm_migration::prelude::*;

const STATUSES: &str = "'draft', 'pending_payment', 'paid', 'provisioning', 'active',
    'partially_active', 'failed', 'cancelled', 'refunded', 'expired'";

migration!(|manager| {
    run(
        manager,
        "CREATE SEQUENCE order_number START 100001;
         GRANT USAGE ON SEQUENCE order_number TO migrapanel_tenant, migrapanel_system;",
    )
    .await?;
    let orders = format!(
        "number text NOT NULL UNIQUE DEFAULT 'MP-' || nextval('order_number'),
         status text NOT NULL CHECK (status IN ({STATUSES})),
         status_at timestamptz NOT NULL DEFAULT now(),
         currency text NOT NULL CHECK (currency ~ '^[a-z]{{3}}$'),
         subtotal bigint NOT NULL CHECK (subtotal >= 0),
         setup_fees bigint NOT NULL CHECK (setup_fees >= 0),
         total bigint NOT NULL CHECK (total = subtotal + setup_fees),
         due_now bigint NOT NULL CHECK (due_now BETWEEN 0 AND total),
         tax jsonb,
         notes text NOT NULL,
         external_reference text,
         ordered_by jsonb NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (tenant_id, external_reference)"
    );
    tenant_table(manager, "orders", &orders, "SELECT, INSERT, UPDATE").await?;
    // The price, the name and what it is are as they were when it was ordered.
    tenant_table(
        manager,
        "order_item",
        "order_id uuid NOT NULL,
         position int NOT NULL,
         seller_id uuid NOT NULL,
         product_id uuid NOT NULL,
         price_id uuid NOT NULL,
         name text NOT NULL,
         kind text NOT NULL CHECK (kind IN ('cloudpod_plan', 'hosting_plan', 'addon')),
         specification jsonb NOT NULL,
         billing text NOT NULL CHECK (billing IN ('one_off', 'month', 'year')),
         amount bigint NOT NULL CHECK (amount >= 0),
         setup_fee bigint CHECK (setup_fee >= 0),
         trial_days int CHECK (trial_days > 0),
         quantity int NOT NULL CHECK (quantity > 0),
         UNIQUE (order_id, position),
         FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id),
         FOREIGN KEY (seller_id, product_id) REFERENCES product (tenant_id, id),
         FOREIGN KEY (seller_id, price_id) REFERENCES price (tenant_id, id)",
        "SELECT, INSERT, DELETE",
    )
    .await?;
    let transition = format!(
        "order_id uuid NOT NULL,
         before text CHECK (before IN ({STATUSES})),
         after text NOT NULL CHECK (after IN ({STATUSES})),
         cause text NOT NULL,
         actor jsonb NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id)"
    );
    tenant_table(manager, "order_transition", &transition, "SELECT, INSERT").await?;
    tenant_table(
        manager,
        "reservation",
        "order_id uuid NOT NULL,
         order_item_id uuid NOT NULL UNIQUE,
         kind text NOT NULL CHECK (kind IN ('cloudpod_plan', 'hosting_plan', 'addon')),
         quantity int NOT NULL CHECK (quantity > 0),
         expires_at timestamptz,
         released_at timestamptz,
         consumed_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id),
         FOREIGN KEY (tenant_id, order_item_id) REFERENCES order_item (tenant_id, id)",
        "SELECT, INSERT, UPDATE",
    )
    .await?;
    run(
        manager,
        "CREATE INDEX orders_newest ON orders (tenant_id, created_at DESC, id DESC);
         CREATE INDEX order_transition_by_order ON order_transition (order_id, created_at);
         CREATE INDEX reservation_held ON reservation (tenant_id)
            WHERE released_at IS NULL AND consumed_at IS NULL;
         CREATE INDEX reservation_expiring ON reservation (expires_at)
            WHERE released_at IS NULL AND consumed_at IS NULL;
         REVOKE UPDATE, DELETE ON order_transition FROM migrapanel_system;
         CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON order_transition
            FOR EACH STATEMENT EXECUTE FUNCTION append_only();
         ALTER TABLE order_transition ENABLE ALWAYS TRIGGER append_only;",
    )
    .await
});
