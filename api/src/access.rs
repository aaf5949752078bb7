//! Who may do what: each operation of the contract with what it needs. The contract shows it, the
//! table in `openapi/roles.md` is made from it, and the tests try every line of it. That it is so is
//! decided below, where the permission is asked for.

use entities::tenancy::Permission;
use std::fmt::Write;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi as Document, PathItem};

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: anybody may call it.
    Open,
    /// A permission in the tenant that is acted in.
    Needs(Permission),
}

use Access::{Needs, Open};

/// Every operation: method, path, what it needs.
pub const TABLE: &[(&str, &str, Access)] = &[
    ("get", "/healthz", Open),
    ("get", "/readyz", Open),
    ("post", "/api/auth/login", Open),
    ("post", "/api/auth/refresh", Open),
    ("post", "/api/auth/register", Open),
    ("post", "/api/auth/verify-email", Open),
    ("post", "/api/auth/resend-verification", Open),
    ("post", "/api/auth/forgot-password", Open),
    ("post", "/api/auth/reset-password", Open),
    ("post", "/api/auth/confirm-email", Open),
    ("post", "/api/invitations/accept", Open),
    ("get", "/api/me", Needs(Permission::ProfileRead)),
    ("patch", "/api/me", Needs(Permission::ProfileWrite)),
    ("post", "/api/auth/logout", Needs(Permission::ProfileWrite)),
    ("post", "/api/auth/switch-tenant", Needs(Permission::ProfileWrite)),
    ("post", "/api/auth/change-password", Needs(Permission::ProfileWrite)),
    ("post", "/api/auth/change-email", Needs(Permission::ProfileWrite)),
    ("get", "/api/auth/sessions", Needs(Permission::SessionsRead)),
    ("delete", "/api/auth/sessions", Needs(Permission::ProfileWrite)),
    ("delete", "/api/auth/sessions/{id}", Needs(Permission::ProfileWrite)),
    ("post", "/api/auth/mfa/setup", Needs(Permission::ProfileWrite)),
    ("post", "/api/auth/mfa/enable", Needs(Permission::ProfileWrite)),
    ("post", "/api/auth/mfa/disable", Needs(Permission::ProfileWrite)),
    ("post", "/api/auth/mfa/recovery-codes", Needs(Permission::ProfileWrite)),
    ("get", "/api/tenants", Needs(Permission::TenantRead)),
    ("post", "/api/tenants", Needs(Permission::TenantWrite)),
    ("get", "/api/tenants/{id}", Needs(Permission::TenantRead)),
    ("patch", "/api/tenants/{id}", Needs(Permission::TenantWrite)),
    ("post", "/api/tenants/{id}/suspend", Needs(Permission::TenantWrite)),
    ("post", "/api/tenants/{id}/resume", Needs(Permission::TenantWrite)),
    ("post", "/api/tenants/{id}/members", Needs(Permission::MembersWrite)),
    ("get", "/api/users", Needs(Permission::UsersRead)),
    ("get", "/api/users/{id}", Needs(Permission::UsersRead)),
    ("patch", "/api/users/{id}", Needs(Permission::MembersWrite)),
    ("delete", "/api/users/{id}", Needs(Permission::MembersWrite)),
    ("post", "/api/users/{id}/unlock", Needs(Permission::UsersWrite)),
    ("get", "/api/invitations", Needs(Permission::MembersRead)),
    ("post", "/api/invitations", Needs(Permission::MembersWrite)),
    ("delete", "/api/invitations/{id}", Needs(Permission::MembersWrite)),
    ("get", "/api/api-keys", Needs(Permission::KeysRead)),
    ("post", "/api/api-keys", Needs(Permission::KeysWrite)),
    ("get", "/api/api-keys/{id}", Needs(Permission::KeysRead)),
    ("delete", "/api/api-keys/{id}", Needs(Permission::KeysWrite)),
    ("post", "/api/impersonations", Needs(Permission::Impersonate)),
    ("delete", "/api/impersonations/{id}", Needs(Permission::ProfileWrite)),
    ("get", "/api/audit", Needs(Permission::AuditRead)),
    ("get", "/api/audit/export", Needs(Permission::AuditRead)),
    ("get", "/api/servers", Needs(Permission::ServersUse)),
    ("post", "/api/servers", Needs(Permission::ServersWrite)),
    ("get", "/api/servers/worker-key", Needs(Permission::ServersRead)),
    ("get", "/api/servers/{id}", Needs(Permission::ServersUse)),
    ("patch", "/api/servers/{id}", Needs(Permission::ServersWrite)),
    ("post", "/api/servers/{id}/enroll", Needs(Permission::ServersWrite)),
    ("post", "/api/servers/{id}/grants", Needs(Permission::ServersWrite)),
    ("get", "/api/jobs/{id}", Needs(Permission::JobsRead)),
    ("post", "/api/migration/validate", Needs(Permission::MigrationsWrite)),
    ("post", "/api/migration/analyze", Needs(Permission::MigrationsWrite)),
    ("get", "/api/migration/plan", Needs(Permission::MigrationsRead)),
    ("post", "/api/migration/preview", Needs(Permission::MigrationsWrite)),
    ("post", "/api/migration/apply", Needs(Permission::MigrationsWrite)),
    ("post", "/api/migration/selective-restore", Needs(Permission::MigrationsWrite)),
    ("post", "/api/migration/validate-complete", Needs(Permission::MigrationsWrite)),
    ("post", "/api/migration/rollback", Needs(Permission::MigrationsWrite)),
    ("post", "/api/migration/job/{id}/confirm", Needs(Permission::MigrationsWrite)),
    ("post", "/api/migration/job/{id}/cancel", Needs(Permission::MigrationsWrite)),
    ("get", "/api/migration/job/{id}/status", Needs(Permission::MigrationsRead)),
    ("get", "/api/migration/job/{id}/report", Needs(Permission::MigrationsRead)),
    ("get", "/api/migration/job/{id}/logs", Needs(Permission::MigrationsRead)),
    ("get", "/api/migration/job/{id}/events", Needs(Permission::MigrationsRead)),
    ("get", "/api/accounts", Needs(Permission::AccountsRead)),
    ("get", "/api/dns/zones", Needs(Permission::ZonesRead)),
];

