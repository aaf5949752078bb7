//! Services: what was sold, a row a unit, from the order that was paid to its end.
//!
//! A row says what a service shall be (`desired`) and what it is (`state`); jobs of workers make the
//! two equal, and [`converge_due`] lets no difference stay that a failed job has left. [`placement`]
//! chooses servers and names, [`converge`] makes jobs, [`record`] is what they write down, [`settle`] ends
//! them.

pub mod converge;
pub mod placement;
pub mod record;
pub mod settle;

pub use converge::{converge_due, retry};
pub use record::{Made, load_claimed, record_account, record_operations, username};
pub(crate) use record::{count_unmade, lose_account, refuse_closed};
pub use settle::{Outcome, settle};

use crate::Result;
use crate::audit::Audit;
use crate::catalogue::{self, Kind, Specification};
use crate::cloudpods::sold;
use crate::db::{Db, SystemTx, TenantTx};
use crate::due::{self, Due};
use crate::error::{Code, Error};
use crate::ids::{OrderId, PriceId, ServiceId};
use crate::orders::{self, Status, reservations};
use crate::outbox::Message;
use crate::tables::order_item;
use crate::tables::service::{self, Column};
use crate::tenancy::{Permission, TenantCtx};
use chrono::Utc;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, DeriveActiveEnum, EntityTrait, EnumIter, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde::{Deserialize, Serialize};
use values::{DomainName, Title};

/// What a service shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    #[sea_orm(string_value = "active")]
    Active,
    /// It answers that it is suspended; nothing is deleted.
    #[sea_orm(string_value = "suspended")]
    Suspended,
    /// Gone, but for a last backup. Final.
    #[sea_orm(string_value = "terminated")]
    Terminated,
}

/// What a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits to be made.
    #[sea_orm(string_value = "pending")]
    Pending,
    /// It is being made, or what a failed attempt has left is being taken back.
    #[sea_orm(string_value = "provisioning")]
    Provisioning,
    #[sea_orm(string_value = "active")]
    Active,
    #[sea_orm(string_value = "suspended")]
    Suspended,
    #[sea_orm(string_value = "terminated")]
    Terminated,
    /// It could not be made, and is not tried again by itself.
    #[sea_orm(string_value = "failed")]
    Failed,
}

impl Desired {
    /// The name as it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Terminated => "terminated",
        }
    }
}

impl State {
    /// The name as it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Terminated => "terminated",
            Self::Failed => "failed",
        }
    }
}

/// Brings a paid order to `provisioning`, makes its services and queues their jobs. An order whose
/// services are there is left as it is: it may be repeated. Add-ons make no services; they raise the
/// numbers of the order's plans. Answers the order's services.
pub async fn make_for_order(tx: &SystemTx, id: OrderId) -> Result<Vec<service::Model>> {
    let order = orders::status::lock(tx, id).await?;
    let ctx = TenantCtx::system(order.tenant_id);
    if of_order(tx, id).await?.is_empty() {
        orders::advance(tx, &ctx, id, Status::Provisioning, "It was paid.").await?;
        let items = order_item::Entity::find()
            .filter(order_item::Column::OrderId.eq(id))
            .order_by_asc(order_item::Column::Position)
            .all(tx.conn())
            .await?;
        insert(tx, &items).await?;
        for item in &items {
            // The row of the service counts from here on.
            reservations::consume(tx, item.id).await?;
        }
        for row in of_order(tx, id).await? {
            converge::go_on(tx, row).await?;
        }
        settle::settle_order(tx, id).await?;
    }
    of_order(tx, id).await
}

/// Orders that were paid and whose services nobody has made yet.
const UNMADE: &str = "SELECT id FROM orders WHERE status = 'paid' AND next_at <= now()
    ORDER BY next_at, status_at LIMIT $1";

/// Makes the services of orders that were paid, up to `limit`; of how many. An order that breaks it is
/// tried again after a while, and holds up no other.
pub async fn make_due(db: &Db, limit: u64) -> Result<u64> {
    due::each(db, Due { table: "orders", sql: UNMADE }, limit, async |tx, id| {
        let order = orders::status::lock(tx, OrderId(id)).await?;
        if order.status != Status::Paid {
            return Ok(false);
        }
        make_for_order(tx, order.id).await?;
        Ok(true)
    })
    .await
}

/// The services of an order, in the order of its lines.
pub async fn of_order(tx: &SystemTx, id: OrderId) -> Result<Vec<service::Model>> {
    let rows = service::Entity::find().filter(Column::OrderId.eq(id)).order_by_asc(Column::Id);
    Ok(rows.all(tx.conn()).await?)
}

