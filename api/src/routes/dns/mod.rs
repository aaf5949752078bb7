//! DNS: zones and what stands in them, templates, names of addresses, and how the servers are.

mod addresses;
mod records;
mod templates;
mod whole;
mod zones;

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, ok};
use crate::schema;
use crate::state::State;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};
use entities::db::TenantTx;
use entities::dns;
use entities::dns::changes::{Changed, Difference};
use entities::error::{Code, Error};
use entities::ids::ZoneId;
use entities::tenancy::Permission;
use entities::values::DomainName;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use zonefile::RecordSet;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    zones::routes(config);
    records::routes(config);
    whole::routes(config);
    templates::routes(config);
    addresses::routes(config);
}

/// Somebody who changes a zone, and the version that they have seen.
struct Editor {
    caller: Caller,
    /// What `If-Match` holds.
    seen: Option<String>,
}

impl FromRequest for Editor {
    type Error = ApiError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let value = request.headers().get(header::IF_MATCH);
        let seen = value.map(|value| value.to_str().unwrap_or_default().trim().to_owned());
        let caller = Caller::from_request(request, payload);
        Box::pin(async move { Ok(Self { caller: caller.await?, seen }) })
    }
}

impl Editor {
    /// The version that they name; none: none, or `*`.
    fn version(&self) -> Result<Option<i64>, Error> {
        let text = match self.seen.as_deref() {
            None | Some("*") => return Ok(None),
            Some(text) => text,
        };
        let version = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match version.and_then(|version| version.parse().ok()) {
            Some(version) => Ok(Some(version)),
            None => Err(Error::field("If-Match", "must be the zone's ETag, such as \"7\", or *")),
        }
    }

    /// The same where one must be named, since much is changed at once: of a zone that there is.
    async fn required_version(&self, tx: &TenantTx, zone: ZoneId) -> Result<Option<i64>, Error> {
        if self.seen.is_some() {
            return self.version();
        }
        let row = dns::find_zone(tx, zone).await?;
        let text = format!(
            "Say which version of the zone you have seen: send its ETag as If-Match (it is \"{}\" now), \
             or * to change whatever stands there.",
            row.version
        );
        Err(Error::refused(Code::VersionRequired, text))
    }

    /// Begins a change, or a look at what it would be.
    async fn open(&self, state: &State, preview: bool) -> Result<TenantTx, Error> {
        let ctx = &self.caller.0;
        ctx.require_write(Permission::ZonesWrite)?;
        match preview {
            true => state.db.read(ctx, Permission::ZonesWrite).await,
            false => state.db.write(ctx, Permission::ZonesWrite).await,
        }
    }
}

/// Which version of a zone is changed.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its schema is used")]
struct IfMatch {
    /// The zone's `ETag`, such as `"7"`, or `*` to change whatever stands there. Another version is refused.
    #[param(rename = "If-Match", schema_with = schema::etag)]
    if_match: Option<String>,
}

/// Ends a change. What changes nothing leaves no trace to commit.
async fn answer(
    tx: TenantTx,
    changed: Changed,
    preview: bool,
    left_out: Vec<LeftOutView>,
) -> Result<Answer<ChangedView>, ApiError> {
    if !preview && !changed.diff.is_empty() {
        tx.commit().await?;
    }
    let version = changed.zone.version;
    Ok(tagged(ok(ChangedView::of(changed, preview, left_out)?), version))
}

/// With the zone's version as its `ETag`.
fn tagged<T: ToSchema>(answer: Answer<T>, version: i64) -> Answer<T> {
    answer.with_etag(format!("\"{version}\""))
}

/// What somebody edits may be looked at first.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Preview {
    /// Only say what would change.
    preview: Option<bool>,
}

/// All records of one name and type.
#[derive(Debug, Serialize, ToSchema)]
struct SetView {
    /// Relative to the zone: `@` is the zone itself.
    name: String,
    #[serde(rename = "type")]
    rtype: String,
    /// Seconds.
    ttl: u32,
    /// In the form of zone files: names with a final dot are absolute, texts stand in quotes.
    records: Vec<String>,
}

impl SetView {
    fn of(zone: &DomainName, set: RecordSet) -> Self {
        Self {
            name: zonefile::relative(zone, &set.name).to_owned(),
            rtype: set.rtype,
            ttl: set.ttl,
            records: set.records.into_iter().collect(),
        }
    }
}

/// A record set before and after.
#[derive(Debug, Serialize, ToSchema)]
struct DifferenceView {
    /// Relative to the zone: `@` is the zone itself.
    name: String,
    #[serde(rename = "type")]
    rtype: String,
    /// None: there was none.
    before: Option<Shown>,
    /// None: it is gone.
    after: Option<Shown>,
}

/// What stands in a record set.
#[derive(Debug, Serialize, ToSchema)]
struct Shown {
    /// Seconds.
    ttl: u32,
    records: Vec<String>,
}

fn shown(set: RecordSet) -> Shown {
    Shown { ttl: set.ttl, records: set.records.into_iter().collect() }
}

fn differences(zone: &DomainName, diff: Vec<Difference>) -> Vec<DifferenceView> {
    let view = |d: Difference| DifferenceView {
        name: zonefile::relative(zone, &d.name).to_owned(),
        rtype: d.rtype,
        before: d.before.map(shown),
        after: d.after.map(shown),
    };
    diff.into_iter().map(view).collect()
}

/// A line of a zone file, or a set of a template, that was not taken.
#[derive(Debug, Serialize, ToSchema)]
struct LeftOutView {
    /// Of the file, from 1 on.
    line: Option<usize>,
    what: String,
    why: String,
}

/// What a change came to, or would.
#[derive(Debug, Serialize, ToSchema)]
struct ChangedView {
    /// Whether this only says what would change.
    preview: bool,
    /// The zone's, for `If-Match`: after the change; of a preview, the one that it holds for.
    version: i64,
    serial: i64,
    /// `pending` until the DNS servers have it.
    state: String,
    diff: Vec<DifferenceView>,
    left_out: Vec<LeftOutView>,
}

impl ChangedView {
    fn of(changed: Changed, preview: bool, left_out: Vec<LeftOutView>) -> Result<Self, ApiError> {
        let zone = changed.zone;
        Ok(Self {
            preview,
            version: zone.version,
            serial: zone.serial,
            diff: differences(&dns::name_of(&zone)?, changed.diff),
            state: zone.state,
            left_out,
        })
    }
}
