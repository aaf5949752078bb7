//! `homedir/etc/DOMAIN/`, `homedir/mail/` and the files around them: mailboxes and mail domains.

use crate::account::{
    Autoresponder, CatchAll, Domain, DomainKind, Forwarder, Mail, MailDomain, MailFormat, Mailbox,
    Pipe, Routing,
};
use crate::findings::Findings;
use crate::members::{Maildir, Members};
use crate::plan::FilterRule;
use crate::record::Record;
use crate::secret::Password;
use crate::{aliases, filters};
use std::collections::{BTreeMap, BTreeSet};
use values::{DomainName, MailAddress, RelPath, Username};

/// What a reader of mail needs to know of the account.
pub(crate) struct Context<'c> {
    pub members: &'c Members,
    pub record: &'c Record,
    pub user: &'c Username,
    pub main: &'c DomainName,
    pub domains: &'c [Domain],
    /// Of the system user: the default mailbox has it, too.
    pub password: &'c Password,
}

/// Reads all that concerns mail.
pub(crate) fn parse(context: &Context<'_>, findings: &mut Findings) -> Mail {
    let mut mail = Mail::default();
    let default = MailAddress::parse(&format!("{}@{}", context.user, context.main)).ok();
    mailboxes(context, &mut mail, default.as_ref(), findings);
    if let Some(default) = &default {
        alias_files(context, &mut mail, default, findings);
    }
    mail.mailboxes.sort_by(|a, b| a.address.cmp(&b.address));
    mail.mailboxes.dedup_by(|a, b| a.address == b.address);
    filters(context, &mut mail, findings);
    keep_useful_domains(context, &mut mail);
    mail
}

fn mailboxes(
    context: &Context<'_>,
    mail: &mut Mail,
    default: Option<&MailAddress>,
    findings: &mut Findings,
) {
    let mut left: BTreeMap<&str, &Maildir> =
        context.members.maildirs.iter().map(|(path, dir)| (path.as_str(), dir)).collect();
    let inbox = left.remove("");
    if let Some(address) =
        default.filter(|_| inbox.is_some() || context.members.has("homedir/mail"))
    {
        let dir = inbox.cloned().unwrap_or_default();
        let password = context.password.clone();
        mail.mailboxes.extend(mailbox(
            context,
            address.clone(),
            "mail",
            (password, &dir),
            findings,
        ));
    }
    for domain in context.domains {
        for Login { local, password, quota } in logins(context.members, &domain.name) {
            let text = format!("{local}@{}", domain.name);
            let address = match MailAddress::parse(&text) {
                Ok(address) => address,
                Err(invalid) => {
                    findings.lost(&format!("mailbox:{text}"), format!("The {invalid}."));
                    continue;
                }
            };
            if Some(&address) == default {
                continue;
            }
            let key = format!("{}/{local}", domain.name);
            let dir = left.remove(key.as_str()).cloned().unwrap_or_default();
            let mut found =
                mailbox(context, address, &format!("mail/{key}"), (password, &dir), findings);
            let quota = quota.map(|text| quota_bytes(&text));
            if let (Some(found), Some(Err(told))) = (&found, &quota) {
                let message = format!("Its quota of {told:?} is none: it is unlimited now.");
                findings.adapt("quota_unlimited", "mailbox", found.address.as_str(), message);
            }
            let bytes = quota.and_then(Result::ok).flatten();
            found.iter_mut().for_each(|m| m.quota_bytes = bytes);
            mail.mailboxes.extend(found);
        }
    }
    for (key, dir) in left {
        without_login(context, mail, key, dir, findings);
    }
}

/// Messages of a box that no login belongs to are kept in a locked mailbox, never thrown away.
fn without_login(
    context: &Context<'_>,
    mail: &mut Mail,
    key: &str,
    dir: &Maildir,
    findings: &mut Findings,
) {
    if dir.folders.values().all(|n| *n == 0) && !dir.mdbox {
        return;
    }
    let Some((domain, local)) = key.split_once('/') else { return };
    let known = context.domains.iter().any(|d| d.name.as_str() == domain);
    match MailAddress::parse(&format!("{local}@{domain}")) {
        Ok(address) if known => {
            let message = "Its messages are there but no login: it is made locked.";
            findings.warn("mailbox_without_login", address.as_str(), message);
            let path = format!("mail/{key}");
            mail.mailboxes.extend(mailbox(
                context,
                address,
                &path,
                (Password::Locked, dir),
                findings,
            ));
        }
        _ => findings
            .lost(&format!("mailbox:{local}@{domain}"), "Its domain is none of the account's."),
    }
}

