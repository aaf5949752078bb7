//! Names of addresses.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Success, field, ok};
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, put, web};
use entities::dns::reverse::{self, Named};
use entities::error::Error;
use entities::tenancy::Permission;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(view_address).service(name_address).service(unname_address);
}

/// An address and what it is called.
#[derive(Debug, Serialize, ToSchema)]
struct AddressView {
    #[schema(value_type = String)]
    address: IpAddr,
    /// None: it has no name.
    hostname: Option<String>,
    /// The reverse zone that says so.
    zone_id: Uuid,
    zone: String,
    /// `pending` until the DNS servers have it.
    state: String,
}

impl From<Named> for AddressView {
    fn from(named: Named) -> Self {
        let target = named.set.and_then(|set| set.records.into_iter().next());
        Self {
            address: named.address,
            hostname: target.map(|name| name.trim_end_matches('.').to_owned()),
            zone_id: named.zone.id.0,
            zone: named.zone.name,
            state: named.zone.state,
        }
    }
}

fn address_of(text: &str) -> Result<IpAddr, Error> {
    text.parse()
        .map_err(|_not_an_address| Error::field("address", "must be an IPv4 or IPv6 address"))
}

/// What an address is called: the platform's, and those that were allocated to the tenant.
#[utoipa::path(
    tag = "dns",
    params(("address" = String, Path, description = "IPv4 or IPv6")),
    responses((status = 200, body = Success<AddressView>))
)]
#[get("/api/dns/addresses/{address}")]
async fn view_address(
    caller: Caller,
    state: web::Data<State>,
    address: web::Path<String>,
) -> Result<Answer<AddressView>, ApiError> {
    caller.0.require(Permission::ZonesRead)?;
    let address = address_of(&address)?;
    let tx = state.db.system().await?;
    Ok(ok(reverse::find_name(&tx, &caller.0, address).await?.into()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddressName {
    /// It should lead back to the address.
    #[schema(schema_with = schema::domain_name)]
    hostname: String,
}

/// Gives an address a name, in the longest reverse zone of the platform that holds it.
#[utoipa::path(
    tag = "dns",
    params(("address" = String, Path, description = "IPv4 or IPv6")),
    request_body = AddressName,
    responses((status = 200, body = Success<AddressView>))
)]
#[put("/api/dns/addresses/{address}")]
async fn name_address(
    caller: Caller,
    state: web::Data<State>,
    address: web::Path<String>,
    Json(body): Json<AddressName>,
) -> Result<Answer<AddressView>, ApiError> {
    caller.0.require_write(Permission::ZonesWrite)?;
    let (address, hostname) = (address_of(&address)?, field("hostname", &body.hostname)?);
    let tx = state.db.system_as(&caller.0).await?;
    let named = reverse::set_name(&tx, &caller.0, address, Some(&hostname)).await?;
    tx.commit().await?;
    Ok(ok(named.into()))
}

/// Takes an address' name away.
#[utoipa::path(
    tag = "dns",
    params(("address" = String, Path, description = "IPv4 or IPv6")),
    responses((status = 200, body = Success<AddressView>))
)]
#[delete("/api/dns/addresses/{address}")]
async fn unname_address(
    caller: Caller,
    state: web::Data<State>,
    address: web::Path<String>,
) -> Result<Answer<AddressView>, ApiError> {
    caller.0.require_write(Permission::ZonesWrite)?;
    let address = address_of(&address)?;
    let tx = state.db.system_as(&caller.0).await?;
    let named = reverse::set_name(&tx, &caller.0, address, None).await?;
    tx.commit().await?;
    Ok(ok(named.into()))
}
