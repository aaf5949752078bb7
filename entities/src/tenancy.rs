//! Who asks, for which tenant, with which rights.

use crate::idempotency::Once;
use crate::ids::{RequestId, TenantId, UserId};
use crate::{Result, error::Error};
use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A member's role. Each has the rights of those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "UPPERCASE")]
pub enum Role {
    #[sea_orm(string_value = "OWNER")]
    Owner,
    #[sea_orm(string_value = "ADMIN")]
    Admin,
    #[sea_orm(string_value = "BILLING")]
    Billing,
    #[sea_orm(string_value = "MEMBER")]
    Member,
    #[sea_orm(string_value = "VIEWER")]
    Viewer,
}

impl Role {
    /// Whether this role has the rights of `needed`.
    #[must_use]
    pub fn reaches(self, needed: Self) -> bool {
        self.rank() >= needed.rank()
    }

    fn rank(self) -> u8 {
        match self {
            Self::Owner => 4,
            Self::Admin => 3,
            Self::Billing => 2,
            Self::Member => 1,
            Self::Viewer => 0,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Owner => "OWNER",
            Self::Admin => "ADMIN",
            Self::Billing => "BILLING",
            Self::Member => "MEMBER",
            Self::Viewer => "VIEWER",
        })
    }
}

/// What a tenant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum TenantKind {
    #[sea_orm(string_value = "platform")]
    Platform,
    #[sea_orm(string_value = "reseller")]
    Reseller,
    #[sea_orm(string_value = "customer")]
    Customer,
}

/// What somebody wants to do. The one table of who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// One's own; everybody has it.
    ProfileRead,
    TenantRead,
    TenantWrite,
    MembersRead,
    MembersWrite,
    AuditRead,
    AccountsRead,
    ZonesRead,
    MigrationsRead,
    MigrationsWrite,
    /// Rolling back although something has changed since.
    MigrationsForce,
    ServersUse,
    ServersRead,
    ServersWrite,
    JobsRead,
}

impl Permission {
    /// The lowest role that has it.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::ProfileRead => Role::Viewer,
            Self::TenantRead
            | Self::MembersRead
            | Self::AccountsRead
            | Self::MigrationsRead
            | Self::ServersUse => Role::Member,
            Self::ZonesRead => Role::Billing,
            Self::TenantWrite
            | Self::MembersWrite
            | Self::AuditRead
            | Self::MigrationsWrite
            | Self::ServersRead
            | Self::ServersWrite
            | Self::JobsRead => Role::Admin,
            Self::MigrationsForce => Role::Owner,
        }
    }

    /// Whether it is the platform's alone.
    #[must_use]
    pub fn platform_only(self) -> bool {
        matches!(self, Self::ServersRead | Self::ServersWrite | Self::JobsRead)
    }
}

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum Actor {
    User(UserId),
    /// A worker on its own account, as in an undo.
    System,
    /// The operator at the machine, through the API binary's commands.
    Bootstrap,
}

/// Where a request came from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub ip: Option<String>,
    pub user_agent: Option<String>,
}

/// Somebody authenticated, acting in one tenant with the rights of a role. There is no public
/// constructor: [`crate::accounts::authenticate`] makes it from a verified token and
/// [`TenantCtx::resume`] from a stored job.
#[derive(Debug, Clone)]
pub struct TenantCtx {
    tenant: TenantId,
    actor: Actor,
    role: Role,
    /// Whether the role is held in the platform tenant, wherever the request acts.
    platform_staff: bool,
    request: RequestId,
    origin: Origin,
    /// What lets a repeated request have its effect once.
    once: Option<Arc<Once>>,
}

/// A context as a job keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredActor {
    pub actor: Actor,
    pub role: Role,
    pub platform_staff: bool,
}

impl TenantCtx {
    pub(crate) fn new(
        tenant: TenantId,
        stored: &StoredActor,
        request: RequestId,
        origin: Origin,
    ) -> Self {
        Self {
            tenant,
            actor: stored.actor,
            role: stored.role,
            platform_staff: stored.platform_staff,
            request,
            origin,
            once: None,
        }
    }

    /// The same, of a request with an `Idempotency-Key`.
    #[must_use]
    pub fn with_once(self, once: Arc<Once>) -> Self {
        Self { once: Some(once), ..self }
    }

    pub(crate) fn once(&self) -> Option<&Arc<Once>> {
        self.once.as_ref()
    }

    /// The same, in another tenant.
    pub(crate) fn within(&self, tenant: TenantId) -> Self {
        Self { tenant, ..self.clone() }
    }

    /// Acts on as the person who started a job.
    #[must_use]
    pub fn resume(tenant: TenantId, stored: &StoredActor, request: RequestId) -> Self {
        Self::new(tenant, stored, request, Origin::default())
    }

    /// What a job keeps of this context.
    #[must_use]
    pub fn store(&self) -> StoredActor {
        StoredActor { actor: self.actor, role: self.role, platform_staff: self.platform_staff }
    }

    /// The tenant that is acted in.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.actor
    }

    /// The person, when it is one.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        match self.actor {
            Actor::User(id) => Some(id),
            Actor::System | Actor::Bootstrap => None,
        }
    }

    /// The role that is acted with.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether the platform's staff acts.
    #[must_use]
    pub fn is_platform_staff(&self) -> bool {
        self.platform_staff
    }

    /// The request that all this belongs to.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// Where the request came from.
    #[must_use]
    pub fn ip(&self) -> Option<&str> {
        self.origin.ip.as_deref()
    }

    /// What the caller's program calls itself.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        self.origin.user_agent.as_deref()
    }

    /// Where the request came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The platform's person who acts as this one.
    #[must_use]
    pub fn impersonator(&self) -> Option<UserId> {
        None
    }

    /// Refuses what the role does not reach.
    pub fn require(&self, permission: Permission) -> Result<()> {
        let needed = permission.role();
        if permission.platform_only() && !self.platform_staff {
            return Err(Error::Forbidden { needed: format!("{needed} of the platform") });
        }
        if !self.role.reaches(needed) {
            return Err(Error::Forbidden { needed: needed.to_string() });
        }
        Ok(())
    }
}
