//! The server's users and groups, read from its own files.

use crate::error::{Error, Result};
use crate::layout;
use values::Username;

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// The user of this name.
pub fn user(name: &str) -> Result<Option<Person>> {
    let path = "/etc/passwd";
    let text = std::fs::read_to_string(path).map_err(Error::at(path))?;
    Ok(text.lines().filter_map(person).find(|p| p.name == name))
}

fn person(line: &str) -> Option<Person> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Person { name, uid, gid })
}

/// The number of a group, and who is in it.
pub fn group(name: &str) -> Result<Option<(u32, Vec<String>)>> {
    let path = "/etc/group";
    let text = std::fs::read_to_string(path).map_err(Error::at(path))?;
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next()?.split(',').filter(|m| !m.is_empty());
        Some((gid, members.map(ToOwned::to_owned).collect()))
    }))
}

/// The number of a group that the hosting layout has.
pub fn group_id(name: &str) -> Result<u32> {
    group(name)?.map(|(gid, _)| gid).ok_or_else(|| {
        let text = format!("The server has no group {name}: enrol it again.");
        Error::new("layout_missing", text)
    })
}

/// Whether the user is a hosting account that we made.
pub fn is_account(person: &Person) -> Result<bool> {
    let members = group(layout::ACCOUNT_GROUP)?.map(|(_, members)| members).unwrap_or_default();
    Ok(layout::ACCOUNT_UIDS.contains(&person.uid) && members.contains(&person.name))
}

/// The hosting account of this name. Fails when there is none.
pub fn account(name: &Username) -> Result<Person> {
    match user(name.as_str())? {
        Some(person) if is_account(&person)? => Ok(person),
        _ => {
            let text = format!("{name} is no hosting account on the server.");
            Err(Error::new("no_account", text))
        }
    }
}
