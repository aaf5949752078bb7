//! What becomes of a certificate when a job of it ends.

use super::record::Issued;
use super::{State, due, load_claimed, name_texts};
use crate::Result;
use crate::audit::Audit;
use crate::db::SystemTx;
use crate::error::Error;
use crate::ids::{AccountId, CertificateId, JobId};
use crate::jobs::{self, Claim};
use crate::tables::certificate::{self, Column};
use crate::tables::certificate_name;
use crate::tenancy::TenantCtx;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect,
};

/// The first pause after a failure; each is twice as long as the one before, up to the longest.
const PAUSE: TimeDelta = TimeDelta::minutes(10);
const PAUSE_MAX: TimeDelta = TimeDelta::hours(24);

/// What a job of a certificate came to.
#[derive(Debug)]
pub enum Outcome {
    /// It was obtained and is installed.
    Installed(Issued),
    /// It is not on its server any more.
    Removed,
    /// It did not, and the certificate that was installed before still is.
    Failed { code: String, message: String },
}

/// When a certificate is to be renewed: at two thirds of its time, earlier by up to a fiftieth of it,
/// always the same for one certificate, so that those made together are not renewed together.
#[must_use]
pub fn renewal_time(
    id: CertificateId,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
) -> DateTime<Utc> {
    let lifetime = not_after - not_before;
    // The last byte of an id is random.
    let part = i32::from(id.0.as_bytes().last().copied().unwrap_or_default());
    not_before + lifetime / 3 * 2 - lifetime / 50 / 256 * part
}

/// When the next attempt is due after so many that failed.
fn pause(failed: i32) -> TimeDelta {
    let doubled = failed.saturating_sub(1).clamp(0, 10).unsigned_abs();
    (PAUSE * 2_i32.saturating_pow(doubled)).min(PAUSE_MAX)
}

/// Ends a claimed job of a certificate in the transaction of [`jobs::finish`], which comes after it.
pub async fn settle(tx: &SystemTx, claim: &Claim, outcome: Outcome) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let id = load_claimed(tx, claim).await?.id;
    let row = certificate::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("certificate"))?;
    let ctx = TenantCtx::system(row.tenant_id);
    match outcome {
        Outcome::Installed(issued) => installed(tx, &ctx, row, issued).await,
        Outcome::Removed => {
            let entry = Audit::CertificateDeleted { certificate: id, names: name_texts(&row)? };
            certificate::Entity::delete_by_id(id).exec(tx.conn()).await?;
            tx.audit(&ctx, entry).await
        }
        Outcome::Failed { code, message } => failed(tx, &ctx, row, (code, message)).await,
    }
}

/// Ends a queued job of a certificate that was cancelled before it began, as one that failed.
pub(crate) async fn cancelled(tx: &SystemTx, job: JobId, error: (String, String)) -> Result<()> {
    let row = certificate::Entity::find().filter(Column::JobId.eq(job)).lock_exclusive();
    let Some(row) = row.one(tx.conn()).await? else { return Ok(()) };
    failed(tx, &TenantCtx::system(row.tenant_id), row, error).await
}

async fn installed(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: certificate::Model,
    issued: Issued,
) -> Result<()> {
    let (certificate, names, not_after) = (row.id, name_texts(&row)?, issued.not_after);
    let entry = match row.chain {
        None => Audit::CertificateIssued { certificate, names, not_after },
        Some(_) => Audit::CertificateRenewed { certificate, names, not_after },
    };
    let renew_at = renewal_time(row.id, issued.not_before, issued.not_after);
    let (key, doomed) = (row.next_sealed_key.clone(), row.doomed);
    let mut active: certificate::ActiveModel = row.into();
    active.state = Set(if doomed { State::Deleting } else { State::Active });
    active.sealed_key = Set(key);
    active.chain = Set(Some(issued.chain));
    active.serial = Set(Some(issued.serial));
    active.not_before = Set(Some(issued.not_before));
    active.not_after = Set(Some(issued.not_after));
    active.renew_at = Set(Some(renew_at));
    active.next_at = Set(if doomed { Utc::now() } else { renew_at });
    active.next_sealed_key = Set(None);
    active.next_chain = Set(None);
    active.order_url = Set(None);
    active.answers = Set(None);
    active.attempts = Set(0);
    active.error_code = Set(None);
    active.error = Set(None);
    active.updated_at = Set(Utc::now());
    active.update(tx.conn()).await?;
    tx.audit(ctx, entry).await
}

