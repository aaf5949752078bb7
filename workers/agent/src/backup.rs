//! The last backup of an account: written as cPanel's `pkgacct` writes one, so that a migration
//! restores it.

use crate::belongings::{FILE_BYTES, Site};
use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::steps::dump_to;
use crate::{belongings, layout, lines, mariadb, suspend};
use cpanel::analyze::read_account;
use cpanel::archive;
use cpanel::plan::RecordSet;
use cpanel::protocol::Termination;
use cpanel::stream::Limits;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use values::{DatabaseName, DatabaseUser, DomainName, Username};

/// What of an account is written, beside its home.
#[derive(Debug)]
pub struct Content<'a> {
    pub wanted: &'a Termination,
    /// As they answer when the account is not suspended.
    pub sites: &'a [Site],
    pub mail_domains: &'a [DomainName],
    pub databases: &'a BTreeSet<DatabaseName>,
    pub users: &'a BTreeSet<DatabaseUser>,
    /// Of the system user.
    pub password: &'a str,
}

type Packer = tar::Builder<GzEncoder<File>>;

/// Writes the archive under this name, whole and on the disk or not at all, and reads it again as a
/// migration would before it counts.
pub fn write(job: &Job<'_>, area: &Beneath, name: &str, content: &Content<'_>) -> Result<()> {
    let new = format!("{name}.new");
    area.remove(&new)?;
    let file = area.create(&new, Owner::root(0o600))?;
    let mut pack = Pack {
        job,
        top: PathBuf::from(format!("cpmove-{}", content.wanted.user)),
        packer: tar::Builder::new(GzEncoder::new(file, Compression::default())),
    };
    pack.account(content)?;
    pack.databases(content)?;
    pack.home(content)?;
    let file = pack.packer.into_inner()?.finish()?;
    file.sync_all()?;
    check(job, area.file(&new)?, content)?;
    area.remove(name)?;
    area.rename(&new, area, name)?;
    area.sync()
}

/// Our own archive may be better packed than a stranger's may.
const LIMITS: Limits = Limits {
    entries: u64::MAX,
    expanded_bytes: u64::MAX,
    ratio: u64::MAX,
    metadata_file_bytes: 64 << 20,
    metadata_bytes: 1 << 30,
};

fn check(job: &Job<'_>, file: File, content: &Content<'_>) -> Result<()> {
    let mut progress = |_| job.check().map_err(std::io::Error::other);
    let read = read_account(archive::Source::File(Box::new(file)), &LIMITS, &mut progress)?;
    let is_whole = read.account.user == content.wanted.user
        && read.account.main_domain == content.wanted.domain
        && read.account.databases.len() == content.databases.len();
    match is_whole {
        true => Ok(()),
        false => Err(Error::internal("the last backup does not read as it was written")),
    }
}

struct Pack<'j> {
    job: &'j Job<'j>,
    /// All members lie below it.
    top: PathBuf,
    packer: Packer,
}

