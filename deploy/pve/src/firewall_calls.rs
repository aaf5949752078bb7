//! The firewall's part of the API: options, sets of addresses and rules of a container.

use std::collections::btree_map::Entry;

use serde_json::{Map, Value, json};

use crate::arguments::Parameters;
use crate::error::{Result, bad_parameter, failure};
use crate::firewall::{self, Firewall, Rule};
use crate::lifecycle::vmid;
use crate::node::Node;
use crate::property;

const CALL_ONLY: &[&str] =
    &["node", "vmid", "delete", "digest", "pos", "moveto", "name", "cidr", "rename"];

/// The options of a container's firewall, or of the datacenter's.
pub fn options(vmid: Option<u64>) -> Value {
    let known = firewall::load(vmid);
    Value::Object(known.options.iter().map(|(name, value)| (name.clone(), typed(value))).collect())
}

fn typed(value: &str) -> Value {
    value.parse::<i64>().map_or_else(|_| json!(value), |number| json!(number))
}

/// Sets options.
pub fn set_options(node: &Node, vmid: Option<u64>, parameters: &Parameters) -> Result<Value> {
    let mut known = firewall::load(vmid);
    for name in property::list(parameters.get("delete").unwrap_or_default()) {
        known.options.remove(name);
    }
    for (name, value) in parameters.iter().filter(|(name, _)| !CALL_ONLY.contains(name)) {
        known.options.insert(name.to_owned(), value.to_owned());
    }
    firewall::store(node, vmid, &known)?;
    Ok(Value::Null)
}

/// Whatever is read below `/nodes/{node}/lxc/{vmid}/firewall`.
pub fn get(rest: &str, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let known = firewall::load(Some(vmid));
    match rest {
        "/{vmid}/firewall/options" => Ok(options(Some(vmid))),
        "/{vmid}/firewall/ipset" => Ok(known
            .sets
            .iter()
            .map(|(name, (comment, _))| with_comment(json!({"name": name, "digest": ""}), comment))
            .collect()),
        "/{vmid}/firewall/ipset/{name}" => {
            let (_, entries) = set(&known, parameters)?;
            Ok(entries.iter().map(|(entry, comment)| entry_row(entry, comment)).collect())
        }
        "/{vmid}/firewall/ipset/{name}/{cidr}" => {
            let (_, entries) = set(&known, parameters)?;
            let cidr = parameters.need("cidr")?;
            let found = entries.iter().find(|(entry, _)| entry.trim_start_matches('!') == cidr);
            found
                .map(|(entry, comment)| entry_row(entry, comment))
                .ok_or_else(|| bad_parameter("cidr", format!("'{cidr}' does not exist in IPSet")))
        }
        "/{vmid}/firewall/rules" => {
            Ok(known.rules.iter().enumerate().map(|(pos, rule)| rule_row(pos, rule)).collect())
        }
        "/{vmid}/firewall/rules/{pos}" => {
            let pos = position(parameters)?;
            known
                .rules
                .get(pos)
                .map(|rule| rule_row(pos, rule))
                .ok_or_else(|| failure(format!("no rule at position {pos}")))
        }
        _ => Err(failure(format!("no such resource '{rest}'"))),
    }
}

fn with_comment(mut row: Value, comment: &str) -> Value {
    if let Some(map) = row.as_object_mut().filter(|_| !comment.is_empty()) {
        map.insert("comment".to_owned(), json!(comment));
    }
    row
}

fn entry_row(entry: &str, comment: &str) -> Value {
    let mut row = json!({"cidr": entry.trim_start_matches('!'), "digest": ""});
    if let Some(map) = row.as_object_mut().filter(|_| entry.starts_with('!')) {
        map.insert("nomatch".to_owned(), json!(1));
    }
    with_comment(row, comment)
}

fn rule_row(pos: usize, rule: &Rule) -> Value {
    let mut map: Map<String, Value> =
        rule.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    map.insert("pos".to_owned(), json!(pos));
    map.insert("enable".to_owned(), json!(u8::from(rule.get("enable").is_some_and(|v| v == "1"))));
    Value::Object(map)
}

fn position(parameters: &Parameters) -> Result<usize> {
    let pos = parameters.number("pos").unwrap_or_default();
    usize::try_from(pos).map_err(|why| bad_parameter("pos", why.to_string()))
}

type Set = (String, Vec<(String, String)>);

fn set<'a>(known: &'a Firewall, parameters: &Parameters) -> Result<&'a Set> {
    let name = parameters.need("name")?;
    known.sets.get(&name.to_ascii_lowercase()).ok_or_else(|| no_set(name))
}

fn no_set(name: &str) -> crate::error::Failure {
    failure(format!("no such IPSet '{name}'"))
}