fn mailbox(
    context: &Context<'_>,
    address: MailAddress,
    path: &str,
    (password, dir): (Password, &Maildir),
    findings: &mut Findings,
) -> Option<Mailbox> {
    for folder in &dir.renamed {
        let message = format!("Its folder INBOX.{folder} is {folder} now, as clients show it.");
        findings.adapt("folder_renamed", "mailbox", address.as_str(), message);
    }
    let marker = context.members.line(&format!("homedir/{path}/mailbox_format.cpanel"));
    // The marker stands for the whole account, whose older mailboxes may still be maildirs.
    let is_empty = dir.folders.values().all(|n| *n == 0);
    let mdbox = dir.mdbox || is_empty && marker.as_deref() == Some("mdbox");
    Some(Mailbox {
        default: path == "mail",
        path: RelPath::parse(path).ok()?,
        address,
        password,
        quota_bytes: None,
        format: if mdbox { MailFormat::Mdbox } else { MailFormat::Maildir },
        folders: dir.folders.clone(),
        bytes: dir.bytes,
    })
}

/// A line of `passwd` with what stands in the files beside it.
struct Login {
    local: String,
    password: Password,
    /// As it stands there.
    quota: Option<String>,
}

/// A quota in bytes, none for 0, which means unlimited. What is no number that a file system can
/// hold comes back as it was.
fn quota_bytes(text: &str) -> Result<Option<u64>, String> {
    match text.trim().parse::<i64>() {
        Ok(0) => Ok(None),
        Ok(bytes) => u64::try_from(bytes).map(Some).map_err(|_negative| text.to_owned()),
        Err(_invalid) if text.trim().is_empty() => Ok(None),
        Err(_invalid) => Err(crate::member::shown(text.trim().as_bytes())),
    }
}

/// The domain's logins. A login's hash is looked up by its whole
/// name: by a part of it, `ann` would get the hash of `joann`.
fn logins(members: &Members, domain: &DomainName) -> Vec<Login> {
    let fields = |file: &str| -> BTreeMap<String, String> {
        let text = members.text(&format!("homedir/etc/{domain}/{file}")).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(local, rest)| (local.to_owned(), rest.to_owned())).collect()
    };
    let (shadow, quota) = (fields("shadow"), fields("quota"));
    fields("passwd")
        .into_keys()
        .map(|local| {
            let hash =
                shadow.get(&local).and_then(|rest| rest.split(':').next()).unwrap_or_default();
            let password = Password::parse(hash);
            let quota = quota.get(&local).cloned();
            Login { local, password, quota }
        })
        .collect()
}

fn alias_files(
    context: &Context<'_>,
    mail: &mut Mail,
    default: &MailAddress,
    findings: &mut Findings,
) {
    for domain in context.domains {
        let name = &domain.name;
        let text = context.members.text(&format!("va/{name}")).unwrap_or_default();
        let found = aliases::parse(name, &text, context.user.as_str(), default, findings);
        let forward = context.members.text(&format!("vad/{name}")).unwrap_or_default();
        let routing = context.record.routing.get(name).copied().unwrap_or(Routing::Auto);
        let forwards_to = aliases::domain_forward(name, &forward);
        mail.domains
            .insert(name.clone(), MailDomain { catch_all: found.catch_all, routing, forwards_to });
        for (address, destinations) in found.forwards {
            mail.forwarders.push(Forwarder { address, destinations });
        }
        for (address, command) in found.pipes {
            findings.lost(&format!("pipe:{address}"), "Programs that read mail are not run here.");
            mail.pipes.push(Pipe { address, command });
        }
        for address in found.responders {
            match responder(context.members, &address) {
                Some(responder) => mail.autoresponders.push(responder),
                None => findings
                    .lost(&format!("autoresponder:{address}"), "Its text is not in the archive."),
            }
        }
    }
    mail.forwarders.sort_by(|a, b| a.address.cmp(&b.address));
    mail.autoresponders.sort_by(|a, b| a.address.cmp(&b.address));
}

