//! Who asks, for which tenant, with which rights.

use crate::Result;
use crate::error::{Code, Error};
use crate::idempotency::Once;
use crate::ids::{KeyId, RequestId, SessionId, TenantId, UserId, ZoneId};
use crate::sessions::Standing;
use sea_orm::{DeriveActiveEnum, EnumIter, Iterable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use values::DomainName;

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
    /// All of them, the highest first.
    pub const ALL: [Self; 5] =
        [Self::Owner, Self::Admin, Self::Billing, Self::Member, Self::Viewer];

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter)]
pub enum Permission {
    /// One's own; everybody has it.
    ProfileRead,
    ProfileWrite,
    /// One's own logins.
    SessionsRead,
    TenantRead,
    TenantWrite,
    MembersRead,
    MembersWrite,
    /// Taking somebody's rights away.
    MembersRemove,
    UsersRead,
    UsersWrite,
    KeysRead,
    KeysWrite,
    /// Making a key worthless.
    KeysRevoke,
    /// Acting as somebody else.
    Impersonate,
    AuditRead,
    AccountsRead,
    ZonesRead,
    ZonesWrite,
    /// Ending a zone, or giving it to another tenant.
    ZonesDelete,
    MigrationsRead,
    MigrationsWrite,
    /// Rolling back although something has changed since.
    MigrationsForce,
    ServersUse,
    ServersRead,
    ServersWrite,
    JobsRead,
    /// Looking at the jobs of all tenants.
    JobsOversee,
    /// Stopping jobs, and bringing them on.
    JobsWrite,
    /// Messages that no worker could act on.
    DeadLettersRead,
    DeadLettersWrite,
    CatalogueRead,
    CatalogueWrite,
    OrdersRead,
    OrdersWrite,
    /// Saying that an order was paid although Stripe has not.
    OrdersSettle,
    /// Subscriptions, invoices, payments and the customer's state at Stripe.
    BillingRead,
    /// Paying, and what is paid for from now on.
    BillingWrite,
    /// Ending at once what is paid for.
    BillingEnd,
    /// Giving money back.
    PaymentsRefund,
    /// What Stripe told.
    StripeEventsRead,
    StripeEventsReplay,
    CloudpodsRead,
    /// Starting and stopping.
    CloudpodsPower,
    CloudpodsWrite,
    /// Ending one with all that is in it.
    CloudpodsDelete,
    CertificatesRead,
    CertificatesWrite,
    ServicesRead,
    /// Suspending a customer's service, letting it run again, or trying anew to make it.
    ServicesWrite,
    /// Who is told of events, and what they were told.
    WebhooksRead,
    WebhooksWrite,
}

