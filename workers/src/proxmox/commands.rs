//! The commands that change something on a node, as arrays of arguments: programs and options are
//! literals of this file, values are checked.

use super::arguments::{Description, Disk, KeysFile, Mebibytes, Network, Volume};
use super::look::Mark;
use crate::ssh::{Program, RemoteCommand};
use entities::cloudpods::create::PodName;
use entities::values::{AbsPath, ArchiveName, NodeName, SnapshotName, StorageId, Vmid, VolumeId};

/// A container that is to be made.
#[derive(Debug)]
pub struct Create<'a> {
    pub vmid: Vmid,
    /// The archive that it is installed from.
    pub archive: VolumeId,
    pub hostname: &'a PodName,
    pub cpu_cores: u32,
    pub memory: Mebibytes,
    pub disk: Volume,
    pub network: Network<'a>,
    pub description: Description,
    /// A file with root's keys on the node; none: nobody logs in.
    pub keys: Option<KeysFile>,
}

fn pct(verb: &'static str) -> RemoteCommand {
    RemoteCommand::new(Program::Pct).literal(verb)
}

/// Unprivileged, without swap, started with its node.
#[must_use]
pub fn create(new: &Create<'_>) -> RemoteCommand {
    let command = pct("create").value(&new.vmid).value(&new.archive);
    with_settings(command, new)
}

fn with_settings(command: RemoteCommand, new: &Create<'_>) -> RemoteCommand {
    let command = command
        .option("--hostname", new.hostname)
        .option("--cores", &new.cpu_cores)
        .option("--memory", &new.memory)
        .literal("--swap")
        .literal("0")
        .option("--rootfs", &new.disk)
        .option("--net0", &new.network)
        .literal("--unprivileged")
        .literal("1")
        .literal("--features")
        .literal("nesting=1")
        .literal("--onboot")
        .literal("1")
        .option("--description", &new.description);
    match &new.keys {
        Some(file) => command.option("--ssh-public-keys", file),
        None => command,
    }
}

/// Replaces a container, stopped or not there, by what a backup holds; its place and size stay.
#[must_use]
pub fn restore(vmid: Vmid, backup: &VolumeId, storage: &StorageId) -> RemoteCommand {
    pct("restore")
        .value(&vmid)
        .value(backup)
        .literal("--force")
        .literal("1")
        .option("--storage", storage)
        .literal("--unprivileged")
        .literal("1")
}

/// What a container that was restored from a backup is to be called, and have, by now.
#[must_use]
pub fn settle(new: &Create<'_>) -> RemoteCommand {
    pct("set")
        .value(&new.vmid)
        .option("--hostname", new.hostname)
        .option("--cores", &new.cpu_cores)
        .option("--memory", &new.memory)
        .option("--net0", &new.network)
        .literal("--onboot")
        .literal("1")
        .option("--description", &new.description)
}

/// A container's network, as it is to be.
#[must_use]
pub fn set_network(vmid: Vmid, network: &Network<'_>) -> RemoteCommand {
    pct("set").value(&vmid).option("--net0", network)
}

#[must_use]
pub fn start(vmid: Vmid) -> RemoteCommand {
    pct("start").value(&vmid)
}

/// At once.
#[must_use]
pub fn stop(vmid: Vmid) -> RemoteCommand {
    pct("stop").value(&vmid)
}

/// Asked to, and after a minute stopped.
#[must_use]
pub fn shutdown(vmid: Vmid) -> RemoteCommand {
    pct("shutdown")
        .value(&vmid)
        .literal("--timeout")
        .literal("60")
        .literal("--forceStop")
        .literal("1")
}

#[must_use]
pub fn reboot(vmid: Vmid) -> RemoteCommand {
    pct("reboot").value(&vmid).literal("--timeout").literal("60")
}

/// Whether a container starts with its node.
#[must_use]
pub fn onboot(vmid: Vmid, starts: bool) -> RemoteCommand {
    pct("set").value(&vmid).literal("--onboot").literal(if starts { "1" } else { "0" })
}

/// Both ways, at once also where it runs.
#[must_use]
pub fn set_size(vmid: Vmid, cpu_cores: u32, memory: Mebibytes) -> RemoteCommand {
    pct("set").value(&vmid).option("--cores", &cpu_cores).option("--memory", &memory)
}

/// Up only.
#[must_use]
pub fn resize(vmid: Vmid, disk: Disk) -> RemoteCommand {
    pct("resize").value(&vmid).literal("rootfs").value(&disk)
}

