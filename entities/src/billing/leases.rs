//! Who alone does a piece of work for a while: among many billing workers one asks Stripe for the list
//! of events, one brings a certain product there.

use crate::Result;
use crate::db::{Db, statement};
use crate::ids::WorkerId;
use sea_orm::ConnectionTrait;

/// Takes a lease for so many seconds, or extends one's own; whether it was free.
pub async fn take(db: &Db, name: &str, owner: WorkerId, secs: u32) -> Result<bool> {
    let tx = db.system().await?;
    let sql = "INSERT INTO billing_lease (name, owner, until)
            VALUES ($1, $2, now() + make_interval(secs => $3))
        ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until
            WHERE billing_lease.until < now() OR billing_lease.owner = excluded.owner";
    let values = [name.into(), owner.0.into(), f64::from(secs).into()];
    let taken = tx.conn().execute_raw(statement(sql, values)).await?.rows_affected() > 0;
    tx.commit().await?;
    Ok(taken)
}

/// Gives a lease back.
pub async fn give_back(db: &Db, name: &str, owner: WorkerId) -> Result<()> {
    let tx = db.system().await?;
    let sql = "DELETE FROM billing_lease WHERE name = $1 AND owner = $2";
    tx.conn().execute_raw(statement(sql, [name.into(), owner.0.into()])).await?;
    tx.commit().await
}
