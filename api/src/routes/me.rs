//! One's own: name, password, address, logins, second factor.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Success, accepted, ok, readable};
use crate::limits::limit_mailbox;
use crate::lockout::Attempt;
use crate::password::Verdict;
use crate::routes::auth::{Nothing, Tokens, address, asking, tokens};
use crate::schema;
use crate::state::State;
use actix_web::{HttpRequest, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use entities::accounts;
use entities::error::{Code, Error};
use entities::ids::SessionId;
use entities::mfa::{self, Factor};
use entities::sessions;
use entities::tables::app_user;
use entities::tenancy::Permission;
use entities::tenants;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(view_me)
        .service(update_me)
        .service(change_password)
        .service(change_email)
        .service(list_sessions)
        .service(end_session)
        .service(end_sessions)
        .service(set_up_mfa)
        .service(enable_mfa)
        .service(disable_mfa)
        .service(renew_recovery_codes);
}

#[derive(Debug, Serialize, ToSchema)]
struct Me {
    /// None for an API key.
    user: Option<Profile>,
    /// The API key that is used.
    api_key_id: Option<Uuid>,
    role: String,
    /// The tenant that this request acts in.
    tenant: crate::routes::tenants::TenantView,
    /// Who acts as this person.
    impersonator_id: Option<Uuid>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Profile {
    id: Uuid,
    email: String,
    name: String,
    mfa_enabled: bool,
    created_at: DateTime<Utc>,
}

impl From<app_user::Model> for Profile {
    fn from(row: app_user::Model) -> Self {
        Self {
            id: row.id.0,
            email: row.email,
            name: row.name,
            mfa_enabled: row.totp_enabled_at.is_some(),
            created_at: row.created_at,
        }
    }
}

/// Who the token belongs to, and where it acts.
#[utoipa::path(
    tag = "me",
    responses((status = 200, body = Success<Me>))
)]
#[get("/api/me")]
async fn view_me(caller: Caller, state: web::Data<State>) -> Result<Answer<Me>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::ProfileRead).await?;
    let tenant = tenants::find_tenant(&tx).await?.into();
    drop(tx);
    let user = match caller.0.user() {
        Some(_) => Some(accounts::find_self(&state.db, &caller.0).await?.into()),
        None => None,
    };
    Ok(ok(Me {
        user,
        api_key_id: caller.0.key().map(|id| id.0),
        role: caller.0.role().to_string(),
        tenant,
        impersonator_id: caller.0.impersonator().map(|id| id.0),
    }))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct MeChange {
    #[validate(length(min = 1, max = 200), custom(function = readable))]
    #[schema(schema_with = schema::name_200)]
    name: String,
}

/// Changes one's own name.
#[utoipa::path(
    tag = "me",
    request_body = MeChange,
    responses((status = 200, body = Success<Profile>))
)]
#[patch("/api/me")]
async fn update_me(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<MeChange>,
) -> Result<Answer<Profile>, ApiError> {
    caller.0.require_write(Permission::ProfileWrite)?;
    Ok(ok(accounts::rename_self(&state.db, &caller.0, &body.name).await?.into()))
}

/// The person, once the password was given again, and the attempt that is open until all of it was
/// right. Wrong ones count as those of a login do.
async fn confirmed(
    request: &HttpRequest,
    state: &State,
    caller: &Caller,
    field: &'static str,
    password: &SecretString,
) -> Result<(app_user::Model, Attempt), Error> {
    caller.0.require_write(Permission::ProfileWrite)?;
    let user = accounts::find_self(&state.db, &caller.0).await?;
    let known = accounts::find_login(&state.db, &user.email).await?;
    let asking = asking(request);
    // Whoever has the access token is no stranger: their count is that of a known device.
    let attempt = Attempt::begin(state, &asking, &user.email, known.as_ref(), true).await?;
    if attempt.verify(state, password, Some(&user.password_hash)).await? == Verdict::Wrong {
        attempt.failed(state, "password").await?;
        return Err(Error::field(field, "is not the one of this login"));
    }
    Ok((user, attempt))
}

