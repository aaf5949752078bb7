//! The way of an order through its life, and the room that is held for it.

use entities::catalogue::prices::{self, NewPrice};
use entities::catalogue::products::{self, NewProduct};
use entities::catalogue::{Billing, Specification};
use entities::error::Code;
use entities::ids::{OrderId, PriceId};
use entities::orders::{self, NewOrder, Status, Wanted, advance, expire_overdue, reservations};
use entities::tenancy::{Permission, TenantCtx};
use entities::tenants::{self, Change, Limits};
use entities::testing::TestDb;
use entities::values::{Currency, Money, Prose, Title};
use futures::future::join_all;

struct Shop {
    db: TestDb,
    /// Who sells.
    platform: TenantCtx,
    /// Who buys.
    ctx: TenantCtx,
    price: PriceId,
}

impl Shop {
    async fn open() -> Self {
        let db = TestDb::create().await.unwrap();
        let platform = db.platform().await.unwrap();
        let ctx = db.tenant(&platform, "buyer").await.unwrap();
        let tx = db.db.write(&platform, Permission::CatalogueWrite).await.unwrap();
        let specification = Specification::HostingPlan {
            disk_mib: 1024,
            domains: 1,
            mailboxes: 1,
            databases: 1,
            traffic_gib: None,
        };
        let name = Title::parse("Plan").unwrap();
        let description = Prose::default();
        let new = NewProduct {
            category: None,
            name,
            description,
            specification,
            code: None,
            position: 0,
        };
        let product = products::create_product(&tx, new).await.unwrap().id;
        let money = Money::new(999, Currency::parse("eur").unwrap());
        let billing = Billing::Month;
        let new = NewPrice { product, money, billing, setup_fee: None, trial_days: None };
        let price = prices::create_price(&tx, new).await.unwrap().id;
        tx.commit().await.unwrap();
        Self { db, platform, ctx, price }
    }

    async fn order(&self, quantity: u32) -> OrderId {
        let items = vec![Wanted { price: self.price, quantity, domains: Vec::new() }];
        let (notes, external_reference) = (Prose::default(), None);
        let new = NewOrder { items, tax: None, notes, external_reference };
        let tx = self.db.db.write(&self.ctx, Permission::OrdersWrite).await.unwrap();
        let made = orders::create_order(&tx, new).await.unwrap();
        tx.commit().await.unwrap();
        made.order.id
    }

    async fn go(&self, id: OrderId, to: Status) -> Result<bool, Code> {
        let tx = self.db.db.system().await.unwrap();
        let moved = advance(&tx, &self.ctx, id, to, "A test wants it.").await;
        let moved = moved.map_err(|error| error.code())?;
        tx.commit().await.unwrap();
        Ok(moved)
    }

    async fn walk(&self, id: OrderId, way: &[Status]) {
        for to in way {
            assert_eq!(self.go(id, *to).await, Ok(true), "to {to:?}");
        }
    }

    async fn status(&self, id: OrderId) -> Status {
        let tx = self.db.db.read(&self.ctx, Permission::OrdersRead).await.unwrap();
        orders::find_order(&tx, id).await.unwrap().order.status
    }

    async fn allow(&self, accounts: u32) {
        let limits = Some(Limits { accounts: Some(accounts), ..Limits::default() });
        let change = Change { limits, ..Change::default() };
        let tenant = self.ctx.tenant();
        tenants::update_tenant(&self.db.db, &self.platform, tenant, change).await.unwrap();
    }

    /// How many lines hold room, as the rows say it.
    async fn held(&self) -> usize {
        let rows = self.db.dump("reservation").await.unwrap();
        let open = r#""released_at":null,"consumed_at":null"#;
        rows.lines().filter(|row| row.contains(open)).count()
    }
}

/// A way to each status.
fn way_to(status: Status) -> &'static [Status] {
    use Status::{Active, Cancelled, Expired, Failed, Paid, PartiallyActive, PendingPayment};
    match status {
        Status::Draft => &[],
        PendingPayment => &[PendingPayment],
        Paid => &[PendingPayment, Paid],
        Status::Provisioning => &[Paid, Status::Provisioning],
        Active => &[Paid, Status::Provisioning, Active],
        PartiallyActive => &[Paid, Status::Provisioning, PartiallyActive],
        Failed => &[Paid, Status::Provisioning, Failed],
        Cancelled => &[Cancelled],
        Status::Refunded => &[Paid, Status::Refunded],
        Expired => &[PendingPayment, Expired],
    }
}

/// Which steps there are, as people agreed.
const STEPS: [(&str, &str); 10] = [
    ("draft", "pending_payment paid cancelled"),
    ("pending_payment", "paid cancelled expired"),
    ("paid", "provisioning refunded"),
    ("provisioning", "active partially_active failed"),
    ("active", "cancelled refunded"),
    ("partially_active", "provisioning active cancelled refunded"),
    ("failed", "provisioning cancelled refunded"),
    ("cancelled", "refunded"),
    ("refunded", "active"),
    ("expired", "pending_payment paid cancelled"),
];

