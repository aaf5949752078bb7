//! Bodies in and out: JSON that names the field it fails at, and the envelope.

use crate::error::ApiError;
use actix_web::cookie::Cookie;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse, Responder, web};
use chrono::{DateTime, Datelike, Utc};
use entities::error::{Code, Error, FieldError};
use entities::values::{Invalid, is_blank, is_hidden};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_path_to_error::Segment;
use std::pin::Pin;
use std::str::FromStr;
use utoipa::ToSchema;
use validator::{Validate, ValidationError, ValidationErrors};

/// The body of every success.
#[derive(Debug, Serialize, ToSchema)]
pub struct Success<T: ToSchema> {
    /// Always true.
    pub success: bool,
    pub data: T,
    /// About the data, such as where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub meta: Option<serde_json::Value>,
}

/// An answer with its status and data.
#[derive(Debug)]
pub struct Answer<T: ToSchema> {
    status: actix_web::http::StatusCode,
    data: T,
    meta: Option<serde_json::Value>,
    cookie: Option<Cookie<'static>>,
    etag: Option<String>,
}

impl<T: ToSchema> Answer<T> {
    fn new(status: actix_web::http::StatusCode, data: T) -> Self {
        Self { status, data, meta: None, cookie: None, etag: None }
    }

    /// With something for the browser to keep.
    #[must_use]
    pub fn with_cookie(self, cookie: Cookie<'static>) -> Self {
        Self { cookie: Some(cookie), ..self }
    }

    /// With what names the version that is shown.
    #[must_use]
    pub fn with_etag(self, etag: String) -> Self {
        Self { etag: Some(etag), ..self }
    }
}

/// 200 with data.
pub fn ok<T: ToSchema>(data: T) -> Answer<T> {
    Answer::new(actix_web::http::StatusCode::OK, data)
}

/// 200 with data and where the next page begins.
pub fn page<T: ToSchema>(data: T, meta: serde_json::Value) -> Answer<T> {
    Answer { meta: Some(meta), ..Answer::new(actix_web::http::StatusCode::OK, data) }
}

/// 201 with what was made.
pub fn created<T: ToSchema>(data: T) -> Answer<T> {
    Answer::new(actix_web::http::StatusCode::CREATED, data)
}

/// 202 with the job that does it.
pub fn accepted<T: ToSchema>(data: T) -> Answer<T> {
    Answer::new(actix_web::http::StatusCode::ACCEPTED, data)
}

impl<T: Serialize + ToSchema> Responder for Answer<T> {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(cookie) = self.cookie {
            response.cookie(cookie);
        }
        if let Some(etag) = self.etag {
            response.insert_header((header::ETAG, etag));
        }
        response.insert_header(("cache-control", "no-store")).json(Success {
            success: true,
            data: self.data,
            meta: self.meta,
        })
    }
}

/// A JSON body of at most 256 KiB that was read and checked.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + Validate + 'static> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = request
            .mime_type()
            .is_ok_and(|mime| mime.is_some_and(|mime| mime.essence_str() == "application/json"));
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            if !is_json {
                let text = "This takes JSON. Send it with `Content-Type: application/json`.";
                return Err(Error::refused(Code::UnsupportedMediaType, text).into());
            }
            let bytes = bytes.await.map_err(|error| unreadable(&error))?;
            // A list would be taken for the fields in their order.
            if bytes.trim_ascii_start().first() == Some(&b'[') {
                let text = "The body is not the JSON that is expected: it must be an object.";
                return Err(Error::refused(Code::InvalidRequest, text).into());
            }
            let mut reader = serde_json::Deserializer::from_slice(&bytes);
            let value: T = serde_path_to_error::deserialize(&mut reader)
                .map_err(|error| unexpected(&error))?;
            reader.end().map_err(|error| unexpected_text(&error))?;
            value.validate().map_err(|errors| invalid(&errors))?;
            Ok(Self(value))
        })
    }
}

fn unexpected_text(error: &serde_json::Error) -> Error {
    let text = format!("The body is not the JSON that is expected: {error}.");
    Error::refused(Code::InvalidRequest, text)
}

/// Names the field as a JSON pointer: the one that is wrong, unknown or missing.
fn unexpected(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let cause = error.inner();
    if !cause.is_data() {
        return unexpected_text(cause);
    }
    let mut path: String = error
        .path()
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect();
    let said = cause.to_string();
    // Both are said of the object around it.
    let missing = said.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
    if let Some((name, _)) = missing {
        path.push('/');
        path.push_str(name);
    }
    // Where it stands in the text is of no use to whoever has the field's name.
    let message = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what).to_owned();
    let text = format!("The body is not the JSON that is expected: {path}: {message}.");
    let fields = vec![FieldError { path, message }];
    Error::Refused { code: Code::InvalidRequest, message: text, fields }
}

