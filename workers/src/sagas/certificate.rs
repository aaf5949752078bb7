//! A certificate: what it rests on is checked, it is ordered, the authority is shown that the names are
//! ours, and it is installed and looked at. Whoever goes on after a death goes on with the same order
//! and key; what was put up for the authority goes in any case.

use crate::acme::{self, Authority};
use crate::caa::{self, Issuer};
use crate::dns::{converge, query};
use crate::error::Result;
use crate::runner;
use crate::saga::{Cx, Progress, Saga, Step};
use crate::tls;
use cpanel::protocol::{Call, ChallengeToken, Installation, Installed, Level};
use cpanel::secret::Secret;
use entities::certificates::{self, Answer, CertificateName, Challenge};
use entities::dns::challenge;
use entities::error::{Code, Error};
use entities::ids::ZoneId;
use entities::servers;
use entities::tables::certificate;
use entities::values::{DomainName, Username};
use hickory_proto::rr::{RData, RecordType};
use instant_acme::{AuthorizationStatus, ChallengeType, Order, OrderStatus, RetryPolicy};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long name servers may take until they all answer what was put up.
const UNTIL_SERVED: Duration = Duration::from_secs(600);
/// How long the authority may take to look at it, and to issue.
const UNTIL_ISSUED: Duration = Duration::from_secs(180);
/// How long a service may take until it shows what it has read.
const UNTIL_SHOWN: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// The function of the saga that obtains and installs a certificate, the first or the next.
pub async fn obtain(saga: &mut Saga) -> Result<Value> {
    saga.step(CheckNames).await?;
    let order = saga.step(PlaceOrder).await?;
    saga.step(PutUp).await?;
    saga.step(AwaitServed).await?;
    saga.step(Validate).await?;
    saga.step(TakeDown).await?;
    saga.step(MakeKey).await?;
    saga.step(Finalize).await?;
    let installed = saga.step(Install).await?;
    saga.step(Look { installed }).await?;
    Ok(json!({ "order": order }))
}

/// Takes a certificate off its server. May run any number of times.
pub async fn remove(cx: &Cx) -> Result<Value> {
    take_down(cx).await?;
    let (row, user) = claimed(cx).await?;
    if let Some(user) = user {
        let call = Call::UninstallCertificate { user, certificate: row.id.0 };
        let () = runner::ask_patiently(cx, "remove", call).await?;
    }
    Ok(json!({}))
}

/// The certificate, and the user whose account it is for; none when that is gone.
async fn claimed(cx: &Cx) -> Result<(certificate::Model, Option<Username>)> {
    let tx = cx.world.db.system().await?;
    let row = certificates::load_claimed(&tx, &cx.claim).await?;
    let user = certificates::user_of(&tx, &row).await?;
    Ok((row, user))
}

fn gone() -> Error {
    Error::refused(Code::NotFound, "Its hosting account is gone.")
}

/// The order that is under way.
async fn current_order(cx: &Cx) -> Result<(Authority, Order)> {
    let (row, _) = claimed(cx).await?;
    let url = row.order_url.ok_or_else(|| Error::internal("a certificate without an order"))?;
    let authority = Authority::open(&cx.world).await?;
    match authority.order(&url).await? {
        Some(order) => Ok((authority, order)),
        None => Err(lost_order(cx).await?),
    }
}

/// Forgets an order that comes to nothing: the next attempt places another.
async fn lost_order(cx: &Cx) -> Result<Error> {
    let tx = cx.world.db.system().await?;
    certificates::drop_order(&tx, &cx.claim).await?;
    tx.commit().await?;
    let text = "The certificate authority does not know the order any more: another one is placed.";
    Ok(Error::refused(Code::CaRefused, text))
}

/// The names are the tenant's, and their domains let the authority issue.
#[derive(Debug, Serialize)]
struct CheckNames;

impl Step for CheckNames {
    type Output = ();

    fn name(&self) -> &'static str {
        "check_names"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        cx.log(Level::Info, self.name(), "Begins.").await?;
        // What an attempt has left whose undo failed.
        take_down(cx).await?;
        let (row, user) = claimed(cx).await?;
        user.ok_or_else(gone)?;
        let names = certificates::names_of(&row)?;
        let tx = cx.world.db.system().await?;
        servers::load_usable_server(&tx, cx.claim.server).await?;
        let ours = &cx.world.config.accounts_domain;
        for name in &names {
            certificates::check_verified(&tx, cx.claim.tenant, name.base(), ours).await?;
        }
        drop(tx);
        let challenge = choose(cx, &names).await?;
        let issuer = Issuer { identity: &cx.world.config.acme.caa, challenge };
        for name in &names {
            caa::check(cx.world.dns.resolver, issuer, name).await?;
        }
        Ok(())
    }

    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        Ok(())
    }
}