impl Permission {
    /// The lowest role that has it.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::ProfileRead
            | Self::ProfileWrite
            | Self::SessionsRead
            | Self::CatalogueRead
            | Self::CloudpodsRead => Role::Viewer,
            Self::TenantRead
            | Self::MembersRead
            | Self::UsersRead
            | Self::AccountsRead
            | Self::CloudpodsPower
            | Self::CertificatesRead
            | Self::ServicesRead
            | Self::MigrationsRead
            | Self::JobsRead
            | Self::ServersUse => Role::Member,
            Self::ZonesRead
            | Self::OrdersRead
            | Self::OrdersWrite
            | Self::OrdersSettle
            | Self::BillingRead
            | Self::BillingWrite
            | Self::PaymentsRefund => Role::Billing,
            Self::TenantWrite
            | Self::MembersWrite
            | Self::MembersRemove
            | Self::UsersWrite
            | Self::KeysRead
            | Self::KeysWrite
            | Self::KeysRevoke
            | Self::Impersonate
            | Self::AuditRead
            | Self::MigrationsWrite
            | Self::ZonesWrite
            | Self::ServersRead
            | Self::ServersWrite
            | Self::JobsOversee
            | Self::JobsWrite
            | Self::DeadLettersRead
            | Self::DeadLettersWrite
            | Self::CatalogueWrite
            | Self::StripeEventsRead
            | Self::StripeEventsReplay
            | Self::CertificatesWrite
            | Self::CloudpodsWrite
            | Self::CloudpodsDelete
            | Self::ServicesWrite
            | Self::WebhooksRead
            | Self::WebhooksWrite => Role::Admin,
            Self::MigrationsForce | Self::BillingEnd | Self::ZonesDelete => Role::Owner,
        }
    }

    /// Whether it is the platform's alone.
    #[must_use]
    pub fn platform_only(self) -> bool {
        matches!(
            self,
            Self::ServersRead
                | Self::ServersWrite
                | Self::JobsOversee
                | Self::JobsWrite
                | Self::DeadLettersRead
                | Self::DeadLettersWrite
                | Self::Impersonate
                | Self::OrdersSettle
                | Self::PaymentsRefund
                | Self::StripeEventsRead
                | Self::StripeEventsReplay
                | Self::ServicesWrite
        )
    }

    /// The scope that an API key needs for it; none: no key has it, a person must log in.
    #[must_use]
    pub fn scope(self) -> Option<&'static str> {
        match self {
            Self::ProfileRead => Some("profile:read"),
            Self::ProfileWrite
            | Self::SessionsRead
            | Self::Impersonate
            | Self::KeysWrite
            | Self::KeysRevoke => None,
            Self::TenantRead => Some("tenants:read"),
            Self::TenantWrite => Some("tenants:write"),
            Self::MembersRead | Self::UsersRead => Some("members:read"),
            Self::MembersWrite | Self::MembersRemove | Self::UsersWrite => Some("members:write"),
            Self::KeysRead => Some("keys:read"),
            Self::AuditRead => Some("audit:read"),
            Self::AccountsRead => Some("accounts:read"),
            Self::ZonesRead => Some("dns:read"),
            Self::ZonesWrite | Self::ZonesDelete => Some("dns:write"),
            Self::MigrationsRead => Some("migrations:read"),
            Self::MigrationsWrite | Self::MigrationsForce => Some("migrations:write"),
            Self::ServersUse | Self::ServersRead => Some("servers:read"),
            Self::ServersWrite => Some("servers:write"),
            Self::JobsRead | Self::JobsOversee => Some("jobs:read"),
            Self::JobsWrite => Some("jobs:write"),
            Self::DeadLettersRead => Some("dead_letters:read"),
            Self::DeadLettersWrite => Some("dead_letters:write"),
            Self::CatalogueRead => Some("catalogue:read"),
            Self::CatalogueWrite => Some("catalogue:write"),
            Self::OrdersRead => Some("orders:read"),
            Self::OrdersWrite => Some("orders:write"),
            Self::OrdersSettle => Some("orders:settle"),
            Self::BillingRead => Some("billing:read"),
            Self::BillingWrite | Self::BillingEnd => Some("billing:write"),
            Self::PaymentsRefund => Some("billing:refund"),
            Self::StripeEventsRead => Some("stripe_events:read"),
            Self::StripeEventsReplay => Some("stripe_events:write"),
            Self::CloudpodsRead => Some("cloudpods:read"),
            Self::CloudpodsPower => Some("cloudpods:power"),
            Self::CloudpodsWrite | Self::CloudpodsDelete => Some("cloudpods:write"),
            Self::CertificatesRead => Some("certificates:read"),
            Self::CertificatesWrite => Some("certificates:write"),
            Self::ServicesRead => Some("services:read"),
            Self::ServicesWrite => Some("services:write"),
            Self::WebhooksRead => Some("webhooks:read"),
            Self::WebhooksWrite => Some("webhooks:write"),
        }
    }

    /// Whether it is left to a suspended tenant: looking, one's own login, and what only takes rights
    /// away, so that a key that leaked need not wait for the bill to be paid; and paying it.
    #[must_use]
    pub fn survives_suspension(self) -> bool {
        matches!(
            self,
            Self::ProfileWrite | Self::MembersRemove | Self::KeysRevoke | Self::BillingWrite
        )
    }
}

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum Actor {
    User(UserId),
    /// A program with an API key.
    Key(KeyId),
    /// A worker on its own account, as in an undo.
    System,
    /// The operator at the machine, through the API binary's commands.
    Bootstrap,
}

