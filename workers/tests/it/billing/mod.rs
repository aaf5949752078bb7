//! Billing against the stand-in for Stripe: from an order to what was bought, whatever comes in which
//! order, twice, late or never.

mod life;
mod money;
mod names;
mod pods;
mod races;
mod random;
mod sync;

use billing::{Billing, inbox, reconcile};
use entities::billing::events::Source;
use entities::billing::standing::Rules;
use entities::billing::{payments, repayments, subscriptions};
use entities::catalogue::prices::{self, NewPrice};
use entities::catalogue::products::{self, NewProduct};
use entities::catalogue::{Billing as Interval, Specification};
use entities::config::{self, Base};
use entities::hosting::{self, Possession};
use entities::ids::{OrderId, PriceId, ProductId, WorkerId};
use entities::jobs::{self, Claimant, Ending};
use entities::orders::{self, NewOrder, Status, Wanted, Whole};
use entities::servers;
use entities::services::{self, Outcome};
use entities::tables::{checkout, payment, repayment, service, subscription};
use entities::tenancy::{Permission, TenantCtx};
use entities::testing::TestDb;
use entities::values::{Currency, DomainName, Money, Prose, Title};
use secrecy::SecretString;
use serde_json::{Value, json};
use stripe_sandbox::{Config, Sandbox};
use workers::billing::Worker;

pub const DAY: i64 = 86_400;

/// Everything but the machines on which accounts lie.
pub struct Scene {
    pub db: TestDb,
    pub platform: TenantCtx,
    /// Who buys.
    pub ctx: TenantCtx,
    pub plan: PriceId,
    pub product: ProductId,
    pub sandbox: Sandbox,
    pub worker: Worker,
    http: reqwest::Client,
}

pub fn stripe_at(base: &str) -> config::Stripe {
    config::Stripe {
        api_base: base.to_owned(),
        secret_key: SecretString::from(KEY),
        tax: false,
        public_url: "http://api.test".to_owned(),
        dashboard_url: "http://panel.test".to_owned(),
        rules: Rules { letters: vec![0, 3, 7], grace_days: 10, retention_days: 30 },
    }
}

pub const KEY: &str = "sk_test_it";

fn hosting_plan(disk_mib: u32) -> Specification {
    Specification::HostingPlan {
        disk_mib,
        domains: 1,
        mailboxes: 5,
        databases: 1,
        traffic_gib: None,
    }
}

pub fn eur(amount: i64) -> Money {
    Money::new(amount, Currency::parse("eur").unwrap())
}

impl Scene {
    pub async fn open() -> Self {
        Self::open_with(false).await
    }

    /// With Stripe Tax, or without.
    pub async fn open_with(tax: bool) -> Self {
        let db = TestDb::create().await.unwrap();
        let platform = db.platform().await.unwrap();
        let ctx = db.tenant(&platform, "buyer").await.unwrap();
        let sandbox = stripe_sandbox::start(Config {
            listen: "127.0.0.1:0".to_owned(),
            key: KEY.to_owned(),
            webhooks: Vec::new(),
        })
        .await
        .unwrap();
        let config = config::Billing {
            base: Base {
                database_url: db.url.clone(),
                amqp_url: SecretString::from("amqp://127.0.0.1:9"),
            },
            stripe: config::Stripe { tax, ..stripe_at(&sandbox.base_url) },
        };
        let worker = Worker::open(config).await.unwrap();
        let server = db.server(&platform).await.unwrap();
        let tx = db.db.write(&platform, Permission::ServersWrite).await.unwrap();
        servers::grant_server(&db.db, &tx, server, ctx.tenant()).await.unwrap();
        tx.commit().await.unwrap();
        let mut scene = Self {
            http: reqwest::Client::new(),
            plan: PriceId::new(),
            product: ProductId::new(),
            db,
            platform,
            ctx,
            sandbox,
            worker,
        };
        scene.control("settings", json!({ "draft_seconds": 0 })).await;
        let product = scene.sell("Hosting M", 1024).await;
        scene.product = product;
        scene.plan = scene.price(product, 1000, (Interval::Month, None, None)).await;
        scene
    }

    /// Somebody of the buyer's who is written to about money.
    pub async fn payer(&self, email: &str) {
        let (user, tenant) = (entities::ids::UserId::new(), self.ctx.tenant());
        let sql = format!(
            "INSERT INTO app_user (id, email, password_hash, name, email_verified_at)
                VALUES ('{user}', '{email}', 'x', 'P. Ayer', now());
             INSERT INTO membership (id, tenant_id, user_id, role)
                VALUES (gen_random_uuid(), '{tenant}', '{user}', 'BILLING')"
        );
        self.db.execute(&sql).await.unwrap();
    }

