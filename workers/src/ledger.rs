//! What a job keeps beside its steps. A migration keeps its progress and what became of each thing; a
//! service keeps what it is made of.

use crate::error::Result;
use crate::facts::Named;
use crate::saga::Cx;
use cpanel::plan::Operation;
use cpanel::protocol::{ItemReport, Level};
use entities::db::SystemTx;
use entities::jobs::Kind;
use entities::migrations;
use entities::services;
use serde_json::json;

/// Whether the job works on a service.
#[must_use]
pub fn is_of_service(cx: &Cx) -> bool {
    cx.claim.kind == Kind::Hosting.as_str()
}

/// Whether the job works on a certificate.
#[must_use]
pub fn is_of_certificate(cx: &Cx) -> bool {
    cx.claim.kind == Kind::Certificate.as_str()
}

/// Whether the job works on a pod.
#[must_use]
pub fn is_of_pod(cx: &Cx) -> bool {
    cx.claim.kind == Kind::Cloudpod.as_str()
}

/// A step begins, so many percent of the way.
pub async fn begin(cx: &Cx, step: &'static str, percent: i32) -> Result<()> {
    if !is_of_service(cx) {
        let tx = cx.world.db.system().await?;
        let progress = Some((percent, ""));
        migrations::set_progress(&tx, &cx.claim, None, Some(step), progress).await?;
        tx.commit().await?;
    }
    cx.log(Level::Info, step, "Begins.").await
}

/// A step has got on.
pub async fn progress(cx: &Cx, percent: i32, note: &str) -> Result<()> {
    if is_of_service(cx) {
        return Ok(());
    }
    let tx = cx.world.db.system().await?;
    migrations::set_progress(&tx, &cx.claim, None, None, Some((percent, note))).await?;
    tx.commit().await
}

/// Whose account it is and which names it wants.
pub async fn names(cx: &Cx) -> Result<Named> {
    let tx = cx.world.db.system().await?;
    if is_of_service(cx) {
        let row = services::load_claimed(&tx, &cx.claim).await?;
        return Named::of_service(&row, &cx.world.config.accounts_domain);
    }
    Named::of_migration(&migrations::load_migration(&tx, cx.claim.job).await?)
}

/// What the job carries out.
pub async fn operations(cx: &Cx) -> Result<Vec<Operation>> {
    let tx = cx.world.db.system().await?;
    let kept = if is_of_service(cx) {
        services::load_claimed(&tx, &cx.claim).await?.operations
    } else {
        migrations::load_migration(&tx, cx.claim.job).await?.operations
    };
    Ok(serde_json::from_value(kept.unwrap_or_else(|| json!([])))?)
}

/// Joins the account that was taken to what it was taken for.
pub async fn record_account(cx: &Cx, tx: &SystemTx) -> Result<()> {
    if is_of_service(cx) {
        services::record_account(tx, &cx.claim).await?;
    }
    Ok(())
}

/// Keeps what became of things.
pub async fn record_items(
    cx: &Cx,
    tx: &SystemTx,
    operations: &[Operation],
    items: &[ItemReport],
) -> Result<()> {
    if !is_of_service(cx) {
        migrations::record_items(tx, &cx.claim, operations, items).await?;
    }
    Ok(())
}
