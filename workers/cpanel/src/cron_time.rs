//! When a line of a crontab runs, checked by the grammar of the server's cron, so that no line comes
//! over that would make it refuse all of them.

/// A field: its name, its least and greatest number, and names for numbers from the least on.
type Field = (&'static str, u32, u32, &'static [&'static str]);

const FIELDS: [Field; 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of the month", 1, 31, &[]),
    (
        "month",
        1,
        12,
        &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    ),
    ("day of the week", 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// Exactly these; no other case and nothing behind them.
const NICKNAMES: &[&str] =
    &["@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Debian's cron refuses longer commands.
const COMMAND_MAX: usize = 998;

/// Why cron would refuse a job's line; none when it takes it.
pub(crate) fn refusal(line: &str) -> Option<String> {
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Some("it has control characters".to_owned());
    }
    let mut rest = line.trim_start();
    if rest.starts_with('@') {
        let (name, command) = word(rest);
        if !NICKNAMES.contains(&name) {
            return Some(format!("it has no {}", crate::member::shown(name.as_bytes())));
        }
        return command_refusal(command);
    }
    for field in &FIELDS {
        let (text, behind) = word(rest);
        if text.is_empty() {
            return Some(format!("it has no {}", field.0));
        }
        if !text.split(',').all(|element| is_element(element, field)) {
            let shown = crate::member::shown(text.as_bytes());
            return Some(format!("{shown} is no {}", field.0));
        }
        rest = behind;
    }
    command_refusal(rest)
}

fn command_refusal(command: &str) -> Option<String> {
    match command.len() {
        0 => Some("it has no command".to_owned()),
        n if n > COMMAND_MAX => Some(format!("its command is longer than {COMMAND_MAX} bytes")),
        _ => None,
    }
}

/// The first word, and what stands behind it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// `*`, `5`, `1-5`, `jan`, and a step behind all but a single number.
fn is_element(element: &str, field: &Field) -> bool {
    let (range, step) = match element.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (element, None),
    };
    let is_range = match range.split_once(['-', '~']) {
        _ if range == "*" => true,
        Some((from, to)) => {
            if !is_value(from, field) || !is_value(to, field) {
                return false;
            }
            true
        }
        None if is_value(range, field) => false,
        None => return false,
    };
    step.is_none_or(|step| is_range && step.parse::<u32>().is_ok_and(|n| n > 0) && digits(step))
}

fn is_value(text: &str, (_, least, most, names): &Field) -> bool {
    names.iter().any(|name| text.eq_ignore_ascii_case(name))
        || digits(text) && text.parse::<u32>().is_ok_and(|n| (*least..=*most).contains(&n))
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What crontab of Debian 12 said of each.
    #[test]
    fn the_grammar_of_the_servers_cron() {
        for line in [
            "* * * * * x",
            "*/100\t* * * *  x y",
            "0 0 * jan-mar sun-sat x",
            "0 0 * jan,feb mon,TUE x",
            "0 0 * * 7 x",
            "0 0 31 12 5-7 x",
            "1,2,3-5/2 * * * * x",
            "0~59 * * * * x",
            "@daily x",
            "@reboot sleep 5",
        ] {
            assert_eq!(refusal(line), None, "{line}");
        }
        for (line, why) in [
            ("5/15 * * * * x", "5/15 is no minute"),
            ("60 * * * * x", "60 is no minute"),
            ("*/0 * * * * x", "*/0 is no minute"),
            ("1, * * * * x", "1, is no minute"),
            ("-*/5 * * * * x", "-*/5 is no minute"),
            ("?/5 * * * * x", "?/5 is no minute"),
            ("0 24 * * * x", "24 is no hour"),
            ("0 0 0 * * x", "0 is no day of the month"),
            ("0 0 L * * x", "L is no day of the month"),
            ("0 0 * 13 * x", "13 is no month"),
            ("0 0 * January * x", "January is no month"),
            ("0 0 * * 8 x", "8 is no day of the week"),
            ("* * * *", "it has no day of the week"),
            ("* * * * *", "it has no command"),
            ("@daily", "it has no command"),
            ("@Daily x", "it has no @Daily"),
            ("@dailyfoo x", "it has no @dailyfoo"),
            ("@every_minute x", "it has no @every_minute"),
        ] {
            assert_eq!(refusal(line).as_deref(), Some(why), "{line}");
        }
        assert!(refusal(&format!("@daily {}", "x".repeat(1200))).unwrap().contains("longer"));
    }
}
