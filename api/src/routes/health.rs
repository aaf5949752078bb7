//! Whether the service lives, and whether it can work.

use crate::state::State;
use actix_web::{HttpResponse, get, web};
use serde_json::{Value, json};
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(healthz).service(readyz);
}

/// The process lives.
#[utoipa::path(tag = "health", security(()), responses((status = 200, body = Object)))]
#[get("/healthz")]
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// Each server that this one needs, and whether it answers. Postgres away: 503. RabbitMQ away: jobs
/// are still accepted and wait. Redis away: `limits` are `local`, each process counts by itself.
/// `sessions` are `listening` while the ends of logins are heard of, `asking` while each request asks
/// the database.
#[utoipa::path(
    tag = "health",
    security(()),
    responses((status = 200, body = Object), (status = 503, body = Object))
)]
#[get("/readyz")]
async fn readyz(state: web::Data<State>) -> HttpResponse {
    let postgres = state.db.ping().await.is_ok();
    let rabbitmq = state.asker.ping().await.is_ok();
    let redis = ping_redis(&state).await;
    let text = |up: bool| if up { "up" } else { "down" };
    let body: Value = json!({
        "status": if !postgres { "down" } else if rabbitmq && redis { "ok" } else { "degraded" },
        "postgres": text(postgres),
        "rabbitmq": text(rabbitmq),
        "redis": text(redis),
        "limits": if redis && state.redis.is_there() { "shared" } else { "local" },
        "sessions": if state.ends.are_heard() { "listening" } else { "asking" },
    });
    if postgres {
        HttpResponse::Ok().json(body)
    } else {
        HttpResponse::ServiceUnavailable().json(body)
    }
}

async fn ping_redis(state: &State) -> bool {
    let ping = async {
        let mut connection = state.redis().await?;
        redis::cmd("PING").query_async::<String>(&mut connection).await
    };
    let limit = std::time::Duration::from_secs(2);
    matches!(tokio::time::timeout(limit, ping).await, Ok(Ok(_)))
}
