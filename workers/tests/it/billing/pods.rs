//! Containers that are paid for again and again: plans that change while something is done with them,
//! and ones that could not be made.

use super::Scene;
use billing::change::{self, Preview, Seen, Wanted};
use billing::{inbox, reconcile};
use entities::billing::subscriptions;
use entities::catalogue::{Billing as Interval, Specification};
use entities::cloudpods::settle::Power;
use entities::cloudpods::{self, Desired, Outcome, Size, Status as Pod, backups, sold};
use entities::error::Code;
use entities::ids::{CloudpodId, JobId, OrderId, OrderItemId, PriceId, WorkerId};
use entities::jobs::{self, Claimant, Ending};
use entities::orders::Status;
use entities::services::State;
use entities::tables::cloudpod;
use entities::tenancy::Permission;
use entities::testing::TestDb;
use entities::{servers, testing};
use serde_json::json;
use std::collections::BTreeSet;

/// The jobs of containers that wait.
pub async fn jobs(db: &TestDb) -> BTreeSet<JobId> {
    let tx = db.db.system().await.unwrap();
    let mut all = BTreeSet::new();
    for id in testing::queued_jobs(&tx).await.unwrap() {
        if db.job(id).await.unwrap().kind == "cloudpod" {
            all.insert(id);
        }
    }
    all
}

fn plan(memory_mib: u32, disk_mib: u32) -> Specification {
    let plan = json!({"kind": "cloudpod_plan", "cpu_cores": 1, "memory_mib": memory_mib,
        "disk_mib": disk_mib, "template": "debian-12"});
    serde_json::from_value(plan).unwrap()
}

impl Scene {
    /// With a node that has room for so many of 512 MiB of memory and 4 GiB of disk.
    async fn with_node(room: i32) -> Self {
        let scene = Self::open().await;
        let node = scene.db.node(&scene.platform, 1, room).await.unwrap();
        let tx = scene.db.db.write(&scene.platform, Permission::ServersWrite).await.unwrap();
        servers::grant_server(&scene.db.db, &tx, node, scene.platform.tenant()).await.unwrap();
        tx.commit().await.unwrap();
        scene
    }

    async fn sell_pods(&self, name: &str, cents: i64, (memory, disk): (u32, u32)) -> PriceId {
        let product = self.sell_as(name, plan(memory, disk)).await;
        self.price(product, cents, (Interval::Month, None, None)).await
    }

    async fn buy_pods(&self, price: PriceId, quantity: u32) -> OrderId {
        let order = self.order_of(&self.ctx, price, quantity).await;
        let row = self.checkout(order).await;
        self.press(&row, "pay", "pm_card_visa").await;
        self.hear_all().await;
        self.worker.work_once().await.unwrap();
        order
    }

    async fn hear_all(&self) {
        reconcile::events(self.billing()).await.unwrap();
        while inbox::handle_due(self.billing()).await.unwrap() > 0 {}
    }

    /// Ends the first job of a container that waits; how the container is then.
    async fn end_pod(&self, outcome: Outcome) -> cloudpod::Model {
        let job = *jobs(&self.db).await.first().expect("a job of a container");
        let who = Claimant { worker: WorkerId::new(), lease_secs: 30, migrations_max: 3 };
        let tx = self.db.db.system().await.unwrap();
        let claim = jobs::claim(&tx, job, who).await.unwrap().expect("nobody else works on it");
        let id = cloudpods::load_claimed(&tx, &claim).await.unwrap().id;
        let ending = match &outcome {
            Outcome::Done(result) => Ending::Done { result: result.clone() },
            Outcome::Failed { code, message } | Outcome::Unclean { code, message } => {
                Ending::Failed { code: code.clone(), message: message.clone() }
            }
        };
        cloudpods::settle(&tx, &claim, outcome, Some(Power::Running)).await.unwrap();
        jobs::finish(&tx, &claim, &ending).await.unwrap();
        tx.commit().await.unwrap();
        self.pod(id).await
    }

    async fn pod(&self, id: CloudpodId) -> cloudpod::Model {
        let tx = self.db.db.system().await.unwrap();
        cloudpods::load_pod(&tx, id).await.unwrap()
    }

