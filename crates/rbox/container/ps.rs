//! `rbox ps`: the containers there are.

use std::path::PathBuf;

use clap::Parser;
use jiff::Timestamp;
use rbox_engine::engine::{Container, ContainerRecord, HealthStatus, Status};
use rbox_engine::listing::filter::{CONTAINER_KEYS, ContainerFacts, ContainerFilter, FilterPort, Filters};
use rbox_engine::spec::container::NetworkMode;
use rbox_engine::spec::mount::{MountKind, MountSpec};
use rbox_engine::spec::port::{ContainerPort, PublishedPort, ports_column};
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::image::images::image_size;
use crate::output::table::{self, Format};
use crate::output::template::Headers;
use crate::output::units::{ago, created_at, ellipsis, human_duration, human_size, since};

/// List containers
#[derive(Debug, Parser)]
#[command(
    name = "ps",
    after_help = "Examples:\n  rbox ps                                  # running containers\n  rbox ps -a --filter status=exited        # stopped containers\n  rbox ps -q --filter label=app=web        # only ids\n  rbox ps --format 'table {{.Names}}\\t{{.Status}}\\t{{.Ports}}'\n  rbox ps -a --format json\n\nFilters: id, name, label, status, exited, ancestor, before, since, volume, network, publish, expose."
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided (KEY=VALUE)
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

const COLUMNS: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

impl Execute for Ps {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = Filters::parse(&self.filter, CONTAINER_KEYS)?;
        let created =
            |name: &str| -> anyhow::Result<Timestamp> { Ok(global.engine.container(name)?.record.created) };
        let filter = ContainerFilter::new::<anyhow::Error>(filters, created)?;
        let last = if self.latest { 1 } else { self.last };
        let all = self.all || last > 0 || filter.wants_all();
        let ancestors = Ancestors::read(global, &self.filter)?;
        let mut containers = if all { global.engine.containers()? } else { global.engine.running()? };
        containers.retain(|one| accepts(&filter, one, &ancestors));
        if let Ok(most) = usize::try_from(last)
            && most > 0
        {
            containers.truncate(most);
        }
        self.show(global, &containers)?;
        Ok(0)
    }
}

impl Ps {
    fn show(&self, global: &Global, containers: &[Container]) -> anyhow::Result<()> {
        let default = match (self.quiet, self.size) {
            (true, _) => "{{.ID}}".to_owned(),
            (false, true) => format!("{COLUMNS}\t{{{{.Size}}}}"),
            (false, false) => COLUMNS.to_owned(),
        };
        let given = self.format.as_deref().is_some_and(|format| !matches!(format.trim(), "" | "table"));
        if self.quiet && given {
            let words = "WARNING: Ignoring custom format, because both --format and --quiet are set.\n";
            table::write_all(&mut std::io::stderr(), words)?;
        }
        let format = if self.quiet {
            Format::Template(default)
        } else {
            Format::parse(self.format.as_deref(), &default)
        };
        let sizes = self.size || self.format.as_deref().is_some_and(|format| format.contains(".Size"));
        let sizes = if sizes { Sizes::WithImage(global) } else { Sizes::None };
        let view = View { full: self.no_trunc, sizes, now: Timestamp::now() };
        let rows: Vec<Value> = containers.iter().map(|one| view.row(one)).collect::<anyhow::Result<_>>()?;
        table::print(&format, &headers(), &rows, &mut std::io::stdout())
    }
}

/// The titles of all fields.
pub(crate) fn headers() -> Headers {
    Headers::from([
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ])
}

/// What is counted for the SIZE column.
pub(crate) enum Sizes<'a> {
    None,
    /// What the container has written.
    Own(&'a Global),
    /// That, and its image.
    WithImage(&'a Global),
}

pub(crate) struct View<'a> {
    pub(crate) full: bool,
    pub(crate) sizes: Sizes<'a>,
    pub(crate) now: Timestamp,
}

