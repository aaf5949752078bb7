//! PowerDNS through its HTTP API (doc.powerdns.com, "Built-in Webserver and HTTP API").
//!
//! Its SQL backends mix up a record set under concurrent changes and refuse others with 500 (PowerDNS
//! issues 7128 and 8374): whoever writes here holds the zone, and reads back what it wrote.

use crate::error::Result;
use entities::error::{Code, Error};
use entities::values::DomainName;
use reqwest::{RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use zonefile::RecordSet;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of one server's API.
#[derive(Clone)]
pub struct PowerDns {
    http: reqwest::Client,
    server: String,
    key: SecretString,
}

impl std::fmt::Debug for PowerDns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PowerDns").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A zone as a server has it.
#[derive(Debug, Deserialize)]
pub struct ServerZone {
    pub kind: String,
    #[serde(default)]
    pub account: String,
    #[serde(default)]
    pub dnssec: bool,
    #[serde(default)]
    pub soa_edit: String,
    #[serde(default)]
    pub soa_edit_api: String,
    #[serde(default)]
    pub masters: Vec<String>,
    #[serde(default)]
    pub rrsets: Vec<Rrset>,
}

/// A record set as a server has it: unlike ours, it may hold a record twice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rrset {
    pub name: String,
    #[serde(rename = "type")]
    pub rtype: String,
    #[serde(default)]
    pub ttl: u32,
    #[serde(default)]
    pub records: Vec<Content>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Content {
    pub content: String,
    #[serde(default)]
    pub disabled: bool,
}

/// A zone in a server's list.
#[derive(Debug, Deserialize)]
pub struct Listed {
    pub name: String,
    #[serde(default)]
    pub account: String,
}

/// A key that signs a zone.
#[derive(Debug, Deserialize)]
pub struct Cryptokey {
    pub id: u64,
    #[serde(default)]
    pub active: bool,
    #[serde(default)]
    pub algorithm: String,
    /// Flags, protocol, algorithm and key, in presentation form.
    #[serde(default)]
    pub dnskey: String,
    #[serde(default)]
    pub ds: Vec<String>,
    #[serde(default)]
    pub privatekey: Option<SecretString>,
}

impl PowerDns {
    /// A client for the API at `url`.
    pub fn new(url: &str, key: &SecretString) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().map_err(Error::internal)?;
        let server = format!("{}/api/v1/servers/localhost", url.trim_end_matches('/'));
        Ok(Self { http, server, key: key.clone() })
    }

    fn zone(&self, name: &DomainName) -> String {
        // Of what a reverse zone's name may hold, only this ends a path's segment.
        format!("{}/zones/{}.", self.server, name.as_str().replace('/', "=2F"))
    }

    /// The version of the server.
    pub async fn version(&self) -> Result<String> {
        #[derive(Deserialize)]
        struct Server {
            version: String,
        }
        let server: Server = read(self.send(self.http.get(&self.server)).await?).await?;
        Ok(server.version)
    }

    /// All zones of the server, without their records.
    pub async fn list_zones(&self) -> Result<Vec<Listed>> {
        let url = format!("{}/zones?dnssec=false", self.server);
        read(self.send(self.http.get(url)).await?).await
    }

    /// The zone with its records; none: the server does not have it.
    pub async fn find_zone(&self, name: &DomainName) -> Result<Option<ServerZone>> {
        let response = self.send(self.http.get(self.zone(name))).await?;
        // A zone that is not there is 422 to some calls of this version, and 404 to others.
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        read(response).await.map(Some)
    }

    /// The same without its records.
    pub async fn find_settings(&self, name: &DomainName) -> Result<Option<ServerZone>> {
        let url = format!("{}?rrsets=false", self.zone(name));
        let response = self.send(self.http.get(url)).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        read(response).await.map(Some)
    }

    /// Whether the server has the zone.
    pub async fn has_zone(&self, name: &DomainName) -> Result<bool> {
        Ok(self.find_settings(name).await?.is_some())
    }

    /// Makes a zone with these records, its SOA among them.
    pub async fn create_zone(
        &self,
        name: &DomainName,
        account: &str,
        sets: &[RecordSet],
    ) -> Result<()> {
        let rrsets: Vec<Value> = sets.iter().map(replacement).collect();
        let zone = json!({
            "name": format!("{name}."), "kind": "Master", "nameservers": [], "account": account,
            "soa_edit_api": "", "api_rectify": true, "rrsets": rrsets,
        });
        done(self.send(self.http.post(format!("{}/zones", self.server)).json(&zone)).await?).await
    }

    /// Makes a zone that is transferred from elsewhere.
    pub async fn create_secondary(
        &self,
        name: &DomainName,
        account: &str,
        from: SocketAddr,
    ) -> Result<()> {
        let zone = json!({
            "name": format!("{name}."), "kind": "Slave", "nameservers": [], "account": account,
            "masters": [from.to_string()],
        });
        done(self.send(self.http.post(format!("{}/zones", self.server)).json(&zone)).await?).await
    }

    /// Changes what holds of a whole zone.
    pub async fn update_zone(&self, name: &DomainName, change: &Value) -> Result<()> {
        done(self.send(self.http.put(self.zone(name)).json(change)).await?).await
    }

    /// Replaces and removes record sets, in one transaction of the server. What goes goes first, so that
    /// a CNAME can become something else.
    pub async fn change_sets(
        &self,
        name: &DomainName,
        put: &[RecordSet],
        gone: &[(String, String)],
    ) -> Result<()> {
        let gone = gone
            .iter()
            .map(|(name, rtype)| json!({ "name": name, "type": rtype, "changetype": "DELETE" }));
        let rrsets: Vec<Value> = gone.chain(put.iter().map(replacement)).collect();
        let body = json!({ "rrsets": rrsets });
        done(self.send(self.http.patch(self.zone(name)).json(&body)).await?).await
    }

    /// Removes the zone; one that is not there is fine.
    pub async fn delete_zone(&self, name: &DomainName) -> Result<()> {
        let response = self.send(self.http.delete(self.zone(name))).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        done(response).await
    }

    /// Tells the secondary servers that the zone has changed.
    pub async fn notify(&self, name: &DomainName) -> Result<()> {
        done(self.send(self.http.put(format!("{}/notify", self.zone(name)))).await?).await
    }

    /// Lets a secondary server transfer the zone now.
    pub async fn transfer(&self, name: &DomainName) -> Result<()> {
        done(self.send(self.http.put(format!("{}/axfr-retrieve", self.zone(name)))).await?).await
    }

    /// Sets a list of a zone's metadata when it is another; none removes it.
    pub async fn keep_metadata(
        &self,
        name: &DomainName,
        kind: &str,
        wanted: &[String],
    ) -> Result<()> {
        #[derive(Deserialize)]
        struct Metadata {
            metadata: Vec<String>,
        }
        let url = format!("{}/metadata/{kind}", self.zone(name));
        let has: Metadata = read(self.send(self.http.get(&url)).await?).await?;
        let mut has = has.metadata;
        has.sort();
        if has == wanted {
            return Ok(());
        }
        if wanted.is_empty() {
            return done(self.send(self.http.delete(&url)).await?).await;
        }
        let body = json!({ "kind": kind, "metadata": wanted });
        done(self.send(self.http.put(&url).json(&body)).await?).await
    }

    /// The keys of a zone, without their private parts.
    pub async fn list_keys(&self, name: &DomainName) -> Result<Vec<Cryptokey>> {
        let url = format!("{}/cryptokeys", self.zone(name));
        read(self.send(self.http.get(url)).await?).await
    }

    /// A key with its private part.
    pub async fn find_key(&self, name: &DomainName, id: u64) -> Result<Cryptokey> {
        let url = format!("{}/cryptokeys/{id}", self.zone(name));
        read(self.send(self.http.get(url)).await?).await
    }

    /// Gives a zone a key that signs all of it.
    pub async fn add_key(&self, name: &DomainName, private: &SecretString) -> Result<()> {
        let url = format!("{}/cryptokeys", self.zone(name));
        let body = json!({
            "keytype": "csk", "active": true, "published": true,
            "privatekey": private.expose_secret(),
        });
        done(self.send(self.http.post(url).json(&body)).await?).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.header("X-API-Key", self.key.expose_secret()).send().await.map_err(failed)
    }
}

