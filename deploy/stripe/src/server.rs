//! HTTP: who may ask, what is repeated, what fails because it was asked to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::delivery::Delivery;
use crate::error::{Answer, ApiError};
use crate::faults::{self, Fault, Kind};
use crate::idempotency::{Answers, Stored};
use crate::page::{self, Shown};
use crate::params::Params;
use crate::routes::{self, Call};
use crate::world::{API_VERSION, World, new_id};
use crate::{Config, clock, control, endpoints, lists};

/// What all requests of a sandbox share.
pub struct Shared {
    /// The account.
    pub world: Mutex<World>,
    /// The events on their way.
    pub delivery: Mutex<Delivery>,
    /// The failures to come.
    pub faults: Mutex<Vec<Fault>>,
    /// Something is to be sent.
    pub wake: Notify,
    answers: Mutex<Answers>,
    config: Config,
    base_url: String,
}

/// Locks; a panic elsewhere does not end the sandbox.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A sandbox that is reached at `base_url`.
    pub fn new(config: Config, base_url: &str) -> Self {
        let shared = Self {
            world: Mutex::new(World::new(base_url)),
            delivery: Mutex::default(),
            faults: Mutex::default(),
            wake: Notify::new(),
            answers: Mutex::default(),
            config,
            base_url: base_url.to_owned(),
        };
        shared.reset();
        shared
    }

    /// An empty account, with the endpoints that the configuration names.
    pub fn reset(&self) {
        let mut world = World::new(&self.base_url);
        for (url, secret) in &self.config.webhooks {
            endpoints::add(&mut world, url, secret, vec!["*".to_owned()]);
        }
        *lock(&self.world) = world;
        *lock(&self.delivery) = Delivery::default();
        lock(&self.faults).clear();
        *lock(&self.answers) = Answers::default();
    }

    /// Plays what fell due, and sends its events.
    pub fn catch_up(&self) {
        clock::catch_up(&mut lock(&self.world));
        self.hand_over();
    }

    fn hand_over(&self) {
        let mut world = lock(&self.world);
        if !world.outbox.is_empty() {
            lock(&self.delivery).take(&mut world);
            self.wake.notify_one();
        }
    }
}

/// Every request of a sandbox.
pub async fn handle(shared: Data<Arc<Shared>>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let path = request.path().to_owned();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let posts = request.method() == actix_web::http::Method::POST;
    match parts.as_slice() {
        ["v1", ..] => api(&shared, &request, &body).await,
        ["_control", rest @ ..] => {
            let answer = control_params(&body)
                .and_then(|params| control::run(&shared, posts, rest, &params));
            shared.hand_over();
            shared.wake.notify_one();
            match answer {
                Ok(value) => HttpResponse::Ok().json(value),
                Err(error) => respond(error.status, &error.body()),
            }
        }
        rest => {
            let shown = Params::parse(&String::from_utf8_lossy(&body)).ok().and_then(|params| {
                let mut world = lock(&shared.world);
                clock::catch_up(&mut world);
                world.request = json!({"id": null, "idempotency_key": null});
                page::serve(&mut world, posts, rest, &params)
            });
            shared.hand_over();
            match shown {
                Some(Shown::Html(html)) => {
                    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(html)
                }
                Some(Shown::Redirect(url)) => {
                    HttpResponse::SeeOther().insert_header(("location", url)).finish()
                }
                None => respond(404, &ApiError::invalid("There is nothing here.").body()),
            }
        }
    }
}

fn control_params(body: &[u8]) -> Answer<Params> {
    if body.is_empty() {
        return Ok(Params::of(json!({})));
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("The body is not JSON: {error}")))?;
    Ok(Params::of(faults::plain(value)))
}

fn respond(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .json(body)
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// What a request of the API comes to.
struct Outcome {
    status: u16,
    body: Value,
    replayed: Option<String>,
    retry_after: Option<i64>,
}

impl Outcome {
    fn of(error: &ApiError) -> Self {
        Self { status: error.status, body: error.body(), replayed: None, retry_after: None }
    }
}

async fn api(shared: &Shared, request: &HttpRequest, body: &[u8]) -> HttpResponse {
    let id = new_id("req");
    let outcome = match admit(shared, request) {
        Err(error) => Outcome::of(&error),
        Ok(()) => answer(shared, request, body, &id).await,
    };
    shared.hand_over();
    let mut response = respond(outcome.status, &outcome.body);
    let mut headers = vec![("request-id", id), ("stripe-version", API_VERSION.to_owned())];
    if let Some(key) = header(request, "idempotency-key") {
        headers.push(("idempotency-key", key.to_owned()));
    }
    if let Some(first) = outcome.replayed {
        headers.push(("idempotent-replayed", "true".to_owned()));
        headers.push(("original-request", first));
    }
    if let Some(seconds) = outcome.retry_after {
        headers.push(("retry-after", seconds.to_string()));
    }
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response
                .headers_mut()
                .insert(actix_web::http::header::HeaderName::from_static(name), value);
        }
    }
    response
}

