//! What is answered: objects with `expand[]`, and lists by pages.

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, shown};

/// A filter of a list: the parameter, and the path of the field that it is compared with.
pub type Filter = (&'static str, &'static str);

/// A page of the objects of a kind, newest first.
pub fn list(world: &World, kind: &str, params: &Params, filters: &[Filter]) -> Answer {
    let objects = world.all(kind).rev().filter(|object| fits(object, params, filters));
    page(objects.cloned().collect(), params, &format!("/v1/{kind}s"))
}

/// A page of what was found.
pub fn page(found: Vec<Value>, params: &Params, url: &str) -> Answer {
    let limit = params.int("limit")?.unwrap_or(10);
    let limit = usize::try_from(limit)
        .ok()
        .filter(|limit| (1..=100).contains(limit))
        .ok_or_else(|| ApiError::param("limit", "Invalid limit: must be between 1 and 100"))?;
    let place = |param: &str| match params.text(param) {
        None => Ok(None),
        Some(id) => match found.iter().position(|object| object.text("id") == id) {
            Some(place) => Ok(Some(place)),
            None => Err(ApiError::no_such("object", id, param)),
        },
    };
    let (after, before) = (place("starting_after")?, place("ending_before")?);
    let (start, end) = match (after, before) {
        (Some(after), _) => (after + 1, (after + 1 + limit).min(found.len())),
        (None, Some(before)) => (before.saturating_sub(limit), before),
        (None, None) => (0, limit.min(found.len())),
    };
    let has_more = if before.is_some() { start > 0 } else { end < found.len() };
    let data = found.get(start..end).unwrap_or_default();
    Ok(json!({"object": "list", "data": data, "has_more": has_more, "url": url}))
}

fn fits(object: &Value, params: &Params, filters: &[Filter]) -> bool {
    let named = filters.iter().all(|(param, path)| {
        let wanted = params.texts(param);
        wanted.is_empty() || wanted.iter().any(|wanted| holds(object, path, wanted))
    });
    named && in_range(object.int("created"), params)
}

/// Whether a field (of any part, where the path meets a list) is what is wanted; `*` at the end
/// stands for anything.
fn holds(value: &Value, path: &str, wanted: &str) -> bool {
    if let Value::Array(list) = value {
        return list.iter().any(|part| holds(part, path, wanted));
    }
    if path.is_empty() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => return false,
            other => other.to_string(),
        };
        return text == wanted
            || wanted.strip_suffix('*').is_some_and(|start| text.starts_with(start));
    }
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    value.get(key).is_some_and(|inner| holds(inner, rest, wanted))
}

fn in_range(created: i64, params: &Params) -> bool {
    let bound = |name: &str| params.text(name).and_then(|text| text.parse::<i64>().ok());
    bound("created").is_none_or(|exact| created == exact)
        && bound("created.gt").is_none_or(|bound| created > bound)
        && bound("created.gte").is_none_or(|bound| created >= bound)
        && bound("created.lt").is_none_or(|bound| created < bound)
        && bound("created.lte").is_none_or(|bound| created <= bound)
}

/// The answer as it is shown, with what `expand[]` asks for in place of the ids.
pub fn answer(world: &World, mut object: Value, params: &Params) -> Answer {
    for path in params.texts("expand") {
        let keys: Vec<&str> = path.split('.').collect();
        if keys.len() > 5 || !expand(world, &mut object, &keys) {
            return Err(ApiError::param(
                "expand",
                format!("This property cannot be expanded ({path})."),
            ));
        }
    }
    Ok(shown(&object))
}

/// Whether the path leads to something that can be expanded, here or in some part of a list.
fn expand(world: &World, value: &mut Value, path: &[&str]) -> bool {
    let Some((key, rest)) = path.split_first() else { return true };
    match value {
        Value::Array(list) => {
            let mut any = list.is_empty();
            for part in list {
                any |= expand(world, part, path);
            }
            any
        }
        Value::Object(_) => {
            if let Some(list) = includable(world, value, key) {
                value[*key] = list;
            }
            let Some(inner) = value.get_mut(*key) else { return false };
            replace_ids(world, inner);
            inner.is_null() || expand(world, inner, rest)
        }
        _ => rest.is_empty(),
    }
}

fn replace_ids(world: &World, value: &mut Value) {
    match value {
        Value::String(id) => {
            if let Some(object) = world.any(id) {
                *value = object.clone();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|part| replace_ids(world, part)),
        _ => {}
    }
}

/// Lists that an object only has when they are asked for.
fn includable(world: &World, object: &Value, key: &str) -> Option<Value> {
    let of = |kind: &str, path: &str| -> Vec<Value> {
        let mine = |other: &&Value| other.text(path) == object.text("id");
        world.all(kind).rev().filter(mine).cloned().collect()
    };
    let data = match (object.text("object"), key) {
        ("checkout.session", "line_items") => object.parts("_line_items").to_vec(),
        ("invoice", "payments") => of("invoice_payment", "invoice"),
        ("charge", "refunds") => of("refund", "charge"),
        ("customer", "tax_ids") => of("tax_id", "customer"),
        ("customer", "subscriptions") => of("subscription", "customer"),
        ("invoice", "confirmation_secret") => return secret(world, object),
        _ => return None,
    };
    let url =
        format!("/v1/{}s/{}/{key}", object.text("object").replace('.', "/"), object.text("id"));
    Some(json!({"object": "list", "data": data, "has_more": false, "url": url}))
}

fn secret(world: &World, invoice: &Value) -> Option<Value> {
    let intent = world.any(invoice.text("_intent"))?;
    Some(json!({"client_secret": intent.at("client_secret"), "type": "payment_intent"}))
}
