//! `va/DOMAIN` and `vad/DOMAIN`: forwarders, catch-alls, autoresponders and pipes, in the form of
//! Exim's redirect lists.

use crate::account::CatchAll;
use crate::findings::Findings;
use std::collections::BTreeSet;
use values::{DomainName, MailAddress};

/// What one file of `va/` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aliases {
    pub catch_all: CatchAll,
    /// Address and the addresses that its mail goes to.
    pub forwards: Vec<(MailAddress, BTreeSet<MailAddress>)>,
    /// Address and command.
    pub pipes: Vec<(MailAddress, String)>,
    /// Addresses that answer by themselves.
    pub responders: BTreeSet<MailAddress>,
}

/// One destination of a list.
enum Target {
    Address(MailAddress),
    DefaultMailbox,
    Respond,
    Pipe(String),
    Fail,
    Blackhole,
    /// Not taken over, and why.
    Lost(&'static str),
}

/// Reads the file of a domain. `user` is the account, whose bare name means the default mailbox
/// `default`.
pub(crate) fn parse(
    domain: &DomainName,
    text: &str,
    user: &str,
    default: &MailAddress,
    findings: &mut Findings,
) -> Aliases {
    let mut aliases = Aliases {
        catch_all: CatchAll::Fail,
        forwards: Vec::new(),
        pipes: Vec::new(),
        responders: BTreeSet::new(),
    };
    for line in logical_lines(text) {
        let Some((key, value)) = line.split_once(':') else { continue };
        let key = key.trim().trim_matches('"');
        let targets: Vec<Target> =
            destinations(value).iter().map(|d| target(d, user, domain)).collect();
        if key == "*" {
            aliases.catch_all = catch_all(targets, domain, findings);
            continue;
        }
        let address = if key.contains('@') { key.to_owned() } else { format!("{key}@{domain}") };
        match MailAddress::parse(&address) {
            Ok(address) if address.domain() == domain.as_str() => {
                aliases.add(address, targets, default, findings);
            }
            Ok(_) => findings
                .lost(&format!("forward:{address}"), "It is of another domain than its file."),
            Err(invalid) => findings.lost(&format!("forward:{address}"), format!("The {invalid}.")),
        }
    }
    aliases
}

impl Aliases {
    fn add(
        &mut self,
        address: MailAddress,
        targets: Vec<Target>,
        default: &MailAddress,
        findings: &mut Findings,
    ) {
        let mut destinations = BTreeSet::new();
        // Beside others, what refuses or throws away changes nothing: they get their mail.
        let alone = targets.iter().all(|t| matches!(t, Target::Fail | Target::Blackhole));
        for target in targets {
            match target {
                Target::Address(to) => {
                    destinations.insert(to);
                }
                Target::DefaultMailbox => {
                    destinations.insert(default.clone());
                }
                Target::Respond => {
                    self.responders.insert(address.clone());
                }
                Target::Pipe(command) => self.pipes.push((address.clone(), command)),
                Target::Fail | Target::Blackhole if !alone => {}
                Target::Fail => {
                    findings.lost(
                        &format!("forward:{address}"),
                        "An address that refuses mail is not set up.",
                    );
                }
                Target::Blackhole => {
                    findings.lost(
                        &format!("forward:{address}"),
                        "An address that throws mail away is not set up.",
                    );
                }
                Target::Lost(why) => findings.lost(&format!("forward:{address}"), why),
            }
        }
        // Mail to an address always reaches its own mailbox, if it has one.
        destinations.remove(&address);
        if !destinations.is_empty() {
            self.forwards.push((address, destinations));
        }
    }
}

fn catch_all(targets: Vec<Target>, domain: &DomainName, findings: &mut Findings) -> CatchAll {
    if targets.len() > 1 {
        let message = "Unknown addresses went to several places; only the first one is taken over.";
        findings.lost(&format!("catch_all:{domain}"), message);
    }
    match targets.into_iter().next() {
        Some(Target::Address(address)) => CatchAll::Address(address),
        Some(Target::DefaultMailbox) => CatchAll::DefaultMailbox,
        Some(Target::Blackhole) => CatchAll::Blackhole,
        Some(Target::Pipe(_) | Target::Respond) => {
            findings.lost(&format!("pipe:*@{domain}"), "Programs that read mail are not run here.");
            CatchAll::Pipe
        }
        Some(Target::Lost(why)) => {
            findings.lost(&format!("catch_all:{domain}"), why);
            CatchAll::Fail
        }
        Some(Target::Fail) | None => CatchAll::Fail,
    }
}

/// `vad/DOMAIN`: the domain that every address of this one goes to.
pub(crate) fn domain_forward(domain: &DomainName, text: &str) -> Option<DomainName> {
    logical_lines(text).iter().find_map(|line| {
        let (from, to) = line.split_once(':')?;
        (DomainName::parse(from.trim()).ok()? == *domain).then_some(())?;
        DomainName::parse(to.trim()).ok()
    })
}

/// Lines without comments; a line that begins with white space goes on with the one before.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push(line.trim().to_owned()),
        }
    }
    lines
}

