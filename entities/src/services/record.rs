//! What a worker that holds a service's job writes down, and what others ask of a service's account.

use super::{Desired, State};
use crate::Result;
use crate::catalogue::Kind;
use crate::db::SystemTx;
use crate::error::{Code, Error};
use crate::ids::{AccountId, ServerId, TenantId};
use crate::jobs::{self, Claim};
use crate::tables::hosting_account;
use crate::tables::service::{self, Column};
use cpanel::plan::Operation;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait,
    PaginatorTrait, QueryFilter,
};
use values::{DomainName, Username};

/// The service that a claimed job works on.
pub async fn load_claimed(tx: &SystemTx, claim: &Claim) -> Result<service::Model> {
    let row = service::Entity::find().filter(Column::JobId.eq(claim.job)).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("service"))
}

/// What a claimed job is to make of its service: under which name and with which operations.
#[derive(Debug)]
pub struct Made<'a> {
    pub domain: &'a DomainName,
    pub operations: &'a [Operation],
}

/// Keeps what a claimed job is about to make.
pub async fn record_operations(tx: &SystemTx, claim: &Claim, made: &Made<'_>) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let mut row: service::ActiveModel = load_claimed(tx, claim).await?.into();
    row.domain = Set(Some(made.domain.to_string()));
    row.operations = Set(Some(serde_json::to_value(made.operations)?));
    row.update(tx.conn()).await?;
    Ok(())
}

/// Joins a service to the account that its job has taken.
pub async fn record_account(tx: &SystemTx, claim: &Claim) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let row = load_claimed(tx, claim).await?;
    let account = hosting_account::Entity::find()
        .filter(hosting_account::Column::ServerId.eq(claim.server))
        .filter(hosting_account::Column::Username.eq(row.username.as_deref().unwrap_or_default()))
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("account"))?;
    let mut row: service::ActiveModel = row.into();
    row.account_id = Set(Some(account.id));
    row.update(tx.conn()).await?;
    Ok(())
}

/// The user that a service's account has on its server.
pub fn username(row: &service::Model) -> Result<Username> {
    let name = row.username.as_deref();
    let name = name.ok_or_else(|| Error::internal("a service that works without a user"))?;
    Ok(Username::parse(name)?)
}

/// Refuses to change the account of this name on this server from elsewhere, when its service is not
/// active: what a migration brought would answer again.
pub(crate) async fn refuse_closed<C: ConnectionTrait>(
    conn: &C,
    server: ServerId,
    user: &str,
) -> Result<()> {
    let open = Condition::all()
        .add(Column::Desired.eq(Desired::Active))
        .add(Column::State.eq(State::Active));
    let closed = service::Entity::find()
        .filter(Column::ServerId.eq(server))
        .filter(Column::Username.eq(user))
        .filter(Column::AccountId.is_not_null())
        .filter(open.not())
        .count(conn)
        .await?;
    if closed == 0 {
        return Ok(());
    }
    let text = "This account is suspended, or on its way there or back: nothing is changed in it now. \
                Ask your provider.";
    Err(Error::refused(Code::AccountSuspended, text))
}

/// Leaves an account that goes.
pub(crate) async fn lose_account(tx: &SystemTx, account: AccountId) -> Result<()> {
    let none = sea_orm::sea_query::Expr::value(None::<uuid::Uuid>);
    service::Entity::update_many()
        .col_expr(Column::AccountId, none)
        .filter(Column::AccountId.eq(account))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// How many hosting accounts of a tenant were paid for and are not there yet.
pub(crate) async fn count_unmade<C: ConnectionTrait>(conn: &C, tenant: TenantId) -> Result<u64> {
    Ok(service::Entity::find()
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::Kind.eq(Kind::HostingPlan))
        .filter(Column::State.is_in([State::Pending, State::Provisioning]))
        .filter(Column::AccountId.is_null())
        .count(conn)
        .await?)
}
