//! What the database itself enforces, whatever the code above it asks.

use entities::error::Code;
use entities::tenancy::{Permission, TenantKind};
use entities::testing::TestDb;
use entities::{jobs, migrations, sessions, tenants};

#[tokio::test]
async fn another_tenants_rows_are_not_there() {
    let db = TestDb::create().await.unwrap();
    let platform = db.platform().await.unwrap();
    let server = db.server(&platform).await.unwrap();
    let job = db.migration(&platform, server, "alice").await.unwrap();
    let kind = TenantKind::Customer;
    let other = tenants::create_tenant(&db.db, &platform, kind, "other").await.unwrap();
    let other = sessions::act_in(&db.db, &platform, other.id).await.unwrap();
    let tx = db.db.read(&other, Permission::MigrationsRead).await.unwrap();
    assert_eq!(jobs::find_job(&tx, job).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(migrations::find_migration(&tx, job).await.unwrap_err().code(), Code::NotFound);
    assert!(jobs::list_logs(&tx, job, 0, 10).await.unwrap().is_empty());
    assert!(migrations::list_migrations(&tx, 10).await.unwrap().is_empty());
    let tx = db.db.write(&other, Permission::MigrationsWrite).await.unwrap();
    let refused = migrations::start_rollback(&tx, job, false).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    drop(tx);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn a_write_without_an_audit_entry_does_not_commit_and_a_read_cannot_write() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let tx = db.db.write(&ctx, Permission::MigrationsWrite).await.unwrap();
    assert_eq!(tx.commit().await.unwrap_err().code(), Code::Internal);
    let tx = db.db.read(&ctx, Permission::MigrationsRead).await.unwrap();
    let written = tx.audit(entities::audit::Audit::Logout {}).await;
    assert_eq!(written.unwrap_err().code(), Code::Internal);
    drop(tx);
    db.remove().await.unwrap();
}
