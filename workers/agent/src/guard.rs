//! Who may act: one call at a time for an account, none for a claim that was taken over.

use crate::beneath::Beneath;
use crate::error::{Error, Result};
use crate::layout;
use cpanel::protocol::JobRef;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;
use values::Username;

/// How long a call waits for the one before it, which stops at its next safe point.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// Tells running work that it must stop: the connection went, or a newer claim came. Checked at
/// points where what was done and what the journal says agree.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks the work to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether that was asked.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Fails when the work must stop.
    pub fn check(&self) -> Result<()> {
        if self.is_set() { Err(Error::stopped()) } else { Ok(()) }
    }
}

/// The right to act for a job, as long as no newer claim is seen.
pub struct Claim {
    file: File,
    fence: i64,
}

/// Takes note of the job's fence. Fails with `stale_fence` when a higher one was seen.
pub fn claim(job: JobRef) -> Result<Claim> {
    let dir = layout::job(job.id);
    Beneath::private_dir(&dir)?;
    let path = dir.join("fence");
    let mut file = open_lock(&path)?;
    flock(&file, FlockOperation::LockExclusive).map_err(Error::at(&path))?;
    let seen = read_fence(&mut file, job.id)?;
    if seen.is_some_and(|seen| seen > job.fence) {
        return Err(stale());
    }
    if seen != Some(job.fence) {
        file.rewind().map_err(Error::at(&path))?;
        file.write_all(format!("{:020}\n", job.fence).as_bytes()).map_err(Error::at(&path))?;
        file.sync_all().map_err(Error::at(&path))?;
    }
    flock(&file, FlockOperation::Unlock).map_err(Error::at(&path))?;
    Ok(Claim { file, fence: job.fence })
}

impl Claim {
    /// Fails when a newer claim has been seen since.
    pub fn check(&mut self) -> Result<()> {
        match read_fence(&mut self.file, Uuid::nil())? {
            Some(seen) if seen > self.fence => Err(stale()),
            _ => Ok(()),
        }
    }
}

fn stale() -> Error {
    Error::new("stale_fence", "Another worker has taken this job over; this one must let it go.")
}

fn read_fence(file: &mut File, id: Uuid) -> Result<Option<i64>> {
    let mut text = String::new();
    file.rewind()?;
    Read::take(&*file, 64).read_to_string(&mut text)?;
    let text = text.trim();
    // Empty: new, or the first writer died before it wrote.
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|e| Error::internal(format!("fence of {id}: {e}")))
}

/// Held as long as it lives; the system lets it go when the process dies.
pub struct AccountLock {
    _file: File,
}

/// Waits until nothing else acts on the account.
pub fn lock_account(user: &Username, stop: &Stop) -> Result<AccountLock> {
    let path = layout::account_lock(user);
    Beneath::private_dir(Path::new(layout::STATE))?;
    if let Some(parent) = path.parent() {
        Beneath::private_dir(parent)?;
    }
    let file = open_lock(&path)?;
    let end = Instant::now() + LOCK_WAIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(AccountLock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::new(
                    "account_busy",
                    "Another call is still at work on this account; try again later.",
                ));
            }
            Err(e) => return Err(Error::at(&path)(e)),
        }
        stop.check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Opens a file that only root opens, a new one if there is none, to be locked.
pub fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Error::at(path))
}
