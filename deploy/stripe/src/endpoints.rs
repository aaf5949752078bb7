//! Webhook endpoints and their secrets.

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, new_id, random, real_now};

/// `POST /v1/webhook_endpoints`: the only answer that shows the secret.
pub fn create(world: &mut World, params: &Params) -> Answer {
    let url = params.required("url")?;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(ApiError::param(
            "url",
            "Invalid URL: An explicit scheme (such as https) must be provided.",
        ));
    }
    let events = params.texts("enabled_events");
    if events.is_empty() {
        return Err(ApiError::missing("enabled_events"));
    }
    let secret = format!("whsec_{}", random(32));
    let mut endpoint = add(world, url, &secret, events);
    params.copy_texts(&mut endpoint, &["api_version", "description"]);
    params.copy_metadata(&mut endpoint);
    world.put(&endpoint);
    endpoint.write("secret", json!(secret));
    Ok(endpoint)
}

/// An endpoint with a secret that is known already.
pub fn add(world: &mut World, url: &str, secret: &str, events: Vec<String>) -> Value {
    let fields = json!({
        "api_version": null, "application": null, "description": null, "enabled_events": events,
        "status": "enabled", "url": url, "_secrets": [{"secret": secret, "until": null}],
    });
    world.create("webhook_endpoint", new_id("we"), fields)
}

/// `POST /v1/webhook_endpoints/{}`
pub fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let mut endpoint = world.get("webhook_endpoint", id, "id")?;
    params.copy_texts(&mut endpoint, &["description", "url"]);
    params.copy_metadata(&mut endpoint);
    if let Some(disabled) = params.flag("disabled")? {
        endpoint.write("status", json!(if disabled { "disabled" } else { "enabled" }));
    }
    let events = params.texts("enabled_events");
    if !events.is_empty() {
        endpoint.write("enabled_events", json!(events));
    }
    world.put(&endpoint);
    Ok(endpoint)
}

/// `DELETE /v1/webhook_endpoints/{}`
pub fn delete(world: &mut World, id: &str) -> Answer {
    world.get("webhook_endpoint", id, "id")?;
    world.remove("webhook_endpoint", id);
    Ok(json!({"id": id, "object": "webhook_endpoint", "deleted": true}))
}

/// Whether an endpoint wants events of a type.
pub fn wants(endpoint: &Value, kind: &str) -> bool {
    let one = |wanted: &Value| {
        let wanted = wanted.as_str().unwrap_or_default();
        wanted == kind || wanted.strip_suffix('*').is_some_and(|start| kind.starts_with(start))
    };
    endpoint.text("status") == "enabled" && endpoint.parts("enabled_events").iter().any(one)
}

/// A new secret; the old one signs along for so many seconds.
pub fn roll_secret(world: &mut World, id: &str, seconds: i64) -> Answer {
    let mut endpoint = world.get("webhook_endpoint", id, "id")?;
    let secret = format!("whsec_{}", random(32));
    let mut secrets = vec![json!({"secret": secret, "until": null})];
    if let Some(old) = endpoint.parts("_secrets").first() {
        secrets.push(json!({"secret": old.at("secret"), "until": real_now() + seconds}));
    }
    endpoint.write("_secrets", json!(secrets));
    world.put(&endpoint);
    endpoint.write("secret", json!(secret));
    Ok(endpoint)
}

/// The secrets that sign for an endpoint now.
pub fn secrets(endpoint: &Value) -> Vec<String> {
    let now = real_now();
    let valid = |secret: &&Value| secret.some_int("until").is_none_or(|until| until > now);
    endpoint
        .parts("_secrets")
        .iter()
        .filter(valid)
        .map(|secret| secret.text("secret").to_owned())
        .collect()
}
