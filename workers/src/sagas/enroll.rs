//! Enrolling a server: a converge job. It makes the server what it shall be and may run any number
//! of times; there is nothing to undo.

use crate::agent::{self, AgentBinary};
use crate::error::Result;
use crate::proxmox::Node;
use crate::saga::{Cx, Progress};
use crate::ssh::{Program, RemoteCommand, Session};
use cpanel::protocol::{Call, Enroll, EnrollReport, Level};
use entities::audit::Audit;
use entities::error::{Code, Error};
use entities::servers;
use entities::values::AbsPath;
use serde_json::{Value, json};
use std::time::Duration;

/// Where the agent lies on a server.
const AGENT_PATH: &str = "/usr/local/lib/migrapanel/migrapanel-agent";

/// Enrols the job's server; answers what was changed.
pub async fn enroll(cx: &Cx) -> Result<Value> {
    let server = &cx.server;
    if server.kind == servers::Kind::Proxmox {
        return node(cx).await;
    }
    cx.log(
        Level::Info,
        "connect",
        &format!("Connecting to {} and comparing its host key.", server.host),
    )
    .await?;
    let session = cx.world.fleet.connect(server).await?;
    let hello = match agent::ensure_current(&session, &cx.world.agent).await {
        Ok(hello) => hello,
        Err(error) if error.code() == Code::AgentFailed => {
            cx.log(Level::Info, "agent", "There is no agent yet: installing it.").await?;
            install(&session, &cx.world.agent).await?;
            agent::ensure_current(&session, &cx.world.agent).await?
        }
        Err(error) => return Err(error),
    };
    cx.log(Level::Info, "layout", "Making the hosting layout.").await?;
    let call = Call::Enroll(Enroll {
        public_key: cx.world.public_key().await?,
        backup_dirs: servers::backup_dirs(server)?,
        hostname: server.hostname.clone(),
    });
    let report: EnrollReport = cx.ask_over(&session, "layout", call, Progress::Silent).await?;
    for change in &report.changes {
        cx.log(Level::Info, "layout", change).await?;
    }
    let tx = cx.world.db.system().await?;
    servers::record_enrolment(&tx, server.id, &report, &hello.version).await?;
    tx.audit(
        &cx.claim.ctx(),
        Audit::ServerEnrolled { id: server.id.to_string(), changes: report.changes.len() },
    )
    .await?;
    tx.commit().await?;
    Ok(json!(report))
}

/// A Proxmox node is used as it is: it is looked at, and what it has is written down.
async fn node(cx: &Cx) -> Result<Value> {
    let node = Node::of(cx).await?;
    cx.log(Level::Info, "connect", &format!("{} shows its pinned host key.", cx.server.host))
        .await?;
    let look = node.examine().await?;
    for note in &look.notes {
        cx.log(Level::Warn, "examine", note).await?;
    }
    let capacity = look.capacity;
    let text = format!(
        "Proxmox VE {}: {} cores, {} MiB of memory, {} MiB in the storage {}.",
        look.version, capacity.cpu_cores, capacity.memory_mib, capacity.disk_mib, node.row.storage
    );
    cx.log(Level::Info, "examine", &text).await?;
    let tx = cx.world.db.system().await?;
    servers::record_node(&tx, cx.server.id, capacity, &look.health()).await?;
    let entry = Audit::ServerEnrolled { id: cx.server.id.to_string(), changes: 0 };
    tx.audit(&cx.claim.ctx(), entry).await?;
    tx.commit().await?;
    Ok(json!({ "version": look.version, "notes": look.notes, "changes": [text] }))
}

/// Brings the agent to a server that has none, as root with an unrestricted key.
async fn install(session: &Session, binary: &AgentBinary) -> Result<()> {
    let target = AbsPath::parse(AGENT_PATH)?;
    let command = RemoteCommand::new(Program::Install)
        .literal("-D")
        .literal("-m")
        .literal("0755")
        .literal("--")
        .literal("/dev/stdin")
        .value(&target);
    let ran = session.run(&command, &binary.bytes, Duration::from_secs(300)).await?;
    if ran.status == 0 {
        return Ok(());
    }
    tracing::warn!(said = ran.err, "enroll.install_failed");
    Err(Error::refused(
        Code::EnrolmentFailed,
        "The agent could not be installed. Check the free space below /usr/local and that root's key may run commands.",
    ))
}