#[must_use]
pub fn snapshot(vmid: Vmid, name: &SnapshotName, mark: &Mark) -> RemoteCommand {
    pct("snapshot").value(&vmid).value(name).option("--description", &mark.description())
}

#[must_use]
pub fn rollback(vmid: Vmid, name: &SnapshotName) -> RemoteCommand {
    pct("rollback").value(&vmid).value(name)
}

#[must_use]
pub fn delete_snapshot(vmid: Vmid, name: &SnapshotName) -> RemoteCommand {
    pct("delsnapshot").value(&vmid).value(name)
}

/// The same for one whose making or removal has died half-way: what there is of it.
#[must_use]
pub fn delete_partial_snapshot(vmid: Vmid, name: &SnapshotName) -> RemoteCommand {
    delete_snapshot(vmid, name).literal("--force").literal("1")
}

/// Copies a file of the node into a running container, for root alone.
#[must_use]
pub fn push(vmid: Vmid, file: &KeysFile, to: &AbsPath) -> RemoteCommand {
    pct("push")
        .value(&vmid)
        .value(file)
        .value(to)
        .literal("--perms")
        .literal("0600")
        .literal("--user")
        .literal("0")
        .literal("--group")
        .literal("0")
}

/// A command in a running container, of literals only.
#[must_use]
pub fn exec(vmid: Vmid, words: &[&'static str]) -> RemoteCommand {
    let command = pct("exec").value(&vmid).literal("--");
    words.iter().fold(command, |command, word| command.literal(word))
}

#[must_use]
pub fn console(vmid: Vmid) -> RemoteCommand {
    pct("console").value(&vmid)
}

/// With its disks, and out of jobs and lists of the node.
#[must_use]
pub fn destroy(vmid: Vmid) -> RemoteCommand {
    pct("destroy").value(&vmid).literal("--force").literal("1").literal("--purge").literal("1")
}

#[must_use]
pub fn unlock(vmid: Vmid) -> RemoteCommand {
    pct("unlock").value(&vmid)
}

/// A running one is stopped, moved and started again.
#[must_use]
pub fn migrate(vmid: Vmid, to: &NodeName) -> RemoteCommand {
    pct("migrate").value(&vmid).value(to).literal("--restart").literal("1")
}

/// A container may use its own addresses and its own hardware address only; else everything is let
/// through, since what is in it is its owner's.
#[must_use]
pub fn guard(path: &super::ApiPath) -> RemoteCommand {
    let mut command = RemoteCommand::new(Program::Pvesh).literal("set").value(path);
    for (option, value) in [
        ("--enable", "1"),
        ("--ipfilter", "1"),
        ("--macfilter", "1"),
        ("--policy_in", "ACCEPT"),
        ("--policy_out", "ACCEPT"),
    ] {
        command = command.literal(option).literal(value);
    }
    command
}

/// Makes a backup in a storage that says whose it is.
#[must_use]
pub fn back_up(
    path: &super::ApiPath,
    vmid: Vmid,
    storage: &StorageId,
    mark: &Mark,
) -> RemoteCommand {
    RemoteCommand::new(Program::Pvesh)
        .literal("create")
        .value(path)
        .option("--vmid", &vmid)
        .option("--storage", storage)
        .option("--notes-template", &mark.description())
        .literal("--mode")
        .literal("snapshot")
        .literal("--compress")
        .literal("zstd")
        .literal("--remove")
        .literal("0")
}

/// Removes what a storage has.
#[must_use]
pub fn free(volume: &VolumeId) -> RemoteCommand {
    RemoteCommand::new(Program::Pvesm).literal("free").value(volume)
}

/// Fetches an archive that containers are installed from.
#[must_use]
pub fn download(storage: &StorageId, archive: &ArchiveName) -> RemoteCommand {
    RemoteCommand::new(Program::Pveam).literal("download").value(storage).value(archive)
}

/// Puts what stands on its standard input into a file that only root reads.
#[must_use]
pub fn write_keys(file: &KeysFile) -> RemoteCommand {
    RemoteCommand::new(Program::Install)
        .literal("-D")
        .literal("-m")
        .literal("0600")
        .literal("--")
        .literal("/dev/stdin")
        .value(file)
}

#[must_use]
pub fn remove_keys(file: &KeysFile) -> RemoteCommand {
    RemoteCommand::new(Program::Remove).literal("-f").literal("--").value(file)
}
