//! Zone files: what breaks one, and what comes out again as it went in.

use crate::bind::compiled;
use crate::corpus::corpus;
use crate::zones::{any_zone, soa, zone};
use proptest::prelude::*;
use values::DomainName;
use zonefile::{File, TYPES, check_zone, read, txt_record, txt_value, write};

/// Files that nobody can trust as a whole, the line where it shows, and what is said.
const BROKEN: &[(&str, usize, &str)] = &[
    ("a A 192.0.2.1\n$INCLUDE /etc/passwd\n", 2, "includes another file"),
    ("$include other.db x.example.\n", 1, "includes another file"),
    ("\n\n$GENERATE 1-9 a$ A 192.0.2.$\n", 3, "generates records"),
    ("$UNKNOWN x\n", 1, "a directive that is not known"),
    ("$TTL\n", 1, "$TTL takes one value"),
    ("$TTL 1y\n", 1, "a $TTL out of form"),
    ("$TTL 1 2\n", 1, "$TTL takes one value"),
    ("$TTL 99999999999\n", 1, "a $TTL out of form"),
    ("$ORIGIN a..b\n", 1, "an $ORIGIN that has an empty label"),
    ("$ORIGIN\n", 1, "$ORIGIN takes one value"),
    ("a TXT \"open\nb A 192.0.2.1\n", 1, "a quote that does not close"),
    ("a TXT x\nb TXT \"open", 2, "a quote that does not close"),
    ("a A 192.0.2.1\nb A (\n 192.0.2.1\nc A 192.0.2.2\n", 2, "a ( that does not close"),
    ("a A 192.0.2.1 )\n", 1, "a ) without a ("),
    ("a TXT (\"x\"\n \"y\"))\n", 2, "a ) without a ("),
    ("a TXT \"\\25\"\n", 1, "an escape with fewer than three digits"),
    ("a TXT \"\\256\"\n", 1, "an escape over 255"),
    ("a TXT x\\\n", 1, "a backslash at the end of a line"),
    ("a TXT x\\", 1, "a backslash at the end"),
    ("a A 192.0.2.1\nb\0 A 192.0.2.1\n", 2, "the file is not text"),
    ("\u{feff}a A 192.0.2.1\r\n$INCLUDE x\r\n", 2, "includes another file"),
];

#[test]
fn broken_files_are_refused_at_their_line() {
    for (text, line, why) in BROKEN {
        let broken = read(&zone(), text.as_bytes()).unwrap_err();
        assert_eq!(broken.line, *line, "{text:?}: {broken}");
        assert!(broken.why.contains(why), "{text:?}: {broken}");
        assert_eq!(broken.to_string(), format!("line {line}: {}", broken.why));
        // Includes and what they would bring are BIND's to follow, and its own.
        if !why.contains("includes") && !why.contains("generates") {
            let whole = format!("@ 60 SOA a. b. 1 2 3 4 5\n@ 60 NS a.\n{text}");
            assert!(compiled(&zone(), &["-i", "none"], whole.as_bytes()).is_err(), "{text:?}");
        }
    }
    let utf16: Vec<u8> = "a A 192.0.2.1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(read(&zone(), &utf16).unwrap_err().why, "the file is not text");
}

#[test]
fn files_have_a_size() {
    let lines = "a A 192.0.2.1\n".repeat(99_999);
    assert_eq!(read(&zone(), lines.as_bytes()).unwrap().sets.len(), 1);
    let broken = read(&zone(), "\n".repeat(100_000).as_bytes()).unwrap_err();
    assert_eq!(broken.to_string(), "line 100001: the file has more than 100000 lines");
    let broken = read(&zone(), &vec![b';'; 8 * 1024 * 1024 + 1]).unwrap_err();
    assert!(broken.why.contains("8 MiB"), "{broken}");
    assert!(read(&zone(), &vec![b';'; 8 * 1024 * 1024]).is_ok());
    let broken = read(&zone(), "\r".repeat(100_000).as_bytes()).unwrap_err();
    assert_eq!(broken.line, 100_001);
    let broken = read(&zone(), format!("\na TXT{}", " x".repeat(6000)).as_bytes()).unwrap_err();
    assert_eq!(broken.to_string(), "line 2: an entry that is too long");
    // What one name can answer has an end, too.
    let many: String = (0..5000).map(|n| format!("a TXT \"{n}\"\n")).collect();
    let file = read(&zone(), many.as_bytes()).unwrap();
    assert_eq!(file.sets[0].records.len() + file.left_out.len(), 5000);
    assert!(file.left_out[0].why.contains("larger than an answer"));
}

#[test]
fn many_aliases_take_no_longer_than_other_records() {
    let text: String = (0..20_000).map(|n| format!("a{n} CNAME x\na{n} A 192.0.2.1\n")).collect();
    let begun = std::time::Instant::now();
    let file = read(&zone(), text.as_bytes()).unwrap();
    assert_eq!((file.sets.len(), file.left_out.len()), (20_000, 20_000));
    assert!(check_zone(&zone(), &file.sets).is_empty());
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}

#[test]
fn a_wrong_name_never_hands_its_line_on() {
    let text = "good A 192.0.2.1\nb..ad A 192.0.2.2\n A 192.0.2.3\nnext A 192.0.2.4\n\"q\" A 192.0.2.5\n\tA 192.0.2.6\n";
    let file = read(&zone(), text.as_bytes()).unwrap();
    let names: Vec<&str> = file.sets.iter().map(|set| set.name.as_str()).collect();
    assert_eq!(names, ["good.x.example.", "next.x.example."]);
    assert!(file.sets.iter().all(|set| set.records.len() == 1));
    let lines: Vec<usize> = file.left_out.iter().map(|l| l.line).collect();
    assert_eq!(lines, [2, 3, 5, 6]);
    assert_eq!(read(&zone(), b" A 192.0.2.1\n").unwrap().left_out[0].why, "it has no name");
}

