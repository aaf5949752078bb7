//! The enemy's archive: a small honest account, and what rows plant in it.

use flate2::{Compression, write::GzEncoder};
use std::collections::BTreeMap;
use std::io::Write;
use tar::{EntryType, Header};

/// Of [`PASSWORD`], as crypt(3) writes it.
pub const HASH: &str = "$6$saltmailinfo$HLhy6FNEoNRUjzMxQFqENsHoDuTO8eLHfiiFbL4TLe8vzc07h3s.OYlBHzmKQnrgN.ynZgHEqTBX21nqjW.qe/";
pub const PASSWORD: &str = "Mail-Pass-1!";
/// Of `Sql-Pass-1!` as MariaDB writes it.
pub const SQL_HASH: &str = "*5C5C9D003D6B5C774AC66F3CC0879BC3A6464896";
pub const SQL_PASSWORD: &str = "Sql-Pass-1!";

/// A member with everything that a header can say.
pub struct Member {
    pub name: Vec<u8>,
    pub kind: EntryType,
    pub link: Vec<u8>,
    pub body: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub mtime: u64,
    /// Records of a PAX header in front of it.
    pub pax: Vec<(&'static str, Vec<u8>)>,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            name: Vec::new(),
            kind: EntryType::Regular,
            link: Vec::new(),
            body: Vec::new(),
            mode: 0o644,
            uid: 1004,
            mtime: 1_700_000_000,
            pax: Vec::new(),
        }
    }
}

/// Files by path, further members behind them in order, and raw blocks behind these.
#[derive(Default)]
pub struct Archive {
    texts: BTreeMap<String, Vec<u8>>,
    members: Vec<u8>,
    /// Lines of `userdata/main` under each of its keys.
    names: BTreeMap<&'static str, String>,
}

const WRAPPER: &str = "cpmove-enemy";

impl Archive {
    /// The account `enemy` with a site, a mailbox, a database and a zone.
    pub fn honest() -> Self {
        let mut archive = Self::default();
        let passwd = "ann:x:1004:1006::/home/enemy/mail/enemy.example/ann:/home/enemy\n".to_owned();
        for (path, text) in [
            ("cp/enemy", "DNS=enemy.example\nIP=192.0.2.66\nUSER=enemy\n".to_owned()),
            ("shadow", HASH.to_owned()),
            ("homedir_paths", "/home/enemy\n".to_owned()),
            ("userdata/enemy.example", vhost("public_html", "www.enemy.example")),
            ("va/enemy.example", "*: \":fail: No Such User Here\"\n".to_owned()),
            ("homedir/etc/enemy.example/passwd", passwd),
            ("homedir/etc/enemy.example/shadow", format!("ann:{HASH}:19000::::::\n")),
            ("homedir/etc/enemy.example/quota", String::new()),
            (
                "homedir/mail/enemy.example/ann/cur/1767225600.M0P1.src,S=30:2,S",
                "Subject: hello\r\n\r\nhello\r\n".to_owned(),
            ),
            ("homedir/public_html/index.html", "the enemy's site\n".to_owned()),
            (
                "mysql.sql",
                format!(
                    "GRANT USAGE ON *.* TO 'enemy_u'@'localhost' IDENTIFIED BY PASSWORD '{SQL_HASH}';\n\
                     GRANT ALL PRIVILEGES ON `enemy\\_db`.* TO 'enemy_u'@'localhost';\n"
                ),
            ),
            ("mysql/enemy_db.create", "CREATE DATABASE `enemy_db`;\n".to_owned()),
            (
                "mysql/enemy_db.sql",
                "CREATE TABLE own (a int);\nINSERT INTO own VALUES (1);\n".to_owned(),
            ),
            (
                "dnszones/enemy.example.db",
                "$TTL 14400\n@ IN SOA ns. a. (1 2 3 4 5)\n@ A 192.0.2.66\nwww A 192.0.2.66\n"
                    .to_owned(),
            ),
        ] {
            archive.put(path, text);
        }
        archive
    }

    /// A member of the account with this content, in place of one of that name.
    pub fn put(&mut self, path: &str, text: impl Into<Vec<u8>>) {
        self.texts.insert(path.to_owned(), text.into());
    }

    /// Adds to the end of a member.
    pub fn add(&mut self, path: &str, text: impl AsRef<[u8]>) {
        self.texts.entry(path.to_owned()).or_default().extend_from_slice(text.as_ref());
    }

    /// Takes a member out.
    pub fn drop(&mut self, path: &str) {
        self.texts.retain(|p, _| !p.starts_with(path));
    }

