//! `rbox compose config`: what a project is once all is resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use rbox_compose::Loaded;
use rbox_engine::spec::Reference;
use serde_json::json;

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::compose::project::{load, options, refused};
use crate::output::table::{align, write_all};

/// Show a project as it is once files are merged and variables are put in
#[derive(Debug, Parser)]
#[command(
    name = "config",
    after_help = "Examples:
  rbox compose config                          # the whole, in YAML
  rbox compose -f compose.yaml -f prod.yaml config --format json
  rbox compose config -q && echo fine          # only check
  rbox compose config --services
  rbox compose config --variables              # which variables the files name
  rbox compose config --origins                # and where each value came from
  rbox compose config --hash '*'
  rbox compose config --lock-image-digests > locked.yaml"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Config {
    /// yaml or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only check; print nothing
    #[arg(short, long)]
    quiet: bool,
    /// Leave variables as they are written
    #[arg(long)]
    no_interpolate: bool,
    /// Leave out what is implied, such as the default network
    #[arg(long)]
    no_normalize: bool,
    /// Leave paths relative
    #[arg(long)]
    no_path_resolution: bool,
    /// Do not check that the parts fit
    #[arg(long)]
    no_consistency: bool,
    /// Accepted, as Compose does: files of variables are read all the same
    #[arg(long)]
    no_env_resolution: bool,
    /// The names of services, one a line
    #[arg(long)]
    services: bool,
    /// The names of volumes
    #[arg(long)]
    volumes: bool,
    /// The names of networks
    #[arg(long)]
    networks: bool,
    /// The models
    #[arg(long)]
    models: bool,
    /// The names of profiles
    #[arg(long)]
    profiles: bool,
    /// The images
    #[arg(long)]
    images: bool,
    /// The hashes of services (names with commas, or *)
    #[arg(long, value_name = "SERVICE")]
    hash: Option<String>,
    /// The variables that the files name, with their defaults
    #[arg(long)]
    variables: bool,
    /// The variables that the files name, with their values and where these came from
    #[arg(long)]
    origins: bool,
    /// All variables that could be named
    #[arg(long)]
    environment: bool,
    /// Put the digests that images have in their registries into their names
    #[arg(long)]
    resolve_image_digests: bool,
    /// Print only the images of services, with their digests: a file to lay over the others
    #[arg(long)]
    lock_image_digests: bool,
    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only these services, and those they depend on
    #[arg(value_name = "SERVICE")]
    names: Vec<String>,
}

impl Execute for Config {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut wanted = options(global)?;
        wanted.interpolate = !self.no_interpolate && !self.variables;
        wanted.normalize = !self.no_normalize;
        wanted.resolve_paths = !self.no_path_resolution;
        wanted.check_consistency = !self.no_consistency;
        let lists = self.services || self.volumes || self.networks || self.models || self.hash.is_some();
        if !lists {
            wanted.services.clone_from(&self.names);
        }
        wanted.resolve_environment = !(lists || self.profiles || self.images);
        let mut loaded = load(&wanted)?;
        if (self.resolve_image_digests || self.lock_image_digests) && !lists && !self.profiles {
            let mut known = BTreeMap::<String, String>::new();
            loaded.replace_images(|image| -> anyhow::Result<String> {
                if let Some(pinned) = known.get(image) {
                    return Ok(pinned.clone());
                }
                let pinned = with_digest(global, image)?;
                known.insert(image.to_owned(), pinned.clone());
                Ok(pinned)
            })?;
        }
        if self.lock_image_digests {
            loaded.keep_only_images();
        }
        let text = self.text(&loaded)?;
        if self.quiet {
            return Ok(0);
        }
        match &self.output {
            Some(path) if !text.is_empty() => {
                std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
            }
            _ => write_all(&mut std::io::stdout(), &text)?,
        }
        Ok(0)
    }
}

/// The whole name of an image, with the digest that its tag has in the registry.
fn with_digest(global: &Global, image: &str) -> anyhow::Result<String> {
    let reference = Reference::parse(image)?;
    let name = format!("{}/{}", reference.domain(), reference.path());
    if let Some(digest) = reference.digest() {
        return Ok(format!("{name}@{digest}"));
    }
    let digest = global.engine.digest_in_registry(&reference)?;
    Ok(format!("{name}:{}@{digest}", reference.tag().unwrap_or("latest")))
}

