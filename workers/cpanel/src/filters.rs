//! Mail filters: cPanel's rules, from its own YAML or from the Exim filters that it makes of them.

use crate::plan::{FilterAction, FilterPart, FilterRelation, FilterRule, FilterTest};
use crate::yaml::{self, Node};
use crate::{filter_text, member};
use values::MailAddress;

/// A rule that is not taken over, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    pub name: String,
    pub why: String,
}

/// Rules of one mailbox or domain are not more than this.
pub(crate) const RULES_MAX: usize = 500;

/// What was read of the rules of a mailbox or domain.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub rules: Vec<Result<FilterRule, Lost>>,
    /// Why all of them are lost.
    pub unread: Option<String>,
    /// How many there are beyond the most that are taken over.
    pub beyond: usize,
}

/// Reads the rules of a mailbox: from `filter.yaml`, which is the form that they were made in, else
/// from the Exim filter beside it.
pub(crate) fn parse(yaml: Option<&str>, text: Option<&str>) -> Found {
    let structured = yaml.map(yaml::parse);
    let rules = structured.as_ref().and_then(|node| node.as_ref().ok()?.get("filter"));
    let mut found = Found::default();
    match (rules, text, structured.as_ref()) {
        (Some(Node::List(rules)), ..) => {
            found.rules = rules.iter().filter(|r| is_enabled(r)).map(rule).collect();
        }
        (_, Some(text), _) => found.rules = filter_text::parse(text),
        (_, None, Some(Err(why))) => found.unread = Some(why.to_string()),
        // A file that was made for a mailbox without rules.
        (_, None, _) => {}
    }
    found.beyond = found.rules.len().saturating_sub(RULES_MAX);
    found.rules.truncate(RULES_MAX);
    found
}

fn is_enabled(rule: &Node) -> bool {
    rule.text("enabled") != Some("0")
}

fn rule(node: &Node) -> Result<FilterRule, Lost> {
    let name = node.text("filtername").unwrap_or("without a name");
    let name = member::shown(name.as_bytes());
    let lost = |why: String| Lost { name: name.clone(), why };
    let list = |key: &str| match node.get(key) {
        Some(Node::List(items)) => items.as_slice(),
        _ => &[],
    };
    // Exim's `and` binds stronger than its `or`; a rule's `opt` stands before the next one.
    let mut tests: Vec<Vec<FilterTest>> = Vec::new();
    let mut joined_by = "or";
    for rule in list("rules") {
        let text = |key: &str| rule.text(key).unwrap_or_default();
        let found = test(text("part"), text("match"), text("val")).map_err(lost)?;
        match tests.last_mut() {
            Some(all) if joined_by == "and" => all.push(found),
            _ => tests.push(vec![found]),
        }
        joined_by = if text("opt") == "and" { "and" } else { "or" };
    }
    if tests.is_empty() {
        return Err(lost("it has no conditions".to_owned()));
    }
    let mut actions = Vec::new();
    for action in list("actions") {
        let to = action.text("dest").unwrap_or_default();
        actions.push(match action.text("action").unwrap_or_default() {
            "save" => action_save(to).map_err(lost)?,
            "deliver" => action_deliver(to).map_err(lost)?,
            "fail" => action_fail(to),
            "finish" => FilterAction::Stop,
            "pipe" => return Err(lost("programs that read mail are not run here".to_owned())),
            other => {
                return Err(lost(format!("{} is not translated", member::shown(other.as_bytes()))));
            }
        });
    }
    if actions.is_empty() {
        return Err(lost("it does nothing".to_owned()));
    }
    Ok(FilterRule { name, tests, actions })
}

