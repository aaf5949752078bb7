//! Asking DNS servers as the world does.

use crate::error::Result;
use entities::error::{Code, Error};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server answered.
#[derive(Debug)]
pub struct Answered {
    pub code: ResponseCode,
    /// Of the type that was asked for.
    pub records: Vec<Record>,
    pub took: Duration,
}

impl Answered {
    /// The data of the records in presentation form; nothing for a name that is not there. Anything but
    /// an answer or a denial is an error.
    pub fn data(&self) -> Result<Vec<String>> {
        match self.code {
            ResponseCode::NoError | ResponseCode::NXDomain => {
                Ok(self.records.iter().map(|record| record.data.to_string()).collect())
            }
            code => Err(Error::refused(
                Code::DnsFailed,
                format!("The DNS server answers {code} instead of records."),
            )),
        }
    }

    /// The serial of the SOA that was answered.
    #[must_use]
    pub fn serial(&self) -> Option<u32> {
        self.records.iter().find_map(|record| match &record.data {
            hickory_proto::rr::RData::SOA(soa) => Some(soa.serial),
            _ => None,
        })
    }

    /// The texts of TXT records, each joined.
    #[must_use]
    pub fn texts(&self) -> Vec<Vec<u8>> {
        let text = |record: &Record| match &record.data {
            hickory_proto::rr::RData::TXT(txt) => {
                Some(txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect())
            }
            _ => None,
        };
        self.records.iter().filter_map(text).collect()
    }
}

/// Asks over TCP, which carries answers of any size; a recursive resolver is asked to go on asking.
pub async fn ask(server: SocketAddr, name: &str, rtype: RecordType) -> Result<Answered> {
    let began = Instant::now();
    let asking = exchange(server, name, rtype);
    let answered = tokio::time::timeout(PATIENCE, asking).await;
    let message = match answered {
        Ok(Ok(message)) => message,
        Ok(Err(error)) => return Err(away(server, &error.to_string())),
        Err(_elapsed) => return Err(away(server, "it took too long")),
    };
    let records = message.answers.iter().filter(|r| r.record_type() == rtype).cloned().collect();
    Ok(Answered { code: message.response_code, records, took: began.elapsed() })
}

fn away(server: SocketAddr, why: &str) -> Error {
    let text = format!("The DNS server {server} does not answer ({why}). Check that it runs.");
    Error::refused(Code::DnsFailed, text)
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    server: SocketAddr,
    name: &str,
    rtype: RecordType,
) -> std::result::Result<Message, Cause> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name)?, rtype));
    let id = message.metadata.id;
    let bytes = message.to_vec()?;
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&u16::try_from(bytes.len())?.to_be_bytes()).await?;
    stream.write_all(&bytes).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0u8; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    let answer = Message::from_vec(&answer)?;
    if answer.metadata.id != id {
        return Err("it answered another question".into());
    }
    Ok(answer)
}

/// The data that a server answers for a name and a type, in presentation form.
pub async fn query(server: SocketAddr, name: &str, rtype: RecordType) -> Result<Vec<String>> {
    ask(server, name, rtype).await?.data()
}
