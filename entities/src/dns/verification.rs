//! Whether a tenant controls a name, by a TXT record that the world can see: before that, nobody
//! gets certificates for it or mail that is for others.

use crate::Result;
use crate::audit::Audit;
use crate::db::{SystemTx, TenantTx};
use crate::dns::budget::{self, Limits};
use crate::dns::changes::{Difference, bump, write_diff};
use crate::dns::{lock_zone, name_of};
use crate::ids::{TenantId, ZoneId};
use crate::outbox::Message;
use crate::tables::{dns_record_set, dns_zone};
use crate::tenancy::TenantCtx;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{TimeDelta, Utc};
use rand::RngCore;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use values::DomainName;
use zonefile::{RecordSet, txt_record};

/// The label below which the TXT record stands.
pub const LABEL: &str = "_migrapanel-verify";
/// For how long it is looked for after somebody has asked, with growing pauses.
const LOOKS: i32 = 40;
const PAUSE_MAX_SECS: i64 = 3600;

/// What nobody guesses.
pub(crate) fn new_token() -> String {
    let mut bytes = [0u8; 24];
    rand::rng().fill_bytes(&mut bytes);
    format!("migrapanel={}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Where the record of a zone is looked for, with its final dot.
#[must_use]
pub fn record_name(zone: &str) -> String {
    format!("{LABEL}.{zone}.")
}

/// Whether the tenant has proved that it controls the name, or one above it.
pub async fn is_verified(tx: &SystemTx, tenant: TenantId, name: &DomainName) -> Result<bool> {
    let mut names = vec![name.as_str()];
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        names.push(parent);
        rest = parent;
    }
    let row = dns_zone::Entity::find()
        .filter(dns_zone::Column::TenantId.eq(tenant))
        .filter(dns_zone::Column::Name.is_in(names))
        .filter(dns_zone::Column::State.ne("deleting"))
        .filter(dns_zone::Column::VerifiedAt.is_not_null())
        .one(tx.conn())
        .await?;
    Ok(row.is_some())
}

/// Lets a worker look for the record, now and with growing pauses for some days. Repeating it looks
/// again at once; a zone that is verified stays so.
pub async fn request(tx: &TenantTx, id: ZoneId, limits: &Limits) -> Result<dns_zone::Model> {
    tx.ctx().refuse_bound()?;
    let row = lock_zone(tx, id).await?;
    tx.audit(Audit::DnsVerificationRequested { zone: id, name: row.name.clone() }).await?;
    if row.verified_at.is_some() {
        return Ok(row);
    }
    let token = row.verification_token.clone().unwrap_or_else(new_token);
    let budget = budget::take_change(tx, &row, limits).await?;
    let mut row: dns_zone::ActiveModel = row.into();
    row.verification_token = Set(Some(token));
    row.budget = Set(budget);
    row.verification_next_at = Set(Some(Utc::now()));
    row.verification_attempts = Set(0);
    row.verification_error = Set(None);
    let row = row.update(tx.conn()).await?;
    let row = match row.active {
        true => put_own(tx, row).await?,
        false => row,
    };
    tx.publish(Message::ZoneChanged { zone: id }).await?;
    Ok(row)
}

/// Puts the record into the zone itself as well: when the world asks us for it already, that is where
/// it is found.
async fn put_own(tx: &TenantTx, row: dns_zone::Model) -> Result<dns_zone::Model> {
    let name = record_name(&row.name);
    let standing = tx
        .own::<dns_record_set::Entity>()
        .filter(dns_record_set::Column::ZoneId.eq(row.id))
        .filter(dns_record_set::Column::Name.eq(name.as_str()))
        .one(tx.conn())
        .await?;
    let Some(token) = row.verification_token.clone().filter(|_| standing.is_none()) else {
        return Ok(row);
    };
    let set = RecordSet {
        name: name.clone(),
        rtype: "TXT".to_owned(),
        ttl: zonefile::TTL_MIN,
        records: [txt_record(token.as_bytes())].into(),
    };
    let rtype = set.rtype.clone();
    let diff = Difference { name, rtype, before: None, after: Some(set) };
    write_diff(tx.conn(), (tx.tenant(), row.id), &[diff]).await?;
    bump(tx.conn(), row, None).await
}

/// Zones whose record is to be looked for now.
pub async fn due(tx: &SystemTx, limit: u64) -> Result<Vec<dns_zone::Model>> {
    Ok(dns_zone::Entity::find()
        .filter(dns_zone::Column::VerifiedAt.is_null())
        .filter(dns_zone::Column::VerificationNextAt.lte(Utc::now()))
        .filter(dns_zone::Column::State.ne("deleting"))
        .order_by_asc(dns_zone::Column::VerificationNextAt)
        .limit(limit)
        .all(tx.conn())
        .await?)
}

/// Records what was found: nothing that speaks against it, or why it is not verified yet. A zone that
/// slept until now is answered from here on, and its name takes mail.
pub async fn record(tx: &SystemTx, id: ZoneId, refusal: Option<&str>) -> Result<()> {
    let row = dns_zone::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    let Some(row) = row.filter(|r| r.verified_at.is_none() && r.state != "deleting") else {
        return Ok(());
    };
    let now = Utc::now();
    let attempts = row.verification_attempts.saturating_add(1);
    let (tenant, name, was_active) = (row.tenant_id, name_of(&row)?, row.active);
    let mut active: dns_zone::ActiveModel = row.into();
    active.verification_checked_at = Set(Some(now));
    active.verification_attempts = Set(attempts);
    if let Some(refusal) = refusal {
        let pause = TimeDelta::seconds((10 * i64::from(attempts).pow(2)).min(PAUSE_MAX_SECS));
        let again = now.checked_add_signed(pause).filter(|_| attempts < LOOKS);
        active.verification_error = Set(Some(refusal.to_owned()));
        active.verification_next_at = Set(again);
        active.update(tx.conn()).await?;
        return Ok(());
    }
    active.verified_at = Set(Some(now));
    active.verification_error = Set(None);
    active.verification_next_at = Set(None);
    active.active = Set(true);
    if !was_active {
        active.state = Set("pending".to_owned());
        active.next_at = Set(None);
    }
    active.update(tx.conn()).await?;
    let entry = Audit::DnsZoneVerified { zone: id, name: name.to_string() };
    tx.audit(&TenantCtx::system(tenant), entry).await?;
    tx.publish(tenant, Message::ZoneChanged { zone: id }).await
}
