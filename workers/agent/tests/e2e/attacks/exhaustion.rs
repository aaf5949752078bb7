//! Time, memory and disk (123–137).

use super::enemy::{Archive, gzip, header};
use super::scene::Stage;
use super::table::{
    Attack::{Alone, Conflict, DoesNotApply, Dump, Elsewhere, Planted, Refused, RefusedBytes},
    Proof::{Holds, Lost, Seen},
    Row,
};
use crate::target::{Job, STEPS, eventually};
use cpanel::plan::{Options, Ownership, StepName};
use cpanel::protocol::{Call, StepReport};
use std::fmt::Write;
use tar::EntryType;

/// A file of zeros of 1.5 GiB, packed a thousandfold.
fn bomb() -> Vec<u8> {
    let mut archive = Archive::honest();
    let mut zeros = header(EntryType::Regular, b"cpmove-enemy/homedir/zeros");
    zeros.set_size(1536 << 20);
    archive.header(zeros, b"");
    let mut head = archive.tar();
    head.truncate(head.len() - 1024);
    let block = gzip(&vec![0; 16 << 20]);
    let mut packed = gzip(&head);
    (0..96).for_each(|_| packed.extend_from_slice(&block));
    packed
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        writeln!(text, "{}", line(n)).unwrap();
        text
    })
}

pub const ROWS: &[Row] = &[
    Row {
        number: 123,
        name: "a bomb of gzip",
        attacks: &[RefusedBytes("archive_too_large", bomb)],
    },
    Row {
        number: 124,
        name: "millions of members",
        attacks: &[Elsewhere(
            "workers/cpanel/tests/it/broken.rs: one member over the limit of two million is refused: archive_too_large",
        )],
    },
    Row {
        number: 125,
        name: "one huge file, or one of holes",
        attacks: &[
            Refused("truncated", |a| {
                let mut huge = header(EntryType::Regular, b"cpmove-enemy/homedir/huge");
                huge.set_size(1 << 40);
                a.header(huge, b"x");
            }),
            Conflict("enemy", "disk_space", |a| {
                let mut holes = header(EntryType::GNUSparse, b"cpmove-enemy/homedir/holes");
                let gnu = holes.as_gnu_mut().unwrap();
                gnu.set_real_size(1 << 40);
                gnu.sparse[0].set_offset(1 << 40);
                gnu.sparse[0].set_length(0);
                a.header(holes, b"");
            }),
        ],
    },
    Row {
        number: 126,
        name: "giant metadata",
        attacks: &[
            Refused("archive_too_large", |a| a.put("va/enemy.example", vec![b'#'; 9 << 20])),
            Refused("archive_too_large", |a| {
                (0..9).for_each(|n| a.put(&format!("cron/{n}"), vec![b'#'; 8 << 20]))
            }),
        ],
    },
    Row {
        number: 127,
        name: "nesting and repetition without end",
        attacks: &[Planted(
            |a| {
                a.sub("deep127.enemy.example", &"[".repeat(100_000));
                a.sub(
                    "wide127.enemy.example",
                    &format!(
                        "--- \na: &a [x]\n{}",
                        lines(30, |n| format!("b{n}: &b{n} [*a,*a,*a,*a,*a,*a,*a,*a]"))
                    ),
                );
                a.put("ssldomain", "{".repeat(100_000));
                a.put("homedir/.autorespond/ann@enemy.example.json", "[".repeat(100_000));
            },
            &[Lost("userdata:deep127.enemy.example"), Lost("userdata:wide127.enemy.example")],
        )],
    },
    Row {
        number: 128,
        name: "a hundred thousand domains, mailboxes, databases, records",
        attacks: &[
            Refused("archive_too_large", |a| {
                (0..20_000).for_each(|n| a.parked(&format!("d{n}.example")))
            }),
            Refused("archive_too_large", |a| {
                (0..100_000).for_each(|n| a.mailbox(&format!("m{n}"), ""))
            }),
            Refused("archive_too_large", |a| {
                a.add("va/enemy.example", lines(100_000, |n| format!("f{n}: a@b.example")))
            }),
            Refused("archive_too_large", |a| {
                (0..5_000).for_each(|n| a.put(&format!("mysql/enemy_{n}.create"), ""))
            }),
            Refused("archive_too_large", |a| {
                a.add("dnszones/enemy.example.db", lines(90_000, |n| format!("r{n} A 192.0.2.1")))
            }),
        ],
    },
    Row {
        number: 129,
        name: "certificates and zones for thousands of names",
        attacks: &[DoesNotApply(
            "no certificate is ordered by a migration, and the names of an account are bounded (128)",
        )],
    },
    Row {
        number: 130,
        name: "a statement or a row of giant size",
        attacks: &[
            Dump("longer than 16 MiB", || {
                let mut text = b"CREATE TABLE t (a int) COMMENT '".to_vec();
                text.resize(17 << 20, b'x');
                text.extend_from_slice(b"';\n");
                text
            }),
            Planted(
                |_| {},
                &[Seen("mariadb -N -e 'select @@global.max_allowed_packet <= 268435456'", "1")],
            ),
        ],
    },
    Row {
        number: 131,
        name: "statements that compute without end",
        attacks: &[Alone("neutralised: bounded in time, and gone with the undo", endless_sql)],
    },
    Row {
        number: 132,
        name: "expressions that backtrack",
        attacks: &[DoesNotApply(
            "no regular expression is run over an archive's text; the one pattern matcher, SQL's LIKE, is tested to end in linear steps",
        )],
    },
    Row {
        number: 133,
        name: "a million messages in a folder",
        attacks: &[DoesNotApply(
            "messages are laid out once and a mailbox is moved by one rename, whatever their number",
        )],
    },
    Row {
        number: 134,
        name: "a line of progress for each file",
        attacks: &[Planted(
            |a| (0..3_000).for_each(|n| a.file(&format!("flood134/{n}"), "x")),
            &[Holds("the agent says some lines a second", |r| {
                let said = r.stage.target.said.borrow();
                assert!(said.lines().count() < 1_000, "{}", said.lines().count());
            })],
        )],
    },
    Row {
        number: 135,
        name: "many restores at once",
        attacks: &[Elsewhere(
            "workers/tests/it/claims.rs: as many as are allowed run, and one for each account",
        )],
    },
    Row {
        number: 136,
        name: "a stream that never ends",
        attacks: &[DoesNotApply(
            "archives are files that lie on the server; each call has a limit of time, and ends when its worker goes",
        )],
    },
    Row {
        number: 137,
        name: "what a death leaves",
        attacks: &[Alone("neutralised: nothing is left in staging", |stage| {
            let path = stage.planted("dead.tar", |a| {
                (0..2_000).for_each(|n| a.file(&format!("many/{n}"), "x"))
            });
            let job = Job::new(stage.target, &path, "enemy");
            job.begin(Options::default(), Ownership::Free);
            for step in &STEPS[..2] {
                let _: StepReport = job.ask(Call::Apply { step: *step });
            }
            stage.target.put_strace();
            let call = Call::Apply { step: StepName::RestoreHome };
            assert!(stage.target.converse_dying(Some(job.id), call, 200).end().is_none());
            job.undo(false);
            assert_eq!(
                stage.target.shell(
                    "ls -A /home/.migrapanel | grep -v kept; ls -d /home/enemy 2>/dev/null",
                    b""
                ),
                ""
            );
        })],
    },
];

