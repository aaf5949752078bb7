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
use entities::Result;
use entities::billing::events;
use entities::config;
use entities::db::Db;

/// What everything here works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Billing {
    pub db: Db,
    pub stripe: Stripe,
    pub config: config::Stripe,
}

impl Billing {
    /// For this account of Stripe's; nothing is asked yet.
    pub fn open(db: Db, config: config::Stripe) -> Result<Self> {
        Ok(Self { db, stripe: Stripe::open(&config)?, config })
    }

    /// The moment that billing goes by, see [`events::clock`].
    pub async fn now(&self) -> Result<DateTime<Utc>> {
        let tx = self.db.system().await?;
        events::clock(&tx).await
    }
}