    pub async fn sell(&self, name: &str, disk_mib: u32) -> ProductId {
        self.sell_as(name, hosting_plan(disk_mib)).await
    }

    pub async fn sell_as(&self, name: &str, specification: Specification) -> ProductId {
        let tx = self.db.db.write(&self.platform, Permission::CatalogueWrite).await.unwrap();
        let new = NewProduct {
            category: None,
            name: Title::parse(name).unwrap(),
            description: Prose::default(),
            specification,
            code: None,
            position: 0,
        };
        let product = products::create_product(&tx, new).await.unwrap().id;
        tx.commit().await.unwrap();
        product
    }

    pub async fn price(
        &self,
        product: ProductId,
        amount: i64,
        (billing, setup_fee, trial_days): (Interval, Option<i64>, Option<u32>),
    ) -> PriceId {
        let tx = self.db.db.write(&self.platform, Permission::CatalogueWrite).await.unwrap();
        let setup_fee = setup_fee.map(eur);
        let new = NewPrice { product, money: eur(amount), billing, setup_fee, trial_days };
        let price = prices::create_price(&tx, new).await.unwrap().id;
        tx.commit().await.unwrap();
        price
    }

    pub fn billing(&self) -> &Billing {
        &self.worker.billing
    }

    /// Whatever the stand-in is told to do beside being Stripe.
    pub async fn control(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/_control/{path}", self.sandbox.base_url);
        let got = self.http.post(url).json(&body).send().await.unwrap();
        let status = got.status();
        let text = got.text().await.unwrap();
        assert!(status.is_success() || status.is_redirection(), "{path} {body}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub async fn stripe(&self, path: &str) -> Value {
        self.billing().stripe.get(path).await.unwrap()
    }

    pub async fn days(&self, days: i64) {
        self.control("clock", json!({ "advance_seconds": days * DAY })).await;
    }

    pub async fn order_of(&self, ctx: &TenantCtx, price: PriceId, quantity: u32) -> OrderId {
        self.order_for(ctx, Wanted { price, quantity, domains: Vec::new() }).await
    }

    pub async fn order_named(&self, ctx: &TenantCtx, price: PriceId, name: &str) -> OrderId {
        let domains = vec![DomainName::parse(name).unwrap()];
        self.order_for(ctx, Wanted { price, quantity: 1, domains }).await
    }

    async fn order_for(&self, ctx: &TenantCtx, wanted: Wanted) -> OrderId {
        let tx = self.db.db.write(ctx, Permission::OrdersWrite).await.unwrap();
        let items = vec![wanted];
        let (notes, external_reference) = (Prose::default(), None);
        let new = NewOrder { items, tax: None, notes, external_reference };
        let made = orders::create_order(&tx, new).await.unwrap();
        tx.commit().await.unwrap();
        made.order.id
    }

    pub async fn order_taxed(&self, tax: Value) -> OrderId {
        let tx = self.db.db.write(&self.ctx, Permission::OrdersWrite).await.unwrap();
        let items = vec![Wanted { price: self.plan, quantity: 1, domains: Vec::new() }];
        let tax = Some(serde_json::from_value(tax).unwrap());
        let (notes, external_reference) = (Prose::default(), None);
        let new = NewOrder { items, tax, notes, external_reference };
        let made = orders::create_order(&tx, new).await.unwrap();
        tx.commit().await.unwrap();
        made.order.id
    }

    pub async fn order(&self, quantity: u32) -> OrderId {
        self.order_of(&self.ctx, self.plan, quantity).await
    }

    pub async fn checkout(&self, order: OrderId) -> checkout::Model {
        billing::checkout::open(self.billing(), &self.ctx, order, None).await.unwrap()
    }

    /// What the buyer does on the page.
    pub async fn press(&self, row: &checkout::Model, action: &str, card: &str) {
        let id = row.stripe_id.as_deref().unwrap();
        let body = json!({ "action": action, "payment_method": card, "email": "b@uyer.test",
            "name": "B. Uyer", "country": "DE" });
        self.control(&format!("checkout/{id}"), body).await;
    }

    /// Ordered and paid; Stripe's news of it is not heard yet.
    pub async fn paid(&self, quantity: u32) -> (OrderId, checkout::Model) {
        let order = self.order(quantity).await;
        let row = self.checkout(order).await;
        self.press(&row, "pay", "pm_card_visa").await;
        (order, row)
    }

    /// Everything that Stripe tells, oldest first.
    pub async fn news(&self) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        let mut path = "/events?limit=100".to_owned();
        loop {
            let page: billing::objects::List<Value> =
                self.billing().stripe.get(&path).await.unwrap();
            let last = page.data.last().map(|event| event["id"].as_str().unwrap().to_owned());
            all.extend(page.data);
            match last.filter(|_| page.has_more) {
                Some(last) => path = format!("/events?limit=100&starting_after={last}"),
                None => break,
            }
        }
        all.reverse();
        all
    }

