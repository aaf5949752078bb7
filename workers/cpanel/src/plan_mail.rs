//! Mail domains, mailboxes, forwarders, vacations and DKIM keys.

use crate::account::{CatchAll as Source, MailDomain, MailFormat, Routing, Zone};
use crate::plan::{CatchAll, Component, Credential, Dormant, Mode, Resource, StepName};
use crate::planner::Draft;
use crate::secret::Password;
use std::collections::{BTreeMap, BTreeSet};
use values::{DomainName, MailAddress, RelPath};

const MAIL: (StepName, Component) = (StepName::Mail, Component::Email);

pub(crate) fn plan(draft: &mut Draft<'_>) {
    if !draft.wants(Component::Email) {
        return;
    }
    let domains = domains(draft);
    let mut boxes = mailboxes(draft, &domains);
    vacations(draft, &domains, &mut boxes);
    forwarders(draft, &domains, &boxes);
    filters(draft, &boxes);
    dkim(draft, &domains);
}

/// Whether an address is selected: by itself or with its domain.
fn wants(draft: &Draft<'_>, address: &MailAddress) -> bool {
    let options = draft.input.options;
    options.wants_item(Component::Email, address.as_str())
        || options.wants_item(Component::Email, address.domain())
}

/// Mail domains that are planned: those of a selected address, too.
fn domains(draft: &mut Draft<'_>) -> BTreeSet<String> {
    let mail = &draft.input.account.mail;
    let mut addresses: Vec<&MailAddress> = mail.mailboxes.iter().map(|m| &m.address).collect();
    addresses.extend(mail.forwarders.iter().map(|f| &f.address));
    let mut planned = BTreeSet::new();
    for (name, domain) in &mail.domains {
        let selected = draft.input.options.wants_item(Component::Email, name.as_str())
            || addresses.iter().any(|a| a.domain() == name.as_str() && wants(draft, a));
        if selected && draft.restores(name.as_str()) {
            add_domain(draft, name, domain);
            planned.insert(name.to_string());
        }
    }
    planned
}

fn add_domain(draft: &mut Draft<'_>, name: &DomainName, domain: &MailDomain) {
    let account = draft.input.account;
    let catch_all = match &domain.catch_all {
        Source::Fail | Source::Pipe => None,
        Source::Blackhole => Some(CatchAll::Blackhole),
        Source::Address(address) => Some(CatchAll::Address(address.clone())),
        Source::DefaultMailbox => account
            .mail
            .mailboxes
            .iter()
            .find(|m| m.default)
            .map(|m| CatchAll::Address(m.address.clone())),
    };
    let zone = account.zones.iter().find(|z| z.name == *name);
    let local = match domain.routing {
        Routing::Local => true,
        Routing::Remote => false,
        Routing::Secondary => {
            let message = "The source only held its mail for another server; it is not taken here.";
            draft.warn("mail_secondary", name.as_str(), message);
            false
        }
        Routing::Auto => zone.is_none_or(|z| points_to_source(draft, z)),
    };
    let dormant = match (local, draft.suspended, draft.input.control.takes_mail(name)) {
        (false, ..) => Some(Dormant::Elsewhere),
        (true, true, _) => Some(Dormant::Suspended),
        (true, false, false) => Some(Dormant::Unverified),
        (true, false, true) => None,
    };
    match dormant {
        Some(Dormant::Elsewhere) => {
            let message = "Its mail goes to another server, as on the source; mailboxes open, but none arrives here.";
            draft.warn("mail_elsewhere", name.as_str(), message);
        }
        Some(Dormant::Unverified) => {
            let message = "It takes no mail until the domain is verified.";
            draft.warn("mail_dormant", name.as_str(), message);
        }
        Some(Dormant::Suspended) | None => {}
    }
    let action = draft.action(draft.input.facts.mail_domains.contains_key(name));
    let what = match dormant {
        Some(Dormant::Elsewhere) => format!("Set up {name}, whose mail another server takes"),
        Some(Dormant::Suspended) => format!("Set up {name}, whose mail is refused"),
        Some(Dormant::Unverified) => format!("Set up {name}, for mail once it is verified"),
        None => format!("Take mail for {name}"),
    };
    let summary = match &catch_all {
        None => what,
        Some(CatchAll::Blackhole) => format!("{what}, unknown addresses thrown away"),
        Some(CatchAll::Address(to)) => format!("{what}, unknown addresses to {to}"),
    };
    let summary = match &domain.forwards_to {
        Some(to) => format!("{summary}; other names go to the same ones at {to}"),
        None => summary,
    };
    let forwards_to = domain.forwards_to.clone().filter(|to| to != name);
    let active = dormant.is_none();
    let domain = name.clone();
    let resource = Resource::MailDomain { domain, catch_all, forwards_to, active, dormant };
    draft.add(format!("mail_domain:{name}"), MAIL, action, (summary, resource));
}

