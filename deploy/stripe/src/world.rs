//! Everything that a sandbox knows: objects by id, its clock, its settings, the events that wait
//! to be sent.

use std::collections::HashMap;
use std::sync::Arc;

use rand::Rng;
use rand::distr::Alphanumeric;
use serde_json::{Map, Value, json};

use crate::error::{Answer, ApiError};
use crate::value::Fields;

/// The version of the API whose shapes the sandbox has: the one that `async-stripe` was made for.
pub const API_VERSION: &str = "2026-09-30.endive";

/// One account's objects. Fields whose names begin with `_` are the sandbox's own and never shown.
/// A copy is cheap: it shares the objects until they change.
#[derive(Clone)]
pub struct World {
    objects: HashMap<String, Arc<Value>>,
    order: HashMap<String, Vec<String>>,
    offset: i64,
    pinned: Option<i64>,
    is_trial: bool,
    /// How dunning, taxes and late payments go.
    pub settings: Settings,
    /// Which request makes the events, if one does.
    pub request: Value,
    /// Events that delivery has not taken yet; the list of events may have forgotten them.
    pub outbox: Vec<Value>,
    /// Where pages and PDFs are.
    pub base_url: String,
}

/// What an account's owner sets in Stripe's dashboard.
#[derive(Clone)]
pub struct Settings {
    /// Days from each failed attempt to the next.
    pub retry_days: Vec<i64>,
    /// What becomes of a subscription after the last: `canceled`, `unpaid` or `past_due`.
    pub after_retries: String,
    /// Seconds that a renewal's invoice stays a draft.
    pub draft_seconds: i64,
    /// Days before a renewal at which `invoice.upcoming` is sent.
    pub upcoming_days: i64,
    /// Seconds until a payment that comes later has come or failed.
    pub late_seconds: i64,
    /// Tax in percent by the customer's country, with `automatic_tax`.
    pub tax_percent: HashMap<String, i64>,
}

impl Default for Settings {
    fn default() -> Self {
        let tax = [("AT", 20), ("CH", 8), ("DE", 19), ("FR", 20), ("GB", 20), ("NL", 21)];
        Self {
            retry_days: vec![3, 5, 7],
            after_retries: "canceled".into(),
            draft_seconds: 3600,
            upcoming_days: 7,
            late_seconds: 60,
            tax_percent: tax.map(|(country, percent)| (country.to_owned(), percent)).into(),
        }
    }
}

impl World {
    /// An empty account.
    pub fn new(base_url: &str) -> Self {
        Self {
            objects: HashMap::new(),
            order: HashMap::new(),
            offset: 0,
            pinned: None,
            is_trial: false,
            settings: Settings::default(),
            request: json!({"id": null, "idempotency_key": null}),
            outbox: Vec::new(),
            base_url: base_url.to_owned(),
        }
    }

    /// The sandbox's time: real time and what was added, or the moment that is being played.
    pub fn now(&self) -> i64 {
        self.pinned.unwrap_or_else(|| real_now() + self.offset)
    }

    /// Whether the clock was moved.
    pub fn is_moved(&self) -> bool {
        self.offset != 0
    }

    /// Plays a moment; `None` returns to the running clock.
    pub fn pin(&mut self, moment: Option<i64>) {
        self.pinned = moment;
    }

    /// Moves the running clock to a time.
    pub fn move_to(&mut self, time: i64) {
        self.offset = time - real_now();
    }

    /// A new object of a kind, with the fields that all have.
    pub fn create(&mut self, kind: &str, id: String, fields: Value) -> Value {
        let mut object = json!({
            "id": id, "object": kind, "created": self.now(), "livemode": false, "metadata": {},
        });
        merge(&mut object, fields);
        self.order.entry(kind.to_owned()).or_default().push(id.clone());
        self.objects.insert(id, Arc::new(object.clone()));
        object
    }

    /// An object of a kind that `param` named.
    pub fn get(&self, kind: &str, id: &str, param: &str) -> Answer<Value> {
        self.find(kind, id).ok_or_else(|| ApiError::no_such(kind, id, param))
    }

    /// An object of a kind, if there is one.
    pub fn find(&self, kind: &str, id: &str) -> Option<Value> {
        self.any(id).filter(|object| object.text("object") == kind).cloned()
    }

