//! What is written down, and what it does to whoever reads it (151–160).

use super::enemy::{HASH, Member, SQL_HASH};
use super::table::{
    Attack::{Alone, DoesNotApply, OverTheRoad, Planted},
    Proof::{Holds, Lost, Seen},
    Row,
};
use crate::target::{Job, Target};
use cpanel::plan::{Options, Ownership};
use cpanel::protocol::{Call, Outcome};

pub const ROWS: &[Row] = &[
    Row {
        number: 151,
        name: "line ends and escapes that forge lines of a log",
        attacks: &[
            OverTheRoad("no control character in a job's log, its plan or a process's log"),
            Planted(
                |a| {
                    a.put("dnszones/x\n{\"level\":\"INFO\"}\u{1b}[2K.db", "x");
                    a.add("cron/enemy", "\u{1b}[31m nonsense\n");
                },
                &[
                    Lost("cron_line:6"),
                    Holds("no control character in any text", |r| {
                        let said = r.stage.target.said.borrow();
                        assert!(!["\\u001b", "\\u0007", "\\r"].iter().any(|c| said.contains(c)));
                    }),
                ],
            ),
        ],
    },
    Row {
        number: 152,
        name: "HTML in names",
        attacks: &[OverTheRoad(
            "answers are application/json and nosniff, so that no browser takes them for pages",
        )],
    },
    Row {
        number: 153,
        name: "formulas in exported tables",
        attacks: &[DoesNotApply("nothing is exported as CSV or a spreadsheet")],
    },
    Row {
        number: 154,
        name: "secrets in arguments and logs",
        attacks: &[
            OverTheRoad("no hash and no key in a process's log or a job's log"),
            Planted(
                |_| {},
                &[Holds("another user who watches all processes sees none", |r| {
                    let seen = r.seen("wc -l < /tmp/watched154; grep -c 'saltmailinfo\\|PRIVATE KEY\\|MYSQL_PWD\\|IDENTIFIED' /tmp/watched154");
                    let mut counts = seen.split(' ').map(|n| n.parse::<u32>().unwrap());
                    assert!(counts.next().unwrap() > 20, "{seen}");
                    assert_eq!(counts.next(), Some(0), "{seen}");
                    let hash = SQL_HASH.trim_start_matches('*');
                    assert_eq!(
                        r.seen(&format!(
                            "grep -rl '{hash}\\|{}' /var/log /var/lib/migrapanel",
                            HASH.rsplit('$').next().unwrap()
                        )),
                        ""
                    );
                })],
            ),
        ],
    },
    Row {
        number: 155,
        name: "errors that are called success",
        attacks: &[
            OverTheRoad("a migration that lost something ends as completed_with_losses"),
            Planted(
                |_| {},
                &[Holds("each operation of the plan has an outcome", |r| {
                    let reported: Vec<&str> =
                        r.reports.iter().flat_map(|r| &r.items).map(|i| i.id.as_str()).collect();
                    for operation in r.plan.operations.iter().filter(|o| !o.id.starts_with("zone:"))
                    {
                        assert!(reported.contains(&operation.id.as_str()), "{}", operation.id);
                    }
                    let failed = r
                        .reports
                        .iter()
                        .flat_map(|r| &r.items)
                        .find(|i| i.outcome == Outcome::Failed && !i.id.contains("mdbox70"));
                    assert_eq!(failed, None);
                })],
            ),
        ],
    },
    Row {
        number: 156,
        name: "nobody knows who imported what",
        attacks: &[OverTheRoad(
            "the trail names actor, address, request, job and time; the job keeps hash and plan",
        )],
    },
    Row {
        number: 157,
        name: "a trail that can be changed",
        attacks: &[OverTheRoad("no method changes it, and the API's own database role may not")],
    },
    Row {
        number: 158,
        name: "one plan approved, another carried out",
        attacks: &[
            OverTheRoad("an approval is for its job and its choices, once"),
            Alone("refused: plan_changed", |stage| {
                let path = stage.planted("plan158.tar", |_| {});
                let job = Job::new(stage.target, &path, "enemy");
                let preview = stage.preview(&job, Ownership::Free, Options::default());
                let analysis = stage.target.ask(Some(job.id), Call::Analyze(job.source()));
                let mut control = stage.control(&analysis, Ownership::Free);
                control.activate_domains = false;
                let begin =
                    Call::Begin { control, options: Options::default(), digest: preview.digest };
                assert_eq!(stage.target.refusal(Some(job.id), begin), "plan_changed");
                let _: serde_json::Value = job.ask(Call::Cleanup);
            }),
        ],
    },
    Row {
        number: 159,
        name: "names of a customer's files in logs for ever",
        attacks: &[Planted(
            |a| a.file("public_html/diagnosis-of-jane-159.pdf", "x"),
            &[
                Seen("grep -rl diagnosis-of-jane-159 /var/log", ""),
                Holds("in nothing that the agent says", |r| {
                    assert!(!r.stage.target.said.borrow().contains("diagnosis-of-jane-159"));
                }),
            ],
        )],
    },
    Row {
        number: 160,
        name: "times of the archive's choice",
        attacks: &[Planted(
            |a| {
                a.member("homedir/far160", Member { mtime: 8_589_934_591, ..Member::default() });
                a.member("homedir/old160", Member { mtime: 0, ..Member::default() });
                a.member(
                    "homedir/pax160",
                    Member {
                        pax: vec![("mtime", b"-99999999999999999999.5".to_vec())],
                        ..Member::default()
                    },
                );
            },
            &[Seen("ls /home/enemy/*160 | wc -l", "3")],
        )],
    },
];

/// Lets an ordinary user of the server look at all processes while something goes on.
pub fn watch_processes(target: &Target) -> String {
    let line = "su -s /bin/sh nobody -c 'while :; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr \"\\0\" \" \"; echo; done' >/tmp/watched154 2>/dev/null & echo $!";
    target.shell(
        &format!(
            "setsid sh -c \"{}\" </dev/null",
            line.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$")
        ),
        b"",
    )
}

/// Ends that.
pub fn stop_watching(target: &Target, pid: String) {
    target.shell(&format!("pkill -u nobody; kill {} 2>/dev/null", pid.trim()), b"");
}
