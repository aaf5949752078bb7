//! The whole application: every route and middleware, used by the server, the tests and the
//! contract.

use crate::error::render;
use crate::limits::limit;
use crate::state::State;
use crate::{edge, idempotency, routes};
use actix_web::body::BoxBody;
use actix_web::dev::{ResourceDef, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, Error, web};
use entities::error::Code;
use serde_json::Value;
use std::collections::BTreeSet;
use tracing_actix_web::TracingLogger;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr};
use utoipa_actix_web::AppExt;

/// The contract's head; its paths are collected from the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "MigraPanel",
        description = "The control plane of a hosting company: accounts, servers and the migration of cPanel accounts. Success: `{success: true, data, meta}`; failure: `{success: false, error, code, fields, retryable, request_id}`.",
    ),
    modifiers(&Security),
    security(("bearer" = []))
)]
struct Contract;

struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// Builds the application and its contract. A request passes the middlewares from the last one that
/// is wrapped to the first: it gets its id and its answer's headers (`frame`), errors get their bodies
/// (`render`), pages of other origins are answered (`cors`), then come its span, https, the limits,
/// which cost nothing but a look into Redis, its body, the deadline, what it has done before (`once`)
/// and its method.
pub fn build(
    state: web::Data<State>,
) -> (
    App<
        impl ServiceFactory<
            ServiceRequest,
            Config = (),
            Response = ServiceResponse<BoxBody>,
            Error = Error,
            InitError = (),
        >,
    >,
    Document,
) {
    let (app, document) = App::new()
        .into_utoipa_app()
        .openapi(Contract::openapi())
        .app_data(state.clone())
        .configure(routes::all)
        .split_for_parts();
    let document = with_codes(document);
    let served = web::Data::new(Served::new(document.clone()));
    let origins = Condition::new(!state.edge.cors_origins.is_empty(), edge::cors(&state));
    let app = app
        .app_data(served)
        .service(routes::health::openapi_document)
        .wrap(from_fn(edge::methods))
        .wrap(from_fn(idempotency::once))
        .wrap(from_fn(edge::deadline))
        .wrap(from_fn(edge::body))
        .wrap(from_fn(limit))
        .wrap(from_fn(edge::https))
        .wrap(TracingLogger::<crate::trace::RequestSpan>::new())
        .wrap(origins)
        .wrap(from_fn(render))
        .wrap(from_fn(edge::frame));
    (app, document)
}

/// Names every error code in the contract, since programs may rely on the list being whole, and the
/// header that each POST takes.
fn with_codes(mut document: Document) -> Document {
    let codes = document
        .components
        .as_mut()
        .and_then(|components| components.schemas.get_mut("Failure"))
        .and_then(|failure| match failure {
            RefOr::T(Schema::Object(object)) => object.properties.get_mut("code"),
            _ => None,
        });
    if let Some(RefOr::T(Schema::Object(code))) = codes {
        code.enum_values = Some(Code::names().into_iter().map(Value::String).collect());
    }
    idempotency::document(&mut document);
    crate::access::document(&mut document);
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            also_ours(operation);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
    all.into_iter().flatten()
}

/// What is our fault, or that of a server of ours, looks as what is the caller's.
fn also_ours(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    if let Some(RefOr::T(theirs)) = responses.get("4XX") {
        let mut ours = theirs.clone();
        ours.description = "The service fails, or cannot answer at the moment".to_owned();
        responses.entry("5XX".to_owned()).or_insert(RefOr::T(ours));
    }
}

/// The contract, for those who ask for it, and the methods of each path.
pub struct Served {
    pub document: Document,
    paths: Vec<(ResourceDef, Vec<&'static str>)>,
}

impl Served {
    fn new(document: Document) -> Self {
        let methods = |item: &PathItem| {
            let all = [
                (item.get.is_some(), "GET"),
                (item.post.is_some(), "POST"),
                (item.put.is_some(), "PUT"),
                (item.patch.is_some(), "PATCH"),
                (item.delete.is_some(), "DELETE"),
            ];
            all.into_iter().filter_map(|(has, name)| has.then_some(name)).collect()
        };
        let described = document.paths.paths.iter();
        let mut paths: Vec<_> = described
            .map(|(path, item)| (ResourceDef::new(path.as_str()), methods(item)))
            .collect();
        paths.push((ResourceDef::new("/openapi.json"), vec!["GET"]));
        Self { document, paths }
    }

    /// The methods that a path takes.
    #[must_use]
    pub fn methods(&self, path: &str) -> BTreeSet<&'static str> {
        let found = self.paths.iter().filter(|(pattern, _)| pattern.is_match(path));
        found.flat_map(|(_, methods)| methods.iter().copied()).collect()
    }
}

/// The contract as a file.
pub fn contract() -> Result<String, serde_json::Error> {
    let (_, document) = App::new()
        .into_utoipa_app()
        .openapi(Contract::openapi())
        .configure(routes::all)
        .split_for_parts();
    with_codes(document).to_pretty_json().map(|text| text + "\n")
}
