//! What tenants can be told: the closed list.

/// Each kind of entry of the audit trail that is told, and the event that it is called. The names stay:
/// programs of others rest on them.
pub const EVENTS: &[(&str, &str)] = &[
    ("TENANT_CREATED", "tenant.created"),
    ("TENANT_UPDATED", "tenant.updated"),
    ("TENANT_SUSPENDED", "tenant.suspended"),
    ("TENANT_RESUMED", "tenant.resumed"),
    ("MEMBER_ADDED", "member.added"),
    ("MEMBER_UPDATED", "member.updated"),
    ("MEMBER_REMOVED", "member.removed"),
    ("INVITATION_CREATED", "invitation.created"),
    ("INVITATION_ACCEPTED", "invitation.accepted"),
    ("INVITATION_REVOKED", "invitation.revoked"),
    ("API_KEY_CREATED", "api_key.created"),
    ("API_KEY_REVOKED", "api_key.revoked"),
    ("MIGRATION_ANALYSIS_STARTED", "migration.analysis_started"),
    ("MIGRATION_ANALYZED", "migration.analyzed"),
    ("MIGRATION_APPLY_STARTED", "migration.apply_started"),
    ("MIGRATION_COMPLETED", "migration.completed"),
    ("MIGRATION_FAILED", "migration.failed"),
    ("MIGRATION_CONFIRMED", "migration.confirmed"),
    ("MIGRATION_CANCELLED", "migration.cancelled"),
    ("MIGRATION_ROLLBACK_STARTED", "migration.rollback_started"),
    ("MIGRATION_ROLLED_BACK", "migration.rolled_back"),
    ("PRODUCT_CREATED", "product.created"),
    ("PRODUCT_UPDATED", "product.updated"),
    ("PRODUCT_ARCHIVED", "product.archived"),
    ("PRICE_CREATED", "price.created"),
    ("PRICE_ARCHIVED", "price.archived"),
    ("ORDER_CREATED", "order.created"),
    ("ORDER_UPDATED", "order.updated"),
    ("ORDER_PAYMENT_PENDING", "order.payment_pending"),
    ("ORDER_PAID", "order.paid"),
    ("ORDER_PROVISIONING", "order.provisioning"),
    ("ORDER_COMPLETED", "order.completed"),
    ("ORDER_PARTIALLY_COMPLETED", "order.partially_completed"),
    ("ORDER_FAILED", "order.failed"),
    ("ORDER_CANCELLED", "order.cancelled"),
    ("ORDER_REFUNDED", "order.refunded"),
    ("ORDER_EXPIRED", "order.expired"),
    ("CHECKOUT_OPENED", "checkout.opened"),
    ("CHECKOUT_REFUSED", "checkout.refused"),
    ("SUBSCRIPTION_CREATED", "subscription.created"),
    ("SUBSCRIPTION_UPDATED", "subscription.updated"),
    ("SUBSCRIPTION_CANCELLED", "subscription.cancelled"),
    ("SUBSCRIPTION_REMINDED", "subscription.reminded"),
    ("PAYMENT_SUCCEEDED", "payment.succeeded"),
    ("PAYMENT_FAILED", "payment.failed"),
    ("PAYMENT_ACTION_REQUIRED", "payment.action_required"),
    ("INVOICE_PAID", "invoice.paid"),
    ("REFUND_CREATED", "refund.created"),
    ("REFUND_SUCCEEDED", "refund.succeeded"),
    ("REFUND_FAILED", "refund.failed"),
    ("CREDIT_CREATED", "credit.created"),
    ("DISPUTE_OPENED", "dispute.opened"),
    ("DISPUTE_CLOSED", "dispute.closed"),
    ("SERVICE_PROVISIONED", "service.provisioned"),
    ("SERVICE_SUSPENDED", "service.suspended"),
    ("SERVICE_UNSUSPENDED", "service.unsuspended"),
    ("SERVICE_RESIZED", "service.resized"),
    ("SERVICE_TERMINATED", "service.terminated"),
    ("SERVICE_FAILED", "service.failed"),
    ("DNS_DOMAIN_CREATED", "dns.domain_created"),
    ("DNS_DOMAIN_DELETED", "dns.domain_deleted"),
    ("DNS_ZONE_PROVISIONED", "dns.zone_provisioned"),
    ("DNS_ZONE_REMOVED", "dns.zone_removed"),
    ("DNS_ZONE_UPDATED", "dns.zone_updated"),
    ("DNS_ZONE_CHANGED", "dns.zone_changed"),
    ("DNS_ZONE_TRANSFERRED", "dns.zone_transferred"),
    ("DNS_ZONE_VERIFIED", "dns.zone_verified"),
    ("DOMAIN_ACTIVATED", "domain.activated"),
    ("DNS_SIGNING_STARTED", "dns.signing_started"),
    ("DNS_SIGNING_ENDED", "dns.signing_ended"),
    ("DNS_RECORD_CREATED", "dns.record_created"),
    ("DNS_RECORD_UPDATED", "dns.record_updated"),
    ("DNS_RECORD_DELETED", "dns.record_deleted"),
    ("CERTIFICATE_REQUESTED", "certificate.requested"),
    ("CERTIFICATE_ISSUED", "certificate.issued"),
    ("CERTIFICATE_RENEWED", "certificate.renewed"),
    ("CERTIFICATE_FAILED", "certificate.failed"),
    ("CERTIFICATE_DELETED", "certificate.deleted"),
    ("CLOUDPOD_REQUESTED", "cloudpod.requested"),
    ("CLOUDPOD_PROVISIONED", "cloudpod.provisioned"),
    ("CLOUDPOD_FAILED", "cloudpod.failed"),
    ("CLOUDPOD_SUSPENDED", "cloudpod.suspended"),
    ("CLOUDPOD_UNSUSPENDED", "cloudpod.unsuspended"),
    ("CLOUDPOD_ACTED", "cloudpod.acted"),
    ("CLOUDPOD_ACTION_FAILED", "cloudpod.action_failed"),
    ("CLOUDPOD_POWER_SEEN", "cloudpod.power_seen"),
    ("CLOUDPOD_DELETED", "cloudpod.deleted"),
    ("WEBHOOK_ENDPOINT_DISABLED", "webhook_endpoint.disabled"),
];

/// What an endpoint is told when somebody tries it, whatever it wants to hear.
pub const TEST: &str = "webhook.test";

/// What an entry of this kind is called outside.
pub(crate) fn event(kind: &str) -> Option<&'static str> {
    EVENTS.iter().find(|(known, _)| *known == kind).map(|(_, event)| *event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_an_entry_that_is_written() {
        let written = include_str!("../audit/event.rs");
        for (kind, event) in EVENTS {
            let variant: String = kind
                .split('_')
                .map(|word| word.split_at(1))
                .map(|(first, rest)| first.to_owned() + &rest.to_lowercase())
                .collect();
            assert!(written.contains(&format!("    {variant} {{")), "{variant} is no entry");
            let valid = |c: char| c.is_ascii_lowercase() || "._".contains(c);
            assert!(event.chars().all(valid) && event.split('.').count() == 2, "{event}");
        }
    }
}
