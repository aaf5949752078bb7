//! Servers, who may use them, and the key that workers log in with.

mod node;

pub use node::{Capacity, NewNode, NodeChange, find_by_node, find_node, record_node};

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, TenantTx};
use crate::error::{Code, Error};
use crate::ids::{JobId, RowId, ServerId, TenantId};
use crate::jobs::{self, NewJob};
use crate::sealing::SealingKeys;
use crate::tables::{cloudpod, job, server, server_grant, ssh_identity, tenant};
use crate::tenancy::TenantKind;
use crate::tenants;
use chrono::Utc;
use cpanel::protocol::EnrollReport;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, DeriveActiveEnum, EntityTrait, EnumIter, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, Select,
    sea_query::{Expr, Query},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use values::{AbsPath, Hostname};

/// What a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Hosting accounts, through our agent.
    #[sea_orm(string_value = "hosting")]
    Hosting,
    /// Containers: a node of Proxmox VE.
    #[sea_orm(string_value = "proxmox")]
    Proxmox,
}

/// What of a server is set by hand.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Where workers connect to, and whom they expect there: the same server under another address, or
    /// with another key.
    pub host: Option<Hostname>,
    pub ssh_port: Option<u16>,
    pub host_key_fingerprint: Option<String>,
    /// Only while it is not enrolled: what is on it later is found by this.
    pub node: Option<NodeChange>,
    pub maintenance: Option<bool>,
    pub draining: Option<bool>,
    /// `Some(None)` takes it away.
    pub location: Option<Option<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    /// How many times as much is given away as it has.
    pub cpu_factor: Option<f64>,
    pub memory_factor: Option<f64>,
    pub disk_factor: Option<f64>,
}

/// The most that a factor of a server may be.
pub const FACTOR_MAX: f64 = 100.0;

/// A server that is to be added.
#[derive(Debug)]
pub struct NewServer {
    pub name: String,
    /// Where workers connect to.
    pub host: Hostname,
    pub ssh_port: u16,
    /// `SHA256:…` of the server's host key, as `ssh-keygen -lf` prints it.
    pub host_key_fingerprint: String,
    /// The server's public name.
    pub hostname: Hostname,
    /// What zones publish.
    pub ipv4: Ipv4Addr,
    pub ipv6: Option<Ipv6Addr>,
    /// Of a hosting server.
    pub backup_dirs: Vec<AbsPath>,
    pub location: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// Of a Proxmox node.
    pub node: Option<NewNode>,
}

fn check_fingerprint(text: &str) -> Result<()> {
    let digest = text.strip_prefix("SHA256:").unwrap_or_default();
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    if digest.len() == 43 && digest.bytes().all(known) {
        return Ok(());
    }
    Err(Error::field(
        "host_key_fingerprint",
        "must be SHA256: and 43 characters, as `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints it on the server",
    ))
}

/// Adds a server; it is used only after enrolment.
pub async fn create_server(tx: &TenantTx, new: NewServer) -> Result<server::Model> {
    check_fingerprint(&new.host_key_fingerprint)?;
    let lacks_dirs = new.backup_dirs.is_empty() && new.node.is_none();
    if new.backup_dirs.iter().any(|d| d.as_str() == "/") || lacks_dirs {
        return Err(Error::field("backup_dirs", "needs at least one directory, and never /"));
    }
    let kind = if new.node.is_some() { Kind::Proxmox } else { Kind::Hosting };
    check_labels(new.location.as_deref(), &new.labels)?;
    let row = server::ActiveModel {
        id: Set(ServerId::new()),
        name: Set(new.name.clone()),
        host: Set(new.host.to_string()),
        ssh_port: Set(i32::from(new.ssh_port)),
        host_key_fingerprint: Set(new.host_key_fingerprint),
        hostname: Set(new.hostname.to_string()),
        ipv4: Set(new.ipv4.to_string()),
        ipv6: Set(new.ipv6.map(|a| a.to_string())),
        backup_dirs: Set(serde_json::to_value(&new.backup_dirs)?),
        state: Set("pending".to_owned()),
        maintenance: Set(false),
        agent_version: NotSet,
        report: NotSet,
        health: NotSet,
        health_at: NotSet,
        last_error: NotSet,
        created_at: Set(Utc::now()),
        enrolled_at: NotSet,
        kind: Set(kind),
        location: Set(new.location),
        labels: Set(json!(new.labels)),
        draining: Set(false),
        cpu_cores: NotSet,
        memory_mib: NotSet,
        disk_mib: NotSet,
        cpu_factor: NotSet,
        memory_factor: NotSet,
        disk_factor: NotSet,
    }
    .insert(tx.conn())
    .await?;
    if let Some(new) = new.node {
        node::insert(tx, row.id, new).await?;
    }
    tx.audit(Audit::ServerCreated { id: row.id.to_string(), name: new.name }).await?;
    Ok(row)
}