#[tokio::test]
async fn an_order_takes_the_steps_of_the_table_and_no_others() {
    let shop = Shop::open().await;
    for (from, (name, steps)) in Status::ALL.into_iter().zip(STEPS) {
        assert_eq!(from.as_str(), name);
        for to in Status::ALL {
            let id = shop.order(1).await;
            shop.walk(id, way_to(from)).await;
            let expected = match to {
                _ if to == from => Ok(false),
                _ if steps.split(' ').any(|step| step == to.as_str()) => Ok(true),
                _ => Err(Code::OrderState),
            };
            assert_eq!(shop.go(id, to).await, expected, "{from:?} to {to:?}");
            let stands = if expected == Ok(true) { to } else { from };
            assert_eq!(shop.status(id).await, stands);
            let tx = shop.db.db.read(&shop.ctx, Permission::OrdersRead).await.unwrap();
            let steps = orders::find_order(&tx, id).await.unwrap().transitions;
            let moved = usize::from(expected == Ok(true));
            assert_eq!(steps.len(), 1 + way_to(from).len() + moved);
            // Each begins where the one before it ended.
            assert!(steps.windows(2).all(|pair| pair[1].before == Some(pair[0].after)));
        }
    }
    // What was written down stays.
    for change in ["UPDATE order_transition SET cause = ''", "DELETE FROM order_transition"] {
        assert!(shop.db.execute(change).await.is_err(), "{change}");
    }
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn of_fifty_who_want_to_pay_at_once_as_many_may_as_there_is_room_for() {
    let shop = Shop::open().await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(shop.order(1).await);
    }
    shop.allow(7).await;
    let went = join_all(ids.iter().map(|id| shop.go(*id, Status::PendingPayment))).await;
    assert_eq!(went.iter().filter(|got| **got == Ok(true)).count(), 7);
    let refused = went.iter().filter(|got| **got == Err(Code::QuotaExceeded));
    assert_eq!(refused.count(), 43);
    assert_eq!(shop.held().await, 7);
    // What is held is not asked about again, and a place that is given back is the next one's.
    let nth = |wanted| went.iter().position(|got| *got == wanted).unwrap();
    let (has, has_not) = (ids[nth(Ok(true))], ids[nth(Err(Code::QuotaExceeded))]);
    shop.allow(0).await;
    shop.walk(has, &[Status::Paid]).await;
    assert_eq!(shop.go(has_not, Status::Paid).await, Err(Code::QuotaExceeded));
    shop.allow(7).await;
    assert_eq!(shop.go(has_not, Status::Paid).await, Err(Code::QuotaExceeded));
    shop.walk(has, &[Status::Refunded]).await;
    assert_eq!(shop.held().await, 6);
    shop.walk(has_not, &[Status::Paid]).await;
    assert_eq!(shop.held().await, 7);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn of_fifty_who_bring_the_same_news_at_once_one_acts_on_it() {
    let shop = Shop::open().await;
    let id = shop.order(2).await;
    let unsent = shop.db.unsent().await.unwrap();
    let went = join_all((0..50).map(|_| shop.go(id, Status::Paid))).await;
    assert_eq!(went.iter().filter(|got| **got == Ok(true)).count(), 1);
    assert_eq!(went.iter().filter(|got| **got == Ok(false)).count(), 49);
    assert_eq!(shop.db.unsent().await.unwrap(), unsent + 1);
    let kinds = shop.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "ORDER_PAID").count(), 1);
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_is_not_paid_in_time_expires_and_can_be_paid_later() {
    let shop = Shop::open().await;
    let (late, paid, fresh) = (shop.order(2).await, shop.order(1).await, shop.order(1).await);
    shop.walk(late, &[Status::PendingPayment]).await;
    shop.walk(paid, &[Status::PendingPayment, Status::Paid]).await;
    shop.db
        .execute(
            "UPDATE reservation SET expires_at = now() - interval '1 second'
        WHERE expires_at IS NOT NULL",
        )
        .await
        .unwrap();
    shop.walk(fresh, &[Status::PendingPayment]).await;
    let sweep = async || expire_overdue(&shop.db.db, 10).await.unwrap();
    // Two processes at once do it once.
    let (one, other) = tokio::join!(sweep(), sweep());
    assert_eq!((one + other, sweep().await), (1, 0));
    assert_eq!(shop.status(late).await, Status::Expired);
    assert_eq!(shop.status(paid).await, Status::Paid);
    assert_eq!(shop.status(fresh).await, Status::PendingPayment);
    assert_eq!(shop.held().await, 2);
    // The two places of the late one are free; who takes them leaves none for it.
    shop.allow(4).await;
    shop.walk(late, &[Status::PendingPayment, Status::Cancelled]).await;
    let other = shop.order(2).await;
    shop.walk(other, &[Status::PendingPayment]).await;
    assert_eq!(
        shop.go(shop.order(1).await, Status::PendingPayment).await,
        Err(Code::QuotaExceeded)
    );
    shop.db.remove().await.unwrap();
}

#[tokio::test]
async fn room_that_was_used_is_not_held_again() {
    let shop = Shop::open().await;
    let id = shop.order(1).await;
    shop.walk(id, &[Status::Paid, Status::Provisioning]).await;
    let tx = shop.db.db.read(&shop.ctx, Permission::OrdersRead).await.unwrap();
    let item = orders::find_order(&tx, id).await.unwrap().items[0].id;
    drop(tx);
    for first in [true, false] {
        let tx = shop.db.db.system().await.unwrap();
        assert_eq!(reservations::consume(&tx, item).await.unwrap(), first);
        tx.commit().await.unwrap();
    }
    assert_eq!(shop.held().await, 0);
    // The account counts itself from then on: trying again asks for no second place.
    shop.allow(0).await;
    shop.walk(id, &[Status::PartiallyActive, Status::Provisioning, Status::Active]).await;
    assert_eq!(shop.held().await, 0);
    shop.db.remove().await.unwrap();
}
