//! The categories that a seller puts its products into.

use crate::Result;
use crate::audit::Audit;
use crate::catalogue::must_sell;
use crate::db::TenantTx;
use crate::error::Error;
use crate::ids::CategoryId;
use crate::tables::category::{self, Column};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::json;
use values::{Prose, Title};

/// A category as it is to be.
#[derive(Debug)]
pub struct NewCategory {
    pub name: Title,
    pub description: Prose,
    /// The lower, the further in front.
    pub position: i32,
}

/// What changes of a category; none: stays.
#[derive(Debug, Default)]
pub struct Change {
    pub name: Option<Title>,
    pub description: Option<Prose>,
    pub position: Option<i32>,
}

/// Makes a category of the tenant's own.
pub async fn create_category(tx: &TenantTx, new: NewCategory) -> Result<category::Model> {
    must_sell(tx).await?;
    let row = category::ActiveModel {
        id: Set(CategoryId::new()),
        tenant_id: Set(tx.tenant()),
        name: Set(new.name.to_string()),
        description: Set(new.description.to_string()),
        position: Set(new.position),
        archived_at: NotSet,
        created_at: Set(Utc::now()),
    };
    let row = row.insert(tx.conn()).await?;
    tx.audit(Audit::CategoryCreated { category: row.id, name: row.name.clone() }).await?;
    Ok(row)
}

/// A page of the categories that the tenant sees, by position and name, and how many there are; with
/// `archived` those of its own that are archived, too.
pub async fn list_categories(
    tx: &TenantTx,
    archived: bool,
    offset: u64,
    limit: u64,
) -> Result<(Vec<category::Model>, u64)> {
    let mut shown = Condition::any().add(Column::ArchivedAt.is_null());
    if archived {
        shown = shown.add(Column::TenantId.eq(tx.tenant()));
    }
    let query = tx.seen::<category::Entity>().filter(shown);
    let total = query.clone().count(tx.conn()).await?;
    let query = query
        .order_by_asc(Column::Position)
        .order_by_asc(Column::Name)
        .order_by_asc(Column::Id)
        .offset(offset)
        .limit(limit);
    Ok((query.all(tx.conn()).await?, total))
}

/// A category that the tenant sees, also one that is archived.
pub async fn find_category(tx: &TenantTx, id: CategoryId) -> Result<category::Model> {
    let row = tx.seen::<category::Entity>().filter(Column::Id.eq(id)).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("category"))
}

/// Changes a category of the tenant's own.
pub async fn update_category(
    tx: &TenantTx,
    id: CategoryId,
    change: Change,
) -> Result<category::Model> {
    let before = lock(tx, id).await?;
    let mut active: category::ActiveModel = before.clone().into();
    if let Some(name) = change.name {
        active.name.set_if_not_equals(name.to_string());
    }
    if let Some(description) = change.description {
        active.description.set_if_not_equals(description.to_string());
    }
    if let Some(position) = change.position {
        active.position.set_if_not_equals(position);
    }
    let after = if active.is_changed() { active.update(tx.conn()).await? } else { before.clone() };
    let (category, before, seen) = (id, show(&before), show(&after));
    tx.audit(Audit::CategoryUpdated { category, before, after: seen }).await?;
    Ok(after)
}

/// Archives a category of the tenant's own; its products stay on sale. Repeating it changes nothing.
pub async fn archive_category(tx: &TenantTx, id: CategoryId) -> Result<category::Model> {
    let mut row = lock(tx, id).await?;
    if row.archived_at.is_none() {
        let mut active: category::ActiveModel = row.into();
        active.archived_at = Set(Some(Utc::now()));
        row = active.update(tx.conn()).await?;
    }
    tx.audit(Audit::CategoryArchived { category: id, name: row.name.clone() }).await?;
    Ok(row)
}

/// A category of the tenant's own into which something can be put.
pub(super) async fn open_category(tx: &TenantTx, id: CategoryId) -> Result<CategoryId> {
    let row = tx.own_by_id::<category::Entity>(id).one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("category"))?;
    if row.archived_at.is_some() {
        return Err(Error::field("category_id", "is archived; choose another category"));
    }
    Ok(row.id)
}

async fn lock(tx: &TenantTx, id: CategoryId) -> Result<category::Model> {
    let row = tx.own_by_id::<category::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("category"))
}

fn show(row: &category::Model) -> serde_json::Value {
    json!({ "name": row.name, "description": row.description, "position": row.position })
}
