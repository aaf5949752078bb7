//! `cron/USER`: job lines and settings.

use crate::account::CronJob;
use crate::cron_time;
use crate::findings::Findings;
use crate::member::shown;
use crate::rehome::with_home;
use std::collections::BTreeMap;

/// Settings that are taken over. Others, such as `LD_PRELOAD`, change what every job runs.
const SETTINGS: &[&str] = &["MAILTO", "CRON_TZ", "TZ", "PATH"];

/// Lines over this are no crontab's.
const LINE_MAX: usize = 4096;

/// Reads a user's crontab: each job with the settings that stand above it, which are in force for it.
/// Lines that cron would not take are reported and left out.
pub(crate) fn parse(text: &str, findings: &mut Findings) -> Vec<CronJob> {
    let mut jobs = Vec::new();
    let mut settings: BTreeMap<String, String> = BTreeMap::new();
    for (number, line) in (1_u32..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = setting(line) {
            let shell = ["/bin/sh", "/bin/bash", "/usr/local/cpanel/bin/jailshell"];
            if SETTINGS.contains(&name.as_str()) {
                settings.insert(name, value);
            } else if name == "SHELL" && shell.contains(&value.as_str()) {
                let value = if value == "/bin/sh" { value } else { "/bin/bash".to_owned() };
                settings.insert(name, value);
            } else {
                let text =
                    "This setting of the crontab is left out: jobs run with the server's own.";
                findings.lost(&format!("cron_setting:{name}"), text);
            }
            continue;
        }
        match cron_time::refusal(line) {
            None => jobs.push(CronJob { line: line.to_owned(), settings: settings.clone() }),
            Some(why) => {
                let text = format!("Cron would refuse it ({why}): {}", shown(line.as_bytes()));
                findings.lost(&format!("cron_line:{number}"), text);
            }
        }
    }
    jobs
}

/// A job as it would run here: paths of the old home and PHP's programs by their new names. None when
/// it needs a program of cPanel's.
pub(crate) fn adapted(line: &str, homes: &[&str], home: &str, php: &str) -> Option<String> {
    let moved = with_home(line.as_bytes(), homes, home);
    let moved = String::from_utf8_lossy(&moved).into_owned();
    let mut out = String::new();
    for word in moved.split_inclusive(|c: char| c.is_whitespace() || "\"';|&()=".contains(c)) {
        let bare = word.trim_end_matches(|c: char| c.is_whitespace() || "\"';|&()=".contains(c));
        if is_php(bare) {
            out.push_str(&format!("/usr/bin/php{php}"));
            out.push_str(word.strip_prefix(bare).unwrap_or_default());
        } else if bare.starts_with("/usr/local/cpanel/") {
            return None;
        } else {
            out.push_str(word);
        }
    }
    Some(out)
}

/// PHP as cPanel and CloudLinux call it.
fn is_php(program: &str) -> bool {
    let version = |text: &str, prefix: &str| {
        text.strip_prefix(prefix)
            .is_some_and(|v| v.len() <= 3 && v.bytes().all(|b| b.is_ascii_digit()))
    };
    let Some((directory, name)) = program.rsplit_once('/') else { return false };
    let known = ["php", "php-cli", "lsphp"].contains(&name)
        || version(name, "ea-php")
        || version(name, "alt-php")
        || version(name, "php");
    match directory {
        "/usr/bin" | "/usr/local/bin" | "/usr/local/cpanel/3rdparty/bin" => known,
        _ => {
            let tree = directory
                .strip_prefix("/opt/cpanel/")
                .or_else(|| directory.strip_prefix("/opt/alt/"))
                .or_else(|| directory.strip_prefix("/usr/local/"));
            let tree = tree.and_then(|t| t.split('/').next()).unwrap_or_default();
            known && (version(tree, "ea-php") || version(tree, "php"))
        }
    }
}

fn setting(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.len() <= 100
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && value.len() <= LINE_MAX
        && !value.chars().any(char::is_control);
    let bare = value.trim_matches(|c| c == '"' || c == '\'');
    valid.then(|| (name.to_owned(), bare.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_settings() {
        let mut findings = Findings::default();
        let jobs = parse(
            "@daily early\nMAILTO=\"a@b.example\"\r\nSHELL=/bin/sh\n# x\n\n*/15 0-4 * jan mon,tue /usr/bin/php -r 'a=1;' >/dev/null\nMAILTO=c@d.example\n@daily x\n* * * nonsense\n@daily\n",
            &mut findings,
        );
        let lines: Vec<&str> = jobs.iter().map(|j| j.line.as_str()).collect();
        let job = "*/15 0-4 * jan mon,tue /usr/bin/php -r 'a=1;' >/dev/null";
        assert_eq!(lines, ["@daily early", job, "@daily x"]);
        assert!(jobs[0].settings.is_empty());
        assert_eq!(jobs[1].settings["MAILTO"], "a@b.example");
        assert_eq!(jobs[2].settings["MAILTO"], "c@d.example");
        assert_eq!(jobs[2].settings["SHELL"], "/bin/sh");
        let lost: Vec<&str> = findings.not_transferable.iter().map(|l| l.item.as_str()).collect();
        assert_eq!(lost, ["cron_line:9", "cron_line:10"]);
        let mut findings = Findings::default();
        let hostile = "SHELL=/home/x/evil\nLD_PRELOAD=/home/x/y.so\nSHELL=/usr/local/cpanel/bin/jailshell\n@daily x\n";
        let jobs = parse(hostile, &mut findings);
        assert_eq!(jobs[0].settings, BTreeMap::from([("SHELL".into(), "/bin/bash".into())]));
        assert_eq!(findings.not_transferable.len(), 2);
    }

    #[test]
    fn jobs_as_they_would_run_here() {
        let adapt = |line: &str| adapted(line, &["/home3/shop", "/home/shop"], "/home/new", "8.2");
        for (line, wanted) in [
            (
                "*/15 * * * * /usr/local/bin/php /home3/shop/public_html/cron.php >/dev/null 2>&1",
                "*/15 * * * * /usr/bin/php8.2 /home/new/public_html/cron.php >/dev/null 2>&1",
            ),
            (
                "@daily cd /home/shop;/usr/local/bin/ea-php81 -q x",
                "@daily cd /home/new;/usr/bin/php8.2 -q x",
            ),
            ("@daily \"/opt/cpanel/ea-php74/root/usr/bin/php\" x", "@daily \"/usr/bin/php8.2\" x"),
            ("@daily /opt/alt/php81/usr/bin/lsphp x", "@daily /usr/bin/php8.2 x"),
            ("@daily /usr/local/cpanel/3rdparty/bin/php x", "@daily /usr/bin/php8.2 x"),
            ("@daily wget -q https://x.example/php", "@daily wget -q https://x.example/php"),
            (
                "@daily /home/shopper/php /usr/bin/phpunit",
                "@daily /home/shopper/php /usr/bin/phpunit",
            ),
        ] {
            assert_eq!(adapt(line).as_deref(), Some(wanted));
        }
        assert_eq!(adapt("@daily /usr/local/cpanel/scripts/x"), None);
    }
}
