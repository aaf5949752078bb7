//! The outbox: messages that are written in the transaction of what they announce, and that the
//! relay brings to RabbitMQ. A message carries ids, never state: losing, doubling or reordering one
//! is harmless.

use crate::asks::{BILLING_QUEUE, DNS_QUEUE, JOB_QUEUE, POD_QUEUE};
use crate::db::{Db, SystemTx, statement};
use crate::dead_letters;
use crate::ids::{JobId, OrderId, PriceId, ProductId, RowId, ServiceId, TenantId, ZoneId};
use crate::tables::outbox;
use crate::{Result, telemetry};
use chrono::Utc;
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
};
use serde::{Deserialize, Serialize};

/// What is announced.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// A job waits to be claimed.
    JobReady { job: JobId },
    /// A job of a container waits to be claimed.
    PodJobReady { job: JobId },
    /// A product was made, changed or archived, and is to be so at Stripe.
    ProductChanged { product: ProductId },
    /// A price was made or archived, and is to be so at Stripe.
    PriceChanged { price: PriceId },
    /// An order has another status: what was paid is to be made, what was cancelled to be ended.
    OrderChanged { order: OrderId },
    /// A service has become something else: it was made, could not be made, or was suspended.
    ServiceChanged { service: ServiceId },
    /// A zone is to be otherwise at the DNS servers, or something about it is to be looked at.
    ZoneChanged { zone: ZoneId },
    /// A dead letter is to be sent to its queue again, byte for byte.
    LetterReplayed { letter: RowId },
}

/// The queues that messages go to.
pub const QUEUES: [&str; 4] = [JOB_QUEUE, POD_QUEUE, BILLING_QUEUE, DNS_QUEUE];

impl Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::JobReady { .. } => "job_ready",
            Self::PodJobReady { .. } => "pod_job_ready",
            Self::ProductChanged { .. } => "product_changed",
            Self::PriceChanged { .. } => "price_changed",
            Self::OrderChanged { .. } => "order_changed",
            Self::ServiceChanged { .. } => "service_changed",
            Self::ZoneChanged { .. } => "zone_changed",
            Self::LetterReplayed { .. } => "letter_replayed",
        }
    }

    /// The queue of those who act on it; none: that of the letter.
    #[must_use]
    pub fn queue(&self) -> Option<&'static str> {
        Some(match self {
            Self::JobReady { .. } => JOB_QUEUE,
            Self::PodJobReady { .. } => POD_QUEUE,
            Self::ZoneChanged { .. } => DNS_QUEUE,
            Self::ProductChanged { .. }
            | Self::PriceChanged { .. }
            | Self::OrderChanged { .. }
            | Self::ServiceChanged { .. } => BILLING_QUEUE,
            Self::LetterReplayed { .. } => return None,
        })
    }
}

pub(crate) async fn append(
    tx: &DatabaseTransaction,
    tenant: TenantId,
    message: Message,
) -> Result<()> {
    let row = outbox::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(tenant),
        kind: Set(message.kind().to_owned()),
        payload: Set(serde_json::to_value(&message)?),
        traceparent: Set(telemetry::traceparent()),
        created_at: Set(Utc::now()),
        sent_at: NotSet,
    };
    outbox::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// A message that is to be sent.
#[derive(Debug)]
pub struct Unsent {
    pub id: RowId,
    pub queue: String,
    /// As it goes over the wire.
    pub payload: Vec<u8>,
    pub traceparent: Option<String>,
}

/// Where a message goes, and what is sent; none: there is nothing to send any more.
async fn addressed(tx: &SystemTx, message: &Message) -> Result<Option<(String, Vec<u8>)>> {
    match (message, message.queue()) {
        (Message::LetterReplayed { letter }, _) => dead_letters::find_payload(tx, *letter).await,
        (_, Some(queue)) => Ok(Some((queue.to_owned(), serde_json::to_vec(message)?))),
        (_, None) => Ok(None),
    }
}

/// Takes up to `limit` unsent messages, oldest first, hands them to `send`, and marks those that it
/// names as sent. Other relays skip what is taken here. When the process dies before the commit,
/// the messages are sent again.
pub async fn send_batch<F, Fut>(db: &Db, limit: i64, send: F) -> Result<usize>
where
    F: FnOnce(Vec<Unsent>) -> Fut,
    Fut: Future<Output = Vec<RowId>>,
{
    let tx = db.system().await?;
    let rows = tx
        .conn()
        .query_all_raw(statement(
            "SELECT id, payload, traceparent FROM outbox WHERE sent_at IS NULL
             ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED",
            [limit.into()],
        ))
        .await?;
    let (mut unsent, mut void) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let id: RowId = row.try_get("", "id")?;
        // A newer service may have written what this one does not know: it waits for a newer relay.
        match serde_json::from_value(row.try_get("", "payload")?) {
            Ok(message) => match addressed(&tx, &message).await? {
                Some((queue, payload)) => {
                    let traceparent = row.try_get("", "traceparent")?;
                    unsent.push(Unsent { id, queue, payload, traceparent });
                }
                None => void.push(id),
            },
            Err(error) => {
                tracing::error!(message.id = %id, error = %error, "outbox.unknown_message")
            }
        }
    }
    if unsent.is_empty() && void.is_empty() {
        return Ok(0);
    }
    let mut sent = send(unsent).await;
    sent.extend(void);
    let count = sent.len();
    outbox::Entity::update_many()
        .col_expr(outbox::Column::SentAt, sea_orm::sea_query::Expr::value(Utc::now()))
        .filter(outbox::Column::Id.is_in(sent))
        .exec(tx.conn())
        .await?;
    tx.commit().await?;
    Ok(count)
}

/// Removes messages that were sent more than a day ago.
pub async fn prune(db: &Db) -> Result<()> {
    let tx = db.system().await?;
    tx.conn()
        .execute_raw(statement(
            "DELETE FROM outbox WHERE sent_at < now() - make_interval(secs => $1)",
            [86_400f64.into()],
        ))
        .await?;
    tx.commit().await
}
