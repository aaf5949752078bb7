//! Outbound webhooks: tenants name addresses of theirs that are told of what happens to them and to
//! all below them, by the Standard Webhooks specification 1.0.0.
//!
//! What is told are entries of the audit trail: [`deliveries::fan_out`] turns each, in the transaction
//! of its seal, into one delivery for each endpoint that wants it. The notifier sends them.

pub mod deliveries;
pub mod events;
pub mod reach;

pub use events::{EVENTS, TEST};
pub use reach::Reach;

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, TenantTx, statement};
use crate::error::{Code, Error};
use crate::ids::RowId;
use crate::mfa::Resealed;
use crate::sealing::SealingKeys;
use crate::tables::webhook_endpoint::{self, Column};
use crate::tenants;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chrono::{Duration, Utc};
use rand::RngCore;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use secrecy::SecretString;
use serde_json::json;
use std::collections::BTreeSet;
use url::{Host, Url};
use uuid::Uuid;

/// Endpoints that a tenant may have.
const ENDPOINTS_MAX: u32 = 20;
/// How long a secret that was replaced signs, too.
const OLD_SECRET_HOURS: i64 = 24;
const RESEALED_AT_ONCE: u64 = 100;

/// An endpoint that is to be made.
#[derive(Debug)]
pub struct New {
    pub url: String,
    pub description: String,
    /// Empty: all.
    pub events: BTreeSet<String>,
}

/// What changes of an endpoint; none: stays.
#[derive(Debug, Default)]
pub struct Change {
    pub url: Option<String>,
    pub description: Option<String>,
    pub events: Option<BTreeSet<String>>,
    pub enabled: Option<bool>,
}

/// Makes an endpoint; its secret is shown this once.
pub async fn create_endpoint(
    tx: &TenantTx,
    keys: &SealingKeys,
    reach: Reach,
    new: New,
) -> Result<(webhook_endpoint::Model, SecretString)> {
    let url = checked(&new.url, reach)?;
    known(&new.events)?;
    tenants::reserve(
        tx.conn(),
        tx.tenant(),
        |_| Some(ENDPOINTS_MAX),
        "webhook endpoints",
        async |_| Ok(tx.own::<webhook_endpoint::Entity>().count(tx.conn()).await?),
    )
    .await?;
    let secret = new_secret();
    let id = RowId::new();
    let row = webhook_endpoint::ActiveModel {
        id: Set(id),
        tenant_id: Set(tx.tenant()),
        url: Set(url.clone()),
        description: Set(new.description),
        events: Set(serde_json::to_value(new.events)?),
        sealed_secret: Set(keys.seal(&secret)?),
        old_sealed_secret: NotSet,
        old_until: NotSet,
        disabled_at: NotSet,
        disabled_reason: NotSet,
        failing_since: NotSet,
        created_at: Set(Utc::now()),
    };
    let row = row.insert(tx.conn()).await?;
    tx.audit(Audit::WebhookEndpointCreated { id, url }).await?;
    Ok((row, secret))
}

/// 32 random bytes, as the specification writes a secret.
fn new_secret() -> SecretString {
    let mut bytes = [0u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    SecretString::from(format!("whsec_{}", BASE64.encode(bytes)))
}

/// An address that may be told: over TLS, without a login in it, and public as far as it says so
/// itself. What a name leads to is checked when it is connected to.
fn checked(text: &str, reach: Reach) -> Result<String> {
    let wrong = |why: &str| Error::field("url", why);
    let url =
        Url::parse(text).map_err(|_e| wrong("is no URL, such as https://example.com/hook"))?;
    if reach == Reach::Public && url.scheme() != "https" {
        return Err(wrong("must begin with https://"));
    }
    if !["http", "https"].contains(&url.scheme()) {
        return Err(wrong("must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(wrong(
            "must have neither a login nor a #fragment: each call is signed instead",
        ));
    }
    let is_allowed = match url.host() {
        None => false,
        Some(Host::Domain(name)) => reach == Reach::Anywhere || name.contains('.'),
        Some(Host::Ipv4(ip)) => reach.allows(ip.into()),
        Some(Host::Ipv6(ip)) => reach.allows(ip.into()),
    };
    if !is_allowed {
        return Err(wrong("must lead to a public address"));
    }
    Ok(url.into())
}

fn known(events: &BTreeSet<String>) -> Result<()> {
    let Some(unknown) = events.iter().find(|e| EVENTS.iter().all(|(_, known)| known != e)) else {
        return Ok(());
    };
    let all: Vec<&str> = EVENTS.iter().map(|(_, event)| *event).collect();
    let text = format!("{unknown} is no event; there are {}", all.join(", "));
    Err(Error::field("events", text))
}

/// A page of the tenant's endpoints, newest first, and how many there are.
pub async fn list_endpoints(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<webhook_endpoint::Model>, u64)> {
    let query = tx.own::<webhook_endpoint::Entity>();
    let total = query.clone().count(tx.conn()).await?;
    let rows = query.order_by_desc(Column::Id).offset(offset).limit(limit).all(tx.conn()).await?;
    Ok((rows, total))
}

/// One of the tenant's endpoints.
pub async fn find_endpoint(tx: &TenantTx, id: RowId) -> Result<webhook_endpoint::Model> {
    let row = tx.own_by_id::<webhook_endpoint::Entity>(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("webhook endpoint"))
}

/// Changes an endpoint. What waits for one that is disabled is sent when it is enabled again.
pub async fn update_endpoint(
    tx: &TenantTx,
    reach: Reach,
    id: RowId,
    change: Change,
) -> Result<webhook_endpoint::Model> {
    let row = tx.own_by_id::<webhook_endpoint::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("webhook endpoint"))?;
    let before = seen(&row);
    let is_enabled = row.disabled_at.is_none();
    let mut active: webhook_endpoint::ActiveModel = row.clone().into();
    if let Some(url) = change.url {
        active.url = Set(checked(&url, reach)?);
    }
    if let Some(description) = change.description {
        active.description = Set(description);
    }
    if let Some(events) = change.events {
        known(&events)?;
        active.events = Set(serde_json::to_value(events)?);
    }
    match change.enabled {
        Some(true) if !is_enabled => {
            active.disabled_at = Set(None);
            active.disabled_reason = Set(None);
            active.failing_since = Set(None);
        }
        Some(false) if is_enabled => {
            active.disabled_at = Set(Some(Utc::now()));
            active.disabled_reason = Set(Some("by_hand".to_owned()));
        }
        _ => {}
    }
    let row = if active.is_changed() { active.update(tx.conn()).await? } else { row };
    tx.audit(Audit::WebhookEndpointUpdated { id, before, after: seen(&row) }).await?;
    deliveries::announce(tx.conn()).await?;
    Ok(row)
}

