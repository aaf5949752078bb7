//! Zone files as they are found, each held against what BIND makes of it.

use crate::bind::{LENIENT, compiled};
use std::collections::BTreeMap;
use std::path::PathBuf;
use values::DomainName;
use zonefile::{File, RecordSet, read};

/// What makes BIND take a file that it refuses.
enum Repair {
    /// The lines that we leave out go.
    LeftOut,
    Replaced(&'static str, &'static str),
    /// What BIND wants of a whole zone stands before it.
    Headed,
}

const HEAD: &str = "$TTL 14400\n@ SOA a. b. 1 2 3 4 5\n@ NS bind.wants.one.\n";

/// Files that BIND refuses as a whole and that we take: one line that is wrong is no reason to lose the
/// others.
const REFUSED_BY_BIND: &[(&str, &str, Repair)] = &[
    // Windows' editors put it there.
    ("bom.example", "unexpected end of line", Repair::Replaced("\u{feff}", "")),
    // A zone file of one class holds no other; ours is IN.
    ("classes.example", "bad class", Repair::LeftOut),
    // The SOA's name without its final dot can mean the zone only.
    (
        "cloudflare.example",
        "SOA record not at top of zone",
        Repair::Replaced("cloudflare.example\t", "cloudflare.example.\t"),
    ),
    // The CNAME goes where others stand beside it, and the second of two.
    ("cnames.example", "CNAME and other data", Repair::LeftOut),
    // cPanel writes keys in one piece; what a resolver's user sees is the same.
    ("longtxt.example", "syntax error", Repair::Replaced("AABAA", "AAB\" \"AA")),
    // An extract of a zone.
    ("nosoa.example", "has 0 SOA records", Repair::Headed),
    // cPanel's default holds where nothing says a TTL.
    ("nottl.example", "no TTL specified", Repair::Headed),
    ("soas.example", "SOA record not at top of zone", Repair::LeftOut),
    ("wrong.example", "not loaded due to errors", Repair::LeftOut),
];

/// Files where BIND gives all records of a set the first one's TTL, and we the smallest, which is what
/// keeps every record's promise.
const OTHER_TTLS: &[(&str, &str, u32)] = &[
    ("mixedttl.example", "a.mixedttl.example.", 60),
    ("windows.example", "windows.example.", 600),
];

/// The lines that we leave out, beside those of signing.
const LEFT_OUT: &[(&str, &[usize])] = &[
    ("classes.example", &[5, 7, 8]),
    ("cnames.example", &[6, 8, 11, 13]),
    // PowerDNS takes hosts for MX, NS and SRV only, and cannot read the addresses that it shows.
    ("hosts.example", &[5, 6, 7, 10]),
    ("obsolete.example", &[5, 7, 8, 9, 11]),
    ("outside.example", &[6, 7, 9]),
    ("soas.example", &[6]),
    // Owners that PowerDNS' API does not take.
    ("tinydns.example", &[5, 6, 8, 9, 10]),
    ("unknown.example", &[12, 13]),
    ("wild.example", &[9]),
    ("wrong.example", &[6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24]),
];

pub fn corpus() -> BTreeMap<String, Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/zones");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read(path).unwrap())
    });
    files.collect()
}

fn repaired(bytes: &[u8], ours: &File, repair: &Repair) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let text = match repair {
        Repair::Replaced(from, to) => {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        }
        Repair::Headed => format!("{HEAD}{text}"),
        Repair::LeftOut => {
            let wrong: Vec<usize> = ours.left_out.iter().map(|l| l.line).collect();
            let lines = text.lines().enumerate();
            lines
                .map(
                    |(at, line)| {
                        if wrong.contains(&(at + 1)) { "\n".into() } else { format!("{line}\n") }
                    },
                )
                .collect()
        }
    };
    text.into_bytes()
}

type Meaning = BTreeMap<(String, String), (u32, Vec<Vec<u8>>)>;

/// The sets by name and type, each with its TTL and its values; strings of TXT joined, since they may be
/// split elsewhere.
fn meaning(sets: &[RecordSet]) -> Meaning {
    let mut meaning = Meaning::new();
    for set in sets.iter().filter(|set| !set.records.contains("bind.wants.one.")) {
        let values = set.records.iter().map(|record| match set.rtype.as_str() {
            "TXT" => zonefile::txt_value(record).unwrap(),
            _ => record.clone().into_bytes(),
        });
        meaning.insert((set.name.clone(), set.rtype.clone()), (set.ttl, values.collect()));
    }
    meaning
}

#[test]
fn every_file_means_what_bind_makes_of_it() {
    let corpus = corpus();
    assert!(corpus.len() >= 55, "{}", corpus.len());
    for (name, bytes) in corpus {
        let zone = DomainName::parse(&name).unwrap();
        let mut ours = read(&zone, &bytes).unwrap_or_else(|broken| panic!("{name}: {broken}"));
        let lines = ours.left_out.iter().filter(|l| !l.is_signing()).map(|l| l.line);
        let expected = LEFT_OUT.iter().find(|(file, _)| *file == name);
        let expected = expected.map(|(_, lines)| lines.to_vec()).unwrap_or_default();
        assert_eq!(lines.collect::<Vec<_>>(), expected, "{name}: {:?}", ours.left_out);

        let refused = REFUSED_BY_BIND.iter().find(|(file, _, _)| *file == name);
        let theirs = match (compiled(&zone, LENIENT, &bytes), refused) {
            (Ok(text), None) => text,
            (Err(said), Some((_, why, repair))) => {
                assert!(said.contains(why), "{name}: {said}");
                let repaired = repaired(&bytes, &ours, repair);
                compiled(&zone, LENIENT, &repaired).unwrap_or_else(|said| panic!("{name}: {said}"))
            }
            (outcome, _) => panic!("{name}: {outcome:?}"),
        };
        let mut theirs = read(&zone, &theirs).unwrap();
        for (_, set, ttl) in OTHER_TTLS.iter().filter(|(file, _, _)| *file == name) {
            let find =
                |sets: &mut Vec<RecordSet>| sets.iter().position(|s| s.name == *set).unwrap();
            let (our, their) = (find(&mut ours.sets), find(&mut theirs.sets));
            assert_eq!(ours.sets[our].ttl, *ttl);
            assert!(theirs.sets[their].ttl > *ttl);
            theirs.sets[their].ttl = *ttl;
        }
        assert_eq!(meaning(&ours.sets), meaning(&theirs.sets), "{name}");
        if !matches!(refused, Some((_, _, Repair::Headed))) {
            assert_eq!(ours.soa, theirs.soa, "{name}");
        }
    }
}

#[test]
fn what_signing_made_is_left_out_under_its_own_name() {
    let corpus = corpus();
    let zone = DomainName::parse("signed.example").unwrap();
    let file = read(&zone, &corpus["signed.example"]).unwrap();
    assert!(file.left_out.len() > 10 && file.left_out.iter().all(|line| line.is_signing()));
    let types: Vec<&str> = file.sets.iter().map(|set| set.rtype.as_str()).collect();
    assert_eq!(types, ["MX", "NS", "A"]);
}
