//! The relay's process.

use entities::config::Base;
use entities::telemetry;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let started = telemetry::start("migrapanel-relay").and_then(|t| Ok((t, Base::read()?)));
    let (_telemetry, config) = match started {
        Ok(started) => started,
        Err(error) => {
            workers::complain("migrapanel-relay", &error);
            return ExitCode::FAILURE;
        }
    };
    tokio::select! {
        ended = workers::relay::run(&config) => match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                workers::complain("migrapanel-relay", &error);
                ExitCode::FAILURE
            }
        },
        () = workers::asked_to_end() => ExitCode::SUCCESS,
    }
}
