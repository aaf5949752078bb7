//! What a set, and the sets of a zone, must keep to.

use crate::zones::{set, zone};
use zonefile::{Draft, Field, Problem, RecordSet, absolute, check_set, check_zone, relative};

fn problems(name: &str, rtype: &str, ttl: u32, records: &[&str]) -> Vec<Problem> {
    let records: Vec<String> = records.iter().map(|&r| r.to_owned()).collect();
    let draft = Draft { name, rtype, ttl, records: &records };
    check_set(&zone(), &draft).err().unwrap_or_default()
}

/// What is said against one record.
fn refusal(rtype: &str, record: &str) -> String {
    let name = if rtype == "SRV" { "_sip._tcp" } else { "n" };
    match problems(name, rtype, 300, &[record]).as_slice() {
        [Problem { field: Field::Record(0), message }] => message.clone(),
        other => panic!("{rtype} {record:?}: {other:?}"),
    }
}

/// The canonical form of one record.
fn form(rtype: &str, record: &str) -> String {
    let name = if rtype == "SRV" { "_sip._tcp" } else { "n" };
    set(name, rtype, 300, &[record.to_owned()]).records.pop_first().unwrap()
}

#[test]
fn names_are_absolute_and_in_the_zone() {
    let long = format!("{0}.{0}.{0}", "a".repeat(63));
    for (text, name) in [
        ("@", "x.example."),
        ("WWW", "www.x.example."),
        ("www.x.example.", "www.x.example."),
        ("X.Example.", "x.example."),
        ("*", "*.x.example."),
        ("*.a", "*.a.x.example."),
        ("_dmarc", "_dmarc.x.example."),
        ("0/26", "0/26.x.example."),
        ("bücher", "xn--bcher-kva.x.example."),
        ("ＷＷＷ。ａ", "www.a.x.example."),
        ("www.x.example.x.example.", "www.x.example.x.example."),
        ("x.example.com", "x.example.com.x.example."),
        (&long, &format!("{long}.x.example.")),
    ] {
        assert_eq!(absolute(&zone(), text).as_deref(), Ok(name), "{text}");
    }
    for (text, why) in [
        ("", "is empty"),
        ("a..b", "empty label"),
        (".a", "empty label"),
        ("a b", "letters, digits"),
        ("a\nb", "letters, digits"),
        ("a+b", "letters, digits"),
        ("a\\.b", "letters, digits"),
        ("a.*", "first label"),
        ("*a", "first label"),
        ("x.example", "write x.example."),
        ("WWW.X.example", "write www.x.example."),
        (".", "in the zone"),
        ("y.example.", "in the zone"),
        ("yx.example.", "in the zone"),
        ("example.", "in the zone"),
        ("a\u{200b}\u{fffe}", "international"),
        (&"a".repeat(64), "63 octets"),
        (&"ü".repeat(63), "international"),
        (&format!("{long}.{}", "a".repeat(52)), "255 octets"),
        (&"a.".repeat(3000), "255 octets"),
    ] {
        let problem = absolute(&zone(), text).unwrap_err();
        assert_eq!(problem.field, Field::Name);
        assert!(problem.message.contains(why), "{text}: {}", problem.message);
    }
    for (name, shown) in [
        ("x.example.", "@"),
        ("www.x.example.", "www"),
        ("*.a.x.example.", "*.a"),
        ("yx.example.", "yx.example."),
        ("other.test.", "other.test."),
    ] {
        assert_eq!(relative(&zone(), name), shown);
    }
}

