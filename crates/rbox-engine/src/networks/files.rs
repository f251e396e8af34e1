//! The files that tell a container of its networks: /etc/hosts and /etc/resolv.conf.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rbox_network::Endpoint;
use rbox_spec::container::NetworkMode;
use rbox_spec::id::ContainerId;

use crate::containers::find;
use crate::error::EngineError;
use crate::record::container::{ContainerRecord, LiveState};
use crate::record::paths::Paths;

/// The network namespace of the container whose network this one shares.
pub(crate) fn shared(paths: &Paths, record: &ContainerRecord) -> Result<Option<Shared>, EngineError> {
    let NetworkMode::Container(id) = &record.host.network else { return Ok(None) };
    let other = find::find(paths, id)?;
    let Some(live) = other.live.as_ref() else {
        return Err(EngineError::Conflict(format!("cannot join network of a non running container: {id}")));
    };
    // Opened first, then seen to be its: a number may be another process's by now.
    let path = format!("/proc/{}/ns/net", live.pid);
    let netns = File::open(&path).map_err(EngineError::file("open", path))?;
    crate::containers::running::pidfd(&other)?;
    Ok(Some(Shared { netns: netns.into(), owner: other.record.id }))
}

/// What a container has from another one whose network it shares.
pub(crate) struct Shared {
    /// The network namespace.
    pub(crate) netns: OwnedFd,
    /// Whose it is, and the files that tell of the network.
    pub(crate) owner: ContainerId,
}

impl Shared {
    /// The network namespace by a file that stays the same one.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.netns)).into()
    }
}

/// The text of /etc/hosts.
pub(crate) fn hosts(
    paths: &Paths,
    record: &ContainerRecord,
    live: &LiveState,
) -> Result<String, EngineError> {
    let gateway = live.main_endpoint().map(|endpoint| endpoint.gateway);
    let mut extra = record
        .host
        .extra_hosts
        .iter()
        .map(|text| Ok(rbox_network::parse_add_host(text, gateway)?))
        .collect::<Result<Vec<_>, EngineError>>()?;
    if record.host.network == NetworkMode::Host {
        if extra.is_empty() {
            return Ok(std::fs::read_to_string("/etc/hosts").unwrap_or_default());
        }
    } else {
        extra.extend(crate::networks::links::hosts(paths, record, live)?);
    }
    let own: Vec<IpAddr> = live.endpoints.iter().flat_map(Endpoint::addresses).collect();
    Ok(rbox_network::hosts_file(&record.config.full_hostname(), &own, &extra))
}

/// The text of /etc/resolv.conf.
pub(crate) fn resolv_conf(record: &ContainerRecord) -> Result<String, EngineError> {
    let host = &record.host;
    let etc = || std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let nothing_asked = host.dns.is_empty() && host.dns_search.is_empty() && host.dns_options.is_empty();
    let dns = servers(record)?;
    Ok(match host.network {
        NetworkMode::Host if nothing_asked => etc(),
        NetworkMode::Host => rbox_network::resolv_conf(&etc(), &dns, &host.dns_search, &host.dns_options),
        NetworkMode::Bridge => {
            rbox_network::resolv_conf_inside(&etc(), &dns, &host.dns_search, &host.dns_options)
        }
        NetworkMode::None | NetworkMode::Container(_) => {
            let looked_through = rbox_network::host_resolv_conf(|path| std::fs::read_to_string(path).ok());
            rbox_network::resolv_conf(&looked_through, &dns, &host.dns_search, &host.dns_options)
        }
    })
}

/// The servers of `--dns`.
pub(crate) fn servers(record: &ContainerRecord) -> Result<Vec<IpAddr>, EngineError> {
    let one = |text: &String| {
        text.parse().map_err(|_| EngineError::Invalid(format!("{text} is not an ip address")))
    };
    record.host.dns.iter().map(one).collect()
}
