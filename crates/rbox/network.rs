//! `rbox network ls`. Networks of the user's own come later.

use clap::Parser;
use jiff::Timestamp;
use rbox_engine::filter::{Filters, NETWORK_KEYS};
use rbox_engine::network::Network;
use rbox_engine::teardown::networks;
use serde_json::{Value, json};

use crate::cli::{Execute, Global};
use crate::ps::created_at;
use crate::table::{self, Format};
use crate::template::Headers;

/// List networks
#[derive(Debug, Parser)]
#[command(
    name = "ls",
    after_help = "Examples:\n  rbox network ls\n  rbox network ls -q --filter driver=bridge"
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

/// All networks: the bridge, and those that stand for the host's and for none.
pub(crate) fn all(global: &Global) -> anyhow::Result<Vec<Network>> {
    Ok(networks(&global.paths).list()?)
}

/// Whether `name` means this network: its name, its id or the beginning of that.
pub(crate) fn is_called(network: &Network, name: &str) -> bool {
    network.name == name || (name.len() >= 3 && network.id.starts_with(name))
}

impl Execute for Ls {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = Filters::parse(&self.filter, NETWORK_KEYS)?;
        let mut networks = all(global)?;
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        networks.retain(|network| {
            let builtin = if filters.equals("type", "builtin") { true } else { !filters.contains("type") };
            builtin
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
                "IPv6": "false",
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
