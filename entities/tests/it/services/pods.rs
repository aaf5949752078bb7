//! Containers that were ordered: their names, places and backups.

use super::{Shop, offer};
use entities::catalogue::{Limit, Specification};
use entities::cloudpods::{self, backups, draining};
use entities::error::Code;
use entities::ids::{OrderId, PriceId, ServerId};
use entities::orders::{self, Status, Wanted, advance};
use entities::services::{self, State};
use entities::tenancy::TenantCtx;
use entities::tenants::{self, Change, Limits};
use entities::testing;
use entities::values::DomainName;
use futures::future::join_all;
use serde_json::Value;

pub fn pod() -> Specification {
    Specification::CloudpodPlan {
        cpu_cores: 1,
        memory_mib: 512,
        disk_mib: 4096,
        traffic_gib: None,
        template: "debian-12".to_owned(),
        placement: None,
    }
}

impl Shop {
    /// With a node for containers; the price of one.
    async fn with_pods() -> (Self, PriceId) {
        let shop = Self::open().await;
        let node = shop.db.node(&shop.platform, 1, 10).await.unwrap();
        shop.grant(node, &shop.platform).await;
        let price = offer(&shop.db, &shop.platform, pod()).await;
        (shop, price)
    }

    async fn advance(&self, id: OrderId, to: Status) -> Result<bool, Code> {
        let tx = self.db.db.system().await.unwrap();
        let moved = advance(&tx, &self.ctx, id, to, "A test does.").await;
        let moved = moved.map_err(|error| error.code())?;
        tx.commit().await.unwrap();
        Ok(moved)
    }

    /// A container of the buyer's that is there without an order.
    async fn has_pod(&self, name: &str) {
        let tenant = self.ctx.tenant();
        let sql = format!(
            "INSERT INTO cloudpod (id, tenant_id, hostname, specification, ssh_keys, desired, status)
                VALUES (gen_random_uuid(), '{tenant}', '{name}', '{{}}', '[]', 'active', 'active')"
        );
        self.db.execute(&sql).await.unwrap();
    }
}

fn named(price: PriceId, name: &str) -> Vec<Wanted> {
    vec![Wanted { price, quantity: 1, domains: vec![DomainName::parse(name).unwrap()] }]
}