/// Record sets that a key is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub zone_id: ZoneId,
    /// Relative to the zone, or absolute with a final dot; none: any.
    pub name: Option<String>,
    /// Such as `TXT`; none: any.
    #[serde(rename = "type")]
    pub rtype: Option<String>,
}

/// Every scope that an API key can have.
#[must_use]
pub fn scopes() -> BTreeSet<&'static str> {
    Permission::iter().filter_map(Permission::scope).collect()
}

/// Where a request came from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub ip: Option<String>,
    pub user_agent: Option<String>,
}

/// Somebody authenticated, acting in one tenant with the rights of a role. There is no public
/// constructor: [`crate::sessions::authenticate`] and [`crate::keys::authenticate`] make it from
/// what was verified, and [`TenantCtx::resume`] from a stored job.
#[derive(Debug, Clone)]
pub struct TenantCtx {
    tenant: TenantId,
    /// Where the role is held: `tenant`, or one above it.
    home: TenantId,
    actor: Actor,
    role: Role,
    /// Whether the role is held in the platform tenant, wherever the request acts.
    platform_staff: bool,
    impersonator: Option<UserId>,
    session: Option<SessionId>,
    /// Of a key: what it may be used for; empty: all that its role may.
    scopes: Option<Arc<BTreeSet<String>>>,
    /// Of a key: the record sets that it may change, and nothing else; none: whatever its scopes say.
    bindings: Option<Arc<Vec<Binding>>>,
    /// What holds of the tenant that the role is held in.
    standing: Standing,
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
    /// The platform's person who acts as this one.
    #[serde(default)]
    pub impersonator: Option<UserId>,
}