    /// An object of any kind.
    pub fn any(&self, id: &str) -> Option<&Value> {
        self.objects.get(id).map(Arc::as_ref)
    }

    /// All objects of a kind, oldest first.
    pub fn all<'a>(&'a self, kind: &str) -> impl DoubleEndedIterator<Item = &'a Value> + use<'a> {
        let ids = self.order.get(kind).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| self.any(id))
    }

    /// Puts a changed object back.
    pub fn put(&mut self, object: &Value) {
        self.objects.insert(object.text("id").to_owned(), Arc::new(object.clone()));
    }

    /// Changes some fields of an object, and answers the object.
    pub fn set(&mut self, id: &str, fields: Value) -> Value {
        let mut object = self.any(id).cloned().unwrap_or_else(|| json!({"id": id}));
        merge(&mut object, fields);
        self.put(&object);
        object
    }

    /// Forgets an object.
    pub fn remove(&mut self, kind: &str, id: &str) {
        self.objects.remove(id);
        if let Some(order) = self.order.get_mut(kind) {
            order.retain(|other| other != id);
        }
    }

    /// Forgets all objects of a kind that are old enough.
    pub fn forget(&mut self, kind: &str, is_old: impl Fn(&Value) -> bool) {
        let ids = self.order.get(kind).cloned().unwrap_or_default();
        let (old, kept): (Vec<_>, Vec<_>) =
            ids.into_iter().partition(|id| self.any(id).is_none_or(&is_old));
        for id in &old {
            self.objects.remove(id);
        }
        self.order.insert(kind.to_owned(), kept);
    }

    /// A copy to try something on: without events, and nothing that happens on it is told.
    pub fn trial(&self) -> Self {
        let kept = |(_, object): &(&String, &Arc<Value>)| object.text("object") != "event";
        let objects = self.objects.iter().filter(kept);
        Self {
            objects: objects.map(|(id, object)| (id.clone(), object.clone())).collect(),
            order: self
                .order
                .iter()
                .filter(|(kind, _)| *kind != "event")
                .map(|(kind, ids)| (kind.clone(), ids.clone()))
                .collect(),
            settings: self.settings.clone(),
            request: Value::Null,
            outbox: Vec::new(),
            base_url: self.base_url.clone(),
            is_trial: true,
            ..*self
        }
    }

    /// Makes an event of an object as it is now.
    pub fn emit(&mut self, kind: &str, object: &Value) {
        self.emit_data(kind, json!({"object": shown(object)}));
    }

    /// Makes an `….updated` event, with what the changed fields held before; none if nothing did.
    pub fn emit_changed(&mut self, kind: &str, before: &Value, after: &Value) {
        let (before, after) = (shown(before), shown(after));
        let old = before.as_object().cloned().unwrap_or_default();
        let previous: Map<_, _> = after
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| old.get(*key) != Some(value))
            .map(|(key, _)| (key.clone(), old.get(key).cloned().unwrap_or_default()))
            .collect();
        if !previous.is_empty() {
            self.emit_data(kind, json!({"object": after, "previous_attributes": previous}));
        }
    }

    fn emit_data(&mut self, kind: &str, data: Value) {
        if self.is_trial {
            return;
        }
        let id = new_id("evt");
        let event = json!({
            "api_version": API_VERSION, "data": data, "pending_webhooks": 0,
            "request": self.request, "type": kind,
        });
        let mut event = self.create("event", id, event);
        if let Some(fields) = event.as_object_mut() {
            fields.remove("metadata");
        }
        self.put(&event);
        self.outbox.push(event);
    }
}

/// Sets the fields of an object, level by level no deeper than the first.
pub fn merge(object: &mut Value, fields: Value) {
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
}

/// The object without the sandbox's own fields.
pub fn shown(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(key, _)| !key.starts_with('_'))
                .map(|(key, value)| {
                    let callers = key == "metadata";
                    (key.clone(), if callers { value.clone() } else { shown(value) })
                })
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(shown).collect()),
        leaf => leaf.clone(),
    }
}

/// An id as Stripe's look: a prefix and letters that mean nothing.
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", random(24))
}

/// Letters and digits by chance.
pub fn random(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

/// Real time in seconds.
pub fn real_now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// A list that stands inside an object.
pub fn inner_list(data: Vec<Value>, url: &str) -> Value {
    json!({"object": "list", "data": data, "has_more": false, "total_count": data.len(), "url": url})
}
