//! Zones that their tenants edit: versions, what the servers have, limits, signatures, verification,
//! agreements between neighbours, templates, and what is known of the DNS servers.

use crate::helpers::{migration, platform_table, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    run(
        manager,
        "ALTER TABLE dns_zone
            ALTER COLUMN job_id DROP NOT NULL,
            ADD COLUMN version bigint NOT NULL DEFAULT 1,
            ADD COLUMN serial bigint NOT NULL DEFAULT 1,
            ADD COLUMN applied_version bigint,
            ADD COLUMN applied_at timestamptz,
            ADD COLUMN default_ttl int NOT NULL DEFAULT 3600,
            ADD COLUMN soa jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
            ADD COLUMN lease_owner uuid,
            ADD COLUMN lease_until timestamptz,
            ADD COLUMN fence bigint NOT NULL DEFAULT 0,
            ADD COLUMN attempts int NOT NULL DEFAULT 0,
            ADD COLUMN next_at timestamptz,
            ADD COLUMN checked_at timestamptz,
            ADD COLUMN copies jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN copies_next_at timestamptz,
            ADD COLUMN budget jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN dnssec text NOT NULL DEFAULT 'off'
                CHECK (dnssec IN ('off', 'starting', 'on', 'ending')),
            ADD COLUMN dnssec_error text,
            ADD COLUMN dnssec_next_at timestamptz,
            ADD COLUMN dnssec_hold_until timestamptz,
            ADD COLUMN ds jsonb NOT NULL DEFAULT '[]',
            ADD COLUMN verification_token text,
            ADD COLUMN verified_at timestamptz,
            ADD COLUMN verification_error text,
            ADD COLUMN verification_checked_at timestamptz,
            ADD COLUMN verification_next_at timestamptz,
            ADD COLUMN verification_attempts int NOT NULL DEFAULT 0;
         UPDATE dns_zone SET applied_version = 1 WHERE state = 'in_sync';
         UPDATE dns_zone SET verified_at = now() WHERE active;
         CREATE INDEX dns_zone_due ON dns_zone (next_at NULLS FIRST) WHERE state <> 'in_sync';
         CREATE INDEX dns_zone_checked ON dns_zone (checked_at NULLS FIRST);
         CREATE INDEX dns_zone_by_tenant ON dns_zone (tenant_id, name);
         GRANT INSERT, UPDATE, DELETE ON dns_zone, dns_record_set TO migrapanel_tenant;
         ALTER TABLE dns_record_set ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
            DROP CONSTRAINT dns_record_set_tenant_id_zone_id_fkey,
            ADD FOREIGN KEY (tenant_id, zone_id) REFERENCES dns_zone (tenant_id, id)
                ON DELETE CASCADE ON UPDATE CASCADE;
         ALTER TABLE api_key ADD COLUMN dns jsonb;
         ALTER TABLE domain ADD COLUMN activation_job_id uuid, ADD COLUMN activation_next_at timestamptz;",
    )
    .await?;
    // The private key that signs a zone, sealed: a DNS server that is lost takes none with it.
    tenant_table(
        manager,
        "dns_key",
        "zone_id uuid NOT NULL,
         key_tag int NOT NULL,
         algorithm text NOT NULL,
         sealed text NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (zone_id, key_tag),
         FOREIGN KEY (tenant_id, zone_id) REFERENCES dns_zone (tenant_id, id)
            ON DELETE CASCADE ON UPDATE CASCADE",
        "SELECT",
    )
    .await?;
    // That another tenant may have a zone which lies above or below this one.
    tenant_table(
        manager,
        "dns_agreement",
        "zone_id uuid NOT NULL,
         name text NOT NULL,
         grantee_id uuid NOT NULL REFERENCES tenant (id),
         created_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (zone_id, name, grantee_id),
         FOREIGN KEY (tenant_id, zone_id) REFERENCES dns_zone (tenant_id, id)
            ON DELETE CASCADE ON UPDATE CASCADE",
        "SELECT, INSERT, DELETE",
    )
    .await?;
    tenant_table(
        manager,
        "dns_template",
        "name text NOT NULL,
         description text NOT NULL,
         records jsonb NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now(),
         updated_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (tenant_id, name)",
        "SELECT, INSERT, UPDATE, DELETE",
    )
    .await?;
    run(
        manager,
        "CREATE POLICY published ON dns_template FOR SELECT TO migrapanel_tenant USING (EXISTS (
            SELECT FROM tenant_ancestry a WHERE a.ancestor_id = dns_template.tenant_id
              AND a.descendant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid))",
    )
    .await?;
    // How much a tenant has written to all its zones.
    tenant_table(
        manager,
        "dns_budget",
        "budget jsonb NOT NULL DEFAULT '{}',
         UNIQUE (tenant_id)",
        "SELECT, INSERT, UPDATE",
    )
    .await?;
    // The last serial of a zone that is gone: one that is made anew goes on from there.
    platform_table(
        manager,
        "dns_serial",
        "name text PRIMARY KEY,
         serial bigint NOT NULL",
        None,
    )
    .await?;
    platform_table(
        manager,
        "dns_server",
        "name text PRIMARY KEY,
         role text NOT NULL CHECK (role IN ('primary', 'secondary')),
         address text NOT NULL,
         has_api boolean NOT NULL,
         healthy boolean NOT NULL,
         error text,
         version text,
         zones bigint,
         foreign_zones bigint,
         zones_behind bigint,
         latency_ms int,
         checked_at timestamptz NOT NULL,
         seen_at timestamptz",
        None,
    )
    .await
});
