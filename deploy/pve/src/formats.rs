//! What a value must look like: Proxmox' types and named formats, and its words when one does not fit.

use std::net::{Ipv4Addr, Ipv6Addr};

use regex_lite::Regex;
use serde_json::Value;

use crate::property;
use crate::schema::{flag, word};

/// Proxmox' truth values; nothing for what is none.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Some(true),
        "0" | "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

/// What is wrong with a value of this name: nothing when it fits.
pub fn complaint(schema: &Value, value: &str, path: &str) -> Option<String> {
    type_complaint(schema, value)
        .or_else(|| format_complaint(schema, value, path))
        .or_else(|| pattern_complaint(schema, value))
        .or_else(|| length_complaint(schema, value))
        .or_else(|| range_complaint(schema, value))
        .or_else(|| enumeration_complaint(schema, value))
}

fn type_complaint(schema: &Value, value: &str) -> Option<String> {
    let kind = word(schema, "type");
    let fits = match kind {
        "boolean" => boolean(value).is_some(),
        "integer" => is_match(r"^[+-]?\d+$", value),
        "number" => is_match(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$", value),
        _ => true,
    };
    (!fits).then(|| format!("type check ('{kind}') failed - got '{value}'"))
}

fn length_complaint(schema: &Value, value: &str) -> Option<String> {
    let limit = |key| schema.get(key).and_then(Value::as_u64);
    let length = u64::try_from(value.chars().count()).unwrap_or(u64::MAX);
    if let Some(most) = limit("maxLength").filter(|most| length > *most) {
        return Some(format!("value may only be {most} characters long"));
    }
    let least = limit("minLength").filter(|least| length < *least)?;
    Some(format!("value must be at least {least} characters long"))
}

fn pattern_complaint(schema: &Value, value: &str) -> Option<String> {
    let pattern = schema.get("pattern")?.as_str()?;
    (!is_match(&format!("^(?:{pattern})$"), value))
        .then(|| "value does not match the regex pattern".to_owned())
}

fn range_complaint(schema: &Value, value: &str) -> Option<String> {
    let number: f64 = value.parse().ok()?;
    let limit = |key| schema.get(key).and_then(|at| Some((at, at.as_f64()?)));
    if let Some((shown, _)) = limit("minimum").filter(|(_, least)| number < *least) {
        return Some(format!("value must have a minimum value of {shown}"));
    }
    let (shown, _) = limit("maximum").filter(|(_, most)| number > *most)?;
    Some(format!("value must have a maximum value of {shown}"))
}

fn enumeration_complaint(schema: &Value, value: &str) -> Option<String> {
    let known: Vec<&str> =
        schema.get("enum")?.as_array()?.iter().filter_map(Value::as_str).collect();
    (!known.contains(&value)).then(|| {
        format!("value '{value}' does not have a value in the enumeration '{}'", known.join(", "))
    })
}

fn format_complaint(schema: &Value, value: &str, path: &str) -> Option<String> {
    match schema.get("format")? {
        Value::Object(parts) => {
            property::complaint(parts, value, path).map(|why| format!("invalid format - {why}"))
        }
        Value::String(name) => named_complaint(name, value, flag(schema, "optional")),
        _ => None,
    }
}

/// `…-list` is a list of the format before it, apart by commas, semicolons or blanks.
fn named_complaint(name: &str, value: &str, optional: bool) -> Option<String> {
    if let Some(item) = name.strip_suffix("-list") {
        return property::list(value)
            .into_iter()
            .find_map(|part| named_complaint(item, part, false));
    }
    if optional && value.is_empty() && name == "pve-startup-order" {
        return None;
    }
    let why = unfit(name, value)?;
    Some(format!("invalid format - {why}\n"))
}

/// Why a value is not of this format; nothing when it is, or when the format allows everything.
fn unfit(name: &str, value: &str) -> Option<String> {
    let (fits, what) = match name {
        "pve-vmid" => (is_match(r"^[1-9][0-9]{2,8}$", value), "VM ID"),
        "pve-node" => (is_match(r"^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$", value), "node name"),
        "pve-storage-id" => return storage_id(value),
        "pve-configid" => return config_id(value),
        "mac-addr" => (
            is_match(r"^[a-fA-F0-9][02468aceACE][:]([a-fA-F0-9]{2}:){4}[a-fA-F0-9]{2}$", value),
            "unicast MAC address",
        ),
        "ipv4" => (value.parse::<Ipv4Addr>().is_ok(), "IPv4 address"),
        "ipv6" => (value.parse::<Ipv6Addr>().is_ok(), "IPv6 address"),
        "ip" | "lxc-ip-with-ll-iface" => return nameserver(name, value),
        "pve-ipv4-config" => {
            (matches!(value, "dhcp" | "manual") || is_network4(value), "ipv4 network configuration")
        }
        "pve-ipv6-config" => (
            matches!(value, "auto" | "dhcp" | "manual") || is_network6(value),
            "ipv6 network configuration",
        ),
        "dns-name" => (is_dns_name(value), "DNS name"),
        "disk-size" => {
            return (!is_match(r"^\d+(\.\d+)?[KMGT]?$", value))
                .then(|| format!("value does not look like a valid disk size: {value}"));
        }
        "pve-volume-id" => {
            return (!is_match(r"^[a-zA-Z][a-zA-Z0-9_.\-]*[a-zA-Z0-9]:.+$", value))
                .then(|| format!("unable to parse volume ID '{value}'"));
        }
        "pve-lxc-mp-string" => (mount_point_fits(value), "mount point"),
        "pve-lxc-dev-string" => {
            (value.starts_with("/dev/") && !value.contains("/.."), "device path")
        }
        "pve-poolid" => {
            (is_match(r"^[A-Za-z0-9.\-_]+(/[A-Za-z0-9.\-_]+){0,2}$", value), "pool name")
        }
        "pve-tag" => return tag(value),
        "pve-startup-order" => {
            return (!is_match(
                r"^((order=)?\d+|up=\d+|down=\d+)(,(order=\d+|up=\d+|down=\d+))*$",
                value,
            ))
            .then(|| "unable to parse startup options".to_owned());
        }
        "IPorCIDR" | "IPorCIDRorAlias" => {
            (is_address_or_network(value, name), "IP address or CIDR network")
        }
        "pve-iface" => {
            (is_match(r"^[a-zA-Z][a-zA-Z0-9_]{1,20}([:.]\d+)?$", value), "interface name")
        }
        "pve-ct-timezone" => {
            (value == "host" || is_match(r"^[A-Za-z0-9_+/-]+$", value), "timezone")
        }
        _ => return None,
    };
    (!fits).then(|| match name {
        "pve-ct-timezone" => format!("invalid time zone '{value}'"),
        "pve-iface" => format!("invalid network interface name '{value}'"),
        "pve-poolid" => format!("pool name '{value}' contains invalid characters"),
        "pve-lxc-dev-string" => format!("{value} is not a valid device path"),
        _ => format!("value does not look like a valid {what}"),
    })
}

fn storage_id(value: &str) -> Option<String> {
    if value.len() < 2 {
        return Some(format!("storage ID '{value}' cannot be shorter than 2 characters"));
    }
    (!is_match(r"^[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]$", value))
        .then(|| format!("storage ID '{value}' contains illegal characters"))
}

fn config_id(value: &str) -> Option<String> {
    (!is_match(r"^[a-zA-Z][a-zA-Z0-9_-]+$", value))
        .then(|| format!("invalid configuration ID '{value}'"))
}

fn tag(value: &str) -> Option<String> {
    (!is_match(r"^[a-zA-Z0-9_][a-zA-Z0-9_\-+.]*$", value))
        .then(|| "invalid characters in tag".to_owned())
}

/// An address, and for a container's name server one with an interface after `%` too.
fn nameserver(name: &str, value: &str) -> Option<String> {
    let bare = value.split('%').next().filter(|_| name != "ip").unwrap_or(value);
    let fits = value == "host" && name != "ip" || bare.parse::<std::net::IpAddr>().is_ok();
    (!fits).then(|| "value does not look like a valid IP address".to_owned())
}

fn mount_point_fits(value: &str) -> bool {
    !value.is_empty() && !value.split('/').any(|part| part == "." || part == "..")
}

/// Labels of letters, digits and hyphens, as RFC 1123 has them.
pub fn is_dns_name(value: &str) -> bool {
    is_match(
        r"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$",
        value,
    )
}

fn is_network4(value: &str) -> bool {
    network(value, 32, |address| address.parse::<Ipv4Addr>().is_ok())
}

fn is_network6(value: &str) -> bool {
    network(value, 128, |address| address.parse::<Ipv6Addr>().is_ok())
}

fn network(value: &str, most: u8, is_address: impl Fn(&str) -> bool) -> bool {
    value.split_once('/').is_some_and(|(address, length)| {
        is_address(address)
            && is_match(r"^\d+$", length)
            && length.parse::<u8>().is_ok_and(|l| (1..=most).contains(&l))
    })
}

fn is_address_or_network(value: &str, name: &str) -> bool {
    value.parse::<std::net::IpAddr>().is_ok()
        || is_network4(value)
        || is_network6(value)
        || name == "IPorCIDRorAlias" && is_match(r"^((dc|guest)/)?[A-Za-z][A-Za-z0-9\-_]+$", value)
}

/// Whether a pattern of this crate or its schema matches; one that cannot be read matches nothing.
pub fn is_match(pattern: &str, value: &str) -> bool {
    Regex::new(pattern).is_ok_and(|known| known.is_match(value))
}
