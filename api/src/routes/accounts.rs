//! Hosting accounts and their domains.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Paging, Success, page};
use crate::routes::tenants::Pages;
use crate::state::State;
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use entities::hosting;
use entities::tenancy::Permission;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_accounts);
}

#[derive(Debug, Serialize, ToSchema)]
struct AccountView {
    id: Uuid,
    server_id: Uuid,
    username: String,
    domains: Vec<DomainView>,
    /// The migration that made it.
    job_id: Uuid,
    created_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, ToSchema)]
struct DomainView {
    name: String,
    /// Whether it takes mail and answers DNS; a domain that was not verified is dormant.
    active: bool,
}

/// The tenant's hosting accounts, by name.
#[utoipa::path(
    tag = "accounts",
    params(Pages),
    responses((status = 200, body = Success<Vec<AccountView>>))
)]
#[get("/api/accounts")]
async fn list_accounts(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<AccountView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::AccountsRead).await?;
    let (accounts, total) = hosting::list_accounts(&tx, paging.offset(), paging.per_page).await?;
    let ids: Vec<_> = accounts.iter().map(|row| row.id).collect();
    let domains = hosting::list_domains(&tx, &ids).await?;
    let views = accounts.into_iter().map(|row| AccountView {
        id: row.id.0,
        server_id: row.server_id.0,
        domains: domains
            .iter()
            .filter(|domain| domain.account_id == row.id)
            .map(|domain| DomainView { name: domain.name.clone(), active: domain.active })
            .collect(),
        username: row.username,
        job_id: row.job_id.0,
        created_at: row.created_at,
    });
    Ok(page(views.collect(), paging.meta(total)))
}