/// How the authority is shown that the names are ours: by our DNS when the world asks that, otherwise
/// by the account's server. A wildcard leaves no choice.
async fn choose(cx: &Cx, names: &[CertificateName]) -> Result<Challenge> {
    let tx = cx.world.db.system().await?;
    let challenge = certificates::choose_challenge(&tx, cx.claim.tenant, names).await?;
    drop(tx);
    if challenge == Challenge::Http || names.iter().any(CertificateName::is_wildcard) {
        return Ok(challenge);
    }
    for name in names {
        if !asks_us(cx, name.base()).await? {
            let text = format!("The world asks other name servers than ours for {name}.");
            cx.log(Level::Info, "check_names", &text).await?;
            return Ok(Challenge::Http);
        }
    }
    Ok(Challenge::Dns)
}

/// Whether the name servers of the zone that a name lies in are ours.
async fn asks_us(cx: &Cx, name: &DomainName) -> Result<bool> {
    let ours = &cx.world.config.nameservers;
    let mut rest = Some(name.as_str());
    while let Some(zone) = rest {
        let owner = format!("{zone}.");
        let asked = query::ask(cx.world.dns.resolver, &owner, RecordType::NS).await;
        let seen = asked.map_err(|error| {
            tracing::warn!(cause = %error.chain(), "certificate.resolver_failed");
            let text = "The resolver does not answer. Check MIGRAPANEL__RESOLVER.";
            Error::refused(Code::DnsFailed, text)
        })?;
        let servers: Vec<DomainName> = seen
            .records
            .iter()
            .filter_map(|record| match &record.data {
                RData::NS(server) => DomainName::parse(&server.0.to_ascii()).ok(),
                _ => None,
            })
            .collect();
        if !servers.is_empty() {
            return Ok(servers.iter().any(|server| ours.contains(server)));
        }
        rest = zone.split_once('.').map(|(_, parent)| parent);
    }
    Ok(false)
}

/// Orders the certificate, unless an order is under way that can still come to something.
#[derive(Debug, Serialize)]
struct PlaceOrder;

impl Step for PlaceOrder {
    /// The order's address.
    type Output = String;

    fn name(&self) -> &'static str {
        "place_order"
    }

    async fn run(&self, cx: &Cx) -> Result<String> {
        let (row, _) = claimed(cx).await?;
        let authority = Authority::open(&cx.world).await?;
        if let Some(url) = &row.order_url
            && let Some(mut order) = authority.order(url).await?
        {
            let is_usable = match order.state().status {
                OrderStatus::Pending | OrderStatus::Ready => true,
                // It was issued for a key that must be there.
                OrderStatus::Processing | OrderStatus::Valid => row.next_sealed_key.is_some(),
                OrderStatus::Invalid => false,
            };
            if is_usable {
                cx.log(Level::Info, self.name(), &format!("Goes on with {url}.")).await?;
                return Ok(url.clone());
            }
        }
        let names = certificates::names_of(&row)?;
        let tx = cx.world.db.system().await?;
        certificates::check_limit(&tx, &names).await?;
        drop(tx);
        let challenge = choose(cx, &names).await?;
        let order = authority.place(&names).await?;
        let tx = cx.world.db.system().await?;
        certificates::keep_order(&tx, &cx.claim, order.url(), challenge).await?;
        tx.commit().await?;
        cx.log(Level::Info, self.name(), &format!("Placed {}.", order.url())).await?;
        Ok(order.url().to_owned())
    }

    async fn undo(&self, _: &Cx, _: Option<String>) -> Result<()> {
        // An order that nobody answers ends by itself, and the next attempt goes on with it before.
        Ok(())
    }
}

/// Puts up what the authority is to see: records in our zones, or files on the account's server.
#[derive(Debug, Serialize)]
struct PutUp;

impl Step for PutUp {
    /// How many.
    type Output = usize;