/// The account's rules, made for every mailbox of a domain, and each mailbox's own behind them.
fn filters(context: &Context<'_>, mail: &mut Mail, findings: &mut Findings) {
    let own = context.members.text("homedir/.cpanel/filter.yaml");
    let mut of_domains: BTreeMap<String, Vec<FilterRule>> = BTreeMap::new();
    for domain in context.domains {
        let name = domain.name.as_str();
        let text = context.members.text(&format!("vf/{name}"));
        let yaml = own.as_deref().filter(|_| text.is_some());
        let found = kept(filters::parse(yaml, text.as_deref()), name, findings);
        of_domains.insert(name.to_owned(), found);
    }
    for mailbox in &mail.mailboxes {
        let address = &mailbox.address;
        let place = match mailbox.default {
            true => "homedir/etc".to_owned(),
            false => format!("homedir/etc/{}/{}", address.domain(), address.local()),
        };
        let text = |file: &str| context.members.text(&format!("{place}/{file}"));
        let rules = filters::parse(text("filter.yaml").as_deref(), text("filter").as_deref());
        let mut all = of_domains.get(address.domain()).cloned().unwrap_or_default();
        all.extend(kept(rules, address.as_str(), findings));
        if !all.is_empty() {
            mail.filters.insert(address.clone(), all);
        }
    }
}

fn kept(found: filters::Found, of: &str, findings: &mut Findings) -> Vec<FilterRule> {
    let mut kept = Vec::new();
    if let Some(why) = found.unread {
        let text = format!("Its rules cannot be read ({why}) and are not taken over.");
        findings.lost(&format!("filter:{of}:all"), text);
    }
    if found.beyond > 0 {
        let most = filters::RULES_MAX;
        let text = format!("It has {} rules beyond the first {most}, left out.", found.beyond);
        findings.lost(&format!("filter:{of}:beyond"), text);
    }
    for rule in found.rules {
        match rule {
            Ok(rule) => kept.push(rule),
            Err(lost) => {
                let item = format!("filter:{of}:{}", lost.name);
                findings.lost(&item, format!("This rule is not taken over: {}.", lost.why));
            }
        }
    }
    kept
}

/// `.autorespond/ADDRESS`: headers, a blank line, the text; `.json` beside it: when and how often.
fn responder(members: &Members, address: &MailAddress) -> Option<Autoresponder> {
    let text = members.text(&format!("homedir/.autorespond/{address}"))?;
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let header = |name: &str| {
        let mut fields = head.lines().filter_map(|l| l.split_once(':'));
        let found = fields.find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let html =
        header("content-type").is_some_and(|t| t.to_ascii_lowercase().starts_with("text/html"));
    let path = format!("homedir/.autorespond/{address}.json");
    let bytes = members.texts.get(&path).map(Vec::as_slice).unwrap_or_default();
    let times: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let number = |key: &str| {
        let value = times.get(key)?;
        value.as_i64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|n| *n >= 0)
    };
    let interval = number("interval").and_then(|n| u32::try_from(n).ok()).unwrap_or(24);
    Some(Autoresponder {
        address: address.clone(),
        subject: header("subject").unwrap_or_default(),
        body: body.to_owned(),
        from_name: header("from").as_deref().and_then(from_name),
        html,
        interval_hours: interval.min(24 * 365),
        start_unix: number("start").filter(|n| *n > 0),
        stop_unix: number("stop").filter(|n| *n > 0),
    })
}

/// The name in `"Ann" <ann@shop.example>`, or the whole when there is no address.
fn from_name(text: &str) -> Option<String> {
    let name = text.split('<').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control() && !"\"\\".contains(*c)).collect();
    let name = name.trim();
    let usable = !name.is_empty() && !name.contains('@') && name.chars().count() <= 60;
    usable.then(|| name.to_owned())
}

/// Registered domains take mail. A subdomain does only if something is there for it: cPanel writes
/// an alias file for each, which mostly refuses all.
fn keep_useful_domains(context: &Context<'_>, mail: &mut Mail) {
    let mut used: BTreeSet<String> =
        mail.mailboxes.iter().map(|m| m.address.domain().to_owned()).collect();
    used.extend(mail.forwarders.iter().map(|f| f.address.domain().to_owned()));
    used.extend(mail.autoresponders.iter().map(|a| a.address.domain().to_owned()));
    let subs: BTreeSet<&DomainName> = context
        .domains
        .iter()
        .filter(|d| d.kind == DomainKind::Subdomain)
        .map(|d| &d.name)
        .collect();
    mail.domains.retain(|name, domain| {
        !subs.contains(name)
            || used.contains(name.as_str())
            || !matches!(domain.catch_all, CatchAll::Fail | CatchAll::Pipe)
            || domain.forwards_to.is_some()
    });
}
