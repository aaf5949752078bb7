//! Whether what was bought is to run: derived from what is known of the payments, whatever came first,
//! so that it comes back by itself when the reason goes.

use crate::billing::subscriptions::Status;
use crate::tables::{dispute, payment, subscription};
use chrono::{DateTime, TimeDelta, Utc};

/// How patient we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Reminders, by days since money is missing.
    pub letters: Vec<u32>,
    /// Days since money is missing after which what was bought is suspended.
    pub grace_days: u32,
    /// Days after which what was ended, and kept until then, is terminated.
    pub retention_days: u32,
}

impl Rules {
    /// When a subscription is suspended that money is missing for since then.
    #[must_use]
    pub fn suspends_at(&self, since: DateTime<Utc>) -> DateTime<Utc> {
        since + TimeDelta::days(i64::from(self.grace_days))
    }

    /// Until when what was ended then is kept.
    #[must_use]
    pub fn kept_until(&self, ended: DateTime<Utc>) -> DateTime<Utc> {
        ended + TimeDelta::days(i64::from(self.retention_days))
    }

    /// How many reminders are to have been written by now.
    #[must_use]
    pub fn letters_by(&self, since: DateTime<Utc>, now: DateTime<Utc>) -> usize {
        let due = |days: &&u32| since + TimeDelta::days(i64::from(**days)) <= now;
        self.letters.iter().filter(due).count()
    }
}

/// Whether what was bought is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Runs,
    /// Nothing is deleted; the sentence is for the customer.
    Suspended(String),
    /// It is over for good, and was kept long enough.
    Ended(String),
}

/// Derives it. The payments and disputes are those of one order, oldest first.
#[must_use]
pub fn standing(
    subscription: Option<&subscription::Model>,
    payments: &[payment::Model],
    disputes: &[dispute::Model],
    rules: &Rules,
    now: DateTime<Utc>,
) -> Standing {
    let over = subscription.filter(|row| row.status.is_over());
    if let Some(row) = over {
        let ended = row.ended_at.unwrap_or(row.updated_at);
        return kept(ended, "The subscription has ended.", rules, now);
    }
    let lost = disputes.iter().rev().find(|row| row.status == "lost");
    if let Some(row) = lost {
        let closed = row.closed_at.unwrap_or(row.created_at);
        return kept(closed, "The bank took the payment back.", rules, now);
    }
    let disputed = |row: &dispute::Model| {
        matches!(row.status.as_str(), "needs_response" | "under_review")
    };
    if disputes.iter().any(disputed) {
        let text = "The bank has asked for the payment back. It goes on when that is settled.";
        return Standing::Suspended(text.to_owned());
    }
    let newest = payments.iter().rev().find(|row| row.amount > 0);
    if newest.is_some_and(|row| row.refunded >= row.amount) {
        return Standing::Suspended("The payment was given back.".to_owned());
    }
    let Some(row) = subscription else { return Standing::Runs };
    match row.status {
        Status::Paused => Standing::Suspended("The subscription is paused.".to_owned()),
        Status::Unpaid => Standing::Suspended(
            "The payment is missing. Pay the open invoice, and it goes on by itself.".to_owned(),
        ),
        Status::PastDue => {
            let since = row.past_due_at.unwrap_or(row.updated_at);
            if now < rules.suspends_at(since) {
                return Standing::Runs;
            }
            let text = "The payment has been missing for too long. Pay the open invoice, and it goes on by itself.";
            Standing::Suspended(text.to_owned())
        }
        _ => Standing::Runs,
    }
}

fn kept(ended: DateTime<Utc>, why: &str, rules: &Rules, now: DateTime<Utc>) -> Standing {
    let until = rules.kept_until(ended);
    if now >= until {
        return Standing::Ended(why.to_owned());
    }
    let day = until.format("%-d %B %Y");
    Standing::Suspended(format!("{why} Nothing is deleted before {day}."))
}

/// Whether all money that came for an order went back.
#[must_use]
pub fn is_refunded(payments: &[payment::Model]) -> bool {
    let mut paid = payments.iter().filter(|row| row.amount > 0).peekable();
    paid.peek().is_some() && paid.all(|row| row.refunded >= row.amount)
}
