//! Events on their way: made when an entry of the trail is sealed, taken by the notifier, tried for
//! three days, and kept for a month to be looked at and sent again.

use crate::Result;
use crate::audit::{self, Audit};
use crate::db::{Db, SystemTx, TenantTx, statement};
use crate::error::Error;
use crate::ids::{RowId, TenantId};
use crate::sealing::SealingKeys;
use crate::tables::webhook_delivery::{self, Column};
use crate::tables::{audit_log, webhook_attempt, webhook_endpoint};
use crate::tenancy::TenantCtx;
use crate::webhooks::{TEST, enabled, events, find_endpoint};
use chrono::{DateTime, SecondsFormat, Utc};
use rand::Rng;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// A body larger than this names the entry only (Standard Webhooks 1.0.0, payload size).
const BODY_MAX: usize = 20_000;
/// How many deliveries one statement writes: Postgres takes 65535 values in one.
const INSERTED: usize = 1000;
/// The pauses after each try that failed; with them an event is tried for three days (the
/// specification's example schedule).
const PAUSES_SECS: &[f64] =
    &[5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0];
/// How far a pause differs by chance, so that what failed together does not come back together.
const JITTER: f64 = 0.1;
/// What an endpoint that is asked to be left alone for can ask for at most.
const RETRY_AFTER_MAX_SECS: u64 = 86_400;
/// How long others leave a delivery to whoever has taken it: longer than a call may take.
const LEASE_SECS: f64 = 60.0;
/// How many deliveries to one endpoint are under way at once.
const AT_ONCE: i64 = 5;
/// After how long without any success an endpoint is told nothing more.
const FAILING_DAYS: i64 = 5;

/// Makes a delivery of each of a tenant's entries that are just being sealed for each endpoint that
/// wants it: of the tenant, and of all above it. In the transaction of the seal, so that each entry
/// is told once.
pub(crate) async fn fan_out(
    tx: &DatabaseTransaction,
    tenant: TenantId,
    entries: &[audit_log::Model],
) -> Result<()> {
    let told: Vec<(&audit_log::Model, &str)> =
        entries.iter().filter_map(|row| Some((row, events::event(&row.kind)?))).collect();
    if told.is_empty() {
        return Ok(());
    }
    let sql = "SELECT e.* FROM webhook_endpoint e
        JOIN tenant_ancestry a ON a.ancestor_id = e.tenant_id AND a.descendant_id = $1
        WHERE e.disabled_at IS NULL";
    let asked = webhook_endpoint::Model::find_by_statement(statement(sql, [tenant.0.into()]));
    let mut rows = Vec::new();
    for endpoint in asked.all(tx).await? {
        let wanted: BTreeSet<String> = serde_json::from_value(endpoint.events.clone())?;
        for (entry, event) in &told {
            let is_wanted = wanted.is_empty() || wanted.contains(*event);
            if is_wanted && entry.created_at >= endpoint.created_at {
                let about = body(event, entry.created_at, about(entry));
                rows.push(delivery(&endpoint, entry.id, event, about));
            }
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(INSERTED));
        let part = std::mem::replace(&mut rows, rest);
        webhook_delivery::Entity::insert_many(part).exec_without_returning(tx).await?;
    }
    announce(tx).await
}

/// What an event is called in the header `webhook-id`: the same at each try and at each endpoint.
#[must_use]
pub fn webhook_id(event: RowId) -> String {
    format!("evt_{}", event.0.simple())
}

/// Wakes the notifier when this transaction commits.
pub(super) async fn announce(tx: &DatabaseTransaction) -> Result<()> {
    tx.execute_raw(statement("SELECT pg_notify('webhook', '')", [])).await?;
    Ok(())
}

