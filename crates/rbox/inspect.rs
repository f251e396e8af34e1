//! `rbox inspect`: all there is to know of a container, an image, a volume or a network.

use clap::{Parser, ValueEnum};
use rbox_engine::error::EngineError;
use rbox_engine::inspect;
use rbox_engine::network::Error as NetworkError;
use rbox_engine::spec::Reference;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::{BadInput, Coded, NOT_DONE, bad_input, report};
use crate::command::global::Global;
use crate::image::history::image_for;
use crate::image::images::image_size;
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::write_all;
use crate::output::template::Template;

/// What kind of thing a name is looked up as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

impl Kind {
    /// As templates know its records.
    fn type_name(self) -> &'static str {
        match self {
            Self::Container | Self::Image => "",
            Self::Network => "Network",
            Self::Volume => "Volume",
        }
    }
}

/// Return low-level information on containers, images, volumes and networks
#[derive(Debug, Parser)]
#[command(
    name = "inspect",
    after_help = "Examples:\n  rbox inspect web\n  rbox inspect -f '{{.State.Status}} {{.NetworkSettings.IPAddress}}' web\n  rbox inspect -f '{{json .Config.Env}}' python:3.11-slim\n  rbox inspect --type volume data\n  rbox inspect --create-command web    # the line that makes it again"
)]
pub(crate) struct Inspect {
    /// Print the command line that makes the container again, for a shell; with --format it is Config.CreateCommand
    #[arg(long)]
    create_command: bool,
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Return JSON for specified type
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

impl Execute for Inspect {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        if self.create_command && self.kind.is_some_and(|kind| kind != Kind::Container) {
            return Err(bad_input("--create-command is for containers only"));
        }
        let shown = Shown { size: self.size, create_command: self.create_command, platform: None };
        let kind = if self.create_command { Some(Kind::Container) } else { self.kind };
        show(global, &self.names, kind, self.format.as_deref(), shown)
    }
}

macro_rules! inspect_one_kind {
    ($name:ident, $kind:ident, $about:literal, $example:literal) => {
        #[doc = $about]
        #[derive(Debug, Parser)]
        #[command(name = "inspect", after_help = $example)]
        pub(crate) struct $name {
            /// Format output using a Go template, or 'json'
            #[arg(short, long)]
            format: Option<String>,
            /// Names or ids
            #[arg(required = true, value_name = "NAME|ID")]
            names: Vec<String>,
        }

        impl Execute for $name {
            fn execute(self, global: &Global) -> anyhow::Result<u8> {
                show(global, &self.names, Some(Kind::$kind), self.format.as_deref(), Shown::default())
            }
        }
    };
}

/// Display detailed information on one or more images
#[derive(Debug, Parser)]
#[command(
    name = "inspect",
    after_help = "Examples:\n  rbox image inspect python:3.11-slim\n  rbox image inspect -f '{{.Id}} {{.Config.Cmd}}' python:3.11-slim\n  rbox image inspect --platform linux/arm64 debian:12"
)]
pub(crate) struct InspectImage {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,
    /// Of an image for several platforms this one (OS/ARCH[/VARIANT])
    #[arg(long)]
    platform: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

impl Execute for InspectImage {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let shown = Shown { platform: self.platform.as_deref(), ..Shown::default() };
        show(global, &self.names, Some(Kind::Image), self.format.as_deref(), shown)
    }
}

inspect_one_kind!(
    InspectVolume,
    Volume,
    "Display detailed information on one or more volumes",
    "Examples:\n  rbox volume inspect data\n  rbox volume inspect -f '{{.Mountpoint}}' data"
);
/// Display detailed information on one or more networks
#[derive(Debug, Parser)]
#[command(
    name = "inspect",
    after_help = "Examples:\n  rbox network inspect bridge\n  rbox network inspect -f '{{(index .IPAM.Config 0).Subnet}}' bridge"
)]
pub(crate) struct InspectNetwork {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,
    /// Accepted for compatibility with Docker; has no effect
    #[arg(short, long)]
    verbose: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

impl Execute for InspectNetwork {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let Self { format, verbose: _, names } = self;
        show(global, &names, Some(Kind::Network), format.as_deref(), Shown::default())
    }
}

/// Display detailed information on one or more containers
#[derive(Debug, Parser)]
#[command(
    name = "inspect",
    after_help = "Examples:\n  rbox container inspect web\n  rbox container inspect -s -f '{{.SizeRw}}' web\n  rbox container inspect --create-command web"
)]
pub(crate) struct InspectContainer {
    /// Print the command line that makes the container again, for a shell; with --format it is Config.CreateCommand
    #[arg(long)]
    create_command: bool,
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

impl Execute for InspectContainer {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let shown = Shown { size: self.size, create_command: self.create_command, platform: None };
        show(global, &self.names, Some(Kind::Container), self.format.as_deref(), shown)
    }
}

/// What Docker's client ends with when the template of an inspect cannot be parsed: sysexits.h, `EX_USAGE`.
const BAD_TEMPLATE: u8 = 64;

