//! What can go wrong on a hosting server, as the worker is told.

use std::path::Path;

/// A failure with a stable code, a sentence that says what to do, and, for the log only, a cause.
/// None of them holds a secret.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: &'static str,
    message: String,
    cause: Option<String>,
}

/// What the functions of this crate give.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure without a deeper cause.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), cause: None }
    }

    /// The same with what the system said, for the log.
    pub fn because(self, cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    /// Something that ought not to happen on a healthy server; the cause tells more.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::new("agent_failed", "The server's agent failed; the job's log has the cause.")
            .because(cause)
    }

    /// The worker has gone: nothing further is done.
    pub fn stopped() -> Self {
        Self::new("stopped", "The agent stopped, since its connection ended.")
    }

    /// Makes an error of the file system tell which path it is about.
    pub fn at<E: std::fmt::Display>(path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        move |e| {
            let text = cpanel::member::shown(path.as_ref().as_os_str().as_encoded_bytes());
            Self::new("file_failed", format!("The server could not work on {text}: {e}."))
        }
    }

    /// The name of the error for programs.
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// What the system said, for the log.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

impl From<cpanel::Error> for Error {
    fn from(error: cpanel::Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(format!("JSON: {error}"))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::internal(error)
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(error: rustix::io::Errno) -> Self {
        Self::internal(error)
    }
}

impl From<values::Invalid> for Error {
    fn from(error: values::Invalid) -> Self {
        Self::internal(error)
    }
}