/// Whatever is changed below `/nodes/{node}/lxc/{vmid}/firewall`.
pub fn change(node: &Node, (method, rest): (&str, &str), parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let _own = crate::lock::take(
        &format!("/run/lock/lxc/pve-firewall-{vmid}.lock"),
        std::time::Duration::from_secs(10),
    )?;
    let mut known = firewall::load(Some(vmid));
    match (method, rest.trim_start_matches("/{vmid}/firewall")) {
        ("PUT", "/options") => return set_options(node, Some(vmid), parameters),
        ("POST", "/ipset") => add_set(&mut known, parameters)?,
        ("DELETE", "/ipset/{name}") => remove_set(&mut known, parameters)?,
        ("POST", "/ipset/{name}") => add_entry(&mut known, parameters)?,
        ("PUT", "/ipset/{name}/{cidr}") => {
            remove_entry(&mut known, parameters)?;
            add_entry(&mut known, parameters)?;
        }
        ("DELETE", "/ipset/{name}/{cidr}") => remove_entry(&mut known, parameters)?,
        ("POST", "/rules") => add_rule(&mut known, parameters)?,
        ("PUT", "/rules/{pos}") => change_rule(&mut known, parameters)?,
        ("DELETE", "/rules/{pos}") => {
            let pos = position(parameters)?;
            if pos >= known.rules.len() {
                return Err(failure(format!("no rule at position {pos}")));
            }
            known.rules.remove(pos);
        }
        _ => return Err(failure(format!("no such resource '{rest}'"))),
    }
    firewall::store(node, Some(vmid), &known)?;
    Ok(Value::Null)
}

fn add_set(known: &mut Firewall, parameters: &Parameters) -> Result<()> {
    let name = parameters.need("name")?.to_ascii_lowercase();
    let comment = parameters.get("comment").unwrap_or_default().to_owned();
    if let Some(old) = parameters.get("rename") {
        let entries = known.sets.remove(&old.to_ascii_lowercase()).ok_or_else(|| no_set(old))?.1;
        known.sets.insert(name, (comment, entries));
        return Ok(());
    }
    match known.sets.entry(name) {
        Entry::Occupied(taken) => {
            return Err(bad_parameter("name", format!("IPSet '{}' already exists", taken.key())));
        }
        Entry::Vacant(free) => free.insert((comment, Vec::new())),
    };
    Ok(())
}

fn remove_set(known: &mut Firewall, parameters: &Parameters) -> Result<()> {
    let name = parameters.need("name")?;
    if let Ok((_, entries)) = set(known, parameters)
        && !entries.is_empty()
        && !parameters.is_set("force")
    {
        return Err(failure(format!("IPSet '{name}' is not empty")));
    }
    known.sets.remove(&name.to_ascii_lowercase());
    Ok(())
}

fn add_entry(known: &mut Firewall, parameters: &Parameters) -> Result<()> {
    let cidr = parameters.need("cidr")?.to_owned();
    let name = parameters.need("name")?.to_ascii_lowercase();
    let (_, entries) = known.sets.get_mut(&name).ok_or_else(|| no_set(&name))?;
    if entries.iter().any(|(entry, _)| entry.trim_start_matches('!') == cidr) {
        return Err(bad_parameter("cidr", format!("address '{cidr}' already exists")));
    }
    let mark = if parameters.is_set("nomatch") { "!" } else { "" };
    entries
        .push((format!("{mark}{cidr}"), parameters.get("comment").unwrap_or_default().to_owned()));
    Ok(())
}

/// An entry that is not there is gone already.
fn remove_entry(known: &mut Firewall, parameters: &Parameters) -> Result<()> {
    let cidr = parameters.need("cidr")?.to_owned();
    let name = parameters.need("name")?.to_ascii_lowercase();
    let (_, entries) = known.sets.get_mut(&name).ok_or_else(|| no_set(&name))?;
    entries.retain(|(entry, _)| entry.trim_start_matches('!') != cidr);
    Ok(())
}

fn given_rule(parameters: &Parameters, rule: &mut Rule) {
    for name in property::list(parameters.get("delete").unwrap_or_default()) {
        rule.remove(name);
    }
    for (name, value) in parameters.iter().filter(|(name, _)| !CALL_ONLY.contains(name)) {
        rule.insert(name.to_owned(), value.to_owned());
    }
}

/// New rules go before the others, switched off unless told otherwise.
fn add_rule(known: &mut Firewall, parameters: &Parameters) -> Result<()> {
    let mut rule = Rule::new();
    rule.insert("enable".to_owned(), "0".to_owned());
    given_rule(parameters, &mut rule);
    let pos = if parameters.get("pos").is_some() {
        position(parameters)?.min(known.rules.len())
    } else {
        0
    };
    known.rules.insert(pos, rule);
    Ok(())
}

fn change_rule(known: &mut Firewall, parameters: &Parameters) -> Result<()> {
    let pos = position(parameters)?;
    let Some(mut rule) = known.rules.get(pos).cloned() else {
        return Err(failure(format!("no rule at position {pos}")));
    };
    given_rule(parameters, &mut rule);
    known.rules.remove(pos);
    let to = parameters.number("moveto").and_then(|to| usize::try_from(to).ok()).unwrap_or(pos);
    known.rules.insert(to.min(known.rules.len()), rule);
    Ok(())
}
