//! Agreements: the owner of a zone lets another tenant have one that lies above or below it.

use crate::Result;
use crate::audit::Audit;
use crate::db::TenantTx;
use crate::dns::{find_zone, lock_zone, name_of};
use crate::error::Error;
use crate::ids::{RowId, TenantId, ZoneId};
use crate::tables::dns_agreement::{self, Column};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ModelTrait, PaginatorTrait, QueryFilter,
    QueryOrder,
};
use values::DomainName;

/// So many a zone has at most.
const PER_ZONE: u64 = 1000;

/// Lets `grantee` have the zone `name`, which must lie above or below this one. Repeating it changes
/// nothing. Whether there is such a tenant is not told.
pub async fn create_agreement(
    tx: &TenantTx,
    zone: ZoneId,
    name: &DomainName,
    grantee: TenantId,
) -> Result<dns_agreement::Model> {
    tx.ctx().refuse_bound()?;
    let own = name_of(&lock_zone(tx, zone).await?)?;
    if !name.is_below(&own) && !own.is_below(name) {
        return Err(Error::field("name", format!("must lie above or below {own}")));
    }
    if grantee == tx.tenant() {
        return Err(Error::field("tenant_id", "is this tenant; it needs no agreement"));
    }
    let rows = tx.own::<dns_agreement::Entity>().filter(Column::ZoneId.eq(zone));
    let same = rows
        .clone()
        .filter(Column::Name.eq(name.as_str()))
        .filter(Column::GranteeId.eq(grantee))
        .one(tx.conn())
        .await?;
    let entry = Audit::DnsAgreementCreated { zone, name: name.to_string(), grantee };
    if let Some(row) = same {
        tx.audit(entry).await?;
        return Ok(row);
    }
    if rows.count(tx.conn()).await? >= PER_ZONE {
        return Err(Error::field("name", format!("a zone has at most {PER_ZONE} agreements")));
    }
    let row = dns_agreement::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(tx.tenant()),
        zone_id: Set(zone),
        name: Set(name.to_string()),
        grantee_id: Set(grantee),
        created_at: Set(Utc::now()),
    };
    let row = row.insert(tx.conn()).await.map_err(unknown_tenant)?;
    tx.audit(entry).await?;
    Ok(row)
}

fn unknown_tenant(error: sea_orm::DbErr) -> Error {
    match error.sql_err() {
        Some(sea_orm::SqlErr::ForeignKeyConstraintViolation(_)) => {
            Error::field("tenant_id", "is no tenant of this installation")
        }
        _ => error.into(),
    }
}

/// The agreements of a zone, by name.
pub async fn list_agreements(tx: &TenantTx, zone: ZoneId) -> Result<Vec<dns_agreement::Model>> {
    find_zone(tx, zone).await?;
    let rows = tx.own::<dns_agreement::Entity>().filter(Column::ZoneId.eq(zone));
    Ok(rows.order_by_asc(Column::Name).order_by_asc(Column::Id).all(tx.conn()).await?)
}

/// Takes an agreement back. A zone that was made under it stays.
pub async fn delete_agreement(tx: &TenantTx, zone: ZoneId, id: RowId) -> Result<()> {
    tx.ctx().refuse_bound()?;
    lock_zone(tx, zone).await?;
    let row = tx.own_by_id::<dns_agreement::Entity>(id).filter(Column::ZoneId.eq(zone));
    let row = row.one(tx.conn()).await?.ok_or(Error::NotFound("agreement"))?;
    let entry =
        Audit::DnsAgreementDeleted { zone, name: row.name.clone(), grantee: row.grantee_id };
    row.delete(tx.conn()).await?;
    tx.audit(entry).await
}
