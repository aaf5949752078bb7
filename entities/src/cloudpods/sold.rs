//! Pods that were paid for: what stands between a service and its pod.
//!
//! The service says what was sold and how its order stands; the pod is driven by itself, and tells its
//! service what it has become. Of the two, the service's row is locked first.

use super::create::{self, Made, PodName};
use super::hostnames;
use super::placement::{self, Holder, Wanted};
use super::{Desired, Size, converge, lock};
use crate::Result;
use crate::catalogue::specification::Siting;
use crate::catalogue::{Kind, Specification};
use crate::db::SystemTx;
use crate::error::Error;
use crate::ids::{OrderItemId, ProductId, ServiceId};
use crate::tables::cloudpod::{self, Column};
use crate::tables::{order_item, orders, placement as places, product, service};
use crate::tenancy::TenantCtx;
use chrono::{DateTime, Utc};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use values::DomainName;

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

/// Lets the pod of a service have what is sold by now. A disk only grows: one that was sold smaller
/// stays as it is.
pub(crate) async fn follow_size(tx: &SystemTx, row: &service::Model) -> Result<()> {
    let Some(pod) = of_service(tx, row.id).await? else { return Ok(()) };
    let pod = lock(tx, pod.id).await?;
    let specification: Specification = serde_json::from_value(row.specification.clone())?;
    let (mut size, now) = (Size::of_plan(&specification)?, Size::of(&pod)?);
    size.disk_mib = size.disk_mib.max(now.disk_mib);
    size.template = now.template.clone();
    let mut active: cloudpod::ActiveModel = pod.clone().into();
    if !pod.status.is_made() {
        active.specification = Set(serde_json::to_value(&size)?);
        active.update(tx.conn()).await?;
        return Ok(());
    }
    active.wanted = Set((size != now).then(|| serde_json::to_value(&size)).transpose()?);
    active.next_at = Set(Utc::now());
    let pod = active.update(tx.conn()).await?;
    if !super::is_working(tx, pod.job_id).await? {
        converge::go_on(tx, pod).await?;
    }
    Ok(())
}
