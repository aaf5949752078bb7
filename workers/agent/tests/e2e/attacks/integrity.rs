//! Data that must arrive whole, or not replace what is there (57–77).

use super::enemy::{Archive, Member, gzip, header};
use super::table::{
    Attack::{Again, Alone, Conflict, Dump, Elsewhere, Planted, RefusedBytes},
    Proof::{Holds, Lost, Seen, Sql, Warned},
    Row,
};
use crate::target::Job;
use cpanel::plan::{Component, Options, Ownership, Resource, StepName};
use cpanel::protocol::{Call, Preview};
use tar::EntryType;

fn whole() -> Vec<u8> {
    Archive::honest().tar()
}

fn has_none_of(preview: &Preview, component: Component) {
    let found: Vec<&str> = preview
        .plan
        .operations
        .iter()
        .filter(|o| o.component == component)
        .map(|o| o.id.as_str())
        .collect();
    assert_eq!(found, Vec::<&str>::new());
}

fn conflicts(preview: &Preview, id: &str) {
    assert!(preview.plan.conflicts.iter().any(|c| c.id == id), "{:?}", preview.plan.conflicts);
}

/// Of a virtual machine's disk: more than the server has.
fn huge(archive: &mut Archive) {
    let mut header = header(EntryType::GNUSparse, b"cpmove-enemy/homedir/huge77");
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(1 << 40);
    gnu.sparse[0].set_offset(1 << 40);
    gnu.sparse[0].set_length(0);
    archive.header(header, b"");
}

