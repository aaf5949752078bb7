//! API keys: what a reseller's own software logs in with. A key acts in its tenant with a role that
//! is never above what its maker has now, narrowed by scopes, networks and an end.

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, TenantTx, statement};
use crate::error::{Code, Error};
use crate::ids::{KeyId, RequestId, TenantId, UserId};
use crate::sessions::{self, Standing, act_below};
use crate::tables::{api_key, dns_zone};
use crate::tenancy::{
    Actor, Binding, Origin, Permission, Role, StoredActor, TenantCtx, TenantKind, scopes,
};
use crate::tenants;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use rand::RngCore;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use secrecy::SecretString;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::IpAddr;
use uuid::Uuid;

/// What every key begins with, so that scanners recognise one that was published by mistake.
pub const PREFIX: &str = "mpk_";
/// So many bindings a key has at most.
const BINDINGS: usize = 100;

/// A key that is to be made.
#[derive(Debug)]
pub struct New {
    pub name: String,
    pub role: Role,
    /// Empty: everything that the role may.
    pub scopes: BTreeSet<String>,
    /// Empty: from anywhere.
    pub addresses: Vec<String>,
    /// Record sets that it may change, and nothing else; empty: whatever its scopes say.
    pub dns: Vec<Binding>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes a key; its text is shown this once.
pub async fn create_key(
    db: &Db,
    ctx: &TenantCtx,
    new: New,
) -> Result<(api_key::Model, SecretString)> {
    ctx.require_write(Permission::KeysWrite)?;
    crate::accounts::own_doing(ctx)?;
    ctx.at_most_own(new.role)?;
    let known = scopes();
    if let Some(unknown) = new.scopes.iter().find(|s| !known.contains(s.as_str())) {
        let all: Vec<&str> = known.into_iter().collect();
        let text = format!("{unknown} is no scope; there are {}", all.join(", "));
        return Err(Error::field("scopes", text));
    }
    if new.expires_at.is_some_and(|at| at <= Utc::now()) {
        return Err(Error::field("expires_at", "lies in the past"));
    }
    let addresses = networks(&new.addresses)?;
    let tx = db.system_as(ctx).await?;
    let dns = bindings(&tx, ctx, &new).await?;
    tenants::reserve(
        tx.conn(),
        ctx.tenant(),
        |l| l.api_keys,
        "API keys",
        async |conn| Ok(living(ctx.tenant()).count(conn).await?),
    )
    .await?;
    let id = KeyId::new();
    let mut secret = [0u8; 32];
    rand::rng().fill_bytes(&mut secret);
    let secret = URL_SAFE_NO_PAD.encode(secret);
    let row = api_key::ActiveModel {
        id: Set(id),
        tenant_id: Set(ctx.tenant()),
        name: Set(new.name.clone()),
        role: Set(new.role),
        scopes: Set(serde_json::to_value(&new.scopes)?),
        addresses: Set(serde_json::to_value(&addresses)?),
        dns: Set(dns),
        secret_sha256: Set(sessions::hash(&secret)),
        expires_at: Set(new.expires_at),
        last_used_at: NotSet,
        revoked_at: NotSet,
        created_by: Set(ctx.user()),
        created_at: Set(Utc::now()),
    };
    let row = row.insert(tx.conn()).await?;
    let entry = Audit::ApiKeyCreated {
        key: id,
        name: new.name,
        role: new.role.to_string(),
        scopes: new.scopes.into_iter().collect(),
    };
    tx.audit(ctx, entry).await?;
    tx.commit().await?;
    Ok((row, SecretString::from(format!("{PREFIX}{}_{secret}", id.0.simple()))))
}

/// The bindings of a key, checked: to zones of the tenant, with no scope beside those of the DNS.
async fn bindings(tx: &SystemTx, ctx: &TenantCtx, new: &New) -> Result<Option<Value>> {
    if new.dns.is_empty() {
        return Ok(None);
    }
    if new.dns.len() > BINDINGS {
        return Err(Error::field("dns", format!("must have at most {BINDINGS} bindings")));
    }
    let is_dns = |scope: &String| scope == "dns:read" || scope == "dns:write";
    if new.scopes.is_empty() || !new.scopes.iter().all(is_dns) {
        let text = "must be dns:read, dns:write or both for a key that is bound to record sets";
        return Err(Error::field("scopes", text));
    }
    let mut kept = Vec::new();
    for (at, binding) in new.dns.iter().enumerate() {
        let wrong = |field: &str, why: String| Err(Error::field(&format!("dns/{at}/{field}"), why));
        let zone = dns_zone::Entity::find_by_id(binding.zone_id)
            .filter(dns_zone::Column::TenantId.eq(ctx.tenant()))
            .one(tx.conn())
            .await?;
        let Some(zone) = zone else {
            return wrong("zone_id", "is no zone of this tenant".to_owned());
        };
        let zone = crate::dns::name_of(&zone)?;
        if let Some(name) = &binding.name
            && let Err(problem) = zonefile::absolute(&zone, name)
        {
            return wrong("name", problem.message);
        }
        let rtype = binding.rtype.as_ref().map(|rtype| rtype.to_uppercase());
        if rtype.as_deref().is_some_and(|rtype| !zonefile::TYPES.contains(&rtype)) {
            return wrong("type", format!("must be one of {}", zonefile::TYPES.join(", ")));
        }
        kept.push(Binding { rtype, ..binding.clone() });
    }
    Ok(Some(serde_json::to_value(kept)?))
}

/// A network, or a single address.
fn networks(texts: &[String]) -> Result<Vec<IpNet>> {
    let mut networks = Vec::new();
    for text in texts {
        let network = text.parse::<IpNet>().or_else(|_not_a_network| {
            text.parse::<IpAddr>().map(IpNet::from).map_err(|_not_an_address| {
                let why =
                    format!("{text} is neither an address nor a network such as 192.0.2.0/24");
                Error::field("addresses", why)
            })
        })?;
        networks.push(network.trunc());
    }
    Ok(networks)
}

fn living(tenant: TenantId) -> sea_orm::Select<api_key::Entity> {
    api_key::Entity::find()
        .filter(api_key::Column::TenantId.eq(tenant))
        .filter(api_key::Column::RevokedAt.is_null())
}

/// A page of the tenant's keys that were not revoked, newest first, and how many there are.
pub async fn list_keys(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<api_key::Model>, u64)> {
    let query = living(tx.tenant());
    let total = query.clone().count(tx.conn()).await?;
    let rows = query
        .order_by_desc(api_key::Column::CreatedAt)
        .order_by_desc(api_key::Column::Id)
        .offset(offset)
        .limit(limit)
        .all(tx.conn())
        .await?;
    Ok((rows, total))
}

/// One of the tenant's keys.
pub async fn find_key(tx: &TenantTx, id: KeyId) -> Result<api_key::Model> {
    living(tx.tenant())
        .filter(api_key::Column::Id.eq(id))
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("API key"))
}