/// A worker that goes while a dump computes leaves no statement behind.
fn endless_sql(stage: &Stage<'_>) {
    let path = stage.planted("endless.tar", |a| {
        a.put("mysql/enemy_db.sql", "SET SESSION max_statement_time = 0;\nCREATE TABLE t (a text);\nINSERT INTO t VALUES (BENCHMARK(100000000000, SHA2('x', 512)));\n-- Dump completed\n");
    });
    let job = Job::new(stage.target, &path, "enemy");
    let components = [(cpanel::plan::Component::Databases, Default::default())].into();
    let preview = job.begin(Options { components, ..Options::default() }, Ownership::Free);
    assert!(preview.plan.totals.databases == 1);
    for step in &STEPS[..2] {
        let _: StepReport = job.ask(Call::Apply { step: *step });
    }
    let running = || {
        let look = "mariadb -N -e \"select count(*) from information_schema.processlist where user = 'enemy_db.definer' and info like '%BENCHMARK(1000%'\"";
        stage.target.shell(look, b"").trim().to_owned()
    };
    let talk = stage.target.converse(Some(job.id), Call::Apply { step: StepName::Databases });
    eventually("the statement runs", || running() == "1");
    talk.hang_up();
    job.undo(false);
    eventually("the statement is gone", || running() == "0");
}
