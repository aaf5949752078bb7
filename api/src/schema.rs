//! What fields may hold, as the contract says it. That it is so is decided by the types that read them.

use crate::extract::{PRINTABLE, READABLE};
use cpanel::plan::{Component, Mode, Suspended};
use entities::billing::{checkouts, events, repayments, subscriptions};
use entities::catalogue::{Billing, Kind, Limit};
use entities::certificates::{self, Challenge, NAMES_MAX};
use entities::cloudpods::{self, create::KEYS_MAX};
use entities::dead_letters::Reason;
use entities::error::Error;
use entities::orders::Status;
use entities::oversight::Stuck;
use entities::servers;
use entities::services::{self, Desired};
use entities::tenancy::{Role, TenantKind};
use entities::values::{Country, Currency, Prose, Title};
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

/// A [`Prose`] as a regular expression.
const PROSE: &str = r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]*$";

/// A line for people to read.
pub(crate) fn title() -> Object {
    text().pattern(Some(READABLE)).min_length(Some(1)).max_length(Some(Title::MAX)).build()
}

pub(crate) fn maybe_title() -> Object {
    or_null(title())
}

/// Lines for people to read.
pub(crate) fn maybe_prose() -> Object {
    or_null(text().pattern(Some(PROSE)).max_length(Some(Prose::MAX)).build())
}

/// A currency of ISO 4217.
pub(crate) fn currency() -> Object {
    named(Currency::all())
}

/// How often something is paid.
pub(crate) fn billing() -> Object {
    named([Billing::OneOff, Billing::Month, Billing::Year])
}

/// What somebody gets who buys a product: a [`Specification`].
///
/// [`Specification`]: entities::catalogue::Specification
pub(crate) fn specification() -> Schema {
    use entities::catalogue::specification::{
        COUNT_MAX, CPU_CORES_MAX, DISK_MIB_MAX, MEMORY_MIB, POD_DISK_MIB_MIN, TRAFFIC_GIB_MAX,
    };
    let count = |least| whole((least, COUNT_MAX));
    let traffic = || {
        whole((1, TRAFFIC_GIB_MAX))
            .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
            .description(Some("In a month; left out or null: not limited."))
    };
    let template = text()
        .pattern(Some("^[a-z][a-z0-9._-]{0,63}$"))
        .description(Some("What is installed at first."));
    let pod = of_kind(Kind::CloudpodPlan)
        .property("cpu_cores", whole((1, CPU_CORES_MAX)))
        .property("memory_mib", whole(MEMORY_MIB))
        .property("disk_mib", whole((POD_DISK_MIB_MIN, DISK_MIB_MAX)))
        .property("traffic_gib", traffic())
        .property("template", template)
        .property("placement", siting());
    let pod = ["cpu_cores", "memory_mib", "disk_mib", "template"].into_iter().fold(pod, need);
    let hosting = of_kind(Kind::HostingPlan)
        .property("disk_mib", whole((1, DISK_MIB_MAX)))
        .property("domains", count(1))
        .property("mailboxes", count(0))
        .property("databases", count(0))
        .property("traffic_gib", traffic());
    let hosting = ["disk_mib", "domains", "mailboxes", "databases"].into_iter().fold(hosting, need);
    Limit::ALL
        .into_iter()
        .fold(OneOfBuilder::new().item(pod).item(hosting), |either, limit| {
            let addon = of_kind(Kind::Addon)
                .property("raises", named([limit]))
                .property("by", whole((1, limit.most())));
            either.item(need(need(addon, "raises"), "by"))
        })
        .description(Some(
            "A container, a hosting account, or so much more of something that one of them has.",
        ))
        .into()
}

/// Where the containers of a plan are made.
fn siting() -> ObjectBuilder {
    use entities::catalogue::specification::{Apart, Policy};
    let closed = AdditionalProperties::<Schema>::FreeForm(false);
    let label = || text().pattern(Some("^[A-Za-z0-9._-]{1,63}$"));
    let labels = AdditionalProperties::<Schema>::RefOr(label().build().into());
    let labels = ObjectBuilder::new()
        .additional_properties(Some(labels))
        .description(Some("Only on servers with all of these labels."));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .additional_properties(Some(closed))
        .property("policy", named([Policy::Spread, Policy::Pack]))
        .property("location", or_null(label().build()))
        .property("labels", labels)
        .property("apart", named([Apart::Order, Apart::Tenant, Apart::No]))
        .description(Some("Where the containers are made; by default on the least loaded server."))
}

fn of_kind(kind: Kind) -> ObjectBuilder {
    let closed = AdditionalProperties::<Schema>::FreeForm(false);
    let object = ObjectBuilder::new().additional_properties(Some(closed));
    need(object.property("kind", named([kind])), "kind")
}

fn need(object: ObjectBuilder, name: &str) -> ObjectBuilder {
    object.required(name)
}

fn whole((least, most): (u32, u32)) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most))
}

/// Where an order stands.
pub(crate) fn order_status() -> Object {
    named(Status::ALL)
}

