//! Logging in, staying logged in, and the ways to a login: registering, verifying, resetting.

use crate::auth::{ACCESS_SECS, Caller};
use crate::client::{client, origin};
use crate::error::{ApiError, request_id};
use crate::extract::{Answer, Json, NoBody, Success, accepted, ok, readable};
use crate::limits::{limit_mailbox, limit_resets};
use crate::lockout::Attempt;
use crate::password::Verdict;
use crate::schema;
use crate::state::State;
use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::{HttpRequest, post, web};
use entities::accounts::{self, Asking, Known, Registration, Shown};
use entities::error::{Code, Error};
use entities::ids::TenantId;
use entities::mfa::Factor;
use entities::sessions::{self, Begun};
use entities::tenancy::Permission;
use entities::values::MailAddress;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(login)
        .service(refresh)
        .service(logout)
        .service(switch_tenant)
        .service(register)
        .service(verify_email)
        .service(resend_verification)
        .service(forgot_password)
        .service(reset_password)
        .service(confirm_email);
}

/// The refresh token's cookie, for browsers: no script reads it, and no other site sends it.
const REFRESH_COOKIE: &str = "migrapanel_refresh";
const REFRESH_PATH: &str = "/api/auth";

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    #[validate(length(min = 3, max = 254))]
    #[schema(schema_with = schema::mail_address)]
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// The six digits of the second factor, for whoever has one.
    #[validate(length(max = 16))]
    #[schema(max_length = 16)]
    code: Option<String>,
    /// A recovery code instead; each works once.
    #[validate(length(max = 64))]
    #[schema(max_length = 64)]
    recovery_code: Option<String>,
    /// What an earlier login from this device has answered: a device that is known is not locked out
    /// by what strangers try.
    #[validate(length(max = 200))]
    #[schema(max_length = 200)]
    device_token: Option<String>,
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// Browsers may leave it out: their cookie has it.
    #[validate(length(min = 16, max = 200))]
    #[schema(min_length = 16, max_length = 200)]
    refresh_token: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tokens {
    access_token: String,
    /// Changes at each use. Browsers get it as an HttpOnly cookie, too.
    refresh_token: String,
    /// Always `Bearer`.
    token_type: String,
    /// Seconds until the access token expires.
    expires_in: i64,
    /// Proves at the next login that this device is known.
    device_token: String,
    session_id: Uuid,
    tenant: TenantOut,
    user: UserOut,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantOut {
    pub(super) id: Uuid,
    pub(super) name: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserOut {
    id: Uuid,
    email: String,
    name: String,
    role: String,
}

/// Who asks, without a login.
pub(super) fn asking(request: &HttpRequest) -> Asking {
    Asking { request: request_id(request), origin: origin(request) }
}

/// The answer to whoever has just logged in or refreshed.
pub(super) fn tokens(
    request: &HttpRequest,
    state: &State,
    begun: Begun,
) -> Result<Answer<Tokens>, ApiError> {
    let access_token = state.tokens.issue(&begun.claims(), ACCESS_SECS)?;
    let device_token = state.secrets.issue(entities::secrets::Purpose::Device, begun.user.0)?;
    let cookie = refresh_cookie(request, begun.refresh_token.clone(), Duration::days(7));
    Ok(ok(Tokens {
        access_token,
        refresh_token: begun.refresh_token,
        token_type: "Bearer".to_owned(),
        expires_in: ACCESS_SECS,
        device_token,
        session_id: begun.session.0,
        tenant: TenantOut { id: begun.tenant.0, name: begun.tenant_name },
        user: UserOut {
            id: begun.user.0,
            email: begun.email,
            name: begun.name,
            role: begun.role.to_string(),
        },
    })
    .with_cookie(cookie))
}

fn refresh_cookie(request: &HttpRequest, value: String, life: Duration) -> Cookie<'static> {
    Cookie::build(REFRESH_COOKIE, value)
        .path(REFRESH_PATH)
        .http_only(true)
        .secure(client(request).is_some_and(|client| client.is_https))
        .same_site(SameSite::Strict)
        .max_age(life)
        .finish()
}

/// Logs in: an access token of 15 minutes and a refresh token of 7 days. Whoever has a second factor
/// sends `code` or `recovery_code` too; without it the answer is `mfa_required`.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Login,
    responses((status = 200, body = Success<Tokens>))
)]
#[post("/api/auth/login")]
async fn login(
    request: HttpRequest,
    state: web::Data<State>,
    Json(body): Json<Login>,
) -> Result<Answer<Tokens>, ApiError> {
    let asking = asking(&request);
    // What is no address is nobody's, and takes as long as an unknown one.
    let email = MailAddress::parse(&body.email).ok();
    let known = match &email {
        Some(email) => accounts::find_login(&state.db, email.as_str()).await?,
        None => None,
    };
    let device = body.device_token.as_deref();
    let device =
        device.and_then(|t| state.secrets.recognise(entities::secrets::Purpose::Device, t));
    let is_known_device = match (&known, device) {
        (Some(known), Some((id, _))) => known.user().0 == id,
        _ => false,
    };
    // Before the hash is computed, which is what an attacker would have us do.
    // By the address as it is looked up, however it was written.
    let typed = email.as_ref().map_or(body.email.as_str(), |email| email.as_str());
    let attempt = Attempt::begin(&state, &asking, typed, known.as_ref(), is_known_device).await?;
    let begun = enter(&state, &body, (typed, known), attempt).await?;
    tokens(&request, &state, begun)
}

