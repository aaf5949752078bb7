//! The process of the worker that drives containers.

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
            workers::complain("migrapanel-provisioner", &error);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let _telemetry = telemetry::start("migrapanel-provisioner")?;
    let world = World::build(Migrator::read()?).await?;
    let ending = world.ending.clone();
    tokio::spawn(async move {
        workers::asked_to_end().await;
        ending.cancel();
    });
    workers::provisioner::run(world).await
}
