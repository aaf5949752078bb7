//! The pages that people see: checkout, authentication, portal, invoice. Plain HTML, one form each.

use serde_json::Value;

use crate::error::Answer;
use crate::params::Params;
use crate::value::Fields;
use crate::world::World;
use crate::{paying, payments, portal};

/// What a page's request leads to.
pub enum Shown {
    /// A page.
    Html(String),
    /// Another address.
    Redirect(String),
}

/// Shows a page, or does what its form says.
pub fn serve(world: &mut World, posts: bool, path: &[&str], params: &Params) -> Option<Shown> {
    let answer = match path {
        ["c", "pay", id] => checkout(world, posts, id, params),
        ["authenticate", id] => authenticate(world, posts, id, params),
        ["p", "session", id] => customer_portal(world, posts, id, params),
        ["i", id, ..] => {
            world.get("invoice", id, "id").map(|invoice| Shown::Html(invoice_page(&invoice)))
        }
        _ => return None,
    };
    Some(answer.unwrap_or_else(|error| {
        let message = error.body().text("error.message").to_owned();
        Shown::Html(page(
            "This did not work",
            &format!("<p>{}</p><p><a href=''>Try again</a></p>", escape(&message)),
        ))
    }))
}

fn checkout(world: &mut World, posts: bool, id: &str, params: &Params) -> Answer<Shown> {
    let session = if posts {
        paying::act(world, id, params)?
    } else {
        world.get("checkout.session", id, "id")?
    };
    if session.text("status") == "complete" {
        return Ok(Shown::Redirect(
            session.text("success_url").replace("{CHECKOUT_SESSION_ID}", id),
        ));
    }
    if session.text("status") != "open" {
        return Ok(Shown::Html(page("Checkout", "<p>This checkout has expired.</p>")));
    }
    if session.some_text("_authenticating").is_some() {
        let buttons = [
            ("authenticated", "Complete authentication"),
            ("authentication_failed", "Fail authentication"),
        ];
        return Ok(Shown::Html(page(
            "Your bank asks whether it is you",
            &form(&button_row(&buttons)),
        )));
    }
    let rows: String = session
        .parts("_line_items")
        .iter()
        .map(|item| {
            format!(
                "<tr><td>{} × {}</td><td>{}</td></tr>",
                item.int("quantity"),
                escape(item.text("description")),
                money(item.int("amount_total"), session.text("currency"))
            )
        })
        .collect();
    let mut fields = String::from(
        "<label>Card <select name=payment_method><option>pm_card_visa<option>pm_card_chargeCustomerFail<option>pm_card_authenticationRequired<option>pm_card_chargeDeclinedInsufficientFunds</select></label>",
    );
    if session.at("customer").is_null() {
        fields.push_str("<label>E-mail <input name=email></label>");
    }
    fields.push_str("<label>Country <input name=country size=2></label>");
    if session.flag("tax_id_collection.enabled") {
        fields.push_str("<label>VAT id <input name=tax_id></label>");
    }
    if session.flag("allow_promotion_codes") {
        fields.push_str("<label>Promotion code <input name=promotion_code></label>");
    }
    let buttons = [
        ("pay", "Pay"),
        ("pay_with_authentication", "Pay with authentication"),
        ("decline", "Decline"),
        ("later_succeeds", "Pay later, succeeds"),
        ("later_fails", "Pay later, fails"),
    ];
    let back = session
        .some_text("cancel_url")
        .map(|url| format!("<p><a href='{}'>Back</a></p>", escape(&url)));
    let total = money(session.int("amount_total"), session.text("currency"));
    let body = format!(
        "<table>{rows}<tr><th>Total</th><th>{total}</th></tr></table>{}{}",
        form(&format!("{fields}{}", button_row(&buttons))),
        back.unwrap_or_default()
    );
    Ok(Shown::Html(page("Checkout", &body)))
}

fn authenticate(world: &mut World, posts: bool, id: &str, params: &Params) -> Answer<Shown> {
    if !posts {
        world.get("payment_intent", id, "id")?;
        let buttons = [
            ("authenticated", "Complete authentication"),
            ("authentication_failed", "Fail authentication"),
        ];
        return Ok(Shown::Html(page(
            "Your bank asks whether it is you",
            &form(&button_row(&buttons)),
        )));
    }
    let intent =
        payments::authenticated(world, id, params.text("action") == Some("authenticated"))?;
    Ok(match intent.some_text("_return_url") {
        Some(url) => Shown::Redirect(format!(
            "{url}{}payment_intent={id}",
            if url.contains('?') { '&' } else { '?' }
        )),
        None => Shown::Html(page(
            "Thank you",
            &format!("<p>The payment is {}.</p>", escape(intent.text("status"))),
        )),
    })
}

fn customer_portal(world: &mut World, posts: bool, id: &str, params: &Params) -> Answer<Shown> {
    if posts {
        portal::act(world, id, params)?;
    }
    let (session, subscriptions) = portal::view(world, id)?;
    let one = |subscription: &Value| {
        let ends = subscription.flag("cancel_at_period_end");
        let buttons = if ends {
            [("keep", "Keep it")]
        } else {
            [("cancel", "Cancel at the end of the period")]
        };
        let hidden =
            format!("<input type=hidden name=subscription value='{}'>", subscription.text("id"));
        format!(
            "<p>{} is {}</p>{}",
            subscription.text("id"),
            escape(subscription.text("status")),
            form(&format!("{hidden}{}", button_row(&buttons)))
        )
    };
    let mut body: String = subscriptions.iter().map(one).collect();
    body.push_str(&form(&format!("<label>New card <select name=payment_method><option>pm_card_visa<option>pm_card_mastercard<option>pm_card_chargeCustomerFail</select></label>{}", button_row(&[("card", "Use this card")]))));
    if let Some(url) = session.some_text("return_url") {
        body.push_str(&format!("<p><a href='{}'>Back</a></p>", escape(&url)));
    }
    Ok(Shown::Html(page("Your subscriptions", &body)))
}

fn invoice_page(invoice: &Value) -> String {
    let rows: String = invoice
        .parts("lines.data")
        .iter()
        .map(|line| {
            format!(
                "<tr><td>{}</td><td>{}</td></tr>",
                escape(line.text("description")),
                money(line.int("amount"), line.text("currency"))
            )
        })
        .collect();
    let total = money(invoice.int("total"), invoice.text("currency"));
    page(
        &format!("Invoice {}", escape(invoice.text("number"))),
        &format!(
            "<p>{}</p><table>{rows}<tr><th>Total</th><th>{total}</th></tr></table>",
            escape(invoice.text("status"))
        ),
    )
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><meta charset=utf-8><title>{title} – sandbox</title><style>body{{font:16px sans-serif;max-width:32em;margin:3em auto}}label{{display:block;margin:.5em 0}}button{{margin:.2em}}td,th{{padding:.3em 1em .3em 0;text-align:left}}</style><p><small>This is a stand-in for Stripe. No money moves.</small></p><h1>{title}</h1>{body}"
    )
}

fn form(inner: &str) -> String {
    format!("<form method=post>{inner}</form>")
}

fn button_row(buttons: &[(&str, &str)]) -> String {
    buttons
        .iter()
        .map(|(action, label)| format!("<button name=action value={action}>{label}</button>"))
        .collect()
}

fn money(amount: i64, currency: &str) -> String {
    let sign = if amount < 0 { "−" } else { "" };
    format!(
        "{sign}{}.{:02} {}",
        amount.abs() / 100,
        amount.abs() % 100,
        escape(&currency.to_uppercase())
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
