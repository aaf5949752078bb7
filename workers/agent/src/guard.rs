//! Who may act: one call at a time for an account, none for a claim that was taken over.

use crate::beneath::Beneath;
use crate::error::{Error, Result};
use crate::layout;
use cpanel::protocol::JobRef;
use rustix::fs::{FlockOperation, flock};
use rustix::io::FdFlags;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use values::Username;

/// How long a call waits for the one before it, which stops at its next safe point. A program that
/// it has started may take its time until there.
const LOCK_WAIT: Duration = Duration::from_secs(600);

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

/// The right to act for a job, as long as no newer claim is seen. Of the calls of one claim that act
/// on the account, the newest has the turn: the worker asks one at a time, so that an older one has
/// lost its caller, even where its connection does not know that yet.
pub struct Claim {
    file: File,
    fence: i64,
    /// None: this call only looks.
    turn: Option<i64>,
}

/// What a job's file says: the highest fence and the number of turns that were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    fence: i64,
    turn: i64,
}

/// Takes note of the job's fence. Fails with `stale_fence` when a higher one was seen.
pub fn claim(job: JobRef) -> Result<Claim> {
    let dir = layout::job(job.id);
    Beneath::private_dir(&dir)?;
    let path = dir.join("fence");
    let mut file = open_lock(&path)?;
    flock(&file, FlockOperation::LockExclusive).map_err(Error::at(&path))?;
    let seen = read_seen(&mut file)?;
    if seen.is_some_and(|seen| seen.fence > job.fence) {
        return Err(stale());
    }
    if seen.map(|seen| seen.fence) != Some(job.fence) {
        let turn = seen.map_or(0, |seen| seen.turn);
        write_seen(&mut file, Seen { fence: job.fence, turn }).map_err(Error::at(&path))?;
    }
    flock(&file, FlockOperation::Unlock).map_err(Error::at(&path))?;
    Ok(Claim { file, fence: job.fence, turn: None })
}

impl Claim {
    /// Fails when a newer claim has been seen since, or another call of this one has the turn.
    pub fn check(&mut self) -> Result<()> {
        match read_seen(&mut self.file)? {
            Some(seen) if seen.fence > self.fence => Err(stale()),
            Some(seen) if self.turn.is_some_and(|mine| seen.turn > mine) => Err(Error::stopped()),
            _ => Ok(()),
        }
    }

    /// Takes the turn: an older call of this claim stops at its next safe point.
    pub fn take_turn(&mut self) -> Result<()> {
        flock(&self.file, FlockOperation::LockExclusive)?;
        let taken = self.take_turn_locked();
        flock(&self.file, FlockOperation::Unlock)?;
        taken
    }

    fn take_turn_locked(&mut self) -> Result<()> {
        let seen = read_seen(&mut self.file)?;
        if seen.is_some_and(|seen| seen.fence > self.fence) {
            return Err(stale());
        }
        let turn = seen.map_or(0, |seen| seen.turn).saturating_add(1);
        write_seen(&mut self.file, Seen { fence: self.fence, turn })?;
        self.turn = Some(turn);
        Ok(())
    }
}

fn stale() -> Error {
    Error::new("stale_fence", "Another worker has taken this job over; this one must let it go.")
}

fn read_seen(file: &mut File) -> Result<Option<Seen>> {
    let mut text = String::new();
    file.rewind()?;
    Read::take(&*file, 64).read_to_string(&mut text)?;
    let mut numbers = text.split_whitespace().map(str::parse);
    // Empty: new, or the first writer died before it wrote.
    let Some(fence) = numbers.next() else { return Ok(None) };
    let turn = numbers.next().unwrap_or(Ok(0));
    match (fence, turn) {
        (Ok(fence), Ok(turn)) => Ok(Some(Seen { fence, turn })),
        _ => Err(Error::internal("a fence that is no number")),
    }
}

/// Over what stands there and of the same length, so that a full disk is no hindrance.
fn write_seen(file: &mut File, seen: Seen) -> std::io::Result<()> {
    file.rewind()?;
    file.write_all(format!("{:020} {:020}\n", seen.fence, seen.turn).as_bytes())?;
    file.sync_all()
}

/// Held as long as it lives. When the process dies, the system lets it go as soon as the programs that
/// it has started have ended, too: what they are in the middle of is nothing to begin upon.
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
    drop(open_lock(&path)?);
    // Programs inherit it, also such as run as the account: they cannot write with it.
    let file = File::open(&path).map_err(Error::at(&path))?;
    rustix::io::fcntl_setfd(&file, FdFlags::empty()).map_err(Error::at(&path))?;
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

/// Held while a file of configuration changes: nobody checks the whole meanwhile.
pub fn changing_configuration() -> Result<ConfigurationLock> {
    lock_configuration(FlockOperation::LockShared)
}

/// Held while a service checks and reads its configuration: what it would see in the middle of
/// another job's changes never was, and a service may end over it.
pub fn reading_configuration() -> Result<ConfigurationLock> {
    lock_configuration(FlockOperation::LockExclusive)
}

/// Held as long as it lives.
pub struct ConfigurationLock {
    _file: File,
}

fn lock_configuration(how: FlockOperation) -> Result<ConfigurationLock> {
    let path = Path::new(layout::STATE).join("locks/.configuration");
    let file = open_lock(&path)?;
    flock(&file, how).map_err(Error::at(&path))?;
    Ok(ConfigurationLock { _file: file })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn claim_in(path: &Path, fence: i64) -> Claim {
        let mut file = open_lock(path).unwrap();
        let turn = read_seen(&mut file).unwrap().map_or(0, |seen| seen.turn);
        write_seen(&mut file, Seen { fence, turn }).unwrap();
        Claim { file, fence, turn: None }
    }

    #[test]
    fn the_newest_call_of_the_newest_claim_has_the_turn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fence");
        let (mut older, mut newer, mut looker) =
            (claim_in(&path, 1), claim_in(&path, 1), claim_in(&path, 1));
        older.take_turn().unwrap();
        older.check().unwrap();
        newer.take_turn().unwrap();
        assert_eq!(older.check().unwrap_err().code(), "stopped");
        newer.check().unwrap();
        looker.check().unwrap();
        let mut next = claim_in(&path, 2);
        assert_eq!(newer.check().unwrap_err().code(), "stale_fence");
        assert_eq!(newer.take_turn().unwrap_err().code(), "stale_fence");
        next.take_turn().unwrap();
        next.check().unwrap();
    }

    #[test]
    fn a_file_with_a_fence_alone_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fence");
        std::fs::write(&path, format!("{:020}\n", 7)).unwrap();
        let mut file = open_lock(&path).unwrap();
        assert_eq!(read_seen(&mut file).unwrap(), Some(Seen { fence: 7, turn: 0 }));
    }
}
