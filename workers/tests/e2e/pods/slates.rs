//! What the nodes have, all of it, to be compared with what they had before.

use super::bed::Bed;
use crate::gates::Database;
use entities::tables::cloudpod;
use std::collections::BTreeSet;

/// What a node can be asked of, and what lies where its tools, its containers and we put things.
const NODE: &str = r"
pct list | tail -n +2 | awk '{print $1, $2}' | while read -r id power; do
    echo container $id $power
    pct config $id | sed s/^/$id' '/
    pct listsnapshot $id | grep -v 'You are here' | awk '{print $2}' | sed s/^/$id' snapshot '/
done
for storage in local local-lvm; do pvesm list $storage | tail -n +2; done
find /var/lib/pve-sandbox/local-lvm /var/lib/vz/dump /run/migrapanel /etc/pve/firewall /etc/pve/nodes \
    ! -type d ! -name '*.log' 2>/dev/null || true
grep -r . /etc/pve/firewall || true
ls /sys/class/net | grep -i ^veth || true
awk '{print $2}' /proc/mounts | grep -E '[0-9]{4,}' || true
";

impl Bed {
    /// All of all nodes: containers with their power, configuration and snapshots, volumes, backups,
    /// firewalls, cards, mounts, and files of ours.
    pub fn host_slate(&self) -> BTreeSet<String> {
        let of_node = |node: &super::bed::Node| {
            let lines = node.sh(NODE);
            let name = node.get("PVE_NODE").to_owned();
            lines.lines().map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(of_node).collect()
    }

    /// Ends the test unless everything is as it was: all rows, and all of the nodes.
    #[track_caller]
    pub fn assert_as_before(&self, before: &(BTreeSet<String>, BTreeSet<String>), what: &str) {
        self.assert_sound(what);
        assert_same(&before.0, &self.slate(), what);
        assert_same(&before.1, &self.host_slate(), what);
    }

    /// The node that a pod is on.
    pub fn node_of(&self, pod: &cloudpod::Model) -> &super::bed::Node {
        let nth = self.servers.iter().position(|id| Some(*id) == pod.server_id).unwrap();
        &self.nodes[nth]
    }

    /// Both slates.
    pub fn slates(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.slate(), self.host_slate())
    }

    /// Ends the test unless no number and no address is anybody else's, each pod has one place that is
    /// where it is, and no undo has failed.
    #[track_caller]
    pub fn assert_sound(&self, what: &str) {
        let odd = self.sql(
            "SELECT 'number ' || vmid FROM placement WHERE released_at IS NULL AND vmid IS NOT NULL
                GROUP BY cluster, vmid HAVING count(*) > 1
             UNION ALL SELECT 'address ' || address FROM ip_address GROUP BY address HAVING count(*) > 1
             UNION ALL SELECT 'place ' || p.id FROM cloudpod p WHERE p.status NOT IN ('deleted', 'pending', 'failed')
                AND (SELECT count(*) FROM placement l WHERE l.cloudpod_id = p.id AND l.released_at IS NULL
                    AND l.server_id = p.server_id AND l.vmid = p.vmid) <> 1
             UNION ALL SELECT 'places ' || p.id FROM cloudpod p WHERE
                (SELECT count(*) FROM placement l WHERE l.cloudpod_id = p.id AND l.released_at IS NULL) > 1
             UNION ALL SELECT 'undo ' || name FROM job_step WHERE state = 'undo_failed'
             UNION ALL SELECT 'job ' || id FROM job WHERE state IN ('queued', 'running', 'unwinding')",
        );
        assert_eq!(odd, "", "{what}");
    }

    /// Ends the test unless these pods run, one container each, and nothing else is there.
    #[track_caller]
    pub fn assert_only(&self, pods: &[&cloudpod::Model], what: &str) {
        self.assert_sound(what);
        let mut shall: Vec<String> = Vec::new();
        for pod in pods {
            let node = self.node_of(pod).get("PVE_NODE");
            shall.push(format!("{node}: container {} running", pod.vmid.unwrap()));
        }
        shall.sort();
        let host = self.host_slate();
        let is: Vec<String> =
            host.iter().filter(|line| line.contains(": container ")).cloned().collect();
        assert_eq!(is, shall, "{what}");
        let keys: Vec<&String> = host.iter().filter(|l| l.contains("/run/migrapanel")).collect();
        assert!(keys.is_empty(), "{what}: {keys:?}");
    }
}

/// Ends the test with what is in one and not in the other.
#[track_caller]
pub fn assert_same(before: &BTreeSet<String>, now: &BTreeSet<String>, what: &str) {
    let gone: Vec<_> = before.difference(now).collect();
    let new: Vec<_> = now.difference(before).collect();
    assert!(gone.is_empty() && new.is_empty(), "{what}: gone {gone:#?}, new {new:#?}");
}
