//! Pods that were paid for: what stands between a service and its pod.
//!
//! The service says what was sold and how its order stands; the pod is driven by itself, and tells its
//! service what it has become. Of the two, the service's row is locked first.

use super::create::{self, Made, PodName};
use super::placement::{self, Holder, Wanted};
use super::{Desired, Size, actions, converge, hostnames, lock, record};
use crate::Result;
use crate::catalogue;
use crate::catalogue::specification::Siting;
use crate::catalogue::{Kind, Specification};
use crate::db::{Db, SystemTx};
use crate::due::{self, Due};
use crate::error::{Code, Error};
use crate::ids::{CloudpodId, OrderItemId, PriceId, ProductId, ServiceId};
use crate::services::State;
use crate::tables::cloudpod::{self, Column};
use crate::tables::{order_item, orders, placement as places, product, service, tenant};
use crate::tenancy::TenantCtx;
use crate::tenants::Limits;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder,
};
use values::DomainName;

/// How many pods room is held for that a tenant has not paid for.
const UNPAID_MAX: i64 = 32;
/// How long room is held for a larger plan while it is being paid for.
const PAID_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// The pod of a service.
pub(crate) async fn of_service(tx: &SystemTx, id: ServiceId) -> Result<Option<cloudpod::Model>> {
    Ok(cloudpod::Entity::find().filter(Column::ServiceId.eq(id)).one(tx.conn()).await?)
}

/// Holds room for the units of an order's pods, until they are paid for or, without an end, for good:
/// all or none. What is held already stays where it is. The order's row is locked.
pub(crate) async fn hold(
    tx: &SystemTx,
    order: &orders::Model,
    items: &[order_item::Model],
    until: Option<DateTime<Utc>>,
) -> Result<()> {
    let plans: Vec<_> = items.iter().filter(|item| item.kind == Kind::CloudpodPlan).collect();
    if plans.is_empty() {
        return Ok(());
    }
    placement::lock(tx).await?;
    if until.is_some() {
        refuse_hoard(tx, order, &plans).await?;
    }
    for item in plans {
        let specification = crate::services::raised(item, items)?;
        let (size, siting) = (Size::of_plan(&specification)?, Siting::of(&specification));
        let held = held_units(tx, item.id, until).await?;
        for unit in 1..=item.quantity {
            if held.contains(&unit) {
                continue;
            }
            let wanted = Wanted {
                tenant: item.tenant_id,
                size: &size,
                siting: &siting,
                server: None,
                avoid: None,
                moves: None,
                order: Some(order.id),
            };
            let holder = Holder::Unit { item: item.id, unit, until };
            if placement::take(tx, &wanted, holder).await?.is_none() {
                return Err(placement::no_room(&item.name));
            }
        }
    }
    Ok(())
}

/// Refuses to hold more room for a tenant that nobody has paid for than [`UNPAID_MAX`], unless its
/// provider has said how much it may have.
async fn refuse_hoard(
    tx: &SystemTx,
    order: &orders::Model,
    plans: &[&order_item::Model],
) -> Result<()> {
    let row = tenant::Entity::find_by_id(order.tenant_id).one(tx.conn()).await?;
    if Limits::of(&row.ok_or(Error::NotFound("tenant"))?)?.cloudpods.is_some() {
        return Ok(());
    }
    let others = places::Entity::find()
        .filter(places::Column::TenantId.eq(order.tenant_id))
        .filter(places::Column::ExpiresAt.gt(Utc::now()))
        .filter(places::Column::ReleasedAt.is_null())
        .filter(places::Column::OrderItemId.is_not_in(plans.iter().map(|item| item.id)))
        .count(tx.conn())
        .await?;
    let wanted: i64 = plans.iter().map(|item| i64::from(item.quantity)).sum();
    if i64::try_from(others).map_err(Error::internal)?.saturating_add(wanted) <= UNPAID_MAX {
        return Ok(());
    }
    let text = format!(
        "Room is held for at most {UNPAID_MAX} CloudPods that are not paid for: pay or cancel another order first, or ask your provider for a limit of your own."
    );
    Err(Error::refused(Code::QuotaExceeded, text))
}

/// The units of a line that room is held for, from now on until then; what has expired is let go.
async fn held_units(
    tx: &SystemTx,
    item: OrderItemId,
    until: Option<DateTime<Utc>>,
) -> Result<Vec<i32>> {
    let mut units = Vec::new();
    for place in placement::of_item(tx, item).await? {
        if place.expires_at.is_some_and(|at| at <= Utc::now()) {
            placement::release(tx, place.id, false).await?;
            continue;
        }
        units.extend(place.unit);
        let mut active: places::ActiveModel = place.into();
        active.expires_at = Set(until);
        active.update(tx.conn()).await?;
    }
    Ok(units)
}

