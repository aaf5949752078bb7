//! This installation's account at a certificate authority.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "acme_account")]
pub struct Model {
    /// The address of the authority's directory.
    #[sea_orm(primary_key, auto_increment = false)]
    pub directory: String,
    pub sealed_key: String,
    /// What the authority calls the account; none until it has said so.
    pub url: Option<String>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
