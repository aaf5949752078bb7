//! The lines of an order: prices of the catalogue as they are at this moment, and what they come to.

use crate::Result;
use crate::catalogue::prices::{self, AMOUNT_MAX};
use crate::catalogue::{Billing, Kind, Limit, Specification};
use crate::cloudpods::hostnames;
use crate::db::{SystemTx, TenantTx};
use crate::error::{Code, Error};
use crate::hosting;
use crate::ids::{OrderItemId, PriceId, TenantId};
use crate::tables::{order_item, orders, price, product};
use cpanel::plan::Ownership;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use std::collections::{BTreeSet, HashMap};
use values::{Currency, DomainName, Invalid, Money};

/// The most lines of an order.
pub const LINES_MAX: usize = 50;
/// The most of one thing.
pub const QUANTITY_MAX: u32 = 1000;

/// What somebody wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub price: PriceId,
    pub quantity: u32,
    /// For the first units of a plan; those without one get names of ours. A pod is called so.
    pub domains: Vec<DomainName>,
}

/// A line with what it rests on.
#[derive(Debug)]
pub(super) struct Line {
    pub price: price::Model,
    pub product: product::Model,
    pub quantity: u32,
    pub domains: Vec<DomainName>,
}

/// What an order comes to, without tax.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub currency: Currency,
    pub subtotal: Money,
    pub setup_fees: Money,
    pub total: Money,
    pub due_now: Money,
}

/// Looks the prices up that the tenant sees. They must be on sale, of one currency, and those that are
/// paid again and again of one interval and one trial: they become one subscription.
pub(super) async fn draw(tx: &TenantTx, wanted: &[Wanted]) -> Result<Vec<Line>> {
    if !(1..=LINES_MAX).contains(&wanted.len()) {
        return Err(Error::field("items", format!("must be 1 to {LINES_MAX}")));
    }
    let ids: BTreeSet<PriceId> = wanted.iter().map(|line| line.price).collect();
    if ids.len() < wanted.len() {
        return Err(Error::field("items", "name a price twice; raise its quantity instead"));
    }
    let prices = tx.seen::<price::Entity>().filter(price::Column::Id.is_in(ids));
    let prices = prices.all(tx.conn()).await?;
    let of_prices = prices.iter().map(|price| price.product_id);
    let products = tx.seen::<product::Entity>().filter(product::Column::Id.is_in(of_prices));
    let products = products.all(tx.conn()).await?;
    let mut prices: HashMap<_, _> = prices.into_iter().map(|row| (row.id, row)).collect();
    let products: HashMap<_, _> = products.into_iter().map(|row| (row.id, row)).collect();
    let mut lines = Vec::with_capacity(wanted.len());
    for (nth, Wanted { price, quantity, domains }) in wanted.iter().enumerate() {
        if !(1..=QUANTITY_MAX).contains(quantity) {
            let path = format!("items/{nth}/quantity");
            return Err(Error::field(&path, format!("must be 1 to {QUANTITY_MAX}")));
        }
        let price = prices.remove(price).ok_or(Error::NotFound("price"))?;
        let product = products.get(&price.product_id).ok_or(Error::NotFound("product"))?.clone();
        if price.archived_at.is_some() || product.archived_at.is_some() {
            let text =
                format!("{} is not sold at this price any more. Choose another.", product.name);
            return Err(Error::refused(Code::NotForSale, text));
        }
        lines.push(Line { price, product, quantity: *quantity, domains: domains.clone() });
    }
    one_subscription(&lines)?;
    check_domains(&lines)?;
    check_addons(&lines)?;
    Ok(lines)
}

/// A domain is named once, and for a plan.
fn check_domains(lines: &[Line]) -> Result<()> {
    let mut named = BTreeSet::new();
    for (nth, line) in lines.iter().enumerate() {
        let refuse = |rule: &str| Error::field(&format!("items/{nth}/domains"), rule);
        if !line.domains.is_empty() && line.product.kind == Kind::Addon {
            return Err(refuse("are for plans only"));
        }
        if u32::try_from(line.domains.len()).is_ok_and(|count| count > line.quantity) {
            return Err(refuse("are more than the quantity"));
        }
        if let Some(twice) = line.domains.iter().find(|domain| !named.insert(*domain)) {
            return Err(refuse(&format!("name {twice} twice")));
        }
    }
    Ok(())
}

