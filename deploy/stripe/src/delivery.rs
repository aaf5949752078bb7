//! Delivery of events: signed, again until a 2xx, and disturbed as `/_control/delivery` says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::endpoints;
use crate::server::{Shared, lock};
use crate::value::Fields;
use crate::world::{World, real_now, shown};

/// How delivery behaves.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// How many times more each event is sent.
    pub duplicates: usize,
    /// How many events are gathered and shuffled before they are sent; none below 2.
    pub window: usize,
    /// What the shuffling begins with.
    pub seed: u64,
    /// How long each event waits.
    pub delay: Duration,
    /// How many of the next events are lost.
    pub drop_next: usize,
    /// Which types are lost.
    pub drop_types: Vec<String>,
    /// Whether events wait until they are released.
    pub hold: bool,
    /// What the events say instead of the right `api_version`.
    pub api_version: Option<String>,
    /// Seconds from each failed attempt to the next.
    pub retry_seconds: Vec<f64>,
    /// Seconds that the signature's time is off.
    pub signature_offset: i64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            duplicates: 0,
            window: 0,
            seed: 0,
            delay: Duration::ZERO,
            drop_next: 0,
            drop_types: Vec::new(),
            hold: false,
            api_version: None,
            retry_seconds: vec![1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 7200.0, 14_400.0],
            signature_offset: 0,
        }
    }
}

/// What waits to be sent, and what was.
#[derive(Default)]
pub struct Delivery {
    /// How it behaves now.
    pub behaviour: Behaviour,
    queue: Vec<Sending>,
    held: Vec<Sending>,
    gathered: Vec<Sending>,
    gathered_at: Option<Instant>,
    shuffles: u64,
    in_flight: usize,
    /// Every attempt and every loss, oldest first.
    pub log: Vec<Value>,
}

#[derive(Clone)]
struct Sending {
    event: Value,
    endpoint: String,
    attempt: usize,
    due: Instant,
}

impl Delivery {
    /// Takes the new events of the world for the endpoints that want them.
    pub fn take(&mut self, world: &mut World) {
        for mut event in std::mem::take(&mut world.outbox) {
            let id = event.text("id").to_owned();
            let kind = event.text("type").to_owned();
            let targets: Vec<String> = world
                .all("webhook_endpoint")
                .filter(|endpoint| endpoints::wants(endpoint, &kind))
                .map(|endpoint| endpoint.text("id").to_owned())
                .collect();
            if targets.is_empty() {
                continue;
            }
            event.write("pending_webhooks", json!(targets.len()));
            if world.find("event", &id).is_some() {
                world.put(&event);
            }
            if self.loses(&kind) {
                self.log.push(json!({"event": id, "type": kind, "state": "dropped"}));
                continue;
            }
            for endpoint in targets {
                self.add(&event, &endpoint);
            }
        }
    }

    fn loses(&mut self, kind: &str) -> bool {
        if self.behaviour.drop_types.iter().any(|lost| lost == kind) {
            return true;
        }
        let lost = self.behaviour.drop_next > 0;
        self.behaviour.drop_next = self.behaviour.drop_next.saturating_sub(1);
        lost
    }

    /// Queues an event for an endpoint, as often as the behaviour says.
    pub fn add(&mut self, event: &Value, endpoint: &str) {
        let mut event = shown(event);
        if let Some(version) = &self.behaviour.api_version {
            event.write("api_version", json!(version));
        }
        let due = Instant::now() + self.behaviour.delay;
        let sending = Sending { event, endpoint: endpoint.to_owned(), attempt: 1, due };
        for _ in 0..=self.behaviour.duplicates {
            if self.behaviour.hold {
                self.held.push(sending.clone());
            } else if self.behaviour.window > 1 {
                self.gathered_at.get_or_insert_with(Instant::now);
                self.gathered.push(sending.clone());
            } else {
                self.queue.push(sending.clone());
            }
        }
        if self.gathered.len() >= self.behaviour.window {
            self.scatter();
        }
    }

    fn scatter(&mut self) {
        self.shuffles += 1;
        self.gathered_at = None;
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered
            .shuffle(&mut StdRng::seed_from_u64(self.behaviour.seed.wrapping_add(self.shuffles)));
        self.queue.extend(gathered);
    }

    /// The ids of the events that are held, in their order.
    pub fn held(&self) -> Vec<String> {
        self.held.iter().map(|sending| sending.event.text("id").to_owned()).collect()
    }

    /// Releases held events: those named, in the order of their names, or all in `order`.
    pub fn release(&mut self, named: &[String], order: &str, seed: u64) -> usize {
        let mut free = Vec::new();
        if named.is_empty() {
            free = std::mem::take(&mut self.held);
            match order {
                "reverse" => free.reverse(),
                "shuffle" => free.shuffle(&mut StdRng::seed_from_u64(seed)),
                _ => {}
            }
        }
        for name in named {
            if let Some(place) = self.held.iter().position(|held| held.event.text("id") == name) {
                free.push(self.held.remove(place));
            }
        }
        let count = free.len();
        self.queue.extend(free);
        count
    }

