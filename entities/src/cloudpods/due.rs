//! What the clock does with pods: each in a transaction of its own, so that one that cannot be
//! worked on holds up nobody else.

use super::lock;
use crate::Result;
use crate::db::{Db, SystemTx, statement};
use crate::ids::CloudpodId;
use crate::tables::cloudpod;
use sea_orm::ConnectionTrait;

/// When a pod that broke a sweep is looked at again.
const LATER: &str =
    "UPDATE cloudpod SET next_at = now() + interval '1 minute' WHERE id = $1 AND next_at <= now()";

/// Does `work` with each pod, locked, that `sql` finds (its `$1` is the limit): it says whether there
/// was something to do. How many there were.
pub(super) async fn each(
    db: &Db,
    sql: &str,
    limit: u64,
    work: impl AsyncFn(&SystemTx, cloudpod::Model) -> Result<bool>,
) -> Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let tx = db.system().await?;
    let rows = tx.conn().query_all_raw(statement(sql, [limit.into()])).await?;
    drop(tx);
    let mut count = 0;
    for row in rows {
        let id: CloudpodId = row.try_get("", "id")?;
        let worked = async {
            let tx = db.system().await?;
            let row = lock(&tx, id).await?;
            let was_due = Box::pin(work(&tx, row)).await?;
            tx.commit().await?;
            Ok::<_, crate::error::Error>(was_due)
        };
        match worked.await {
            Ok(was_due) => count += u64::from(was_due),
            Err(error) => {
                tracing::error!(cloudpod = %id, cause = %error.chain(), "pods.not_swept");
                let tx = db.system().await?;
                tx.conn().execute_raw(statement(LATER, [id.0.into()])).await?;
                tx.commit().await?;
            }
        }
    }
    Ok(count)
}
