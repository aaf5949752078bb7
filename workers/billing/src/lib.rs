//! What we say to Stripe, and what we make of its answers. The API uses it for the few things that
//! somebody waits for, the billing worker for everything else.
//!
//! [`look`] is the heart: it fetches an object anew and brings our rows to it. [`checkout`],
//! [`change`] and [`customers`] ask Stripe for something, each under a key of our own rows, so that a
//! request that is sent twice does once. [`sync`] carries the catalogue there, [`repay`] money back,
//! [`reconcile`] finds what nobody told us.

pub mod change;
pub mod checkout;
pub mod client;
pub mod customers;
pub mod inbox;
pub mod look;
pub mod objects;
pub mod reconcile;
pub mod repay;
pub mod signature;
pub mod sync;

pub use client::Stripe;

use chrono::{DateTime, Utc};
use client::Answer;
use entities::Result;
use entities::billing::{events, moment};
use entities::config;
use entities::db::Db;
use objects::{List, TestClock};
use secrecy::ExposeSecret;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// What everything here works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Billing {
    pub db: Db,
    pub stripe: Stripe,
    pub config: config::Stripe,
    /// The latest of Stripe's test clocks, in seconds since 1970.
    test_clock: Arc<AtomicI64>,
}

impl Billing {
    /// For this account of Stripe's; nothing is asked yet.
    pub fn open(db: Db, config: config::Stripe) -> Result<Self> {
        Ok(Self { db, stripe: Stripe::open(&config)?, config, test_clock: Arc::default() })
    }

    /// The moment that billing goes by, see [`events::clock`]; not earlier than Stripe's test clocks
    /// when they were last read.
    pub async fn now(&self) -> Result<DateTime<Utc>> {
        let tx = self.db.system().await?;
        let now = events::clock(&tx).await?;
        let moved = moment(self.test_clock.load(Ordering::Relaxed))?;
        Ok(now.max(moved))
    }

    /// Reads Stripe's test clocks, by which time may be moved on when no real money is at stake
    /// (docs.stripe.com/billing/testing/test-clocks).
    pub(crate) async fn read_clock(&self) {
        let key = self.config.secret_key.expose_secret();
        if !["sk_test_", "rk_test_"].iter().any(|test| key.starts_with(test)) {
            return;
        }
        let params = json!({ "limit": 100 });
        let clocks: Answer<List<TestClock>> =
            self.stripe.query("/test_helpers/test_clocks", &params).await;
        match clocks {
            Ok(clocks) => {
                let latest = clocks.data.iter().map(|clock| clock.frozen_time).max();
                self.test_clock.store(latest.unwrap_or(0), Ordering::Relaxed);
            }
            Err(failure) => tracing::debug!(%failure, "stripe.no_test_clocks"),
        }
    }
}
