//! `/_control/…`: what only the sandbox has. JSON in, JSON out; no key.

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::faults::Fault;
use crate::params::Params;
use crate::server::{Shared, lock};
use crate::value::Fields;
use crate::world::{World, new_id, shown};
use crate::{cards, clock, disputes, endpoints, paying, payments, refunds};

/// Does a control call.
pub fn run(shared: &Shared, posts: bool, path: &[&str], params: &Params) -> Answer {
    match (posts, path) {
        (false, ["health"]) => Ok(json!({"ok": true})),
        (false, ["clock"]) => Ok(json!({"now": lock(&shared.world).now()})),
        (false, ["deliveries"]) => {
            let delivery = lock(&shared.delivery);
            Ok(json!({"data": delivery.log, "held": delivery.held(), "idle": delivery.is_idle()}))
        }
        (true, ["delivery"]) => set_delivery(shared, params),
        (true, ["release"]) => {
            let seed = params.int("seed")?.and_then(|seed| u64::try_from(seed).ok()).unwrap_or(0);
            let order = params.choice("order", &["fifo", "reverse", "shuffle"])?.unwrap_or("fifo");
            let count = lock(&shared.delivery).release(&params.texts("events"), order, seed);
            Ok(json!({"released": count}))
        }
        (true, ["fail"]) => {
            lock(&shared.faults).push(Fault::read(params)?);
            Ok(json!({"ok": true}))
        }
        (true, ["reset"]) => {
            shared.reset();
            Ok(json!({"ok": true}))
        }
        (true, _) => {
            let answer = change(&mut lock(&shared.world), path, params);
            if path == ["clock"] {
                lock(&shared.delivery).hurry();
            }
            answer.map(|value| shown(&value))
        }
        _ => Err(unknown()),
    }
}

fn unknown() -> ApiError {
    ApiError::not_found("There is no such control endpoint: deploy/stripe/README.md lists them.")
}

fn set_delivery(shared: &Shared, params: &Params) -> Answer {
    let size = |name: &str| {
        params.int(name).map(|number| number.and_then(|number| usize::try_from(number).ok()))
    };
    let mut delivery = lock(&shared.delivery);
    let now = &mut delivery.behaviour;
    now.duplicates = size("duplicates")?.unwrap_or(now.duplicates);
    now.window = size("shuffle.window")?.unwrap_or(now.window);
    now.drop_next = size("drop_next")?.unwrap_or(now.drop_next);
    if let Some(seed) = params.int("shuffle.seed")? {
        now.seed = seed.unsigned_abs();
    }
    if let Some(delay) = params.int("delay_ms")? {
        now.delay = std::time::Duration::from_millis(delay.unsigned_abs());
    }
    if params.has("drop_types") {
        now.drop_types = params.texts("drop_types");
    }
    if let Some(hold) = params.flag("hold")? {
        now.hold = hold;
    }
    if params.has("api_version") {
        now.api_version = params.text("api_version").map(str::to_owned);
    }
    if params.has("retry_seconds") {
        now.retry_seconds =
            params.texts("retry_seconds").iter().filter_map(|text| text.parse().ok()).collect();
    }
    now.signature_offset = params.int("signature_offset_seconds")?.unwrap_or(now.signature_offset);
    Ok(json!({"ok": true, "behaviour": format!("{now:?}")}))
}

