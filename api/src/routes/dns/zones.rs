//! Zones.

use super::tagged;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{
    Answer, Json, Paging, Success, accepted, created, field, maybe_whole, ok, page,
};
use crate::routes::auth::Nothing;
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, patch, post, put, web};
use chrono::{DateTime, Utc};
use entities::audit::Audit;
use entities::dns::zones::{self, Change, NewZone};
use entities::dns::{self, Filter, SoaTimes, agreements, servers, signing, verification};
use entities::ids::{RowId, TenantId, ZoneId};
use entities::tables::{dns_agreement, dns_server, dns_zone};
use entities::tenancy::Permission;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(create_zone)
        .service(list_zones)
        .service(view_zone)
        .service(update_zone)
        .service(delete_zone)
        .service(sync_zone)
        .service(verify_zone)
        .service(sign_zone)
        .service(transfer_zone)
        .service(create_agreement)
        .service(list_agreements)
        .service(delete_agreement)
        .service(list_dns_servers);
}

/// Whether the tenant has proved that it controls the domain.
#[derive(Debug, Serialize, ToSchema)]
struct VerificationView {
    verified_at: Option<DateTime<Utc>>,
    /// Where the TXT record is to stand, with its final dot.
    record_name: String,
    /// What it is to hold.
    record_value: Option<String>,
    /// When it is looked for next; none: ask for it.
    next_look_at: Option<DateTime<Utc>>,
    checked_at: Option<DateTime<Utc>>,
    /// Why it is not verified yet.
    error: Option<String>,
}

/// Whether the zone is signed.
#[derive(Debug, Serialize, ToSchema)]
struct DnssecView {
    #[schema(schema_with = schema::dnssec_state)]
    state: String,
    /// What belongs into the zone above: give it to the registrar.
    #[schema(value_type = Vec<String>)]
    ds: serde_json::Value,
    /// Why it does not begin or end.
    error: Option<String>,
}

