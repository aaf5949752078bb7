//! The routes, one file a feature: what comes in, what goes out, and the handlers.

pub mod accounts;
pub mod audit;
pub mod auth;
pub mod billing;
pub mod catalogue;
pub mod certificates;
pub mod checkout;
pub mod cloudpods;
pub mod dead_letters;
pub mod dns;
pub mod docs;
pub mod events;
pub mod health;
pub mod jobs;
pub mod keys;
pub mod me;
pub mod members;
pub mod migration;
pub mod orders;
pub mod servers;
pub mod services;
pub mod stripe;
pub mod subscriptions;
pub mod tenants;
pub mod webhooks;

use utoipa_actix_web::service_config::ServiceConfig;

/// All of them.
pub fn all(config: &mut ServiceConfig<'_>) {
    health::routes(config);
    auth::routes(config);
    me::routes(config);
    tenants::routes(config);
    members::routes(config);
    keys::routes(config);
    audit::routes(config);
    servers::routes(config);
    jobs::routes(config);
    dead_letters::routes(config);
    migration::routes(config);
    events::routes(config);
    accounts::routes(config);
    dns::routes(config);
    catalogue::routes(config);
    orders::routes(config);
    checkout::routes(config);
    subscriptions::routes(config);
    billing::routes(config);
    stripe::routes(config);
    services::routes(config);
    certificates::routes(config);
    cloudpods::routes(config);
    webhooks::routes(config);
}