async fn insert(tx: &SystemTx, items: &[order_item::Model]) -> Result<()> {
    let mut rows = Vec::new();
    for item in items.iter().filter(|item| item.kind != Kind::Addon) {
        let specification = serde_json::to_value(raised(item, items)?)?;
        let domains: Vec<DomainName> =
            item.domains.clone().map(serde_json::from_value).transpose()?.unwrap_or_default();
        let mut domains = domains.into_iter();
        for unit in 1..=item.quantity {
            rows.push(service::ActiveModel {
                id: Set(ServiceId::new()),
                tenant_id: Set(item.tenant_id),
                order_id: Set(item.order_id),
                order_item_id: Set(item.id),
                unit: Set(unit),
                kind: Set(item.kind),
                specification: Set(specification.clone()),
                domain: Set(domains.next().map(String::from)),
                username: NotSet,
                server_id: NotSet,
                account_id: NotSet,
                desired: Set(Desired::Active),
                state: Set(State::Pending),
                reason: NotSet,
                held: NotSet,
                job_id: NotSet,
                operations: NotSet,
                attempts: Set(0),
                next_at: Set(Utc::now()),
                waiting_since: Set(Utc::now()),
                error: NotSet,
                backup_path: NotSet,
                made_at: NotSet,
                created_at: Set(Utc::now()),
                updated_at: Set(Utc::now()),
            });
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let once = OnConflict::columns([Column::OrderItemId, Column::Unit]).do_nothing().to_owned();
    let insert = service::Entity::insert_many(rows).on_conflict(once);
    insert.exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// A plan's numbers with those of the order's add-ons.
pub(crate) fn raised(
    plan: &order_item::Model,
    items: &[order_item::Model],
) -> Result<Specification> {
    let mut specification: Specification = serde_json::from_value(plan.specification.clone())?;
    for item in items.iter().filter(|item| item.kind == Kind::Addon) {
        if let Specification::Addon { raises, by } =
            serde_json::from_value(item.specification.clone())?
        {
            specification.raise(raises, by.saturating_mul(item.quantity.unsigned_abs()));
        }
    }
    Ok(specification)
}

/// What a service is sold at this price, with the add-ons of its order.
pub(crate) async fn sold_at(
    tx: &SystemTx,
    row: &service::Model,
    price: PriceId,
) -> Result<Option<Specification>> {
    let items = order_item::Entity::find()
        .filter(order_item::Column::OrderId.eq(row.order_id))
        .all(tx.conn())
        .await?;
    let plan = items.iter().find(|item| item.id == row.order_item_id);
    let Some(mut plan) = plan.cloned() else { return Ok(None) };
    if plan.price_id != price {
        let price = catalogue::sync::price(tx, price).await?;
        plan.specification = catalogue::sync::product(tx, price.product_id).await?.specification;
    }
    raised(&plan, &items).map(Some)
}

/// Gives a service what is sold at this price; whether that is new. A pod is resized; on hosting servers
/// nothing follows from the numbers.
pub(crate) async fn follow_price(
    tx: &SystemTx,
    row: &service::Model,
    price: PriceId,
) -> Result<bool> {
    let Some(after) = sold_at(tx, row, price).await? else { return Ok(false) };
    let after = serde_json::to_value(after)?;
    if after == row.specification {
        return Ok(false);
    }
    let before = row.specification.clone();
    let mut active: service::ActiveModel = row.clone().into();
    active.specification = Set(after.clone());
    active.updated_at = Set(Utc::now());
    let resized = active.update(tx.conn()).await?;
    if resized.kind == Kind::CloudpodPlan {
        Box::pin(sold::follow_size(tx, &resized)).await?;
    }
    let entry = Audit::ServiceResized { service: row.id, before, after };
    tx.audit(&TenantCtx::system(row.tenant_id), entry).await?;
    Ok(true)
}

/// Lets a service become active, suspended or terminated, in the system's name; `reason` tells the
/// customer why. A job is queued when it is something else. Whether anything is new: what was to be
/// terminated stays so.
pub async fn want(
    tx: &SystemTx,
    id: ServiceId,
    desired: Desired,
    reason: Option<&str>,
) -> Result<bool> {
    want_as(tx, None, id, (desired, reason)).await
}

/// The same for the platform's people, in their name. What failed or is gone is refused with
/// `service_state`.
pub async fn request(
    db: &Db,
    ctx: &TenantCtx,
    (id, desired): (ServiceId, Desired),
    reason: &Title,
) -> Result<service::Model> {
    ctx.require_write(Permission::ServicesWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = lock(&tx, id).await?;
    let is_over = matches!(row.state, State::Failed | State::Terminated);
    if is_over || row.desired == Desired::Terminated {
        return Err(refusal(&row, "only one that runs, or is about to, is suspended or opened"));
    }
    let reason = (desired != Desired::Active).then_some(reason.as_str());
    want_as(&tx, Some(ctx), id, (desired, reason)).await?;
    let row = load_service(&tx, id).await?;
    tx.commit().await?;
    Ok(row)
}

/// Why a service cannot become something.
fn refusal(row: &service::Model, rule: &str) -> Error {
    let (state, desired) = (row.state.as_str(), row.desired.as_str());
    let text = format!("This service is {state} and shall be {desired}: {rule}.");
    Error::refused(Code::ServiceState, text)
}

pub(crate) async fn want_as(
    tx: &SystemTx,
    ctx: Option<&TenantCtx>,
    id: ServiceId,
    (desired, reason): (Desired, Option<&str>),
) -> Result<bool> {
    let mut row = lock(tx, id).await?;
    let there = ctx.map_or_else(|| TenantCtx::system(row.tenant_id), |c| c.within(row.tenant_id));
    let mut is_told = true;
    if ctx.is_some() {
        let held = reason.filter(|_| desired == Desired::Suspended).map(str::to_owned);
        is_told = row.held == held;
        let mut active: service::ActiveModel = row.into();
        active.held = Set(held);
        row = active.update(tx.conn()).await?;
    }
    // What the platform's people have suspended does not run because it is paid for.
    let is_held = row.held.is_some() && desired == Desired::Active;
    if row.desired == desired || row.desired == Desired::Terminated || is_held {
        if !is_told && row.desired == Desired::Suspended {
            tell_hold(tx, &there, row).await?;
        }
        return Ok(false);
    }
    let mut active: service::ActiveModel = row.into();
    active.desired = Set(desired);
    active.reason = Set(reason.map(str::to_owned));
    active.attempts = Set(0);
    active.next_at = Set(Utc::now());
    active.updated_at = Set(Utc::now());
    let row = active.update(tx.conn()).await?;
    let reason = reason.map(str::to_owned);
    tx.audit(&there, Audit::ServiceRequested { service: id, desired, reason }).await?;
    if row.kind == Kind::CloudpodPlan {
        Box::pin(sold::follow(tx, &there, &row)).await?;
    }
    let row = load_service(tx, id).await?;
    if !converge::is_at_work(tx, &row).await? {
        let order = row.order_id;
        converge::go_on(tx, row).await?;
        settle::settle_order(tx, order).await?;
    }
    Ok(true)
}

/// What is suspended already is held by the platform's people from now on: that is why.
async fn tell_hold(tx: &SystemTx, ctx: &TenantCtx, row: service::Model) -> Result<()> {
    let (service, reason) = (row.id, row.held.clone());
    let desired = row.desired;
    let mut active: service::ActiveModel = row.into();
    active.reason = Set(reason.clone());
    active.updated_at = Set(Utc::now());
    let row = active.update(tx.conn()).await?;
    sold::tell_reason(tx, &row).await?;
    tx.audit(ctx, Audit::ServiceRequested { service, desired, reason }).await
}

/// The service, locked until the transaction ends, after its order: always in this order.
pub(crate) async fn lock(tx: &SystemTx, id: ServiceId) -> Result<service::Model> {
    let row = service::Entity::find_by_id(id).one(tx.conn()).await?;
    let order = row.ok_or(Error::NotFound("service"))?.order_id;
    orders::status::lock(tx, order).await?;
    let row = service::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("service"))
}

/// Writes a service's new state down and tells of it.
async fn become_state(
    tx: &SystemTx,
    mut row: service::ActiveModel,
    state: State,
    entry: Option<Audit>,
) -> Result<service::Model> {
    row.state = Set(state);
    row.updated_at = Set(Utc::now());
    let row = row.update(tx.conn()).await?;
    if let Some(entry) = entry {
        tx.audit(&TenantCtx::system(row.tenant_id), entry).await?;
    }
    tx.publish(row.tenant_id, Message::ServiceChanged { service: row.id }).await?;
    Ok(row)
}

/// The service, for whoever acts on news of it.
pub async fn load_service(tx: &SystemTx, id: ServiceId) -> Result<service::Model> {
    let row = service::Entity::find_by_id(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("service"))
}

/// A page of a tenant's services, newest first, and how many there are.
pub async fn list_services(
    tx: &TenantTx,
    order: Option<OrderId>,
    offset: u64,
    limit: u64,
) -> Result<(Vec<service::Model>, u64)> {
    let mut query = tx.own::<service::Entity>();
    if let Some(order) = order {
        query = query.filter(Column::OrderId.eq(order));
    }
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// A service of the tenant.
pub async fn find_service(tx: &TenantTx, id: ServiceId) -> Result<service::Model> {
    let row = tx.own_by_id::<service::Entity>(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("service"))
}