pub const ROWS: &[Row] = &[
    Row {
        number: 57,
        name: "archives that are cut off",
        attacks: &[
            RefusedBytes("truncated", || {
                let packed = gzip(&whole());
                packed[..packed.len() - 4].to_vec()
            }),
            RefusedBytes("truncated", || gzip(&whole()[..4096])),
            RefusedBytes("truncated", || {
                let all = whole();
                let (first, second) = all.split_at(4096);
                let second = gzip(second);
                [gzip(first), second[..second.len() / 2].to_vec()].concat()
            }),
            RefusedBytes("truncated", || {
                let mut packed = gzip(&whole());
                let at = packed.len() - 6;
                packed[at] ^= 1;
                packed
            }),
            RefusedBytes("truncated", || [gzip(&whole()), b"behind".to_vec()].concat()),
        ],
    },
    Row {
        number: 58,
        name: "an archive of a part, over all of an account",
        attacks: &[Again(
            "neutralised: what the archive does not hold is in no operation",
            |a| {
                ["mysql", "va/", "homedir/etc", "homedir/mail", "dnszones/"]
                    .iter()
                    .for_each(|p| a.drop(p))
            },
            |preview| {
                [Component::Databases, Component::Dns].iter().for_each(|c| has_none_of(preview, *c))
            },
        )],
    },
    Row {
        number: 59,
        name: "placeholder dumps over data",
        attacks: &[
            Again(
                "refused: conflict dump:enemy_db",
                |a| a.put("mysql/enemy_db.sql", "-- no data\n"),
                |p| conflicts(p, "dump:enemy_db"),
            ),
            Again(
                "refused: conflict dump:enemy_db",
                |a| a.put("mysql/enemy_db.sql", "CREATE TABLE own (a int);\n-- Dump completed\n"),
                |p| conflicts(p, "dump:enemy_db"),
            ),
        ],
    },
    Row {
        number: 60,
        name: "a dump without its end",
        attacks: &[
            Again(
                "refused: conflict dump:enemy_db",
                |a| {
                    a.put(
                        "mysql/enemy_db.sql",
                        "CREATE TABLE own (a int);\nINSERT INTO own VALUES (1);\n",
                    )
                },
                |p| conflicts(p, "dump:enemy_db"),
            ),
            Planted(
                |a| {
                    a.put(
                        "mysql/enemy_cut.sql",
                        "CREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\n",
                    )
                },
                &[Warned("dump_incomplete", "enemy_cut")],
            ),
            Dump("middle of a statement", || {
                b"CREATE TABLE t (a text);\nINSERT INTO t VALUES ('cut".to_vec()
            }),
        ],
    },
    Row {
        number: 61,
        name: "an old archive over newer content",
        attacks: &[Elsewhere(
            "the second restore of this suite merges: a file that changed since stays as it is",
        )],
    },
    Row {
        number: 62,
        name: "data that looks like what is rewritten",
        attacks: &[Planted(
            |a| {
                a.add("mysql/enemy_db.sql", "CREATE TABLE t62 (a text) COLLATE utf8mb4_0900_ai_ci;\nINSERT INTO t62 VALUES ('s:30:\"/home/enemy utf8mb4_0900_ai_ci DEFINER=`root`@`localhost`; USE x;\"');\n")
            },
            &[Sql(
                "SELECT a FROM t62",
                "s:30:\"/home/enemy utf8mb4_0900_ai_ci DEFINER=`root`@`localhost`; USE x;\"",
            )],
        )],
    },
    Row {
        number: 63,
        name: "a dump in another charset",
        attacks: &[Planted(
            |a| {
                a.put("mysql/enemy_latin.sql", b"SET NAMES latin1;\nCREATE TABLE t (a varchar(9)) DEFAULT CHARSET=latin1;\nINSERT INTO t VALUES ('caf\xe9');\n-- Dump completed\n".to_vec())
            },
            &[Seen(
                "mariadb -N --default-character-set=utf8mb4 enemy_latin -e 'select a, hex(a) from t'",
                "café 636166E9",
            )],
        )],
    },
    Row {
        number: 64,
        name: "dates and defaults that a strict server refuses",
        attacks: &[Planted(
            |a| {
                a.add("mysql/enemy_db.sql", "CREATE TABLE t64 (d datetime NOT NULL DEFAULT '0000-00-00 00:00:00', e date);\nINSERT INTO t64 VALUES ('0000-00-00', '2024-02-31');\n")
            },
            &[Sql("SELECT COUNT(*), MIN(d) FROM t64", "1\t0000-00-00 00:00:00")],
        )],
    },
    Row {
        number: 65,
        name: "a dump that fails in the middle",
        attacks: &[Dump("ERROR 1146", || {
            b"CREATE TABLE t (a int);\nINSERT INTO t VALUES (1);\nINSERT INTO none VALUES (1);\n"
                .to_vec()
        })],
    },
    Row {
        number: 66,
        name: "tables whose names differ in case",
        attacks: &[Planted(
            |a| {
                a.add(
                    "mysql/enemy_db.sql",
                    "CREATE TABLE `Case66` (a int);\nCREATE TABLE `case66` (b int);\n",
                )
            },
            &[Sql("SHOW TABLES LIKE '_ase66'", "Case66\ncase66")],
        )],
    },
    Row {
        number: 67,
        name: "files of another number, or of nobody",
        attacks: &[Planted(
            |a| {
                a.put("nobodyfiles", "homedir/public_html/of99\n");
                a.member("homedir/public_html/of99", Member { uid: 99, ..Member::default() });
            },
            &[Seen("find /home/enemy -name '.migrapanel-*' -prune -o ! -user enemy -print", "")],
        )],
    },
    Row {
        number: 68,
        name: "the list of a mailbox that does not fit its messages",
        attacks: &[Planted(
            |a| {
                a.mailbox("list68", super::enemy::HASH);
                a.file(
                    "mail/enemy.example/list68/cur/1767225601.M1.src,S=9:2,S",
                    "Subject: a\n\nx\n",
                );
                a.file("mail/enemy.example/list68/dovecot-uidlist", "3 V1767225600 N9 Gd41d8cd98f00b204e9800998ecf8427e\n7 :1767225601.M1.src,S=9\n8 :gone.src\n");
                // An empty identifier, at which each of Dovecot's processes dies.
                a.mailbox("dies68", super::enemy::HASH);
                a.file(
                    "mail/enemy.example/dies68/cur/1767225601.M1.src,S=9:2,S",
                    "Subject: a\n\nx\n",
                );
                a.file("mail/enemy.example/dies68/dovecot-uidlist", "3 V1767225600 N9 G00000000000000000000000000000000\n7 :1767225601.M1.src,S=9\n");
            },
            &[
                Holds("a damaged list is left out", |r| {
                    let login = "dies68@enemy.example";
                    let seen = crate::clients::messages(
                        r.stage.target,
                        login,
                        super::enemy::PASSWORD,
                        "INBOX",
                    );
                    assert_eq!(seen, Ok(1));
                }),
                Holds("the message opens under its number", |r| {
                    let said = crate::clients::imap(
                        r.stage.target,
                        "list68@enemy.example",
                        super::enemy::PASSWORD,
                        &["EXAMINE INBOX", "UID SEARCH ALL"],
                    )
                    .unwrap();
                    assert!(
                        said[0].contains("* 1 EXISTS") && said[1].contains("* SEARCH 7"),
                        "{said:?}"
                    );
                }),
            ],
        )],
    },
    Row {
        number: 69,
        name: "mail that arrives meanwhile",
        attacks: &[Elsewhere(
            "the second restore of this suite: a message that came in between stays beside the archive's",
        )],
    },
    Row {
        number: 70,
        name: "messages in Dovecot's own storage",
        attacks: &[Planted(
            |a| {
                a.mailbox("mdbox70", super::enemy::HASH);
                a.file("mail/enemy.example/mdbox70/storage/m.1", "x");
                a.file("mail/enemy.example/mdbox70/mailbox_format.cpanel", "mdbox");
            },
            &[Holds("that they are not taken over, or changed on the way, is said", |r| {
                let lost = r.plan.not_transferred.iter().map(|l| &l.item);
                let said = r.reports.iter().flat_map(|r| &r.items).filter(|i| !i.detail.is_empty());
                assert!(
                    lost.chain(said.map(|i| &i.id)).any(|i| i.contains("mdbox70@enemy.example"))
                );
            })],
        )],
    },
    Row {
        number: 71,
        name: "two SPF records, and a key in pieces",
        attacks: &[Planted(
            |a| {
                a.add("dnszones/enemy.example.db", "@ TXT \"v=spf1 +a ~all\"\n@ TXT \"v=spf1 +all\"\nk71 TXT \"v=DKIM1; p=AAAA\" \"BBBB\"\n")
            },
            &[Holds("one SPF; the pieces stay", |r| {
                let sets = zone(r);
                let spf: Vec<&String> = sets
                    .iter()
                    .filter(|s| s.rtype == "TXT" && s.name == "enemy.example.")
                    .flat_map(|s| &s.records)
                    .collect();
                assert_eq!(spf.iter().filter(|t| t.contains("v=spf1")).count(), 1, "{spf:?}");
                let key = sets.iter().find(|s| s.name.starts_with("k71.")).unwrap();
                assert_eq!(key.records.first().unwrap(), "\"v=DKIM1; p=AAAA\" \"BBBB\"");
            })],
        )],
    },
    Row {
        number: 72,
        name: "a signed zone whose keys do not come",
        attacks: &[Planted(
            |a| a.put("dnssec_keys/enemy.example/x.key", "x"),
            &[Lost("dnssec_keys")],
        )],
    },
    Row {
        number: 73,
        name: "a cache that tells another document root",
        attacks: &[Planted(
            |a| {
                a.put("userdata/cache.json", r#"{"enemy.example":["enemy","root","main","enemy.example","/home/shopco/public_html","","","","","ea-php56"]}"#)
            },
            &[Seen(
                "grep -h DocumentRoot /etc/migrapanel/sites/enemy.example.conf",
                "DocumentRoot \"/home/enemy/public_html\"",
            )],
        )],
    },
    Row {
        number: 74,
        name: "one name in several spellings",
        attacks: &[Planted(
            |a| {
                [
                    "B\u{dc}CHER-enemy.example",
                    "b\u{fc}cher-enemy.example.",
                    "xn--bcher-enemy-wob.example",
                    "ENEMY.example.",
                ]
                .iter()
                .for_each(|n| a.parked(n))
            },
            &[Holds("each is one name in A-labels", |r| {
                let names: Vec<&str> =
                    r.analysis.summary.domains.iter().map(|d| d.name.as_str()).collect();
                assert_eq!(
                    names.iter().filter(|n| n.starts_with("xn--bcher-enemy")).count(),
                    1,
                    "{names:?}"
                );
                assert_eq!(names.iter().filter(|n| **n == "enemy.example").count(), 1, "{names:?}");
                assert!(names.iter().all(|n| n.is_ascii()));
            })],
        )],
    },
    Row {
        number: 75,
        name: "apply in part, then again",
        attacks: &[Elsewhere(
            "workers/agent/tests/e2e/kills.rs: each step dies and runs again; the second restore of this suite doubles no line",
        )],
    },
    Row {
        number: 76,
        name: "a rollback that removes what stood before",
        attacks: &[Elsewhere(
            "every rollback of this suite ends in the snapshot before, with the victim's account in it",
        )],
    },
    Row {
        number: 77,
        name: "a disk that fills up",
        attacks: &[
            Conflict("enemy", "disk_space", huge),
            Alone("what does not fit is refused before anything is made", |stage| {
                let path = stage.planted("huge.tar", huge);
                let job = Job::new(stage.target, &path, "enemy");
                let preview = stage.preview(&job, Ownership::Free, Options::default());
                let analysis = stage.target.ask(Some(job.id), Call::Analyze(job.source()));
                let control = stage.control(&analysis, Ownership::Free);
                let begin =
                    Call::Begin { control, options: Options::default(), digest: preview.digest };
                assert_eq!(stage.target.refusal(Some(job.id), begin), "disk_full");
                let step = Call::Apply { step: StepName::CreateUser };
                assert_eq!(stage.target.refusal(Some(job.id), step), "not_begun");
                let _: serde_json::Value = job.ask(Call::Cleanup);
            }),
        ],
    },
];

fn zone<'r>(restored: &'r super::scene::Restored<'_, '_>) -> &'r [cpanel::plan::RecordSet] {
    let zones = restored.plan.operations.iter().filter_map(|o| match &o.resource {
        Resource::Zone { name, records, .. } if name.as_str() == "enemy.example" => Some(records),
        _ => None,
    });
    zones.into_iter().next().unwrap()
}