    /// Time was moved: what waits for its next attempt is tried now.
    pub fn hurry(&mut self) {
        let now = Instant::now();
        for sending in self.queue.iter_mut().filter(|sending| sending.attempt > 1) {
            sending.due = now;
        }
    }

    /// Whether nothing is to be sent or tried again.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.gathered.is_empty() && self.in_flight == 0
    }

    /// How long nothing falls due, a second at most.
    fn quiet(&self) -> Duration {
        let soonest = self.queue.iter().map(|sending| sending.due).min();
        let wait = soonest.map(|due| due.saturating_duration_since(Instant::now()));
        let most = Duration::from_millis(if self.gathered.is_empty() { 1000 } else { 50 });
        wait.unwrap_or(most).min(most)
    }

    /// What is due, by endpoint, in order.
    fn due(&mut self) -> BTreeMap<String, Vec<Sending>> {
        let now = Instant::now();
        if self.gathered_at.is_some_and(|since| now - since > Duration::from_millis(300)) {
            self.scatter();
        }
        let mut due: BTreeMap<String, Vec<Sending>> = BTreeMap::new();
        for sending in self.queue.extract_if(.., |sending| sending.due <= now) {
            self.in_flight += 1;
            due.entry(sending.endpoint.clone()).or_default().push(sending);
        }
        due
    }

    fn note(&mut self, sending: Sending, answer: Result<u16, String>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let well = answer.as_ref().is_ok_and(|status| (200..300).contains(status));
        let wait = self.behaviour.retry_seconds.get(sending.attempt - 1).copied();
        let state = if well {
            "delivered"
        } else if wait.is_some() {
            "failed"
        } else {
            "given_up"
        };
        self.log.push(json!({
            "event": sending.event.at("id"), "type": sending.event.at("type"), "endpoint": sending.endpoint,
            "attempt": sending.attempt, "state": state, "status": answer.as_ref().ok(),
            "error": answer.as_ref().err(), "at": real_now(),
        }));
        if let Some(wait) = wait.filter(|_| !well) {
            let due = Instant::now() + Duration::from_secs_f64(wait.max(0.0));
            self.queue.push(Sending { attempt: sending.attempt + 1, due, ..sending });
        }
    }
}

/// Sends what is due, for ever: endpoints beside each other, the events of one in their order.
pub async fn run(shared: Arc<Shared>) {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap_or_default();
    loop {
        let due = lock(&shared.delivery).due();
        let sends = due.into_values().map(|sendings| {
            let (shared, client) = (shared.clone(), client.clone());
            tokio::spawn(async move {
                for sending in sendings {
                    send(&shared, &client, sending).await;
                }
            })
        });
        for send in sends.collect::<Vec<_>>() {
            if send.await.is_err() {
                return;
            }
        }
        let wait = lock(&shared.delivery).quiet();
        tokio::select! {
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(wait) => shared.catch_up(),
        }
    }
}

async fn send(shared: &Shared, client: &reqwest::Client, sending: Sending) {
    let endpoint = lock(&shared.world).find("webhook_endpoint", &sending.endpoint);
    let Some(endpoint) = endpoint else {
        let mut delivery = lock(&shared.delivery);
        delivery.in_flight = delivery.in_flight.saturating_sub(1);
        return;
    };
    let body = serde_json::to_string_pretty(&sending.event).unwrap_or_default();
    let time = real_now() + lock(&shared.delivery).behaviour.signature_offset;
    let answer = client
        .post(endpoint.text("url"))
        .header("content-type", "application/json; charset=utf-8")
        .header("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
        .header("stripe-signature", signature(&body, time, &endpoints::secrets(&endpoint)))
        .body(body)
        .send()
        .await;
    let answer = match answer {
        Ok(response) => Ok(response.status().as_u16()),
        Err(error) if error.is_timeout() => Err("timeout".to_owned()),
        Err(_) => Err("no connection".to_owned()),
    };
    if answer.as_ref().is_ok_and(|status| (200..300).contains(status)) {
        let mut world = lock(&shared.world);
        let id = sending.event.text("id");
        if let Some(event) = world.find("event", id) {
            let left = (event.int("pending_webhooks") - 1).max(0);
            world.set(id, json!({"pending_webhooks": left}));
        }
    }
    lock(&shared.delivery).note(sending, answer);
}

/// The `Stripe-Signature` of a body: one `v1` for each secret that is valid.
pub fn signature(body: &str, time: i64, secrets: &[String]) -> String {
    let mut header = format!("t={time}");
    for secret in secrets {
        // A key of any length makes an HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { continue };
        mac.update(format!("{time}.{body}").as_bytes());
        header.push_str(",v1=");
        header.push_str(&hex::encode(mac.finalize().into_bytes()));
    }
    header
}