/// An add-on raises what a plan of the same order has: by itself it is nothing. What it raises of a
/// container is taken from a server, and is had once for what is paid once.
fn check_addons(lines: &[Line]) -> Result<()> {
    let specification = |line: &Line| serde_json::from_value(line.product.specification.clone());
    let mut plans = Vec::new();
    for line in lines.iter().filter(|line| line.product.kind != Kind::Addon) {
        plans.push((line, specification(line)?));
    }
    for (nth, line) in lines.iter().enumerate() {
        let Specification::Addon { raises, by } = specification(line)? else { continue };
        let refuse = |rule: &str| Error::field(&format!("items/{nth}/price_id"), rule);
        let raised = |plan: &Specification| plan.clone().raise(raises, by);
        let raised: Vec<_> = plans.iter().filter(|(_, plan)| raised(plan)).collect();
        if raised.is_empty() {
            return Err(refuse("is an add-on without a plan that it raises: order it with one"));
        }
        let pods = raised.iter().filter(|(plan, _)| plan.product.kind == Kind::CloudpodPlan);
        let pods = pods.map(|(plan, _)| plan.quantity).sum::<u32>();
        if pods > 1 && raises != Limit::TrafficGib {
            return Err(refuse(
                "is an add-on of one CloudPod, and this order has more: order each with its own, apart from what else it is for",
            ));
        }
    }
    Ok(())
}

/// Refuses domains that another account has, or that lie below `ours`, where the names are that are
/// given to units without one; and names of containers that others of the tenant have.
pub async fn check_free(
    tx: &SystemTx,
    tenant: TenantId,
    wanted: &[Wanted],
    ours: &DomainName,
) -> Result<()> {
    let pods = prices_of_pods(tx, wanted).await?;
    // A pod is only called so.
    free_hostnames(tx, tenant, wanted, &pods).await?;
    let sites: Vec<_> =
        wanted.iter().enumerate().filter(|(_, line)| !pods.contains(&line.price)).collect();
    let names: Vec<DomainName> = sites.iter().flat_map(|(_, line)| line.domains.clone()).collect();
    let owners = hosting::domain_ownership(tx, tenant, None, &names).await?;
    for (nth, line) in sites {
        for name in &line.domains {
            let is_free = owners.get(name) == Some(&Ownership::Free);
            if !is_free || name == ours || name.is_below(ours) || ours.is_below(name) {
                let rule = format!("{name} cannot be had: it belongs to another account");
                return Err(Error::field(&format!("items/{nth}/domains"), rule));
            }
        }
    }
    Ok(())
}

/// Refuses names of pods that others of the tenant have, or that no pod can have.
async fn free_hostnames(
    tx: &SystemTx,
    tenant: TenantId,
    wanted: &[Wanted],
    pods: &BTreeSet<PriceId>,
) -> Result<()> {
    let lines: Vec<_> =
        wanted.iter().enumerate().filter(|(_, line)| pods.contains(&line.price)).collect();
    let names = lines.iter().flat_map(|(_, line)| &line.domains).map(DomainName::as_str);
    let taken = hostnames::taken(tx, tenant, &names.collect::<Vec<_>>(), None).await?;
    for (nth, line) in lines {
        for name in &line.domains {
            let is_had = taken.contains(name.as_str());
            let had = || is_had.then(|| hostnames::had(name.as_str()));
            if let Some(rule) = hostnames::unfit(name).or_else(had) {
                return Err(Error::field(&format!("items/{nth}/domains"), rule));
            }
        }
    }
    Ok(())
}

async fn prices_of_pods(tx: &SystemTx, wanted: &[Wanted]) -> Result<BTreeSet<PriceId>> {
    let prices = price::Entity::find()
        .filter(price::Column::Id.is_in(wanted.iter().map(|line| line.price)))
        .all(tx.conn())
        .await?;
    let pods = product::Entity::find()
        .filter(product::Column::Id.is_in(prices.iter().map(|price| price.product_id)))
        .filter(product::Column::Kind.eq(Kind::CloudpodPlan))
        .all(tx.conn())
        .await?;
    let pods: BTreeSet<_> = pods.into_iter().map(|row| row.id).collect();
    let of_pods = prices.into_iter().filter(|price| pods.contains(&price.product_id));
    Ok(of_pods.map(|price| price.id).collect())
}

fn one_subscription(lines: &[Line]) -> Result<()> {
    let recurring = lines.iter().map(|line| &line.price).filter(|p| p.billing != Billing::OneOff);
    let mut terms = recurring.map(|price| (price.billing, price.trial_days));
    let Some(first) = terms.next() else { return Ok(()) };
    if terms.all(|other| other == first) {
        return Ok(());
    }
    let rule = "that are paid again and again must all be of one interval and one trial; order the others by themselves";
    Err(Error::field("items", rule))
}