/// No body, or an empty object: for actions that need nothing said.
#[derive(Debug)]
pub struct NoBody;

impl FromRequest for NoBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            let bytes = bytes.await.map_err(|error| unreadable(&error))?;
            let is_empty = bytes.trim_ascii().is_empty()
                || serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes)
                    .is_ok_and(|map| map.is_empty());
            if !is_empty {
                let text = "This takes no body. Send none, or an empty object.";
                return Err(Error::refused(Code::InvalidRequest, text).into());
            }
            Ok(Self)
        })
    }
}

/// Which page of a list: the first is 1.
#[derive(Debug, Clone, Copy)]
pub struct Paging {
    pub page: u64,
    pub per_page: u64,
}

/// How long a page may be, and is by default.
const PER_PAGE_MAX: u64 = 200;
const PER_PAGE: u64 = 50;
/// No list is read further by pages.
const PAGE_MAX: u64 = 100_000;

impl Paging {
    /// Checks what was asked for.
    pub fn of(page: Option<u64>, per_page: Option<u64>) -> Result<Self, Error> {
        let (page, per_page) = (page.unwrap_or(1), per_page.unwrap_or(PER_PAGE));
        if !(1..=PAGE_MAX).contains(&page) {
            return Err(Error::field("page", format!("must be 1 to {PAGE_MAX}")));
        }
        if !(1..=PER_PAGE_MAX).contains(&per_page) {
            return Err(Error::field("per_page", format!("must be 1 to {PER_PAGE_MAX}")));
        }
        Ok(Self { page, per_page })
    }

    /// Rows before the page.
    #[must_use]
    pub fn offset(self) -> u64 {
        (self.page - 1).saturating_mul(self.per_page)
    }

    /// What a list tells beside its rows.
    #[must_use]
    pub fn meta(self, total: u64) -> serde_json::Value {
        serde_json::json!({ "page": self.page, "per_page": self.per_page, "total": total })
    }
}

/// Why a body could not be taken.
pub fn unreadable(error: &actix_web::Error) -> Error {
    let code = match error.as_response_error().status_code().as_u16() {
        413 => Code::PayloadTooLarge,
        _ => Code::InvalidRequest,
    };
    Error::refused(code, format!("The body cannot be taken: {error}."))
}

/// Reads a whole number; `5.0` is one, too (JSON Schema, validation, 6.1.1), as some languages write
/// it.
pub fn whole<'de, T: TryFrom<u64>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    let text = number.to_string();
    let digits = text.strip_suffix(".0").unwrap_or(&text);
    let whole = digits.parse::<u64>().ok().and_then(|n| T::try_from(n).ok());
    whole.ok_or_else(|| D::Error::custom(format!("{number} is not a whole number in its bounds")))
}

/// The same where null, too, leaves it out.
pub fn maybe_whole<'de, T: TryFrom<u64>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let value = Option::<serde_json::Number>::deserialize(from)?;
    value.map(|number| whole(number).map_err(D::Error::custom)).transpose()
}

/// Reads an object within a body; a list would otherwise be taken for its fields in their order.
pub fn object<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let map = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(from)?;
    let value = map.map(|map| serde_json::from_value(serde_json::Value::Object(map)));
    value.transpose().map_err(D::Error::custom)
}

/// [`readable`] as a regular expression: anything printable, with something to see in it.
pub const READABLE: &str = concat!(
    r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]*",
    r"[^\u0000-\u0020\u007f-\u00a0\u061c\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]",
    r"[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]*$",
);
/// The same of one that must be there.
pub fn one_object<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    object(from)?.ok_or_else(|| D::Error::custom("null is no object"))
}

/// Reads a list of objects; lists in it would otherwise be taken for their fields in their order.
pub fn objects<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    maybe_objects(from)?.ok_or_else(|| D::Error::custom("null is no list"))
}

/// The same where null leaves it out.
pub fn maybe_objects<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let maps = Option::<Vec<serde_json::Map<String, serde_json::Value>>>::deserialize(from)?;
    let Some(maps) = maps else { return Ok(None) };
    let values = maps.into_iter().map(|map| serde_json::from_value(serde_json::Value::Object(map)));
    values.collect::<Result<_, _>>().map(Some).map_err(D::Error::custom)
}

/// An object that may be null, which says something else than leaving it out.
pub fn said_object<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    object(from).map(Some)
}

/// A field that may be null, which says something else than leaving it out.
pub fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Reads a checked value, and names the field that holds none.
pub fn field<T: FromStr<Err = Invalid>>(path: &str, text: &str) -> Result<T, Error> {
    text.parse().map_err(|error: Invalid| Error::field(path, error.to_string()))
}

/// [`printable`] as a regular expression.
pub const PRINTABLE: &str =
    r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]*$";