    fn name(&self) -> &'static str {
        "put_up"
    }

    async fn run(&self, cx: &Cx) -> Result<usize> {
        let (row, _) = claimed(cx).await?;
        let answers = wanted_answers(cx, row.challenge).await?;
        let tx = cx.world.db.system().await?;
        certificates::keep_answers(&tx, &cx.claim, &answers).await?;
        for answer in &answers {
            if let Some(zone) = answer.zone {
                challenge::put(&tx, &cx.claim, zone, &answer.place, &answer.value).await?;
            }
        }
        tx.commit().await?;
        for zone in zones(&answers) {
            bring_to_servers(cx, zone).await?;
        }
        for answer in answers.iter().filter(|answer| answer.challenge == Challenge::Http) {
            let token = ChallengeToken::parse(&answer.place)?;
            let call = Call::PutChallenge { token, content: answer.value.clone() };
            let () = cx.ask_agent(self.name(), call, Progress::Silent).await?;
        }
        Ok(answers.len())
    }

    async fn undo(&self, cx: &Cx, _: Option<usize>) -> Result<()> {
        take_down(cx).await
    }
}

/// What the authority wants to see for each name that it does not know yet to be ours.
async fn wanted_answers(cx: &Cx, challenge: Challenge) -> Result<Vec<Answer>> {
    let (authority, mut order) = current_order(cx).await?;
    let mut answers = Vec::new();
    let mut authorizations = order.authorizations();
    loop {
        let mut authorization = match authorizations.next().await {
            Some(Ok(authorization)) => authorization,
            Some(Err(error)) => return Err(authority.failed(error).await),
            None => return Ok(answers),
        };
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            _ => return Err(lost_order(cx).await?),
        }
        let name = CertificateName::parse(&authorization.identifier().to_string())?;
        let kind = match challenge {
            Challenge::Dns => ChallengeType::Dns01,
            Challenge::Http => ChallengeType::Http01,
        };
        let offered = authorization.challenge(kind).ok_or_else(|| {
            let text =
                format!("The certificate authority offers no {} for {name}.", challenge.as_str());
            Error::refused(Code::CaRefused, text)
        })?;
        let shown = offered.key_authorization();
        let (place, value) = match challenge {
            Challenge::Dns => (format!("_acme-challenge.{}.", name.base()), shown.dns_value()),
            Challenge::Http => (offered.token.clone(), shown.as_str().to_owned()),
        };
        let zone = match challenge {
            Challenge::Dns => Some(zone_of(cx, name.base()).await?),
            Challenge::Http => None,
        };
        answers.push(Answer { name, challenge, zone, place, value });
    }
}

async fn zone_of(cx: &Cx, name: &DomainName) -> Result<ZoneId> {
    let tx = cx.world.db.system().await?;
    let zone = challenge::zone_for(&tx, cx.claim.tenant, name).await?;
    match zone {
        Some(zone) => Ok(zone),
        // It was there when the order was placed: the next one is validated in another way.
        None => Err(lost_order(cx).await?),
    }
}

/// Takes down what was put up. May be repeated.
async fn take_down(cx: &Cx) -> Result<()> {
    let (row, _) = claimed(cx).await?;
    let answers = row.answers()?;
    if answers.is_empty() {
        return Ok(());
    }
    for answer in answers.iter().filter(|answer| answer.challenge == Challenge::Http) {
        let call = Call::RemoveChallenge { token: ChallengeToken::parse(&answer.place)? };
        let () = cx.ask_agent("take_down", call, Progress::Silent).await?;
    }
    let tx = cx.world.db.system().await?;
    for answer in &answers {
        if let Some(zone) = answer.zone {
            challenge::remove(&tx, &cx.claim, zone, &answer.place, &answer.value).await?;
        }
    }
    certificates::keep_answers(&tx, &cx.claim, &[]).await?;
    tx.commit().await?;
    for zone in zones(&answers) {
        bring_to_servers(cx, zone).await?;
    }
    Ok(())
}

/// The zones that answers stand in.
fn zones(answers: &[Answer]) -> BTreeSet<ZoneId> {
    answers.iter().filter_map(|answer| answer.zone).collect()
}

/// Lets the name servers have a zone now. One that is away gets it later, from the DNS worker.
async fn bring_to_servers(cx: &Cx, zone: ZoneId) -> Result<()> {
    match converge::converge_now(&cx.world.dns, zone).await {
        Err(error) if error.code() == Code::DnsFailed => {
            tracing::info!(%zone, cause = %error.chain(), "certificate.zone_waits");
            Ok(())
        }
        other => other,
    }
}

/// Waits until what was put up is seen.
#[derive(Debug, Serialize)]
struct AwaitServed;

impl Step for AwaitServed {
    type Output = ();