/// What a secondary server has of the zone.
#[derive(Debug, Serialize, ToSchema)]
struct CopyView {
    server: String,
    serial: Option<u32>,
    /// Why it does not have what the first server has.
    error: Option<String>,
    checked_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ZoneView {
    id: Uuid,
    name: String,
    /// Whether the DNS servers answer for it; one that came with a migration sleeps until it is verified.
    active: bool,
    #[schema(schema_with = schema::zone_state)]
    state: String,
    /// Why the servers do not have its newest version.
    error: Option<String>,
    /// When they are tried again.
    next_attempt_at: Option<DateTime<Utc>>,
    /// One more with each change; also the `ETag`.
    version: i64,
    /// The version that the servers have.
    applied_version: Option<i64>,
    applied_at: Option<DateTime<Utc>>,
    /// Of its SOA; while the zone is signed, what is answered may be higher.
    serial: i64,
    /// Seconds, for record sets that name none.
    default_ttl: i32,
    soa: SoaView,
    verification: VerificationView,
    dnssec: DnssecView,
    secondaries: Vec<CopyView>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// The numbers of the zone's SOA, in seconds.
#[derive(Debug, Serialize, ToSchema)]
struct SoaView {
    /// A mail address.
    hostmaster: String,
    refresh: u32,
    retry: u32,
    expire: u32,
    /// How long it is remembered that something is not there.
    minimum: u32,
}

fn view(row: dns_zone::Model) -> Result<ZoneView, ApiError> {
    let times = SoaTimes::of(&row)?;
    let copies = dns::copies(&row)?.into_iter().map(|(server, copy)| CopyView {
        server,
        serial: copy.serial,
        error: copy.error,
        checked_at: copy.checked_at,
    });
    Ok(ZoneView {
        soa: SoaView {
            hostmaster: times.hostmaster.unwrap_or_else(|| format!("hostmaster@{}", row.name)),
            refresh: times.refresh,
            retry: times.retry,
            expire: times.expire,
            minimum: times.minimum,
        },
        secondaries: copies.collect(),
        verification: VerificationView {
            verified_at: row.verified_at,
            record_name: verification::record_name(&row.name),
            record_value: row.verification_token,
            next_look_at: row.verification_next_at,
            checked_at: row.verification_checked_at,
            error: row.verification_error,
        },
        dnssec: DnssecView { state: row.dnssec, ds: row.ds, error: row.dnssec_error },
        id: row.id.0,
        name: row.name,
        active: row.active,
        state: row.state,
        error: row.error,
        next_attempt_at: row.next_at,
        version: row.version,
        applied_version: row.applied_version,
        applied_at: row.applied_at,
        serial: row.serial,
        default_ttl: row.default_ttl,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ZoneNew {
    /// Unicode becomes A-labels.
    #[schema(schema_with = schema::domain_name)]
    name: String,
    /// Seconds, for record sets that name none; by default an hour.
    #[validate(range(min = 60, max = 604_800))]
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 60, maximum = 604_800)]
    default_ttl: Option<u32>,
}

/// Makes a zone with our name servers in it. Its name must be one that can be registered, and neither
/// another tenant's nor above or below one of theirs without their agreement.
#[utoipa::path(
    tag = "dns",
    request_body = ZoneNew,
    responses((status = 201, body = Success<ZoneView>))
)]
#[post("/api/dns/zones")]
async fn create_zone(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<ZoneNew>,
) -> Result<Answer<ZoneView>, ApiError> {
    caller.0.require_write(Permission::ZonesWrite)?;
    let new = NewZone {
        name: field("name", &body.name)?,
        change: Change { default_ttl: body.default_ttl, ..Change::default() },
    };
    let rules = (&state.zones.names, &state.zones.limits);
    let row = zones::create_zone(&state.db, &caller.0, new, rules).await?;
    let version = row.version;
    Ok(tagged(created(view(row)?), version))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ZoneFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// A part of the name.
    #[param(schema_with = schema::part)]
    name: Option<String>,
    #[param(schema_with = schema::maybe_zone_state)]
    state: Option<String>,
}

/// The tenant's zones, by name.
#[utoipa::path(
    tag = "dns",
    params(ZoneFilter),
    responses((status = 200, body = Success<Vec<ZoneView>>))
)]
#[get("/api/dns/zones")]
async fn list_zones(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<ZoneFilter>,
) -> Result<Answer<Vec<ZoneView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let query = query.into_inner();
    if let Some(wanted) = &query.state {
        schema::check_zone_state(wanted)?;
    }
    let filter = Filter { name: query.name, state: query.state };
    let tx = state.db.read_audited(&caller.0, Permission::ZonesRead).await?;
    let (rows, total) = dns::list_zones(&tx, &filter, paging.offset(), paging.per_page).await?;
    tx.audit(Audit::DnsDomainsListed { count: rows.len() }).await?;
    tx.commit().await?;
    let views = rows.into_iter().map(view).collect::<Result<_, _>>()?;
    Ok(page(views, paging.meta(total)))
}

/// A zone.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    responses((status = 200, body = Success<ZoneView>))
)]
#[get("/api/dns/zones/{id}")]
async fn view_zone(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<ZoneView>, ApiError> {
    let tx = state.db.read_audited(&caller.0, Permission::ZonesRead).await?;
    let row = dns::find_zone(&tx, ZoneId(*id)).await?;
    tx.audit(Audit::DnsDomainViewed { zone: row.id, name: row.name.clone() }).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(tagged(ok(view(row)?), version))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ZoneChange {
    /// Seconds, for record sets that name none.
    #[validate(range(min = 60, max = 604_800))]
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 60, maximum = 604_800)]
    default_ttl: Option<u32>,
    /// Whom others write to about the zone.
    #[schema(schema_with = schema::maybe_mail_address)]
    hostmaster: Option<String>,
    /// Seconds after which secondary servers ask for news.
    #[validate(range(min = 1200, max = 86_400))]
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 1200, maximum = 86_400)]
    refresh: Option<u32>,
    /// Seconds after which they ask again.
    #[validate(range(min = 120, max = 86_400))]
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 120, maximum = 86_400)]
    retry: Option<u32>,
    /// Seconds after which they stop answering when they hear nothing.
    #[validate(range(min = 86_400, max = 4_838_400))]
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 86_400, maximum = 4_838_400)]
    expire: Option<u32>,
    /// Seconds for which it is remembered that something is not there.
    #[validate(range(min = 60, max = 86_400))]
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 60, maximum = 86_400)]
    minimum: Option<u32>,
}

