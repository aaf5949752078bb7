//! Configuration: compiled-in defaults and the environment, checked at the start. The only place
//! that reads environment variables.

use crate::Result;
use crate::billing::standing::Rules;
use crate::dns::budget::{Limit as ZoneLimit, Limits as ZoneLimits};
use crate::dns::names::Rules as NameRules;
use crate::error::Error;
use crate::sealing::SealingKeys;
use crate::secrets::SecretKeys;
use crate::webhooks::Reach;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use values::{DomainName, MailAddress};

/// What every process needs. `Debug` hides the secrets.
#[derive(Debug, Clone)]
pub struct Base {
    /// `DATABASE_URL`: Postgres, as a member of the roles `migrapanel_tenant` and `migrapanel_system`.
    pub database_url: SecretString,
    /// `AMQP_URL`: RabbitMQ with its virtual host.
    pub amqp_url: SecretString,
}

impl Base {
    /// Reads it from the environment.
    pub fn read() -> Result<Self> {
        Ok(Self { database_url: secret("DATABASE_URL")?, amqp_url: secret("AMQP_URL")? })
    }
}

/// The API's configuration.
#[derive(Debug, Clone)]
pub struct Api {
    pub base: Base,
    /// `REDIS_URL`.
    pub redis_url: SecretString,
    /// `MIGRAPANEL__LISTEN`, by default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// `MIGRAPANEL__JWT_KEYS`: `KID:SECRET[,KID:SECRET]`, newest first, secrets of 32 bytes or more.
    pub jwt_keys: SecretString,
    /// `MIGRAPANEL__TOKEN_KEYS`, see [`SecretKeys::parse`].
    pub token_keys: SecretKeys,
    /// `MIGRAPANEL__REGISTRATION`: `on`, by default, or `off`.
    pub registration: bool,
    /// `MIGRAPANEL__ASK_TIMEOUT_SECS`: how long a request waits for a worker, by default 60.
    pub ask_timeout_secs: u64,
    pub edge: Edge,
    /// `MIGRAPANEL__WEBHOOKS_PRIVATE`: `on`, or `off`, by default: whether webhooks may lead into
    /// private networks and do without TLS.
    pub webhooks: Reach,
    pub stripe: Stripe,
    /// `STRIPE_WEBHOOK_SECRET`: `whsec_…[,whsec_…]`, each of which may have signed what Stripe tells.
    pub stripe_webhook_secrets: Vec<SecretString>,
    /// `MIGRAPANEL__ACCOUNTS_DOMAIN`, the same as the migrator's.
    pub accounts_domain: DomainName,
    pub zones: Zones,
}

impl Api {
    /// Reads it from the environment.
    pub fn read() -> Result<Self> {
        Ok(Self {
            base: Base::read()?,
            redis_url: secret("REDIS_URL")?,
            listen: parsed("MIGRAPANEL__LISTEN", "127.0.0.1:8080")?,
            jwt_keys: secret("MIGRAPANEL__JWT_KEYS")?,
            token_keys: token_keys()?,
            registration: switch("MIGRAPANEL__REGISTRATION", "on")?,
            ask_timeout_secs: parsed("MIGRAPANEL__ASK_TIMEOUT_SECS", "60")?,
            edge: Edge::read()?,
            webhooks: webhooks_reach()?,
            stripe: Stripe::read()?,
            stripe_webhook_secrets: webhook_secrets(&secret("STRIPE_WEBHOOK_SECRET")?)?,
            accounts_domain: accounts_domain()?,
            zones: Zones::read()?,
        })
    }
}

fn accounts_domain() -> Result<DomainName> {
    Ok(DomainName::parse(&text("MIGRAPANEL__ACCOUNTS_DOMAIN", "hosted.internal"))?)
}

/// Secrets, separated by commas. With an empty one anybody could sign.
pub fn webhook_secrets(text: &SecretString) -> Result<Vec<SecretString>> {
    let parts = text.expose_secret().split(',').map(str::trim);
    if parts.clone().any(str::is_empty) {
        let text = "STRIPE_WEBHOOK_SECRET has an empty secret: name each, separated by commas";
        return Err(Error::internal(text));
    }
    Ok(parts.map(SecretString::from).collect())
}