/// What an entry tells: its own data, with what it is about and what it changed.
fn about(entry: &audit_log::Model) -> Value {
    let mut data = match entry.data.clone() {
        Value::Object(data) => data,
        _ => serde_json::Map::new(),
    };
    // `id` of the entry's data is the row that it is about.
    data.insert("event_id".to_owned(), json!(entry.id));
    data.insert("tenant_id".to_owned(), json!(entry.tenant_id));
    for (name, value) in [("before", &entry.before), ("after", &entry.after)] {
        if let Some(value) = value {
            data.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(data)
}

fn body(event: &str, at: DateTime<Utc>, data: Value) -> String {
    let at = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let short = json!({ "event_id": data.get("event_id"), "tenant_id": data.get("tenant_id") });
    let text = json!({ "type": event, "timestamp": at, "data": data }).to_string();
    if text.len() < BODY_MAX {
        return text;
    }
    json!({ "type": event, "timestamp": at, "data": short }).to_string()
}

fn delivery(
    endpoint: &webhook_endpoint::Model,
    event_id: RowId,
    event: &str,
    body: String,
) -> webhook_delivery::ActiveModel {
    webhook_delivery::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(endpoint.tenant_id),
        endpoint_id: Set(endpoint.id),
        event_id: Set(event_id),
        event: Set(event.to_owned()),
        body: Set(body),
        attempts: Set(0),
        next_at: Set(Utc::now()),
        taken_until: NotSet,
        delivered_at: NotSet,
        failed_at: NotSet,
        created_at: Set(Utc::now()),
    }
}

/// Sends an endpoint a [`TEST`] event; gives its delivery.
pub async fn test_endpoint(tx: &TenantTx, id: RowId) -> Result<webhook_delivery::Model> {
    let endpoint = find_endpoint(tx, id).await?;
    enabled(&endpoint)?;
    let event_id = RowId::new();
    let data = json!({ "event_id": event_id, "tenant_id": endpoint.tenant_id, "endpoint_id": id });
    let row = delivery(&endpoint, event_id, TEST, body(TEST, Utc::now(), data));
    let row = row.insert(tx.conn()).await?;
    tx.audit(Audit::WebhookTested { id }).await?;
    announce(tx.conn()).await?;
    Ok(row)
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    Delivered,
    Failed,
}

impl State {
    /// Of this delivery.
    #[must_use]
    pub fn of(row: &webhook_delivery::Model) -> Self {
        match (row.delivered_at, row.failed_at) {
            (Some(_), _) => Self::Delivered,
            (None, Some(_)) => Self::Failed,
            (None, None) => Self::Pending,
        }
    }
}

/// A page of what an endpoint was told or is to be told, newest first, and how many there are.
pub async fn list_deliveries(
    tx: &TenantTx,
    endpoint: RowId,
    state: Option<State>,
    (offset, limit): (u64, u64),
) -> Result<(Vec<webhook_delivery::Model>, u64)> {
    find_endpoint(tx, endpoint).await?;
    let mut query = tx.own::<webhook_delivery::Entity>().filter(Column::EndpointId.eq(endpoint));
    query = match state {
        None => query,
        Some(State::Delivered) => query.filter(Column::DeliveredAt.is_not_null()),
        Some(State::Failed) => query.filter(Column::FailedAt.is_not_null()),
        Some(State::Pending) => {
            query.filter(Column::DeliveredAt.is_null()).filter(Column::FailedAt.is_null())
        }
    };
    let total = query.clone().count(tx.conn()).await?;
    let rows = query.order_by_desc(Column::Id).offset(offset).limit(limit).all(tx.conn()).await?;
    Ok((rows, total))
}

/// A delivery with its tries, the oldest first.
pub async fn find_delivery(
    tx: &TenantTx,
    id: RowId,
) -> Result<(webhook_delivery::Model, Vec<webhook_attempt::Model>)> {
    let row = tx.own_by_id::<webhook_delivery::Entity>(id).one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("webhook delivery"))?;
    let tries = tx
        .own::<webhook_attempt::Entity>()
        .filter(webhook_attempt::Column::DeliveryId.eq(id))
        .order_by_asc(webhook_attempt::Column::Id)
        .all(tx.conn())
        .await?;
    Ok((row, tries))
}

/// Sends a delivery again, from the beginning of its schedule, whatever became of it. It keeps its
/// `webhook-id`, so that a receiver who had it knows.
pub async fn replay(tx: &TenantTx, id: RowId) -> Result<webhook_delivery::Model> {
    let row = tx.own_by_id::<webhook_delivery::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("webhook delivery"))?;
    enabled(&find_endpoint(tx, row.endpoint_id).await?)?;
    let mut active: webhook_delivery::ActiveModel = row.into();
    active.attempts = Set(0);
    active.next_at = Set(Utc::now());
    active.delivered_at = Set(None);
    active.failed_at = Set(None);
    let row = active.update(tx.conn()).await?;
    tx.audit(Audit::WebhookReplayed { id }).await?;
    announce(tx.conn()).await?;
    Ok(row)
}

