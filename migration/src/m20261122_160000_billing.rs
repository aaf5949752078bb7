//! Billing: what Stripe tells, and what we know from it: customers, checkouts, subscriptions, invoices,
//! payments, what is paid back, and disputes.

use crate::helpers::{migration, platform_table, run, tenant_table};
use sea_orm_migration::prelude::*;

const ORDER: &str = "FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id)";

migration!(|manager| {
    events(manager).await?;
    paying(manager).await?;
    paid(manager).await?;
    run(
        manager,
        "CREATE INDEX stripe_event_due ON stripe_event (next_at) WHERE state = 'pending';
         CREATE INDEX stripe_event_newest ON stripe_event (received_at DESC, id);
         CREATE FUNCTION stripe_event_notify() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_notify('billing', ''); RETURN NULL; END $$;
         CREATE TRIGGER stripe_event_notify AFTER INSERT ON stripe_event
            FOR EACH STATEMENT EXECUTE FUNCTION stripe_event_notify();
         CREATE UNIQUE INDEX checkout_one_open ON checkout (order_id)
            WHERE state IN ('opening', 'open', 'processing');
         CREATE INDEX checkout_to_close ON checkout (id) WHERE closing AND state IN ('opening', 'open');
         CREATE INDEX invoice_newest ON invoice (tenant_id, created_at DESC, id DESC);
         CREATE INDEX payment_by_order ON payment (order_id);
         CREATE INDEX payment_newest ON payment (tenant_id, created_at DESC, id DESC);
         CREATE INDEX repayment_due ON repayment (next_at) WHERE state = 'wanted';
         CREATE INDEX dispute_by_payment ON dispute (payment_id);",
    )
    .await
});

async fn events(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    platform_table(
        manager,
        "stripe_event",
        "id text PRIMARY KEY,
         kind text NOT NULL,
         created_at timestamptz NOT NULL,
         received_at timestamptz NOT NULL DEFAULT now(),
         source text NOT NULL CHECK (source IN ('webhook', 'reconciler')),
         livemode boolean NOT NULL,
         api_version text,
         object_kind text,
         object_id text,
         body bytea NOT NULL,
         state text NOT NULL CHECK (state IN ('pending', 'handled', 'ignored', 'unreadable', 'dead')),
         note text,
         attempts int NOT NULL DEFAULT 0,
         next_at timestamptz NOT NULL DEFAULT now(),
         taken_until timestamptz,
         fence bigint NOT NULL DEFAULT 0,
         handled_at timestamptz",
        None,
    )
    .await?;
    platform_table(
        manager,
        "billing_lease",
        "name text PRIMARY KEY,
         owner uuid NOT NULL,
         until timestamptz NOT NULL",
        None,
    )
    .await
}

async fn paying(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    tenant_table(
        manager,
        "billing_customer",
        "stripe_id text NOT NULL UNIQUE,
         email text,
         card jsonb,
         delinquent boolean NOT NULL DEFAULT false,
         updated_at timestamptz NOT NULL DEFAULT now(),
         created_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (tenant_id)",
        "SELECT",
    )
    .await?;
    let checkout = format!(
        "order_id uuid NOT NULL,
         attempt int NOT NULL CHECK (attempt > 0),
         state text NOT NULL CHECK (state IN
            ('opening', 'open', 'processing', 'complete', 'expired', 'failed', 'refused',
             'unwanted')),
         stripe_id text UNIQUE,
         url text,
         promotion_code text,
         request jsonb NOT NULL,
         payment_state text,
         closing boolean NOT NULL DEFAULT false,
         error text,
         expires_at timestamptz NOT NULL,
         ended_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (order_id, attempt),
         {ORDER}"
    );
    tenant_table(manager, "checkout", &checkout, "SELECT").await?;
    let subscription = format!(
        "order_id uuid NOT NULL UNIQUE,
         stripe_id text NOT NULL UNIQUE,
         status text NOT NULL CHECK (status IN ('incomplete', 'incomplete_expired', 'trialing',
            'active', 'past_due', 'unpaid', 'paused', 'cancelled')),
         currency text NOT NULL,
         items jsonb NOT NULL,
         period_start timestamptz,
         period_end timestamptz,
         trial_end timestamptz,
         cancel_at timestamptz,
         cancel_at_period_end boolean NOT NULL,
         started_at timestamptz,
         ended_at timestamptz,
         past_due_at timestamptz,
         letters int NOT NULL DEFAULT 0,
         invoice text,
         action_url text,
         looks bigint NOT NULL DEFAULT 0,
         seen bigint NOT NULL DEFAULT 0,
         updated_at timestamptz NOT NULL DEFAULT now(),
         created_at timestamptz NOT NULL DEFAULT now(),
         {ORDER}"
    );
    tenant_table(manager, "subscription", &subscription, "SELECT").await
}

