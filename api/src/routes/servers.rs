//! Servers: adding, enrolling, granting, maintenance, health.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{
    Answer, Json, Paging, Success, accepted, created, field, maybe_whole, object, ok, page,
    readable, said,
};
use crate::routes::tenants::Pages;
use crate::schema;
use crate::state::State;
use actix_web::{get, patch, post, web};
use chrono::{DateTime, Utc};
use entities::cloudpods::draining::{self, Progress, Remaining};
use entities::cloudpods::placement;
use entities::error::Error;
use entities::ids::{ServerId, TenantId};
use entities::servers::{self, Change, NewNode, NewServer, NodeChange};
use entities::tables::server;
use entities::tenancy::Permission;
use entities::values::{AbsPath, BridgeName, Hostname, Invalid, NodeName, StorageId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(create_server)
        .service(list_servers)
        .service(view_worker_key)
        .service(view_server)
        .service(view_load)
        .service(update_server)
        .service(enroll_server)
        .service(grant_server);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ServerNew {
    #[validate(length(min = 1, max = 100), custom(function = readable))]
    #[schema(schema_with = schema::name_100)]
    name: String,
    /// Where workers connect to: a name or an address.
    host: String,
    /// By default 22.
    #[validate(range(min = 1))]
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 1, maximum = 65535)]
    ssh_port: Option<u16>,
    /// `SHA256:…`, as `ssh-keygen -lf` prints it on the server. Pinned: a server that shows another
    /// key is refused.
    host_key_fingerprint: String,
    /// The server's public name; by default `host`.
    hostname: Option<String>,
    /// The address that zones publish; by default `host`, when that is an address.
    #[schema(schema_with = schema::maybe_ipv4)]
    ipv4: Option<Ipv4Addr>,
    #[schema(schema_with = schema::maybe_ipv6)]
    ipv6: Option<Ipv6Addr>,
    /// The directories that archives may lie in; by default `/var/backups/migrations`.
    backup_dirs: Option<Vec<String>>,
    /// Where it is: address pools and plans may ask for it.
    #[schema(schema_with = schema::maybe_label)]
    location: Option<String>,
    /// At most 20, which plans may ask for.
    labels: Option<BTreeMap<String, String>>,
    /// Makes it a node of Proxmox VE, for CloudPods; without it, it is for hosting accounts.
    #[serde(default, deserialize_with = "object")]
    node: Option<NodeNew>,
}

/// What makes a server a Proxmox node.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NodeNew {
    /// Nodes of one cluster share VMIDs, and containers move between them; by default the node's own
    /// name and host.
    #[schema(schema_with = schema::maybe_label)]
    cluster: Option<String>,
    /// As the cluster calls it: `pve1`.
    name: String,
    /// For root file systems; by default `local-lvm`.
    storage: Option<String>,
    /// For templates; by default `local`.
    template_storage: Option<String>,
    /// By default `local`.
    backup_storage: Option<String>,
    /// By default `vmbr0`.
    bridge: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ServerView {
    id: Uuid,
    name: String,
    host: String,
    ssh_port: i32,
    host_key_fingerprint: String,
    hostname: String,
    ipv4: String,
    ipv6: Option<String>,
    #[schema(value_type = Vec<String>)]
    backup_dirs: serde_json::Value,
    /// `pending`, `enrolling` or `enrolled`.
    state: String,
    /// In maintenance nothing new is started on it.
    maintenance: bool,
    agent_version: Option<String>,
    /// What enrolment changed and found.
    #[schema(value_type = Option<Object>)]
    enrolment: Option<serde_json::Value>,
    #[schema(value_type = Option<Object>)]
    health: Option<serde_json::Value>,
    health_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
    /// `hosting`, or `proxmox` for CloudPods.
    #[schema(schema_with = schema::server_kind)]
    kind: servers::Kind,
    location: Option<String>,
    #[schema(value_type = Object)]
    labels: serde_json::Value,
    /// What is on it is to go elsewhere, and nothing is made on it.
    draining: bool,
    /// What it has, as it was seen.
    cpu_cores: Option<i32>,
    memory_mib: Option<i64>,
    disk_mib: Option<i64>,
    /// How many times as much is given away as it has.
    cpu_factor: f64,
    memory_factor: f64,
    disk_factor: f64,
    created_at: DateTime<Utc>,
    enrolled_at: Option<DateTime<Utc>>,
    /// The line for root's `authorized_keys`, to be put there once, before enrolment.
    authorized_key: Option<String>,
}