/// The servers that this tenant may use: those granted to it, and to the platform all.
fn usable_by(tx: &TenantTx) -> Select<server::Entity> {
    let granted = Query::select()
        .column(server_grant::Column::ServerId)
        .from(server_grant::Entity)
        .and_where(server_grant::Column::TenantId.eq(tx.tenant()))
        .take();
    let platform = Query::select()
        .column(tenant::Column::Id)
        .from(tenant::Entity)
        .and_where(tenant::Column::Id.eq(tx.tenant()))
        .and_where(tenant::Column::Kind.eq(TenantKind::Platform))
        .take();
    server::Entity::find().filter(
        Condition::any().add(server::Column::Id.in_subquery(granted)).add(Expr::exists(platform)),
    )
}

/// The server, when this tenant may use it.
pub async fn find_server(tx: &TenantTx, id: ServerId) -> Result<server::Model> {
    let row = usable_by(tx).filter(server::Column::Id.eq(id)).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("server"))
}

/// A page of the servers that this tenant may use, by name, and how many there are.
pub async fn list_servers(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<server::Model>, u64)> {
    let query = usable_by(tx);
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_asc(server::Column::Name).order_by_asc(server::Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// The hosting server, when this tenant may use it and it can be used now.
pub async fn usable_server(tx: &TenantTx, id: ServerId) -> Result<server::Model> {
    let row = find_server(tx, id).await?;
    if row.kind != Kind::Hosting {
        let text = format!("The server {} is for CloudPods: choose a hosting server.", row.name);
        return Err(Error::refused(Code::ServerNotEnrolled, text));
    }
    check_usable(&row)?;
    Ok(row)
}

fn check_usable(row: &server::Model) -> Result<()> {
    if row.state != "enrolled" {
        return Err(Error::refused(
            Code::ServerNotEnrolled,
            format!("The server {} is not enrolled. Enrol it first.", row.name),
        ));
    }
    if row.maintenance {
        return Err(Error::refused(
            Code::ServerMaintenance,
            format!("The server {} is in maintenance. Try again when it is back.", row.name),
        ));
    }
    Ok(())
}

/// The directories that hold archives on a server.
pub fn backup_dirs(row: &server::Model) -> Result<Vec<AbsPath>> {
    Ok(serde_json::from_value(row.backup_dirs.clone())?)
}

/// Checks that this tenant may name this archive: the platform's staff any in the server's backup
/// directories, a tenant only what lies in its own subdirectory there, `DIR/TENANT-ID/…`.
pub fn check_backup_path(tx: &TenantTx, row: &server::Model, path: &AbsPath) -> Result<()> {
    let dirs = backup_dirs(row)?;
    let inside = dirs.iter().any(|dir| path.is_within(dir) && path != dir);
    if tx.ctx().is_platform_staff() {
        if inside {
            return Ok(());
        }
        let list: Vec<&str> = dirs.iter().map(AbsPath::as_str).collect();
        return Err(Error::refused(
            Code::PathOutsideBackupDirs,
            format!("The archive must lie in {} on the server.", list.join(" or ")),
        ));
    }
    let own = tx.tenant().to_string();
    let inside_own = dirs.iter().any(|dir| {
        AbsPath::parse(&format!("{dir}/{own}")).is_ok_and(|d| path.is_within(&d) && *path != d)
    });
    if inside_own {
        return Ok(());
    }
    let list: Vec<String> = dirs.iter().map(|dir| format!("{dir}/{own}")).collect();
    Err(Error::refused(
        Code::ArchiveNotFound,
        format!(
            "There is no such archive of this tenant: its archives lie in {} on the server.",
            list.join(" or ")
        ),
    ))
}

fn check_labels(location: Option<&str>, labels: &BTreeMap<String, String>) -> Result<()> {
    let plain = |text: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        (1..=63).contains(&text.len()) && text.bytes().all(known)
    };
    let rule = "must be 1 to 63 letters, digits, dots, hyphens and underscores";
    if location.is_some_and(|location| !plain(location)) {
        return Err(Error::field("location", rule));
    }
    if labels.len() > 20 || !labels.iter().all(|(name, value)| plain(name) && plain(value)) {
        return Err(Error::field("labels", format!("at most 20, name and value each {rule}")));
    }
    Ok(())
}

/// Changes what is set by hand: takes a server out of use or back into it, lets it drain, says where
/// it is.
pub async fn update_server(tx: &TenantTx, id: ServerId, change: Change) -> Result<server::Model> {
    let row = find_server(tx, id).await?;
    let before = seen(tx, &row).await?;
    if let Some(node) = change.node {
        node::correct(tx, &row, node).await?;
    }
    let location = change.location.as_ref().map_or(row.location.as_deref(), |l| l.as_deref());
    check_labels(location, &change.labels.clone().unwrap_or_default())?;
    let mut active: server::ActiveModel = row.into();
    if let Some(host) = change.host {
        active.host = Set(host.to_string());
    }
    if let Some(port) = change.ssh_port {
        active.ssh_port = Set(i32::from(port));
    }
    if let Some(fingerprint) = change.host_key_fingerprint {
        check_fingerprint(&fingerprint)?;
        active.host_key_fingerprint = Set(fingerprint);
    }
    if let Some(maintenance) = change.maintenance {
        active.maintenance = Set(maintenance);
    }
    if let Some(draining) = change.draining {
        active.draining = Set(draining);
    }
    if let Some(location) = change.location {
        active.location = Set(location);
    }
    if let Some(labels) = change.labels {
        active.labels = Set(json!(labels));
    }
    for (path, factor, column) in [
        ("cpu_factor", change.cpu_factor, &mut active.cpu_factor),
        ("memory_factor", change.memory_factor, &mut active.memory_factor),
        ("disk_factor", change.disk_factor, &mut active.disk_factor),
    ] {
        let Some(factor) = factor else { continue };
        if !(0.1..=FACTOR_MAX).contains(&factor) {
            return Err(Error::field(path, format!("must be 0.1 to {FACTOR_MAX}")));
        }
        *column = Set(factor);
    }
    let row = match active.is_changed() {
        true => active.update(tx.conn()).await?,
        false => find_server(tx, id).await?,
    };
    let (before, after) = differing(before, seen(tx, &row).await?);
    tx.audit(Audit::ServerUpdated { id: id.to_string(), before, after }).await?;
    Ok(row)
}

/// The fields of two objects that are not the same in both.
fn differing(mut before: Value, mut after: Value) -> (Value, Value) {
    if let (Some(b), Some(a)) = (before.as_object_mut(), after.as_object_mut()) {
        let same: Vec<String> = b
            .iter()
            .filter(|(name, was)| a.get(*name) == Some(*was))
            .map(|(n, _)| n.clone())
            .collect();
        for name in same {
            b.remove(&name);
            a.remove(&name);
        }
    }
    (before, after)
}

async fn seen(tx: &TenantTx, row: &server::Model) -> Result<Value> {
    let node = node::seen(tx, row.id).await?;
    Ok(json!({
        "host": row.host,
        "ssh_port": row.ssh_port,
        "host_key_fingerprint": row.host_key_fingerprint,
        "node": node,
        "maintenance": row.maintenance,
        "draining": row.draining,
        "location": row.location,
        "labels": row.labels,
        "cpu_factor": row.cpu_factor,
        "memory_factor": row.memory_factor,
        "disk_factor": row.disk_factor,
    }))
}

/// How many containers and accounts are on a server: when none is left, it has drained.
pub async fn count_on(tx: &SystemTx, id: ServerId) -> Result<u64> {
    let pods = cloudpod::Entity::find()
        .filter(cloudpod::Column::ServerId.eq(id))
        .filter(cloudpod::Column::Status.ne(crate::cloudpods::Status::Deleted))
        .filter(cloudpod::Column::Vmid.is_not_null())
        .count(tx.conn())
        .await?;
    let accounts = crate::tables::hosting_account::Entity::find()
        .filter(crate::tables::hosting_account::Column::ServerId.eq(id))
        .count(tx.conn())
        .await?;
    Ok(pods.saturating_add(accounts))
}

/// Lets a tenant use a server. Repeating it changes nothing.
pub async fn grant_server(db: &Db, tx: &TenantTx, id: ServerId, tenant: TenantId) -> Result<()> {
    find_server(tx, id).await?;
    let known = {
        let system = db.system().await?;
        crate::tables::tenant::Entity::find_by_id(tenant).one(system.conn()).await?.is_some()
    };
    if !known {
        return Err(Error::NotFound("tenant"));
    }
    let row = server_grant::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(tenant),
        server_id: Set(id),
        created_at: Set(Utc::now()),
    };
    let once = sea_orm::sea_query::OnConflict::columns([
        server_grant::Column::TenantId,
        server_grant::Column::ServerId,
    ])
    .do_nothing()
    .to_owned();
    server_grant::Entity::insert(row).on_conflict(once).exec_without_returning(tx.conn()).await?;
    tx.audit(Audit::ServerGranted { id: id.to_string(), tenant }).await
}

