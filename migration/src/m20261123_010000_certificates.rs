//! Certificates by ACME: what they are for and how far they are, their names, the orders that were
//! placed for each name, and the accounts at certificate authorities.

use crate::helpers::{migration, platform_table, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    platform_table(
        manager,
        "acme_account",
        "directory text PRIMARY KEY,
         sealed_key text NOT NULL,
         url text,
         created_at timestamptz NOT NULL DEFAULT now()",
        None,
    )
    .await?;
    tenant_table(
        manager,
        "certificate",
        "account_id uuid,
         names jsonb NOT NULL,
         challenge text NOT NULL CHECK (challenge IN ('dns-01', 'http-01')),
         state text NOT NULL CHECK (state IN ('pending', 'issuing', 'active', 'renewing', 'failed',
            'expired', 'deleting')),
         error_code text,
         error text,
         sealed_key text,
         chain text,
         serial text,
         not_before timestamptz,
         not_after timestamptz,
         renew_at timestamptz,
         next_sealed_key text,
         next_chain text,
         order_url text,
         answers jsonb,
         attempts int NOT NULL DEFAULT 0,
         next_at timestamptz NOT NULL DEFAULT now(),
         doomed boolean NOT NULL DEFAULT false,
         job_id uuid,
         created_at timestamptz NOT NULL DEFAULT now(),
         updated_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, account_id) REFERENCES hosting_account (tenant_id, id),
         FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)",
        "SELECT",
    )
    .await?;
    tenant_table(
        manager,
        "certificate_name",
        "certificate_id uuid NOT NULL,
         name text NOT NULL UNIQUE,
         FOREIGN KEY (tenant_id, certificate_id) REFERENCES certificate (tenant_id, id)
            ON DELETE CASCADE",
        "SELECT",
    )
    .await?;
    platform_table(
        manager,
        "certificate_order",
        "name text NOT NULL,
         url text NOT NULL,
         ordered_at timestamptz NOT NULL DEFAULT now(),
         issued_at timestamptz,
         PRIMARY KEY (name, url)",
        None,
    )
    .await?;
    run(
        manager,
        "CREATE INDEX certificate_due ON certificate (next_at) WHERE account_id IS NOT NULL;
         CREATE INDEX certificate_by_job ON certificate (job_id);
         CREATE INDEX certificate_by_account ON certificate (account_id);
         CREATE INDEX certificate_newest ON certificate (tenant_id, created_at DESC, id DESC);
         CREATE INDEX certificate_name_of ON certificate_name (certificate_id);
         CREATE INDEX certificate_order_recent ON certificate_order (ordered_at);",
    )
    .await
});
