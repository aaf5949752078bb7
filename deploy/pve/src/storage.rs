//! The node's two storages: `local`, a directory for templates and backups, and `local-lvm`, which has
//! the containers' disks. A disk is a sparse file with a filesystem in it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Result, bad_parameter, failure};
use crate::lock;
use crate::node::{Node, SANDBOX, names_in};
use crate::program;

/// Where `local` keeps its files.
pub const LOCAL: &str = "/var/lib/vz";
/// Where `local-lvm` keeps its volumes.
pub const VOLUMES: &str = "/var/lib/pve-sandbox/local-lvm";

/// The size of the disk that the node's own system, its templates and backups lie on.
const SYSTEM_DISK: u64 = 64 << 30;

/// A storage as `/etc/pve/storage.cfg` has it.
#[derive(Debug, Clone, Copy)]
pub struct Storage {
    pub name: &'static str,
    pub kind: &'static str,
    pub content: &'static str,
}

/// All storages of a node.
pub const STORAGES: &[Storage] = &[
    Storage { name: "local", kind: "dir", content: "backup,iso,vztmpl" },
    Storage { name: "local-lvm", kind: "lvmthin", content: "images,rootdir" },
];

impl Storage {
    /// Whether it takes this kind of content.
    pub fn takes(&self, content: &str) -> bool {
        self.content.split(',').any(|known| known == content)
    }

    /// What of its space is taken: the blocks on the disk, not the sizes of the files.
    pub fn used(&self) -> u64 {
        if self.name == "local" { blocks(Path::new(LOCAL)) } else { blocks(Path::new(VOLUMES)) }
    }

    /// How much it holds: what the node says it has is for containers.
    pub fn total(&self, node: &Node) -> u64 {
        if self.name == "local" { SYSTEM_DISK } else { node.disk }
    }
}

fn blocks(path: &Path) -> u64 {
    let Ok(facts) = fs::symlink_metadata(path) else { return 0 };
    let below: u64 = if facts.is_dir() {
        names_in(path).iter().map(|name| blocks(&path.join(name))).sum()
    } else {
        0
    };
    facts.blocks() * 512 + below
}

/// The storage of this name.
pub fn find(name: &str) -> Result<Storage> {
    STORAGES
        .iter()
        .find(|storage| storage.name == name)
        .copied()
        .ok_or_else(|| failure(format!("storage '{name}' does not exist")))
}

/// The storage of this name, if containers may have their disks on it.
pub fn for_containers(name: &str) -> Result<Storage> {
    let storage = find(name)?;
    if storage.takes("rootdir") {
        return Ok(storage);
    }
    let why = format!("storage '{name}' does not support container directories");
    Err(bad_parameter("storage", why))
}

/// The file of a volume such as `local-lvm:vm-101-disk-0` or `local:vztmpl/x.tar.zst`.
pub fn path(volume: &str) -> Result<PathBuf> {
    let (name, rest) = volume
        .split_once(':')
        .ok_or_else(|| failure(format!("unable to parse volume ID '{volume}'")))?;
    find(name)?;
    if rest.is_empty() || rest.split('/').any(|part| part == ".." || part.is_empty()) {
        return Err(failure(format!("unable to parse volume ID '{volume}'")));
    }
    if name != "local" {
        return Ok(Path::new(VOLUMES).join(rest.replace('/', "_")));
    }
    let (kind, file) = rest
        .split_once('/')
        .ok_or_else(|| failure(format!("unable to parse directory volume name '{rest}'")))?;
    let folder = match kind {
        "vztmpl" => "template/cache",
        "iso" => "template/iso",
        "backup" => "dump",
        _ => return Err(failure(format!("unable to parse directory volume name '{rest}'"))),
    };
    Ok(Path::new(LOCAL).join(folder).join(file))
}

/// Makes an empty volume of so many bytes for a guest, under the next free name, and gives its identity.
pub fn allocate(storage: &str, vmid: u64, bytes: u64) -> Result<String> {
    let _lock = lock::of_storage(storage)?;
    let taken = names_in(Path::new(VOLUMES));
    let name = (0u64..)
        .map(|index| format!("vm-{vmid}-disk-{index}"))
        .find(|name| !taken.contains(name))
        .ok_or_else(|| failure("unable to allocate an image name"))?;
    make(storage, &name, bytes)
}

