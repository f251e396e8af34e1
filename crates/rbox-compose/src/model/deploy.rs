//! `deploy`, and requests for devices.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::duration::{bytes, maybe, of};

/// `deploy`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Deploy {
    /// `replicated`, `global`, …
    pub mode: String,
    /// How many containers.
    pub replicas: Option<i64>,
    /// Labels of the service, not of its containers.
    pub labels: BTreeMap<String, String>,
    /// How containers are replaced.
    pub update_config: Option<Update>,
    /// How that is undone.
    pub rollback_config: Option<Update>,
    /// Limits and reservations.
    pub resources: Resources,
    /// When containers are started again.
    pub restart_policy: Option<RestartPolicy>,
    /// On which nodes.
    pub placement: Placement,
    /// `vip` or `dnsrr`.
    pub endpoint_mode: String,
}

/// How containers are replaced.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Update {
    /// How many at once.
    pub parallelism: Option<i64>,
    /// The time between them.
    #[serde(deserialize_with = "of")]
    pub delay: Duration,
    /// `continue`, `rollback` or `pause`.
    pub failure_action: String,
    /// How long each is watched.
    #[serde(deserialize_with = "of")]
    pub monitor: Duration,
    /// From 0 to 1.
    pub max_failure_ratio: f64,
    /// `start-first` or `stop-first`.
    pub order: String,
}

/// Limits and reservations.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// The most.
    pub limits: Option<Resource>,
    /// What is kept free.
    pub reservations: Option<Resource>,
}

/// An amount of resources; 0 is none given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// Processors.
    pub cpus: f64,
    /// Bytes.
    #[serde(deserialize_with = "bytes")]
    pub memory: u64,
    /// Processes.
    pub pids: i64,
    /// Devices.
    pub devices: Vec<DeviceRequest>,
    /// Others.
    pub generic_resources: Vec<GenericResource>,
}

/// A request for devices, such as GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// What they can do.
    pub capabilities: Vec<String>,
    /// Whose they are.
    pub driver: String,
    /// How many; -1 is all.
    pub count: i64,
    /// Which.
    pub device_ids: Vec<String>,
    /// For the driver.
    pub options: BTreeMap<String, String>,
}

/// A resource that the user defined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GenericResource {
    /// Its kind and amount.
    pub discrete_resource_spec: Option<DiscreteResource>,
}

/// A kind and an amount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DiscreteResource {
    /// Such as SSD.
    pub kind: String,
    /// How many.
    pub value: i64,
}

/// When containers are started again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// `none`, `on-failure` or `any`.
    pub condition: String,
    /// The time before it.
    #[serde(deserialize_with = "maybe")]
    pub delay: Option<Duration>,
    /// How often at most.
    pub max_attempts: Option<i64>,
    /// How long it must have run.
    #[serde(deserialize_with = "maybe")]
    pub window: Option<Duration>,
}

/// On which nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// Such as `node.role==manager`.
    pub constraints: Vec<String>,
    /// What to spread over.
    pub preferences: Vec<Preference>,
    /// At most so many on one node.
    pub max_replicas_per_node: i64,
}

/// What to spread over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Preference {
    /// A label of nodes.
    pub spread: String,
}