#[test]
fn what_is_left_out_is_shown_without_harm() {
    let text = format!("a LUA A \"\x1b[2J{}\"\n", "x".repeat(5000));
    let file = read(&zone(), text.as_bytes()).unwrap();
    let shown = &file.left_out[0].text;
    assert!(shown.starts_with("a LUA A \"") && shown.chars().count() <= 200, "{shown}");
    assert!(!shown.contains(char::is_control));
}

#[test]
fn every_file_of_the_corpus_survives_being_written() {
    for (name, bytes) in corpus() {
        let zone = DomainName::parse(&name).unwrap();
        let file = read(&zone, &bytes).unwrap();
        let start = file.soa.clone().unwrap_or_else(soa);
        let again = read(&zone, write(&zone, &start, &file.sets).as_bytes()).unwrap();
        assert_eq!(again, File { soa: Some(start), sets: file.sets, left_out: vec![] }, "{name}");
    }
}

#[test]
fn files_are_written_in_the_order_of_the_tree() {
    let sets = ["b.a A 192.0.2.1", "@ TXT x", "z A 192.0.2.1", "a A 192.0.2.1", "@ NS ns.test."];
    let sets = read(&zone(), format!("$TTL 60\n{}\n", sets.join("\n")).as_bytes()).unwrap().sets;
    let reversed: Vec<_> = sets.iter().rev().cloned().collect();
    let text = write(&zone(), &soa(), &reversed);
    let expected = "$ORIGIN x.example.\n\
        @\t3600\tIN\tSOA\thost1.x.example. john\\.doe.x.example. 2026010100 3600 900 1209600 300\n\
        @\t60\tIN\tNS\tns.test.\n@\t60\tIN\tTXT\t\"x\"\na\t60\tIN\tA\t192.0.2.1\n\
        b.a\t60\tIN\tA\t192.0.2.1\nz\t60\tIN\tA\t192.0.2.1\n";
    assert_eq!(text, expected);
}

proptest! {
    #[test]
    fn what_is_written_reads_back(sets in any_zone()) {
        let mut sets = sets;
        sets.sort();
        let text = write(&zone(), &soa(), &sets);
        let file = read(&zone(), text.as_bytes()).unwrap();
        prop_assert_eq!(&file, &File { soa: Some(soa()), sets, left_out: Vec::new() });
        prop_assert_eq!(write(&zone(), &soa(), &file.sets), text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(file) = read(&zone(), &bytes) {
            let again = read(&zone(), write(&zone(), &soa(), &file.sets).as_bytes()).unwrap();
            prop_assert_eq!(again.sets, file.sets);
        }
    }

    /// Words of zone files in any order: near enough to the real thing to come far.
    #[test]
    fn any_words_are_read_or_refused(words in proptest::collection::vec(word(), 0..60)) {
        if let Ok(file) = read(&zone(), words.concat().as_bytes()) {
            prop_assert!(file.sets.iter().all(|set| TYPES.contains(&set.rtype.as_str())));
            let again = read(&zone(), write(&zone(), &soa(), &file.sets).as_bytes()).unwrap();
            prop_assert_eq!((again.sets, again.left_out), (file.sets, Vec::new()));
        }
    }

    #[test]
    fn octets_of_txt_survive(value in proptest::collection::vec(any::<u8>(), 0..700)) {
        let text = txt_record(&value);
        prop_assert_eq!(txt_value(&text).unwrap(), value.clone());
        let file = read(&zone(), format!("a TXT {text}\n").as_bytes()).unwrap();
        let record = file.sets[0].records.first().unwrap();
        prop_assert_eq!((record, txt_value(record).unwrap()), (&text, value));
    }
}

fn word() -> impl Strategy<Value = String> {
    let fixed = proptest::sample::select(
        &[
            "\n",
            "\n",
            "\n",
            " ",
            " ",
            "\t",
            "@",
            "a",
            "*",
            "b.x.example.",
            "IN",
            "A",
            "AAAA",
            "MX",
            "TXT",
            "CNAME",
            "SRV",
            "CAA",
            "HTTPS",
            "TYPE16",
            "RRSIG",
            "SOA",
            "60",
            "1h",
            "0",
            "1",
            "192.0.2.1",
            "2001:db8::1",
            "\"x y\"",
            "\"\\255\"",
            "(",
            ")",
            "; c",
            "\\#",
            "2",
            "0161",
            "alpn=h2",
            "alpn=\"h3\"",
            "issue",
            "$TTL 5",
            "$ORIGIN b",
            "\\097",
            "\\.",
            ".",
            "\r\n",
        ][..],
    );
    (fixed, "[ ]?").prop_map(|(word, space)| format!("{word}{space}"))
}

#[test]
fn values_of_txt_are_read_in_presentation_form_only() {
    assert_eq!(txt_value("\"a\" \"b\""), Some(b"ab".to_vec()));
    assert_eq!(txt_value("plain"), Some(b"plain".to_vec()));
    for text in ["\"open", "\"a\" ; comment", "(\"a\")", "a\\"] {
        assert_eq!(txt_value(text), None, "{text}");
    }
}
