//! The command that takes over the people of an old system: JSON Lines, a person a line. A line that
//! cannot be taken is told with its number, and never with what stands in it but the address.

use crate::extract::printable;
use crate::password::is_importable;
use entities::Result;
use entities::db::Db;
use entities::error::{Code, Error};
use entities::ids::TenantId;
use entities::import::{self, Import, Person};
use entities::tenancy::Role;
use entities::values::MailAddress;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::io::Write;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use uuid::Uuid;

/// Bytes that a line may have; none of a person is longer.
const LINE_MAX: usize = 16 << 10;

/// A line as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    email: String,
    name: String,
    password_hash: SecretString,
    tenant_id: String,
    role: String,
}

/// How many lines came to which end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub imported: u64,
    pub skipped: u64,
    pub refused: u64,
}

/// Imports whoever can be, each in a transaction of their own, and writes a line about each other one.
/// When it is stopped half-way it may be run again with the same lines: who is in is skipped.
pub async fn run(
    db: &Db,
    input: &mut (impl AsyncBufRead + Unpin),
    out: &mut impl Write,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut line = Vec::new();
    let mut number = 0_u64;
    while read_line(input, &mut line).await.map_err(Error::internal)? {
        number = number.saturating_add(1);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let said = match import_line(db, &line).await {
            Ok((Import::Made, _)) => {
                tally.imported = tally.imported.saturating_add(1);
                continue;
            }
            Ok((Import::KnownAlready, email)) => {
                tally.skipped = tally.skipped.saturating_add(1);
                format!("skipped: {email} has a login already, which stays as it is.")
            }
            Err(error) if import::is_refusal(&error) => {
                tally.refused = tally.refused.saturating_add(1);
                format!("refused: {error}")
            }
            Err(error) => {
                let text =
                    format!("line {number}: stopped here: run it again with the same lines.");
                writeln!(out, "{text}").map_err(Error::internal)?;
                return Err(error);
            }
        };
        writeln!(out, "line {number}: {said}").map_err(Error::internal)?;
    }
    let Tally { imported, skipped, refused } = tally;
    writeln!(out, "Imported {imported}, skipped {skipped}, refused {refused}.")
        .map_err(Error::internal)?;
    Ok(tally)
}

async fn import_line(db: &Db, line: &[u8]) -> Result<(Import, String)> {
    let person = read_person(line)?;
    let done = import::import_person(db, &person).await?;
    Ok((done, person.email))
}

/// Checks everything that can be checked without the database. No sentence repeats a value: a line
/// with its fields mixed up would show a hash.
fn read_person(line: &[u8]) -> Result<Person> {
    let wrong = |text: &str| Error::refused(Code::InvalidRequest, text);
    if line.len() > LINE_MAX {
        return Err(wrong("The line has more than 16 KiB."));
    }
    let line: Line = serde_json::from_slice(line).map_err(|_its_text_may_show_a_hash| {
        wrong(
            "The line is no JSON object of exactly email, name, password_hash, tenant_id and role, \
             each a text.",
        )
    })?;
    let email = MailAddress::parse(line.email.trim())
        .map_err(|error| Error::refused(Code::InvalidRequest, format!("email: {error}.")))?;
    if line.name.chars().count() > 200 || printable(&line.name).is_err() {
        return Err(wrong("name: it may have 200 characters, and no control characters."));
    }
    if !is_importable(line.password_hash.expose_secret()) {
        return Err(wrong(
            "password_hash: it must be pbkdf2_sha512$ITERATIONS$SALT$HASH, or bcrypt of cost 4 to 15.",
        ));
    }
    let tenant = Uuid::parse_str(&line.tenant_id)
        .map_err(|_e| wrong("tenant_id: it must be the id of a tenant."))?;
    let role: Role = serde_json::from_value(line.role.into())
        .map_err(|_e| wrong("role: it must be OWNER, ADMIN, BILLING, MEMBER or VIEWER."))?;
    Ok(Person {
        email: email.to_string(),
        name: line.name,
        password_hash: line.password_hash,
        tenant: TenantId(tenant),
        role,
    })
}

/// The next line without its end; false at the end of all. Of one that is too long as much is kept
/// as shows that it is.
async fn read_line(
    input: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> std::io::Result<bool> {
    line.clear();
    loop {
        let chunk = input.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = chunk.iter().take(end.unwrap_or(chunk.len()));
        let room = LINE_MAX.saturating_add(1).saturating_sub(line.len());
        line.extend(part.take(room));
        let used = end.map_or(chunk.len(), |end| end.saturating_add(1));
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie";

    #[tokio::test]
    async fn lines_end_where_they_end_and_long_ones_are_bounded() {
        let long = "x".repeat(LINE_MAX * 3);
        let text = format!("one\r\n\n{long}\nlast");
        let mut input = tokio::io::BufReader::with_capacity(7, text.as_bytes());
        let (mut line, mut seen) = (Vec::new(), Vec::new());
        while read_line(&mut input, &mut line).await.unwrap() {
            seen.push(line.len());
        }
        assert_eq!(seen, [4, 0, LINE_MAX + 1, 4]);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_hash() {
        let tenant = Uuid::now_v7().to_string();
        let good = serde_json::json!({
            "email": "Jane@Shop.example", "name": "", "password_hash": HASH,
            "tenant_id": tenant, "role": "MEMBER",
        });
        let person = read_person(good.to_string().as_bytes()).unwrap();
        assert_eq!(person.email, "jane@shop.example");
        let long = "x".repeat(201);
        for (field, value) in [
            ("email", "jane"),
            ("email", HASH),
            ("name", "a\u{0}b"),
            ("name", long.as_str()),
            ("password_hash", "correct horse 1"),
            ("tenant_id", HASH),
            ("role", HASH),
            ("role", "member"),
            (HASH, "a field that is none"),
        ] {
            let mut bad = good.clone();
            bad[field] = value.into();
            let error = read_person(bad.to_string().as_bytes()).unwrap_err().to_string();
            assert!(!error.contains(HASH) && !error.contains("horse"), "{error}");
            assert!(error.ends_with('.'), "{error}");
        }
        for bad in ["", "[]", "{", "\u{feff}{}", r#"{"email": 1}"#] {
            assert!(read_person(bad.as_bytes()).is_err(), "{bad}");
        }
        let cut = good.to_string();
        assert!(read_person(&cut.as_bytes()[..cut.len() - 1]).is_err());
        assert!(read_person(b"\xff\xfe").is_err());
    }
}
