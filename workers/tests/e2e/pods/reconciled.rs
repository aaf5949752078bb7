//! What the nodes have against what was sold.

use super::bed::Bed;
use crate::gates::Database;
use entities::cloudpods::{Desired, Status};
use workers::reconcile;

#[tokio::test]
async fn orphans_ghosts_and_drift_are_found_and_what_is_safe_is_repaired() {
    let bed = Bed::open("drift", 1).await;
    let node = &bed.nodes[0];
    let pod = bed.make("steady").await;
    let vmid = pod.vmid.unwrap();
    let findings = || {
        bed.sql("SELECT kind || ' ' || what || ' ' || vmid FROM finding WHERE ended_at IS NULL ORDER BY 1")
    };
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(findings(), "");

    // Somebody changes its size and address on the node, and shuts it down from inside.
    node.sh(&format!("pct set {vmid} --memory 1024; pct stop {vmid}"));
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(findings(), format!("drift memory_mib {vmid}\n"));
    assert!(node.sh(&format!("pct config {vmid}")).contains("memory: 512"));
    assert_eq!(bed.pod(pod.id).await.status, Status::Stopped);
    node.sh(&format!("pct start {vmid}"));
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!((findings(), bed.pod(pod.id).await.status), (String::new(), Status::Active));

    // Its guard, and where it is connected.
    let options = format!("/nodes/{}/lxc/{vmid}/firewall/options", node.get("PVE_NODE"));
    node.sh(&format!("pvesh set {options} --ipfilter 0"));
    let network = node.sh(&format!("pct config {vmid} | grep ^net0 | cut -d' ' -f2"));
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(findings(), format!("drift guard {vmid}\n"));
    let guard = node.sh(&format!("pvesh get {options} --output-format json"));
    let guard: serde_json::Value = serde_json::from_str(&guard).unwrap();
    assert!(guard["ipfilter"] == 1 || guard["ipfilter"] == "1", "{guard}");
    let bridge = node.get("PVE_BRIDGE");
    let astray = network.trim().replace(&format!("bridge={bridge}"), "bridge=vmbr9");
    node.sh(&format!("ip link add vmbr9 type bridge; pct set {vmid} --net0 '{astray}'"));
    assert!(node.sh(&format!("pct config {vmid}")).contains("vmbr9"));
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(findings(), format!("drift address {vmid}\n"));
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(findings(), "");
    assert!(node.sh(&format!("pct config {vmid}")).contains(&format!("bridge={bridge}")));

    // Theirs is left alone; of ours only what was never anybody's is removed.
    let template = node.get("PVE_TEMPLATE");
    let make = |vmid: i64, description: &str| {
        node.sh(&format!("pct create {vmid} {template} --hostname x --rootfs local-lvm:1 --description '{description}'"));
    };
    make(200, "the web server of Bob");
    let other = bed.make("short").await;
    let config =
        node.sh(&format!("pct config {} | grep ^description | cut -d' ' -f2", other.vmid.unwrap()));
    let mark = config.trim().replace("%3A", ":").replace("%0A", "");
    bed.want(other.id, Desired::Deleted).await;
    make(other.vmid.unwrap(), &mark);
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(node.vmids(), [200, vmid, other.vmid.unwrap()].into(), "somebody brought it back");
    assert_eq!(findings(), format!("orphan container {}\n", other.vmid.unwrap()));
    // As if its making had come to nothing, and its container after all.
    bed.sql(&format!(
        "UPDATE job SET state = 'failed' WHERE phase = 'provision' AND subject = 'cloudpod:{}'",
        other.id
    ));
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(node.vmids(), [200, vmid].into());
    assert_eq!(findings(), format!("orphan container {}\n", other.vmid.unwrap()));
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(findings(), "");

    // Two who look at once tell it once.
    node.sh(&format!("pct set {vmid} --memory 1024"));
    let look = || reconcile::look_at_all(&bed.world);
    let looked = tokio::join!(look(), look(), look(), look());
    assert!(looked.0.is_ok() && looked.1.is_ok() && looked.2.is_ok() && looked.3.is_ok());
    assert_eq!(bed.sql_count("server WHERE last_error IS NOT NULL"), 0);
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(findings(), "");

    // Sold, and not there.
    node.sh(&format!("pct stop {vmid}; pct destroy {vmid}"));
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(findings(), format!("ghost container {vmid}\n"));
    assert_eq!(bed.want(pod.id, Desired::Deleted).await.status, Status::Deleted);
    bed.end().await;
}