    async fn preview(&self, order: OrderId, to: PriceId) -> Result<Preview, Code> {
        let subscription = self.subscription(order).await.id;
        let wanted = Wanted { subscription, from: None, to };
        let shown = change::preview(self.billing(), &self.ctx, wanted).await;
        shown.map_err(|error| error.code())
    }

    async fn change(&self, order: OrderId, to: PriceId) -> Result<(), Code> {
        let shown = self.preview(order, to).await?;
        let subscription = self.subscription(order).await.id;
        let wanted = Wanted { subscription, from: None, to };
        let seen = Seen { at: shown.at, due_now: shown.due_now };
        let changed = change::change(self.billing(), &self.ctx, wanted, seen).await;
        changed.map_err(|error| error.code())?;
        self.hear_all().await;
        reconcile::time(self.billing()).await.unwrap();
        Ok(())
    }

    /// Memory and disk of the one place that is taken.
    async fn place(&self) -> String {
        let places = self.db.dump("placement").await.unwrap();
        let field = |name: &str| {
            let (_, rest) = places.split_once(&format!("\"{name}\":")).unwrap();
            rest.split([',', '}']).next().unwrap().to_owned()
        };
        format!("{} {}", field("memory_mib"), field("disk_mib"))
    }
}

fn done() -> Outcome {
    Outcome::Done(json!({}))
}

fn size(pod: &cloudpod::Model) -> (u32, u32) {
    let size = Size::of(pod).unwrap();
    (size.memory_mib, size.disk_mib)
}

#[tokio::test]
async fn a_plan_changes_when_its_server_has_room_before_anything_is_charged() {
    let scene = Scene::with_node(3).await;
    let small = scene.sell_pods("Small", 700, (512, 4096)).await;
    let large = scene.sell_pods("Large", 1400, (1024, 8192)).await;
    let wide = scene.sell_pods("Wide", 1000, (512, 8192)).await;
    let huge = scene.sell_pods("Huge", 5000, (4096, 8192)).await;
    let order = scene.buy_pods(small, 1).await;
    assert_eq!(scene.preview(order, large).await.unwrap_err(), Code::CloudpodState);
    let pod = scene.end_pod(done()).await;
    assert_eq!((pod.status, size(&pod)), (Pod::Active, (512, 4096)));

    assert_eq!(scene.change(order, huge).await, Err(Code::NoCapacity));
    assert_eq!(scene.payments(order).await.len(), 1);
    assert_eq!(scene.place().await, "512 4096", "whoever only asks holds nothing");
    scene.change(order, large).await.unwrap();
    assert_eq!(scene.place().await, "1024 8192");
    assert_eq!(scene.change(order, small).await, Err(Code::InvalidRequest));
    // Changed again while the first change is still carried out.
    scene.change(order, wide).await.unwrap();
    assert_eq!(size(&scene.end_pod(done()).await), (1024, 8192));
    let pod = scene.end_pod(done()).await;
    assert_eq!((size(&pod), pod.wanted), ((512, 8192), None));
    assert_eq!(scene.place().await, "512 8192");
    // And back to what it is while it becomes something else.
    scene.days(1).await;
    scene.change(order, large).await.unwrap();
    scene.change(order, wide).await.unwrap();
    assert_eq!(size(&scene.end_pod(done()).await), (1024, 8192));
    let pod = scene.end_pod(done()).await;
    assert_eq!((size(&pod), pod.wanted), ((512, 8192), None));
    assert!(jobs(&scene.db).await.is_empty());
    scene.close().await;
}