fn admit(shared: &Shared, request: &HttpRequest) -> Answer<()> {
    let given = header(request, "authorization").unwrap_or_default();
    let basic = |text: &str| {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
        Some(String::from_utf8(decoded).ok()?.trim_end_matches(':').to_owned())
    };
    let key = match given.split_once(' ') {
        Some(("Bearer", key)) => Some(key.to_owned()),
        Some(("Basic", text)) => basic(text),
        _ => None,
    };
    match key {
        None => {
            return Err(ApiError::unauthorized(
                "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth.",
            ));
        }
        Some(key) if key != shared.config.key => {
            return Err(ApiError::unauthorized("Invalid API Key provided."));
        }
        Some(_) => {}
    }
    match header(request, "stripe-version") {
        Some(version) if version != API_VERSION => Err(ApiError::invalid(format!(
            "Invalid Stripe API version: {version}. This sandbox has the shapes of {API_VERSION} only."
        ))),
        _ => Ok(()),
    }
}

async fn answer(shared: &Shared, request: &HttpRequest, body: &[u8], id: &str) -> Outcome {
    let (method, path) = (request.method().as_str(), request.path());
    let fault = faults::take(&mut lock(&shared.faults), method, path);
    match &fault {
        Some(fault) if fault.kind == Kind::Before => {
            return Outcome::of(&ApiError::server(fault.status));
        }
        Some(fault) if fault.kind == Kind::RateLimit => {
            return Outcome {
                retry_after: Some(fault.seconds),
                ..Outcome::of(&ApiError::rate_limit())
            };
        }
        _ => {}
    }
    let raw = if method == "POST" || !body.is_empty() {
        String::from_utf8_lossy(body).into_owned()
    } else {
        request.query_string().to_owned()
    };
    let params = match Params::parse(&raw) {
        Ok(params) => params,
        Err(error) => return Outcome::of(&error),
    };
    let key = header(request, "idempotency-key").filter(|_| method == "POST");
    if let Some(key) = key {
        let now = lock(&shared.world).now();
        let fingerprint = format!("{method} {path} {}", params.value());
        match lock(&shared.answers).begin(key, &fingerprint, now) {
            Ok(None) => {}
            Ok(Some(old)) => {
                return Outcome {
                    status: old.status,
                    body: old.body,
                    replayed: Some(old.request_id),
                    retry_after: None,
                };
            }
            Err(error) => return Outcome::of(&error),
        }
    }
    let done = execute(shared, (method, path), &params, &json!({"id": id, "idempotency_key": key}));
    let mut keeps = done.as_ref().map_or_else(ApiError::is_kept, |_| true);
    let mut outcome = match done {
        Ok(body) => Outcome { status: 200, body, replayed: None, retry_after: None },
        Err(error) => Outcome::of(&error),
    };
    let broken = fault.as_ref().map(|fault| Outcome::of(&ApiError::server(fault.status)));
    match &fault {
        Some(fault) if fault.kind == Kind::Slow => {
            shared.hand_over();
            tokio::time::sleep(Duration::from_secs(fault.seconds.unsigned_abs())).await;
        }
        Some(fault) if fault.kind == Kind::AfterStored => {
            outcome = broken.unwrap_or(outcome);
            keeps = true;
            return keep(shared, key, keeps, outcome, id);
        }
        _ => {}
    }
    let outcome = keep(shared, key, keeps, outcome, id);
    match (fault, outcome) {
        (Some(fault), _) if fault.kind == Kind::After => {
            Outcome::of(&ApiError::server(fault.status))
        }
        (_, outcome) => outcome,
    }
}

fn keep(shared: &Shared, key: Option<&str>, keeps: bool, outcome: Outcome, id: &str) -> Outcome {
    if let Some(key) = key {
        let stored = Stored {
            status: outcome.status,
            body: outcome.body.clone(),
            request_id: id.to_owned(),
        };
        lock(&shared.answers).end(key, keeps.then_some(stored));
    }
    outcome
}

fn execute(
    shared: &Shared,
    (method, path): (&str, &str),
    params: &Params,
    request: &Value,
) -> Answer {
    let call = Call::read(method, path.trim_start_matches("/v1"));
    params.check(&call.form)?;
    let mut world = lock(&shared.world);
    clock::catch_up(&mut world);
    world.request = request.clone();
    let answer = routes::run(&mut world, method, &call, params);
    world.request = json!({"id": null, "idempotency_key": null});
    let object = answer?;
    lists::answer(&world, object, params)
}
