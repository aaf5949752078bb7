//! Access tokens, and who calls.

use crate::client::origin;
use crate::error::{ApiError, request_id};
use crate::state::State;
use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use chrono::DateTime;
use entities::Result;
use entities::error::{Code, Error};
use entities::ids::{RequestId, SessionId, TenantId, UserId};
use entities::keys;
use entities::sessions::{self, Claims, Standing};
use entities::tenancy::{Origin, Role, TenantCtx};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::pin::Pin;
use uuid::Uuid;

/// How long an access token lives.
pub const ACCESS_SECS: i64 = 15 * 60;
const ISSUER: &str = "migrapanel";
const AUDIENCE: &str = "migrapanel-api";
const TYPE: &str = "access";

#[derive(Debug, Serialize, Deserialize)]
struct Token {
    iss: String,
    aud: String,
    sub: Uuid,
    tid: Uuid,
    role: Role,
    typ: String,
    /// Of version 7: it tells the millisecond of its making.
    jti: Uuid,
    iat: i64,
    exp: i64,
    sid: Uuid,
    /// The tenant is the platform.
    #[serde(default, skip_serializing_if = "is_false")]
    platform: bool,
    /// The tenant is suspended.
    #[serde(default, skip_serializing_if = "is_false")]
    frozen: bool,
    /// The tenant wants a second factor that the person lacks.
    #[serde(default, skip_serializing_if = "is_false")]
    lacks_mfa: bool,
    /// Who acts as the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    imp: Option<Uuid>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The keys that sign access tokens (HS256): the newest signs, all verify.
pub struct TokenKeys {
    newest: (String, EncodingKey),
    all: HashMap<String, DecodingKey>,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.keys()).finish()
    }
}

impl TokenKeys {
    /// Reads `KID:SECRET[,KID:SECRET]`, newest first; a secret has 32 bytes or more.
    pub fn parse(text: &SecretString) -> Result<Self> {
        let wrong = || {
            Error::internal(
                "MIGRAPANEL__JWT_KEYS must be KID:SECRET[,KID:SECRET], each KID another one, \
                 secrets of at least 32 bytes",
            )
        };
        let mut newest = None;
        let mut all = HashMap::new();
        for part in text.expose_secret().split(',') {
            let (kid, secret) = part.trim().split_once(':').ok_or_else(wrong)?;
            if secret.len() < 32 || kid.is_empty() || all.contains_key(kid) {
                return Err(wrong());
            }
            newest.get_or_insert_with(|| {
                (kid.to_owned(), EncodingKey::from_secret(secret.as_bytes()))
            });
            all.insert(kid.to_owned(), DecodingKey::from_secret(secret.as_bytes()));
        }
        Ok(Self { newest: newest.ok_or_else(wrong)?, all })
    }

    /// A new access token that lives so long.
    pub fn issue(&self, claims: &Claims, secs: i64) -> Result<String> {
        let made_at = claims.made_at;
        let nanos = made_at.timestamp_subsec_nanos();
        let secs_since = u64::try_from(made_at.timestamp()).map_err(Error::internal)?;
        let stamp = uuid::Timestamp::from_unix(uuid::NoContext, secs_since, nanos);
        let now = made_at.timestamp();
        let token = Token {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: claims.user.0,
            tid: claims.tenant.0,
            role: claims.role,
            typ: TYPE.to_owned(),
            jti: Uuid::new_v7(stamp),
            iat: now,
            exp: now.saturating_add(secs),
            sid: claims.session.0,
            platform: claims.standing.platform,
            frozen: claims.standing.frozen,
            lacks_mfa: claims.standing.lacks_mfa,
            imp: claims.impersonator.map(|id| id.0),
        };
        let (kid, key) = &self.newest;
        let header = Header { kid: Some(kid.clone()), ..Header::new(Algorithm::HS256) };
        encode(&header, &token, key).map_err(Error::internal)
    }

    /// What a token says and when it was made, in milliseconds since 1970; when one of our keys
    /// signed it and it has not expired.
    pub fn verify(&self, token: &str) -> Result<(Claims, i64)> {
        let invalid = || {
            Error::refused(Code::Unauthenticated, "This access token is not valid. Log in again.")
        };
        let header = decode_header(token).map_err(|_e| invalid())?;
        let key = header.kid.and_then(|kid| self.all.get(&kid)).ok_or_else(invalid)?;
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.leeway = 0;
        let token = decode::<Token>(token, key, &rules).map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::ExpiredSignature => Error::refused(
                Code::TokenExpired,
                "This access token has expired. Use the refresh token for a new one.",
            ),
            _ => invalid(),
        })?;
        let token = token.claims;
        if token.typ != TYPE {
            return Err(invalid());
        }
        let made = token.jti.get_timestamp().ok_or_else(invalid)?.to_unix();
        let millis = made.0.saturating_mul(1000).saturating_add(u64::from(made.1 / 1_000_000));
        let millis = i64::try_from(millis).map_err(Error::internal)?;
        let claims = Claims {
            made_at: DateTime::from_timestamp_millis(millis).ok_or_else(invalid)?,
            user: UserId(token.sub),
            tenant: TenantId(token.tid),
            role: token.role,
            session: SessionId(token.sid),
            standing: Standing {
                platform: token.platform,
                frozen: token.frozen,
                lacks_mfa: token.lacks_mfa,
            },
            impersonator: token.imp.map(UserId),
        };
        Ok((claims, millis))
    }
}

