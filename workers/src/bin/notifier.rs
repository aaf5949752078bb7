//! The notifier's process.

use entities::config::Notifier;
use entities::telemetry;
use std::process::ExitCode;
use workers::notifier::Post;
use workers::webhooks::Courier;

#[tokio::main]
async fn main() -> ExitCode {
    let started = telemetry::start("migrapanel-notifier").and_then(|t| Ok((t, Notifier::read()?)));
    let (_telemetry, config) = match started {
        Ok(started) => started,
        Err(error) => {
            workers::complain("migrapanel-notifier", &error);
            return ExitCode::FAILURE;
        }
    };
    let run = async {
        let courier = Courier::open(&config).await?;
        let post = Post::open(config).await?;
        tokio::try_join!(post.run(), courier.run())
    };
    tokio::select! {
        ended = run => match ended {
            Ok(((), ())) => ExitCode::SUCCESS,
            Err(error) => {
                workers::complain("migrapanel-notifier", &error);
                ExitCode::FAILURE
            }
        },
        () = workers::asked_to_end() => ExitCode::SUCCESS,
    }
}
