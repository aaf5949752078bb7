//! The worker that drives containers: takes their jobs from RabbitMQ, and looks after the nodes.

use crate::error::Result;
use crate::migrator::{close, keep_serving, serve};
use crate::world::World;
use crate::{amqp, reconcile};
use entities::asks::POD_QUEUE;

/// Runs until the process is asked to end; then jobs are let go for others to take over.
pub async fn run(world: World) -> Result<()> {
    tokio::spawn(reconcile::keep_looking(world.clone()));
    keep_serving(&world, async |jobs| {
        let connection =
            amqp::connect(&world.config.base.amqp_url, "migrapanel-provisioner").await?;
        let ended = serve(&world, &connection, POD_QUEUE, jobs).await;
        close(connection).await;
        ended
    })
    .await
}
