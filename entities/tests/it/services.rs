//! What was sold, from the paid order to its end: where it is made, and that nothing is made twice or
//! lost, whoever dies when.

mod pods;

use entities::catalogue::prices::{self, NewPrice};
use entities::catalogue::products::{self, NewProduct};
use entities::catalogue::{Billing, Limit, Specification};
use entities::error::Code;
use entities::hosting::{self, Possession};
use entities::ids::{JobId, OrderId, PriceId, RowId, ServerId, ServiceId, WorkerId};
use entities::jobs::{self, Claim, Claimant, Ending};
use entities::orders::{self, NewOrder, Status, Wanted, advance};
use entities::servers;
use entities::services::{self, Desired, Outcome, State};
use entities::tables::service;
use entities::tenancy::{Permission, TenantCtx};
use entities::tenants::{self, Change, Limits};
use entities::testing::TestDb;
use entities::values::{Currency, DomainName, Money, Prose, Title};
use futures::future::join_all;
use serde_json::json;

struct Shop {
    db: TestDb,
    platform: TenantCtx,
    /// Who buys.
    ctx: TenantCtx,
    plan: PriceId,
    addon: PriceId,
}

fn hosting_plan() -> Specification {
    Specification::HostingPlan {
        disk_mib: 1024,
        domains: 1,
        mailboxes: 5,
        databases: 1,
        traffic_gib: None,
    }
}

async fn offer(db: &TestDb, platform: &TenantCtx, specification: Specification) -> PriceId {
    let tx = db.db.write(platform, Permission::CatalogueWrite).await.unwrap();
    let name = format!("Product {:?} {}", specification.kind(), RowId::new());
    let (name, description) = (Title::parse(&name).unwrap(), Prose::default());
    let new =
        NewProduct { category: None, name, description, specification, code: None, position: 0 };
    let product = products::create_product(&tx, new).await.unwrap().id;
    let money = Money::new(999, Currency::parse("eur").unwrap());
    let billing = Billing::Month;
    let new = NewPrice { product, money, billing, setup_fee: None, trial_days: None };
    let price = prices::create_price(&tx, new).await.unwrap().id;
    tx.commit().await.unwrap();
    price
}

impl Shop {
    async fn open() -> Self {
        let db = TestDb::create().await.unwrap();
        let platform = db.platform().await.unwrap();
        let ctx = db.tenant(&platform, "buyer").await.unwrap();
        let plan = offer(&db, &platform, hosting_plan()).await;
        let raises = Limit::Mailboxes;
        let addon = offer(&db, &platform, Specification::Addon { raises, by: 10 }).await;
        Self { db, platform, ctx, plan, addon }
    }

    /// A server that the buyer may use.
    async fn server(&self) -> ServerId {
        let id = self.db.server(&self.platform).await.unwrap();
        self.grant(id, &self.ctx).await;
        id
    }

    async fn grant(&self, id: ServerId, to: &TenantCtx) {
        let tx = self.db.db.write(&self.platform, Permission::ServersWrite).await.unwrap();
        servers::grant_server(&self.db.db, &tx, id, to.tenant()).await.unwrap();
        tx.commit().await.unwrap();
    }

    fn plans(&self, quantity: u32, domains: &[&str]) -> Wanted {
        let domains = domains.iter().map(|name| DomainName::parse(name).unwrap()).collect();
        Wanted { price: self.plan, quantity, domains }
    }

    async fn order(&self, items: Vec<Wanted>) -> Result<OrderId, Code> {
        let (notes, external_reference) = (Prose::default(), None);
        let new = NewOrder { items, tax: None, notes, external_reference };
        let tx = self.db.db.write(&self.ctx, Permission::OrdersWrite).await.unwrap();
        let made = orders::create_order(&tx, new).await.map_err(|error| error.code())?;
        tx.commit().await.unwrap();
        Ok(made.order.id)
    }