/// Compares the password and goes on, once more when another login has replaced the old system's hash
/// of this person meanwhile.
async fn enter(
    state: &State,
    body: &Login,
    (email, mut known): (&str, Option<Known>),
    attempt: Attempt,
) -> Result<Begun, ApiError> {
    for _ in 0..2 {
        let hash = known.as_ref().map(Known::password_hash);
        let verdict = attempt.verify(state, &body.password, hash).await?;
        let Some(person) = known.take().filter(|_| verdict != Verdict::Wrong) else { break };
        // A longer one cannot be hashed anew, and stays with its old hash.
        let fits = body.password.expose_secret().len() <= 72;
        let rehashed = match verdict {
            Verdict::RightLegacy if fits => {
                Some(state.passwords.ahead().hash(&body.password).await?)
            }
            _ => None,
        };
        let factor = match (&body.code, &body.recovery_code) {
            (Some(code), _) => Some(Factor::Code(code.clone())),
            (None, Some(code)) => Some(Factor::Recovery(code.clone())),
            (None, None) => None,
        };
        let shown = Shown { known: person, factor, rehashed };
        match accounts::log_in(&state.db, &state.secrets, shown, attempt.asking()).await {
            Ok(Some(begun)) => {
                attempt.succeeded(state).await;
                return Ok(begun);
            }
            Ok(None) => known = accounts::find_login(&state.db, email).await?,
            Err(error) => {
                match error.code() {
                    Code::InvalidCredentials => attempt.failed(state, "second factor").await?,
                    _ => attempt.give_back(state).await,
                }
                return Err(error.into());
            }
        }
    }
    attempt.failed(state, "password").await?;
    Err(Error::refused(Code::InvalidCredentials, accounts::WRONG).into())
}

