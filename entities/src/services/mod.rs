//! Services: what was sold, a row a unit, from the order that was paid to its end.
//!
//! A row says what a service shall be (`desired`) and what it is (`state`); jobs of workers make the
//! two equal, and [`converge_due`] lets no difference stay that a failed job has left. [`placement`]
//! chooses servers and names, [`converge`] makes jobs, [`settle`] ends them.

pub mod converge;
pub mod placement;
pub mod settle;

pub use converge::{converge_due, retry};
pub use settle::{Outcome, settle};

use crate::Result;
use crate::audit::Audit;
use crate::catalogue::{Kind, Specification};
use crate::db::{Db, SystemTx, TenantTx};
use crate::error::{Code, Error};
use crate::ids::{AccountId, OrderId, ServerId, ServiceId, TenantId};
use crate::jobs::{self, Claim};
use crate::orders::{self, Status, reservations};
use crate::outbox::Message;
use crate::tables::service::{self, Column};
use crate::tables::{hosting_account, order_item};
use crate::tenancy::{Permission, TenantCtx};
use chrono::Utc;
use cpanel::plan::Operation;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, DeriveActiveEnum, EntityTrait, EnumIter,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use values::{DomainName, Title, Username};

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
fn raised(plan: &order_item::Model, items: &[order_item::Model]) -> Result<Specification> {
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

async fn want_as(
    tx: &SystemTx,
    ctx: Option<&TenantCtx>,
    id: ServiceId,
    (desired, reason): (Desired, Option<&str>),
) -> Result<bool> {
    let row = lock(tx, id).await?;
    if row.desired == desired || row.desired == Desired::Terminated {
        return Ok(false);
    }
    let there = ctx.map_or_else(|| TenantCtx::system(row.tenant_id), |c| c.within(row.tenant_id));
    let mut active: service::ActiveModel = row.into();
    active.desired = Set(desired);
    active.reason = Set(reason.map(str::to_owned));
    active.attempts = Set(0);
    active.next_at = Set(Utc::now());
    active.updated_at = Set(Utc::now());
    let row = active.update(tx.conn()).await?;
    let reason = reason.map(str::to_owned);
    tx.audit(&there, Audit::ServiceRequested { service: id, desired, reason }).await?;
    if !converge::is_at_work(tx, &row).await? {
        let order = row.order_id;
        converge::go_on(tx, row).await?;
        settle::settle_order(tx, order).await?;
    }
    Ok(true)
}

/// The service, locked until the transaction ends, after its order: always in this order.
pub(super) async fn lock(tx: &SystemTx, id: ServiceId) -> Result<service::Model> {
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

/// The service that a claimed job works on.
pub async fn load_claimed(tx: &SystemTx, claim: &Claim) -> Result<service::Model> {
    let row = service::Entity::find().filter(Column::JobId.eq(claim.job)).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("service"))
}

/// What a claimed job is to make of its service: under which name and with which operations.
#[derive(Debug)]
pub struct Made<'a> {
    pub domain: &'a DomainName,
    pub operations: &'a [Operation],
}

/// Keeps what a claimed job is about to make.
pub async fn record_operations(tx: &SystemTx, claim: &Claim, made: &Made<'_>) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let mut row: service::ActiveModel = load_claimed(tx, claim).await?.into();
    row.domain = Set(Some(made.domain.to_string()));
    row.operations = Set(Some(serde_json::to_value(made.operations)?));
    row.update(tx.conn()).await?;
    Ok(())
}

/// Joins a service to the account that its job has taken.
pub async fn record_account(tx: &SystemTx, claim: &Claim) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let row = load_claimed(tx, claim).await?;
    let account = hosting_account::Entity::find()
        .filter(hosting_account::Column::ServerId.eq(claim.server))
        .filter(hosting_account::Column::Username.eq(row.username.as_deref().unwrap_or_default()))
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("account"))?;
    let mut row: service::ActiveModel = row.into();
    row.account_id = Set(Some(account.id));
    row.update(tx.conn()).await?;
    Ok(())
}

/// The user that a service's account has on its server.
pub fn username(row: &service::Model) -> Result<Username> {
    let name = row.username.as_deref();
    let name = name.ok_or_else(|| Error::internal("a service that works without a user"))?;
    Ok(Username::parse(name)?)
}

/// Refuses to change the account of this name on this server from elsewhere, when its service is not
/// active: what a migration brought would answer again.
pub(crate) async fn refuse_closed<C: ConnectionTrait>(
    conn: &C,
    server: ServerId,
    user: &str,
) -> Result<()> {
    let open = Condition::all()
        .add(Column::Desired.eq(Desired::Active))
        .add(Column::State.eq(State::Active));
    let closed = service::Entity::find()
        .filter(Column::ServerId.eq(server))
        .filter(Column::Username.eq(user))
        .filter(Column::AccountId.is_not_null())
        .filter(open.not())
        .count(conn)
        .await?;
    if closed == 0 {
        return Ok(());
    }
    let text = "This account is suspended, or on its way there or back: nothing is changed in it now. \
                Ask your provider.";
    Err(Error::refused(Code::AccountSuspended, text))
}

/// Leaves an account that goes.
pub(crate) async fn lose_account(tx: &SystemTx, account: AccountId) -> Result<()> {
    let none = sea_orm::sea_query::Expr::value(None::<uuid::Uuid>);
    service::Entity::update_many()
        .col_expr(Column::AccountId, none)
        .filter(Column::AccountId.eq(account))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// How many hosting accounts of a tenant were paid for and are not there yet.
pub(crate) async fn count_unmade<C: ConnectionTrait>(conn: &C, tenant: TenantId) -> Result<u64> {
    Ok(service::Entity::find()
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::Kind.eq(Kind::HostingPlan))
        .filter(Column::State.is_in([State::Pending, State::Provisioning]))
        .filter(Column::AccountId.is_null())
        .count(conn)
        .await?)
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
