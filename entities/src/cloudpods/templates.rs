//! What containers may be installed with.

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, TenantTx};
use crate::error::{Code, Error};
use crate::tables::pod_template::{self, Column};
use crate::tenancy::{Permission, TenantCtx};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder,
};
use values::{ArchiveName, TemplateCode, Title};

/// Makes a template, or changes what one stands for; one that was retired is back.
pub async fn put_template(
    db: &Db,
    ctx: &TenantCtx,
    code: &TemplateCode,
    (title, archive): (&Title, &ArchiveName),
) -> Result<pod_template::Model> {
    ctx.require_write(Permission::ServersWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = pod_template::Entity::find_by_id(code.to_string()).one(tx.conn()).await?;
    let is_new = row.is_none();
    let mut active = match row {
        Some(row) => row.into_active_model(),
        None => pod_template::ActiveModel {
            code: Set(code.to_string()),
            created_at: Set(Utc::now()),
            ..Default::default()
        },
    };
    active.title = Set(title.to_string());
    active.archive = Set(archive.to_string());
    active.retired_at = Set(None);
    let row = match is_new {
        true => active.insert(tx.conn()).await?,
        false => active.update(tx.conn()).await?,
    };
    let entry = Audit::PodTemplatePut { code: code.to_string(), archive: archive.to_string() };
    tx.audit(ctx, entry).await?;
    tx.commit().await?;
    Ok(row)
}

/// Retires a template: nothing new is installed with it. Repeating it changes nothing.
pub async fn retire_template(db: &Db, ctx: &TenantCtx, code: &TemplateCode) -> Result<()> {
    ctx.require_write(Permission::ServersWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = pod_template::Entity::find_by_id(code.to_string()).one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("template"))?;
    let retired = row.retired_at.unwrap_or_else(Utc::now);
    let mut active = row.into_active_model();
    active.retired_at = Set(Some(retired));
    active.update(tx.conn()).await?;
    tx.audit(ctx, Audit::PodTemplateRetired { code: code.to_string() }).await?;
    tx.commit().await
}

/// The templates that may be chosen, by name.
pub async fn list_templates(tx: &TenantTx) -> Result<Vec<pod_template::Model>> {
    let open = pod_template::Entity::find().filter(Column::RetiredAt.is_null());
    Ok(open.order_by_asc(Column::Code).all(tx.conn()).await?)
}

/// The archive of a template.
pub async fn archive_of(tx: &SystemTx, code: &TemplateCode) -> Result<ArchiveName> {
    let row = pod_template::Entity::find_by_id(code.to_string()).one(tx.conn()).await?;
    let gone = || {
        let text = format!("There is no template {code} any more. Choose another one.");
        Error::refused(Code::NotFound, text)
    };
    Ok(ArchiveName::parse(&row.ok_or_else(gone)?.archive)?)
}

/// Refuses a template that may not be chosen.
pub(super) async fn open_template(tx: &SystemTx, code: &TemplateCode) -> Result<()> {
    let row = pod_template::Entity::find_by_id(code.to_string()).one(tx.conn()).await?;
    match row.is_some_and(|row| row.retired_at.is_none()) {
        true => Ok(()),
        false => Err(Error::NotFound("template")),
    }
}
