//! Certificates: ordered, renewed, removed. Their keys never leave.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Paging, Success, accepted, field, ok, page};
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, post, web};
use chrono::{DateTime, Utc};
use entities::certificates::{self, CertificateName, Challenge, Filter, State as CertificateState};
use entities::error::{Code, Error};
use entities::ids::{AccountId, CertificateId};
use entities::tables::certificate;
use entities::tenancy::Permission;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_certificates)
        .service(create_certificate)
        .service(view_certificate)
        .service(renew_certificate)
        .service(delete_certificate);
}

/// A certificate, without its key.
#[derive(Debug, Serialize, ToSchema)]
struct CertificateView {
    id: Uuid,
    tenant_id: Uuid,
    /// Whose sites and mail show it; null once the account is gone.
    account_id: Option<Uuid>,
    names: Vec<String>,
    /// How the authority is shown that the names are yours: by a record in your zone here, or by a file
    /// that the account's server shows.
    #[schema(schema_with = schema::challenge)]
    challenge: Challenge,
    /// `active` and `renewing`: it is shown. An error beside `active` is that of the last renewal, which
    /// is tried again.
    #[schema(schema_with = schema::certificate_state)]
    state: CertificateState,
    /// Why the last attempt failed: a code of the refusals, and a sentence.
    error_code: Option<String>,
    error: Option<String>,
    /// In hex.
    serial: Option<String>,
    not_before: Option<DateTime<Utc>>,
    not_after: Option<DateTime<Utc>>,
    /// When it is to be renewed.
    renew_at: Option<DateTime<Utc>>,
    /// When the next attempt or the renewal is due.
    next_at: DateTime<Utc>,
    /// How often in a row it has failed.
    attempts: i32,
    /// The job that works on it, or did so last.
    job_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// What goes wrong on a server is for its operators; a customer is told what it means for them.
fn shown_error(caller: &Caller, row: &certificate::Model) -> Option<String> {
    let error = row.error.clone()?;
    let for_all = [
        Code::DomainUnverified,
        Code::CaaForbids,
        Code::CaRefused,
        Code::CaLimit,
        Code::CaUnavailable,
        Code::CertificateUnseen,
        Code::NotFound,
        Code::InvalidRequest,
    ];
    let code = row.error_code.as_deref().unwrap_or_default();
    if caller.0.is_platform_staff() || for_all.iter().any(|known| known.as_str() == code) {
        return Some(error);
    }
    Some("The last attempt failed. There will be another one by itself.".to_owned())
}

fn view(caller: &Caller, row: certificate::Model) -> Result<CertificateView, Error> {
    let names = certificates::names_of(&row)?;
    Ok(CertificateView {
        error: shown_error(caller, &row),
        id: row.id.0,
        tenant_id: row.tenant_id.0,
        account_id: row.account_id.map(|id| id.0),
        names: names.iter().map(ToString::to_string).collect(),
        challenge: row.challenge,
        state: row.state,
        error_code: row.error_code,
        serial: row.serial,
        not_before: row.not_before,
        not_after: row.not_after,
        renew_at: row.renew_at,
        next_at: row.next_at,
        attempts: row.attempts,
        job_id: row.job_id.map(|id| id.0),
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct CertificateFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// Those in this state.
    #[param(schema_with = schema::certificate_state)]
    state: Option<CertificateState>,
    /// Those of this account.
    account_id: Option<Uuid>,
    /// The one that is ordered for exactly this name.
    #[param(schema_with = schema::certificate_name)]
    name: Option<String>,
}

/// The tenant's certificates, newest first.
#[utoipa::path(
    tag = "certificates",
    params(CertificateFilter),
    responses((status = 200, body = Success<Vec<CertificateView>>))
)]
#[get("/api/certificates")]
async fn list_certificates(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<CertificateFilter>,
) -> Result<Answer<Vec<CertificateView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let name: Option<CertificateName> =
        query.name.as_deref().map(|name| field("name", name)).transpose()?;
    let name = name.map(|name| name.to_string());
    let filter = Filter {
        state: query.state,
        account: query.account_id.map(AccountId),
        name: name.as_deref(),
    };
    let tx = state.db.read(&caller.0, Permission::CertificatesRead).await?;
    let (rows, total) =
        certificates::list_certificates(&tx, filter, paging.offset(), paging.per_page).await?;
    let views: Result<_, Error> = rows.into_iter().map(|row| view(&caller, row)).collect();
    Ok(page(views?, paging.meta(total)))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCertificate {
    /// Hosts in the domains of one account, or below them; `*.` before a domain stands for all hosts
    /// one label below it, comes together with the domain, and needs its zone here.
    #[schema(schema_with = schema::certificate_names)]
    #[validate(length(min = 1, max = 100))]
    names: Vec<String>,
}

/// Orders a certificate; a job obtains it and lets the account's sites and mail show it. It is renewed
/// by itself.
#[utoipa::path(
    tag = "certificates",
    request_body = NewCertificate,
    responses((status = 202, body = Success<CertificateView>))
)]
#[post("/api/certificates")]
async fn create_certificate(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<NewCertificate>,
) -> Result<Answer<CertificateView>, ApiError> {
    let names: Result<Vec<CertificateName>, Error> = (0..)
        .zip(&body.names)
        .map(|(at, name): (usize, _)| field(&format!("names/{at}"), name))
        .collect();
    let ours = &state.accounts_domain;
    let row = certificates::create_certificate(&state.db, &caller.0, names?, ours).await?;
    Ok(accepted(view(&caller, row)?))
}

/// A certificate.
#[utoipa::path(
    tag = "certificates",
    params(("id" = Uuid, Path, description = "the certificate")),
    responses((status = 200, body = Success<CertificateView>))
)]
#[get("/api/certificates/{id}")]
async fn view_certificate(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CertificateView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::CertificatesRead).await?;
    let row = certificates::find_certificate(&tx, CertificateId(*id)).await?;
    Ok(ok(view(&caller, row)?))
}

/// Obtains a certificate again, now; what is shown stays until the new one is there.
#[utoipa::path(
    tag = "certificates",
    params(("id" = Uuid, Path, description = "the certificate")),
    responses((status = 202, body = Success<CertificateView>))
)]
#[post("/api/certificates/{id}/renew")]
async fn renew_certificate(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CertificateView>, ApiError> {
    let row = certificates::renew_certificate(&state.db, &caller.0, CertificateId(*id)).await?;
    Ok(accepted(view(&caller, row)?))
}

/// What becomes of a certificate that goes.
#[derive(Debug, Serialize, ToSchema)]
struct Deletion {
    id: Uuid,
    /// The job that takes it off its server, after the one that works on it now; null when it was
    /// nowhere and is gone.
    job_id: Option<Uuid>,
}

/// Stops renewals and takes a certificate off its server; then it is gone. It is not revoked.
#[utoipa::path(
    tag = "certificates",
    params(("id" = Uuid, Path, description = "the certificate")),
    responses((status = 202, body = Success<Deletion>))
)]
#[delete("/api/certificates/{id}")]
async fn delete_certificate(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Deletion>, ApiError> {
    let row = certificates::delete_certificate(&state.db, &caller.0, CertificateId(*id)).await?;
    let job_id = row.and_then(|row| row.job_id).map(|id| id.0);
    Ok(accepted(Deletion { id: *id, job_id }))
}
