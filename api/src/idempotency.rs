//! `Idempotency-Key` on POST: repeating a request repeats its answer, not its effect.
//!
//! Handlers know nothing of it. With a key, the caller's context carries a [`Once`]; what the handler
//! commits is kept open until its answer stands here, and is then committed with the answer.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::unreadable;
use crate::state::State;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse, web};
use entities::Result;
use entities::error::Error;
use entities::idempotency::{Answer, Ended, Once};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi as Document, RefOr, Required};

/// The request's header.
pub const KEY: &str = "idempotency-key";
/// The answer's header: whether it was given before. Without it no answer was kept.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The innermost middleware: lets a POST with a key have its effect once. A caller who is nobody is
/// left to the handler, which refuses them or needs no key.
pub async fn once(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let once = match prepare(&mut request).await {
        Ok(Prepared::Plain) => return Ok(next.call(request).await?.map_into_boxed_body()),
        Ok(Prepared::Answered(answer)) => return Ok(request.into_response(answer)),
        Ok(Prepared::Once(once)) => once,
        Err(error) => return Ok(request.error_response(ApiError(error))),
    };
    let (request, response) = next.call(request).await?.map_into_boxed_body().into_parts();
    match end(&once, response).await {
        Ok(response) => Ok(ServiceResponse::new(request, response)),
        Err(error) => Ok(ServiceResponse::from_err(ApiError(error), request)),
    }
}

/// What is to be done with a request.
enum Prepared {
    /// It has no key, or needs none.
    Plain,
    /// It was answered before.
    Answered(HttpResponse),
    Once(Arc<Once>),
}

async fn prepare(request: &mut ServiceRequest) -> Result<Prepared> {
    let key = request.headers().get(KEY).filter(|_| request.method() == Method::POST).cloned();
    let Some(key) = key else { return Ok(Prepared::Plain) };
    let Ok(caller) = request.extract::<Caller>().await else { return Ok(Prepared::Plain) };
    let state = request
        .app_data::<web::Data<State>>()
        .cloned()
        .ok_or_else(|| Error::internal("the application has no state"))?;
    let key = SecretString::from(key.to_str().unwrap_or_default());
    let once = Arc::new(Once::new(&caller.0, key, hash(request).await?)?);
    if let Some(answer) = once.find_answer(&state.db).await? {
        return Ok(Prepared::Answered(repeated(answer)?));
    }
    request.extensions_mut().insert(Caller(caller.0.with_once(Arc::clone(&once))));
    Ok(Prepared::Once(once))
}

/// The hash of all that is asked: method, path with query, body. The body is put back.
async fn hash(request: &mut ServiceRequest) -> Result<[u8; 32]> {
    let body = request.extract::<web::Bytes>().await.map_err(|error| unreadable(&error))?;
    let mut hash = Sha256::new();
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    hash.update(format!("{} {path}\n", request.method()).as_bytes());
    hash.update(&body);
    let stream = futures::stream::once(std::future::ready(Ok(body)));
    request.set_payload(Payload::Stream { payload: Box::pin(stream) });
    Ok(hash.finalize().into())
}

/// Ends what the handler has answered: a success is committed with its answer, all else taken back.
async fn end(once: &Once, response: HttpResponse<BoxBody>) -> Result<HttpResponse<BoxBody>> {
    let status = response.status();
    if !status.is_success() {
        return match once.finish(None).await? {
            Ended::Repeated(first) => repeated(first),
            Ended::Kept | Ended::NotKept => Ok(response),
        };
    }
    let (mut response, body) = response.into_parts();
    let body = actix_web::body::to_bytes(body)
        .await
        .map_err(|error| Error::internal(error.to_string()))?;
    let answer = Answer { status: status.as_u16(), body: body.to_vec() };
    match once.finish(Some(&answer)).await? {
        Ended::Repeated(first) => return repeated(first),
        Ended::Kept => {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("false"));
        }
        Ended::NotKept => {}
    }
    Ok(response.set_body(BoxBody::new(body)))
}

fn repeated(answer: Answer) -> Result<HttpResponse> {
    let status = StatusCode::from_u16(answer.status).map_err(Error::internal)?;
    Ok(HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header(("cache-control", "no-store"))
        .insert_header((REPLAYED, "true"))
        .body(answer.body))
}

/// The header as the contract writes it.
const HEADER: &str = "Idempotency-Key";

/// What creates and answers 200.
const ALSO: [&str; 1] = ["/api/migration/preview"];

/// Whether the operation's contract tells of the header.
pub fn is_offered(operation: &Operation) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(|p| matches!(p, RefOr::T(p) if p.name == HEADER))
}

/// Tells of the header at each POST that creates for somebody who is logged in.
pub fn document(document: &mut Document) {
    let key = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]{1,255}$"));
    let parameter = ParameterBuilder::new()
        .name(HEADER)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Visible ASCII, such as a UUID. Repeating the request with the same key within 24 hours repeats its first answer, with `Idempotent-Replayed: true`, and not its effect. With another request the key is refused with 422 `idempotency_mismatch`, while the first is running with 409 `idempotency_running`. Refusals are not kept.",
        ))
        .schema(Some(key))
        .build();
    for (path, item) in &mut document.paths.paths {
        let Some(post) = item.post.as_mut().filter(|post| post.security.is_none()) else {
            continue;
        };
        let has = |status: &str| post.responses.responses.contains_key(status);
        if !has("201") && !has("202") && !ALSO.contains(&path.as_str()) {
            continue;
        }
        post.parameters.get_or_insert_default().push(parameter.clone().into());
    }
}
