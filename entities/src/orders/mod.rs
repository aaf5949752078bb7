//! Orders: what somebody buys at the prices of the moment, from a draft to what was bought.
//!
//! [`lines`] looks prices up and adds them up, [`status`] is the way of an order through its life,
//! [`reservations`] the room that is held for it.

pub mod lines;
pub mod reservations;
pub mod status;

pub use lines::Wanted;
pub use status::{Status, advance, expire_overdue};

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, TenantTx};
use crate::error::{Code, Error};
use crate::ids::OrderId;
use crate::tables::orders::{self, Column};
use crate::tables::{order_item, order_transition};
use crate::tenancy::{Permission, TenantCtx};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use values::{Country, Money, Prose, Title, VatId};

/// For whom an invoice is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaxData {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<Title>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Title>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub street: Option<Title>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<Title>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<Title>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Title>,
    pub country: Country,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vat_id: Option<VatId>,
}

/// An order as it is to be. Nobody names a price: it is the catalogue's.
#[derive(Debug)]
pub struct NewOrder {
    pub items: Vec<Wanted>,
    pub tax: Option<TaxData>,
    pub notes: Prose,
    /// What the buyer calls it; each once.
    pub external_reference: Option<Title>,
}

/// What changes of a draft; none: stays, `Some(None)`: is taken away.
#[derive(Debug, Default)]
pub struct Change {
    /// All lines as they shall be, at the prices of now.
    pub items: Option<Vec<Wanted>>,
    pub tax: Option<Option<TaxData>>,
    pub notes: Option<Prose>,
    pub external_reference: Option<Option<Title>>,
}

/// Which orders are wanted; nothing set: all.
#[derive(Debug, Default)]
pub struct Filter {
    pub status: Option<Status>,
    pub external_reference: Option<String>,
}

/// An order with its lines and how it came to where it stands.
#[derive(Debug)]
pub struct Whole {
    pub order: orders::Model,
    pub items: Vec<order_item::Model>,
    /// Oldest first.
    pub transitions: Vec<order_transition::Model>,
}

/// Makes a draft in the tenant.
pub async fn create_order(tx: &TenantTx, new: NewOrder) -> Result<Whole> {
    let drawn = lines::draw(tx, &new.items).await?;
    let totals = lines::add_up(&drawn)?;
    let row = orders::ActiveModel {
        id: Set(OrderId::new()),
        tenant_id: Set(tx.tenant()),
        number: NotSet,
        status: Set(Status::Draft),
        status_at: Set(Utc::now()),
        currency: Set(totals.currency.to_string()),
        subtotal: Set(totals.subtotal.amount()),
        setup_fees: Set(totals.setup_fees.amount()),
        total: Set(totals.total.amount()),
        due_now: Set(totals.due_now.amount()),
        tax: Set(new.tax.map(serde_json::to_value).transpose()?),
        notes: Set(new.notes.to_string()),
        external_reference: Set(new.external_reference.map(String::from)),
        ordered_by: Set(serde_json::to_value(tx.ctx().actor())?),
        created_at: Set(Utc::now()),
        next_at: NotSet,
    };
    let row = row.insert(tx.conn()).await.map_err(reference_taken)?;
    lines::insert(tx, &row, drawn).await?;
    let made = (tx.ctx().actor(), "It was ordered.");
    status::record(tx.conn(), &row, None, Status::Draft, made).await?;
    let (order, number) = (row.id, row.number.clone());
    tx.audit(Audit::OrderCreated { order, number, total: totals.total }).await?;
    whole(tx, row).await
}

/// The one name that an order has to have for itself.
fn reference_taken(error: sea_orm::DbErr) -> Error {
    match Error::from(error) {
        taken if taken.code() == Code::Conflict => {
            let text =
                "There is an order with this external_reference already. Look it up by that.";
            Error::refused(Code::Conflict, text)
        }
        other => other,
    }
}

/// What an order comes to in its currency.
pub fn money(row: &orders::Model, amount: i64) -> Result<Money> {
    Ok(Money::new(amount, row.currency.parse()?))
}

async fn whole(tx: &TenantTx, order: orders::Model) -> Result<Whole> {
    let items = tx
        .own::<order_item::Entity>()
        .filter(order_item::Column::OrderId.eq(order.id))
        .order_by_asc(order_item::Column::Position)
        .all(tx.conn())
        .await?;
    let transitions = tx
        .own::<order_transition::Entity>()
        .filter(order_transition::Column::OrderId.eq(order.id))
        .order_by_asc(order_transition::Column::CreatedAt)
        .order_by_asc(order_transition::Column::Id)
        .all(tx.conn())
        .await?;
    Ok(Whole { order, items, transitions })
}

