//! Making a pod for whoever asks.

use super::converge;
use super::hostnames;
use super::placement::{self, Wanted};
use super::{Desired, LIMIT, Size, Status, templates};
use crate::Result;
use crate::audit::Audit;
use crate::catalogue::specification::Siting;
use crate::catalogue::{Kind, Specification};
use crate::db::{Db, SystemTx, statement};
use crate::error::{Code, Error};
use crate::ids::{CloudpodId, ProductId, ServerId, ServiceId, TenantId};
use crate::orders::reservations;
use crate::tables::cloudpod::{self, Column};
use crate::tables::{product, tenant_ancestry};
use crate::tenancy::{Permission, TenantCtx};
use crate::tenants;
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction,
    EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
};
use serde_json::json;
use values::{DomainName, PlanCode, SshKey, TemplateCode};

/// The most keys that root gets.
pub const KEYS_MAX: usize = 20;

/// A pod that somebody asks for.
#[derive(Debug)]
pub struct NewPod {
    pub hostname: PodName,
    pub plan: PlanCode,
    /// None: the plan's.
    pub template: Option<TemplateCode>,
    pub server: Option<ServerId>,
    pub ssh_keys: Vec<SshKey>,
}

/// The name of a container: a host name of one or more labels, without underscores, and no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName(String);

