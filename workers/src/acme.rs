//! The certificate authority, by ACME (RFC 8555).

use crate::error::Result;
use crate::world::World;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use chrono::DateTime;
use entities::certificates::{self, CertificateName, Issued};
use entities::error::{Code, Error};
use instant_acme::{
    Account, BodyWrapper, BytesResponse, HttpClient, Identifier, Key, NewOrder, Order,
};
use reqwest::header::RETRY_AFTER;
use secrecy::{ExposeSecret, SecretString};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use x509_parser::pem::Pem;

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long is waited when the authority counts too many requests and does not say how long.
const LIMIT_SECS: u64 = 3600;

/// The authority, with our account there.
pub struct Authority {
    account: Account,
    directory: String,
    db: entities::db::Db,
    /// For how many seconds the last answer asked us to stay away.
    away: Arc<AtomicU64>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the account at the configured directory; where there is none yet, it is made.
    pub async fn open(world: &World) -> Result<Self> {
        let acme = &world.config.acme;
        let away = Arc::new(AtomicU64::new(0));
        let door = || Door::new(acme.root.as_deref(), &away);
        let (_, fresh) = Key::generate_pkcs8().map_err(|error| failed(error, &away))?;
        let fresh = SecretString::from(BASE64.encode(fresh.secret_pkcs8_der()));
        let keys = &world.config.sealing_keys;
        let kept = certificates::keep_account(&world.db, keys, &acme.directory, &fresh).await?;
        let der = BASE64.decode(kept.key.expose_secret()).map_err(Error::internal)?;
        let builder = Account::builder_with_http(Box::new(door().await?));
        let directory = acme.directory.clone();
        let account = match kept.url {
            Some(url) => builder
                .from_parts(url, der.into(), directory.clone())
                .await
                .map_err(|error| failed(error, &away))?,
            None => {
                let account = register(builder, (der, &directory), &away).await?;
                if let Some(email) = &acme.email {
                    let contact = format!("mailto:{email}");
                    let told = account.update_contacts(&[&contact]).await;
                    told.map_err(|error| failed(error, &away))?;
                }
                let url = Some(account.id());
                certificates::keep_account_url(&world.db, &directory, url).await?;
                tracing::info!(directory, account = account.id(), "acme.registered");
                account
            }
        };
        Ok(Self { account, directory, db: world.db.clone(), away })
    }

