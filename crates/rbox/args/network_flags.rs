//! The options of `run` and `create` that are about the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rbox_engine::spec::container::{Attachment, HostConfig, Link, NetworkMode};
use rbox_engine::spec::csv;
use rbox_engine::spec::mac::Mac;
use rbox_engine::spec::port::PortMapping;

use crate::command::error::bad_input;

/// Options of `run` and `create`.
#[derive(Debug, clap::Args)]
#[command(next_display_order = None)]
pub(crate) struct NetworkFlags {
    /// Add a host's name to /etc/hosts (NAME:IP, or NAME:host-gateway)
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Use this name server
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// Option for /etc/resolv.conf
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// IPv4 address on the first network
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// IPv6 address on the first network
    #[arg(long, value_name = "IP")]
    ip6: Option<String>,
    /// Further, link-local address on the first network
    #[arg(long, value_name = "IP")]
    link_local_ip: Vec<String>,
    /// Give this container another name for that one (CONTAINER[:ALIAS])
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,
    /// Ethernet address on the first network (such as 02:42:ac:11:00:02)
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// Network to be on: its name, host, none, container:NAME, or
    /// name=NET,alias=A,ip=IP,ip6=IP,mac-address=MAC,link-local-ip=IP,driver-opt=KEY=VALUE,gw-priority=N
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// Further name on the first network
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Publish a port on the host ([[IP:]HOST:]CONTAINER[/PROTO])
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Publish every exposed port on a free port of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
}

impl NetworkFlags {
    /// Puts what was asked for into `host`.
    pub(crate) fn apply(&self, host: &mut HostConfig) -> anyhow::Result<()> {
        for spec in &self.publish {
            host.ports.extend(PortMapping::parse(spec).map_err(bad_input)?);
        }
        host.publish_all = self.publish_all;
        host.extra_hosts.clone_from(&self.add_host);
        if let Some(bad) = self.dns.iter().find(|text| text.parse::<IpAddr>().is_err()) {
            // In Docker's words.
            return Err(bad_input(format!(
                "invalid argument {bad:?} for \"--dns\" flag: IP address is not correctly formatted: {bad}"
            )));
        }
        host.dns.clone_from(&self.dns);
        // Each is a word, or words, of one line of /etc/resolv.conf.
        let in_line = |c: char| !c.is_control();
        if let Some(bad) = self.dns_search.iter().find(|text| !text.chars().all(|c| in_line(c) && c != ' ')) {
            return Err(bad_input(format!("invalid --dns-search: {bad:?} is not a valid domain")));
        }
        if let Some(bad) = self.dns_option.iter().find(|text| !text.chars().all(in_line)) {
            return Err(bad_input(format!("invalid --dns-option: {bad:?} has control characters")));
        }
        host.dns_search.clone_from(&self.dns_search);
        host.dns_options.clone_from(&self.dns_option);
        host.links = self.link.iter().map(|text| link(text)).collect::<anyhow::Result<_>>()?;
        (host.network, host.attachments) = self.networks()?;
        Ok(())
    }

    /// Whether a network was named.
    pub(crate) fn is_named(&self) -> bool {
        !self.network.is_empty()
    }

    fn networks(&self) -> anyhow::Result<(NetworkMode, Vec<Attachment>)> {
        let mut attachments = Vec::new();
        for text in &self.network {
            if let Some(mode) = mode(text)? {
                return match (self.network.len(), self.first_only()) {
                    (1, None) => Ok((mode, Vec::new())),
                    (1, Some(flag)) => Err(bad_input(format!(
                        "conflicting options: {flag} and the network mode {text}: it is for networks with addresses"
                    ))),
                    _ => Err(bad_input(
                        "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
                    )),
                };
            }
            attachments.push(attachment(text)?);
        }
        if attachments.is_empty() {
            attachments.push(Attachment::to("bridge"));
        }
        if let Some(first) = attachments.first_mut() {
            self.complete(first)?;
        }
        Ok((NetworkMode::Bridge, attachments))
    }

