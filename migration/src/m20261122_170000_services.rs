//! What was made for orders, a row a unit, and the domains that an order names for them.

use crate::helpers::{migration, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    tenant_table(
        manager,
        "service",
        "order_id uuid NOT NULL,
         order_item_id uuid NOT NULL,
         unit int NOT NULL CHECK (unit > 0),
         kind text NOT NULL CHECK (kind IN ('cloudpod_plan', 'hosting_plan')),
         specification jsonb NOT NULL,
         domain text,
         username text UNIQUE,
         server_id uuid REFERENCES server (id),
         account_id uuid,
         desired text NOT NULL CHECK (desired IN ('active', 'suspended', 'terminated')),
         state text NOT NULL CHECK (state IN ('pending', 'provisioning', 'active', 'suspended',
            'terminated', 'failed')),
         reason text,
         held text,
         job_id uuid,
         operations jsonb,
         attempts int NOT NULL DEFAULT 0,
         next_at timestamptz NOT NULL DEFAULT now(),
         waiting_since timestamptz NOT NULL DEFAULT now(),
         error text,
         backup_path text,
         made_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now(),
         updated_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (order_item_id, unit),
         FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id),
         FOREIGN KEY (tenant_id, order_item_id) REFERENCES order_item (tenant_id, id),
         FOREIGN KEY (tenant_id, account_id) REFERENCES hosting_account (tenant_id, id),
         FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)",
        "SELECT",
    )
    .await?;
    run(
        manager,
        "CREATE INDEX service_by_order ON service (order_id);
         CREATE INDEX service_by_job ON service (job_id);
         CREATE INDEX service_newest ON service (tenant_id, created_at DESC, id DESC);
         CREATE INDEX service_due ON service (next_at)
            WHERE state <> desired AND NOT (state = 'failed' AND desired <> 'terminated');
         ALTER TABLE order_item ADD COLUMN domains jsonb;",
    )
    .await
});