    /// Places an order.
    pub async fn place(&self, names: &[CertificateName]) -> Result<Order> {
        let identifiers: Vec<Identifier> =
            names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
        match self.account.new_order(&NewOrder::new(&identifiers)).await {
            Ok(order) => Ok(order),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// An order that was placed; none when the authority does not know it any more.
    pub async fn order(&self, url: &str) -> Result<Option<Order>> {
        match self.account.order(url.to_owned()).await {
            Ok(order) => Ok(Some(order)),
            Err(instant_acme::Error::Api(problem)) if problem.status == Some(404) => Ok(None),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// What an error of the authority means for us. An account that it does not know any more is made
    /// anew by the next attempt.
    pub async fn failed(&self, error: instant_acme::Error) -> Error {
        if let instant_acme::Error::Api(problem) = &error
            && kind(problem) == "accountDoesNotExist"
            && let Err(error) =
                certificates::keep_account_url(&self.db, &self.directory, None).await
        {
            return error;
        }
        failed(error, &self.away)
    }
}

async fn register(
    builder: instant_acme::AccountBuilder,
    (der, directory): (Vec<u8>, &str),
    away: &AtomicU64,
) -> Result<Account> {
    let key = Key::from_pkcs8_der(der.as_slice().into()).map_err(|error| failed(error, away))?;
    let pair = (key, rustls::pki_types::PrivateKeyDer::Pkcs8(der.into()));
    let made = builder.create_from_key(pair, directory.to_owned()).await;
    Ok(made.map_err(|error| failed(error, away))?.0)
}

/// The last part of a problem's type.
fn kind(problem: &instant_acme::Problem) -> &str {
    problem.r#type.as_deref().and_then(|t| t.rsplit(':').next()).unwrap_or_default()
}

/// What an error of the authority means for us.
fn failed(error: instant_acme::Error, away: &AtomicU64) -> Error {
    let secs = away.swap(0, Ordering::Relaxed);
    let problem = match error {
        instant_acme::Error::Api(problem) => problem,
        instant_acme::Error::Crypto | instant_acme::Error::KeyRejected => {
            return Error::internal(error);
        }
        error => {
            tracing::warn!(cause = %error, "acme.failed");
            let text = format!("The certificate authority does not answer as it should: {error}.");
            return Error::later(Code::CaUnavailable, text, secs);
        }
    };
    let text = said(&problem);
    tracing::warn!(problem = %problem, "acme.refused");
    match kind(&problem) {
        "rateLimited" => {
            Error::later(Code::CaLimit, text, if secs == 0 { LIMIT_SECS } else { secs })
        }
        "badNonce" | "serverInternal" | "accountDoesNotExist" => {
            Error::later(Code::CaUnavailable, text, secs)
        }
        _ => Error::refused(Code::CaRefused, text),
    }
}

/// A problem in the authority's words, with its type.
pub fn said(problem: &instant_acme::Problem) -> String {
    let detail = |detail: &Option<String>| -> String {
        detail.as_deref().unwrap_or("no reason is given").chars().take(500).collect()
    };
    let mut text = format!(
        "The certificate authority refuses ({}): {}",
        problem.r#type.as_deref().unwrap_or("about:blank"),
        detail(&problem.detail)
    );
    for part in problem.subproblems.iter().take(5) {
        text.push_str(&format!("; {}", detail(&part.detail)));
    }
    text
}

/// The crate's way to the authority: our HTTP client, with a time limit and, if one is configured, one
/// root that it trusts.
struct Door {
    http: reqwest::Client,
    away: Arc<AtomicU64>,
}

impl Door {
    async fn new(root: Option<&std::path::Path>, away: &Arc<AtomicU64>) -> Result<Self> {
        let mut builder = reqwest::Client::builder().timeout(TIMEOUT).https_only(true);
        if let Some(path) = root {
            let pem = tokio::fs::read(path).await.map_err(|error| {
                let path = path.display();
                Error::internal(format!(
                    "{path} cannot be read ({error}): set MIGRAPANEL__ACME_ROOT"
                ))
            })?;
            let root = reqwest::Certificate::from_pem(&pem).map_err(Error::internal)?;
            builder = builder.tls_certs_only([root]);
        }
        let http = builder.build().map_err(Error::internal)?;
        Ok(Self { http, away: Arc::clone(away) })
    }
}

type Answered = Result<BytesResponse, instant_acme::Error>;

impl HttpClient for Door {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Answered> + Send>> {
        let (http, away) = (self.http.clone(), Arc::clone(&self.away));
        Box::pin(async move {
            let other = |error: reqwest::Error| instant_acme::Error::Other(error.into());
            let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap));
            let response = http.execute(request.map_err(other)?).await.map_err(other)?;
            let status = response.status();
            if status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS {
                away.store(retry_after(&response), Ordering::Relaxed);
            }
            if status.is_server_error() {
                // Not every one of them brings a problem document.
                return Err(instant_acme::Error::Other(format!("it answers {status}").into()));
            }
            Ok(http::Response::<reqwest::Body>::from(response).into())
        })
    }
}

/// For how many seconds an answer asks us to stay away.
fn retry_after(response: &reqwest::Response) -> u64 {
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let Some(text) = header.map(str::trim) else { return 0 };
    let until = || DateTime::parse_from_rfc2822(text).ok();
    let by_date = || until().map(|at| (at.to_utc() - chrono::Utc::now()).num_seconds());
    text.parse().ok().or_else(|| by_date()?.try_into().ok()).unwrap_or(0)
}

/// Reads what was issued.
pub fn read_chain(chain: String) -> Result<Issued> {
    let der = leaf(&chain)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(Error::internal)?;
    let at = |time: x509_parser::time::ASN1Time| {
        DateTime::from_timestamp(time.timestamp(), 0)
            .ok_or_else(|| Error::internal("a certificate of no time"))
    };
    let validity = certificate.validity();
    Ok(Issued {
        serial: certificate.raw_serial_as_string().replace(':', ""),
        not_before: at(validity.not_before)?,
        not_after: at(validity.not_after)?,
        chain,
    })
}

/// The certificate itself, in DER form.
pub fn leaf(chain: &str) -> Result<Vec<u8>> {
    let first = Pem::iter_from_buffer(chain.as_bytes()).next();
    let first = first.ok_or_else(|| Error::internal("a chain without a certificate"))?;
    Ok(first.map_err(Error::internal)?.contents)
}

/// The chain's blocks, a PEM text each.
pub fn blocks(chain: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = chain.split_inclusive(END).map(str::trim);
    blocks.filter(|block| block.ends_with(END)).map(|block| format!("{block}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str) -> instant_acme::Error {
        let problem = serde_json::json!({
            "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "Because.", "status": 400,
        });
        instant_acme::Error::Api(serde_json::from_value(problem).unwrap())
    }

    #[test]
    fn what_errors_of_an_authority_mean() {
        let none = AtomicU64::new(0);
        for (kind, code) in [
            ("rateLimited", Code::CaLimit),
            ("badNonce", Code::CaUnavailable),
            ("accountDoesNotExist", Code::CaUnavailable),
            ("unauthorized", Code::CaRefused),
            ("rejectedIdentifier", Code::CaRefused),
        ] {
            let error = failed(problem(kind), &none);
            assert_eq!(error.code(), code, "{kind}");
            assert!(error.to_string().contains(kind) && error.to_string().contains("Because."));
        }
        let asked = AtomicU64::new(90);
        let secs = |error: Error| match error {
            Error::Later { secs, .. } => secs,
            other => panic!("{other:?}"),
        };
        assert_eq!(secs(failed(problem("rateLimited"), &asked)), 90);
        // What was asked holds for the answer that asked.
        assert_eq!(secs(failed(problem("rateLimited"), &asked)), LIMIT_SECS);
    }

    #[test]
    fn a_chain_is_taken_apart() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.serial_number = Some(0x0f_12_34_u64.into());
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let pem = params.self_signed(&key).unwrap().pem();
        let chain = format!("{pem}\n{pem}");
        assert_eq!(blocks(&chain).len(), 2);
        assert_eq!(leaf(&blocks(&chain)[1]).unwrap(), leaf(&chain).unwrap());
        let issued = read_chain(chain).unwrap();
        assert_eq!((issued.not_after - issued.not_before).num_days(), 90);
        assert_eq!(issued.serial, "0f1234");
        assert!(read_chain("nothing".to_owned()).is_err());
    }
}
