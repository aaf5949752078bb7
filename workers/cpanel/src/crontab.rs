//! `cron/USER`: job lines and settings.

use crate::findings::Findings;
use std::collections::BTreeMap;

/// Job lines as they stand, and settings.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Crontab {
    pub lines: Vec<String>,
    pub settings: BTreeMap<String, String>,
}

/// Lines over this are no crontab's.
const LINE_MAX: usize = 4096;

/// Reads a user's crontab. Lines that cron would not take are reported and left out.
pub(crate) fn parse(text: &str, findings: &mut Findings) -> Crontab {
    let mut crontab = Crontab::default();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = setting(line) {
            crontab.settings.insert(name, value);
        } else if is_job(line) {
            crontab.lines.push(line.to_owned());
        } else {
            findings.warn(
                "cron_line_refused",
                line,
                "The line of the crontab is left out: cron would refuse it.",
            );
        }
    }
    crontab
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

fn is_job(line: &str) -> bool {
    if line.len() > LINE_MAX || line.chars().any(|c| c.is_control() && c != '\t') {
        return false;
    }
    let mut words = line.split_whitespace();
    if let Some(word) = line.strip_prefix('@') {
        let known =
            ["reboot", "yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        return known.iter().any(|k| word.starts_with(k)) && words.nth(1).is_some();
    }
    let time = |word: &str| {
        word.bytes().all(|b| b.is_ascii_alphanumeric() || b"*/,-".contains(&b)) && word.len() <= 100
    };
    words.by_ref().take(5).filter(|w| time(w)).count() == 5 && words.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_settings() {
        let mut findings = Findings::default();
        let crontab = parse(
            "MAILTO=\"a@b.example\"\r\nSHELL=/bin/sh\n# x\n\n*/15 0-4 * jan mon,tue /usr/bin/php -r 'a=1;' >/dev/null\n@daily x\n* * * nonsense\n@daily\n",
            &mut findings,
        );
        assert_eq!(
            crontab.lines,
            ["*/15 0-4 * jan mon,tue /usr/bin/php -r 'a=1;' >/dev/null", "@daily x"]
        );
        assert_eq!(crontab.settings["MAILTO"], "a@b.example");
        assert_eq!(findings.warnings.len(), 2);
    }
}