/// What [`printable`] demands.
pub const NOT_PRINTABLE: &str =
    "must not hold control characters, nor ones that turn the direction of the text around";

/// Text that a log and a screen show as it is: no control characters, and none of those that make it
/// look like another (Unicode Technical Report 36, 2.10.2, bidirectional controls).
pub fn printable(text: &str) -> Result<(), ValidationError> {
    if text.chars().any(is_hidden) {
        return Err(ValidationError::new("printable").with_message(NOT_PRINTABLE.into()));
    }
    Ok(())
}

/// A name or a reason that a person gives: printable, and not of blanks only.
pub fn readable(text: &str) -> Result<(), ValidationError> {
    printable(text)?;
    if text.chars().all(is_blank) {
        let message = "must have something to read in it, not blanks only";
        return Err(ValidationError::new("readable").with_message(message.into()));
    }
    Ok(())
}

/// What a moment must be that a caller names.
pub const MOMENT: &str = "must be a moment of the years 1970 to 9999, such as 2026-01-31T12:00:00Z";

/// Whether a moment lies in the years that the database, and whoever reads an answer, can show.
#[must_use]
pub fn is_moment(at: &DateTime<Utc>) -> bool {
    (1970..=9999).contains(&at.year())
}

/// The same for a field of a body.
pub fn moment(at: &DateTime<Utc>) -> Result<(), ValidationError> {
    if is_moment(at) {
        return Ok(());
    }
    Err(ValidationError::new("moment").with_message(MOMENT.into()))
}

fn broken_rule(error: &ValidationError) -> String {
    let bound = |name: &str| error.params.get(name).map(ToString::to_string);
    let what = if error.code == "length" { "must have" } else { "must be" };
    let unit = if error.code == "length" { " characters" } else { "" };
    match (bound("min"), bound("max")) {
        (Some(min), Some(max)) => format!("{what} {min} to {max}{unit}"),
        (Some(min), None) => format!("{what} at least {min}{unit}"),
        (None, Some(max)) => format!("{what} at most {max}{unit}"),
        (None, None) => format!("fails the rule {}", error.code),
    }
}

fn invalid(errors: &ValidationErrors) -> Error {
    let fields: Vec<FieldError> = errors
        .field_errors()
        .iter()
        .flat_map(|(field, errors)| {
            errors.iter().map(move |error| FieldError {
                path: format!("/{field}"),
                message: error
                    .message
                    .as_ref()
                    .map_or_else(|| broken_rule(error), ToString::to_string),
            })
        })
        .collect();
    let named: Vec<String> = fields.iter().map(|f| format!("{} {}", f.path, f.message)).collect();
    Error::Refused {
        code: Code::InvalidRequest,
        message: format!("Some fields are not as they should be: {}.", named.join("; ")),
        fields,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn names_are_seen_as_they_are() {
        let documented = |pattern: &str, text: &str| {
            let schema = serde_json::json!({ "type": "string", "pattern": pattern });
            jsonschema::is_valid(&schema, &text.into())
        };
        for (text, prints, reads) in [
            ("Zoë & Söhne 🐑", true, true),
            ("", true, false),
            (" \u{a0}\u{3000}", true, false),
            ("\u{200b}\u{2060}", true, false),
            ("a\u{200d}b", true, true),
            ("moc.knab\u{202e}", false, false),
            ("a\u{2066}b", false, false),
            ("a\u{2028}b", false, false),
            ("a\u{0}", false, false),
            ("a\u{85}", false, false),
            ("\u{feff}a", false, false),
        ] {
            assert_eq!(printable(text).is_ok(), prints, "{text:?}");
            assert_eq!(readable(text).is_ok(), reads, "{text:?}");
            assert_eq!(documented(PRINTABLE, text), prints, "{text:?} as the contract says");
            assert_eq!(documented(READABLE, text), reads, "{text:?} as the contract says");
        }
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read only")]
    struct Body {
        name: String,
        inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read only")]
    struct Inner {
        list: Vec<u8>,
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (text, path) in [
            (r#"{"nam": "x"}"#, "/nam"),
            ("{}", "/name"),
            (r#"{"name": 1}"#, "/name"),
            (r#"{"name": "x", "inner": {"list": [1, "a"]}}"#, "/inner/list/1"),
            (r#"{"name": "x", "inner": {}}"#, "/inner/list"),
            (r#"{"name": "x", "inner": {"list": [], "a/b~": 1}}"#, "/inner/a~1b~0"),
        ] {
            let mut reader = serde_json::Deserializer::from_str(text);
            let error = serde_path_to_error::deserialize::<_, Body>(&mut reader).unwrap_err();
            let Error::Refused { fields, message, .. } = unexpected(&error) else { panic!() };
            assert_eq!(fields.first().map(|f| f.path.as_str()), Some(path), "{text}: {message}");
        }
    }
}