/// Whether a zone's mail goes to the server that the archive is from: one of its MX names is the
/// account's own and not at another address, or the server's.
fn points_to_source(draft: &Draft<'_>, zone: &Zone) -> bool {
    let source = &draft.input.account.source;
    let apex = format!("{}.", zone.name);
    let set = |name: &str, rtype: &str| {
        zone.records.iter().find(|s| s.name == name && s.rtype == rtype).map(|s| &s.records)
    };
    let Some(mx) = set(&apex, "MX") else { return true };
    mx.iter().filter_map(|r| r.split(' ').nth(1)).any(|host| {
        let alias = set(host, "CNAME").and_then(BTreeSet::first).map_or(host, String::as_str);
        let bare = alias.strip_suffix('.').unwrap_or(alias);
        if source.hostname.as_deref() == Some(bare) {
            return true;
        }
        match set(alias, "A") {
            Some(addresses) => {
                addresses.iter().any(|a| a.parse().is_ok_and(|ip| source.ipv4.contains(&ip)))
            }
            None => draft
                .input
                .account
                .domains
                .iter()
                .any(|d| bare == d.name.as_str() || bare.ends_with(&format!(".{}", d.name))),
        }
    })
}

fn mailboxes(draft: &mut Draft<'_>, domains: &BTreeSet<String>) -> BTreeSet<MailAddress> {
    let mut planned = BTreeSet::new();
    for mailbox in &draft.input.account.mail.mailboxes {
        let address = &mailbox.address;
        if !domains.contains(address.domain()) || !wants(draft, address) {
            continue;
        }
        // The default mailbox, too, gets a directory of its own: on the source the others lie in it.
        let below = format!("mail/{}/{}", address.domain(), address.local());
        let below = RelPath::parse(&below).ok();
        let Some(maildir) = below.and_then(|b| draft.home(Some(&b))) else { continue };
        let (messages, bytes) = match mailbox.format {
            MailFormat::Maildir => (mailbox.messages(), mailbox.bytes),
            MailFormat::Mdbox => (0, mailbox.bytes),
        };
        let credential = match mailbox.password {
            Password::Hash(_) => Credential::Kept,
            Password::Locked => Credential::Locked,
        };
        if credential == Credential::Locked && !draft.suspended {
            let message = "Its login is locked, as in the archive: set a password to open it.";
            draft.warn("mailbox_locked", address.as_str(), message);
        }
        if mailbox.password.is_weak() {
            let message = "Its password is kept under an old hash that is guessed in hours: let its owner choose a new one.";
            draft.warn("password_weak", address.as_str(), message);
        }
        let login_aliases = if mailbox.default { login(draft, address) } else { BTreeSet::new() };
        let action = draft.action(draft.input.facts.mailboxes.contains(address));
        let summary = match mailbox.format {
            MailFormat::Maildir => {
                format!("Restore the mailbox {address} with {messages} messages")
            }
            MailFormat::Mdbox => format!("Restore the mailbox {address}, converted from mdbox"),
        };
        let resource = Resource::Mailbox {
            address: address.clone(),
            maildir,
            messages,
            bytes,
            quota_bytes: mailbox.quota_bytes,
            credential,
            login_aliases,
        };
        draft.add(format!("mailbox:{address}"), MAIL, action, (summary, resource));
        planned.insert(address.clone());
    }
    planned
}

/// The account's bare name opens its default mailbox; one that opens another goes on doing so unless
/// what stands is replaced.
fn login(draft: &mut Draft<'_>, address: &MailAddress) -> BTreeSet<String> {
    let user = draft.input.target_user.to_string();
    let standing = draft.input.facts.login.as_ref().filter(|s| *s != address);
    match standing {
        Some(standing) if draft.input.options.mode == Mode::Merge => {
            let message = format!("The login {user} goes on opening {standing}.");
            draft.warn("login_kept", address.as_str(), message);
            BTreeSet::new()
        }
        _ => BTreeSet::from([user]),
    }
}

