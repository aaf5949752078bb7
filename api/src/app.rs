//! The whole application: every route and middleware, used by the server, the tests and the
//! contract.

use crate::error::render;
use crate::limits::limit;
use crate::state::State;
use crate::{idempotency, routes};
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{App, Error, web};
use entities::error::Code;
use serde_json::Value;
use tracing_actix_web::TracingLogger;
use utoipa::OpenApi;
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

/// Builds the application and its contract.
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
        .app_data(state)
        .configure(routes::all)
        .split_for_parts();
    let document = with_codes(document);
    let served = web::Data::new(Served(document.clone()));
    let app = app
        .app_data(served)
        .service(routes::health::openapi_document)
        .wrap(from_fn(idempotency::once))
        .wrap(from_fn(limit))
        .wrap(TracingLogger::<crate::trace::RequestSpan>::new())
        .wrap(from_fn(render))
        .wrap(never_a_page());
    (app, document)
}

/// No answer is a page for a browser, whatever texts of a customer stand in it.
fn never_a_page() -> DefaultHeaders {
    DefaultHeaders::new()
        .add(("X-Content-Type-Options", "nosniff"))
        .add(("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"))
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
    document
}

/// The contract, for those who ask for it.
pub struct Served(pub Document);

/// The contract as a file.
pub fn contract() -> Result<String, serde_json::Error> {
    let (_, document) = App::new()
        .into_utoipa_app()
        .openapi(Contract::openapi())
        .configure(routes::all)
        .split_for_parts();
    with_codes(document).to_pretty_json().map(|text| text + "\n")
}
