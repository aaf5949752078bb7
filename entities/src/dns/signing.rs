//! DNSSEC: whether a zone is to be signed, the keys that sign it, and what belongs into the zone above.

use crate::Result;
use crate::audit::Audit;
use crate::db::{SystemTx, TenantTx};
use crate::dns::budget::{self, Limits};
use crate::dns::lock_zone;
use crate::ids::{RowId, ZoneId};
use crate::outbox::Message;
use crate::sealing::SealingKeys;
use crate::tables::{dns_key, dns_zone};
use crate::tenancy::TenantCtx;
use chrono::{TimeDelta, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use secrecy::SecretString;

/// How long until it is looked again whether the parent has let go.
const LOOK_AGAIN_SECS: i64 = 60;

/// A key that signs a zone.
#[derive(Debug)]
pub struct Key {
    /// RFC 4034 appendix B.
    pub tag: u16,
    pub algorithm: String,
    /// In the form that the server exports.
    pub private: SecretString,
}

/// Lets a zone be signed, or not any more. Signing ends only when the zone above holds no DS for it,
/// since the world would call the zone bogus: until then it goes on, and says why. Repeating it
/// changes nothing but looks again at once.
pub async fn request(
    tx: &TenantTx,
    id: ZoneId,
    signed: bool,
    limits: &Limits,
) -> Result<dns_zone::Model> {
    tx.ctx().refuse_bound()?;
    let row = lock_zone(tx, id).await?;
    let budget = budget::take_change(tx, &row, limits).await?;
    let wanted = match (row.dnssec.as_str(), signed) {
        ("off", true) => "starting",
        ("ending", true) => "on",
        ("on" | "starting", false) => "ending",
        (state, _) => state,
    };
    let wanted = wanted.to_owned();
    tx.audit(Audit::DnsSigningRequested { zone: id, name: row.name.clone(), signed }).await?;
    let mut row: dns_zone::ActiveModel = row.into();
    row.dnssec = Set(wanted);
    row.budget = Set(budget);
    row.dnssec_error = Set(None);
    row.dnssec_next_at = Set(None);
    let row = row.update(tx.conn()).await?;
    tx.publish(Message::ZoneChanged { zone: id }).await?;
    Ok(row)
}

/// What became of signing a zone.
#[derive(Debug, Clone)]
pub enum Signing {
    /// It is signed; these DS records belong into the zone above.
    On { ds: Vec<String> },
    /// It is not signed.
    Off,
    /// It stays as it is, and why; some may remember for so many seconds what was seen in the zone above.
    Waits { why: String, remembered_secs: Option<u32> },
}

/// Records what became of it.
pub async fn record(tx: &SystemTx, id: ZoneId, signing: &Signing) -> Result<()> {
    let row = dns_zone::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    let Some(row) = row else { return Ok(()) };
    let (tenant, name, before) = (row.tenant_id, row.name.clone(), row.dnssec.clone());
    let mut active: dns_zone::ActiveModel = row.into();
    let entry = match signing {
        // Somebody may have changed their mind meanwhile.
        Signing::On { ds } => {
            active.ds = Set(serde_json::to_value(ds)?);
            if before == "starting" {
                active.dnssec = Set("on".to_owned());
                active.dnssec_error = Set(None);
                Some(Audit::DnsSigningStarted { zone: id, name, ds: ds.clone() })
            } else {
                None
            }
        }
        Signing::Off if before == "ending" => {
            active.dnssec = Set("off".to_owned());
            active.dnssec_hold_until = Set(None);
            active.dnssec_error = Set(None);
            active.ds = Set(serde_json::json!([]));
            dns_key::Entity::delete_many()
                .filter(dns_key::Column::ZoneId.eq(id))
                .exec(tx.conn())
                .await?;
            Some(Audit::DnsSigningEnded { zone: id, name })
        }
        Signing::Off => None,
        Signing::Waits { why, remembered_secs } => {
            active.dnssec_error = Set(Some(why.clone()));
            if let Some(secs) = remembered_secs {
                let until = Utc::now().checked_add_signed(TimeDelta::seconds((*secs).into()));
                active.dnssec_hold_until = Set(until);
            }
            active.dnssec_next_at =
                Set(Utc::now().checked_add_signed(TimeDelta::seconds(LOOK_AGAIN_SECS)));
            None
        }
    };
    if active.is_changed() {
        active.update(tx.conn()).await?;
    }
    match entry {
        Some(entry) => tx.audit(&TenantCtx::system(tenant), entry).await,
        None => Ok(()),
    }
}

/// Keeps a key that a server has made. One that is kept already stays.
pub async fn keep_key(
    tx: &SystemTx,
    sealing: &SealingKeys,
    zone: &dns_zone::Model,
    key: &Key,
) -> Result<()> {
    let row = dns_key::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(zone.tenant_id),
        zone_id: Set(zone.id),
        key_tag: Set(key.tag.into()),
        algorithm: Set(key.algorithm.clone()),
        sealed: Set(sealing.seal(&key.private)?),
        created_at: Set(Utc::now()),
    };
    let once = OnConflict::columns([dns_key::Column::ZoneId, dns_key::Column::KeyTag])
        .do_nothing()
        .to_owned();
    dns_key::Entity::insert(row).on_conflict(once).exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// The kept keys of a zone, the oldest first.
pub async fn open_keys(tx: &SystemTx, sealing: &SealingKeys, zone: ZoneId) -> Result<Vec<Key>> {
    let rows = dns_key::Entity::find()
        .filter(dns_key::Column::ZoneId.eq(zone))
        .order_by_asc(dns_key::Column::Id)
        .all(tx.conn())
        .await?;
    let open = |row: dns_key::Model| {
        Ok(Key {
            tag: u16::try_from(row.key_tag).unwrap_or_default(),
            algorithm: row.algorithm,
            private: sealing.open(&row.sealed)?,
        })
    };
    rows.into_iter().map(open).collect()
}

/// Seals kept keys anew that are not under the newest key; how many.
pub async fn reseal(tx: &SystemTx, sealing: &SealingKeys) -> Result<u64> {
    let rows = dns_key::Entity::find().lock_exclusive().all(tx.conn()).await?;
    let mut count = 0;
    for row in rows {
        if let Some(sealed) = sealing.reseal(&row.sealed)? {
            let mut row: dns_key::ActiveModel = row.into();
            row.sealed = Set(sealed);
            row.update(tx.conn()).await?;
            count += 1;
        }
    }
    Ok(count)
}