/// Exchanges a refresh token for new tokens. Each works once, but for ten seconds in which it gives
/// the same successor; showing an older one ends the whole login.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Refresh,
    responses((status = 200, body = Success<Tokens>))
)]
#[post("/api/auth/refresh")]
async fn refresh(
    request: HttpRequest,
    state: web::Data<State>,
    Json(body): Json<Refresh>,
) -> Result<Answer<Tokens>, ApiError> {
    let token = body
        .refresh_token
        .or_else(|| request.cookie(REFRESH_COOKIE).map(|c| c.value().to_owned()))
        .ok_or_else(|| Error::field("refresh_token", "is missing, and there is no cookie"))?;
    let asking = asking(&request);
    let begun =
        sessions::refresh(&state.db, &state.secrets, &token, asking.request, &asking.origin).await;
    if begun.is_err() {
        state.ends.settle(&state.db).await?;
    }
    tokens(&request, &state, begun?)
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Nothing {}

/// Ends this login: its access token and its refresh token.
#[utoipa::path(
    tag = "auth",
    responses((status = 200, body = Success<Nothing>))
)]
#[post("/api/auth/logout")]
async fn logout(
    request: HttpRequest,
    caller: Caller,
    state: web::Data<State>,
    _: NoBody,
) -> Result<Answer<Nothing>, ApiError> {
    caller.0.require_write(Permission::ProfileWrite)?;
    let session = caller.0.session().ok_or_else(|| {
        Error::refused(Code::Forbidden, "An API key has no login to end. Revoke the key instead.")
    })?;
    sessions::end_session(&state.db, &caller.0, session).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(Nothing {}).with_cookie(refresh_cookie(&request, String::new(), Duration::ZERO)))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Switch {
    tenant_id: Uuid,
}

/// A login in another tenant that one is a member of. This one goes on.
#[utoipa::path(
    tag = "auth",
    request_body = Switch,
    responses((status = 200, body = Success<Tokens>))
)]
#[post("/api/auth/switch-tenant")]
async fn switch_tenant(
    request: HttpRequest,
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<Switch>,
) -> Result<Answer<Tokens>, ApiError> {
    caller.0.require_write(Permission::ProfileWrite)?;
    let tenant = TenantId(body.tenant_id);
    let begun = sessions::switch_tenant(&state.db, &state.secrets, &caller.0, tenant).await?;
    tokens(&request, &state, begun)
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Register {
    #[validate(length(min = 3, max = 254))]
    #[schema(schema_with = schema::mail_address)]
    email: String,
    #[schema(schema_with = schema::new_password)]
    password: SecretString,
    #[validate(length(min = 1, max = 200), custom(function = readable))]
    #[schema(schema_with = schema::name_200)]
    name: String,
    /// What the new tenant is called; one's own name when left out.
    #[validate(length(min = 1, max = 200), custom(function = readable))]
    #[schema(schema_with = schema::maybe_name_200)]
    company: Option<String>,
}

/// Makes a customer of one's own. The answer is the same whoever has the address; a letter to it says
/// how to go on.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Register,
    responses((status = 202, body = Success<Nothing>))
)]
#[post("/api/auth/register")]
async fn register(
    request: HttpRequest,
    state: web::Data<State>,
    Json(body): Json<Register>,
) -> Result<Answer<Nothing>, ApiError> {
    if !state.registration {
        let text = "Registration is switched off here. Ask for an invitation.";
        return Err(Error::refused(Code::Forbidden, text).into());
    }
    let email = address("email", &body.email)?;
    limit_mailbox(&state, email.as_str()).await?;
    let company = body.company.unwrap_or_else(|| body.name.clone());
    let owner = [email.as_str(), &body.name, &company];
    let password_hash = state.passwords.hash_new("password", &body.password, &owner).await?;
    let email = email.to_string();
    let new = Registration { email, name: body.name, company, password_hash };
    let asking = asking(&request);
    let registered = accounts::register(&state.db, new.clone(), &asking).await;
    if registered.as_ref().is_err_and(|error| error.code() == Code::Conflict) {
        // Somebody else has registered the address in this moment: now it is known.
        accounts::register(&state.db, new, &asking).await?;
    } else {
        registered?;
    }
    Ok(accepted(Nothing {}))
}