/// Starts the enrolment of a server, also of one that is enrolled: it brings the layout up to date.
pub async fn start_enrolment(tx: &TenantTx, id: ServerId) -> Result<JobId> {
    let row = find_server(tx, id).await?;
    let job = jobs::create_job(
        tx,
        NewJob {
            kind: jobs::Kind::Enroll,
            phase: "enroll",
            server: row.id,
            subject: "enrolment".into(),
        },
    )
    .await?;
    if row.state == "pending" {
        let mut row: server::ActiveModel = row.into();
        row.state = Set("enrolling".to_owned());
        row.last_error = Set(None);
        row.update(tx.conn()).await?;
    }
    tx.audit(Audit::ServerEnrolmentStarted { id: id.to_string() }).await?;
    Ok(job)
}

/// The server, for a worker.
pub async fn load_server(tx: &SystemTx, id: ServerId) -> Result<server::Model> {
    server::Entity::find_by_id(id).one(tx.conn()).await?.ok_or(Error::NotFound("server"))
}

/// The server, for a worker that is about to act for a tenant on it.
pub async fn load_usable_server(tx: &SystemTx, id: ServerId) -> Result<server::Model> {
    let row = load_server(tx, id).await?;
    check_usable(&row)?;
    Ok(row)
}

/// Records that enrolment went well.
pub async fn record_enrolment(
    tx: &SystemTx,
    id: ServerId,
    report: &EnrollReport,
    agent_version: &str,
) -> Result<()> {
    let mut row: server::ActiveModel = load_server(tx, id).await?.into();
    row.state = Set("enrolled".to_owned());
    row.report = Set(Some(serde_json::to_value(report)?));
    row.agent_version = Set(Some(agent_version.to_owned()));
    row.enrolled_at = Set(Some(Utc::now()));
    row.last_error = Set(None);
    row.update(tx.conn()).await?;
    Ok(())
}

