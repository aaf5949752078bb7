//! Typed ids: one can never stand where another belongs. All are UUIDs of version 7, which sort by
//! the time of their making.

use sea_orm::{DbErr, DeriveValueType, TryFromU64};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, DeriveValueType)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "an id that appears by default is a mistake")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    )+};
}

ids! {
    /// A tenant: the platform, a reseller or a customer.
    TenantId,
    /// A person who can log in.
    UserId,
    /// A machine that we drive.
    ServerId,
    /// A row that a worker carries out. A migration has the id of its job.
    JobId,
    /// A zone.
    ZoneId,
    /// Records with placeholders.
    TemplateId,
    /// A hosting account on a server.
    AccountId,
    /// A login on a device.
    SessionId,
    /// A mailed link or an invitation.
    LinkId,
    /// A category of the catalogue.
    CategoryId,
    /// Something that is sold.
    ProductId,
    /// What a product costs.
    PriceId,
    /// An order.
    OrderId,
    /// A line of an order.
    OrderItemId,
    /// An attempt to pay for an order.
    CheckoutId,
    /// What is paid again and again.
    SubscriptionId,
    /// An invoice.
    InvoiceId,
    /// Money that came.
    PaymentId,
    /// Money that goes back.
    RepaymentId,
    /// One unit of something that was sold.
    ServiceId,
    /// A container of a tenant.
    CloudpodId,
    /// Room on a server.
    PlacementId,
    /// Addresses that containers are given.
    PoolId,
    /// A backup of a container.
    BackupId,
    /// A certificate.
    CertificateId,
    /// A program's key.
    KeyId,
    /// One HTTP request, from its log line to the last command on a server.
    RequestId,
    /// A worker process, as the owner of leases.
    WorkerId,
    /// A row that nobody refers to by a type of its own.
    RowId,
}