/// How Stripe is reached, and what is asked of it.
#[derive(Debug, Clone)]
pub struct Stripe {
    /// `STRIPE_API_BASE`, by default `https://api.stripe.com/`.
    pub api_base: String,
    /// `STRIPE_SECRET_KEY`: `sk_…` or `rk_…`.
    pub secret_key: SecretString,
    /// `MIGRAPANEL__STRIPE_TAX`: `on`, or `off`, by default: whether Stripe Tax adds taxes.
    pub tax: bool,
    /// `MIGRAPANEL__PUBLIC_URL`: where the API is reached from outside, such as
    /// `https://api.hosting.example`: where Stripe sends a buyer back to.
    pub public_url: String,
    /// `MIGRAPANEL__DASHBOARD_URL`: where the buyer goes on from there.
    pub dashboard_url: String,
    /// `MIGRAPANEL__DUNNING_DAYS`, by default `0,3,7`, `MIGRAPANEL__GRACE_DAYS`, by default 10, and
    /// `MIGRAPANEL__RETENTION_DAYS`, by default 30.
    pub rules: Rules,
}

impl Stripe {
    fn read() -> Result<Self> {
        let url = |name, default| text(name, default).trim_end_matches('/').to_owned();
        Ok(Self {
            api_base: text("STRIPE_API_BASE", "https://api.stripe.com/"),
            secret_key: secret("STRIPE_SECRET_KEY")?,
            tax: switch("MIGRAPANEL__STRIPE_TAX", "off")?,
            public_url: url("MIGRAPANEL__PUBLIC_URL", "http://127.0.0.1:8080"),
            dashboard_url: url("MIGRAPANEL__DASHBOARD_URL", "http://127.0.0.1:8080"),
            rules: rules()?,
        })
    }
}

fn rules() -> Result<Rules> {
    let letters = match optional("MIGRAPANEL__DUNNING_DAYS") {
        Some(_) => list("MIGRAPANEL__DUNNING_DAYS", |day| day.parse().ok())?,
        None => vec![0, 3, 7],
    };
    Ok(Rules {
        letters,
        grace_days: parsed("MIGRAPANEL__GRACE_DAYS", "10")?,
        retention_days: parsed("MIGRAPANEL__RETENTION_DAYS", "30")?,
    })
}

/// The billing worker's configuration.
#[derive(Debug, Clone)]
pub struct Billing {
    pub base: Base,
    pub stripe: Stripe,
}

impl Billing {
    /// Reads it from the environment.
    pub fn read() -> Result<Self> {
        Ok(Self { base: Base::read()?, stripe: Stripe::read()? })
    }
}

/// How the API meets those who call it.
#[derive(Debug, Clone)]
pub struct Edge {
    /// `MIGRAPANEL__TRUSTED_PROXIES`: networks or addresses, separated by commas, whose
    /// `X-Forwarded-For` and `X-Forwarded-Proto` are believed; by default none.
    pub trusted_proxies: Vec<IpNet>,
    /// `MIGRAPANEL__CORS_ORIGINS`: the origins, separated by commas, whose pages may call, such as
    /// `https://panel.hosting.example`; by default none.
    pub cors_origins: Vec<String>,
    /// `MIGRAPANEL__REQUIRE_HTTPS`: `on`, or `off`, by default.
    pub require_https: bool,
    /// `MIGRAPANEL__ANONYMOUS_REQUESTS`: how many an address may send in 15 minutes without a
    /// login, by default 100.
    pub anonymous_requests: u32,
    /// `MIGRAPANEL__REQUEST_TIMEOUT_SECS`: how long a body may take to arrive, and then an answer to
    /// begin, by default 30. What asks a worker has `MIGRAPANEL__ASK_TIMEOUT_SECS` more.
    pub request_timeout_secs: u64,
}

impl Edge {
    fn read() -> Result<Self> {
        Ok(Self {
            trusted_proxies: list("MIGRAPANEL__TRUSTED_PROXIES", network)?,
            cors_origins: list("MIGRAPANEL__CORS_ORIGINS", origin)?,
            require_https: switch("MIGRAPANEL__REQUIRE_HTTPS", "off")?,
            anonymous_requests: parsed::<NonZeroU32>("MIGRAPANEL__ANONYMOUS_REQUESTS", "100")?
                .get(),
            request_timeout_secs: parsed("MIGRAPANEL__REQUEST_TIMEOUT_SECS", "30")?,
        })
    }
}

/// Values that are separated by commas.
fn list<T>(name: &str, read: fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let value = text(name, "");
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    let read =
        |item| read(item).ok_or_else(|| Error::internal(format!("{name}: {item} cannot be read")));
    items.map(read).collect()
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// `SCHEME://HOST[:PORT]`, as browsers send it.
fn origin(text: &str) -> Option<String> {
    let (scheme, host) = text.split_once("://")?;
    let is_origin = ["http", "https"].contains(&scheme)
        && !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase())
        && !host.contains(['/', '*', '?', '#', '@']);
    is_origin.then(|| text.to_owned())
}

