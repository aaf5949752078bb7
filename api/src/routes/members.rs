//! Who belongs to a tenant: its people, and invitations to more.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{
    Answer, Json, NOT_PRINTABLE, NoBody, Paging, Success, created, ok, page, printable, readable,
};
use crate::limits::limit_mailbox;
use crate::lockout::Attempt;
use crate::routes::auth::{Nothing, address, asking};
use crate::routes::tenants::Pages;
use crate::schema;
use crate::state::State;
use actix_web::{HttpRequest, delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use entities::error::Error;
use entities::ids::{LinkId, TenantId, UserId};
use entities::members::{self, Change, Member, Order, Wanted};
use entities::sessions::act_in;
use entities::tables::invitation;
use entities::tenancy::{Permission, Role};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_users)
        .service(view_user)
        .service(update_user)
        .service(remove_user)
        .service(unlock_user)
        .service(reset_mfa)
        .service(add_member)
        .service(invite)
        .service(list_invitations)
        .service(revoke_invitation)
        .service(accept_invitation);
}

/// A person as their tenant sees them.
#[derive(Debug, Serialize, ToSchema)]
struct UserView {
    id: Uuid,
    email: String,
    name: String,
    role: String,
    mfa_enabled: bool,
    email_verified: bool,
    member_since: DateTime<Utc>,
}

impl From<Member> for UserView {
    fn from(member: Member) -> Self {
        Self {
            id: member.user.0,
            email: member.email,
            name: member.name,
            role: member.role.to_string(),
            mfa_enabled: member.has_mfa,
            email_verified: member.is_verified,
            member_since: member.since,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    Email,
    Name,
    MemberSince,
    #[serde(rename = "-email")]
    EmailDown,
    #[serde(rename = "-name")]
    NameDown,
    #[serde(rename = "-member_since")]
    MemberSinceDown,
}

impl Sort {
    fn order(self) -> (Order, bool) {
        match self {
            Self::Email => (Order::Email, false),
            Self::Name => (Order::Name, false),
            Self::MemberSince => (Order::Since, false),
            Self::EmailDown => (Order::Email, true),
            Self::NameDown => (Order::Name, true),
            Self::MemberSinceDown => (Order::Since, true),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct UserQuery {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// A part of the address or the name.
    #[param(schema_with = schema::part)]
    q: Option<String>,
    /// Only those with this role.
    #[param(schema_with = schema::role)]
    role: Option<Role>,
    /// By which field, with a `-` in front from the end; by default `email`.
    #[param(inline)]
    sort: Option<Sort>,
}

/// The people of the tenant that is acted in.
#[utoipa::path(
    tag = "users",
    params(UserQuery),
    responses((status = 200, body = Success<Vec<UserView>>))
)]
#[get("/api/users")]
async fn list_users(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<UserQuery>,
) -> Result<Answer<Vec<UserView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    if let Some(text) = &query.q {
        printable(text).map_err(|_e| Error::field("q", NOT_PRINTABLE))?;
        if text.chars().count() > 200 {
            return Err(Error::field("q", "must have at most 200 characters").into());
        }
    }
    let (order, descending) = query.sort.unwrap_or(Sort::Email).order();
    let wanted = Wanted {
        text: query.q.as_deref(),
        role: query.role,
        order,
        descending,
        offset: paging.offset(),
        limit: paging.per_page,
    };
    let (rows, total) = members::list_members(&state.db, &caller.0, &wanted).await?;
    Ok(page(rows.into_iter().map(Into::into).collect(), paging.meta(total)))
}

/// One of the people of the tenant that is acted in.
#[utoipa::path(
    tag = "users",
    params(("id" = Uuid, Path, description = "the person")),
    responses((status = 200, body = Success<UserView>))
)]
#[get("/api/users/{id}")]
async fn view_user(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<UserView>, ApiError> {
    Ok(ok(members::find_member(&state.db, &caller.0, UserId(*id)).await?.into()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserChange {
    /// `OWNER`, `ADMIN`, `BILLING`, `MEMBER` or `VIEWER`; at most one's own.
    #[schema(schema_with = schema::maybe_role)]
    role: Option<Role>,
    /// Only of people who belong to no other tenant.
    #[validate(length(min = 1, max = 200), custom(function = readable))]
    #[schema(schema_with = schema::maybe_name_200)]
    name: Option<String>,
}

/// Changes a person's role or name; what is left out stays. The last owner stays one.
#[utoipa::path(
    tag = "users",
    params(("id" = Uuid, Path, description = "the person")),
    request_body = UserChange,
    responses((status = 200, body = Success<UserView>))
)]
#[patch("/api/users/{id}")]
async fn update_user(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<UserChange>,
) -> Result<Answer<UserView>, ApiError> {
    let change = Change { role: body.role, name: body.name };
    let member = members::update_member(&state.db, &caller.0, UserId(*id), change).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(member.into()))
}

/// Takes a person out of the tenant that is acted in; anybody may leave by themselves. Whoever belongs
/// to no other tenant is deleted.
#[utoipa::path(
    tag = "users",
    params(("id" = Uuid, Path, description = "the person")),
    responses((status = 200, body = Success<Nothing>))
)]
#[delete("/api/users/{id}")]
async fn remove_user(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Nothing>, ApiError> {
    members::remove_member(&state.db, &caller.0, UserId(*id)).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(Nothing {}))
}