    fn name(&self) -> &'static str {
        "await_served"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let (row, _) = claimed(cx).await?;
        let until = Instant::now() + UNTIL_SERVED;
        for answer in row.answers()? {
            let Some(zone) = answer.zone else { continue };
            while !is_served(cx, zone, &answer).await? {
                bring_to_servers(cx, zone).await?;
                if Instant::now() > until {
                    let text = format!(
                        "The name servers do not answer {} yet: the zone's state says why.",
                        answer.place
                    );
                    return Err(Error::refused(Code::DnsFailed, text));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        Ok(())
    }
}

async fn is_served(cx: &Cx, zone: ZoneId, answer: &Answer) -> Result<bool> {
    let tx = cx.world.db.system().await?;
    if !challenge::is_served(&tx, zone).await? {
        return Ok(false);
    }
    drop(tx);
    let secondaries = cx.world.dns.secondaries.iter().map(|server| server.address);
    for server in std::iter::once(cx.world.dns.primary.address).chain(secondaries) {
        let Ok(seen) = query::ask(server, &answer.place, RecordType::TXT).await else {
            return Ok(false);
        };
        if !seen.texts().iter().any(|text| text == answer.value.as_bytes()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lets the authority look, and waits until it has.
#[derive(Debug, Serialize)]
struct Validate;

impl Step for Validate {
    type Output = ();

    fn name(&self) -> &'static str {
        "validate"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let (row, _) = claimed(cx).await?;
        let kind = match row.challenge {
            Challenge::Dns => ChallengeType::Dns01,
            Challenge::Http => ChallengeType::Http01,
        };
        let (authority, mut order) = current_order(cx).await?;
        if matches!(order.state().status, OrderStatus::Processing | OrderStatus::Valid) {
            return Ok(());
        }
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = match authorization {
                Ok(authorization) => authorization,
                Err(error) => return Err(authority.failed(error).await),
            };
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            if let Some(mut offered) = authorization.challenge(kind.clone())
                && let Err(error) = offered.set_ready().await
            {
                return Err(authority.failed(error).await);
            }
        }
        let patience = RetryPolicy::new().timeout(UNTIL_ISSUED);
        match order.poll_ready(&patience).await {
            Ok(OrderStatus::Ready | OrderStatus::Valid) => Ok(()),
            Ok(_) => Err(refusal(cx, &authority).await?),
            Err(instant_acme::Error::Api(_)) => Err(refusal(cx, &authority).await?),
            Err(error) => Err(authority.failed(error).await),
        }
    }

    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        Ok(())
    }
}

/// Why the authority did not see what it wanted to, in its words; the order is forgotten.
async fn refusal(cx: &Cx, authority: &Authority) -> Result<Error> {
    let (row, _) = claimed(cx).await?;
    let mut said = Vec::new();
    let order = match &row.order_url {
        Some(url) => authority.order(url).await?,
        None => None,
    };
    if let Some(mut order) = order {
        if let Some(problem) = &order.state().error {
            said.push(acme::said(problem));
        }
        let mut authorizations = order.authorizations();
        while let Some(Ok(authorization)) = authorizations.next().await {
            let name = authorization.identifier().to_string();
            let problems = authorization.challenges.iter().filter_map(|c| c.error.as_ref());
            said.extend(problems.map(|problem| format!("{name}: {}", acme::said(problem))));
        }
    }
    let _ended = lost_order(cx).await?;
    said.truncate(5);
    let text = match said.is_empty() {
        true => "The certificate authority refuses the order and gives no reason.".to_owned(),
        false => said.join("; "),
    };
    Ok(Error::refused(Code::CaRefused, text))
}

/// What was put up has done its work.
#[derive(Debug, Serialize)]
struct TakeDown;

impl Step for TakeDown {
    type Output = ();

    fn name(&self) -> &'static str {
        "take_down"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        take_down(cx).await
    }

    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        Ok(())
    }
}

/// Makes the key: it is kept sealed before it is used.
#[derive(Debug, Serialize)]
struct MakeKey;

impl Step for MakeKey {
    type Output = ();

    fn name(&self) -> &'static str {
        "make_key"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let key = KeyPair::generate().map_err(Error::internal)?;
        let pem = SecretString::from(key.serialize_pem());
        let sealed = cx.world.config.sealing_keys.seal(&pem)?;
        let tx = cx.world.db.system().await?;
        certificates::keep_key(&tx, &cx.claim, sealed).await?;
        tx.commit().await
    }

    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        // It belongs to the order, and goes with it.
        Ok(())
    }
}

/// Asks for the certificate and keeps it.
#[derive(Debug, Serialize)]
struct Finalize;

impl Step for Finalize {
    type Output = ();

