//! Zones out of chance, which pass every check.

use proptest::prelude::*;
use std::collections::BTreeMap;
use values::DomainName;
use zonefile::{Draft, RecordSet, Soa, check_set, check_zone};

pub fn zone() -> DomainName {
    DomainName::parse("x.example").unwrap()
}

pub fn soa() -> Soa {
    Soa {
        primary: "host1.x.example.".to_owned(),
        hostmaster: "john\\.doe.x.example.".to_owned(),
        serial: 2_026_010_100,
        refresh: 3600,
        retry: 900,
        expire: 1_209_600,
        minimum: 300,
        ttl: 3600,
    }
}

/// Checks a set that must be right.
pub fn set(name: &str, rtype: &str, ttl: u32, records: &[String]) -> RecordSet {
    let draft = Draft { name, rtype, ttl, records };
    check_set(&zone(), &draft).unwrap_or_else(|p| panic!("{name} {rtype} {records:?}: {p:?}"))
}

fn hex(octets: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<u8>(), octets)
        .prop_map(|bytes| bytes.iter().map(|b| format!("{b:02X}")).collect())
}

/// A string in quotes, as a person may write it: escaped or not.
fn quoted(most: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec((any::<u8>(), any::<bool>()), 0..most).prop_map(|octets| {
        let each = |(byte, escaped): (u8, bool)| match byte {
            b'"' | b'\\' => format!("\\{}", char::from(byte)),
            0x20..=0x7e if !escaped => char::from(byte).to_string(),
            _ => format!("\\{byte:03}"),
        };
        format!("\"{}\"", octets.into_iter().map(each).collect::<String>())
    })
}

fn base64() -> impl Strategy<Value = String> {
    "([A-Za-z0-9+/]{4}){1,40}"
}

/// Hosts that exist: `host1` has addresses in every zone that is made here.
fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("host1".to_owned()),
        Just("Host1.X.example.".to_owned()),
        "[a-z][a-z0-9-]{0,9}[a-z0-9]\\.elsewhere\\.test\\.",
    ]
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        host(),
        "[a-z0-9_/-]{1,20}\\.elsewhere\\.test\\.",
        Just("*.elsewhere.test.".to_owned()),
        Just("bücher.elsewhere.test.".to_owned()),
    ]
}

/// Names that stand for other things than hosts.
fn label() -> impl Strategy<Value = String> {
    prop_oneof![
        target(),
        "[a-z0-9_*/+=@$!~-]{1,20}\\.elsewhere\\.test\\.",
        Just("we\\.ird\\032\\255\\\\one.elsewhere.test.".to_owned()),
        Just(".".to_owned()),
    ]
}

fn binding() -> impl Strategy<Value = String> {
    let params = (
        proptest::option::of("alpn=(h2|h3|http/1\\.1)(,x[a-z0-9.]{1,6})?"),
        proptest::option::of((0..=u16::MAX).prop_map(|p| format!("port={p}"))),
        proptest::option::of(
            any::<[u8; 4]>()
                .prop_map(|ip| format!("ipv4hint={},192.0.2.1", std::net::Ipv4Addr::from(ip))),
        ),
        proptest::option::of(Just("ech=AEX+DQA=".to_owned())),
        proptest::option::of("dohpath=/[a-z]{1,8}\\{\\?dns\\}"),
        proptest::option::of("key(6[0-4][0-9]{3})=\"[a-z0-9,. ]{0,9}\""),
    );
    (1..=u16::MAX, target(), params).prop_map(|(priority, target, params)| {
        let (alpn, port, hint, ech, path, other) = params;
        let mut text = format!("{priority} {target}");
        // Out of order: the canonical form orders them.
        for param in [other, path, ech, hint, port, alpn].into_iter().flatten() {
            text.push_str(&format!(" {param}"));
        }
        text
    })
}

fn hash(selector: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        hex(32).prop_map(move |h| format!("{selector} 1 {h}")),
        hex(64).prop_map(move |h| format!("{selector} 2 {h}")),
        (1..300_usize).prop_flat_map(hex).prop_map(move |h| format!("{selector} 0 {h}")),
    ]
}

fn issuer() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("0 issue \";\"".to_owned()),
        "128 issuewild \"[a-z]{1,9}\\.test\"",
        "0 issue \"ca\\.test; accounturi=https://ca\\.test/acct/[0-9]{1,5}; validationmethods=dns-01\"",
        "0 IODEF \"mailto:[a-z]{1,9}@x\\.example\"",
    ]
}

