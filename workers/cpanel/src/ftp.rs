//! `proftpdpasswd`: FTP logins, which are listed and not taken over.

use crate::account::{FtpLogin, SourceServer};
use crate::findings::Findings;
use crate::member::shown;
use values::{AbsPath, Username};

/// Reads the customer's logins: not the account's own, the one of its logs, nor anonymous ones.
pub(crate) fn parse(
    text: &str,
    user: &Username,
    source: &SourceServer,
    findings: &mut Findings,
) -> Vec<FtpLogin> {
    let logs = format!("{user}_logs");
    let mut logins = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let (Some(login), Some(home)) = (fields.first(), fields.get(5)) else { continue };
        if [user.as_str(), &logs, "ftp", "anonymous", ""].contains(login) {
            continue;
        }
        let below = AbsPath::parse(home).ok().and_then(|p| source.below_home(&p));
        let directory = below.map_or_else(|| shown(home.as_bytes()), String::from);
        let login = shown(login.as_bytes());
        findings.lost(&format!("ftp:{login}"), "There is no FTP server on the target yet.");
        logins.push(FtpLogin { login, directory });
    }
    logins.sort_by(|a, b| a.login.cmp(&b.login));
    logins
}
