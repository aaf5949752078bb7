//! A sandbox, the official shapes' client, and a receiver of webhooks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde_json::{Value, json};
use stripe_sandbox::{Config, Sandbox, start};
use stripe_webhook::{Event, EventObject, Webhook};

pub const KEY: &str = "sk_test_it";
pub const SECRET: &str = "whsec_it";

/// What a receiver got: the body and its signature header.
#[derive(Clone, Debug)]
pub struct Received {
    pub body: String,
    pub signature: String,
}

impl Received {
    /// The event, verified and parsed by async-stripe; every type and object must be known to it.
    pub fn event(&self, secret: &str) -> Event {
        let event = Webhook::construct_event(&self.body, &self.signature, secret)
            .unwrap_or_else(|error| panic!("{error}: {}", self.body));
        assert!(!matches!(event.data.object, EventObject::Unknown(_)), "{}", self.body);
        event
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }
}

#[derive(Default)]
pub struct Hook {
    got: Mutex<Vec<Received>>,
    refuse: Mutex<usize>,
}

impl Hook {
    pub fn got(&self) -> Vec<Received> {
        self.got.lock().unwrap().clone()
    }

    /// Answers the next requests with 500.
    pub fn refuse(&self, times: usize) {
        *self.refuse.lock().unwrap() = times;
    }
}

async fn receive(hook: Data<Arc<Hook>>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let signature = request.headers().get("stripe-signature").unwrap().to_str().unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    hook.got.lock().unwrap().push(Received { body, signature: signature.to_owned() });
    let mut refuse = hook.refuse.lock().unwrap();
    if *refuse > 0 {
        *refuse -= 1;
        return HttpResponse::InternalServerError().finish();
    }
    HttpResponse::Ok().finish()
}

/// A sandbox with a webhook receiver.
pub struct World {
    pub sandbox: Sandbox,
    pub client: stripe::Client,
    pub hook: Arc<Hook>,
    http: reqwest::Client,
}

/// An answer: its status, headers and body.
pub struct Response {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Response {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("")
    }
}

impl World {
    pub async fn new() -> Self {
        let hook = Arc::new(Hook::default());
        let data = Data::new(hook.clone());
        let app = move || App::new().app_data(data.clone()).default_service(web::to(receive));
        let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", server.addrs()[0]);
        tokio::spawn(server.run());
        let config =
            Config { key: KEY.into(), webhooks: vec![(url, SECRET.into())], ..Config::default() };
        let sandbox = start(config).await.unwrap();
        // Built with all others there are two, and this client takes whichever is named.
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        drop(provider.install_default());
        let client = stripe::ClientBuilder::new(KEY).url(&sandbox.base_url).build().unwrap();
        Self { sandbox, client, hook, http: reqwest::Client::new() }
    }

    pub async fn send(&self, method: &str, path: &str, form: &str, key: Option<&str>) -> Response {
        let mut url = format!("{}{path}", self.sandbox.base_url);
        if method != "POST" && !form.is_empty() {
            url = format!("{url}?{form}");
        }
        let mut request = self.http.request(method.parse().unwrap(), url).bearer_auth(KEY);
        if method == "POST" {
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.to_owned());
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await.unwrap();
        Response {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.json().await.unwrap(),
        }
    }

    pub async fn post(&self, path: &str, form: &str) -> Value {
        let answer = self.send("POST", path, form, None).await;
        assert_eq!(answer.status, 200, "{path} {form}: {}", answer.body);
        answer.body
    }

    pub async fn get(&self, path: &str, form: &str) -> Value {
        let answer = self.send("GET", path, form, None).await;
        assert_eq!(answer.status, 200, "{path} {form}: {}", answer.body);
        answer.body
    }

    pub async fn control(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/_control/{path}", self.sandbox.base_url);
        let response = self.http.post(url).json(&body).send().await.unwrap();
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert!(status.is_success(), "{path} {body}: {answer}");
        answer
    }

    /// Moves the clock by days, and waits until all events of it were received.
    pub async fn days(&self, days: i64) {
        self.control("clock", json!({"advance_seconds": days * 86_400})).await;
    }

    /// Presses a button of the checkout page.
    pub async fn press(&self, session: &str, action: &str, card: &str) -> reqwest::Response {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        client
            .build()
            .unwrap()
            .post(format!("{}/c/pay/{session}", self.sandbox.base_url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("action={action}&payment_method={card}&country=DE"))
            .send()
            .await
            .unwrap()
    }

    pub async fn price(&self, amount: i64, interval: Option<&str>) -> String {
        let product = self.post("/v1/products", "name=Plan").await;
        let recurring = interval.map(|unit| format!("&recurring[interval]={unit}"));
        let form = format!(
            "currency=eur&unit_amount={amount}&product={}{}",
            product["id"].as_str().unwrap(),
            recurring.unwrap_or_default()
        );
        text(&self.post("/v1/prices", &form).await, "id")
    }

    /// A customer with a card as the default.
    pub async fn customer(&self, card: &str) -> String {
        let form = format!("email=a@b.test&invoice_settings[default_payment_method]={card}");
        text(&self.post("/v1/customers", &form).await, "id")
    }

    /// A running subscription and its customer.
    pub async fn subscription(&self, card: &str, amount: i64) -> (Value, String) {
        let (price, customer) =
            (self.price(amount, Some("month")).await, self.customer(card).await);
        let form = format!("customer={customer}&items[0][price]={price}");
        (self.post("/v1/subscriptions", &form).await, customer)
    }

    pub async fn now(&self) -> i64 {
        self.http
            .get(format!("{}/_control/clock", self.sandbox.base_url))
            .send()
            .await
            .unwrap()
            .json::<Value>()
            .await
            .unwrap()["now"]
            .as_i64()
            .unwrap()
    }

    pub async fn deliveries(&self) -> Value {
        let url = format!("{}/_control/deliveries", self.sandbox.base_url);
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// Waits until every event was received and answered.
    pub async fn settled(&self) {
        until(async || self.deliveries().await["idle"] == true).await;
        let created: usize = {
            let log = self.deliveries().await;
            log["data"].as_array().unwrap().iter().filter(|one| one["state"] != "dropped").count()
        };
        until(async || self.hook.got().len() >= created).await;
    }

    /// The types of the events that exist, oldest first.
    pub async fn kinds(&self) -> Vec<String> {
        let mut kinds = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get("/v1/events", &format!("limit=100{after}")).await;
            let data = page["data"].as_array().unwrap();
            kinds.extend(data.iter().map(|event| text(event, "type")));
            if page["has_more"] == false {
                kinds.reverse();
                return kinds;
            }
            after = format!("&starting_after={}", text(data.last().unwrap(), "id"));
        }
    }
}

/// Waits for a condition, half a minute at most.
pub async fn until(condition: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < Duration::from_secs(30), "it did not come to pass");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The text of a field.
pub fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}
