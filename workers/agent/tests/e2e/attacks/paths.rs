//! Paths and the tricks of file systems (1–32).

use super::enemy::{Archive, Member, header, pax, vhost};
use super::scene::Stage;
use super::table::{
    Attack::{Alone, Elsewhere, Planted, Refused},
    Proof::{Holds, Lost, Said, Seen, Tried, Warned, Web},
    Row,
};
use crate::target::{BACKUPS, Job};
use cpanel::plan::{ControlFacts, Options, Ownership, StepName};
use cpanel::protocol::{Analysis, Call, Preview};
use tar::EntryType;

fn named(archive: &mut Archive, name: &[u8]) {
    archive.outside(Member { name: name.to_vec(), body: b"x".to_vec(), ..Member::default() });
}

fn special(archive: &mut Archive, path: &str, kind: EntryType, link: &str) {
    archive.member(path, Member { kind, link: link.into(), ..Member::default() });
}

pub const ROWS: &[Row] = &[
    Row {
        number: 1,
        name: "absolute member name",
        attacks: &[Refused("unsafe_member", |a| named(a, b"/etc/cron.d/x"))],
    },
    Row {
        number: 2,
        name: "names that climb",
        attacks: &[
            Refused("unsafe_member", |a| named(a, b"cpmove-enemy/homedir/a/./../../../etc/x")),
            Refused("unsafe_member", |a| named(a, b"../etc/x")),
        ],
    },
    Row {
        number: 3,
        name: "a link, then a file through it",
        attacks: &[Planted(
            |a| {
                a.link("l3", "/etc");
                a.file("l3/attack3", "x");
                a.link("in3", "public_html");
                a.file("in3/attack3", "x");
            },
            &[
                Seen(
                    "ls /etc/attack3 2>/dev/null; cd /home/enemy; stat -c '%F %U' l3 l3/attack3 in3 in3/attack3; ls public_html/attack3 2>/dev/null",
                    "directory enemy regular file enemy directory enemy regular file enemy",
                ),
                Said("links or files gave way"),
            ],
        )],
    },
    Row {
        number: 4,
        name: "links out of the home",
        attacks: &[Planted(
            |a| {
                a.link("alfa", "/");
                a.link("public_html/pw4", "/etc/passwd");
                a.link("public_html/neighbour4", "/home/shopco/public_html/config.php");
                a.link("up4", "../shopco/public_html");
                a.link("fine4", "public_html/index.html");
            },
            &[
                Seen(
                    "cd /home/enemy; for l in alfa public_html/pw4 public_html/neighbour4 up4 fine4; do [ ! -L $l ] || echo $l; done",
                    "fine4",
                ),
                Said("links that led out of the home"),
            ],
        )],
    },
    Row {
        number: 5,
        name: "links that lead out by way of another",
        attacks: &[Planted(
            |a| {
                a.link("public_html/a5/b5/up", "../../..");
                a.link("public_html/out5", "a5/b5/up/../../etc/passwd");
                a.link("public_html/victim5", "a5/b5/up/../shopco/public_html/config.php");
            },
            &[
                Web("/out5", 403, ""),
                Web("/victim5", 403, ""),
                Tried("cat public_html/victim5 2>&1 | tail -c 18", "Permission denied"),
            ],
        )],
    },
    Row {
        number: 6,
        name: "hard link to a file outside",
        attacks: &[Planted(
            |a| {
                special(a, "homedir/shadow6", EntryType::Link, "/etc/shadow");
                special(a, "homedir/shadow6b", EntryType::Link, "cpmove-enemy/../../etc/shadow");
            },
            &[Seen("ls /home/enemy/shadow6* 2>/dev/null; stat -c '%h %U' /etc/shadow", "1 root")],
        )],
    },
    Row {
        number: 7,
        name: "hard link to what stands in the home already",
        attacks: &[Planted(
            |a| {
                special(
                    a,
                    "homedir/tmp7",
                    EntryType::Link,
                    "cpmove-enemy/homedir/not/in/the/archive",
                )
            },
            &[Seen("ls /home/enemy/tmp7 2>/dev/null", "")],
        )],
    },
    Row {
        number: 8,
        name: "one name, several members",
        attacks: &[
            Refused("unsafe_member", |a| {
                a.member("cp/enemy", Member { body: b"USER=enemy\n".to_vec(), ..Member::default() })
            }),
            Planted(
                |a| {
                    a.file("dup8", "one");
                    a.link("dup8", "public_html/index.html");
                    a.file("dup8", "three");
                },
                &[Seen(
                    "cd /home/enemy; stat -c %F dup8; cat dup8 public_html/index.html",
                    "regular file threethe enemy's site",
                )],
            ),
        ],
    },
    Row {
        number: 9,
        name: "a directory becomes a link and back",
        attacks: &[Planted(
            |a| {
                a.file("d9/a", "x");
                a.link("d9", "public_html");
                a.file("d9/b9", "x");
            },
            &[Seen("cd /home/enemy; stat -c %F d9; ls public_html/b9 2>/dev/null", "directory")],
        )],
    },
    Row {
        number: 10,
        name: "names that look alike",
        attacks: &[Planted(
            |a| {
                a.file("alike10/caf\u{e9}", "nfc");
                a.file("alike10/cafe\u{301}", "nfd");
                a.file("alike10/CAF\u{c9}", "upper");
                a.parked("alias-enemy.example");
                a.parked("ALIAS-Enemy.Example.");
            },
            &[
                Seen("ls /home/enemy/alike10 | wc -l", "3"),
                Seen(
                    "grep -c 'ServerAlias alias-enemy.example' /etc/migrapanel/sites/enemy.example.conf",
                    "1",
                ),
            ],
        )],
    },
    Row {
        number: 11,
        name: "line ends, escapes and backslashes in names; NUL in a PAX name",
        attacks: &[
            Refused("unsafe_member", |a| {
                let name = b"cpmove-enemy/homedir/a\0b".to_vec();
                a.outside(Member {
                    name: b"x".to_vec(),
                    pax: vec![("path", name)],
                    ..Member::default()
                });
            }),
            Planted(
                |a| a.file("odd11/a\nroot::0:0\u{1b}[2J\\n", "x"),
                &[
                    Seen("find /home/enemy/odd11 -type f -printf x", "x"),
                    Holds("no control character in what the agent says", |r| {
                        let said = r.stage.target.said.borrow();
                        assert!(
                            said.lines().count() > 10
                                && !said.contains('\u{1b}')
                                && !said.contains("\\u001b")
                        );
                    }),
                ],
            ),
        ],
    },
    Row {
        number: 12,
        name: "names that look like options or commands",
        attacks: &[Planted(
            |a| {
                a.file("-rf", "x");
                a.file("~root", "x");
                a.file("$(touch /tmp/attack12)", "x");
                a.file("--checkpoint-action=exec=sh", "x");
            },
            &[Seen(
                "ls /tmp/attack12 2>/dev/null; cd /home/enemy; ls -d -- -rf '~root' '$'* --ch* | wc -l",
                "4",
            )],
        )],
    },
    Row {
        number: 13,
        name: "names too long",
        attacks: &[
            Refused("unsafe_member", |a| {
                named(a, &[b"cpmove-enemy/homedir/", &[b'a'; 256][..]].concat())
            }),
            Refused("unsafe_member", |a| {
                named(a, &[b"cpmove-enemy/homedir/", b"ab/".repeat(1500).as_slice()].concat())
            }),
        ],
    },
    Row {
        number: 14,
        name: "ten thousand directories deep",
        attacks: &[
            Refused("unsafe_member", |a| {
                named(
                    a,
                    &[b"cpmove-enemy/homedir/", b"d/".repeat(10_000).as_slice(), b"x"].concat(),
                )
            }),
            Refused("unsafe_member", |a| {
                named(a, &[b"cpmove-enemy/homedir/", b"d/".repeat(127).as_slice(), b"x"].concat())
            }),
        ],
    },
    Row {
        number: 15,
        name: "devices, FIFOs, sockets",
        attacks: &[Planted(
            |a| {
                special(a, "homedir/null15", EntryType::Char, "");
                special(a, "homedir/disk15", EntryType::Block, "");
                special(a, "homedir/pipe15", EntryType::Fifo, "");
                special(a, "homedir/what15", EntryType::new(b'Z'), "");
            },
            &[
                Seen("find /home/enemy ! -type f ! -type d ! -type l", ""),
                Said("special files were left out"),
            ],
        )],
    },
    Row {
        number: 16,
        name: "PAX records that rename and point elsewhere",
        attacks: &[
            Refused("unsafe_member", |a| {
                a.outside(Member {
                    name: b"cpmove-enemy/homedir/ok".to_vec(),
                    pax: vec![("path", b"../etc/x".to_vec())],
                    ..Member::default()
                });
            }),
            Planted(
                |a| {
                    a.member(
                        "homedir/l16",
                        Member {
                            kind: EntryType::Symlink,
                            link: b"public_html".to_vec(),
                            pax: vec![("linkpath", b"/etc/shadow".to_vec())],
                            ..Member::default()
                        },
                    )
                },
                &[Seen("ls -d /home/enemy/l16 2>/dev/null", "")],
            ),
        ],
    },
    Row {
        number: 17,
        name: "PAX and ustar disagree on a size, to hide members in a body",
        attacks: &[Planted(
            |a| {
                let mut hidden = header(EntryType::Regular, b"cpmove-enemy/homedir/hidden17");
                hidden.set_size(0);
                hidden.set_cksum();
                let body = [hidden.as_bytes().as_slice(), &[0; 512]].concat();
                a.block(EntryType::XHeader, b"pax", &pax("size", b"1024"));
                let outer = header(EntryType::Regular, b"cpmove-enemy/homedir/outer17");
                a.header(outer, &body);
            },
            &[Seen("cd /home/enemy; ls hidden17 2>/dev/null; stat -c %s outer17", "1024")],
        )],
    },
    Row {
        number: 18,
        name: "a global PAX header that renames all that follow",
        attacks: &[Planted(
            |a| {
                let all = [
                    pax("path", b"cpmove-enemy/cron/root"),
                    pax("uid", b"0"),
                    pax("mode", b"4777"),
                ]
                .concat();
                a.block(EntryType::XGlobalHeader, b"pax_global_header", &all);
                a.file("own18", "x");
            },
            &[Seen("stat -c '%U %a' /home/enemy/own18", "enemy 640")],
        )],
    },
    Row {
        number: 19,
        name: "a GNU long name of absurd size",
        attacks: &[
            Refused("unsafe_member", |a| {
                a.block(EntryType::GNULongName, b"././@LongLink", &vec![b'a'; 2 << 20])
            }),
            Refused("truncated", |a| {
                let mut long = header(EntryType::GNULongLink, b"././@LongLink");
                long.set_size(1 << 32);
                a.header(long, b"x");
            }),
        ],
    },
    Row {
        number: 20,
        name: "sparse maps that overlap, go backwards or overflow",
        attacks: &[
            Refused("truncated", |a| sparse(a, &[(512, 512), (0, 512)], 2048)),
            Refused("truncated", |a| {
                sparse(a, &[(u64::MAX - 511, 512), (u64::MAX, 512)], u64::MAX)
            }),
            Refused("archive_too_large", |a| sparse(a, &[(0, 512), (1 << 60, 0)], 1 << 60)),
        ],
    },
    Row {
        number: 21,
        name: "an archive inside the archive",
        attacks: &[
            Planted(
                |a| {
                    let inner = "homedir/inner21.tar";
                    let mut nested = Archive::default();
                    named(&mut nested, b"../../../../etc/cron.d/attack21");
                    a.put(inner, nested.tar());
                },
                &[Seen(
                    "ls /etc/cron.d/attack21 2>/dev/null; ls /home/enemy/*21*",
                    "/home/enemy/inner21.tar",
                )],
            ),
            Alone("a home packed as tar is refused, or reported and not read", |stage| {
                let mut nested = Archive::default();
                named(&mut nested, b"../../../../etc/cron.d/attack21");
                let mut archive = Archive::honest();
                archive.drop("homedir/");
                archive.put("homedir.tar", nested.tar());
                let path = stage.put("nested.tar", &archive.tar());
                let job = Job::new(stage.target, &path, "enemy");
                let event = stage.target.event(Some(job.id), Call::Analyze(job.source()));
                let _: serde_json::Value = job.ask(Call::Cleanup);
                let text = format!("{event:?}");
                assert!(text.contains("unsafe_member") || text.contains("homedir.tar"), "{text}");
            }),
        ],
    },
    Row {
        number: 22,
        name: "a second account in the archive",
        attacks: &[
            Refused("unsafe_member", |a| a.put("cp/shopco", "DNS=shopco.example\nUSER=shopco\n")),
            Planted(
                |a| {
                    named(a, b"cpmove-shopco/cp/shopco");
                    named(a, b"cpmove-shopco/homedir/public_html/attack22");
                },
                &[Lost("members_outside"), Seen("find / -xdev -name attack22", "")],
            ),
        ],
    },
    Row {
        number: 23,
        name: "a user name that is a path",
        attacks: &[
            Refused("unsafe_member", |a| a.put("cp/../root", "USER=root\n")),
            Refused("invalid_account", |a| {
                a.drop("cp/");
                a.put("cp/root;id", "DNS=enemy.example\nUSER=root;id\n");
            }),
            Planted(
                |a| a.add("cp/enemy", "USER=../root\n"),
                &[Warned("user_name_differs", "enemy")],
            ),
        ],
    },
    Row {
        number: 24,
        name: "document roots outside the home",
        attacks: &[Planted(
            |a| {
                a.sub("a24.enemy.example", "--- \ndocumentroot: /\n");
                a.sub("b24.enemy.example", &vhost("../../etc", ""));
                a.sub(
                    "c24.enemy.example",
                    "--- \nhomedir: /home\ndocumentroot: /home/shopco/public_html\n",
                );
            },
            &[
                Lost("docroot:a24.enemy.example"),
                Lost("docroot:b24.enemy.example"),
                Lost("docroot:c24.enemy.example"),
                Seen(
                    "grep -h DocumentRoot /etc/migrapanel/sites/?24.enemy.example.conf | sort -u",
                    "DocumentRoot \"/home/enemy/public_html\"",
                ),
            ],
        )],
    },
    Row {
        number: 25,
        name: "file names of zones and certificates that are paths",
        attacks: &[
            Refused("unsafe_member", |a| a.put("apache_tls/../../x", "x")),
            Planted(
                |a| {
                    a.put("dnszones/..%2f.db", "@ A 192.0.2.1\n");
                    a.put("apache_tls/..%2fx", "x");
                    a.put("domainkeys/private/..%2fx", "x");
                },
                &[Lost("zone:..%2f"), Lost("certificate:..%2fx"), Lost("dkim:..%2fx")],
            ),
        ],
    },
    Row {
        number: 26,
        name: "another archive between plan and apply, and while steps run",
        attacks: &[Alone("refused: archive_changed", swapped)],
    },
    Row {
        number: 27,
        name: "an archive that others can write, and a race in staging",
        attacks: &[
            Alone("refused: archive_unsafe", |stage| {
                let path = stage.planted("open27.tar", |_| {});
                for weaken in ["chmod 0666", "chown nobody", "chmod 0660"] {
                    stage.target.shell(
                        &format!("chown root {path}; chmod 0600 {path}; {weaken} {path}"),
                        b"",
                    );
                    let job = Job::new(stage.target, &path, "enemy");
                    assert_eq!(
                        stage.target.refusal(Some(job.id), Call::Analyze(job.source())),
                        "archive_unsafe"
                    );
                    let _: serde_json::Value = job.ask(Call::Cleanup);
                }
            }),
            Planted(
                |_| {},
                &[
                    Seen("stat -c '%U %a' /home/.migrapanel", "root 700"),
                    Tried(
                        "ls /home/.migrapanel /var/backups/migrations 2>&1 | grep -c denied",
                        "2",
                    ),
                ],
            ),
        ],
    },
    Row {
        number: 28,
        name: "owners changed through links",
        attacks: &[Planted(
            |a| {
                a.link("public_html/a28/up", "../..");
                a.link("public_html/etc28", "a28/up/../../etc/passwd");
            },
            &[Seen(
                "stat -c '%U %a' /etc/passwd /etc /home/shopco/public_html/config.php",
                "root 644 root 755 shopco 600",
            )],
        )],
    },
    Row {
        number: 29,
        name: "another file system mounted in the home",
        attacks: &[Elsewhere(
            "paths below a home are opened with RESOLVE_NO_XDEV; the second restore of this suite meets a mounted directory and leaves it alone",
        )],
    },
    Row {
        number: 30,
        name: "links through /proc",
        attacks: &[Planted(
            |a| {
                a.link("p30", "/proc/self/root/etc/shadow");
                a.link("public_html/q30", "/proc/self/fd/3");
                a.file("p30/x", "x");
            },
            &[Seen(
                "cd /home/enemy; stat -c %F p30; [ -L public_html/q30 ] && echo link",
                "directory",
            )],
        )],
    },
    Row {
        number: 31,
        name: "a rollback that removes through a planted link",
        attacks: &[Elsewhere(
            "the rollback at the end of this suite meets links to /root/kept31: what they point to stays",
        )],
    },
    Row {
        number: 32,
        name: "a rollback that parks what links point to",
        attacks: &[Elsewhere(
            "the rollback at the end of this suite parks a link to /etc/shadow as a link",
        )],
    },
];

