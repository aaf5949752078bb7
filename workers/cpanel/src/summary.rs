//! The account without its secrets, for those who decide about it.

use crate::account::{Account, CatchAll, DatabaseAuth};
use crate::protocol::{
    CertificateSummary, DatabaseSummary, DatabaseUserSummary, DkimSummary, DomainSummary,
    FilterSummary, ForwarderSummary, FtpSummary, MailboxSummary, Summary, ZoneSummary,
};
use crate::secret::Password;

/// Shows an account. Nothing in the result is secret.
#[must_use]
pub fn summarize(account: &Account) -> Summary {
    Summary {
        source_user: account.user.clone(),
        main_domain: account.main_domain.clone(),
        components: account.presence.clone(),
        domains: domains(account),
        mailboxes: mailboxes(account),
        forwarders: forwarders(account),
        filters: account
            .mail
            .filters
            .iter()
            .map(|(address, rules)| FilterSummary {
                address: address.to_string(),
                rules: rules.iter().map(|r| r.name.clone()).collect(),
            })
            .collect(),
        databases: databases(account),
        database_users: database_users(account),
        zones: account
            .zones
            .iter()
            .map(|zone| ZoneSummary {
                name: zone.name.clone(),
                records: zone.records.iter().map(|set| count(set.records.len())).sum(),
            })
            .collect(),
        certificates: certificates(account),
        dkim: account
            .dkim
            .iter()
            .map(|key| DkimSummary {
                domain: key.domain.clone(),
                selector: key.selector.clone(),
                bits: key.bits,
            })
            .collect(),
        cron: account.cron.iter().map(|job| job.line.clone()).collect(),
        ftp: account
            .ftp
            .iter()
            .map(|l| FtpSummary { login: l.login.clone(), directory: l.directory.clone() })
            .collect(),
        warnings: account.warnings.clone(),
        not_transferable: account.not_transferable.clone(),
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn domains(account: &Account) -> Vec<DomainSummary> {
    account
        .domains
        .iter()
        .map(|d| DomainSummary {
            name: d.name.clone(),
            kind: d.kind,
            docroot: d.docroot.as_ref().map(ToString::to_string),
            target: d.target.clone(),
            php: d.php.clone(),
        })
        .collect()
}

fn mailboxes(account: &Account) -> Vec<MailboxSummary> {
    account
        .mail
        .mailboxes
        .iter()
        .map(|m| MailboxSummary {
            address: m.address.to_string(),
            messages: m.messages(),
            bytes: m.bytes,
            quota_bytes: m.quota_bytes,
            locked: m.password == Password::Locked,
            default: m.default,
        })
        .collect()
}

fn forwarders(account: &Account) -> Vec<ForwarderSummary> {
    let mail = &account.mail;
    let line = |address: String, destinations: Vec<String>, kind: &str| ForwarderSummary {
        address,
        destinations,
        kind: kind.to_owned(),
    };
    let mut lines: Vec<ForwarderSummary> = mail
        .forwarders
        .iter()
        .map(|f| {
            let to = f.destinations.iter().map(ToString::to_string).collect();
            line(f.address.to_string(), to, "forward")
        })
        .collect();
    lines.extend(
        mail.autoresponders.iter().map(|a| line(a.address.to_string(), Vec::new(), "autorespond")),
    );
    lines.extend(mail.pipes.iter().map(|p| {
        line(
            p.address.to_string(),
            vec![format!("|{}", crate::member::shown(p.command.as_bytes()))],
            "pipe",
        )
    }));
    for (domain, settings) in &mail.domains {
        let to = match &settings.catch_all {
            CatchAll::Fail => continue,
            CatchAll::Blackhole => ":blackhole:".to_owned(),
            CatchAll::Pipe => "|".to_owned(),
            CatchAll::Address(address) => address.to_string(),
            CatchAll::DefaultMailbox => format!("{}@{}", account.user, account.main_domain),
        };
        lines.push(line(format!("*@{domain}"), vec![to], "catch_all"));
    }
    lines
}

fn databases(account: &Account) -> Vec<DatabaseSummary> {
    account
        .databases
        .iter()
        .map(|d| DatabaseSummary {
            name: d.name.to_string(),
            bytes: d.bytes,
            dump: d.dump.as_str().to_owned(),
            users: account
                .database_users
                .iter()
                .filter(|u| u.grants.contains_key(&d.name))
                .map(|u| u.name.to_string())
                .collect(),
        })
        .collect()
}

fn database_users(account: &Account) -> Vec<DatabaseUserSummary> {
    account
        .database_users
        .iter()
        .map(|u| DatabaseUserSummary {
            name: u.name.to_string(),
            grants: u.grants.iter().map(|(d, p)| (d.to_string(), p.clone())).collect(),
            password_kept: matches!(u.auth, DatabaseAuth::Native(_)),
        })
        .collect()
}

fn certificates(account: &Account) -> Vec<CertificateSummary> {
    account
        .certificates
        .iter()
        .map(|c| CertificateSummary {
            domain: c.domain.to_string(),
            names: c.names.clone(),
            issuer: c.issuer.clone(),
            not_before: c.not_before,
            not_after: c.not_after,
            self_signed: c.self_signed,
            sha256: c.sha256.clone(),
        })
        .collect()
}