impl View<'_> {
    /// The fields of one container, by the names Docker's templates use.
    pub(crate) fn row(&self, container: &Container) -> anyhow::Result<Value> {
        let record = &container.record;
        let command = command_line(&[&record.config.entrypoint[..], &record.config.cmd[..]].concat());
        let command = if self.full { command } else { ellipsis(&command, 20) };
        let mounts: Vec<String> = record.host.mounts.iter().filter_map(|mount| self.mount(mount)).collect();
        let volumes =
            record.host.mounts.iter().filter(|m| matches!(m.kind, MountKind::Volume { .. })).count();
        let labels: Vec<String> =
            record.config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Ok(json!({
            "Command": quoted(&command),
            "CreatedAt": created_at(record.created),
            "ID": if self.full { record.id.as_str() } else { record.id.short() },
            "Image": image_name(&record.image, self.full),
            "Labels": labels.join(","),
            "LocalVolumes": volumes.to_string(),
            "Mounts": mounts.join(","),
            "Names": record.name,
            "Networks": network_names(record).join(","),
            "Platform": record.platform,
            "Ports": ports(container),
            "RunningFor": ago(record.created, self.now),
            "Size": self.size(container)?,
            "State": container.status.as_str(),
            "Status": status(container, self.now),
        }))
    }

    fn mount(&self, mount: &MountSpec) -> Option<String> {
        let source = mount.kind.source()?;
        Some(if self.full { source.to_owned() } else { ellipsis(source, 15) })
    }

    fn size(&self, container: &Container) -> anyhow::Result<String> {
        let own = |global: &Global| global.engine.written(&container.record);
        let (own, image) = match self.sizes {
            Sizes::None => return Ok("0B".to_owned()),
            Sizes::Own(global) => return Ok(human_size(own(global))),
            Sizes::WithImage(global) => (own(global), image_size(global, container)?),
        };
        Ok(format!("{} (virtual {})", human_size(own), human_size(own + image)))
    }
}

/// Up since when, or how and when it ended.
pub(crate) fn status(container: &Container, now: Timestamp) -> String {
    let up = || {
        let started = container.live.as_ref().map_or(now, |live| live.started);
        format!("Up {}", human_duration(since(started, now)))
    };
    match (container.status, &container.exit) {
        (Status::Running, _) => match container.health.as_ref().map(|health| health.status) {
            None => up(),
            Some(HealthStatus::Starting) => format!("{} (health: starting)", up()),
            Some(status) => format!("{} ({})", up(), status.as_str()),
        },
        (Status::Paused, _) => format!("{} (Paused)", up()),
        (Status::Dead, _) => "Dead".to_owned(),
        (Status::Removing, _) => "Removal In Progress".to_owned(),
        (Status::Restarting, exit) => {
            let (code, since) = exit.as_ref().map_or((0, now), |exit| (exit.exit_code, exit.finished));
            format!("Restarting ({code}) {}", ago(since, now))
        }
        (Status::Exited, Some(exit)) => format!("Exited ({}) {}", exit.exit_code, ago(exit.finished, now)),
        (Status::Exited, None) => "Exited".to_owned(),
        (Status::Created, _) => "Created".to_owned(),
    }
}

fn exposed(container: &Container) -> Vec<ContainerPort> {
    container.record.config.exposed_ports.iter().filter_map(|port| port.parse().ok()).collect()
}

/// The PORTS column: only what runs has ports.
fn ports(container: &Container) -> String {
    match &container.live {
        Some(_) if container.record.host.network == NetworkMode::Host => String::new(),
        Some(live) => {
            let published: Vec<ContainerPort> = live.published.iter().map(PublishedPort::container).collect();
            let mut open = exposed(container);
            open.retain(|port| !published.contains(port));
            ports_column(&live.published, &open)
        }
        None => String::new(),
    }
}

/// An image given by its id is shown by twelve digits of it.
fn image_name(image: &str, full: bool) -> String {
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    let is_id = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id && !full { hex.chars().take(12).collect() } else { image.to_owned() }
}

