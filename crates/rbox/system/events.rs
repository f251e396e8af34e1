//! `rbox events`: what happens to containers, images, volumes and networks.

use std::io::{self, Write as _};

use clap::Parser;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rbox_engine::engine::{EventFilter, EventQuery, Message};
use rbox_engine::error::EngineError;
use rbox_engine::listing::moment;

use crate::command::entry::Execute;
use crate::command::error::{Coded, bad_input};
use crate::command::global::Global;
use crate::output::escape;
use crate::output::template::Template;

/// Get real time events
#[derive(Debug, Parser)]
#[command(
    name = "events",
    after_help = "Examples:\n  rbox events                                        # from now on, until Ctrl-C\n  rbox events --since 10m --until 0s                 # of the last ten minutes\n  rbox events -f container=web -f event=die\n  rbox events -f event=health_status --format '{{.Actor.Attributes.name}} {{.Action}}'\n  rbox events --format json | jq -r .Action"
)]
pub(crate) struct Events {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Format output: 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, allow_hyphen_values = true)]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, allow_hyphen_values = true)]
    until: Option<String>,
}

impl Execute for Events {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let shown = Shown::parse(self.format.as_deref())?;
        let query = self.query()?;
        let mut failed = None;
        let mut sink = |message: &Message| match shown.line(message) {
            Ok(line) => {
                let mut out = io::stdout().lock();
                let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                written.map_err(|error| {
                    let kind = error.kind();
                    // The journal is none of it.
                    if kind != io::ErrorKind::BrokenPipe {
                        failed = Some(anyhow::Error::new(error).context("write standard output"));
                    }
                    kind.into()
                })
            }
            Err(error) => {
                failed = Some(error);
                Err(io::ErrorKind::Interrupted.into())
            }
        };
        let ended = global.engine.events(&query, &mut sink);
        if let Some(error) = failed {
            return Err(error);
        }
        match ended {
            // `rbox events | head`: the reader has what it wanted.
            Err(EngineError::File { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            other => Ok(other.map(|()| 0)?),
        }
    }
}

impl Events {
    fn query(&self) -> anyhow::Result<EventQuery> {
        let now = Timestamp::now();
        let moment = |name: &str, text: Option<&str>| {
            let given = text.filter(|text| !text.is_empty());
            let read = given.map(|text| moment::parse(text, now)).transpose();
            read.map_err(|error| bad_input(format!("invalid value for \"{name}\": {error}")))
        };
        let (since, until) =
            (moment("since", self.since.as_deref())?, moment("until", self.until.as_deref())?);
        if let (Some(first), Some(last)) = (since, until)
            && last < first
        {
            let (first, last) = (self.since.as_deref(), self.until.as_deref());
            return Err(bad_input(format!(
                "`since` time ({}) cannot be after `until` time ({})",
                escape::text(first.unwrap_or_default()),
                escape::text(last.unwrap_or_default())
            )));
        }
        Ok(EventQuery { since, until, filter: EventFilter::parse(&self.filter)? })
    }
}

/// How events are shown.
enum Shown {
    Lines,
    Json,
    Template(Box<Template>),
}

impl Shown {
    fn parse(format: Option<&str>) -> anyhow::Result<Self> {
        match format {
            None | Some("") => Ok(Self::Lines),
            Some("json") => Ok(Self::Json),
            Some(source) => {
                let refused = |error: crate::output::template::Error| Coded {
                    message: format!("Error parsing format: {error}"),
                    code: 64,
                };
                let template = Template::parse(source).map_err(refused)?.of("Message");
                // One that asks for what no event has is refused before the first comes.
                template.render(&Message::default().as_docker()).map_err(refused)?;
                Ok(Self::Template(Box::new(template)))
            }
        }
    }

    fn line(&self, message: &Message) -> anyhow::Result<String> {
        Ok(match self {
            Self::Lines => line(message),
            Self::Json => format!("{}\n", escape::json(&message.as_docker().to_string())),
            Self::Template(template) => format!("{}\n", template.render(&message.as_docker())?),
        })
    }
}

/// An event as Docker's client shows it.
fn line(message: &Message) -> String {
    let zoned = message.timestamp().to_zoned(TimeZone::system());
    let zone = if zoned.offset().is_zero() { "Z".to_owned() } else { zoned.strftime("%:z").to_string() };
    let time = zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f");
    let all: Vec<String> = message.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let attributes = if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) };
    let text = format!("{} {} {}{attributes}", message.actor_type.as_str(), message.action, message.id);
    format!("{time}{zone} {}\n", escape::text(&text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message() -> Message {
        let attributes = [("name", "web"), ("image", "busybox"), ("text", "a\nb")];
        Message {
            action: "start".into(),
            id: "c0ffee".into(),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            time: 1_700_000_000_000_000_001,
            ..Message::default()
        }
    }

    #[test]
    fn an_event_is_one_line() {
        let line = line(&message());
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() >= "2006-01-02T15:04:05.000000000Z".len(), "{time}");
        assert_eq!(time.parse::<Timestamp>().unwrap(), message().timestamp());
        assert_eq!(rest, "container start c0ffee (image=busybox, name=web, text=a\\nb)\n");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn templates_see_dockers_fields() {
        let shown = |source: &str| {
            let network = Message { actor_type: rbox_engine::engine::ActorType::Network, ..message() };
            let format = Shown::parse(Some(source)).unwrap();
            (format.line(&message()).unwrap(), format.line(&network).unwrap())
        };
        let both = |text: &str| (format!("{text}\n"), format!("{text}\n"));
        assert_eq!(shown("{{.Action}} {{.Actor.ID}} {{.Scope}}"), both("start c0ffee local"));
        assert_eq!(shown("{{.TimeNano}} {{.Time}}"), both("1700000000000000001 1700000000"));
        assert_eq!(shown("{{.Actor.Attributes.name}}"), both("web"));
        assert_eq!(shown("{{.Type}}|{{.Status}}|{{.ID}}|{{.From}}").0, "container|start|c0ffee|busybox\n");
        assert_eq!(shown("{{.Type}}|{{.Status}}|{{.ID}}|{{.From}}").1, "network|||\n");
        assert_eq!(shown("{{json .}}"), shown("json"));
        assert!(!shown("{{json .}}").1.contains("status"));
        for bad in ["{{.Bogus}}", "{{.Actor", "{{.Actor.Bogus}}"] {
            let error = Shown::parse(Some(bad)).err().unwrap();
            assert_eq!(error.downcast_ref::<Coded>().map(|coded| coded.code), Some(64), "{bad}");
        }
    }
}
