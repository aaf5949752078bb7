//! The agent on a hosting server: carries out what the migration worker asks, as root, behind a
//! forced SSH command. It keeps no connection and no state but files.
//!
//! `migrapanel-agent serve` answers one request on standard input and output
//! ([`cpanel::protocol`]); whatever the SSH client asked to run is ignored.

mod activate;
mod analyze;
mod appconfig;
mod backup;
mod belongings;
mod beneath;
mod certificates;
mod changes;
mod config;
mod dump;
mod effects;
mod enroll;
mod error;
mod events;
mod facts;
mod guard;
mod health;
mod htaccess;
mod inspect;
mod job;
mod journal;
mod layout;
mod leftovers;
mod lines;
mod mariadb;
mod mdbox;
mod parking;
mod parts;
mod people;
mod preview;
mod priority;
mod program;
mod quotes;
mod serve;
mod services;
mod sieve;
mod source;
mod space;
mod stamp;
mod steps;
mod suspend;
mod template;
mod terminate;
mod uidlist;
mod unpack;
mod upgrade;
mod verify;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(verb), None) if verb == "serve" => serve::serve(),
        _ => ExitCode::from(64),
    }
}