/// A delivery that is to be tried now.
#[derive(Debug)]
pub struct Due {
    pub id: RowId,
    tenant: TenantId,
    endpoint: RowId,
    pub event_id: RowId,
    pub url: String,
    pub body: String,
    /// The newest first; each signs.
    pub secrets: Vec<SecretString>,
    /// How often it was tried, this time included.
    attempts: i32,
}

/// Takes up to `limit` deliveries that are due, of each endpoint a few. Whoever dies with them leaves
/// them to the next.
pub async fn take(db: &Db, keys: &SealingKeys, limit: i64) -> Result<Vec<Due>> {
    let tx = db.system().await?;
    let sql = "UPDATE webhook_delivery d SET attempts = d.attempts + 1,
            taken_until = now() + make_interval(secs => $2), next_at = now() + make_interval(secs => $2)
        FROM webhook_endpoint e WHERE e.id = d.endpoint_id AND d.id IN (
            SELECT due.id FROM webhook_endpoint e CROSS JOIN LATERAL (
                SELECT id FROM webhook_delivery WHERE endpoint_id = e.id AND next_at <= now()
                    AND delivered_at IS NULL AND failed_at IS NULL ORDER BY next_at
                LIMIT greatest(0, $3 - (SELECT count(*) FROM webhook_delivery taken
                    WHERE taken.endpoint_id = e.id AND taken.taken_until > now()
                    AND taken.delivered_at IS NULL AND taken.failed_at IS NULL))
                FOR UPDATE SKIP LOCKED) due
            WHERE e.disabled_at IS NULL LIMIT $1)
        RETURNING d.id, d.tenant_id, d.endpoint_id, d.event_id, d.body, d.attempts, e.url,
            e.sealed_secret, CASE WHEN e.old_until > now() THEN e.old_sealed_secret END AS old_secret";
    let values = [limit.into(), LEASE_SECS.into(), AT_ONCE.into()];
    let rows = tx.conn().query_all_raw(statement(sql, values)).await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in rows {
        let newest: String = row.try_get("", "sealed_secret")?;
        let old: Option<String> = row.try_get("", "old_secret")?;
        let secrets = std::iter::once(newest).chain(old).map(|sealed| keys.open(&sealed));
        // One whose sealing key is gone waits for it, and keeps no other.
        let secrets = match secrets.collect::<Result<_>>() {
            Ok(secrets) => secrets,
            Err(error) => {
                let endpoint: RowId = row.try_get("", "endpoint_id")?;
                tracing::error!(%endpoint, cause = %error.chain(), "webhook.secret_unreadable");
                continue;
            }
        };
        due.push(Due {
            id: row.try_get("", "id")?,
            tenant: row.try_get("", "tenant_id")?,
            endpoint: row.try_get("", "endpoint_id")?,
            event_id: row.try_get("", "event_id")?,
            url: row.try_get("", "url")?,
            body: row.try_get("", "body")?,
            attempts: row.try_get("", "attempts")?,
            secrets,
        });
    }
    tx.commit().await?;
    Ok(due)
}

/// What came of a try.
#[derive(Debug, Clone)]
pub struct Tried {
    /// What was answered; none: nothing came.
    pub status: Option<u16>,
    /// Why it counts as failed; none: the event was taken.
    pub error: Option<String>,
    /// How the answer began.
    pub answer: String,
    pub duration: Duration,
    /// How long the endpoint asks to be left alone.
    pub retry_after_secs: Option<u64>,
}

