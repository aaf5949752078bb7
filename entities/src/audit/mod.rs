//! The audit trail: a closed list of what is recorded, appended in the transaction of what it
//! records. Nobody may change or delete an entry; a chain of hashes for each tenant shows it when
//! somebody did.
//!
//! [`event`] is the list. [`seal`] orders and hashes the entries behind the writers, who never wait
//! for it; [`verify`] checks the chains. [`unknown`] counts the failed logins of nobody.

pub mod event;
pub mod seal;
pub mod unknown;
pub mod verify;

pub use event::Audit;
pub use unknown::tally_unknown_login;

use crate::Result;
use crate::db::{SystemTx, TenantTx};
use crate::error::Error;
use crate::ids::{RequestId, RowId, TenantId, UserId};
use crate::tables::audit_log::{self, Column};
use crate::tables::audit_seal;
use crate::tenancy::{Actor, Origin, TenantCtx};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, DatabaseTransaction, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Who an entry is about.
struct Author {
    tenant: TenantId,
    kind: &'static str,
    id: Option<Uuid>,
    impersonator: Option<UserId>,
    request: Option<RequestId>,
    origin: Origin,
}

/// Appends an entry in the name of `ctx`.
pub(crate) async fn append(tx: &DatabaseTransaction, ctx: &TenantCtx, entry: Audit) -> Result<()> {
    let (kind, id) = match ctx.actor() {
        Actor::User(id) => ("user", Some(id.0)),
        Actor::Key(id) => ("key", Some(id.0)),
        Actor::System => ("system", None),
        Actor::Bootstrap => ("bootstrap", None),
    };
    let author = Author {
        tenant: ctx.tenant(),
        kind,
        id,
        impersonator: ctx.impersonator(),
        request: Some(ctx.request()),
        origin: ctx.origin().clone(),
    };
    insert(tx, author, entry).await
}

async fn insert(tx: &DatabaseTransaction, author: Author, entry: Audit) -> Result<()> {
    let mut value = serde_json::to_value(&entry)?;
    let kind = value.get("kind").and_then(Value::as_str).map(str::to_owned);
    let mut data = match value.get_mut("data").map(Value::take) {
        Some(Value::Object(data)) => data,
        _ => Map::new(),
    };
    let row = audit_log::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(author.tenant),
        kind: Set(kind.ok_or_else(|| Error::internal("an audit entry without a kind"))?),
        actor_kind: Set(author.kind.to_owned()),
        actor_id: Set(author.id),
        request_id: Set(author.request),
        ip: Set(author.origin.ip),
        before: Set(data.remove("before")),
        after: Set(data.remove("after")),
        data: Set(Value::Object(data)),
        created_at: Set(Utc::now()),
        actor_label: NotSet,
        impersonator_id: Set(author.impersonator),
        impersonator_label: NotSet,
        user_agent: Set(author.origin.user_agent),
    };
    audit_log::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Records a refused request where it was to act; without a context, with the platform.
pub async fn record_refusal(
    tx: &SystemTx,
    ctx: Option<&TenantCtx>,
    anonymous: Anonymous,
    entry: Audit,
) -> Result<()> {
    if let Some(ctx) = ctx {
        return append(tx.conn(), ctx, entry).await;
    }
    let Some(platform) = crate::tenants::platform(tx).await? else { return Ok(()) };
    insert(tx.conn(), nobody(platform, Some(anonymous.request), anonymous.origin), entry).await
}

fn nobody(tenant: TenantId, request: Option<RequestId>, origin: Origin) -> Author {
    Author { tenant, kind: "anonymous", id: None, impersonator: None, request, origin }
}

/// What is known of a caller who is nobody.
#[derive(Debug)]
pub struct Anonymous {
    pub request: RequestId,
    pub origin: Origin,
}

/// A place in the trail: the entry that was read last. As text it is for us alone to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    at: DateTime<Utc>,
    id: RowId,
}

impl Cursor {
    /// The place of an entry.
    #[must_use]
    pub fn of(row: &audit_log::Model) -> Self {
        Self { at: row.created_at, id: row.id }
    }