/// Makes a key worthless, at once. Nobody takes away one with a role above their own.
pub async fn revoke_key(tx: &TenantTx, id: KeyId) -> Result<()> {
    let row = find_key(tx, id).await?;
    tx.ctx().at_most_own(row.role)?;
    let name = row.name.clone();
    let mut active: api_key::ActiveModel = row.into();
    active.revoked_at = Set(Some(Utc::now()));
    active.update(tx.conn()).await?;
    tx.audit(Audit::ApiKeyRevoked { key: id, name }).await
}

/// The person who acts, or who has made the key that acts.
pub(crate) async fn person_behind(tx: &SystemTx, ctx: &TenantCtx) -> Result<Option<UserId>> {
    let Some(key) = ctx.key() else { return Ok(ctx.user()) };
    let row = api_key::Entity::find_by_id(key).one(tx.conn()).await?;
    Ok(row.and_then(|row| row.created_by))
}

/// Makes the keys that a person has made in a tenant worthless, since the person has left it.
pub(crate) async fn revoke_keys_of(tx: &SystemTx, ctx: &TenantCtx, maker: UserId) -> Result<()> {
    let rows = living(ctx.tenant()).filter(api_key::Column::CreatedBy.eq(maker));
    for row in rows.all(tx.conn()).await? {
        let (key, name) = (row.id, row.name.clone());
        let mut active: api_key::ActiveModel = row.into();
        active.revoked_at = Set(Some(Utc::now()));
        active.update(tx.conn()).await?;
        tx.audit(ctx, Audit::ApiKeyRevoked { key, name }).await?;
    }
    Ok(())
}

/// Makes the context of a request from a key's text. Whatever is wrong with it, the answer is one.
pub async fn authenticate(
    db: &Db,
    text: &str,
    acting: Option<TenantId>,
    request: RequestId,
    origin: Origin,
) -> Result<TenantCtx> {
    let (id, secret) = parts(text).ok_or_else(invalid)?;
    let tx = db.system().await?;
    let row = api_key::Entity::find_by_id(id).one(tx.conn()).await?.ok_or_else(invalid)?;
    // Hashes of random secrets: comparing them tells nothing that helps to find one.
    if row.secret_sha256 != sessions::hash(secret) {
        return Err(invalid());
    }
    let ctx = context(tx, row, request, origin).await?;
    match acting {
        Some(other) if other != ctx.tenant() => act_below(db, &ctx, other).await,
        _ => Ok(ctx),
    }
}