fn seen(row: &webhook_endpoint::Model) -> serde_json::Value {
    json!({
        "url": row.url,
        "description": row.description,
        "events": row.events,
        "enabled": row.disabled_at.is_none(),
    })
}

/// Takes an endpoint away, with the log of what it was told.
pub async fn delete_endpoint(tx: &TenantTx, id: RowId) -> Result<()> {
    let row = find_endpoint(tx, id).await?;
    webhook_endpoint::Entity::delete_many()
        .filter(Column::TenantId.eq(tx.tenant()))
        .filter(Column::Id.eq(id))
        .exec(tx.conn())
        .await?;
    tx.audit(Audit::WebhookEndpointDeleted { id, url: row.url }).await
}

/// Gives an endpoint a new secret, shown this once. The one before signs beside it for a day.
pub async fn rotate_secret(
    tx: &TenantTx,
    keys: &SealingKeys,
    id: RowId,
) -> Result<(webhook_endpoint::Model, SecretString)> {
    let row = tx.own_by_id::<webhook_endpoint::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("webhook endpoint"))?;
    let secret = new_secret();
    let old = row.sealed_secret.clone();
    let mut active: webhook_endpoint::ActiveModel = row.into();
    active.sealed_secret = Set(keys.seal(&secret)?);
    active.old_sealed_secret = Set(Some(old));
    active.old_until = Set(Some(Utc::now() + Duration::hours(OLD_SECRET_HOURS)));
    let row = active.update(tx.conn()).await?;
    tx.audit(Audit::WebhookSecretRotated { id }).await?;
    Ok((row, secret))
}

/// Puts secrets that are under an old key under the newest. May be repeated, and stopped half-way.
pub async fn reseal(db: &Db, keys: &SealingKeys) -> Result<Resealed> {
    let mut all = Resealed::default();
    let mut after = RowId(Uuid::nil());
    loop {
        let tx = db.system().await?;
        let rows = webhook_endpoint::Entity::find()
            .filter(Column::Id.gt(after))
            .filter(Expr::cust_with_values(
                "split_part(sealed_secret, '.', 1) <> $1 OR split_part(old_sealed_secret, '.', 1) <> $1",
                [keys.newest()?],
            ))
            .order_by_asc(Column::Id)
            .limit(RESEALED_AT_ONCE)
            .lock_exclusive()
            .all(tx.conn())
            .await?;
        let Some(last) = rows.last() else { return Ok(all) };
        after = last.id;
        let before = all.count;
        for row in rows {
            let old = row.old_sealed_secret.as_deref().map(|old| keys.reseal(old)).transpose();
            match (keys.reseal(&row.sealed_secret), old) {
                (Ok(anew), Ok(old_anew)) => {
                    let mut active: webhook_endpoint::ActiveModel = row.into();
                    if let Some(anew) = anew {
                        active.sealed_secret = Set(anew);
                    }
                    if let Some(Some(anew)) = old_anew {
                        active.old_sealed_secret = Set(Some(anew));
                    }
                    active.update(tx.conn()).await?;
                    all.count = all.count.saturating_add(1);
                }
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(endpoint = %row.id, cause = %error.chain(), "webhook.unreadable");
                    all.unreadable = all.unreadable.saturating_add(1);
                }
            }
        }
        let count = all.count.saturating_sub(before);
        if count > 0 {
            tenants::audit_operator(&tx, Audit::SecretsResealed { count }).await?;
            tx.commit().await?;
        }
    }
}

/// Removes what was told, or given up, a month ago.
pub async fn prune(db: &Db) -> Result<()> {
    let tx = db.system().await?;
    let sql = "DELETE FROM webhook_delivery WHERE id IN (SELECT id FROM webhook_delivery
        WHERE created_at < now() - make_interval(days => $1) LIMIT 10000)";
    tx.conn().execute_raw(statement(sql, [30.into()])).await?;
    tx.commit().await
}

/// Refuses what is asked of an endpoint that is told nothing.
fn enabled(row: &webhook_endpoint::Model) -> Result<()> {
    if row.disabled_at.is_none() {
        return Ok(());
    }
    Err(Error::refused(Code::Conflict, "This endpoint is disabled. Enable it first."))
}