/// Changes what holds of the whole zone; what is left out stays.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    request_body = ZoneChange,
    responses((status = 200, body = Success<ZoneView>))
)]
#[patch("/api/dns/zones/{id}")]
async fn update_zone(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<ZoneChange>,
) -> Result<Answer<ZoneView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ZonesWrite).await?;
    let change = Change {
        default_ttl: body.default_ttl,
        hostmaster: body.hostmaster.map(|text| field("hostmaster", &text)).transpose()?,
        refresh: body.refresh,
        retry: body.retry,
        expire: body.expire,
        minimum: body.minimum,
    };
    let row = zones::update_zone(&tx, ZoneId(*id), &change, &state.zones.limits).await?;
    tx.commit().await?;
    let version = row.version;
    Ok(tagged(ok(view(row)?), version))
}

/// Ends a zone: the DNS servers forget it, then it is gone. Until then its state is `deleting`.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    responses((status = 202, body = Success<ZoneView>))
)]
#[delete("/api/dns/zones/{id}")]
async fn delete_zone(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<ZoneView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ZonesDelete).await?;
    let row = zones::delete_zone(&tx, ZoneId(*id)).await?;
    tx.commit().await?;
    Ok(accepted(view(row)?))
}

/// Compares the zone with the DNS servers now, and brings it there, instead of after the pause that
/// failures bring.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    responses((status = 202, body = Success<ZoneView>))
)]
#[post("/api/dns/zones/{id}/sync")]
async fn sync_zone(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<ZoneView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ZonesWrite).await?;
    let row = zones::hurry(&tx, ZoneId(*id), &state.zones.limits).await?;
    tx.commit().await?;
    Ok(accepted(view(row)?))
}

/// Looks whether the domain is the tenant's: for the TXT record that `verification` tells, as the world
/// sees it. It is looked for again for some days. Where the domain's name servers are ours already,
/// nothing is to be done beside: the record is put into the zone.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    responses((status = 202, body = Success<ZoneView>))
)]
#[post("/api/dns/zones/{id}/verify")]
async fn verify_zone(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<ZoneView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ZonesWrite).await?;
    let row = verification::request(&tx, ZoneId(*id), &state.zones.limits).await?;
    tx.commit().await?;
    Ok(accepted(view(row)?))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Signed {
    enabled: bool,
}

/// Lets the zone be signed, or not any more. Signing ends by itself when the zone above holds no DS for
/// it any more: ending it before would take the domain from the world.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    request_body = Signed,
    responses((status = 202, body = Success<ZoneView>))
)]
#[put("/api/dns/zones/{id}/dnssec")]
async fn sign_zone(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<Signed>,
) -> Result<Answer<ZoneView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ZonesWrite).await?;
    let row = signing::request(&tx, ZoneId(*id), body.enabled, &state.zones.limits).await?;
    tx.commit().await?;
    Ok(accepted(view(row)?))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Transfer {
    tenant_id: Uuid,
}

/// Gives the zone to a tenant below this one, with its records, its keys and its verification.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    request_body = Transfer,
    responses((status = 200, body = Success<ZoneView>))
)]
#[post("/api/dns/zones/{id}/transfer")]
async fn transfer_zone(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<Transfer>,
) -> Result<Answer<ZoneView>, ApiError> {
    let to = TenantId(body.tenant_id);
    Ok(ok(view(zones::transfer_zone(&state.db, &caller.0, ZoneId(*id), to).await?)?))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct AgreementNew {
    /// The zone that the other tenant may make, above or below this one.
    #[schema(schema_with = schema::domain_name)]
    name: String,
    tenant_id: Uuid,
}

#[derive(Debug, Serialize, ToSchema)]
struct AgreementView {
    id: Uuid,
    name: String,
    tenant_id: Uuid,
    created_at: DateTime<Utc>,
}

impl From<dns_agreement::Model> for AgreementView {
    fn from(row: dns_agreement::Model) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            tenant_id: row.grantee_id.0,
            created_at: row.created_at,
        }
    }
}