impl Pack<'_> {
    fn text(&mut self, path: impl AsRef<Path>, text: &str) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(chrono::Utc::now().timestamp()).unwrap_or(0));
        header.set_size(u64::try_from(text.len()).map_err(Error::internal)?);
        let path = self.top.join(path);
        self.packer.append_data(&mut header, &path, text.as_bytes()).map_err(Error::at(&path))
    }

    /// What describes the account: its record, sites, mail, zones, keys and crontab.
    fn account(&mut self, content: &Content<'_>) -> Result<()> {
        let Termination { user, domain: main, ipv4, .. } = content.wanted;
        self.text("version", "pkgacct version: 10\narchive version: 4\n")?;
        self.text("homedir_paths", &format!("{}\n", user.home()))?;
        let record = format!("USER={user}\nDNS={main}\nIP={ipv4}\nMAILBOX_FORMAT=maildir\n");
        self.text(format!("cp/{user}"), &record)?;
        self.sites(content)?;
        let mut password = content.password.to_owned();
        for domain in content.mail_domains {
            self.logins(content.wanted, domain, &mut password)?;
            self.aliases(domain)?;
            if let Some(key) = read_text(&layout::dkim_key(domain.as_str()))? {
                self.text(format!("domainkeys/private/{domain}"), &key)?;
            }
        }
        self.text("shadow", &format!("{password}\n"))?;
        let hosts = content.sites.iter().filter_map(Site::domain).collect::<BTreeSet<_>>();
        for domain in &hosts {
            if let Some(pair) = read_text(&layout::tls_pair(domain.as_str()))? {
                self.text(format!("apache_tls/{domain}"), &pair)?;
            }
        }
        for (name, records) in &content.wanted.zones {
            self.text(format!("dnszones/{name}.db"), &zone(records))?;
        }
        match read_text(&layout::suspended(user).join(suspend::CRONTAB))? {
            Some(crontab) => self.text(format!("cron/{user}"), &crontab),
            None => Ok(()),
        }
    }

    /// Sites below the main domain are subdomains, others add-ons, and what has mail alone is parked.
    fn sites(&mut self, content: &Content<'_>) -> Result<()> {
        let main = &content.wanted.domain;
        let (mut addons, mut subs) = (String::new(), String::new());
        let mut named = BTreeSet::from([main.clone()]);
        for site in content.sites.iter().filter(|site| site.dir == "sites") {
            let Some(domain) = site.domain() else { continue };
            let (mut file, mut aliases) = (domain.to_string(), words(&site.text, "ServerAlias"));
            named.insert(domain.clone());
            named.extend(aliases.iter().filter_map(|name| DomainName::parse(name).ok()));
            if domain.is_below(main) {
                writeln!(subs, "  - {domain}").map_err(Error::internal)?;
            } else if domain != *main {
                file = format!("{}.{main}", domain.as_str().replace('.', "-"));
                aliases.push(domain.to_string());
                writeln!(addons, "  {domain}: {file}").map_err(Error::internal)?;
                writeln!(subs, "  - {file}").map_err(Error::internal)?;
            }
            let docroot = words(&site.text, "DocumentRoot").join(" ");
            let text = format!(
                "--- \ndocumentroot: {}\nhomedir: {}\nip: {}\nserveralias: {}\nservername: {file}\n",
                docroot.trim_matches('"'),
                content.wanted.user.home(),
                content.wanted.ipv4,
                aliases.join(" ")
            );
            self.text(format!("userdata/{file}"), &text)?;
        }
        let parked = content.mail_domains.iter().filter(|domain| !named.contains(*domain));
        let parked: String = parked.map(|domain| format!("  - {domain}\n")).collect();
        let list = |name: &str, items: &str, none: &str| match items.is_empty() {
            true => format!("{name}: {none}\n"),
            false => format!("{name}: \n{items}"),
        };
        let text = format!(
            "--- \n{}main_domain: {main}\n{}{}",
            list("addon_domains", &addons, "{}"),
            list("parked_domains", &parked, "[]"),
            list("sub_domains", &subs, "[]")
        );
        self.text("userdata/main", &text)
    }

    /// The account's own mailbox has the password of the system user in such an archive.
    fn logins(
        &mut self,
        wanted: &Termination,
        domain: &DomainName,
        own: &mut String,
    ) -> Result<()> {
        let (mut people, mut hashes, mut quotas) = (String::new(), String::new(), String::new());
        let fail = |e: std::fmt::Error| Error::internal(e);
        for line in lines::all(&layout::mail(domain.as_str()).join("passwd"))? {
            let line = suspend::unlocked(&line).unwrap_or(line);
            let fields: Vec<&str> = line.split(':').collect();
            let (Some(local), Some(hash)) = (fields.first(), fields.get(1)) else { continue };
            let hash = hash.strip_prefix("{CRYPT}").unwrap_or("!");
            if *domain == wanted.domain && *local == wanted.user.as_str() {
                if hash != "!" {
                    hash.clone_into(own);
                }
                continue;
            }
            let home = wanted.user.home();
            writeln!(people, "{local}:x:1000:1000::{home}/mail/{domain}/{local}:{home}")
                .map_err(fail)?;
            writeln!(hashes, "{local}:{hash}:19000::::::").map_err(fail)?;
            if let Some((_, bytes)) = line.split_once(":bytes=") {
                writeln!(quotas, "{local}:{bytes}").map_err(fail)?;
            }
        }
        for (file, text) in [("passwd", people), ("shadow", hashes), ("quota", quotas)] {
            self.text(format!("homedir/etc/{domain}/{file}"), &text)?;
        }
        Ok(())
    }

    fn aliases(&mut self, domain: &DomainName) -> Result<()> {
        let mut text = String::new();
        let mut catch_all = "\":fail: No Such User Here\"".to_owned();
        for line in lines::all(&layout::mail(domain.as_str()).join("aliases"))? {
            match line.split_once(": ") {
                Some(("*", to)) => catch_all = to.to_owned(),
                Some(("@", to)) => {
                    self.text(format!("vad/{domain}"), &format!("{domain}: {to}\n"))?
                }
                Some((local, to)) => text.push_str(&format!("{local}@{domain}: {to}\n")),
                None => {}
            }
        }
        self.text(format!("va/{domain}"), &format!("{text}*: {catch_all}\n"))
    }

    fn databases(&mut self, content: &Content<'_>) -> Result<()> {
        let dir = layout::job(self.job.id).join("last");
        let area = Beneath::private_dir(&dir)?;
        for name in content.databases {
            self.job.check()?;
            let made =
                mariadb::query(&format!("SHOW CREATE DATABASE {};", mariadb::name(name.as_str())))?;
            let made = made.first().and_then(|row| row.get(1)).cloned().unwrap_or_default();
            self.text(format!("mysql/{name}.create"), &format!("{made};\n"))?;
            // One of an attempt that died is older than what was written since.
            let file = format!("{name}.sql");
            area.remove(&file)?;
            dump_to(name, &dir.join(&file))?;
            let member = PathBuf::from("mysql").join(&file);
            self.entry(&area, Path::new(&file), &member)?;
            area.remove(&file)?;
        }
        let mut grants = String::from("-- cPanel mysql backup\n");
        for user in content.users {
            for statement in mariadb::user_statements(user)?.unwrap_or_default() {
                if statement.starts_with("GRANT ") {
                    grants.push_str(&format!("{statement};\n"));
                }
            }
        }
        self.text("mysql.sql", &grants)
    }

    /// The default mailbox lies in `mail` itself in such an archive.
    fn home(&mut self, content: &Content<'_>) -> Result<()> {
        let Termination { user, domain, .. } = content.wanted;
        let homes = Beneath::open(layout::HOMES)?;
        let own = PathBuf::from(format!("mail/{domain}/{user}"));
        self.tree(&homes.dir(user.as_str())?, Path::new(""), &own)
    }

    fn tree(&mut self, dir: &Beneath, at: &Path, own: &Path) -> Result<()> {
        for (name, kind) in dir.list()? {
            self.job.check()?;
            let path = at.join(&name);
            let shown = match path.strip_prefix(own) {
                Ok(rest) => Path::new("mail").join(rest),
                Err(_) => path.clone(),
            };
            self.entry(dir, Path::new(&name), &Path::new("homedir").join(shown))?;
            if kind == FileType::Directory {
                self.tree(&dir.dir(&name)?, &path, own)?;
            }
        }
        Ok(())
    }

    /// A directory, file or link; of other things nothing can be kept.
    fn entry(&mut self, dir: &Beneath, name: &Path, member: &Path) -> Result<()> {
        let Some(stat) = dir.stat(name)? else { return Ok(()) };
        let path = self.top.join(member);
        let mut header = tar::Header::new_gnu();
        header.set_mode(stat.st_mode & 0o7777);
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(0);
        let packer = &mut self.packer;
        let done = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let file = dir.file(name)?;
                let size = file.metadata()?.len();
                header.set_size(size);
                packer.append_data(&mut header, &path, file.take(size))
            }
            FileType::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                packer.append_data(&mut header, &path, std::io::empty())
            }
            FileType::Symlink => {
                header.set_entry_type(tar::EntryType::Symlink);
                packer.append_link(&mut header, &path, dir.link_target(name)?)
            }
            _ => return Ok(()),
        };
        done.map_err(Error::at(&path))
    }
}

fn read_text(path: &Path) -> Result<Option<String>> {
    let (root, rest) = Beneath::place(path)?;
    let bytes = root.read(rest, FILE_BYTES)?;
    bytes.map(|bytes| String::from_utf8(bytes).map_err(Error::at(path))).transpose()
}

/// What follows a directive of Apache, in all of its lines.
fn words(text: &str, directive: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter_map(|line| line.strip_prefix(directive));
    lines.flat_map(str::split_whitespace).map(ToOwned::to_owned).collect()
}

fn zone(records: &[RecordSet]) -> String {
    let mut text = String::from("$TTL 14400\n");
    for RecordSet { name, rtype, ttl, records } in records {
        for record in records {
            text.push_str(&format!("{name}\t{ttl}\tIN\t{rtype}\t{record}\n"));
        }
    }
    text
}

/// The account's virtual hosts as they answer when it is not suspended.
pub fn open_sites(user: &Username) -> Result<Vec<Site>> {
    let mut sites = belongings::sites(user)?;
    let kept: BTreeMap<PathBuf, String> = suspend::kept_sites(user)?;
    for site in &mut sites {
        if let Some(text) = kept.get(&site.path()) {
            text.clone_into(&mut site.text);
        }
    }
    Ok(sites)
}
