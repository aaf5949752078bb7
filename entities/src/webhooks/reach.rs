//! Which addresses may be called on a tenant's behalf.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// How far webhooks reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The public internet over TLS: what tenants may name where our own network must stay theirs to
    /// guess at.
    Public,
    /// Any address, also without TLS: for tests and closed networks.
    Anywhere,
}

/// Not globally reachable, by the IANA IPv4 Special-Purpose Address Registry, and multicast.
const SPECIAL_V4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
];
/// Of the only range that is handed out (2000::/3): the IANA IPv6 Special-Purpose Address Registry's
/// protocol assignments, documentation, and 6to4, which leads to IPv4 addresses of all kinds.
const SPECIAL_V6: &[&str] = &["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

impl Reach {
    /// Whether this address may be called.
    #[must_use]
    pub fn allows(self, ip: IpAddr) -> bool {
        self == Self::Anywhere || is_public(ip)
    }
}

fn is_public(ip: IpAddr) -> bool {
    let within = |ranges: &[&str], ip: IpAddr| {
        ranges.iter().any(|range| range.parse::<IpNet>().is_ok_and(|net| net.contains(&ip)))
    };
    match ip {
        IpAddr::V4(_) => !within(SPECIAL_V4, ip),
        IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), v6.segments()) {
            (Some(v4), _) => is_public(v4.into()),
            // NAT64 (RFC 6052): the last four bytes are the IPv4 address that is called.
            (None, [0x64, 0xff9b, 0, 0, 0, 0, high, low]) => {
                let number = (u32::from(high) << 16) | u32::from(low);
                is_public(Ipv4Addr::from(number).into())
            }
            (None, [first, ..]) => first & 0xe000 == 0x2000 && !within(SPECIAL_V6, ip),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_called() {
        let inside = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "3fff::1",
            "4000::1",
        ];
        for ip in inside {
            assert!(!Reach::Public.allows(ip.parse().unwrap()), "{ip}");
            assert!(Reach::Anywhere.allows(ip.parse().unwrap()), "{ip}");
        }
        let outside = [
            "1.1.1.1",
            "9.9.9.9",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2003::1",
        ];
        for ip in outside {
            assert!(Reach::Public.allows(ip.parse().unwrap()), "{ip}");
        }
    }
}
