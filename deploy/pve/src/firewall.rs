//! Proxmox' firewall for containers: its files under `/etc/pve/firewall`, and what the kernel does by
//! them on the bridge. A card is filtered when the datacenter's firewall, the container's and the
//! card's own `firewall=1` are all on.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::config::{self, Config};
use crate::container;
use crate::error::Result;
use crate::lock;
use crate::lxc::{networks, veth};
use crate::node::Node;
use crate::program::run_with;
use crate::property::{self, get};

const FOLDER: &str = "/etc/pve/firewall";

/// One rule, by the names that the API gives its parts; `type` and `action` are always there.
pub type Rule = BTreeMap<String, String>;

/// What stands in a file such as `/etc/pve/firewall/101.fw`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firewall {
    pub options: BTreeMap<String, String>,
    /// Each set of addresses with its comment, and the entries with theirs; `!` before one excepts it.
    pub sets: BTreeMap<String, (String, Vec<(String, String)>)>,
    pub rules: Vec<Rule>,
}

const RULE_OPTIONS: &[(&str, &str)] = &[
    ("iface", "-i"),
    ("source", "-source"),
    ("dest", "-dest"),
    ("proto", "-p"),
    ("dport", "-dport"),
    ("sport", "-sport"),
    ("log", "-log"),
    ("icmp-type", "-icmp-type"),
];

impl Firewall {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Firewall {
        let mut firewall = Firewall::default();
        let mut section = String::new();
        for line in text.lines() {
            let (words, comment) = match line.split_once('#') {
                Some((words, comment)) => (words.trim(), comment.trim()),
                None => (line.trim(), ""),
            };
            if let Some((name, _)) = words.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                section = name.to_ascii_lowercase();
                if let Some(set) = section.strip_prefix("ipset ") {
                    firewall.sets.insert(set.trim().to_owned(), (comment.to_owned(), Vec::new()));
                }
            } else if !words.is_empty() {
                firewall.take_line(&section, words, comment);
            }
        }
        firewall
    }

    fn take_line(&mut self, section: &str, words: &str, comment: &str) {
        if section == "options" {
            if let Some((name, value)) = words.split_once(':') {
                self.options.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        } else if section == "rules" {
            self.rules.extend(parse_rule(words, comment));
        } else if let Some((_, entries)) =
            section.strip_prefix("ipset ").and_then(|name| self.sets.get_mut(name.trim()))
        {
            entries.push((words.replace(' ', ""), comment.to_owned()));
        }
    }

    /// The text of the file.
    pub fn print(&self) -> String {
        let mut text = String::new();
        if !self.options.is_empty() {
            text.push_str("[OPTIONS]\n\n");
            for (name, value) in &self.options {
                text.push_str(&format!("{name}: {value}\n"));
            }
            text.push('\n');
        }
        for (name, (comment, entries)) in &self.sets {
            text.push_str(&format!("[IPSET {name}]{}\n\n", with_hash(comment)));
            for (entry, comment) in entries {
                text.push_str(&format!("{entry}{}\n", with_hash(comment)));
            }
            text.push('\n');
        }
        if !self.rules.is_empty() {
            text.push_str("[RULES]\n\n");
            for rule in &self.rules {
                text.push_str(&print_rule(rule));
            }
            text.push('\n');
        }
        text
    }

    /// Whether an option is on; what is not written has Proxmox' default.
    pub fn is_on(&self, option: &str, default: bool) -> bool {
        self.options.get(option).map_or(default, |value| value == "1")
    }
}

fn with_hash(comment: &str) -> String {
    if comment.is_empty() { String::new() } else { format!(" # {comment}") }
}

fn parse_rule(words: &str, comment: &str) -> Option<Rule> {
    let mut rule = Rule::new();
    let enabled = !words.starts_with('|');
    let mut input = words.trim_start_matches('|').split_whitespace().peekable();
    let kind = input.next()?.to_ascii_lowercase();
    rule.insert("type".to_owned(), kind);
    let action = input.next()?;
    match action.split_once('(') {
        Some((name, rest)) => {
            rule.insert("macro".to_owned(), name.to_owned());
            rule.insert("action".to_owned(), rest.trim_end_matches(')').to_owned());
        }
        None => {
            rule.insert("action".to_owned(), action.to_owned());
        }
    }
    while let Some(flag) = input.next() {
        let (name, _) = RULE_OPTIONS.iter().find(|(_, short)| *short == flag)?;
        rule.insert((*name).to_owned(), input.next()?.to_owned());
    }
    rule.insert("enable".to_owned(), u8::from(enabled).to_string());
    if !comment.is_empty() {
        rule.insert("comment".to_owned(), comment.to_owned());
    }
    Some(rule)
}

