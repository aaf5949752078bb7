//! Where a request comes from, as far as the proxies before this service are to be believed.

use crate::state::State;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, web};
use entities::tenancy::Origin;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The caller's end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// IPv4 is never written as IPv6.
    pub ip: IpAddr,
    /// Whether the caller came by https: to a proxy, since this service itself speaks http only.
    pub is_https: bool,
    /// Whether a proxy of ours has said so.
    pub is_proxied: bool,
}

/// Who is at the other end.
#[must_use]
pub fn client(request: &HttpRequest) -> Option<Client> {
    let peer = request.peer_addr().as_ref().map(SocketAddr::ip)?;
    let state = request.app_data::<web::Data<State>>();
    let trusted = state.map_or(&[][..], |state| &state.edge.trusted_proxies);
    Some(find(peer, trusted, request.headers()))
}

/// Where a request comes from, for the audit trail. A user agent is whatever the caller says, cut at
/// 300 characters.
#[must_use]
pub fn origin(request: &HttpRequest) -> Origin {
    let agent = request.headers().get("user-agent").and_then(|v| v.to_str().ok());
    Origin {
        ip: client(request).map(|client| client.ip.to_string()),
        user_agent: agent.map(|text| text.chars().take(300).collect()),
    }
}

/// Only what trusted proxies have written is believed: each appends the address that it saw, so that
/// the right-most one which is no proxy of ours is the caller, and all before it are the caller's
/// own words.
fn find(peer: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> Client {
    let peer = peer.to_canonical();
    let is_ours = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
    if !is_ours(&peer) {
        return Client { ip: peer, is_https: false, is_proxied: false };
    }
    let said: Vec<&str> = values(headers, "x-forwarded-for");
    let mut ip = peer;
    for text in said.iter().rev() {
        let Some(before) = address(text) else { break };
        ip = before;
        if !is_ours(&ip) {
            break;
        }
    }
    let scheme = values(headers, "x-forwarded-proto").last().copied();
    Client {
        ip,
        is_https: scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        is_proxied: scheme.is_some(),
    }
}

/// All values of a header that may come as a list, several times, or both. What is no text reads as
/// nothing, which is no address.
fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> Vec<&'a str> {
    let lines = headers.get_all(name).map(|value| value.to_str().unwrap_or_default());
    lines.flat_map(|line| line.split(',')).map(str::trim).collect()
}

/// An address, with a port or without.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok();
    let ip = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn seen(peer: &str, lines: &[(&'static str, &'static str)]) -> (String, bool) {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "2001:db8:1::/48", "::1/128"].map(|n| n.parse().unwrap()).to_vec();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let client = find(peer.parse().unwrap(), &trusted, &headers);
        (client.ip.to_string(), client.is_https)
    }

    const FOR: &str = "x-forwarded-for";
    const PROTO: &str = "x-forwarded-proto";

    #[test]
    fn a_stranger_is_not_believed() {
        let spoofed = [(FOR, "10.1.1.1, 198.51.100.1"), (PROTO, "https")];
        assert_eq!(seen("203.0.113.9", &spoofed), ("203.0.113.9".to_owned(), false));
        assert_eq!(seen("2001:db8:2::1", &spoofed), ("2001:db8:2::1".to_owned(), false));
        assert_eq!(seen("::ffff:203.0.113.9", &spoofed), ("203.0.113.9".to_owned(), false));
    }

    #[test]
    fn the_right_most_address_that_is_no_proxy_of_ours_is_the_callers() {
        let ip = |said| seen("10.0.0.1", &[(FOR, said)]).0;
        assert_eq!(ip("198.51.100.1"), "198.51.100.1");
        assert_eq!(ip("1.2.3.4, 198.51.100.1"), "198.51.100.1");
        assert_eq!(ip("1.2.3.4, 198.51.100.1, 10.9.9.9,10.8.8.8"), "198.51.100.1");
        assert_eq!(ip("10.7.7.7, 10.8.8.8"), "10.7.7.7");
        assert_eq!(ip("2001:db8:9::5"), "2001:db8:9::5");
        assert_eq!(ip("[2001:db8:9::5]:4711, 2001:db8:1::2"), "2001:db8:9::5");
        assert_eq!(ip("::ffff:198.51.100.7"), "198.51.100.7");
        assert_eq!(ip("198.51.100.7:55"), "198.51.100.7");
    }

    #[test]
    fn what_is_no_address_ends_the_chain() {
        let ip = |said| seen("::ffff:10.0.0.1", &[(FOR, said)]).0;
        assert_eq!(ip("198.51.100.1, unknown"), "10.0.0.1");
        assert_eq!(ip("198.51.100.1, , 10.2.2.2"), "10.2.2.2");
        assert_eq!(ip(""), "10.0.0.1");
    }

    #[test]
    fn headers_that_come_twice_are_one_list() {
        let twice = [(FOR, "1.2.3.4"), (FOR, "198.51.100.1"), (PROTO, "https"), (PROTO, "http")];
        assert_eq!(seen("::1", &twice), ("198.51.100.1".to_owned(), false));
        assert_eq!(seen("::1", &[(PROTO, "HTTPS")]), ("::1".to_owned(), true));
    }
}