#[test]
fn records_take_their_canonical_form() {
    let sha256 = "AB".repeat(32);
    let lower = sha256.to_lowercase();
    let long = "x".repeat(300);
    let split = format!("\"{}\" \"{}\"", "x".repeat(255), "x".repeat(45));
    for (rtype, text, shown) in [
        ("A", " 192.0.2.1 ", "192.0.2.1"),
        ("AAAA", "2001:DB8:0:0::1", "2001:db8::1"),
        ("CNAME", "Host.Elsewhere.TEST.", "host.elsewhere.test."),
        ("CNAME", "www", "www.x.example."),
        ("CNAME", "@", "x.example."),
        ("CNAME", "bücher.test.", "xn--bcher-kva.test."),
        ("MX", "010  mail", "10 mail.x.example."),
        ("MX", "0 .", "0 ."),
        ("SRV", "0 0 0 .", "0 0 0 ."),
        ("TXT", "v=spf1 -all", "\"v=spf1 -all\""),
        ("TXT", "\\# 1 00", "\"\\\\# 1 00\""),
        ("TXT", "a;b\\c", "\"a;b\\\\c\""),
        ("TXT", "\"a\\;b\"  \"\\099\"", "\"a;b\" \"c\""),
        ("TXT", "ä", "\"\\195\\164\""),
        ("TXT", "\"ä\"", "\"\\195\\164\""),
        ("TXT", &long, &split),
        ("TXT", &format!("\"{long}\""), &split),
        ("CAA", "0 ISSUE letsencrypt.org", "0 issue \"letsencrypt.org\""),
        ("CAA", "128 issue \";\"", "128 issue \";\""),
        ("CAA", "0 issue \"ca.test; a=b; c=d;\"", "0 issue \"ca.test; a=b; c=d;\""),
        ("SSHFP", &format!("4 2 {} {0}", "AB".repeat(16)), &format!("4 2 {lower}")),
        ("TLSA", &format!("3 1 1 {sha256}"), &format!("3 1 1 {lower}")),
        ("DS", &format!("1 13 2 {sha256}"), &format!("1 13 2 {lower}")),
        ("A", "\\# 4 c0000201", "192.0.2.1"),
        ("HTTPS", "1 . alpn=\"h2,h3\"", "1 . alpn=h2,h3"),
        ("HTTPS", "0 Pool.elsewhere.test.", "0 pool.elsewhere.test."),
        ("HTTPS", "1 . dohpath=/q{?dns} alpn=h2", "1 . alpn=h2 key7=\"/q{?dns}\""),
    ] {
        assert_eq!(form(rtype, text), shown, "{rtype} {text}");
    }
    let twice = ["192.0.2.1".to_owned(), "192.0.2.1".to_owned()];
    assert_eq!(set("n", "a", 300, &twice).records.len(), 1);
    assert_eq!(set("n", "a", 300, &twice).rtype, "A");
}

/// Records with a word of what is said against them.
const REFUSED: &[(&str, &str, &str)] = &[
    ("A", "192.0.2.256", "an IPv4 address"),
    ("A", "192.0.2.01", "an IPv4 address"),
    ("A", "192.0.2.1 x", "an IPv4 address"),
    ("A", "", "an IPv4 address"),
    ("A", "192.0.2.1 ; office", "quotes"),
    ("A", "192.0.2.1\n192.0.2.2", "line break"),
    ("A", "\\# 5 c0000201", "as many"),
    ("AAAA", "192.0.2.1", "an IPv6 address"),
    ("AAAA", "fe80::1%eth0", "an IPv6 address"),
    ("AAAA", "::ffff:192.0.2.1", "an A record's"),
    ("CNAME", "192.0.2.1", "not to an address"),
    ("CNAME", "192.0.2.1.", "not to an address"),
    ("CNAME", "2001:db8::1", "not to an address"),
    ("CNAME", "host.elsewhere.test", "write host.elsewhere.test."),
    ("CNAME", ".", "not to the root"),
    ("CNAME", "a..b.test.", "empty label"),
    ("CNAME", "a\\", "backslash"),
    ("CNAME", "https://x.test/", "not to an address"),
    ("ALIAS", "192.0.2.1", "not to an address"),
    ("NS", "192.0.2.1.", "not to an address"),
    ("NS", ".", "must name a host"),
    ("NS", "ns_1", "letters, digits and hyphens"),
    ("MX", "10 192.0.2.1", "not to an address"),
    ("MX", "10 192.0.2.1.", "not to an address"),
    ("MX", "mail", "a preference and a host"),
    ("MX", "65536 mail", "a preference and a host"),
    ("MX", "+1 mail", "a preference and a host"),
    ("MX", "10 .", "0 ."),
    ("MX", "10 *.x.example.", "letters, digits and hyphens"),
    ("MX", "10 -a.test.", "letters, digits and hyphens"),
    ("SRV", "0 0 5060 192.0.2.1.", "not to an address"),
    ("SRV", "0 5060 sip", "a priority"),
    ("TXT", "", "is empty"),
    ("TXT", "a \"b\"", "quotes"),
    ("TXT", "\"a\" b", "quotes"),
    ("TXT", "\"a", "does not close"),
    ("TXT", "\"\\256\"", "over 255"),
    ("TXT", "a\nb", "line break"),
    ("CAA", "1 issue ca.test", "the flags 0"),
    ("CAA", "256 issue ca.test", "flags, a tag"),
    ("CAA", "0 isue ca.test", "a tag other than"),
    ("CAA", "0 is-sue ca.test", "letters and digits"),
    ("CAA", "0 issue \"ca_1.test\"", "authority's domain"),
    ("CAA", "0 issue \"ca.test a=b\"", "authority's domain"),
    ("CAA", "0 issue \"ca.test; a\"", "authority's domain"),
    ("CAA", "0 iodef a@b.test", "mailto:"),
    ("CAA", "0 iodef \"mailto:\"", "mailto:"),
    ("SSHFP", "5 1 00", "20"),
    ("SSHFP", "5 9 00", "algorithm"),
    ("SSHFP", "1 9 00", "a hash other"),
    ("SSHFP", "1 1 0", "an algorithm"),
    ("TLSA", "4 1 1 00", "usage"),
    ("TLSA", "3 2 1 00", "selector"),
    ("TLSA", "3 1 1 00", "64 hexadecimal"),
    ("TLSA", "3 1 2 00", "128 hexadecimal"),
    ("TLSA", "3 1 3 00", "matching"),
    ("TLSA", "3 1 1", "a usage"),
    ("DS", "1 13 2 00", "instead of 32"),
    ("DS", "1 99 9 00", "algorithm"),
    ("NAPTR", "1 1 \"S\" \"x\" \"!a!b!\" y", "not both"),
    ("NAPTR", "1 1 \"-\" \"x\" \"\" y", "flags"),
    ("URI", "1 1 \"\"", "no address"),
    ("OPENPGPKEY", "a", "base64"),
    ("HTTPS", "1", "a priority"),
    ("HTTPS", "0 . alpn=h2", "priority 0"),
    ("HTTPS", "1 . no-default-alpn", "without alpn"),
    ("HTTPS", "1 . mandatory=port", "mandatory"),
    ("HTTPS", "1 . port=65536", "port"),
    ("HTTPS", "1 . alpn=h2 alpn=h3", "twice"),
    ("HTTPS", "1 . alpn=", "alpn"),
    ("HTTPS", "1 . alp=h2", "unknown parameter"),
    ("HTTPS", "1 . ipv4hint=2001:db8::1", "ipv4hint"),
    ("HTTPS", "1 . key9=\"(\"", "key9"),
];

