//! Orders: what is bought at the catalogue's prices.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{
    Answer, Json, NoBody, Paging, Success, created, field, maybe_objects, object, objects, ok,
    page, said, said_object, whole,
};
use crate::routes::catalogue::MoneyView;
use crate::schema;
use crate::state::State;
use actix_web::{get, patch, post, web};
use chrono::{DateTime, Utc};
use entities::catalogue::{Billing, Kind};
use entities::error::Error;
use entities::ids::{OrderId, PriceId};
use entities::orders::{self, Change, Filter, NewOrder, Status, TaxData, Wanted, Whole};
use entities::tables::{order_item, order_transition, orders as table};
use entities::tenancy::Permission;
use entities::values::Prose;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(create_order)
        .service(list_orders)
        .service(view_order)
        .service(update_order)
        .service(cancel_order)
        .service(mark_order_paid);
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrderLine {
    /// A price of the catalogue; what it says is what is paid.
    price_id: Uuid,
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 1000)]
    quantity: u32,
    /// The domains of the first units of a hosting plan, and the names of those of a `CloudPod` plan; those
    /// without one get names of ours. A domain that another account has is refused, and so is a name
    /// that a `CloudPod` of the tenant has or is ordered under.
    #[serde(default)]
    #[schema(max_items = 1000)]
    domains: Vec<String>,
}

fn wanted(lines: Vec<OrderLine>) -> Result<Vec<Wanted>, Error> {
    let read = |(nth, line): (usize, OrderLine)| {
        let path = format!("items/{nth}/domains");
        let domains = line.domains.iter().map(|name| field(&path, name));
        Ok(Wanted {
            price: PriceId(line.price_id),
            quantity: line.quantity,
            domains: domains.collect::<Result<_, Error>>()?,
        })
    };
    lines.into_iter().enumerate().map(read).collect()
}

/// Refuses domains that cannot be had. They are looked at again when they are taken.
async fn check_domains(state: &State, caller: &Caller, wanted: &[Wanted]) -> Result<(), Error> {
    if wanted.iter().all(|line| line.domains.is_empty()) {
        return Ok(());
    }
    let tx = state.db.system().await?;
    orders::lines::check_free(&tx, caller.0.tenant(), wanted, &state.accounts_domain).await
}

/// For whom the invoice is written.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TaxView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::maybe_title)]
    company: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::maybe_title)]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::maybe_title)]
    street: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::maybe_title)]
    postal_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::maybe_title)]
    city: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::maybe_title)]
    state: Option<String>,
    #[schema(schema_with = schema::country)]
    country: String,
    /// With the letters of its country: `DE123456789`. Checked for its form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    vat_id: Option<String>,
}

impl TryFrom<TaxView> for TaxData {
    type Error = Error;

    fn try_from(tax: TaxView) -> Result<Self, Error> {
        let line = |path: &str, text: Option<String>| {
            text.map(|text| field(&format!("tax/{path}"), &text)).transpose()
        };
        Ok(Self {
            company: line("company", tax.company)?,
            name: line("name", tax.name)?,
            street: line("street", tax.street)?,
            postal_code: line("postal_code", tax.postal_code)?,
            city: line("city", tax.city)?,
            state: line("state", tax.state)?,
            country: field("tax/country", &tax.country)?,
            vat_id: tax.vat_id.map(|id| field("tax/vat_id", &id)).transpose()?,
        })
    }
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrderNew {
    /// All of one currency; those that are paid again and again of one interval and one trial.
    #[serde(deserialize_with = "objects")]
    #[schema(min_items = 1, max_items = 50)]
    items: Vec<OrderLine>,
    #[serde(default, deserialize_with = "object")]
    tax: Option<TaxView>,
    #[schema(schema_with = schema::maybe_prose)]
    notes: Option<String>,
    /// What the buyer, or whoever orders for them, calls it; each of a tenant once.
    #[schema(schema_with = schema::maybe_title)]
    external_reference: Option<String>,
}

impl TryFrom<OrderNew> for NewOrder {
    type Error = Error;

