//! PowerDNS through its HTTP API (doc.powerdns.com, "Built-in Webserver and HTTP API"): makes a zone
//! equal to what it shall be, and asks the server as the world does.

use crate::error::Result;
use cpanel::plan::RecordSet;
use entities::error::{Code, Error};
use entities::values::DomainName;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client of one server's API.
#[derive(Clone)]
pub struct PowerDns {
    http: reqwest::Client,
    zones: String,
    key: SecretString,
}

impl std::fmt::Debug for PowerDns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PowerDns").field("zones", &self.zones).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Zone {
    rrsets: Vec<Rrset>,
}

#[derive(Deserialize)]
struct Rrset {
    name: String,
    #[serde(rename = "type")]
    rtype: String,
}

impl PowerDns {
    /// A client for the API at `url`.
    pub fn new(url: &str, key: &SecretString) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .build()
            .map_err(Error::internal)?;
        let zones = format!("{}/api/v1/servers/localhost/zones", url.trim_end_matches('/'));
        Ok(Self { http, zones, key: key.clone() })
    }

    /// Makes the zone hold exactly these sets beside its SOA. May be repeated.
    pub async fn put_zone(&self, name: &DomainName, sets: &[RecordSet]) -> Result<()> {
        let url = format!("{}/{name}.", self.zones);
        let response = self.send(self.http.get(&url)).await?;
        if response.status().is_success() {
            let zone: Zone = response.json().await.map_err(failed)?;
            let mut changes: Vec<Value> = sets.iter().map(replacement).collect();
            for old in zone.rrsets {
                let kept = old.rtype == "SOA"
                    || sets.iter().any(|s| s.rtype == old.rtype && s.name == old.name);
                if !kept {
                    changes
                        .push(json!({"name": old.name, "type": old.rtype, "changetype": "DELETE"}));
                }
            }
            let patch = self.http.patch(&url).json(&json!({ "rrsets": changes }));
            return expect_success(self.send(patch).await?).await;
        }
        let nameserver = sets
            .iter()
            .find(|set| set.rtype == "NS" && set.name == format!("{name}."))
            .and_then(|set| set.records.first().cloned())
            .unwrap_or_else(|| format!("ns1.{name}."));
        let soa = format!("{nameserver} hostmaster.{name}. 1 10800 3600 1209600 3600");
        let mut rrsets: Vec<Value> = sets.iter().map(replacement).collect();
        rrsets.push(json!({
            "name": format!("{name}."), "type": "SOA", "ttl": 3600, "changetype": "REPLACE",
            "records": [{"content": soa, "disabled": false}],
        }));
        let zone = json!({
            "name": format!("{name}."), "kind": "Native", "nameservers": [],
            "soa_edit_api": "DEFAULT", "rrsets": rrsets,
        });
        expect_success(self.send(self.http.post(&self.zones).json(&zone)).await?).await
    }

    /// Whether the server has the zone.
    pub async fn has_zone(&self, name: &DomainName) -> Result<bool> {
        let response = self.send(self.http.get(format!("{}/{name}.", self.zones))).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        expect_success(response).await.map(|()| true)
    }

    /// Removes the zone; one that is not there is fine.
    pub async fn delete_zone(&self, name: &DomainName) -> Result<()> {
        let response = self.send(self.http.delete(format!("{}/{name}.", self.zones))).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        expect_success(response).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
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

async fn expect_success(response: reqwest::Response) -> Result<()> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let said = response.text().await.map_err(failed)?;
    let said: String = said.chars().take(500).collect();
    tracing::warn!(status = %status, said, "powerdns.refused");
    Err(Error::refused(
        Code::DnsFailed,
        format!("The DNS server refused a zone ({status}): {said}"),
    ))
}

fn failed(error: reqwest::Error) -> Error {
    tracing::warn!(cause = %error, "powerdns.failed");
    Error::refused(
        Code::DnsFailed,
        "The DNS server's API does not answer. Check that PowerDNS runs and that PDNS_API_URL is right.",
    )
}

/// Asks a DNS server over TCP; the answers' data in presentation form. NXDOMAIN is no answer.
pub async fn query(server: SocketAddr, name: &str, rtype: RecordType) -> Result<Vec<String>> {
    let asking = async {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_str(name).map_err(Error::internal)?, rtype));
        let bytes = message.to_vec().map_err(Error::internal)?;
        let length = u16::try_from(bytes.len()).map_err(Error::internal)?;
        let mut stream = TcpStream::connect(server).await.map_err(Error::internal)?;
        stream.write_all(&length.to_be_bytes()).await.map_err(Error::internal)?;
        stream.write_all(&bytes).await.map_err(Error::internal)?;
        let length = stream.read_u16().await.map_err(Error::internal)?;
        let mut answer = vec![0u8; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(Error::internal)?;
        let answer = Message::from_vec(&answer).map_err(Error::internal)?;
        if answer.response_code != ResponseCode::NoError {
            return Ok(Vec::new());
        }
        Ok(answer
            .answers
            .iter()
            .filter(|record| record.record_type() == rtype)
            .map(|record| record.data.to_string())
            .collect())
    };
    tokio::time::timeout(Duration::from_secs(5), asking).await.map_err(Error::internal)?
}
