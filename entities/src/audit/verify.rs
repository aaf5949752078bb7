//! Checking the chains: that each entry is what was sealed, at its place, and that none came in or
//! went beside them. What was cut off at the end shows against a head that was noted before: given by
//! the caller, or in the platform's trail, where the relays note the other tenants' heads every ten
//! minutes. The platform's own head stands in the relays' log only.

use crate::Result;
use crate::audit::seal::{Head, beginning, link};
use crate::db::{Db, SystemTx, statement};
use crate::error::{Code, Error};
use crate::ids::{RowId, TenantId};
use crate::tables::{audit_log, audit_seal, tenant};
use crate::tenants;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use std::collections::{BTreeMap, HashMap};

/// How many links are read at once.
const PAGE: u64 = 1000;

/// What a check of a chain found.
#[derive(Debug)]
pub struct Chain {
    pub tenant: TenantId,
    pub name: String,
    /// The last link that holds; its number is how many entries are sealed well.
    pub head: Head,
    /// How many entries wait for their seal.
    pub unsealed: i64,
    /// The first thing that is not as it was sealed.
    pub fault: Option<String>,
}

/// A head that was noted earlier: `SEQ:HASH`.
#[derive(Debug, Clone)]
pub struct Noted {
    seq: i64,
    hash: String,
}

impl std::str::FromStr for Noted {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::refused(Code::InvalidRequest, "A head is SEQ:HASH, as an earlier check told it.")
        };
        let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(wrong)?;
        Ok(Self { seq, hash: hash.to_owned() })
    }
}

/// What was noted, by number.
type Heads = BTreeMap<i64, Vec<String>>;

