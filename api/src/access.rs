//! Who may do what: each operation of the contract with what it needs. The contract shows it, the
//! table in `openapi/roles.md` is made from it, and the tests try every line of it. That it is so is
//! decided below, where the permission is asked for.

use entities::error::Code;
use entities::tenancy::Permission;
use serde_json::json;
use std::fmt::Write;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::extensions::ExtensionsBuilder;

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: anybody may call it.
    Open,
    /// A permission in the tenant that is acted in.
    Needs(Permission),
}

use Access::{Needs, Open};

/// A password is given: [`crate::lockout`] counts.
const LOGIN: &[Code] = &[Code::AccountLocked];
/// A mailed link is shown.
const LINK: &[Code] = &[Code::LinkInvalid];
const SERVER: &[Code] = &[Code::ServerNotFound];
/// A worker is asked, who asks the server's agent.
const ASKS: &[Code] = &[
    Code::NoWorker,
    Code::WorkerTimeout,
    Code::ServerUnreachable,
    Code::HostKeyChanged,
    Code::AgentFailed,
    Code::LayoutMissing,
    Code::ProgramFailed,
    Code::ProgramTooSlow,
    Code::PhpMissing,
    Code::DatabaseFailed,
    Code::DnsFailed,
];
/// An archive is named.
const SOURCE: &[Code] = &[
    Code::ServerNotFound,
    Code::ServerNotEnrolled,
    Code::ServerMaintenance,
    Code::PathOutsideBackupDirs,
    Code::ArchiveNotFound,
    Code::ReservedUserName,
];
/// An archive is read.
const ARCHIVE: &[Code] = &[
    Code::ArchiveNotFound,
    Code::ArchiveUnsafe,
    Code::ArchiveChanged,
    Code::ArchiveTooLarge,
    Code::NotAnArchive,
    Code::Truncated,
    Code::JetbackupLayout,
    Code::UnsafeMember,
    Code::InvalidAccount,
];
/// What was analyzed goes on.
const READY: &[Code] = &[
    Code::NotAnalyzed,
    Code::AlreadyApplied,
    Code::JobState,
    Code::ServerNotFound,
    Code::ServerNotEnrolled,
    Code::ServerMaintenance,
    Code::UserTaken,
    Code::DiskFull,
    Code::AccountSuspended,
];
/// An order goes on.
const ORDER: &[Code] = &[Code::OrderState];
/// A subscription goes on.
const CHANGES: &[Code] = &[Code::SubscriptionState, Code::NotForSale, Code::PaymentRefused];
/// A service becomes something else.
const SERVICE: &[Code] = &[Code::ServiceState];
/// Records are changed.
const EDITS: &[Code] = &[Code::VersionChanged, Code::QuotaExceeded];
/// An address is named.
const ADDRESS: &[&[Code]] = &[&[Code::Conflict, Code::NotFound]];
/// A certificate is obtained: for an account, by its server.
const OBTAINS: &[Code] = &[
    Code::ServerNotFound,
    Code::ServerNotEnrolled,
    Code::ServerMaintenance,
    Code::AccountSuspended,
    Code::Conflict,
];
/// A container becomes something else.
const POD: &[Code] = &[Code::CloudpodState, Code::CloudpodBusy];
/// A ticket is shown: it stands for whoever asked for it, and their rights.
const CONSOLE: &[Code] = &[
    Code::TicketInvalid,
    Code::Unauthenticated,
    Code::Forbidden,
    Code::MfaSetupRequired,
    Code::TenantSuspended,
    Code::NotFound,
    Code::CloudpodState,
    Code::QuotaExceeded,
];
/// Something is put on sale.
const SELLS: &[Code] = &[Code::NotASeller];
const APPROVAL: &[Code] =
    &[Code::ApprovalInvalid, Code::ApprovalUsed, Code::ApprovalExpired, Code::PlanChanged];