fn view(row: server::Model, authorized_key: Option<String>) -> ServerView {
    ServerView {
        id: row.id.0,
        name: row.name,
        host: row.host,
        ssh_port: row.ssh_port,
        host_key_fingerprint: row.host_key_fingerprint,
        hostname: row.hostname,
        ipv4: row.ipv4,
        ipv6: row.ipv6,
        backup_dirs: row.backup_dirs,
        state: row.state,
        maintenance: row.maintenance,
        agent_version: row.agent_version,
        enrolment: row.report,
        health: row.health,
        health_at: row.health_at,
        last_error: row.last_error,
        kind: row.kind,
        location: row.location,
        labels: row.labels,
        draining: row.draining,
        cpu_cores: row.cpu_cores,
        memory_mib: row.memory_mib,
        disk_mib: row.disk_mib,
        cpu_factor: row.cpu_factor,
        memory_factor: row.memory_factor,
        disk_factor: row.disk_factor,
        created_at: row.created_at,
        enrolled_at: row.enrolled_at,
        authorized_key,
    }
}

impl TryFrom<ServerNew> for NewServer {
    type Error = Error;

    fn try_from(new: ServerNew) -> Result<Self, Error> {
        let named =
            |path: &'static str| move |error: Invalid| Error::field(path, error.to_string());
        let host = Hostname::parse(&new.host).map_err(named("host"))?;
        let ipv4 = match new.ipv4 {
            Some(address) => address,
            None => host.as_str().parse().map_err(|_e| {
                Error::field("ipv4", "is needed: it is the address that zones publish")
            })?,
        };
        let hostname = match new.hostname {
            Some(name) => Hostname::parse(&name).map_err(named("hostname"))?,
            None => host.clone(),
        };
        let backup_dirs = new
            .backup_dirs
            .unwrap_or_else(|| vec!["/var/backups/migrations".to_owned()])
            .iter()
            .map(|dir| AbsPath::parse(dir).map_err(named("backup_dirs")))
            .collect::<Result<_, _>>()?;
        let node = new.node.map(|node| node_of(node, &host)).transpose()?;
        Ok(Self {
            name: new.name,
            location: new.location,
            labels: new.labels.unwrap_or_default(),
            node,
            host,
            ssh_port: new.ssh_port.unwrap_or(22),
            host_key_fingerprint: new.host_key_fingerprint,
            hostname,
            ipv4,
            ipv6: new.ipv6,
            backup_dirs,
        })
    }
}

/// A node that is alone has a cluster that nobody else has.
fn own_cluster(name: &NodeName, host: &Hostname) -> String {
    format!("{name}.{host}").replace(':', "-").chars().take(63).collect()
}

fn check_cluster(name: &str) -> Result<(), Error> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=63).contains(&name.len()) && name.bytes().all(known) {
        return Ok(());
    }
    let rule = "must be 1 to 63 letters, digits, dots, hyphens and underscores";
    Err(Error::field("node/cluster", rule))
}

fn node_of(new: NodeNew, host: &Hostname) -> Result<NewNode, Error> {
    let storage = |path: &str, name: Option<String>, usual: &str| {
        field::<StorageId>(path, name.as_deref().unwrap_or(usual))
    };
    let name: NodeName = field("node/name", &new.name)?;
    if let Some(cluster) = &new.cluster {
        check_cluster(cluster)?;
    }
    Ok(NewNode {
        cluster: new.cluster.unwrap_or_else(|| own_cluster(&name, host)),
        storage: storage("node/storage", new.storage, "local-lvm")?,
        template_storage: storage("node/template_storage", new.template_storage, "local")?,
        backup_storage: storage("node/backup_storage", new.backup_storage, "local")?,
        bridge: field::<BridgeName>("node/bridge", new.bridge.as_deref().unwrap_or("vmbr0"))?,
        name,
    })
}

/// Adds a server. Put the answer's `authorized_key` into its root's `authorized_keys`, then enrol it.
#[utoipa::path(
    tag = "servers",
    request_body = ServerNew,
    responses((status = 201, body = Success<ServerView>))
)]
#[post("/api/servers")]
async fn create_server(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<ServerNew>,
) -> Result<Answer<ServerView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ServersWrite).await?;
    let row = servers::create_server(&tx, body.try_into()?).await?;
    tx.commit().await?;
    Ok(created(view(row, servers::public_key(&state.db).await?)))
}

/// The servers that the tenant may use, by name.
#[utoipa::path(
    tag = "servers",
    params(Pages),
    responses((status = 200, body = Success<Vec<ServerView>>))
)]
#[get("/api/servers")]
async fn list_servers(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<ServerView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::ServersUse).await?;
    let (rows, total) = servers::list_servers(&tx, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(|row| view(row, None)).collect();
    Ok(page(views, paging.meta(total)))
}