fn print_rule(rule: &Rule) -> String {
    let word = |name: &str| rule.get(name).map(String::as_str).unwrap_or_default();
    let mut text = if word("enable") == "1" { String::new() } else { "|".to_owned() };
    text.push_str(&word("type").to_ascii_uppercase());
    match word("macro") {
        "" => text.push_str(&format!(" {}", word("action"))),
        name => text.push_str(&format!(" {name}({})", word("action"))),
    }
    for (name, short) in RULE_OPTIONS {
        if let Some(value) = rule.get(*name) {
            text.push_str(&format!(" {short} {value}"));
        }
    }
    format!("{text}{}\n", with_hash(word("comment")))
}

/// The file of a container, or of the datacenter.
pub fn path(vmid: Option<u64>) -> PathBuf {
    PathBuf::from(FOLDER).join(vmid.map_or("cluster.fw".to_owned(), |vmid| format!("{vmid}.fw")))
}

/// Reads a firewall; what has no file has an empty one.
pub fn load(vmid: Option<u64>) -> Firewall {
    Firewall::parse(&fs::read_to_string(path(vmid)).unwrap_or_default())
}

/// Writes a firewall, and lets the kernel follow it.
pub fn store(node: &Node, vmid: Option<u64>, firewall: &Firewall) -> Result<()> {
    fs::create_dir_all(FOLDER)?;
    let path = path(vmid);
    let new = path.with_extension(format!("tmp.{}", std::process::id()));
    fs::write(&new, firewall.print())?;
    fs::rename(&new, &path)?;
    apply(node)
}

/// Forgets a container's firewall.
pub fn remove(vmid: u64) -> Result<()> {
    match fs::remove_file(path(Some(vmid))) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(why.into()),
        _ => Ok(()),
    }
}

/// Lets the kernel follow the firewall of a container that has just started.
pub fn apply_container(node: &Node, vmid: u64, config: &Config) -> Result<()> {
    let filtered = networks(config).iter().any(|(_, parts)| get(parts, "firewall") == Some("1"));
    if filtered && path(Some(vmid)).exists() { apply(node) } else { Ok(()) }
}

/// Gives the kernel the rules of all containers that run here, in one step.
pub fn apply(node: &Node) -> Result<()> {
    let _lock = lock::take("/run/lock/lxc/pve-firewall.lock", std::time::Duration::from_secs(30))?;
    let mut rules = Rules::default();
    if load(None).is_on("enable", false) {
        for vmid in container::running() {
            let Ok(config) = config::load(&node.name, vmid) else { continue };
            let firewall = load(Some(vmid));
            if !firewall.is_on("enable", false) {
                continue;
            }
            for (index, parts) in networks(&config) {
                if get(&parts, "firewall") == Some("1") {
                    rules.add_card(&firewall, (vmid, index), &parts);
                }
            }
        }
    }
    run_with("nft", &["-f", "-"], rules.print().as_bytes())?;
    Ok(())
}

#[derive(Default)]
struct Rules {
    from: String,
    to: String,
}

impl Rules {
    fn print(&self) -> String {
        format!(
            "table bridge pve\ndelete table bridge pve\ntable bridge pve {{\n\
             chain from-guests {{ type filter hook prerouting priority -200; policy accept;\n{}}}\n\
             chain to-guests {{ type filter hook postrouting priority 200; policy accept;\n{}}}\n}}\n",
            self.from, self.to
        )
    }

    fn add_card(
        &mut self,
        firewall: &Firewall,
        (vmid, index): (u64, u64),
        parts: &property::Parts,
    ) {
        let card = veth(vmid, index);
        let hardware = get(parts, "hwaddr").unwrap_or("00:00:00:00:00:00");
        if firewall.is_on("macfilter", true) {
            self.from.push_str(&format!("iifname {card} ether saddr != {hardware} drop\n"));
        }
        let set = firewall.sets.get(&format!("ipfilter-net{index}"));
        if firewall.is_on("ipfilter", false) || set.is_some() {
            self.add_address_filter(&card, &addresses(parts, set, hardware));
        }
        self.add_rules(firewall, &card);
    }

