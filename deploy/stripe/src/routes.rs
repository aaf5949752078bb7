//! Which call does what.

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::lists::{Filter, list, page};
use crate::params::Params;
use crate::value::Fields;
use crate::world::World;
use crate::{
    cards, catalogue, changes, charges, checkout, coupons, customers, disputes, endpoints,
    invoice_calls, items, payments, portal, refunds, renewals, subscriptions,
};

/// Collections: their path, the kind of their objects, and how lists are filtered.
const COLLECTIONS: &[(&str, &str, &[Filter])] = &[
    ("charges", "charge", &[("customer", "customer"), ("payment_intent", "payment_intent")]),
    (
        "checkout/sessions",
        "checkout.session",
        &[
            ("customer", "customer"),
            ("payment_intent", "payment_intent"),
            ("subscription", "subscription"),
            ("status", "status"),
            ("customer_details.email", "customer_details.email"),
        ],
    ),
    ("coupons", "coupon", &[]),
    ("credit_notes", "credit_note", &[("customer", "customer"), ("invoice", "invoice")]),
    ("customers", "customer", &[("email", "email")]),
    ("disputes", "dispute", &[("charge", "charge"), ("payment_intent", "payment_intent")]),
    ("events", "event", &[("type", "type"), ("types", "type")]),
    (
        "invoice_payments",
        "invoice_payment",
        &[
            ("invoice", "invoice"),
            ("status", "status"),
            ("payment.payment_intent", "payment.payment_intent"),
        ],
    ),
    ("invoiceitems", "invoiceitem", &[("customer", "customer"), ("invoice", "invoice")]),
    (
        "invoices",
        "invoice",
        &[
            ("customer", "customer"),
            ("status", "status"),
            ("subscription", invoice_calls::SUBSCRIPTION_PATH),
            ("collection_method", "collection_method"),
        ],
    ),
    ("payment_intents", "payment_intent", &[("customer", "customer")]),
    ("payment_methods", "payment_method", &[("customer", "customer"), ("type", "type")]),
    (
        "prices",
        "price",
        &[
            ("active", "active"),
            ("product", "product"),
            ("currency", "currency"),
            ("type", "type"),
            ("lookup_keys", "lookup_key"),
            ("recurring.interval", "recurring.interval"),
        ],
    ),
    ("products", "product", &[("active", "active"), ("ids", "id"), ("url", "url")]),
    (
        "promotion_codes",
        "promotion_code",
        &[
            ("active", "active"),
            ("code", "code"),
            ("coupon", "promotion.coupon"),
            ("customer", "customer"),
        ],
    ),
    ("refunds", "refund", &[("charge", "charge"), ("payment_intent", "payment_intent")]),
    (
        "subscriptions",
        "subscription",
        &[
            ("customer", "customer"),
            ("price", "items.data.price.id"),
            ("status", "status"),
            ("collection_method", "collection_method"),
        ],
    ),
    ("webhook_endpoints", "webhook_endpoint", &[]),
];

/// A call: its collection, what follows it, and its form with `{}` for ids.
pub struct Call<'a> {
    collection: String,
    rest: Vec<&'a str>,
    /// `POST /customers/{}`
    pub form: String,
}

impl<'a> Call<'a> {
    /// Reads a path after `/v1/`.
    pub fn read(method: &str, path: &'a str) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let mut collection = parts.next().unwrap_or_default().to_owned();
        if matches!(collection.as_str(), "checkout" | "billing_portal" | "test_helpers") {
            collection = format!("{collection}/{}", parts.next().unwrap_or_default());
        }
        let rest: Vec<&str> = parts.collect();
        let mut form = format!("{method} /{collection}");
        for (place, part) in rest.iter().enumerate() {
            let is_id = place % 2 == 0 && *part != "create_preview";
            form.push('/');
            form.push_str(if is_id { "{}" } else { part });
        }
        Self { collection, rest, form }
    }
}

