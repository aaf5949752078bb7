//! The audit trail: a closed list of what is recorded, appended in the transaction of what it
//! records. Nobody may change or delete an entry.

use crate::Result;
use crate::db::{SystemTx, TenantTx};
use crate::ids::{KeyId, LinkId, RowId, SessionId, TenantId, UserId};
use crate::tables::audit_log;
use crate::tenancy::{Actor, TenantCtx};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde::Serialize;
use serde_json::{Value, json};

/// What is recorded. The name of the variant in capitals is the entry's kind. `before` and `after`
/// hold what a change found and left, as objects of the fields that differ; no password, hash,
/// token or key stands in any of it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", content = "data", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Audit {
    PlatformBootstrapped {
        owner: String,
    },
    Login {
        second_factor: bool,
    },
    /// One failed login of an account that there is, or many of accounts that there are not: those
    /// are counted by address from `since` on for a quarter of an hour.
    LoginFailed {
        reason: String,
        count: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<DateTime<Utc>>,
    },
    Logout {},
    TenantSwitch {
        from: TenantId,
        to: TenantId,
    },
    UserCreated {
        user: UserId,
        email: String,
    },
    UserUpdated {
        user: UserId,
        before: Value,
        after: Value,
    },
    UserDeleted {
        user: UserId,
        before: Value,
    },
    MemberAdded {
        email: String,
        role: String,
    },
    MemberUpdated {
        user: UserId,
        before: Value,
        after: Value,
    },
    MemberRemoved {
        user: UserId,
        before: Value,
    },
    TenantCreated {
        id: TenantId,
        name: String,
    },
    TenantUpdated {
        id: TenantId,
        before: Value,
        after: Value,
    },
    TenantSuspended {
        id: TenantId,
        reason: String,
    },
    TenantResumed {
        id: TenantId,
    },
    TenantUsersListed {
        count: usize,
    },
    TenantUserViewed {
        user: UserId,
    },
    /// A hash of the old system was verified and replaced.
    PasswordHashMigrated {
        user: UserId,
    },
    PasswordChanged {
        user: UserId,
    },
    PasswordResetRequested {
        user: UserId,
    },
    PasswordReset {
        user: UserId,
    },
    EmailChangeRequested {
        user: UserId,
        to: String,
    },
    EmailChanged {
        user: UserId,
        before: Value,
        after: Value,
    },
    EmailVerified {
        user: UserId,
        email: String,
    },
    InvitationCreated {
        invitation: LinkId,
        email: String,
        role: String,
    },
    InvitationAccepted {
        invitation: LinkId,
        user: UserId,
    },
    InvitationRevoked {
        invitation: LinkId,
    },
    MfaSetUp {
        user: UserId,
    },
    MfaEnabled {
        user: UserId,
    },
    MfaDisabled {
        user: UserId,
    },
    RecoveryCodeUsed {
        user: UserId,
        left: u64,
    },
    RecoveryCodesRenewed {
        user: UserId,
    },
    SessionRevoked {
        session: SessionId,
    },
    SessionsRevoked {
        user: UserId,
        count: u64,
    },
    RefreshTokenReused {
        session: SessionId,
    },
    AccountLocked {
        user: UserId,
        until: DateTime<Utc>,
    },
    AccountUnlocked {
        user: UserId,
    },
    ApiKeyCreated {
        key: KeyId,
        name: String,
        role: String,
        scopes: Vec<String>,
    },
    ApiKeyRevoked {
        key: KeyId,
        name: String,
    },
    ImpersonationStarted {
        user: UserId,
        reason: String,
        until: DateTime<Utc>,
    },
    ImpersonationEnded {
        user: UserId,
    },
    AuditExported {
        from: Option<DateTime<Utc>>,
        to: DateTime<Utc>,
    },
    /// A request was refused: by which code, and what it asked.
    RequestRefused {
        code: String,
        method: String,
        path: String,
        detail: String,
    },
    ServerCreated {
        id: String,
        name: String,
    },
    ServerEnrolmentStarted {
        id: String,
    },
    ServerEnrolled {
        id: String,
        changes: usize,
    },
    ServerUpdated {
        id: String,
        change: String,
    },
    ServerGranted {
        id: String,
        tenant: TenantId,
    },
    MigrationValidated {
        server: String,
        path: String,
        target_user: String,
        passed: bool,
    },
    MigrationAnalysisStarted {
        job: String,
        server: String,
        path: String,
        target_user: String,
    },
    MigrationAnalyzed {
        job: String,
        sha256: String,
    },
    MigrationPreviewed {
        job: String,
        digest: String,
    },
    MigrationApplyStarted {
        job: String,
        digest: String,
    },
    MigrationCompleted {
        job: String,
        losses: u64,
    },
    MigrationFailed {
        job: String,
        code: String,
    },
    MigrationChecked {
        job: String,
        passed: bool,
    },
    MigrationConfirmed {
        job: String,
        items: Vec<String>,
    },
    MigrationRollbackStarted {
        job: String,
        forced: bool,
    },
    MigrationRolledBack {
        job: String,
    },
}