/// The migration worker's configuration.
#[derive(Debug, Clone)]
pub struct Migrator {
    pub base: Base,
    /// `MIGRAPANEL__SEALING_KEYS`, see [`SealingKeys::parse`].
    pub sealing_keys: SealingKeys,
    /// `MIGRAPANEL__AGENT`: the agent's binary, as it is put on servers.
    pub agent: PathBuf,
    /// `MIGRAPANEL__MIGRATIONS_MAX`: how many run at once in the whole installation, by default 3.
    pub migrations_max: i64,
    /// `MIGRAPANEL__APPLY_LIMIT_SECS`: how long an apply may take, by default one hour, to which
    /// comes one second for each 10 MiB that the archive expands to.
    pub apply_limit_secs: u64,
    /// `MIGRAPANEL__LEASE_SECS`: after how long a silent worker's job is taken over, by default 30.
    pub lease_secs: u64,
    pub dns: Dns,
    /// `MIGRAPANEL__NAMESERVERS`: the names that zones get as NS, separated by commas.
    pub nameservers: Vec<DomainName>,
    /// `MIGRAPANEL__ACCOUNTS_DOMAIN`: below which accounts that were ordered without a domain of their
    /// own get their names, `USER.hosted.internal` by default.
    pub accounts_domain: DomainName,
    pub acme: Acme,
    /// `MIGRAPANEL__NODE_LIMIT_SECS`: how long a command on a Proxmox node may take until it is not known
    /// what became of it, by default 600.
    pub node_limit_secs: u64,
    /// `MIGRAPANEL__READY_SECS`: how long a new container may take until it answers, by default 180.
    pub ready_secs: u64,
    /// `MIGRAPANEL__RECONCILE_SECS`: how often the containers of each node are compared with what was
    /// sold, by default 60.
    pub reconcile_secs: u64,
}

/// The certificate authority.
#[derive(Debug, Clone)]
pub struct Acme {
    /// `MIGRAPANEL__ACME_DIRECTORY`, by default Let's Encrypt's.
    pub directory: String,
    /// `MIGRAPANEL__ACME_EMAIL`: where the authority writes to, by default nowhere.
    pub email: Option<MailAddress>,
    /// `MIGRAPANEL__ACME_ROOT`: a file with the only certificate, as PEM, that the authority's own is
    /// checked with; by default those that the system trusts.
    pub root: Option<PathBuf>,
    /// `MIGRAPANEL__ACME_CAA`: what CAA records call the authority, by default `letsencrypt.org`.
    pub caa: DomainName,
}

impl Acme {
    fn read() -> Result<Self> {
        let email = optional("MIGRAPANEL__ACME_EMAIL").map(|text| MailAddress::parse(&text));
        Ok(Self {
            directory: text(
                "MIGRAPANEL__ACME_DIRECTORY",
                "https://acme-v02.api.letsencrypt.org/directory",
            ),
            email: email.transpose()?,
            root: optional("MIGRAPANEL__ACME_ROOT").map(PathBuf::from),
            caa: DomainName::parse(&text("MIGRAPANEL__ACME_CAA", "letsencrypt.org"))?,
        })
    }
}

impl Migrator {
    /// Reads it from the environment.
    pub fn read() -> Result<Self> {
        Ok(Self {
            base: Base::read()?,
            sealing_keys: SealingKeys::parse(&secret("MIGRAPANEL__SEALING_KEYS")?)?,
            agent: parsed("MIGRAPANEL__AGENT", "/usr/lib/migrapanel/migrapanel-agent")?,
            migrations_max: parsed("MIGRAPANEL__MIGRATIONS_MAX", "3")?,
            apply_limit_secs: parsed("MIGRAPANEL__APPLY_LIMIT_SECS", "3600")?,
            lease_secs: parsed("MIGRAPANEL__LEASE_SECS", "30")?,
            dns: Dns::read()?,
            nameservers: nameservers()?,
            accounts_domain: accounts_domain()?,
            acme: Acme::read()?,
            node_limit_secs: parsed("MIGRAPANEL__NODE_LIMIT_SECS", "600")?,
            ready_secs: parsed("MIGRAPANEL__READY_SECS", "180")?,
            reconcile_secs: parsed("MIGRAPANEL__RECONCILE_SECS", "60")?,
        })
    }
}

fn nameservers() -> Result<Vec<DomainName>> {
    let names = text("MIGRAPANEL__NAMESERVERS", "ns1.migrapanel.test,ns2.migrapanel.test");
    Ok(names.split(',').map(|name| DomainName::parse(name.trim())).collect::<Result<_, _>>()?)
}

