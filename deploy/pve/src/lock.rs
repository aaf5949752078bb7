//! Locks on files, as Proxmox takes them around every change.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Result, failure};
use crate::node::SANDBOX;

/// How long Proxmox waits for a lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Held until it is dropped.
pub struct Lock {
    _file: File,
}

/// Locks a container's configuration on this node.
pub fn of_container(vmid: u64) -> Result<Lock> {
    take(&format!("/run/lock/lxc/pve-config-{vmid}.lock"), PATIENCE)
}

/// Locks what the whole cluster shares: who has which number.
pub fn of_cluster() -> Result<Lock> {
    take(&format!("{SANDBOX}/cluster/guests.lock"), PATIENCE * 6)
}

/// Locks a storage of this node, so that no volume's name is given twice.
pub fn of_storage(name: &str) -> Result<Lock> {
    take(&format!("/run/lock/lxc/pve-storage-{name}.lock"), PATIENCE * 6)
}

/// Locks a file, made if need be.
pub fn take(path: &str, patience: Duration) -> Result<Lock> {
    if let Some(folder) = Path::new(path).parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).append(true).open(path)?;
    let end = Instant::now() + patience;
    loop {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(Lock { _file: file });
        }
        if Instant::now() >= end {
            return Err(failure(format!("can't lock file '{path}' - got timeout")));
        }
        thread::sleep(Duration::from_millis(20));
    }
}
