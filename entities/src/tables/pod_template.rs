//! What a container may be installed with.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "pod_template")]
pub struct Model {
    /// As plans name it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub code: String,
    pub title: String,
    /// The file name of the archive in the storage of templates.
    pub archive: String,
    pub created_at: DateTimeUtc,
    /// Since when nothing new is installed with it.
    pub retired_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