/// The DNS servers, and whom the world is asked through.
#[derive(Debug, Clone)]
pub struct Dns {
    /// `PDNS_API_URL`, such as `http://127.0.0.1:8081`, `PDNS_API_KEY` and `DNS_ADDR`, where it answers:
    /// the PowerDNS server that has the zones first.
    pub primary: DnsServer,
    /// `MIGRAPANEL__DNS_SECONDARIES`: `NAME=ADDRESS[=API_URL=API_KEY]`, separated by commas: servers
    /// that transfer the zones from the first one. PowerDNS servers with an API are given their
    /// zones; others are only looked at.
    pub secondaries: Vec<DnsServer>,
    /// `MIGRAPANEL__DNS_TRANSFER_FROM`: the address that the secondary servers transfer from, by
    /// default `DNS_ADDR`.
    pub transfer_from: SocketAddr,
    /// `MIGRAPANEL__RESOLVER`: a recursive resolver, by default `127.0.0.1:53`. What it answers decides
    /// whether a domain is verified, so that it must not be one of our own servers.
    pub resolver: SocketAddr,
    /// `MIGRAPANEL__DNS_CHECK_SECS`: how often each zone is compared with the servers, by default 900.
    pub check_secs: u32,
}

/// A DNS server.
#[derive(Debug, Clone)]
pub struct DnsServer {
    pub name: String,
    /// Where it answers.
    pub address: SocketAddr,
    /// Its HTTP API and the key to it.
    pub api: Option<(String, SecretString)>,
}

impl Dns {
    /// Reads it from the environment.
    pub fn read() -> Result<Self> {
        let address: SocketAddr = parsed("DNS_ADDR", "127.0.0.1:53")?;
        let url = secret("PDNS_API_URL")?.expose_secret().to_owned();
        Ok(Self {
            primary: DnsServer {
                name: "primary".to_owned(),
                address,
                api: Some((url, secret("PDNS_API_KEY")?)),
            },
            secondaries: secondaries(&text("MIGRAPANEL__DNS_SECONDARIES", ""))?,
            transfer_from: parsed("MIGRAPANEL__DNS_TRANSFER_FROM", &address.to_string())?,
            resolver: parsed("MIGRAPANEL__RESOLVER", "127.0.0.1:53")?,
            check_secs: parsed::<NonZeroU32>("MIGRAPANEL__DNS_CHECK_SECS", "900")?.get(),
        })
    }
}

fn secondaries(text: &str) -> Result<Vec<DnsServer>> {
    // The whole value may hold keys: it is not repeated.
    let wrong = || {
        let text = "MIGRAPANEL__DNS_SECONDARIES must be NAME=ADDRESS[=API_URL=API_KEY], separated by commas";
        Error::internal(text)
    };
    let mut servers: Vec<DnsServer> = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let parts: Vec<&str> = item.splitn(4, '=').collect();
        let (name, address, api) = match parts.as_slice() {
            [name, address] => (name, address, None),
            [name, address, url, key] => {
                (name, address, Some(((*url).to_owned(), SecretString::from(*key))))
            }
            _ => return Err(wrong()),
        };
        let known = *name == "primary" || servers.iter().any(|server| server.name == *name);
        if name.is_empty() || known {
            return Err(wrong());
        }
        let address = address.parse().map_err(|_not_an_address| wrong())?;
        servers.push(DnsServer { name: (*name).to_owned(), address, api });
    }
    Ok(servers)
}

/// The DNS worker's configuration.
#[derive(Debug, Clone)]
pub struct DnsWorker {
    pub base: Base,
    /// `MIGRAPANEL__SEALING_KEYS`, the same as the migrator's.
    pub sealing_keys: SealingKeys,
    pub dns: Dns,
}

impl DnsWorker {
    /// Reads it from the environment.
    pub fn read() -> Result<Self> {
        Ok(Self {
            base: Base::read()?,
            sealing_keys: SealingKeys::parse(&secret("MIGRAPANEL__SEALING_KEYS")?)?,
            dns: Dns::read()?,
        })
    }
}

/// What the API decides about zones.
#[derive(Debug, Clone)]
pub struct Zones {
    /// `MIGRAPANEL__SPECIAL_NAMES`: names with a special use below which zones may be made
    /// nevertheless, such as `example,test`, by default none; `MIGRAPANEL__NAMESERVERS` and
    /// `MIGRAPANEL__ACCOUNTS_DOMAIN`, the same as the migrator's.
    pub names: NameRules,
    /// `MIGRAPANEL__DNS_ZONE_CHANGES`: how often a zone may be changed, `CHANGES/SECONDS` separated by
    /// commas, by default `10/5,60/60,1000/86400`: ten at once, then two a second. And
    /// `MIGRAPANEL__DNS_TENANT_CHANGES`: all zones of a tenant together, by default
    /// `600/60,20000/86400`.
    pub limits: ZoneLimits,
}

