//! Code that a restore, or what was restored, could run (78–106).

use super::enemy::{HASH, vhost};
use super::table::{
    Attack::{Dump, LeftOut, Planted},
    Proof::{Holds, Lost, Said, Seen, Sql, Web},
    Row,
};
use crate::clients::{get, send_mail};

fn dump(text: &str) -> Vec<u8> {
    format!("CREATE TABLE t (a text);\n{text}\n-- Dump completed\n").into_bytes()
}

/// Nothing of an attack's number was made where all can write, after `eventually` would have seen it.
fn unmarked(restored: &super::scene::Restored<'_, '_>, number: u16) {
    let look = format!("find /tmp /var/tmp /home/enemy /var/mail -name 'attack{number}*'");
    assert_eq!(restored.seen(&look), "");
}

pub const ROWS: &[Row] = &[
    Row {
        number: 78,
        name: "commands of the client in a dump",
        attacks: &[
            Dump("(\\!)", || dump("\\! touch /tmp/attack78")),
            Dump("(\\!)", || dump("INSERT INTO t VALUES (1) \\! touch /tmp/attack78")),
            Dump("(SYSTEM)", || dump("system touch /tmp/attack78")),
            Dump("(SOURCE)", || dump("source /etc/passwd")),
            Dump("(\\.)", || dump("\\. /etc/passwd")),
            Dump("(TEE)", || dump("tee /tmp/attack78")),
            Dump("(PAGER)", || dump("pager touch /tmp/attack78")),
            Dump("(\\!)", || {
                dump("DELIMITER ;;\nINSERT INTO t VALUES ('a;')\n;;\n\\! touch /tmp/attack78\n;;")
            }),
            Dump("DELIMITER", || dump("DELIMITER \\!\nSELECT 1 \\! touch /tmp/attack78")),
            Planted(|_| {}, &[Seen("ls /tmp/attack78* 2>/dev/null", "")]),
        ],
    },
    Row {
        number: 79,
        name: "statements of every kind in mysql.sql",
        attacks: &[Planted(
            |a| {
                a.add("mysql.sql", "CREATE FUNCTION sys_exec RETURNS int SONAME 'lib.so';\nGRANT ALL PRIVILEGES ON *.* TO 'enemy_u'@'localhost' WITH GRANT OPTION;\nGRANT FILE, SUPER ON *.* TO 'enemy_u'@'localhost';\nDROP DATABASE shopco_wp;\nSET GLOBAL general_log=1;\n")
            },
            &[
                Seen(
                    "mariadb -N -e \"show grants for enemy_u@localhost\" | grep -c '\\*\\.\\*' ; mariadb -N -e \"show grants for enemy_u@localhost\" | grep -c 'USAGE ON \\*\\.\\*'",
                    "1 1",
                ),
                Seen(
                    "mariadb -N -e 'select count(*) from mysql.func; select count(*) from shopco_wp.posts; select @@general_log'",
                    "0 4 0",
                ),
            ],
        )],
    },
    Row {
        number: 80,
        name: "files read and written by SQL",
        attacks: &[
            LeftOut("LOAD", || dump("LOAD DATA LOCAL INFILE '/etc/shadow' INTO TABLE t;")),
            LeftOut("LOAD", || dump("LOAD DATA INFILE '/etc/passwd' INTO TABLE t;")),
            LeftOut("SELECT", || dump("SELECT 'x' INTO OUTFILE '/tmp/attack80';")),
            Planted(
                |_| {},
                &[
                    Sql("LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE own;", "ERROR 4166"),
                    Sql("SELECT 1 INTO DUMPFILE '/tmp/attack80';", "Access denied"),
                    Sql("SELECT LOAD_FILE('/etc/passwd') IS NULL;", "1"),
                ],
            ),
        ],
    },
    Row {
        number: 81,
        name: "plugins and functions of the server",
        attacks: &[
            LeftOut("INSTALL", || dump("INSTALL SONAME 'ha_connect';")),
            Planted(
                |_| {},
                &[
                    Sql("INSTALL SONAME 'ha_federatedx';", "ERROR 1142"),
                    Sql("CREATE FUNCTION f RETURNS int SONAME 'x.so';", "ERROR"),
                ],
            ),
        ],
    },
    Row {
        number: 82,
        name: "changes of the whole server by SQL",
        attacks: &[
            LeftOut("SHUTDOWN", || dump("SHUTDOWN;")),
            Planted(
                |a| {
                    a.add("mysql/enemy_db.sql", "SET GLOBAL general_log = 1;\nSET PERSIST x = 1;\nSET SQL_LOG_BIN = 0;\nSET @@GLOBAL.event_scheduler = ON;\nFLUSH PRIVILEGES;\nCHANGE MASTER TO MASTER_HOST='x';\nRESET MASTER;\n")
                },
                &[
                    Seen(
                        "mariadb -N -e 'select @@general_log, @@event_scheduler, @@sql_log_bin'",
                        "0 OFF 1",
                    ),
                    Sql("SET GLOBAL max_connections = 1;", "ERROR 1227"),
                    Sql("KILL 1;", "ERROR"),
                    Sql("FLUSH TABLES WITH READ LOCK;", "ERROR 1227"),
                    Sql("SET SESSION sql_log_bin = 0;", "ERROR 1227"),
                ],
            ),
        ],
    },
    Row {
        number: 83,
        name: "statements about other schemas",
        attacks: &[
            Dump("ERROR 1142", || dump("INSERT INTO shopco_wp.posts VALUES (1,'x');")),
            Dump("ERROR 1142", || dump("CREATE VIEW v AS SELECT * FROM mysql.global_priv;")),
            Planted(
                |a| {
                    a.add("mysql/enemy_db.sql", "CREATE DATABASE attack83;\nUSE mysql;\n/*!50000 USE shopco_wp */;\nCREATE TABLE t83 (a int);\nDROP DATABASE IF EXISTS shopco_wp;\n")
                },
                &[
                    Sql("SHOW TABLES LIKE 't83'", "t83"),
                    Seen(
                        "mariadb -N -e \"show databases like 'attack83'; show tables in shopco_wp like 't83'\"",
                        "",
                    ),
                    Sql("SELECT * FROM shopco_wp.posts;", "ERROR 1142"),
                    Sql("CREATE DATABASE attack83;", "ERROR 1044"),
                    Sql("USE shopco_wp;", "ERROR 1044"),
                ],
            ),
        ],
    },
    Row {
        number: 84,
        name: "views, triggers and routines of root's",
        attacks: &[Planted(
            |a| {
                a.add("mysql/enemy_db.sql", "CREATE DEFINER=`root`@`localhost` SQL SECURITY DEFINER VIEW v84 AS SELECT a FROM own;\nDELIMITER ;;\nCREATE DEFINER = 'root' @ 'localhost' PROCEDURE p84() SQL SECURITY DEFINER BEGIN SELECT COUNT(*) FROM shopco_wp.posts; END ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`shopco_wp.definer`@`localhost`*/ /*!50003 TRIGGER g84 BEFORE INSERT ON own FOR EACH ROW SET @x = (SELECT COUNT(*) FROM shopco_wp.posts) */;;\nDELIMITER ;\n")
            },
            &[
                Seen(
                    "mariadb -N -e \"select definer from information_schema.views where table_schema='enemy_db' union select definer from information_schema.routines where routine_schema='enemy_db' union select definer from information_schema.triggers where trigger_schema='enemy_db'\"",
                    "enemy_db.definer@localhost",
                ),
                Sql("CALL p84();", "ERROR 1142"),
                Sql("INSERT INTO own VALUES (2);", "ERROR 1142"),
                Sql("SELECT * FROM v84;", "1"),
                Sql(
                    "CREATE DEFINER=`shopco_wp.definer`@`localhost` VIEW w84 AS SELECT * FROM shopco_wp.posts;",
                    "ERROR",
                ),
            ],
        )],
    },
    Row {
        number: 85,
        name: "events that go on running",
        attacks: &[Planted(
            |a| {
                a.add(
                    "mysql/enemy_db.sql",
                    "CREATE EVENT e85 ON SCHEDULE EVERY 1 SECOND DO INSERT INTO own VALUES (85);\n",
                )
            },
            &[
                Seen(
                    "mariadb -N -e \"select status, definer from information_schema.events where event_schema='enemy_db'\"",
                    "DISABLED enemy_db.definer@localhost",
                ),
                Said("event"),
            ],
        )],
    },
    Row {
        number: 86,
        name: "tables that reach other servers and files",
        attacks: &[Planted(
            |a| {
                a.put("mysql/enemy_eng.sql", "CREATE TABLE c (a int NOT NULL) ENGINE=CSV;\nCREATE TABLE f (a int) ENGINE=FEDERATED;\nCREATE TABLE x (a int) ENGINE=CONNECT;\n-- Dump completed\n")
            },
            &[
                Seen(
                    "mariadb -N -e \"select engine from information_schema.tables where table_schema='enemy_eng' and table_name in ('f','x')\"",
                    "InnoDB InnoDB",
                ),
                Sql(
                    "CREATE TABLE i86 (a int) DATA DIRECTORY='/tmp'; SHOW TABLES LIKE 'i86';",
                    "i86",
                ),
                Seen("find / -xdev -name 'i86*' ! -path '/var/lib/mysql/enemy_db/*'", ""),
            ],
        )],
    },
    Row {
        number: 87,
        name: "statements inside executable comments",
        attacks: &[
            LeftOut("GRANT", || {
                dump(
                    "/*!50003 GRANT ALL PRIVILEGES ON mysql.* TO 'enemy_db.definer'@'localhost' */;",
                )
            }),
            LeftOut("CREATE", || dump("/*M!100500 CREATE USER attack87 */;")),
            Dump("nested", || dump("/*!50003 SELECT 1 /*!50003 \\! id */ */;")),
            Planted(
                |a| {
                    a.add("mysql/enemy_db.sql", "/*!50003 SET GLOBAL general_log = 1 */;\n/*! USE mysql */;\n/*M!100500 SET @@global.event_scheduler = 1 */;\n")
                },
                &[Seen("mariadb -N -e 'select @@general_log, @@event_scheduler'", "0 OFF")],
            ),
        ],
    },
    Row {
        number: 88,
        name: "cron lines and what they set",
        attacks: &[Planted(
            |a| {
                a.put("cron/enemy", "LD_PRELOAD=/home/enemy/evil.so\nSHELL=/home/enemy/sh\n* * * * * touch /tmp/attack88\n@reboot touch /tmp/attack88b\n* * * * * root touch /tmp/attack88c\n")
            },
            &[
                Seen(
                    "ls /var/spool/cron/crontabs /etc/cron.d 2>/dev/null | grep -i 'enemy\\|migrapanel'; grep -rl attack88 /etc /var/spool",
                    "",
                ),
                Said("confirmed"),
                Holds("nothing ran", |r| unmarked(r, 88)),
            ],
        )],
    },
    Row {
        number: 89,
        name: "crontabs of others",
        attacks: &[Planted(
            |a| {
                a.put("cron/root", "* * * * * touch /tmp/attack89\n");
                a.put("cron/shopco", "* * * * * touch /tmp/attack89\n");
            },
            &[
                Lost("cron:root"),
                Lost("cron:shopco"),
                Seen("grep -rl attack89 /var/spool /etc /var/lib/migrapanel", ""),
            ],
        )],
    },
    Row {
        number: 90,
        name: "mail that goes into programs",
        attacks: &[Planted(
            |a| {
                a.add("va/enemy.example", "pipe90: \"|/usr/bin/touch /tmp/attack90\"\nboth90: ann@enemy.example, |/usr/bin/touch /tmp/attack90\n")
            },
            &[
                Lost("pipe:pipe90@enemy.example"),
                Holds("mail to it runs nothing", |r| {
                    assert_eq!(send_mail(r.stage.target, "both90@enemy.example"), 250);
                    send_mail(r.stage.target, "pipe90@enemy.example");
                    assert_eq!(
                        r.seen(
                            "exim4 -bt pipe90@enemy.example both90@enemy.example | grep -c address_pipe"
                        ),
                        "0"
                    );
                    unmarked(r, 90);
                }),
            ],
        )],
    },
    Row {
        number: 91,
        name: "lists in files, delivery into files, texts with line ends",
        attacks: &[Planted(
            |a| {
                a.add("va/enemy.example", "inc91: \":include:/etc/shadow\"\nfile91: /etc/cron.d/attack91\nhome91: /home/shopco/public_html/x\nfail91: \":fail: a\\r\\n*: :include:/etc/passwd\"\nnl91: a@b.example\r*: c@d.example\n")
            },
            &[
                Lost("forward:inc91@enemy.example"),
                Lost("forward:file91@enemy.example"),
                Seen(
                    "grep -c 'include\\|/\\|d.example' /etc/migrapanel/mail/enemy.example/aliases",
                    "0",
                ),
            ],
        )],
    },
    Row {
        number: 92,
        name: "filters in Exim's language",
        attacks: &[Planted(
            |a| {
                let filter = "# Exim filter\nif true then pipe \"/usr/bin/touch /tmp/attack92\" endif\nsave /tmp/attack92\n";
                a.put("vf/enemy.example", filter);
                a.put("homedir/etc/enemy.example/ann/filter", filter);
                a.file(".filter", filter);
            },
            &[
                Holds("the filter is not taken over as it is", |r| {
                    assert!(
                        r.plan
                            .not_transferred
                            .iter()
                            .any(|l| l.item.starts_with("filter:ann@enemy.example"))
                    );
                }),
                Holds("mail runs nothing of them", |r| {
                    assert_eq!(send_mail(r.stage.target, "ann@enemy.example"), 250);
                    unmarked(r, 92);
                }),
            ],
        )],
    },
    Row {
        number: 93,
        name: "expansions of Exim in names",
        attacks: &[Planted(
            |a| {
                a.add("va/enemy.example", "${run{/usr/bin/touch /tmp/attack93}}: ann@enemy.example\nx93: ${readfile{/etc/shadow}}@enemy.example, \"${run{x}}\"\n");
                a.add("homedir/etc/enemy.example/passwd", "${run{x}}:x:1:1::/:/\n");
            },
            &[
                Lost("mailbox:${run{x}}@enemy.example"),
                Holds("no file of Exim's has one, and none is run", |r| {
                    assert_eq!(r.seen("grep -rl '\\${' /etc/migrapanel/mail"), "");
                    send_mail(
                        r.stage.target,
                        "${run{/usr/bin/touch${substr{10}{1}{x}}/tmp/attack93}}@enemy.example",
                    );
                    send_mail(r.stage.target, "x93@enemy.example");
                    unmarked(r, 93);
                }),
            ],
        )],
    },
    Row {
        number: 94,
        name: "Sieve that runs programs, reads others' mail, or loops",
        attacks: &[Planted(
            |a| a.mailbox("sieve94", HASH),
            &[
                Seen(
                    "cd /home/enemy/mail/enemy.example/sieve94; printf 'require [\"vnd.dovecot.execute\"];\\nexecute \"touch\" \"/tmp/attack94\";\\n' > a.sieve; ln -sf a.sieve sieve.active; chown -h enemy: a.sieve sieve.active; sievec a.sieve 2>&1 | grep -c vnd.dovecot.execute",
                    "1",
                ),
                Holds("mail is kept, nothing runs", |r| {
                    assert_eq!(send_mail(r.stage.target, "sieve94@enemy.example"), 250);
                    crate::target::eventually("the mail arrives", || {
                        crate::clients::messages(
                            r.stage.target,
                            "sieve94@enemy.example",
                            super::enemy::PASSWORD,
                            "INBOX",
                        ) == Ok(1)
                    });
                    unmarked(r, 94);
                }),
                Seen(
                    "doveconf -n | grep -c 'sieve_extprograms\\|sieve_pipe\\|sieve_execute'; doveconf -h plugin/sieve_max_redirects",
                    "0 10",
                ),
                Holds("a folder of another's does not open through a link", |r| {
                    r.tried("ln -sfn /home/shopco/mail/shopco.example/info mail/enemy.example/sieve94/.victim");
                    let seen = crate::clients::messages(
                        r.stage.target,
                        "sieve94@enemy.example",
                        super::enemy::PASSWORD,
                        "victim",
                    );
                    assert!(seen.as_ref().is_err() || seen == Ok(0), "{seen:?}");
                }),
            ],
        )],
    },
    Row {
        number: 95,
        name: "files by which mail runs programs",
        attacks: &[Planted(
            |a| {
                a.file(".forward", "|/usr/bin/touch /tmp/attack95\n");
                a.file(".procmailrc", ":0\n| /usr/bin/touch /tmp/attack95\n");
                a.file(".qmail", "|touch /tmp/attack95\n");
                a.file(".mailfilter", "`touch /tmp/attack95`\n");
            },
            &[Holds("none is read", |r| {
                send_mail(r.stage.target, "enemy@web1.panel.example");
                send_mail(r.stage.target, "ann@enemy.example");
                assert_eq!(
                    r.seen("exim4 -bt enemy@web1.panel.example | grep -c 'touch\\|pipe'"),
                    "0"
                );
                unmarked(r, 95);
            })],
        )],
    },
    Row {
        number: 96,
        name: "handlers and options in .htaccess",
        attacks: &[Planted(
            |a| {
                let dir = |a: &mut super::enemy::Archive, name: &str, text: &str| {
                    a.file(&format!("public_html/h96/{name}/.htaccess"), text);
                    a.file(
                        &format!("public_html/h96/{name}/x.php"),
                        "<?php echo trim(shell_exec('id -un'));",
                    );
                    a.file(
                        &format!("public_html/h96/{name}/x.cgi"),
                        "#!/bin/sh\ntouch /tmp/attack96\n",
                    );
                };
                dir(
                    a,
                    "fcgi",
                    "SetHandler \"proxy:unix:/run/php/shopco-8.2.sock|fcgi://localhost\"\n",
                );
                dir(
                    a,
                    "rewrite",
                    "RewriteEngine On\nRewriteRule ^ /home/enemy/public_html/h96/rewrite/x.php [H=proxy:unix:/run/php/shopco-8.2.sock|fcgi://localhost,L]\n",
                );
                dir(a, "status", "SetHandler server-status\n");
                dir(a, "info", "SetHandler server-info\n");
                dir(
                    a,
                    "cgi",
                    "Options +ExecCGI +FollowSymLinks +Includes\nAddHandler cgi-script .cgi\n",
                );
                dir(a, "proxy", "RewriteEngine On\nRewriteRule ^ http://127.0.0.1:3306/ [P]\n");
                dir(
                    a,
                    "prepend",
                    "php_value auto_prepend_file /etc/passwd\nphp_admin_value open_basedir /\n",
                );
                dir(a, "links", "Options +FollowSymLinks\n");
                a.link(
                    "public_html/h96/links/v",
                    "../../a5/b5/up/../shopco/public_html/config.php",
                );
                dir(
                    a,
                    "auth",
                    "AuthType Basic\nAuthName x\nAuthUserFile /home/shopco/public_html/config.php\nRequire valid-user\n",
                );
                dir(
                    a,
                    "include",
                    "Include /etc/shadow\nErrorLog /tmp/attack96\nLoadModule x /tmp/x.so\n",
                );
            },
            &[
                Web("/h96/fcgi/x.php", 200, "enemy"),
                Web("/h96/rewrite/y", 503, ""),
                Web("/h96/prepend/x.php", 200, "enemy"),
                Web("/h96/include/x.php", 200, "enemy"),
                Web("/h96/links/v", 403, ""),
                Holds("nothing of the server or another's site is shown, no program runs", |r| {
                    for (path, marks) in [
                        ("/h96/status/x.txt", ["Server Version", "shopco"]),
                        ("/h96/status/", ["Server Version", "shopco"]),
                        ("/h96/info/", ["Server Settings", "shopco"]),
                        ("/h96/proxy/", ["MariaDB", "mysql"]),
                    ] {
                        let (status, body) = get(r.stage.target, "enemy.example", path);
                        assert!(!marks.iter().any(|m| body.contains(m)), "{path} {status}: {body}");
                    }
                    get(r.stage.target, "enemy.example", "/h96/cgi/x.cgi");
                    unmarked(r, 96);
                }),
            ],
        )],
    },
    Row {
        number: 97,
        name: ".user.ini and php.ini",
        attacks: &[Planted(
            |a| {
                let ini = "open_basedir=/\ndisable_functions=\nextension=/home/enemy/evil.so\nsendmail_path=touch /tmp/attack97\nauto_prepend_file=/etc/passwd\nsession.save_path=/home/shopco/tmp\nopcache.validate_permission=0\n";
                a.file("public_html/i97/.user.ini", ini);
                a.file("public_html/i97/php.ini", ini);
                a.file("public_html/i97/x.php", "<?php echo ini_get('open_basedir'), ' ', ini_get('sendmail_path'), ' ', ini_get('session.save_path');");
                a.file("public_html/cache97.php", "<?php var_dump(@opcache_get_status(true)['scripts'] ?? null); var_dump(@file_get_contents('/home/shopco/public_html/config.php')); mkdir('/home/enemy/tmp/a97'); chdir('/home/enemy/tmp/a97'); ini_set('open_basedir', ini_get('open_basedir') . ':..'); for ($i = 0; $i < 9; $i++) chdir('..'); ini_set('open_basedir', '/'); echo @include '/home/shopco/public_html/config.php'; print_r(get_defined_vars());");
            },
            &[
                Holds("the pool's own settings win", |r| {
                    let (status, body) = get(r.stage.target, "enemy.example", "/i97/x.php");
                    assert!(
                        status == 500
                            || body
                                == "/home/enemy:/usr/share/php /usr/sbin/sendmail -t -i /home/enemy/tmp",
                        "{status} {body}"
                    );
                    unmarked(r, 97);
                }),
                Holds("PHP's memory shows nothing of others' programs", |r| {
                    assert_eq!(get(r.stage.target, "shopco.example", "/").0, 200);
                    let (_, body) = get(r.stage.target, "enemy.example", "/cache97.php");
                    assert!(
                        !body.contains("shopco/") && !body.contains("Sql") && !body.contains("db_"),
                        "{body}"
                    );
                }),
            ],
        )],
    },
    Row {
        number: 98,
        name: "lines of Apache in names and directories",
        attacks: &[Planted(
            |a| {
                a.sub("v98.enemy.example", "--- \ndocumentroot: \"/home/enemy/public_html/a\\\"\\nUser root\"\nserveralias: \"ok98.enemy.example a;b.enemy.example {x} shopco.example \\n<VirtualHost> bank.example\"\nphpversion: \"ea-php82\\nuser root\"\n");
                a.sub(
                    "w98.enemy.example",
                    &vhost("public_html/w98 ${APACHE_LOG_DIR} %{x}", "x98.enemy.example"),
                );
                a.put("httpfiles/x", "</VirtualHost>\nUser root\n");
                a.put("userdata/v98.enemy.example.include", "User root\n");
            },
            &[
                Lost("alias:a;b.enemy.example"),
                Lost("apache_includes"),
                Seen(
                    "grep -hc 'User root\\|bank.example\\|shopco' /etc/migrapanel/sites/v98.enemy.example.conf",
                    "0",
                ),
                Seen("apache2ctl configtest 2>&1 | tail -1", "Syntax OK"),
            ],
        )],
    },
    Row {
        number: 99,
        name: "values of PHP-FPM's pools",
        attacks: &[Planted(
            |a| {
                a.put("userdata/enemy.example.php-fpm.yaml", "--- \nuser: root\nlisten: /run/php/shopco-8.2.sock\nphp_admin_value_open_basedir: { name: open_basedir, value: / }\npm_max_children: 999999\n");
                a.put("userdata/php-fpm.yaml", "--- \nuser: root\n");
            },
            &[Seen(
                "grep '^user\\|^listen =\\|max_children\\|basedir' /etc/php/8.2/fpm/pool.d/enemy.conf",
                "user = enemy listen = /run/php/enemy-8.2.sock pm.max_children = 10 php_admin_value[open_basedir] = /home/enemy:/usr/share/php",
            )],
        )],
    },
    Row {
        number: 100,
        name: "zones that include, generate, or run Lua",
        attacks: &[Planted(
            |a| {
                for (name, text) in [
                    ("i100.enemy.example", "$INCLUDE /etc/shadow\n"),
                    ("g100.enemy.example", "$GENERATE 1-16777216 a$ A 192.0.2.1\n"),
                    (
                        "l100.enemy.example",
                        "@ A 192.0.2.66\nx LUA A \"os.execute('id')\"\ny TYPE65402 \\# 1 00\nz ALIAS bank.example.\n",
                    ),
                ] {
                    a.sub(name, &vhost("public_html", ""));
                    a.put(&format!("dnszones/{name}.db"), text);
                }
            },
            &[
                Lost("zone:i100.enemy.example"),
                Lost("zone:g100.enemy.example"),
                Lost("record:l100.enemy.example:2"),
                Lost("record:l100.enemy.example:3"),
                Lost("record:z.l100.enemy.example.:ALIAS"),
            ],
        )],
    },
    Row {
        number: 101,
        name: "Python objects of mailing lists",
        attacks: &[Planted(
            |a| {
                a.put(
                    "mm/list_enemy.example/config.pck",
                    b"cos\nsystem\n(S'touch /tmp/attack101'\ntR.".to_vec(),
                )
            },
            &[Lost("mailing_lists"), Holds("never read", |r| unmarked(r, 101))],
        )],
    },
    Row {
        number: 102,
        name: "tags, anchors and stored objects",
        attacks: &[Planted(
            |a| {
                a.sub(
                    "y102.enemy.example",
                    "--- !!python/object/apply:os.system ['touch /tmp/attack102']\n",
                );
                a.sub(
                    "z102.enemy.example",
                    "--- \na: &a [x,x]\ndocumentroot: /home/enemy/public_html/z\nb: [*a,*a]\n",
                );
                a.put("userdata/enemy.example.cache", b"pst0\x04\x0b".to_vec());
            },
            &[
                Lost("userdata:y102.enemy.example"),
                Lost("userdata:z102.enemy.example"),
                Holds("nothing ran", |r| unmarked(r, 102)),
            ],
        )],
    },
    Row {
        number: 103,
        name: "files that run at a login",
        attacks: &[Planted(
            |a| {
                [".bashrc", ".profile", ".bash_logout", ".ssh/rc", ".ssh/environment"]
                    .iter()
                    .for_each(|f| a.file(f, "touch /tmp/attack103\nLD_PRELOAD=/home/enemy/x.so\n"))
            },
            &[
                Seen(
                    "getent passwd enemy | cut -d: -f7; su -l enemy -c true >/dev/null 2>&1 || echo no login",
                    "/usr/sbin/nologin no login",
                ),
                Seen(
                    "sshd -T -C user=enemy,host=x,addr=192.0.2.1 | grep -i permituserenvironment",
                    "permituserenvironment no",
                ),
            ],
        )],
    },
    Row {
        number: 104,
        name: "a web shell",
        attacks: &[Planted(
            |a| {
                a.file("public_html/shell104.php", "<?php echo shell_exec('id -un; cat /home/shopco/public_html/config.php /etc/shadow /var/lib/migrapanel/* /etc/migrapanel/server.key 2>/dev/null; ls /home/shopco /home/.migrapanel 2>/dev/null; mariadb -u root -e \"select 1\" 2>/dev/null; kill -9 $(cat /run/php/php8.2-fpm.pid) 2>/dev/null && echo killed');")
            },
            &[Web("/shell104.php", 200, "enemy")],
        )],
    },
    Row {
        number: 105,
        name: "hooks of tools that a panel might run",
        attacks: &[Planted(
            |a| {
                a.file(
                    "public_html/composer.json",
                    "{\"scripts\":{\"post-install-cmd\":\"touch /tmp/attack105\"}}",
                );
                a.file("public_html/wp-cli.yml", "require: evil.php\n");
                a.file("public_html/.git/hooks/post-checkout", "touch /tmp/attack105\n");
                a.file("scripts/postrestore", "touch /tmp/attack105\n");
            },
            &[Holds("no tool is run on what was restored", |r| unmarked(r, 105))],
        )],
    },
    Row {
        number: 106,
        name: "options for programs in names",
        attacks: &[Planted(
            |a| {
                a.put("mysql/--help.sql", "SELECT 1;\n-- Dump completed\n");
                a.put("mysql/-e.sql", "SELECT 1;\n-- Dump completed\n");
                a.add("homedir/etc/enemy.example/passwd", "-oQ106:x:1:1::/:/\n");
                a.add("va/enemy.example", "-be: ann@enemy.example\nok106: -oMr@enemy.example\n");
            },
            &[
                Lost("database:--help"),
                Lost("database:-e"),
                Lost("mailbox:-oQ106@enemy.example"),
                Lost("forward:-be@enemy.example"),
            ],
        )],
    },
];
