//! What differs between the nodes and what was sold, for the platform's people.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Paging, Success, page};
use crate::schema;
use crate::state::State;
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use entities::cloudpods::findings;
use entities::tables::finding;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_findings);
}

#[derive(Debug, Serialize, ToSchema)]
struct FindingView {
    id: Uuid,
    /// `orphan`: there, not here. `ghost`: here, not there. `drift`: otherwise than here.
    #[schema(schema_with = schema::finding_kind)]
    kind: String,
    server_id: Uuid,
    vmid: i64,
    /// What differs.
    what: String,
    cloudpod_id: Option<Uuid>,
    detail: String,
    /// What was done about it, or is to be.
    repair: String,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
    /// Since when it is so no more.
    ended_at: Option<DateTime<Utc>>,
}

fn view(row: finding::Model) -> FindingView {
    FindingView {
        id: row.id.0,
        kind: row.kind,
        server_id: row.server_id.0,
        vmid: row.vmid,
        what: row.what,
        cloudpod_id: row.cloudpod_id.map(|id| id.0),
        detail: row.detail,
        repair: row.repair,
        first_at: row.first_at,
        last_at: row.last_at,
        ended_at: row.ended_at,
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct FindingFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// What differed and does so no more, instead of what does.
    ended: Option<bool>,
}

/// Containers that nobody sold, sold ones that are not there, and ones that are otherwise.
#[utoipa::path(
    tag = "servers",
    params(FindingFilter),
    responses((status = 200, body = Success<Vec<FindingView>>))
)]
#[get("/api/findings")]
async fn list_findings(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<FindingFilter>,
) -> Result<Answer<Vec<FindingView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let bounds = (paging.offset(), paging.per_page);
    let ended = query.ended.unwrap_or(false);
    let (rows, total) = findings::list_findings(&state.db, &caller.0, ended, bounds).await?;
    Ok(page(rows.into_iter().map(view).collect(), paging.meta(total)))
}
