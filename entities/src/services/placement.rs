//! Where a service is made, and under which user name.

use crate::Result;
use crate::db::{SystemTx, statement};
use crate::error::Error;
use crate::ids::{ServerId, TenantId};
use crate::tables::service;
use sea_orm::ConnectionTrait;
use std::collections::BTreeSet;
use values::Username;

/// The advisory lock under which places and names are chosen, one at a time, so that of two who
/// choose at once the second sees what the first has taken.
const PLACE_LOCK: i64 = 0x6d69_6773;

/// The least loaded of the servers that a tenant may use by a grant to it or to a tenant above it;
/// the platform may use all. One that is enrolled, healthy and not in maintenance; the one that was
/// tried last only when there is no other. Load are the accounts that are there and that are coming.
const LEAST_LOADED: &str = "SELECT s.id FROM server s
    WHERE s.kind = 'hosting' AND s.state = 'enrolled' AND NOT s.maintenance AND NOT s.draining
      AND s.last_error IS NULL
      AND NOT EXISTS (SELECT FROM jsonb_each(s.health -> 'services') h WHERE h.value = 'false')
      AND (EXISTS (SELECT FROM server_grant g
              JOIN tenant_ancestry a ON a.ancestor_id = g.tenant_id
              WHERE g.server_id = s.id AND a.descendant_id = $1)
          OR EXISTS (SELECT FROM tenant t WHERE t.id = $1 AND t.kind = 'platform'))
    ORDER BY s.id IS NOT DISTINCT FROM $2,
        (SELECT count(*) FROM hosting_account a WHERE a.server_id = s.id)
          + (SELECT count(*) FROM service o WHERE o.server_id = s.id
              AND o.state = 'provisioning' AND o.account_id IS NULL)
          + (SELECT count(*) FROM job j JOIN migration m ON m.id = j.id
              WHERE j.server_id = s.id AND m.state = 'applying'
                AND NOT EXISTS (SELECT FROM hosting_account a
                    WHERE a.server_id = s.id AND a.username = m.target_user)),
        (s.health ->> 'home_free_bytes')::numeric DESC NULLS LAST,
        s.id
    LIMIT 1";

/// The server that a service is to be made on; none when no server has room for it.
pub(super) async fn choose(
    tx: &SystemTx,
    tenant: TenantId,
    last: Option<ServerId>,
) -> Result<Option<ServerId>> {
    let lock = statement("SELECT pg_advisory_xact_lock($1)", [PLACE_LOCK.into()]);
    tx.conn().execute_raw(lock).await?;
    let values = [tenant.0.into(), last.map(|id| id.0).into()];
    let row = tx.conn().query_one_raw(statement(LEAST_LOADED, values)).await?;
    Ok(row.map(|row| row.try_get("", "id")).transpose()?)
}

/// The longest beginning that a name takes from its domain; the rest is for a number.
const BEGINNING_MAX: usize = 12;

/// Names that begin so, of any server: a service may be made on each of them.
const TAKEN: &str = "SELECT username AS name FROM hosting_account WHERE starts_with(username, $1)
    UNION SELECT username FROM service WHERE starts_with(username, $1)
    UNION SELECT target_user FROM migration
        WHERE starts_with(target_user, $1) AND state IN ('queued', 'analyzing', 'analyzed', 'applying')";

/// Draws a user name that nobody has, after the first label of the domain: `shop.example` becomes
/// `shop`, the next `shop1`. [`choose`] was called before in this transaction, whose lock holds.
pub(super) async fn draw_username(tx: &SystemTx, row: &service::Model) -> Result<Username> {
    let beginning = beginning(row.domain.as_deref());
    let rows = tx.conn().query_all_raw(statement(TAKEN, [beginning.as_str().into()])).await?;
    let mut taken = BTreeSet::new();
    for row in rows {
        taken.insert(row.try_get::<String>("", "name")?);
    }
    let numbered = (1..10_000).map(|number| format!("{beginning}{number}"));
    let free = std::iter::once(beginning.clone())
        .chain(numbered)
        .filter_map(|name| Username::parse(&name).ok())
        .find(|name| !name.is_reserved() && !taken.contains(name.as_str()));
    free.ok_or_else(|| Error::internal(format!("ten thousand users are called {beginning}")))
}

fn beginning(domain: Option<&str>) -> String {
    let label = domain.and_then(|domain| domain.split('.').next()).unwrap_or_default();
    let label = label.strip_prefix("xn--").unwrap_or(label);
    let letters = label.chars().filter(char::is_ascii_alphanumeric);
    let letters: String = letters.skip_while(char::is_ascii_digit).take(BEGINNING_MAX).collect();
    if letters.is_empty() { "site".to_owned() } else { letters }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_as_its_domain_does() {
        for (domain, name) in [
            (Some("shop.example"), "shop"),
            (Some("my-shop_2.example"), "myshop2"),
            (Some("24shop.example"), "shop"),
            (Some("1234.example"), "site"),
            (Some("averyveryverylongname.example"), "averyveryver"),
            (Some("xn--bcher-kva.example"), "bcherkva"),
            (None, "site"),
        ] {
            assert_eq!(beginning(domain), name);
            assert!(Username::parse(name).is_ok());
        }
    }
}