/// What became of an event of Stripe's.
pub(crate) fn stripe_event_state() -> Object {
    named(events::State::ALL)
}

pub(crate) fn checkout_state() -> Object {
    named(checkouts::State::ALL)
}

/// `incomplete`: the first payment has not come; `past_due`: what was bought runs on for a while;
/// `unpaid`, `paused`: it is suspended.
pub(crate) fn subscription_status() -> Object {
    named(subscriptions::STATUSES.map(|(_, status)| status))
}

pub(crate) fn repayment_kind() -> Object {
    named(repayments::Kind::ALL)
}

pub(crate) fn repayment_state() -> Object {
    named(repayments::State::ALL)
}

pub(crate) fn maybe_order_status() -> Object {
    or_null(order_status())
}

/// What a service shall be.
pub(crate) fn service_desired() -> Object {
    named([Desired::Active, Desired::Suspended, Desired::Terminated])
}

/// What a service is.
pub(crate) fn service_state() -> Object {
    use services::State::{Active, Failed, Pending, Provisioning, Suspended, Terminated};
    named([Pending, Provisioning, Active, Suspended, Terminated, Failed])
}

/// What a server is for.
pub(crate) fn server_kind() -> Object {
    named([servers::Kind::Hosting, servers::Kind::Proxmox])
}

/// What a CloudPod is.
pub(crate) fn cloudpod_status() -> Object {
    use cloudpods::Status::{
        Active, Deleted, Deleting, Failed, Pending, Provisioning, Stopped, Suspended,
    };
    named([Pending, Provisioning, Active, Stopped, Suspended, Failed, Deleting, Deleted])
}

/// What a CloudPod shall be.
pub(crate) fn cloudpod_desired() -> Object {
    use cloudpods::Desired::{Active, Deleted, Suspended};
    named([Active, Suspended, Deleted])
}

/// In which way a node differs from what was sold.
pub(crate) fn finding_kind() -> Object {
    named(["orphan", "ghost", "drift"])
}

/// What a container is called.
pub(crate) fn pod_name() -> Object {
    text().min_length(Some(1)).max_length(Some(253)).build()
}

/// What programs call a plan.
pub(crate) fn plan_code() -> Object {
    text().pattern(Some("^[a-z0-9][a-z0-9.-]{0,39}$")).build()
}

/// The same, or null.
pub(crate) fn maybe_plan_code() -> Object {
    or_null(plan_code())
}

/// What a container is installed with, or null.
pub(crate) fn maybe_template() -> Object {
    or_null(text().pattern(Some("^[a-z][a-z0-9._-]{0,63}$")).build())
}

/// A template's file.
pub(crate) fn archive_name() -> Object {
    text()
        .pattern(Some(r"^[A-Za-z0-9][A-Za-z0-9._+-]*\.tar\.(gz|xz|zst)$"))
        .min_length(Some(8))
        .max_length(Some(120))
        .build()
}

/// What a snapshot is called.
pub(crate) fn snapshot_name() -> Object {
    text().pattern(Some("^[a-z][a-z0-9_-]{1,39}$")).build()
}

/// A place or a cluster, or null.
pub(crate) fn maybe_label() -> Object {
    or_null(text().pattern(Some("^[A-Za-z0-9._-]{1,63}$")).build())
}

/// Root's keys.
pub(crate) fn ssh_keys() -> Array {
    let key = text().max_length(Some(8192)).build();
    ArrayBuilder::new().items(key).max_items(Some(KEYS_MAX)).build()
}

/// The same, or null.
pub(crate) fn maybe_ssh_keys() -> Array {
    let mut keys = ssh_keys();
    keys.schema_type = SchemaType::from_iter([Type::Array, Type::Null]);
    keys
}

/// How far a certificate is.
pub(crate) fn certificate_state() -> Object {
    use certificates::State::{Active, Deleting, Expired, Failed, Issuing, Pending, Renewing};
    named([Pending, Issuing, Active, Renewing, Failed, Expired, Deleting])
}

/// How an authority is shown that a name is ours.
pub(crate) fn challenge() -> Object {
    named([Challenge::Dns, Challenge::Http])
}

/// A host's name, or `*.` and a domain's.
pub(crate) fn certificate_name() -> Object {
    let label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    let pattern = format!(r"^(\*\.)?({label}\.)+[A-Za-z]([A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?$");
    text().pattern(Some(pattern)).max_length(Some(253)).build()
}

pub(crate) fn certificate_names() -> Array {
    ArrayBuilder::new()
        .items(certificate_name())
        .min_items(Some(1))
        .max_items(Some(NAMES_MAX))
        .build()
}

/// What is made for an order; add-ons raise it.
pub(crate) fn plan_kind() -> Object {
    named([Kind::CloudpodPlan, Kind::HostingPlan])
}

/// A country of ISO 3166-1.
pub(crate) fn country() -> Object {
    named(Country::all())
}