    /// The flag, if one was given, that means the first network.
    fn first_only(&self) -> Option<&'static str> {
        [
            ("--ip", self.ip.is_some()),
            ("--ip6", self.ip6.is_some()),
            ("--mac-address", self.mac_address.is_some()),
            ("--link-local-ip", !self.link_local_ip.is_empty()),
            ("--network-alias", !self.network_alias.is_empty()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    /// Lays the flags for the first network over what `--network name=…` says of it.
    fn complete(&self, first: &mut Attachment) -> anyhow::Result<()> {
        let twice = |flag: &str, key: &str| {
            bad_input(format!("conflicting options: cannot specify both {flag} and per-network {key}"))
        };
        if !self.network_alias.is_empty() {
            if !first.aliases.is_empty() {
                return Err(twice("--network-alias", "alias"));
            }
            first.aliases.clone_from(&self.network_alias);
        }
        if let Some(text) = &self.ip
            && first.ip.replace(ipv4(text)?).is_some()
        {
            return Err(twice("--ip", "IPv4 address"));
        }
        if let Some(text) = &self.ip6
            && first.ip6.replace(ipv6(text)?).is_some()
        {
            return Err(twice("--ip6", "IPv6 address"));
        }
        if let Some(text) = &self.mac_address
            && first.mac.replace(text.parse::<Mac>().map_err(bad_input)?).is_some()
        {
            return Err(twice("--mac-address", "MAC address"));
        }
        if !self.link_local_ip.is_empty() {
            if !first.link_local.is_empty() {
                return Err(twice("--link-local-ip", "link-local IP addresses"));
            }
            first.link_local =
                self.link_local_ip.iter().map(|text| address(text)).collect::<anyhow::Result<_>>()?;
        }
        Ok(())
    }
}

/// Modes that are no network.
fn mode(text: &str) -> anyhow::Result<Option<NetworkMode>> {
    Ok(match text.split_once(':') {
        Some(("container", "")) => return Err(bad_input("invalid network mode container: name a container")),
        Some(("container", name)) => Some(NetworkMode::Container(name.to_owned())),
        _ if text == "host" => Some(NetworkMode::Host),
        _ if text == "none" => Some(NetworkMode::None),
        _ => None,
    })
}

/// `NET`, or `name=NET,alias=A,…`.
fn attachment(text: &str) -> anyhow::Result<Attachment> {
    let named = |name: &str| match name {
        "" => Err(bad_input("--network wants the name of a network")),
        "default" => Ok(Attachment::to("bridge")),
        name => Ok(Attachment::to(name)),
    };
    if !text.contains('=') {
        return named(text);
    }
    let mut wanted = Attachment::default();
    // A value with commas stands in quotes.
    let fields = csv::fields(text).map_err(|why| bad_input(format!("invalid --network {text}: {why}")))?;
    for field in &fields {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            bad_input(format!("invalid field \"{field}\" of --network {text}: write KEY=VALUE"))
        })?;
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => wanted.network = named(value)?.network,
            "alias" => wanted.aliases.push(value.to_owned()),
            "ip" => wanted.ip = Some(ipv4(value)?),
            "ip6" => wanted.ip6 = Some(ipv6(value)?),
            "mac-address" => wanted.mac = Some(value.parse().map_err(bad_input)?),
            "link-local-ip" => wanted.link_local.push(address(value)?),
            "driver-opt" => {
                let (key, value) = driver_opt(value)?;
                wanted.driver_opts.insert(key, value);
            }
            "gw-priority" => {
                wanted.priority = value.parse().map_err(|_| {
                    bad_input(format!("invalid gw-priority \"{value}\": it is a whole number"))
                })?;
            }
            _ => {
                return Err(bad_input(format!(
                    "invalid field key {key} of --network: it knows name, alias, ip, ip6, mac-address, link-local-ip, driver-opt and gw-priority"
                )));
            }
        }
    }
    if wanted.network.is_empty() {
        return Err(bad_input(format!("--network {text} names no network: write name=NET")));
    }
    if mode(&wanted.network)?.is_some() {
        return Err(bad_input(format!("network {} takes no options", wanted.network)));
    }
    Ok(wanted)
}

/// `CONTAINER[:ALIAS]`.
pub(crate) fn link(text: &str) -> anyhow::Result<Link> {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    let plain = |part: &str| part.trim_start_matches('/').to_owned();
    if name.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(bad_input(format!("bad format for links: {text:?}: write CONTAINER[:ALIAS]")));
    }
    Ok(Link { container: plain(name), name: plain(name), alias: plain(alias) })
}

/// `KEY=VALUE`.
pub(crate) fn driver_opt(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| bad_input(format!("invalid key value pair format in driver options: {text:?}")))?;
    Ok((key.trim().to_ascii_lowercase(), value.to_owned()))
}

/// An address of either family.
pub(crate) fn address(text: &str) -> anyhow::Result<IpAddr> {
    text.parse().map_err(|_| bad_input(format!("invalid IP address: {text:?}")))
}

/// An IPv4 address a container could have.
pub(crate) fn ipv4(text: &str) -> anyhow::Result<Ipv4Addr> {
    text.parse().map_err(|_| bad_input(format!("invalid IPv4 address: {text:?}")))
}

/// An IPv6 address a container could have.
pub(crate) fn ipv6(text: &str) -> anyhow::Result<Ipv6Addr> {
    text.parse().map_err(|_| bad_input(format!("invalid IPv6 address: {text:?}")))
}