/// A page of the tenant's orders, newest first, and how many there are.
pub async fn list_orders(
    tx: &TenantTx,
    filter: Filter,
    offset: u64,
    limit: u64,
) -> Result<(Vec<orders::Model>, u64)> {
    let mut query = tx.own::<orders::Entity>();
    if let Some(status) = filter.status {
        query = query.filter(Column::Status.eq(status));
    }
    if let Some(reference) = filter.external_reference {
        query = query.filter(Column::ExternalReference.eq(reference));
    }
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// An order of the tenant.
pub async fn find_order(tx: &TenantTx, id: OrderId) -> Result<Whole> {
    let row = tx.own_by_id::<orders::Entity>(id).one(tx.conn()).await?;
    whole(tx, row.ok_or(Error::NotFound("order"))?).await
}

async fn lock(tx: &TenantTx, id: OrderId) -> Result<orders::Model> {
    let row = tx.own_by_id::<orders::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("order"))
}

/// Changes a draft; an order that is further is refused with `order_state`.
pub async fn update_order(tx: &TenantTx, id: OrderId, change: Change) -> Result<Whole> {
    let row = lock(tx, id).await?;
    if row.status != Status::Draft {
        let (number, status) = (&row.number, row.status.as_str());
        let text = format!("The order {number} is {status}: only a draft can be changed.");
        return Err(Error::refused(Code::OrderState, text));
    }
    let before = show(&row);
    let mut active: orders::ActiveModel = row.clone().into();
    if let Some(items) = change.items {
        let drawn = lines::draw(tx, &items).await?;
        let totals = lines::add_up(&drawn)?;
        active.currency = Set(totals.currency.to_string());
        active.subtotal = Set(totals.subtotal.amount());
        active.setup_fees = Set(totals.setup_fees.amount());
        active.total = Set(totals.total.amount());
        active.due_now = Set(totals.due_now.amount());
        order_item::Entity::delete_many()
            .filter(order_item::Column::TenantId.eq(tx.tenant()))
            .filter(order_item::Column::OrderId.eq(id))
            .exec(tx.conn())
            .await?;
        lines::insert(tx, &row, drawn).await?;
    }
    if let Some(tax) = change.tax {
        active.tax = Set(tax.map(serde_json::to_value).transpose()?);
    }
    if let Some(notes) = change.notes {
        active.notes = Set(notes.to_string());
    }
    if let Some(reference) = change.external_reference {
        active.external_reference = Set(reference.map(String::from));
    }
    let row = match active.is_changed() {
        true => active.update(tx.conn()).await.map_err(reference_taken)?,
        false => row,
    };
    tx.audit(Audit::OrderUpdated { order: id, before, after: show(&row) }).await?;
    whole(tx, row).await
}

fn show(row: &orders::Model) -> Value {
    json!({
        "currency": row.currency,
        "total": row.total,
        "due_now": row.due_now,
        "tax": row.tax,
        "notes": row.notes,
        "external_reference": row.external_reference,
    })
}

/// Cancels an order that nobody has paid. Repeating it changes nothing.
pub async fn cancel_order(tx: &TenantTx, id: OrderId) -> Result<Whole> {
    let row = lock(tx, id).await?;
    let (from, cause) = (row.status, "The buyer cancelled it.");
    let unpaid = [Status::Draft, Status::PendingPayment, Status::Expired, Status::Cancelled];
    if !unpaid.contains(&from) {
        let (number, status) = (&row.number, from.as_str());
        let text =
            format!("The order {number} is {status}: only what nobody has paid is cancelled here.");
        return Err(Error::refused(Code::OrderState, text));
    }
    let stepped = status::step(tx.conn(), tx.ctx().actor(), row.clone(), Status::Cancelled, cause);
    let (row, entry) = match stepped.await? {
        Some(moved) => moved,
        // That somebody asked again is worth a trace, too.
        None => {
            let entry = status::entry(&row, from, cause);
            (row, entry)
        }
    };
    tx.audit(entry).await?;
    whole(tx, row).await
}

/// Marks an order of any tenant as paid, for the platform's people. Repeating it changes nothing.
pub async fn mark_paid(db: &Db, ctx: &TenantCtx, id: OrderId, reason: &Title) -> Result<Whole> {
    ctx.require_write(Permission::OrdersSettle)?;
    let tx = db.system_as(ctx).await?;
    advance(&tx, ctx, id, Status::Paid, &format!("Marked as paid by hand: {reason}")).await?;
    let order = status::lock(&tx, id).await?;
    let items = order_item::Entity::find()
        .filter(order_item::Column::OrderId.eq(id))
        .order_by_asc(order_item::Column::Position);
    let transitions = order_transition::Entity::find()
        .filter(order_transition::Column::OrderId.eq(id))
        .order_by_asc(order_transition::Column::CreatedAt)
        .order_by_asc(order_transition::Column::Id);
    let items = items.all(tx.conn()).await?;
    let transitions = transitions.all(tx.conn()).await?;
    tx.commit().await?;
    Ok(Whole { order, items, transitions })
}
