//! Certificates as rows: whose names they may have, when jobs are made for them, and that neither a
//! death nor a failure loses what is shown.

use entities::certificates::{
    self, CertificateName, Challenge, Filter, Issued, ORDERS_A_DAY, Outcome, State,
};
use entities::error::{Code, Error};
use entities::hosting;
use entities::ids::{CertificateId, JobId, ServerId, WorkerId};
use entities::jobs::{self, Claim, Claimant, Ending};
use entities::sealing::SealingKeys;
use entities::tables::certificate;
use entities::tenancy::{Permission, TenantCtx};
use entities::testing::TestDb;
use entities::values::DomainName;
use secrecy::SecretString;
use serde_json::json;

struct House {
    db: TestDb,
    a: TenantCtx,
    b: TenantCtx,
    server: ServerId,
}

const OURS: &str = "hosted.test";

impl House {
    /// Two tenants with an account each: A's has `a.example` and `b-too.example`, B's `b.example`.
    async fn open() -> Self {
        let db = TestDb::create().await.unwrap();
        let platform = db.platform().await.unwrap();
        let (a, b) = (db.tenant(&platform, "a").await.unwrap(), db.tenant(&platform, "b").await);
        let server = db.server(&platform).await.unwrap();
        db.pretend_enrolled(server).await.unwrap();
        let house = Self { db, a, b: b.unwrap(), server };
        let user = |ctx: &TenantCtx| if ctx.tenant() == house.a.tenant() { "ua" } else { "ub" };
        for (ctx, names) in
            [(&house.a, vec!["a.example", "sub.a.example"]), (&house.b, vec!["b.example"])]
        {
            house.account(ctx, user(ctx), &names).await;
        }
        house.account(&house.a, "utoo", &["a-too.example", &format!("utoo.{OURS}")]).await;
        house
    }

    async fn account(&self, ctx: &TenantCtx, user: &str, domains: &[&str]) {
        let (account, job) = (JobId::new(), JobId::new());
        let (tenant, server) = (ctx.tenant(), self.server);
        let mut sql = format!(
            "INSERT INTO job (id, tenant_id, kind, phase, state, server_id, subject, actor)
                VALUES ('{job}', '{tenant}', 'enroll', 'enroll', 'done', '{server}', 'x', '{{}}');
             INSERT INTO hosting_account (id, tenant_id, server_id, username, job_id)
                VALUES ('{account}', '{tenant}', '{server}', '{user}', '{job}');"
        );
        for name in domains {
            sql.push_str(&format!(
                "INSERT INTO domain (id, tenant_id, name, account_id, job_id, active)
                    VALUES (gen_random_uuid(), '{tenant}', '{name}', '{account}', '{job}', true);"
            ));
            // Ours need no zone.
            if !name.ends_with(OURS) {
                Self::zone(ctx, name, job, &mut sql);
            }
        }
        self.db.execute(&sql).await.unwrap();
    }

    /// A zone whose name is verified to be the tenant's.
    fn zone(ctx: &TenantCtx, name: &str, job: JobId, sql: &mut String) {
        let tenant = ctx.tenant();
        sql.push_str(&format!(
            "INSERT INTO dns_zone (id, tenant_id, name, job_id, active, state, verified_at)
                VALUES (gen_random_uuid(), '{tenant}', '{name}', '{job}', true, 'in_sync', now());"
        ));
    }

    async fn order(&self, ctx: &TenantCtx, names: &[&str]) -> Result<certificate::Model, Error> {
        let names = names.iter().map(|name| CertificateName::parse(name).unwrap()).collect();
        let ours = DomainName::parse(OURS).unwrap();
        certificates::create_certificate(&self.db.db, ctx, names, &ours).await
    }

    async fn see(&self, id: CertificateId) -> certificate::Model {
        for ctx in [&self.a, &self.b] {
            let tx = self.db.db.read(ctx, Permission::CertificatesRead).await.unwrap();
            if let Ok(row) = certificates::find_certificate(&tx, id).await {
                return row;
            }
        }
        panic!("{id} is gone")
    }

    async fn queue_due(&self) -> u64 {
        certificates::queue_due(&self.db.db, 100).await.unwrap()
    }

    async fn claim(&self, row: &certificate::Model) -> Claim {
        let who = Claimant { worker: WorkerId::new(), lease_secs: 60, migrations_max: 1 };
        let tx = self.db.db.system().await.unwrap();
        let claim = jobs::claim(&tx, row.job_id.unwrap(), who).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        claim
    }