    fn try_from(new: OrderNew) -> Result<Self, Error> {
        let reference = new.external_reference;
        Ok(Self {
            items: wanted(new.items)?,
            tax: new.tax.map(TryInto::try_into).transpose()?,
            notes: match new.notes {
                Some(text) => field("notes", &text)?,
                None => Prose::default(),
            },
            external_reference: reference.map(|r| field("external_reference", &r)).transpose()?,
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct OrderView {
    id: Uuid,
    /// The buyer.
    tenant_id: Uuid,
    /// What people call it; unique in the installation.
    number: String,
    #[schema(schema_with = schema::order_status)]
    status: Status,
    status_since: DateTime<Utc>,
    /// All prices, without set-up fees; nothing here has tax in it.
    subtotal: MoneyView,
    setup_fees: MoneyView,
    /// The two together.
    total: MoneyView,
    /// The total without what is paid after a trial only.
    due_now: MoneyView,
    tax: Option<TaxView>,
    notes: String,
    external_reference: Option<String>,
    /// Who ordered it: what kind of actor, and which one.
    #[schema(value_type = Object)]
    ordered_by: Value,
    created_at: DateTime<Utc>,
}

fn view(row: table::Model) -> Result<OrderView, Error> {
    let money = |amount| orders::money(&row, amount).map(MoneyView::from);
    Ok(OrderView {
        id: row.id.0,
        tenant_id: row.tenant_id.0,
        status: row.status,
        status_since: row.status_at,
        subtotal: money(row.subtotal)?,
        setup_fees: money(row.setup_fees)?,
        total: money(row.total)?,
        due_now: money(row.due_now)?,
        tax: row.tax.clone().map(serde_json::from_value).transpose()?,
        number: row.number,
        notes: row.notes,
        external_reference: row.external_reference,
        ordered_by: row.ordered_by,
        created_at: row.created_at,
    })
}

/// A line of an order, as it was when it was ordered.
#[derive(Debug, Serialize, ToSchema)]
struct OrderItemView {
    id: Uuid,
    /// The tenant that sells.
    seller_id: Uuid,
    product_id: Uuid,
    price_id: Uuid,
    name: String,
    #[schema(schema_with = schema::product_kind)]
    kind: Kind,
    #[schema(schema_with = schema::specification)]
    specification: Value,
    #[schema(schema_with = schema::billing)]
    interval: Billing,
    /// Of one.
    money: MoneyView,
    /// Of one.
    setup_fee: Option<MoneyView>,
    trial_days: Option<i32>,
    quantity: i32,
    /// Of the first units.
    domains: Vec<String>,
}

fn item(order: &table::Model, row: order_item::Model) -> Result<OrderItemView, Error> {
    let money = |amount| orders::money(order, amount).map(MoneyView::from);
    Ok(OrderItemView {
        id: row.id.0,
        seller_id: row.seller_id.0,
        product_id: row.product_id.0,
        price_id: row.price_id.0,
        name: row.name,
        kind: row.kind,
        specification: row.specification,
        interval: row.billing,
        money: money(row.amount)?,
        setup_fee: row.setup_fee.map(money).transpose()?,
        trial_days: row.trial_days,
        quantity: row.quantity,
        domains: row.domains.map(serde_json::from_value).transpose()?.unwrap_or_default(),
    })
}

/// A step from one status to another.
#[derive(Debug, Serialize, ToSchema)]
struct TransitionView {
    /// None when the order was made.
    #[schema(schema_with = schema::maybe_order_status)]
    before: Option<Status>,
    #[schema(schema_with = schema::order_status)]
    after: Status,
    cause: String,
    /// What kind of actor, and which one.
    #[schema(value_type = Object)]
    actor: Value,
    at: DateTime<Utc>,
}

impl From<order_transition::Model> for TransitionView {
    fn from(row: order_transition::Model) -> Self {
        Self {
            before: row.before,
            after: row.after,
            cause: row.cause,
            actor: row.actor,
            at: row.created_at,
        }
    }
}

/// An order with its lines and how it came to where it stands.
#[derive(Debug, Serialize, ToSchema)]
struct OrderDetail {
    #[serde(flatten)]
    order: OrderView,
    items: Vec<OrderItemView>,
    /// Oldest first.
    transitions: Vec<TransitionView>,
}

fn detail(whole: Whole) -> Result<OrderDetail, Error> {
    let Whole { order, items, transitions } = whole;
    let items = items.into_iter().map(|row| item(&order, row)).collect::<Result<_, _>>()?;
    let transitions = transitions.into_iter().map(Into::into).collect();
    Ok(OrderDetail { order: view(order)?, items, transitions })
}

/// Makes a draft with the catalogue's prices of now.
#[utoipa::path(
    tag = "orders",
    request_body = OrderNew,
    responses((status = 201, body = Success<OrderDetail>))
)]
#[post("/api/orders")]
async fn create_order(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<OrderNew>,
) -> Result<Answer<OrderDetail>, ApiError> {
    let new: NewOrder = body.try_into()?;
    caller.0.require_write(Permission::OrdersWrite)?;
    check_domains(&state, &caller, &new.items).await?;
    let tx = state.db.write(&caller.0, Permission::OrdersWrite).await?;
    let whole = orders::create_order(&tx, new).await?;
    tx.commit().await?;
    Ok(created(detail(whole)?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct OrderFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    #[param(schema_with = schema::order_status)]
    status: Option<String>,
    /// The one with this reference.
    #[param(schema_with = schema::part)]
    external_reference: Option<String>,
}

/// The tenant's orders, newest first.
#[utoipa::path(
    tag = "orders",
    params(OrderFilter),
    responses((status = 200, body = Success<Vec<OrderView>>))
)]
#[get("/api/orders")]
async fn list_orders(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<OrderFilter>,
) -> Result<Answer<Vec<OrderView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let filter = Filter {
        status: query.status.as_deref().map(status).transpose()?,
        external_reference: query.external_reference.clone(),
    };
    let tx = state.db.read(&caller.0, Permission::OrdersRead).await?;
    let (rows, total) = orders::list_orders(&tx, filter, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(view).collect::<Result<_, _>>()?;
    Ok(page(views, paging.meta(total)))
}

fn status(text: &str) -> Result<Status, Error> {
    let known = Status::ALL.into_iter().find(|status| status.as_str() == text);
    known.ok_or_else(|| {
        let names = Status::ALL.map(Status::as_str).join(", ");
        Error::field("status", format!("must be one of {names}"))
    })
}

/// An order.
#[utoipa::path(
    tag = "orders",
    params(("id" = Uuid, Path, description = "the order")),
    responses((status = 200, body = Success<OrderDetail>))
)]
#[get("/api/orders/{id}")]
async fn view_order(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<OrderDetail>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::OrdersRead).await?;
    Ok(ok(detail(orders::find_order(&tx, OrderId(*id)).await?)?))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrderChange {
    /// All lines as they shall be, at the catalogue's prices of now.
    #[serde(default, deserialize_with = "maybe_objects")]
    #[schema(min_items = 1, max_items = 50)]
    items: Option<Vec<OrderLine>>,
    /// All of it as it shall be; null takes it away.
    #[serde(default, deserialize_with = "said_object")]
    #[schema(value_type = Option<TaxView>)]
    tax: Option<Option<TaxView>>,
    #[schema(schema_with = schema::maybe_prose)]
    notes: Option<String>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "said")]
    #[schema(schema_with = schema::maybe_title)]
    external_reference: Option<Option<String>>,
}

