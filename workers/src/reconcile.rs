//! Comparing what the nodes have with what was sold: containers that nobody sold, sold ones that are
//! not there, and ones that are otherwise. What is safe is repaired, the rest is shown to operators;
//! nothing is removed that is not provably ours.

use crate::error::Result;
use crate::proxmox::{ApiPath, Container, Guest, Mark, Mebibytes, Network, Node, commands};
use crate::sagas::cloudpod::free;
use crate::ssh::RemoteCommand;
use crate::world::World;
use entities::cloudpods::findings::{self, Found, Kind};
use entities::cloudpods::record::{self, Seen};
use entities::cloudpods::settle::Power;
use entities::cloudpods::{self, Size, Status, placement, pools, traffic};
use entities::error::{Code, Error};
use entities::ids::{CloudpodId, ServerId};
use entities::servers;
use entities::tables::{cloudpod, server};
use entities::values::{BridgeName, Vmid, VolumeId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a node may take to say how it is.
const LIMIT: Duration = Duration::from_secs(120);
/// How long it may take to remove what was left.
const REMOVAL: Duration = Duration::from_secs(30);

/// Looks for as long as the process lives, at each node by itself: one that hangs delays no other.
pub async fn keep_looking(world: World) {
    let every = Duration::from_secs(world.config.reconcile_secs.max(1));
    let mut looks: BTreeMap<ServerId, JoinHandle<()>> = BTreeMap::new();
    loop {
        match nodes(&world).await {
            Ok(nodes) => {
                for row in nodes {
                    if looks.get(&row.id).is_none_or(JoinHandle::is_finished) {
                        looks.insert(row.id, tokio::spawn(look_and_tell(world.clone(), row)));
                    }
                }
            }
            Err(error) => tracing::warn!(cause = %error.chain(), "pods.not_reconciled"),
        }
        tokio::time::sleep(every).await;
    }
}

async fn look_and_tell(world: World, row: server::Model) {
    if let Err(error) = look_once(&world, &row).await {
        tracing::warn!(server = %row.name, cause = %error.chain(), "pods.not_reconciled");
    }
}

async fn nodes(world: &World) -> Result<Vec<server::Model>> {
    let tx = world.db.system().await?;
    servers::list_enrolled(&tx, servers::Kind::Proxmox).await
}

/// Looks at every node, once.
pub async fn look_at_all(world: &World) -> Result<()> {
    for row in nodes(world).await? {
        look_once(world, &row).await?;
    }
    Ok(())
}

/// Looks at a node; that it does not answer is told of it.
async fn look_once(world: &World, row: &server::Model) -> Result<()> {
    let Err(error) = look_at(world, row).await else { return Ok(()) };
    let tx = world.db.system().await?;
    servers::record_health(&tx, row.id, Err(&error.to_string())).await?;
    tx.commit().await
}

/// Looks at a node: its health, and its containers against the pods that are to be on it.
pub async fn look_at(world: &World, row: &server::Model) -> Result<()> {
    let node = Node::connect(world, row).await?;
    let examine = async { Ok::<_, Error>((node.examine().await?, node.guests().await?)) };
    let (look, guests) = tokio::time::timeout(LIMIT, examine).await.map_err(|_elapsed| {
        let text = format!("The node did not say within {} s how it is.", LIMIT.as_secs());
        Error::refused(Code::NodeUnknown, text)
    })??;
    let tx = world.db.system().await?;
    servers::record_node(&tx, row.id, look.capacity, &look.health()).await?;
    tx.commit().await?;
    let tx = world.db.system().await?;
    let pods = record::pods_on(&tx, row.id).await?;
    drop(tx);
    let mut found = Vec::new();
    let by_vmid: BTreeMap<i64, &cloudpod::Model> =
        pods.iter().filter_map(|pod| Some((pod.vmid?, pod))).collect();
    for guest in guests.iter().filter(|guest| guest.node == node.row.name) {
        if !by_vmid.contains_key(&i64::from(guest.vmid)) {
            let looked = stranger(world, &node, row, guest).await;
            found.extend(told(looked, guest.vmid, None)?);
        }
    }
    for pod in &pods {
        let looked = compare(world, &node, pod, &guests).await;
        found.extend(told(looked, cloudpods::vmid(pod)?, Some(pod.id))?);
    }
    let tx = world.db.system().await?;
    findings::record(&tx, row.id, &found).await?;
    tx.commit().await?;
    remove_left(world, node, row.id).await
}

/// Removes the backups of pods that went while this node did not answer. That it does not give one up
/// says nothing of its health: that one is tried again at the next look.
async fn remove_left(world: &World, mut node: Node, server: ServerId) -> Result<()> {
    node.limit = node.limit.min(REMOVAL);
    let tx = world.db.system().await?;
    let left = record::left_on(&tx, server).await?;
    drop(tx);
    for backup in left {
        if let Some(volume) = &backup.volume {
            if let Err(error) = free(&node, &VolumeId::parse(volume)?).await {
                tracing::warn!(%volume, cause = %error.chain(), "pods.backup_not_removed");
                continue;
            }
            tracing::info!(%volume, server = %node.row.name, "pods.backup_removed");
        }
        let tx = world.db.system().await?;
        record::forget_left(&tx, backup.id).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// What was found of one guest. That its node refuses something of it is a finding, too, and keeps nobody
/// from looking at the others.
fn told<T: IntoIterator<Item = Found>>(
    looked: Result<T>,
    vmid: Vmid,
    cloudpod: Option<CloudpodId>,
) -> Result<Vec<Found>> {
    match looked {
        Ok(found) => Ok(found.into_iter().collect()),
        Err(error) if [Code::NodeRefused, Code::NodeUnknown].contains(&error.code()) => {
            Ok(vec![Found {
                kind: Kind::Drift,
                vmid,
                what: "refused",
                cloudpod,
                detail: error.to_string(),
                repair: "It could not be repaired: look at the container on its node.".to_owned(),
            }])
        }
        Err(error) => Err(error),
    }
}

/// A guest that no pod of this node is. One with the mark of a pod of ours that is gone, or that is
/// elsewhere by now, is an orphan, and is removed when nothing can still be done for it; others are
/// only told apart, so that their numbers are never given.
async fn stranger(
    world: &World,
    node: &Node,
    row: &server::Model,
    guest: &Guest,
) -> Result<Option<Found>> {
    let container = match guest.is_container {
        true => node.look(guest.vmid).await?,
        false => None,
    };
    let tag = world.dns.tag().await?.to_owned();
    let mark = container.as_ref().and_then(|c| c.mark.clone()).filter(|mark| mark.tag == tag);
    let tx = world.db.system().await?;
    let Some(mark) = mark else {
        let place = (node.row.cluster.as_str(), guest.vmid);
        if !record::is_vmid_ours(&tx, &node.row.cluster, guest.vmid).await? {
            record::record_guest(&tx, place, row.id, guest.name.as_deref()).await?;
            tx.commit().await?;
            return Ok(None);
        }
        let name = guest.name.clone().unwrap_or_default();
        return Ok(Some(Found {
            kind: Kind::Orphan,
            vmid: guest.vmid,
            what: "container",
            cloudpod: None,
            detail: format!("A guest {name} has a number that was ours, and is not ours."),
            repair: "It is left alone: somebody else made it.".to_owned(),
        }));
    };
    let pod = match cloudpods::load_pod(&tx, mark.pod).await {
        Ok(pod) => pod,
        Err(Error::NotFound(_)) => return Ok(Some(unknown_mark(guest))),
        Err(error) => return Err(error),
    };
    let is_working = record::is_at_work(&tx, &pod).await?;
    drop(tx);
    if is_working {
        return Ok(None);
    }
    if pod.vmid == Some(i64::from(guest.vmid)) && pod.status != Status::Deleted {
        // The pod may have got this very number on this very node since the rows were read.
        return match pod.server_id == Some(row.id) || container.is_none_or(|c| c.lock.is_some()) {
            true => Ok(None),
            false => adopt(world, node, &pod).await,
        };
    }
    let tx = world.db.system().await?;
    let place = (node.row.cluster.as_str(), guest.vmid);
    if !record::had_vmid(&tx, place, pod.id).await? {
        record::record_guest(&tx, place, row.id, guest.name.as_deref()).await?;
        tx.commit().await?;
        return Ok(Some(copy_of(guest, &pod)));
    }
    if record::was_handed_over(&tx, mark.job).await? {
        return Ok(Some(revenant(guest, &pod)));
    }
    drop(tx);
    remove_orphan(node, guest, &mark).await?;
    Ok(Some(Found {
        kind: Kind::Orphan,
        vmid: guest.vmid,
        what: "container",
        cloudpod: Some(pod.id),
        detail: format!(
            "A container of the CloudPod {}, which is {} and has not this number.",
            pod.id,
            pod.status.as_str()
        ),
        repair: "It was left by an attempt of ours that came to nothing: it was removed."
            .to_owned(),
    }))
}

/// A pod's container that somebody has moved to another node of its cluster is there from now on: of one
/// number a cluster has one guest.
async fn adopt(world: &World, node: &Node, pod: &cloudpod::Model) -> Result<Option<Found>> {
    let Some(home) = pod.server_id.filter(|_| pod.cluster.as_ref() == Some(&node.row.cluster))
    else {
        return Ok(None);
    };
    let tx = world.db.system().await?;
    let home = servers::find_node(&tx, home).await?;
    drop(tx);
    let members = node.members().await?;
    let Some(home) = home.filter(|home| members.contains(&home.name)) else { return Ok(None) };
    let tx = world.db.system().await?;
    let here = (node.row.server_id, node.row.name.as_str());
    if !pod.status.is_made() || !record::record_moved(&tx, pod, here).await? {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(Found {
        kind: Kind::Drift,
        vmid: cloudpods::vmid(pod)?,
        what: "node",
        cloudpod: Some(pod.id),
        detail: format!("It was on {}, and somebody has moved it here.", home.name),
        repair: "It is taken as being here.".to_owned(),
    }))
}

fn unknown_mark(guest: &Guest) -> Found {
    Found {
        kind: Kind::Orphan,
        vmid: guest.vmid,
        what: "container",
        cloudpod: None,
        detail: "It has our mark, with a CloudPod that there never was.".to_owned(),
        repair: "It is left alone: look who made it, and remove it by hand.".to_owned(),
    }
}

/// A copy that somebody has made of a container carries its mark, too.
fn copy_of(guest: &Guest, pod: &cloudpod::Model) -> Found {
    Found {
        kind: Kind::Orphan,
        vmid: guest.vmid,
        what: "copy",
        cloudpod: Some(pod.id),
        detail: format!("It has the mark of the CloudPod {}, which never had this number.", pod.id),
        repair: "It is left alone: somebody has restored or cloned it. Take the mark out of its description."
            .to_owned(),
    }
}

/// A container as its pod had it, whose end we have seen: somebody has brought it back.
fn revenant(guest: &Guest, pod: &cloudpod::Model) -> Found {
    Found {
        kind: Kind::Orphan,
        vmid: guest.vmid,
        what: "container",
        cloudpod: Some(pod.id),
        detail: format!(
            "It is as the CloudPod {} had it, which is {} and has not this number any more.",
            pod.id,
            pod.status.as_str()
        ),
        repair: "It is left alone, since somebody's data may be in it: remove it by hand, or take the mark out of its description."
            .to_owned(),
    }
}

async fn remove_orphan(node: &Node, guest: &Guest, mark: &Mark) -> Result<()> {
    let is_same =
        |container: &Container| container.mark.as_ref() == Some(mark) && container.lock.is_none();
    if !node.look(guest.vmid).await?.as_ref().is_some_and(is_same) {
        return Ok(());
    }
    if node.current(guest.vmid).await?.power == Power::Running {
        node.run(&commands::stop(guest.vmid), b"").await?;
    }
    node.run(&commands::destroy(guest.vmid), b"").await.map(|_said| ())
}

/// A pod against its container; what is written of its state, and what differs.
async fn compare(
    world: &World,
    node: &Node,
    pod: &cloudpod::Model,
    guests: &[Guest],
) -> Result<Vec<Found>> {
    let tx = world.db.system().await?;
    let pod = cloudpods::load_pod(&tx, pod.id).await?;
    let is_here = pod.server_id == Some(node.row.server_id);
    if record::is_at_work(&tx, &pod).await? || !pod.status.is_made() || !is_here {
        return Ok(Vec::new());
    }
    let was_renewed = record::was_renewed(&tx, pod.id, node.row.server_id).await?;
    drop(tx);
    let vmid = cloudpods::vmid(&pod)?;
    let difference = |kind, what, detail: String, repair: &str| Found {
        kind,
        vmid,
        what,
        cloudpod: Some(pod.id),
        detail,
        repair: repair.to_owned(),
    };
    let Some(container) = node.look(vmid).await? else {
        let elsewhere = guests.iter().find(|guest| guest.vmid == vmid);
        if !is_missing(world, &pod).await? {
            return Ok(Vec::new());
        }
        let detail = match elsewhere {
            Some(guest) => format!("Its container is on {}, not on {}.", guest.node, node.row.name),
            None => "It was sold, and its node has no container of it.".to_owned(),
        };
        let repair =
            "Restore a backup of it, or reinstall it; if it was moved by hand, move it back.";
        return Ok(vec![difference(Kind::Ghost, "container", detail, repair)]);
    };
    if was_renewed && container.is_torso() {
        if !is_missing(world, &pod).await? {
            return Ok(Vec::new());
        }
        let detail = "A restore or a new installation of it has ended half-way.".to_owned();
        let repair = "Restore a backup of it, or reinstall it.";
        return Ok(vec![difference(Kind::Ghost, "container", detail, repair)]);
    }
    if container.mark.as_ref().is_none_or(|mark| mark.pod != pod.id) {
        let detail = "Its container has lost its mark, or is another's.".to_owned();
        let repair =
            "Nothing is done with it: look who changed its description, and put the mark back.";
        return Ok(vec![difference(Kind::Drift, "mark", detail, repair)]);
    }
    observe(world, node, &pod, &container).await?;
    let tx = world.db.system().await?;
    let pod = cloudpods::load_pod(&tx, pod.id).await?;
    drop(tx);
    let mut found = Vec::new();
    if container.lock.is_some() {
        return Ok(found);
    }
    found.extend(sizes(world, node, &pod, (&container, vmid)).await?);
    found.extend(addresses(world, node, &pod, (&container, vmid)).await?);
    if guard_again(world, node, &pod, vmid).await? {
        let detail = "It could have used addresses that are not its own.".to_owned();
        found.push(difference(Kind::Drift, "guard", detail, "Its guard was set back."));
    }
    if pod.status == Status::Suspended {
        found.extend(stop_suspended(world, node, &pod, vmid).await?);
    } else if !container.starts_with_node
        && repair(world, node, &pod, &commands::onboot(vmid, true)).await?
    {
        let detail = "It would not have started with its node.".to_owned();
        found.push(difference(Kind::Drift, "onboot", detail, "It was set back."));
    }
    Ok(found)
}

/// Writes down that a pod has no container; not when it was otherwise by now.
async fn is_missing(world: &World, pod: &cloudpod::Model) -> Result<bool> {
    let tx = world.db.system().await?;
    let is_missing = record::record_missing(&tx, pod).await?;
    tx.commit().await?;
    Ok(is_missing)
}

/// A container that is smaller or larger than what was sold gets its cores and memory back.
async fn sizes(
    world: &World,
    node: &Node,
    pod: &cloudpod::Model,
    (container, vmid): (&Container, Vmid),
) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let difference = |what, detail: String, repair: &str| Found {
        kind: Kind::Drift,
        vmid,
        what,
        cloudpod: Some(pod.id),
        detail,
        repair: repair.to_owned(),
    };
    let size = Size::of(pod)?;
    for (what, has, shall) in [
        ("cpu_cores", container.cpu_cores, size.cpu_cores),
        ("memory_mib", container.memory_mib, size.memory_mib),
    ] {
        if has != Some(shall) {
            let memory = Mebibytes(size.memory_mib);
            let command = commands::set_size(vmid, size.cpu_cores, memory);
            if !repair(world, node, pod, &command).await? {
                return Ok(found);
            }
            let detail = format!(
                "It had {} instead of {shall}.",
                has.map_or_else(|| "none".to_owned(), |n| n.to_string())
            );
            found.push(difference(what, detail, "It was set back."));
        }
    }
    if container.disk_mib != Some(size.disk_mib) {
        let has = container.disk_mib.unwrap_or(0);
        let detail = format!("Its disk has {has} MiB, and {} were sold.", size.disk_mib);
        found.push(difference(
            "disk_mib",
            detail,
            "Disks are not changed by themselves: resize it, or leave it.",
        ));
    }
    Ok(found)
}

/// Repairs a container while nobody can begin anything with its pod; whether the pod was still as it was
/// when it was looked at.
async fn repair(
    world: &World,
    node: &Node,
    pod: &cloudpod::Model,
    command: &RemoteCommand,
) -> Result<bool> {
    let tx = world.db.system().await?;
    if record::hold(&tx, pod).await?.is_none() {
        return Ok(false);
    }
    node.run_soon(command).await?;
    tx.commit().await?;
    Ok(true)
}

/// A suspended container that somebody has started is stopped again, by a job.
async fn stop_suspended(
    world: &World,
    node: &Node,
    pod: &cloudpod::Model,
    vmid: Vmid,
) -> Result<Option<Found>> {
    if node.current(vmid).await?.power != Power::Running {
        return Ok(None);
    }
    let tx = world.db.system().await?;
    if !cloudpods::converge::stop_again(&tx, pod.id).await? {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(Found {
        kind: Kind::Drift,
        vmid,
        what: "power",
        cloudpod: Some(pod.id),
        detail: "It is suspended, and ran.".to_owned(),
        repair: "It is stopped.".to_owned(),
    }))
}

/// A container that could use others' addresses is kept from that again; whether it was so.
async fn guard_again(
    world: &World,
    node: &Node,
    pod: &cloudpod::Model,
    vmid: Vmid,
) -> Result<bool> {
    if node.is_guarded(vmid).await? {
        return Ok(false);
    }
    let path = ApiPath::container(&node.name, vmid).part("firewall").part("options");
    repair(world, node, pod, &commands::guard(&path)).await
}

/// A container that has other addresses than its own gets its own back.
async fn addresses(
    world: &World,
    node: &Node,
    pod: &cloudpod::Model,
    (container, vmid): (&Container, Vmid),
) -> Result<Option<Found>> {
    let tx = world.db.system().await?;
    let place = placement::of_pod(&tx, pod.id).await?;
    let place = place.ok_or_else(|| Error::internal("a pod without a place"))?;
    let held = pools::held_by(&tx, place.id).await?;
    drop(tx);
    let parts: Vec<&str> = container.network.split(',').collect();
    let has = |held: &pools::Held| {
        let name = if held.address.addr().is_ipv4() { "ip" } else { "ip6" };
        parts.contains(&format!("{name}={}", held.address).as_str())
    };
    let bridge = BridgeName::parse(&node.row.bridge)?;
    let on_bridge = format!("bridge={bridge}");
    if held.iter().all(has) && parts.contains(&"firewall=1") && parts.contains(&on_bridge.as_str())
    {
        return Ok(None);
    }
    let network = Network { bridge: &bridge, addresses: &held, pod: pod.id };
    if !repair(world, node, pod, &commands::set_network(vmid, &network)).await? {
        return Ok(None);
    }
    Ok(Some(Found {
        kind: Kind::Drift,
        vmid,
        what: "address",
        cloudpod: Some(pod.id),
        detail: format!("Its network was {}.", container.network),
        repair: "It was set back; it counts from the container's next start on, where the node cannot do it at once.".to_owned(),
    }))
}

/// Writes down how a container is, and counts its traffic.
async fn observe(
    world: &World,
    node: &Node,
    pod: &cloudpod::Model,
    container: &Container,
) -> Result<()> {
    let now = node.current(cloudpods::vmid(pod)?).await?;
    let seen = Seen {
        power: now.power,
        cpu_cores: container.cpu_cores,
        memory_mib: container.memory_mib,
        disk_mib: container.disk_mib,
        uptime_secs: now.uptime_secs,
    };
    let tx = world.db.system().await?;
    record::record_seen(&tx, pod, &seen).await?;
    if now.power == Power::Running {
        traffic::count(&tx, pod.id, now.counters).await?;
    }
    tx.commit().await
}