#[tokio::test]
async fn the_name_of_a_container_is_ordered_once() {
    let (shop, price) = Shop::with_pods().await;
    shop.has_pod("there.example").await;
    let first = shop.order(named(price, "web.example")).await.unwrap();
    let second = shop.order(named(price, "web.example")).await.unwrap();
    let there = shop.order(named(price, "there.example")).await.unwrap();
    let never = shop.order(named(price, "a_b.c.example")).await.unwrap();
    // Of two who are about to pay for one name, one may.
    let both = join_all([first, second].map(|id| shop.advance(id, Status::PendingPayment))).await;
    assert_eq!(both.iter().filter(|moved| **moved == Ok(true)).count(), 1);
    assert_eq!(both.iter().filter(|moved| **moved == Err(Code::Conflict)).count(), 1);
    let paying = if both[0].is_ok() { first } else { second };
    for refused in [there, never] {
        for status in [Status::PendingPayment, Status::Paid] {
            assert_eq!(shop.advance(refused, status).await, Err(Code::Conflict));
        }
    }
    let check = async |name: &str, tenant: &TenantCtx| {
        let ours = DomainName::parse("hosted.test").unwrap();
        let tx = shop.db.db.system().await.unwrap();
        orders::lines::check_free(&tx, tenant.tenant(), &named(price, name), &ours).await.is_ok()
    };
    for (name, is_free) in [
        ("other.example", true),
        ("web.example", false),
        ("there.example", false),
        ("a_b.c.example", false),
    ] {
        assert_eq!(check(name, &shop.ctx).await, is_free, "{name}");
    }
    assert!(check("web.example", &shop.platform).await, "another tenant's are no matter");
    // It stays taken while it is paid and made, and is free when the order comes to nothing.
    shop.advance(paying, Status::Paid).await.unwrap();
    assert!(!check("web.example", &shop.ctx).await);
    shop.db.execute("UPDATE orders SET status = 'expired' WHERE status = 'paid'").await.unwrap();
    assert!(check("web.example", &shop.ctx).await);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn an_old_backup_on_a_node_that_is_silent_keeps_nobody_from_a_new_one() {
    let (shop, _) = Shop::with_pods().await;
    let silent = shop.db.node(&shop.platform, 2, 10).await.unwrap();
    shop.has_pod("saved.example").await;
    let script = format!(
        "UPDATE server SET last_error = 'It is away.' WHERE id = '{silent}';
         UPDATE cloudpod SET vmid = 10000, backup_every_hours = 24, backups_kept = 1,
            backup_next_at = now(), server_id = (SELECT id FROM server WHERE id <> '{silent}' LIMIT 1);
         INSERT INTO cloudpod_backup (id, tenant_id, cloudpod_id, state, scheduled, server_id, volume,
                bytes, created_at)
            SELECT gen_random_uuid(), p.tenant_id, p.id, 'ready', true, s.id, 'local:backup/' || days, 1,
                now() - days * interval '1 day'
            FROM cloudpod p, (VALUES (3, true), (2, false), (1, false)) AS old (days, is_silent)
            JOIN server s ON (s.id = '{silent}') = is_silent"
    );
    shop.db.execute(&script).await.unwrap();
    let work = async || {
        let begun = backups::back_up_due(&shop.db.db, 10).await.unwrap();
        let tx = shop.db.db.system().await.unwrap();
        let jobs = testing::queued_jobs(&tx).await.unwrap();
        drop(tx);
        let phase = match jobs.first() {
            Some(job) => shop.db.job(*job).await.unwrap().phase,
            None => String::new(),
        };
        let parameters = shop.db.dump("cloudpod").await.unwrap();
        shop.db.execute("UPDATE job SET state = 'done'").await.unwrap();
        (begun, phase, parameters)
    };
    assert_eq!(work().await.1, "backup", "the new one first");
    // Then the older of those that can be removed.
    let (_, phase, parameters) = work().await;
    assert_eq!(phase, "delete_backup");
    let rows = shop.db.dump("cloudpod_backup").await.unwrap();
    let doomed = rows.lines().find(|row| row.contains(r#""volume":"local:backup/2""#)).unwrap();
    let id = doomed.split('"').nth(3).unwrap();
    assert!(parameters.contains(id), "{parameters}");
    shop.db.execute("DELETE FROM cloudpod_backup WHERE volume = 'local:backup/2'").await.unwrap();
    assert_eq!(work().await.0, 0, "of the silent one nothing is begun");
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn nobody_holds_more_than_some_that_are_not_paid_for() {
    let (shop, price) = Shop::with_pods().await;
    let many = |quantity| vec![Wanted { price, quantity, domains: Vec::new() }];
    let order = shop.order(many(33)).await.unwrap();
    assert_eq!(shop.advance(order, Status::PendingPayment).await, Err(Code::QuotaExceeded));
    let first = shop.order(many(5)).await.unwrap();
    let second = shop.order(many(28)).await.unwrap();
    assert_eq!(shop.advance(first, Status::PendingPayment).await, Ok(true));
    assert_eq!(shop.advance(second, Status::PendingPayment).await, Err(Code::QuotaExceeded));
    // What is paid for does not count, nor do those whose provider has said how many they may have.
    shop.advance(first, Status::Paid).await.unwrap();
    assert_eq!(shop.advance(second, Status::PendingPayment).await, Err(Code::NoCapacity));
    let limits = Some(Limits { cloudpods: Some(100), ..Limits::default() });
    let change = Change { limits, ..Change::default() };
    tenants::update_tenant(&shop.db.db, &shop.platform, shop.ctx.tenant(), change).await.unwrap();
    assert_eq!(shop.advance(order, Status::PendingPayment).await, Err(Code::NoCapacity));
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_container_whose_name_was_taken_meanwhile_fails_and_gives_its_place_back() {
    let (shop, price) = Shop::with_pods().await;
    let order = shop.paid(named(price, "web.example")).await;
    shop.has_pod("web.example").await;
    assert_eq!(services::make_due(&shop.db.db, 10).await.unwrap(), 1);
    assert_eq!(shop.status(order).await, Status::Failed);
    let tx = shop.db.db.system().await.unwrap();
    let service = services::of_order(&tx, order).await.unwrap().remove(0);
    drop(tx);
    assert_eq!(service.state, State::Failed);
    assert!(service.error.unwrap().contains("web.example"));
    assert!(!shop.db.dump("placement").await.unwrap().contains(r#""released_at":null"#));
    shop.db.remove().await.unwrap();
}

/// The phases of the jobs that wait, by server.
async fn waiting(shop: &Shop) -> Vec<(ServerId, String)> {
    let tx = shop.db.db.system().await.unwrap();
    let mut all = Vec::new();
    for job in testing::queued_jobs(&tx).await.unwrap() {
        let job = shop.db.job(job).await.unwrap();
        all.push((job.server_id, job.phase));
    }
    all.sort();
    all
}

#[tokio::test]
async fn a_node_makes_one_backup_of_the_clock_after_the_other() {
    let (shop, _) = Shop::with_pods().await;
    for name in ["one", "two", "three", "elsewhere"] {
        shop.has_pod(name).await;
    }
    let other = shop.db.node(&shop.platform, 2, 10).await.unwrap();
    let script = format!(
        "UPDATE cloudpod SET vmid = 10000, backup_every_hours = 24, backups_kept = 3,
            backup_next_at = now() - interval '1 minute',
            server_id = (SELECT id FROM server WHERE (id = '{other}') = (cloudpod.hostname = 'elsewhere'))"
    );
    shop.db.execute(&script).await.unwrap();
    let work = async || backups::back_up_due(&shop.db.db, 10).await.unwrap();
    shop.db.execute("UPDATE server SET maintenance = true").await.unwrap();
    assert_eq!(work().await, 0);
    shop.db.execute("UPDATE server SET maintenance = false").await.unwrap();
    assert_eq!((work().await, work().await), (2, 0));
    let begun = waiting(&shop).await;
    assert!(begun[0].0 != begun[1].0 && begun.iter().all(|(_, phase)| phase == "backup"));
    let ended = "UPDATE job SET state = 'done'; UPDATE cloudpod_backup SET state = 'ready'";
    shop.db.execute(ended).await.unwrap();
    // What somebody asks for besides keeps nobody from having theirs.
    let by_hand =
        "INSERT INTO cloudpod_backup (id, tenant_id, cloudpod_id, state, scheduled, server_id)
        SELECT gen_random_uuid(), tenant_id, id, 'making', false, server_id FROM cloudpod";
    shop.db.execute(by_hand).await.unwrap();
    assert_eq!((work().await, work().await), (1, 0));
    assert_ne!(waiting(&shop).await[0].0, other);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn those_of_the_clock_make_room_for_the_next() {
    let (shop, _) = Shop::with_pods().await;
    shop.has_pod("full").await;
    shop.db
        .execute(
            "UPDATE cloudpod SET vmid = 10000, backup_every_hours = 1, backups_kept = 100,
                backup_next_at = now(), server_id = (SELECT id FROM server);
             INSERT INTO cloudpod_backup (id, tenant_id, cloudpod_id, state, scheduled, volume)
                SELECT gen_random_uuid(), tenant_id, id, 'ready', nth > 10, 'local:backup/' || nth
                FROM cloudpod, generate_series(1, 100) AS nth",
        )
        .await
        .unwrap();
    assert_eq!(backups::back_up_due(&shop.db.db, 10).await.unwrap(), 1);
    assert_eq!(waiting(&shop).await[0].1, "delete_backup");
    shop.db
        .execute(
            "DELETE FROM cloudpod_backup WHERE state = 'deleting' AND scheduled;
             UPDATE job SET state = 'done'",
        )
        .await
        .unwrap();
    assert_eq!(backups::back_up_due(&shop.db.db, 10).await.unwrap(), 1);
    assert_eq!(waiting(&shop).await[0].1, "backup");
    // The only one of the clock is not given up for one that may never be.
    shop.db
        .execute(
            "UPDATE job SET state = 'done'; UPDATE cloudpod SET backup_next_at = now();
             UPDATE cloudpod_backup SET state = 'ready';
             UPDATE cloudpod_backup SET scheduled = volume IS NOT DISTINCT FROM 'local:backup/99'",
        )
        .await
        .unwrap();
    assert_eq!(backups::back_up_due(&shop.db.db, 10).await.unwrap(), 1);
    assert_eq!(waiting(&shop).await, []);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_is_raised_of_a_container_is_had_once_for_what_is_paid_once() {
    let (shop, pods) = Shop::with_pods().await;
    let raises = Limit::MemoryMib;
    let more = offer(&shop.db, &shop.platform, Specification::Addon { raises, by: 512 }).await;
    let line = |price, quantity| Wanted { price, quantity, domains: Vec::new() };
    let two = shop.order(vec![line(pods, 2), line(more, 1)]).await;
    assert_eq!(two, Err(Code::InvalidRequest));
    let other = offer(&shop.db, &shop.platform, pod()).await;
    let two = shop.order(vec![line(pods, 1), line(other, 1), line(more, 2)]).await;
    assert_eq!(two, Err(Code::InvalidRequest));
    let order = shop.paid(vec![line(pods, 1), line(more, 2)]).await;
    let made = shop.make(order).await.unwrap();
    assert_eq!(made[0].specification["memory_mib"], 1536);
    shop.db.remove().await.unwrap();
}

/// The server and the memory of each place that is taken, in the order in which they were.
async fn places(shop: &Shop) -> Vec<(String, i64)> {
    let rows = shop.db.dump("placement").await.unwrap();
    let mut rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    rows.retain(|row| row["released_at"].is_null());
    rows.sort_by_key(|row| row["created_at"].as_str().unwrap().to_owned());
    let place = |row: &Value| {
        (row["server_id"].as_str().unwrap().to_owned(), row["memory_mib"].as_i64().unwrap())
    };
    rows.iter().map(place).collect()
}

#[tokio::test]
async fn what_was_held_where_nothing_may_begin_by_now_is_had_elsewhere_or_later() {
    let (shop, price) = Shop::with_pods().await;
    let one = vec![Wanted { price, quantity: 1, domains: Vec::new() }];
    let order = shop.order(one).await.unwrap();
    shop.advance(order, Status::PendingPayment).await.unwrap();
    let held = places(&shop).await;
    shop.db.execute("UPDATE server SET maintenance = true").await.unwrap();
    shop.advance(order, Status::Paid).await.unwrap();
    shop.make(order).await.unwrap();
    // There is no other: what was paid for is not lost, and nothing begins.
    assert_eq!((places(&shop).await, waiting(&shop).await), (held.clone(), vec![]));
    let days = "UPDATE cloudpod SET next_at = now(), waiting_since = now() - interval '3 days'";
    shop.db.execute(days).await.unwrap();
    assert_eq!(cloudpods::converge_due(&shop.db.db, 10).await.unwrap(), 1);
    assert_eq!((places(&shop).await, waiting(&shop).await), (held.clone(), vec![]));
    let other = shop.db.node(&shop.platform, 2, 10).await.unwrap();
    shop.grant(other, &shop.platform).await;
    shop.db.execute("UPDATE cloudpod SET next_at = now()").await.unwrap();
    assert_eq!(cloudpods::converge_due(&shop.db.db, 10).await.unwrap(), 1);
    assert_eq!(waiting(&shop).await, [(other, "provision".to_owned())]);
    assert_eq!(places(&shop).await, [(other.to_string(), 512)]);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn those_of_an_order_stay_apart_when_they_move_and_take_along_what_they_grow_to() {
    let (shop, price) = Shop::with_pods().await;
    for number in [2, 3] {
        let node = shop.db.node(&shop.platform, number, 10).await.unwrap();
        shop.grant(node, &shop.platform).await;
    }
    let cluster = "UPDATE node SET cluster = 'one', name = server_id::text;
        UPDATE ip_pool SET cluster = 'one'";
    shop.db.execute(cluster).await.unwrap();
    let order = shop.paid(vec![Wanted { price, quantity: 2, domains: Vec::new() }]).await;
    shop.make(order).await.unwrap();
    let before = places(&shop).await;
    let free = format!("id NOT IN ('{}', '{}')", before[0].0, before[1].0);
    // The third is fuller than where the other of the order is.
    let script = format!(
        "UPDATE job SET state = 'done';
         UPDATE cloudpod SET status = 'active', action = NULL;
         UPDATE placement SET memory_mib = 1024 WHERE server_id = '{0}';
         UPDATE server SET draining = id = '{0}';
         UPDATE server SET cpu_cores = 4 WHERE {free}",
        before[0].0
    );
    shop.db.execute(&script).await.unwrap();
    assert_eq!(draining::move_due(&shop.db.db, 10).await.unwrap(), 1);
    let now = places(&shop).await;
    assert!(!before.contains(&now[2]) && now[2].0 != before[1].0, "{now:?}");
    assert_eq!(now[2].1, 1024);
    shop.db.remove().await.unwrap();
}
