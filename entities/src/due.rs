//! What the clock does with rows: each in a transaction of its own, so that one that cannot be worked
//! on holds up nobody else.

use crate::Result;
use crate::db::{Db, SystemTx, statement};
use crate::error::Error;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

/// Rows whose time has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// A table with a `next_at`.
    pub table: &'static str,
    /// Finds their ids; its `$1` is the limit.
    pub sql: &'static str,
}

/// Does `work` with each row that is due: it locks the row, and says whether there was something to do.
/// A row that breaks it is looked at again in a minute. How many there were.
pub(crate) async fn each(
    db: &Db,
    due: Due,
    limit: u64,
    work: impl AsyncFn(&SystemTx, Uuid) -> Result<bool>,
) -> Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let tx = db.system().await?;
    let rows = tx.conn().query_all_raw(statement(due.sql, [limit.into()])).await?;
    drop(tx);
    let mut count = 0;
    for row in rows {
        let id: Uuid = row.try_get("", "id")?;
        let worked = async {
            let tx = db.system().await?;
            let was_due = Box::pin(work(&tx, id)).await?;
            tx.commit().await?;
            Ok::<_, Error>(was_due)
        };
        match worked.await {
            Ok(was_due) => count += u64::from(was_due),
            Err(error) => {
                tracing::error!(table = due.table, %id, cause = %error.chain(), "row.not_swept");
                postpone(db, due.table, id).await?;
            }
        }
    }
    Ok(count)
}

/// Lets a row that could not be worked on wait for a minute, so that others have their turn.
pub(crate) async fn postpone(db: &Db, table: &str, id: Uuid) -> Result<()> {
    let later = format!(
        "UPDATE {table} SET next_at = now() + interval '1 minute' WHERE id = $1 AND next_at <= now()"
    );
    let tx = db.system().await?;
    tx.conn().execute_raw(statement(&later, [id.into()])).await?;
    tx.commit().await
}
