//! What holds for every request, whatever it asks: its id, the headers of every answer, which pages
//! may call, https, how large a body is and how long it takes, and which methods there are.

use crate::client::client;
use crate::contract::Served;
use crate::error::{ApiError, TimedOut, request_id};
use crate::state::State;
use actix_cors::Cors;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Decompress, Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, BytesMut, Data};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use entities::error::{Code, Error};
use entities::ids::RequestId;
use futures::StreamExt;
use std::time::Duration;
use uuid::Uuid;

type Answered = Result<ServiceResponse<BoxBody>, actix_web::Error>;

/// The headers that Helmet sets, and a policy that lets no answer be a page for a browser, whatever
/// texts of a customer stand in it.
const HEADERS: [(&str, &str); 11] = [
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("origin-agent-cluster", "?1"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-dns-prefetch-control", "off"),
    ("x-download-options", "noopen"),
    ("x-frame-options", "SAMEORIGIN"),
    ("x-permitted-cross-domain-policies", "none"),
    ("x-xss-protection", "0"),
];
/// Only over https, where browsers heed it.
const HSTS: &str = "max-age=31536000; includeSubDomains";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost middleware: gives the request its id, which is the caller's own when that is a UUID,
/// and every answer its headers.
pub async fn frame(request: ServiceRequest, next: Next<impl MessageBody + 'static>) -> Answered {
    let said = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let id =
        said.and_then(|text| Uuid::try_parse(text).ok()).map_or_else(RequestId::new, RequestId);
    request.extensions_mut().insert(id);
    let is_https = client(request.request()).is_some_and(|client| client.is_https);
    match next.call(request).await {
        Ok(response) => {
            let mut response = response.map_into_boxed_body();
            dress(response.headers_mut(), id, is_https);
            Ok(response)
        }
        Err(mut error) => {
            error.add_response_mapper(move |mut response| {
                dress(response.headers_mut(), id, is_https);
                response
            });
            Err(error)
        }
    }
}

fn dress(headers: &mut HeaderMap, id: RequestId, is_https: bool) {
    for (name, value) in HEADERS {
        // What a page has said of itself holds.
        if !headers.contains_key(name) {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
    if is_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
}

/// Which pages may call: those of the configured origins, with their cookie.
pub fn cors(state: &State) -> Cors {
    let cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers([
            "authorization",
            "content-type",
            "idempotency-key",
            "last-event-id",
            "x-request-id",
            "x-tenant-id",
        ])
        .expose_headers([
            "idempotent-replayed",
            "ratelimit",
            "ratelimit-policy",
            "retry-after",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "x-request-id",
        ])
        .supports_credentials()
        .max_age(3600);
    state.edge.cors_origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

/// Probes come from inside, without https.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// With `MIGRAPANEL__REQUIRE_HTTPS`: sends readers to https, and refuses whoever has sent something in
/// the clear, so that the mistake is seen. Only a proxy knows how the caller came.
pub async fn https(request: ServiceRequest, next: Next<impl MessageBody + 'static>) -> Answered {
    let state = request.app_data::<Data<State>>();
    let is_required = state.is_some_and(|state| state.edge.require_https);
    let is_plain = client(request.request()).is_some_and(|c| c.is_proxied && !c.is_https);
    if !is_required || !is_plain || PROBES.contains(&request.path()) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    if let Some(host) = host.filter(|_| is_read) {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let to = (header::LOCATION, format!("https://{host}{path}"));
        let redirect = HttpResponse::PermanentRedirect().insert_header(to).finish();
        return Ok(request.into_response(redirect));
    }
    let text = "This service is used over https only. What was sent in the clear, such as a token, is no secret any more.";
    Ok(request.error_response(ApiError(Error::refused(Code::HttpsRequired, text))))
}

/// The one route that leaves HTTP.
const CONSOLE: &str = "/api/cloudpods/{id}/console";
/// The largest body, in bytes.
const BODY_MAX: usize = 256 * 1024;
/// The same of a zone file.
pub const ZONE_FILE_MAX: usize = 4 << 20;

fn body_max(request: &ServiceRequest) -> usize {
    let route = request.resource_map().match_pattern(request.path());
    match route.as_deref() {
        Some("/api/dns/zones/{id}/import") => ZONE_FILE_MAX,
        _ => BODY_MAX,
    }
}

/// Reads the body, so that no route takes a larger one, or takes longer to hear it, or is fooled by
/// one that it does not read. What was compressed counts as large as it is. What comes over a console
/// is no body, and has bounds of its own.
pub async fn body(mut request: ServiceRequest, next: Next<impl MessageBody + 'static>) -> Answered {
    if is_console(&request) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let payload = request.take_payload();
    if !matches!(payload, Payload::None) {
        let patience = patience(&request);
        let most = body_max(&request);
        let declared = request.headers().get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
        let read = async {
            if declared.is_some_and(|bytes| bytes > most) {
                return Err(too_large(most));
            }
            read(Decompress::from_headers(payload, request.headers()), most).await
        };
        let read = tokio::time::timeout(patience, read).await.unwrap_or_else(|_elapsed| {
            let text = "The body did not arrive in time. Send it again.";
            Err(Error::refused(Code::BodyTooSlow, text))
        });
        let body = match read {
            Ok(body) => body,
            Err(error) => {
                let mut refused = request.error_response(ApiError(error));
                // Nobody knows where the next request would begin.
                refused.response_mut().head_mut().set_connection_type(ConnectionType::Close);
                return Ok(refused);
            }
        };
        request.headers_mut().remove(header::CONTENT_ENCODING);
        let stream = futures::stream::once(std::future::ready(Ok(body)));
        request.set_payload(Payload::Stream { payload: Box::pin(stream) });
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// Whether the connection is to become a console's.
fn is_console(request: &ServiceRequest) -> bool {
    let route = request.resource_map().match_pattern(request.match_info().as_str());
    route.as_deref() == Some(CONSOLE) && request.method() == Method::GET && request.head().upgrade()
}

async fn read(mut stream: Decompress<Payload>, most: usize) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error: PayloadError| {
            Error::refused(Code::InvalidRequest, format!("The body cannot be taken: {error}."))
        })?;
        if body.len().saturating_add(piece.len()) > most {
            return Err(too_large(most));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

fn too_large(most: usize) -> Error {
    let text = format!("The body is larger than this service takes: at most {most} bytes.");
    Error::refused(Code::PayloadTooLarge, text)
}

/// Routes that ask a worker, who may take as long as `MIGRAPANEL__ASK_TIMEOUT_SECS` says. Streams
/// need no mention: only the beginning of an answer is waited for.
const ASKING: [&str; 6] = [
    "/api/migration/validate",
    "/api/migration/preview",
    "/api/migration/apply",
    "/api/migration/selective-restore",
    "/api/migration/validate-complete",
    "/api/migration/rollback",
];

fn patience(request: &ServiceRequest) -> Duration {
    let state = request.app_data::<Data<State>>();
    Duration::from_secs(state.map_or(30, |state| state.edge.request_timeout_secs))
}

/// Ends a request that takes too long; whatever it had not committed is taken back.
pub async fn deadline(request: ServiceRequest, next: Next<impl MessageBody + 'static>) -> Answered {
    let mut limit = patience(&request);
    let route = request.resource_map().match_pattern(request.match_info().as_str());
    if let Some(state) = request.app_data::<Data<State>>()
        && route.is_some_and(|route| ASKING.contains(&route.as_str()))
    {
        limit = limit.saturating_add(state.asker.patience());
    }
    let id = request_id(request.request());
    match tokio::time::timeout(limit, next.call(request)).await {
        Ok(answered) => Ok(answered?.map_into_boxed_body()),
        Err(_elapsed) => {
            tracing::error!(request_id = %id, "request.too_slow");
            Err(TimedOut(id).into())
        }
    }
}

/// Answers HEAD as GET without its body, OPTIONS with what there is, and any other method that a path
/// does not take with those that it does.
pub async fn methods(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Answered {
    if request.method() == Method::OPTIONS {
        let mut response = request.into_response(HttpResponse::NoContent().finish());
        if let Some(allow) = allowed(response.request()) {
            response.headers_mut().insert(header::ALLOW, allow);
            return Ok(response);
        }
        *response.response_mut().status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    }
    let is_head = request.method() == Method::HEAD;
    if is_head {
        request.head_mut().method = Method::GET;
    }
    if let Some(allow) = allowed(request.request())
        && !allows(&allow, request.method())
    {
        let mut refused = HttpResponse::MethodNotAllowed();
        refused.insert_header((header::ALLOW, allow));
        return Ok(request.into_response(refused.finish()));
    }
    let response = next.call(request).await?.map_into_boxed_body();
    Ok(if is_head && response.status().is_success() {
        response.map_body(|_, _| BoxBody::new(actix_web::body::None::new()))
    } else {
        response
    })
}

fn allows(allow: &HeaderValue, method: &Method) -> bool {
    allow.to_str().is_ok_and(|names| names.split(", ").any(|name| name == method.as_str()))
}

/// The methods that a path takes; none: there is no such path.
fn allowed(request: &HttpRequest) -> Option<HeaderValue> {
    let served = request.app_data::<Data<Served>>()?;
    let methods = served.methods(request.match_info().as_str());
    if methods.is_empty() {
        return None;
    }
    let mut names: Vec<&str> = methods.into_iter().collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    HeaderValue::try_from(names.join(", ")).ok()
}