pub(super) fn address(field: &'static str, text: &str) -> Result<MailAddress, Error> {
    MailAddress::parse(text).map_err(|e| Error::field(field, e.to_string()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Link {
    /// What stands behind `#token=` in the mailed link.
    #[validate(length(min = 16, max = 200))]
    #[schema(min_length = 16, max_length = 200)]
    token: String,
}

/// Verifies an address by the link that was mailed to it.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Link,
    responses((status = 200, body = Success<Nothing>))
)]
#[post("/api/auth/verify-email")]
async fn verify_email(
    request: HttpRequest,
    state: web::Data<State>,
    Json(body): Json<Link>,
) -> Result<Answer<Nothing>, ApiError> {
    accounts::verify_email(&state.db, &state.secrets, &body.token, &asking(&request)).await?;
    Ok(ok(Nothing {}))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Address {
    #[validate(length(min = 3, max = 254))]
    #[schema(schema_with = schema::mail_address)]
    email: String,
}

/// How long the answer takes about an address that may or may not be somebody's: longer than whatever
/// is written for one that is, so that the time tells nothing.
const EVENLY: std::time::Duration = std::time::Duration::from_millis(200);

/// Does something in the time that its absence takes, too.
async fn evenly<T>(work: impl Future<Output = T>) -> T {
    tokio::join!(work, tokio::time::sleep(EVENLY)).0
}

/// Mails another link to an address that is not verified yet. The answer is always the same.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Address,
    responses((status = 202, body = Success<Nothing>))
)]
#[post("/api/auth/resend-verification")]
async fn resend_verification(
    state: web::Data<State>,
    Json(body): Json<Address>,
) -> Result<Answer<Nothing>, ApiError> {
    let email = address("email", &body.email)?;
    limit_mailbox(&state, email.as_str()).await?;
    evenly(accounts::resend_verification(&state.db, email.as_str())).await?;
    Ok(accepted(Nothing {}))
}

/// Mails a link that sets a new password. The answer is the same whoever has the address.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Address,
    responses((status = 202, body = Success<Nothing>))
)]
#[post("/api/auth/forgot-password")]
async fn forgot_password(
    request: HttpRequest,
    state: web::Data<State>,
    Json(body): Json<Address>,
) -> Result<Answer<Nothing>, ApiError> {
    let email = address("email", &body.email)?;
    limit_resets(&state, email.as_str()).await?;
    let asking = asking(&request);
    evenly(accounts::forgot_password(&state.db, email.as_str(), &asking)).await?;
    Ok(accepted(Nothing {}))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reset {
    #[validate(length(min = 16, max = 200))]
    #[schema(min_length = 16, max_length = 200)]
    token: String,
    #[schema(schema_with = schema::new_password)]
    password: SecretString,
}

/// Sets a new password by the mailed link. All logins end, and a lock-out is lifted.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Reset,
    responses((status = 200, body = Success<Nothing>))
)]
#[post("/api/auth/reset-password")]
async fn reset_password(
    request: HttpRequest,
    state: web::Data<State>,
    Json(body): Json<Reset>,
) -> Result<Answer<Nothing>, ApiError> {
    let owner = accounts::link_owner(&state.db, &state.secrets, &body.token).await?;
    let called = [owner.email.as_str(), owner.name.as_str()];
    let hash = state.passwords.hash_new("password", &body.password, &called).await?;
    accounts::reset_password(&state.db, &state.secrets, &body.token, hash, &asking(&request))
        .await?;
    Attempt::lift(&state, &owner.email).await;
    state.ends.settle(&state.db).await?;
    Ok(ok(Nothing {}))
}

/// Takes a new address into use by the link that was mailed to it.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Link,
    responses((status = 200, body = Success<Nothing>))
)]
#[post("/api/auth/confirm-email")]
async fn confirm_email(
    request: HttpRequest,
    state: web::Data<State>,
    Json(body): Json<Link>,
) -> Result<Answer<Nothing>, ApiError> {
    accounts::change_email(&state.db, &state.secrets, &body.token, &asking(&request)).await?;
    Ok(ok(Nothing {}))
}