/// Who calls: having one proves a valid token, a membership of now, and that the tenant of
/// `X-Tenant-Id`, when given, lies below the caller's.
#[derive(Debug, Clone)]
pub struct Caller(pub TenantCtx);

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        let known = request.extensions().get::<Self>().cloned();
        Box::pin(async move {
            match known {
                Some(caller) => Ok(caller),
                None => Ok(identify(&request).await?),
            }
        })
    }
}

async fn identify(request: &HttpRequest) -> Result<Caller> {
    let state = request
        .app_data::<web::Data<State>>()
        .ok_or_else(|| Error::internal("the application has no state"))?;
    let caller = Credentials::of(request)?.check(state).await?;
    let span = tracing::Span::current();
    span.record("tenant.id", tracing::field::display(caller.0.tenant()));
    request.extensions_mut().insert(caller.clone());
    Ok(caller)
}

/// The token of `Authorization: Bearer TOKEN`; the scheme in whatever letters (RFC 9110, 11.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The tenant of `X-Tenant-Id`. Of two nobody knows which one was meant.
fn acting(headers: &HeaderMap) -> Result<Option<TenantId>> {
    let mut said = headers.get_all("x-tenant-id");
    let Some(text) = said.next() else { return Ok(None) };
    if said.next().is_some() {
        return Err(Error::field("X-Tenant-Id", "must be sent once"));
    }
    let id = text.to_str().ok().and_then(|text| Uuid::parse_str(text).ok());
    id.map(|id| Some(TenantId(id))).ok_or(Error::NotFound("tenant"))
}

/// What a caller shows. It is kept by what goes on after the request, such as a stream: rights end
/// while it runs.
#[derive(Debug)]
pub struct Credentials {
    token: SecretString,
    acting: Option<TenantId>,
    request: RequestId,
    origin: Origin,
}

impl Credentials {
    /// Those of a request. Without a token: `unauthenticated`.
    pub fn of(request: &HttpRequest) -> Result<Self> {
        let token = bearer(request.headers()).ok_or_else(|| {
            let text =
                "Log in at POST /api/auth/login and send the header `Authorization: Bearer TOKEN`.";
            Error::refused(Code::Unauthenticated, text)
        })?;
        let token = SecretString::from(token);
        let acting = acting(request.headers())?;
        Ok(Self { token, acting, request: request_id(request), origin: origin(request) })
    }

    /// Who it is, with the rights of this moment.
    pub async fn check(&self, state: &State) -> Result<Caller> {
        let (token, origin) = (self.token.expose_secret(), self.origin.clone());
        let ctx = if token.starts_with(keys::PREFIX) {
            keys::authenticate(&state.db, token, self.acting, self.request, origin).await?
        } else {
            let (claims, made_at) = state.tokens.verify(token)?;
            state.ends.check(&state.db, claims.session, made_at).await?;
            sessions::authenticate(&state.db, claims, self.acting, self.request, origin).await?
        };
        Ok(Caller(ctx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;

    fn keys(text: &str) -> TokenKeys {
        TokenKeys::parse(&SecretString::from(text.to_owned())).unwrap()
    }

    const A: &str = "a:0123456789abcdef0123456789abcdef";
    const B: &str = "b:fedcba9876543210fedcba9876543210";

    #[test]
    fn tokens_verify_with_either_key_and_no_other() {
        let before = Utc::now().timestamp_millis();
        let claims = claims();
        let token = keys(A).issue(&claims, 60).unwrap();
        let (seen, made_at) = keys(&format!("{B},{A}")).verify(&token).unwrap();
        assert_eq!(
            (seen.user, seen.tenant, seen.session),
            (claims.user, claims.tenant, claims.session)
        );
        assert!((before..=Utc::now().timestamp_millis()).contains(&made_at));
        assert_eq!(keys(B).verify(&token).unwrap_err().code(), Code::Unauthenticated);
        assert!(TokenKeys::parse(&SecretString::from(format!("{A},{A}"))).is_err());
        assert_eq!(keys(A).verify("x.y.z").unwrap_err().code(), Code::Unauthenticated);
    }

    fn claims() -> Claims {
        Claims {
            user: UserId::new(),
            tenant: TenantId::new(),
            role: Role::Owner,
            session: SessionId::new(),
            standing: Standing { platform: false, frozen: false, lacks_mfa: false },
            impersonator: None,
            made_at: Utc::now(),
        }
    }

    #[test]
    fn expired_unsigned_and_foreign_tokens_are_refused() {
        let sign = |token: &Token, kid: &str| {
            let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::HS256) };
            encode(&header, token, &EncodingKey::from_secret(&A.as_bytes()[2..])).unwrap()
        };
        let token = |exp: i64, aud: &str, typ: &str| Token {
            iss: ISSUER.into(),
            aud: aud.into(),
            sub: Uuid::now_v7(),
            tid: Uuid::now_v7(),
            role: Role::Owner,
            typ: typ.into(),
            jti: Uuid::now_v7(),
            iat: 0,
            exp,
            sid: Uuid::now_v7(),
            platform: false,
            frozen: false,
            lacks_mfa: false,
            imp: None,
        };
        let later = Utc::now().timestamp() + 100;
        let expired = sign(&token(Utc::now().timestamp() - 1, AUDIENCE, "access"), "a");
        assert_eq!(keys(A).verify(&expired).unwrap_err().code(), Code::TokenExpired);
        for wrong in [
            sign(&token(later, "other", "access"), "a"),
            sign(&token(later, AUDIENCE, "refresh"), "a"),
            sign(&token(later, AUDIENCE, "access"), "unknown"),
        ] {
            assert_eq!(keys(A).verify(&wrong).unwrap_err().code(), Code::Unauthenticated);
        }
    }
}
