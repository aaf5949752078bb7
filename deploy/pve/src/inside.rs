//! Subcommands of `pct` that reach into a container: commands, terminals, files, filesystems.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use crate::arguments::Parameters;
use crate::config::{self, Config};
use crate::container;
use crate::error::{Failure, Result, failure, words_of};
use crate::lifecycle::change;
use crate::node::{self, Node};
use crate::output::line;
use crate::program::{command, run};
use crate::property::get;
use crate::storage;

fn need_running(vmid: u64) -> Result<()> {
    if container::is_running(vmid) {
        Ok(())
    } else {
        Err(failure(format!("container '{vmid}' not running!")))
    }
}

/// Becomes another program; returns only when there is none.
fn become_program(name: &str, words: &[&str]) -> Failure {
    command(name).args(words).exec().into()
}

/// `pct exec`: the exit code is the command's own.
pub fn exec(vmid: u64, words: &[String]) -> Result<i32> {
    if words.is_empty() {
        return Err(failure("missing command"));
    }
    need_running(vmid)?;
    let vmid = vmid.to_string();
    let mut all = vec!["-n", &vmid, "--"];
    all.extend(words.iter().map(String::as_str));
    Err(become_program("lxc-attach", &all))
}

/// `pct enter`.
pub fn enter(vmid: u64) -> Result<i32> {
    need_running(vmid)?;
    Err(become_program("lxc-attach", &["-n", &vmid.to_string()]))
}

/// `pct console`: the first terminal, which waits with a login.
pub fn console(vmid: u64) -> Result<i32> {
    need_running(vmid)?;
    Err(become_program("lxc-console", &["-n", &vmid.to_string(), "-t", "1", "-e", "^a"]))
}

/// Where a path of the container lies on this node. For a container that runs, by its first process.
fn place(vmid: u64, path: &str) -> Result<PathBuf> {
    let inner = path.trim_start_matches('/');
    if inner.split('/').any(|part| part == "..") {
        return Err(failure(format!("invalid path '{path}'")));
    }
    match container::init_of(vmid).filter(|_| container::is_running(vmid)) {
        Some(pid) => Ok(Path::new("/proc").join(pid.to_string()).join("root").join(inner)),
        None => Ok(container::rootfs(vmid).join(inner)),
    }
}

/// `pct push`: the file is owned by root and readable by all unless told otherwise.
pub fn push(vmid: u64, _known: &Config, parameters: &Parameters) -> Result<i32> {
    need_running(vmid)?;
    let from = parameters.need("file")?;
    let to = parameters.need("destination")?;
    let text = fs::read(from)
        .map_err(|why| failure(format!("failed to open {from} for reading: {}", words_of(&why))))?;
    let place = place(vmid, to)?;
    fs::write(&place, text)
        .map_err(|why| failure(format!("failed to create file {to}: {}", words_of(&why))))?;
    let owner = format!(
        "{}:{}",
        parameters.get("user").unwrap_or("0"),
        parameters.get("group").unwrap_or("0")
    );
    inner(vmid, &["chown", &owner, to])?;
    inner(vmid, &["chmod", parameters.get("perms").unwrap_or("0644"), to])?;
    Ok(0)
}

fn inner(vmid: u64, words: &[&str]) -> Result<()> {
    let vmid = vmid.to_string();
    let mut all = vec!["-n", &vmid, "--"];
    all.extend(words);
    run("lxc-attach", &all).map(|_| ())
}

/// `pct pull`.
pub fn pull(vmid: u64, _known: &Config, parameters: &Parameters) -> Result<i32> {
    need_running(vmid)?;
    let from = parameters.need("path")?;
    let to = parameters.need("destination")?;
    let text = fs::read(place(vmid, from)?)
        .map_err(|why| failure(format!("failed to open {from}: {}", words_of(&why))))?;
    fs::write(to, text)
        .map_err(|why| failure(format!("failed to open {to} for writing: {}", words_of(&why))))?;
    if let Some(perms) = parameters.get("perms") {
        run("chmod", &[perms, to])?;
    }
    if let Some(user) = parameters.get("user") {
        run("chown", &[&format!("{user}:{}", parameters.get("group").unwrap_or("")), to])?;
    }
    Ok(0)
}