/// A test from its three parts as cPanel and Exim write them.
pub(crate) fn test(part: &str, relation: &str, value: &str) -> Result<FilterTest, String> {
    let part = self::part(part.trim())?;
    let (relation, negated) = match relation.trim() {
        "is" => (FilterRelation::Is, false),
        "is not" => (FilterRelation::Is, true),
        "contains" | "contain" => (FilterRelation::Contains, false),
        "does not contain" => (FilterRelation::Contains, true),
        "begins" => (FilterRelation::Begins, false),
        "does not begin" => (FilterRelation::Begins, true),
        "ends" => (FilterRelation::Ends, false),
        "does not end" => (FilterRelation::Ends, true),
        "matches" => (FilterRelation::Matches, false),
        "does not match" => (FilterRelation::Matches, true),
        "is above" | "above" => (FilterRelation::Above, false),
        "is not above" => (FilterRelation::Above, true),
        "is below" | "below" => (FilterRelation::Below, false),
        "is not below" => (FilterRelation::Below, true),
        other => {
            return Err(format!("it compares by {:?}", member::shown(other.as_bytes())));
        }
    };
    let mut value = value.to_owned();
    if value.len() > 2000 || value.chars().any(|c| c.is_control() && c != '\t') {
        return Err("a text in it has characters that are not allowed".to_owned());
    }
    if value.contains("${") || value.starts_with('$') {
        return Err("a text in it is a variable of Exim's".to_owned());
    }
    match relation {
        FilterRelation::Matches => value = portable(&value)?,
        FilterRelation::Above | FilterRelation::Below => {
            // Sieve compares whole numbers only.
            let whole = value.trim().split('.').next().unwrap_or_default();
            if whole.is_empty() || !whole.bytes().all(|b| b.is_ascii_digit()) {
                return Err("it compares with something that is no number".to_owned());
            }
            value = whole.to_owned();
        }
        _ => {}
    }
    Ok(FilterTest { part, relation, value, negated })
}

fn part(text: &str) -> Result<FilterPart, String> {
    if text == "$message_body" {
        return Ok(FilterPart::Body);
    }
    let unknown = || format!("it looks at {}", member::shown(text.as_bytes()));
    let list = text.strip_prefix("foranyaddress").unwrap_or(text);
    let mut headers = Vec::new();
    for name in list.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        let name = name.strip_prefix("$header_").or_else(|| name.strip_prefix("$h_"));
        let name = name.and_then(|n| n.strip_suffix(':')).ok_or_else(unknown)?;
        let clean = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 100 || !name.bytes().all(clean) {
            return Err(unknown());
        }
        headers.push(name.to_ascii_lowercase());
    }
    if headers.is_empty() { Err(unknown()) } else { Ok(FilterPart::Headers(headers)) }
}

/// A Perl expression as POSIX knows it (IEEE 1003.1, 9.4), which is what Sieve has.
fn portable(pattern: &str) -> Result<String, String> {
    let refused = || "its regular expression has parts that only Perl knows".to_owned();
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next().ok_or_else(refused)? {
                'd' => out.push_str("[0-9]"),
                'w' => out.push_str("[A-Za-z0-9_]"),
                's' => out.push_str("[[:space:]]"),
                c if c.is_ascii_alphanumeric() => return Err(refused()),
                c => out.extend(['\\', c]),
            },
            '?' if matches!(before, '(' | '*' | '+' | '?' | '}') => return Err(refused()),
            '+' if matches!(before, '*' | '+' | '?') => return Err(refused()),
            c => out.push(c),
        }
        before = c;
    }
    Ok(out)
}

