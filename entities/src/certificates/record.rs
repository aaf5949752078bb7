//! What a worker that holds a certificate's job writes down on the way, each before it is used, so that
//! another worker goes on with the same order and key.

use super::limits;
use super::{CertificateName, Challenge, names_of};
use crate::Result;
use crate::db::SystemTx;
use crate::error::Error;
use crate::ids::ZoneId;
use crate::jobs::{self, Claim};
use crate::tables::certificate::{self, Column};
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};

/// Something that is put up for an authority to see. None of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub name: CertificateName,
    pub challenge: Challenge,
    /// Where a record is put.
    pub zone: Option<ZoneId>,
    /// The record's name with its final dot, or the file's.
    pub place: String,
    /// The record's text, or the file's content.
    pub value: String,
}

/// What was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM, the certificate itself first.
    pub chain: String,
    /// In hex.
    pub serial: String,
    pub not_before: DateTime<Utc>,
    pub not_after: DateTime<Utc>,
}

/// The certificate that a claimed job works on.
pub async fn load_claimed(tx: &SystemTx, claim: &Claim) -> Result<certificate::Model> {
    let row =
        certificate::Entity::find().filter(Column::JobId.eq(claim.job)).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("certificate"))
}

async fn held(tx: &SystemTx, claim: &Claim) -> Result<certificate::Model> {
    jobs::hold(tx, claim).await?;
    load_claimed(tx, claim).await
}

/// Keeps an order that was placed, and counts it. What an earlier one had come to is forgotten.
pub async fn keep_order(
    tx: &SystemTx,
    claim: &Claim,
    url: &str,
    challenge: Challenge,
) -> Result<()> {
    let row = held(tx, claim).await?;
    limits::count_order(tx, claim, &names_of(&row)?, url).await?;
    let mut row: certificate::ActiveModel = row.into();
    row.order_url = Set(Some(url.to_owned()));
    row.challenge = Set(challenge);
    row.next_sealed_key = Set(None);
    row.next_chain = Set(None);
    row.update(tx.conn()).await?;
    Ok(())
}

/// Forgets an order that comes to nothing any more.
pub async fn drop_order(tx: &SystemTx, claim: &Claim) -> Result<()> {
    let mut row: certificate::ActiveModel = held(tx, claim).await?.into();
    row.order_url = Set(None);
    row.next_sealed_key = Set(None);
    row.next_chain = Set(None);
    row.update(tx.conn()).await?;
    Ok(())
}

/// Keeps from when on another attempt is welcome.
pub async fn hold_off(tx: &SystemTx, claim: &Claim, secs: u64) -> Result<()> {
    let mut row: certificate::ActiveModel = held(tx, claim).await?.into();
    let most = u64::try_from(TimeDelta::days(30).num_seconds()).unwrap_or_default();
    let secs = i64::try_from(secs.min(most)).unwrap_or_default();
    row.next_at = Set(Utc::now() + TimeDelta::seconds(secs));
    row.update(tx.conn()).await?;
    Ok(())
}

/// Keeps what is about to be put up, in the transaction that puts up the records; an empty list once
/// it is gone.
pub async fn keep_answers(tx: &SystemTx, claim: &Claim, answers: &[Answer]) -> Result<()> {
    let mut row: certificate::ActiveModel = held(tx, claim).await?.into();
    let answers = (!answers.is_empty()).then(|| serde_json::to_value(answers)).transpose()?;
    row.answers = Set(answers);
    row.update(tx.conn()).await?;
    Ok(())
}

/// Keeps the sealed key of the order that is under way, unless there is one; answers the one that
/// counts.
pub async fn keep_key(tx: &SystemTx, claim: &Claim, sealed: String) -> Result<String> {
    let row = held(tx, claim).await?;
    if let Some(kept) = row.next_sealed_key {
        return Ok(kept);
    }
    let mut row: certificate::ActiveModel = row.into();
    row.next_sealed_key = Set(Some(sealed.clone()));
    row.update(tx.conn()).await?;
    Ok(sealed)
}

/// Keeps what was issued, until it is installed.
pub async fn keep_chain(tx: &SystemTx, claim: &Claim, chain: &str) -> Result<()> {
    let row = held(tx, claim).await?;
    if let Some(url) = &row.order_url {
        limits::count_issued(tx, url).await?;
    }
    let mut row: certificate::ActiveModel = row.into();
    row.next_chain = Set(Some(chain.to_owned()));
    row.update(tx.conn()).await?;
    Ok(())
}

impl certificate::Model {
    /// What is put up now, or was about to be.
    pub fn answers(&self) -> Result<Vec<Answer>> {
        Ok(self.answers.clone().map(serde_json::from_value).transpose()?.unwrap_or_default())
    }
}
