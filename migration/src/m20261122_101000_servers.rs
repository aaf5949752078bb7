//! Servers, the tenants that may use them, and the key that workers log in with.

use crate::helpers::{migration, platform_table, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    platform_table(
        manager,
        "ssh_identity",
        "id uuid PRIMARY KEY,
         public_key text NOT NULL,
         sealed_private_key text NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now()",
        None,
    )
    .await?;
    run(manager, "CREATE UNIQUE INDEX ssh_identity_one ON ssh_identity ((true))").await?;
    platform_table(
        manager,
        "server",
        "id uuid PRIMARY KEY,
         name text NOT NULL UNIQUE,
         host text NOT NULL,
         ssh_port int NOT NULL CHECK (ssh_port BETWEEN 1 AND 65535),
         host_key_fingerprint text NOT NULL,
         hostname text NOT NULL,
         ipv4 text NOT NULL,
         ipv6 text,
         backup_dirs jsonb NOT NULL,
         state text NOT NULL CHECK (state IN ('pending', 'enrolling', 'enrolled')),
         maintenance boolean NOT NULL DEFAULT false,
         agent_version text,
         report jsonb,
         health jsonb,
         health_at timestamptz,
         last_error text,
         created_at timestamptz NOT NULL DEFAULT now(),
         enrolled_at timestamptz",
        None,
    )
    .await?;
    tenant_table(
        manager,
        "server_grant",
        "server_id uuid NOT NULL REFERENCES server (id),
         created_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (tenant_id, server_id)",
        "SELECT",
    )
    .await?;
    run(
        manager,
        "DROP POLICY tenant ON server;
         CREATE POLICY tenant ON server TO migrapanel_tenant
            USING (EXISTS (SELECT FROM server_grant g WHERE g.server_id = server.id)
                OR EXISTS (SELECT FROM tenant t WHERE t.kind = 'platform'))
            WITH CHECK (EXISTS (SELECT FROM tenant t WHERE t.kind = 'platform'));
         DROP POLICY tenant ON server_grant;
         CREATE POLICY tenant ON server_grant TO migrapanel_tenant
            USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid
                OR EXISTS (SELECT FROM tenant t WHERE t.kind = 'platform'))
            WITH CHECK (EXISTS (SELECT FROM tenant t WHERE t.kind = 'platform'));
         GRANT SELECT, INSERT, UPDATE ON server TO migrapanel_tenant;
         GRANT INSERT, DELETE ON server_grant TO migrapanel_tenant;",
    )
    .await
});