/// Records a try: the event was taken, or is tried again after the next pause, or is given up. An
/// endpoint that says that it is gone, or that took nothing for days, is told nothing more.
pub async fn record(db: &Db, due: &Due, tried: &Tried) -> Result<()> {
    let tx = db.system().await?;
    let attempt = webhook_attempt::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(due.tenant),
        delivery_id: Set(due.id),
        status: Set(tried.status.map(i32::from)),
        error: Set(tried.error.clone()),
        answer: Set(tried.answer.clone()),
        duration_ms: Set(i64::try_from(tried.duration.as_millis()).unwrap_or(i64::MAX)),
        created_at: Set(Utc::now()),
    };
    // Its endpoint may have been taken away meanwhile.
    let there =
        webhook_delivery::Entity::find_by_id(due.id).lock_exclusive().one(tx.conn()).await?;
    if there.is_none() {
        return Ok(());
    }
    webhook_attempt::Entity::insert(attempt).exec_without_returning(tx.conn()).await?;
    if tried.error.is_none() {
        let sql = "UPDATE webhook_delivery SET delivered_at = now(), failed_at = NULL,
            taken_until = NULL WHERE id = $1";
        tx.conn().execute_raw(statement(sql, [due.id.0.into()])).await?;
        let sql = "UPDATE webhook_endpoint SET failing_since = NULL WHERE id = $1 AND failing_since IS NOT NULL";
        tx.conn().execute_raw(statement(sql, [due.endpoint.0.into()])).await?;
        return tx.commit().await;
    }
    let pause = pause_secs(due.attempts, tried.retry_after_secs);
    let sql = "UPDATE webhook_delivery SET taken_until = NULL,
            next_at = now() + make_interval(secs => coalesce($2, 0)),
            failed_at = CASE WHEN $2::float8 IS NULL THEN now() END
        WHERE id = $1 AND delivered_at IS NULL";
    tx.conn().execute_raw(statement(sql, [due.id.0.into(), pause.into()])).await?;
    note_failure(&tx, due, tried.status == Some(410)).await?;
    tx.commit().await
}

/// How long until the next try; none: that was the last one.
fn pause_secs(attempts: i32, retry_after: Option<u64>) -> Option<f64> {
    let nth = usize::try_from(attempts.saturating_sub(1)).unwrap_or_default();
    let pause = PAUSES_SECS.get(nth)? * rand::rng().random_range(1.0 - JITTER..1.0 + JITTER);
    let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX_SECS);
    Some(pause.max(u32::try_from(asked).map_or(0.0, f64::from)))
}

async fn note_failure(tx: &SystemTx, due: &Due, is_gone: bool) -> Result<()> {
    let sql = "UPDATE webhook_endpoint SET failing_since = coalesce(failing_since, now())
        WHERE id = $1 RETURNING failing_since, disabled_at";
    let row = tx.conn().query_one_raw(statement(sql, [due.endpoint.0.into()])).await?;
    let Some(row) = row else { return Ok(()) };
    let since: DateTime<Utc> = row.try_get("", "failing_since")?;
    let disabled_at: Option<DateTime<Utc>> = row.try_get("", "disabled_at")?;
    let is_failing = Utc::now() - since > chrono::Duration::days(FAILING_DAYS);
    let reason = if is_gone { "gone" } else { "failing" };
    if disabled_at.is_some() || !(is_gone || is_failing) {
        return Ok(());
    }
    let sql = "UPDATE webhook_endpoint SET disabled_at = now(), disabled_reason = $2 WHERE id = $1";
    tx.conn().execute_raw(statement(sql, [due.endpoint.0.into(), reason.into()])).await?;
    let ctx = TenantCtx::system(due.tenant);
    let entry = Audit::WebhookEndpointDisabled { id: due.endpoint, reason: reason.to_owned() };
    audit::append(tx.conn(), &ctx, entry).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_for_three_days_and_end() {
        let all: Vec<f64> = (1..).map_while(|n| pause_secs(n, None)).collect();
        assert_eq!(all.len(), 9);
        assert!(all.iter().sum::<f64>() > 0.9 * 272_105.0);
        for (pause, wanted) in all.iter().zip(PAUSES_SECS) {
            assert!((pause / wanted - 1.0).abs() <= JITTER, "{pause} {wanted}");
        }
        assert!(pause_secs(1, Some(120)).unwrap() >= 120.0);
        assert!(pause_secs(1, Some(u64::MAX)).unwrap() <= 86_400.0);
        assert!(pause_secs(10, Some(120)).is_none());
    }
}