/// What an operation needs; none when it is missing from the table.
#[must_use]
pub fn of(method: &str, path: &str) -> Option<Access> {
    TABLE.iter().find(|(m, p, _)| *m == method && *p == path).map(|(.., access)| *access)
}

/// The operations of a contract by method and path.
fn operations(document: &mut Document) -> Vec<(&'static str, String, &mut Operation)> {
    let mut all = Vec::new();
    for (path, item) in &mut document.paths.paths {
        let PathItem { get, post, put, patch, delete, .. } = item;
        let methods =
            [("get", get), ("post", post), ("put", put), ("patch", patch), ("delete", delete)];
        for (method, operation) in methods {
            all.extend(operation.as_mut().map(|operation| (method, path.clone(), operation)));
        }
    }
    all
}

/// Tells in the contract what each operation needs.
pub fn document(document: &mut Document) {
    for (method, path, operation) in operations(document) {
        let Some(access) = of(method, &path) else { continue };
        let mut extensions = ExtensionsBuilder::new();
        let text = match access {
            Open => {
                extensions = extensions.add("x-required-role", "none");
                "Needs no login.".to_owned()
            }
            Needs(permission) => {
                let role = permission.role().to_string();
                let place = if permission.platform_only() { " of the platform" } else { "" };
                extensions = extensions.add("x-required-role", format!("{role}{place}"));
                let scope = match permission.scope() {
                    Some(scope) => {
                        extensions = extensions.add("x-required-scope", scope);
                        format!("an API key the scope `{scope}`")
                    }
                    None => "no API key may do it".to_owned(),
                };
                format!("Needs the role {role}{place}; {scope}.")
            }
        };
        operation.extensions = Some(extensions.build());
        let before = operation.description.take().unwrap_or_default();
        operation.description = Some(format!("{before}\n\n{text}").trim().to_owned());
    }
}

/// The table as a page to read: `openapi/roles.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Who may do what\n\nMade by `migrapanel-api roles > openapi/roles.md`. A role has the \
         rights of those below it: OWNER, ADMIN, BILLING, MEMBER, VIEWER. It holds in its tenant and \
         in all below; *platform* means the role in the platform's own tenant. An API key needs the \
         scope, too, unless it has none at all.\n\n| operation | role | scope of a key |\n|---|---|---|\n",
    );
    for (method, path, access) in TABLE {
        let (role, scope) = match access {
            Open => ("–".to_owned(), "–"),
            Needs(permission) => {
                let place = if permission.platform_only() { "platform " } else { "" };
                let role = format!("{place}{}", permission.role());
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
