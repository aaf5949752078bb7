//! Refusals in Stripe's shape.

use serde_json::{Map, Value, json};

/// What an operation answers: the object, or a refusal.
pub type Answer<T = Value> = Result<T, ApiError>;

/// A refusal. Its `kind` is Stripe's `error.type`.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    message: String,
    param: Option<String>,
    more: Map<String, Value>,
}

impl ApiError {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, message: message.into(), param: None, more: Map::new() }
    }

    /// 400: the request as a whole does not fit.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// 400: what this parameter holds does not fit.
    pub fn param(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::invalid(message) }
    }

    /// 400: a parameter that the call needs was left out.
    pub fn missing(param: &str) -> Self {
        Self::param(param, format!("Missing required param: {param}.")).code("parameter_missing")
    }

    /// 400: the call has no such parameter.
    pub fn unknown(param: &str) -> Self {
        Self::param(param, format!("Received unknown parameter: {param}")).code("parameter_unknown")
    }

    /// 404, or 400 when it was not the path that named the object.
    pub fn no_such(kind: &str, id: &str, param: &str) -> Self {
        let status = if param == "id" { 404 } else { 400 };
        let message = format!("No such {}: '{id}'", kind.replace(['_', '.'], ""));
        Self { status, ..Self::param(param, message) }.code("resource_missing")
    }

    /// 401: the key is not this sandbox's.
    pub fn unauthorized(message: &str) -> Self {
        Self::new(401, "invalid_request_error", message)
    }

    /// 402: the card was refused. The payment intent comes with it, as Stripe's answer has it.
    pub fn card(code: &'static str, decline: &str, message: &str, intent: Value) -> Self {
        let mut more = Map::new();
        more.insert("decline_code".into(), json!(decline));
        more.insert("payment_intent".into(), intent);
        Self { more, ..Self::new(402, "card_error", message).code(code) }
    }

    /// 429: too many requests.
    pub fn rate_limit() -> Self {
        Self::new(429, "invalid_request_error", "Too many requests hit the API too quickly.")
            .code("rate_limit")
    }

    /// 400 for another request under an old key, 409 for one that still runs.
    pub fn idempotency(status: u16, message: &str) -> Self {
        let error = Self::new(status, "idempotency_error", message);
        if status == 409 { error.code("idempotency_key_in_use") } else { error }
    }

    /// A failure of the sandbox that was asked for.
    pub fn server(status: u16) -> Self {
        Self::new(status, "api_error", "An unknown error occurred (asked for by /_control/fail).")
    }

    /// 404: the path leads nowhere.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "invalid_request_error", message)
    }

    /// Adds Stripe's `code`.
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Whether Stripe would keep this answer under the request's idempotency key: not when it
    /// refused before it began.
    pub fn is_kept(&self) -> bool {
        self.status == 402 || self.status >= 500
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        let mut error = self.more.clone();
        error.insert("type".into(), json!(self.kind));
        error.insert("message".into(), json!(self.message));
        if let Some(code) = self.code {
            error.insert("code".into(), json!(code));
            error.insert(
                "doc_url".into(),
                json!(format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-"))),
            );
        }
        if let Some(param) = &self.param {
            error.insert("param".into(), json!(param));
        }
        json!({ "error": error })
    }
}
