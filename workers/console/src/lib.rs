//! The road of a console between the API, where somebody types, and the worker at the node: two
//! queues of RabbitMQ, one a direction, which live as long as the connections of those who read them.
//!
//! Nothing grows on it: what was sent and not yet taken in hand never exceeds [`WINDOW`], since each
//! side sends only what the other has made room for ([`Sender::done`]). Whoever does not hear of the
//! other for [`SILENCE`], or finds the other's queue gone, knows that the other has died.

mod link;
mod words;

pub use link::{Link, Sender};
pub use words::{End, Heard, Size, Why};

use std::time::Duration;

/// How much may be on the way in one direction, in bytes; each message counts as [`HEAD`] more.
pub const WINDOW: usize = 256 << 10;
/// What a message costs beside its bytes, so that many small ones are bounded, too.
pub const HEAD: usize = 64;
/// The most bytes of one message.
pub const PIECE: usize = 32 << 10;
/// How often each side gives a sign of life.
pub const ALIVE: Duration = Duration::from_secs(10);
/// How long the other may be silent.
pub const SILENCE: Duration = Duration::from_secs(30);
