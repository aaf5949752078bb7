//! The names of containers that were ordered.

use super::{Shop, offer};
use entities::catalogue::Specification;
use entities::cloudpods::backups;
use entities::error::Code;
use entities::ids::{OrderId, PriceId};
use entities::orders::{self, Status, Wanted, advance};
use entities::services::{self, State};
use entities::tenancy::TenantCtx;
use entities::tenants::{self, Change, Limits};
use entities::testing;
use entities::values::DomainName;
use futures::future::join_all;

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