/// Lifts the lock-out of a person who gave too many wrong passwords, or somebody else for them.
#[utoipa::path(
    tag = "users",
    params(("id" = Uuid, Path, description = "the person")),
    responses((status = 200, body = Success<Nothing>))
)]
#[post("/api/users/{id}/unlock")]
async fn unlock_user(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<Nothing>, ApiError> {
    let email = members::unlock_member(&state.db, &caller.0, UserId(*id)).await?;
    Attempt::lift(&state, &email).await;
    Ok(ok(Nothing {}))
}

/// Takes a member's second factor away that was lost with its recovery codes. The person gets a letter,
/// and all their logins end. Of somebody who belongs to other tenants, too, only the platform's staff
/// does it.
#[utoipa::path(
    tag = "users",
    params(("id" = Uuid, Path, description = "the person")),
    responses((status = 200, body = Success<Nothing>))
)]
#[post("/api/users/{id}/reset-mfa")]
async fn reset_mfa(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<Nothing>, ApiError> {
    members::reset_mfa(&state.db, &caller.0, UserId(*id)).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(Nothing {}))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct MemberNew {
    #[validate(length(min = 3, max = 254))]
    #[schema(schema_with = schema::mail_address)]
    email: String,
    #[schema(schema_with = schema::new_password)]
    password: SecretString,
    /// `OWNER`, `ADMIN`, `BILLING`, `MEMBER` or `VIEWER`; at most one's own.
    #[schema(schema_with = schema::role)]
    role: Role,
}

/// Makes a new person a member of a tenant: the one that is acted in, or one below it. They log in once
/// they have opened the link that is mailed to them, or at once when the platform's staff adds them.
/// Whoever has a login already is invited instead.
#[utoipa::path(
    tag = "tenants",
    params(("id" = Uuid, Path, description = "the tenant")),
    request_body = MemberNew,
    responses((status = 201, body = Success<UserView>))
)]
#[post("/api/tenants/{id}/members")]
async fn add_member(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<MemberNew>,
) -> Result<Answer<UserView>, ApiError> {
    let email = address("email", &body.email)?;
    caller.0.require_write(Permission::MembersWrite)?;
    if !caller.0.is_platform_staff() {
        limit_mailbox(&state, email.as_str()).await?;
    }
    let ctx = act_in(&state.db, &caller.0, TenantId(*id)).await?;
    let hash =
        state.passwords.ahead().hash_new("password", &body.password, &[email.as_str()]).await?;
    let member = members::add_member(&state.db, &ctx, email.as_str(), hash, body.role).await?;
    Ok(created(member.into()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct InvitationNew {
    #[validate(length(min = 3, max = 254))]
    #[schema(schema_with = schema::mail_address)]
    email: String,
    /// `OWNER`, `ADMIN`, `BILLING`, `MEMBER` or `VIEWER`; at most one's own.
    #[schema(schema_with = schema::role)]
    role: Role,
}

#[derive(Debug, Serialize, ToSchema)]
struct InvitationView {
    id: Uuid,
    email: String,
    role: String,
    expires_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
}

impl From<invitation::Model> for InvitationView {
    fn from(row: invitation::Model) -> Self {
        Self {
            id: row.id.0,
            email: row.email,
            role: row.role.to_string(),
            expires_at: row.expires_at,
            created_at: row.created_at,
        }
    }
}

/// Invites somebody by mail into the tenant that is acted in. An open invitation to the same address
/// gives way.
#[utoipa::path(
    tag = "users",
    request_body = InvitationNew,
    responses((status = 201, body = Success<InvitationView>))
)]
#[post("/api/invitations")]
async fn invite(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<InvitationNew>,
) -> Result<Answer<InvitationView>, ApiError> {
    let email = address("email", &body.email)?;
    caller.0.require_write(Permission::MembersWrite)?;
    limit_mailbox(&state, email.as_str()).await?;
    let row = members::invite(&state.db, &caller.0, email.as_str(), body.role).await?;
    Ok(created(row.into()))
}

/// Invitations that wait to be accepted, newest first.
#[utoipa::path(
    tag = "users",
    params(Pages),
    responses((status = 200, body = Success<Vec<InvitationView>>))
)]
#[get("/api/invitations")]
async fn list_invitations(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<InvitationView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::MembersRead).await?;
    let (rows, total) = members::list_invitations(&tx, paging.offset(), paging.per_page).await?;
    Ok(page(rows.into_iter().map(Into::into).collect(), paging.meta(total)))
}

