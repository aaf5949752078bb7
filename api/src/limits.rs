//! How much may be asked. Every route is limited unless the one list here says otherwise: by address
//! while nobody is known, by person or key and by tenant afterwards. The budget is looked at before
//! the database is.

use crate::auth::{Caller, bearer};
use crate::client::client;
use crate::error::ApiError;
use crate::gcra::{self, Budget, Left, Policy};
use crate::state::State;
use actix_web::HttpMessage;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use entities::Result;
use entities::error::{Code, Error};
use entities::ids::TenantId;
use entities::{keys, tenants};
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is not limited: probes, the contract, and what Stripe sends in bursts and signs.
const EXEMPT: [&str; 6] =
    ["/healthz", "/readyz", "/openapi.json", "/docs", "/docs/{_:.*}", "/api/webhooks/stripe"];

/// Routes with a budget of their own, by address: they neither eat the general one nor escape it.
const OWN: [(&str, Policy); 9] = [
    ("/api/auth/login", Policy { name: "login", requests: 150, secs: QUARTER }),
    ("/api/auth/refresh", Policy { name: "refresh", requests: 300, secs: QUARTER }),
    ("/api/auth/register", MAIL),
    ("/api/auth/forgot-password", MAIL),
    ("/api/auth/resend-verification", MAIL),
    ("/api/auth/reset-password", LINK),
    ("/api/auth/verify-email", LINK),
    ("/api/auth/confirm-email", LINK),
    ("/api/invitations/accept", LINK),
];
/// Whatever lets a stranger have a letter sent.
const MAIL: Policy = Policy { name: "mail", requests: 10, secs: 3600 };
/// Letters that strangers may have sent to one mailbox.
const MAILBOX: Policy = Policy { name: "mailbox", requests: 3, secs: 3600 };
/// Links for a new password that strangers may have sent to one mailbox: apart, so that other letters
/// keep nobody from setting a password.
const RESET: Policy = Policy { name: "reset", requests: 3, secs: 3600 };
/// Whatever takes the secret of a mailed link.
const LINK: Policy = Policy { name: "link", requests: 60, secs: QUARTER };

const USER: Policy = Policy { name: "user", requests: 3000, secs: QUARTER };
const KEY: Policy = Policy { name: "key", ..USER };
/// Unless the tenant has a limit of its own.
const TENANT: Policy = Policy { name: "tenant", requests: 30_000, secs: QUARTER };
const QUARTER: u32 = 15 * 60;

/// What this process remembers so that a budget costs no database round trip.
#[derive(Debug, Default)]
pub struct Memory {
    /// How much each tenant may ask.
    tenants: Recent<TenantId, u32>,
    /// API keys that were found valid, by the hash of their text, with their id. It only chooses the
    /// budget: whether a key is valid still is asked each time.
    keys: Recent<[u8; 32], (String, TenantId)>,
}

const TENANT_MEMORY: Duration = Duration::from_secs(60);
const KEY_MEMORY: Duration = Duration::from_secs(3600);

/// Takes each request from its budgets and tells what is left.
pub async fn limit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let route = request.resource_map().match_pattern(request.match_info().as_str());
    let state = request.app_data::<Data<State>>().cloned();
    let exempt = route.as_deref().is_some_and(|route| EXEMPT.contains(&route));
    let Some(state) = state.filter(|_| !exempt) else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let budgets = budgets(&state, &request, route.as_deref()).await;
    let lefts = gcra::take(&state, &budgets).await;
    let wait = lefts.iter().map(|left| left.wait).max().unwrap_or_default();
    let mut response = if wait.is_zero() {
        let key = bearer(request.headers()).filter(|t| t.starts_with(keys::PREFIX)).map(hash);
        let response = next.call(request).await?.map_into_boxed_body();
        let caller = response.request().extensions().get::<Caller>().cloned();
        if let (Some(text), Some(Caller(ctx))) = (key, caller)
            && let Some(id) = ctx.key()
        {
            state.limits.keys.put(text, (id.to_string(), ctx.home()));
        }
        response
    } else {
        request.error_response(ApiError(refusal(wait)))
    };
    tell(response.headers_mut(), &budgets, &lefts);
    Ok(response)
}

/// Refuses one letter too many to a mailbox, whoever asks for it.
pub async fn limit_mailbox(state: &State, address: &str) -> Result<()> {
    limit_letters(state, MAILBOX, address).await
}