#[tokio::test]
async fn what_becomes_larger_while_it_is_made_grows_into_room_that_is_there() {
    let scene = Scene::with_node(2).await;
    let small = scene.sell_pods("Small", 700, (512, 4096)).await;
    let large = scene.sell_pods("Large", 1400, (1024, 4096)).await;
    let order = scene.buy_pods(small, 1).await;
    let stripe = scene.subscription(order).await.stripe_id;
    let price = billing::sync::price(scene.billing(), large).await.unwrap();
    let item = scene.stripe(&format!("/subscriptions/{stripe}")).await;
    let item = item["items"]["data"][0]["id"].clone();
    let body = json!({"items": [{"id": item, "price": price}]});
    let path = format!("/subscriptions/{stripe}");
    let billing = scene.billing();
    let _changed: serde_json::Value = billing.stripe.post(&path, "by-hand", &body).await.unwrap();
    scene.hear_all().await;
    reconcile::time(billing).await.unwrap();
    // What is being made is made as it was begun.
    assert_eq!(scene.place().await, "512 4096");
    let pod = scene.end_pod(done()).await;
    assert_eq!((pod.status, size(&pod)), (Pod::Active, (512, 4096)));
    assert_eq!(scene.place().await, "1024 4096");
    assert_eq!(size(&scene.end_pod(done()).await), (1024, 4096));
    scene.close().await;
}

#[tokio::test]
async fn room_that_was_held_for_a_change_that_nobody_paid_for_is_given_back() {
    let scene = Scene::with_node(3).await;
    let small = scene.sell_pods("Small", 700, (512, 4096)).await;
    let large = scene.sell_pods("Large", 1400, (1024, 8192)).await;
    let order = scene.buy_pods(small, 1).await;
    scene.end_pod(done()).await;
    let item: OrderItemId = scene.services(order).await[0].order_item_id;
    let tx = scene.db.db.system().await.unwrap();
    sold::hold_change(&tx, item, large).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(scene.place().await, "1024 8192");
    let give_back = async || sold::give_back_grown(&scene.db.db, 10).await.unwrap();
    assert_eq!(give_back().await, 0, "it is being paid for");
    let over = "UPDATE placement SET grown_until = now() - interval '1 second';
        UPDATE cloudpod SET next_at = now() - interval '1 second'";
    scene.db.execute(over).await.unwrap();
    assert_eq!((give_back().await, give_back().await), (1, 0));
    assert_eq!(scene.place().await, "512 4096");
    // What was paid for is not.
    scene.change(order, large).await.unwrap();
    scene.db.execute(over).await.unwrap();
    assert_eq!(give_back().await, 0);
    scene.end_pod(done()).await;
    scene.db.execute(over).await.unwrap();
    assert_eq!((give_back().await, scene.place().await.as_str()), (1, "1024 8192"));
    scene.close().await;
}

#[tokio::test]
async fn one_of_two_that_could_not_be_made_is_deleted_while_the_other_is_paid_for() {
    let scene = Scene::with_node(4).await;
    let small = scene.sell_pods("Small", 700, (512, 4096)).await;
    let order = scene.buy_pods(small, 2).await;
    let works = scene.end_pod(done()).await;
    let mut fails = works.clone();
    for _ in 0..3 {
        let (code, message) = ("node_refused".to_owned(), "The disk is full.".to_owned());
        fails = scene.end_pod(Outcome::Failed { code, message }).await;
        scene.db.execute("UPDATE cloudpod SET next_at = now()").await.unwrap();
        cloudpods::converge_due(&scene.db.db, 10).await.unwrap();
    }
    assert_eq!(fails.status, Pod::Failed);
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::PartiallyActive);
    let delete =
        async |id| cloudpods::request(&scene.db.db, &scene.ctx, (id, Desired::Deleted), None).await;
    assert_eq!(delete(works.id).await.unwrap_err().code(), Code::CloudpodSold);
    assert_eq!(delete(fails.id).await.unwrap().status, Pod::Deleted);
    scene.settle().await;
    assert_eq!(scene.repayments(order).await.len(), 1);
    let states: Vec<State> = scene.services(order).await.iter().map(|row| row.state).collect();
    assert!(states.contains(&State::Failed) && states.contains(&State::Active), "{states:?}");
    assert!(!scene.subscription(order).await.status.is_over());
    assert_eq!(scene.pod(works.id).await.status, Pod::Active);
    scene.close().await;
}

