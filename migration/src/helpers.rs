//! What recurs in the schema's history: tables of tenants, tables of the platform, and their rights.

use sea_orm_migration::prelude::*;

/// The condition that a row belongs to the pinned tenant. With none pinned it is NULL: no rows.
const PINNED: &str = "tenant_id = NULLIF(current_setting('app.tenant_id', true), '')::uuid";

/// Runs a script of statements that are written here, without any input.
pub(crate) async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    manager.get_connection().execute_unprepared(sql).await.map(|_| ())
}

/// A table whose rows each belong to a tenant: `tenant_id`, the composite key `(tenant_id, id)` that
/// references need (foreign keys ignore row-level security), the policies and the rights.
/// `columns` are the table's own, with a comma between; `rights` is what a tenant may do.
pub(crate) async fn tenant_table(
    manager: &SchemaManager<'_>,
    table: &str,
    columns: &str,
    rights: &str,
) -> Result<(), DbErr> {
    run(
        manager,
        &format!(
            "CREATE TABLE {table} (
                id uuid PRIMARY KEY,
                tenant_id uuid NOT NULL REFERENCES tenant (id),
                {columns},
                UNIQUE (tenant_id, id)
            );
            {policies}
            GRANT {rights} ON {table} TO migrapanel_tenant;",
            policies = policies(table, PINNED),
        ),
    )
    .await
}

/// A table without a tenant. Tenants see of it what `visible` says, and never write.
pub(crate) async fn platform_table(
    manager: &SchemaManager<'_>,
    table: &str,
    columns: &str,
    visible: Option<&str>,
) -> Result<(), DbErr> {
    let (policies, grant) = match visible {
        Some(condition) => {
            (policies(table, condition), format!("GRANT SELECT ON {table} TO migrapanel_tenant;"))
        }
        None => (policies(table, "false"), String::new()),
    };
    run(manager, &format!("CREATE TABLE {table} ({columns}); {policies} {grant}")).await
}

/// Forced row-level security: tenants by `condition`, the system everything.
fn policies(table: &str, condition: &str) -> String {
    format!(
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
         ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
         CREATE POLICY tenant ON {table} TO migrapanel_tenant USING ({condition}) WITH CHECK ({condition});
         CREATE POLICY system ON {table} TO migrapanel_system USING (true) WITH CHECK (true);
         GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO migrapanel_system;"
    )
}

/// The body of a migration that is not taken back: history goes forward.
macro_rules! migration {
    (|$manager:ident| $body:block) => {
        #[derive(DeriveMigrationName)]
        pub(crate) struct Migration;

        #[async_trait::async_trait]
        impl MigrationTrait for Migration {
            async fn up(&self, $manager: &SchemaManager) -> Result<(), DbErr> $body
        }
    };
}
pub(crate) use migration;
