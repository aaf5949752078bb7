//! Signing zones: the server makes the key, we keep it, and a server that was lost gets it again, so that
//! what stands in the zone above stays right.

use crate::dns::{Servers, query};
use crate::error::Result;
use crate::powerdns::Cryptokey;
use chrono::{SecondsFormat, Utc};
use entities::dns::signing::{self, Key, Signing};
use entities::dns::sync::Held;
use entities::error::{Code, Error};
use entities::values::DomainName;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use secrecy::SecretString;
use serde_json::json;

/// Brings a zone to where its signing shall be, and records it.
pub async fn keep(servers: &Servers, held: &Held, name: &DomainName) -> Result<()> {
    let signing = match held.zone.dnssec.as_str() {
        "starting" | "on" => sign(servers, held, name).await?,
        "ending" => match still_trusted(servers, held, name).await {
            Some(waits) => waits,
            None => unsign(servers, name).await?,
        },
        _ => return unsign(servers, name).await.map(|_off| ()),
    };
    let unchanged = match &signing {
        Signing::On { ds } => held.zone.dnssec == "on" && held.zone.ds == serde_json::to_value(ds)?,
        _ => false,
    };
    if unchanged {
        return Ok(());
    }
    let tx = servers.db.system().await?;
    signing::record(&tx, held.zone.id, &signing).await?;
    tx.commit().await
}

async fn sign(servers: &Servers, held: &Held, name: &DomainName) -> Result<Signing> {
    let api = &servers.primary.api;
    let tx = servers.db.system().await?;
    let kept = signing::open_keys(&tx, &servers.sealing, held.zone.id).await?;
    drop(tx);
    let mut at_server = api.list_keys(name).await?;
    for key in &kept {
        if !at_server.iter().any(|has| tag(has) == Some(key.tag)) {
            tracing::warn!(zone = %name, tag = key.tag, "dns.key_given_back");
            api.add_key(name, &key.private).await?;
        }
    }
    if kept.is_empty() && at_server.is_empty() {
        api.update_zone(name, &json!({ "dnssec": true })).await?;
    }
    at_server = api.list_keys(name).await?;
    for has in at_server.iter().filter(|has| has.active) {
        let tag = tag(has).ok_or_else(|| Error::internal("a key that cannot be read"))?;
        if kept.iter().any(|key| key.tag == tag) {
            continue;
        }
        // Kept before anybody is shown the DS: from then on it must not get lost.
        let private = api.find_key(name, has.id).await?.privatekey;
        let private: SecretString =
            private.ok_or_else(|| Error::internal("the server keeps its key to itself"))?;
        let key = Key { tag, algorithm: has.algorithm.clone(), private };
        let tx = servers.db.system().await?;
        signing::keep_key(&tx, &servers.sealing, &held.zone, &key).await?;
        tx.commit().await?;
    }
    let mut ds: Vec<String> = at_server
        .iter()
        .filter(|key| key.active)
        .flat_map(|key| key.ds.iter())
        // SHA-1 is not to be used any more (RFC 8624 section 3.3).
        .filter(|ds| ds.split(' ').nth(2).is_some_and(|digest| digest == "2" || digest == "4"))
        .cloned()
        .collect();
    ds.sort();
    if ds.is_empty() {
        let text = "The DNS server signs the zone and tells no DS for it.";
        return Err(Error::refused(Code::DnsFailed, text));
    }
    Ok(Signing::On { ds })
}

async fn unsign(servers: &Servers, name: &DomainName) -> Result<Signing> {
    let zone = servers.primary.api.find_zone(name).await?;
    if zone.is_some_and(|zone| zone.dnssec) {
        servers.primary.api.update_zone(name, &json!({ "dnssec": false })).await?;
    }
    Ok(Signing::Off)
}

/// Why the zone must go on being signed; none when the zone above holds no DS for it, and nobody can
/// remember one.
async fn still_trusted(servers: &Servers, held: &Held, name: &DomainName) -> Option<Signing> {
    let waits = |why: String| Some(Signing::Waits { why, remembered_secs: None });
    let answered = query::ask(servers.resolver, &format!("{name}."), RecordType::DS).await;
    match answered {
        Ok(a) if ![ResponseCode::NoError, ResponseCode::NXDomain].contains(&a.code) => {
            waits(format!("The resolver answers {} when asked for the DS of {name}.", a.code))
        }
        Ok(answered) if answered.records.is_empty() => {
            let until = held.zone.dnssec_hold_until.filter(|until| *until > Utc::now())?;
            waits(format!(
                "The zone above holds no DS any more, but some remember it: signing ends by itself at {}.",
                until.to_rfc3339_opts(SecondsFormat::Secs, true)
            ))
        }
        Ok(answered) => {
            let ttl = answered.records.iter().map(|record| record.ttl).max().unwrap_or_default();
            let why = format!(
                "The zone above {name} still holds DS records for it. Have your registrar remove them; \
                 signing ends by itself {ttl} s after that, when nobody remembers them."
            );
            Some(Signing::Waits { why, remembered_secs: Some(ttl) })
        }
        Err(error) => {
            waits(format!("It cannot be seen whether the zone above holds DS records: {error}"))
        }
    }
}

/// The tag of a key stands first in its DS records (RFC 4034 section 5.1.1).
fn tag(key: &Cryptokey) -> Option<u16> {
    key.ds.first()?.split(' ').next()?.parse().ok()
}
