//! A job as the agent knows it: its files, its claim, and what it may still do.

use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::guard::{self, AccountLock, Claim, Stop};
use crate::layout;
use crate::stamp::Stamp;
use cpanel::account::Account;
use cpanel::plan::{Options, Plan};
use cpanel::protocol::{Analysis, ArchiveIdentity, JobRef, Source};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};
use uuid::Uuid;
use values::Username;

/// How often the claim is looked at again.
const CLAIM_EVERY: Duration = Duration::from_millis(500);

/// What analysis leaves in the job's staging, beside the account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Analyzed {
    pub source: Source,
    pub analysis: Analysis,
    /// The archive's state on the disk when it was read.
    pub stamp: Stamp,
}

/// What the steps carry out: kept when apply begins, without secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Begun {
    pub source: Source,
    pub archive: ArchiveIdentity,
    pub options: Options,
    pub digest: String,
    /// Where visitors reach the server.
    pub ipv4: Ipv4Addr,
    pub plan: Plan,
    /// There is no archive: it is a new account.
    #[serde(default)]
    pub template: bool,
}

/// A job under a claim that this process holds.
pub struct Job<'a> {
    pub id: Uuid,
    pub events: &'a Events,
    /// Tells programs that may run for long.
    pub stop: &'a Stop,
    claim: RefCell<Claim>,
    looked: Cell<Instant>,
}

impl<'a> Job<'a> {
    /// Claims the job. Fails with `stale_fence` when a newer claim was seen.
    pub fn claim(job: JobRef, events: &'a Events, stop: &'a Stop) -> Result<Self> {
        let claim = RefCell::new(guard::claim(job)?);
        Ok(Self { id: job.id, events, stop, claim, looked: Cell::new(Instant::now()) })
    }

    /// A safe point: fails when the worker has gone or another has taken over.
    pub fn check(&self) -> Result<()> {
        self.stop.check()?;
        if self.looked.get().elapsed() >= CLAIM_EVERY {
            self.looked.set(Instant::now());
            self.claim.borrow_mut().check()?;
        }
        Ok(())
    }

    /// Waits until nothing else acts on the account, and keeps others away. An older call of this
    /// claim is asked to stop.
    pub fn lock(&self, user: &Username) -> Result<AccountLock> {
        self.claim.borrow_mut().take_turn()?;
        let lock = guard::lock_account(user, self.stop)?;
        // Whoever held it may have been the newer claim.
        self.claim.borrow_mut().check()?;
        Ok(lock)
    }

    /// What analysis found, with its source.
    pub fn analyzed(&self) -> Result<Analyzed> {
        read_json(&layout::analysis(self.id))?.ok_or_else(not_analyzed)
    }

    /// The account with its secrets, as analysis read it.
    pub fn account(&self) -> Result<Account> {
        read_json(&layout::account(self.id))?.ok_or_else(not_analyzed)
    }

    /// What apply began with; none when it never began.
    pub fn begun_if(&self) -> Result<Option<Begun>> {
        read_json(&layout::plan(self.id))
    }

    /// What apply began with.
    pub fn begun(&self) -> Result<Begun> {
        self.begun_if()?.ok_or_else(|| {
            Error::new(
                "not_begun",
                "Nothing was begun for this job on the server; preview it again.",
            )
        })
    }
}

fn not_analyzed() -> Error {
    Error::new("not_analyzed", "The archive has not been analyzed on the server; analyze it again.")
}

/// The largest file of JSON that the agent keeps.
const JSON_BYTES: u64 = 256 << 20;

/// Reads a file that [`write_json`] wrote; none when there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let (root, rest) = Beneath::place(path)?;
    match root.read(rest, JSON_BYTES)? {
        Some(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(Error::at(path)),
        None => Ok(None),
    }
}

/// Writes a file that only root reads, whole or not at all. Its directory must be there.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let (root, rest) = Beneath::place(path)?;
    root.write(rest, &serde_json::to_vec(value)?, Owner::root(0o600))
}