/// Takes an invitation back.
#[utoipa::path(
    tag = "users",
    params(("id" = Uuid, Path, description = "the invitation")),
    responses((status = 200, body = Success<Nothing>))
)]
#[delete("/api/invitations/{id}")]
async fn revoke_invitation(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Nothing>, ApiError> {
    members::revoke_invitation(&state.db, &caller.0, LinkId(*id)).await?;
    Ok(ok(Nothing {}))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Acceptance {
    /// What stands behind `#token=` in the mailed link.
    #[validate(length(min = 16, max = 200))]
    #[schema(min_length = 16, max_length = 200)]
    token: String,
    /// For whoever has no login yet: 8 to 72 bytes, on no list of breached ones.
    #[schema(schema_with = schema::maybe_new_password)]
    password: Option<SecretString>,
    /// For whoever has no login yet.
    #[validate(length(min = 1, max = 200), custom(function = readable))]
    #[schema(schema_with = schema::maybe_name_200)]
    name: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Accepted {
    tenant_id: Uuid,
}

/// Accepts an invitation by its mailed link, which proves the address. Then one logs in.
#[utoipa::path(
    tag = "auth",
    security(()),
    request_body = Acceptance,
    responses((status = 200, body = Success<Accepted>))
)]
#[post("/api/invitations/accept")]
async fn accept_invitation(
    request: HttpRequest,
    state: web::Data<State>,
    Json(body): Json<Acceptance>,
) -> Result<Answer<Accepted>, ApiError> {
    let (email, has_login) = members::invited(&state.db, &state.secrets, &body.token).await?;
    let new = match body.password {
        Some(_) if has_login => {
            let text = "leave it out: this address has a login already, whose password stays";
            return Err(Error::field("password", text).into());
        }
        Some(password) => {
            let name = body.name.unwrap_or_default();
            let owner = [email.as_str(), name.as_str()];
            let hash = state.passwords.hash_new("password", &password, &owner).await?;
            Some((name, hash))
        }
        None => None,
    };
    let asking = asking(&request);
    let tenant =
        members::accept_invitation(&state.db, &state.secrets, &body.token, new, &asking).await?;
    Ok(ok(Accepted { tenant_id: tenant.0 }))
}