/// Makes the pod of a service, in the place that was held for it; one that could not be made is tried
/// again. The service's row is locked.
pub(crate) async fn make(tx: &SystemTx, row: &service::Model) -> Result<cloudpod::Model> {
    let ctx = TenantCtx::system(row.tenant_id);
    if let Some(pod) = of_service(tx, row.id).await? {
        let pod = lock(tx, pod.id).await?;
        return match pod.status {
            super::Status::Failed => converge::again(tx, &ctx, pod).await,
            _ => Ok(pod),
        };
    }
    let specification: Specification = serde_json::from_value(row.specification.clone())?;
    let size = Size::of_plan(&specification)?;
    let item = order_item::Entity::find_by_id(row.order_item_id).one(tx.conn()).await?;
    let item = item.ok_or(Error::NotFound("order line"))?;
    let plan = product::Entity::find_by_id(item.product_id).one(tx.conn()).await?;
    let code: Option<(String, ProductId)> =
        plan.map(|plan| (plan.code.clone().unwrap_or_else(|| plan.name.clone()), plan.id));
    let hostname = hostname(row)?;
    let made = Made {
        hostname: &hostname,
        size: &size,
        ssh_keys: &[],
        plan: code.as_ref().map(|(code, id)| (code.as_str(), *id)),
        service: Some(row.id),
        server: None,
    };
    let pod = create::insert(tx, row.tenant_id, &made).await?;
    let held = placement::of_item(tx, row.order_item_id).await?;
    let place = held.into_iter().find(|place| place.unit == Some(row.unit));
    if let Some(place) = place.filter(|p| p.expires_at.is_none_or(|at| at > Utc::now())) {
        placement::attach(tx, place, pod.id).await?;
    }
    converge::go_on(tx, pod).await
}

/// Why the pod of a service cannot be made: another has its name by now. What was held for it is given
/// back then. One that could not be made has its name already. The service's row is locked.
pub(crate) async fn obstacle(tx: &SystemTx, row: &service::Model) -> Result<Option<String>> {
    if of_service(tx, row.id).await?.is_some() {
        return Ok(None);
    }
    let why = hostnames::obstacle(tx, row).await?;
    if why.is_some() {
        let held = placement::of_item(tx, row.order_item_id).await?;
        if let Some(place) = held.into_iter().find(|place| place.unit == Some(row.unit)) {
            placement::release(tx, place.id, false).await?;
        }
    }
    Ok(why)
}

/// The name that was ordered for a unit, or one of ours.
fn hostname(row: &service::Model) -> Result<PodName> {
    let ordered = row.domain.as_deref().map(DomainName::parse).transpose()?;
    let tail = row.id.0.simple().to_string();
    let tail: String = tail.chars().skip(tail.len().saturating_sub(10)).collect();
    PodName::parse(&ordered.map_or_else(|| format!("pod-{tail}"), |name| name.to_string()))
}

/// Lets the pod of a service be what the service shall be. The service's row is locked.
pub(crate) async fn follow(tx: &SystemTx, ctx: &TenantCtx, row: &service::Model) -> Result<()> {
    let Some(pod) = of_service(tx, row.id).await? else { return Ok(()) };
    let pod = lock(tx, pod.id).await?;
    let desired = match row.desired {
        crate::services::Desired::Active => Desired::Active,
        crate::services::Desired::Suspended => Desired::Suspended,
        crate::services::Desired::Terminated => Desired::Deleted,
    };
    converge::want(tx, ctx, pod, (desired, row.reason.as_deref())).await?;
    Ok(())
}

/// Takes room for what the pods of an order's line are at another price, for as long as that is being
/// paid for; whoever only asks does not commit. A smaller disk than is sold now is refused with
/// `invalid_request`, what no server has room for with `no_capacity`, and with `cloudpod_state` what is
/// not made yet.
pub async fn hold_change(tx: &SystemTx, item: OrderItemId, price: PriceId) -> Result<()> {
    let line = order_item::Entity::find_by_id(item).one(tx.conn()).await?;
    let Some(line) = line.filter(|line| line.kind == Kind::CloudpodPlan) else { return Ok(()) };
    crate::orders::status::lock(tx, line.order_id).await?;
    let is_other = catalogue::sync::price(tx, price).await?.product_id != line.product_id;
    let rows = service::Entity::find()
        .filter(service::Column::OrderItemId.eq(item))
        .filter(service::Column::State.is_not_in([State::Failed, State::Terminated]))
        .order_by_asc(service::Column::Unit)
        .all(tx.conn())
        .await?;
    for row in rows {
        let Some(after) = crate::services::sold_at(tx, &row, price).await? else { continue };
        let before: Specification = serde_json::from_value(row.specification.clone())?;
        let (sited, siting) = (Siting::of(&before), Siting::of(&after));
        let (before, after) = (Size::of_plan(&before)?, Size::of_plan(&after)?);
        if after.disk_mib < before.disk_mib {
            let text = format!(
                "has a disk of {} MiB, and a disk is never made smaller: choose one with {} MiB at least",
                after.disk_mib, before.disk_mib
            );
            return Err(Error::field("price_id", text));
        }
        let pod = match of_service(tx, row.id).await? {
            Some(pod) => Some(lock(tx, pod.id).await?).filter(|pod| pod.status.is_made()),
            None => None,
        };
        let Some(pod) = pod else {
            let text = "Its CloudPod is being made: change the plan when it runs.";
            return Err(Error::refused(Code::CloudpodState, text));
        };
        let is_elsewhere = (&sited.location, &sited.labels) != (&siting.location, &siting.labels);
        if is_other && is_elsewhere && !placement::is_sited(tx, &pod, &siting).await? {
            let text = "is a plan of other servers than the one that the CloudPod is on: order a new CloudPod of it";
            return Err(Error::field("price_id", text));
        }
        actions::reserve(tx, &pod, &after).await?;
        let place = placement::of_pod(tx, pod.id).await?;
        if let Some(place) = place {
            let mut place: places::ActiveModel = place.into();
            place.grown_until = Set(Some(Utc::now() + PAID_WITHIN));
            place.update(tx.conn()).await?;
        }
    }
    Ok(())
}