/// One record's data, as a person may write it.
pub fn record(rtype: &'static str) -> BoxedStrategy<String> {
    match rtype {
        "A" => any::<[u8; 4]>().prop_map(|ip| std::net::Ipv4Addr::from(ip).to_string()).boxed(),
        "AAAA" => any::<u64>()
            .prop_map(|low| {
                format!("2001:DB8:0:{:X}:{:x}:0::{:x}", low >> 48, low >> 40 & 0xff, low & 0xff)
            })
            .boxed(),
        "CNAME" | "DNAME" | "ALIAS" => target().boxed(),
        "PTR" => label().boxed(),
        "NS" => host().boxed(),
        "MX" => (any::<u16>(), host()).prop_map(|(n, host)| format!("{n} {host}")).boxed(),
        "SRV" => (any::<[u16; 3]>(), host())
            .prop_map(|([a, b, c], host)| format!("{a} {b} {c} {host}"))
            .boxed(),
        "TXT" => prop_oneof![
            proptest::collection::vec(quoted(300), 1..4).prop_map(|strings| strings.join(" ")),
            "[ !#-~äöü€]{1,600}",
        ]
        .boxed(),
        "CAA" => issuer().boxed(),
        "SSHFP" => prop_oneof![
            (1..=4_u8, hex(32)).prop_map(|(a, h)| format!("{a} 2 {h}")),
            hex(20).prop_map(|h| format!("6 1 {h}")),
        ]
        .boxed(),
        "TLSA" => prop_oneof![hash("3 1"), hash("2 0")].boxed(),
        "SMIMEA" => hash("3 1").boxed(),
        "DS" => (any::<u16>(), hex(32)).prop_map(|(tag, h)| format!("{tag} 13 2 {h}")).boxed(),
        "HTTPS" | "SVCB" => {
            prop_oneof![binding(), target().prop_map(|t| format!("0 {t}")), Just("1 .".to_owned())]
                .boxed()
        }
        "NAPTR" => (any::<[u16; 2]>(), quoted(20), label())
            .prop_map(|([a, b], text, target)| format!("{a} {b} \"S\" {text} \"\" {target}"))
            .boxed(),
        "HINFO" => (quoted(30), quoted(30)).prop_map(|(a, b)| format!("{a} {b}")).boxed(),
        "OPENPGPKEY" => base64().boxed(),
        "RP" => (label(), label()).prop_map(|(a, b)| format!("{a} {b}")).boxed(),
        "URI" => quoted(300)
            .prop_filter("needs an address", |text| text.len() > 2)
            .prop_map(|text| format!("10 1 {text}"))
            .boxed(),
        other => panic!("no strategy for {other}"),
    }
}

fn any_set() -> impl Strategy<Value = RecordSet> {
    let rtype = proptest::sample::select(zonefile::TYPES);
    let name = proptest::sample::select(
        &["@", "www", "a", "b.a", "c.b.a", "*.a", "*", "_x.a", "a/b", "Ünï", "d.www"][..],
    );
    (name, rtype, 60..=604_800_u32).prop_flat_map(|(name, rtype, ttl)| {
        let most = if ["CNAME", "DNAME", "ALIAS"].contains(&rtype) { 1 } else { 3 };
        proptest::collection::vec(record(rtype), 1..=most).prop_map(move |records| {
            let name = match (rtype, name) {
                ("SRV", "@") => "_s._tcp".to_owned(),
                ("SRV", name) => {
                    format!("_s._tcp.{}", name.trim_start_matches("*.").replace('*', "w"))
                }
                // They would leave nothing else at the apex, or in the zone.
                ("CNAME" | "DNAME", "@") => "lead".to_owned(),
                (_, name) => name.to_owned(),
            };
            set(&name, rtype, ttl, &records)
        })
    })
}

/// A zone that passes [`check_zone`]: of sets that exclude each other, some are gone.
pub fn any_zone() -> impl Strategy<Value = Vec<RecordSet>> {
    proptest::collection::vec(any_set(), 0..25).prop_map(|drawn| {
        let mut sets = BTreeMap::new();
        let fixed = [
            set("@", "NS", 3600, &["host1".to_owned(), "ns.elsewhere.test.".to_owned()]),
            set("host1", "A", 3600, &["192.0.2.1".to_owned()]),
        ];
        for set in drawn.into_iter().chain(fixed) {
            sets.insert((set.name.clone(), set.rtype.clone()), set);
        }
        let mut sets: Vec<RecordSet> = sets.into_values().collect();
        while let Some((at, _)) = check_zone(&zone(), &sets).pop() {
            sets.remove(at);
        }
        sets
    })
}
