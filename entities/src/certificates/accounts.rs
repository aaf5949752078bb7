//! This installation's accounts at certificate authorities, one for each directory, and the secrets of
//! all certificates at rest.

use crate::Result;
use crate::audit::Audit;
use crate::db::Db;
use crate::error::Error;
use crate::mfa::Resealed;
use crate::sealing::SealingKeys;
use crate::tables::{acme_account, certificate};
use crate::tenants;
use chrono::Utc;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use secrecy::SecretString;

/// The account at an authority.
#[derive(Debug)]
pub struct AcmeAccount {
    /// As this installation has kept it: PKCS #8 in base64.
    pub key: SecretString,
    /// None until the authority has named it.
    pub url: Option<String>,
}

/// The account at this directory. Where there is none, this key becomes its key; of several workers
/// that come with one at once the first is kept, and all use it: an authority that is shown a key twice
/// answers the same account.
pub async fn keep_account(
    db: &Db,
    keys: &SealingKeys,
    directory: &str,
    new_key: &SecretString,
) -> Result<AcmeAccount> {
    let tx = db.system().await?;
    let row = acme_account::ActiveModel {
        directory: Set(directory.to_owned()),
        sealed_key: Set(keys.seal(new_key)?),
        url: NotSet,
        created_at: Set(Utc::now()),
    };
    let first = OnConflict::new().do_nothing().to_owned();
    acme_account::Entity::insert(row).on_conflict(first).exec_without_returning(tx.conn()).await?;
    let row = acme_account::Entity::find_by_id(directory).one(tx.conn()).await?;
    let row = row.ok_or_else(|| Error::internal("an ACME account that was not kept"))?;
    let account = AcmeAccount { key: keys.open(&row.sealed_key)?, url: row.url };
    tx.commit().await?;
    Ok(account)
}

/// Keeps what the authority calls the account; none when it does not know it any more.
pub async fn keep_account_url(db: &Db, directory: &str, url: Option<&str>) -> Result<()> {
    let tx = db.system().await?;
    acme_account::Entity::update_many()
        .col_expr(acme_account::Column::Url, Expr::value(url))
        .filter(acme_account::Column::Directory.eq(directory))
        .exec(tx.conn())
        .await?;
    tx.commit().await
}

/// How many rows are put under the newest key in one transaction.
const AT_ONCE: u64 = 100;

/// Puts the keys of certificates and of accounts under the newest sealing key. May be repeated, and
/// stopped half-way.
pub async fn reseal(db: &Db, keys: &SealingKeys) -> Result<Resealed> {
    let mut all = reseal_accounts(db, keys).await?;
    let mut after = crate::ids::CertificateId(uuid::Uuid::nil());
    loop {
        let tx = db.system().await?;
        let rows = certificate::Entity::find()
            .filter(certificate::Column::Id.gt(after))
            .order_by_asc(certificate::Column::Id)
            .limit(AT_ONCE)
            .lock_exclusive()
            .all(tx.conn())
            .await?;
        let Some(last) = rows.last() else { return Ok(all) };
        after = last.id;
        let before = all.count;
        for row in rows {
            let anew = |sealed: &Option<String>| {
                sealed.as_deref().map(|sealed| keys.reseal(sealed)).transpose()
            };
            let (now, next) = match (anew(&row.sealed_key), anew(&row.next_sealed_key)) {
                (Ok(now), Ok(next)) => (now.flatten(), next.flatten()),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(certificate = %row.id, cause = %error.chain(), "certificate.unreadable");
                    all.unreadable = all.unreadable.saturating_add(1);
                    continue;
                }
            };
            if now.is_none() && next.is_none() {
                continue;
            }
            let mut active: certificate::ActiveModel = row.into();
            if now.is_some() {
                active.sealed_key = Set(now);
            }
            if next.is_some() {
                active.next_sealed_key = Set(next);
            }
            active.update(tx.conn()).await?;
            all.count = all.count.saturating_add(1);
        }
        let count = all.count.saturating_sub(before);
        if count > 0 {
            tenants::audit_operator(&tx, Audit::SecretsResealed { count }).await?;
            tx.commit().await?;
        }
    }
}

async fn reseal_accounts(db: &Db, keys: &SealingKeys) -> Result<Resealed> {
    let mut all = Resealed::default();
    let tx = db.system().await?;
    for row in acme_account::Entity::find().lock_exclusive().all(tx.conn()).await? {
        match keys.reseal(&row.sealed_key) {
            Ok(None) => {}
            Ok(Some(anew)) => {
                let mut active: acme_account::ActiveModel = row.into();
                active.sealed_key = Set(anew);
                active.update(tx.conn()).await?;
                all.count = all.count.saturating_add(1);
            }
            Err(error) => {
                tracing::error!(directory = row.directory, cause = %error.chain(), "acme_account.unreadable");
                all.unreadable = all.unreadable.saturating_add(1);
            }
        }
    }
    if all.count > 0 {
        tenants::audit_operator(&tx, Audit::SecretsResealed { count: all.count }).await?;
        tx.commit().await?;
    }
    Ok(all)
}
