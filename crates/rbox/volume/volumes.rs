//! `rbox volume create`, `ls`, `rm` and `prune`.

use std::collections::BTreeMap;

use clap::Parser;
use rbox_engine::engine::{NewVolume, Volume, VolumeError, VolumeStore};
use rbox_engine::listing::filter::{Filters, VOLUME_KEYS, VOLUME_PRUNE_KEYS};
use rbox_engine::spec::VolumeName;
use rbox_engine::spec::volume_options::parse_options;
use serde_json::{Value, json};

use crate::args::pruning::{Pruning, say_deleted};
use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::{bad_input, message};
use crate::command::global::Global;
use crate::output::lines::say;
use crate::output::table::{self, Format};
use crate::output::template::Headers;
use crate::output::units::human_sum;

/// Create a volume
#[derive(Debug, Parser)]
#[command(
    name = "create",
    after_help = "Examples:\n  rbox volume create data\n  rbox volume create --label app=db    # anonymous: prints its name\n  rbox volume create -o type=tmpfs -o device=tmpfs -o o=size=100m,uid=1000 fast\n  rbox volume create -o type=none -o o=bind -o device=/srv/data data\n  rbox volume create -o type=nfs -o o=addr=192.0.2.1,rw -o device=:/export share\n  rbox run -v data:/var/lib/data python:3.11-slim"
)]
pub(crate) struct Create {
    /// Specify volume driver name
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Set metadata for a volume (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Set driver specific options: type, device and o, as mount(8) takes them
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Its name, as docker takes it too
    #[arg(long = "name", value_name = "NAME", hide = true)]
    named: Option<String>,
    /// Its name; a random one when none is given
    name: Option<String>,
}

impl Execute for Create {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        if self.name.is_some() && self.named.is_some() {
            return Err(bad_input(
                "conflicting options: cannot specify a volume name through both --name and as a positional arg",
            ));
        }
        let name = self.name.as_deref().or(self.named.as_deref());
        let shown = name.unwrap_or("volume");
        let options = parse_options(&self.opt);
        VolumeStore::check_driver(shown, &self.driver, &options).map_err(bad_input)?;
        let labels: BTreeMap<String, String> = self
            .label
            .iter()
            .map(|label| label.split_once('=').unwrap_or((label, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let name = name.filter(|name| !name.is_empty());
        let name: Option<VolumeName> = name.map(str::parse).transpose().map_err(bad_input)?;
        let volume = global
            .engine
            .volumes()
            .create(name.as_ref(), &NewVolume { labels, options, ..NewVolume::default() })?;
        if volume.damage.is_some() {
            warn(&format!(
                "the record of volume {} was damaged and is written anew; its labels are lost",
                volume.name
            ));
        }
        say(volume.name.as_str())?;
        Ok(0)
    }
}

/// List volumes
#[derive(Debug, Parser)]
#[command(
    name = "ls",
    after_help = "Examples:\n  rbox volume ls\n  rbox volume ls -q --filter dangling=true\n  rbox volume ls --format '{{.Name}} {{.Mountpoint}}'\n\nFilters: dangling, name, label, driver."
)]
pub(crate) struct Ls {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

impl Execute for Ls {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = Filters::parse(&self.filter, VOLUME_KEYS)?;
        let users = global.engine.volume_users()?;
        let volumes = global.engine.volumes().filtered(&filters, &users)?;
        volumes.iter().for_each(warn_of_damage);
        let sizes = self.format.as_deref().is_some_and(|format| format.contains(".Size"));
        let rows: Vec<Value> =
            volumes.iter().map(|volume| row(volume, users.of(&volume.name).len(), sizes)).collect();
        let format = match (self.quiet, &self.format) {
            (true, None) => Format::Template("{{.Name}}".into()),
            (_, given) => Format::parse(given.as_deref(), "{{.Driver}}\t{{.Name}}"),
        };
        table::print(&format, &headers(), &rows, &mut std::io::stdout())?;
        Ok(0)
    }
}

/// The titles of all fields.
pub(crate) fn headers() -> Headers {
    Headers::from([
        ("Availability", "AVAILABILITY"),
        ("Driver", "DRIVER"),
        ("Group", "GROUP"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
    ])
}

/// Tells of a record that could not be read. The volume is used all the same.
pub(crate) fn warn_of_damage(volume: &Volume) {
    if let Some(why) = &volume.damage {
        warn(&format!(
            "volume {}: {why}; its data is kept (volume create {0} makes its record anew)",
            volume.name
        ));
    }
}

fn warn(line: &str) {
    eprintln!("rbox: warning: {}", crate::output::escape::text(line));
}

/// The fields of one volume.
pub(crate) fn row(volume: &Volume, links: usize, sizes: bool) -> Value {
    let labels: Vec<String> =
        volume.all_labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "Availability": "N/A",
        "Driver": "local",
        "Group": "N/A",
        "Labels": labels.join(","),
        "Links": if sizes { links.to_string() } else { "N/A".to_owned() },
        "Mountpoint": volume.mountpoint.display().to_string(),
        "Name": volume.name.as_str(),
        "Scope": "local",
        "Size": if sizes { human_sum(volume.size()) } else { "N/A".to_owned() },
        "Status": "N/A",
    })
}

/// Remove one or more volumes
#[derive(Debug, Parser)]
#[command(
    name = "rm",
    after_help = "Examples:\n  rbox volume rm data\n  rbox volume rm $(rbox volume ls -q --filter dangling=true)"
)]
pub(crate) struct Rm {
    /// Do not fail for volumes that are not there
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

impl Execute for Rm {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let store = global.engine.volumes();
        Ok(each(&self.volumes, |given| {
            // What is no name is the name of no volume.
            let removed = match given.parse::<VolumeName>() {
                Ok(name) => store.remove(&name, &|| global.engine.volume_users()),
                Err(_) => Err(VolumeError::Missing(given.to_owned())),
            };
            match removed {
                Err(VolumeError::Missing(_)) if self.force => {}
                other => other?,
            }
            say(given)
        }))
    }
}

/// Remove unused local volumes
#[derive(Debug, Parser)]
#[command(
    name = "prune",
    after_help = "Examples:\n  rbox volume prune -f           # unused anonymous volumes\n  rbox volume prune -a -f        # named ones too\n  rbox volume prune --filter label!=keep"
)]
pub(crate) struct Prune {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pruning: Pruning,
}

impl Execute for Prune {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = self.pruning.filters(VOLUME_PRUNE_KEYS)?;
        let by_filter = filters.boolean("all")?;
        if self.all && by_filter.is_some() {
            return Err(bad_input("conflicting options: cannot specify both --all and --filter all=1"));
        }
        let all = self.all || by_filter.unwrap_or(false);
        let what = if all { "all local volumes" } else { "anonymous local volumes" };
        let warning = format!("WARNING! This will remove {what} not used by at least one container.");
        if !self.pruning.agreed(&warning)? {
            return Ok(0);
        }
        let reclaimed = prune(global, &filters, all)?;
        say(&format!("Total reclaimed space: {}", human_sum(reclaimed)))?;
        Ok(0)
    }
}

/// Removes unused volumes, prints which, and gives the bytes that were freed.
pub(crate) fn prune(global: &Global, filters: &Filters, all: bool) -> anyhow::Result<u64> {
    let pruned = global.engine.prune_volumes(filters, all)?;
    say_deleted("Volumes", pruned.names.iter().map(VolumeName::as_str))?;
    for failure in pruned.failures {
        warn(&message(&failure.into()));
    }
    Ok(pruned.reclaimed)
}
