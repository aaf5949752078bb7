//! Command lines as Proxmox' tools read them: Perl's Getopt::Long over an API's schema.

use serde_json::Value;

use crate::error::{Failure, Result, bad_parameter, bad_parameters, failure};
use crate::formats;
use crate::schema::{Properties, flag, names, property, word};

/// The parameters of a call, by name, as text; each has passed its schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that the schema demands.
    pub fn need(&self, name: &str) -> Result<&str> {
        self.get(name)
            .ok_or_else(|| bad_parameter(name, "property is missing and it is not optional"))
    }

    /// A truth value; what is not given is false.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).and_then(formats::boolean).unwrap_or(false)
    }

    /// A whole number, if it is given.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Sets a parameter.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.into()));
    }

    /// Takes a parameter out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// What a command line is made of.
pub struct Line {
    pub parameters: Parameters,
    /// Words after `--`, where the command takes some.
    pub rest: Vec<String>,
}

/// Reads a command line: options by the schema, and the words that stand alone as the `fixed`
/// parameters in their order. With `extra`, further words are kept.
pub fn read(
    words: &[String],
    properties: &Properties,
    fixed: &[&str],
    extra: bool,
) -> Result<Line> {
    let known = names(properties);
    let mut options = Vec::new();
    let mut plain: Vec<String> = Vec::new();
    let mut input = words.iter().peekable();
    while let Some(word) = input.next() {
        if word == "--" {
            plain.extend(input.cloned());
            break;
        }
        let stripped = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        let Some(option) = stripped.filter(|rest| !rest.is_empty()) else {
            plain.push(word.clone());
            continue;
        };
        let (given, attached) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        let name = full_name(&known, given)?;
        let is_boolean =
            property(properties, &name).is_some_and(|p| self::word(p, "type") == "boolean");
        let value = match attached {
            Some(value) => value,
            None if is_boolean => {
                input.next_if(|next| !next.starts_with('-')).cloned().unwrap_or_default()
            }
            None => match input.next() {
                Some(value) => value.clone(),
                None => return Err(unreadable(&format!("Option {given} requires an argument"))),
            },
        };
        options.push((name, value));
    }
    assemble(options, plain, properties, (fixed, extra))
}

/// An option may be cut short as long as it is clear which is meant.
fn full_name(known: &[String], given: &str) -> Result<String> {
    let wanted = given.to_ascii_lowercase();
    if let Some(exact) = known.iter().find(|name| name.eq_ignore_ascii_case(&wanted)) {
        return Ok(exact.clone());
    }
    let fitting: Vec<&String> =
        known.iter().filter(|name| name.to_ascii_lowercase().starts_with(&wanted)).collect();
    match fitting.as_slice() {
        [] => Err(unreadable(&format!("Unknown option: {wanted}"))),
        [only] => Ok((*only).clone()),
        several => {
            let shown: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            Err(unreadable(&format!("Option {wanted} is ambiguous ({})", shown.join(", "))))
        }
    }
}

/// Getopt's own words come first, then Proxmox' sentence.
fn unreadable(words: &str) -> Failure {
    Failure {
        status: 400,
        text: "unable to parse option".to_owned(),
        fields: vec![(String::new(), words.to_owned())],
    }
}

fn assemble(
    options: Vec<(String, String)>,
    plain: Vec<String>,
    properties: &Properties,
    (fixed, extra): (&[&str], bool),
) -> Result<Line> {
    let mut parameters = Parameters::default();
    for (name, value) in options {
        let schema = property(properties, &name).cloned().unwrap_or(Value::Null);
        let joined = match parameters.get(&name) {
            Some(earlier) if is_list(&schema) => format!("{earlier},{value}"),
            _ if word(&schema, "type") == "boolean" && value.is_empty() => "1".to_owned(),
            _ => value,
        };
        parameters.set(&name, joined);
    }
    let needed = fixed
        .iter()
        .filter(|name| property(properties, name).is_none_or(|p| !flag(p, "optional")))
        .count();
    if plain.len() < needed {
        return Err(Failure { status: 400, ..failure("not enough arguments") });
    }
    if plain.len() > fixed.len() && !extra {
        return Err(Failure { status: 400, ..failure("too many arguments") });
    }
    let rest = plain.iter().skip(fixed.len()).cloned().collect();
    for (name, value) in fixed.iter().zip(plain) {
        parameters.set(name, value);
    }
    Ok(Line { parameters, rest })
}

fn is_list(schema: &Value) -> bool {
    word(schema, "format").ends_with("-list") || word(schema, "type") == "array"
}

/// Holds parameters against a call's schema, as its last check before it is made.
pub fn check(parameters: &mut Parameters, properties: &Properties) -> Result<()> {
    let mut wrong = Vec::new();
    for (name, value) in &mut parameters.0 {
        match property(properties, name) {
            None => wrong.push((
                name.clone(),
                "property is not defined in schema and the schema does not allow additional properties".to_owned(),
            )),
            Some(schema) => {
                if let Some(why) = formats::complaint(schema, value, name) {
                    wrong.push((name.clone(), why));
                } else if word(schema, "type") == "boolean" {
                    // As Perl keeps them.
                    *value = u8::from(formats::boolean(value).unwrap_or(false)).to_string();
                }
            }
        }
    }
    for (name, schema) in properties {
        let missing =
            !flag(schema, "optional") && !name.ends_with("[n]") && parameters.get(name).is_none();
        if missing {
            wrong.push((name.clone(), "property is missing and it is not optional".to_owned()));
        }
    }
    wrong.extend(unmet(parameters, properties));
    if wrong.is_empty() { Ok(()) } else { Err(bad_parameters(wrong)) }
}

/// Parameters that are of use only beside another one that is not there.
fn unmet(parameters: &Parameters, properties: &Properties) -> Vec<(String, String)> {
    parameters
        .iter()
        .filter_map(|(name, _)| {
            let wanted = word(property(properties, name)?, "requires");
            (!wanted.is_empty() && parameters.get(wanted).is_none()).then(|| {
                let why = format!("missing property required by '{name}'");
                (wanted.to_owned(), why)
            })
        })
        .collect()
}