/// Every operation: method, path, what it needs, and with which codes it may be refused beside those
/// that any such operation has ([`refusals`]).
pub const TABLE: &[(&str, &str, Access, &[&[Code]])] = &[
    ("get", "/healthz", Open, &[]),
    ("get", "/readyz", Open, &[]),
    (
        "post",
        "/api/auth/login",
        Open,
        &[LOGIN, &[Code::InvalidCredentials, Code::MfaRequired, Code::EmailUnverified]],
    ),
    ("post", "/api/auth/refresh", Open, &[&[Code::RefreshInvalid]]),
    ("post", "/api/auth/register", Open, &[&[Code::Forbidden]]),
    ("post", "/api/auth/verify-email", Open, &[LINK]),
    ("post", "/api/auth/resend-verification", Open, &[]),
    ("post", "/api/auth/forgot-password", Open, &[]),
    ("post", "/api/auth/reset-password", Open, &[LINK]),
    ("post", "/api/auth/confirm-email", Open, &[LINK, &[Code::Conflict]]),
    (
        "post",
        "/api/invitations/accept",
        Open,
        &[LINK, &[Code::Conflict, Code::QuotaExceeded, Code::TenantSuspended]],
    ),
    ("get", "/api/me", Needs(Permission::ProfileRead), &[]),
    ("patch", "/api/me", Needs(Permission::ProfileWrite), &[]),
    ("post", "/api/auth/logout", Needs(Permission::ProfileWrite), &[]),
    ("post", "/api/auth/switch-tenant", Needs(Permission::ProfileWrite), &[]),
    (
        "post",
        "/api/auth/change-password",
        Needs(Permission::ProfileWrite),
        &[LOGIN, &[Code::Conflict]],
    ),
    ("post", "/api/auth/change-email", Needs(Permission::ProfileWrite), &[LOGIN]),
    ("get", "/api/auth/sessions", Needs(Permission::SessionsRead), &[]),
    ("delete", "/api/auth/sessions", Needs(Permission::ProfileWrite), &[]),
    ("delete", "/api/auth/sessions/{id}", Needs(Permission::ProfileWrite), &[]),
    ("post", "/api/auth/mfa/setup", Needs(Permission::ProfileWrite), &[LOGIN, &[Code::Conflict]]),
    ("post", "/api/auth/mfa/enable", Needs(Permission::ProfileWrite), &[&[Code::Conflict]]),
    ("post", "/api/auth/mfa/disable", Needs(Permission::ProfileWrite), &[LOGIN, &[Code::Conflict]]),
    (
        "post",
        "/api/auth/mfa/recovery-codes",
        Needs(Permission::ProfileWrite),
        &[LOGIN, &[Code::Conflict]],
    ),
    ("get", "/api/tenants", Needs(Permission::TenantRead), &[]),
    ("post", "/api/tenants", Needs(Permission::TenantWrite), &[&[Code::QuotaExceeded]]),
    ("get", "/api/tenants/{id}", Needs(Permission::TenantRead), &[]),
    ("patch", "/api/tenants/{id}", Needs(Permission::TenantWrite), &[]),
    ("post", "/api/tenants/{id}/suspend", Needs(Permission::TenantWrite), &[]),
    ("post", "/api/tenants/{id}/resume", Needs(Permission::TenantWrite), &[]),
    (
        "post",
        "/api/tenants/{id}/members",
        Needs(Permission::MembersWrite),
        &[&[Code::Conflict, Code::QuotaExceeded]],
    ),
    ("get", "/api/users", Needs(Permission::UsersRead), &[]),
    ("get", "/api/users/{id}", Needs(Permission::UsersRead), &[]),
    ("patch", "/api/users/{id}", Needs(Permission::MembersWrite), &[&[Code::Conflict]]),
    ("delete", "/api/users/{id}", Needs(Permission::MembersRemove), &[&[Code::Conflict]]),
    ("post", "/api/users/{id}/unlock", Needs(Permission::UsersWrite), &[]),
    ("post", "/api/users/{id}/reset-mfa", Needs(Permission::UsersWrite), &[&[Code::Conflict]]),
    ("get", "/api/invitations", Needs(Permission::MembersRead), &[]),
    (
        "post",
        "/api/invitations",
        Needs(Permission::MembersWrite),
        &[&[Code::Conflict, Code::QuotaExceeded]],
    ),
    ("delete", "/api/invitations/{id}", Needs(Permission::MembersRemove), &[]),
    ("get", "/api/api-keys", Needs(Permission::KeysRead), &[]),
    ("post", "/api/api-keys", Needs(Permission::KeysWrite), &[&[Code::QuotaExceeded]]),
    ("get", "/api/api-keys/{id}", Needs(Permission::KeysRead), &[]),
    ("delete", "/api/api-keys/{id}", Needs(Permission::KeysRevoke), &[]),
    ("post", "/api/webhook-endpoints", Needs(Permission::WebhooksWrite), &[&[Code::QuotaExceeded]]),
    ("get", "/api/webhook-endpoints", Needs(Permission::WebhooksRead), &[]),
    ("get", "/api/webhook-endpoints/{id}", Needs(Permission::WebhooksRead), &[]),
    ("patch", "/api/webhook-endpoints/{id}", Needs(Permission::WebhooksWrite), &[]),
    ("delete", "/api/webhook-endpoints/{id}", Needs(Permission::WebhooksWrite), &[]),
    ("post", "/api/webhook-endpoints/{id}/rotate-secret", Needs(Permission::WebhooksWrite), &[]),
    (
        "post",
        "/api/webhook-endpoints/{id}/test",
        Needs(Permission::WebhooksWrite),
        &[&[Code::Conflict]],
    ),
    ("get", "/api/webhook-endpoints/{id}/deliveries", Needs(Permission::WebhooksRead), &[]),
    ("get", "/api/webhook-deliveries/{id}", Needs(Permission::WebhooksRead), &[]),
    (
        "post",
        "/api/webhook-deliveries/{id}/replay",
        Needs(Permission::WebhooksWrite),
        &[&[Code::Conflict]],
    ),
    ("post", "/api/impersonations", Needs(Permission::Impersonate), &[]),
    ("delete", "/api/impersonations/{id}", Needs(Permission::ProfileWrite), &[]),
    ("get", "/api/audit", Needs(Permission::AuditRead), &[]),
    ("get", "/api/audit/export", Needs(Permission::AuditRead), &[]),
    ("get", "/api/servers", Needs(Permission::ServersUse), &[]),
    ("post", "/api/servers", Needs(Permission::ServersWrite), &[&[Code::Conflict]]),
    ("get", "/api/servers/worker-key", Needs(Permission::ServersRead), &[]),
    ("get", "/api/servers/{id}", Needs(Permission::ServersUse), &[SERVER]),
    ("patch", "/api/servers/{id}", Needs(Permission::ServersWrite), &[SERVER]),
    (
        "post",
        "/api/servers/{id}/enroll",
        Needs(Permission::ServersWrite),
        &[SERVER, &[Code::JobState]],
    ),
    ("post", "/api/servers/{id}/grants", Needs(Permission::ServersWrite), &[SERVER]),
    ("get", "/api/jobs", Needs(Permission::JobsRead), &[]),
    ("get", "/api/jobs/summary", Needs(Permission::JobsRead), &[]),
    ("get", "/api/jobs/{id}", Needs(Permission::JobsRead), &[]),
    ("get", "/api/jobs/{id}/events", Needs(Permission::JobsRead), &[]),
    ("post", "/api/jobs/{id}/cancel", Needs(Permission::JobsWrite), &[&[Code::JobState]]),
    (
        "post",
        "/api/jobs/{id}/requeue",
        Needs(Permission::JobsWrite),
        &[&[
            Code::JobState,
            Code::ServerNotEnrolled,
            Code::ServerMaintenance,
            Code::AccountSuspended,
        ]],
    ),
    ("get", "/api/dead-letters", Needs(Permission::DeadLettersRead), &[]),
    (
        "post",
        "/api/dead-letters/{id}/replay",
        Needs(Permission::DeadLettersWrite),
        &[&[Code::Conflict]],
    ),
    ("delete", "/api/dead-letters/{id}", Needs(Permission::DeadLettersWrite), &[]),
    (
        "post",
        "/api/migration/validate",
        Needs(Permission::MigrationsWrite),
        &[SOURCE, ASKS, ARCHIVE],
    ),
    (
        "post",
        "/api/migration/analyze",
        Needs(Permission::MigrationsWrite),
        &[SOURCE, &[Code::Conflict, Code::AccountSuspended]],
    ),
    ("get", "/api/migration/plan", Needs(Permission::MigrationsRead), &[&[Code::JobState]]),
    (
        "post",
        "/api/migration/preview",
        Needs(Permission::MigrationsWrite),
        &[READY, ASKS, ARCHIVE, &[Code::ConflictsUnresolved]],
    ),
    (
        "post",
        "/api/migration/apply",
        Needs(Permission::MigrationsWrite),
        &[READY, ASKS, ARCHIVE, APPROVAL, &[Code::QuotaExceeded]],
    ),
    (
        "post",
        "/api/migration/selective-restore",
        Needs(Permission::MigrationsWrite),
        &[READY, ASKS, ARCHIVE, APPROVAL, &[Code::ComponentsDiffer, Code::QuotaExceeded]],
    ),
    (
        "post",
        "/api/migration/validate-complete",
        Needs(Permission::MigrationsWrite),
        &[ASKS, &[Code::JobState]],
    ),
    (
        "post",
        "/api/migration/rollback",
        Needs(Permission::MigrationsWrite),
        &[
            ASKS,
            &[
                Code::JobState,
                Code::ChangedSinceApply,
                Code::RollbackExpired,
                Code::AccountSuspended,
            ],
        ],
    ),
    (
        "post",
        "/api/migration/job/{id}/confirm",
        Needs(Permission::MigrationsWrite),
        &[&[Code::JobState, Code::AccountSuspended]],
    ),
    (
        "post",
        "/api/migration/job/{id}/cancel",
        Needs(Permission::MigrationsWrite),
        &[&[Code::JobState]],
    ),
    ("get", "/api/migration/job/{id}/status", Needs(Permission::MigrationsRead), &[]),
    ("get", "/api/migration/job/{id}/report", Needs(Permission::MigrationsRead), &[]),
    ("get", "/api/migration/job/{id}/logs", Needs(Permission::MigrationsRead), &[]),
    ("get", "/api/migration/job/{id}/events", Needs(Permission::MigrationsRead), &[]),
    ("get", "/api/accounts", Needs(Permission::AccountsRead), &[]),
    ("get", "/api/dns/zones", Needs(Permission::ZonesRead), &[]),
    (
        "post",
        "/api/dns/zones",
        Needs(Permission::ZonesWrite),
        &[&[Code::Conflict, Code::ZoneTaken, Code::QuotaExceeded]],
    ),
    ("get", "/api/dns/zones/{id}", Needs(Permission::ZonesRead), &[]),
    ("patch", "/api/dns/zones/{id}", Needs(Permission::ZonesWrite), &[]),
    ("delete", "/api/dns/zones/{id}", Needs(Permission::ZonesDelete), &[]),
    ("post", "/api/dns/zones/{id}/sync", Needs(Permission::ZonesWrite), &[]),
    ("post", "/api/dns/zones/{id}/verify", Needs(Permission::ZonesWrite), &[]),
    ("put", "/api/dns/zones/{id}/dnssec", Needs(Permission::ZonesWrite), &[]),
    (
        "post",
        "/api/dns/zones/{id}/transfer",
        Needs(Permission::ZonesDelete),
        &[&[Code::Conflict, Code::ZoneTaken, Code::QuotaExceeded]],
    ),
    ("post", "/api/dns/zones/{id}/agreements", Needs(Permission::ZonesWrite), &[]),
    ("get", "/api/dns/zones/{id}/agreements", Needs(Permission::ZonesRead), &[]),
    ("delete", "/api/dns/zones/{id}/agreements/{agreement_id}", Needs(Permission::ZonesWrite), &[]),
    ("get", "/api/dns/zones/{id}/records", Needs(Permission::ZonesRead), &[]),
    (
        "post",
        "/api/dns/zones/{id}/records",
        Needs(Permission::ZonesWrite),
        &[EDITS, &[Code::Conflict]],
    ),
    ("get", "/api/dns/zones/{id}/records/{name}/{type}", Needs(Permission::ZonesRead), &[]),
    ("put", "/api/dns/zones/{id}/records/{name}/{type}", Needs(Permission::ZonesWrite), &[EDITS]),
    (
        "delete",
        "/api/dns/zones/{id}/records/{name}/{type}",
        Needs(Permission::ZonesWrite),
        &[EDITS],
    ),
    (
        "post",
        "/api/dns/zones/{id}/batch",
        Needs(Permission::ZonesWrite),
        &[EDITS, &[Code::Conflict, Code::VersionRequired]],
    ),
    (
        "post",
        "/api/dns/zones/{id}/import",
        Needs(Permission::ZonesWrite),
        &[EDITS, &[Code::VersionRequired]],
    ),
    ("get", "/api/dns/zones/{id}/export", Needs(Permission::ZonesRead), &[]),
    (
        "post",
        "/api/dns/zones/{id}/apply-template",
        Needs(Permission::ZonesWrite),
        &[EDITS, &[Code::VersionRequired]],
    ),
    ("get", "/api/dns/templates", Needs(Permission::ZonesRead), &[]),
    ("post", "/api/dns/templates", Needs(Permission::ZonesWrite), &[&[Code::Conflict]]),
    ("get", "/api/dns/templates/{id}", Needs(Permission::ZonesRead), &[]),
    ("patch", "/api/dns/templates/{id}", Needs(Permission::ZonesWrite), &[&[Code::Conflict]]),
    ("delete", "/api/dns/templates/{id}", Needs(Permission::ZonesWrite), &[]),
    ("get", "/api/dns/addresses/{address}", Needs(Permission::ZonesRead), ADDRESS),
    ("put", "/api/dns/addresses/{address}", Needs(Permission::ZonesWrite), ADDRESS),
    ("delete", "/api/dns/addresses/{address}", Needs(Permission::ZonesWrite), ADDRESS),
    ("get", "/api/dns/servers", Needs(Permission::ServersRead), &[]),
    ("get", "/api/categories", Needs(Permission::CatalogueRead), &[]),
    ("post", "/api/categories", Needs(Permission::CatalogueWrite), &[SELLS, &[Code::Conflict]]),
    ("get", "/api/categories/{id}", Needs(Permission::CatalogueRead), &[]),
    ("patch", "/api/categories/{id}", Needs(Permission::CatalogueWrite), &[&[Code::Conflict]]),
    ("delete", "/api/categories/{id}", Needs(Permission::CatalogueWrite), &[]),
    ("get", "/api/products", Needs(Permission::CatalogueRead), &[]),
    ("post", "/api/products", Needs(Permission::CatalogueWrite), &[SELLS, &[Code::Conflict]]),
    ("get", "/api/products/{id}", Needs(Permission::CatalogueRead), &[]),
    ("patch", "/api/products/{id}", Needs(Permission::CatalogueWrite), &[&[Code::Conflict]]),
    ("delete", "/api/products/{id}", Needs(Permission::CatalogueWrite), &[]),
    ("get", "/api/prices", Needs(Permission::CatalogueRead), &[]),
    ("post", "/api/prices", Needs(Permission::CatalogueWrite), &[SELLS]),
    ("get", "/api/prices/{id}", Needs(Permission::CatalogueRead), &[]),
    ("delete", "/api/prices/{id}", Needs(Permission::CatalogueWrite), &[]),
    ("get", "/api/orders", Needs(Permission::OrdersRead), &[]),
    ("post", "/api/orders", Needs(Permission::OrdersWrite), &[&[Code::Conflict, Code::NotForSale]]),
    ("get", "/api/orders/{id}", Needs(Permission::OrdersRead), &[]),
    (
        "patch",
        "/api/orders/{id}",
        Needs(Permission::OrdersWrite),
        &[ORDER, &[Code::Conflict, Code::NotForSale]],
    ),
    (
        "post",
        "/api/orders/{id}/checkout",
        Needs(Permission::BillingWrite),
        &[
            ORDER,
            &[Code::Conflict, Code::NotForSale, Code::QuotaExceeded, Code::NoCapacity],
            &[Code::PaymentRefused],
        ],
    ),
    ("get", "/api/orders/{id}/checkout", Needs(Permission::BillingRead), &[]),
    (
        "post",
        "/api/orders/{id}/checkout/close",
        Needs(Permission::BillingWrite),
        &[ORDER, &[Code::PaymentRefused]],
    ),
    ("get", "/api/checkout/return", Open, &[&[Code::NotFound]]),
    ("get", "/api/subscriptions", Needs(Permission::BillingRead), &[]),
    ("get", "/api/subscriptions/{id}", Needs(Permission::BillingRead), &[]),
    (
        "post",
        "/api/subscriptions/{id}/preview",
        Needs(Permission::BillingWrite),
        &[CHANGES, &[Code::NoCapacity, Code::CloudpodState]],
    ),
    (
        "post",
        "/api/subscriptions/{id}/change",
        Needs(Permission::BillingWrite),
        &[CHANGES, &[Code::AmountChanged, Code::NoCapacity, Code::CloudpodState]],
    ),
    ("post", "/api/subscriptions/{id}/cancel", Needs(Permission::BillingWrite), &[CHANGES]),
    ("post", "/api/subscriptions/{id}/keep", Needs(Permission::BillingWrite), &[CHANGES]),
    ("post", "/api/subscriptions/{id}/pause", Needs(Permission::BillingWrite), &[CHANGES]),
    ("post", "/api/subscriptions/{id}/resume", Needs(Permission::BillingWrite), &[CHANGES]),
    ("get", "/api/billing", Needs(Permission::BillingRead), &[]),
    ("post", "/api/billing/portal", Needs(Permission::BillingWrite), &[&[Code::PaymentRefused]]),
    ("get", "/api/invoices", Needs(Permission::BillingRead), &[]),
    ("get", "/api/invoices/{id}", Needs(Permission::BillingRead), &[]),
    ("get", "/api/payments", Needs(Permission::BillingRead), &[]),
    ("post", "/api/payments/{id}/refund", Needs(Permission::PaymentsRefund), &[&[Code::Conflict]]),
    ("get", "/api/repayments", Needs(Permission::BillingRead), &[]),
    ("post", "/api/webhooks/stripe", Open, &[&[Code::SignatureInvalid]]),
    ("get", "/api/stripe-events", Needs(Permission::StripeEventsRead), &[]),
    ("get", "/api/stripe-events/{id}", Needs(Permission::StripeEventsRead), &[]),
    (
        "post",
        "/api/stripe-events/{id}/replay",
        Needs(Permission::StripeEventsReplay),
        &[&[Code::Conflict]],
    ),
    ("post", "/api/orders/{id}/cancel", Needs(Permission::OrdersWrite), &[ORDER]),
    (
        "post",
        "/api/orders/{id}/mark-paid",
        Needs(Permission::OrdersSettle),
        &[ORDER, &[Code::Conflict, Code::QuotaExceeded, Code::NoCapacity]],
    ),
    ("get", "/api/services", Needs(Permission::ServicesRead), &[]),
    ("get", "/api/services/{id}", Needs(Permission::ServicesRead), &[]),
    ("post", "/api/services/{id}/suspend", Needs(Permission::ServicesWrite), &[SERVICE]),
    ("post", "/api/services/{id}/unsuspend", Needs(Permission::ServicesWrite), &[SERVICE]),
    (
        "post",
        "/api/services/{id}/retry",
        Needs(Permission::ServicesWrite),
        &[SERVICE, ORDER, &[Code::QuotaExceeded]],
    ),
    ("get", "/api/cloudpods", Needs(Permission::CloudpodsRead), &[]),
    (
        "post",
        "/api/cloudpods",
        Needs(Permission::CloudpodsWrite),
        &[SERVER, &[Code::NoCapacity, Code::QuotaExceeded, Code::Conflict]],
    ),
    ("get", "/api/cloudpods/{id}", Needs(Permission::CloudpodsRead), &[]),
    (
        "delete",
        "/api/cloudpods/{id}",
        Needs(Permission::CloudpodsDelete),
        &[&[Code::CloudpodSold, Code::CloudpodState]],
    ),
    ("post", "/api/cloudpods/{id}/retry", Needs(Permission::CloudpodsWrite), &[POD]),
    ("post", "/api/cloudpods/{id}/suspend", Needs(Permission::ServicesWrite), &[POD]),
    ("post", "/api/cloudpods/{id}/unsuspend", Needs(Permission::ServicesWrite), &[POD]),
    ("get", "/api/cloudpods/{id}/traffic", Needs(Permission::CloudpodsRead), &[]),
    ("post", "/api/cloudpods/{id}/start", Needs(Permission::CloudpodsPower), &[POD]),
    ("post", "/api/cloudpods/{id}/stop", Needs(Permission::CloudpodsPower), &[POD]),
    ("post", "/api/cloudpods/{id}/reboot", Needs(Permission::CloudpodsPower), &[POD]),
    (
        "post",
        "/api/cloudpods/{id}/resize",
        Needs(Permission::CloudpodsWrite),
        &[POD, &[Code::NoCapacity, Code::CloudpodSold]],
    ),
    ("post", "/api/cloudpods/{id}/reinstall", Needs(Permission::CloudpodsWrite), &[POD]),
    ("put", "/api/cloudpods/{id}/root-keys", Needs(Permission::CloudpodsWrite), &[POD]),
    (
        "post",
        "/api/cloudpods/{id}/move",
        Needs(Permission::ServersWrite),
        &[POD, &[Code::NoCapacity]],
    ),
    (
        "post",
        "/api/cloudpods/{id}/console",
        Needs(Permission::CloudpodsWrite),
        &[&[Code::CloudpodState, Code::QuotaExceeded]],
    ),
    ("get", "/api/cloudpods/{id}/console", Open, &[CONSOLE]),
    ("get", "/api/cloudpods/{id}/snapshots", Needs(Permission::CloudpodsRead), &[]),
    (
        "post",
        "/api/cloudpods/{id}/snapshots",
        Needs(Permission::CloudpodsWrite),
        &[POD, &[Code::QuotaExceeded, Code::Conflict]],
    ),
    (
        "post",
        "/api/cloudpods/{id}/snapshots/{name}/rollback",
        Needs(Permission::CloudpodsWrite),
        &[POD],
    ),
    ("delete", "/api/cloudpods/{id}/snapshots/{name}", Needs(Permission::CloudpodsWrite), &[POD]),
    ("get", "/api/cloudpods/{id}/backups", Needs(Permission::CloudpodsRead), &[]),
    (
        "post",
        "/api/cloudpods/{id}/backups",
        Needs(Permission::CloudpodsWrite),
        &[POD, &[Code::QuotaExceeded]],
    ),
    ("put", "/api/cloudpods/{id}/backup-schedule", Needs(Permission::CloudpodsWrite), &[POD]),
    ("delete", "/api/cloudpods/{id}/backup-schedule", Needs(Permission::CloudpodsWrite), &[POD]),
    (
        "post",
        "/api/cloudpods/{id}/backups/{backup_id}/restore",
        Needs(Permission::CloudpodsWrite),
        &[POD],
    ),
    (
        "delete",
        "/api/cloudpods/{id}/backups/{backup_id}",
        Needs(Permission::CloudpodsWrite),
        &[POD],
    ),
    ("get", "/api/pod-templates", Needs(Permission::CloudpodsRead), &[]),
    ("put", "/api/pod-templates/{name}", Needs(Permission::ServersWrite), &[]),
    ("delete", "/api/pod-templates/{name}", Needs(Permission::ServersWrite), &[]),
    ("get", "/api/ip-pools", Needs(Permission::ServersRead), &[]),
    ("post", "/api/ip-pools", Needs(Permission::ServersWrite), &[&[Code::Conflict]]),
    ("get", "/api/ip-pools/{id}", Needs(Permission::ServersRead), &[]),
    ("patch", "/api/ip-pools/{id}", Needs(Permission::ServersWrite), &[]),
    ("delete", "/api/ip-pools/{id}", Needs(Permission::ServersWrite), &[&[Code::Conflict]]),
    ("get", "/api/findings", Needs(Permission::ServersRead), &[]),
    ("get", "/api/servers/{id}/load", Needs(Permission::ServersRead), &[SERVER]),
    ("get", "/api/certificates", Needs(Permission::CertificatesRead), &[]),
    (
        "post",
        "/api/certificates",
        Needs(Permission::CertificatesWrite),
        &[OBTAINS, &[Code::DomainUnverified]],
    ),
    ("get", "/api/certificates/{id}", Needs(Permission::CertificatesRead), &[]),
    (
        "post",
        "/api/certificates/{id}/renew",
        Needs(Permission::CertificatesWrite),
        &[OBTAINS, &[Code::JobState, Code::CaLimit]],
    ),
    ("delete", "/api/certificates/{id}", Needs(Permission::CertificatesWrite), &[]),
];

