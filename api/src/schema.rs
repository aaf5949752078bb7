//! What fields may hold, as the contract says it. That it is so is decided by the types that read them.

use crate::extract::{PRINTABLE, READABLE};
use cpanel::plan::{Component, Mode, Suspended};
use entities::tenancy::{Role, TenantKind};
use entities::webhooks::EVENTS;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::schema::{AdditionalProperties, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{
    Array, ArrayBuilder, KnownFormat, Object, ObjectBuilder, RefOr, Schema, SchemaFormat,
};

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn named<T: Serialize>(names: impl IntoIterator<Item = T>) -> Object {
    let names = names.into_iter().map(|name| serde_json::to_value(name).unwrap_or_default());
    text().enum_values(Some(names.collect::<Vec<Value>>())).build()
}

/// The same, or null.
fn or_null(mut schema: Object) -> Object {
    schema.schema_type = SchemaType::from_iter([Type::String, Type::Null]);
    if let Some(names) = &mut schema.enum_values {
        names.push(Value::Null);
    }
    schema
}

pub(crate) fn role() -> Object {
    let mut schema = named(Role::ALL);
    let text = "Each has the rights of those after it. Nobody gives a higher one than their own.";
    schema.description = Some(text.to_owned());
    schema
}

pub(crate) fn maybe_role() -> Object {
    or_null(role())
}

/// What a tenant below another may be.
pub(crate) fn tenant_kind() -> Object {
    named([TenantKind::Reseller, TenantKind::Customer])
}

/// A mail address in ASCII (at most 254: RFC 5321 section 4.5.3.1.3); a domain in Unicode is taken, too.
pub(crate) fn mail_address() -> Object {
    let pattern = r"^[A-Za-z0-9_+=]([A-Za-z0-9._+=-]{0,62}[A-Za-z0-9_+=])?@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}$";
    text().pattern(Some(pattern)).max_length(Some(254)).build()
}

/// A path from the root on, without control characters.
pub(crate) fn path() -> Object {
    let pattern = r"^/[^\u0000-\u001f\u007f-\u009f]*$";
    text().pattern(Some(pattern)).max_length(Some(4096)).build()
}

/// The name of an account on a server.
pub(crate) fn username() -> Object {
    text().pattern(Some("^[a-z][a-z0-9]{0,15}$")).build()
}

/// A part of a name, to look for.
pub(crate) fn part() -> Object {
    text().pattern(Some(PRINTABLE)).max_length(Some(200)).build()
}

/// A moment of the years that are taken ([`crate::extract::is_moment`]), or null.
pub(crate) fn maybe_moment() -> Object {
    let moment = text()
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .pattern(Some("^(19[7-9]|[2-9][0-9]{2})[0-9]-"))
        .description(Some("Left out: never."));
    or_null(moment.build())
}

fn name(max: usize) -> Object {
    text().pattern(Some(READABLE)).min_length(Some(1)).max_length(Some(max)).build()
}

pub(crate) fn name_100() -> Object {
    name(100)
}

pub(crate) fn name_200() -> Object {
    name(200)
}

pub(crate) fn maybe_name_200() -> Object {
    or_null(name(200))
}

/// Why something is done: a sentence.
pub(crate) fn reason() -> Object {
    name(500)
}

pub(crate) fn long_reason() -> Object {
    let mut schema = name(500);
    schema.min_length = Some(5);
    schema
}

pub(crate) fn new_password() -> Object {
    text()
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
        .min_length(Some(8))
        .max_length(Some(72))
        .description(Some("8 to 72 bytes, on no list of breached ones, not one's own name."))
        .build()
}

pub(crate) fn maybe_new_password() -> Object {
    or_null(new_password())
}

pub(crate) fn maybe_ipv4() -> Object {
    or_null(text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Ipv4))).build())
}

pub(crate) fn maybe_ipv6() -> Object {
    or_null(text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Ipv6))).build())
}

pub(crate) fn mode() -> Object {
    let mut schema = named([Mode::Merge, Mode::Overwrite]);
    let text = "`merge`, by default: what stands stays, and only what is missing is added. `overwrite`: what stands is replaced and kept for rollback.";
    schema.description = Some(text.to_owned());
    schema
}

pub(crate) fn suspended() -> Object {
    let mut schema = named([Suspended::Keep, Suspended::Activate]);
    let text = "For an account that was suspended on the source: `keep`, by default, so that nothing of it can be used here, or `activate`.";
    schema.description = Some(text.to_owned());
    schema
}

/// A list of components, or an object that has for each the names to restore of it.
pub(crate) fn components() -> Schema {
    Schema::OneOf(choice_of_components().build())
}

pub(crate) fn maybe_components() -> Schema {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    Schema::OneOf(choice_of_components().item(null).build())
}

fn choice_of_components() -> OneOfBuilder {
    let list = ArrayBuilder::new().items(named(Component::ALL)).min_items(Some(1));
    let names = || {
        let either = SchemaType::from_iter([Type::Array, Type::Null]);
        ArrayBuilder::new().schema_type(either).items(text())
    };
    let each = Component::ALL.iter().fold(ObjectBuilder::new(), |object, component| {
        let name = serde_json::to_value(component).unwrap_or_default();
        object.property(name.as_str().unwrap_or_default(), names())
    });
    let each = each
        .min_properties(Some(1))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    let text = "`[\"files\", \"email\"]`, or `{\"databases\": [\"shop_wp\"], \"dns\": []}` with the names to restore of each (none: all of it).";
    OneOfBuilder::new().item(list).item(each).description(Some(text))
}

/// By the id of a conflict: `"skip"`, `"replace"` or `{"rename": "NAME"}`.
pub(crate) fn resolutions() -> Object {
    let rename = ObjectBuilder::new()
        .property("rename", text())
        .required("rename")
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    let way = OneOfBuilder::new().item(named(["skip", "replace"])).item(rename);
    let ways = RefOr::T(Schema::OneOf(way.build()));
    ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::RefOr(ways)))
        .description(Some(
            "By the id of a conflict: `\"skip\"`, `\"replace\"` or `{\"rename\": \"NAME\"}`.",
        ))
        .build()
}

/// Where a webhook is sent.
pub(crate) fn webhook_url() -> Object {
    let pattern = r"^https://([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}(:[1-9][0-9]{0,3})?(/[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?$";
    text().pattern(Some(pattern)).max_length(Some(500)).build()
}

pub(crate) fn maybe_webhook_url() -> Object {
    or_null(webhook_url())
}

/// A remark, or none.
pub(crate) fn note_200() -> Object {
    part()
}

pub(crate) fn maybe_note_200() -> Object {
    or_null(part())
}

/// Names of events.
pub(crate) fn webhook_events() -> Array {
    let names = named(EVENTS.iter().map(|(_, event)| *event));
    ArrayBuilder::new().items(names).max_items(Some(EVENTS.len())).unique_items(true).build()
}

pub(crate) fn maybe_webhook_events() -> Array {
    let mut schema = webhook_events();
    schema.schema_type = SchemaType::from_iter([Type::Array, Type::Null]);
    schema
}

/// Where a delivery stands.
pub(crate) fn delivery_state() -> Object {
    named(["pending", "delivered", "failed"])
}