/// The same for links for a new password.
pub async fn limit_resets(state: &State, address: &str) -> Result<()> {
    limit_letters(state, RESET, address).await
}

async fn limit_letters(state: &State, policy: Policy, address: &str) -> Result<()> {
    let whose = hex::encode(hash(&address.to_lowercase()));
    let lefts = gcra::take(state, &[Budget { policy, whose }]).await;
    match lefts.first() {
        Some(left) if !left.wait.is_zero() => Err(refusal(left.wait)),
        _ => Ok(()),
    }
}

fn refusal(wait: Duration) -> Error {
    let text = "Too many requests. Wait as long as Retry-After says.";
    Error::later(Code::TooManyRequests, text, secs(wait))
}

/// Whole seconds, never too few.
fn secs(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

async fn budgets(state: &State, request: &ServiceRequest, route: Option<&str>) -> Vec<Budget> {
    let own = OWN.iter().find(|(pattern, _)| route == Some(pattern));
    if let Some((_, policy)) = own {
        return vec![Budget { policy: *policy, whose: address(request) }];
    }
    let known = bearer(request.headers()).and_then(|token| {
        if token.starts_with(keys::PREFIX) {
            let (key, tenant) = state.limits.keys.get(&hash(token), KEY_MEMORY)?;
            return Some((KEY, key, tenant));
        }
        let (claims, _) = state.tokens.verify(token).ok()?;
        Some((USER, claims.user.to_string(), claims.tenant))
    });
    let Some((policy, whose, tenant)) = known else {
        let requests = state.edge.anonymous_requests;
        let policy = Policy { name: "anonymous", requests, secs: QUARTER };
        return vec![Budget { policy, whose: address(request) }];
    };
    let requests = tenant_limit(state, tenant).await;
    let tenants = Policy { requests, ..TENANT };
    vec![Budget { policy, whose }, Budget { policy: tenants, whose: tenant.to_string() }]
}

async fn tenant_limit(state: &State, tenant: TenantId) -> u32 {
    if let Some(known) = state.limits.tenants.get(&tenant, TENANT_MEMORY) {
        return known;
    }
    // With the database away nothing else works, either.
    let found = tenants::find_request_limit(&state.db, tenant).await.ok().flatten();
    let requests = found.unwrap_or(TENANT.requests).max(1);
    state.limits.tenants.put(tenant, requests);
    requests
}

fn address(request: &ServiceRequest) -> String {
    subscriber(client(request.request()).map(|client| client.ip))
}

/// The caller's address; of IPv6 the network of 64 bits, of which one subscriber has all.
#[must_use]
pub fn subscriber(ip: Option<IpAddr>) -> String {
    match ip {
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(ip) => IpNet::new(ip, 64).map_or(ip, |network| network.network()).to_string(),
        None => "-".to_owned(),
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Tells of the budgets: by the draft of the IETF's HTTPAPI group, and of the tightest one also as
/// older clients know it.
fn tell(headers: &mut HeaderMap, budgets: &[Budget], lefts: &[Left]) {
    let (mut policies, mut rests) = (Vec::new(), Vec::new());
    for (Budget { policy: Policy { name, requests, secs: window }, .. }, left) in
        budgets.iter().zip(lefts)
    {
        policies.push(format!("\"{name}\";q={requests};w={window}"));
        rests.push(format!("\"{name}\";r={};t={}", left.requests, secs(left.whole)));
    }
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("ratelimit-policy", policies.join(", "));
    set("ratelimit", rests.join(", "));
    let tightest = budgets.iter().zip(lefts).min_by_key(|(_, left)| left.requests);
    if let Some((budget, left)) = tightest {
        set("x-ratelimit-limit", budget.policy.requests.to_string());
        set("x-ratelimit-remaining", left.requests.to_string());
        set("x-ratelimit-reset", secs(left.whole).to_string());
    }
}

/// What was found lately.
#[derive(Debug)]
struct Recent<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Things that are remembered at most; beyond, the memory begins anew.
const RECENT_MAX: usize = 50_000;

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    fn get(&self, key: &K, memory: Duration) -> Option<V> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(at, _)| at.elapsed() < memory).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= RECENT_MAX {
            known.clear();
        }
        known.insert(key, (Instant::now(), value));
    }
}
