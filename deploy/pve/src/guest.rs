//! What a container finds in its own filesystem: its name, its network, who may log in.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::config::Config;
use crate::error::{Result, failure};
use crate::lxc::networks;
use crate::program::{run, run_with};
use crate::property::get;
use crate::task;

const BEGIN: &str = "# --- BEGIN PVE ---";
const END: &str = "# --- END PVE ---";

/// What a new container gets once: keys of its own, and who may log in as root.
pub struct Access<'a> {
    pub password: Option<&'a str>,
    pub keys: Option<&'a str>,
}

/// Prepares the root of a new container.
pub fn prepare(root: &Path, vmid: u64, config: &Config, access: &Access<'_>) -> Result<()> {
    configure(root, vmid, config)?;
    if let Some(password) = access.password {
        // On its input, so that no list of processes shows it.
        run_with(
            "chroot",
            &[root.as_os_str(), "/usr/sbin/chpasswd".as_ref()],
            format!("root:{password}\n").as_bytes(),
        )?;
    }
    if let Some(keys) = access.keys {
        let folder = root.join("root/.ssh");
        if !folder.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&folder)?;
        }
        let file = folder.join("authorized_keys");
        fs::write(&file, format!("{BEGIN}\n{}\n{END}\n", keys.trim_end()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    }
    host_keys(root)
}

fn host_keys(root: &Path) -> Result<()> {
    let folder = root.join("etc/ssh");
    if !folder.is_dir() {
        return Ok(());
    }
    for kind in ["ecdsa", "ed25519"] {
        let name = format!("ssh_host_{kind}_key");
        task::say(&format!("Creating SSH host key '{name}' - this may take some time ..."));
        let file = folder.join(&name);
        for old in [file.clone(), file.with_extension("pub")] {
            if old.exists() {
                fs::remove_file(old)?;
            }
        }
        let path = file.to_string_lossy();
        run(
            "ssh-keygen",
            &["-q", "-t", kind, "-N", "", "-C", "root@localhost", "-f", path.as_ref()],
        )?;
        let mark = run("ssh-keygen", &["-lf", path.as_ref()])?;
        task::say(&format!("done: {}", mark.split(' ').nth(1).unwrap_or_default()));
    }
    Ok(())
}

/// Writes what follows from the configuration, at creation and before each start.
pub fn configure(root: &Path, vmid: u64, config: &Config) -> Result<()> {
    if !root.join("etc").is_dir() {
        return Err(failure("unable to detect OS distribution"));
    }
    let fallback = format!("CT{vmid}");
    let full = config.get("hostname").unwrap_or(&fallback);
    let short = full.split('.').next().unwrap_or(full);
    replace(&root.join("etc/hostname"), &format!("{short}\n"))?;
    replace(&root.join("etc/hosts"), &hosts(config, full, short))?;
    if let Some(servers) = config.get("nameserver") {
        let mut text = format!("{BEGIN}\n");
        if let Some(domain) = config.get("searchdomain") {
            text.push_str(&format!("search {domain}\n"));
        }
        for server in crate::property::list(servers) {
            text.push_str(&format!("nameserver {server}\n"));
        }
        replace(&root.join("etc/resolv.conf"), &(text + END + "\n"))?;
    }
    fs::create_dir_all(root.join("etc/network"))?;
    replace(&root.join("etc/network/interfaces"), &interfaces(config))
}

/// Puts a file in the place of another, so that a link which the container laid leads nowhere.
fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("pve-new");
    fs::write(&new, text)?;
    fs::rename(new, path)?;
    Ok(())
}

fn hosts(config: &Config, full: &str, short: &str) -> String {
    let names = if full == short { short.to_owned() } else { format!("{full} {short}") };
    let address = networks(config)
        .iter()
        .find_map(|(_, parts)| Some(get(parts, "ip")?.split_once('/')?.0.to_owned()))
        .unwrap_or_else(|| "127.0.1.1".to_owned());
    format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{BEGIN}\n{address} {names}\n{END}\n"
    )
}

fn interfaces(config: &Config) -> String {
    let mut text = "auto lo\niface lo inet loopback\niface lo inet6 loopback\n".to_owned();
    for (_, parts) in networks(config) {
        let name = get(&parts, "name").unwrap_or("eth0");
        text.push_str(&format!("\nauto {name}\n"));
        for (family, address, gateway) in [("inet", "ip", "gw"), ("inet6", "ip6", "gw6")] {
            match get(&parts, address) {
                Some(value) if value.contains('/') => {
                    text.push_str(&format!("iface {name} {family} static\n\taddress {value}\n"));
                    if let Some(via) = get(&parts, gateway) {
                        text.push_str(&format!("\tgateway {via}\n"));
                    }
                }
                Some(mode) => text.push_str(&format!("iface {name} {family} {mode}\n")),
                None => {}
            }
            text.push('\n');
        }
    }
    text
}
