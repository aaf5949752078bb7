//! Containers as they run: their mounts, their LXC configuration, and what the kernel counts for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::error::{Result, failure};
use crate::lxc;
use crate::node::Node;
use crate::program::{command, run};
use crate::property;
use crate::storage;

/// Where LXC keeps its containers.
pub const LXC: &str = "/var/lib/lxc";

/// What belongs to a container while it runs or is mounted.
pub fn folder(vmid: u64) -> PathBuf {
    Path::new(LXC).join(vmid.to_string())
}

/// The root of a mounted container.
pub fn rootfs(vmid: u64) -> PathBuf {
    folder(vmid).join("rootfs")
}

/// Whether a container runs: LXC holds a socket of its name, which is how Proxmox looks too.
pub fn is_running(vmid: u64) -> bool {
    running().contains(&vmid)
}

/// All containers that run on this node.
pub fn running() -> Vec<u64> {
    let text = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let rest = line.split_once("@/var/lib/lxc/")?.1;
            rest.strip_suffix("/command")?.parse().ok()
        })
        .collect()
}

/// The container's first process, as this node sees it.
pub fn init_of(vmid: u64) -> Option<u32> {
    run("lxc-info", &["-n", &vmid.to_string(), "-p", "-H"]).ok()?.trim().parse().ok()
}

/// Whether all its processes are frozen.
pub fn is_frozen(vmid: u64) -> bool {
    run("lxc-info", &["-n", &vmid.to_string(), "-s", "-H"])
        .is_ok_and(|state| state.trim() == "FROZEN")
}

/// The volumes of a configuration: `rootfs` first, then `mp0` and so on.
pub fn volumes(config: &Config) -> Vec<(String, property::Parts)> {
    let mut found: Vec<(u64, String, property::Parts)> = config
        .values
        .iter()
        .filter_map(|(key, value)| {
            let order = match key.strip_prefix("mp") {
                Some(digits) => digits.parse::<u64>().ok()? + 1,
                None if key == "rootfs" => 0,
                None => return None,
            };
            Some((order, key.clone(), property::parse(value, "volume")))
        })
        .collect();
    found.sort_by_key(|(order, ..)| *order);
    found.into_iter().map(|(_, key, parts)| (key, parts)).collect()
}

/// The file of a configured volume.
pub fn volume_file(parts: &property::Parts) -> Result<PathBuf> {
    storage::path(property::get(parts, "volume").unwrap_or_default())
}

fn is_mounted(path: &Path) -> bool {
    let wanted = path.to_string_lossy();
    fs::read_to_string("/proc/self/mounts")
        .unwrap_or_default()
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(&wanted))
}

/// Mounts a container's volumes; what is mounted already stays.
pub fn mount(vmid: u64, config: &Config) -> Result<()> {
    let home = folder(vmid);
    fs::create_dir_all(&home)?;
    for (key, parts) in volumes(config) {
        let place = home.join(if key == "rootfs" { "disk" } else { &key });
        if !is_mounted(&place) {
            fs::create_dir_all(&place)?;
            attach(&volume_file(&parts)?, &place)?;
        }
    }
    let root = rootfs(vmid);
    if !is_mounted(&root) {
        mount_root(&home.join("disk"), &root)?;
    }
    Ok(())
}

/// Mounts a volume's filesystem. The loop device goes with the mount.
fn attach(file: &Path, place: &Path) -> Result<()> {
    let options = "loop,noatime,nouuid".as_ref();
    run(
        "mount",
        &[
            "-t".as_ref(),
            "xfs".as_ref(),
            "-o".as_ref(),
            options,
            file.as_os_str(),
            place.as_os_str(),
        ],
    )?;
    Ok(())
}

/// The root is what the disk holds over the template that the disk names; a restored one has none.
fn mount_root(disk: &Path, root: &Path) -> Result<()> {
    let named = fs::read_to_string(disk.join("lower")).unwrap_or_default();
    let lower = match named.trim() {
        "" => disk.join("empty"),
        archive => storage::extracted(archive),
    };
    for folder in ["upper", "work", "empty"] {
        fs::create_dir_all(disk.join(folder))?;
    }
    fs::create_dir_all(root)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        disk.join("upper").display(),
        disk.join("work").display()
    );
    run("mount", &["-t", "overlay", "-o", &options, "overlay", &root.to_string_lossy()])?;
    Ok(())
}

/// Writes on a new disk which template it lies over.
pub fn name_lower(vmid: u64, config: &Config, archive: &str) -> Result<()> {
    let place = folder(vmid).join("disk");
    fs::create_dir_all(&place)?;
    for (key, parts) in volumes(config) {
        if key == "rootfs" {
            attach(&volume_file(&parts)?, &place)?;
            fs::write(place.join("lower"), archive)?;
            unmount(vmid)?;
        }
    }
    Ok(())
}

