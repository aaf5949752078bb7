//! Databases, their users, and what those may do.

use crate::account::{Database, DatabaseAuth, DatabaseLogin, DumpState};
use crate::plan::{Action, Component, Credential, Mode, Resolution, Resource, StepName};
use crate::planner::Draft;
use crate::sql::collation;
use std::collections::{BTreeMap, BTreeSet};
use values::{DatabaseName, DatabaseUser};

const DATABASES: (StepName, Component) = (StepName::Databases, Component::Databases);

pub(crate) fn plan(draft: &mut Draft<'_>) {
    if !draft.wants(Component::Databases) {
        return;
    }
    let account = draft.input.account;
    let mut names: BTreeMap<&DatabaseName, DatabaseName> = BTreeMap::new();
    // Their users' conflicts are shown along with theirs, so that all can be settled at once.
    let mut undecided: BTreeSet<&DatabaseName> = BTreeSet::new();
    for database in &account.databases {
        if !draft.input.options.wants_item(Component::Databases, database.name.as_str()) {
            continue;
        }
        let name = &database.name;
        if let Some((new, action)) = place(draft, database, &names) {
            names.insert(name, new.clone());
            add_database(draft, database, new, action);
        } else if draft.opposes(&format!("database:{name}"))
            || draft.opposes(&format!("dump:{name}"))
        {
            undecided.insert(name);
        }
    }
    let selected = draft.input.options.components.get(&Component::Databases);
    let everything = selected.is_none_or(BTreeSet::is_empty);
    let mut users: Vec<(&DatabaseLogin, DatabaseUser, Action)> = Vec::new();
    for login in &account.database_users {
        let used = login.grants.keys().any(|d| names.contains_key(d) || undecided.contains(d));
        if !(used || everything && login.grants.is_empty()) {
            continue;
        }
        if let Some((name, action)) = login_place(draft, login) {
            add_user(draft, login, name.clone(), action);
            users.push((login, name, action));
        }
    }
    for (login, user, of_user) in users {
        for (source, privileges) in &login.grants {
            let Some(database) = names.get(source).filter(|_| !privileges.is_empty()) else {
                continue;
            };
            let list = privileges.iter().cloned().collect::<Vec<_>>().join(", ");
            let id = format!("grant:{user}:{database}");
            let summary = format!("Give {user} {list} on {database}");
            let (user, database) = (user.clone(), database.clone());
            let stands = draft.input.facts.grants.contains(&(user.clone(), database.clone()));
            // Who is replaced is so with their rights.
            let action = if stands { of_user } else { Action::Create };
            let resource = Resource::Grant { user, database, privileges: privileges.clone() };
            draft.add(id, DATABASES, action, (summary, resource));
        }
    }
}

/// Only names that begin with the account's own are ever replaced: user names have no underscore, so
/// that nobody else's begin the same way.
fn is_ours(draft: &Draft<'_>, name: &str) -> bool {
    name.strip_prefix(draft.input.target_user.as_str()).is_some_and(|rest| rest.starts_with('_'))
}

/// The name that a database gets, and whether it is new.
fn place(
    draft: &mut Draft<'_>,
    database: &Database,
    planned: &BTreeMap<&DatabaseName, DatabaseName>,
) -> Option<(DatabaseName, Action)> {
    let name = &database.name;
    if !draft.input.facts.databases.contains(name) {
        return Some((name.clone(), Action::Create));
    }
    let ours = is_ours(draft, name.as_str());
    if ours && draft.is_own() && draft.input.options.mode == Mode::Overwrite {
        return replace(draft, database);
    }
    let id = format!("database:{name}");
    let mut offered = vec![Resolution::Skip, Resolution::Rename(free_name(draft, name.as_str()))];
    if ours {
        offered.push(Resolution::Replace);
    }
    let message = format!("A database {name} exists on the server.");
    match draft.settle(id.clone(), message, offered.clone())? {
        Resolution::Skip => {
            draft.lose(id, "It is left out by choice.");
            None
        }
        Resolution::Replace => replace(draft, database),
        Resolution::Rename(new) => {
            let taken = |n: &DatabaseName| {
                draft.input.facts.databases.contains(n)
                    || planned.values().any(|p| p == n)
                    || draft.input.account.databases.iter().any(|d| d.name == *n)
            };
            match DatabaseName::parse(&new).ok().filter(|n| !taken(n)) {
                Some(new) => Some((new, Action::Create)),
                None => {
                    let message = format!("The new name for {name} is taken or not allowed.");
                    draft.oppose(id, message, offered);
                    None
                }
            }
        }
    }
}

