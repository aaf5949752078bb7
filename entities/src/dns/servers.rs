//! The DNS servers as they were seen last. How they are reached is configuration of the DNS worker,
//! which writes here what it sees.

use crate::Result;
use crate::db::{Db, SystemTx};
use crate::tables::dns_server::{self, Column};
use chrono::Utc;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

/// What was seen of a server.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub name: String,
    pub is_primary: bool,
    pub address: String,
    pub has_api: bool,
    /// None: it is healthy.
    pub error: Option<String>,
    pub version: Option<String>,
    pub zones: Option<i64>,
    pub foreign_zones: Option<i64>,
    pub zones_behind: Option<i64>,
    pub latency_ms: Option<i32>,
}

/// Records what was seen of a server.
pub async fn record_server(tx: &SystemTx, seen: Seen) -> Result<()> {
    let now = Utc::now();
    let healthy = seen.error.is_none();
    let role = if seen.is_primary { "primary" } else { "secondary" };
    let row = dns_server::ActiveModel {
        name: Set(seen.name),
        role: Set(role.to_owned()),
        address: Set(seen.address),
        has_api: Set(seen.has_api),
        healthy: Set(healthy),
        error: Set(seen.error),
        version: Set(seen.version),
        zones: Set(seen.zones),
        foreign_zones: Set(seen.foreign_zones),
        zones_behind: Set(seen.zones_behind),
        latency_ms: Set(seen.latency_ms),
        checked_at: Set(now),
        seen_at: Set(healthy.then_some(now)),
    };
    let mut columns = vec![
        Column::Role,
        Column::Address,
        Column::HasApi,
        Column::Healthy,
        Column::Error,
        Column::CheckedAt,
        Column::LatencyMs,
    ];
    // What a server that is away had last stays known.
    if healthy {
        columns.extend([
            Column::Version,
            Column::Zones,
            Column::ForeignZones,
            Column::ZonesBehind,
            Column::SeenAt,
        ]);
    }
    let again = OnConflict::column(Column::Name).update_columns(columns).to_owned();
    dns_server::Entity::insert(row).on_conflict(again).exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// Forgets servers that are configured no more.
pub async fn keep_servers(tx: &SystemTx, names: &[String]) -> Result<()> {
    dns_server::Entity::delete_many()
        .filter(Column::Name.is_not_in(names.iter().map(String::as_str)))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// The servers, the primary first. The caller checks the right.
pub async fn list_servers(db: &Db) -> Result<Vec<dns_server::Model>> {
    let tx = db.system().await?;
    let rows = dns_server::Entity::find().order_by_asc(Column::Role).order_by_asc(Column::Name);
    Ok(rows.all(tx.conn()).await?)
}