/// Unmounts whatever is mounted of a container.
pub fn unmount(vmid: u64) -> Result<()> {
    let home = folder(vmid);
    let mut places = vec![rootfs(vmid)];
    places.extend(crate::node::names_in(&home).iter().map(|name| home.join(name)));
    for place in places {
        while is_mounted(&place) {
            let path = place.to_string_lossy();
            run("umount", &[path.as_ref()]).or_else(|_| run("umount", &["-l", path.as_ref()]))?;
        }
    }
    Ok(())
}

/// Mounts a container unless it runs, does something with its root, and unmounts it again.
pub fn with_root<T>(
    vmid: u64,
    config: &Config,
    work: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    let was = is_running(vmid) || is_mounted(&rootfs(vmid));
    mount(vmid, config)?;
    let outcome = work(&rootfs(vmid));
    if !was {
        unmount(vmid)?;
    }
    outcome
}

/// Starts a container, without waiting until its services answer.
pub fn start(node: &Node, vmid: u64, config: &Config) -> Result<()> {
    let home = folder(vmid);
    fs::create_dir_all(&home)?;
    mount(vmid, config)?;
    fs::write(home.join("config"), lxc::configuration(node, vmid, config)?)?;
    let log = home.join("start.log");
    let outcome = run(
        "lxc-start",
        &["-n", &vmid.to_string(), "-d", "-l", "WARN", "-o", &log.to_string_lossy()],
    );
    if outcome.is_err() {
        let words = fs::read_to_string(&log).unwrap_or_default();
        unmount(vmid)?;
        let last: Vec<&str> = words.lines().rev().take(5).collect();
        return Err(failure(format!("startup for container '{vmid}' failed\n{}", last.join("\n"))));
    }
    crate::firewall::apply_container(node, vmid, config)?;
    announce(vmid, config)
}

/// Lets the gateways know which card has the addresses now: whoever had them before may be remembered
/// there for some seconds. Nobody waits for it.
fn announce(vmid: u64, config: &Config) -> Result<()> {
    let Some(pid) = init_of(vmid) else { return Ok(()) };
    let mut gateways = Vec::new();
    for (_, parts) in lxc::networks(config) {
        gateways.extend(
            ["gw", "gw6"]
                .into_iter()
                .filter_map(|key| property::get(&parts, key).map(str::to_owned)),
        );
    }
    if gateways.is_empty() {
        return Ok(());
    }
    let line = "for to; do for turn in 1 2 3 4 5; do ping -nqc1 -W1 \"$to\" && break; sleep 0.5; done & done";
    command("setsid")
        .args(["nsenter", "-t", &pid.to_string(), "-n", "--", "sh", "-c", line, "sh"])
        .args(gateways)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(())
}

/// Ends a container at once.
pub fn kill(vmid: u64) -> Result<()> {
    if is_running(vmid) {
        run("lxc-stop", &["-k", "-n", &vmid.to_string()])?;
        wait_for_end(vmid, Duration::from_secs(60))?;
    }
    unmount(vmid)
}

/// Asks a container to end, and waits so long. Whether it did.
pub fn ask_to_end(vmid: u64, patience: Duration) -> Result<bool> {
    if !is_running(vmid) {
        return Ok(true);
    }
    let seconds = patience.as_secs().to_string();
    let asked = run("lxc-stop", &["-n", &vmid.to_string(), "--nokill", "-t", &seconds]);
    let ended = asked.is_ok() || !is_running(vmid);
    if ended {
        wait_for_end(vmid, Duration::from_secs(20))?;
        unmount(vmid)?;
    }
    Ok(ended)
}

fn wait_for_end(vmid: u64, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    while is_running(vmid) {
        if Instant::now() >= end {
            return Err(failure("container did not stop"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Stops or lets go on all processes of a container.
pub fn freeze(vmid: u64, frozen: bool) -> Result<()> {
    run(if frozen { "lxc-freeze" } else { "lxc-unfreeze" }, &["-n", &vmid.to_string()])?;
    Ok(())
}

/// Lets a volume's filesystem grow to its file's new size, mounted or not.
pub fn grow(vmid: u64, key: &str, file: &Path) -> Result<()> {
    let place = folder(vmid).join(if key == "rootfs" { "disk" } else { key });
    let was = is_mounted(&place);
    if !was {
        fs::create_dir_all(&place)?;
        attach(file, &place)?;
    }
    let path = place.to_string_lossy();
    let device = run("findmnt", &["-n", "-o", "SOURCE", path.as_ref()])?;
    run("losetup", &["-c", device.trim()])?;
    run("xfs_growfs", &[path.as_ref()])?;
    if was { Ok(()) } else { unmount(vmid) }
}

/// Holds still what writes to a container's volumes while something is done.
pub fn while_still<T>(vmid: u64, config: &Config, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut held = Vec::new();
    for (key, _) in volumes(config) {
        let place = folder(vmid).join(if key == "rootfs" { "disk" } else { &key });
        if is_mounted(&place) {
            let path = place.to_string_lossy().into_owned();
            run("fsfreeze", &["-f", &path])?;
            held.push(path);
        }
    }
    let outcome = work();
    for path in held {
        run("fsfreeze", &["-u", &path])?;
    }
    outcome
}
