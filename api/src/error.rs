//! Errors as callers see them: the status, and the one function that writes error bodies.

use crate::auth::Caller;
use crate::client::origin;
use crate::state::State;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError, web};
use entities::audit::{self, Anonymous, Audit};
use entities::error::{Code, Error, FieldError};
use entities::ids::{CloudpodId, RequestId};
use entities::values::Invalid;
use serde::Serialize;
use utoipa::ToSchema;

/// An error of a rule, on its way to the caller.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ApiError(#[from] pub Error);

impl From<Invalid> for ApiError {
    fn from(error: Invalid) -> Self {
        Self(error.into())
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        status(self.0.code())
    }

    /// Only the status: [`render`] writes the body.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}

/// The body of every refusal.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failure {
    /// Always false.
    pub success: bool,
    /// What to do about it.
    pub error: String,
    /// Stable, for programs.
    pub code: String,
    /// Which fields of the request were refused.
    #[schema(value_type = Vec<Field>)]
    pub fields: Vec<FieldError>,
    /// Whether the same request may work later.
    pub retryable: bool,
    pub request_id: String,
}

/// A field that was refused: [`FieldError`] for the contract.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Field {
    /// A JSON pointer into the body, or the name of a parameter.
    path: String,
    message: String,
}

/// Whether the same request may work later.
#[must_use]
pub fn retryable(code: Code) -> bool {
    matches!(status(code).as_u16(), 408 | 429 | 500 | 503) || code == Code::IdempotencyRunning
}

/// A request that took too long. Nothing of it is left to write an answer with but its id.
#[derive(Debug, thiserror::Error)]
#[error("This took too long and was ended. Try again in a minute.")]
pub struct TimedOut(pub RequestId);

impl ResponseError for TimedOut {
    fn status_code(&self) -> StatusCode {
        status(Code::Timeout)
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status_code()).json(Failure {
            success: false,
            error: self.to_string(),
            code: Code::Timeout.as_str(),
            fields: Vec::new(),
            retryable: true,
            request_id: self.0.to_string(),
        })
    }
}

