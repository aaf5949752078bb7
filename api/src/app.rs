//! The whole application: every route and middleware, used by the server, the tests and the
//! contract.

use crate::contract::{self, Served};
use crate::error::render;
use crate::limits::limit;
use crate::query::{self, Queries};
use crate::state::State;
use crate::{edge, idempotency, routes};
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, Error, web};
use tracing_actix_web::TracingLogger;
use utoipa::openapi::OpenApi as Document;
use utoipa_actix_web::AppExt;

/// Builds the application and its contract. A request passes the middlewares from the last one that
/// is wrapped to the first: it gets its id and its answer's headers (`frame`), errors get their bodies
/// (`render`), pages of other origins are answered (`cors`), then come its span, https, the limits,
/// which cost nothing but a look into Redis, its body, the deadline, what it has done before (`once`),
/// its method, and its query.
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
        .openapi(contract::head())
        .app_data(state.clone())
        .configure(routes::all)
        .split_for_parts();
    let document = contract::finish(document);
    let served =
        web::Data::new(Served::new(document.clone(), &["/openapi.json", "/docs", "/docs/{_:.*}"]));
    let queries = web::Data::new(Queries::new(document.clone()));
    let origins = Condition::new(!state.edge.cors_origins.is_empty(), edge::cors(&state));
    let app = app
        .app_data(served)
        .app_data(web::PayloadConfig::new(edge::ZONE_FILE_MAX))
        .app_data(queries)
        .configure(routes::docs::routes)
        .wrap(from_fn(query::known))
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
