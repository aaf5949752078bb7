//! Whole zones: as BIND zone files, and from templates.

use super::{ChangedView, Editor, LeftOutView};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Success, field, unreadable};
use crate::schema;
use crate::state::State;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, get, post, web};
use entities::audit::Audit;
use entities::dns;
use entities::dns::changes::{self, Edit, Import, Mode};
use entities::dns::templates::{self, Values};
use entities::error::{Code, Error};
use entities::ids::{TemplateId, ZoneId};
use entities::tenancy::Permission;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

/// So many lines that were not taken are told.
const LEFT_OUT: usize = 1000;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(import_zone).service(export_zone).service(apply_template);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ZoneFile {
    /// As BIND reads it; `$INCLUDE` and `$GENERATE` are refused.
    #[schema(max_length = 4_194_304)]
    zone_file: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ImportOptions {
    /// Only say what would change.
    preview: Option<bool>,
    /// `replace`, by default: what the file does not have goes. `merge`: it stays.
    #[param(schema_with = schema::import_mode)]
    mode: Option<Mode>,
    /// Whether the name servers at the apex become those of the file instead of staying ours.
    nameservers: Option<bool>,
    /// Whether records that cannot be taken are left out, and told, instead of refusing the file.
    leave_out: Option<bool>,
}

/// The file itself, or JSON that holds it.
struct Taken(Vec<u8>);

impl FromRequest for Taken {
    type Error = ApiError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut actix_web::dev::Payload) -> Self::Future {
        let kind = request.mime_type().ok().flatten().map(|mime| mime.essence_str().to_owned());
        if kind.as_deref() == Some("application/json") {
            let json = Json::<ZoneFile>::from_request(request, payload);
            return Box::pin(async move { Ok(Self(json.await?.0.zone_file.into_bytes())) });
        }
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            if !matches!(kind.as_deref(), Some("text/dns" | "text/plain")) {
                let text = "This takes a zone file as text/dns, or JSON with the field zone_file.";
                return Err(Error::refused(Code::UnsupportedMediaType, text).into());
            }
            Ok(Self(bytes.await.map_err(|error| unreadable(&error))?.to_vec()))
        })
    }
}

/// Makes the zone hold what a BIND zone file says: the version of it that `If-Match` names. It counts as
/// one change. What cannot be taken is told with its line. With `preview` it only says what would
/// change.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone"), ImportOptions, super::IfMatch),
    request_body(content((ZoneFile = "application/json"), (String = "text/dns"))),
    responses((status = 200, body = Success<ChangedView>))
)]
#[post("/api/dns/zones/{id}/import")]
async fn import_zone(
    editor: Editor,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    query: web::Query<ImportOptions>,
    file: Taken,
) -> Result<Answer<ChangedView>, ApiError> {
    let preview = query.preview.unwrap_or_default();
    let tx = editor.open(&state, preview).await?;
    let zone = ZoneId(*id);
    let expected = editor.required_version(&tx, zone).await?;
    let edit = Edit { zone, expected, limits: Some(&state.zones.limits), preview };
    let import = Import {
        mode: query.mode.unwrap_or(Mode::Replace),
        servers: query.nameservers.unwrap_or_default(),
        leave_out: query.leave_out.unwrap_or_default(),
    };
    let (changed, left_out) = changes::import_file(&tx, &edit, &file.0, import).await?;
    let left_out = left_out
        .into_iter()
        .take(LEFT_OUT)
        .map(|l| LeftOutView {
            line: Some(l.line).filter(|line| *line > 0),
            what: l.text,
            why: l.why,
        })
        .collect();
    super::answer(tx, changed, preview, left_out).await
}

/// The zone as a BIND zone file.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone")),
    responses((status = 200, content_type = "text/dns", body = String))
)]
#[get("/api/dns/zones/{id}/export")]
async fn export_zone(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let tx = state.db.read_audited(&caller.0, Permission::ZonesRead).await?;
    let row = dns::find_zone(&tx, ZoneId(*id)).await?;
    let text = dns::export_zone(&tx, row.id).await?;
    tx.audit(Audit::DnsZoneExported { zone: row.id, name: row.name.clone() }).await?;
    tx.commit().await?;
    Ok(HttpResponse::Ok()
        .content_type("text/dns; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::ETAG, format!("\"{}\"", row.version)))
        .insert_header((
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{}.zone\"", row.name.replace('/', "-")),
        ))
        .body(text))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct TemplateApplied {
    template_id: Uuid,
    /// `merge`, by default: what the template does not name stays. `replace`: it goes, but for the name
    /// servers of the zone.
    #[serde(default)]
    #[schema(schema_with = schema::template_mode)]
    mode: Option<Mode>,
    /// For `{ipv4}`.
    #[schema(schema_with = schema::maybe_ipv4)]
    ipv4: Option<std::net::Ipv4Addr>,
    /// For `{ipv6}`.
    #[schema(schema_with = schema::maybe_ipv6)]
    ipv6: Option<std::net::Ipv6Addr>,
    /// For `{hostname}`.
    #[schema(schema_with = schema::maybe_hostname)]
    hostname: Option<String>,
}

/// Applies a template to the version of the zone that `If-Match` names. It counts as one change. Sets
/// whose placeholders have no value are left out, and told. With `preview` it only says what would
/// change.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the zone"), super::Preview, super::IfMatch),
    request_body = TemplateApplied,
    responses((status = 200, body = Success<ChangedView>))
)]
#[post("/api/dns/zones/{id}/apply-template")]
async fn apply_template(
    editor: Editor,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    query: web::Query<super::Preview>,
    Json(body): Json<TemplateApplied>,
) -> Result<Answer<ChangedView>, ApiError> {
    let preview = query.preview.unwrap_or_default();
    let tx = editor.open(&state, preview).await?;
    let zone = ZoneId(*id);
    let expected = editor.required_version(&tx, zone).await?;
    let values = Values {
        ipv4: body.ipv4,
        ipv6: body.ipv6,
        hostname: body.hostname.map(|text| field("hostname", &text)).transpose()?,
    };
    let edit = Edit { zone, expected, limits: Some(&state.zones.limits), preview };
    let how = (&values, body.mode.unwrap_or(Mode::Merge));
    let template = TemplateId(body.template_id);
    let (changed, left_out) = templates::apply_template(&tx, &edit, template, how).await?;
    let left_out = left_out
        .into_iter()
        .map(|l| LeftOutView {
            line: None,
            what: format!("{} {}", l.name, l.rtype),
            why: format!("there is no value for {{{}}}", l.missing),
        })
        .collect();
    super::answer(tx, changed, preview, left_out).await
}
