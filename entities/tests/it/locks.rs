//! The two locks on each tenant's rows, each alone: here the second one, Postgres' row-level
//! security, with no predicate and no rule before it. The first is that no rule can be called without
//! a transaction that is pinned to a tenant.

use crate::in_maintenance;
use entities::db::Db;
use entities::tenancy::Permission;
use entities::testing::TestDb;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, TransactionTrait};
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use uuid::Uuid;

async fn connect(db: &TestDb) -> DatabaseConnection {
    let mut options = ConnectOptions::new(db.url.expose_secret());
    options.max_connections(1);
    Database::connect(options).await.unwrap()
}

async fn rows(conn: &impl ConnectionTrait, sql: &str) -> Vec<Vec<Option<String>>> {
    let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
    let rows = conn.query_all_raw(statement).await.unwrap();
    rows.iter()
        .map(|row| {
            (0..row.column_names().len()).map(|nth| row.try_get_by_index(nth).unwrap()).collect()
        })
        .collect()
}

async fn texts(conn: &impl ConnectionTrait, sql: &str) -> Vec<String> {
    rows(conn, sql).await.into_iter().map(|row| row[0].clone().unwrap_or_default()).collect()
}

const TENANT_TABLES: &str = "SELECT c.table_name::text FROM information_schema.columns c
    JOIN information_schema.tables t USING (table_schema, table_name)
    WHERE c.table_schema = 'public' AND c.column_name = 'tenant_id' AND t.table_type = 'BASE TABLE'
    ORDER BY 1";

/// Which of the tables lack forced row-level security, the tenants' policy for reading and writing,
/// or have a policy for anybody else.
async fn unlocked(owner: &DatabaseConnection, tables: &[String]) -> Vec<String> {
    let sql = format!(
        "SELECT relname::text FROM pg_class c WHERE relname = ANY (string_to_array('{}', ','))
            AND relnamespace = 'public'::regnamespace AND (NOT relrowsecurity OR NOT relforcerowsecurity
            OR NOT EXISTS (SELECT FROM pg_policies p WHERE p.schemaname = 'public' AND p.tablename = c.relname
                AND 'migrapanel_tenant' = ANY (p.roles) AND p.cmd = 'ALL'
                AND p.qual IS NOT NULL AND p.with_check IS NOT NULL)
            OR EXISTS (SELECT FROM pg_policies p WHERE p.schemaname = 'public' AND p.tablename = c.relname
                AND NOT p.roles <@ ARRAY['migrapanel_tenant', 'migrapanel_system']::name[]))
         ORDER BY 1",
        tables.join(",")
    );
    texts(owner, &sql).await
}

/// Puts a row of `tenant` into `table`, whatever the table asks for: a value of each column's type,
/// without looking at references and checks, which are not what is tested.
async fn put(owner: &DatabaseConnection, table: &str, tenant: Uuid) {
    let columns = rows(
        owner,
        &format!(
            "SELECT column_name::text, data_type::text FROM information_schema.columns
             WHERE table_schema = 'public' AND table_name = '{table}'
               AND (is_nullable = 'NO' OR column_name = 'tenant_id') AND is_identity = 'NO'"
        ),
    )
    .await;
    let values: BTreeMap<String, String> = columns
        .into_iter()
        .map(|mut column| {
            let kind = column.remove(1).unwrap();
            let name = column.remove(0).unwrap();
            let value = match (name.as_str(), kind.as_str()) {
                ("tenant_id", _) => format!("'{tenant}'"),
                (_, "uuid") => "gen_random_uuid()".to_owned(),
                (_, "text") => "gen_random_uuid()::text".to_owned(),
                (_, "jsonb") => "'{}'".to_owned(),
                (_, "boolean") => "false".to_owned(),
                (_, "integer" | "bigint" | "smallint") => "floor(random() * 30000)".to_owned(),
                (_, "timestamp with time zone" | "date") => "now()".to_owned(),
                (_, "bytea") => "''::bytea".to_owned(),
                (_, "ARRAY") => "'{}'".to_owned(),
                (name, kind) => panic!("{table}.{name}: say here what a {kind} may be"),
            };
            (name, value)
        })
        .collect();
    let names: Vec<_> = values.keys().cloned().collect();
    let values: Vec<_> = values.values().cloned().collect();
    let insert =
        format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "));
    owner.execute_unprepared(&insert).await.unwrap_or_else(|e| panic!("{insert}: {e}"));
}

