//! Mailboxes in Dovecot's mdbox form become maildirs: by Dovecot itself, as the account's user, since
//! their files are the archive's and nobody else should have to read them.

use crate::beneath::{Beneath, Owner};
use crate::effects::Work;
use crate::error::Result;
use crate::program::{Program, run};
use crate::{layout, unpack};
use std::path::{Path, PathBuf};
use std::time::Duration;
use values::MailAddress;

/// Nothing of the server's own settings, of which some only root may read.
const SETTINGS: &str = "mail_location = maildir:~\nlog_path = /dev/stderr\nssl = no\n\
                        first_valid_uid = 1000\nstats_writer_socket_path =\n\
                        namespace inbox {\n  inbox = yes\n  separator = .\n}\n";
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Converts a mailbox that was unpacked: afterwards it lies where unpacking leaves maildirs, with its
/// folders, flags and numbers. Gives Dovecot's complaint when it could not. May be repeated.
pub fn convert(work: &mut Work<'_>, address: &MailAddress) -> Result<Option<String>> {
    let staging = Beneath::open(layout::staging(work.job.id))?;
    let (from, to) = (staging.dir(unpack::MDBOX)?, staging.dir(unpack::MAIL)?);
    let name = Path::new(address.as_str());
    if to.stat(name)?.is_some() {
        return Ok(None);
    }
    let owner = work.owner(0o700)?;
    let area = PathBuf::from(work.user().home()).join(format!(".migrapanel-{}", work.job.id));
    work.make_dir(&area, owner)?;
    let (root, rest) = Beneath::place(&area)?;
    let here = root.dir(&rest)?;
    here.make_dir(name, owner)?;
    if from.stat(name)?.is_some() {
        here.remove(name.join("source"))?;
        from.rename(name, &here, name.join("source"))?;
    }
    if here.stat(name.join("source"))?.is_none() {
        return Ok(Some("the archive holds no messages of it".to_owned()));
    }
    here.remove(name.join("maildir"))?;
    here.write("settings", SETTINGS.as_bytes(), Owner::root(0o644))?;
    let place = area.join(name);
    let shown = |kind: &str, part: &str| format!("{kind}:{}", place.join(part).display());
    let converted = run(Program::Doveadm)
        .arg("-c")
        .arg(area.join("settings"))
        .args(["-o", &format!("mail_location={}", shown("mdbox", "source"))])
        .args(["backup", &shown("maildir", "maildir")])
        .ids(owner.uid, owner.gid)
        .person(work.user().as_str(), &place)
        .limit(LIMIT)
        .output()?;
    if !converted.success() || here.stat(name.join("maildir"))?.is_none() {
        root.remove(&rest)?;
        return Ok(Some(cpanel::member::shown(converted.complaint().as_bytes())));
    }
    here.rename(name.join("maildir"), &to, name)?;
    root.remove(&rest)?;
    Ok(None)
}
