//! Reading what Stripe sends, and handling what was kept of it.

use crate::objects::Event;
use crate::{Billing, look};
use entities::Result;
use entities::billing::events::{self, Handled, Incoming, Source, Taken};
use entities::billing::moment;
use entities::db::Db;
use entities::error::Code;
use futures::StreamExt;

/// How many events are handled at once.
const AT_ONCE: usize = 8;

/// What was read of a body that Stripe has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The event's id; none: it is no event that we can read.
    pub id: Option<String>,
    pub is_new: bool,
}

/// Keeps a body that Stripe has signed. When this has returned, it is not lost.
pub async fn keep(db: &Db, body: &[u8], source: Source) -> Result<Read> {
    let event: Event = match serde_json::from_slice(body) {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "stripe.unreadable_event");
            let is_new = events::keep_unreadable(db, body, &error.to_string()).await?;
            return Ok(Read { id: None, is_new });
        }
    };
    let created_at = match moment(event.created) {
        Ok(at) if is_storable(&event) => at,
        _ => {
            let why = "its time or its names are out of all bounds";
            let is_new = events::keep_unreadable(db, body, why).await?;
            return Ok(Read { id: None, is_new });
        }
    };
    let object = event.data.object.object.as_deref().zip(event.data.object.id.as_deref());
    let incoming = Incoming {
        id: &event.id,
        kind: &event.kind,
        created_at,
        livemode: event.livemode,
        api_version: event.api_version.as_deref(),
        object,
        body,
        source,
    };
    let is_new = events::keep(db, &incoming).await?;
    Ok(Read { id: Some(event.id), is_new })
}

/// Whether Postgres can hold an event's names, and its time.
fn is_storable(event: &Event) -> bool {
    let names = [Some(&event.id), Some(&event.kind), event.api_version.as_ref()];
    let object = [event.data.object.id.as_ref(), event.data.object.object.as_ref()];
    let fits = |name: &String| !name.contains('\0') && name.len() <= 500;
    let years = (0..=253_402_300_799).contains(&event.created);
    years && !event.id.is_empty() && names.into_iter().chain(object).flatten().all(fits)
}

/// Handles what is due; how many.
pub async fn handle_due(billing: &Billing) -> Result<usize> {
    let taken = events::take(&billing.db, 64).await?;
    let count = taken.len();
    // What came of one may not be kept: it is due again after its time, and the others go on.
    futures::stream::iter(taken)
        .for_each_concurrent(AT_ONCE, |event| async move {
            if let Err(error) = handle(billing, &event).await {
                tracing::error!(event.id, cause = %error.chain(), "stripe.event_not_recorded");
            }
        })
        .await;
    Ok(count)
}

/// Handles one event. What fails is tried again; what cannot be told apart from success is repeated,
/// which changes nothing.
async fn handle(billing: &Billing, event: &Taken) -> Result<()> {
    match look::at(billing, event.subject, &event.object).await {
        Ok(handled) => {
            let what = match &handled {
                Handled::Well => "handled",
                Handled::Foreign => "foreign",
                Handled::Refused(_) => "refused",
            };
            tracing::info!(event.id, event.kind, what, "stripe.event");
            events::record(&billing.db, event, &handled).await
        }
        Err(error) => {
            tracing::warn!(event.id, event.kind, cause = %error.chain(), "stripe.event_failed");
            let why = match error.code() {
                Code::Internal => error.chain(),
                _ => error.to_string(),
            };
            events::record_failure(&billing.db, event, &why).await
        }
    }
}
