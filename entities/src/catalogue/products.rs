//! What is sold.

use crate::Result;
use crate::audit::Audit;
use crate::catalogue::categories::open_category;
use crate::catalogue::{Kind, Specification, SyncState, must_sell};
use crate::db::TenantTx;
use crate::error::Error;
use crate::ids::{CategoryId, ProductId};
use crate::outbox::Message;
use crate::tables::product::{self, Column};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::json;
use values::{PlanCode, Prose, Title};

/// A product as it is to be.
#[derive(Debug)]
pub struct NewProduct {
    pub category: Option<CategoryId>,
    pub name: Title,
    pub description: Prose,
    pub specification: Specification,
    /// What programs call it.
    pub code: Option<PlanCode>,
    /// The lower, the further in front.
    pub position: i32,
}

/// What changes of a product; none: stays. What it is does not change: that is another product.
#[derive(Debug, Default)]
pub struct Change {
    /// `Some(None)` takes it out of its category.
    pub category: Option<Option<CategoryId>>,
    pub name: Option<Title>,
    pub description: Option<Prose>,
    pub position: Option<i32>,
}

/// Which products are wanted; nothing set: all that are on sale.
#[derive(Debug, Default)]
pub struct Filter {
    pub category: Option<CategoryId>,
    pub kind: Option<Kind>,
    /// The tenant's own that are archived, too.
    pub archived: bool,
}

/// Makes a product of the tenant's own.
pub async fn create_product(tx: &TenantTx, new: NewProduct) -> Result<product::Model> {
    must_sell(tx).await?;
    new.specification.check()?;
    let category = match new.category {
        Some(id) => Some(open_category(tx, id).await?),
        None => None,
    };
    let row = product::ActiveModel {
        id: Set(ProductId::new()),
        tenant_id: Set(tx.tenant()),
        category_id: Set(category),
        name: Set(new.name.to_string()),
        description: Set(new.description.to_string()),
        kind: Set(new.specification.kind()),
        specification: Set(serde_json::to_value(&new.specification)?),
        position: Set(new.position),
        archived_at: NotSet,
        created_at: Set(Utc::now()),
        stripe_id: NotSet,
        sync_state: NotSet,
        sync_error: NotSet,
        version: NotSet,
        synced_version: NotSet,
        code: Set(new.code.map(String::from)),
    };
    let row = row.insert(tx.conn()).await?;
    tx.audit(Audit::ProductCreated { product: row.id, name: row.name.clone() }).await?;
    tx.publish(Message::ProductChanged { product: row.id }).await?;
    Ok(row)
}

/// A page of the products that the tenant sees, by position and name, and how many there are.
pub async fn list_products(
    tx: &TenantTx,
    filter: &Filter,
    offset: u64,
    limit: u64,
) -> Result<(Vec<product::Model>, u64)> {
    let mut shown = Condition::any().add(Column::ArchivedAt.is_null());
    if filter.archived {
        shown = shown.add(Column::TenantId.eq(tx.tenant()));
    }
    let mut query = tx.seen::<product::Entity>().filter(shown);
    if let Some(category) = filter.category {
        query = query.filter(Column::CategoryId.eq(category));
    }
    if let Some(kind) = filter.kind {
        query = query.filter(Column::Kind.eq(kind));
    }
    let total = query.clone().count(tx.conn()).await?;
    let query = query
        .order_by_asc(Column::Position)
        .order_by_asc(Column::Name)
        .order_by_asc(Column::Id)
        .offset(offset)
        .limit(limit);
    Ok((query.all(tx.conn()).await?, total))
}

/// A product that the tenant sees, also one that is archived.
pub async fn find_product(tx: &TenantTx, id: ProductId) -> Result<product::Model> {
    let row = tx.seen::<product::Entity>().filter(Column::Id.eq(id)).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("product"))
}

/// Changes a product of the tenant's own.
pub async fn update_product(
    tx: &TenantTx,
    id: ProductId,
    change: Change,
) -> Result<product::Model> {
    let before = lock(tx, id).await?;
    let mut active: product::ActiveModel = before.clone().into();
    if let Some(category) = change.category {
        let moves = category.filter(|id| Some(*id) != before.category_id);
        if let Some(id) = moves {
            open_category(tx, id).await?;
        }
        active.category_id.set_if_not_equals(category);
    }
    if let Some(name) = change.name {
        active.name.set_if_not_equals(name.to_string());
    }
    if let Some(description) = change.description {
        active.description.set_if_not_equals(description.to_string());
    }
    if let Some(position) = change.position {
        active.position.set_if_not_equals(position);
    }
    let after = match active.is_changed() {
        true => save(tx, active, before.version).await?,
        false => before.clone(),
    };
    let (product, before, seen) = (id, show(&before), show(&after));
    tx.audit(Audit::ProductUpdated { product, before, after: seen }).await?;
    Ok(after)
}

/// Archives a product of the tenant's own: it and its prices are sold no more. Repeating it changes
/// nothing.
pub async fn archive_product(tx: &TenantTx, id: ProductId) -> Result<product::Model> {
    let mut row = lock(tx, id).await?;
    if row.archived_at.is_none() {
        let version = row.version;
        let mut active: product::ActiveModel = row.into();
        active.archived_at = Set(Some(Utc::now()));
        row = save(tx, active, version).await?;
    }
    tx.audit(Audit::ProductArchived { product: id, name: row.name.clone() }).await?;
    Ok(row)
}

/// A product of the tenant's own that is on sale. It stays so until the end of the transaction.
pub(super) async fn open_product(tx: &TenantTx, id: ProductId) -> Result<product::Model> {
    let row = lock(tx, id).await?;
    if row.archived_at.is_some() {
        return Err(Error::field("product_id", "is archived; choose another product"));
    }
    Ok(row)
}

async fn save(
    tx: &TenantTx,
    mut active: product::ActiveModel,
    version: i64,
) -> Result<product::Model> {
    active.version = Set(version.saturating_add(1));
    active.sync_state = Set(SyncState::Pending);
    active.sync_error = Set(None);
    let row = active.update(tx.conn()).await?;
    tx.publish(Message::ProductChanged { product: row.id }).await?;
    Ok(row)
}

async fn lock(tx: &TenantTx, id: ProductId) -> Result<product::Model> {
    let row = tx.own_by_id::<product::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("product"))
}

fn show(row: &product::Model) -> serde_json::Value {
    json!({
        "category_id": row.category_id,
        "name": row.name,
        "description": row.description,
        "position": row.position,
    })
}
