//! What every handler may use.

use crate::ask::Asker;
use crate::auth::TokenKeys;
use crate::password::Passwords;
use crate::progress::Progress;
use entities::db::Db;

/// Built once, shared by all.
#[derive(Debug)]
pub struct State {
    pub db: Db,
    pub redis: redis::Client,
    pub tokens: TokenKeys,
    pub passwords: Passwords,
    pub asker: Asker,
    pub progress: Progress,
}