impl Config {
    fn text(&self, loaded: &Loaded) -> anyhow::Result<String> {
        let project = &loaded.project;
        if self.services {
            return Ok(lines(loaded.service_names()));
        }
        if self.volumes {
            return Ok(lines(project.volumes.keys().cloned()));
        }
        if self.networks {
            return Ok(lines(project.networks.keys().cloned()));
        }
        if self.models {
            return Ok(lines(
                project.models.values().map(|model| model.model.clone()).filter(|model| !model.is_empty()),
            ));
        }
        if let Some(names) = &self.hash {
            return hashes(loaded, names);
        }
        if self.profiles {
            let all = project.services.values().chain(project.disabled_services.values());
            let profiles: BTreeSet<String> = all.flat_map(|service| service.profiles.clone()).collect();
            return Ok(lines(profiles));
        }
        if self.images {
            let image = |name: &String, image: &String| {
                if image.is_empty() { format!("{}-{name}", project.name) } else { image.clone() }
            };
            return Ok(lines(project.services.iter().map(|(name, service)| image(name, &service.image))));
        }
        if self.variables {
            return self.variables(loaded);
        }
        if self.origins {
            return self.origins(loaded);
        }
        if self.environment {
            return Ok(environment(loaded));
        }
        match self.format.as_deref() {
            None | Some("yaml") => loaded.to_yaml().map_err(refused),
            Some("json") => loaded.to_json().map_err(refused),
            Some(other) => {
                Err(Coded { message: format!("unsupported format {other:?}"), code: NOT_DONE }.into())
            }
        }
    }

    fn variables(&self, loaded: &Loaded) -> anyhow::Result<String> {
        let named = loaded.named_variables();
        if self.format.as_deref() == Some("json") {
            let all: serde_json::Map<String, serde_json::Value> = named
                .into_iter()
                .map(|found| {
                    let value = json!({
                        "Name": found.name,
                        "DefaultValue": found.default,
                        "PresenceValue": found.alternate,
                        "Required": found.required,
                    });
                    (found.name, value)
                })
                .collect();
            return Ok(format!("{}\n", serde_json::to_string_pretty(&all)?));
        }
        let mut table = "NAME\tREQUIRED\tDEFAULT VALUE\tALTERNATE VALUE\n".to_owned();
        for found in named {
            let _ =
                writeln!(table, "{}\t{}\t{}\t{}", found.name, found.required, found.default, found.alternate);
        }
        Ok(align(&table))
    }

    fn origins(&self, loaded: &Loaded) -> anyhow::Result<String> {
        if self.format.as_deref() == Some("json") {
            let all: Vec<serde_json::Value> = loaded
                .variables
                .iter()
                .map(|used| {
                    let origin = used.variable.as_ref().map(|variable| variable.origin.to_string());
                    json!({
                        "Name": used.name,
                        "Value": used.variable.as_ref().map(|variable| &variable.value),
                        "Origin": origin,
                        "Places": used.places.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    })
                })
                .collect();
            return Ok(format!("{}\n", serde_json::to_string_pretty(&all)?));
        }
        let mut table = "NAME\tVALUE\tORIGIN\tUSED AT\n".to_owned();
        for used in &loaded.variables {
            let (value, origin) = match &used.variable {
                Some(variable) => (variable.value.replace(['\n', '\t'], " "), variable.origin.to_string()),
                None => (String::new(), "not set".to_owned()),
            };
            let places: Vec<String> = used.places.iter().map(ToString::to_string).collect();
            let _ = writeln!(table, "{}\t{value}\t{origin}\t{}", used.name, places.join(", "));
        }
        Ok(align(&table))
    }
}

fn lines(names: impl IntoIterator<Item = String>) -> String {
    names.into_iter().map(|name| name + "\n").collect()
}

fn hashes(loaded: &Loaded, names: &str) -> anyhow::Result<String> {
    let services = &loaded.project.services;
    let mut wanted: Vec<&str> =
        if names == "*" { services.keys().map(String::as_str).collect() } else { names.split(',').collect() };
    wanted.sort_unstable();
    let mut text = String::new();
    for name in wanted {
        let Some(service) = services.get(name) else {
            return Err(
                Coded { message: format!("no such service: {name}: not found"), code: NOT_DONE }.into()
            );
        };
        let _ = writeln!(text, "{name} {}", service.config_hash());
    }
    Ok(text)
}

/// All variables that could be named, by their names.
fn environment(loaded: &Loaded) -> String {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    rbox_engine::caller::each_variable(|variable| {
        let pair = std::str::from_utf8(variable).ok().and_then(|text| text.split_once('='));
        all.extend(pair.map(|(name, value)| (name.to_owned(), value.to_owned())));
    });
    let added = loaded.environment.added();
    all.extend(added.map(|(name, variable)| (name.to_owned(), variable.value.clone())));
    lines(all.into_iter().map(|(name, value)| format!("{name}={value}")))
}
