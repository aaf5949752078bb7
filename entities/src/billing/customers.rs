//! Tenants as Stripe knows them.

use crate::Result;
use crate::db::{SystemTx, TenantTx, statement};
use crate::error::Error;
use crate::ids::{RowId, TenantId};
use crate::tables::billing_customer::{self, Column};
use crate::tables::{app_user, membership, tenant};
use crate::tenancy::Role;
use chrono::Utc;
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use serde::{Deserialize, Serialize};

/// The payment method that is charged, without anything that one could pay with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// `card`, `sepa_debit`.
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last4: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_month: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_year: Option<i64>,
}

/// What of a customer was seen at Stripe.
#[derive(Debug, Clone)]
pub struct Seen {
    pub stripe_id: String,
    pub email: Option<String>,
    pub card: Option<Card>,
    pub delinquent: bool,
}

/// The tenant's customer at Stripe, when there is one.
pub async fn find_customer(tx: &TenantTx) -> Result<Option<billing_customer::Model>> {
    Ok(tx.own::<billing_customer::Entity>().one(tx.conn()).await?)
}

/// The same, of any tenant.
pub async fn customer_of(tx: &SystemTx, tenant: TenantId) -> Result<Option<String>> {
    let row =
        billing_customer::Entity::find().filter(Column::TenantId.eq(tenant)).one(tx.conn()).await?;
    Ok(row.map(|row| row.stripe_id))
}

/// Whose customer this is; nobody's: it was not made here.
pub async fn tenant_of(tx: &SystemTx, customer: &str) -> Result<Option<TenantId>> {
    let row = billing_customer::Entity::find()
        .filter(Column::StripeId.eq(customer))
        .one(tx.conn())
        .await?;
    Ok(row.map(|row| row.tenant_id))
}

/// Keeps what Stripe calls a tenant; the first name stays. Answers the one that counts.
pub async fn keep(tx: &SystemTx, tenant: TenantId, stripe_id: &str) -> Result<String> {
    let row = billing_customer::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(tenant),
        stripe_id: Set(stripe_id.to_owned()),
        email: NotSet,
        card: NotSet,
        delinquent: NotSet,
        updated_at: NotSet,
        created_at: Set(Utc::now()),
    };
    let once = sea_orm::sea_query::OnConflict::column(Column::TenantId).do_nothing().to_owned();
    billing_customer::Entity::insert(row)
        .on_conflict(once)
        .exec_without_returning(tx.conn())
        .await?;
    customer_of(tx, tenant).await?.ok_or_else(|| Error::internal("a customer that is not kept"))
}

/// Forgets what Stripe calls a tenant, who is unknown there: it is introduced anew.
pub async fn forget(tx: &SystemTx, stripe_id: &str) -> Result<()> {
    let sql = "DELETE FROM billing_customer WHERE stripe_id = $1";
    tx.conn().execute_raw(statement(sql, [stripe_id.into()])).await?;
    Ok(())
}

/// Records what was seen; whether it is a customer of ours.
pub async fn record(tx: &SystemTx, seen: &Seen) -> Result<bool> {
    let card = seen.card.as_ref().map(serde_json::to_value).transpose()?;
    let sql =
        "UPDATE billing_customer SET email = $2, card = $3, delinquent = $4, updated_at = now()
        WHERE stripe_id = $1";
    let values = [
        seen.stripe_id.as_str().into(),
        seen.email.as_deref().into(),
        card.into(),
        seen.delinquent.into(),
    ];
    Ok(tx.conn().execute_raw(statement(sql, values)).await?.rows_affected() > 0)
}

/// What Stripe is told of a tenant when it becomes a customer there.
#[derive(Debug, Clone)]
pub struct Introduction {
    pub name: String,
    /// Of whoever has been paying longest.
    pub email: Option<String>,
}

/// How a tenant is introduced.
pub async fn introduction(tx: &SystemTx, id: TenantId) -> Result<Introduction> {
    let row = tenant::Entity::find_by_id(id).one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("tenant"))?;
    Ok(Introduction { name: row.name, email: payers(tx, id).await?.into_iter().next() })
}

/// Who is written to about money: the people of the tenant who may pay, oldest first.
pub(crate) async fn payers(tx: &SystemTx, tenant: TenantId) -> Result<Vec<String>> {
    let members = membership::Entity::find()
        .filter(membership::Column::TenantId.eq(tenant))
        .filter(membership::Column::Role.is_in([Role::Owner, Role::Billing]))
        .select_only()
        .column(membership::Column::UserId)
        .into_query();
    let users = app_user::Entity::find()
        .filter(app_user::Column::Id.in_subquery(members))
        .filter(app_user::Column::DisabledAt.is_null())
        .order_by_asc(app_user::Column::CreatedAt)
        .order_by_asc(app_user::Column::Id);
    Ok(users.all(tx.conn()).await?.into_iter().map(|user| user.email).collect())
}
