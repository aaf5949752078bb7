//! Certificates, keys, hashes and randomness (138–150).

use super::enemy::{Archive, HASH, vhost};
use super::table::{
    Attack::{Alone, Elsewhere, Planted},
    Proof::{Holds, Lost, Said, Seen, Warned},
    Row,
};
use crate::target::fixture;
use std::io::Read;

/// A site with this file of key and certificate.
fn tls(archive: &mut Archive, name: &str, pem: &str) {
    let name = format!("{name}.enemy.example");
    archive.sub(&name, &vhost("public_html", ""));
    archive.put(&format!("apache_tls/{name}"), pem);
}

/// A member of the victim's own archive.
fn of_victim(path: &str) -> Vec<u8> {
    let packed = std::fs::File::open(fixture("cpmove-shopco.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|e| e.path().unwrap().ends_with(path)).unwrap();
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).unwrap();
    bytes
}

pub const ROWS: &[Row] = &[
    Row {
        number: 138,
        name: "a key of another certificate",
        attacks: &[Planted(
            |a| tls(a, "m138", include_str!("pem/mismatch.pem")),
            &[
                Lost("certificate:m138.enemy.example"),
                Seen(
                    "apache2ctl configtest 2>&1 | tail -1; systemctl is-active apache2 dovecot exim4",
                    "Syntax OK active active active",
                ),
            ],
        )],
    },
    Row {
        number: 139,
        name: "certificates that are over, not yet begun, self-signed, or weak",
        attacks: &[Planted(
            |a| {
                tls(a, "old139", include_str!("pem/expired.pem"));
                tls(a, "early139", include_str!("pem/early.pem"));
                tls(a, "self139", include_str!("pem/self.pem"));
                tls(a, "sha139", include_str!("pem/sha1.pem"));
                tls(a, "rsa139", include_str!("pem/rsa1024.pem"));
            },
            &[
                Lost("certificate:old139.enemy.example"),
                Lost("certificate:sha139.enemy.example"),
                Lost("certificate:rsa139.enemy.example"),
                Warned("certificate_not_yet_valid", "early139.enemy.example"),
                Warned("certificate_self_signed", "self139.enemy.example"),
                Holds("the good ones of all accounts are shown", |r| {
                    let shown =
                        crate::clients::certificate(r.stage.target, 443, "self139.enemy.example");
                    assert!(
                        r.analysis.summary.certificates.iter().any(|c| c.sha256 == shown),
                        "{shown}"
                    );
                    let expected = crate::target::expectations("cpmove-shopco.tar.gz");
                    let victim = &expected["ssl"][0];
                    let name = victim["domain"].as_str().unwrap();
                    assert_eq!(
                        crate::clients::certificate(r.stage.target, 443, name),
                        victim["sha256_der"]
                    );
                }),
            ],
        )],
    },
    Row {
        number: 140,
        name: "certificates for names of others",
        attacks: &[Planted(
            |a| {
                tls(a, "for140", include_str!("pem/foreign.pem"));
                tls(a, "wild140", include_str!("pem/wildcard.pem"));
            },
            &[
                Lost("certificate:for140.enemy.example"),
                Lost("certificate:wild140.enemy.example"),
                Seen("grep -rl 'bank.example' /etc/migrapanel", ""),
            ],
        )],
    },
    Row {
        number: 141,
        name: "certificates out of form",
        attacks: &[Planted(
            |a| {
                tls(a, "curve141", include_str!("pem/curve.pem"));
                let deep = "MIIB".to_owned() + &"MIIB".repeat(50_000);
                tls(
                    a,
                    "deep141",
                    &format!("-----BEGIN CERTIFICATE-----\n{deep}\n-----END CERTIFICATE-----\n"),
                );
                tls(
                    a,
                    "many141",
                    &"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".repeat(1000),
                );
            },
            &[
                Lost("certificate:deep141.enemy.example"),
                Lost("certificate:many141.enemy.example"),
                Said("cannot be used"),
                Seen(
                    "ls /etc/migrapanel/tls-sites /etc/migrapanel/dovecot-tls | grep curve141; systemctl is-active apache2 dovecot",
                    "active active",
                ),
            ],
        )],
    },
    Row {
        number: 142,
        name: "private keys left behind",
        attacks: &[Planted(
            |a| tls(a, "k142", include_str!("pem/self.pem")),
            &[
                Holds("in nothing that the agent says", |r| {
                    assert!(!r.stage.target.said.borrow().contains("PRIVATE KEY"))
                }),
                Seen(
                    "grep -rl 'PRIVATE KEY' /var/lib/migrapanel /var/log /tmp /etc/apache2; find /etc/migrapanel -name '*.key' -perm /o+rwx -o -name pair.pem -perm /o+rwx; stat -c %a /home/.migrapanel",
                    "700",
                ),
            ],
        )],
    },
    Row {
        number: 143,
        name: "an encrypted key",
        attacks: &[Planted(
            |a| tls(a, "enc143", include_str!("pem/encrypted.pem")),
            &[Lost("certificate:enc143.enemy.example")],
        )],
    },
    Row {
        number: 144,
        name: "a DKIM key of 512 bits",
        attacks: &[Planted(
            |a| {
                a.sub("d144.enemy.example", &vhost("public_html", ""));
                a.put("domainkeys/private/d144.enemy.example", include_str!("pem/dkim512.pem"));
            },
            &[Lost("dkim:d144.enemy.example"), Seen("ls /etc/migrapanel/dkim | grep 144", "")],
        )],
    },
    Row {
        number: 145,
        name: "the key of another's account",
        attacks: &[Planted(
            |a| {
                a.put(
                    "domainkeys/private/enemy.example",
                    of_victim("domainkeys/private/shopco.example"),
                )
            },
            &[Said("another account"), Seen("ls /etc/migrapanel/dkim | grep enemy", "")],
        )],
    },
    Row {
        number: 146,
        name: "keys that sign a zone",
        attacks: &[Planted(
            |a| a.put("dnssec_keys/enemy.example/x.private", "Private-key-format: v1.2\n"),
            &[
                Lost("dnssec_keys"),
                Seen("grep -rl Private-key-format /etc /var/lib/migrapanel /home/enemy", ""),
            ],
        )],
    },
    Row {
        number: 147,
        name: "an archive that was changed on its way",
        attacks: &[
            Planted(
                |_| {},
                &[Holds("its hash is shown, and is the file's", |r| {
                    let sum =
                        r.seen("sha256sum /var/backups/migrations/cpmove-enemy.tar | cut -c1-64");
                    assert_eq!(sum, r.analysis.archive.sha256);
                })],
            ),
            Elsewhere("26: apply refuses an archive whose hash is another"),
        ],
    },
    Row {
        number: 148,
        name: "archives that everybody may read",
        attacks: &[Planted(
            |_| {},
            &[Seen(
                "stat -c '%U %a' /var/backups/migrations; su -s /bin/sh enemy -c 'cat /var/backups/migrations/cpmove-enemy.tar 2>&1' | grep -ac denied",
                "root 700 1",
            )],
        )],
    },
    Row {
        number: 149,
        name: "new passwords that can be guessed",
        attacks: &[Elsewhere("54: 32 hexadecimal digits of the system's random numbers")],
    },
    Row {
        number: 150,
        name: "hashes in texts of errors",
        attacks: &[
            Alone("neutralised: no error shows one", |stage| {
                let said = stage.target.said.borrow();
                let hash = HASH.rsplit('$').next().unwrap();
                assert!(
                    said.len() > 1000 && !said.contains(hash) && !said.contains("saltmailinfo")
                );
            }),
            Planted(
                |a| a.mailbox("bad150", &format!("{HASH}$$")),
                &[Holds("no report shows one", |r| {
                    let said = r.stage.target.said.borrow();
                    assert!(
                        !said.contains("saltmailinfo") && !said.contains(super::enemy::SQL_HASH)
                    );
                })],
            ),
        ],
    },
];
