//! Containers that are sold: the nodes that they run on, their places, addresses, and themselves.

use crate::helpers::{migration, platform_table, run, tenant_table};
use sea_orm_migration::prelude::*;

migration!(|manager| {
    run(
        manager,
        "ALTER TABLE server
            ADD COLUMN kind text NOT NULL DEFAULT 'hosting' CHECK (kind IN ('hosting', 'proxmox')),
            ADD COLUMN location text,
            ADD COLUMN labels jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN draining boolean NOT NULL DEFAULT false,
            ADD COLUMN cpu_cores int CHECK (cpu_cores > 0),
            ADD COLUMN memory_mib bigint CHECK (memory_mib > 0),
            ADD COLUMN disk_mib bigint CHECK (disk_mib > 0),
            ADD COLUMN cpu_factor double precision NOT NULL DEFAULT 4 CHECK (cpu_factor > 0),
            ADD COLUMN memory_factor double precision NOT NULL DEFAULT 1 CHECK (memory_factor > 0),
            ADD COLUMN disk_factor double precision NOT NULL DEFAULT 1 CHECK (disk_factor > 0);
         ALTER TABLE product ADD COLUMN code text;
         CREATE UNIQUE INDEX product_code ON product (tenant_id, code) WHERE code IS NOT NULL;",
    )
    .await?;
    platform_table(
        manager,
        "node",
        "server_id uuid PRIMARY KEY REFERENCES server (id),
         cluster text NOT NULL,
         name text NOT NULL,
         storage text NOT NULL,
         template_storage text NOT NULL,
         backup_storage text NOT NULL,
         bridge text NOT NULL,
         UNIQUE (cluster, name)",
        None,
    )
    .await?;
    run(
        manager,
        "DROP POLICY tenant ON node;
         CREATE POLICY tenant ON node TO migrapanel_tenant
            USING (EXISTS (SELECT FROM tenant t WHERE t.kind = 'platform'))
            WITH CHECK (EXISTS (SELECT FROM tenant t WHERE t.kind = 'platform'));
         GRANT SELECT, INSERT ON node TO migrapanel_tenant;",
    )
    .await?;
    platform_table(
        manager,
        "pod_template",
        "code text PRIMARY KEY,
         title text NOT NULL,
         archive text NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now(),
         retired_at timestamptz",
        Some("true"),
    )
    .await?;
    platform_table(
        manager,
        "ip_pool",
        "id uuid PRIMARY KEY,
         name text NOT NULL UNIQUE,
         family int NOT NULL CHECK (family IN (4, 6)),
         network text NOT NULL,
         gateway text NOT NULL,
         first text NOT NULL,
         last text NOT NULL,
         cluster text,
         location text,
         quarantine_secs int NOT NULL CHECK (quarantine_secs >= 0),
         closed boolean NOT NULL DEFAULT false,
         next_offset bigint NOT NULL DEFAULT 0,
         created_at timestamptz NOT NULL DEFAULT now()",
        None,
    )
    .await?;
    tenant_table(
        manager,
        "cloudpod",
        "hostname text NOT NULL,
         plan text,
         product_id uuid,
         service_id uuid UNIQUE,
         specification jsonb NOT NULL,
         wanted jsonb,
         ssh_keys jsonb NOT NULL,
         pinned_server_id uuid REFERENCES server (id),
         cluster text,
         server_id uuid REFERENCES server (id),
         vmid bigint,
         ipv4 text,
         ipv6 text,
         desired text NOT NULL CHECK (desired IN ('active', 'suspended', 'deleted')),
         status text NOT NULL CHECK (status IN ('pending', 'provisioning', 'active', 'stopped',
            'suspended', 'failed', 'deleting', 'deleted')),
         reason text,
         action text,
         parameters jsonb,
         job_id uuid,
         error text,
         attempts int NOT NULL DEFAULT 0,
         next_at timestamptz NOT NULL DEFAULT now(),
         waiting_since timestamptz NOT NULL DEFAULT now(),
         was_running boolean NOT NULL DEFAULT true,
         dns jsonb NOT NULL DEFAULT '[]',
         dns_note text,
         seen_at timestamptz,
         seen jsonb,
         backup_every_hours int CHECK (backup_every_hours BETWEEN 1 AND 8760),
         backups_kept int CHECK (backups_kept BETWEEN 1 AND 100),
         backup_next_at timestamptz,
         counters jsonb,
         made_at timestamptz,
         deleted_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now(),
         updated_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, service_id) REFERENCES service (tenant_id, id),
         FOREIGN KEY (tenant_id, job_id) REFERENCES job (tenant_id, id)",
        "SELECT",
    )
    .await?;
    run(
        manager,
        "CREATE UNIQUE INDEX cloudpod_hostname ON cloudpod (tenant_id, hostname)
            WHERE status <> 'deleted';
         CREATE INDEX cloudpod_by_job ON cloudpod (job_id);
         CREATE INDEX cloudpod_newest ON cloudpod (tenant_id, created_at DESC, id DESC);
         CREATE INDEX cloudpod_live ON cloudpod (server_id) WHERE status <> 'deleted';
         CREATE INDEX cloudpod_backups_due ON cloudpod (backup_next_at)
            WHERE backup_next_at IS NOT NULL AND status <> 'deleted';",
    )
    .await?;
    tenant_table(
        manager,
        "placement",
        "server_id uuid NOT NULL REFERENCES server (id),
         cluster text NOT NULL,
         vmid bigint CHECK (vmid BETWEEN 100 AND 999999999),
         cpu_cores int NOT NULL,
         memory_mib bigint NOT NULL,
         disk_mib bigint NOT NULL,
         order_item_id uuid,
         unit int,
         cloudpod_id uuid,
         expires_at timestamptz,
         released_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, order_item_id) REFERENCES order_item (tenant_id, id),
         FOREIGN KEY (tenant_id, cloudpod_id) REFERENCES cloudpod (tenant_id, id)",
        "SELECT",
    )
    .await?;
    run(
        manager,
        "CREATE UNIQUE INDEX placement_vmid ON placement (cluster, vmid);
         CREATE UNIQUE INDEX placement_of_unit ON placement (order_item_id, unit)
            WHERE released_at IS NULL AND cloudpod_id IS NULL;
         CREATE INDEX placement_live ON placement (server_id) WHERE released_at IS NULL;
         CREATE INDEX placement_of_pod ON placement (cloudpod_id);
         CREATE INDEX placement_expiring ON placement (expires_at)
            WHERE released_at IS NULL AND expires_at IS NOT NULL;",
    )
    .await?;
    platform_table(
        manager,
        "ip_address",
        "id uuid PRIMARY KEY,
         pool_id uuid NOT NULL REFERENCES ip_pool (id),
         address text NOT NULL UNIQUE,
         tenant_id uuid REFERENCES tenant (id),
         placement_id uuid REFERENCES placement (id),
         free_at timestamptz,
         taken_at timestamptz NOT NULL DEFAULT now()",
        None,
    )
    .await?;
    run(
        manager,
        "CREATE INDEX ip_address_of_placement ON ip_address (placement_id);
         CREATE INDEX ip_address_free ON ip_address (pool_id, free_at) WHERE placement_id IS NULL;",
    )
    .await?;
    tenant_table(
        manager,
        "cloudpod_snapshot",
        "cloudpod_id uuid NOT NULL,
         name text NOT NULL,
         description text NOT NULL,
         state text NOT NULL CHECK (state IN ('making', 'ready', 'deleting')),
         created_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (cloudpod_id, name),
         FOREIGN KEY (tenant_id, cloudpod_id) REFERENCES cloudpod (tenant_id, id)",
        "SELECT",
    )
    .await?;
    tenant_table(
        manager,
        "cloudpod_backup",
        "cloudpod_id uuid NOT NULL,
         state text NOT NULL CHECK (state IN ('making', 'ready', 'deleting')),
         scheduled boolean NOT NULL,
         server_id uuid REFERENCES server (id),
         volume text,
         bytes bigint,
         created_at timestamptz NOT NULL DEFAULT now(),
         FOREIGN KEY (tenant_id, cloudpod_id) REFERENCES cloudpod (tenant_id, id)",
        "SELECT",
    )
    .await?;
    tenant_table(
        manager,
        "cloudpod_traffic",
        "cloudpod_id uuid NOT NULL,
         month date NOT NULL,
         bytes_in bigint NOT NULL DEFAULT 0,
         bytes_out bigint NOT NULL DEFAULT 0,
         UNIQUE (cloudpod_id, month),
         FOREIGN KEY (tenant_id, cloudpod_id) REFERENCES cloudpod (tenant_id, id)",
        "SELECT",
    )
    .await?;
    platform_table(
        manager,
        "guest",
        "id uuid PRIMARY KEY,
         cluster text NOT NULL,
         vmid bigint NOT NULL,
         server_id uuid REFERENCES server (id),
         name text,
         seen_at timestamptz NOT NULL,
         UNIQUE (cluster, vmid)",
        None,
    )
    .await?;
    platform_table(
        manager,
        "finding",
        "id uuid PRIMARY KEY,
         kind text NOT NULL CHECK (kind IN ('orphan', 'ghost', 'drift')),
         server_id uuid NOT NULL REFERENCES server (id),
         vmid bigint NOT NULL,
         what text NOT NULL,
         cloudpod_id uuid REFERENCES cloudpod (id),
         detail text NOT NULL,
         repair text NOT NULL,
         first_at timestamptz NOT NULL,
         last_at timestamptz NOT NULL,
         ended_at timestamptz",
        None,
    )
    .await?;
    run(
        manager,
        "CREATE UNIQUE INDEX finding_open ON finding (server_id, vmid, kind, what)
            WHERE ended_at IS NULL;",
    )
    .await
});
