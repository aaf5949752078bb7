//! The templates that Proxmox offers for download, and those that are here.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::arguments::Parameters;
use crate::error::{Result, bad_parameter};
use crate::node::{Node, names_in};
use crate::storage::{LOCAL, find};
use crate::task;

/// Where the sandbox keeps what can be downloaded.
const OFFERED: &str = "/run/pve-sandbox/offered";

/// `GET /nodes/{node}/aplinfo`.
pub fn offered() -> Value {
    names_in(Path::new(OFFERED)).iter().map(|name| row(name)).collect()
}

fn row(name: &str) -> Value {
    let (package, rest) = name.split_once('_').unwrap_or((name, ""));
    json!({"template": name, "package": package, "version": rest.split('_').next().unwrap_or_default(), "section": "system",
        "type": "lxc", "os": "debian-12", "source": "http://download.proxmox.com/images", "location": "", "infopage": "",
        "maintainer": "", "headline": "Debian 12 Bookworm (standard)", "description": "", "architecture": "amd64"})
}

/// `POST /nodes/{node}/aplinfo`: puts an offered template where containers are made from.
pub fn download(node: &Node, parameters: &Parameters) -> Result<Value> {
    let name = parameters.need("template")?.to_owned();
    let place = find(parameters.need("storage")?)?;
    if !place.takes("vztmpl") {
        let why =
            format!("cannot download to storage '{}': it does not hold templates", place.name);
        return Err(bad_parameter("storage", why));
    }
    let from = Path::new(OFFERED).join(&name);
    if !names_in(Path::new(OFFERED)).contains(&name) {
        return Err(bad_parameter("template", "no such template"));
    }
    let upid = task::run(node, "download", &name.clone(), || {
        let folder = Path::new(LOCAL).join("template/cache");
        if folder.join(&name).exists() {
            task::say("OK, got correct file already");
            return Ok(());
        }
        fs::create_dir_all(&folder)?;
        let part = folder.join(format!("{name}.part"));
        fs::copy(&from, &part)?;
        fs::rename(part, folder.join(&name))?;
        task::say(&format!("downloaded template '{name}'"));
        Ok(())
    })?;
    Ok(Value::String(upid))
}