/// Does a call.
pub fn run(world: &mut World, method: &str, call: &Call<'_>, params: &Params) -> Answer {
    let collection = call.collection.as_str();
    let known = COLLECTIONS.iter().find(|(path, ..)| *path == collection);
    match (method, known, call.rest.as_slice()) {
        ("GET", Some((_, kind, filters)), []) => listed(world, kind, params, filters),
        ("GET", Some((_, kind, _)), [id]) => world.get(kind, id, "id"),
        ("GET", None, []) if collection == "account" => Ok(account()),
        ("GET", None, []) if collection == "test_helpers/test_clocks" => {
            page(test_clocks(world), params, "/v1/test_helpers/test_clocks")
        }
        ("GET", ..) => lists_below(world, collection, &call.rest, params),
        ("DELETE", ..) => delete(world, collection, &call.rest, params),
        ("POST", _, []) => create(world, collection, params),
        ("POST", _, [id]) if collection != "invoices" || *id != "create_preview" => {
            update(world, collection, id, params)
        }
        ("POST", ..) => act(world, collection, &call.rest, params),
        _ => Err(unknown_url(method, collection)),
    }
}

/// The clock, once it was moved: by it whoever goes by Stripe's time knows how late it is.
fn test_clocks(world: &World) -> Vec<Value> {
    if !world.is_moved() {
        return Vec::new();
    }
    vec![json!({
        "id": "clock_sandbox", "object": "test_helpers.test_clock", "created": 1_700_000_000,
        "deletes_after": world.now() + 30 * 86_400, "frozen_time": world.now(), "livemode": false,
        "name": "The sandbox's clock", "status": "ready", "status_details": {},
    })]
}

fn unknown_url(method: &str, collection: &str) -> ApiError {
    ApiError::not_found(format!("Unrecognized request URL ({method}: /v1/{collection})."))
}

fn listed(world: &World, kind: &str, params: &Params, filters: &[Filter]) -> Answer {
    if kind == "subscription" {
        return list_subscriptions(world, params, filters);
    }
    let pending = params.flag("pending")?;
    if kind == "payment_method" && !params.has("customer") {
        return page(Vec::new(), params, "/v1/payment_methods");
    }
    if let Some(pending) = pending {
        let found = world.all(kind).rev().filter(|item| item.at("invoice").is_null() == pending);
        return page(found.cloned().collect(), params, "/v1/invoiceitems");
    }
    list(world, kind, params, filters)
}

/// Without a `status`, subscriptions that were cancelled are left out; `all` has them, too.
fn list_subscriptions(world: &World, params: &Params, filters: &[Filter]) -> Answer {
    let status = params.text("status").unwrap_or_default().to_owned();
    let mut named = params.value().clone();
    let mut narrowed = None;
    if matches!(status.as_str(), "" | "all" | "ended") {
        named.write("status", json!(""));
        narrowed = Some(world.clone());
    }
    let Some(mut trial) = narrowed else { return list(world, "subscription", params, filters) };
    let out: Vec<String> = world
        .all("subscription")
        .filter(|subscription| match status.as_str() {
            "" => subscription.text("status") == "canceled",
            "ended" => !subscriptions::is_over(subscription),
            _ => false,
        })
        .map(|subscription| subscription.text("id").to_owned())
        .collect();
    for id in out {
        trial.remove("subscription", &id);
    }
    list(&trial, "subscription", &Params::of(named), filters)
}

fn account() -> Value {
    json!({
        "id": "acct_sandbox", "object": "account", "business_profile": {"name": "MigraPanel"},
        "business_type": "company", "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": true, "country": "DE", "created": 1_700_000_000, "default_currency": "eur",
        "details_submitted": true, "email": "billing@migrapanel.test", "metadata": {},
        "payouts_enabled": true, "settings": null, "type": "standard",
    })
}

fn lists_below(world: &World, collection: &str, rest: &[&str], params: &Params) -> Answer {
    let of = |kind: &str, id: &str| {
        world.all(kind).rev().filter(|object| object.text("customer") == id).cloned().collect()
    };
    let url = format!("/v1/{collection}/{}", rest.join("/"));
    match (collection, rest) {
        ("customers", [id, "tax_ids"]) => page(of("tax_id", id), params, &url),
        ("customers", [id, "payment_methods"]) => page(of("payment_method", id), params, &url),
        ("customers", [_, "tax_ids", id]) => world.get("tax_id", id, "id"),
        ("checkout/sessions", [id, "line_items"]) => page(
            world.get("checkout.session", id, "id")?.parts("_line_items").to_vec(),
            params,
            &url,
        ),
        ("invoices", [id, "lines"]) => {
            page(world.get("invoice", id, "id")?.parts("lines.data").to_vec(), params, &url)
        }
        ("subscription_items", []) => {
            let subscription =
                world.get("subscription", params.required("subscription")?, "subscription")?;
            page(subscription.parts("items.data").to_vec(), params, &url)
        }
        _ => Err(unknown_url("GET", collection)),
    }
}

