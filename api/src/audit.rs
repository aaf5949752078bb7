//! The command that checks the audit trail's chains.

use entities::Result;
use entities::audit::verify::{self, Chain, Noted};
use entities::db::Db;
use entities::error::{Code, Error};
use entities::ids::TenantId;
use uuid::Uuid;

/// What `audit` takes.
pub const USAGE: &str = "audit verify [TENANT-ID [--head SEQ:HASH]]";

/// What a check has to say.
#[derive(Debug)]
pub struct Report {
    /// One line for each chain.
    pub text: String,
    /// Whether every chain holds.
    pub whole: bool,
}

/// Carries out `audit` with its arguments.
pub async fn run(db: &Db, arguments: &[String]) -> Result<Report> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (tenant, noted): (_, Option<Noted>) = match words.as_slice() {
        ["verify"] => (None, None),
        ["verify", tenant] => (Some(read_id(tenant)?), None),
        ["verify", tenant, "--head", head] => (Some(read_id(tenant)?), Some(head.parse()?)),
        _ => return Err(Error::refused(Code::InvalidRequest, format!("It is: {USAGE}."))),
    };
    let tenants = match tenant {
        Some(id) => vec![id],
        None => verify::list_chains(db).await?,
    };
    let mut report = Report { text: String::new(), whole: true };
    for id in tenants {
        let chain = verify::verify_chain(db, id, noted.as_ref()).await?;
        report.whole &= chain.fault.is_none();
        report.text.push_str(&describe(&chain));
    }
    Ok(report)
}

fn read_id(text: &str) -> Result<TenantId> {
    let id = Uuid::parse_str(text).map_err(|_e| {
        Error::refused(Code::InvalidRequest, format!("{text} is no tenant's id. It is: {USAGE}."))
    })?;
    Ok(TenantId(id))
}

fn describe(chain: &Chain) -> String {
    let Chain { tenant, name, head, unsealed, fault } = chain;
    let what = match fault {
        None => format!("whole, {} sealed, {unsealed} not yet, head {head}", head.seq),
        Some(fault) => format!("BROKEN after {} sealed: {fault}; {unsealed} not yet", head.seq),
    };
    format!("{tenant} {name}: {what}\n")
}