#[test]
fn records_that_break_a_rule_are_refused() {
    for &(rtype, record, why) in REFUSED {
        let message = refusal(rtype, record);
        assert!(message.contains(why), "{rtype} {record:?}: {message}");
    }
    assert!(refusal("TXT", &format!("\"{}\"", "\\228".repeat(20_000))).contains("can hold"));
}

#[test]
fn all_problems_of_a_set_come_at_once() {
    let found = problems("a b", "A", 59, &["192.0.2.1", "x", "y"]);
    let fields: Vec<Field> = found.iter().map(|p| p.field).collect();
    assert_eq!(fields, [Field::Name, Field::Ttl, Field::Record(1), Field::Record(2)]);
    for (rtype, why) in [("SOA", "the zone's own"), ("LUA", "not a type"), ("SPF", "TXT")] {
        let found = problems("a", rtype, 300, &["x"]);
        assert!(
            matches!(found.as_slice(), [p] if p.field == Field::Type && p.message.contains(why))
        );
    }
    assert_eq!(problems("a", "A", 604_801, &["192.0.2.1"])[0].field, Field::Ttl);
    assert_eq!(problems("a", "A", 300, &[])[0].field, Field::Record(0));
    assert_eq!(problems("sip", "SRV", 300, &["0 0 1 a"])[0].field, Field::Name);
    assert_eq!(problems("a", "CNAME", 300, &["a", "b"])[0].field, Field::Record(1));
    assert_eq!(problems("a", "ALIAS", 300, &["a", "b"])[0].field, Field::Record(1));
    assert_eq!(problems("a", "MX", 300, &["10 a", "0 ."])[0].field, Field::Record(1));
    let many: Vec<String> = (0..101).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(problems("a", "A", 300, &many)[0].field, Field::Record(100));
    assert!(problems("a", "A", 300, &many[..100]).is_empty());
    let large: Vec<String> = (0..40).map(|n| format!("{n}{}", "x".repeat(2000))).collect();
    let large: Vec<&str> = large.iter().map(String::as_str).collect();
    let found = problems("a", "TXT", 300, &large);
    assert!(found[0].message.contains("larger than an answer"), "{found:?}");
}

