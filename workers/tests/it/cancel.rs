//! Running jobs that an operator stops: what they were for knows it, and they are over.

use crate::saga::world;
use entities::certificates::{self, State};
use entities::error::Code;
use entities::ids::{CertificateId, RowId};
use entities::jobs::Stopping;
use entities::oversight;
use entities::tables::certificate;
use entities::tenancy::Permission;
use entities::testing::TestDb;
use entities::values::Title;
use std::time::{Duration, Instant};
use workers::runner;

#[tokio::test]
async fn a_certificate_whose_job_is_stopped_half_way_is_tried_again_later() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let made_by = db.migration(&ctx, server, "alice").await.unwrap();
    let (account, id) = (RowId::new(), CertificateId::new());
    let tenant = ctx.tenant();
    let rows = format!(
        "INSERT INTO hosting_account (id, tenant_id, server_id, username, job_id)
            VALUES ('{account}', '{tenant}', '{server}', 'alice', '{made_by}');
         INSERT INTO certificate (id, tenant_id, account_id, names, challenge, state)
            VALUES ('{id}', '{tenant}', '{account}', '[\"alice.hosted.test\"]', 'http-01', 'failed')"
    );
    db.execute(&rows).await.unwrap();
    let look = async || -> certificate::Model {
        let tx = db.db.read(&ctx, Permission::CertificatesRead).await.unwrap();
        certificates::find_certificate(&tx, id).await.unwrap()
    };
    let job = certificates::renew_certificate(&db.db, &ctx, id).await.unwrap().job_id.unwrap();
    // Nobody resolves names there: the first step is tried again for a minute.
    let world = world(&db);
    let running = tokio::spawn(async move { runner::run_job(&world, job).await });
    let until = Instant::now() + Duration::from_secs(30);
    while !db.dump("job_log").await.unwrap().contains("Trying again") {
        assert!(Instant::now() < until && !running.is_finished(), "{:?}", look().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(look().await.state, State::Issuing);
    let why = Title::parse("A test stops it.").unwrap();
    let asked = Instant::now();
    let stopping = oversight::cancel(&db.db, &ctx, job, &why).await.unwrap();
    assert_eq!(stopping, Stopping::Asked);
    assert!(running.await.unwrap().unwrap());
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    let (row, now) = (db.job(job).await.unwrap(), look().await);
    assert_eq!((row.state.as_str(), row.error_code.as_deref()), ("failed", Some("cancelled")));
    assert_eq!((now.state, now.attempts), (State::Failed, 1));
    assert_eq!(now.error_code, Some(Code::Cancelled.as_str()));
    assert!(now.next_at > chrono::Utc::now(), "there is another attempt later");
    db.remove().await.unwrap();
}
