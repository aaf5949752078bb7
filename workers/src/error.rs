//! What can go wrong in a worker.

use entities::error::{Code, Error};

/// What a worker's functions answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of AMQP: the broker is away or refuses.
pub fn amqp(error: lapin::Error) -> Error {
    Error::Unavailable(Box::new(error))
}

/// A server that cannot be reached, with what it takes to reach it.
pub fn unreachable_server(name: &str, cause: &dyn std::fmt::Display) -> Error {
    tracing::warn!(server = name, cause = %cause, "server.unreachable");
    Error::refused(
        Code::ServerUnreachable,
        format!(
            "The server {name} cannot be reached over SSH ({cause}). Check that it runs, its address and port, and that the worker's key is in root's authorized_keys."
        ),
    )
}