/// The HTTP status of a code.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one list of all codes, which the compiler keeps whole")]
pub fn status(code: Code) -> StatusCode {
    match code {
        Code::Unauthenticated
        | Code::InvalidCredentials
        | Code::TokenExpired
        | Code::RefreshInvalid
        | Code::TicketInvalid
        | Code::MfaRequired => StatusCode::UNAUTHORIZED,
        Code::Forbidden
        | Code::HttpsRequired
        | Code::MfaSetupRequired
        | Code::EmailUnverified
        | Code::TenantSuspended => StatusCode::FORBIDDEN,
        Code::TooManyRequests | Code::AccountLocked | Code::CaLimit => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Code::QuotaExceeded => StatusCode::CONFLICT,
        Code::NotFound | Code::ServerNotFound | Code::RouteNotFound | Code::ArchiveNotFound => {
            StatusCode::NOT_FOUND
        }
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
        Code::VersionChanged => StatusCode::PRECONDITION_FAILED,
        Code::VersionRequired => StatusCode::PRECONDITION_REQUIRED,
        Code::InvalidRequest | Code::LinkInvalid | Code::SignatureInvalid => {
            StatusCode::BAD_REQUEST
        }
        Code::PaymentRefused => StatusCode::PAYMENT_REQUIRED,
        Code::PathOutsideBackupDirs
        | Code::ArchiveUnsafe
        | Code::ArchiveTooLarge
        | Code::NotAnArchive
        | Code::Truncated
        | Code::JetbackupLayout
        | Code::UnsafeMember
        | Code::InvalidAccount
        | Code::ReservedUserName
        | Code::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Code::ApprovalInvalid | Code::ApprovalExpired | Code::ApprovalUsed => StatusCode::FORBIDDEN,
        Code::Conflict
        | Code::IdempotencyRunning
        | Code::ServerNotEnrolled
        | Code::ServerMaintenance
        | Code::UserTaken
        | Code::ArchiveChanged
        | Code::JobState
        | Code::NotAnalyzed
        | Code::AlreadyApplied
        | Code::ZoneTaken
        | Code::ConflictsUnresolved
        | Code::ComponentsDiffer
        | Code::PlanChanged
        | Code::StaleFence
        | Code::ChangedSinceApply
        | Code::RollbackExpired
        | Code::Cancelled
        | Code::AccountSuspended
        | Code::NotASeller
        | Code::NotForSale
        | Code::OrderState
        | Code::SubscriptionState
        | Code::AmountChanged
        | Code::ServiceState
        | Code::NoCapacity
        | Code::CloudpodState
        | Code::CloudpodBusy
        | Code::CloudpodSold
        | Code::VmidTaken
        | Code::DomainUnverified
        | Code::CaaForbids
        | Code::CaRefused
        | Code::CertificateUnseen
        | Code::DiskFull => StatusCode::CONFLICT,
        Code::NoWorker
        | Code::WorkerTimeout
        | Code::Timeout
        | Code::Unavailable
        | Code::ServerUnreachable
        | Code::CaUnavailable
        | Code::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        Code::HostKeyChanged
        | Code::EnrolmentFailed
        | Code::UnsupportedOs
        | Code::ConfigurationRefused
        | Code::LayoutMissing
        | Code::PhpMissing
        | Code::ProgramFailed
        | Code::ProgramTooSlow
        | Code::DatabaseFailed
        | Code::DumpRefused
        | Code::ProcessesRemain
        | Code::PostValidationFailed
        | Code::AgentFailed
        | Code::StepFailed
        | Code::TimeLimit
        | Code::NodeRefused
        | Code::NodeUnknown
        | Code::NotReady
        | Code::DnsFailed => StatusCode::BAD_GATEWAY,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Whether this is the answer of the readiness probe, which is no error of a request.
fn says_what_is_down(response: &HttpResponse<BoxBody>) -> bool {
    response.status() == StatusCode::SERVICE_UNAVAILABLE && response.error().is_none()
}

/// Writes the body of every error, ours and the framework's, logs it once
/// and records refused requests in the audit trail.
pub async fn render(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let (head, response) = match next.call(request).await {
        Ok(response) => {
            let (head, response) = response.map_into_boxed_body().into_parts();
            (head, response)
        }
        Err(error) => return Err(error),
    };
    if response.status().is_success()
        || response.status().is_redirection()
        || response.status().is_informational()
        || says_what_is_down(&response)
    {
        return Ok(ServiceResponse::new(head, response));
    }
    let (code, message, fields) = describe(&head, &response);
    let request_id = request_id(&head);
    let status = status(code);
    if status.is_server_error() {
        let cause = response
            .error()
            .and_then(|e| e.as_error::<ApiError>())
            .map_or_else(|| "framework".to_owned(), |e| e.0.chain());
        tracing::error!(code = %code.as_str(), cause, request_id = %request_id, "request.failed");
    } else {
        tracing::info!(code = %code.as_str(), request_id = %request_id, "request.refused");
    }
    record(&head, code, &message).await;
    let mut body = HttpResponse::build(status);
    // What the middlewares have said, such as what is left of a budget.
    for (name, value) in response.headers() {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name) {
            body.append_header((name.clone(), value.clone()));
        }
    }
    if let Some(Error::Later { secs, .. }) =
        response.error().and_then(|e| e.as_error::<ApiError>()).map(|e| &e.0)
    {
        body.insert_header((header::RETRY_AFTER, secs.max(&1).to_string()));
    }
    if status == StatusCode::UNAUTHORIZED {
        body.insert_header(("www-authenticate", "Bearer"));
    }
    let body = body.json(Failure {
        success: false,
        error: message,
        code: code.as_str(),
        fields,
        retryable: retryable(code),
        request_id: request_id.to_string(),
    });
    Ok(ServiceResponse::new(head, body))
}

fn describe(head: &HttpRequest, response: &HttpResponse) -> (Code, String, Vec<FieldError>) {
    if let Some(error) = response.error().and_then(|e| e.as_error::<ApiError>()) {
        let fields = match &error.0 {
            Error::Refused { fields, .. } => fields.clone(),
            _ => Vec::new(),
        };
        return (error.0.code(), error.0.to_string(), fields);
    }
    let said = response.error().map(ToString::to_string);
    match response.status() {
        StatusCode::NOT_FOUND if said.is_some() => (
            Code::NotFound,
            format!("An id in {} is not well formed. Ids are UUIDs.", head.path()),
            Vec::new(),
        ),
        StatusCode::NOT_FOUND => (
            Code::RouteNotFound,
            format!(
                "There is no {} {}. The contract at /openapi.json lists what there is.",
                head.method(),
                head.path()
            ),
            Vec::new(),
        ),
        StatusCode::METHOD_NOT_ALLOWED => (
            Code::MethodNotAllowed,
            format!("{} does not take {}. Allow says what it takes.", head.path(), head.method()),
            Vec::new(),
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (
            Code::PayloadTooLarge,
            "The body is larger than this service takes.".to_owned(),
            Vec::new(),
        ),
        status if status.is_client_error() => (
            Code::InvalidRequest,
            format!("The request cannot be read: {}.", said.unwrap_or_else(|| status.to_string())),
            Vec::new(),
        ),
        _ => (Code::Internal, Error::internal("framework").to_string(), Vec::new()),
    }
}

/// The id that finds a request in logs, audit trail and jobs.
#[must_use]
pub fn request_id(request: &HttpRequest) -> RequestId {
    request.extensions().get::<RequestId>().copied().unwrap_or_else(RequestId::new)
}

/// A refusal of something that was meant belongs into the audit trail; a path that does not exist
/// and a fault of ours do not, a failed login has an entry of its own, and one request too many is to
/// cost the database nothing.
async fn record(head: &HttpRequest, code: Code, message: &str) {
    if !head.path().starts_with("/api/")
        || matches!(
            code,
            Code::RouteNotFound
                | Code::MethodNotAllowed
                | Code::InvalidCredentials
                | Code::TooManyRequests
        )
    {
        return;
    }
    let Some(state) = head.app_data::<web::Data<State>>().cloned() else { return };
    let ctx = head.extensions().get::<Caller>().map(|caller| caller.0.clone());
    let anonymous = Anonymous { request: request_id(head), origin: origin(head) };
    let short = |text: &str| text.chars().take(300).collect::<String>();
    let is_of_pods = head.path().starts_with("/api/cloudpods") && head.method() != Method::GET;
    let entry = if code == Code::InvalidRequest && is_of_pods {
        let named = head.match_info().get("id").and_then(|id| id.parse().ok()).map(CloudpodId);
        let input = format!("{} {}: {}", head.method(), short(head.path()), short(message));
        Audit::CloudpodProvisioningInputRejected { cloudpod: named, job: None, input }
    } else {
        Audit::RequestRefused {
            code: code.as_str(),
            method: head.method().to_string(),
            path: short(head.path()),
            detail: short(message),
        }
    };
    let recorded = async {
        let tx = state.db.system().await?;
        audit::record_refusal(&tx, ctx.as_ref(), anonymous, entry).await?;
        tx.commit().await
    };
    if let Err(error) = recorded.await {
        tracing::warn!(cause = %error.chain(), "audit.refusal_not_recorded");
    }
}