    /// A further subdomain, described by this file.
    pub fn sub(&mut self, name: &str, userdata: &str) {
        self.names.entry("sub_domains").or_default().push_str(&format!("  - '{name}'\n"));
        self.put(&format!("userdata/{name}"), userdata);
    }

    /// A further name of the site.
    pub fn parked(&mut self, name: &str) {
        self.names.entry("parked_domains").or_default().push_str(&format!("  - '{name}'\n"));
    }

    /// A mailbox of `enemy.example` with this field in `shadow`.
    pub fn mailbox(&mut self, local: &str, hash: &str) {
        self.add("homedir/etc/enemy.example/passwd", format!("{local}:x:1004:1006::/x:/x\n"));
        self.add("homedir/etc/enemy.example/shadow", format!("{local}:{hash}:19000::::::\n"));
    }

    /// A further member below the account's root, which its header describes as it likes.
    pub fn member(&mut self, path: &str, member: Member) {
        self.outside(Member { name: format!("{WRAPPER}/{path}").into_bytes(), ..member });
    }

    /// A file below the home.
    pub fn file(&mut self, path: &str, body: &str) {
        self.member(&format!("homedir/{path}"), Member { body: body.into(), ..Member::default() });
    }

    /// A symbolic link below the home.
    pub fn link(&mut self, path: &str, target: &str) {
        let kind = EntryType::Symlink;
        self.member(
            &format!("homedir/{path}"),
            Member { kind, link: target.into(), ..Member::default() },
        );
    }

    /// A member whose name is taken as it is.
    pub fn outside(&mut self, member: Member) {
        if !member.pax.is_empty() {
            let records: Vec<u8> = member.pax.iter().flat_map(|(k, v)| pax(k, v)).collect();
            self.block(EntryType::XHeader, b"pax", &records);
        }
        if member.name.len() > 100 {
            let name = [&member.name[..], b"\0"].concat();
            self.block(EntryType::GNULongName, b"././@LongLink", &name);
        }
        let mut header = header(member.kind, &member.name);
        let length = member.link.len().min(100);
        header.as_old_mut().linkname[..length].copy_from_slice(&member.link[..length]);
        header.set_mode(member.mode);
        header.set_uid(member.uid);
        header.set_mtime(member.mtime);
        header.set_size(u64::try_from(member.body.len()).unwrap());
        if matches!(member.kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        self.header(header, &member.body);
    }

    /// A header of any kind with a body.
    pub fn block(&mut self, kind: EntryType, name: &[u8], body: &[u8]) {
        let mut header = header(kind, name);
        header.set_size(u64::try_from(body.len()).unwrap());
        self.header(header, body);
    }

    /// A finished header, whatever it says of the body.
    pub fn header(&mut self, mut header: Header, body: &[u8]) {
        header.set_cksum();
        self.members.extend_from_slice(header.as_bytes());
        self.members.extend_from_slice(body);
        self.members.resize(self.members.len().next_multiple_of(512), 0);
    }

    /// The archive as tar.
    pub fn tar(&self) -> Vec<u8> {
        let mut all = Self::default();
        let mut texts = self.texts.clone();
        if texts.contains_key("userdata/enemy.example") && !texts.contains_key("userdata/main") {
            let mut main = "--- \nmain_domain: enemy.example\n".to_owned();
            self.names.iter().for_each(|(key, lines)| main.push_str(&format!("{key}:\n{lines}")));
            texts.insert("userdata/main".to_owned(), main.into_bytes());
        }
        for (path, body) in &texts {
            let name = format!("{WRAPPER}/{path}").into_bytes();
            all.outside(Member { name, body: body.clone(), ..Member::default() });
        }
        let mut bytes = all.members;
        bytes.extend_from_slice(&self.members);
        bytes.extend_from_slice(&[0; 1024]);
        bytes
    }
}

/// A block of a kind and name, of nobody, as ustar.
pub fn header(kind: EntryType, name: &[u8]) -> Header {
    let mut header = Header::new_gnu();
    let length = name.len().min(100);
    header.as_old_mut().name[..length].copy_from_slice(&name[..length]);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header
}

/// A record of a PAX header: its length counts itself.
pub fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// `userdata/NAME` of a site.
pub fn vhost(docroot: &str, aliases: &str) -> String {
    format!(
        "--- \ndocumentroot: /home/enemy/{docroot}\nhomedir: /home/enemy\nserveralias: {aliases}\n\
         phpversion: ea-php82\n"
    )
}

/// Packs with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
