//! Logs and traces. Logs are JSON lines on standard error, filtered by `RUST_LOG`; traces go to the
//! OTLP endpoint of `OTEL_EXPORTER_OTLP_ENDPOINT` when it is set. The trace context travels through
//! the outbox, the messages and the requests to agents, so that one trace joins them all.

use crate::Result;
use crate::config;
use crate::error::Error;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::collections::HashMap;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Keeps the exporter; dropping it sends what is left.
#[derive(Debug)]
pub struct Telemetry(SdkTracerProvider);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(error = %error, "telemetry.shutdown_failed");
        }
    }
}

/// Starts logging and tracing for the process `service`.
pub fn start(service: &'static str) -> Result<Telemetry> {
    let mut provider = SdkTracerProvider::builder()
        .with_resource(opentelemetry_sdk::Resource::builder().with_service_name(service).build());
    if let Some(endpoint) = config::optional("OTEL_EXPORTER_OTLP_ENDPOINT") {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .map_err(Error::internal)?;
        provider = provider.with_batch_exporter(exporter);
    }
    let provider = provider.build();
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    // What a client sends that is no HTTP is answered, and is no error of ours.
    let usual = "info,actix_http::h1::dispatcher=off";
    let filter = tracing_subscriber::EnvFilter::new(config::text("RUST_LOG", usual));
    tracing_subscriber::registry()
        .with(filter)
        .with(tracing_subscriber::filter::filter_fn(|about| !shows_bytes(about)))
        .with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr))
        .with(tracing_opentelemetry::layer().with_tracer(provider.tracer(service)))
        .try_init()
        .map_err(Error::internal)?;
    Ok(Telemetry(provider))
}

/// Libraries that write down every byte when they are asked for everything they know: what people type
/// at consoles goes through them.
const WIRES: [&str; 4] = ["actix_http", "amq_protocol", "lapin", "russh"];
/// Warns of each message that comes back, with all its bytes. Whoever has sent it is told, too.
const RETURNED: &str = "lapin::returned_messages";

fn shows_bytes(about: &tracing::Metadata<'_>) -> bool {
    let library = about.target().split("::").next().unwrap_or_default();
    let is_all = *about.level() == tracing::Level::TRACE && WIRES.contains(&library);
    is_all || about.target() == RETURNED
}

/// The current span as a W3C `traceparent`, when there is one.
#[must_use]
pub fn traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&tracing::Span::current().context(), &mut carrier);
    carrier.remove("traceparent")
}

/// Makes `span` a child of the trace that `traceparent` names.
pub fn join(span: &tracing::Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else { return };
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if let Err(error) = span.set_parent(context) {
        tracing::debug!(error = %error, "telemetry.no_parent");
    }
}