impl TryFrom<OrderChange> for Change {
    type Error = Error;

    fn try_from(change: OrderChange) -> Result<Self, Error> {
        let tax = change.tax.map(|tax| tax.map(TryInto::try_into).transpose());
        let reference = change.external_reference;
        let reference =
            reference.map(|text| text.map(|text| field("external_reference", &text)).transpose());
        Ok(Self {
            items: change.items.map(wanted).transpose()?,
            tax: tax.transpose()?,
            notes: change.notes.map(|text| field("notes", &text)).transpose()?,
            external_reference: reference.transpose()?,
        })
    }
}

/// Changes a draft; what is left out stays.
#[utoipa::path(
    tag = "orders",
    params(("id" = Uuid, Path, description = "the order")),
    request_body = OrderChange,
    responses((status = 200, body = Success<OrderDetail>))
)]
#[patch("/api/orders/{id}")]
async fn update_order(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<OrderChange>,
) -> Result<Answer<OrderDetail>, ApiError> {
    let change: Change = body.try_into()?;
    caller.0.require_write(Permission::OrdersWrite)?;
    check_domains(&state, &caller, change.items.as_deref().unwrap_or_default()).await?;
    let tx = state.db.write(&caller.0, Permission::OrdersWrite).await?;
    let whole = orders::update_order(&tx, OrderId(*id), change).await?;
    tx.commit().await?;
    Ok(ok(detail(whole)?))
}

/// Cancels an order that nobody has paid, and gives back what was held for it.
#[utoipa::path(
    tag = "orders",
    params(("id" = Uuid, Path, description = "the order")),
    responses((status = 200, body = Success<OrderDetail>))
)]
#[post("/api/orders/{id}/cancel")]
async fn cancel_order(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<OrderDetail>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::OrdersWrite).await?;
    let whole = orders::cancel_order(&tx, OrderId(*id)).await?;
    tx.commit().await?;
    Ok(ok(detail(whole)?))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Payment {
    /// How it was paid, or why it need not be.
    #[schema(schema_with = schema::title)]
    reason: String,
}

/// Marks an order of any tenant as paid, for the platform's people; what was bought is made then.
#[utoipa::path(
    tag = "orders",
    params(("id" = Uuid, Path, description = "the order")),
    request_body = Payment,
    responses((status = 200, body = Success<OrderDetail>))
)]
#[post("/api/orders/{id}/mark-paid")]
async fn mark_order_paid(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<Payment>,
) -> Result<Answer<OrderDetail>, ApiError> {
    let reason = field("reason", &body.reason)?;
    let whole = orders::mark_paid(&state.db, &caller.0, OrderId(*id), &reason).await?;
    Ok(ok(detail(whole)?))
}