/// What an operation needs; none when it is missing from the table.
#[must_use]
pub fn of(method: &str, path: &str) -> Option<Access> {
    TABLE.iter().find(|(m, p, ..)| *m == method && *p == path).map(|(_, _, access, _)| *access)
}

/// The codes with which an operation may be refused. An operation that is not in the table has none.
#[must_use]
pub fn refusals(method: &str, path: &str) -> Vec<Code> {
    let Some((_, _, access, own)) = TABLE.iter().find(|(m, p, ..)| *m == method && *p == path)
    else {
        return Vec::new();
    };
    if !path.starts_with("/api/") {
        return vec![Code::InvalidRequest, Code::Timeout, Code::Internal];
    }
    let mut codes = vec![
        Code::InvalidRequest,
        Code::HttpsRequired,
        Code::BodyTooSlow,
        Code::PayloadTooLarge,
        Code::TooManyRequests,
        Code::Timeout,
        Code::Unavailable,
        Code::Internal,
    ];
    if let Needs(_) = access {
        // The tenant of `X-Tenant-Id` may be another's.
        codes.extend([Code::Unauthenticated, Code::TokenExpired, Code::Forbidden, Code::NotFound]);
        codes.push(Code::MfaSetupRequired);
        if method != "get" {
            codes.push(Code::TenantSuspended);
        }
    }
    if matches!(method, "post" | "patch" | "put") {
        codes.push(Code::UnsupportedMediaType);
    }
    codes.extend(own.iter().copied().flatten());
    codes
}

