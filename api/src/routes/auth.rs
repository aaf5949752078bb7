//! Logging in and staying logged in.

use crate::auth::{ACCESS_SECS, Caller, origin};
use crate::error::{ApiError, request_id};
use crate::extract::{Answer, Json, Success, ok};
use crate::state::State;
use actix_web::{HttpRequest, get, post, web};
use entities::accounts::{self, NewRefresh};
use entities::db::Db;
use entities::error::{Code, Error};
use entities::tenancy::Permission;
use entities::values::MailAddress;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(login).service(refresh).service(view_me);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    #[validate(length(min = 3, max = 320))]
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    #[validate(length(min = 16, max = 200))]
    refresh_token: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Tokens {
    access_token: String,
    refresh_token: String,
    /// Always `Bearer`.
    token_type: String,
    /// Seconds until the access token expires.
    expires_in: i64,
    tenant: TenantOut,
    user: UserOut,
}

#[derive(Debug, Serialize, ToSchema)]
struct TenantOut {
    id: Uuid,
}

#[derive(Debug, Serialize, ToSchema)]
struct UserOut {
    id: Uuid,
    role: String,
}

fn tokens(state: &State, new: NewRefresh) -> Result<Answer<Tokens>, ApiError> {
    Ok(ok(Tokens {
        access_token: state.tokens.issue(new.user, new.tenant, new.role)?,
        refresh_token: new.token,
        token_type: "Bearer".to_owned(),
        expires_in: ACCESS_SECS,
        tenant: TenantOut { id: new.tenant.0 },
        user: UserOut { id: new.user.0, role: new.role.to_string() },
    }))
}

/// Logs in: an access token of 15 minutes and a refresh token of 7 days.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Login,
    responses((status = 200, body = Success<Tokens>), (status = 401, body = crate::error::Failure))
)]
#[post("/api/auth/login")]
async fn login(
    request: HttpRequest,
    state: web::Data<State>,
    Json(body): Json<Login>,
) -> Result<Answer<Tokens>, ApiError> {
    // What is no address is nobody's, and takes as long as an unknown one.
    let login = match MailAddress::parse(&body.email) {
        Ok(email) => accounts::find_login(&state.db, email.as_str()).await?,
        Err(_) => None,
    };
    let hash = login.as_ref().map(|login| login.password_hash.clone());
    let right = state.passwords.verify(&body.password, hash).await?;
    let login = login.filter(|_| right).ok_or_else(|| {
        Error::refused(
            Code::InvalidCredentials,
            "The address or the password is wrong. Check both and try again.",
        )
    })?;
    let session =
        accounts::begin_session(&state.db, &login, request_id(&request), origin(&request)).await?;
    tokens(&state, session)
}

/// Exchanges a refresh token for new tokens. Each works once; showing a used one again ends the
/// whole login.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Refresh,
    responses((status = 200, body = Success<Tokens>), (status = 401, body = crate::error::Failure))
)]
#[post("/api/auth/refresh")]
async fn refresh(
    request: HttpRequest,
    state: web::Data<State>,
    Json(body): Json<Refresh>,
) -> Result<Answer<Tokens>, ApiError> {
    let session =
        accounts::refresh(&state.db, &body.refresh_token, request_id(&request), origin(&request))
            .await?;
    tokens(&state, session)
}

#[derive(Debug, Serialize, ToSchema)]
struct Me {
    user: UserOut,
    /// The tenant that this request acts in.
    tenant: crate::routes::tenants::TenantView,
}

/// Who the token belongs to, and where it acts.
#[utoipa::path(tag = "auth", responses((status = 200, body = Success<Me>)))]
#[get("/api/me")]
async fn view_me(caller: Caller, db: web::Data<State>) -> Result<Answer<Me>, ApiError> {
    let user = caller.0.user().ok_or_else(|| Error::internal("a token without a person"))?;
    let tenant = own_tenant(&db.db, &caller).await?;
    Ok(ok(Me { user: UserOut { id: user.0, role: caller.0.role().to_string() }, tenant }))
}

async fn own_tenant(
    db: &Db,
    caller: &Caller,
) -> Result<crate::routes::tenants::TenantView, ApiError> {
    let tx = db.read(&caller.0, Permission::ProfileRead).await?;
    Ok(accounts::find_tenant(&tx).await?.into())
}