/// Records why enrolment or a connection failed. A server that was never enrolled waits again.
pub async fn record_failure(tx: &SystemTx, id: ServerId, error: &str) -> Result<()> {
    let row = load_server(tx, id).await?;
    let waits = row.state == "enrolling";
    let mut row: server::ActiveModel = row.into();
    row.last_error = Set(Some(error.to_owned()));
    if waits {
        row.state = Set("pending".to_owned());
    }
    row.update(tx.conn()).await?;
    Ok(())
}

/// A queued enrolment was cancelled before it began: a server that was never enrolled waits again,
/// unless another enrolment of it is under way.
pub(crate) async fn enrolment_cancelled(tx: &SystemTx, id: ServerId) -> Result<()> {
    let row = load_server(tx, id).await?;
    let at_work = job::Entity::find()
        .filter(job::Column::ServerId.eq(id))
        .filter(job::Column::Kind.eq(jobs::Kind::Enroll.as_str()))
        .filter(job::Column::State.is_in(["queued", "running", "unwinding"]))
        .count(tx.conn())
        .await?;
    if row.state == "enrolling" && at_work == 0 {
        let mut row: server::ActiveModel = row.into();
        row.state = Set("pending".to_owned());
        row.update(tx.conn()).await?;
    }
    Ok(())
}