impl StoredActor {
    /// Nobody acts for this one.
    #[must_use]
    pub fn new(actor: Actor, role: Role, platform_staff: bool) -> Self {
        Self { actor, role, platform_staff, impersonator: None }
    }
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
            home: tenant,
            actor: stored.actor,
            role: stored.role,
            platform_staff: stored.platform_staff,
            impersonator: stored.impersonator,
            session: None,
            scopes: None,
            bindings: None,
            standing: Standing { platform: stored.platform_staff, frozen: false, lacks_mfa: false },
            request,
            origin,
            once: None,
        }
    }

    /// The system, acting on its own account in a tenant.
    pub(crate) fn system(tenant: TenantId) -> Self {
        let stored = StoredActor::new(Actor::System, Role::Owner, false);
        Self::new(tenant, &stored, RequestId::new(), Origin::default())
    }

    pub(crate) fn of_session(self, session: SessionId, standing: Standing) -> Self {
        Self { session: Some(session), standing, ..self }
    }

    /// `scopes`: what the key may be used for; empty: all that its role may.
    pub(crate) fn of_key(self, scopes: BTreeSet<String>, standing: Standing) -> Self {
        Self { scopes: Some(Arc::new(scopes)), standing, ..self }
    }

    /// The same, bound to record sets.
    pub(crate) fn bound_to(self, bindings: Vec<Binding>) -> Self {
        Self { bindings: Some(Arc::new(bindings)), ..self }
    }

    /// The zones that a key is bound to; none: it is not bound.
    pub(crate) fn bound_zones(&self) -> Option<BTreeSet<ZoneId>> {
        let bindings = self.bindings.as_ref()?;
        Some(bindings.iter().map(|binding| binding.zone_id).collect())
    }

    /// Refuses a key that is bound to record sets: whatever this is, it is more than those.
    pub(crate) fn refuse_bound(&self) -> Result<()> {
        if self.bindings.is_none() {
            return Ok(());
        }
        let text = "This API key is bound to record sets: it can change those, and nothing else. \
                    Use another key.";
        Err(Error::refused(Code::Forbidden, text))
    }

    /// Refuses a record set that a bound key is not bound to. The name is absolute.
    pub(crate) fn require_set(
        &self,
        zone: ZoneId,
        zone_name: &DomainName,
        name: &str,
        rtype: &str,
    ) -> Result<()> {
        let Some(bindings) = &self.bindings else { return Ok(()) };
        let fits = |b: &&Binding| {
            let same_name = b.name.as_ref().is_none_or(|bound| {
                zonefile::absolute(zone_name, bound).is_ok_and(|bound| bound == name)
            });
            b.zone_id == zone && same_name && b.rtype.as_ref().is_none_or(|bound| bound == rtype)
        };
        if bindings.iter().any(|binding| fits(&binding)) {
            return Ok(());
        }
        let text = format!("This API key is not bound to {name} {rtype}. Use another key.");
        Err(Error::refused(Code::Forbidden, text))
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
        StoredActor {
            actor: self.actor,
            role: self.role,
            platform_staff: self.platform_staff,
            impersonator: self.impersonator,
        }
    }

    /// The platform's person who acts as this one.
    #[must_use]
    pub fn impersonator(&self) -> Option<UserId> {
        self.impersonator
    }

    /// The login that this request belongs to.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.session
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

    /// The tenant that the role is held in: the one that is acted in, or one above it.
    #[must_use]
    pub fn home(&self) -> TenantId {
        self.home
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
            Actor::Key(_) | Actor::System | Actor::Bootstrap => None,
        }
    }

    /// The API key, when it is one.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        match self.actor {
            Actor::Key(id) => Some(id),
            Actor::User(_) | Actor::System | Actor::Bootstrap => None,
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

    /// Refuses to give, change or take a role above the own one.
    pub(crate) fn at_most_own(&self, role: Role) -> Result<()> {
        if self.role.reaches(role) {
            return Ok(());
        }
        Err(Error::Forbidden { needed: role.to_string() })
    }

    /// Refuses an API key whose scopes are narrowed, in its own tenant: whom it made a member there
    /// could log in and do all that it may not.
    pub(crate) fn gives_rights(&self) -> Result<()> {
        let narrowed = self.scopes.as_ref().is_some_and(|scopes| !scopes.is_empty());
        if narrowed && self.home == self.tenant {
            let text = "An API key with scopes gives nobody rights in its own tenant, since they \
                        would reach further than its scopes. Log in, or use a key without scopes.";
            return Err(Error::refused(Code::Forbidden, text));
        }
        Ok(())
    }

    /// Refuses what the role does not reach.
    pub fn require(&self, permission: Permission) -> Result<()> {
        let needed = permission.role();
        let is_own = matches!(
            permission,
            Permission::ProfileRead | Permission::ProfileWrite | Permission::SessionsRead
        );
        if self.standing.lacks_mfa && !is_own {
            return Err(Error::refused(
                Code::MfaSetupRequired,
                "This tenant wants a second factor. Set one up at POST /api/auth/mfa/setup first.",
            ));
        }
        if permission.platform_only() && !self.platform_staff {
            return Err(Error::Forbidden { needed: format!("{needed} of the platform") });
        }
        if !self.role.reaches(needed) {
            return Err(Error::Forbidden { needed: needed.to_string() });
        }
        match (&self.scopes, permission.scope()) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Error::refused(
                Code::Forbidden,
                "No API key may do this. Log in with a password.",
            )),
            (Some(has), Some(scope)) if has.is_empty() || has.contains(scope) => Ok(()),
            (Some(_), Some(scope)) => Err(Error::refused(
                Code::Forbidden,
                format!("This API key lacks the scope {scope}. Make one that has it."),
            )),
        }
    }

    /// The same for a change, which a suspended tenant cannot make.
    pub fn require_write(&self, permission: Permission) -> Result<()> {
        self.require(permission)?;
        if self.standing.frozen && !permission.survives_suspension() {
            return Err(Error::refused(
                Code::TenantSuspended,
                "This tenant is suspended: it can look, and change nothing. Ask your provider.",
            ));
        }
        Ok(())
    }
}