    fn name(&self) -> &'static str {
        "finalize"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let (row, _) = claimed(cx).await?;
        if row.next_chain.is_some() {
            return Ok(());
        }
        let key = opened(cx, row.next_sealed_key.as_deref())?;
        let (authority, mut order) = current_order(cx).await?;
        if order.state().status == OrderStatus::Ready {
            let csr = request(&key, &certificates::names_of(&row)?)?;
            if let Err(error) = order.finalize_csr(&csr).await {
                return Err(authority.failed(error).await);
            }
        }
        let patience = RetryPolicy::new().timeout(UNTIL_ISSUED);
        let chain = match order.poll_certificate(&patience).await {
            Ok(chain) => chain,
            Err(instant_acme::Error::Api(_)) => return Err(refusal(cx, &authority).await?),
            Err(error) => return Err(authority.failed(error).await),
        };
        let issued = acme::read_chain(chain)?;
        let tx = cx.world.db.system().await?;
        certificates::keep_chain(&tx, &cx.claim, &issued.chain).await?;
        tx.commit().await?;
        let text = format!("Issued {} until {}.", issued.serial, issued.not_after);
        cx.log(Level::Info, self.name(), &text).await
    }

    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        Ok(())
    }
}

fn opened(cx: &Cx, sealed: Option<&str>) -> Result<SecretString> {
    let sealed = sealed.ok_or_else(|| Error::internal("a certificate without a key"))?;
    cx.world.config.sealing_keys.open(sealed)
}

/// The request for a certificate, in DER form.
fn request(key: &SecretString, names: &[CertificateName]) -> Result<Vec<u8>> {
    let key = KeyPair::from_pem(key.expose_secret()).map_err(Error::internal)?;
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).map_err(Error::internal)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(Error::internal)?;
    Ok(request.der().to_vec())
}

/// Lets the account's sites and mail show it.
#[derive(Debug, Serialize)]
struct Install;

impl Step for Install {
    type Output = Installed;

    fn name(&self) -> &'static str {
        "install"
    }

    async fn run(&self, cx: &Cx) -> Result<Installed> {
        let (row, user) = claimed(cx).await?;
        let user = user.ok_or_else(gone)?;
        let kept = (row.next_sealed_key.as_deref(), row.next_chain.as_deref());
        let call = installation(cx, &row, user, kept)?;
        let installed: Installed = cx.ask_agent(self.name(), call, Progress::Silent).await?;
        if installed.web.is_empty() && installed.mail.is_empty() {
            let text = "Neither a site nor the mail of the account has one of the names.";
            return Err(Error::refused(Code::CertificateUnseen, text));
        }
        Ok(installed)
    }

    /// What was shown before is shown again.
    async fn undo(&self, cx: &Cx, _: Option<Installed>) -> Result<()> {
        let (row, user) = claimed(cx).await?;
        let Some(user) = user else { return Ok(()) };
        if row.chain.is_none() {
            let call = Call::UninstallCertificate { user, certificate: row.id.0 };
            return cx.ask_agent(self.name(), call, Progress::Silent).await;
        }
        let kept = (row.sealed_key.as_deref(), row.chain.as_deref());
        let call = installation(cx, &row, user, kept)?;
        let _before: Installed = cx.ask_agent(self.name(), call, Progress::Silent).await?;
        Ok(())
    }
}

fn installation(
    cx: &Cx,
    row: &certificate::Model,
    user: Username,
    (key, chain): (Option<&str>, Option<&str>),
) -> Result<Call> {
    let key = opened(cx, key)?;
    let names = certificates::names_of(row)?;
    Ok(Call::InstallCertificate(Installation {
        user,
        certificate: row.id.0,
        names: names.iter().map(ToString::to_string).collect(),
        key: Secret::new(key.expose_secret()),
        chain: acme::blocks(chain.unwrap_or_default()),
    }))
}

/// The server shows it to whoever asks for a name.
#[derive(Debug, Serialize)]
struct Look {
    installed: Installed,
}

impl Step for Look {
    type Output = ();

    fn name(&self) -> &'static str {
        "look"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let (row, _) = claimed(cx).await?;
        let leaf = acme::leaf(&row.next_chain.unwrap_or_default())?;
        let server: IpAddr = cx.server.ipv4.parse().map_err(Error::internal)?;
        let web = self.installed.web.iter().map(|host| (host, 443));
        let mail = self.installed.mail.iter().map(|host| (host, 993));
        let until = Instant::now() + UNTIL_SHOWN;
        for (host, port) in web.chain(mail) {
            while let Err(error) = tls::expect_certificate((server, port), host, &leaf).await {
                if error.code() != Code::CertificateUnseen || Instant::now() > until {
                    return Err(error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        Ok(())
    }
}