/// The template of `inspect -f`.
pub(crate) fn parse(text: &str) -> Result<Template, Coded> {
    Template::parse(text).map_err(|error| Coded { message: error.to_string(), code: BAD_TEMPLATE })
}

/// What is shown beside the rest.
#[derive(Clone, Copy, Default)]
struct Shown<'a> {
    /// Of containers.
    size: bool,
    create_command: bool,
    /// Of images for several platforms the one that is meant.
    platform: Option<&'a str>,
}

fn show(
    global: &Global,
    names: &[String],
    kind: Option<Kind>,
    format: Option<&str>,
    shown: Shown<'_>,
) -> anyhow::Result<u8> {
    let mut out = std::io::stdout();
    if shown.create_command && format.is_none() {
        return Ok(each(names, |name| {
            let container = global.engine.container(name)?;
            let command = global.engine.create_command(&container)?;
            for sentence in &command.left_out {
                let line = format!("rbox: warning: {}: {}\n", container.record.name, escape::text(sentence));
                write_all(&mut std::io::stderr(), &line)?;
            }
            let line: Vec<String> = command.words.iter().map(|word| escape::shell(word)).collect();
            say(&line.join(" "))
        }));
    }
    let template = match format {
        None | Some("" | "json") => None,
        Some(text) => Some(parse(text)?),
    };
    let mut found = Vec::new();
    let (mut code, mut printed) = (0, false);
    for name in names {
        match look_up(global, name, kind, shown) {
            Ok((kind, value)) => match &template {
                Some(template) => {
                    // One that has not what is asked for keeps none of the others from being shown.
                    match template.render_as(kind.type_name(), &value) {
                        Ok(text) => {
                            printed = true;
                            write_all(&mut out, &format!("{text}\n"))?;
                        }
                        Err(error) => code = code.max(report(&error.into()).min(NOT_DONE)),
                    }
                }
                None => found.push(value),
            },
            Err(error) => {
                let input = error.is::<BadInput>();
                code = code.max(if input { report(&error) } else { report(&error).min(NOT_DONE) });
            }
        }
    }
    if template.is_some() {
        // Docker's client gives a line whatever there was.
        if !printed {
            write_all(&mut out, "\n")?;
        }
    } else {
        let text = if format == Some("json") { serde_json::to_string(&found)? } else { pretty(&found)? };
        write_all(&mut out, &format!("{}\n", escape::json(&text)))?;
    }
    Ok(code)
}

/// Indented by four spaces, as Docker prints it.
pub(crate) fn pretty(value: &impl Serialize) -> anyhow::Result<String> {
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    ")))?;
    Ok(String::from_utf8(text)?)
}

fn look_up(
    global: &Global,
    name: &str,
    kind: Option<Kind>,
    shown: Shown<'_>,
) -> anyhow::Result<(Kind, Value)> {
    let kinds = match &kind {
        Some(kind) => std::slice::from_ref(kind),
        None => &[Kind::Container, Kind::Image, Kind::Network, Kind::Volume],
    };
    for kind in kinds {
        if let Some(value) = look_up_as(global, name, *kind, shown)? {
            return Ok((*kind, value));
        }
    }
    match kind {
        None => anyhow::bail!("No such object: {name}"),
        Some(Kind::Container) => anyhow::bail!("No such container: {name}"),
        Some(Kind::Image) => {
            let name = name
                .parse()
                .map_or_else(|_| name.to_owned(), |name: Reference| name.with_default_tag().familiar());
            anyhow::bail!("No such image: {name}")
        }
        Some(Kind::Network) => anyhow::bail!("network {name} not found"),
        Some(Kind::Volume) => anyhow::bail!("get {name}: no such volume"),
    }
}

fn look_up_as(global: &Global, name: &str, kind: Kind, shown: Shown<'_>) -> anyhow::Result<Option<Value>> {
    match kind {
        Kind::Container => {
            let container = match global.engine.container(name) {
                Err(EngineError::NoContainer(_)) => return Ok(None),
                other => other?,
            };
            let size = shown.size.then(|| image_size(global, &container)).transpose()?;
            let mut value = global.engine.inspect(&container, size);
            if let (true, Some(config)) = (shown.create_command, value["Config"].as_object_mut()) {
                config.insert("CreateCommand".into(), global.engine.create_command(&container)?.words.into());
            }
            Ok(Some(value))
        }
        Kind::Image => {
            let store = global.engine.images()?;
            if shown.platform.is_none() || !store.has(name)? {
                return Ok(store.find(name)?.as_ref().map(inspect::image));
            }
            Ok(Some(inspect::image(&image_for(&store, name, shown.platform)?)))
        }
        Kind::Volume => {
            let Ok(name) = name.parse() else { return Ok(None) };
            let Some(volume) = global.engine.volumes().get(&name)? else { return Ok(None) };
            crate::volume::volumes::warn_of_damage(&volume);
            Ok(Some(serde_json::to_value(volume.to_json())?))
        }
        Kind::Network => {
            let network = match global.engine.networks().find(name) {
                Err(NetworkError::NoNetwork(_)) => return Ok(None),
                found => found?,
            };
            Ok(Some(inspect::network(&network, &global.engine.containers()?)))
        }
    }
}
