//! The networks of a container, its names there, and its published ports.

use std::net::IpAddr;

use rbox_spec::container::{Attachment, HostConfig, LINK_NAME, Link, NetworkMode};
use rbox_spec::mac::Mac;
use rbox_spec::port::PortMapping;

use super::Making;
use crate::error::RunError;
use crate::model::{Port, Project, Service, ServiceNetwork};

/// The name of a service's container of this number.
pub fn container_name(project: &Project, service: &Service, number: u32) -> String {
    if service.container_name.is_empty() {
        format!("{}-{}-{number}", project.name, service.name)
    } else {
        service.container_name.clone()
    }
}

impl Making<'_> {
    pub(super) fn apply_networks(&self, host: &mut HostConfig) -> Result<(), RunError> {
        let mode = self.service.network_mode.as_str();
        match mode {
            "host" => host.network = NetworkMode::Host,
            "none" => host.network = NetworkMode::None,
            "bridge" => host.attachments = vec![Attachment::to("bridge")],
            "" if self.service.networks.is_empty() => host.network = NetworkMode::None,
            "" => {
                host.attachments = self.attachments()?;
                host.links = self.links()?;
            }
            _ => match self.shared_with("network_mode", mode)? {
                Some(id) => host.network = NetworkMode::Container(id),
                None => host.attachments = vec![Attachment::to(mode)],
            },
        }
        Ok(())
    }

    /// The one of the highest priority comes first; names decide among equals.
    fn attachments(&self) -> Result<Vec<Attachment>, RunError> {
        let mut networks: Vec<_> = self.service.networks.iter().collect();
        let priority = |wanted: Option<&ServiceNetwork>| wanted.map_or(0, |wanted| wanted.priority);
        networks.sort_by_key(|(_, wanted)| std::cmp::Reverse(priority(wanted.as_ref())));
        let nothing = ServiceNetwork::default();
        let mut attachments = Vec::new();
        for (key, wanted) in networks {
            attachments.push(self.attachment(key, wanted.as_ref().unwrap_or(&nothing))?);
        }
        if let Some(first) = attachments.first_mut().filter(|first| first.mac.is_none()) {
            first.mac = self.mac("mac_address", &self.service.mac_address)?;
        }
        Ok(attachments)
    }

    fn attachment(&self, key: &str, wanted: &ServiceNetwork) -> Result<Attachment, RunError> {
        let path = |part: &str| format!("networks.{key}.{part}");
        let network = self.project.networks.get(key).map_or(key, |network| network.name.as_str());
        let mut aliases = vec![self.name.clone()];
        if self.aliases {
            aliases.push(self.service.name.clone());
            aliases.extend(wanted.aliases.iter().cloned());
        }
        aliases.dedup();
        let address = |part: &str, text: &str| -> Result<Option<IpAddr>, RunError> {
            match text {
                "" => Ok(None),
                text => text
                    .parse()
                    .map(Some)
                    .map_err(|_| self.refused(&path(part), format_args!("invalid address: {text:?}"))),
            }
        };
        let ip = match address("ipv4_address", &wanted.ipv4_address)? {
            Some(IpAddr::V4(ip)) => Some(ip),
            None => None,
            Some(other) => {
                return Err(self.refused(&path("ipv4_address"), format_args!("{other} is no IPv4 address")));
            }
        };
        let ip6 = match address("ipv6_address", &wanted.ipv6_address)? {
            Some(IpAddr::V6(ip)) => Some(ip),
            None => None,
            Some(other) => {
                return Err(self.refused(&path("ipv6_address"), format_args!("{other} is no IPv6 address")));
            }
        };
        let link_local = wanted.link_local_ips.iter().map(|text| address("link_local_ips", text));
        let link_local = link_local.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        let mut driver_opts = wanted.driver_opts.clone();
        if !wanted.interface_name.is_empty() {
            driver_opts.insert(LINK_NAME.to_owned(), wanted.interface_name.clone());
        }
        Ok(Attachment {
            aliases,
            ip,
            ip6,
            mac: self.mac(&path("mac_address"), &wanted.mac_address)?,
            priority: i32::try_from(wanted.gw_priority)
                .map_err(|_| self.refused(&path("gw_priority"), "out of range"))?,
            link_local,
            driver_opts,
            ..Attachment::to(network)
        })
    }

    fn mac(&self, key: &str, text: &str) -> Result<Option<Mac>, RunError> {
        match text {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|error| self.refused(key, error)),
        }
    }

    /// `links` of services and `external_links` of other containers.
    fn links(&self) -> Result<Vec<Link>, RunError> {
        let mut links = Vec::new();
        let link =
            |container: String, alias: &str| Link { name: container.clone(), container, alias: alias.into() };
        for text in &self.service.links {
            let (service, alias) = text.split_once(':').unwrap_or((text, text));
            let Some(id) = (self.peer)(service) else {
                return Err(
                    self.refused("links", format_args!("there is no container of service {service:?}"))
                );
            };
            links.push(link(id, alias));
        }
        for text in &self.service.external_links {
            let (container, alias) = text.split_once(':').unwrap_or((text, text));
            links.push(link(container.to_owned(), alias));
        }
        Ok(links)
    }

    pub(super) fn ports(&self) -> Result<Vec<PortMapping>, RunError> {
        let mut all = Vec::new();
        for port in &self.service.ports {
            all.extend(PortMapping::parse(&words(port)).map_err(|error| self.refused("ports", error))?);
        }
        Ok(all)
    }
}

/// A port as `-p` takes it.
fn words(port: &Port) -> String {
    let address = match port.host_ip.as_str() {
        "" => String::new(),
        ip if ip.contains(':') && !ip.starts_with('[') => format!("[{ip}]:"),
        ip => format!("{ip}:"),
    };
    let host = match (address.as_str(), port.published.as_str()) {
        ("", "") => String::new(),
        (_, published) => format!("{published}:"),
    };
    let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
    format!("{address}{host}{}/{protocol}", port.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_as_the_engine_reads_them() {
        let port = |host_ip: &str, published: &str| Port {
            host_ip: host_ip.into(),
            published: published.into(),
            target: 80,
            ..Port::default()
        };
        assert_eq!(words(&port("", "")), "80/tcp");
        assert_eq!(words(&port("", "8080-8090")), "8080-8090:80/tcp");
        assert_eq!(words(&port("127.0.0.1", "")), "127.0.0.1::80/tcp");
        assert_eq!(words(&port("::1", "8080")), "[::1]:8080:80/tcp");
        for given in [port("", ""), port("127.0.0.1", ""), port("::1", "1-3")] {
            assert!(PortMapping::parse(&words(&given)).is_ok(), "{given:?}");
        }
    }
}
