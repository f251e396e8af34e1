//! `rbox port`: a container's published ports, and more or fewer of them while it runs.

use clap::Parser;
use rbox_engine::spec::port::{ContainerPort, PortMapping, PublishedPort};

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::output::lines::say;

/// List port mappings or a specific mapping for the container
#[derive(Debug, Parser)]
#[command(
    name = "port",
    after_help = "Examples:\n  rbox port web          # 8000/tcp -> 0.0.0.0:8080\n  rbox port web 8000     # 0.0.0.0:8080\n  rbox port web 53/udp\n  rbox port add web 8443:443\n  rbox port rm web 443\n\nTo list the ports of a container called add or rm: rbox container port add"
)]
pub(crate) struct Port {
    /// Its name or id
    container: String,
    /// A port inside it
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

impl Execute for Port {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let container = global.engine.container(&self.container)?;
        let mut published = container.live.as_ref().map_or_else(Vec::new, |live| live.published.clone());
        published.sort_by_key(|port| (port.container_port, port.proto, port.host_ip, port.host_port));
        let Some(wanted) = &self.port else { return tell(&published) };
        let wanted: ContainerPort = wanted.parse().map_err(bad_input)?;
        published.retain(|port| port.container() == wanted);
        if published.is_empty() {
            anyhow::bail!("no public port '{wanted}' published for {}", self.container);
        }
        for port in &published {
            say(&port.host())?;
        }
        Ok(0)
    }
}

/// Publish further ports of a container that exists, also while it runs
#[derive(Debug, Parser)]
#[command(
    name = "add",
    after_help = "Examples:
  rbox port add web 8443:443              # at once, without a restart, and from now on
  rbox port add web 127.0.0.1:5353:53/udp
  rbox port add web 9000-9002:9000-9002"
)]
pub(crate) struct Add {
    /// Its name or id
    container: String,
    /// What to publish: [[IP:]HOST:]CONTAINER[/PROTO]
    #[arg(required = true, value_name = "PORT")]
    ports: Vec<String>,
}

impl Execute for Add {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut wanted = Vec::new();
        for text in &self.ports {
            wanted.extend(PortMapping::parse(text).map_err(bad_input)?);
        }
        let published = global.engine.publish(&global.engine.container(&self.container)?, &wanted)?;
        tell(&published)
    }
}

/// Take back published ports of a container, also while it runs
#[derive(Debug, Parser)]
#[command(
    name = "rm",
    after_help = "Examples:
  rbox port rm web 443                    # all that lead to its port 443
  rbox port rm web 8443:443               # the one on the host's port 8443
  rbox port rm web 53/udp"
)]
pub(crate) struct Rm {
    /// Its name or id
    container: String,
    /// [HOST:]CONTAINER[/PROTO]
    #[arg(required = true, value_name = "PORT")]
    ports: Vec<String>,
}

impl Execute for Rm {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut wanted: Vec<(ContainerPort, Option<u16>)> = Vec::new();
        for text in &self.ports {
            let (host, inside) = text.split_once(':').map_or((None, text.as_str()), |(h, c)| (Some(h), c));
            let host = host
                .map(|host| {
                    host.parse().map_err(|_| bad_input(format!("invalid hostPort: {host}: it is a number")))
                })
                .transpose()?;
            wanted.push((inside.parse().map_err(bad_input)?, host));
        }
        let container = global.engine.container(&self.container)?;
        for (inside, host) in wanted {
            global.engine.unpublish(&container, inside, host)?;
        }
        Ok(0)
    }
}

/// `8000/tcp -> 0.0.0.0:8080`, a line each.
fn tell(published: &[PublishedPort]) -> anyhow::Result<u8> {
    for port in published {
        say(&format!("{} -> {}", port.container(), port.host()))?;
    }
    Ok(0)
}
