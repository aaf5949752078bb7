//! Zones.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Paging, Success, page};
use crate::routes::tenants::Pages;
use crate::state::State;
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use entities::dns;
use entities::tables::dns_zone;
use entities::tenancy::Permission;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_zones);
}

#[derive(Debug, Serialize, ToSchema)]
struct ZoneView {
    id: Uuid,
    name: String,
    active: bool,
    /// `pending`, `in_sync`, `error` or `deleting`.
    state: String,
    error: Option<String>,
    created_at: DateTime<Utc>,
}

impl From<dns_zone::Model> for ZoneView {
    fn from(row: dns_zone::Model) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            active: row.active,
            state: row.state,
            error: row.error,
            created_at: row.created_at,
        }
    }
}

/// The tenant's zones, by name.
#[utoipa::path(
    tag = "dns",
    params(Pages),
    responses((status = 200, body = Success<Vec<ZoneView>>))
)]
#[get("/api/dns/zones")]
async fn list_zones(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<ZoneView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::ZonesRead).await?;
    let (rows, total) = dns::list_zones(&tx, paging.offset(), paging.per_page).await?;
    Ok(page(rows.into_iter().map(Into::into).collect(), paging.meta(total)))
}