async fn paid(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    tenant_table(
        manager,
        "invoice",
        "stripe_id text NOT NULL UNIQUE,
         subscription_id uuid,
         order_id uuid,
         number text,
         status text NOT NULL,
         reason text,
         currency text NOT NULL,
         subtotal bigint NOT NULL,
         tax bigint NOT NULL,
         total bigint NOT NULL,
         amount_paid bigint NOT NULL,
         amount_remaining bigint NOT NULL,
         attempts bigint NOT NULL,
         next_attempt_at timestamptz,
         requires_action boolean NOT NULL,
         page_url text,
         pdf_url text,
         credit_notes jsonb NOT NULL,
         period_start timestamptz,
         period_end timestamptz,
         created_at timestamptz NOT NULL,
         FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription (tenant_id, id),
         FOREIGN KEY (tenant_id, order_id) REFERENCES orders (tenant_id, id)",
        "SELECT",
    )
    .await?;
    let payment = format!(
        "order_id uuid NOT NULL,
         invoice text,
         stripe_id text NOT NULL UNIQUE,
         status text NOT NULL,
         currency text NOT NULL,
         amount bigint NOT NULL CHECK (amount >= 0),
         refunded bigint NOT NULL CHECK (refunded >= 0),
         refunded_at timestamptz,
         looks bigint NOT NULL DEFAULT 0,
         seen bigint NOT NULL DEFAULT 0,
         created_at timestamptz NOT NULL,
         {ORDER}"
    );
    tenant_table(manager, "payment", &payment, "SELECT").await?;
    // Each is made once, whoever asks: `reference` names why it is.
    let repayment = format!(
        "order_id uuid NOT NULL,
         payment_id uuid,
         reference text NOT NULL UNIQUE,
         kind text NOT NULL CHECK (kind IN ('refund', 'credit')),
         currency text NOT NULL,
         amount bigint NOT NULL CHECK (amount > 0),
         cause text NOT NULL,
         actor jsonb NOT NULL,
         state text NOT NULL CHECK (state IN ('wanted', 'pending', 'succeeded', 'failed')),
         stripe_id text UNIQUE,
         error text,
         attempts int NOT NULL DEFAULT 0,
         next_at timestamptz NOT NULL DEFAULT now(),
         created_at timestamptz NOT NULL DEFAULT now(),
         {ORDER},
         FOREIGN KEY (tenant_id, payment_id) REFERENCES payment (tenant_id, id)"
    );
    tenant_table(manager, "repayment", &repayment, "SELECT").await?;
    tenant_table(
        manager,
        "dispute",
        "payment_id uuid NOT NULL,
         stripe_id text NOT NULL UNIQUE,
         status text NOT NULL,
         reason text NOT NULL,
         currency text NOT NULL,
         amount bigint NOT NULL,
         created_at timestamptz NOT NULL,
         closed_at timestamptz,
         FOREIGN KEY (tenant_id, payment_id) REFERENCES payment (tenant_id, id)",
        "SELECT",
    )
    .await
}
