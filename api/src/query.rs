//! What stands behind the `?` of a request, held against the contract before anything is done with it:
//! names that an operation does not know, and values that are nothing of their kind, are refused by
//! name.

use crate::auth::Caller;
use crate::contract::operations;
use crate::error::ApiError;
use crate::extract::{MOMENT, NOT_PRINTABLE, is_moment, printable};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ResourceDef, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::{Data, Query};
use chrono::{DateTime, Utc};
use entities::error::Error;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Object, OpenApi as Document, RefOr};
use uuid::Uuid;

/// How a value is written.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Whole,
    Flag,
    Moment,
    Id,
}

/// The parameters of one operation.
struct Known {
    method: &'static str,
    path: ResourceDef,
    needs_login: bool,
    parameters: Vec<(String, Kind)>,
}

/// Which parameters each operation of the contract takes.
pub struct Queries(Vec<Known>);

impl Queries {
    /// As the contract says.
    pub(crate) fn new(mut document: Document) -> Self {
        let known = operations(&mut document).into_iter().map(|(method, path, operation)| Known {
            method,
            path: ResourceDef::new(path.as_str()),
            needs_login: operation.security.is_none(),
            parameters: parameters(operation),
        });
        Self(known.collect())
    }

    /// A path that is there as it stands, such as `/api/servers/worker-key`, is nothing's id.
    fn of(&self, method: &str, path: &str) -> Option<&Known> {
        let asked = || self.0.iter().filter(|k| k.method.eq_ignore_ascii_case(method));
        let exact = asked().find(|known| known.path.pattern() == Some(path));
        exact.or_else(|| asked().find(|known| known.path.is_match(path)))
    }
}

fn parameters(operation: &Operation) -> Vec<(String, Kind)> {
    let all = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    });
    let all = all.filter(|parameter| parameter.parameter_in == ParameterIn::Query);
    all.map(|parameter| {
        let kind = match &parameter.schema {
            Some(RefOr::T(Schema::Object(object))) => kind(object),
            _ => Kind::Text,
        };
        (parameter.name.clone(), kind)
    })
    .collect()
}

fn kind(object: &Object) -> Kind {
    match &object.format {
        Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)) => return Kind::Moment,
        Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)) => return Kind::Id,
        _ => {}
    }
    let is = |wanted: Type| match &object.schema_type {
        SchemaType::Type(one) => *one == wanted,
        SchemaType::Array(all) => all.contains(&wanted),
        SchemaType::AnyValue => false,
    };
    if is(Type::Integer) {
        Kind::Whole
    } else if is(Type::Boolean) {
        Kind::Flag
    } else {
        Kind::Text
    }
}

/// Refuses a query that the contract does not know. Whoever has to log in first is told that.
pub async fn known(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let queries = request.app_data::<Data<Queries>>().cloned();
    let known = queries
        .as_ref()
        .and_then(|queries| queries.of(request.method().as_str(), request.match_info().as_str()));
    if let Some(known) = known
        && let Err(error) = known.check(request.query_string())
    {
        let caller = match known.needs_login {
            true => request.extract::<Caller>().await.map(drop),
            false => Ok(()),
        };
        let error = caller.err().unwrap_or(ApiError(error));
        return Ok(request.error_response(error));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

impl Known {
    fn check(&self, query: &str) -> Result<(), Error> {
        let Ok(pairs) = Query::<Vec<(String, String)>>::from_query(query) else { return Ok(()) };
        for (name, value) in pairs.iter() {
            let Some((name, kind)) = self.parameters.iter().find(|(known, _)| known == name) else {
                let names: Vec<&str> = self.parameters.iter().map(|(n, _)| n.as_str()).collect();
                let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
                return Err(Error::field(
                    &name,
                    match names.as_slice() {
                        [] => "is unknown: this takes no parameters".to_owned(),
                        names => format!("is unknown; there are {}", names.join(", ")),
                    },
                ));
            };
            kind.check(value).map_err(|what| Error::field(name, what))?;
        }
        Ok(())
    }
}

impl Kind {
    /// What is wrong with a value. Bounds are left to the handlers, who know them.
    fn check(self, value: &str) -> Result<(), &'static str> {
        let (is_good, what) = match self {
            Self::Text => (printable(value).is_ok(), NOT_PRINTABLE),
            Self::Whole => (value.parse::<i64>().is_ok(), "must be a whole number"),
            Self::Flag => (value.parse::<bool>().is_ok(), "must be `true` or `false`"),
            Self::Moment => (value.parse::<DateTime<Utc>>().is_ok_and(|at| is_moment(&at)), MOMENT),
            Self::Id => (Uuid::parse_str(value).is_ok(), "must be a UUID"),
        };
        if is_good { Ok(()) } else { Err(what) }
    }
}