/// What is said of a zone, as `INDEX FIELD`.
fn zone_problems(sets: &[(&str, &str, &str)]) -> Vec<String> {
    let sets: Vec<RecordSet> = sets
        .iter()
        .map(|(name, rtype, record)| {
            let records: Vec<String> = record.split(" | ").map(ToOwned::to_owned).collect();
            set(name, rtype, 300, &records)
        })
        .collect();
    let found = check_zone(&zone(), &sets);
    found.into_iter().map(|(at, p)| format!("{at} {:?}: {}", p.field, p.message)).collect()
}

#[test]
fn sets_that_exclude_each_other_are_both_named() {
    let ds = format!("1 13 2 {}", "00".repeat(32));
    type Case<'c> = (&'c [(&'c str, &'c str, &'c str)], &'c [&'c str]);
    let cases: &[Case<'_>] = &[
        (&[("a", "CNAME", "b"), ("a", "TXT", "x")], &["0 Type", "1 Type"]),
        (&[("@", "CNAME", "b")], &["0 Type"]),
        (
            &[("a", "ALIAS", "b"), ("a", "A", "192.0.2.1"), ("a", "MX", "0 .")],
            &["0 Type", "1 Type"],
        ),
        (&[("a", "ALIAS", "b"), ("a", "CNAME", "c")], &["0 Type", "1 Type"]),
        (&[("@", "ALIAS", "b"), ("@", "NS", "c"), ("@", "MX", "0 .")], &[]),
        (&[("a", "A", "192.0.2.1"), ("a", "A", "192.0.2.2")], &["1 Type"]),
        (&[("a", "DNAME", "b"), ("x.a", "A", "192.0.2.1"), ("ab", "A", "192.0.2.1")], &["1 Name"]),
        (&[("@", "DNAME", "y.test."), ("@", "A", "192.0.2.1")], &[]),
        (&[("*", "NS", "ns.test."), ("*.a", "DNAME", "b")], &["0 Name", "1 Name"]),
        (&[("@", "DS", &ds)], &["0 Type"]),
        (&[("a", "DS", &ds)], &["0 Type"]),
        (&[("a", "DS", &ds), ("a", "NS", "ns.test.")], &[]),
        (
            &[
                ("a", "NS", "ns.a.x.example."),
                ("ns.a", "A", "192.0.2.1"),
                ("ns.a", "AAAA", "2001:db8::1"),
            ],
            &[],
        ),
        (
            &[("a", "NS", "ns.test."), ("x.a", "TXT", "x"), ("y.x.a", "NS", "b.test.")],
            &["1 Name", "2 Name"],
        ),
        (&[("a", "NS", "a"), ("a", "A", "192.0.2.1"), ("a", "MX", "0 .")], &["2 Type"]),
        (&[("c", "CNAME", "d"), ("@", "MX", "10 m | 20 c")], &["1 Record(1)"]),
        (
            &[("c", "CNAME", "d"), ("@", "NS", "c"), ("_a._tcp", "SRV", "0 0 0 c")],
            &["1 Record(0)", "2 Record(0)"],
        ),
        (
            &[("*", "CNAME", "d"), ("d", "A", "192.0.2.1"), ("@", "MX", "10 q | 20 d")],
            &["2 Record(0)"],
        ),
        (&[("*", "CNAME", "d"), ("x.q", "A", "192.0.2.1"), ("@", "MX", "10 q")], &[]),
        (&[("d", "DNAME", "y.test."), ("@", "MX", "10 m.d.x.example.")], &["1 Record(0)"]),
        (&[("c", "CNAME", "d"), ("@", "MX", "10 c.elsewhere.test."), ("e", "CNAME", "c")], &[]),
    ];
    for (sets, said) in cases {
        let found = zone_problems(sets);
        let matches = found.iter().zip(*said).all(|(found, said)| found.starts_with(said));
        assert!(found.len() == said.len() && matches, "{sets:?}: {found:?}");
    }
}

#[test]
fn sets_of_another_zone_are_named() {
    let mut stray = set("a", "A", 300, &["192.0.2.1".to_owned()]);
    stray.name = "a.y.example.".to_owned();
    let found = check_zone(&zone(), &[set("b", "TXT", 300, &["x".to_owned()]), stray]);
    assert!(matches!(found.as_slice(), [(1, p)] if p.field == Field::Name), "{found:?}");
}

#[test]
fn stored_plans_keep_their_form() {
    let set = set("a", "TXT", 300, &["x".to_owned()]);
    let text = r#"{"name":"a.x.example.","type":"TXT","ttl":300,"records":["\"x\""]}"#;
    assert_eq!(serde_json::to_string(&set).unwrap(), text);
    assert_eq!(serde_json::from_str::<RecordSet>(text).unwrap(), set);
}
