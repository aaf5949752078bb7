//! What nobody told us: the list of events is read, and what is open is looked at, now and then, since
//! an endpoint may be disabled, and a message may be lost for good.

use crate::objects::{Event, List};
use crate::{Billing, look};
use chrono::{TimeDelta, Utc};
use entities::Result;
use entities::billing::events::{Source, Subject};
use entities::billing::{checkouts, standing, subscriptions};
use entities::ids::OrderId;
use serde_json::json;
use std::time::Duration;

/// How far back events are listed: an hour more than the longest time between two looks.
const EVENTS_BACK: TimeDelta = TimeDelta::hours(25);
/// The most pages of events that one look reads.
const PAGES_MAX: usize = 100;
const PAGE: u64 = 100;

/// Keeps the events that Stripe lists and that did not come by themselves; how many.
pub async fn events(billing: &Billing) -> Result<usize> {
    let since = (Utc::now() - EVENTS_BACK).timestamp();
    let mut found = 0usize;
    let mut last: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let mut params = json!({ "created": { "gte": since }, "limit": PAGE });
        if let (Some(last), Some(fields)) = (&last, params.as_object_mut()) {
            fields.insert("starting_after".to_owned(), json!(last));
        }
        let page: List<serde_json::Value> = billing.stripe.query("/events", &params).await?;
        for event in &page.data {
            let body = serde_json::to_vec(event)?;
            let kept = crate::inbox::keep(&billing.db, &body, Source::Reconciler).await?;
            if kept.is_new {
                found = found.saturating_add(1);
            }
        }
        last = match page.data.last().map(|event| serde_json::from_value::<Event>(event.clone())) {
            Some(Ok(event)) if page.has_more => Some(event.id),
            _ => break,
        };
    }
    if found > 0 {
        tracing::warn!(found, "stripe.missed_events");
    }
    Ok(found)
}

/// Looks at every subscription that is not over and every checkout that is open.
pub async fn open(billing: &Billing) -> Result<()> {
    let tx = billing.db.system().await?;
    let sessions = checkouts::live(&tx, 1000).await?;
    drop(tx);
    for id in sessions {
        look_at(billing, Subject::Session, &id).await;
    }
    let mut after = String::new();
    loop {
        let tx = billing.db.system().await?;
        let ids = subscriptions::running(&tx, &after, PAGE).await?;
        drop(tx);
        for id in &ids {
            look_at(billing, Subject::Subscription, id).await;
        }
        match ids.into_iter().next_back() {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// One that cannot be looked at does not keep the others; Stripe takes a hundred requests a second.
async fn look_at(billing: &Billing, subject: Subject, id: &str) {
    if let Err(error) = look::at(billing, subject, id).await {
        tracing::warn!(id, cause = %error.chain(), "reconcile.not_seen");
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Lets time act: on those who have not paid, and on what is kept after its end. An order that cannot be
/// acted on keeps no other.
pub async fn time(billing: &Billing) -> Result<()> {
    billing.read_clock().await;
    let mut after = OrderId(uuid::Uuid::nil());
    loop {
        let tx = billing.db.system().await?;
        let orders = standing::restless(&tx, after, 100).await?;
        drop(tx);
        let now = billing.now().await?;
        for order in &orders {
            let acted = async {
                let tx = billing.db.system().await?;
                standing::converge(&tx, *order, &billing.config.rules, now).await?;
                tx.commit().await
            };
            if let Err(error) = acted.await {
                tracing::error!(%order, cause = %error.chain(), "order.not_converged");
            }
        }
        match orders.into_iter().next_back() {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}
