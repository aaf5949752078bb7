//! A stand-in for Stripe on this machine: the objects, calls, pages and events that a hosting
//! company's billing uses, with a clock that can be moved, a delivery that can be disturbed and
//! failures to order. It is reached as Stripe is, by base URL and key; `README.md` describes it.

#![recursion_limit = "256"]

mod cards;
mod catalogue;
mod changes;
mod charges;
mod checkout;
mod clock;
mod control;
mod coupons;
mod customers;
mod delivery;
mod disputes;
mod endpoints;
mod error;
mod faults;
mod idempotency;
mod invoice_calls;
mod invoices;
mod items;
mod lines;
mod lists;
mod page;
mod params;
mod paying;
mod payments;
mod portal;
mod refunds;
mod renewals;
mod routes;
mod server;
mod subscriptions;
mod value;
mod world;

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Data};
use actix_web::{App, HttpServer};
use tokio::task::JoinHandle;

use server::Shared;
pub use world::API_VERSION;

/// How a sandbox is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: String,
    /// The secret key that callers must show.
    pub key: String,
    /// Webhook endpoints for all events, with their secrets.
    pub webhooks: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: "127.0.0.1:0".into(), key: "sk_test_sandbox".into(), webhooks: Vec::new() }
    }
}

/// A running sandbox; it ends when this is dropped.
pub struct Sandbox {
    /// Where it is reached, without a slash at the end.
    pub base_url: String,
    handle: ServerHandle,
    delivery: JoinHandle<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Sandbox {
    /// Waits until the server ends, by a signal.
    pub async fn wait(mut self) -> std::io::Result<()> {
        (&mut self.server).await.map_err(std::io::Error::other)?
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.delivery.abort();
        // The command is sent now; only its end would have to be awaited.
        drop(self.handle.stop(false));
    }
}

/// Starts a sandbox inside this process' tokio runtime.
pub async fn start(config: Config) -> std::io::Result<Sandbox> {
    let listener = TcpListener::bind(&config.listen)?;
    let base_url = format!("http://{}", listener.local_addr()?);
    let shared = Arc::new(Shared::new(config, &base_url));
    let data = Data::new(shared.clone());
    let app = move || {
        App::new()
            .app_data(data.clone())
            .app_data(web::PayloadConfig::new(4 << 20))
            .default_service(web::to(server::handle))
    };
    let server = HttpServer::new(app).workers(2).shutdown_timeout(1).listen(listener)?.run();
    let handle = server.handle();
    let delivery = tokio::spawn(delivery::run(shared));
    Ok(Sandbox { base_url, handle, delivery, server: tokio::spawn(server) })
}