/// The context of a key as its rights are at this moment, for what goes on after its request.
pub(crate) async fn resume(
    db: &Db,
    id: KeyId,
    acting: TenantId,
    request: RequestId,
    origin: Origin,
) -> Result<TenantCtx> {
    let tx = db.system().await?;
    let row = api_key::Entity::find_by_id(id).one(tx.conn()).await?.ok_or_else(invalid)?;
    let ctx = context(tx, row, request, origin).await?;
    match acting == ctx.tenant() {
        true => Ok(ctx),
        false => act_below(db, &ctx, acting).await,
    }
}

/// What a key may do now, used from there, in its own tenant.
async fn context(
    tx: SystemTx,
    row: api_key::Model,
    request: RequestId,
    origin: Origin,
) -> Result<TenantCtx> {
    let lives = row.revoked_at.is_none() && row.expires_at.is_none_or(|at| at > Utc::now());
    if !lives {
        return Err(invalid());
    }
    let networks: Vec<IpNet> = serde_json::from_value(row.addresses.clone())?;
    let from = origin.ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
    if !networks.is_empty() && !from.is_some_and(|ip| networks.iter().any(|n| n.contains(&ip))) {
        return Err(Error::refused(
            Code::Forbidden,
            "This API key may not be used from this address. Add the network to the key's list.",
        ));
    }
    let maker = find_maker(&tx, &row).await?.ok_or_else(invalid)?;
    let role = if maker.role.reaches(row.role) { row.role } else { maker.role };
    let tenant = tenants::row(&tx, row.tenant_id).await?;
    if tenant.require_mfa && !maker.has_mfa {
        let text = "This tenant wants a second factor, and whoever made this API key has none. It \
                    works again when they have set one up; or make another key.";
        return Err(Error::refused(Code::MfaSetupRequired, text));
    }
    note_use(&tx, &row).await?;
    tx.commit().await?;
    let platform = tenant.kind == TenantKind::Platform;
    let stored = StoredActor::new(Actor::Key(row.id), role, platform);
    let standing = Standing { platform, frozen: tenant.frozen, lacks_mfa: false };
    let scopes: BTreeSet<String> = serde_json::from_value(row.scopes)?;
    let ctx = TenantCtx::new(tenant.id, &stored, request, origin).of_key(scopes, standing);
    match row.dns {
        Some(dns) => Ok(ctx.bound_to(serde_json::from_value(dns)?)),
        None => Ok(ctx),
    }
}

fn invalid() -> Error {
    let text = "This API key is not valid: it is mistyped, expired or revoked. Make a new one.";
    Error::refused(Code::Unauthenticated, text)
}

fn parts(text: &str) -> Option<(KeyId, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    Some((KeyId(Uuid::try_parse(id).ok()?), secret))
}

/// Who made a key.
struct Maker {
    /// The highest that they have now in the key's tenant or one above it.
    role: Role,
    has_mfa: bool,
}

/// None when they have left, or may not log in any more.
async fn find_maker(tx: &SystemTx, key: &api_key::Model) -> Result<Option<Maker>> {
    let Some(maker) = key.created_by else { return Ok(None) };
    let rows = tx
        .conn()
        .query_all_raw(statement(
            "SELECT m.role, u.totp_enabled_at IS NOT NULL AS has_mfa FROM membership m
             JOIN tenant_ancestry a ON a.ancestor_id = m.tenant_id AND a.descendant_id = $1
             JOIN app_user u ON u.id = m.user_id AND u.disabled_at IS NULL
             WHERE m.user_id = $2",
            [key.tenant_id.0.into(), maker.0.into()],
        ))
        .await?;
    let mut found: Option<Maker> = None;
    for row in rows {
        let maker = Maker { role: row.try_get("", "role")?, has_mfa: row.try_get("", "has_mfa")? };
        if found.as_ref().is_none_or(|f| maker.role.reaches(f.role)) {
            found = Some(maker);
        }
    }
    Ok(found)
}

/// Once a minute is enough.
async fn note_use(tx: &SystemTx, key: &api_key::Model) -> Result<()> {
    tx.conn()
        .execute_raw(statement(
            "UPDATE api_key SET last_used_at = now() WHERE id = $1
             AND (last_used_at IS NULL OR last_used_at < now() - make_interval(secs => $2))",
            [key.id.0.into(), 60f64.into()],
        ))
        .await?;
    Ok(())
}
