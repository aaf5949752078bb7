//! What can go wrong, without HTTP: a stable [`Code`], a sentence for the caller, a cause for the log.

use sea_orm::{DbErr, EnumIter, Iterable, RuntimeErr, SqlErr, SqlxError};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The stable code of an error: part of the contract, never renamed. The worker passes on what the
/// agent answers by the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    // who is asking
    Unauthenticated,
    InvalidCredentials,
    TokenExpired,
    RefreshInvalid,
    /// The password is right, and the code of the second factor is missing.
    MfaRequired,
    /// The tenant wants a second factor that the person has not set up.
    MfaSetupRequired,
    EmailUnverified,
    LinkInvalid,
    /// The ticket of a console is unknown, used or too old.
    TicketInvalid,
    TooManyRequests,
    AccountLocked,
    TenantSuspended,
    QuotaExceeded,
    Forbidden,
    // what is asked
    NotFound,
    RouteNotFound,
    MethodNotAllowed,
    InvalidRequest,
    UnsupportedMediaType,
    PayloadTooLarge,
    BodyTooSlow,
    HttpsRequired,
    Conflict,
    IdempotencyMismatch,
    IdempotencyRunning,
    // servers
    ServerNotFound,
    ServerNotEnrolled,
    ServerMaintenance,
    ServerUnreachable,
    HostKeyChanged,
    EnrolmentFailed,
    UnsupportedOs,
    ConfigurationRefused,
    LayoutMissing,
    PhpMissing,
    ProgramFailed,
    ProgramTooSlow,
    AgentFailed,
    // archives
    PathOutsideBackupDirs,
    ArchiveNotFound,
    ArchiveUnsafe,
    ArchiveChanged,
    ArchiveTooLarge,
    NotAnArchive,
    Truncated,
    JetbackupLayout,
    UnsafeMember,
    InvalidAccount,
    ReservedUserName,
    UserTaken,
    DiskFull,
    // the steps of a migration
    JobState,
    AlreadyApplied,
    ConflictsUnresolved,
    ApprovalInvalid,
    ApprovalExpired,
    ApprovalUsed,
    ComponentsDiffer,
    PlanChanged,
    StaleFence,
    ChangedSinceApply,
    RollbackExpired,
    NotAnalyzed,
    DatabaseFailed,
    DumpRefused,
    ProcessesRemain,
    PostValidationFailed,
    StepFailed,
    TimeLimit,
    Stopped,
    Cancelled,
    AccountSuspended,
    DnsFailed,
    // zones
    /// A name lies above or below another tenant's.
    ZoneTaken,
    /// Somebody else has changed it since it was seen.
    VersionChanged,
    /// It is not said which version is to be changed.
    VersionRequired,
    // what is sold
    /// A customer has no catalogue.
    NotASeller,
    /// A price or its product is archived.
    NotForSale,
    /// An order cannot go from where it stands to where it is to be.
    OrderState,
    /// A body does not come from Stripe.
    SignatureInvalid,
    /// Stripe says no; the sentence says why.
    PaymentRefused,
    /// A subscription cannot go from where it stands to where it is to be.
    SubscriptionState,
    /// What was shown and what it would come to now are not the same.
    AmountChanged,
    /// A service is not in the state that this needs.
    ServiceState,
    // containers
    /// No server has room.
    NoCapacity,
    /// A container is not in the state that this needs.
    CloudpodState,
    /// A job works on it.
    CloudpodBusy,
    /// It is paid for by a subscription, which decides about it.
    CloudpodSold,
    /// A guest that is not ours has the number.
    VmidTaken,
    /// A node refused a command; the sentence has its words.
    NodeRefused,
    /// It is not known what became of a command.
    NodeUnknown,
    /// A container does not answer over the network.
    NotReady,
    // certificates
    /// The tenant has not shown that a domain is theirs.
    DomainUnverified,
    /// A CAA record keeps our certificate authority from issuing.
    CaaForbids,
    /// The certificate authority says no; the sentence has its words.
    CaRefused,
    /// Too many orders for a name, by the authority's count or ours.
    CaLimit,
    /// The authority does not answer.
    CaUnavailable,
    /// A server shows another certificate than the one that was installed.
    CertificateUnseen,
    // us
    NoWorker,
    WorkerTimeout,
    Timeout,
    Unavailable,
    Internal,
}

