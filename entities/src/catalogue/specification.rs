//! What a product is, in numbers.

use crate::Result;
use crate::catalogue::Kind;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What somebody gets who buys a product. Traffic that is not named is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Specification {
    /// A container of one's own.
    CloudpodPlan {
        cpu_cores: u32,
        memory_mib: u32,
        disk_mib: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traffic_gib: Option<u32>,
        /// What is installed at first: `debian-12`.
        template: String,
        /// Where it may be; by default anywhere, on the least loaded server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        placement: Option<Siting>,
    },
    /// A hosting account.
    HostingPlan {
        disk_mib: u32,
        domains: u32,
        mailboxes: u32,
        databases: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traffic_gib: Option<u32>,
    },
    /// So much more of something that a plan has.
    Addon { raises: Limit, by: u32 },
}

/// Where the containers of a plan are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Siting {
    #[serde(skip_serializing_if = "is_default")]
    pub policy: Policy,
    /// Only on servers of this location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Only on servers with all of these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What is not to be on one server, as long as there is another with room.
    #[serde(skip_serializing_if = "is_default")]
    pub apart: Apart,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which of the servers with room is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The least loaded.
    #[default]
    Spread,
    /// The fullest, so that others stay free.
    Pack,
}

/// What is kept apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Apart {
    /// The containers of one order.
    #[default]
    Order,
    /// All containers of the tenant.
    Tenant,
    No,
}

impl Siting {
    /// Of a plan.
    #[must_use]
    pub fn of(plan: &Specification) -> Self {
        match plan {
            Specification::CloudpodPlan { placement, .. } => placement.clone().unwrap_or_default(),
            _ => Self::default(),
        }
    }

    fn check(&self) -> Result<()> {
        let plain = |text: &str| {
            let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            (1..=63).contains(&text.len()) && text.bytes().all(known)
        };
        let rule = "must be 1 to 63 letters, digits, dots, hyphens and underscores";
        if self.location.as_deref().is_some_and(|location| !plain(location)) {
            return Err(Error::field("specification/placement/location", rule));
        }
        if self.labels.len() > 20 || !self.labels.iter().all(|(k, v)| plain(k) && plain(v)) {
            let rule = format!("at most 20, name and value each {rule}");
            return Err(Error::field("specification/placement/labels", rule));
        }
        Ok(())
    }
}

/// What an add-on gives more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    CpuCores,
    MemoryMib,
    DiskMib,
    TrafficGib,
    Domains,
    Mailboxes,
    Databases,
}

/// The most cores that a machine of ours may have.
pub const CPU_CORES_MAX: u32 = 512;
/// From 128 MiB, below which no Debian starts, to 16 TiB.
pub const MEMORY_MIB: (u32, u32) = (128, 16_777_216);
/// From a gibibyte for a container, or a mebibyte for an account, to a pebibyte.
pub const DISK_MIB_MAX: u32 = 1_073_741_824;
/// The least that a container can be installed on.
pub const POD_DISK_MIB_MIN: u32 = 1024;
/// A gibibyte to a pebibyte in a month.
pub const TRAFFIC_GIB_MAX: u32 = 1_048_576;
/// Of domains, mailboxes and databases.
pub const COUNT_MAX: u32 = 1_000_000;