#[derive(Debug, Serialize, ToSchema)]
struct WorkerKey {
    /// The line for root's `authorized_keys` on a server that is to be enrolled.
    authorized_key: String,
}

/// The public key that workers log in with.
#[utoipa::path(
    tag = "servers",
    responses((status = 200, body = Success<WorkerKey>))
)]
#[get("/api/servers/worker-key")]
async fn view_worker_key(
    caller: Caller,
    state: web::Data<State>,
) -> Result<Answer<WorkerKey>, ApiError> {
    caller.0.require(Permission::ServersRead)?;
    let authorized_key = servers::public_key(&state.db)
        .await?
        .ok_or(Error::NotFound("worker key yet: start migrapanel-migrator, which makes it"))?;
    Ok(ok(WorkerKey { authorized_key }))
}

/// A server.
#[utoipa::path(
    tag = "servers",
    params(("id" = Uuid, Path, description = "the server")),
    responses((status = 200, body = Success<ServerView>))
)]
#[get("/api/servers/{id}")]
async fn view_server(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<ServerView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::ServersUse).await?;
    let row = servers::find_server(&tx, ServerId(*id)).await?;
    Ok(ok(view(row, None)))
}

/// What is given away of a server, and how much there is to give.
#[derive(Debug, Serialize, ToSchema)]
struct LoadView {
    /// Containers, and places that are held for orders.
    places: i64,
    cpu_cores: i64,
    memory_mib: i64,
    disk_mib: i64,
    cpu_limit: f64,
    memory_limit: f64,
    disk_limit: f64,
    draining: bool,
    /// Containers and accounts that are on it: at 0 it has drained.
    remaining: u64,
    /// When it drains: the CloudPods that are still on it, the next first, at most 100.
    leaving: Vec<LeavingView>,
}

/// A CloudPod that is to leave a node that drains.
#[derive(Debug, Serialize, ToSchema)]
struct LeavingView {
    cloudpod_id: Uuid,
    tenant_id: Uuid,
    hostname: String,
    status: &'static str,
    /// `moving`; `waits` for its turn: one after another leaves; `no_room` for it on another node of
    /// its cluster that its plan allows: make room, or move it by hand; `failed`, with the error of
    /// its last move, and is tried again within minutes; `busy`: something else is done with it first.
    progress: &'static str,
    error: Option<String>,
    /// What works on it, or its last move: see `/api/jobs/{id}`.
    job_id: Option<Uuid>,
}

impl From<Remaining> for LeavingView {
    fn from(pod: Remaining) -> Self {
        Self {
            cloudpod_id: pod.id.0,
            tenant_id: pod.tenant.0,
            hostname: pod.hostname,
            status: pod.status.as_str(),
            progress: match pod.progress {
                Progress::Moving => "moving",
                Progress::Waits => "waits",
                Progress::NoRoom => "no_room",
                Progress::Failed => "failed",
                Progress::Busy => "busy",
            },
            error: pod.error,
            job_id: pod.job.map(|job| job.0),
        }
    }
}

/// How many CloudPods of a node that drains are listed.
const LEAVING_MAX: u64 = 100;

/// How full a server is, and how far it has drained.
#[utoipa::path(
    tag = "servers",
    params(("id" = Uuid, Path, description = "the server")),
    responses((status = 200, body = Success<LoadView>))
)]
#[get("/api/servers/{id}/load")]
async fn view_load(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<LoadView>, ApiError> {
    caller.0.require(Permission::ServersRead)?;
    let id = ServerId(*id);
    let tx = state.db.system().await?;
    let row = servers::load_server(&tx, id).await?;
    let load = placement::load_of(&tx, id).await?;
    let leaving = match row.draining {
        true => draining::list_remaining(&tx, id, LEAVING_MAX).await?,
        false => Vec::new(),
    };
    Ok(ok(LoadView {
        leaving: leaving.into_iter().map(LeavingView::from).collect(),
        places: load.pods,
        cpu_cores: load.cpu_cores,
        memory_mib: load.memory_mib,
        disk_mib: load.disk_mib,
        cpu_limit: load.cpu_limit,
        memory_limit: load.memory_limit,
        disk_limit: load.disk_limit,
        draining: row.draining,
        remaining: servers::count_on(&tx, id).await?,
    }))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ServerPatch {
    /// Where workers connect to: the same server under another address.
    host: Option<String>,
    #[validate(range(min = 1))]
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 1, maximum = 65535)]
    ssh_port: Option<u16>,
    /// The key that the same server shows by now.
    host_key_fingerprint: Option<String>,
    /// Sets right what was said of a node that is not enrolled yet.
    #[serde(default, deserialize_with = "object")]
    node: Option<NodePatch>,
    maintenance: Option<bool>,
    /// Nothing is made on it any more, and its CloudPods move to other nodes of its cluster, one after
    /// another; see its load for what is left there.
    draining: Option<bool>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "said")]
    #[schema(schema_with = schema::maybe_label)]
    location: Option<Option<String>>,
    labels: Option<BTreeMap<String, String>>,
    /// How many times as much is given away as it has: 0.1 to 100.
    #[schema(minimum = 0.1, maximum = 100.0)]
    cpu_factor: Option<f64>,
    #[schema(minimum = 0.1, maximum = 100.0)]
    memory_factor: Option<f64>,
    #[schema(minimum = 0.1, maximum = 100.0)]
    disk_factor: Option<f64>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NodePatch {
    #[schema(schema_with = schema::maybe_label)]
    cluster: Option<String>,
    name: Option<String>,
    storage: Option<String>,
    template_storage: Option<String>,
    backup_storage: Option<String>,
    bridge: Option<String>,
}

