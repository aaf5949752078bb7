//! `pveam`: the templates that containers are made from.

use serde_json::{Map, Value, json};

use crate::arguments::{self, Parameters};
use crate::contents;
use crate::error::{Result, failure};
use crate::node::Node;
use crate::output::line;
use crate::pvesh::with_usage;
use crate::storage;
use crate::templates;

/// Runs it with these words.
pub fn run(node: &Node, words: &[String]) -> Result<i32> {
    let Some((name, rest)) = words.split_first() else {
        return Err(failure(
            "ERROR: no command specified\nUSAGE: pveam <COMMAND> [ARGS] [OPTIONS]",
        ));
    };
    let fixed: &[&str] = match name.as_str() {
        "update" => &[],
        "available" => &[],
        "list" => &["storage"],
        "download" => &["storage", "template"],
        "remove" => &["template_path"],
        _ => {
            return Err(failure(format!(
                "ERROR: unknown command 'pveam {name}'\nUSAGE: pveam <COMMAND> [ARGS] [OPTIONS]"
            )));
        }
    };
    let mut properties = Map::new();
    for place in fixed {
        properties.insert((*place).to_owned(), json!({"type": "string"}));
    }
    if name == "available" {
        let sections = ["system", "mail", "turnkeylinux"];
        properties.insert(
            "section".to_owned(),
            json!({"type": "string", "optional": 1, "enum": sections}),
        );
    }
    let usage = format!(
        "pveam {name}{} [OPTIONS]",
        fixed.iter().map(|place| format!(" <{place}>")).collect::<String>()
    );
    let mut parameters = arguments::read(rest, &properties, fixed, false)
        .map_err(|why| with_usage(why, &usage))?
        .parameters;
    arguments::check(&mut parameters, &properties)?;
    match name.as_str() {
        "update" => line("update successful"),
        "available" => available(&parameters),
        "list" => list(&parameters)?,
        "download" => download(node, &parameters)?,
        _ => remove(&parameters)?,
    }
    Ok(0)
}

fn available(parameters: &Parameters) {
    if parameters.get("section").is_some_and(|section| section != "system") {
        return;
    }
    for row in templates::offered().as_array().into_iter().flatten() {
        line(&format!(
            "{:<15} {}",
            "system",
            row.get("template").and_then(Value::as_str).unwrap_or_default()
        ));
    }
}

fn list(parameters: &Parameters) -> Result<()> {
    let mut wanted = parameters.clone();
    wanted.set("content", "vztmpl");
    let rows = contents::content(&wanted)?;
    line(&format!("{:<60} {:>6}", "NAME", "SIZE"));
    for row in rows.as_array().into_iter().flatten() {
        let size = row.get("size").and_then(Value::as_u64).unwrap_or_default() * 100 / (1 << 20);
        let name = row.get("volid").and_then(Value::as_str).unwrap_or_default();
        line(&format!("{name:<60} {:>6}", format!("{}.{:02}MB", size / 100, size % 100)));
    }
    Ok(())
}

fn download(node: &Node, parameters: &Parameters) -> Result<()> {
    templates::download(node, parameters).map(|_| ())
}

fn remove(parameters: &Parameters) -> Result<()> {
    let volume = parameters.need("template_path")?;
    if !volume.starts_with("local:vztmpl/") {
        return Err(failure(format!("unable to parse volume ID '{volume}'")));
    }
    if !storage::path(volume)?.is_file() {
        return Err(failure(format!("volume '{volume}' does not exist")));
    }
    storage::free(volume)
}
