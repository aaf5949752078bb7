//! The DNS worker's process.

use entities::config::DnsWorker;
use entities::telemetry;
use std::process::ExitCode;
use workers::dns::Worker;

#[tokio::main]
async fn main() -> ExitCode {
    let started = telemetry::start("migrapanel-dns").and_then(|t| Ok((t, DnsWorker::read()?)));
    let (_telemetry, config) = match started {
        Ok(started) => started,
        Err(error) => {
            workers::complain("migrapanel-dns", &error);
            return ExitCode::FAILURE;
        }
    };
    let run = async { Worker::open(config).await?.run().await };
    tokio::select! {
        ended = run => match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                workers::complain("migrapanel-dns", &error);
                ExitCode::FAILURE
            }
        },
        () = workers::asked_to_end() => ExitCode::SUCCESS,
    }
}