    fn add_address_filter(&mut self, card: &str, addresses: &[String]) {
        let (six, four): (Vec<&str>, Vec<&str>) =
            addresses.iter().map(String::as_str).partition(|a| a.contains(':'));
        let four = if four.is_empty() { "0.0.0.0".to_owned() } else { four.join(", ") };
        let from = &mut self.from;
        from.push_str(&format!("iifname {card} ether type ip ip saddr != {{ {four} }} drop\n"));
        from.push_str(&format!(
            "iifname {card} ether type arp arp saddr ip != {{ {four}, 0.0.0.0 }} drop\n"
        ));
        from.push_str(&format!(
            "iifname {card} ether type ip6 ip6 saddr != {{ {}, :: }} drop\n",
            six.join(", ")
        ));
    }

    /// The rules for what comes in. A packet that belongs to something the container began is known by
    /// not being the first of its kind: the bridge keeps no track of connections.
    fn add_rules(&mut self, firewall: &Firewall, card: &str) {
        let to = &mut self.to;
        to.push_str(&format!("oifname {card} ether type arp accept\n"));
        to.push_str(&format!(
            "oifname {card} ether type ip6 icmpv6 type {{ 133, 134, 135, 136 }} accept\n"
        ));
        for rule in
            firewall.rules.iter().filter(|rule| rule.get("enable").is_some_and(|v| v == "1"))
        {
            if rule.get("type").is_some_and(|kind| kind == "in") {
                to.push_str(&incoming(card, rule));
            }
        }
        let policy = firewall.options.get("policy_in").map_or("DROP", String::as_str);
        if policy != "ACCEPT" {
            to.push_str(&format!("oifname {card} tcp flags & (syn | ack) != syn accept\n"));
            to.push_str(&format!("oifname {card} udp sport {{ 53, 123 }} accept\n"));
            to.push_str(&format!("oifname {card} icmp type {{ 0, 3, 11 }} accept\n"));
            to.push_str(&format!("oifname {card} icmpv6 type {{ 1, 2, 3, 4, 129 }} accept\n"));
            to.push_str(&format!("oifname {card} drop\n"));
        }
    }
}

/// What a card may send from: its own addresses, the link-local one that follows from its hardware
/// address, and those of its set.
fn addresses(
    parts: &property::Parts,
    set: Option<&(String, Vec<(String, String)>)>,
    hardware: &str,
) -> Vec<String> {
    let own = ["ip", "ip6"]
        .into_iter()
        .filter_map(|key| Some(get(parts, key)?.split_once('/')?.0.to_owned()));
    let allowed = set
        .into_iter()
        .flat_map(|(_, entries)| entries)
        .filter(|(entry, _)| {
            !entry.starts_with('!') && !entry.contains("dc/") && !entry.contains("guest/")
        })
        .map(|(entry, _)| entry.clone());
    own.chain(link_local(hardware)).chain(allowed).collect()
}

/// The IPv6 address that a card gives itself (RFC 4291, appendix A).
pub fn link_local(hardware: &str) -> Option<String> {
    let bytes: Vec<u8> =
        hardware.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let [a, b, c, d, e, f] = bytes.try_into().ok()?;
    Some(format!(
        "fe80::{:x}:{:x}:{:x}:{:x}",
        u16::from_be_bytes([a ^ 2, b]),
        u16::from_be_bytes([c, 0xff]),
        u16::from_be_bytes([0xfe, d]),
        u16::from_be_bytes([e, f])
    ))
}

fn incoming(card: &str, rule: &Rule) -> String {
    let word = |name: &str| rule.get(name).map(String::as_str);
    let mut text = format!("oifname {card}");
    for (name, key) in [("source", "saddr"), ("dest", "daddr")] {
        if let Some(value) = word(name) {
            let family = if value.contains(':') { "ip6" } else { "ip" };
            text.push_str(&format!(" {family} {key} {{ {value} }}"));
        }
    }
    let (proto, port) = match word("macro").map(str::to_ascii_lowercase).as_deref() {
        Some("ssh") => (Some("tcp"), Some("22")),
        Some("http") => (Some("tcp"), Some("80")),
        Some("https") => (Some("tcp"), Some("443")),
        Some("ping") => (Some("icmp"), None),
        _ => (word("proto"), word("dport")),
    };
    match (proto, port) {
        (Some(proto @ ("tcp" | "udp")), Some(port)) => {
            text.push_str(&format!(" {proto} dport {{ {} }}", port.replace(':', "-")));
        }
        (Some("icmp"), _) => text.push_str(" ip protocol icmp"),
        (Some(proto), _) => text.push_str(&format!(" meta l4proto {proto}")),
        _ => {}
    }
    let verdict = if word("action") == Some("ACCEPT") { "accept" } else { "drop" };
    format!("{text} {verdict}\n")
}
