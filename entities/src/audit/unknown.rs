//! Failed logins of accounts that do not exist: counted by address, and recorded once a quarter of
//! an hour, so that guessing fills no trail.

use crate::Result;
use crate::audit::{Audit, insert, nobody};
use crate::db::{Db, statement};
use crate::tenancy::Origin;
use chrono::{DateTime, Utc};
use sea_orm::ConnectionTrait;

/// Counts one failed login from `ip` of an account that does not exist.
pub async fn tally_unknown_login(db: &Db, ip: Option<&str>) -> Result<()> {
    let sql = "INSERT INTO audit_unknown_login AS tally (quarter, ip, count)
        VALUES (date_bin('15 minutes', now(), 'epoch'), $1, 1)
        ON CONFLICT (quarter, ip) DO UPDATE SET count = tally.count + 1";
    let tx = db.system().await?;
    tx.conn().execute_raw(statement(sql, [ip.unwrap_or("unknown").into()])).await?;
    tx.commit().await
}

/// Turns the counts of the quarters that are over into entries of the platform's trail; answers how
/// many. A count leaves its table in the transaction of its entry, so that a process that dies
/// loses and doubles nothing. Without a platform there is nothing to log in to, and all waits.
pub async fn record_unknown_logins(db: &Db) -> Result<usize> {
    let tx = db.system().await?;
    let Some(platform) = crate::tenants::platform(&tx).await? else { return Ok(0) };
    let sql = "DELETE FROM audit_unknown_login WHERE (quarter, ip) IN
        (SELECT quarter, ip FROM audit_unknown_login WHERE quarter <= now() - interval '15 minutes'
         ORDER BY quarter, ip LIMIT 1000 FOR UPDATE SKIP LOCKED)
        RETURNING quarter, ip, count";
    let rows = tx.conn().query_all_raw(statement(sql, [])).await?;
    for row in &rows {
        let since: DateTime<Utc> = row.try_get("", "quarter")?;
        let origin = Origin { ip: Some(row.try_get("", "ip")?), user_agent: None };
        let entry = Audit::LoginFailed {
            reason: "unknown_account".to_owned(),
            count: row.try_get("", "count")?,
            since: Some(since),
        };
        insert(tx.conn(), nobody(platform, None, origin), entry).await?;
    }
    tx.commit().await?;
    Ok(rows.len())
}