/// Adds the lines up; more than can be paid at once is refused.
pub(super) fn add_up(lines: &[Line]) -> Result<Totals> {
    let first = lines.first().ok_or_else(|| Error::internal("an order without a line"))?;
    let currency = Currency::parse(&first.price.currency)?;
    if lines.iter().any(|line| line.price.currency != currency.as_str()) {
        return Err(Error::field("items", "must all be of one currency"));
    }
    let too_much = |_: Invalid| Error::field("items", "come to more than can be paid at once");
    let mut subtotal = Money::zero(currency);
    let mut setup_fees = subtotal;
    let mut due_now = subtotal;
    for line in lines {
        let each = prices::money(&line.price)?.times(line.quantity).map_err(too_much)?;
        let fee = prices::setup_fee(&line.price)?.unwrap_or_else(|| Money::zero(currency));
        let fee = fee.times(line.quantity).map_err(too_much)?;
        subtotal = subtotal.plus(each).map_err(too_much)?;
        setup_fees = setup_fees.plus(fee).map_err(too_much)?;
        due_now = due_now.plus(fee).map_err(too_much)?;
        if line.price.trial_days.is_none() {
            due_now = due_now.plus(each).map_err(too_much)?;
        }
    }
    let total = subtotal.plus(setup_fees).map_err(too_much)?;
    if total.amount() > AMOUNT_MAX {
        return Err(Error::field("items", "come to more than can be paid at once"));
    }
    Ok(Totals { currency, subtotal, setup_fees, total, due_now })
}

/// Puts the lines into an order that has none.
pub(super) async fn insert(tx: &TenantTx, order: &orders::Model, lines: Vec<Line>) -> Result<()> {
    let mut rows = Vec::with_capacity(lines.len());
    for (nth, line) in lines.into_iter().enumerate() {
        rows.push(order_item::ActiveModel {
            id: Set(OrderItemId::new()),
            tenant_id: Set(order.tenant_id),
            order_id: Set(order.id),
            position: Set(i32::try_from(nth).map_err(Error::internal)?),
            seller_id: Set(line.price.tenant_id),
            product_id: Set(line.product.id),
            price_id: Set(line.price.id),
            name: Set(line.product.name),
            kind: Set(line.product.kind),
            specification: Set(line.product.specification),
            billing: Set(line.price.billing),
            amount: Set(line.price.amount),
            setup_fee: Set(line.price.setup_fee),
            trial_days: Set(line.price.trial_days),
            quantity: Set(i32::try_from(line.quantity).map_err(Error::internal)?),
            domains: Set(match line.domains.is_empty() {
                true => None,
                false => Some(serde_json::to_value(line.domains)?),
            }),
        });
    }
    order_item::Entity::insert_many(rows).exec_without_returning(tx.conn()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::SyncState;
    use crate::ids::ProductId;
    use chrono::Utc;

    fn line(amount: i64, setup_fee: Option<i64>, trial_days: Option<i32>, quantity: u32) -> Line {
        let (tenant_id, product_id) = (TenantId::new(), ProductId::new());
        Line {
            price: price::Model {
                id: PriceId::new(),
                tenant_id,
                product_id,
                currency: "eur".to_owned(),
                amount,
                billing: Billing::Month,
                setup_fee,
                trial_days,
                archived_at: None,
                created_at: Utc::now(),
                stripe_id: None,
                sync_state: SyncState::Pending,
                sync_error: None,
                version: 1,
                synced_version: 0,
            },
            product: product::Model {
                id: product_id,
                tenant_id,
                category_id: None,
                name: "Plan".to_owned(),
                description: String::new(),
                kind: Kind::HostingPlan,
                specification: serde_json::Value::Null,
                position: 0,
                archived_at: None,
                created_at: Utc::now(),
                stripe_id: None,
                sync_state: SyncState::Pending,
                sync_error: None,
                version: 1,
                synced_version: 0,
                code: None,
            },
            quantity,
            domains: Vec::new(),
        }
    }

    #[test]
    fn fees_are_paid_at_once_and_what_is_tried_later() {
        let lines = [line(999, Some(1500), Some(14), 2), line(250, None, None, 3)];
        let totals = add_up(&lines).unwrap();
        let sums = [totals.subtotal, totals.setup_fees, totals.total, totals.due_now];
        assert_eq!(sums.map(Money::amount), [2748, 3000, 5748, 3750]);
        assert_eq!(totals.currency.as_str(), "eur");
    }

    #[test]
    fn what_cannot_be_counted_or_paid_is_refused() {
        assert_eq!(add_up(&[line(AMOUNT_MAX, None, None, 1)]).unwrap().total.amount(), AMOUNT_MAX);
        for lines in [
            vec![line(i64::MAX, None, None, 2)],
            vec![line(i64::MAX, None, None, 1), line(1, None, None, 1)],
            vec![line(i64::MAX, Some(1), None, 1)],
            vec![line(1, Some(i64::MAX), Some(7), 2)],
            vec![line(AMOUNT_MAX, None, None, 1), line(1, None, None, 1)],
            vec![line(AMOUNT_MAX, Some(1), None, 1)],
        ] {
            assert_eq!(add_up(&lines).unwrap_err().code(), Code::InvalidRequest, "{lines:?}");
        }
        let mut foreign = line(1, None, None, 1);
        foreign.price.currency = "usd".to_owned();
        assert!(add_up(&[line(1, None, None, 1), foreign]).is_err());
    }
}
