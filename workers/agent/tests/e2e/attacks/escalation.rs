//! More rights than the account has (107–122).

use super::enemy::{HASH, Member, vhost};
use super::scene::Stage;
use super::table::{
    Attack::{Alone, DoesNotApply, Elsewhere, OverTheRoad, Planted},
    Proof::{Lost, Seen, Sql, Tried},
    Row,
};
use crate::target::Job;
use cpanel::plan::{Options, Ownership};
use cpanel::protocol::Call;

pub const ROWS: &[Row] = &[
    Row {
        number: 107,
        name: "set-id and sticky bits",
        attacks: &[Planted(
            |a| {
                a.member("homedir/suid107", Member { mode: 0o6755, ..Member::default() });
                a.member(
                    "homedir/dir107",
                    Member { kind: tar::EntryType::Directory, mode: 0o7777, ..Member::default() },
                );
            },
            &[Seen(
                "find /home/enemy /home/.migrapanel -perm /7000; stat -c %a /home/enemy/suid107 /home/enemy/dir107",
                "750 770",
            )],
        )],
    },
    Row {
        number: 108,
        name: "files that everybody may write or read",
        attacks: &[Planted(
            |a| {
                a.member("homedir/public_html/open108", Member { mode: 0o666, ..Member::default() })
            },
            &[Seen(
                "stat -c %a /home/enemy/public_html/open108 /home/enemy/public_html",
                "660 750",
            )],
        )],
    },
    Row {
        number: 109,
        name: "capabilities, access lists and labels",
        attacks: &[Planted(
            |a| {
                a.member(
                    "homedir/caps109",
                    Member {
                        mode: 0o755,
                        pax: vec![
                            (
                                "SCHILY.xattr.security.capability",
                                vec![
                                    1, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                    0, 0, 0,
                                ],
                            ),
                            ("SCHILY.xattr.user.x", b"y".to_vec()),
                            ("SCHILY.acl.access", b"user::rwx,other::rwx".to_vec()),
                        ],
                        ..Member::default()
                    },
                );
            },
            &[Seen(
                "ls -d /home/enemy/caps109; tar --xattrs --xattrs-include='*' --acls -C /home/enemy -cf - caps109 | grep -ac SCHILY",
                "/home/enemy/caps109 0",
            )],
        )],
    },
    Row {
        number: 110,
        name: "members of root's and of the victim's",
        attacks: &[Planted(
            |a| {
                for uid in [0, 33, 2000] {
                    a.member(&format!("homedir/uid110-{uid}"), Member { uid, ..Member::default() });
                }
            },
            &[Seen("stat -c '%U %G' /home/enemy/uid110-* | sort -u", "enemy enemy")],
        )],
    },
    Row {
        number: 111,
        name: "groups of the system",
        attacks: &[Planted(
            |a| a.add("cp/enemy", "GROUP=sudo\nGROUPS=docker,shadow,mail\n"),
            &[Tried("id -Gn", "enemy mpaccount")],
        )],
    },
    Row {
        number: 112,
        name: "a login shell",
        attacks: &[Planted(
            |a| a.put("shell", "/bin/bash"),
            &[Seen("getent passwd enemy | cut -d: -f7", "/usr/sbin/nologin")],
        )],
    },
    Row {
        number: 113,
        name: "rights of a reseller",
        attacks: &[Planted(
            |a| a.put("resellerconfig/resellers", "enemy:all\n"),
            &[Lost("reseller")],
        )],
    },
    Row {
        number: 114,
        name: "limits of its own choice",
        attacks: &[DoesNotApply(
            "no limit of an account is taken from an archive; plans with limits are not part of this product yet",
        )],
    },
    Row {
        number: 115,
        name: "rights on the whole server and by pattern",
        attacks: &[Planted(
            |a| {
                a.add("mysql.sql", "GRANT ALL PRIVILEGES ON `%`.* TO 'enemy_p'@'localhost';\nGRANT SELECT ON `shopco_%`.* TO 'enemy_u'@'localhost';\nGRANT SELECT ON `enemy_db`.* TO 'enemy_p'@'localhost' WITH GRANT OPTION;\nGRANT SELECT ON `shopco\\_wp`.* TO 'enemy_p'@'localhost';\nGRANT PROXY ON ''@'' TO 'enemy_p'@'localhost';\n");
            },
            &[
                Seen(
                    "mariadb -e 'create database enemyxdb'; mariadb -rN -e \"show grants for enemy_u@localhost; show grants for enemy_p@localhost\" | grep -o 'ON .* TO' | sort -u",
                    "ON *.* TO ON `enemy\\_cut`.* TO ON `enemy\\_db`.* TO ON `enemy\\_eng`.* TO ON `enemy\\_latin`.* TO",
                ),
                Sql("USE enemyxdb;", "ERROR 1044"),
                Seen(
                    "mariadb -e 'drop database enemyxdb'; mariadb -N -e \"select count(*) from mysql.global_priv where user like 'enemy%' and priv like '%is_role%'\"",
                    "0",
                ),
                Sql("GRANT SELECT ON enemy_db.* TO 'shopco_wp'@'localhost';", "ERROR 1044"),
            ],
        )],
    },
    Row {
        number: 116,
        name: "databases of the server and of others",
        attacks: &[Planted(
            |a| {
                for name in
                    ["mysql", "SYS", "information_schema", "performance_schema", "shopco_wp"]
                {
                    a.put(
                        &format!("mysql/{name}.sql"),
                        "CREATE TABLE attack116 (a int);\n-- Dump completed\n",
                    );
                }
            },
            &[
                Lost("database:mysql"),
                Lost("database:SYS"),
                Lost("database:performance_schema"),
                Lost("database:shopco_wp"),
                Seen(
                    "mariadb -N -e \"select table_schema from information_schema.tables where table_name='attack116'\"",
                    "",
                ),
            ],
        )],
    },
    Row {
        number: 117,
        name: "database users of the server and of others, from everywhere",
        attacks: &[Planted(
            |a| {
                for user in [
                    "root",
                    "mariadb.sys",
                    "debian-sys-maint",
                    "mysql",
                    "shopco_wp",
                    "shopco_wp.definer",
                    "enemy2.definer",
                    "enemy_far",
                ] {
                    a.add("mysql.sql", format!("GRANT USAGE ON *.* TO '{user}'@'%' IDENTIFIED BY PASSWORD '*3B8C43D917F6C9960FA7AD6B0E0A29F3AED70100';\nGRANT SELECT ON `enemy\\_db`.* TO '{user}'@'%';\n"));
                }
            },
            &[
                Lost("database_user:root"),
                Lost("database_user:mariadb.sys"),
                Lost("database_user:debian-sys-maint"),
                Lost("database_user:shopco_wp.definer"),
                Lost("database_user:enemy2.definer"),
                Lost("database_host:enemy_far@%"),
                Seen(
                    "mariadb -N -e \"select user from mysql.global_priv where priv like '%3B8C43D917F6C9960FA7AD6B0E0A29F3AED70100%'; select user from mysql.user where host = '%'; select user from mysql.db where user in ('shopco_wp','shopco_wp.definer','enemy2.definer') and db like 'enemy%'\"",
                    "enemy_far",
                ),
            ],
        )],
    },
    Row {
        number: 118,
        name: "a helper with rights that believes what it is told",
        attacks: &[Alone(
            "refused: paths, users and claims are looked up by the agent itself",
            confused,
        )],
    },
    Row {
        number: 119,
        name: "a customer who restores a crafted archive himself",
        attacks: &[OverTheRoad(
            "404 for every path outside the tenant's own directory, whatever lies there",
        )],
    },
    Row {
        number: 120,
        name: "processes of the user while root restores",
        attacks: &[Elsewhere(
            "the second restore of this suite runs while the enemy's process swaps directories for links to /etc and to the victim's home",
        )],
    },
    Row {
        number: 121,
        name: "a suspended account",
        attacks: &[Alone("reported: account_suspended; no login opens", |stage| {
            let path = stage.planted("suspended.tar", |a| a.add("cp/enemy", "SUSPENDED=1\n"));
            let job = Job::new(stage.target, &path, "enemy");
            let preview = job.begin(Options::default(), Ownership::Free);
            assert!(preview.plan.warnings.iter().any(|w| w.code == "account_suspended"));
            job.apply();
            let opens = crate::clients::imap(
                stage.target,
                "ann@enemy.example",
                super::enemy::PASSWORD,
                &[],
            );
            let shadow = stage.target.shell("grep ^enemy: /etc/shadow | cut -d: -f2", b"");
            job.undo(false);
            assert!(opens.is_none());
            assert!(shadow.trim_end().starts_with('!'), "{shadow}");
        })],
    },
    Row {
        number: 122,
        name: "addresses and ports of others",
        attacks: &[Planted(
            |a| {
                a.sub(
                    "p122.enemy.example",
                    &format!("{}ip: 203.0.113.9\nport: 22\nssl: 1\n", vhost("public_html", "")),
                );
                a.add("cp/enemy", "IP=203.0.113.9\n");
                a.mailbox("ip122", HASH);
            },
            &[
                Seen(
                    "grep -rhi '^ *listen\\|VirtualHost ' /etc/migrapanel/sites/p122.enemy.example.conf",
                    "<VirtualHost *:80>",
                ),
                Seen("ss -Hltn | grep -c 203.0.113", "0"),
            ],
        )],
    },
];

