//! `rbox compose port`: where a service's port is published.

use clap::Parser;
use rbox_engine::spec::port::ContainerPort;

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, bad_input};
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, not_done};
use crate::output::lines::say;

/// Print the public port of a service's port
#[derive(Debug, Parser)]
#[command(
    name = "port",
    after_help = "Examples:
  rbox compose port web 80                      # 0.0.0.0:8080
  rbox compose port --protocol udp --index 2 dns 53"
)]
pub(crate) struct Port {
    /// tcp or udp
    #[arg(long, default_value = "tcp")]
    protocol: String,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// The service
    service: String,
    /// A port inside it
    #[arg(value_name = "PRIVATE_PORT")]
    private: u16,
}

impl Execute for Port {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let protocol = self.protocol.to_lowercase();
        let wanted: ContainerPort = format!("{}/{protocol}", self.private).parse().map_err(bad_input)?;
        not_done((|| {
            let chosen = Chosen::named(global)?;
            let one = chosen.running(&self.service, self.index)?;
            let published = one.container.live.as_ref().map_or(&[][..], |live| &live.published);
            if let Some(port) = published.iter().find(|port| port.container() == wanted) {
                say(&port.host())?;
                return Ok(0);
            }
            let all: Vec<String> = published.iter().map(|port| port.container().to_string()).collect();
            let message = format!("no port {wanted} for container {}: {}", one.name(), all.join(", "));
            Err(Coded { message, code: NOT_DONE }.into())
        })())
    }
}
