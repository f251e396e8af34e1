//! What services share: networks, volumes, secrets, configs, models.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::extensions::Extensions;

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Its name outside of the project.
    pub name: String,
    /// The driver; empty for the default.
    pub driver: String,
    /// For the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Addresses.
    pub ipam: Ipam,
    /// It is there already and stays.
    pub external: bool,
    /// Without a way out.
    pub internal: bool,
    /// Other containers may join.
    pub attachable: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// With IPv4.
    pub enable_ipv4: Option<bool>,
    /// With IPv6.
    pub enable_ipv6: Option<bool>,
    /// `x-…`.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// How a network gives addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// The driver.
    pub driver: String,
    /// Pools.
    pub config: Vec<IpamPool>,
    /// For the driver.
    pub options: BTreeMap<String, String>,
}

/// A pool of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IpamPool {
    /// In CIDR notation.
    pub subnet: String,
    /// The gateway.
    pub gateway: String,
    /// The part that containers get.
    pub ip_range: String,
    /// Addresses that are taken, by names.
    pub aux_addresses: BTreeMap<String, String>,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its name outside of the project.
    pub name: String,
    /// The driver; empty for the default.
    pub driver: String,
    /// For the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// It is there already and stays.
    pub external: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `x-…`.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// A secret or a config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ExternalFile {
    /// Its name outside of the project.
    pub name: String,
    /// A file of the host, absolute.
    pub file: String,
    /// The variable whose value it is.
    pub environment: String,
    /// What is in it: as written, or the value of that variable. None with a file, and where the variable is not set.
    pub content: Option<String>,
    /// It is there already.
    pub external: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The driver.
    pub driver: String,
    /// For the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// The driver of templates.
    pub template_driver: String,
    /// `x-…`.
    #[serde(flatten)]
    pub extensions: Extensions,
}

/// A model of a language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Model {
    /// Its name outside of the project.
    pub name: String,
    /// Which.
    pub model: String,
    /// Tokens.
    pub context_size: i64,
    /// For its runtime.
    pub runtime_flags: Vec<String>,
}
