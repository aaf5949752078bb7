//! What a request asks a worker and waits for: steps that need a server but make no job. The worker
//! reads what it needs from the rows by these ids, as the person of `actor`.

use crate::error::{Code, Error, FieldError};
use crate::ids::{CloudpodId, JobId, RequestId, RowId, ServerId, TenantId};
use crate::tenancy::{StoredActor, TenantCtx};
use cpanel::plan::Options;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use values::{AbsPath, Username};

/// The queue that workers answer from. Messages expire with the request's patience.
pub const QUEUE: &str = "migrapanel.asks";
/// The queue of questions about containers, which those answer who drive them.
pub const POD_ASK_QUEUE: &str = "migrapanel.pods.asks";
/// The queues of questions.
pub const ASK_QUEUES: [&str; 2] = [QUEUE, POD_ASK_QUEUE];
/// The queue of jobs that wait to be claimed.
pub const JOB_QUEUE: &str = "migrapanel.jobs";
/// The queue of what is to be carried to Stripe, or to follow from a payment.
pub const POD_QUEUE: &str = "migrapanel.pods";
/// What concerns billing.
pub const BILLING_QUEUE: &str = "migrapanel.billing";
/// The queue of zones that the DNS servers are to follow.
pub const DNS_QUEUE: &str = "migrapanel.dns";

/// A question with who asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ask {
    pub tenant: TenantId,
    pub actor: StoredActor,
    pub request: RequestId,
    pub traceparent: Option<String>,
    pub question: Question,
}

impl Ask {
    /// A question in the name of `ctx`.
    #[must_use]
    pub fn new(ctx: &TenantCtx, question: Question) -> Self {
        Self {
            tenant: ctx.tenant(),
            actor: ctx.store(),
            request: ctx.request(),
            traceparent: crate::telemetry::traceparent(),
            question,
        }
    }

    /// Who asks.
    #[must_use]
    pub fn ctx(&self) -> TenantCtx {
        TenantCtx::resume(self.tenant, &self.actor, self.request)
    }
}

/// The questions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Question {
    /// Is the archive usable? Answered with [`cpanel::protocol::InspectReport`].
    Validate { server: ServerId, path: AbsPath, target_user: Username },
    /// What would apply do? Answered with [`cpanel::protocol::Preview`].
    Preview { job: JobId, options: Options },
    /// Does what was migrated work? Answered with [`cpanel::protocol::Verification`].
    Verify { job: JobId },
    /// What has changed since apply? Answered with [`cpanel::protocol::Changes`].
    Changes { job: JobId },
    /// A terminal of a container for whoever reads `queue`. Answered with [`Attached`].
    Console { console: RowId, pod: CloudpodId, queue: String },
}

impl Question {
    /// The queue of those who can answer it.
    #[must_use]
    pub fn queue(&self) -> &'static str {
        match self {
            Self::Console { .. } => POD_ASK_QUEUE,
            Self::Validate { .. }
            | Self::Preview { .. }
            | Self::Verify { .. }
            | Self::Changes { .. } => QUEUE,
        }
    }

    /// The program that answers it, for who has to start it.
    #[must_use]
    pub fn answered_by(&self) -> &'static str {
        match self.queue() {
            POD_ASK_QUEUE => "migrapanel-provisioner",
            _ => "migrapanel-migrator",
        }
    }
}

/// A terminal is there: what is typed goes to this queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attached {
    pub queue: String,
}

/// A worker's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Answer {
    Ok { value: Value },
    Refused { code: Code, message: String, fields: Vec<FieldError> },
}

impl Answer {
    /// An error as it travels back; its cause stays in the worker's log.
    #[must_use]
    pub fn refusal(error: &Error) -> Self {
        let fields = match error {
            Error::Refused { fields, .. } => fields.clone(),
            _ => Vec::new(),
        };
        Self::Refused { code: error.code(), message: error.to_string(), fields }
    }
}
