//! What containers may be installed with.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Success, field, ok};
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, put, web};
use entities::cloudpods::templates;
use entities::error::Error;
use entities::tables::pod_template;
use entities::tenancy::Permission;
use entities::values::{ArchiveName, TemplateCode, Title};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_pod_templates).service(put_pod_template).service(retire_pod_template);
}

#[derive(Debug, Serialize, ToSchema)]
struct PodTemplateView {
    /// As plans and containers name it.
    code: String,
    title: String,
    /// The file in the nodes' storage of templates.
    archive: String,
}

fn view(row: pod_template::Model) -> PodTemplateView {
    PodTemplateView { code: row.code, title: row.title, archive: row.archive }
}

/// The templates that may be chosen.
#[utoipa::path(
    tag = "cloudpods",
    responses((status = 200, body = Success<Vec<PodTemplateView>>))
)]
#[get("/api/pod-templates")]
async fn list_pod_templates(
    caller: Caller,
    state: web::Data<State>,
) -> Result<Answer<Vec<PodTemplateView>>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::CloudpodsRead).await?;
    let rows = templates::list_templates(&tx).await?;
    Ok(ok(rows.into_iter().map(view).collect()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PodTemplatePut {
    #[schema(schema_with = schema::title)]
    title: String,
    /// As `pveam available` names it; fetched by a node that lacks it.
    #[schema(schema_with = schema::archive_name)]
    archive: String,
}

/// Makes a template, or changes what it stands for from the next container on.
#[utoipa::path(
    tag = "cloudpods",
    params(("name" = String, Path, description = "the template's code")),
    request_body = PodTemplatePut,
    responses((status = 200, body = Success<PodTemplateView>))
)]
#[put("/api/pod-templates/{name}")]
async fn put_pod_template(
    caller: Caller,
    state: web::Data<State>,
    code: web::Path<String>,
    Json(body): Json<PodTemplatePut>,
) -> Result<Answer<PodTemplateView>, ApiError> {
    caller.0.require_write(Permission::ServersWrite)?;
    let code = field::<TemplateCode>("name", &code)?;
    let title: Title = field("title", &body.title)?;
    let archive = field::<ArchiveName>("archive", &body.archive)?;
    let row = templates::put_template(&state.db, &caller.0, &code, (&title, &archive)).await?;
    Ok(ok(view(row)))
}

#[derive(Debug, Serialize, ToSchema)]
struct PodTemplateRetired {
    code: String,
}

/// Retires a template: nothing new is installed with it.
#[utoipa::path(
    tag = "cloudpods",
    params(("name" = String, Path, description = "the template's code")),
    responses((status = 200, body = Success<PodTemplateRetired>))
)]
#[delete("/api/pod-templates/{name}")]
async fn retire_pod_template(
    caller: Caller,
    state: web::Data<State>,
    code: web::Path<String>,
) -> Result<Answer<PodTemplateRetired>, ApiError> {
    caller.0.require_write(Permission::ServersWrite)?;
    // What cannot be the name of one is the name of none.
    let code = TemplateCode::parse(&code).map_err(|_invalid| Error::NotFound("template"))?;
    templates::retire_template(&state.db, &caller.0, &code).await?;
    Ok(ok(PodTemplateRetired { code: code.to_string() }))
}
