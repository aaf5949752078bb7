//! Hosting accounts and their domains.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Success, ok};
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

/// The tenant's hosting accounts.
#[utoipa::path(
    tag = "accounts",
    responses((status = 200, body = Success<Vec<AccountView>>), (status = "4XX", body = crate::error::Failure))
)]
#[get("/api/accounts")]
async fn list_accounts(
    caller: Caller,
    state: web::Data<State>,
) -> Result<Answer<Vec<AccountView>>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::AccountsRead).await?;
    let domains = hosting::list_domains(&tx).await?;
    let accounts = hosting::list_accounts(&tx).await?;
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
    Ok(ok(views.collect()))
}