fn create(world: &mut World, collection: &str, params: &Params) -> Answer {
    match collection {
        "billing_portal/sessions" => portal::create(world, params),
        "checkout/sessions" => checkout::create(world, params),
        "coupons" => coupons::create_coupon(world, params),
        "credit_notes" => refunds::create_credit_note(world, params),
        "customers" => customers::create(world, params),
        "invoiceitems" => items::create(world, params),
        "invoices" => invoice_calls::create(world, params),
        "payment_intents" => payments::create(world, params),
        "payment_methods" => cards::create(world, params),
        "prices" => catalogue::create_price(world, params),
        "products" => catalogue::create_product(world, params),
        "promotion_codes" => coupons::create_promotion_code(world, params),
        "refunds" => refunds::create(world, params),
        "subscriptions" => subscriptions::create(world, params),
        "webhook_endpoints" => endpoints::create(world, params),
        _ => Err(unknown_url("POST", collection)),
    }
}

fn update(world: &mut World, collection: &str, id: &str, params: &Params) -> Answer {
    match collection {
        "charges" => charges::update(world, id, params),
        "checkout/sessions" => checkout::update(world, id, params),
        "coupons" => coupons::update_coupon(world, id, params),
        "credit_notes" => refunds::update_credit_note(world, id, params),
        "customers" => customers::update(world, id, params),
        "disputes" => disputes::update(world, id, params),
        "invoices" => invoice_calls::update(world, id, params),
        "payment_intents" => payments::update(world, id, params),
        "payment_methods" => cards::update(world, id, params),
        "prices" => catalogue::update_price(world, id, params),
        "products" => catalogue::update_product(world, id, params),
        "promotion_codes" => coupons::update_promotion_code(world, id, params),
        "refunds" => refunds::update(world, id, params),
        "subscriptions" => changes::update(world, id, params),
        "webhook_endpoints" => endpoints::update(world, id, params),
        _ => Err(unknown_url("POST", collection)),
    }
}

fn act(world: &mut World, collection: &str, rest: &[&str], params: &Params) -> Answer {
    match (collection, rest) {
        ("checkout/sessions", [id, "expire"]) => checkout::expire(world, id),
        ("credit_notes", [id, "void"]) => refunds::void_credit_note(world, id),
        ("customers", [id, "tax_ids"]) => customers::create_tax_id(world, id, params),
        ("disputes", [id, "close"]) => disputes::close(world, id, false),
        ("invoices", ["create_preview"]) => invoice_calls::preview(world, params),
        ("invoices", [id, "finalize"]) => invoice_calls::finalize(world, id, params),
        ("invoices", [id, "pay"]) => invoice_calls::pay(world, id, params),
        ("invoices", [id, "void"]) => invoice_calls::give_up(world, id, "void"),
        ("invoices", [id, "mark_uncollectible"]) => {
            invoice_calls::give_up(world, id, "uncollectible")
        }
        ("invoices", [id, "send"]) => invoice_calls::send(world, id),
        ("payment_intents", [id, "confirm"]) => payments::confirm(world, id, params),
        ("payment_intents", [id, "cancel"]) => payments::cancel(world, id, params),
        ("payment_methods", [id, "attach"]) => {
            cards::attach(world, id, params.required("customer")?)
        }
        ("payment_methods", [id, "detach"]) => cards::detach(world, id),
        ("subscriptions", [id, "resume"]) => renewals::resume(world, id),
        _ => Err(unknown_url("POST", collection)),
    }
}

fn delete(world: &mut World, collection: &str, rest: &[&str], params: &Params) -> Answer {
    match (collection, rest) {
        ("coupons", [id]) => coupons::delete_coupon(world, id),
        ("customers", [id]) => customers::delete(world, id),
        ("customers", [_, "tax_ids", id]) => customers::delete_tax_id(world, id),
        ("invoiceitems", [id]) => items::delete(world, id),
        ("invoices", [id]) => invoice_calls::delete(world, id),
        ("products", [id]) => catalogue::delete_product(world, id),
        ("subscriptions", [id]) => renewals::cancel(world, id, params),
        ("webhook_endpoints", [id]) => endpoints::delete(world, id),
        _ => Err(unknown_url("DELETE", collection)),
    }
}
