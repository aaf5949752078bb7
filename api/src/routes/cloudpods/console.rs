//! Consoles of CloudPods: a ticket, and the WebSocket that it opens.

use crate::auth::Caller;
use crate::client::{client, origin};
use crate::console::{Console, say_farewell};
use crate::error::{ApiError, request_id};
use crate::extract::{Answer, Success, created};
use crate::state::State;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use console::{End, Why};
use entities::cloudpods::consoles::{open_console, request_console};
use entities::error::{Code, Error};
use entities::ids::CloudpodId;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tracing::Instrument;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// What is spoken over the WebSocket.
const PROTOCOL: &str = "migrapanel.console.v1";
/// What a ticket stands behind in the list of protocols: browsers give a WebSocket no header of its
/// own, and addresses are logged.
const TICKET: &str = "ticket.";

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(request_cloudpod_console).service(open_cloudpod_console);
}

/// What opens a console, once.
#[derive(Debug, Serialize, ToSchema)]
struct ConsoleTicket {
    /// Where to open a WebSocket with the subprotocols `migrapanel.console.v1` and `ticket.TICKET`.
    url: String,
    /// It opens one console, of this CloudPod.
    ticket: String,
    /// When it opens none any more.
    expires_at: DateTime<Utc>,
}

/// Gives a ticket for the console of a CloudPod that runs: the terminal at which one logs in. It is
/// used once and within 30 seconds, at `GET` of the same path.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 201, body = Success<ConsoleTicket>))
)]
#[post("/api/cloudpods/{id}/console")]
async fn request_cloudpod_console(
    caller: Caller,
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<ConsoleTicket>, ApiError> {
    let ticket = request_console(&state.db, &caller.0, CloudpodId(*id)).await?;
    Ok(created(ConsoleTicket {
        url: address(&request, *id),
        ticket: ticket.text.expose_secret().to_owned(),
        expires_at: ticket.expires_at,
    }))
}

/// Where the caller reaches this service.
fn address(request: &HttpRequest, id: Uuid) -> String {
    let is_https = client(request).is_some_and(|client| client.is_https);
    let scheme = if is_https { "wss" } else { "ws" };
    let host = text_of(request.headers(), &header::HOST).unwrap_or("localhost");
    format!("{scheme}://{host}/api/cloudpods/{id}/console")
}

/// Opens the console that a ticket is for, over a WebSocket.
#[utoipa::path(
    tag = "cloudpods",
    params(
        ("id" = Uuid, Path, description = "the CloudPod"),
        (
            "Sec-WebSocket-Protocol" = String,
            Header,
            description = "`migrapanel.console.v1, ticket.TICKET`"
        ),
    ),
    responses((status = 101, description = "A WebSocket from here on. Binary messages are what is typed and shown, the text `{\"resize\": {\"cols\": 80, \"rows\": 24}}`, with sides of 1 to 500, says how large the terminal is; a message has at most 64 KiB. It closes with 1000 (ended by either side, idle for half an hour, or eight hours old), 1001 (the service stops), 1007 or 1009 (a message that is none, or too long), 1008 (the rights are gone, or the CloudPod does not run), 1011 (the node is away) or 1013 (too many, or no worker); after 1001, 1011 and 1013 another may be opened. A CloudPod has at most two at once, a tenant ten. A console outlives the access token that its ticket was asked for with, but not the login, the key or the rights."))
)]
#[get("/api/cloudpods/{id}/console")]
async fn open_cloudpod_console(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let ticket = ticket(request.headers())?;
    check_origin(&request, &state)?;
    let (response, socket, stream) = actix_ws::handle_with_protocols(&request, body, &[PROTOCOL])
        .map_err(|error| {
        let text = format!("Only a WebSocket is served here: {error}.");
        Error::refused(Code::InvalidRequest, text)
    })?;
    let (pod, id) = (CloudpodId(*id), request_id(&request));
    let opened = match open_console(&state.db, pod, &ticket, id, origin(&request)).await {
        Ok(opened) => opened,
        // Whoever has asked for more than there may be is told so where a browser shows it.
        Err(error) if error.code() == Code::QuotaExceeded => {
            let end = End::new(Why::Full, &error.to_string());
            actix_web::rt::spawn(say_farewell(socket, stream.aggregate_continuations(), end));
            return Ok(response);
        }
        Err(error) => return Err(error.into()),
    };
    let span = tracing::info_span!(
        parent: None, "console", console = %opened.id, tenant.id = %opened.ctx.tenant(), request_id = %id
    );
    let console = Console { state, opened, pod, request: id };
    actix_web::rt::spawn(console.serve(socket, stream).instrument(span));
    Ok(response)
}

/// The one ticket that is shown beside our protocol.
fn ticket(headers: &HeaderMap) -> Result<SecretString, Error> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let lines = lines.filter_map(|line| line.to_str().ok());
    let offered: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let tickets: Vec<&str> = offered.iter().filter_map(|o| o.strip_prefix(TICKET)).collect();
    match tickets.as_slice() {
        [ticket] if offered.contains(&PROTOCOL) => Ok(SecretString::from(*ticket)),
        _ => {
            let text = "Open a WebSocket with the subprotocols `migrapanel.console.v1` and `ticket.` with the ticket of POST /api/cloudpods/{id}/console.";
            Err(Error::refused(Code::TicketInvalid, text))
        }
    }
}

/// Refuses pages of others: browsers ask nobody before they open a WebSocket.
fn check_origin(request: &HttpRequest, state: &State) -> Result<(), Error> {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = text_of(request.headers(), &header::HOST).unwrap_or_default();
    let own = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    if own == Some(host) || state.edge.cors_origins.iter().any(|listed| listed == origin) {
        return Ok(());
    }
    let text = "Pages of this origin may not open consoles. The operator lists origins in MIGRAPANEL__CORS_ORIGINS.";
    Err(Error::refused(Code::Forbidden, text))
}

fn text_of<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
