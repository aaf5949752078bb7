//! The worker that drives containers: takes their jobs and questions from RabbitMQ, and looks after the
//! nodes.

use crate::console::Consoles;
use crate::error::Result;
use crate::migrator::{answer_all, keep_serving, serve, serve_both};
use crate::world::World;
use crate::{amqp, asks, reconcile};
use entities::asks::{POD_ASK_QUEUE, POD_QUEUE};
use std::sync::Arc;

/// Runs until the process is asked to end; then jobs are let go for others to take over.
pub async fn run(world: World) -> Result<()> {
    tokio::spawn(reconcile::keep_looking(world.clone()));
    keep_serving(&world, async |jobs| {
        let connection =
            amqp::connect(&world.config.base.amqp_url, "migrapanel-provisioner").await?;
        let connection = Arc::new(connection);
        let channel = amqp::consumer(&connection, 16).await?;
        let questions = amqp::consume(&channel, POD_ASK_QUEUE).await?;
        let consoles = Consoles::new(world.clone(), Arc::clone(&connection));
        let asked = consoles.clone();
        let answering = answer_all(questions, move |delivery| {
            let (consoles, channel) = (asked.clone(), channel.clone());
            async move {
                let road = (POD_ASK_QUEUE, &channel);
                let answer = async |ask: &_| consoles.answer(ask).await;
                asks::handle_with(consoles.world(), road, delivery, answer).await
            }
        });
        let ended = serve_both(answering, serve(&world, &connection, POD_QUEUE, jobs)).await;
        consoles.end().await;
        amqp::close(&connection).await;
        ended
    })
    .await
}