/// Lets rows in that only row-level security is to be asked about.
async fn drop_checks(owner: &DatabaseConnection, table: &str) {
    let checks = format!(
        "SELECT conname::text FROM pg_constraint
         WHERE conrelid = 'public.{table}'::regclass AND contype = 'c'"
    );
    for name in texts(owner, &checks).await {
        let drop = format!("ALTER TABLE {table} DROP CONSTRAINT \"{name}\"");
        owner.execute_unprepared(&drop).await.unwrap();
    }
    owner.execute_unprepared(&format!("ALTER TABLE {table} DISABLE TRIGGER USER")).await.unwrap();
}

/// A transaction as the service's, pinned to a tenant or to none.
async fn pinned(conn: &DatabaseConnection, tenant: &str) -> sea_orm::DatabaseTransaction {
    let tx = conn.begin().await.unwrap();
    let pin = format!(
        "SELECT set_config('role', 'migrapanel_tenant', true), set_config('app.tenant_id', '{tenant}', true)"
    );
    tx.execute_unprepared(&pin).await.unwrap();
    tx
}

/// Whether the role may do this at all with the table.
async fn may(conn: &impl ConnectionTrait, table: &str, what: &str) -> bool {
    let sql = format!("SELECT has_table_privilege('migrapanel_tenant', '{table}', '{what}')::text");
    texts(conn, &sql).await == ["true"]
}

#[tokio::test]
async fn each_table_with_a_tenant_is_locked_by_itself() {
    let db = TestDb::create().await.unwrap();
    let platform = db.platform().await.unwrap();
    let a = db.tenant(&platform, "a").await.unwrap().tenant().0;
    let b = db.tenant(&platform, "b").await.unwrap().tenant().0;
    let owner = connect(&db).await;
    let tables = texts(&owner, TENANT_TABLES).await;
    assert!(tables.len() >= 20, "{tables:?}");
    let lacking = unlocked(&owner, &tables).await;
    assert!(lacking.is_empty(), "without forced row-level security and its policies: {lacking:?}");
    for table in &tables {
        drop_checks(&owner, table).await;
    }
    owner.execute_unprepared("SET session_replication_role = replica").await.unwrap();
    for table in &tables {
        for tenant in [a, b] {
            put(&owner, table, tenant).await;
        }
    }
    owner.execute_unprepared("RESET session_replication_role").await.unwrap();
    for table in &tables {
        reads(&owner, table, a).await;
        writes(&owner, table, (a, b)).await;
    }
    drop(owner);
    db.remove().await.unwrap();
}

/// A query without any predicate.
async fn reads(owner: &DatabaseConnection, table: &str, a: Uuid) {
    let all = format!("SELECT DISTINCT tenant_id::text FROM {table}");
    assert!(texts(owner, &all).await.len() >= 2, "{table} has no rows of two tenants");
    for (pin, expected) in [(a.to_string(), Some(a)), (String::new(), None)] {
        let tx = pinned(owner, &pin).await;
        if may(&tx, table, "SELECT").await {
            let seen = texts(&tx, &all).await;
            let blind = visible_to_nobody(&tx, table).await;
            let expected: Vec<String> =
                expected.filter(|_| !blind).iter().map(ToString::to_string).collect();
            assert_eq!(seen, expected, "{table} pinned to '{pin}'");
        } else {
            let refused = tx.execute_unprepared(&all).await.unwrap_err().to_string();
            assert!(refused.contains("permission denied"), "{table}: {refused}");
        }
        tx.rollback().await.unwrap();
    }
}

/// Whether the table is the system's alone.
async fn visible_to_nobody(conn: &impl ConnectionTrait, table: &str) -> bool {
    let sql = format!(
        "SELECT qual FROM pg_policies WHERE tablename = '{table}' AND 'migrapanel_tenant' = ANY (roles)"
    );
    texts(conn, &sql).await.iter().all(|condition| condition == "false")
}

async fn writes(owner: &DatabaseConnection, table: &str, (a, b): (Uuid, Uuid)) {
    let count = format!("SELECT count(*)::text FROM {table} WHERE tenant_id = '{b}'");
    let before = texts(owner, &count).await;
    let attempts = [
        ("INSERT", format!("INSERT INTO {table} (tenant_id) VALUES ('{b}')")),
        ("UPDATE", format!("UPDATE {table} SET tenant_id = '{b}'")),
        ("UPDATE", format!("UPDATE {table} SET tenant_id = '{a}' WHERE tenant_id = '{b}'")),
        ("DELETE", format!("DELETE FROM {table} WHERE tenant_id = '{b}'")),
        ("TRUNCATE", format!("TRUNCATE {table} CASCADE")),
    ];
    for (what, sql) in attempts {
        let tx = pinned(owner, &a.to_string()).await;
        let allowed = may(&tx, table, what).await;
        match tx.execute_unprepared(&sql).await {
            Ok(done) => assert_eq!((allowed, done.rows_affected()), (true, 0), "{sql}"),
            Err(refused) if allowed => {
                let refused = refused.to_string();
                assert!(refused.contains("row-level security policy"), "{sql}: {refused}");
            }
            Err(refused) => {
                assert!(refused.to_string().contains("permission denied"), "{sql}: {refused}");
            }
        }
        assert!(what != "TRUNCATE" || !allowed, "{table} can be emptied by a tenant");
        tx.rollback().await.unwrap();
    }
    assert_eq!(texts(owner, &count).await, before, "{table}: rows of another tenant are touched");
}