/// Ends the attempt as what it was for has ended: a wrong code counts as a wrong password does.
async fn settled<T>(
    state: &State,
    attempt: Attempt,
    done: Result<T, Error>,
    field: &'static str,
) -> Result<T, Error> {
    match done {
        Ok(value) => {
            attempt.succeeded(state).await;
            Ok(value)
        }
        Err(error) if error.code() == Code::InvalidCredentials => {
            attempt.failed(state, "second factor").await?;
            Err(not_a_login(error, field))
        }
        Err(error) => {
            attempt.give_back(state).await;
            Err(error)
        }
    }
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordChange {
    #[schema(value_type = String, format = Password)]
    current_password: SecretString,
    #[schema(schema_with = schema::new_password)]
    new_password: SecretString,
}

/// Changes one's password. All logins end, this one too; the answer is a new one.
#[utoipa::path(
    tag = "me",
    request_body = PasswordChange,
    responses((status = 200, body = Success<Tokens>))
)]
#[post("/api/auth/change-password")]
async fn change_password(
    request: HttpRequest,
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<PasswordChange>,
) -> Result<Answer<Tokens>, ApiError> {
    let (user, attempt) =
        confirmed(&request, &state, &caller, "current_password", &body.current_password).await?;
    attempt.succeeded(&state).await;
    let called = [user.email.as_str(), user.name.as_str()];
    let hash =
        state.passwords.ahead().hash_new("new_password", &body.new_password, &called).await?;
    let old = &user.password_hash;
    let begun = accounts::change_password(&state.db, &state.secrets, &caller.0, old, hash).await?;
    state.ends.settle(&state.db).await?;
    tokens(&request, &state, begun)
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct EmailChange {
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    #[validate(length(min = 3, max = 254))]
    #[schema(schema_with = schema::mail_address)]
    email: String,
}

/// Asks for another address. It is the login once the link that is mailed to it was opened.
#[utoipa::path(
    tag = "me",
    request_body = EmailChange,
    responses((status = 202, body = Success<Nothing>))
)]
#[post("/api/auth/change-email")]
async fn change_email(
    request: HttpRequest,
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<EmailChange>,
) -> Result<Answer<Nothing>, ApiError> {
    let email = address("email", &body.email)?;
    let (_, attempt) = confirmed(&request, &state, &caller, "password", &body.password).await?;
    attempt.succeeded(&state).await;
    limit_mailbox(&state, email.as_str()).await?;
    accounts::request_email_change(&state.db, &caller.0, email.as_str()).await?;
    Ok(accepted(Nothing {}))
}

#[derive(Debug, Serialize, ToSchema)]
struct SessionView {
    id: Uuid,
    tenant_id: Uuid,
    /// Where it began.
    ip: Option<String>,
    user_agent: Option<String>,
    created_at: DateTime<Utc>,
    /// When it was renewed last.
    used_at: DateTime<Utc>,
    current: bool,
    /// Somebody of the platform acts in it.
    impersonated: bool,
}

/// One's logins that live, newest first.
#[utoipa::path(
    tag = "me",
    responses((status = 200, body = Success<Vec<SessionView>>))
)]
#[get("/api/auth/sessions")]
async fn list_sessions(
    caller: Caller,
    state: web::Data<State>,
) -> Result<Answer<Vec<SessionView>>, ApiError> {
    caller.0.require(Permission::SessionsRead)?;
    let rows = sessions::list_sessions(&state.db, &caller.0).await?;
    let views = rows.into_iter().map(|row| SessionView {
        id: row.id.0,
        tenant_id: row.tenant.0,
        ip: row.ip,
        user_agent: row.user_agent,
        created_at: row.created_at,
        used_at: row.used_at,
        current: row.is_current,
        impersonated: row.is_impersonated,
    });
    Ok(ok(views.collect()))
}

/// Ends one of one's logins.
#[utoipa::path(
    tag = "me",
    params(("id" = Uuid, Path, description = "the login")),
    responses((status = 200, body = Success<Nothing>))
)]
#[delete("/api/auth/sessions/{id}")]
async fn end_session(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Nothing>, ApiError> {
    caller.0.require_write(Permission::ProfileWrite)?;
    sessions::end_session(&state.db, &caller.0, SessionId(*id)).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(Nothing {}))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Keep {
    /// Whether this login goes on; it ends, too, when this is left out.
    #[serde(default)]
    keep_current: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct Ended {
    ended: u64,
}

/// Ends all of one's logins.
#[utoipa::path(
    tag = "me",
    params(Keep),
    responses((status = 200, body = Success<Ended>))
)]
#[delete("/api/auth/sessions")]
async fn end_sessions(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Keep>,
) -> Result<Answer<Ended>, ApiError> {
    caller.0.require_write(Permission::ProfileWrite)?;
    let keep = caller.0.session().filter(|_| query.keep_current);
    let ended = sessions::end_sessions(&state.db, &caller.0, keep).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(Ended { ended }))
}

