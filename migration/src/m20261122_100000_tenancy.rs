//! Roles, tenants and their tree, users, memberships, refresh tokens, audit trail.

use crate::helpers::{migration, platform_table, run, tenant_table};
use sea_orm_migration::prelude::*;

const PINNED: &str = "NULLIF(current_setting('app.tenant_id', true), '')::uuid";

migration!(|manager| {
    run(
        manager,
        "DO $$ BEGIN CREATE ROLE migrapanel_tenant NOLOGIN;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
         DO $$ BEGIN CREATE ROLE migrapanel_system NOLOGIN;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
         DO $$ BEGIN GRANT migrapanel_tenant, migrapanel_system TO CURRENT_USER;
            EXCEPTION WHEN unique_violation OR OTHERS THEN
                IF NOT pg_has_role(CURRENT_USER, 'migrapanel_system', 'MEMBER') THEN RAISE; END IF;
            END $$;
         GRANT USAGE ON SCHEMA public TO migrapanel_tenant, migrapanel_system;",
    )
    .await?;
    let own = format!("id = {PINNED}");
    platform_table(
        manager,
        "tenant",
        "id uuid PRIMARY KEY,
         parent_id uuid REFERENCES tenant (id),
         kind text NOT NULL CHECK (kind IN ('platform', 'reseller', 'customer')),
         name text NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now()",
        Some(&own),
    )
    .await?;
    run(
        manager,
        "CREATE UNIQUE INDEX tenant_one_platform ON tenant (kind) WHERE kind = 'platform'",
    )
    .await?;
    platform_table(
        manager,
        "tenant_ancestry",
        "ancestor_id uuid NOT NULL REFERENCES tenant (id),
         descendant_id uuid NOT NULL REFERENCES tenant (id),
         depth int NOT NULL CHECK (depth >= 0),
         PRIMARY KEY (ancestor_id, descendant_id)",
        None,
    )
    .await?;
    platform_table(
        manager,
        "app_user",
        "id uuid PRIMARY KEY,
         email text NOT NULL UNIQUE CHECK (email = lower(email)),
         password_hash text NOT NULL,
         disabled_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now()",
        None,
    )
    .await?;
    tenant_table(
        manager,
        "membership",
        "user_id uuid NOT NULL REFERENCES app_user (id),
         role text NOT NULL CHECK (role IN ('OWNER', 'ADMIN', 'BILLING', 'MEMBER', 'VIEWER')),
         created_at timestamptz NOT NULL DEFAULT now(),
         UNIQUE (tenant_id, user_id)",
        "SELECT, INSERT, UPDATE, DELETE",
    )
    .await?;
    platform_table(
        manager,
        "refresh_token",
        "id uuid PRIMARY KEY,
         family_id uuid NOT NULL,
         user_id uuid NOT NULL REFERENCES app_user (id),
         tenant_id uuid NOT NULL REFERENCES tenant (id),
         token_sha256 text NOT NULL UNIQUE,
         expires_at timestamptz NOT NULL,
         used_at timestamptz,
         revoked_at timestamptz,
         created_at timestamptz NOT NULL DEFAULT now()",
        None,
    )
    .await?;
    run(manager, "CREATE INDEX refresh_token_family ON refresh_token (family_id)").await?;
    tenant_table(
        manager,
        "audit_log",
        "kind text NOT NULL,
         actor_kind text NOT NULL,
         actor_id uuid,
         request_id uuid,
         ip text,
         data jsonb NOT NULL,
         created_at timestamptz NOT NULL DEFAULT now()",
        "SELECT, INSERT",
    )
    .await?;
    run(
        manager,
        "CREATE INDEX audit_log_newest ON audit_log (tenant_id, created_at DESC);
         REVOKE UPDATE, DELETE ON audit_log FROM migrapanel_system;",
    )
    .await
});