#[tokio::test]
async fn a_table_that_lacks_the_lock_is_noticed() {
    let db = TestDb::create().await.unwrap();
    let owner = connect(&db).await;
    let policy = "CREATE POLICY tenant ON x TO migrapanel_tenant USING (true) WITH CHECK (true);";
    let made = [
        ("forgotten", ""),
        ("half", "ALTER TABLE x ENABLE ROW LEVEL SECURITY;"),
        ("closed", "ALTER TABLE x ENABLE ROW LEVEL SECURITY; ALTER TABLE x FORCE ROW LEVEL SECURITY;"),
        (
            "open",
            "ALTER TABLE x ENABLE ROW LEVEL SECURITY; ALTER TABLE x FORCE ROW LEVEL SECURITY; POLICY
             CREATE POLICY everybody ON x USING (true) WITH CHECK (true);",
        ),
        (
            "read",
            "ALTER TABLE x ENABLE ROW LEVEL SECURITY; ALTER TABLE x FORCE ROW LEVEL SECURITY;
             CREATE POLICY tenant ON x FOR SELECT TO migrapanel_tenant USING (true);",
        ),
    ];
    for (name, script) in made {
        let script = script.replace("POLICY\n", &format!("{policy}\n"));
        let script =
            format!("CREATE TABLE x (tenant_id uuid); {script} ALTER TABLE x RENAME TO {name}");
        owner.execute_unprepared(&script).await.unwrap();
    }
    let tables = texts(&owner, TENANT_TABLES).await;
    let noticed = unlocked(&owner, &tables).await;
    assert_eq!(noticed, ["closed", "forgotten", "half", "open", "read"]);
    drop(owner);
    db.remove().await.unwrap();
}

/// What a connection of the pool carries.
async fn carried(db: &Db) -> (String, String) {
    db.connection_state().await.unwrap()
}

#[tokio::test]
async fn a_connection_that_comes_back_carries_no_tenant_and_no_role() {
    let test = TestDb::create().await.unwrap();
    let ctx = test.platform().await.unwrap();
    let server = test.server(&ctx).await.unwrap();
    let one = Db::connect(test.url.expose_secret(), 1).await.unwrap();
    let clean = carried(&one).await;
    assert_eq!(clean, ("none".to_owned(), String::new()));
    let write = async || one.write(&ctx, Permission::ServersWrite).await.unwrap();
    // Committed.
    let tx = write().await;
    entities::servers::update_server(&tx, server, in_maintenance(true)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(carried(&one).await, clean);
    // Rolled back, by dropping it and by an error of Postgres.
    drop(write().await);
    assert_eq!(carried(&one).await, clean);
    let tx = one.read(&ctx, Permission::ServersRead).await.unwrap();
    assert!(entities::servers::update_server(&tx, server, in_maintenance(false)).await.is_err());
    drop(tx);
    assert_eq!(carried(&one).await, clean);
    let tx = one.read_audited(&ctx, Permission::ServersRead).await.unwrap();
    drop(tx);
    assert_eq!(carried(&one).await, clean);
    // Futures dropped at any point of their way.
    for nth in 0..60u64 {
        let limit = std::time::Duration::from_micros(nth * 60);
        let work = async {
            let tx = one.write(&ctx, Permission::ServersWrite).await.unwrap();
            entities::servers::update_server(&tx, server, in_maintenance(nth % 2 == 0))
                .await
                .unwrap();
            tx.commit().await.unwrap();
        };
        if tokio::time::timeout(limit, work).await.is_err() {
            assert_eq!(carried(&one).await, clean, "dropped after {limit:?}");
        }
        let system = async { one.system().await.unwrap().commit().await.unwrap() };
        if tokio::time::timeout(limit, system).await.is_err() {
            assert_eq!(carried(&one).await, clean, "dropped after {limit:?}");
        }
    }
    assert_eq!(carried(&one).await, clean);
    test.remove().await.unwrap();
}
