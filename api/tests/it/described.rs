//! Holds each answer that a test gets against the contract.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::LazyLock;

static CONTRACT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&api::contract::text().unwrap()).unwrap());

/// The operation that a request is for, with its path as the contract writes it.
fn operation(method: &Method, path: &str) -> Option<(&'static str, &'static Value)> {
    let path = path.split('?').next().unwrap_or_default();
    let is_it = |pattern: &str| {
        let (pattern, path) = (pattern.split('/'), path.split('/'));
        pattern.clone().count() == path.clone().count()
            && pattern.zip(path).all(|(p, part)| p.starts_with('{') || p == part)
    };
    let paths = CONTRACT["paths"].as_object().unwrap();
    // `/api/servers/worker-key` is no server's id.
    let exact = paths.get_key_value(path);
    let (pattern, item) = exact.or_else(|| paths.iter().find(|(p, _)| is_it(p)))?;
    Some((pattern, item.get(method.as_str().to_lowercase())?))
}

/// Fails when the contract does not describe such an answer to such a request.
#[track_caller]
pub fn check(method: &Method, path: &str, status: StatusCode, body: &Value) {
    let Some((pattern, operation)) = operation(method, path) else { return };
    let about = format!("{method} {pattern} answers {status}: {body}");
    let response = &operation["responses"][status.as_str()];
    assert!(response.is_object(), "not described: {about}");
    let content = &response["content"]["application/json"];
    if !status.is_success() && pattern != "/readyz" {
        let code = body["code"].as_str().unwrap_or_default();
        assert!(content["examples"][code].is_object(), "the code is not described: {about}");
    }
    if content.is_object() {
        let wrong = wrong(&content["schema"], body);
        assert!(wrong.is_empty(), "not as described: {wrong:?}: {about}");
    }
}

/// What in a value is not as its schema says.
pub fn wrong(schema: &Value, value: &Value) -> Vec<String> {
    let mut root = schema.clone();
    root["components"] = json!({ "schemas": CONTRACT["components"]["schemas"] });
    let validator = jsonschema::options().should_validate_formats(true).build(&root).unwrap();
    validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}
