//! Billing: what was asked of Stripe and what Stripe told. Nothing here speaks to Stripe; the package
//! `billing` does and writes down what it saw.
//!
//! Stripe delivers news late, twice and in any order. So nobody believes what a message says: it names
//! an object, the object is fetched anew, and the functions here bring our rows to what was seen. They
//! may be called any number of times with the same, and end in the same.
//!
//! [`events`] is the inbox. [`checkouts`] are attempts to pay for an order, [`subscriptions`] what is
//! paid again and again, [`invoices`] and [`payments`] what was billed and paid, [`repayments`] what
//! goes back. [`standing`] derives from all of these whether what was bought is to run.

pub mod checkouts;
pub mod customers;
pub mod events;
pub mod invoices;
pub mod leases;
pub mod payments;
pub mod repayments;
pub mod standing;
pub mod subscriptions;

use crate::Result;
use crate::error::Error;
use chrono::{DateTime, Utc};

/// A moment of Stripe's, in seconds since 1970.
pub fn moment(secs: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp(secs, 0).ok_or_else(|| Error::internal("a time out of all bounds"))
}
