//! The migration worker's process.

use entities::config::Migrator;
use entities::telemetry;
use std::process::ExitCode;
use workers::error::Result;
use workers::world::World;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            workers::complain("migrapanel-migrator", &error);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let _telemetry = telemetry::start("migrapanel-migrator")?;
    let world = World::build(Migrator::read()?).await?;
    let ending = world.ending.clone();
    tokio::spawn(async move {
        workers::asked_to_end().await;
        ending.cancel();
    });
    workers::migrator::run(world).await
}
