//! A container's configuration file, as Proxmox reads and writes it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use sha1::{Digest, Sha1};

use crate::error::{Result, failure};
use crate::node::Node;

/// The values of a configuration or of one of its sections, by name.
pub type Values = BTreeMap<String, String>;

/// What stands in a file such as `/etc/pve/nodes/pve1/lxc/101.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    pub values: Values,
    /// Raw lines for LXC, in their order.
    pub raw: Vec<(String, String)>,
    /// What waits for the next start; `delete` names what is to go.
    pub pending: Values,
    pub snapshots: BTreeMap<String, Values>,
}

impl Config {
    /// Reads the text of a file. Lines that are none are left out, as Proxmox does with a warning.
    pub fn parse(text: &str) -> Config {
        let mut config = Config::default();
        let mut section = String::new();
        for line in text.lines() {
            let trimmed = line.trim();
            if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
                if section != "pve:pending" {
                    config.snapshots.entry(section.clone()).or_default();
                }
                continue;
            }
            config.take_line(&section, line);
        }
        config
    }

    fn take_line(&mut self, section: &str, line: &str) {
        if let Some(words) = line.strip_prefix('#') {
            let old = self.section(section).entry("description".to_owned()).or_default();
            old.push_str(&decode_text(words));
            old.push('\n');
        } else if let Some((name, value)) = line.split_once(':') {
            let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
            if name.starts_with("lxc.") && section.is_empty() {
                self.raw.push((name, value));
            } else if !name.is_empty() && !name.contains(' ') {
                self.section(section).insert(name, value);
            }
        }
    }

    fn section(&mut self, name: &str) -> &mut Values {
        match name {
            "" => &mut self.values,
            "pve:pending" => &mut self.pending,
            _ => self.snapshots.entry(name.to_owned()).or_default(),
        }
    }

    /// The text of the file.
    pub fn print(&self) -> String {
        let mut text = print_values(&self.values);
        for (name, value) in &self.raw {
            text.push_str(&format!("{name}: {value}\n"));
        }
        if !self.pending.is_empty() {
            text.push_str(&format!("\n[pve:pending]\n{}", print_values(&self.pending)));
        }
        for (name, values) in &self.snapshots {
            text.push_str(&format!("\n[{name}]\n{}", print_values(values)));
        }
        text
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.values.insert(key.to_owned(), value.into());
    }

    /// Whether a flag is set.
    pub fn is_set(&self, key: &str) -> bool {
        self.get(key) == Some("1")
    }

    /// A whole number, or what Proxmox assumes.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        self.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// The digest that guards against changes in between.
    pub fn digest(&self) -> String {
        hex::encode(Sha1::digest(self.print().as_bytes()))
    }

    /// Refuses while an operation holds the container.
    pub fn check_lock(&self) -> Result<()> {
        match self.get("lock") {
            Some(lock) => Err(failure(format!("CT is locked ({lock})"))),
            None => Ok(()),
        }
    }
}

fn print_values(values: &Values) -> String {
    let mut text = String::new();
    if let Some(description) = values.get("description") {
        for line in description.trim_end_matches('\n').split('\n') {
            text.push_str(&format!("#{}\n", encode_text(line)));
        }
    }
    for (name, value) in values.iter().filter(|(name, _)| *name != "description") {
        text.push_str(&format!("{name}: {value}\n"));
    }
    text
}

/// Writes control characters, colons and all that is not ASCII as `%XX`.
pub fn encode_text(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' '..=b'9' | b';'..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The reverse of [`encode_text`].
pub fn decode_text(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.first_chunk::<2>().filter(|_| *first == b'%').and_then(|digits| {
            let mut byte = [0];
            hex::decode_to_slice(digits, &mut byte).ok()?;
            byte.first().copied()
        });
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The file of a container on a node.
pub fn path(node: &str, vmid: u64) -> PathBuf {
    Node::configs(node).join(format!("{vmid}.conf"))
}

/// Reads a container's configuration.
pub fn load(node: &str, vmid: u64) -> Result<Config> {
    match fs::read_to_string(path(node, vmid)) {
        Ok(text) => Ok(Config::parse(&text)),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Err(failure(format!(
            "Configuration file 'nodes/{node}/lxc/{vmid}.conf' does not exist"
        ))),
        Err(why) => Err(why.into()),
    }
}

/// Writes a container's configuration, whole or not at all.
pub fn store(node: &str, vmid: u64, config: &Config) -> Result<()> {
    let path = path(node, vmid);
    let new = path.with_extension(format!("conf.tmp.{}", std::process::id()));
    let mut file = fs::File::create(&new)?;
    file.write_all(config.print().as_bytes())?;
    fs::rename(&new, &path)?;
    Ok(())
}

/// Removes a container's configuration.
pub fn remove(node: &str, vmid: u64) -> Result<()> {
    fs::remove_file(path(node, vmid))?;
    Ok(())
}