/// The words with spaces between them; an argument that has one itself is in quotes, as Docker shows it.
fn command_line(words: &[String]) -> String {
    let quote = |(at, word): (usize, &String)| {
        if at > 0 && word.contains(' ') { format!("'{word}'") } else { word.clone() }
    };
    words.iter().enumerate().map(quote).collect::<Vec<_>>().join(" ")
}

/// In double quotes, with quotes and backslashes escaped, as Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// The images named by `ancestor` filters: their ids and layers.
struct Ancestors(Vec<(String, String, Vec<PathBuf>)>);

impl Ancestors {
    fn read(global: &Global, filters: &[String]) -> anyhow::Result<Self> {
        let mut found = Vec::new();
        for item in filters {
            let Some((key, value)) = item.split_once('=') else { continue };
            if key.trim().eq_ignore_ascii_case("ancestor")
                && let Some(image) = global.engine.images()?.find(value.trim()).map_err(bad_input)?
            {
                let layers = image.overlay_layers().iter().map(|layer| layer.dir.clone()).collect();
                found.push((value.trim().to_owned(), image.id.to_string(), layers));
            }
        }
        Ok(Self(found))
    }

    fn holds(&self, name: &str, container: &Container) -> bool {
        let record = &container.record;
        self.0.iter().any(|(value, id, layers)| {
            value == name
                && (*id == record.image_id || (!layers.is_empty() && record.layers.starts_with(layers)))
        })
    }
}

/// The networks a container is on, by name.
fn network_names(record: &ContainerRecord) -> Vec<String> {
    match record.host.network {
        NetworkMode::Bridge => record.host.attachments.iter().map(|wanted| wanted.network.clone()).collect(),
        _ => vec![record.host.network_mode()],
    }
}

fn accepts(filter: &ContainerFilter, container: &Container, ancestors: &Ancestors) -> bool {
    let record = &container.record;
    let filter_port = |port: ContainerPort| FilterPort { port: port.port, protocol: port.proto.to_string() };
    let mut volumes = Vec::new();
    for mount in &record.host.mounts {
        volumes.push(mount.target.clone());
        volumes.extend(mount.kind.source().map(str::to_owned));
    }
    let mut networks = network_names(record);
    let attachments = record.host.attachments.iter();
    networks.extend(attachments.map(|wanted| wanted.network_id.clone()).filter(|id| !id.is_empty()));
    let published: Vec<FilterPort> = container
        .live
        .iter()
        .flat_map(|live| &live.published)
        .map(|port| FilterPort { port: port.host_port, protocol: port.proto.to_string() })
        .collect();
    let exposed: Vec<FilterPort> = exposed(container).into_iter().map(filter_port).collect();
    filter.accepts(&ContainerFacts {
        id: record.id.as_str(),
        name: record.name.as_str(),
        labels: &record.config.labels,
        status: container.status.as_str(),
        exit_code: container.exit.as_ref().filter(|_| !container.is_active()).map(|exit| exit.exit_code),
        created: record.created,
        volumes: &volumes,
        networks: &networks,
        published: &published,
        exposed: &exposed,
        health: container.health.as_ref().map_or("none", |health| health.status.as_str()),
        descends_from: &|name| ancestors.holds(name, container),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cut_and_quoted() {
        assert_eq!(ellipsis("python3 -m http.server 8000", 20), "python3 -m http.ser…");
        assert_eq!(ellipsis("short", 20), "short");
        assert_eq!(quoted(r#"sh -c "a\b""#), r#""sh -c \"a\\b\"""#);
        assert_eq!(image_name(&format!("sha256:{}", "a".repeat(64)), false), "a".repeat(12));
        assert_eq!(image_name("python:3.11-slim", false), "python:3.11-slim");
        let words = ["sh x", "-c", "a b", "c"].map(str::to_owned);
        assert_eq!(command_line(&words), "sh x -c 'a b' c");
    }

    #[test]
    fn every_column_has_a_title() {
        let headers = headers();
        for field in COLUMNS.split('\t') {
            let name = field.trim_start_matches("{{.").trim_end_matches("}}");
            assert!(headers.contains_key(name), "{name}");
        }
    }
}