/// A dump that holds nothing, or not all, never replaces data.
fn replace(draft: &mut Draft<'_>, database: &Database) -> Option<(DatabaseName, Action)> {
    let name = &database.name;
    if database.dump == DumpState::Full {
        return Some((name.clone(), Action::Replace));
    }
    let id = format!("dump:{name}");
    let message = format!(
        "The archive's dump of {name} is {}: it would replace data by less.",
        database.dump.as_str()
    );
    if draft.settle(id.clone(), message, vec![Resolution::Skip]).is_some() {
        draft.lose(format!("database:{name}"), "It is left out by choice.");
    }
    None
}

/// A name that is not taken: `NAME_2`, `NAME_3`, …
fn free_name(draft: &Draft<'_>, name: &str) -> String {
    let base: String = name.chars().take(58).collect();
    let taken = |text: &str| {
        let facts = draft.input.facts;
        facts.databases.iter().any(|d| d.as_str() == text)
            || facts.database_users.iter().any(|u| u.as_str() == text)
            || draft.input.account.databases.iter().any(|d| d.name.as_str() == text)
            || draft.input.account.database_users.iter().any(|u| u.name.as_str() == text)
    };
    let mut number = 2_u32;
    loop {
        let text = format!("{base}_{number}");
        if !taken(&text) {
            return text;
        }
        number = number.saturating_add(1);
    }
}

fn add_database(draft: &mut Draft<'_>, database: &Database, name: DatabaseName, action: Action) {
    let mut wanted = database.collation.clone();
    if let Some(known) = wanted.as_deref().and_then(collation) {
        let message = format!("MariaDB has no {}; {known} is used.", wanted.unwrap_or_default());
        draft.adapt("collation_mapped", "database", name.as_str(), message);
        wanted = Some(known.to_owned());
    }
    let verb = if action == Action::Replace { "Replace" } else { "Create" };
    let summary = format!("{verb} the database {name} from a dump of {} bytes", database.bytes);
    let resource = Resource::Database {
        name: name.clone(),
        source: database.name.clone(),
        charset: database.charset.clone(),
        collation: wanted,
        bytes: database.bytes,
    };
    draft.add(format!("database:{name}"), DATABASES, action, (summary, resource));
}

fn login_place(draft: &mut Draft<'_>, login: &DatabaseLogin) -> Option<(DatabaseUser, Action)> {
    let name = &login.name;
    if !draft.input.facts.database_users.contains(name) {
        return Some((name.clone(), Action::Create));
    }
    let ours = is_ours(draft, name.as_str());
    if ours && draft.is_own() {
        return Some((name.clone(), draft.action(true)));
    }
    let id = format!("database_user:{name}");
    let mut offered = vec![Resolution::Skip, Resolution::Rename(free_name(draft, name.as_str()))];
    if ours {
        offered.push(Resolution::Replace);
    }
    let message = format!("A database user {name} exists on the server.");
    match draft.settle(id.clone(), message, offered.clone())? {
        Resolution::Skip => {
            draft.lose(id, "It is left out by choice.");
            None
        }
        Resolution::Replace => Some((name.clone(), Action::Replace)),
        Resolution::Rename(new) => {
            let taken = |n: &DatabaseUser| {
                draft.input.facts.database_users.contains(n)
                    || draft.input.account.database_users.iter().any(|u| u.name == *n)
            };
            match DatabaseUser::parse(&new).ok().filter(|n| !taken(n)) {
                Some(new) => Some((new, Action::Create)),
                None => {
                    let message = format!("The new name for {name} is taken or not allowed.");
                    draft.oppose(id, message, offered);
                    None
                }
            }
        }
    }
}

fn add_user(draft: &mut Draft<'_>, login: &DatabaseLogin, name: DatabaseUser, action: Action) {
    let (credential, password) = match &login.auth {
        DatabaseAuth::Native(_) if draft.suspended => {
            (Credential::Locked, "its old password, locked")
        }
        DatabaseAuth::Native(_) => (Credential::Kept, "its old password"),
        DatabaseAuth::Unusable(_) => (Credential::New, "a new password"),
    };
    let summary = match action {
        Action::Merge => format!("Keep the database user {name}"),
        _ => format!("Create the database user {name} with {password}"),
    };
    let source = login.name.clone();
    let resource = Resource::DatabaseUser { name: name.clone(), source, credential };
    draft.add(format!("database_user:{name}"), DATABASES, action, (summary, resource));
}
