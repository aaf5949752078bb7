//! Hosting accounts, the domains of the whole installation, zones and their record sets.

use crate::helpers::{migration, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    tenant_table(
        manager,
        "hosting_account",
        "server_id uuid NOT NULL REFERENCES server (id),
         username text NOT NULL,
         job_id uuid NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (server_id, username),
         FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)",
        "SELECT",
    )
    .await?;
    tenant_table(
        manager,
        "domain",
        "name text NOT NULL UNIQUE,
         account_id uuid NOT NULL,
         job_id uuid NOT NULL,
         active boolean NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, account_id) REFERENCES hosting_account (tenant_id, id),
         FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)",
        "SELECT",
    )
    .await?;
    tenant_table(
        manager,
        "dns_zone",
        "name text NOT NULL UNIQUE,
         job_id uuid NOT NULL,
         active boolean NOT NULL,
         state text NOT NULL CHECK (state IN ('pending', 'in_sync', 'error', 'deleting')),
         error text,
         created_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)",
        "SELECT",
    )
    .await?;
    tenant_table(
        manager,
        "dns_record_set",
        "zone_id uuid NOT NULL,
         name text NOT NULL,
         rtype text NOT NULL,
         ttl int NOT NULL CHECK (ttl >= 0),
         records jsonb NOT NULL,
         UNIQUE (zone_id, name, rtype),
         FOREIGN KEY (tenant_id, zone_id) REFERENCES dns_zone (tenant_id, id) ON DELETE CASCADE",
        "SELECT",
    )
    .await?;
    tenant_table(
        manager,
        "dns_zone_before",
        "job_id uuid NOT NULL,
         run int NOT NULL,
         zones jsonb NOT NULL,
         UNIQUE (job_id, run),
         FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)",
        "SELECT",
    )
    .await?;
    run(manager, "CREATE INDEX domain_by_account ON domain (account_id)").await
});
