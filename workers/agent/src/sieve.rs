//! Automatic answers as Sieve (RFC 5228, RFC 5230).

use crate::error::{Error, Result};
use chrono::DateTime;
use cpanel::plan::Resource;

/// The script that answers as the autoresponder did, within its dates.
pub fn vacation(resource: &Resource) -> Result<String> {
    let Resource::Vacation { address, subject, body, interval_hours, start_unix, stop_unix } =
        resource
    else {
        return Err(Error::internal("not an automatic answer"));
    };
    let mut tests = Vec::new();
    for (unix, relation) in [(start_unix, "ge"), (stop_unix, "lt")] {
        if let Some(unix) = unix {
            let time = DateTime::from_timestamp(*unix, 0)
                .ok_or_else(|| Error::internal("an automatic answer outside of all time"))?;
            let time = time.format("%Y-%m-%dT%H:%M:%S+00:00");
            tests.push(format!(
                "currentdate :zone \"+0000\" :value \"{relation}\" \"iso8601\" {}",
                quoted(&time.to_string())
            ));
        }
    }
    // Dovecot's shortest interval is a day unless it is told otherwise; cPanel's are hours.
    let days = interval_hours.div_ceil(24).clamp(1, 30);
    let answer = format!(
        "vacation :days {days} :subject {} :addresses [{}] {};",
        quoted(subject),
        quoted(address.as_str()),
        quoted(body)
    );
    let require = "require [\"vacation\", \"date\", \"relational\"];\n";
    if tests.is_empty() {
        return Ok(format!("{require}{answer}\n"));
    }
    Ok(format!("{require}if allof ({}) {{\n  {answer}\n}}\n", tests.join(", ")))
}

/// A string of Sieve; control characters other than line ends and tabs are left out.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\r\n"),
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_become_commands() {
        let resource = Resource::Vacation {
            address: "a@x.example".parse().unwrap(),
            subject: "Away \"; redirect \"evil@x.example".to_owned(),
            body: "Back\\\nsoon".to_owned(),
            interval_hours: 8,
            start_unix: Some(1_700_000_000),
            stop_unix: None,
        };
        let script = vacation(&resource).unwrap();
        assert!(script.contains(r#":subject "Away \"; redirect \"evil@x.example""#), "{script}");
        assert!(script.contains("\"Back\\\\\r\nsoon\""), "{script}");
        assert!(script.contains("2023-11-14T22:13:20+00:00"), "{script}");
    }
}