impl PodName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |rule: String| Error::field("hostname", rule);
        let host = values::Hostname::parse(text).map_err(|error| refuse(error.to_string()))?;
        let name = host.as_str();
        if name.parse::<std::net::IpAddr>().is_ok() {
            return Err(refuse("must be a name, not an address".to_owned()));
        }
        if name.contains('_') {
            return Err(refuse("must not have an underscore".to_owned()));
        }
        if name.split('.').next_back().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit())) {
            return Err(refuse("must not end with a label of digits only".to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a domain, when it has more than one label.
    #[must_use]
    pub fn domain(&self) -> Option<DomainName> {
        DomainName::parse(&self.0).ok()
    }
}

/// Makes a pod of a plan, with a place on a server, and queues its job. Refused with `no_capacity` when
/// no server has room, `quota_exceeded` beyond the tenant's limit.
pub async fn create_pod(db: &Db, ctx: &TenantCtx, new: NewPod) -> Result<cloudpod::Model> {
    ctx.require_write(Permission::CloudpodsWrite)?;
    if new.ssh_keys.len() > KEYS_MAX {
        return Err(Error::field("ssh_keys", format!("must be at most {KEYS_MAX}")));
    }
    let tx = db.system_as(ctx).await?;
    let plan = find_plan(&tx, ctx, &new.plan).await?;
    let specification: Specification = serde_json::from_value(plan.specification.clone())?;
    let mut size = Size::of_plan(&specification)?;
    if let Some(template) = new.template {
        size.template = template;
    }
    templates::open_template(&tx, &size.template).await?;
    refuse_unpaid(&tx, ctx).await?;
    reserve_given(&tx, ctx.tenant()).await?;
    reserve_quota(&tx, ctx.tenant()).await?;
    refuse_twin(&tx, ctx.tenant(), &new.hostname).await?;
    if let Some(server) = new.server {
        refuse_hidden(&tx, ctx, server).await?;
    }
    let made = Made {
        hostname: &new.hostname,
        size: &size,
        ssh_keys: &new.ssh_keys,
        plan: Some((new.plan.as_str(), plan.id)),
        service: None,
        server: new.server,
    };
    let row = insert(&tx, ctx.tenant(), &made).await?;
    placement::lock(&tx).await?;
    let siting = Siting::of(&specification);
    let wanted = Wanted {
        tenant: ctx.tenant(),
        size: &size,
        siting: &siting,
        server: new.server,
        avoid: None,
        moves: None,
        order: None,
    };
    let place = placement::take(&tx, &wanted, placement::Holder::Pod(row.id)).await?;
    if place.is_none() {
        return Err(placement::no_room(&plan.name));
    }
    let entry = Audit::CloudpodRequested {
        cloudpod: row.id,
        hostname: row.hostname.clone(),
        plan: row.plan.clone(),
    };
    tx.audit(ctx, entry).await?;
    let row = converge::go_on_as(&tx, ctx, row).await?;
    tx.commit().await?;
    Ok(row)
}

/// Without an order pods are for the platform's staff, and for tenants that were given a number of them,
/// as was everybody between them and the platform: others would have for nothing what is sold.
async fn refuse_unpaid(tx: &SystemTx, ctx: &TenantCtx) -> Result<()> {
    if ctx.is_platform_staff() {
        return Ok(());
    }
    let sql =
        "SELECT count(*) AS without FROM tenant t JOIN tenant_ancestry a ON a.ancestor_id = t.id
        WHERE a.descendant_id = $1 AND t.kind <> 'platform' AND t.limits->>'cloudpods' IS NULL";
    let row = tx.conn().query_one_raw(statement(sql, [ctx.tenant().0.into()])).await?;
    let row = row.ok_or_else(|| Error::internal("an aggregate without a row"))?;
    if row.try_get::<i64>("", "without")? == 0 {
        return Ok(());
    }
    let text = "You were not given CloudPods to make without an order: order one with POST /api/orders, or ask your provider for a number of them.";
    Err(Error::refused(Code::QuotaExceeded, text))
}

/// What a pod's row is made of.
pub(super) struct Made<'a> {
    pub hostname: &'a PodName,
    pub size: &'a Size,
    pub ssh_keys: &'a [SshKey],
    pub plan: Option<(&'a str, ProductId)>,
    pub service: Option<ServiceId>,
    pub server: Option<ServerId>,
}

pub(super) async fn insert(
    tx: &SystemTx,
    tenant: TenantId,
    made: &Made<'_>,
) -> Result<cloudpod::Model> {
    let now = Utc::now();
    let row = cloudpod::ActiveModel {
        id: Set(CloudpodId::new()),
        tenant_id: Set(tenant),
        hostname: Set(made.hostname.as_str().to_owned()),
        plan: Set(made.plan.map(|(code, _)| code.to_owned())),
        product_id: Set(made.plan.map(|(_, product)| product)),
        service_id: Set(made.service),
        specification: Set(serde_json::to_value(made.size)?),
        ssh_keys: Set(json!(made.ssh_keys)),
        pinned_server_id: Set(made.server),
        desired: Set(Desired::Active),
        status: Set(Status::Pending),
        attempts: Set(0),
        next_at: Set(now),
        waiting_since: Set(now),
        was_running: Set(true),
        dns: Set(json!([])),
        created_at: Set(now),
        updated_at: Set(now),
        ..Default::default()
    };
    Ok(row.insert(tx.conn()).await?)
}

/// The plan of a code that a tenant sees: its own, or one of a tenant above it, the nearest first. What
/// is had without an order is of the platform's plans, so that nobody gives themselves a large one.
async fn find_plan(tx: &SystemTx, ctx: &TenantCtx, code: &PlanCode) -> Result<product::Model> {
    let above = tenant_ancestry::Entity::find()
        .filter(tenant_ancestry::Column::DescendantId.eq(ctx.tenant()))
        .order_by_asc(tenant_ancestry::Column::Depth)
        .all(tx.conn())
        .await?;
    let mut sellers: Vec<TenantId> = above.iter().map(|row| row.ancestor_id).collect();
    if !ctx.is_platform_staff() {
        let platform = tenants::platform(tx).await?;
        sellers.retain(|seller| Some(*seller) == platform);
    }
    let rows = product::Entity::find()
        .filter(product::Column::Code.eq(code.as_str()))
        .filter(product::Column::TenantId.is_in(sellers.clone()))
        .filter(product::Column::Kind.eq(Kind::CloudpodPlan))
        .filter(product::Column::ArchivedAt.is_null())
        .all(tx.conn())
        .await?;
    let nearest = rows.into_iter().min_by_key(|row| {
        sellers.iter().position(|seller| *seller == row.tenant_id).unwrap_or(usize::MAX)
    });
    nearest.ok_or(Error::NotFound("plan"))
}

/// Refuses one pod more than there may be without an order at and below each tenant from the platform
/// down to this one that has a limit: what one was given is not multiplied by giving it on. Theirs are
/// locked from the top down.
async fn reserve_given(tx: &SystemTx, tenant: TenantId) -> Result<()> {
    let limited = "SELECT t.id FROM tenant t JOIN tenant_ancestry a ON a.ancestor_id = t.id
        WHERE a.descendant_id = $1 AND t.limits->>'cloudpods' IS NOT NULL ORDER BY a.depth DESC";
    for row in tx.conn().query_all_raw(statement(limited, [tenant.0.into()])).await? {
        let above = TenantId(row.try_get("", "id")?);
        let given = async |conn: &DatabaseTransaction| count_given(conn, above).await;
        let reserved = tenants::reserve(tx.conn(), above, |l| l.cloudpods, LIMIT, given).await;
        match reserved {
            Err(error) if error.code() == Code::QuotaExceeded && above != tenant => {
                let text = "Your provider has no more CloudPods to make without an order: order one with POST /api/orders, or ask your provider.";
                return Err(Error::refused(Code::QuotaExceeded, text));
            }
            other => other?,
        }
    }
    Ok(())
}

/// How many pods there are without an order at and below a tenant.
async fn count_given<C: ConnectionTrait>(conn: &C, tenant: TenantId) -> Result<u64> {
    let sql = "SELECT count(*) AS given FROM cloudpod p
        JOIN tenant_ancestry a ON a.descendant_id = p.tenant_id
        WHERE a.ancestor_id = $1 AND p.service_id IS NULL AND p.status <> 'deleted'";
    let row = conn.query_one_raw(statement(sql, [tenant.0.into()])).await?;
    let row = row.ok_or_else(|| Error::internal("an aggregate without a row"))?;
    u64::try_from(row.try_get::<i64>("", "given")?).map_err(Error::internal)
}

/// Refuses one pod more than the tenant may have. Those that are ordered and not made yet count.
async fn reserve_quota(tx: &SystemTx, tenant: TenantId) -> Result<()> {
    tenants::reserve(
        tx.conn(),
        tenant,
        |limits| limits.cloudpods,
        LIMIT,
        async |conn| {
            let there = count_pods(conn, tenant).await?;
            Ok(there.saturating_add(reservations::count_held_pods(conn, tenant).await?))
        },
    )
    .await
}

/// How many pods a tenant has.
pub(crate) async fn count_pods<C: ConnectionTrait>(conn: &C, tenant: TenantId) -> Result<u64> {
    Ok(cloudpod::Entity::find()
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::Status.ne(Status::Deleted))
        .count(conn)
        .await?)
}

async fn refuse_twin(tx: &SystemTx, tenant: TenantId, name: &PodName) -> Result<()> {
    if hostnames::taken(tx, tenant, &[name.as_str()], None).await?.is_empty() {
        return Ok(());
    }
    let text = format!("{}. Choose another name.", hostnames::had(name.as_str()));
    Err(Error::refused(Code::Conflict, text))
}

/// Another tenant's server is none.
async fn refuse_hidden(tx: &SystemTx, ctx: &TenantCtx, server: ServerId) -> Result<()> {
    let sql = "SELECT 1 AS one FROM server s WHERE s.id = $2 AND s.kind = 'proxmox' AND (
            EXISTS (SELECT FROM server_grant g JOIN tenant_ancestry a ON a.ancestor_id = g.tenant_id
                WHERE g.server_id = s.id AND a.descendant_id = $1)
            OR EXISTS (SELECT FROM tenant t WHERE t.id = $1 AND t.kind = 'platform'))";
    let values = [ctx.tenant().0.into(), server.0.into()];
    match tx.conn().query_one_raw(statement(sql, values)).await? {
        Some(_) => Ok(()),
        None => Err(Error::NotFound("server")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_the_name_of_a_host() {
        for good in ["web-1", "web-1.example.com", "Web.Example", "xn--bcher-kva.example"] {
            assert!(PodName::parse(good).is_ok(), "{good}");
        }
        for wrong in ["", "192.0.2.1", "2001:db8::1", "a_b.c.example", "-x", "--force", "a b", "10"]
        {
            assert!(PodName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
