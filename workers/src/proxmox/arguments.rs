//! Arguments of Proxmox VE's tools: each is made of checked values only.

use crate::ssh::Argument;
use entities::cloudpods::create::PodName;
use entities::cloudpods::pools::Held;
use entities::ids::CloudpodId;
use entities::values::{
    ArchiveName, BridgeName, NodeName, SnapshotName, StorageId, Vmid, VolumeId,
};
use std::borrow::Cow;
use std::fmt::Write;

macro_rules! arguments {
    ($($kind:ty),+) => {$(
        impl Argument for $kind {
            fn text(&self) -> Cow<'_, str> {
                self.as_str().into()
            }
        }
    )+};
}
arguments!(ArchiveName, BridgeName, NodeName, PodName, SnapshotName, StorageId, VolumeId);

impl Argument for Vmid {
    fn text(&self) -> Cow<'_, str> {
        self.to_string().into()
    }
}

impl Argument for u32 {
    fn text(&self) -> Cow<'_, str> {
        self.to_string().into()
    }
}

/// A path of the API, of literals and checked values.
#[derive(Debug, Clone, Default)]
pub struct ApiPath(String);

impl ApiPath {
    /// The root.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a part that stands in this code.
    #[must_use]
    pub fn part(mut self, part: &'static str) -> Self {
        self.0.push('/');
        self.0.push_str(part);
        self
    }

    /// With a checked value.
    #[must_use]
    pub fn value(mut self, value: &impl Argument) -> Self {
        self.0.push('/');
        self.0.push_str(&value.text());
        self
    }

    /// `/nodes/NODE/lxc/VMID`.
    #[must_use]
    pub fn container(node: &NodeName, vmid: Vmid) -> Self {
        Self::new().part("nodes").value(node).part("lxc").value(&vmid)
    }
}

impl Argument for ApiPath {
    fn text(&self) -> Cow<'_, str> {
        self.0.as_str().into()
    }
}

/// A size of memory or disk.
#[derive(Debug, Clone, Copy)]
pub struct Mebibytes(pub u32);

impl Argument for Mebibytes {
    fn text(&self) -> Cow<'_, str> {
        self.0.to_string().into()
    }
}

/// A disk's new size, for `pct resize`.
#[derive(Debug, Clone, Copy)]
pub struct Disk(pub u32);

impl Argument for Disk {
    fn text(&self) -> Cow<'_, str> {
        format!("{}M", self.0).into()
    }
}

/// A root file system that is to be made, `STORAGE:GIBIBYTES`.
#[derive(Debug, Clone)]
pub struct Volume {
    pub storage: StorageId,
    pub mebibytes: u32,
}

impl Argument for Volume {
    fn text(&self) -> Cow<'_, str> {
        let (whole, rest) = (self.mebibytes / 1024, self.mebibytes % 1024);
        if rest == 0 {
            return format!("{}:{whole}", self.storage).into();
        }
        // Thousandths, rounded up, so that it is never smaller than what was sold.
        let part = (rest * 1000).div_ceil(1024);
        let (whole, part) = if part == 1000 { (whole + 1, 0) } else { (whole, part) };
        format!("{}:{whole}.{part:03}", self.storage).into()
    }
}

/// A container's one network interface.
#[derive(Debug, Clone)]
pub struct Network<'a> {
    pub bridge: &'a BridgeName,
    pub addresses: &'a [Held],
    /// Whose it is: its card's address comes from that, or each change would give it another.
    pub pod: CloudpodId,
}

impl Network<'_> {
    /// A locally administered address (IEEE 802, second bit of the first octet) of the pod's own
    /// random bits.
    fn card(&self) -> String {
        let [.., a, b, c, d, e] = self.pod.0.into_bytes();
        format!("02:{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}")
    }
}

impl Argument for Network<'_> {
    fn text(&self) -> Cow<'_, str> {
        let card = self.card();
        let mut text =
            format!("name=eth0,bridge={},firewall=1,hwaddr={card},type=veth", self.bridge);
        for held in self.addresses {
            let (ip, gw) = match held.address.addr().is_ipv4() {
                true => ("ip", "gw"),
                false => ("ip6", "gw6"),
            };
            let written = write!(text, ",{ip}={},{gw}={}", held.address, held.gateway);
            debug_assert!(written.is_ok(), "a String takes all");
        }
        text.into()
    }
}

/// A container's description.
#[derive(Debug, Clone)]
pub struct Description(pub(super) String);

impl Argument for Description {
    fn text(&self) -> Cow<'_, str> {
        self.0.as_str().into()
    }
}

/// A file for a container's keys, on its node.
#[derive(Debug, Clone, Copy)]
pub struct KeysFile(pub Vmid);

impl Argument for KeysFile {
    fn text(&self) -> Cow<'_, str> {
        format!("/run/migrapanel/keys-{}", self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_never_smaller_than_what_was_sold() {
        let volume = |mebibytes| {
            Volume { storage: StorageId::parse("local-lvm").unwrap(), mebibytes }
                .text()
                .into_owned()
        };
        assert_eq!(volume(20480), "local-lvm:20");
        assert_eq!(volume(1536), "local-lvm:1.500");
        assert_eq!(volume(1025), "local-lvm:1.001");
        assert_eq!(volume(2047), "local-lvm:2.000");
    }

    #[test]
    fn an_interface_has_the_addresses_that_are_held() {
        let held = |address: &str, gateway: &str| Held {
            address: address.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
        };
        let network = Network {
            bridge: &BridgeName::parse("vmbr0").unwrap(),
            addresses: &[held("192.0.2.5/24", "192.0.2.1"), held("2001:db8::5/64", "2001:db8::1")],
            pod: CloudpodId("01a20744-29a6-77b2-9012-7fcf4743210e".parse().unwrap()),
        };
        assert_eq!(
            network.text(),
            "name=eth0,bridge=vmbr0,firewall=1,hwaddr=02:CF:47:43:21:0E,type=veth,ip=192.0.2.5/24,gw=192.0.2.1,ip6=2001:db8::5/64,gw6=2001:db8::1"
        );
    }
}