    /// Ends a job as a worker does.
    async fn settle(&self, claim: &Claim, outcome: Outcome) {
        let tx = self.db.db.system().await.unwrap();
        certificates::settle(&tx, claim, outcome).await.unwrap();
        let ending = Ending::Done { result: jobs::nothing() };
        jobs::finish(&tx, claim, &ending).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// What a worker writes down on the way to a certificate that holds for 90 days.
    async fn obtain(&self, row: &certificate::Model, url: &str) -> Issued {
        let claim = self.claim(row).await;
        let issued = Issued {
            chain: format!("chain of {url}"),
            serial: url.to_owned(),
            not_before: chrono::Utc::now(),
            not_after: chrono::Utc::now() + chrono::TimeDelta::days(90),
        };
        let tx = self.db.db.system().await.unwrap();
        certificates::keep_order(&tx, &claim, url, Challenge::Dns).await.unwrap();
        let key = certificates::keep_key(&tx, &claim, format!("key of {url}")).await.unwrap();
        let again = certificates::keep_key(&tx, &claim, "another".to_owned()).await.unwrap();
        assert_eq!(key, again, "one order has one key");
        certificates::keep_chain(&tx, &claim, &issued.chain).await.unwrap();
        tx.commit().await.unwrap();
        self.settle(&claim, Outcome::Installed(issued.clone())).await;
        issued
    }
}

fn failure() -> Outcome {
    Outcome::Failed { code: "ca_unavailable".to_owned(), message: "It is away.".to_owned() }
}

#[tokio::test]
async fn names_are_those_of_one_account_of_the_tenant() {
    let house = House::open().await;
    for (names, code) in [
        (vec!["b.example"], Code::InvalidRequest),
        (vec!["www.b.example", "a.example"], Code::InvalidRequest),
        (vec!["example"], Code::InvalidRequest),
        (vec!["xa.example"], Code::InvalidRequest),
        (vec!["a.example", "a-too.example"], Code::InvalidRequest),
        (vec!["*.a.example"], Code::InvalidRequest),
        // It has no zone here.
        (vec!["utoo.hosted.test", "*.utoo.hosted.test"], Code::InvalidRequest),
    ] {
        let names: Vec<&str> = names.into_iter().filter(|name| name.contains('.')).collect();
        let refused = house.order(&house.a, &names).await.unwrap_err();
        assert_eq!(refused.code(), code, "{names:?}: {refused}");
    }
    house
        .db
        .execute("UPDATE dns_zone SET verified_at = NULL WHERE name = 'a-too.example'")
        .await
        .unwrap();
    let unverified = house.order(&house.a, &["www.a-too.example"]).await.unwrap_err();
    assert_eq!(unverified.code(), Code::DomainUnverified);
    let made = house.order(&house.a, &["a.example", "*.a.example", "x.sub.a.example"]).await;
    let made = made.unwrap();
    assert_eq!((made.state, made.challenge), (State::Issuing, Challenge::Dns));
    let taken = house.order(&house.a, &["www.a.example", "*.a.example", "a.example"]).await;
    assert!(taken.is_err());
    assert_eq!(house.order(&house.a, &["a.example"]).await.unwrap_err().code(), Code::Conflict);
    let elsewhere = house.order(&house.a, &["utoo.hosted.test"]).await.unwrap();
    assert_eq!(elsewhere.challenge, Challenge::Http);
    // What is another's is nothing.
    let ids = async |ctx: &TenantCtx| {
        let tx = house.db.db.read(ctx, Permission::CertificatesRead).await.unwrap();
        certificates::list_certificates(&tx, Filter::default(), 0, 10).await.unwrap().1
    };
    assert_eq!((ids(&house.a).await, ids(&house.b).await), (2, 0));
    let db = &house.db.db;
    let renewed = certificates::renew_certificate(db, &house.b, made.id).await;
    assert_eq!(renewed.unwrap_err().code(), Code::NotFound);
    let deleted = certificates::delete_certificate(db, &house.b, made.id).await;
    assert_eq!(deleted.unwrap_err().code(), Code::NotFound);
    house.db.remove().await.unwrap();
}

#[tokio::test]
async fn one_that_cannot_be_worked_on_holds_up_no_other() {
    let house = House::open().await;
    let torn = house.order(&house.a, &["a.example"]).await.unwrap();
    let good = house.order(&house.b, &["b.example"]).await.unwrap();
    for row in [&torn, &good] {
        let claim = house.claim(row).await;
        house.settle(&claim, failure()).await;
    }
    let earlier = format!(
        "UPDATE certificate SET next_at = now() - interval '1 hour';
         UPDATE certificate SET next_at = now() - interval '2 hours' WHERE id = '{0}';
         ALTER TABLE job ADD CHECK (subject <> 'certificate:{0}') NOT VALID",
        torn.id
    );
    house.db.execute(&earlier).await.unwrap();
    assert_eq!(house.queue_due().await, 1);
    assert_eq!(house.see(good.id).await.state, State::Issuing);
    assert_eq!(house.queue_due().await, 0, "it is not looked at again at once");
    house.db.remove().await.unwrap();
}

#[tokio::test]
async fn failures_are_tried_again_and_a_renewal_that_fails_takes_nothing_away() {
    let house = House::open().await;
    let made = house.order(&house.a, &["a.example"]).await.unwrap();
    assert_eq!(house.queue_due().await, 0, "a job is there already");
    let claim = house.claim(&made).await;
    house.settle(&claim, failure()).await;
    let row = house.see(made.id).await;
    assert_eq!((row.state, row.attempts), (State::Failed, 1));
    assert_eq!(row.error.as_deref(), Some("It is away."));
    assert!(row.next_at > chrono::Utc::now() + chrono::TimeDelta::minutes(9));
    assert_eq!(house.queue_due().await, 0, "it is not due yet");
    house.db.execute("UPDATE certificate SET next_at = now()").await.unwrap();
    house.db.execute("UPDATE server SET maintenance = true").await.unwrap();
    assert_eq!(house.queue_due().await, 0, "its server is in maintenance");
    house.db.execute("UPDATE server SET maintenance = false").await.unwrap();
    assert_eq!((house.queue_due().await, house.queue_due().await), (1, 0));
    let issued = house.obtain(&house.see(made.id).await, "one").await;
    let row = house.see(made.id).await;
    assert_eq!((row.state, row.attempts, row.error), (State::Active, 0, None));
    let kept = (row.sealed_key.as_deref(), row.chain.as_deref(), row.order_url, row.next_chain);
    assert_eq!(kept, (Some("key of one"), Some("chain of one"), None, None));
    let third = issued.not_before + chrono::TimeDelta::days(60);
    assert!(row.renew_at.unwrap() <= third && row.next_at == row.renew_at.unwrap());

    house.db.execute("UPDATE certificate SET next_at = now()").await.unwrap();
    assert_eq!(house.queue_due().await, 1);
    let row = house.see(made.id).await;
    assert_eq!(row.state, State::Renewing);
    let claim = house.claim(&row).await;
    let tx = house.db.db.system().await.unwrap();
    // The authority asks for an hour and more.
    certificates::hold_off(&tx, &claim, 7200).await.unwrap();
    tx.commit().await.unwrap();
    house.settle(&claim, failure()).await;
    let row = house.see(made.id).await;
    assert_eq!((row.state, row.serial.as_deref()), (State::Active, Some("one")));
    assert!(row.error.is_some() && row.sealed_key.as_deref() == Some("key of one"));
    assert!(row.next_at > chrono::Utc::now() + chrono::TimeDelta::minutes(119));
    // Its time is over, and nobody says otherwise.
    house.db.execute("UPDATE certificate SET not_after = now(), next_at = now()").await.unwrap();
    assert_eq!(house.queue_due().await, 1);
    assert_eq!(house.see(made.id).await.state, State::Expired);
    house.obtain(&house.see(made.id).await, "two").await;
    assert_eq!(house.see(made.id).await.serial.as_deref(), Some("two"));
    let kinds = house.db.audit_kinds().await.unwrap();
    let told: Vec<&str> =
        kinds.iter().filter_map(|kind| kind.strip_prefix("CERTIFICATE_")).collect();
    assert_eq!(told, ["REQUESTED", "FAILED", "ISSUED", "FAILED", "RENEWED"]);
    house.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_name_is_not_ordered_more_often_than_an_authority_allows() {
    let house = House::open().await;
    let made = house.order(&house.a, &["a.example"]).await.unwrap();
    let names = [CertificateName::parse("a.example").unwrap()];
    let claim = house.claim(&made).await;
    for number in 0..ORDERS_A_DAY {
        let tx = house.db.db.system().await.unwrap();
        certificates::check_limit(&tx, &names).await.unwrap();
        let url = format!("https://ca.test/{number}");
        // Twice the same is one.
        for _ in 0..2 {
            certificates::keep_order(&tx, &claim, &url, Challenge::Dns).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
    house.settle(&claim, failure()).await;
    let refused = certificates::renew_certificate(&house.db.db, &house.a, made.id).await;
    assert_eq!(refused.unwrap_err().code(), Code::CaLimit);
    house
        .db
        .execute("UPDATE certificate_order SET ordered_at = now() - interval '25 hours'")
        .await
        .unwrap();
    certificates::renew_certificate(&house.db.db, &house.a, made.id).await.unwrap();
    house
        .db
        .execute("UPDATE certificate_order SET issued_at = now() - interval '6 days'")
        .await
        .unwrap();
    let tx = house.db.db.system().await.unwrap();
    let refused = certificates::check_limit(&tx, &names).await.unwrap_err();
    assert!(matches!(refused, Error::Later { code: Code::CaLimit, .. }), "{refused:?}");
    drop(tx);
    house.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_is_deleted_goes_after_the_job_that_works_on_it_and_with_its_account() {
    let house = House::open().await;
    let db = &house.db.db;
    let made = house.order(&house.a, &["a.example"]).await.unwrap();
    let claim = house.claim(&made).await;
    for _ in 0..2 {
        let row = certificates::delete_certificate(db, &house.a, made.id).await.unwrap();
        assert_eq!(row.unwrap().state, State::Deleting);
    }
    assert_eq!(house.queue_due().await, 0);
    house.settle(&claim, failure()).await;
    assert_eq!(house.queue_due().await, 1, "its removal is due at once");
    let row = house.see(made.id).await;
    let claim = house.claim(&row).await;
    assert_eq!((claim.phase.as_str(), row.state), ("remove", State::Deleting));
    house.settle(&claim, Outcome::Removed).await;
    assert_eq!(house.db.dump("certificate").await.unwrap(), "");
    assert_eq!(house.db.dump("certificate_name").await.unwrap(), "");

    // The account goes while a job works on one certificate and another one rests.
    let working = house.order(&house.b, &["b.example"]).await.unwrap();
    let resting = house.order(&house.b, &["www.b.example"]).await.unwrap();
    house.obtain(&resting, "rests").await;
    let claim = house.claim(&working).await;
    let account = working.account_id.unwrap();
    let tx = db.system().await.unwrap();
    hosting::remove_account(&tx, &claim, account).await.unwrap();
    tx.commit().await.unwrap();
    house.settle(&claim, failure()).await;
    for id in [working.id, resting.id] {
        let row = house.see(id).await;
        assert_eq!((row.state, row.account_id, row.sealed_key), (State::Failed, None, None));
        let renewed = certificates::renew_certificate(db, &house.b, id).await;
        assert_eq!(renewed.unwrap_err().code(), Code::Conflict);
    }
    house.db.execute("UPDATE certificate SET next_at = now()").await.unwrap();
    assert_eq!(house.queue_due().await, 0);
    for id in [working.id, resting.id] {
        let gone = certificates::delete_certificate(db, &house.b, id).await.unwrap();
        assert!(gone.is_none());
    }
    assert_eq!(house.db.dump("certificate").await.unwrap(), "");
    house.db.remove().await.unwrap();
}

#[tokio::test]
async fn an_installation_has_one_account_and_its_keys_are_sealed_anew() {
    let house = House::open().await;
    let db = &house.db.db;
    let keys = |text: &str| SealingKeys::parse(&SecretString::from(text.to_owned())).unwrap();
    let old = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let both = format!("b:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=,{old}");
    let (old, both) = (keys(old), keys(&both));
    let directory = "https://ca.test/dir";
    for (offered, url) in [("first", None), ("second", Some("https://ca.test/me"))] {
        let offered = SecretString::from(offered.to_owned());
        let kept = certificates::keep_account(db, &old, directory, &offered).await.unwrap();
        assert_eq!(json!(secrecy::ExposeSecret::expose_secret(&kept.key)), "first");
        assert_eq!(kept.url.as_deref(), url);
        certificates::keep_account_url(db, directory, Some("https://ca.test/me")).await.unwrap();
    }
    let made = house.order(&house.a, &["a.example"]).await.unwrap();
    let claim = house.claim(&made).await;
    let sealed = old.seal(&SecretString::from("key".to_owned())).unwrap();
    let tx = db.system().await.unwrap();
    certificates::keep_key(&tx, &claim, sealed).await.unwrap();
    tx.commit().await.unwrap();
    let done = certificates::reseal(db, &both).await.unwrap();
    assert_eq!((done.count, done.unreadable), (2, 0));
    assert_eq!(certificates::reseal(db, &both).await.unwrap().count, 0);
    let row = house.see(made.id).await;
    assert!(row.next_sealed_key.unwrap().starts_with("b."));
    assert_eq!(certificates::reseal(db, &old).await.unwrap().unreadable, 2);
    house.db.remove().await.unwrap();
}