#[derive(Debug, Serialize, ToSchema)]
struct MfaSetup {
    /// For typing into the app.
    secret: String,
    /// For a QR code.
    otpauth_url: String,
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordAgain {
    /// One's own, once more: whoever has found a browser open takes no login over.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// Makes the secret of a second factor. It is in use once `enable` has seen a code of it.
#[utoipa::path(
    tag = "me",
    request_body = PasswordAgain,
    responses((status = 200, body = Success<MfaSetup>))
)]
#[post("/api/auth/mfa/setup")]
async fn set_up_mfa(
    request: HttpRequest,
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<PasswordAgain>,
) -> Result<Answer<MfaSetup>, ApiError> {
    let (_, attempt) = confirmed(&request, &state, &caller, "password", &body.password).await?;
    attempt.succeeded(&state).await;
    let setup = mfa::set_up(&state.db, &state.secrets, &caller.0).await?;
    Ok(ok(MfaSetup {
        secret: setup.secret.expose_secret().to_owned(),
        otpauth_url: setup.url.expose_secret().to_owned(),
    }))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct MfaCode {
    /// Six digits.
    #[validate(length(min = 6, max = 16))]
    #[schema(min_length = 6, max_length = 16)]
    code: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct RecoveryCodes {
    /// Each stands in for the second factor once. Shown this once.
    recovery_codes: Vec<String>,
}

/// Takes the second factor into use.
#[utoipa::path(
    tag = "me",
    request_body = MfaCode,
    responses((status = 200, body = Success<RecoveryCodes>))
)]
#[post("/api/auth/mfa/enable")]
async fn enable_mfa(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<MfaCode>,
) -> Result<Answer<RecoveryCodes>, ApiError> {
    caller.0.require_write(Permission::ProfileWrite)?;
    let codes = mfa::enable(&state.db, &state.secrets, &caller.0, &body.code).await;
    let recovery_codes = codes.map_err(|e| not_a_login(e, "code"))?;
    state.ends.settle(&state.db).await?;
    Ok(ok(RecoveryCodes { recovery_codes }))
}

/// A wrong code of somebody who is logged in is a wrong field, not a failed login.
fn not_a_login(error: Error, field: &'static str) -> Error {
    match error.code() {
        Code::InvalidCredentials => Error::field(field, "is wrong or was used before"),
        _ => error,
    }
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Proof {
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Six digits.
    #[validate(length(max = 16))]
    #[schema(max_length = 16)]
    code: Option<String>,
    /// Instead of a code.
    #[validate(length(max = 64))]
    #[schema(max_length = 64)]
    recovery_code: Option<String>,
}

impl Proof {
    fn factor(self) -> Result<(Factor, &'static str), Error> {
        match (self.code, self.recovery_code) {
            (Some(code), _) => Ok((Factor::Code(code), "code")),
            (None, Some(code)) => Ok((Factor::Recovery(code), "recovery_code")),
            (None, None) => Err(Error::field("code", "is missing, and so is recovery_code")),
        }
    }
}

/// Takes the second factor out of use.
#[utoipa::path(
    tag = "me",
    request_body = Proof,
    responses((status = 200, body = Success<Nothing>))
)]
#[post("/api/auth/mfa/disable")]
async fn disable_mfa(
    request: HttpRequest,
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<Proof>,
) -> Result<Answer<Nothing>, ApiError> {
    let password = body.password.clone();
    let (factor, field) = body.factor()?;
    let (_, attempt) = confirmed(&request, &state, &caller, "password", &password).await?;
    let done = mfa::disable(&state.db, &state.secrets, &caller.0, factor).await;
    settled(&state, attempt, done, field).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(Nothing {}))
}

/// Makes new recovery codes. The old ones work no more.
#[utoipa::path(
    tag = "me",
    request_body = Proof,
    responses((status = 200, body = Success<RecoveryCodes>))
)]
#[post("/api/auth/mfa/recovery-codes")]
async fn renew_recovery_codes(
    request: HttpRequest,
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<Proof>,
) -> Result<Answer<RecoveryCodes>, ApiError> {
    let password = body.password.clone();
    let (factor, field) = body.factor()?;
    let (_, attempt) = confirmed(&request, &state, &caller, "password", &password).await?;
    let codes = mfa::renew_codes(&state.db, &state.secrets, &caller.0, factor).await;
    let recovery_codes = settled(&state, attempt, codes, field).await?;
    Ok(ok(RecoveryCodes { recovery_codes }))
}
