//! The contract (OpenAPI 3.1): its head here, its operations from the routes, and at each of them what
//! it needs, how it may be refused, and examples. `openapi/openapi.json` is made from it.

use crate::error::{Failure, retryable, status};
use crate::{access, idempotency, routes};
use actix_web::App;
use actix_web::dev::ResourceDef;
use entities::error::Code;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Header, OpenApi as Document, Ref, RefOr, Required};
use utoipa::{Modify, OpenApi};
use utoipa_actix_web::AppExt;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "MigraPanel",
        description = "The control plane of a hosting company: its tenants and their people, what is sold and ordered, servers, accounts, the migration of cPanel accounts, and webhooks that tell of all this.\n\nEvery answer but streams and exports is JSON. Success: `{success: true, data, meta}`; refusal: `{success: false, error, code, fields, retryable, request_id}`, where `code` is stable and for programs, `error` says what to do, and `request_id` finds the request in the log. Log in at `POST /api/auth/login`, or use an API key, and send the header `Authorization: Bearer TOKEN`. `X-Tenant-Id` acts in a tenant below one's own. Unknown fields and parameters are refused.",
    ),
    components(schemas(Failure)),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Head;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The contract before its operations are known.
pub(crate) fn head() -> Document {
    Head::openapi()
}

/// The contract as a file.
pub fn text() -> Result<String, serde_json::Error> {
    let (_, document) =
        App::new().into_utoipa_app().openapi(head()).configure(routes::all).split_for_parts();
    finish(document).to_pretty_json().map(|text| text + "\n")
}

/// Tells at each operation what its handler alone does not.
pub(crate) fn finish(mut document: Document) -> Document {
    // Cargo's is none, which would stand there without a name.
    document.info.license = None;
    name_codes(&mut document);
    let examples = Examples::read();
    examples.add_refusals(&mut document);
    idempotency::document(&mut document);
    access::document(&mut document);
    for (method, path, operation) in operations(&mut document) {
        let mut codes = access::refusals(method, &path);
        if idempotency::is_offered(operation) {
            codes.extend([Code::IdempotencyMismatch, Code::IdempotencyRunning]);
        }
        if operation.security.is_none() {
            operation.parameters.get_or_insert_default().push(acting_in().into());
        }
        describe_success(operation);
        link(operation);
        refuse(operation, &codes);
        examples.show(operation);
    }
    document
}

/// The operations of a contract by method and path.
pub(crate) fn operations(document: &mut Document) -> Vec<(&'static str, String, &mut Operation)> {
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

/// Names every error code, since programs may rely on the list being whole.
fn name_codes(document: &mut Document) {
    let codes = document
        .components
        .as_mut()
        .and_then(|components| components.schemas.get_mut("Failure"))
        .and_then(|failure| match failure {
            RefOr::T(Schema::Object(object)) => object.properties.get_mut("code"),
            _ => None,
        });
    if let Some(RefOr::T(Schema::Object(code))) = codes {
        code.enum_values = Some(Code::names().into_iter().map(Value::String).collect());
    }
}

fn acting_in() -> utoipa::openapi::path::Parameter {
    let id = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    ParameterBuilder::new()
        .name("X-Tenant-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Acts in this tenant, which must be the caller's or lie below it. Another's is 404.",
        ))
        .schema(Some(id))
        .build()
}

type LinksOf = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// What the answer of one operation is good for at others: the operation, where its answer has the
/// id, and the operations that take it, each with the parameter, or `body` for the field `job_id` of
/// its body.
const LINKS: &[LinksOf] = &[
    (
        "create_tenant",
        "/data/id",
        &[
            ("view_tenant", "id"),
            ("update_tenant", "id"),
            ("suspend_tenant", "id"),
            ("resume_tenant", "id"),
            ("add_member", "id"),
        ],
    ),
    (
        "add_member",
        "/data/id",
        &[("view_user", "id"), ("update_user", "id"), ("unlock_user", "id"), ("remove_user", "id")],
    ),
    ("invite", "/data/id", &[("revoke_invitation", "id")]),
    ("create_key", "/data/id", &[("view_key", "id"), ("revoke_key", "id")]),
    ("impersonate", "/data/id", &[("end_impersonation", "id")]),
    (
        "create_server",
        "/data/id",
        &[
            ("view_server", "id"),
            ("update_server", "id"),
            ("enroll_server", "id"),
            ("grant_server", "id"),
        ],
    ),
    ("enroll_server", "/data/job_id", &[("view_job", "id")]),
    (
        "create_category",
        "/data/id",
        &[("view_category", "id"), ("update_category", "id"), ("archive_category", "id")],
    ),
    (
        "create_product",
        "/data/id",
        &[("view_product", "id"), ("update_product", "id"), ("archive_product", "id")],
    ),
    ("create_price", "/data/id", &[("view_price", "id"), ("archive_price", "id")]),
    (
        "create_order",
        "/data/id",
        &[
            ("view_order", "id"),
            ("update_order", "id"),
            ("cancel_order", "id"),
            ("mark_order_paid", "id"),
        ],
    ),
    (
        "analyze_archive",
        "/data/job_id",
        &[
            ("view_status", "id"),
            ("view_plan", "job_id"),
            ("view_report", "id"),
            ("list_logs", "id"),
            ("confirm_items", "id"),
            ("cancel_job", "id"),
            ("preview_migration", "body"),
            ("apply_migration", "body"),
            ("selective_restore", "body"),
            ("validate_complete", "body"),
            ("rollback_migration", "body"),
        ],
    ),
];

