//! Sealing: each tenant's entries get numbers from 1 and hashes, each over the one before, so that
//! none can be changed, taken out or put in between unseen.
//!
//! The hash of a seal is the SHA-256, in hexadecimal, over the hash of the seal before (64 zeros
//! for the first) and the entry's [`record`] as JSON without spaces, the keys of each object sorted.

use crate::Result;
use crate::audit::{Audit, insert, nobody, record};
use crate::db::{Db, statement};
use crate::ids::TenantId;
use crate::tables::{audit_log, audit_seal, audit_unsealed};
use crate::tenancy::Origin;
use crate::tenants;
use crate::webhooks::deliveries;
use chrono::Utc;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait,
    FromQueryResult, QueryFilter, QueryOrder,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The end of a tenant's chain. Noted elsewhere, it shows later that nothing was cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub tenant: TenantId,
    pub seq: i64,
    pub hash: String,
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// Seals up to `limit` entries of each tenant that has any to seal; answers the new heads. Any
/// number of processes may do this at once: a tenant that another one is at is left to it. An entry
/// leaves the waiting line in the transaction of its seal, so that a process that dies loses and
/// doubles nothing.
pub async fn seal_entries(db: &Db, limit: i64) -> Result<Vec<Head>> {
    let tx = db.system().await?;
    let sql = "SELECT DISTINCT tenant_id FROM audit_unsealed";
    let rows = tx.conn().query_all_raw(statement(sql, [])).await?;
    drop(tx);
    let mut heads = Vec::new();
    for row in rows {
        let tenant = row.try_get("", "tenant_id")?;
        match seal_tenant(db, tenant, limit).await {
            Ok(head) => heads.extend(head),
            // What is wrong with one tenant's entries keeps no other's waiting.
            Err(error) => {
                tracing::error!(tenant.id = %tenant, cause = %error.chain(), "audit.not_sealed");
            }
        }
    }
    Ok(heads)
}

/// How many heads one entry of the platform's trail names.
const ANCHORED: i64 = 500;

/// Notes in the platform's trail where the other tenants' chains end, those that have grown since the
/// last time; answers how many. One relay at a time does so.
pub async fn anchor_heads(db: &Db) -> Result<usize> {
    let tx = db.system().await?;
    let Some(platform) = tenants::platform(&tx).await? else { return Ok(0) };
    let sql = "SELECT pg_try_advisory_xact_lock(hashtextextended('audit_anchor', 0)) AS taken";
    let taken = tx.conn().query_one_raw(statement(sql, [])).await?;
    if !taken.map_or(Ok(false), |row| row.try_get("", "taken"))? {
        return Ok(0);
    }
    let sql = "WITH grown AS (
            SELECT t.id AS tenant_id, s.seq, s.hash FROM tenant t
            CROSS JOIN LATERAL (SELECT seq, hash FROM audit_seal WHERE tenant_id = t.id
                ORDER BY seq DESC LIMIT 1) s
            LEFT JOIN audit_anchor a ON a.tenant_id = t.id
            WHERE t.id <> $1 AND s.seq > coalesce(a.seq, 0) ORDER BY t.id LIMIT $2),
        noted AS (INSERT INTO audit_anchor (tenant_id, seq) SELECT tenant_id, seq FROM grown
            ON CONFLICT (tenant_id) DO UPDATE SET seq = excluded.seq)
        SELECT tenant_id, seq, hash FROM grown";
    let mut heads = Vec::new();
    for row in tx.conn().query_all_raw(statement(sql, [platform.0.into(), ANCHORED.into()])).await?
    {
        heads.push(Head {
            tenant: row.try_get("", "tenant_id")?,
            seq: row.try_get("", "seq")?,
            hash: row.try_get("", "hash")?,
        });
    }
    if heads.is_empty() {
        return Ok(0);
    }
    let count = heads.len();
    insert(tx.conn(), nobody(platform, None, Origin::default()), Audit::AuditAnchored { heads })
        .await?;
    tx.commit().await?;
    Ok(count)
}

async fn seal_tenant(db: &Db, tenant: TenantId, limit: i64) -> Result<Option<Head>> {
    let tx = db.system().await?;
    let sql = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS taken";
    let lock = statement(sql, [format!("audit_seal {tenant}").into()]);
    let taken = tx.conn().query_one_raw(lock).await?;
    if !taken.map_or(Ok(false), |row| row.try_get("", "taken"))? {
        return Ok(None);
    }
    let mut head = find_head(tx.conn(), tenant).await?;
    let sql = "SELECT a.* FROM audit_unsealed u JOIN audit_log a ON a.id = u.audit_id
        WHERE u.tenant_id = $1 ORDER BY a.id LIMIT $2";
    let waiting = statement(sql, [tenant.0.into(), limit.into()]);
    let waiting = audit_log::Model::find_by_statement(waiting).all(tx.conn()).await?;
    if waiting.is_empty() {
        return Ok(None);
    }
    let now = Utc::now();
    let mut seals = Vec::with_capacity(waiting.len());
    for row in &waiting {
        head.seq = head.seq.saturating_add(1);
        head.hash = link(&head.hash, row);
        seals.push(audit_seal::ActiveModel {
            tenant_id: Set(tenant),
            seq: Set(head.seq),
            audit_id: Set(row.id),
            hash: Set(head.hash.clone()),
            sealed_at: Set(now),
        });
    }
    deliveries::fan_out(tx.conn(), tenant, &waiting).await?;
    audit_seal::Entity::insert_many(seals).exec_without_returning(tx.conn()).await?;
    audit_unsealed::Entity::delete_many()
        .filter(audit_unsealed::Column::TenantId.eq(tenant))
        .filter(audit_unsealed::Column::AuditId.is_in(waiting.iter().map(|row| row.id)))
        .exec(tx.conn())
        .await?;
    tx.commit().await?;
    Ok(Some(head))
}

async fn find_head(tx: &DatabaseTransaction, tenant: TenantId) -> Result<Head> {
    let last = audit_seal::Entity::find()
        .filter(audit_seal::Column::TenantId.eq(tenant))
        .order_by_desc(audit_seal::Column::Seq)
        .one(tx)
        .await?;
    Ok(last
        .map_or_else(|| beginning(tenant), |seal| Head { tenant, seq: seal.seq, hash: seal.hash }))
}

/// The head of a chain without a seal.
pub(super) fn beginning(tenant: TenantId) -> Head {
    Head { tenant, seq: 0, hash: "0".repeat(64) }
}

/// The hash of an entry's seal behind the seal with the hash `before`.
pub(super) fn link(before: &str, row: &audit_log::Model) -> String {
    let mut text = String::new();
    write_sorted(&Value::Object(record(row)), &mut text);
    let mut hash = Sha256::new();
    hash.update(before.as_bytes());
    hash.update(text.as_bytes());
    hex::encode(hash.finalize())
}

/// JSON without spaces, with sorted keys, whatever order a map keeps them in.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (nth, (key, value)) in fields.into_iter().enumerate() {
                if nth > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (nth, item) in items.iter().enumerate() {
                if nth > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}