pub(crate) fn product_kind() -> Object {
    named([Kind::CloudpodPlan, Kind::HostingPlan, Kind::Addon])
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

/// A domain's name, in Unicode or as A-labels.
pub(crate) fn domain_name() -> Object {
    text().min_length(Some(3)).max_length(Some(253)).build()
}

pub(crate) fn maybe_hostname() -> Object {
    or_null(text().min_length(Some(1)).max_length(Some(253)).build())
}

pub(crate) fn maybe_mail_address() -> Object {
    or_null(mail_address())
}

const ZONE_STATES: [&str; 4] = ["pending", "in_sync", "error", "deleting"];

/// Whether the DNS servers have a zone.
pub(crate) fn zone_state() -> Object {
    let mut schema = named(ZONE_STATES);
    let text = "`pending`: the servers do not have the newest version yet. `in_sync`: they have it. `error`: they could not take it, and are tried again. `deleting`: they are to forget it.";
    schema.description = Some(text.to_owned());
    schema
}

pub(crate) fn maybe_zone_state() -> Object {
    named(ZONE_STATES)
}

/// Refuses what is no state of a zone.
pub(crate) fn check_zone_state(state: &str) -> Result<(), Error> {
    one_of("state", state, &ZONE_STATES)
}

fn one_of(path: &str, text: &str, known: &[&str]) -> Result<(), Error> {
    if known.contains(&text) {
        return Ok(());
    }
    Err(Error::field(path, format!("must be one of {}", known.join(", "))))
}

const JOB_STATES: [&str; 5] = ["queued", "running", "unwinding", "done", "failed"];

/// Where a job stands.
pub(crate) fn job_state() -> Object {
    let mut schema = named(JOB_STATES);
    let text = "`unwinding`: it has failed or was stopped, and what it did is taken back.";
    schema.description = Some(text.to_owned());
    schema
}

pub(crate) fn maybe_job_state() -> Object {
    named(JOB_STATES)
}

/// Refuses what is no state of a job.
pub(crate) fn check_job_state(state: &str) -> Result<(), Error> {
    one_of("state", state, &JOB_STATES)
}

/// Why a job does not get on.
pub(crate) fn stuck() -> Array {
    let mut schema = ArrayBuilder::new().items(named(Stuck::ALL)).build();
    let text = "Why it does not get on; empty: it does, or has ended. `lease_ended`: its worker is gone and no other has taken it over. `not_taken`: it waits for more than five minutes, and nothing that it would have to wait for runs. `no_progress`: it was taken up more than three times at the same place. `over_deadline`: it runs longer than it may.";
    schema.description = Some(text.to_owned());
    schema
}

/// Why a message is dead.
pub(crate) fn dead_letter_reason() -> Object {
    let mut schema = maybe_dead_letter_reason();
    let text = "`unreadable`: it is no message that we know. `foreign`: it is for those who read another queue. `failing`: acting on it failed again and again.";
    schema.description = Some(text.to_owned());
    schema
}

pub(crate) fn maybe_dead_letter_reason() -> Object {
    named(Reason::ALL)
}

/// Whether a zone is signed.
pub(crate) fn dnssec_state() -> Object {
    let mut schema = named(["off", "starting", "on", "ending"]);
    let text = "`ending`: it is signed until the zone above holds no DS for it.";
    schema.description = Some(text.to_owned());
    schema
}

/// A type of records that callers write.
pub(crate) fn record_type() -> Object {
    named(zonefile::TYPES)
}

pub(crate) fn maybe_record_type() -> Object {
    or_null(record_type())
}

/// Refuses what is no such type.
pub(crate) fn check_record_type(rtype: &str) -> Result<(), Error> {
    one_of("type", rtype, zonefile::TYPES)
}

/// A record set's name.
pub(crate) fn record_name() -> Object {
    text().min_length(Some(1)).max_length(Some(255)).build()
}

pub(crate) fn maybe_record_name() -> Object {
    or_null(record_name())
}

/// The records of a set.
pub(crate) fn records() -> Array {
    let record = text().min_length(Some(1)).max_length(Some(65_535));
    ArrayBuilder::new().items(record).min_items(Some(1)).max_items(Some(100)).build()
}

pub(crate) fn maybe_records() -> Array {
    let mut schema = records();
    schema.schema_type = SchemaType::from_iter([Type::Array, Type::Null]);
    schema
}

/// What becomes of a set.
pub(crate) fn batch_action() -> Object {
    let mut schema = named(["create", "put", "delete"]);
    let text = "`create`: there must be none yet. `put`: whatever stood there. `delete`: also when there is none.";
    schema.description = Some(text.to_owned());
    schema
}

/// What an import does with sets that the file does not have.
pub(crate) fn import_mode() -> Object {
    named(["merge", "replace"])
}

/// What a template does with sets that it does not name.
pub(crate) fn template_mode() -> Object {
    or_null(named(["merge", "replace"]))
}

/// The version of something, as `ETag` tells it.
pub(crate) fn etag() -> Object {
    text().pattern(Some(r#"^("[0-9]{1,18}"|\*)$"#)).build()
}