impl Specification {
    /// The kind of product that it is of.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::CloudpodPlan { .. } => Kind::CloudpodPlan,
            Self::HostingPlan { .. } => Kind::HostingPlan,
            Self::Addon { .. } => Kind::Addon,
        }
    }

    /// A plan's number that an add-on raises; none when the plan has no such number. One that is not
    /// limited stays so.
    fn number(&mut self, limit: Limit) -> Option<Option<&mut u32>> {
        match (self, limit) {
            (Self::CloudpodPlan { cpu_cores, .. }, Limit::CpuCores) => Some(Some(cpu_cores)),
            (Self::CloudpodPlan { memory_mib, .. }, Limit::MemoryMib) => Some(Some(memory_mib)),
            (
                Self::CloudpodPlan { disk_mib, .. } | Self::HostingPlan { disk_mib, .. },
                Limit::DiskMib,
            ) => Some(Some(disk_mib)),
            (
                Self::CloudpodPlan { traffic_gib, .. } | Self::HostingPlan { traffic_gib, .. },
                Limit::TrafficGib,
            ) => Some(traffic_gib.as_mut()),
            (Self::HostingPlan { domains, .. }, Limit::Domains) => Some(Some(domains)),
            (Self::HostingPlan { mailboxes, .. }, Limit::Mailboxes) => Some(Some(mailboxes)),
            (Self::HostingPlan { databases, .. }, Limit::Databases) => Some(Some(databases)),
            _ => None,
        }
    }

    /// Gives a plan so much more of something; whether it has that at all.
    pub fn raise(&mut self, limit: Limit, by: u32) -> bool {
        let Some(number) = self.number(limit) else { return false };
        if let Some(number) = number {
            *number = number.saturating_add(by);
        }
        true
    }

    /// Refuses numbers that nothing can have.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::CloudpodPlan {
                cpu_cores,
                memory_mib,
                disk_mib,
                traffic_gib,
                template,
                placement,
            } => {
                within("cpu_cores", *cpu_cores, (1, CPU_CORES_MAX))?;
                within("memory_mib", *memory_mib, MEMORY_MIB)?;
                within("disk_mib", *disk_mib, (POD_DISK_MIB_MIN, DISK_MIB_MAX))?;
                traffic(*traffic_gib)?;
                placement.as_ref().map_or(Ok(()), Siting::check)?;
                check_template(template)
            }
            Self::HostingPlan { disk_mib, domains, mailboxes, databases, traffic_gib } => {
                within("disk_mib", *disk_mib, (1, DISK_MIB_MAX))?;
                within("domains", *domains, (1, COUNT_MAX))?;
                within("mailboxes", *mailboxes, (0, COUNT_MAX))?;
                within("databases", *databases, (0, COUNT_MAX))?;
                traffic(*traffic_gib)
            }
            Self::Addon { raises, by } => within("by", *by, (1, raises.most())),
        }
    }
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CpuCores,
        Self::MemoryMib,
        Self::DiskMib,
        Self::TrafficGib,
        Self::Domains,
        Self::Mailboxes,
        Self::Databases,
    ];

    /// The most that an add-on gives.
    #[must_use]
    pub fn most(self) -> u32 {
        match self {
            Self::CpuCores => CPU_CORES_MAX,
            Self::MemoryMib => MEMORY_MIB.1,
            Self::DiskMib => DISK_MIB_MAX,
            Self::TrafficGib => TRAFFIC_GIB_MAX,
            Self::Domains | Self::Mailboxes | Self::Databases => COUNT_MAX,
        }
    }
}

fn traffic(gib: Option<u32>) -> Result<()> {
    gib.map_or(Ok(()), |gib| within("traffic_gib", gib, (1, TRAFFIC_GIB_MAX)))
}

fn within(name: &str, value: u32, (least, most): (u32, u32)) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::field(&format!("specification/{name}"), format!("must be {least} to {most}")))
}

fn check_template(name: &str) -> Result<()> {
    match values::TemplateCode::parse(name) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::field("specification/template", error.rule)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Option<Specification> {
        let read: Option<Specification> = serde_json::from_value(value).ok();
        read.filter(|specification| specification.check().is_ok())
    }

    fn changed(value: &Value, name: &str, to: Value) -> Value {
        let mut value = value.clone();
        value[name] = to;
        value
    }

    #[test]
    fn each_kind_has_its_fields_in_their_bounds_and_no_others() {
        let pod = json!({"kind": "cloudpod_plan", "cpu_cores": 2, "memory_mib": 2048, "disk_mib": 20480, "traffic_gib": 1000, "template": "debian-12"});
        let hosting = json!({"kind": "hosting_plan", "disk_mib": 10240, "domains": 5, "mailboxes": 50, "databases": 10});
        let addon = json!({"kind": "addon", "raises": "mailboxes", "by": 10});
        for good in [&pod, &hosting, &addon] {
            let specification = read(good.clone()).unwrap();
            assert_eq!(serde_json::to_value(&specification).unwrap(), *good);
            assert_eq!(serde_json::to_value(specification.kind()).unwrap(), good["kind"]);
            assert_eq!(read(changed(good, "more", json!(1))), None);
            assert_eq!(read(changed(good, "kind", json!("server"))), None);
            for name in good.as_object().unwrap().keys().filter(|name| *name != "traffic_gib") {
                let mut without = good.clone();
                without.as_object_mut().unwrap().remove(name);
                assert_eq!(read(without), None, "without {name}");
                let is_number = good[name].is_number();
                for wrong in [json!(-1), json!(1.5), json!(u32::MAX), json!("1"), json!(null)] {
                    assert!(!is_number || read(changed(good, name, wrong)).is_none(), "{name}");
                }
            }
        }
        for template in ["", "Debian", "../x", "-x", "a b", &"x".repeat(65)] {
            assert_eq!(read(changed(&pod, "template", json!(template))), None, "{template}");
        }
        assert_eq!(read(changed(&addon, "by", json!(0))), None);
        assert_eq!(read(changed(&addon, "by", json!(COUNT_MAX + 1))), None);
        assert_eq!(read(changed(&hosting, "domains", json!(0))), None);
        assert!(read(changed(&hosting, "databases", json!(0))).is_some());
    }
}
