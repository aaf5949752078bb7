//! The record sets of a zone, one by one.

use super::{ChangedView, Editor, SetView, tagged};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Paging, Success, created, maybe_whole, objects, ok, page};
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, post, put, web};
use entities::dns::changes::{self, Edit, SetChange, Wanted};
use entities::dns::{self, SetFilter};
use entities::error::Error;
use entities::ids::ZoneId;
use entities::tenancy::Permission;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

/// So many sets one batch changes at most.
const BATCH: usize = 1000;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_records)
        .service(create_record_set)
        .service(view_record_set)
        .service(put_record_set)
        .service(delete_record_set)
        .service(batch);
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RecordFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// A part of the absolute name.
    #[param(schema_with = schema::part)]
    name: Option<String>,
    #[param(schema_with = schema::record_type)]
    r#type: Option<String>,
}

/// The record sets of a zone, by name and type.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone"), RecordFilter),
    responses((status = 200, body = Success<Vec<SetView>>))
)]
#[get("/api/dns/zones/{id}/records")]
async fn list_records(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    query: web::Query<RecordFilter>,
) -> Result<Answer<Vec<SetView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let query = query.into_inner();
    let tx = state.db.read(&caller.0, Permission::ZonesRead).await?;
    let zone = dns::find_zone(&tx, ZoneId(*id)).await?;
    if let Some(rtype) = &query.r#type {
        schema::check_record_type(rtype)?;
    }
    let filter = SetFilter { name: query.name, rtype: query.r#type };
    let (rows, total) =
        dns::list_sets(&tx, zone.id, &filter, (paging.offset(), paging.per_page)).await?;
    let name = dns::name_of(&zone)?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(SetView::of(&name, dns::set_of(row)?));
    }
    Ok(tagged(page(views, paging.meta(total)), zone.version))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct RecordSetNew {
    /// `@`, relative to the zone, or absolute with a final dot.
    #[schema(schema_with = schema::record_name)]
    name: String,
    #[schema(schema_with = schema::record_type)]
    r#type: String,
    /// Seconds; left out: the zone's default.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 60, maximum = 604_800)]
    ttl: Option<u32>,
    /// As in zone files; a text without quotes is taken as it is.
    #[schema(schema_with = schema::records)]
    records: Vec<String>,
}

/// Makes a record set; one that is there already is refused.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    request_body = RecordSetNew,
    responses((status = 201, body = Success<SetView>))
)]
#[post("/api/dns/zones/{id}/records")]
async fn create_record_set(
    editor: Editor,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<RecordSetNew>,
) -> Result<Answer<SetView>, ApiError> {
    let wanted = Wanted::New { ttl: body.ttl, records: body.records };
    let (view, version) =
        change(&editor, &state, (ZoneId(*id), body.name, body.r#type, wanted)).await?;
    let view = view.ok_or_else(|| Error::internal("a set that was made is not there"))?;
    Ok(tagged(created(view), version))
}

/// Changes one set; the set as it stands then, and the zone's version.
async fn change(
    editor: &Editor,
    state: &State,
    (zone, name, rtype, wanted): (ZoneId, String, String, Wanted),
) -> Result<(Option<SetView>, i64), Error> {
    let tx = state.db.write(&editor.caller.0, Permission::ZonesWrite).await?;
    let row = dns::find_zone(&tx, zone).await?;
    let edit = Edit {
        zone,
        expected: editor.version()?,
        limits: Some(&state.zones.limits),
        preview: false,
    };
    let zone_name = dns::name_of(&row)?;
    let change = SetChange { name, rtype, wanted, pointer: String::new() };
    let changed = changes::change_sets(&tx, &edit, std::slice::from_ref(&change)).await?;
    let absolute = zonefile::absolute(&zone_name, &change.name)
        .map_err(|problem| Error::field("name", problem.message))?;
    let rtype = change.rtype.to_uppercase();
    let set = match dns::find_set(&tx, zone, &absolute, &rtype).await {
        Ok(row) => Some(SetView::of(&zone_name, dns::set_of(row)?)),
        Err(Error::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    // What changes nothing leaves no trace to commit.
    if !changed.diff.is_empty() {
        tx.commit().await?;
    }
    Ok((set, changed.zone.version))
}

/// One record set.
#[utoipa::path(
    tag = "dns",
    params(
        ("id" = Uuid, Path, description = "the zone"),
        ("name" = String, Path, description = "relative to the zone; `@` is the zone itself"),
        ("type" = String, Path, description = "such as `A`")
    ),
    responses((status = 200, body = Success<SetView>))
)]
#[get("/api/dns/zones/{id}/records/{name}/{type}")]
async fn view_record_set(
    caller: Caller,
    state: web::Data<State>,
    path: web::Path<(Uuid, String, String)>,
) -> Result<Answer<SetView>, ApiError> {
    let (id, name, rtype) = path.into_inner();
    let tx = state.db.read(&caller.0, Permission::ZonesRead).await?;
    let zone = dns::find_zone(&tx, ZoneId(id)).await?;
    let zone_name = dns::name_of(&zone)?;
    // A name that cannot be stands nowhere.
    let absolute =
        zonefile::absolute(&zone_name, &name).map_err(|_no_name| Error::NotFound("record set"))?;
    let row = dns::find_set(&tx, zone.id, &absolute, &rtype.to_uppercase()).await?;
    Ok(tagged(ok(SetView::of(&zone_name, dns::set_of(row)?)), zone.version))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct RecordSetPut {
    /// Seconds; left out: the zone's default.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 60, maximum = 604_800)]
    ttl: Option<u32>,
    /// As in zone files; a text without quotes is taken as it is.
    #[schema(schema_with = schema::records)]
    records: Vec<String>,
}

/// Makes a record set hold exactly these records, whatever stood there.
#[utoipa::path(
    tag = "dns",
    params(
        ("id" = Uuid, Path, description = "the zone"),
        ("name" = String, Path, description = "relative to the zone; `@` is the zone itself"),
        ("type" = String, Path, description = "such as `A`")
    ),
    request_body = RecordSetPut,
    responses((status = 200, body = Success<SetView>))
)]
#[put("/api/dns/zones/{id}/records/{name}/{type}")]
async fn put_record_set(
    editor: Editor,
    state: web::Data<State>,
    path: web::Path<(Uuid, String, String)>,
    Json(body): Json<RecordSetPut>,
) -> Result<Answer<SetView>, ApiError> {
    let (id, name, rtype) = path.into_inner();
    let wanted = Wanted::Put { ttl: body.ttl, records: body.records };
    let (view, version) = change(&editor, &state, (ZoneId(id), name, rtype, wanted)).await?;
    let view = view.ok_or_else(|| Error::internal("a set that was put is not there"))?;
    Ok(tagged(ok(view), version))
}

/// Removes a record set.
#[utoipa::path(
    tag = "dns",
    params(
        ("id" = Uuid, Path, description = "the zone"),
        ("name" = String, Path, description = "relative to the zone; `@` is the zone itself"),
        ("type" = String, Path, description = "such as `A`")
    ),
    responses((status = 200, body = Success<crate::routes::auth::Nothing>))
)]
#[delete("/api/dns/zones/{id}/records/{name}/{type}")]
async fn delete_record_set(
    editor: Editor,
    state: web::Data<State>,
    path: web::Path<(Uuid, String, String)>,
) -> Result<Answer<crate::routes::auth::Nothing>, ApiError> {
    let (id, name, rtype) = path.into_inner();
    let (_, version) = change(&editor, &state, (ZoneId(id), name, rtype, Wanted::Gone)).await?;
    Ok(tagged(ok(crate::routes::auth::Nothing {}), version))
}