fn confused(stage: &Stage<'_>) {
    let target = stage.target;
    let path = stage.planted("confused.tar", |_| {});
    let job = Job::new(target, &path, "enemy");
    let mut source = job.source();
    source.path = "/etc/passwd".parse().unwrap();
    assert_eq!(
        target.refusal(Some(job.id), Call::Analyze(source.clone())),
        "path_outside_backup_dirs"
    );
    // A link among the backups, to a file that root can read.
    target.shell("ln -s /etc/shadow /var/backups/migrations/link118.tar", b"");
    source.path = "/var/backups/migrations/link118.tar".parse().unwrap();
    assert_eq!(target.refusal(Some(job.id), Call::Analyze(source)), "archive_unsafe");
    target.shell("rm /var/backups/migrations/link118.tar", b"");
    // Other plans than the server itself computes are refused, and so are steps without one.
    let preview = stage.preview(&job, Ownership::Free, Options::default());
    let analysis = target.ask(Some(job.id), Call::Analyze(job.source()));
    let control = stage.control(&analysis, Ownership::Free);
    let digest = preview.digest.chars().rev().collect();
    let begin = Call::Begin { control, options: Options::default(), digest };
    assert_eq!(target.refusal(Some(job.id), begin), "plan_changed");
    let _: serde_json::Value = job.ask(Call::Cleanup);
    let said = target.shell(
        "for l in '{' '[]' '{\"job\":null,\"call\":{\"verb\":\"apply\",\"step\":\"../x\"}}' \
         '{\"job\":{\"id\":\"../../etc\",\"fence\":1},\"traceparent\":null,\"call\":{\"verb\":\"changes\"}}'; \
         do printf '%s\\n' \"$l\" | /usr/local/lib/migrapanel/migrapanel-agent serve | tail -1; done",
        b"",
    );
    assert_eq!(said.matches("\"code\":\"bad_request\"").count(), 4, "{said}");
}
