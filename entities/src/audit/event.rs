//! What is recorded: the closed list.

use crate::audit::seal::Head;
use crate::billing;
use crate::catalogue::Billing;
use crate::ids::{
    CategoryId, CertificateId, CloudpodId, InvoiceId, JobId, KeyId, LinkId, OrderId, PaymentId,
    PoolId, PriceId, ProductId, RepaymentId, RowId, ServiceId, SessionId, SubscriptionId,
    TemplateId, TenantId, UserId, ZoneId,
};
use crate::orders::Status;
use crate::services::Desired;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use values::Money;

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
        before: Value,
        after: Value,
    },
    TenantResumed {
        id: TenantId,
        before: Value,
        after: Value,
    },
    /// The ends of other tenants' chains at this moment: what is cut off there later shows here.
    AuditAnchored {
        heads: Vec<Head>,
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
    /// Somebody has taken it away from a person who has lost it.
    MfaReset {
        user: UserId,
    },
    RecoveryCodeUsed {
        user: UserId,
        left: u64,
    },
    RecoveryCodesRenewed {
        user: UserId,
    },
    /// So many secrets at rest are under the newest key now.
    SecretsResealed {
        count: u64,
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
        before: Value,
        after: Value,
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
    MigrationCancelled {
        job: String,
    },
    /// An operator has stopped a job: at once, or its worker was asked to take it back.
    JobCancelled {
        job: JobId,
        job_kind: String,
        phase: String,
        at_once: bool,
        reason: String,
    },
    /// An operator has announced a job again, or let it be run again.
    JobRequeued {
        job: JobId,
        job_kind: String,
        phase: String,
        /// Where it stood.
        state: String,
        reason: String,
    },
    DeadLetterReplayed {
        letter: RowId,
        queue: String,
    },
    DeadLetterDiscarded {
        letter: RowId,
        queue: String,
        digest: String,
    },
    MigrationRollbackStarted {
        job: String,
        forced: bool,
    },
    MigrationRolledBack {
        job: String,
    },
    CategoryCreated {
        category: CategoryId,
        name: String,
    },
    CategoryUpdated {
        category: CategoryId,
        before: Value,
        after: Value,
    },
    CategoryArchived {
        category: CategoryId,
        name: String,
    },
    ProductCreated {
        product: ProductId,
        name: String,
    },
    ProductUpdated {
        product: ProductId,
        before: Value,
        after: Value,
    },
    ProductArchived {
        product: ProductId,
        name: String,
    },
    PriceCreated {
        price: PriceId,
        product: ProductId,
        money: Money,
        billing: Billing,
    },
    PriceArchived {
        price: PriceId,
        product: ProductId,
    },
    OrderCreated {
        order: OrderId,
        number: String,
        total: Money,
    },
    OrderUpdated {
        order: OrderId,
        before: Value,
        after: Value,
    },
    OrderPaymentPending {
        order: OrderId,
        number: String,
        from: Status,
        cause: String,
    },
    OrderPaid {
        order: OrderId,
        number: String,
        from: Status,
        cause: String,
    },
    OrderProvisioning {
        order: OrderId,
        number: String,
        from: Status,
        cause: String,
    },
    OrderCompleted {
        order: OrderId,
        number: String,
        from: Status,
        cause: String,
    },
    OrderPartiallyCompleted {
        order: OrderId,
        number: String,
        from: Status,
        cause: String,
    },
    OrderFailed {
        order: OrderId,
        number: String,
        from: Status,
        cause: String,
    },
    OrderCancelled {
        order: OrderId,
        number: String,
        from: Status,
        cause: String,
    },
    OrderRefunded {
        order: OrderId,
        number: String,
        from: Status,
        cause: String,
    },
    OrderExpired {
        order: OrderId,
        number: String,
        from: Status,
        cause: String,
    },
    CheckoutOpened {
        order: OrderId,
        number: String,
        attempt: i32,
    },
    CheckoutClosed {
        order: OrderId,
        attempt: i32,
    },
    /// What was paid is not what was ordered; nothing is made for it.
    CheckoutRefused {
        order: OrderId,
        number: String,
        reason: String,
    },
    SubscriptionCreated {
        subscription: SubscriptionId,
        order: OrderId,
        status: billing::subscriptions::Status,
    },
    SubscriptionUpdated {
        subscription: SubscriptionId,
        before: Value,
        after: Value,
    },
    SubscriptionCancelled {
        subscription: SubscriptionId,
        order: OrderId,
    },
    /// Somebody is about to change what is paid for: what was asked of Stripe.
    SubscriptionChangeRequested {
        subscription: SubscriptionId,
        change: Value,
    },
    /// A reminder that money is missing was written.
    SubscriptionReminded {
        subscription: SubscriptionId,
        letter: i32,
    },
    PaymentSucceeded {
        payment: PaymentId,
        order: OrderId,
        money: Money,
    },
    PaymentFailed {
        order: OrderId,
        reason: String,
    },
    /// The customer's bank asks for something before it pays.
    PaymentActionRequired {
        order: OrderId,
    },
    InvoicePaid {
        invoice: InvoiceId,
        number: Option<String>,
        money: Money,
    },
    /// Money is to go back.
    RefundCreated {
        repayment: RepaymentId,
        order: OrderId,
        money: Money,
        cause: String,
    },
    RefundSucceeded {
        repayment: RepaymentId,
        order: OrderId,
        money: Money,
    },
    RefundFailed {
        repayment: RepaymentId,
        order: OrderId,
        reason: String,
    },
    /// It lowers what is to be paid next.
    CreditCreated {
        repayment: RepaymentId,
        order: OrderId,
        money: Money,
        cause: String,
    },
    DisputeOpened {
        order: OrderId,
        money: Money,
        reason: String,
    },
    DisputeClosed {
        order: OrderId,
        money: Money,
        status: String,
    },
    BillingPortalOpened {},
    StripeEventReplayed {
        event: String,
    },
    /// Somebody, or the system, wants a service to become something else.
    ServiceRequested {
        service: ServiceId,
        desired: Desired,
        reason: Option<String>,
    },
    ServiceProvisioned {
        service: ServiceId,
        order: OrderId,
        domain: Option<String>,
    },
    ServiceSuspended {
        service: ServiceId,
        reason: Option<String>,
    },
    ServiceUnsuspended {
        service: ServiceId,
    },
    /// The plan was changed: what the service may have.
    ServiceResized {
        service: ServiceId,
        before: Value,
        after: Value,
    },
    ServiceTerminated {
        service: ServiceId,
        reason: Option<String>,
    },
    /// It could not be made, and is not tried again.
    ServiceFailed {
        service: ServiceId,
        order: OrderId,
        error: String,
    },
    DnsDomainsListed {
        count: usize,
    },
    DnsDomainViewed {
        zone: ZoneId,
        name: String,
    },
    DnsDomainCreated {
        zone: ZoneId,
        name: String,
    },
    DnsDomainDeleted {
        zone: ZoneId,
        name: String,
    },
    /// All servers have forgotten it.
    DnsZoneRemoved {
        zone: ZoneId,
        name: String,
    },
    /// The servers answer for it.
    DnsZoneProvisioned {
        zone: ZoneId,
        name: String,
    },
    DnsZoneUpdated {
        zone: ZoneId,
        name: String,
        before: Value,
        after: Value,
    },
    /// So many record sets at once that they do not stand here singly.
    DnsZoneChanged {
        zone: ZoneId,
        name: String,
        version: i64,
        created: usize,
        updated: usize,
        deleted: usize,
    },
    DnsZoneExported {
        zone: ZoneId,
        name: String,
    },
    DnsZoneSyncRequested {
        zone: ZoneId,
        name: String,
    },
    /// A server had something else than it should have had.
    DnsZoneRepaired {
        zone: ZoneId,
        name: String,
    },
    DnsZoneTransferred {
        zone: ZoneId,
        name: String,
        from: TenantId,
        to: TenantId,
    },
    DnsRecordCreated {
        zone: ZoneId,
        name: String,
        after: Value,
    },
    DnsRecordUpdated {
        zone: ZoneId,
        name: String,
        before: Value,
        after: Value,
    },
    DnsRecordDeleted {
        zone: ZoneId,
        name: String,
        before: Value,
    },
    DnsAgreementCreated {
        zone: ZoneId,
        name: String,
        grantee: TenantId,
    },
    DnsAgreementDeleted {
        zone: ZoneId,
        name: String,
        grantee: TenantId,
    },
    DnsTemplateCreated {
        template: TemplateId,
        name: String,
    },
    DnsTemplateUpdated {
        template: TemplateId,
        before: Value,
        after: Value,
    },
    DnsTemplateDeleted {
        template: TemplateId,
        name: String,
    },
    DnsVerificationRequested {
        zone: ZoneId,
        name: String,
    },
    DnsZoneVerified {
        zone: ZoneId,
        name: String,
    },
    DnsSigningRequested {
        zone: ZoneId,
        name: String,
        signed: bool,
    },
    /// These DS records belong into the zone above.
    DnsSigningStarted {
        zone: ZoneId,
        name: String,
        ds: Vec<String>,
    },
    DnsSigningEnded {
        zone: ZoneId,
        name: String,
    },
    /// It takes mail since control of it is proven.
    DomainActivated {
        domain: String,
    },
    DnsReverseSet {
        address: String,
        hostname: Option<String>,
    },
    IpPoolCreated {
        pool: PoolId,
        name: String,
    },
    IpPoolUpdated {
        pool: PoolId,
        before: Value,
        after: Value,
    },
    IpPoolDeleted {
        pool: PoolId,
        name: String,
    },
    PodTemplatePut {
        code: String,
        archive: String,
    },
    PodTemplateRetired {
        code: String,
    },
    CloudpodRequested {
        cloudpod: CloudpodId,
        hostname: String,
        plan: Option<String>,
    },
    CloudpodProvisioned {
        cloudpod: CloudpodId,
        hostname: String,
    },
    CloudpodFailed {
        cloudpod: CloudpodId,
        error: String,
    },
    /// It is to be made again.
    CloudpodRetried {
        cloudpod: CloudpodId,
    },
    CloudpodStateRequested {
        cloudpod: CloudpodId,
        desired: String,
        reason: Option<String>,
    },
    CloudpodSuspended {
        cloudpod: CloudpodId,
        reason: Option<String>,
    },
    CloudpodUnsuspended {
        cloudpod: CloudpodId,
    },
    CloudpodActionRequested {
        cloudpod: CloudpodId,
        action: String,
        parameters: Value,
    },
    CloudpodActed {
        cloudpod: CloudpodId,
        action: String,
        result: Value,
    },
    CloudpodActionFailed {
        cloudpod: CloudpodId,
        action: String,
        error: String,
    },
    /// It was started or stopped from inside, or on its node.
    CloudpodPowerSeen {
        cloudpod: CloudpodId,
        before: String,
        after: String,
    },
    CloudpodBackupsScheduled {
        cloudpod: CloudpodId,
        every_hours: Option<i32>,
        keep: Option<i32>,
    },
    /// Somebody works in it through the panel.
    CloudpodConsoleOpened {
        cloudpod: CloudpodId,
    },
    CloudpodDeleted {
        cloudpod: CloudpodId,
        hostname: String,
        reason: Option<String>,
    },
    /// An input was none that a command takes: of a request, or of a job, where something is wrong, since
    /// no request brings it that far.
    CloudpodProvisioningInputRejected {
        cloudpod: Option<CloudpodId>,
        job: Option<String>,
        input: String,
    },
    CertificateRequested {
        certificate: CertificateId,
        names: Vec<String>,
    },
    CertificateRenewalRequested {
        certificate: CertificateId,
    },
    CertificateIssued {
        certificate: CertificateId,
        names: Vec<String>,
        not_after: DateTime<Utc>,
    },
    CertificateRenewed {
        certificate: CertificateId,
        names: Vec<String>,
        not_after: DateTime<Utc>,
    },
    /// An attempt failed; there is another one later.
    CertificateFailed {
        certificate: CertificateId,
        names: Vec<String>,
        code: String,
        error: String,
    },
    CertificateDeletionRequested {
        certificate: CertificateId,
        names: Vec<String>,
    },
    CertificateDeleted {
        certificate: CertificateId,
        names: Vec<String>,
    },
    WebhookEndpointCreated {
        id: RowId,
        url: String,
    },
    WebhookEndpointUpdated {
        id: RowId,
        before: Value,
        after: Value,
    },
    WebhookEndpointDeleted {
        id: RowId,
        url: String,
    },
    WebhookSecretRotated {
        id: RowId,
    },
    /// It is told nothing any more: `gone` (it said so) or `failing` (for days).
    WebhookEndpointDisabled {
        id: RowId,
        reason: String,
    },
    /// Somebody tries an endpoint.
    WebhookTested {
        id: RowId,
    },
    WebhookReplayed {
        id: RowId,
    },
}