/// What becomes of one record set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BatchAction {
    Create,
    Put,
    Delete,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BatchItem {
    #[schema(schema_with = schema::batch_action)]
    action: BatchAction,
    /// `@`, relative to the zone, or absolute with a final dot.
    #[schema(schema_with = schema::record_name)]
    name: String,
    #[schema(schema_with = schema::record_type)]
    r#type: String,
    /// Seconds; left out: the zone's default.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 60, maximum = 604_800)]
    ttl: Option<u32>,
    /// Not for `delete`.
    #[serde(default)]
    #[schema(schema_with = schema::maybe_records)]
    records: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Batch {
    #[serde(deserialize_with = "objects")]
    #[schema(min_items = 1, max_items = 1000)]
    changes: Vec<BatchItem>,
}

fn change_of(at: usize, item: BatchItem) -> Result<SetChange, Error> {
    let pointer = format!("/changes/{at}");
    let wrong = |why: &str| Error::field(&format!("changes/{at}/records"), why);
    let wanted = match (item.action, item.records) {
        (BatchAction::Delete, None) => Wanted::Absent,
        (BatchAction::Delete, Some(_)) => {
            return Err(wrong(
                "must be left out: a set is removed whole; put the records that stay",
            ));
        }
        (_, None) => return Err(wrong("are missing")),
        (BatchAction::Create, Some(records)) => Wanted::New { ttl: item.ttl, records },
        (BatchAction::Put, Some(records)) => Wanted::Put { ttl: item.ttl, records },
    };
    Ok(SetChange { name: item.name, rtype: item.r#type, wanted, pointer })
}

/// Changes many record sets, all or none, of the version of the zone that `If-Match` names. It counts
/// as one change. With `preview` it only says what would change.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone"), super::Preview, super::IfMatch),
    request_body = Batch,
    responses((status = 200, body = Success<ChangedView>))
)]
#[post("/api/dns/zones/{id}/batch")]
async fn batch(
    editor: Editor,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    query: web::Query<super::Preview>,
    Json(body): Json<Batch>,
) -> Result<Answer<ChangedView>, ApiError> {
    let preview = query.preview.unwrap_or_default();
    let tx = editor.open(&state, preview).await?;
    let zone = ZoneId(*id);
    let expected = editor.required_version(&tx, zone).await?;
    if body.changes.is_empty() || body.changes.len() > BATCH {
        let why = format!("must have 1 to {BATCH} changes");
        return Err(Error::field("changes", why).into());
    }
    let items = body.changes.into_iter().enumerate();
    let list = items.map(|(at, item)| change_of(at, item)).collect::<Result<Vec<_>, _>>()?;
    let edit = Edit { zone, expected, limits: Some(&state.zones.limits), preview };
    let changed = changes::change_sets(&tx, &edit, &list).await?;
    super::answer(tx, changed, preview, Vec::new()).await
}