fn link(operation: &mut Operation) {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let Some((_, pointer, targets)) = LINKS.iter().find(|(from, ..)| *from == id) else { return };
    let value = format!("$response.body#{pointer}");
    for (status, response) in &mut operation.responses.responses {
        let (true, RefOr::T(response)) = (status.starts_with('2'), response) else { continue };
        for (to, place) in *targets {
            let link = LinkBuilder::new().operation_id(*to);
            let link = match *place {
                "body" => link.request_body(Some(json!({ "job_id": value }))),
                parameter => link.parameter(parameter, value.clone()),
            };
            response.links.insert((*to).to_owned(), RefOr::T(link.build()));
        }
    }
}

/// A description is required (OpenAPI 3.1, "Response Object").
fn describe_success(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            let text = match status.as_str() {
                "201" => "What was made.",
                "202" => "It was accepted, and is carried out after this answer.",
                _ => "Done.",
            };
            text.clone_into(&mut response.description);
        }
    }
}

/// Describes each refusal with its codes, and an example of each.
fn refuse(operation: &mut Operation, codes: &[Code]) {
    let mut by_status: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for code in codes {
        by_status.entry(status(*code).as_u16()).or_default().insert(code.as_str());
    }
    for (status, codes) in by_status {
        let list: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
        let shown = codes.iter().map(|code| {
            (code.clone(), RefOr::<Example>::Ref(Ref::new(format!("#/components/examples/{code}"))))
        });
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Failure")))
            .examples_from_iter(shown)
            .build();
        let mut response = ResponseBuilder::new()
            .description(list.join(", "))
            .content("application/json", content);
        if status == 429 {
            response = response.header("Retry-After", wait());
        }
        operation.responses.responses.insert(status.to_string(), RefOr::T(response.build()));
    }
}

fn wait() -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1))))
        .description(Some("Seconds after which the same request may work."))
        .build()
}

/// What requests and answers look like: `openapi/examples.json`, which the tests hold against the
/// schemas.
#[derive(Debug, Default, serde::Deserialize)]
struct Examples {
    /// By code: the sentence, and the fields that are named.
    refusals: BTreeMap<String, Refusal>,
    /// By the operation's id.
    operations: BTreeMap<String, Exchange>,
}

#[derive(Debug, serde::Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    fields: Vec<Value>,
}

#[derive(Debug, serde::Deserialize)]
struct Exchange {
    request: Option<Value>,
    response: Value,
}

impl Examples {
    fn read() -> Self {
        // That it can be read is tested; without it the contract would only be poorer.
        serde_json::from_str(include_str!("../../openapi/examples.json")).unwrap_or_default()
    }

    fn add_refusals(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        for code in self.refusals.keys() {
            let example = ExampleBuilder::new().value(Some(self.refusal(code))).build();
            components.examples.insert(code.clone(), RefOr::T(example));
        }
    }

    fn refusal(&self, code: &str) -> Value {
        let known = self.refusals.get(code);
        let parsed = Code::from_agent(code);
        json!({
            "success": false,
            "error": known.map_or("", |refusal| &refusal.error),
            "code": code,
            "fields": known.map_or(&[][..], |refusal| &refusal.fields),
            "retryable": retryable(parsed),
            "request_id": "0197f3a2-5b0c-7c1e-9a43-3f6f0d2b8e51",
        })
    }

    fn show(&self, operation: &mut Operation) {
        let id = operation.operation_id.clone().unwrap_or_default();
        let Some(exchange) = self.operations.get(&id) else { return };
        if let (Some(RefOr::T(body)), Some(value)) =
            (&mut operation.request_body, &exchange.request)
        {
            show_in(&mut body.content, value);
        }
        for (status, response) in &mut operation.responses.responses {
            if let (true, RefOr::T(response)) = (status.starts_with('2'), response) {
                show_in(&mut response.content, &exchange.response);
            }
        }
    }
}

fn show_in<'c>(
    content: impl IntoIterator<Item = (&'c String, &'c mut RefOr<Content>)>,
    value: &Value,
) {
    for (kind, content) in content {
        let fits = value.is_string() || kind != "text/dns";
        if let (true, RefOr::T(content)) = (fits, content) {
            content.example = Some(value.clone());
        }
    }
}

/// The contract, for those who ask for it, and the methods of each path.
pub struct Served {
    pub document: Document,
    paths: Vec<(ResourceDef, Vec<&'static str>)>,
}

impl Served {
    /// With the paths that are served beside it, such as its own.
    pub(crate) fn new(mut document: Document, beside: &[&'static str]) -> Self {
        let mut by_path: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
        for (method, path, _) in operations(&mut document) {
            by_path.entry(path).or_default().push(method);
        }
        let upper = |method: &str| match method {
            "post" => "POST",
            "put" => "PUT",
            "patch" => "PATCH",
            "delete" => "DELETE",
            _ => "GET",
        };
        let described = by_path.into_iter().map(|(path, methods)| {
            (ResourceDef::new(path.as_str()), methods.into_iter().map(upper).collect())
        });
        let paths = described
            .chain(beside.iter().map(|path| (ResourceDef::new(*path), vec!["GET"])))
            .collect();
        Self { document, paths }
    }

    /// The methods that a path takes; none: there is no such path. A path that is there as it stands,
    /// such as `/api/servers/worker-key`, is nothing's id.
    #[must_use]
    pub fn methods(&self, path: &str) -> BTreeSet<&'static str> {
        let exact = self.paths.iter().find(|(pattern, _)| pattern.pattern() == Some(path));
        let found = match exact {
            Some(one) => std::slice::from_ref(one),
            None => self.paths.as_slice(),
        };
        let found = found.iter().filter(|(pattern, _)| pattern.is_match(path));
        found.flat_map(|(_, methods)| methods.iter().copied()).collect()
    }
}