/// Splits a list at commas outside quotes, and takes the quotes off.
fn destinations(text: &str) -> Vec<String> {
    let mut list = vec![String::new()];
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let Some(current) = list.last_mut() else { break };
        match (c, quote) {
            ('\\', _) => current.extend(chars.next()),
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (',', None) => list.push(String::new()),
            (c, _) => current.push(c),
        }
    }
    list.into_iter().map(|d| d.trim().to_owned()).filter(|d| !d.is_empty()).collect()
}

fn target(text: &str, user: &str, domain: &DomainName) -> Target {
    if let Some(command) = text.strip_prefix('|') {
        return piped(command.trim());
    }
    let word = text.split_whitespace().next().unwrap_or_default();
    match word {
        ":fail:" | ":unknown:" | ":defer:" => return Target::Fail,
        ":blackhole:" | "/dev/null" => return Target::Blackhole,
        _ if word.starts_with(':') => return Target::Lost("A list in a file is not followed."),
        _ if word.starts_with('/') => return Target::Lost("Delivery into a file is not set up."),
        _ if text == user => return Target::DefaultMailbox,
        _ => {}
    }
    let address = if text.contains('@') { text.to_owned() } else { format!("{text}@{domain}") };
    match MailAddress::parse(&address) {
        Ok(address) => Target::Address(address),
        Err(_invalid) => Target::Lost("A destination is no mail address."),
    }
}

fn piped(command: &str) -> Target {
    let program = command.split_whitespace().next().unwrap_or_default();
    if program.ends_with("/autorespond") {
        Target::Respond
    } else if program.contains("/mailman/") {
        Target::Lost("Mailing lists are not taken over.")
    } else if program.ends_with("/boxtrapper") {
        Target::Lost("BoxTrapper is not taken over; mail goes into the mailbox.")
    } else {
        Target::Pipe(command.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (Aliases, Findings) {
        let domain = DomainName::parse("x.example").unwrap();
        let default = MailAddress::parse("shop@x.example").unwrap();
        let mut findings = Findings::default();
        let aliases = parse(&domain, text, "shop", &default, &mut findings);
        (aliases, findings)
    }

    #[test]
    fn every_kind_of_destination() {
        let (aliases, findings) = read(
            "# comment\nboss@x.example: info@x.example, \"Two@Y.example\"\n  , shop\n\
             info@x.example: info@x.example,\"|/usr/local/cpanel/bin/autorespond info@x.example /home/shop/.autorespond\"\n\
             hook: \"|/home/shop/bin/pipe.php, a\"\nlist@x.example: \"|/usr/local/cpanel/3rdparty/mailman/mail/mailman post l\"\n\
             f@x.example: /etc/passwd\ni@x.example: :include:/etc/passwd\nz@other.example: a@b.example\n*: \":fail: No Such User Here\"\n",
        );
        let (address, to) = &aliases.forwards[0];
        assert_eq!(address.as_str(), "boss@x.example");
        let to: Vec<&str> = to.iter().map(MailAddress::as_str).collect();
        assert_eq!(to, ["info@x.example", "shop@x.example", "two@y.example"]);
        assert_eq!(aliases.forwards.len(), 1);
        assert_eq!(aliases.responders.len(), 1);
        assert_eq!(aliases.pipes[0].1, "/home/shop/bin/pipe.php, a");
        assert_eq!(aliases.catch_all, CatchAll::Fail);
        assert_eq!(findings.not_transferable.len(), 4, "{findings:?}");
    }

    #[test]
    fn catch_alls() {
        for (text, expected) in [
            ("*: shop", CatchAll::DefaultMailbox),
            ("*: :blackhole:", CatchAll::Blackhole),
            ("*: a@b.example", CatchAll::Address(MailAddress::parse("a@b.example").unwrap())),
            ("*: \"|/bin/sh\"", CatchAll::Pipe),
            ("", CatchAll::Fail),
        ] {
            assert_eq!(read(text).0.catch_all, expected, "{text}");
        }
        let old = DomainName::parse("old.example").unwrap();
        assert_eq!(
            domain_forward(&old, "old.example: new.example\n").unwrap().as_str(),
            "new.example"
        );
        assert_eq!(domain_forward(&old, ""), None);
    }

    proptest! {
        #[test]
        fn any_text(text in "[a*@:,|/\"'\\\\ \n.]{0,80}") {
            read(&text);
        }
    }
}
