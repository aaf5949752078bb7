//! What letters say, and where their links lead. Plain text: nothing in a letter is anybody's input
//! but names, which stand on lines of their own.

use entities::Result;
use entities::ids::LinkId;
use entities::mail::Letter;
use entities::secrets::{Purpose, SecretKeys};

/// A letter as it is sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    pub subject: String,
    pub body: String,
}

/// Writes a letter out. `dashboard` is where links lead; their secret part stands behind `#`, which
/// browsers send to no server.
#[expect(clippy::too_many_lines, reason = "it is the text of the letters")]
pub fn write(letter: &Letter, keys: &SecretKeys, dashboard: &str) -> Result<Text> {
    let dashboard = dashboard.trim_end_matches('/');
    let link = |page: &str, id: LinkId| -> Result<String> {
        Ok(format!("{dashboard}/{page}#token={}", keys.issue(Purpose::Link, id.0)?))
    };
    let (subject, body) = match letter {
        Letter::VerifyEmail { link: id } => (
            "Confirm your address".to_owned(),
            format!(
                "Somebody, probably you, has registered with this address.\n\n\
                 Open this link within two days to confirm it:\n\n  {}\n\n\
                 If it was not you, do nothing: without the link nothing happens.\n",
                link("verify-email", *id)?
            ),
        ),
        Letter::AccountExists => (
            "You have a login already".to_owned(),
            format!(
                "Somebody, probably you, wanted to use this address for a new login. There is one \
                 already.\n\nLog in at {dashboard}/login, or set a new password at \
                 {dashboard}/forgot-password.\n\nIf it was not you, do nothing.\n"
            ),
        ),
        Letter::ResetPassword { link: id } => (
            "Set a new password".to_owned(),
            format!(
                "Open this link within an hour to set a new password:\n\n  {}\n\n\
                 If you have not asked for it, do nothing: your password stays as it is.\n",
                link("reset-password", *id)?
            ),
        ),
        Letter::PasswordChanged => (
            "Your password was changed".to_owned(),
            format!(
                "Your password was changed, and all your logins have ended.\n\n\
                 If it was not you, set a new one at once: {dashboard}/forgot-password\n"
            ),
        ),
        Letter::ChangeEmail { link: id } => (
            "Confirm your new address".to_owned(),
            format!(
                "Open this link within an hour to log in with this address from then on:\n\n  {}\n\n\
                 If you have not asked for it, do nothing.\n",
                link("confirm-email", *id)?
            ),
        ),
        Letter::EmailChanged { to } => (
            "Your address was changed".to_owned(),
            format!(
                "Your login has another address now:\n\n  {to}\n\n\
                 If it was not you, tell your provider at once.\n"
            ),
        ),
        Letter::Invitation { link: id, tenant, role } => (
            "You are invited".to_owned(),
            format!(
                "You are invited to join, as {role}:\n\n  {tenant}\n\n\
                 Open this link within seven days to accept:\n\n  {}\n\n\
                 If you do not know them, do nothing.\n",
                link("accept-invitation", *id)?
            ),
        ),
        Letter::AccountLocked => (
            "Your login is locked for a while".to_owned(),
            format!(
                "There were too many wrong passwords for your login. It opens again by itself after \
                 a while; devices that you have used before are not affected.\n\n\
                 A new password opens it at once: {dashboard}/forgot-password\n"
            ),
        ),
        Letter::PaymentMissing { order, page, suspends_at } => (
            format!("A payment is missing for {order}"),
            format!(
                "We could not collect the payment for {order}.\n\n\
                 Pay here:\n\n  {}\n\n\
                 What you bought runs on until {}. If the payment comes by then, there is nothing \
                 else to do.\n",
                page.clone().unwrap_or_else(|| format!("{dashboard}/billing")),
                suspends_at.format("%-d %B %Y")
            ),
        ),
        Letter::OrderSuspended { order, reason } => (
            format!("{order} is suspended"),
            format!(
                "What you bought with {order} does not run any more:\n\n  {reason}\n\n\
                 See {dashboard}/billing for what you can do.\n"
            ),
        ),
        Letter::OrderResumed { order } => (
            format!("{order} runs again"),
            format!("What you bought with {order} runs again. There is nothing for you to do.\n"),
        ),
        Letter::OrderEnded { order, reason } => (
            format!("{order} has ended"),
            format!(
                "What you bought with {order} is removed:\n\n  {reason}\n\n\
                 A last backup is kept for a while; ask us if you need it.\n"
            ),
        ),
        Letter::OrderNotMade { order, all } => (
            format!("{order} could not be made"),
            format!(
                "{} of {order} could not be made. What you paid for it goes back to where it \
                 came from; that may take some days. We are sorry.\n",
                if *all { "Nothing" } else { "Something" }
            ),
        ),
        Letter::MfaChanged { enabled } => (
            format!("Your second factor is {}", if *enabled { "in use" } else { "switched off" }),
            format!(
                "Your login {} a code of your authenticator app from now on.\n\n\
                 If it was not you, set a new password at once: {dashboard}/forgot-password\n",
                if *enabled { "asks for" } else { "does not ask for" }
            ),
        ),
    };
    Ok(Text { subject, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use entities::tenancy::Role;
    use secrecy::SecretString;

    #[test]
    fn links_are_whole_and_open_with_the_key() {
        let keys = "k:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let keys = SecretKeys::parse(&SecretString::from(keys)).unwrap();
        let id = LinkId::new();
        let letter = Letter::Invitation { link: id, tenant: "Roe".into(), role: Role::Admin };
        let text = write(&letter, &keys, "https://panel.example/").unwrap();
        let line = text.body.lines().find_map(|l| l.trim().strip_prefix("https://")).unwrap();
        let (page, token) = line.split_once("#token=").unwrap();
        assert_eq!(page, "panel.example/accept-invitation");
        assert_eq!(keys.recognise(Purpose::Link, token), Some((id.0, 0)));
    }
}
