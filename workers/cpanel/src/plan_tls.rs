//! Certificates: a bridge until the server has its own.

use crate::account::DomainKind;
use crate::plan::{Action, Component, Resource, StepName};
use crate::plan_sites::is_alias_there;
use crate::planner::Draft;

pub(crate) fn plan(draft: &mut Draft<'_>) {
    if !draft.wants(Component::Ssl) {
        return;
    }
    for certificate in &draft.input.account.certificates {
        let name = &certificate.domain;
        let options = draft.input.options;
        if !options.wants_item(Component::Ssl, name.as_str()) || !draft.restores(name.as_str()) {
            continue;
        }
        let item = format!("certificate:{name}");
        // A certificate alone serves nothing: its site is restored, too, or stands already.
        let is_alias = is_alias_there(draft, name)
            && draft
                .input
                .account
                .domains
                .iter()
                .any(|d| d.name == *name && d.kind != DomainKind::Parked);
        if is_alias {
            draft.lose(item, "Its name belongs to another site that stands on the server.");
            continue;
        }
        let has_site = options.wants(Component::Files)
            && options.components.get(&Component::Files).is_none_or(|n| n.is_empty())
            || draft.input.facts.vhosts.contains_key(name);
        if !has_site {
            draft.lose(item, "Its site is not restored and does not stand on the server.");
            continue;
        }
        if certificate.not_after <= draft.input.now {
            draft.lose(item, format!("It expired on {}.", certificate.not_after.date_naive()));
            continue;
        }
        if certificate.not_before > draft.input.now {
            let message = format!("It is valid from {} only.", certificate.not_before.date_naive());
            draft.warn("certificate_not_yet_valid", name.as_str(), message);
        }
        if certificate.self_signed {
            let message = "The certificate is self-signed: browsers warn of it, as before.";
            draft.warn("certificate_self_signed", name.as_str(), message);
        }
        let covers = certificate.names.iter().any(|n| {
            n == name.as_str()
                || n.strip_prefix("*.").is_some_and(|base| {
                    name.as_str().split_once('.').is_some_and(|(_, rest)| rest == base)
                })
        });
        if !covers {
            let message = "The certificate does not name the site's own domain.";
            draft.warn("certificate_other_name", name.as_str(), message);
        }
        let action = draft.action(draft.input.facts.certificates.contains(name));
        if action == Action::Merge {
            draft.lose(item, "The site has a certificate already, which stays.");
            continue;
        }
        let until = certificate.not_after.date_naive();
        let summary = format!("Install the certificate of {name}, valid until {until}");
        let resource = Resource::Certificate {
            domain: name.clone(),
            names: certificate.names.clone(),
            sha256: certificate.sha256.clone(),
            not_after_unix: certificate.not_after.timestamp(),
            self_signed: certificate.self_signed,
        };
        draft.add(item, (StepName::Certificates, Component::Ssl), action, (summary, resource));
    }
}
