//! `rbox compose events` and `wait`: what happens to the containers of a project.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::mpsc::channel;

use clap::Parser;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rbox_compose::run::{self, DownRequest};
use rbox_compose::{Instance, labels};
use rbox_engine::engine::{EventFilter, EventQuery, Message};
use rbox_engine::error::EngineError;
use rbox_engine::listing::moment;
use serde_json::json;

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, bad_input};
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, name, not_done};
use crate::compose::narrator::Shown;
use crate::compose::progress::Progress;
use crate::output::escape;
use crate::output::lines::say;

/// Receive what happens to a project's containers
#[derive(Debug, Parser)]
#[command(
    name = "events",
    after_help = "Examples:
  rbox compose events                                # from now on, until Ctrl-C
  rbox compose events --json web | jq -r .action
  rbox compose events --since 10m --until 0s"
)]
pub(crate) struct Events {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Also what happened since a time
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    since: Option<String>,
    /// Only until a time
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    until: Option<String>,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// What the labels of Compose begin with: they are left out.
const OWN: &str = "com.docker.compose.";

impl Execute for Events {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done(self.carry_out(global))
    }
}

impl Events {
    fn carry_out(&self, global: &Global) -> anyhow::Result<u8> {
        let now = Timestamp::now();
        let time = |what: &str, text: &Option<String>| {
            let read = text.as_deref().filter(|text| !text.is_empty()).map(|text| moment::parse(text, now));
            read.transpose().map_err(|error| bad_input(format!("invalid value for \"{what}\": {error}")))
        };
        let label = format!("label={}={}", labels::PROJECT, name(global)?);
        let query = EventQuery {
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            filter: EventFilter::parse(&["type=container", &label])?,
        };
        let mut sink = |message: &Message| match self.line(message) {
            Some(line) => {
                let mut out = io::stdout().lock();
                out.write_all(line.as_bytes())?;
                out.flush()
            }
            None => Ok(()),
        };
        match global.engine.events(&query, &mut sink) {
            // The reader has what it wanted.
            Err(EngineError::File { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            other => Ok(other.map(|()| 0)?),
        }
    }

    /// An event as it is shown; none for one that is not meant.
    fn line(&self, message: &Message) -> Option<String> {
        let label = |key: &str| message.attributes.get(key).map_or("", String::as_str);
        let service = label(labels::SERVICE);
        let meant = self.services.is_empty() || self.services.iter().any(|one| one == service);
        if !meant || label(labels::ONE_OFF) == "True" {
            return None;
        }
        let shown = message.attributes.iter().filter(|(key, _)| !key.starts_with(OWN));
        let attributes: BTreeMap<&String, &String> = shown.collect();
        let zoned = message.timestamp().to_zoned(TimeZone::system());
        if self.json {
            let zone = if zoned.offset().is_zero() { "Z".into() } else { zoned.strftime("%:z").to_string() };
            let object = json!({
                "action": message.action,
                "attributes": attributes,
                "id": message.id,
                "service": service,
                "time": format!("{}{zone}", zoned.strftime("%Y-%m-%dT%H:%M:%S.%f")),
                "type": "container",
            });
            return Some(format!("{}\n", escape::json(&object.to_string())));
        }
        let pairs: Vec<String> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let text = format!("container {} {} ({})", message.action, message.id, pairs.join(", "));
        Some(format!("{} {}\n", zoned.strftime("%Y-%m-%d %H:%M:%S.%6f"), escape::text(&text)))
    }
}

/// Wait until containers of services end, and end with the exit code of the last one
#[derive(Debug, Parser)]
#[command(
    name = "wait",
    after_help = "Examples:
  rbox compose wait job; echo $?
  rbox compose wait --down-project tests      # take the project down when tests has ended"
)]
pub(crate) struct Wait {
    /// Take the project down when the first container has ended
    #[arg(long)]
    down_project: bool,
    /// The services
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Wait {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done((|| {
            let chosen = Chosen::named(global)?;
            chosen.check(&self.services)?;
            let all = chosen.observed.instances.iter();
            let meant: Vec<&Instance> =
                all.filter(|one| self.services.contains(&one.service) && one.container.is_active()).collect();
            if meant.is_empty() {
                let message = format!("no containers for project {:?}", chosen.name);
                return Err(Coded { message, code: NOT_DONE }.into());
            }
            let (sender, ended) = channel();
            std::thread::scope(|scope| {
                for one in meant {
                    let sender = sender.clone();
                    scope.spawn(move || sender.send((one, global.engine.wait(&one.container))));
                }
                drop(sender);
                let mut last = 0;
                let tell = |one: &Instance, code: i32| {
                    let id = one.container.record.id.as_str();
                    say(&format!("container {id:?} exited with status code {code}"))
                };
                for (one, code) in &ended {
                    last = code?;
                    tell(one, last)?;
                    if self.down_project {
                        down(global, &chosen.name)?;
                        break;
                    }
                }
                // Those that the project's end has ended may be gone before they could be asked.
                ended.iter().try_for_each(|(one, code)| code.map_or(Ok(()), |code| tell(one, code)))?;
                Ok(u8::try_from(last).unwrap_or(255))
            })
        })())
    }
}

/// Takes a project down by its labels.
fn down(global: &Global, name: &str) -> anyhow::Result<()> {
    let request = DownRequest { remove_orphans: true, ..DownRequest::default() };
    let progress = Progress::new(&global.project, "Running")?;
    run::down(&global.engine, name, None, &request, &Shown(&progress))?;
    Ok(())
}
