//! `rbox compose ps`: the containers of a project.

use clap::{ArgAction, Parser};
use jiff::Timestamp;
use rbox_compose::Instance;
use rbox_engine::engine::Status;
use rbox_engine::spec::port::{ContainerPort, PublishedPort};
use serde_json::{Map, Value, json};

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, not_done};
use crate::container::ps::{Sizes, View, headers};
use crate::output::lines::say;
use crate::output::table::{self, Format};

/// List the containers of a project
#[derive(Debug, Parser)]
#[command(
    name = "ps",
    after_help = "Examples:
  rbox compose ps                        # those that run
  rbox compose ps -a --format json       # all, one JSON object a line
  rbox compose ps --services --status exited
  rbox compose ps --format 'table {{.Service}}\\t{{.State}}\\t{{.Ports}}'"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Ps {
    /// Also those that do not run, and those of run
    #[arg(short, long)]
    all: bool,
    /// Only those with a property: status=STATE
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Option<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Do not cut long texts
    #[arg(long)]
    no_trunc: bool,
    /// Also those of services that the files do not have
    #[arg(
        long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set
    )]
    orphans: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Only the names of services
    #[arg(long)]
    services: bool,
    /// Only those in this state: paused, restarting, removing, running, dead, created or exited
    #[arg(long, value_name = "STATE")]
    status: Vec<String>,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    names: Vec<String>,
}

const COLUMNS: &str =
    "{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}";

impl Execute for Ps {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done(self.carry_out(global))
    }
}

impl Ps {
    fn carry_out(&self, global: &Global) -> anyhow::Result<u8> {
        let statuses = self.statuses()?;
        let chosen = Chosen::read(global, &self.names)?;
        let all = self.all || !statuses.is_empty();
        let known = chosen.services();
        let mut shown: Vec<&Instance> = chosen.observed.instances.iter().collect();
        shown.retain(|one| {
            let named = self.names.is_empty() || self.names.contains(&one.service);
            let own = self.orphans || known.contains(one.service.as_str());
            let status = one.container.status.as_str();
            let wanted = statuses.is_empty() || statuses.iter().any(|wanted| wanted == status);
            named && own && wanted && (all || (one.container.is_active() && !one.one_off))
        });
        shown.sort_by(|a, b| a.name().cmp(b.name()));
        if self.quiet {
            for one in shown {
                say(one.container.record.id.as_str())?;
            }
            return Ok(0);
        }
        if self.services {
            let mut names: Vec<&str> = Vec::new();
            for one in shown {
                if !names.contains(&one.service.as_str()) {
                    names.push(&one.service);
                    say(&one.service)?;
                }
            }
            return Ok(0);
        }
        self.show(global, &shown)?;
        Ok(0)
    }

    /// The states that are asked for.
    fn statuses(&self) -> anyhow::Result<Vec<String>> {
        let mut all = self.status.clone();
        if let Some(filter) = self.filter.as_deref().filter(|filter| !filter.is_empty()) {
            match filter.split_once('=') {
                Some(("status", value)) => all.push(value.to_owned()),
                Some((key, _)) => return Err(refused(format!("unknown filter {key}"))),
                None => return Err(refused("arguments to --filter should be in form KEY=VAL".into())),
            }
        }
        Ok(all)
    }

    fn show(&self, global: &Global, shown: &[&Instance]) -> anyhow::Result<()> {
        let with_sizes = self.format.as_deref().is_some_and(|format| format.contains(".Size"));
        let sizes = if with_sizes { Sizes::WithImage(global) } else { Sizes::None };
        let view = View { full: self.no_trunc, sizes, now: Timestamp::now() };
        let rows: Vec<Value> = shown.iter().map(|one| row(one, &view)).collect::<anyhow::Result<_>>()?;
        let format = Format::parse(self.format.as_deref(), COLUMNS);
        let mut titles = headers();
        titles.extend([("Name", "NAME"), ("Project", "PROJECT"), ("Service", "SERVICE")]);
        titles.extend([("ExitCode", "EXIT CODE"), ("Health", "HEALTH"), ("Publishers", "PUBLISHERS")]);
        table::print(&format, &titles, &rows, &mut std::io::stdout())
    }
}

fn refused(message: String) -> anyhow::Error {
    Coded { message, code: NOT_DONE }.into()
}

/// The fields of a container, by the names that Compose's templates use.
fn row(one: &Instance, view: &View<'_>) -> anyhow::Result<Value> {
    let container = &one.container;
    let mut row = view.row(container)?;
    let ended = matches!(container.status, Status::Exited | Status::Dead);
    let code = container.exit.as_ref().filter(|_| ended).map_or(0, |exit| exit.exit_code);
    let health = container.health.as_ref().filter(|_| container.status == Status::Running);
    let own = json!({
        "Name": one.name(),
        "Project": one.project,
        "Service": one.service,
        "ExitCode": code,
        "Health": health.map_or("", |health| health.status.as_str()),
        "Publishers": publishers(one),
    });
    let fields = own.as_object().cloned().unwrap_or_else(Map::new);
    if let Some(all) = row.as_object_mut() {
        all.remove("Platform");
        all.extend(fields);
    }
    Ok(row)
}

/// The published ports, and those that are only open.
fn publishers(one: &Instance) -> Vec<Value> {
    let Some(live) = &one.container.live else { return Vec::new() };
    let row = |address: &str, inside: u16, host: u16, protocol: String| json!({"URL": address, "TargetPort": inside, "PublishedPort": host, "Protocol": protocol});
    let published = |port: &PublishedPort| {
        row(&port.host_ip.to_string(), port.container_port, port.host_port, port.proto.to_string())
    };
    let exposed = one.container.record.config.exposed_ports.iter();
    let open = exposed.filter_map(|port| port.parse::<ContainerPort>().ok());
    let open = open.filter(|port| !live.published.iter().any(|other| other.container() == *port));
    let mut all: Vec<Value> = live.published.iter().map(published).collect();
    all.extend(open.map(|port| row("", port.port, 0, port.proto.to_string())));
    all.sort_by_key(|row| row.get("TargetPort").and_then(Value::as_u64));
    all
}
