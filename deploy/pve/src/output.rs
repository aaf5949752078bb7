//! How `pvesh` prints answers.

use std::io::Write;

use serde_json::Value;

/// Prints a line for the caller, who may have gone.
pub fn line(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// Prints a line that is no answer.
pub fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Prints an answer in a format: `json`, `json-pretty`, `yaml` or `text`.
pub fn print(value: &Value, format: &str) {
    match (value, format) {
        (Value::Null, "text" | "yaml") => {}
        (Value::Null, _) => {}
        (_, "json") => line(&value.to_string()),
        (_, "json-pretty" | "yaml") => line(&pretty(value)),
        (Value::Array(rows), _) => line(&table(&columns(rows), rows)),
        (Value::Object(map), _) => {
            let rows: Vec<Vec<String>> =
                map.iter().map(|(key, value)| vec![key.clone(), plain(value)]).collect();
            line(&frame(&["key".to_owned(), "value".to_owned()], &rows));
        }
        _ => line(&plain(value)),
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn columns(rows: &[Value]) -> Vec<String> {
    let mut names: Vec<String> =
        rows.iter().filter_map(Value::as_object).flat_map(|map| map.keys().cloned()).collect();
    names.sort();
    names.dedup();
    names
}

fn table(names: &[String], rows: &[Value]) -> String {
    if names.is_empty() {
        return rows.iter().map(plain).collect::<Vec<_>>().join("\n");
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| names.iter().map(|name| row.get(name).map(plain).unwrap_or_default()).collect())
        .collect();
    frame(names, &cells)
}

fn frame(names: &[String], rows: &[Vec<String>]) -> String {
    let width = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index)).chain(names.get(index));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(middle))
    };
    let row = |cells: &[String]| {
        let parts: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} ")).collect();
        format!("│{}│\n", parts.join("│"))
    };
    let mut text = rule("┌", "┬", "┐") + &row(names) + &rule("╞", "╪", "╡").replace('─', "═");
    for cells in rows {
        text.push_str(&row(cells));
    }
    text + rule("└", "┴", "┘").trim_end()
}