impl Code {
    /// All codes, as they stand in answers.
    #[must_use]
    pub fn names() -> Vec<String> {
        Self::iter().map(Self::as_str).collect()
    }

    /// The code as it stands in answers and logs.
    #[must_use]
    pub fn as_str(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(text)) => text,
            _ => "internal".to_owned(),
        }
    }

    /// The code of this name; an agent's code that we do not know is [`Code::AgentFailed`].
    #[must_use]
    pub fn from_agent(name: &str) -> Self {
        serde_json::from_value(serde_json::Value::String(name.to_owned()))
            .unwrap_or(Self::AgentFailed)
    }
}

/// What another server is asked, for so long: no answer by then, and each of its errors, are
/// [`Error::Unavailable`].
pub async fn in_time<T, E>(
    patience: Duration,
    asking: impl Future<Output = std::result::Result<T, E>>,
) -> Result<T, Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match tokio::time::timeout(patience, asking).await {
        Ok(answered) => answered.map_err(|error| Error::Unavailable(Box::new(error))),
        Err(elapsed) => Err(Error::Unavailable(Box::new(elapsed))),
    }
}

/// A field of a request that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// A JSON pointer into the body, or the name of a parameter.
    pub path: String,
    pub message: String,
}

/// An error of a rule.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such row for this tenant; somebody else's row is the same.
    #[error("There is no such {0}. Check the id, and that you act in the right tenant.")]
    NotFound(&'static str),
    /// The caller must do something else; the sentence says what.
    #[error("{message}")]
    Refused { code: Code, message: String, fields: Vec<FieldError> },
    /// The same will work later.
    #[error("{message}")]
    Later { code: Code, message: String, secs: u64 },
    /// The role does not reach.
    #[error("This needs the role {needed}. Ask an administrator of the tenant.")]
    Forbidden { needed: String },
    /// A server of ours is away; the same call may work in a moment.
    #[error("The service cannot do this at the moment. Try again in a minute.")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A fault of ours; the log has the cause.
    #[error("Something went wrong on our side. The request id finds it in our log.")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// A refusal with its code and what to do.
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into(), fields: Vec::new() }
    }

    /// A refusal that ends by itself after so many seconds.
    pub fn later(code: Code, message: impl Into<String>, secs: u64) -> Self {
        Self::Later { code, message: message.into(), secs }
    }

    /// A refused field of a request.
    pub fn field(path: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Refused {
            code: Code::InvalidRequest,
            message: format!("{path}: {message}."),
            fields: vec![FieldError { path: format!("/{path}"), message }],
        }
    }

    /// A fault of ours, from whatever caused it.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound("server") => Code::ServerNotFound,
            Self::NotFound(_) => Code::NotFound,
            Self::Refused { code, .. } | Self::Later { code, .. } => *code,
            Self::Forbidden { .. } => Code::Forbidden,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// The whole chain of causes, for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
            return Self::refused(Code::Conflict, "This exists already. Choose another name.");
        }
        if is_away(&error) {
            return Self::Unavailable(Box::new(error));
        }
        match error {
            DbErr::RecordNotFound(_) | DbErr::RecordNotUpdated => Self::NotFound("row"),
            other => Self::Internal(Box::new(other)),
        }
    }
}

/// Whether the database was away, or cut this connection off: the same may work in a moment.
fn is_away(error: &DbErr) -> bool {
    let cause = match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => return true,
        DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
            cause
        }
        _ => return false,
    };
    match cause.as_ref() {
        SqlxError::Io(_)
        | SqlxError::Tls(_)
        | SqlxError::Protocol(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed => true,
        // Postgres, appendix A: connections, resources, an operator's hand, and two transactions
        // that stood in each other's way.
        SqlxError::Database(refusal) => refusal.code().is_some_and(|code| {
            ["08", "53", "57P"].iter().any(|class| code.starts_with(class))
                || ["40001", "40P01"].contains(&code.as_ref())
        }),
        _ => false,
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(error)
    }
}

impl From<values::Invalid> for Error {
    fn from(error: values::Invalid) -> Self {
        Self::refused(Code::InvalidRequest, format!("{error}."))
    }
}
