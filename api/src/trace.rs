//! The span of a request: joined to the caller's trace, with the tenant recorded when it is known.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use tracing::Span;
use tracing_actix_web::{DefaultRootSpanBuilder, RootSpanBuilder};

/// Makes the span.
#[derive(Debug)]
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let span = tracing_actix_web::root_span!(request, tenant.id = tracing::field::Empty);
        // The macro believes whatever a caller says of their address, and makes an id of its own.
        let ip = crate::client::client(request.request()).map(|client| client.ip.to_string());
        span.record("http.client_ip", ip.as_deref().unwrap_or_default());
        let id = crate::error::request_id(request.request());
        span.record("request_id", tracing::field::display(id));
        span
    }

    fn on_request_end<B: MessageBody>(
        span: Span,
        outcome: &Result<ServiceResponse<B>, actix_web::Error>,
    ) {
        DefaultRootSpanBuilder::on_request_end(span, outcome);
    }
}