/// What is installed stays, and is told to be.
async fn failed(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: certificate::Model,
    (code, message): (String, String),
) -> Result<()> {
    if row.doomed && row.account_id.is_none() {
        let entry = Audit::CertificateDeleted { certificate: row.id, names: name_texts(&row)? };
        certificate::Entity::delete_by_id(row.id).exec(tx.conn()).await?;
        return tx.audit(ctx, entry).await;
    }
    let entry = Audit::CertificateFailed {
        certificate: row.id,
        names: name_texts(&row)?,
        code: code.clone(),
        error: message.clone(),
    };
    let attempts = row.attempts.saturating_add(1);
    let state = match (row.doomed, row.not_after.filter(|_| row.account_id.is_some())) {
        (true, _) => State::Deleting,
        (false, None) => State::Failed,
        (false, Some(until)) if until <= Utc::now() => State::Expired,
        (false, Some(_)) => State::Active,
    };
    let held_off = row.next_at;
    let doomed_now = row.doomed && attempts == 1;
    let mut active: certificate::ActiveModel = row.into();
    active.state = Set(state);
    active.attempts = Set(attempts);
    // What is to go had its attempt at being obtained cut short: its removal is due at once.
    let wait = if doomed_now { TimeDelta::zero() } else { pause(attempts) };
    // Later, when the authority has asked for that.
    active.next_at = Set(held_off.max(Utc::now() + wait));
    active.error_code = Set(Some(code));
    active.error = Set(Some(message));
    active.updated_at = Set(Utc::now());
    active.update(tx.conn()).await?;
    tx.audit(ctx, entry).await
}

/// Leaves an account that goes, with everything that its server showed: nothing can be obtained for it
/// any more, and its names are free.
pub(crate) async fn lose_account(tx: &SystemTx, account: AccountId) -> Result<()> {
    let rows = certificate::Entity::find().filter(Column::AccountId.eq(account));
    for row in rows.lock_exclusive().all(tx.conn()).await? {
        let id = row.id;
        certificate_name::Entity::delete_many()
            .filter(certificate_name::Column::CertificateId.eq(id))
            .exec(tx.conn())
            .await?;
        let (doomed, at_work) = (row.doomed, due::is_at_work(tx, &row).await?);
        if doomed && !at_work {
            let entry = Audit::CertificateDeleted { certificate: id, names: name_texts(&row)? };
            tx.audit(&TenantCtx::system(row.tenant_id), entry).await?;
            certificate::Entity::delete_by_id(id).exec(tx.conn()).await?;
            continue;
        }
        let mut active: certificate::ActiveModel = row.into();
        active.account_id = Set(None);
        active.sealed_key = Set(None);
        active.state = Set(State::Failed);
        active.error_code = Set(Some("not_found".to_owned()));
        active.error = Set(Some("Its hosting account is gone.".to_owned()));
        active.updated_at = Set(Utc::now());
        active.update(tx.conn()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_are_due_at_two_thirds_and_spread() {
        let from = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc();
        let until = from + TimeDelta::days(90);
        let times: Vec<_> =
            (0..500).map(|_| renewal_time(CertificateId::new(), from, until)).collect();
        let (latest, earliest) = (from + TimeDelta::days(60), from + TimeDelta::hours(1396));
        assert!(times.iter().all(|at| *at <= latest && *at >= earliest), "{times:?}");
        assert_ne!(times.iter().min(), times.iter().max());
        let id = CertificateId::new();
        assert_eq!(renewal_time(id, from, until), renewal_time(id, from, until));
        let short = renewal_time(id, from, from + TimeDelta::hours(6));
        assert!(short <= from + TimeDelta::hours(4) && short > from + TimeDelta::minutes(230));
    }

    #[test]
    fn pauses_grow_up_to_a_day() {
        let pauses: Vec<i64> = (1..12).map(|failed| pause(failed).num_minutes()).collect();
        assert!(pauses.starts_with(&[10, 20, 40, 80]), "{pauses:?}");
        assert!(pauses.ends_with(&[1440, 1440]), "{pauses:?}");
    }
}