/// Tells in the contract what each operation needs.
pub fn document(document: &mut Document) {
    for (method, path, operation) in crate::contract::operations(document) {
        let Some(access) = of(method, &path) else { continue };
        let (text, required) = match access {
            Open => ("Needs no login.".to_owned(), json!({ "role": null, "scope": null })),
            Needs(permission) => {
                let role = permission.role().to_string();
                let place = if permission.platform_only() { " of the platform" } else { "" };
                let scope = match permission.scope() {
                    Some(scope) => format!("an API key the scope `{scope}`"),
                    None => "no API key may do it".to_owned(),
                };
                let required =
                    json!({ "role": format!("{role}{place}"), "scope": permission.scope() });
                (format!("Needs the role {role}{place}; {scope}."), required)
            }
        };
        // One entry: several would come in any order.
        operation.extensions = Some(ExtensionsBuilder::new().add("x-required", required).build());
        let before = operation.description.take().unwrap_or_default();
        operation.description = Some(format!("{before}\n\n{text}").trim().to_owned());
    }
}

/// What anybody may do with their own row, whatever the role: leaving a tenant.
fn is_own(method: &str, path: &str) -> bool {
    (method, path) == ("delete", "/api/users/{id}")
}

/// The table as a page to read: `openapi/roles.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Who may do what\n\nMade by `migrapanel-api roles > openapi/roles.md`. A role has the \
         rights of those below it: OWNER, ADMIN, BILLING, MEMBER, VIEWER. It holds in its tenant, an \
         ADMIN's and an OWNER's in all below, too; *platform* means the role in the platform's own tenant. An API key needs the \
         scope, too, unless it has none at all.\n\n| operation | role | scope of a key |\n|---|---|---|\n",
    );
    for (method, path, access, _) in TABLE {
        let (role, scope) = match access {
            Open => ("–".to_owned(), "–"),
            Needs(permission) => {
                let place = if permission.platform_only() { "platform " } else { "" };
                let leaving = if is_own(method, path) { ", or oneself" } else { "" };
                let role = format!("{place}{}{leaving}", permission.role());
                (role, permission.scope().unwrap_or("no key"))
            }
        };
        let method = method.to_uppercase();
        // Writing into a text does not fail.
        if writeln!(page, "| {method} {path} | {role} | {scope} |").is_err() {
            return page;
        }
    }
    page
}
