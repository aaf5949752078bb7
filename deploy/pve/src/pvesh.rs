//! `pvesh`: the API by its paths.

use std::process::Stdio;

use serde_json::{Map, json};

use crate::api;
use crate::arguments::{self, Parameters};
use crate::error::{Result, failure};
use crate::node::Node;
use crate::output;
use crate::remote;
use crate::resources;
use crate::schema::{Call, Properties, Schema};

const METHODS: &[(&str, &str)] =
    &[("get", "GET"), ("set", "PUT"), ("create", "POST"), ("delete", "DELETE")];

/// The options that are the program's own.
fn own_options() -> Properties {
    let mut own = Map::new();
    for name in ["noproxy", "quiet", "human-readable", "noborder", "noheader"] {
        own.insert(name.to_owned(), json!({"type": "boolean", "optional": 1}));
    }
    let formats = ["text", "json", "json-pretty", "yaml"];
    own.insert(
        "output-format".to_owned(),
        json!({"type": "string", "optional": 1, "enum": formats}),
    );
    own
}

/// Runs it with these words.
pub fn run(node: &Node, schema: &Schema, words: &[String]) -> Result<i32> {
    let Some((name, rest)) = words.split_first() else {
        return Err(usage("no command specified"));
    };
    if name == "ls" {
        return list(schema, rest);
    }
    if name == "usage" {
        output::line("USAGE: pvesh get|set|create|delete|ls <api_path> [OPTIONS] [FORMAT_OPTIONS]");
        return Ok(0);
    }
    let Some((_, method)) = METHODS.iter().find(|(known, _)| known == name) else {
        return Err(usage(&format!("unknown command 'pvesh {name}'")));
    };
    let Some(at) = rest.iter().position(|word| !word.starts_with('-')) else {
        return Err(failure(format!(
            "400 not enough arguments\npvesh {name} <api_path> [OPTIONS] [FORMAT_OPTIONS]"
        )));
    };
    let mut options = rest.to_vec();
    let path = options.remove(at);
    if path.trim_matches('/') == "cluster/resources/local" {
        output::print(&resources::local(node), "json");
        return Ok(0);
    }
    let call = schema
        .find(method, &path)
        .ok_or_else(|| failure(format!("No '{name}' handler defined for '{path}'")))?;
    make(node, schema, (&call, name, &path), &options, words)
}

fn usage(words: &str) -> crate::error::Failure {
    failure(format!(
        "ERROR: {words}\nUSAGE: pvesh <COMMAND> [ARGS] [OPTIONS]\n       pvesh get|set|create|delete|ls <api_path> [OPTIONS] [FORMAT_OPTIONS]\n       pvesh help [<extra-args>] [OPTIONS]"
    ))
}

fn make(
    node: &Node,
    schema: &Schema,
    (call, name, path): (&Call, &str, &str),
    options: &[String],
    words: &[String],
) -> Result<i32> {
    let mut known = own_options();
    let properties = schema.properties(&call.key).cloned().unwrap_or_default();
    known.extend(properties);
    for (place, _) in &call.places {
        known.remove(place);
    }
    let mut parameters = arguments::read(options, &known, &[], false)
        .map_err(|why| with_usage(why, &format!("pvesh {name} {path} [OPTIONS] [FORMAT_OPTIONS]")))?
        .parameters;
    let format = parameters.take("output-format").unwrap_or_else(|| "text".to_owned());
    let quiet = parameters.take("quiet").is_some();
    let here = parameters.take("noproxy").is_some();
    for own in own_options().keys() {
        parameters.take(own);
    }
    for (place, value) in &call.places {
        parameters.set(place, value.clone());
    }
    if let Some(status) = pass_on(node, &parameters, here, words)? {
        return Ok(status);
    }
    let answer = api::call(node, schema, &call.key, parameters)?;
    if !quiet {
        output::print(&answer, &format);
    }
    Ok(0)
}

/// The usage comes after what is wrong.
pub fn with_usage(mut why: crate::error::Failure, usage: &str) -> crate::error::Failure {
    let first: Vec<String> = why.fields.iter().map(|(_, words)| format!("{words}\n")).collect();
    why.text = format!("{}{} {}\n{usage}", first.concat(), why.status, why.text);
    why.status = 500;
    why.fields.clear();
    why
}

/// A call about another node of the cluster is made there.
fn pass_on(
    node: &Node,
    parameters: &Parameters,
    here: bool,
    words: &[String],
) -> Result<Option<i32>> {
    let Some(name) =
        parameters.get("node").filter(|name| *name != node.name && *name != "localhost" && !here)
    else {
        return Ok(None);
    };
    let Ok(member) = node.member(name) else { return Ok(None) };
    let line: Vec<String> = ["pvesh".to_owned()]
        .iter()
        .chain(words)
        .chain(&["--noproxy".to_owned()])
        .map(|word| remote::quoted(word))
        .collect();
    let status = remote::ssh(&member).arg(line.join(" ")).stdin(Stdio::null()).status()?;
    Ok(Some(status.code().unwrap_or(255)))
}

fn list(schema: &Schema, words: &[String]) -> Result<i32> {
    let path = words.iter().find(|word| !word.starts_with('-')).map_or("/", String::as_str);
    for name in schema.below(path) {
        let inner = format!("{}/{name}", path.trim_end_matches('/'));
        let mark = |method: &str, letter: &'static str| {
            if schema.find(method, &inner).is_some() { letter } else { "-" }
        };
        let below = if schema.below(&inner).is_empty() { "-" } else { "D" };
        output::line(&format!(
            "{below}r{}{}{}        {name}",
            mark("PUT", "w"),
            mark("POST", "c"),
            mark("DELETE", "d")
        ));
    }
    Ok(0)
}
