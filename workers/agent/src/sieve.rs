//! Filters and automatic answers as one Sieve script a mailbox (RFC 5228, RFC 5230).

use crate::error::{Error, Result};
use chrono::DateTime;
use cpanel::plan::{FilterAction, FilterPart, FilterRelation, FilterRule, FilterTest, Resource};
use std::fmt::Write;

/// What a script may use; each is there in Dovecot's Pigeonhole as enrolment sets it up.
const REQUIRE: &str = "require [\"body\", \"comparator-i;ascii-numeric\", \"copy\", \"date\", \
                       \"envelope\", \"fileinto\", \"mailbox\", \"regex\", \"reject\", \
                       \"relational\", \"vacation\", \"vacation-seconds\", \"variables\"];\n";

/// The script of a mailbox: it answers first, whatever the rules do then.
pub fn script(vacation: Option<&Resource>, rules: &[FilterRule]) -> Result<String> {
    let mut text = REQUIRE.to_owned();
    // Stands for the sign that begins a variable, where a text has it.
    text.push_str("set \"dollar\" \"$\";\n");
    let mut keeps = true;
    if let Some(resource) = vacation {
        keeps = answer(&mut text, resource)?;
    }
    for rule in rules {
        self::rule(&mut text, rule)?;
    }
    if !keeps {
        text.push_str("discard;\n");
    }
    Ok(text)
}

/// An answer as the autoresponder gave it, within its dates. Whether the mailbox keeps the message.
fn answer(text: &mut String, resource: &Resource) -> Result<bool> {
    let Resource::Vacation {
        address,
        subject,
        body,
        from_name,
        html,
        interval_hours,
        start_unix,
        stop_unix,
        keep,
    } = resource
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
    // What cPanel's placeholders mean.
    text.push_str(concat!(
        "if header :matches \"subject\" \"*\" { set \"subject\" \"${1}\"; }\n",
        "if address :matches \"from\" \"*\" { set \"email\" \"${1}\"; }\n",
        "if header :matches \"from\" \"*<*>*\" { set \"from\" \"${1}\"; }\n",
        "if string :is \"${from}\" \"\" { set \"from\" \"${email}\"; }\n",
    ));
    let seconds = u64::from(*interval_hours).saturating_mul(3600);
    let mut how = String::new();
    if let Some(name) = from_name {
        let from = format!("{} <{address}>", encoded(name));
        how.push_str(&format!(" :from {}", quoted(&plain(&from))));
    }
    let mut body = with_variables(body);
    if *html {
        how.push_str(" :mime");
        body = format!("Content-Type: text/html; charset=utf-8\n\n{body}");
    }
    let answer = format!(
        "vacation :seconds {seconds} :subject {} :addresses [{}]{how} {};",
        quoted(&with_variables(subject)),
        quoted(address.as_str()),
        quoted(&body)
    );
    match tests.is_empty() {
        true => writeln!(text, "{answer}"),
        false => writeln!(text, "if allof ({}) {{\n  {answer}\n}}", tests.join(", ")),
    }
    .map_err(Error::internal)?;
    Ok(*keep)
}

/// A name in a header: between quotes, or encoded when it has other signs than ASCII's (RFC 2047).
fn encoded(name: &str) -> String {
    if name.is_ascii() {
        return format!("\"{}\"", name.replace(['"', '\\'], ""));
    }
    // An encoded word has at most 75 characters; a sign takes at most twelve.
    let signs: Vec<char> = name.chars().collect();
    let words = signs.chunks(5).map(|chunk| {
        let text: String = chunk.iter().collect();
        let bytes: String = text.bytes().map(|b| format!("={b:02X}")).collect();
        format!("=?utf-8?Q?{bytes}?=")
    });
    words.collect::<Vec<_>>().join(" ")
}

/// cPanel's placeholders as variables; nothing else of the text can become one.
fn with_variables(text: &str) -> String {
    plain(text)
        .replace("%subject%", "${subject}")
        .replace("%from%", "${from}")
        .replace("%email%", "${email}")
}

fn rule(text: &mut String, rule: &FilterRule) -> Result<()> {
    let mut actions = String::new();
    for action in &rule.actions {
        let line = match action {
            FilterAction::File(folder) => format!("fileinto :create {};", quoted(folder)),
            FilterAction::Keep => "keep;".to_owned(),
            FilterAction::Redirect(to) => format!("redirect {};", quoted(to.as_str())),
            FilterAction::Discard => "discard;".to_owned(),
            FilterAction::Refuse(why) => format!("reject {};", quoted(&plain(why))),
            FilterAction::Stop => "stop;".to_owned(),
        };
        writeln!(actions, "  {line}").map_err(Error::internal)?;
    }
    let alternatives: Vec<String> = rule
        .tests
        .iter()
        .map(|all| {
            let all: Vec<String> = all.iter().map(test).collect();
            format!("allof ({})", all.join(", "))
        })
        .collect();
    let condition = match alternatives.is_empty() {
        true => "true".to_owned(),
        false => format!("anyof ({})", alternatives.join(", ")),
    };
    write!(text, "if {condition} {{\n{actions}}}\n").map_err(Error::internal)
}

