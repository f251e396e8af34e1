//! `rbox network`: making, listing and removing networks, and putting containers on them.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use clap::Parser;
use jiff::Timestamp;
use rbox_engine::error::EngineError;
use rbox_engine::listing::filter::{Filters, NETWORK_KEYS};
use rbox_engine::network::{Error, Network, NewNetwork};
use rbox_engine::spec::Kind;
use rbox_engine::spec::container::Attachment;
use serde_json::{Value, json};

use crate::args::accepted::only;
use crate::args::network_flags::{address, driver_opt, ipv4, ipv6, link};
use crate::args::pruning::{Pruning, say_deleted};
use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, bad_input, report};
use crate::command::global::Global;
use crate::output::lines::say;
use crate::output::table::{self, Format};
use crate::output::template::Headers;
use crate::output::units::created_at;

/// Create a network
#[derive(Debug, Parser)]
#[command(
    name = "create",
    after_help = "Examples:
  rbox network create front
  rbox network create --internal back                    # no default route, no published ports
  rbox network create --subnet 10.5.0.0/16 --gateway 10.5.0.1 --ip-range 10.5.1.0/24 lab
  rbox network create --ipv6 six                         # IPv6 beside IPv4; --subnet fd00:5::/64 to choose it
  rbox network create -o com.docker.network.driver.mtu=1400 vpn"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Create {
    /// Accepted for compatibility with Docker; has no effect
    #[arg(long)]
    attachable: bool,
    /// An address that no container is given: somebody else on the link has it
    #[arg(long, value_name = "NAME=IP")]
    aux_address: Vec<String>,
    /// Driver of the network
    #[arg(short, long, default_value = "bridge", value_name = "DRIVER")]
    driver: String,
    /// Address of the bridge, the containers' default gateway
    #[arg(long, value_name = "IP")]
    gateway: Vec<IpAddr>,
    /// Internal network: no default route, no published ports
    #[arg(long)]
    internal: bool,
    /// Part of the subnet that containers are given addresses of
    #[arg(long, value_name = "SUBNET")]
    ip_range: Vec<String>,
    /// Accepted for compatibility with Docker: default
    #[arg(long, value_name = "DRIVER")]
    ipam_driver: Option<String>,
    /// Accepted for compatibility with Docker: every network has IPv4
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    ipv4: bool,
    /// IPv6 beside IPv4
    #[arg(long)]
    ipv6: bool,
    /// Set a label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Option of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Accepted for compatibility with Docker: local
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// Subnet, such as 10.5.0.0/16; a free one is chosen when none is given
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<String>,
    /// Its name
    #[arg(value_name = "NETWORK")]
    name: String,
}

impl Execute for Create {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        if self.driver != "bridge" {
            return Err(bad_input(format!(
                "network driver {:?} is not supported: rbox has only bridge",
                self.driver
            )));
        }
        only("--ipam-driver", self.ipam_driver.as_deref(), &["default"], "rbox chooses addresses itself")?;
        only("--scope", self.scope.as_deref(), &["local"], "a network is on this host only")?;
        if !self.ipv4 {
            return Err(bad_input("--ipv4=false is not supported: every network has IPv4"));
        }
        let asked = NewNetwork {
            name: self.name,
            subnets: self.subnet,
            gateways: self.gateway,
            ip_ranges: self.ip_range,
            auxiliary: self
                .aux_address
                .iter()
                .map(|text| named_address(text))
                .collect::<anyhow::Result<_>>()?,
            ipv6: self.ipv6,
            internal: self.internal,
            attachable: self.attachable,
            labels: self.label.iter().map(|text| pair(text)).collect(),
            options: options(&self.opt)?,
        };
        let network = global.engine.create_network(&asked);
        say(&network.map_err(as_input)?.id)?;
        Ok(0)
    }
}

/// `NAME=IP`.
fn named_address(text: &str) -> anyhow::Result<(String, IpAddr)> {
    let refused =
        || bad_input(format!("invalid --aux-address {text:?}: it is NAME=IP, such as printer=10.5.0.9"));
    let (name, ip) = text.split_once('=').ok_or_else(refused)?;
    Ok((name.to_owned(), ip.parse().map_err(|_| refused())?))
}