/// The tenants that have a chain to check, the oldest first.
pub async fn list_chains(db: &Db) -> Result<Vec<TenantId>> {
    let tx = db.system().await?;
    let rows = tenant::Entity::find().order_by_asc(tenant::Column::Id).all(tx.conn()).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Checks one tenant's chain, against a noted head, too, when there is one.
pub async fn verify_chain(db: &Db, id: TenantId, noted: Option<&Noted>) -> Result<Chain> {
    let tx = db.system().await?;
    let name =
        tenant::Entity::find_by_id(id).one(tx.conn()).await?.ok_or(Error::NotFound("tenant"))?.name;
    let mut all = Heads::new();
    for noted in anchored(&tx, id).await?.into_iter().chain(noted.cloned()) {
        all.entry(noted.seq).or_default().push(noted.hash);
    }
    let (head, mut fault) = walk(&tx, id, &all).await?;
    if fault.is_none() {
        fault = beside(&tx, id).await?;
    }
    let cut = |last: &i64| {
        let end = head.seq;
        format!("the chain ends at number {end}: what followed to {last} was cut off")
    };
    let fault = fault.or_else(|| all.keys().last().filter(|last| **last > head.seq).map(cut));
    let sql = "SELECT count(*) AS unsealed FROM audit_unsealed WHERE tenant_id = $1";
    let row = tx.conn().query_one_raw(statement(sql, [id.0.into()])).await?;
    let unsealed = row.map_or(Ok(0), |row| row.try_get("", "unsealed"))?;
    Ok(Chain { tenant: id, name, head, unsealed, fault })
}

/// The heads of this chain that were noted in the platform's trail. All of them: a chain that was cut
/// off and has grown again is noted anew.
async fn anchored(tx: &SystemTx, id: TenantId) -> Result<Vec<Noted>> {
    let Some(platform) = tenants::platform(tx).await? else { return Ok(Vec::new()) };
    let sql = "SELECT head ->> 'hash' AS hash, (head ->> 'seq')::bigint AS seq
        FROM audit_log a, jsonb_array_elements(a.data -> 'heads') head
        WHERE a.tenant_id = $1 AND a.kind = 'AUDIT_ANCHORED' AND head ->> 'tenant' = $2
            AND a.data @> jsonb_build_object('heads', jsonb_build_array(jsonb_build_object('tenant', $2::text)))
        ORDER BY a.id";
    let asked = statement(sql, [platform.0.into(), id.to_string().into()]);
    let rows = tx.conn().query_all_raw(asked).await?;
    rows.iter()
        .map(|row| Ok(Noted { seq: row.try_get("", "seq")?, hash: row.try_get("", "hash")? }))
        .collect()
}

/// Follows the links from the first to the last, or to the first that does not hold.
async fn walk(tx: &SystemTx, id: TenantId, noted: &Heads) -> Result<(Head, Option<String>)> {
    let mut head = beginning(id);
    loop {
        let page = links(tx, &head).await?;
        if page.is_empty() {
            break;
        }
        for (seal, row) in page {
            match check(&head, &seal, row.as_ref(), noted) {
                Some(fault) => return Ok((head, Some(fault))),
                None => head = Head { tenant: id, seq: seal.seq, hash: seal.hash },
            }
        }
    }
    Ok((head, None))
}

fn check(
    head: &Head,
    seal: &audit_seal::Model,
    row: Option<&audit_log::Model>,
    noted: &Heads,
) -> Option<String> {
    let next = head.seq.saturating_add(1);
    let entry = seal.audit_id;
    if seal.seq != next {
        return Some(format!(
            "the seal number {next} was removed: the next one is number {}, entry {entry}",
            seal.seq
        ));
    }
    let Some(row) = row else {
        return Some(format!("number {next}, entry {entry}, was removed"));
    };
    if link(&head.hash, row) != seal.hash {
        return Some(format!(
            "number {next}, entry {entry}, was changed, or stands in another's place"
        ));
    }
    noted.get(&seal.seq).filter(|all| all.iter().any(|hash| *hash != seal.hash)).map(|_| {
        format!("the chain was written anew: number {next}, entry {entry}, has not the noted hash")
    })
}

/// The links behind `head` with their entries.
async fn links(
    tx: &SystemTx,
    head: &Head,
) -> Result<Vec<(audit_seal::Model, Option<audit_log::Model>)>> {
    let seals = audit_seal::Entity::find()
        .filter(audit_seal::Column::TenantId.eq(head.tenant))
        .filter(audit_seal::Column::Seq.gt(head.seq))
        .order_by_asc(audit_seal::Column::Seq)
        .limit(PAGE)
        .all(tx.conn())
        .await?;
    let rows = audit_log::Entity::find()
        .filter(audit_log::Column::TenantId.eq(head.tenant))
        .filter(audit_log::Column::Id.is_in(seals.iter().map(|seal| seal.audit_id)))
        .all(tx.conn())
        .await?;
    let mut rows: HashMap<RowId, audit_log::Model> =
        rows.into_iter().map(|row| (row.id, row)).collect();
    Ok(seals
        .into_iter()
        .map(|seal| {
            let row = rows.remove(&seal.audit_id);
            (seal, row)
        })
        .collect())
}

/// An entry that was put in beside the chain, or one that went before it was sealed.
async fn beside(tx: &SystemTx, id: TenantId) -> Result<Option<String>> {
    let sql = "SELECT a.id FROM audit_log a WHERE a.tenant_id = $1
            AND NOT EXISTS (SELECT FROM audit_seal s WHERE s.audit_id = a.id)
            AND NOT EXISTS (SELECT FROM audit_unsealed u WHERE u.tenant_id = a.tenant_id AND u.audit_id = a.id)
        ORDER BY a.id LIMIT 1";
    if let Some(row) = tx.conn().query_one_raw(statement(sql, [id.0.into()])).await? {
        let entry: RowId = row.try_get("", "id")?;
        return Ok(Some(format!("entry {entry} was added beside the chain")));
    }
    let sql = "SELECT u.audit_id FROM audit_unsealed u WHERE u.tenant_id = $1
            AND NOT EXISTS (SELECT FROM audit_log a WHERE a.tenant_id = u.tenant_id AND a.id = u.audit_id)
        ORDER BY u.audit_id LIMIT 1";
    let Some(row) = tx.conn().query_one_raw(statement(sql, [id.0.into()])).await? else {
        return Ok(None);
    };
    let entry: RowId = row.try_get("", "audit_id")?;
    Ok(Some(format!("entry {entry} was removed before it was sealed")))
}