/// A failed enrolment is run again.
pub(crate) async fn enrolment_requeued(tx: &SystemTx, id: ServerId) -> Result<()> {
    let row = load_server(tx, id).await?;
    if row.state == "pending" {
        let mut row: server::ActiveModel = row.into();
        row.state = Set("enrolling".to_owned());
        row.last_error = Set(None);
        row.update(tx.conn()).await?;
    }
    Ok(())
}

/// Records what a server said of its health, or that it did not answer.
pub async fn record_health(
    tx: &SystemTx,
    id: ServerId,
    health: Result<&Value, &str>,
) -> Result<()> {
    let mut row: server::ActiveModel = load_server(tx, id).await?.into();
    match health {
        Ok(health) => {
            row.health = Set(Some(health.clone()));
            row.health_at = Set(Some(Utc::now()));
            row.last_error = Set(None);
        }
        Err(error) => row.last_error = Set(Some(error.to_owned())),
    }
    row.update(tx.conn()).await?;
    Ok(())
}

/// The enrolled servers of a kind, for those who look after them.
pub async fn list_enrolled(tx: &SystemTx, kind: Kind) -> Result<Vec<server::Model>> {
    let enrolled = server::Entity::find()
        .filter(server::Column::State.eq("enrolled"))
        .filter(server::Column::Kind.eq(kind));
    Ok(enrolled.all(tx.conn()).await?)
}

/// Keeps the key that workers log in with; when there is one already, that one stays.
pub async fn keep_identity(
    db: &Db,
    keys: &SealingKeys,
    public_key: &str,
    private_key: &SecretString,
) -> Result<()> {
    let tx = db.system().await?;
    let row = ssh_identity::ActiveModel {
        id: Set(RowId::new()),
        public_key: Set(public_key.to_owned()),
        sealed_private_key: Set(keys.seal(private_key)?),
        created_at: Set(Utc::now()),
    };
    let first = sea_orm::sea_query::OnConflict::new().do_nothing().to_owned();
    ssh_identity::Entity::insert(row).on_conflict(first).exec_without_returning(tx.conn()).await?;
    tx.commit().await
}

/// The public key that an operator puts on a server, once bootstrap made it.
pub async fn public_key(db: &Db) -> Result<Option<String>> {
    let tx = db.system().await?;
    Ok(ssh_identity::Entity::find().one(tx.conn()).await?.map(|row| row.public_key))
}

/// The key that workers log in with, opened in memory.
pub async fn open_identity(db: &Db, keys: &SealingKeys) -> Result<(String, SecretString)> {
    let tx = db.system().await?;
    let row = ssh_identity::Entity::find().one(tx.conn()).await?.ok_or_else(|| {
        Error::internal("there is no SSH key yet: start migrapanel-migrator, which makes it")
    })?;
    Ok((row.public_key, keys.open(&row.sealed_private_key)?))
}

/// Seals the key that workers log in with under the newest key. Whether it was under an old one.
pub async fn reseal_identity(db: &Db, keys: &SealingKeys) -> Result<bool> {
    let tx = db.system().await?;
    let row = ssh_identity::Entity::find().lock_exclusive().one(tx.conn()).await?;
    let Some(row) = row else { return Ok(false) };
    let Some(anew) = keys.reseal(&row.sealed_private_key)? else { return Ok(false) };
    let mut row: ssh_identity::ActiveModel = row.into();
    row.sealed_private_key = Set(anew);
    row.update(tx.conn()).await?;
    tenants::audit_operator(&tx, Audit::SecretsResealed { count: 1 }).await?;
    tx.commit().await?;
    Ok(true)
}