fn sparse(archive: &mut Archive, chunks: &[(u64, u64)], real: u64) {
    let mut header = header(EntryType::GNUSparse, b"cpmove-enemy/homedir/sparse");
    let body: u64 = chunks.iter().map(|c| c.1).sum();
    header.set_size(body);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(real);
    for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(chunks) {
        slot.set_offset(*offset);
        slot.set_length(*length);
    }
    archive.header(header, &vec![b'x'; usize::try_from(body).unwrap()]);
}

fn swapped(stage: &Stage<'_>) {
    let path = stage.planted("swapped.tar", |_| {});
    let job = Job::new(stage.target, &path, "enemy");
    let analysis: Analysis = job.ask(Call::Analyze(job.source()));
    let control: ControlFacts = stage.control(&analysis, Ownership::Free);
    let options = Options::default;
    let preview: Preview = job.ask(Call::Preview { control: control.clone(), options: options() });
    let begin = || Call::Begin {
        control: control.clone(),
        options: options(),
        digest: preview.digest.clone(),
    };
    let other = stage.planted("other.tar", |a| a.file("attack26", "x"));
    // Another file by that name, with the old one's times.
    stage.target.shell(
        &format!("cp -p {path} {path}.old; touch -r {path} {other}; mv {other} {path}"),
        b"",
    );
    assert_eq!(stage.target.refusal(Some(job.id), begin()), "archive_changed");
    let _: serde_json::Value = job.ask(Call::Cleanup);

    let job = Job::new(stage.target, &format!("{path}.old"), "enemy");
    job.begin(options(), Ownership::Free);
    for step in [StepName::CreateUser, StepName::CreateDirectories] {
        let _: serde_json::Value = job.ask(Call::Apply { step });
    }
    stage.target.shell(&format!("cat {path} > {path}.old"), b"");
    let code = stage.target.refusal(Some(job.id), Call::Apply { step: StepName::RestoreHome });
    assert_eq!(code, "archive_changed");
    job.undo(false);
    stage.target.shell(&format!("rm -f {BACKUPS}/swapped*"), b"");
}