fn replacement(set: &RecordSet) -> Value {
    let records: Vec<Value> =
        set.records.iter().map(|r| json!({"content": r, "disabled": false})).collect();
    json!({
        "name": set.name, "type": set.rtype, "ttl": set.ttl,
        "changetype": "REPLACE", "records": records,
    })
}

async fn done(response: Response) -> Result<()> {
    succeeded(response).await.map(|_answer| ())
}

async fn read<T: serde::de::DeserializeOwned>(response: Response) -> Result<T> {
    succeeded(response).await?.json().await.map_err(failed)
}

async fn succeeded(response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let said = response.text().await.map_err(failed)?;
    let said: String = said.chars().filter(|c| !c.is_control()).take(300).collect();
    tracing::warn!(status = %status, said, "powerdns.refused");
    if status == StatusCode::UNAUTHORIZED {
        let text = "The DNS server does not take our key. Check PDNS_API_KEY.";
        return Err(Error::refused(Code::DnsFailed, text));
    }
    Err(Error::refused(Code::DnsFailed, format!("The DNS server refused ({status}): {said}")))
}

fn failed(error: reqwest::Error) -> Error {
    // The address holds no secret, and the cause stands below it.
    tracing::warn!(cause = ?error.without_url(), "powerdns.failed");
    Error::refused(
        Code::DnsFailed,
        "The DNS server's API does not answer. Check that PowerDNS runs and that its URL is right.",
    )
}
