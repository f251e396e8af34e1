//! `rbox rename` and `rbox port`.

use clap::Parser;
use rbox_engine::containers;
use rbox_engine::spec::port::ContainerPort;

use crate::cli::{Execute, Global, bad_input, say};

/// Rename a container
#[derive(Debug, Parser)]
#[command(name = "rename", after_help = "Examples:\n  rbox rename brave_turing web")]
pub(crate) struct Rename {
    /// Its name or id
    container: String,
    /// The new name
    new_name: String,
}

impl Execute for Rename {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let container = global.container(&self.container)?;
        let name = rbox_engine::names::validate(&self.new_name).map_err(bad_input)?;
        if name == container.record.name {
            anyhow::bail!("Renaming a container with the same name as its current name");
        }
        containers::rename(&global.paths, &container, name)?;
        Ok(0)
    }
}

/// List port mappings or a specific mapping for the container
#[derive(Debug, Parser)]
#[command(
    name = "port",
    after_help = "Examples:\n  rbox port web          # 8000/tcp -> 0.0.0.0:8080\n  rbox port web 8000     # 0.0.0.0:8080\n  rbox port web 53/udp"
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
        let container = global.container(&self.container)?;
        let mut published = container.live.as_ref().map_or_else(Vec::new, |live| live.published.clone());
        published.sort_by_key(|port| (port.container_port, port.proto, port.host_ip, port.host_port));
        let Some(wanted) = &self.port else {
            for port in &published {
                say(&format!("{} -> {}", port.container(), port.host()))?;
            }
            return Ok(0);
        };
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
