//! Failures that were asked for: `/_control/fail`.

use serde_json::Value;

use crate::error::ApiError;
use crate::params::Params;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A 5xx, and nothing was done.
    Before,
    /// A 5xx by something between: the work was done, and its own answer is what the key keeps.
    After,
    /// A 5xx by Stripe itself after the work was done: the key keeps this answer.
    AfterStored,
    /// A 429 with `Retry-After`, and nothing was done.
    RateLimit,
    /// The work was done, and the answer comes only after so many seconds.
    Slow,
}

/// A failure of the next requests.
#[derive(Debug, Clone)]
pub struct Fault {
    method: Option<String>,
    path: String,
    times: i64,
    /// What goes wrong.
    pub kind: Kind,
    /// The status of a 5xx.
    pub status: u16,
    /// The seconds of `Retry-After`, or of being slow.
    pub seconds: i64,
}

impl Fault {
    /// Reads one.
    pub fn read(wanted: &Params) -> Result<Self, ApiError> {
        let kinds = ["before", "after", "after_stored", "rate_limit", "slow"];
        let kind = match wanted.choice("kind", &kinds)? {
            Some("after") => Kind::After,
            Some("after_stored") => Kind::AfterStored,
            Some("rate_limit") => Kind::RateLimit,
            Some("slow") => Kind::Slow,
            _ => Kind::Before,
        };
        let status = wanted.int("status")?.and_then(|status| u16::try_from(status).ok());
        Ok(Self {
            method: wanted.text("method").map(str::to_uppercase),
            path: wanted.text("path").unwrap_or("/v1/").to_owned(),
            times: wanted.int("times")?.unwrap_or(1),
            kind,
            status: status.filter(|status| (500..600).contains(status)).unwrap_or(500),
            seconds: wanted.int("seconds")?.unwrap_or(1),
        })
    }
}

/// Takes the fault that meets a request, if one does.
pub fn take(faults: &mut Vec<Fault>, method: &str, path: &str) -> Option<Fault> {
    let meets = |fault: &Fault| {
        path.starts_with(&fault.path)
            && fault.method.as_deref().is_none_or(|wanted| wanted == method)
    };
    let fault = faults.iter_mut().find(|fault| meets(fault))?;
    fault.times -= 1;
    let taken = fault.clone();
    faults.retain(|fault| fault.times > 0);
    Some(taken)
}

/// JSON of a control request as parameters: numbers and yes-or-noes become their texts.
pub fn plain(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, plain(value))).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(plain).collect()),
        Value::Null => Value::String(String::new()),
        Value::String(text) => Value::String(text),
        other => Value::String(other.to_string()),
    }
}