impl Zones {
    /// Reads it from the environment.
    pub fn read() -> Result<Self> {
        let limits = |name: &str, default: &str| {
            let text = text(name, default);
            let read = |item: &str| {
                let wrong = || Error::internal(format!("{name}: {item} cannot be read"));
                ZoneLimit::parse(item.trim()).ok_or_else(wrong)
            };
            text.split(',').map(read).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            names: NameRules {
                special: list("MIGRAPANEL__SPECIAL_NAMES", |name| Some(name.to_lowercase()))?
                    .into_iter()
                    .collect(),
                nameservers: nameservers()?,
                accounts_domain: accounts_domain()?,
            },
            limits: ZoneLimits {
                zone: limits("MIGRAPANEL__DNS_ZONE_CHANGES", "10/5,60/60,1000/86400")?,
                tenant: limits("MIGRAPANEL__DNS_TENANT_CHANGES", "600/60,20000/86400")?,
            },
        })
    }
}

/// `MIGRAPANEL__TOKEN_KEYS`, see [`SecretKeys::parse`].
pub fn token_keys() -> Result<SecretKeys> {
    SecretKeys::parse(&secret("MIGRAPANEL__TOKEN_KEYS")?)
}

/// `on` or `off`.
fn switch(name: &str, default: &str) -> Result<bool> {
    match text(name, default).as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(Error::internal(format!("{name}={other} must be on or off"))),
    }
}

/// The notifier's configuration.
#[derive(Debug, Clone)]
pub struct Notifier {
    /// `DATABASE_URL`.
    pub database_url: SecretString,
    /// `MIGRAPANEL__TOKEN_KEYS`, the same as the API's.
    pub token_keys: SecretKeys,
    /// `MIGRAPANEL__SMTP_URL`: `smtp://HOST:PORT`, `smtps://USER:PASSWORD@HOST` or
    /// `smtp://USER:PASSWORD@HOST:587?tls=required`.
    pub smtp_url: SecretString,
    /// `MIGRAPANEL__MAIL_FROM`: whom letters come from, such as `Hosting <panel@hosting.example>`.
    pub mail_from: String,
    /// `MIGRAPANEL__DASHBOARD_URL`: where links lead, such as `https://panel.hosting.example`.
    pub dashboard_url: String,
    /// `MIGRAPANEL__WEBHOOKS_PRIVATE`, the same as the API's.
    pub webhooks: Reach,
}

fn webhooks_reach() -> Result<Reach> {
    let is_anywhere = switch("MIGRAPANEL__WEBHOOKS_PRIVATE", "off")?;
    Ok(if is_anywhere { Reach::Anywhere } else { Reach::Public })
}

impl Notifier {
    /// Reads it from the environment.
    pub fn read() -> Result<Self> {
        let needed = |name| secret(name).map(|value| value.expose_secret().to_owned());
        Ok(Self {
            database_url: secret("DATABASE_URL")?,
            token_keys: token_keys()?,
            smtp_url: secret("MIGRAPANEL__SMTP_URL")?,
            mail_from: needed("MIGRAPANEL__MAIL_FROM")?,
            dashboard_url: needed("MIGRAPANEL__DASHBOARD_URL")?,
            webhooks: webhooks_reach()?,
        })
    }
}

/// The migrator's sealing keys, for a command that is given them.
pub fn sealing_keys() -> Result<Option<SealingKeys>> {
    let keys = optional("MIGRAPANEL__SEALING_KEYS").map(SecretString::from);
    keys.map(|keys| SealingKeys::parse(&keys)).transpose()
}

/// A secret that a command is given once, such as `MIGRAPANEL__OWNER_PASSWORD`.
pub fn secret(name: &str) -> Result<SecretString> {
    env(name).map(SecretString::from).ok_or_else(|| {
        Error::internal(format!(
            "the environment variable {name} is missing: set it and start again"
        ))
    })
}

/// A text with a default.
#[must_use]
pub fn text(name: &str, default: &str) -> String {
    env(name).unwrap_or_else(|| default.to_owned())
}

/// A text that may be missing.
#[must_use]
pub fn optional(name: &str) -> Option<String> {
    env(name)
}

fn parsed<T>(name: &str, default: &str) -> Result<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let value = text(name, default);
    value
        .parse()
        .map_err(|e: T::Err| Error::internal(format!("{name}={value} cannot be read: {e}")))
}

fn env(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place for configuration")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