/// IPv6 on a host without it is refused as input is.
fn as_input(error: Error) -> anyhow::Error {
    match error {
        Error::NoIpv6(_) => bad_input(error),
        error => error.into(),
    }
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

fn options(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    given
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => {
                Err(bad_input(format!("invalid argument \"{text}\" for \"--opt\" flag: expected KEY=VALUE")))
            }
        })
        .collect()
}

/// Connect a container to a network
#[derive(Debug, Parser)]
#[command(
    name = "connect",
    after_help = "Examples:
  rbox network connect back web                        # at once, when web runs
  rbox network connect --alias db --ip 10.5.1.9 lab postgres
  rbox network connect --link postgres:db lab web"
)]
pub(crate) struct Connect {
    /// Further name on this network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// The network with the highest priority gives the default route
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    gw_priority: i32,
    /// IPv4 address
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "IP")]
    ip6: Option<String>,
    /// Option for the network's driver (KEY=VALUE), such as com.docker.network.endpoint.ifname=NAME: what the link is called inside
    #[arg(long, value_name = "OPTION")]
    driver_opt: Vec<String>,
    /// Further, link-local address
    #[arg(long, value_name = "IP")]
    link_local_ip: Vec<String>,
    /// Another name for a container, known to this one only
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// The network
    network: String,
    /// The container
    container: String,
}

impl Execute for Connect {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        // Docker's daemon refuses these, also an address that is none, and not its client.
        let refused = |error: anyhow::Error| Coded { message: error.to_string(), code: NOT_DONE };
        let wanted = Attachment {
            network: self.network,
            aliases: self.alias,
            ip: self.ip.as_deref().map(ipv4).transpose().map_err(refused)?,
            ip6: self.ip6.as_deref().map(ipv6).transpose().map_err(refused)?,
            priority: self.gw_priority,
            link_local: self
                .link_local_ip
                .iter()
                .map(|text| address(text))
                .collect::<anyhow::Result<_>>()
                .map_err(refused)?,
            driver_opts: self
                .driver_opt
                .iter()
                .map(|text| driver_opt(text))
                .collect::<anyhow::Result<_>>()?,
            ..Attachment::default()
        };
        let links = self.link.iter().map(|text| link(text)).collect::<anyhow::Result<_>>()?;
        match global.engine.connect(&global.engine.container(&self.container)?, wanted, links) {
            Err(error) if error.kind() == Kind::Invalid => Err(refused(error.into()).into()),
            done => Ok(done.map(|()| 0)?),
        }
    }
}

/// Disconnect a container from a network
#[derive(Debug, Parser)]
#[command(name = "disconnect", after_help = "Examples:\n  rbox network disconnect back web")]
pub(crate) struct Disconnect {
    /// Disconnect even if the link cannot be removed now; it goes when the container ends
    #[arg(short, long)]
    force: bool,
    /// The network
    network: String,
    /// The container
    container: String,
}

impl Execute for Disconnect {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        match global.engine.disconnect(&global.engine.container(&self.container)?, &self.network) {
            Err(EngineError::Network(_)) if self.force => {}
            done => done?,
        }
        Ok(0)
    }
}

/// Remove one or more networks
#[derive(Debug, Parser)]
#[command(name = "rm", after_help = "Examples:\n  rbox network rm front back")]
pub(crate) struct Rm {
    /// Do not fail for networks that are not there
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

impl Execute for Rm {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        // A container whose monitor was killed gives its address back first.
        global.engine.running()?;
        Ok(each(&self.networks, |name| {
            match remove(global, name) {
                Err(Error::NoNetwork(_)) if self.force => return Ok(()),
                other => other?,
            }
            say(name)
        }))
    }
}

fn remove(global: &Global, name: &str) -> Result<(), Error> {
    let network = global.engine.networks().find(name)?;
    global.engine.remove_network(&network)
}

/// Remove all unused networks
#[derive(Debug, Parser)]
#[command(
    name = "prune",
    after_help = "Examples:\n  rbox network prune -f\n  rbox network prune -f --filter until=24h"
)]
pub(crate) struct Prune {
    #[command(flatten)]
    pruning: Pruning,
}