/// `pct df`.
pub fn df(vmid: u64, known: &Config) -> Result<i32> {
    container::with_root(vmid, known, |_| {
        line(&format!(
            "{:<3} {:<32} {:>6} {:>6} {:>6} {:>4} {}",
            "MP", "Volume", "Size", "Used", "Avail", "Use%", "Path"
        ));
        for (key, parts) in container::volumes(known) {
            let mounted = container::folder(vmid).join(if key == "rootfs" { "disk" } else { &key });
            let facts = rustix::fs::statvfs(&mounted)?;
            let total = facts.f_blocks * facts.f_frsize;
            let used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize;
            let avail = facts.f_bavail * facts.f_frsize;
            let share = used * 100 / total.max(1);
            let volume = get(&parts, "volume").unwrap_or_default();
            let path = get(&parts, "mp").unwrap_or("/");
            let [total, used, avail] = [total, used, avail].map(human);
            line(&format!(
                "{key:<3} {volume:<32} {total:>6} {used:>6} {avail:>6} {share:>3}% {path}"
            ));
        }
        Ok(0)
    })
}

fn human(bytes: u64) -> String {
    for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)] {
        if bytes >= 1 << shift {
            let tenths = bytes / ((1 << shift) / 10);
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
    }
    bytes.to_string()
}

/// `pct fsck`.
pub fn fsck(vmid: u64, known: &Config, parameters: &Parameters) -> Result<i32> {
    if container::is_running(vmid) {
        return Err(failure(format!("cannot run fsck on active container {vmid}")));
    }
    let wanted = parameters.get("device").unwrap_or("rootfs");
    let volumes = container::volumes(known);
    let Some((_, parts)) = volumes.iter().find(|(key, _)| key == wanted) else {
        return Err(failure(format!("cannot find {wanted} in the configuration")));
    };
    let file = container::volume_file(parts)?;
    // Repairs are asked for; what the log still holds is played back by a mount first.
    let words: &[&str] = if parameters.is_set("force") { &["-L"] } else { &[] };
    Ok(command("xfs_repair").args(words).arg(file).status()?.code().unwrap_or(1))
}

/// `pct fstrim`: gives back what the filesystem does not use.
pub fn fstrim(vmid: u64) -> Result<i32> {
    let place = container::folder(vmid).join("disk");
    let told = run("fstrim", &["-v", &place.to_string_lossy()])?;
    line(told.trim_end());
    Ok(0)
}

/// `pct mount`: for looking at a container that does not run; it stays locked until `unmount`.
pub fn mount(node: &Node, vmid: u64) -> Result<i32> {
    change(node, vmid, |known| {
        container::mount(vmid, known)?;
        known.set("lock", "mounted");
        Ok(())
    })?;
    line(&format!("mounted CT {vmid} in '{}'", container::rootfs(vmid).display()));
    Ok(0)
}

/// `pct unmount`.
pub fn unmount(node: &Node, vmid: u64) -> Result<i32> {
    let _own = crate::lock::of_container(vmid)?;
    let mut known = config::load(&node.name, vmid)?;
    if known.get("lock") != Some("mounted") {
        return Err(failure(format!(
            "no lock found trying to remove 'mounted' lock\ncontainer '{vmid}' is not mounted"
        )));
    }
    container::unmount(vmid)?;
    known.values.remove("lock");
    config::store(&node.name, vmid, &known)?;
    Ok(0)
}

/// `pct cpusets`: which processors each container may use.
pub fn cpusets(node: &Node) -> Result<i32> {
    for guest in node::guests() {
        if guest.is_container && guest.node == node.name && container::is_running(guest.vmid) {
            let known = config::load(&node.name, guest.vmid)?;
            let set: Vec<String> =
                (0..known.number("cores", node.cores)).map(|core| format!("{core:>2}")).collect();
            line(&format!("{}: {}", guest.vmid, set.join(" ")));
        }
    }
    Ok(0)
}

/// `pct rescan`: volumes that no configuration names are written down as unused.
pub fn rescan(node: &Node, parameters: &Parameters) -> Result<i32> {
    let only = parameters.number("vmid");
    line("rescan volumes...");
    for guest in node::guests() {
        if !guest.is_container
            || guest.node != node.name
            || only.is_some_and(|vmid| vmid != guest.vmid)
        {
            continue;
        }
        change(node, guest.vmid, |known| {
            let text = known.print();
            for volume in storage::volumes_of(guest.vmid) {
                if !text.contains(&volume) && !parameters.is_set("dryrun") {
                    let index = (0..256)
                        .find(|index| known.get(&format!("unused{index}")).is_none())
                        .unwrap_or(0);
                    known.set(&format!("unused{index}"), volume.clone());
                    line(&format!(
                        "CT {} add unreferenced volume '{volume}' as 'unused{index}' to config",
                        guest.vmid
                    ));
                }
            }
            Ok(())
        })?;
    }
    Ok(0)
}
