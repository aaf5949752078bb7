//! Where tenants want to be told of what happens, and what they were told.

use crate::helpers::{migration, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    tenant_table(
        manager,
        "webhook_endpoint",
        "url text NOT NULL,
         description text NOT NULL,
         events jsonb NOT NULL,
         sealed_secret text NOT NULL,
         old_sealed_secret text,
         old_until timestamptz,
         disabled_at timestamptz,
         disabled_reason text,
         failing_since timestamptz,
         created_at timestamptz NOT NULL,
         CHECK ((old_sealed_secret IS NULL) = (old_until IS NULL)),
         CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))",
        "SELECT, INSERT, UPDATE, DELETE",
    )
    .await?;
    // The body is what is signed, byte for byte the same at each attempt.
    tenant_table(
        manager,
        "webhook_delivery",
        "endpoint_id uuid NOT NULL,
         event_id uuid NOT NULL,
         event text NOT NULL,
         body text NOT NULL,
         attempts int NOT NULL DEFAULT 0,
         next_at timestamptz NOT NULL,
         taken_until timestamptz,
         delivered_at timestamptz,
         failed_at timestamptz,
         created_at timestamptz NOT NULL,
         UNIQUE (endpoint_id, event_id),
         FOREIGN KEY (tenant_id, endpoint_id) REFERENCES webhook_endpoint (tenant_id, id) ON DELETE CASCADE",
        "SELECT, INSERT, UPDATE",
    )
    .await?;
    tenant_table(
        manager,
        "webhook_attempt",
        "delivery_id uuid NOT NULL,
         status int,
         error text,
         answer text NOT NULL,
         duration_ms bigint NOT NULL,
         created_at timestamptz NOT NULL,
         FOREIGN KEY (tenant_id, delivery_id) REFERENCES webhook_delivery (tenant_id, id) ON DELETE CASCADE",
        "SELECT",
    )
    .await?;
    run(
        manager,
        "CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, next_at)
            WHERE delivered_at IS NULL AND failed_at IS NULL;
         CREATE INDEX webhook_delivery_newest ON webhook_delivery (endpoint_id, id DESC);
         CREATE INDEX webhook_delivery_old ON webhook_delivery (created_at);
         CREATE INDEX webhook_attempt_of ON webhook_attempt (tenant_id, delivery_id, id);",
    )
    .await
});
