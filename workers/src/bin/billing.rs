//! The billing worker's process.

use entities::config::Billing;
use entities::telemetry;
use std::process::ExitCode;
use workers::billing::Worker;

#[tokio::main]
async fn main() -> ExitCode {
    let started = telemetry::start("migrapanel-billing").and_then(|t| Ok((t, Billing::read()?)));
    let (_telemetry, config) = match started {
        Ok(started) => started,
        Err(error) => {
            workers::complain("migrapanel-billing", &error);
            return ExitCode::FAILURE;
        }
    };
    let run = async { Worker::open(config).await?.run().await };
    tokio::select! {
        ended = run => match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                workers::complain("migrapanel-billing", &error);
                ExitCode::FAILURE
            }
        },
        () = workers::asked_to_end() => ExitCode::SUCCESS,
    }
}