fn change(world: &mut World, path: &[&str], params: &Params) -> Answer {
    clock::catch_up(world);
    let well = params.flag("well")?.unwrap_or(true);
    match path {
        ["clock"] => {
            let now = world.now();
            let to = match (params.int("to")?, params.int("advance_seconds")?) {
                (Some(to), _) => to,
                (None, Some(seconds)) => now + seconds,
                (None, None) => return Err(ApiError::missing("advance_seconds")),
            };
            if to < now {
                return Err(ApiError::param("to", "The clock only goes forward."));
            }
            clock::advance(world, to);
            Ok(json!({"now": world.now()}))
        }
        ["settings"] => set_world(world, params),
        ["checkout", id] => paying::act(world, id, params),
        ["authenticate"] => {
            payments::authenticated(world, params.required("payment_intent")?, well)
        }
        ["settle"] => {
            let id = params.required("payment_intent")?;
            if world.get("payment_intent", id, "payment_intent")?.text("status") != "processing" {
                return Err(ApiError::invalid("This PaymentIntent is not processing."));
            }
            payments::settle(world, id, well);
            world.get("payment_intent", id, "id")
        }
        ["card"] => set_card(world, params),
        ["dispute"] => dispute(world, params),
        ["refund_failure"] => refunds::fail(world, params.required("refund")?),
        ["roll_secret"] => {
            let first =
                world.all("webhook_endpoint").next().and_then(|endpoint| endpoint.some_text("id"));
            let id = params.text("endpoint").map(str::to_owned).or(first).unwrap_or_default();
            let rolled = endpoints::roll_secret(
                world,
                &id,
                params.int("expires_in_seconds")?.unwrap_or(86_400),
            )?;
            Ok(json!({"id": id, "secret": rolled.at("secret")}))
        }
        ["webhook"] => {
            let (url, secret) = (params.required("url")?, params.required("secret")?);
            let old = world.all("webhook_endpoint").find(|one| one.text("url") == url);
            if let Some(old) = old.and_then(|old| old.some_text("id")) {
                world.remove("webhook_endpoint", &old);
            }
            Ok(endpoints::add(world, url, secret, vec!["*".to_owned()]))
        }
        ["event"] => {
            let kind = params.required("type")?.to_owned();
            let mut object = json!({"id": new_id("obj"), "object": "unknown"});
            if let Some(given) = params.get("object") {
                object = given.clone();
            }
            world.emit(&kind, &object);
            Ok(json!({"ok": true}))
        }
        _ => Err(unknown()),
    }
}

fn set_world(world: &mut World, params: &Params) -> Answer {
    if params.has("retry_days") {
        world.settings.retry_days =
            params.texts("retry_days").iter().filter_map(|text| text.parse().ok()).collect();
    }
    if let Some(after) = params.choice("after_retries", &["canceled", "unpaid", "past_due"])? {
        world.settings.after_retries = after.to_owned();
    }
    if let Some(seconds) = params.int("draft_seconds")? {
        world.settings.draft_seconds = seconds.max(0);
    }
    if let Some(days) = params.int("upcoming_days")? {
        world.settings.upcoming_days = days.max(0);
    }
    if let Some(seconds) = params.int("late_seconds")? {
        world.settings.late_seconds = seconds.max(0);
    }
    for (country, _) in params.get("tax_percent").and_then(Value::as_object).into_iter().flatten() {
        let percent = params.int(&format!("tax_percent.{country}"))?.unwrap_or(0);
        world.settings.tax_percent.insert(country.clone(), percent);
    }
    Ok(json!({"ok": true}))
}

/// Another behaviour for a card, or for all cards of a customer.
fn set_card(world: &mut World, params: &Params) -> Answer {
    let behaviour = params
        .choice("behaviour", cards::BEHAVIOURS)?
        .ok_or_else(|| ApiError::missing("behaviour"))?
        .to_owned();
    let chosen: Vec<String> = world
        .all("payment_method")
        .filter(|card| {
            Some(card.text("id")) == params.text("payment_method")
                || (params.has("customer")
                    && Some(card.text("customer")) == params.text("customer"))
        })
        .map(|card| card.text("id").to_owned())
        .collect();
    if chosen.is_empty() {
        return Err(ApiError::missing("payment_method"));
    }
    for card in &chosen {
        world.set(card, json!({"_behaviour": behaviour}));
    }
    Ok(json!({"cards": chosen}))
}

fn dispute(world: &mut World, params: &Params) -> Answer {
    if let Some(id) = params.text("dispute") {
        let won =
            params.choice("close", &["won", "lost"])?.ok_or_else(|| ApiError::missing("close"))?
                == "won";
        return disputes::close(world, id, won);
    }
    let charge = match params.text("payment_intent") {
        Some(intent) => {
            world.get("payment_intent", intent, "payment_intent")?.text("latest_charge").to_owned()
        }
        None => params.required("charge")?.to_owned(),
    };
    disputes::open(world, &charge, params.int("amount")?, params.text("reason"))
}
