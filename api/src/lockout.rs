//! What stands between a login and those who guess passwords: limits by address and account that are
//! looked at before anything is hashed, and a lock-out that grows. Accounts are named by what was
//! typed, so that one that does not exist behaves as one that does.
//!
//! The counts live in Redis; with Redis away each process counts by itself.

use crate::limits;
use crate::password::Verdict;
use crate::state::State;
use entities::Result;
use entities::accounts::{self, Asking, Known};
use entities::audit;
use entities::error::{Code, Error};
use redis::Script;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Passwords that may be tried until an account is locked.
const FAILURES_MAX: u32 = 10;
/// How long it is locked first; doubles with each further lock.
const LOCK_SECS: u64 = 60;
const LOCK_SECS_MAX: u64 = 3600;
/// How long failures are remembered.
const MEMORY_SECS: u64 = 24 * 3600;
/// Logins that one address may try in a row, and how long until it may try one more.
const PER_ADDRESS: u32 = 30;
const PER_ADDRESS_SECS: u64 = 10;

/// Looks at the locks, and takes one try of the address and one of the account: `{seconds to wait,
/// why, seconds for which taking it has locked the account}`. The last try that there is locks at
/// once, before anybody knows whether the password is right: whatever runs side by side, no more are
/// compared than are allowed, and each lock is one step longer than the one before.
const BEGIN: &str = r"
local now = tonumber(redis.call('TIME')[1])
local locked = tonumber(redis.call('HGET', KEYS[1], 'until') or '0')
if locked > now then return {locked - now, 1, 0} end
local free = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), now)
local wait = free - now - (tonumber(ARGV[1]) - 1) * tonumber(ARGV[2])
if wait > 0 then return {wait, 2, 0} end
redis.call('SET', KEYS[2], free + ARGV[2], 'EX', free + ARGV[2] - now + 1)
local count = redis.call('HINCRBY', KEYS[1], 'count', 1)
redis.call('EXPIRE', KEYS[1], ARGV[6])
if count < tonumber(ARGV[3]) then return {0, 0, 0} end
local secs = math.min(ARGV[4] * 2 ^ (count - ARGV[3]), tonumber(ARGV[5]))
redis.call('HSET', KEYS[1], 'until', now + secs)
return {0, 0, secs}";

/// Gives a try back, with the lock that it brought.
const GIVE_BACK: &str = r"
local count = tonumber(redis.call('HGET', KEYS[1], 'count') or '0')
if count > 0 then redis.call('HINCRBY', KEYS[1], 'count', -1) end
if ARGV[1] == '1' then redis.call('HDEL', KEYS[1], 'until') end";

/// One try to log in. It counts as a failure from the beginning, also when nobody waits for its end.
#[derive(Debug)]
pub struct Attempt {
    asking: Asking,
    account: String,
    known: Option<Known>,
    is_known_device: bool,
    /// For how long taking it has locked the account; zero: not at all.
    lock_secs: u64,
}

impl Attempt {
    /// Refuses a try that comes too soon. A known device of the account's owner has a count of its
    /// own, so that strangers cannot lock the owner out.
    pub async fn begin(
        state: &State,
        asking: &Asking,
        email: &str,
        known: Option<&Known>,
        is_known_device: bool,
    ) -> Result<Self> {
        let account = key(state, email, is_known_device);
        let ip = asking.origin.ip.as_deref().and_then(|ip| ip.parse().ok());
        let address = state.redis_key(&format!("login:address:{}", limits::subscriber(ip)));
        let (wait, why, lock_secs) = match ask_redis(state, &account, &address).await {
            Ok(answer) => answer,
            Err(_redis_away) => LOCAL.begin(&account, &address),
        };
        match (wait, why) {
            (0, _) => Ok(Self {
                asking: asking.clone(),
                account,
                known: known.cloned(),
                is_known_device,
                lock_secs,
            }),
            (secs, 1) => Err(Error::later(
                Code::AccountLocked,
                "Too many wrong passwords. Wait, reset the password, or ask an administrator.",
                secs,
            )),
            (secs, _) => Err(Error::later(
                Code::TooManyRequests,
                "Too many logins from this address. Wait a little.",
                secs,
            )),
        }
    }

    /// Who tries.
    #[must_use]
    pub fn asking(&self) -> &Asking {
        &self.asking
    }

    /// Compares the password. Those of known devices go before strangers'. When it could not be
    /// compared the try is given back.
    pub async fn verify(
        &self,
        state: &State,
        password: &SecretString,
        hash: Option<&str>,
    ) -> Result<Verdict> {
        let ahead = self.is_known_device.then(|| state.passwords.ahead());
        let passwords = ahead.as_ref().unwrap_or(&state.passwords);
        let compared = passwords.verify(password, hash).await;
        if compared.is_err() {
            self.give_back(state).await;
        }
        compared
    }

