//! Stripe, reached by base URL and key. Requests go through `async-stripe`'s client, which pins the
//! version of the API; answers are read into the types of [`crate::objects`], which ask for no more
//! than we use, so that a field or a word that is new at Stripe breaks nothing.

use entities::config::Stripe as Access;
use entities::error::{Code, Error};
use miniserde::json::Value as Raw;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use stripe::{Client, ClientBuilder, StripeError};
use stripe_client_core::{RequestBuilder, RequestStrategy, StripeMethod};

/// How long one request may take. A session of Checkout takes Stripe a second or two.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often what failed for a passing reason is sent again, under the same key.
const TRIES: u32 = 3;

/// A client of Stripe's. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stripe {
    client: Client,
}

/// Why Stripe did not do it.
#[derive(Debug)]
pub enum Failure {
    /// Stripe says no; asking again with the same says the same. `code` is Stripe's.
    Refused { status: u16, code: Option<String>, message: String },
    /// Nobody knows whether it was done: ask again under the same key.
    Unknown(String),
    /// Stripe broke, and nobody knows whether it was done. Under the same key it says the same for a
    /// day.
    Broken(String),
}

impl Failure {
    /// Whether there is nothing of that name.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
            || matches!(self, Self::Refused { code: Some(code), .. } if code == "resource_missing")
    }

    /// Whether Stripe says no by this code.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code: Some(code), .. } if code == wanted)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { message, .. } => write!(f, "Stripe refused it: {message}"),
            Self::Unknown(why) | Self::Broken(why) => write!(f, "Stripe did not answer: {why}"),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { .. } => Self::refused(Code::PaymentRefused, failure.to_string()),
            Failure::Unknown(why) | Failure::Broken(why) => Self::Unavailable(why.into()),
        }
    }
}

/// What Stripe answered, or why not.
pub type Answer<T> = Result<T, Failure>;

impl Stripe {
    /// A client for this account; nothing is asked yet.
    pub fn open(access: &Access) -> Result<Self, Error> {
        // Two TLS libraries are linked into a whole build; whoever comes first chooses.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let chosen = rustls::crypto::aws_lc_rs::default_provider().install_default();
            if chosen.is_err() {
                tracing::debug!("stripe.tls_was_chosen");
            }
        }
        let client = ClientBuilder::new(access.secret_key.expose_secret())
            .url(access.api_base.as_str())
            .timeout(PATIENCE)
            .build()
            .map_err(|error| Error::internal(format!("STRIPE_API_BASE: {error}")))?;
        Ok(Self { client })
    }

    /// Reads an object.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        let build = || RequestBuilder::new(StripeMethod::Get, path);
        self.send(build, RequestStrategy::Once).await
    }

    /// Reads with parameters.
    pub async fn query<T: DeserializeOwned>(
        &self,
        path: &str,
        params: &impl Serialize,
    ) -> Answer<T> {
        let build = || RequestBuilder::new(StripeMethod::Get, path).query(params);
        self.send(build, RequestStrategy::Once).await
    }

    /// Changes or makes something, once for this key: whoever asks again with it within a day gets
    /// the first answer.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        params: &impl Serialize,
    ) -> Answer<T> {
        let build = || RequestBuilder::new(StripeMethod::Post, path).form(params);
        self.send(build, idempotent(key)?).await
    }

    /// Removes or cancels something.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str, key: &str) -> Answer<T> {
        let build = || RequestBuilder::new(StripeMethod::Delete, path);
        self.send(build, idempotent(key)?).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        build: impl Fn() -> RequestBuilder,
        strategy: RequestStrategy,
    ) -> Answer<T> {
        let mut pause = Duration::from_millis(200);
        let mut tries = 1;
        loop {
            let request = build().customize::<Raw>().request_strategy(strategy.clone());
            let failure = match request.send(&self.client).await {
                Ok(raw) => return read(&raw),
                Err(error) => failure(error),
            };
            if matches!(failure, Failure::Refused { .. }) || tries == TRIES {
                return Err(failure);
            }
            tries += 1;
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(3);
        }
    }
}

fn idempotent(key: &str) -> Answer<RequestStrategy> {
    match stripe::IdempotencyKey::new(key) {
        Ok(key) => Ok(RequestStrategy::Idempotent(key)),
        Err(error) => Err(Failure::Unknown(error.to_string())),
    }
}

fn read<T: DeserializeOwned>(raw: &Raw) -> Answer<T> {
    let text = miniserde::json::to_string(raw);
    serde_json::from_str(&text).map_err(|error| Failure::Unknown(format!("its answer: {error}")))
}

/// A conflict of keys, a limit and whatever broke there passes; the rest is a word.
fn failure(error: StripeError) -> Failure {
    match error {
        StripeError::Stripe(said, status) => {
            let code = said.code.as_ref().map(ToString::to_string);
            let message = said.message.clone().unwrap_or_else(|| "it does not say why".to_owned());
            match status {
                409 | 424 | 429 => Failure::Unknown(format!("{status}: {message}")),
                500..=599 => Failure::Broken(format!("{status}: {message}")),
                _ => Failure::Refused { status, code, message },
            }
        }
        other => Failure::Unknown(other.to_string()),
    }
}