    async fn paid(&self, items: Vec<Wanted>) -> OrderId {
        let id = self.order(items).await.unwrap();
        let tx = self.db.db.system().await.unwrap();
        advance(&tx, &self.ctx, id, Status::Paid, "A test pays.").await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    async fn make(&self, id: OrderId) -> Result<Vec<service::Model>, Code> {
        let tx = self.db.db.system().await.unwrap();
        let made = services::make_for_order(&tx, id).await.map_err(|error| error.code())?;
        tx.commit().await.unwrap();
        Ok(made)
    }

    /// One service that was paid for, with its job.
    async fn one(&self) -> (OrderId, service::Model) {
        let order = self.paid(vec![self.plans(1, &["shop.example"])]).await;
        let made = self.make(order).await.unwrap();
        (order, made[0].clone())
    }

    async fn status(&self, id: OrderId) -> Status {
        let tx = self.db.db.read(&self.ctx, Permission::OrdersRead).await.unwrap();
        orders::find_order(&tx, id).await.unwrap().order.status
    }

    async fn service(&self, id: ServiceId) -> service::Model {
        let tx = self.db.db.system().await.unwrap();
        services::load_service(&tx, id).await.unwrap()
    }

    async fn want(&self, id: ServiceId, desired: Desired) -> bool {
        let tx = self.db.db.system().await.unwrap();
        let new = services::want(&tx, id, desired, Some("Not paid.")).await.unwrap();
        tx.commit().await.unwrap();
        new
    }

    async fn converge(&self) -> u64 {
        services::converge_due(&self.db.db, 100).await.unwrap()
    }

    /// Lets all pauses end.
    async fn pass_time(&self) {
        self.db.execute("UPDATE service SET next_at = now() - interval '1 s'").await.unwrap();
    }

    async fn claim(&self, job: JobId) -> Claim {
        let who = Claimant { worker: WorkerId::new(), lease_secs: 30, migrations_max: 3 };
        let tx = self.db.db.system().await.unwrap();
        let claim = jobs::claim(&tx, job, who).await.unwrap().expect("nobody else works on it");
        tx.commit().await.unwrap();
        claim
    }

    /// Ends a service's waiting job as a worker would.
    async fn end(&self, id: ServiceId, outcome: Outcome) -> String {
        let claim = self.claim(self.service(id).await.job_id.unwrap()).await;
        if claim.phase == "provision" && matches!(outcome, Outcome::Done) {
            self.take(&claim).await.unwrap();
        }
        let ending = match &outcome {
            Outcome::Failed { message } | Outcome::Unclean { message } => {
                Ending::Failed { code: "step_failed".to_owned(), message: message.clone() }
            }
            _ => Ending::Done { result: json!({}) },
        };
        let tx = self.db.db.system().await.unwrap();
        services::settle(&tx, &claim, outcome).await.unwrap();
        jobs::finish(&tx, &claim, &ending).await.unwrap();
        tx.commit().await.unwrap();
        claim.phase
    }

    async fn take(&self, claim: &Claim) -> Result<(), Code> {
        let tx = self.db.db.system().await.unwrap();
        let row = services::load_claimed(&tx, claim).await.unwrap();
        let user = services::username(&row).unwrap();
        let domain = row.domain.clone().unwrap_or_else(|| format!("{user}.hosted.test"));
        let domains = [DomainName::parse(&domain).unwrap()];
        let active = domains.iter().cloned().collect();
        let wanted = Possession { user: &user, domains: &domains, active: &active };
        hosting::take(&tx, claim, &wanted).await.map_err(|error| error.code())?;
        services::record_account(&tx, claim).await.unwrap();
        tx.commit().await.unwrap();
        Ok(())
    }

    async fn allow(&self, accounts: u32) {
        let limits = Some(Limits { accounts: Some(accounts), ..Limits::default() });
        let change = Change { limits, ..Change::default() };
        let tenant = self.ctx.tenant();
        tenants::update_tenant(&self.db.db, &self.platform, tenant, change).await.unwrap();
    }
}

fn failed(message: &str) -> Outcome {
    Outcome::Failed { message: message.to_owned() }
}

fn removed() -> Outcome {
    Outcome::Removed { backup: "/var/backups/migrations/terminated/shop.tar.zst".to_owned() }
}

#[tokio::test]
async fn fifty_who_make_an_order_at_once_make_each_unit_once_and_the_addons_raise_them_all() {
    let shop = Shop::open().await;
    shop.server().await;
    shop.allow(3).await;
    let more = Wanted { price: shop.addon, quantity: 2, domains: Vec::new() };
    let order = shop.paid(vec![shop.plans(3, &["shop.example", "blog.example"]), more]).await;
    let made = join_all((0..50).map(|_| shop.make(order))).await;
    let first = made[0].as_ref().unwrap();
    assert!(made.iter().all(|got| got.as_ref().unwrap().len() == 3));
    let names: Vec<_> = first.iter().map(|s| s.username.as_deref().unwrap()).collect();
    assert_eq!(names, ["shop", "blog", "site"]);
    assert_eq!(first.iter().map(|s| s.unit).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(first.iter().all(|s| s.specification["mailboxes"] == 25));
    let jobs = shop.db.dump("job").await.unwrap();
    assert_eq!(jobs.lines().count(), 3);
    // What was paid for counts until it is there: there is room for these three and no fourth.
    let other = shop.order(vec![shop.plans(1, &[])]).await.unwrap();
    let tx = shop.db.db.system().await.unwrap();
    let refused = advance(&tx, &shop.ctx, other, Status::Paid, "More.").await.unwrap_err();
    assert_eq!(refused.code(), Code::QuotaExceeded);
    drop(tx);
    for service in first {
        assert_eq!(shop.status(order).await, Status::Provisioning);
        shop.end(service.id, Outcome::Done).await;
    }
    assert_eq!(shop.status(order).await, Status::Active);
    assert_eq!(shop.converge().await, 0);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn the_least_loaded_of_the_servers_that_were_granted_is_chosen() {
    let shop = Shop::open().await;
    let stranger = shop.db.tenant(&shop.platform, "stranger").await.unwrap();
    let server = async |free: u64, change: &str| {
        let id = shop.server().await;
        let sql = format!(
            "UPDATE server SET health = '{{\"services\": {{}}, \"home_free_bytes\": {free}}}'
             WHERE id = '{id}'; UPDATE server SET {change} WHERE id = '{id}'"
        );
        shop.db.execute(&sql).await.unwrap();
        id
    };
    let small = server(1, "maintenance = false").await;
    let large = server(2, "maintenance = false").await;
    server(9, "maintenance = true").await;
    server(9, "state = 'enrolling'").await;
    server(9, "last_error = 'It does not answer.'").await;
    server(9, "health = '{\"services\": {\"exim4\": false}, \"home_free_bytes\": 9}'").await;
    let others = shop.db.server(&shop.platform).await.unwrap();
    shop.grant(others, &stranger).await;
    let mut chosen = Vec::new();
    for _ in 0..4 {
        let order = shop.paid(vec![shop.plans(1, &[])]).await;
        let service = shop.make(order).await.unwrap()[0].id;
        chosen.push(shop.service(service).await.server_id.unwrap());
        if chosen.len() < 3 {
            // One that is there counts as one that is coming.
            shop.end(service, Outcome::Done).await;
        }
    }
    assert_eq!(chosen, [large, small, large, small]);
    // What a tenant above was granted is for those below, too.
    let platforms = shop.db.server(&shop.platform).await.unwrap();
    shop.grant(platforms, &shop.platform).await;
    let order = shop.paid(vec![shop.plans(1, &[])]).await;
    assert_eq!(shop.make(order).await.unwrap()[0].server_id, Some(platforms));
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn without_a_server_it_waits_a_day() {
    let shop = Shop::open().await;
    let (order, service) = shop.one().await;
    assert_eq!((service.state, service.job_id), (State::Pending, None));
    assert_eq!(shop.converge().await, 0);
    shop.pass_time().await;
    assert_eq!(shop.converge().await, 1);
    assert_eq!(shop.service(service.id).await.state, State::Pending);
    shop.db.execute("UPDATE service SET waiting_since = now() - interval '25 h'").await.unwrap();
    shop.pass_time().await;
    assert_eq!(shop.converge().await, 1);
    assert_eq!(shop.service(service.id).await.state, State::Failed);
    assert_eq!(shop.status(order).await, Status::Failed);
    assert_eq!(shop.converge().await, 0);
    let kinds = shop.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "SERVICE_FAILED").count(), 1);
    // Once there is one, somebody lets it be tried anew.
    let server = shop.server().await;
    let why = Title::parse("There is a server now.").unwrap();
    services::retry(&shop.db.db, &shop.platform, service.id, &why).await.unwrap();
    let again = services::retry(&shop.db.db, &shop.platform, service.id, &why).await.unwrap_err();
    assert_eq!(again.code(), Code::ServiceState);
    let row = shop.service(service.id).await;
    assert_eq!((row.state, row.server_id), (State::Provisioning, Some(server)));
    shop.end(service.id, Outcome::Done).await;
    assert_eq!(shop.status(order).await, Status::Active);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn it_is_tried_three_times_elsewhere_if_there_is_an_elsewhere() {
    let shop = Shop::open().await;
    let both = [shop.server().await, shop.server().await];
    let order = shop.paid(vec![shop.plans(2, &["shop.example"])]).await;
    let made = shop.make(order).await.unwrap();
    let (lost, kept) = (made[0].id, made[1].id);
    shop.end(kept, Outcome::Done).await;
    let mut tried = Vec::new();
    for attempt in 1..=3 {
        let row = shop.service(lost).await;
        assert_eq!((row.state, row.attempts), (State::Provisioning, attempt - 1));
        assert_eq!(row.username.as_deref(), Some("shop"));
        tried.push(row.server_id.unwrap());
        shop.end(lost, failed("The disk is full.")).await;
        assert_eq!(shop.converge().await, 0, "not before its pause is over");
        shop.pass_time().await;
        shop.converge().await;
    }
    assert_ne!(tried[0], tried[1]);
    assert_ne!(tried[1], tried[2]);
    assert!(tried.iter().all(|server| both.contains(server)));
    let row = shop.service(lost).await;
    assert_eq!((row.state, row.error.as_deref()), (State::Failed, Some("The disk is full.")));
    assert_eq!(shop.status(order).await, Status::PartiallyActive);
    // What could not be made takes no room.
    shop.allow(2).await;
    let other = shop.order(vec![shop.plans(1, &[])]).await.unwrap();
    let tx = shop.db.db.system().await.unwrap();
    advance(&tx, &shop.ctx, other, Status::Paid, "There is room.").await.unwrap();
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_could_not_be_taken_back_is_taken_back_before_the_next_attempt() {
    let shop = Shop::open().await;
    shop.server().await;
    let (_, service) = shop.one().await;
    let message = "The server went away.".to_owned();
    shop.end(service.id, Outcome::Unclean { message: message.clone() }).await;
    let job = service.job_id;
    for again in [true, false] {
        assert_eq!(shop.service(service.id).await.state, State::Provisioning);
        shop.pass_time().await;
        assert_eq!(shop.converge().await, 1);
        assert_eq!(shop.service(service.id).await.job_id, job);
        let message = message.clone();
        let outcome = if again { Outcome::Unclean { message } } else { Outcome::Done };
        assert_eq!(shop.end(service.id, outcome).await, "take_back");
    }
    let row = shop.service(service.id).await;
    assert_eq!((row.state, row.attempts), (State::Pending, 1));
    shop.pass_time().await;
    shop.converge().await;
    assert_ne!(shop.service(service.id).await.job_id, job);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn whatever_is_wanted_when_it_ends_as_it_is_wanted_last() {
    for early in [true, false] {
        let shop = Shop::open().await;
        shop.server().await;
        let (order, service) = shop.one().await;
        let id = service.id;
        if early {
            // While it is being made: its job ends first, and nothing is queued beside it.
            assert!(shop.want(id, Desired::Suspended).await);
            assert_eq!(shop.service(id).await.job_id, service.job_id);
        }
        assert_eq!(shop.end(id, Outcome::Done).await, "provision");
        assert_eq!(shop.status(order).await, Status::Active);
        if !early {
            assert!(shop.want(id, Desired::Suspended).await);
        }
        assert!(!shop.want(id, Desired::Suspended).await);
        // A job that fails comes again by itself, later each time.
        assert_eq!(shop.end(id, failed("Busy.")).await, "suspend");
        assert_eq!(shop.converge().await, 0);
        shop.pass_time().await;
        assert_eq!(shop.converge().await, 1);
        assert_eq!(shop.end(id, Outcome::Done).await, "suspend");
        let row = shop.service(id).await;
        assert_eq!((row.state, row.reason.as_deref()), (State::Suspended, Some("Not paid.")));
        // Nobody opens it by a migration.
        let server = row.server_id.unwrap();
        let user = row.username.as_deref().unwrap();
        assert!(shop.db.migration(&shop.ctx, server, user).await.is_err());
        // Paid while a job is on its way: what is wanted last is what comes.
        assert!(shop.want(id, Desired::Active).await);
        assert!(shop.want(id, Desired::Terminated).await);
        assert_eq!(shop.end(id, Outcome::Done).await, "unsuspend");
        assert!(!shop.want(id, Desired::Active).await, "terminated is final");
        assert_eq!(shop.end(id, removed()).await, "terminate");
        let row = shop.service(id).await;
        assert_eq!((row.state, row.account_id), (State::Terminated, None));
        assert!(row.backup_path.is_some());
        assert_eq!(shop.db.dump("domain").await.unwrap(), "");
        assert_eq!(shop.db.dump("hosting_account").await.unwrap(), "");
        assert_eq!(shop.converge().await, 0);
        let told = shop.db.audit_kinds().await.unwrap();
        for kind in ["PROVISIONED", "SUSPENDED", "UNSUSPENDED", "TERMINATED"] {
            let count = told.iter().filter(|told| **told == format!("SERVICE_{kind}")).count();
            assert_eq!(count, 1, "{kind}");
        }
        shop.db.remove().await.unwrap();
    }
}

#[tokio::test]
async fn terminated_while_it_is_made_it_goes_right_after() {
    let shop = Shop::open().await;
    shop.server().await;
    // One that is made, one that fails, one that nobody has begun.
    let (_, made) = shop.one().await;
    shop.want(made.id, Desired::Terminated).await;
    shop.end(made.id, Outcome::Done).await;
    assert_eq!(shop.end(made.id, removed()).await, "terminate");
    let (order, broken) = shop.one().await;
    shop.want(broken.id, Desired::Terminated).await;
    shop.end(broken.id, failed("No.")).await;
    assert_eq!(shop.service(broken.id).await.state, State::Terminated);
    assert_eq!(shop.status(order).await, Status::Failed);
    shop.db.execute("UPDATE server SET maintenance = true").await.unwrap();
    let (order, waiting) = shop.one().await;
    shop.want(waiting.id, Desired::Terminated).await;
    assert_eq!(shop.service(waiting.id).await.state, State::Terminated);
    assert_eq!(shop.status(order).await, Status::Failed);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_was_taken_over_settles_nothing() {
    let shop = Shop::open().await;
    shop.server().await;
    let (order, service) = shop.one().await;
    let dead = shop.claim(service.job_id.unwrap()).await;
    shop.db.expire_lease(dead.job).await.unwrap();
    let alive = shop.claim(dead.job).await;
    let tx = shop.db.db.system().await.unwrap();
    let late = services::settle(&tx, &dead, Outcome::Done).await.unwrap_err();
    assert_eq!(late.code(), Code::StaleFence);
    drop(tx);
    shop.take(&alive).await.unwrap();
    shop.take(&alive).await.unwrap();
    // Killed before its commit, it has settled nothing, and does it again.
    let tx = shop.db.db.system().await.unwrap();
    services::settle(&tx, &alive, Outcome::Done).await.unwrap();
    drop(tx);
    assert_eq!(shop.service(service.id).await.state, State::Provisioning);
    let tx = shop.db.db.system().await.unwrap();
    services::settle(&tx, &alive, Outcome::Done).await.unwrap();
    jobs::finish(&tx, &alive, &Ending::Done { result: json!({}) }).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(shop.status(order).await, Status::Active);
    assert_eq!(shop.db.dump("hosting_account").await.unwrap().lines().count(), 1);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_domain_has_one_owner_and_a_service_one_buyer() {
    let shop = Shop::open().await;
    shop.server().await;
    let (_, service) = shop.one().await;
    shop.end(service.id, Outcome::Done).await;
    let stranger = shop.db.tenant(&shop.platform, "stranger").await.unwrap();
    let tx = shop.db.db.read(&stranger, Permission::ServicesRead).await.unwrap();
    let seen = services::find_service(&tx, service.id).await.unwrap_err();
    assert_eq!(seen.code(), Code::NotFound);
    assert_eq!(services::list_services(&tx, None, 0, 9).await.unwrap().1, 0);
    drop(tx);
    let ours = DomainName::parse("hosted.test").unwrap();
    let tx = shop.db.db.system().await.unwrap();
    for (name, free) in [
        ("other.example", true),
        ("shop.example", false),
        ("below.shop.example", false),
        ("hosted.test", false),
        ("x.hosted.test", false),
    ] {
        let wanted = [shop.plans(1, &[name])];
        let checked = orders::lines::check_free(&tx, stranger.tenant(), &wanted, &ours).await;
        assert_eq!(checked.is_ok(), free, "{name}");
    }
    drop(tx);
    // Whoever was quicker meanwhile has it: the other's attempt fails.
    let order = shop.paid(vec![shop.plans(1, &["shop.example"])]).await;
    let second = shop.make(order).await.unwrap().remove(0);
    assert_eq!(second.username.as_deref(), Some("shop1"));
    let claim = shop.claim(second.job_id.unwrap()).await;
    assert_eq!(shop.take(&claim).await, Err(Code::PlanChanged));
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn orders_that_cannot_be_made_are_refused() {
    let shop = Shop::open().await;
    let addon = |quantity| Wanted { price: shop.addon, quantity, domains: Vec::new() };
    let named = Wanted { domains: vec![DomainName::parse("a.example").unwrap()], ..addon(1) };
    for items in [
        vec![addon(1)],
        vec![shop.plans(1, &[]), named],
        vec![shop.plans(1, &["a.example", "b.example"])],
        vec![shop.plans(2, &["a.example", "a.example"])],
    ] {
        assert_eq!(shop.order(items).await, Err(Code::InvalidRequest));
    }
    // Nothing is made of what was not paid.
    let draft = shop.order(vec![shop.plans(1, &[])]).await.unwrap();
    assert_eq!(shop.make(draft).await.unwrap_err(), Code::OrderState);
    // Nobody pays for a container that no server has room for.
    let price = offer(&shop.db, &shop.platform, pods::pod()).await;
    let wanted = Wanted { price, quantity: 1, domains: Vec::new() };
    let order = shop.order(vec![wanted]).await.unwrap();
    let tx = shop.db.db.system().await.unwrap();
    for status in [Status::PendingPayment, Status::Paid] {
        let refused = advance(&tx, &shop.ctx, order, status, "A test pays.").await.unwrap_err();
        assert_eq!(refused.code(), Code::NoCapacity);
    }
    drop(tx);
    assert_eq!(shop.status(order).await, Status::Draft);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_staff_holds_that_is_suspended_already_says_so() {
    let shop = Shop::open().await;
    shop.server().await;
    let (_, service) = shop.one().await;
    shop.end(service.id, Outcome::Done).await;
    shop.want(service.id, Desired::Suspended).await;
    shop.end(service.id, Outcome::Done).await;
    let reason = Title::parse("It sends spam.").unwrap();
    let hold = (service.id, Desired::Suspended);
    services::request(&shop.db.db, &shop.platform, hold, &reason).await.unwrap();
    let row = shop.service(service.id).await;
    assert_eq!((row.state, row.reason.as_deref()), (State::Suspended, Some("It sends spam.")));
    let trail = shop.db.dump("audit_log").await.unwrap();
    assert_eq!(trail.matches("It sends spam.").count(), 1, "{trail}");
    assert!(!shop.want(service.id, Desired::Active).await, "it is paid, and held");
    // Saying it again says nothing new.
    services::request(&shop.db.db, &shop.platform, hold, &reason).await.unwrap();
    assert_eq!(shop.db.dump("audit_log").await.unwrap().matches("It sends spam.").count(), 1);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn an_order_that_cannot_be_worked_on_holds_up_no_other() {
    let shop = Shop::open().await;
    shop.server().await;
    let broken = shop.paid(vec![shop.plans(1, &["one.example"])]).await;
    shop.db.execute("UPDATE order_item SET specification = '{}'").await.unwrap();
    let other = shop.paid(vec![shop.plans(1, &["two.example"])]).await;
    assert_eq!(services::make_due(&shop.db.db, 10).await.unwrap(), 1);
    assert_eq!(shop.status(broken).await, Status::Paid);
    assert_eq!(shop.status(other).await, Status::Provisioning);
    // It does not stand before others the next time, and is tried again.
    let later = shop.paid(vec![shop.plans(1, &["three.example"])]).await;
    assert_eq!(services::make_due(&shop.db.db, 1).await.unwrap(), 1);
    assert_eq!(shop.status(later).await, Status::Provisioning);
    let mended = format!(
        "UPDATE order_item SET specification = (SELECT specification FROM order_item
            WHERE order_id = '{other}') WHERE order_id = '{broken}';
         UPDATE orders SET next_at = now()"
    );
    shop.db.execute(&mended).await.unwrap();
    assert_eq!(services::make_due(&shop.db.db, 10).await.unwrap(), 1);
    assert_eq!(shop.status(broken).await, Status::Provisioning);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn one_that_cannot_be_worked_on_holds_up_nobody_else() {
    let shop = Shop::open().await;
    let order = shop.paid(vec![shop.plans(2, &["one.example", "two.example"])]).await;
    let made = shop.make(order).await.unwrap();
    assert!(made.iter().all(|service| service.state == State::Pending), "there is no server");
    let broken = format!(
        "UPDATE service SET state = 'provisioning', job_id = NULL WHERE id = '{}'",
        made[0].id
    );
    shop.db.execute(&broken).await.unwrap();
    shop.server().await;
    shop.db
        .execute("UPDATE service SET next_at = now() - (3 - unit) * interval '1 second'")
        .await
        .unwrap();
    assert_eq!(shop.converge().await, 1);
    let other = shop.service(made[1].id).await;
    assert!(other.state == State::Provisioning && other.job_id.is_some());
    assert!(shop.service(made[0].id).await.next_at > chrono::Utc::now(), "it is looked at later");
    shop.db.remove().await.unwrap();
}