#[tokio::test]
async fn what_waited_for_room_keeps_what_was_done_meanwhile() {
    let scene = Scene::with_node(8).await;
    let small = scene.sell_pods("Small", 700, (512, 4096)).await;
    scene.buy_pods(small, 1).await;
    let pod = scene.end_pod(done()).await;
    // A larger plan has waited while it was installed anew, and staff gave it a larger disk.
    let script = r#"
        UPDATE cloudpod SET wanted = specification || '{"memory_mib": 1024, "disk_mib": 8192}',
            specification = specification || '{"template": "ubuntu-24", "disk_mib": 16384}',
            next_at = now() - interval '1 second';
        UPDATE placement SET disk_mib = 16384"#;
    scene.db.execute(script).await.unwrap();
    assert_eq!(cloudpods::converge_due(&scene.db.db, 10).await.unwrap(), 1);
    let after = scene.end_pod(done()).await;
    assert_eq!((after.id, size(&after), &after.wanted), (pod.id, (1024, 16384), &None));
    assert_eq!(Size::of(&after).unwrap().template.as_str(), "ubuntu-24");
    assert_eq!(scene.place().await, "1024 16384");
    scene.close().await;
}

#[tokio::test]
async fn a_plan_of_other_servers_and_another_addon_are_not_changed_to() {
    let scene = Scene::with_node(8).await;
    let small = scene.sell_pods("Small", 700, (512, 4096)).await;
    let fast = json!({"kind": "cloudpod_plan", "cpu_cores": 1, "memory_mib": 512, "disk_mib": 4096,
        "template": "debian-12", "placement": {"labels": {"disk": "nvme"}}});
    let fast = scene.sell_as("Fast", serde_json::from_value(fast).unwrap()).await;
    let fast = scene.price(fast, 900, (Interval::Month, None, None)).await;
    let order = scene.buy_pods(small, 1).await;
    scene.end_pod(done()).await;
    assert_eq!(scene.change(order, fast).await, Err(Code::InvalidRequest));
    assert_eq!(scene.payments(order).await.len(), 1);
    let labelled = r#"UPDATE server SET labels = '{"disk": "nvme", "room": "1"}'"#;
    scene.db.execute(labelled).await.unwrap();
    scene.change(order, fast).await.unwrap();

    let addon = |by: u32| json!({"kind": "addon", "raises": "memory_mib", "by": by});
    let addon = |by| serde_json::from_value(addon(by)).unwrap();
    let large = scene.sell_as("A lot", addon(65536)).await;
    let large = [2000, 1900].map(|cents| scene.price(large, cents, (Interval::Month, None, None)));
    let large = futures::future::join_all(large).await;
    let little = scene.sell_as("A bit", addon(512)).await;
    let little = scene.price(little, 50, (Interval::Month, None, None)).await;
    let tx = scene.db.db.read(&scene.ctx, Permission::BillingWrite).await.unwrap();
    let row = scene.subscription(order).await;
    let to = async |price: PriceId| {
        let to = subscriptions::price_for_change(&tx, &row, price).await.unwrap();
        subscriptions::refuse_other_kind(&tx, large[0], &to).await.is_ok()
    };
    assert_eq!((to(large[1]).await, to(little).await, to(small).await), (true, false, false));
    drop(tx);
    scene.close().await;
}

#[tokio::test]
async fn a_backup_of_the_clock_that_failed_is_tried_again_soon() {
    let scene = Scene::with_node(8).await;
    let small = scene.sell_pods("Small", 700, (512, 4096)).await;
    scene.buy_pods(small, 1).await;
    scene.end_pod(done()).await;
    let weekly = "UPDATE cloudpod SET backup_every_hours = 168, backups_kept = 2,
        backup_next_at = now(), next_at = now()";
    scene.db.execute(weekly).await.unwrap();
    assert_eq!(backups::back_up_due(&scene.db.db, 10).await.unwrap(), 1);
    let (code, message) = ("node_refused".to_owned(), "The disk is full.".to_owned());
    let pod = scene.end_pod(Outcome::Failed { code, message }).await;
    let again = pod.backup_next_at.unwrap() - chrono::Utc::now();
    assert!((30..=60).contains(&again.num_minutes()), "{again}");
    scene.close().await;
}