    /// Records a wrong password or second factor. Of all that failed, the one that brought the lock
    /// tells the owner.
    pub async fn failed(self, state: &State, reason: &str) -> Result<()> {
        let Some(known) = self.known else {
            let ip = self.asking.origin.ip.as_deref();
            return audit::tally_unknown_login(&state.db, ip).await;
        };
        accounts::record_failure(&state.db, &known, &self.asking, reason).await?;
        if self.lock_secs > 0 {
            let until = chrono::Utc::now() + Duration::from_secs(self.lock_secs);
            accounts::record_lock(&state.db, &known, &self.asking, until).await?;
        }
        Ok(())
    }

    /// The password was not wrong, and yet nobody is logged in: as if it had not been tried.
    pub async fn give_back(&self, state: &State) {
        LOCAL.give_back(&self.account, self.lock_secs > 0);
        let script = Script::new(GIVE_BACK);
        let mut script = script.key(&self.account);
        script.arg(u8::from(self.lock_secs > 0));
        let given: redis::RedisResult<()> =
            state.with_redis(async |redis| script.invoke_async(redis).await).await;
        if let Err(error) = given {
            tracing::debug!(%error, "lockout.not_given_back");
        }
    }

    /// Forgets the failures before.
    pub async fn succeeded(self, state: &State) {
        forget(state, &[self.account]).await;
    }

    /// Lifts a lock-out, and forgets the failures.
    pub async fn lift(state: &State, email: &str) {
        forget(state, &[key(state, email, false), key(state, email, true)]).await;
    }
}

fn key(state: &State, email: &str, is_known_device: bool) -> String {
    let hash = hex::encode(Sha256::digest(email.trim().to_lowercase().as_bytes()));
    let whose = if is_known_device { "owner" } else { "anybody" };
    state.redis_key(&format!("login:{whose}:{hash}"))
}

async fn ask_redis(
    state: &State,
    account: &str,
    address: &str,
) -> redis::RedisResult<(u64, u8, u64)> {
    let script = Script::new(BEGIN);
    let mut script = script.key(account);
    script.key(address).arg(PER_ADDRESS).arg(PER_ADDRESS_SECS);
    script.arg(FAILURES_MAX).arg(LOCK_SECS).arg(LOCK_SECS_MAX).arg(MEMORY_SECS);
    state.with_redis(async |redis| script.invoke_async(redis).await).await
}

async fn forget(state: &State, accounts: &[String]) {
    LOCAL.forget(accounts);
    let mut forget = redis::cmd("DEL");
    forget.arg(accounts);
    let forgotten = state.with_redis(async |redis| forget.query_async::<()>(redis).await).await;
    if let Err(error) = forgotten {
        tracing::debug!(%error, "lockout.not_forgotten");
    }
}

/// This process's own counts, for while Redis is away.
static LOCAL: LazyLock<Local> = LazyLock::new(Local::default);
/// Accounts that are counted at most; beyond, the count begins anew.
const LOCAL_MAX: usize = 100_000;

#[derive(Default)]
struct Local {
    accounts: Mutex<HashMap<String, (u32, Option<Instant>)>>,
    /// From when on an address has all its tries again.
    addresses: Mutex<HashMap<String, Instant>>,
}

impl Local {
    /// As [`BEGIN`].
    fn begin(&self, account: &str, address: &str) -> (u64, u8, u64) {
        let mut counts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= LOCAL_MAX {
            counts.clear();
        }
        let (count, until) = counts.entry(account.to_owned()).or_default();
        let rest = until.map_or(Duration::ZERO, |u| u.saturating_duration_since(Instant::now()));
        if !rest.is_zero() {
            return (rest.as_secs().max(1), 1, 0);
        }
        if let Some(wait) = self.wait_of(address) {
            return (wait, 2, 0);
        }
        *count = count.saturating_add(1);
        let Some(over) = count.checked_sub(FAILURES_MAX) else { return (0, 0, 0) };
        let secs = LOCK_SECS.saturating_mul(2_u64.saturating_pow(over)).min(LOCK_SECS_MAX);
        *until = Instant::now().checked_add(Duration::from_secs(secs));
        (0, 0, secs)
    }

    /// Takes one try of the address, or gives the seconds until there is one.
    fn wait_of(&self, address: &str) -> Option<u64> {
        let mut all = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if all.len() >= LOCAL_MAX {
            all.retain(|_, free| *free > now);
        }
        let free = (*all.get(address).unwrap_or(&now)).max(now);
        let burst =
            Duration::from_secs(u64::from(PER_ADDRESS - 1).saturating_mul(PER_ADDRESS_SECS));
        let wait = free.saturating_duration_since(now).saturating_sub(burst);
        if !wait.is_zero() {
            return Some(wait.as_secs().max(1));
        }
        let next = free.checked_add(Duration::from_secs(PER_ADDRESS_SECS)).unwrap_or(free);
        all.insert(address.to_owned(), next);
        None
    }

    fn give_back(&self, account: &str, has_locked: bool) {
        let mut counts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, until)) = counts.get_mut(account) {
            *count = count.saturating_sub(1);
            *until = until.filter(|_| !has_locked);
        }
    }

    fn forget(&self, accounts: &[String]) {
        let mut counts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|account, _| !accounts.contains(account));
    }
}
