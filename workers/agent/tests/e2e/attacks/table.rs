//! What a row of the table is.

use super::enemy::Archive;
use super::scene::{Restored, Stage};
use cpanel::protocol::Preview;

/// One way of attack, as numbered in the catalogue of attacks on restores.
pub struct Row {
    pub number: u16,
    pub name: &'static str,
    pub attacks: &'static [Attack],
}

/// How the attack is made, and what must come of it.
pub enum Attack {
    /// The archive, or the part of it that must be refused with this code by analysis.
    Refused(&'static str, fn(&mut Archive)),
    /// The same, of bytes that are no tar file of [`Archive`]'s.
    RefusedBytes(&'static str, fn() -> Vec<u8>),
    /// The preview of a restore as this user shows a conflict of this id: nothing can be applied.
    Conflict(&'static str, &'static str, fn(&mut Archive)),
    /// A second look at an account that stands: what the preview of an overwriting restore says.
    Again(&'static str, fn(&mut Archive), fn(&Preview)),
    /// A dump, refused by the step with words that contain these.
    Dump(&'static str, fn() -> Vec<u8>),
    /// A dump that is loaded without the statement that begins with this word, which the plan names.
    LeftOut(&'static str, fn() -> Vec<u8>),
    /// Planted in the account that is restored beside its victim; then these must hold.
    Planted(fn(&mut Archive), &'static [Proof]),
    /// A way of its own; what must come of it.
    Alone(&'static str, fn(&Stage<'_>)),
    /// Carried out over the API, by `workers/tests/e2e/attacks.rs`; what must come of it.
    OverTheRoad(&'static str),
    /// Carried out by another test; where, and what must come of it.
    Elsewhere(&'static str),
    /// Why there is nothing to attack.
    DoesNotApply(&'static str),
}

/// What must hold once the enemy's account is restored.
pub enum Proof {
    /// The plan says that this is left out.
    Lost(&'static str),
    /// The plan warns with this code of this subject.
    Warned(&'static str, &'static str),
    /// Some item's report says this.
    Said(&'static str),
    /// Root on the server sees exactly this (lines joined by one space).
    Seen(&'static str, &'static str),
    /// The enemy, with a shell on the server, sees exactly this.
    Tried(&'static str, &'static str),
    /// The enemy's database user gets an answer that contains this.
    Sql(&'static str, &'static str),
    /// The enemy's site answers a path with this status and body.
    Web(&'static str, u16, &'static str),
    /// Whatever else must hold.
    Holds(&'static str, fn(&Restored<'_, '_>)),
}

impl Attack {
    /// What must come of it, for the table.
    pub fn verdict(&self) -> String {
        match self {
            Self::Refused(code, _) | Self::RefusedBytes(code, _) => format!("refused: {code}"),
            Self::Conflict(user, id, _) => format!("refused: conflict {id} (as {user})"),
            Self::Again(what, ..) | Self::Alone(what, _) => (*what).to_owned(),
            Self::Dump(said, _) => format!("refused: dump_refused, {said:?}"),
            Self::LeftOut(word, _) => format!("neutralised: {word} is left out and reported"),
            Self::Planted(_, proofs) => {
                let parts: Vec<String> = proofs.iter().map(Proof::verdict).collect();
                parts.join("; ")
            }
            Self::OverTheRoad(what) => format!("over the API: {what}"),
            Self::Elsewhere(what) => format!("elsewhere: {what}"),
            Self::DoesNotApply(why) => format!("does not apply: {why}"),
        }
    }
}

impl Proof {
    fn verdict(&self) -> String {
        match self {
            Self::Lost(item) => format!("skipped and reported: {item:?}"),
            Self::Warned(code, subject) => format!("reported: {code} {subject:?}"),
            Self::Said(text) => format!("reported: {text:?}"),
            Self::Seen(command, seen) => format!("neutralised: {command} shows {seen:?}"),
            Self::Tried(command, seen) => {
                format!("neutralised: the enemy's {command} gives {seen:?}")
            }
            Self::Sql(statement, seen) => format!("neutralised: {statement} gives {seen:?}"),
            Self::Web(path, status, _) => format!("neutralised: GET {path} gives {status}"),
            Self::Holds(what, _) => format!("neutralised: {what}"),
        }
    }
}
