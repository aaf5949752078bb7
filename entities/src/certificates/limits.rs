//! How often a name may be ordered, so that an authority's own limits are never met: Let's Encrypt
//! issues five certificates a week for the same names and fails five validations an hour.

use super::CertificateName;
use crate::Result;
use crate::db::{SystemTx, statement};
use crate::error::{Code, Error};
use crate::jobs::{self, Claim};
use sea_orm::ConnectionTrait;

/// Orders for one name in 24 hours.
pub const ORDERS_A_DAY: i64 = 5;
/// Certificates for one name in seven days.
const ISSUED_A_WEEK: i64 = 5;

/// Refuses names that were ordered too often of late.
pub async fn check_limit(tx: &SystemTx, names: &[CertificateName]) -> Result<()> {
    for name in names {
        let row = tx
            .conn()
            .query_one_raw(statement(
                "SELECT count(*) FILTER (WHERE ordered_at > now() - interval '1 day') AS ordered,
                    count(*) FILTER (WHERE issued_at > now() - interval '7 days') AS issued
                 FROM certificate_order WHERE name = $1",
                [name.to_string().into()],
            ))
            .await?;
        let Some(row) = row else { continue };
        let (ordered, issued): (i64, i64) =
            (row.try_get("", "ordered")?, row.try_get("", "issued")?);
        if ordered < ORDERS_A_DAY && issued < ISSUED_A_WEEK {
            continue;
        }
        let text = format!(
            "{name} was ordered {ordered} times in a day and issued {issued} times in a week: there is another attempt tomorrow."
        );
        return Err(Error::later(Code::CaLimit, text, 24 * 3600));
    }
    Ok(())
}

/// Counts an order.
pub(super) async fn count_order(
    tx: &SystemTx,
    claim: &Claim,
    names: &[CertificateName],
    url: &str,
) -> Result<()> {
    jobs::hold(tx, claim).await?;
    for name in names {
        let values = [name.to_string().into(), url.into()];
        let sql =
            "INSERT INTO certificate_order (name, url) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        tx.conn().execute_raw(statement(sql, values)).await?;
    }
    // What no limit asks about any more.
    let sql = "DELETE FROM certificate_order WHERE ordered_at < now() - interval '30 days'";
    tx.conn().execute_raw(statement(sql, [])).await?;
    Ok(())
}

/// Counts what came of an order.
pub(super) async fn count_issued(tx: &SystemTx, url: &str) -> Result<()> {
    let sql = "UPDATE certificate_order SET issued_at = now() WHERE url = $1 AND issued_at IS NULL";
    tx.conn().execute_raw(statement(sql, [url.into()])).await?;
    Ok(())
}
