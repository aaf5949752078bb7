//! Tasks as the API shows them.

use std::fs;

use serde_json::{Value, json};

use crate::arguments::Parameters;
use crate::error::{Result, failure};
use crate::task::{self, Task};

/// A task as lists show it.
fn task_row(task: &Task) -> Value {
    let mut row = json!({"upid": task.upid, "node": task.node, "pid": task.pid, "pstart": task.pstart,
        "starttime": task.starttime, "type": task.kind, "id": task.id, "user": task.user});
    if let (Some(map), Some((end, status))) = (row.as_object_mut(), task.ended()) {
        map.insert("endtime".to_owned(), json!(end));
        map.insert("status".to_owned(), json!(status));
    }
    row
}

/// `GET /nodes/{node}/tasks`.
pub fn tasks(parameters: &Parameters) -> Value {
    let limit = usize::try_from(parameters.number("limit").unwrap_or(50)).unwrap_or(50);
    let start = usize::try_from(parameters.number("start").unwrap_or(0)).unwrap_or(0);
    let source = parameters.get("source").unwrap_or("archive");
    task::all()
        .iter()
        .map(|task| (task, task.ended()))
        .filter(|(_, ended)| source == "all" || ended.is_some() == (source == "archive"))
        .filter(|(task, _)| parameters.get("vmid").is_none_or(|vmid| task.id == vmid))
        .filter(|(task, _)| parameters.get("typefilter").is_none_or(|kind| task.kind == kind))
        .filter(|(_, ended)| {
            !parameters.is_set("errors") || ended.as_ref().is_some_and(|(_, words)| words != "OK")
        })
        .skip(start)
        .take(limit)
        .map(|(task, _)| task_row(task))
        .collect()
}

fn find_task(parameters: &Parameters) -> Result<Task> {
    let upid = parameters.need("upid")?;
    let task = Task::parse(upid)
        .ok_or_else(|| failure(format!("unable to parse worker upid '{upid}'")))?;
    if task.log().is_file() { Ok(task) } else { Err(failure("no such task")) }
}

/// `GET /nodes/{node}/tasks/{upid}/status`.
pub fn task_status(parameters: &Parameters) -> Result<Value> {
    let task = find_task(parameters)?;
    let mut row = task_row(&task);
    if let Some(map) = row.as_object_mut() {
        map.remove("endtime");
        if let Some(words) = map.insert("status".to_owned(), json!("running")) {
            map.insert("exitstatus".to_owned(), words);
            map.insert("status".to_owned(), json!("stopped"));
        }
    }
    Ok(row)
}

/// `GET /nodes/{node}/tasks/{upid}/log`.
pub fn task_log(parameters: &Parameters) -> Result<Value> {
    let text = fs::read_to_string(find_task(parameters)?.log())?;
    let limit = usize::try_from(parameters.number("limit").unwrap_or(50)).unwrap_or(50);
    let start = usize::try_from(parameters.number("start").unwrap_or(0)).unwrap_or(0);
    Ok(text
        .lines()
        .enumerate()
        .skip(start)
        .take(limit)
        .map(|(n, line)| json!({"n": n + 1, "t": line}))
        .collect())
}
