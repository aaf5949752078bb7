//! The names of pods: each of a tenant's has one for itself, from the moment that it is ordered on.

use super::create::PodName;
use crate::Result;
use crate::catalogue::Kind;
use crate::db::{SystemTx, statement};
use crate::error::{Code, Error};
use crate::ids::{OrderId, TenantId};
use crate::tables::{order_item, orders, service};
use crate::tenants;
use sea_orm::ConnectionTrait;
use serde_json::json;
use std::collections::BTreeSet;
use values::DomainName;

/// Names that pods have, as the unique index counts them.
const HAD: &str =
    "SELECT hostname AS name FROM cloudpod WHERE tenant_id = $1 AND status <> 'deleted'
    AND hostname IN (SELECT jsonb_array_elements_text($2))";

/// Names of pods that somebody pays for or that wait to be made; those of one order do not count.
const ORDERED: &str = "SELECT d.name FROM order_item i JOIN orders o ON o.id = i.order_id
        CROSS JOIN LATERAL jsonb_array_elements_text(i.domains) AS d(name)
    WHERE i.tenant_id = $1 AND i.kind = 'cloudpod_plan' AND o.status IN ('pending_payment', 'paid')
      AND o.id IS DISTINCT FROM $3 AND d.name IN (SELECT jsonb_array_elements_text($2))
    UNION SELECT s.domain FROM service s
    WHERE s.tenant_id = $1 AND s.kind = 'cloudpod_plan' AND s.state IN ('pending', 'provisioning')
      AND s.order_id IS DISTINCT FROM $3 AND s.domain IN (SELECT jsonb_array_elements_text($2))";

/// Which of the names the tenant's pods have already, or are ordered under, but for those of `order`.
/// Whoever takes one afterwards has locked the tenant's limit before.
pub(crate) async fn taken(
    tx: &SystemTx,
    tenant: TenantId,
    names: &[&str],
    order: Option<OrderId>,
) -> Result<BTreeSet<String>> {
    let names = json!(names);
    let mut taken = BTreeSet::new();
    let had = statement(HAD, [tenant.0.into(), names.clone().into()]);
    let order = order.map(|order| order.0);
    let ordered = statement(ORDERED, [tenant.0.into(), names.into(), order.into()]);
    for query in [had, ordered] {
        for row in tx.conn().query_all_raw(query).await? {
            taken.insert(row.try_get::<String>("", "name")?);
        }
    }
    Ok(taken)
}

/// What keeps a domain from being the name of a pod.
pub(crate) fn unfit(name: &DomainName) -> Option<String> {
    let error = PodName::parse(name.as_str()).err()?;
    Some(format!("{name} cannot be the name of a CloudPod: {error}"))
}

/// Why a name is refused that another has.
pub(crate) fn had(name: &str) -> String {
    format!("{name} cannot be had: there is a CloudPod of this name, or one is ordered")
}

/// Refuses an order with pods whose names others have by now, or that are none. The limit is locked.
pub(crate) async fn refuse_taken(
    tx: &SystemTx,
    order: &orders::Model,
    items: &[order_item::Model],
) -> Result<()> {
    let mut names: Vec<DomainName> = Vec::new();
    for item in items.iter().filter(|item| item.kind == Kind::CloudpodPlan) {
        let of_item = item.domains.clone().map(serde_json::from_value::<Vec<DomainName>>);
        names.extend(of_item.transpose()?.unwrap_or_default());
    }
    if names.is_empty() {
        return Ok(());
    }
    if let Some(why) = names.iter().find_map(unfit) {
        return Err(Error::refused(Code::Conflict, format!("{why}. Choose another name.")));
    }
    let texts: Vec<&str> = names.iter().map(DomainName::as_str).collect();
    let taken = taken(tx, order.tenant_id, &texts, Some(order.id)).await?;
    match taken.first() {
        Some(name) => {
            let text = format!("{}. Choose another name.", had(name));
            Err(Error::refused(Code::Conflict, text))
        }
        None => Ok(()),
    }
}

/// Why the pod of a service, which has none yet, cannot have the name that was ordered for it. From here
/// on nobody else takes the name.
pub(crate) async fn obstacle(tx: &SystemTx, row: &service::Model) -> Result<Option<String>> {
    tenants::lock_limit(tx.conn(), row.tenant_id, super::LIMIT).await?;
    let Some(name) = row.domain.as_deref().map(DomainName::parse).transpose()? else {
        return Ok(None);
    };
    if let Some(why) = unfit(&name) {
        return Ok(Some(why));
    }
    let query = statement(HAD, [row.tenant_id.0.into(), json!([name.as_str()]).into()]);
    let is_had = tx.conn().query_one_raw(query).await?.is_some();
    Ok(is_had.then(|| format!("Another CloudPod has the name {name} by now.")))
}