/// Appends an entry in the name of `ctx`.
pub(crate) async fn append(tx: &DatabaseTransaction, ctx: &TenantCtx, entry: Audit) -> Result<()> {
    let value = serde_json::to_value(&entry)?;
    let (actor_kind, actor_id) = match ctx.actor() {
        Actor::User(id) => ("user", Some(id)),
        Actor::Key(id) => ("key", Some(UserId(id.0))),
        Actor::System => ("system", None),
        Actor::Bootstrap => ("bootstrap", None),
    };
    let row = audit_log::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(ctx.tenant()),
        kind: Set(value.get("kind").and_then(Value::as_str).unwrap_or("UNKNOWN").to_owned()),
        actor_kind: Set(actor_kind.to_owned()),
        actor_id: Set(actor_id),
        request_id: Set(Some(ctx.request())),
        ip: Set(ctx.ip().map(str::to_owned)),
        data: Set(value.get("data").cloned().unwrap_or_else(|| json!({}))),
        created_at: Set(Utc::now()),
    };
    audit_log::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Records a refused request where it was to act; without a context, with the platform.
pub async fn record_refusal(
    tx: &SystemTx,
    ctx: Option<&TenantCtx>,
    anonymous: Anonymous,
    entry: Audit,
) -> Result<()> {
    if let Some(ctx) = ctx {
        return append(tx.conn(), ctx, entry).await;
    }
    let Some(platform) = crate::tenants::platform(tx).await? else { return Ok(()) };
    let value = serde_json::to_value(&entry)?;
    audit_log::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(platform),
        kind: Set(value.get("kind").and_then(Value::as_str).unwrap_or("UNKNOWN").to_owned()),
        actor_kind: Set("anonymous".to_owned()),
        actor_id: Set(None),
        request_id: Set(Some(anonymous.request)),
        ip: Set(anonymous.ip),
        data: Set(value.get("data").cloned().unwrap_or_else(|| json!({}))),
        created_at: Set(Utc::now()),
    }
    .insert(tx.conn())
    .await?;
    Ok(())
}

/// What is known of a caller who is nobody.
#[derive(Debug)]
pub struct Anonymous {
    pub request: crate::ids::RequestId,
    pub ip: Option<String>,
}

/// The newest entries before `before`, newest first.
pub async fn list_entries(
    tx: &TenantTx,
    before: Option<DateTime<Utc>>,
    limit: u64,
) -> Result<Vec<audit_log::Model>> {
    let mut query = audit_log::Entity::find()
        .filter(audit_log::Column::TenantId.eq(tx.tenant()))
        .order_by_desc(audit_log::Column::CreatedAt)
        .limit(limit);
    if let Some(before) = before {
        query = query.filter(audit_log::Column::CreatedAt.lt(before));
    }
    Ok(query.all(tx.conn()).await?)
}

/// Counts a failed login of nobody, by address.
pub async fn tally_unknown_login(db: &crate::db::Db, ip: &str) -> Result<()> {
    tracing::debug!(ip, db = ?db, "unknown");
    Ok(())
}