    /// Reads what [`std::fmt::Display`] wrote.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::field("cursor", "must be the `meta.next` of an answer of this list");
        let bytes = BASE64.decode(text).map_err(|_e| wrong())?;
        let (at, id) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
        let at = DateTime::from_timestamp_micros(i64::from_be_bytes(*at)).ok_or_else(wrong)?;
        // No entry is older or younger, and Postgres does not know every moment.
        if !(1970..=9999).contains(&at.year()) {
            return Err(wrong());
        }
        let id = Uuid::from_slice(id).map_err(|_e| wrong())?;
        Ok(Self { at, id: RowId(id) })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.at.timestamp_micros().to_be_bytes();
        f.write_str(&BASE64.encode([at.as_slice(), self.id.0.as_bytes()].concat()))
    }
}

/// Which entries are wanted; nothing set: all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub kind: Option<String>,
    /// An actor's id or label.
    pub actor: Option<String>,
    /// From this moment on.
    pub from: Option<DateTime<Utc>>,
    /// Before this moment.
    pub to: Option<DateTime<Utc>>,
    pub request: Option<RequestId>,
    /// Behind this place, in the order of the list.
    pub after: Option<Cursor>,
}

impl Filter {
    fn query(self, tenant: TenantId, order: Order) -> sea_orm::Select<audit_log::Entity> {
        let mut query = audit_log::Entity::find().filter(Column::TenantId.eq(tenant));
        if let Some(kind) = self.kind {
            query = query.filter(Column::Kind.eq(kind));
        }
        if let Some(actor) = self.actor {
            query = query.filter(match Uuid::parse_str(&actor) {
                Ok(id) => Column::ActorId.eq(id),
                Err(_) => Column::ActorLabel.eq(actor),
            });
        }
        if let Some(from) = self.from {
            query = query.filter(Column::CreatedAt.gte(from));
        }
        if let Some(to) = self.to {
            query = query.filter(Column::CreatedAt.lt(to));
        }
        if let Some(request) = self.request {
            query = query.filter(Column::RequestId.eq(request));
        }
        if let Some(Cursor { at, id }) = self.after {
            let place = Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
            let last = Expr::tuple([Expr::value(at), Expr::value(id)]);
            query = query.filter(match order {
                Order::Asc => place.gt(last),
                _ => place.lt(last),
            });
        }
        query.order_by(Column::CreatedAt, order.clone()).order_by(Column::Id, order)
    }
}

/// Up to `limit` entries, newest first. Entries that come in meanwhile move no page.
pub async fn list_entries(
    tx: &TenantTx,
    filter: Filter,
    limit: u64,
) -> Result<Vec<audit_log::Model>> {
    Ok(filter.query(tx.tenant(), Order::Desc).limit(limit).all(tx.conn()).await?)
}

/// Up to `limit` entries with their seals, oldest first; the newest have none yet.
pub async fn export_entries(
    tx: &TenantTx,
    filter: Filter,
    limit: u64,
) -> Result<Vec<(audit_log::Model, Option<audit_seal::Model>)>> {
    let rows = filter.query(tx.tenant(), Order::Asc).limit(limit).all(tx.conn()).await?;
    let seals = audit_seal::Entity::find()
        .filter(audit_seal::Column::TenantId.eq(tx.tenant()))
        .filter(audit_seal::Column::AuditId.is_in(rows.iter().map(|row| row.id)))
        .all(tx.conn())
        .await?;
    let mut seals: std::collections::HashMap<_, _> =
        seals.into_iter().map(|seal| (seal.audit_id, seal)).collect();
    Ok(rows.into_iter().map(|row| (seals.remove(&row.id), row)).map(|(s, r)| (r, s)).collect())
}

/// An entry as it is sealed and exported: its columns by name, without those that are empty.
#[must_use]
pub fn record(row: &audit_log::Model) -> Map<String, Value> {
    let fields = [
        ("id", json!(row.id)),
        ("tenant_id", json!(row.tenant_id)),
        ("kind", json!(row.kind)),
        ("actor_kind", json!(row.actor_kind)),
        ("actor_id", json!(row.actor_id)),
        ("actor_label", json!(row.actor_label)),
        ("impersonator_id", json!(row.impersonator_id)),
        ("impersonator_label", json!(row.impersonator_label)),
        ("request_id", json!(row.request_id)),
        ("ip", json!(row.ip)),
        ("user_agent", json!(row.user_agent)),
        ("data", row.data.clone()),
        ("before", json!(row.before)),
        ("after", json!(row.after)),
        ("created_at", json!(row.created_at.to_rfc3339_opts(SecondsFormat::Micros, true))),
    ];
    fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.to_owned(), v)).collect()
}