/// Places that grew for a change that nobody has paid for.
const GROWN: &str = "SELECT p.id FROM cloudpod p JOIN placement l ON l.cloudpod_id = p.id
    WHERE l.grown_until <= now() AND l.released_at IS NULL AND p.wanted IS NULL
      AND p.next_at <= now()
      AND NOT EXISTS (SELECT FROM job j WHERE j.id = p.job_id
            AND j.state IN ('queued', 'running', 'unwinding'))
    ORDER BY l.grown_until LIMIT $1";

/// Gives room back that was held for changes of plans and is not used, up to `limit` pods; of how many.
/// Called every few seconds.
pub async fn give_back_grown(db: &Db, limit: u64) -> Result<u64> {
    due::each(db, Due { table: "cloudpod", sql: GROWN }, limit, async |tx, id| {
        let pod = lock(tx, CloudpodId(id)).await?;
        let place = placement::of_pod(tx, pod.id).await?;
        let is_over = |place: &places::Model| place.grown_until.is_some_and(|at| at <= Utc::now());
        if !place.as_ref().is_some_and(is_over)
            || pod.wanted.is_some()
            || super::is_working(tx, pod.job_id).await?
        {
            return Ok(false);
        }
        record::resize_place(tx, &pod, &Size::of(&pod)?).await?;
        Ok(true)
    })
    .await
}

/// Whether the pod of a service was deleted.
pub(crate) async fn is_gone(tx: &SystemTx, id: ServiceId) -> Result<bool> {
    let pod = of_service(tx, id).await?;
    Ok(pod.is_some_and(|pod| pod.status == super::Status::Deleted))
}

/// Lets the pod of a service tell why it is suspended. The service's row is locked.
pub(crate) async fn tell_reason(tx: &SystemTx, row: &service::Model) -> Result<()> {
    let Some(pod) = of_service(tx, row.id).await? else { return Ok(()) };
    let mut pod: cloudpod::ActiveModel = lock(tx, pod.id).await?.into();
    pod.reason = Set(row.reason.clone());
    pod.update(tx.conn()).await?;
    Ok(())
}

/// Lets the pod of a service have what is sold by now: at once when it has no place yet, and otherwise as
/// soon as nothing else is done with it. A disk only grows: one that was sold smaller stays as it is.
pub(crate) async fn follow_size(tx: &SystemTx, row: &service::Model) -> Result<()> {
    let Some(pod) = of_service(tx, row.id).await? else { return Ok(()) };
    let pod = lock(tx, pod.id).await?;
    let specification: Specification = serde_json::from_value(row.specification.clone())?;
    let (mut size, now) = (Size::of_plan(&specification)?, Size::of(&pod)?);
    size.disk_mib = size.disk_mib.max(now.disk_mib);
    size.template = now.template.clone();
    let mut active: cloudpod::ActiveModel = pod.clone().into();
    if placement::of_pod(tx, pod.id).await?.is_none() {
        active.specification = Set(serde_json::to_value(&size)?);
        active.update(tx.conn()).await?;
        return Ok(());
    }
    // A resize that is under way ends with what was wanted before.
    let is_resized = pod.action.as_deref() == Some("resize");
    let is_new = size != now || is_resized;
    active.wanted = Set(is_new.then(|| serde_json::to_value(&size)).transpose()?);
    active.next_at = Set(Utc::now());
    let pod = active.update(tx.conn()).await?;
    if pod.status.is_made() && !super::is_working(tx, pod.job_id).await? {
        converge::go_on(tx, pod).await?;
    }
    Ok(())
}