fn forwarders(draft: &mut Draft<'_>, domains: &BTreeSet<String>, boxes: &BTreeSet<MailAddress>) {
    let mut all: BTreeMap<&MailAddress, BTreeSet<MailAddress>> = BTreeMap::new();
    for forwarder in &draft.input.account.mail.forwarders {
        if domains.contains(forwarder.address.domain()) && wants(draft, &forwarder.address) {
            all.entry(&forwarder.address)
                .or_default()
                .extend(forwarder.destinations.iter().cloned());
        }
    }
    for (address, destinations) in all {
        let keep_copy = boxes.contains(address) || draft.input.facts.mailboxes.contains(address);
        let list = destinations.iter().map(MailAddress::as_str).collect::<Vec<_>>().join(", ");
        let action = draft.action(draft.input.facts.forwarders.contains(address));
        let summary = format!("Forward mail for {address} to {list}");
        let resource = Resource::Forwarder { address: address.clone(), destinations, keep_copy };
        draft.add(format!("forwarder:{address}"), MAIL, action, (summary, resource));
    }
}

/// An address that only answers gets a mailbox that keeps nothing.
fn vacations(draft: &mut Draft<'_>, domains: &BTreeSet<String>, boxes: &mut BTreeSet<MailAddress>) {
    let now = draft.input.now.timestamp();
    for responder in &draft.input.account.mail.autoresponders {
        let address = &responder.address;
        if !domains.contains(address.domain()) || !wants(draft, address) {
            continue;
        }
        if responder.stop_unix.is_some_and(|stop| stop <= now) {
            draft.lose(format!("autoresponder:{address}"), "Its time is over.");
            continue;
        }
        let keep = boxes.contains(address) || draft.input.facts.mailboxes.contains(address);
        if !keep && !responding_mailbox(draft, address) {
            continue;
        }
        boxes.insert(address.clone());
        let action = draft.action(draft.input.facts.scripts.contains(address));
        let resource = Resource::Vacation {
            address: address.clone(),
            subject: responder.subject.clone(),
            body: responder.body.clone(),
            from_name: responder.from_name.clone(),
            html: responder.html,
            interval_hours: responder.interval_hours,
            start_unix: responder.start_unix,
            stop_unix: responder.stop_unix,
            keep,
        };
        let summary = format!("Answer mail to {address} automatically");
        draft.add(format!("vacation:{address}"), MAIL, action, (summary, resource));
    }
}

fn responding_mailbox(draft: &mut Draft<'_>, address: &MailAddress) -> bool {
    let below = format!("mail/{}/{}", address.domain(), address.local());
    let below = RelPath::parse(&below).ok();
    let Some(maildir) = below.and_then(|b| draft.home(Some(&b))) else { return false };
    let resource = Resource::Mailbox {
        address: address.clone(),
        maildir,
        messages: 0,
        bytes: 0,
        quota_bytes: None,
        credential: Credential::Locked,
        login_aliases: BTreeSet::new(),
    };
    let summary = format!("Make a locked mailbox {address}, which answers and keeps nothing");
    let action = draft.action(false);
    draft.add(format!("mailbox:{address}"), MAIL, action, (summary, resource));
    true
}

fn filters(draft: &mut Draft<'_>, boxes: &BTreeSet<MailAddress>) {
    for (address, rules) in &draft.input.account.mail.filters {
        if !boxes.contains(address) {
            continue;
        }
        let action = draft.action(draft.input.facts.scripts.contains(address));
        let summary = format!("Filter mail to {address} by {} rules", rules.len());
        let resource = Resource::Filter { address: address.clone(), rules: rules.clone() };
        draft.add(format!("filter:{address}"), MAIL, action, (summary, resource));
    }
}

fn dkim(draft: &mut Draft<'_>, domains: &BTreeSet<String>) {
    for key in &draft.input.account.dkim {
        let name = &key.domain;
        let wanted = draft.input.options.wants_item(Component::Email, name.as_str());
        if !wanted || !domains.contains(name.as_str()) {
            continue;
        }
        let action = draft.action(draft.input.facts.dkim.contains(name));
        let summary =
            format!("Sign mail of {name} with its imported DKIM key of {} bits", key.bits);
        let (selector, bits) = (key.selector.clone(), key.bits);
        let resource = Resource::Dkim { domain: name.clone(), selector, bits };
        draft.add(format!("dkim:{name}"), MAIL, action, (summary, resource));
    }
}