impl Execute for Prune {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = self.pruning.filters(&["until", "label", "label!", "last-used"])?;
        let warning = "WARNING! This will remove all custom networks not used by at least one container.";
        if self.pruning.agreed(warning)? {
            prune(global, &filters)?;
        }
        Ok(0)
    }
}

/// Removes the users' networks that no container is on, running or not, and prints which.
pub(crate) fn prune(global: &Global, filters: &Filters) -> anyhow::Result<()> {
    let pruned = global.engine.prune_networks(filters)?;
    say_deleted("Networks", pruned.names.iter().map(String::as_str))
}

/// Restore the bridges, rules and published ports of all networks
#[derive(Debug, Parser)]
#[command(
    name = "reconcile",
    after_help = "Examples:\n  nft flush ruleset; rbox network reconcile     # running containers are reachable again\n\nEach start does so for its own networks."
)]
pub(crate) struct Reconcile {}

impl Execute for Reconcile {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        global.engine.running()?;
        match global.engine.reconcile_networks() {
            Ok(()) => Ok(0),
            Err(errors) => {
                for error in errors {
                    report(&error.into());
                }
                Ok(NOT_DONE)
            }
        }
    }
}

/// List networks
#[derive(Debug, Parser)]
#[command(
    name = "ls",
    after_help = "Examples:\n  rbox network ls\n  rbox network ls -q --filter driver=bridge\n\nFilters: dangling, driver, id, label, name, scope, type."
)]
pub(crate) struct Ls {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

impl Execute for Ls {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = Filters::parse(&self.filter, NETWORK_KEYS)?;
        for error in global.engine.networks().damaged()? {
            let why = crate::command::error::message(&anyhow::Error::from(error));
            let line = format!(
                "rbox: warning: a network's record is damaged: {}\n",
                crate::output::escape::text(&why)
            );
            crate::output::table::write_all(&mut std::io::stderr(), &line)?;
        }
        let mut networks = global.engine.networks().list()?;
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        let kind = |network: &Network| if network.is_builtin() { "builtin" } else { "custom" };
        if let Some(other) =
            filters.values("type").iter().find(|kind| !matches!(kind.as_str(), "builtin" | "custom"))
        {
            return Err(bad_input(format!("invalid filter: 'type'='{other}': builtin or custom")));
        }
        let dangling = filters.boolean("dangling")?;
        let used = if dangling.is_some() { global.engine.networks_in_use()? } else { HashSet::new() };
        networks.retain(|network| {
            filters.equals("type", kind(network))
                && dangling
                    .is_none_or(|wanted| wanted != (network.is_builtin() || used.contains(&network.id)))
                && filters.matches("name", &network.name)
                && filters.matches("id", &network.id)
                && filters.equals("driver", &network.driver)
                && filters.equals("scope", network.scope())
                && filters.labels(&network.labels)
        });
        let row = |network: &Network| -> Value {
            let labels: Vec<String> =
                network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let id: String = network.id.chars().take(if self.no_trunc { 64 } else { 12 }).collect();
            json!({
                "CreatedAt": Timestamp::try_from(network.created).map(created_at).unwrap_or_default(),
                "Driver": network.driver,
                "ID": id,
                "IPv4": "true",
                "IPv6": network.subnet6.is_some().to_string(),
                "Internal": network.internal.to_string(),
                "Labels": labels.join(","),
                "Name": network.name,
                "Scope": network.scope(),
            })
        };
        let rows: Vec<Value> = networks.iter().map(row).collect();
        let format = match (self.quiet, &self.format) {
            (true, None) => Format::Template("{{.ID}}".into()),
            (_, given) => Format::parse(given.as_deref(), "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"),
        };
        let headers = Headers::from([
            ("CreatedAt", "CREATED AT"),
            ("Driver", "DRIVER"),
            ("ID", "NETWORK ID"),
            ("IPv4", "IPV4"),
            ("IPv6", "IPV6"),
            ("Internal", "INTERNAL"),
            ("Labels", "LABELS"),
            ("Name", "NAME"),
            ("Scope", "SCOPE"),
        ]);
        table::print(&format, &headers, &rows, &mut std::io::stdout())?;
        Ok(0)
    }
}