/// Makes an empty volume of this name.
pub fn allocate_named(storage: &str, vmid: u64, name: &str, bytes: u64) -> Result<String> {
    let _lock = lock::of_storage(storage)?;
    if !name.starts_with(&format!("vm-{vmid}-")) || name.contains('/') {
        return Err(failure(format!("illegal name '{name}' - should be 'vm-{vmid}-*'")));
    }
    if names_in(Path::new(VOLUMES)).iter().any(|known| known == name) {
        let why = format!("Logical Volume \"{name}\" already exists in volume group \"pve\"");
        return Err(failure(format!("lvcreate 'pve/{name}' error:   {why}")));
    }
    make(storage, name, bytes)
}

fn make(storage: &str, name: &str, bytes: u64) -> Result<String> {
    fs::create_dir_all(VOLUMES)?;
    fs::File::create_new(Path::new(VOLUMES).join(name))?.set_len(bytes)?;
    Ok(format!("{storage}:{name}"))
}

/// Makes a filesystem in a volume: XFS, which grows while it is mounted without a right that a machine
/// may not have. Its log is as small as it may be, since it lies on a sparse file.
pub fn format(volume: &str) -> Result<()> {
    let path = path(volume)?;
    let options =
        ["-q", "-f", "-K", "-l", "size=8m", "-d", "agcount=2", "-m", "reflink=0,rmapbt=0"];
    // These three are how XFS' own tests make small filesystems.
    let made = program::command("mkfs.xfs")
        .envs([("TEST_DIR", "/"), ("TEST_DEV", "/"), ("QA_CHECK_FS", "1")])
        .args(options)
        .arg(&path)
        .output()?;
    match made.status.success() {
        true => Ok(()),
        false => {
            Err(failure(String::from_utf8_lossy(&made.stderr).lines().next().unwrap_or_default()))
        }
    }
}

/// Removes a volume and the snapshots of it. One that is gone already is no failure.
pub fn free(volume: &str) -> Result<()> {
    let path = path(volume)?;
    remove_if_there(&path)?;
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let marker = format!("snap_{name}_");
    for other in names_in(Path::new(VOLUMES)) {
        if other.starts_with(&marker) {
            remove_if_there(&Path::new(VOLUMES).join(other))?;
        }
    }
    Ok(())
}

/// The file that a volume's snapshot is.
pub fn snapshot_path(volume: &str, snapshot: &str) -> Result<PathBuf> {
    let path = path(volume)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(path.with_file_name(format!("snap_{name}_{snapshot}")))
}

/// Copies a volume's file, holes as holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("copying");
    program::run(
        "cp",
        &["--sparse=always".as_ref(), "--reflink=auto".as_ref(), from.as_os_str(), new.as_os_str()],
    )?;
    fs::rename(&new, to)?;
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(why.into()),
        _ => Ok(()),
    }
}

/// The volumes of `local-lvm` that belong to a guest, snapshots left out.
pub fn volumes_of(vmid: u64) -> Vec<String> {
    let marks = [format!("vm-{vmid}-"), format!("base-{vmid}-")];
    names_in(Path::new(VOLUMES))
        .into_iter()
        .filter(|name| marks.iter().any(|mark| name.starts_with(mark)))
        .map(|name| format!("local-lvm:{name}"))
        .collect()
}

/// The read-only tree that a template was extracted to.
pub fn extracted(archive: &str) -> PathBuf {
    Path::new(SANDBOX).join("templates").join(archive)
}

/// A size such as `8G`, `512M` or a plain number of bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let trimmed = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let factor: u64 = match text.strip_prefix(trimmed)? {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    let (whole, fraction) = trimmed.split_once('.').unwrap_or((trimmed, ""));
    let whole: u64 = whole.parse().ok()?;
    let places = u32::try_from(fraction.len()).ok()?;
    let part: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scaled = part.checked_mul(factor)?.checked_div(10u64.checked_pow(places)?)?;
    whole.checked_mul(factor)?.checked_add(scaled)
}

/// The bytes of a volume that is still to be made: `8` or `0.5` stands for GiB, and in a configuration that
/// is restored a size has its unit. Whole KiB, as Proxmox makes them.
pub fn wanted_size(text: &str) -> Option<u64> {
    let has_unit = text.ends_with(['K', 'M', 'G', 'T']);
    let bytes = if has_unit { parse_size(text)? } else { parse_size(&format!("{text}G"))? };
    Some(bytes & !1023)
}

/// A size as Proxmox writes it: in the largest unit that leaves no rest.
pub fn print_size(bytes: u64) -> String {
    for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}