    /// Hears one piece of news as if Stripe had delivered it.
    pub async fn hear(&self, event: &Value) {
        let body = serde_json::to_vec(event).unwrap();
        inbox::keep(&self.db.db, &body, Source::Webhook).await.unwrap();
    }

    /// Hears all, and acts until there is nothing more to do; accounts are made at once.
    pub async fn settle(&self) {
        for _ in 0..20 {
            let mut done = reconcile::events(self.billing()).await.unwrap();
            done += self.work().await;
            if done == 0 {
                return;
            }
        }
        panic!("there is always something to do");
    }

    /// Acts until there is nothing more to do.
    pub async fn work(&self) -> usize {
        let mut done = 0;
        loop {
            reconcile::time(self.billing()).await.unwrap();
            self.changed().await;
            let once = self.worker.work_once().await.unwrap() + self.make_all().await;
            if once == 0 {
                return done;
            }
            done += once;
            assert!(done < 10_000, "there is always something to do");
        }
    }

    /// Acts on the messages that tell of services and orders.
    async fn changed(&self) {
        let tx = self.db.db.system().await.unwrap();
        let orders = entities::testing::orders(&tx).await.unwrap();
        drop(tx);
        for order in orders {
            let message = entities::outbox::Message::OrderChanged { order };
            self.worker.act(&message).await.unwrap();
        }
    }

    /// Ends all waiting jobs of services well.
    pub async fn make_all(&self) -> usize {
        self.end_all(|_| None).await
    }

    /// Ends all waiting jobs of services; `fails` says with which sentence one fails.
    pub async fn end_all(&self, fails: impl Fn(&service::Model) -> Option<String>) -> usize {
        let tx = self.db.db.system().await.unwrap();
        let mut jobs = entities::testing::queued_jobs(&tx).await.unwrap();
        drop(tx);
        let pods = pods::jobs(&self.db).await;
        jobs.retain(|id| !pods.contains(id));
        for id in &jobs {
            let who = Claimant { worker: WorkerId::new(), lease_secs: 30, migrations_max: 3 };
            let tx = self.db.db.system().await.unwrap();
            let claim = jobs::claim(&tx, *id, who).await.unwrap().expect("nobody else works on it");
            let row = services::load_claimed(&tx, &claim).await.unwrap();
            let outcome = match (fails(&row), claim.phase.as_str()) {
                (Some(message), "provision") => Outcome::Failed { message },
                (None, "provision") => {
                    let user = services::username(&row).unwrap();
                    let domains = [DomainName::parse(&format!("{user}.hosted.test")).unwrap()];
                    let active = domains.iter().cloned().collect();
                    let wanted = Possession { user: &user, domains: &domains, active: &active };
                    hosting::take(&tx, &claim, &wanted).await.unwrap();
                    services::record_account(&tx, &claim).await.unwrap();
                    Outcome::Done
                }
                (_, "terminate") => Outcome::Removed { backup: "/backup/last.tar".to_owned() },
                _ => Outcome::Done,
            };
            let ending = Ending::Done { result: json!({}) };
            services::settle(&tx, &claim, outcome).await.unwrap();
            jobs::finish(&tx, &claim, &ending).await.unwrap();
            tx.commit().await.unwrap();
        }
        jobs.len()
    }

    pub async fn look(&self, order: OrderId) -> Whole {
        let tx = self.db.db.read(&self.ctx, Permission::OrdersRead).await.unwrap();
        orders::find_order(&tx, order).await.unwrap()
    }

    pub async fn status(&self, order: OrderId) -> Status {
        self.look(order).await.order.status
    }

    pub async fn subscription(&self, order: OrderId) -> subscription::Model {
        let tx = self.db.db.system().await.unwrap();
        subscriptions::of_order(&tx, order).await.unwrap().expect("a subscription")
    }

    pub async fn services(&self, order: OrderId) -> Vec<service::Model> {
        let tx = self.db.db.system().await.unwrap();
        services::of_order(&tx, order).await.unwrap()
    }

    pub async fn payments(&self, order: OrderId) -> Vec<payment::Model> {
        let tx = self.db.db.system().await.unwrap();
        payments::of_order(&tx, order).await.unwrap()
    }

    pub async fn repayments(&self, order: OrderId) -> Vec<repayment::Model> {
        let tx = self.db.db.system().await.unwrap();
        repayments::of_order(&tx, order).await.unwrap()
    }

    pub async fn kinds(&self) -> Vec<String> {
        self.db.audit_kinds().await.unwrap()
    }

    pub async fn close(self) {
        self.db.remove().await.unwrap();
    }
}