/// `$home/mail/DOMAIN/LOCAL/.Folder`, or `/dev/null`.
pub(crate) fn action_save(to: &str) -> Result<FilterAction, String> {
    if to == "/dev/null" {
        return Ok(FilterAction::Discard);
    }
    let refused = || "it saves to a place that is no folder of the mailbox".to_owned();
    let below = to.strip_prefix("$home/mail/").or_else(|| to.strip_prefix("$home/mail"));
    let below = below.ok_or_else(refused)?.trim_end_matches('/');
    let mut parts: Vec<&str> = below.split('/').filter(|p| !p.is_empty()).collect();
    let folder = match parts.last() {
        Some(last) if last.starts_with('.') => parts.pop().unwrap_or_default(),
        _ => "",
    };
    if !(parts.is_empty() || parts.len() == 2) || parts.contains(&"..") {
        return Err(refused());
    }
    let folder = crate::home::folder_name(folder.trim_start_matches('.'));
    if folder.is_empty() {
        return Ok(FilterAction::Keep);
    }
    // Names beyond ASCII stand on the disk in a form of their own (RFC 3501, 5.1.3).
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_.+()".contains(c);
    if folder.len() > 200 || !folder.chars().all(plain) {
        return Err("its folder has a name that is not translated".to_owned());
    }
    Ok(FilterAction::File(folder.to_owned()))
}

pub(crate) fn action_deliver(to: &str) -> Result<FilterAction, String> {
    MailAddress::parse(to)
        .map(FilterAction::Redirect)
        .map_err(|invalid| format!("it delivers to what is no address: the {invalid}"))
}

pub(crate) fn action_fail(text: &str) -> FilterAction {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(500).collect();
    let clean = clean.trim();
    FilterAction::Refuse(if clean.is_empty() {
        "This mail was refused.".to_owned()
    } else {
        clean.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_and_what_is_beyond_the_most_is_told() {
        let found = parse(Some("filter: [\n"), None);
        assert!(found.rules.is_empty() && found.unread.is_some(), "{found:?}");
        assert_eq!(parse(None, None), Found::default());
        assert_eq!(parse(Some("--- \nversion: '2.2'\n"), None), Found::default());
        let rule = "  - \n    actions: []\n    enabled: 1\n    filtername: x\n    rules: []\n";
        let found = parse(Some(&format!("--- \nfilter: \n{}", rule.repeat(503))), None);
        assert_eq!((found.rules.len(), found.beyond), (500, 3));
    }

    #[test]
    fn the_structured_form() {
        let yaml = "--- \nfilter: \n  - \n    actions: \n      - \n        action: save\n        dest: $home/mail/shop.example/info/.Junk\n    enabled: 1\n    filtername: spam\n    rules: \n      - \n        match: contains\n        opt: and\n        part: '$header_subject:'\n        val: viagra\n      - \n        match: is above\n        opt: or\n        part: '$h_X-Spam-Score:'\n        val: '5.0'\n      - \n        match: matches\n        opt: or\n        part: $message_body\n        val: '\\bcheap\\b'\n  - \n    actions: \n      - \n        action: finish\n    enabled: 0\n    filtername: off\n    rules: []\nversion: '2.2'\n";
        let rules = parse(Some(yaml), Some("if error")).rules;
        assert_eq!(rules.len(), 1);
        assert!(rules[0].as_ref().unwrap_err().why.contains("Perl"));
        let rules = parse(Some(&yaml.replace("\\bcheap\\b", "cheap\\d+")), None).rules;
        let rule = rules[0].as_ref().unwrap();
        assert_eq!(rule.tests.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(rule.tests[0][1].value, "5");
        assert_eq!(rule.tests[1][0].value, "cheap[0-9]+");
        assert_eq!(rule.actions, [FilterAction::File("Junk".into())]);
    }

    #[test]
    fn places_that_are_folders() {
        for (to, wanted) in [
            ("$home/mail/x.example/a", Some(FilterAction::Keep)),
            ("$home/mail/x.example/a/.Sent.Old", Some(FilterAction::File("Sent.Old".into()))),
            ("$home/mail/.Junk/", Some(FilterAction::File("Junk".into()))),
            ("$home/mail/x.example/../.Junk", None),
            ("$home/public_html/.x", None),
            ("/home/other/mail/.x", None),
            ("$home/mail/x.example/a/.B&APw-", None),
        ] {
            assert_eq!(action_save(to).ok(), wanted, "{to}");
        }
    }
}