fn test(test: &FilterTest) -> String {
    let value = plain(&test.value);
    let (how, value) = match test.relation {
        FilterRelation::Is => (":is", value),
        FilterRelation::Contains => (":contains", value),
        FilterRelation::Begins => (":matches", format!("{}*", without_wildcards(&value))),
        FilterRelation::Ends => (":matches", format!("*{}", without_wildcards(&value))),
        FilterRelation::Matches => (":regex", value),
        FilterRelation::Above => (":value \"gt\" :comparator \"i;ascii-numeric\"", value),
        FilterRelation::Below => (":value \"lt\" :comparator \"i;ascii-numeric\"", value),
    };
    let not = if test.negated { "not " } else { "" };
    let value = quoted(&value);
    match &test.part {
        FilterPart::Body => format!("{not}body :text {how} {value}"),
        FilterPart::Headers(names) => {
            let names: Vec<String> = names.iter().map(|n| quoted(n)).collect();
            format!("{not}header {how} [{}] {value}", names.join(", "))
        }
    }
}

/// Without anything that could become a variable.
fn plain(text: &str) -> String {
    text.replace("${", "${dollar}{")
}

fn without_wildcards(text: &str) -> String {
    text.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?")
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
            body: "Back\\\nsoon, %from%: ${env.x} %subject%".to_owned(),
            from_name: None,
            html: false,
            interval_hours: 8,
            start_unix: Some(1_700_000_000),
            stop_unix: None,
            keep: false,
        };
        let script = script(Some(&resource), &[]).unwrap();
        assert!(script.contains(r#":subject "Away \"; redirect \"evil@x.example""#), "{script}");
        assert!(
            script.contains("\"Back\\\\\r\nsoon, ${from}: ${dollar}{env.x} ${subject}\""),
            "{script}"
        );
        assert!(script.contains("2023-11-14T22:13:20+00:00"), "{script}");
        assert!(script.contains(":seconds 28800 ") && script.ends_with("discard;\n"), "{script}");
    }

    #[test]
    fn an_answer_in_html_under_a_name() {
        let answer = |name: &str| {
            let resource = Resource::Vacation {
                address: "a@x.example".parse().unwrap(),
                subject: "Away".to_owned(),
                body: "<b>Hello %from%</b>".to_owned(),
                from_name: Some(name.to_owned()),
                html: true,
                interval_hours: 0,
                start_unix: None,
                stop_unix: None,
                keep: true,
            };
            script(Some(&resource), &[]).unwrap()
        };
        let script = answer("The \"Shop\" ${env.x}");
        let from = r#":from "\"The Shop ${dollar}{env.x}\" <a@x.example>" :mime"#;
        assert!(script.contains(from), "{script}");
        let body = "\"Content-Type: text/html; charset=utf-8\r\n\r\n<b>Hello ${from}</b>\"";
        assert!(script.contains(body), "{script}");
        assert!(answer("Café").contains(r#":from "=?utf-8?Q?=43=61=66=C3=A9?= <a@x.example>""#));
    }

    #[test]
    fn rules_become_tests_and_actions() {
        let test = |relation, value: &str, negated| FilterTest {
            part: FilterPart::Headers(vec!["subject".into()]),
            relation,
            value: value.into(),
            negated,
        };
        let rules = [FilterRule {
            name: "x".into(),
            tests: vec![
                vec![test(FilterRelation::Begins, "a*\"", false)],
                vec![
                    test(FilterRelation::Above, "5", true),
                    test(FilterRelation::Contains, "${x}", false),
                ],
            ],
            actions: vec![FilterAction::File("A.B".into()), FilterAction::Stop],
        }];
        let script = script(None, &rules).unwrap();
        let wanted = r#"if anyof (allof (header :matches ["subject"] "a\\*\"*"), allof (not header :value "gt" :comparator "i;ascii-numeric" ["subject"] "5", header :contains ["subject"] "${dollar}{x}")) {
  fileinto :create "A.B";
  stop;
}
"#;
        assert!(script.ends_with(wanted), "{script}");
    }
}