/// Lets another tenant make a zone above or below this one.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    request_body = AgreementNew,
    responses((status = 201, body = Success<AgreementView>))
)]
#[post("/api/dns/zones/{id}/agreements")]
async fn create_agreement(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<AgreementNew>,
) -> Result<Answer<AgreementView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ZonesWrite).await?;
    let (name, grantee) = (field("name", &body.name)?, TenantId(body.tenant_id));
    let row = agreements::create_agreement(&tx, ZoneId(*id), &name, grantee).await?;
    tx.commit().await?;
    Ok(created(row.into()))
}

/// Who may make zones above or below this one.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    responses((status = 200, body = Success<Vec<AgreementView>>))
)]
#[get("/api/dns/zones/{id}/agreements")]
async fn list_agreements(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Vec<AgreementView>>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::ZonesRead).await?;
    let rows = agreements::list_agreements(&tx, ZoneId(*id)).await?;
    Ok(ok(rows.into_iter().map(Into::into).collect()))
}

/// Takes an agreement back; a zone that was made under it stays.
#[utoipa::path(
    tag = "dns",
    params(
        ("id" = Uuid, Path, description = "the zone"),
        ("agreement_id" = Uuid, Path, description = "the agreement")
    ),
    responses((status = 200, body = Success<Nothing>))
)]
#[delete("/api/dns/zones/{id}/agreements/{agreement_id}")]
async fn delete_agreement(
    caller: Caller,
    state: web::Data<State>,
    path: web::Path<(Uuid, Uuid)>,
) -> Result<Answer<Nothing>, ApiError> {
    let (zone, agreement) = path.into_inner();
    let tx = state.db.write(&caller.0, Permission::ZonesWrite).await?;
    agreements::delete_agreement(&tx, ZoneId(zone), RowId(agreement)).await?;
    tx.commit().await?;
    Ok(ok(Nothing {}))
}

/// A DNS server, as it was seen last.
#[derive(Debug, Serialize, ToSchema)]
struct DnsServerView {
    name: String,
    /// `primary` or `secondary`.
    role: String,
    /// Where it answers.
    address: String,
    /// Whether it is given its zones by us, or only looked at.
    driven: bool,
    healthy: bool,
    error: Option<String>,
    version: Option<String>,
    /// Zones of this installation that it has.
    zones: Option<i64>,
    /// Zones on it that were not made here; they are left alone.
    foreign_zones: Option<i64>,
    /// Zones of which it does not have the newest version.
    zones_behind: Option<i64>,
    latency_ms: Option<i32>,
    checked_at: DateTime<Utc>,
    /// When it was healthy last.
    seen_at: Option<DateTime<Utc>>,
}

/// Servers are looked at every ten seconds.
const UNSEEN_SECS: i64 = 60;

impl From<dns_server::Model> for DnsServerView {
    fn from(mut row: dns_server::Model) -> Self {
        if (Utc::now() - row.checked_at).num_seconds() > UNSEEN_SECS {
            let text = "Nobody looks at the server any more: check that migrapanel-dns runs.";
            row.healthy = false;
            row.error = Some(text.to_owned());
        }
        Self {
            name: row.name,
            role: row.role,
            address: row.address,
            driven: row.has_api,
            healthy: row.healthy,
            error: row.error,
            version: row.version,
            zones: row.zones,
            foreign_zones: row.foreign_zones,
            zones_behind: row.zones_behind,
            latency_ms: row.latency_ms,
            checked_at: row.checked_at,
            seen_at: row.seen_at,
        }
    }
}

/// The DNS servers and how they are, for the platform's people.
#[utoipa::path(tag = "dns", responses((status = 200, body = Success<Vec<DnsServerView>>)))]
#[get("/api/dns/servers")]
async fn list_dns_servers(
    caller: Caller,
    state: web::Data<State>,
) -> Result<Answer<Vec<DnsServerView>>, ApiError> {
    caller.0.require(Permission::ServersRead)?;
    let rows = servers::list_servers(&state.db).await?;
    Ok(ok(rows.into_iter().map(Into::into).collect()))
}