impl TryFrom<NodePatch> for NodeChange {
    type Error = Error;

    fn try_from(body: NodePatch) -> Result<Self, Error> {
        let storage = |path: &str, name: Option<String>| {
            name.map(|name| field::<StorageId>(path, &name)).transpose()
        };
        if let Some(cluster) = &body.cluster {
            check_cluster(cluster)?;
        }
        Ok(Self {
            cluster: body.cluster,
            name: body.name.map(|name| field("node/name", &name)).transpose()?,
            storage: storage("node/storage", body.storage)?,
            template_storage: storage("node/template_storage", body.template_storage)?,
            backup_storage: storage("node/backup_storage", body.backup_storage)?,
            bridge: body.bridge.map(|bridge| field("node/bridge", &bridge)).transpose()?,
        })
    }
}

/// Takes a server into maintenance or back into use, lets it drain, says where it is; sets right how
/// it is reached, and what was said of a node before it is enrolled.
#[utoipa::path(
    tag = "servers",
    params(("id" = Uuid, Path, description = "the server")),
    request_body = ServerPatch,
    responses((status = 200, body = Success<ServerView>))
)]
#[patch("/api/servers/{id}")]
async fn update_server(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<ServerPatch>,
) -> Result<Answer<ServerView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ServersWrite).await?;
    let host = body.host.map(|host| Hostname::parse(&host)).transpose();
    let change = Change {
        host: host.map_err(|error: Invalid| Error::field("host", error.to_string()))?,
        ssh_port: body.ssh_port,
        host_key_fingerprint: body.host_key_fingerprint,
        node: body.node.map(NodeChange::try_from).transpose()?,
        maintenance: body.maintenance,
        draining: body.draining,
        location: body.location,
        labels: body.labels,
        cpu_factor: body.cpu_factor,
        memory_factor: body.memory_factor,
        disk_factor: body.disk_factor,
    };
    let row = servers::update_server(&tx, ServerId(*id), change).await?;
    tx.commit().await?;
    Ok(ok(view(row, None)))
}

/// The job that carries something out.
#[derive(Debug, Serialize, ToSchema)]
pub struct Started {
    /// Follow it at `/api/jobs/{id}`.
    pub job_id: Uuid,
}

/// Enrols a server, or brings an enrolled one up to date: pins its key, installs the agent, makes
/// the hosting layout and binds the worker's key to the agent.
#[utoipa::path(
    tag = "servers",
    params(("id" = Uuid, Path, description = "the server")),
    responses((status = 202, body = Success<Started>))
)]
#[post("/api/servers/{id}/enroll")]
async fn enroll_server(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Started>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ServersWrite).await?;
    let job = servers::start_enrolment(&tx, ServerId(*id)).await?;
    tx.commit().await?;
    Ok(accepted(Started { job_id: job.0 }))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Grant {
    tenant_id: Uuid,
}

/// Lets a tenant use a server.
#[utoipa::path(
    tag = "servers",
    params(("id" = Uuid, Path, description = "the server")),
    request_body = Grant,
    responses((status = 200, body = Success<ServerView>))
)]
#[post("/api/servers/{id}/grants")]
async fn grant_server(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<Grant>,
) -> Result<Answer<ServerView>, ApiError> {
    let id = ServerId(*id);
    let tx = state.db.write(&caller.0, Permission::ServersWrite).await?;
    servers::grant_server(&state.db, &tx, id, TenantId(body.tenant_id)).await?;
    let row = servers::find_server(&tx, id).await?;
    tx.commit().await?;
    Ok(ok(view(row, None)))
}
