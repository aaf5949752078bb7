//! Logins: of mail, of the system, of databases, and names that belong to others (33–56).

use super::enemy::{HASH, Member, PASSWORD};
use super::table::{
    Attack::{Alone, Conflict, DoesNotApply, Elsewhere, OverTheRoad, Planted},
    Proof::{Holds, Lost, Seen, Warned},
    Row,
};
use crate::target::Job;
use cpanel::plan::Ownership;
use cpanel::protocol::Call;

pub const ROWS: &[Row] = &[
    Row {
        number: 33,
        name: "line ends and further fields in mail logins",
        attacks: &[Planted(
            |a| {
                a.add(
                    "homedir/etc/enemy.example/passwd",
                    "ev\ril:x:0:0::/:/\nb{}33:x:0:0::/:/\nuid 33:x:0:0::/:/\n",
                );
                a.mailbox("fields33", &format!("{HASH}\tuserdb_uid=0 nopassword=y"));
                a.mailbox("more33", &format!("{HASH}:0:0::/root::userdb_uid=0 nopassword=y"));
                a.add(
                    "homedir/etc/enemy.example/quota",
                    "fields33:1 userdb_uid=0\nmore33:9\\n*:bytes=1\n",
                );
            },
            &[
                Lost("mailbox:b{}33@enemy.example"),
                Lost("mailbox:uid 33@enemy.example"),
                Warned("mailbox_locked", "fields33@enemy.example"),
                Seen(
                    "grep -c 'nopassword\\|userdb_uid\\|:/root' /etc/migrapanel/mail/enemy.example/passwd",
                    "0",
                ),
                Seen(
                    "cut -d: -f3,4 /etc/migrapanel/mail/enemy.example/passwd | sort -u | grep -vc '^2[0-9][0-9][0-9]:2'",
                    "0",
                ),
            ],
        )],
    },
    Row {
        number: 34,
        name: "a hash that chooses its own scheme",
        attacks: &[Planted(
            |a| {
                a.mailbox("plain34", "{PLAIN}Mail-Pass-1!");
                a.mailbox("pam34", "{PAM}x");
                a.mailbox("bare34", "Mail-Pass-1!");
            },
            &[
                Warned("mailbox_locked", "plain34@enemy.example"),
                Holds("none of them opens", |r| {
                    assert_eq!(
                        r.open_by_own(&["ann", "plain34", "pam34", "bare34"]),
                        "ann@enemy.example"
                    );
                }),
            ],
        )],
    },
    Row {
        number: 35,
        name: "an empty hash",
        attacks: &[Planted(
            |a| a.mailbox("empty35", ""),
            &[
                Warned("mailbox_locked", "empty35@enemy.example"),
                Holds("no password opens it", |r| {
                    let user = "empty35@enemy.example";
                    assert_eq!(r.open(&[(user, ""), (user, "!"), (user, "x")]), "");
                }),
                Seen("awk -F: '$2 == \"\"' /etc/shadow", ""),
            ],
        )],
    },
    Row {
        number: 36,
        name: "a locked hash",
        attacks: &[Planted(
            |a| {
                a.mailbox("locked36", &format!("!{HASH}"));
                a.mailbox("star36", &format!("*LOCKED*{HASH}"));
                a.mailbox("bang36", &format!("!!{HASH}"));
            },
            &[Holds("stays locked", |r| {
                assert_eq!(r.open_by_own(&["locked36", "star36", "bang36"]), "");
            })],
        )],
    },
    Row {
        number: 37,
        name: "hashes that are weak today",
        attacks: &[Planted(
            |a| {
                a.mailbox("des37", "abJnggxhB/yWI");
                a.mailbox("md537", "$1$saltmd5$gjvxYXynJi1T/yeEz8qIC1");
                a.add("mysql.sql", "GRANT USAGE ON *.* TO 'enemy_old'@'localhost' IDENTIFIED BY PASSWORD '0123456789abcdef';\n");
            },
            &[
                Warned("password_weak", "des37@enemy.example"),
                Warned("password_weak", "md537@enemy.example"),
                Warned("database_password_new", "enemy_old"),
            ],
        )],
    },
    Row {
        number: 38,
        name: "hashes that cost minutes or gibibytes",
        attacks: &[Planted(
            |a| {
                a.mailbox("rounds38", "$6$rounds=999999999$saltsalt$abc");
                a.mailbox(
                    "bcrypt38",
                    "$2y$31$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
                );
                a.mailbox(
                    "yescrypt38",
                    "$y$jzT$saltsaltsalt$abcdefghijklmnopqrstuvwxyz01234567890123456",
                );
                a.mailbox(
                    "memory38",
                    "$y$jFT$saltsaltsalt$abcdefghijklmnopqrstuvwxyz01234567890123456",
                );
            },
            &[
                Holds("none of them opens", |r| {
                    assert_eq!(
                        r.open_by_own(&["rounds38", "bcrypt38", "yescrypt38", "memory38"]),
                        ""
                    );
                }),
                Seen(
                    "grep -c 'rounds=99\\|2y$31\\|jzT\\|jFT' /etc/migrapanel/mail/enemy.example/passwd",
                    "0",
                ),
            ],
        )],
    },
    Row {
        number: 39,
        name: "a login whose name ends another's",
        attacks: &[Planted(
            |a| {
                a.add("homedir/etc/enemy.example/passwd", "oe39:x:1:1::/:/\njoe39:x:1:1::/:/\n");
                a.add("homedir/etc/enemy.example/shadow", format!("joe39:{HASH}:1::::::\n"));
            },
            &[Holds("only the whole name has the password", |r| {
                assert_eq!(r.open_by_own(&["joe39", "oe39"]), "joe39@enemy.example");
            })],
        )],
    },
    Row {
        number: 40,
        name: "an account called as the system's users are",
        attacks: &[
            Alone("refused: reserved_user_name", |stage| {
                let path = stage.planted("reserved.tar", |_| {});
                for name in ["root", "mysql", "sshd", "nobody"] {
                    let job = Job::new(stage.target, &path, name);
                    let code = stage.target.refusal(Some(job.id), Call::Analyze(job.source()));
                    let _: serde_json::Value = job.ask(Call::Cleanup);
                    assert_eq!(code, "reserved_user_name", "{name}");
                }
            }),
            Conflict("enemy", "domain:web1.panel.example", |a| {
                a.put("shadow", format!("{HASH}\nroot:{HASH}:1::::::\n"));
                a.parked("web1.panel.example");
            }),
        ],
    },
    Row {
        number: 41,
        name: "the user name of another's account",
        attacks: &[
            OverTheRoad("conflict user:…, nothing is applied"),
            Planted(
                |_| {},
                &[Holds("refused: conflict user:shopco", |r| {
                    let path = r.stage.planted("neighbour41.enemy.tar", |_| {});
                    let job = crate::target::Job::new(r.stage.target, &path, "shopco");
                    let preview = r.stage.preview(&job, Ownership::Taken, Default::default());
                    let _: serde_json::Value = job.ask(cpanel::protocol::Call::Cleanup);
                    assert!(preview.plan.conflicts.iter().any(|c| c.id == "user:shopco"));
                })],
            ),
        ],
    },
    Row {
        number: 42,
        name: "a domain of another's, or the server's own name",
        attacks: &[
            OverTheRoad("conflict domain:…, nothing is applied"),
            Planted(
                |a| {
                    a.parked("shopco.example");
                    a.parked("web1.panel.example");
                    a.parked("ns1.panel.example");
                    a.add("userdata/enemy.example", "servername: gadgets.example\n");
                },
                &[
                    Lost("domain:shopco.example"),
                    Lost("domain:web1.panel.example"),
                    Lost("domain:ns1.panel.example"),
                    Seen(
                        "grep -l 'shopco.example\\|web1.panel\\|gadgets.example' $(grep -l 'User.* enemy' /etc/migrapanel/sites/*)",
                        "",
                    ),
                ],
            ),
        ],
    },
    Row {
        number: 43,
        name: "a public suffix, or a name below another's domain",
        attacks: &[
            OverTheRoad("conflict domain:…, nothing is applied"),
            Planted(
                |a| ["co.uk", "github.io", "com", "com.br"].iter().for_each(|d| a.parked(d)),
                &[
                    Lost("domain:co.uk"),
                    Lost("domain:github.io"),
                    Lost("domain:com.br"),
                    Lost("domain:com"),
                    Seen(
                        "grep -rl 'co.uk\\|github.io\\|com.br' /etc/migrapanel/sites /etc/migrapanel/mail-domains",
                        "",
                    ),
                ],
            ),
        ],
    },
    Row {
        number: 44,
        name: "zones, mail and keys of a domain that is not the account's",
        attacks: &[
            OverTheRoad("a tenant's domains stay dormant until they are verified"),
            Planted(
                |a| {
                    a.put("dnszones/bank.example.db", "@ A 192.0.2.66\n@ MX 0 mx\n");
                    a.put("va/bank.example", "*: ann@enemy.example\n");
                    a.put("homedir/etc/bank.example/passwd", "ceo:x:1:1::/:/\n");
                    a.put("domainkeys/private/bank.example", "x");
                    a.file("mail/bank.example/ceo/cur/1.x", "x");
                },
                &[
                    Lost("zone:bank.example"),
                    Lost("dkim:bank.example"),
                    Lost("mailbox:ceo@bank.example"),
                    Seen(
                        "ls -d /etc/migrapanel/*/bank.example* 2>/dev/null; exim4 -bt ceo@bank.example | grep -c dovecot",
                        "0",
                    ),
                ],
            ),
        ],
    },
    Row {
        number: 45,
        name: "keys that open the account",
        attacks: &[Planted(
            |a| {
                a.file(".ssh/authorized_keys", "command=\"id\" ssh-ed25519 AAAA evil\n");
                a.file(".ssh/authorized_keys2", "ssh-ed25519 AAAA evil\n");
            },
            &[
                Lost("file:.ssh/authorized_keys"),
                Seen(
                    "ls /home/enemy/.ssh/authorized_keys* 2>/dev/null; sshd -T -C user=enemy,host=x,addr=192.0.2.1 | grep -i denygroups",
                    "denygroups mpaccount",
                ),
            ],
        )],
    },
    Row {
        number: 46,
        name: "private keys of the customer",
        attacks: &[Planted(
            |a| {
                a.member(
                    "homedir/.ssh/id_rsa",
                    Member { body: b"PRIVATE46".to_vec(), mode: 0o666, ..Member::default() },
                )
            },
            &[
                Seen(
                    "find /home/enemy/.ssh/id_rsa ! -perm /o+rwx -printf '%U\\n' | grep -c ^2",
                    "1",
                ),
                Holds("it is in nothing that the agent says", |r| {
                    assert!(!r.stage.target.said.borrow().contains("PRIVATE46"))
                }),
            ],
        )],
    },
    Row {
        number: 47,
        name: "tokens and sessions of cPanel",
        attacks: &[Planted(
            |a| {
                a.add("cp/enemy", "PUSHBULLET_ACCESS_TOKEN=TOKEN47\n");
                a.file(".cpanel/datastore/apitokens", "TOKEN47");
                a.file(".cpanel/caches/x", "TOKEN47");
                a.put("api_tokens_v2/whostmgr/enemy.json", "TOKEN47");
                a.put("session/x", "TOKEN47");
            },
            &[
                Seen("grep -rl TOKEN47 /home /etc /var/lib/migrapanel", ""),
                Holds("no token is in what the agent says", |r| {
                    assert!(!r.stage.target.said.borrow().contains("TOKEN47"))
                }),
            ],
        )],
    },
    Row {
        number: 48,
        name: "links to the attacker's identity provider",
        attacks: &[Planted(|a| a.put("authnlinks/x.db", "x"), &[Lost("external_logins")])],
    },
    Row {
        number: 49,
        name: "team users and subaccounts",
        attacks: &[Planted(
            |a| {
                a.put("team/enemy", "admin:x\n");
                a.file(".subaccounts/storage.sqlite", "x");
            },
            &[Lost("team_users"), Seen("ls -d /home/enemy/.subaccounts 2>/dev/null", "")],
        )],
    },
    Row {
        number: 50,
        name: "FTP logins of root, of others' homes, of the whole disk",
        attacks: &[Planted(
            |a| {
                a.add("proftpdpasswd", format!("root50@enemy.example:{HASH}:0:0:root:/:/bin/bash\nout50@enemy.example:{HASH}:0:0:x:/home/shopco:/bin/ftpsh\n"))
            },
            &[
                Lost("ftp:root50@enemy.example"),
                Lost("ftp:out50@enemy.example"),
                Seen("grep -c 50 /etc/passwd /etc/migrapanel/mail/passwd | grep -v :0", ""),
            ],
        )],
    },
    Row {
        number: 51,
        name: "a mailbox called as a system user is",
        attacks: &[Planted(
            |a| {
                a.mailbox("root", HASH);
                a.mailbox("shopco", HASH);
            },
            &[Holds("only the whole address opens", |r| {
                let logins =
                    [("root@enemy.example", PASSWORD), ("root", PASSWORD), ("shopco", PASSWORD)];
                assert_eq!(r.open(&logins), "root@enemy.example");
            })],
        )],
    },
    Row {
        number: 52,
        name: "identities of the webmail",
        attacks: &[Planted(
            |a| {
                a.put("homedir/etc/enemy.example/ann.rcube.db", "reply-to");
                a.file(".rcube/x.db", "reply-to");
            },
            &[Seen("find /home/enemy -name '*rcube*'", "")],
        )],
    },
    Row {
        number: 53,
        name: "sessions and salts of applications",
        attacks: &[DoesNotApply(
            "they are rows and files of the site itself, restored byte for byte with the account's own rights; whether to end them is its owner's choice",
        )],
    },
    Row {
        number: 54,
        name: "new passwords that can be read elsewhere",
        attacks: &[Planted(
            |a| {
                a.put("mysql.sql-auth.json", r#"{"enemy_new":{"localhost":{"auth_plugin":"caching_sha2_password","pass_hash":"$A$005$x"}}}"#);
                a.add("mysql.sql", "GRANT SELECT ON `enemy\\_db`.* TO 'enemy_new'@'localhost';\n");
                a.file(
                    "public_html/config54.php",
                    "<?php\n$user = 'enemy_new';\n$password = 'old54';\n",
                );
            },
            &[
                Warned("database_password_new", "enemy_new"),
                Holds("the new one stands in the site's configuration alone", |r| {
                    let text =
                        r.stage.target.shell("cat /home/enemy/public_html/config54.php", b"");
                    let new = text.split('\'').nth(3).unwrap();
                    assert!(new.len() >= 32 && new != "old54", "{text}");
                    assert!(!r.stage.target.said.borrow().contains(new));
                    let found = r.seen(&format!("grep -rl {new} /etc /var/log /var/lib/migrapanel /tmp /home --exclude-dir=.migrapanel"));
                    assert_eq!(found, "/home/enemy/public_html/config54.php");
                }),
            ],
        )],
    },
    Row {
        number: 55,
        name: "a server that shows another host key",
        attacks: &[Elsewhere(
            "workers/tests/e2e/refusals.rs: nothing is sent to a server whose host key is not the pinned one; archives are never pulled from elsewhere",
        )],
    },
    Row {
        number: 56,
        name: "a remote panel over TLS without verification",
        attacks: &[DoesNotApply(
            "nothing is pulled from other panels: archives lie on the server already",
        )],
    },
];
