//! `rbox buildx imagetools`: images of registries, shown and put together.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use clap::Parser;
use rbox_engine::image::media::{Descriptor, Document, MAX_DOCUMENT};
use rbox_engine::image::remote::{ImageTools, RemoteImage, Source};
use rbox_engine::spec::Reference;
use serde_json::json;

use crate::args::platform::{parse_platform, parse_platforms};
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::image::imagetools_fields::Fields;
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::{align_with, unwritten, write_all};

/// Create a new image based on source images
#[derive(Debug, Parser)]
#[command(
    name = "create",
    after_help = "Examples:\n  rbox buildx imagetools create -t registry.lan:5000/app:1 registry.lan:5000/app:amd64 registry.lan:5000/app:arm64\n  rbox buildx imagetools create -t registry.lan:5000/app:latest registry.lan:5000/app:1      # one more tag, nothing copied\n  rbox buildx imagetools create --dry-run --append -t registry.lan:5000/app:1 registry.lan:5000/app:riscv64"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Create {
    /// Add annotation to the image (index:KEY=VALUE, manifest-descriptor[PLATFORM]:KEY=VALUE)
    #[arg(long, value_name = "[TYPE:]KEY=VALUE")]
    annotation: Vec<String>,
    /// Append to existing manifest
    #[arg(long)]
    append: bool,
    /// Accepted for compatibility with Docker; there is one builder
    #[arg(long)]
    builder: Option<String>,
    /// Accepted for compatibility with Docker
    #[arg(short = 'D', long)]
    debug: bool,
    /// Show final image instead of pushing
    #[arg(long)]
    dry_run: bool,
    /// Read source descriptor from file
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Write create result metadata to a file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Filter specified platforms of target image
    #[arg(short, long, value_delimiter = ',')]
    platform: Vec<String>,
    /// When only a single source is specified, prefer an index to a copy of it
    #[arg(
        long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = clap::ArgAction::Set
    )]
    prefer_index: bool,
    /// Set type of progress output ("auto", "none", "plain", "tty", "rawjson"): all but "none" are lines
    #[arg(long, default_value = "auto", value_parser = ["auto", "none", "quiet", "plain", "tty", "rawjson"])]
    progress: String,
    /// Set reference for new image
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<String>,
    /// Digests, references or descriptors
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
}

impl Execute for Create {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut texts = Vec::new();
        for file in &self.file {
            texts.push(read_source(file)?);
        }
        texts.extend(self.sources.iter().cloned());
        if texts.is_empty() {
            anyhow::bail!("no sources specified");
        }
        if !self.dry_run && self.tag.is_empty() {
            anyhow::bail!("can't push with no tags specified, please set --tag or --dry-run");
        }
        let parse =
            |text: &String| Reference::parse(text).map(Reference::with_default_tag).map_err(bad_input);
        let tags = self.tag.iter().map(parse).collect::<anyhow::Result<Vec<_>>>()?;
        if let Some(first) = self.tag.first().filter(|_| self.append) {
            texts.insert(0, first.clone());
        }
        let sources = texts.iter().map(|text| Source::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let mut tools = ImageTools {
            platforms: parse_platforms(&self.platform)?,
            prefer_index: self.prefer_index,
            ..ImageTools::default()
        };
        self.annotation.iter().try_for_each(|text| annotate(&mut tools, text))?;
        let remote = global.engine.remote()?;
        let combined = tools.combine(&remote, &sources, &tags)?;
        if self.dry_run {
            say(&escape::json(&String::from_utf8_lossy(&combined.bytes)))?;
            return Ok(0);
        }
        let quiet = matches!(self.progress.as_str(), "none" | "quiet");
        let mut step: Option<Reference> = None;
        let mut number = 0;
        let mut shown = |repository: &Reference, line: &str| {
            if quiet {
                return;
            }
            let mut text = String::new();
            if step.as_ref().is_none_or(|known| !known.same_repository(repository)) {
                number += 1;
                let _ = writeln!(text, "#{number} [internal] pushing {}", repository.name());
                step = Some(repository.clone());
            }
            let _ = writeln!(text, "#{number} {line}");
            let _ = write_all(&mut std::io::stderr(), &text);
        };
        let mut push = || ImageTools::push(&remote, &combined, &tags, &mut shown);
        match &self.metadata_file {
            None => push()?,
            Some(file) => {
                let names: Vec<String> = tags.iter().map(Reference::name).collect();
                let metadata = json!({
                    "containerimage.descriptor": combined.descriptor,
                    "image.name": names.join(","),
                });
                // Written first: nothing is pushed of which the caller's file would not know.
                crate::command::file::replace(
                    file,
                    crate::command::file::ORDINARY,
                    |out| -> anyhow::Result<()> {
                        out.write_all(format!("{metadata:#}").as_bytes())
                            .and_then(|()| out.flush())
                            .map_err(|error| unwritten(&file.display().to_string(), &error))?;
                        Ok(push()?)
                    },
                )?;
            }
        }
        if !quiet {
            write_all(&mut std::io::stderr(), &format!("#{number} DONE\n"))?;
        }
        Ok(0)
    }
}

/// A source that a file has, which may be a pipe.
fn read_source(file: &Path) -> anyhow::Result<String> {
    let failed = |error: std::io::Error| anyhow::anyhow!("open {}: {error}", file.display());
    let mut text = String::new();
    let opened = File::open(file).map_err(failed)?;
    opened.take(MAX_DOCUMENT + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_DOCUMENT {
        anyhow::bail!("{} is over {MAX_DOCUMENT} bytes long: no source is", file.display());
    }
    Ok(text)
}

/// `[TYPE[PLATFORM]:]KEY=VALUE`, of the types that an index has.
fn annotate(tools: &mut ImageTools, text: &str) -> anyhow::Result<()> {
    let wrong = || bad_input(format!("invalid annotation {text:?}, expected key=value"));
    let (left, value) = text.split_once('=').ok_or_else(wrong)?;
    let (kinds, key) = left.split_once(':').unwrap_or(("", left));
    if key.is_empty() {
        return Err(wrong());
    }
    for kind in kinds.split(',') {
        let (kind, platform) = match kind.split_once('[') {
            Some((kind, rest)) => {
                let platform = rest.strip_suffix(']').filter(|platform| !platform.is_empty());
                let wrong =
                    || bad_input(format!("invalid annotation {text:?}, expected {kind}[PLATFORM]:key=value"));
                (kind, Some(parse_platform(platform.ok_or_else(wrong)?)?))
            }
            None => (kind, None),
        };
        match kind {
            "index" if platform.is_some() => {
                return Err(bad_input(format!("invalid annotation {text:?}: an index is for no platform")));
            }
            "index" => {
                tools.of_index.insert(key.to_owned(), value.to_owned());
            }
            "manifest-descriptor" => tools.of_entries.push((platform, key.to_owned(), value.to_owned())),
            // Without a type the manifest is meant.
            "manifest" | "" => anyhow::bail!("\"manifest\" annotations are not supported yet"),
            "index-descriptor" => anyhow::bail!("{kind:?} annotations are invalid while creating an image"),
            other => return Err(bad_input(format!("unknown annotation type {other:?}"))),
        }
    }
    Ok(())
}

/// Show details of an image in the registry
#[derive(Debug, Parser)]
#[command(
    name = "inspect",
    after_help = "Examples:\n  rbox buildx imagetools inspect debian:bookworm-slim\n  rbox buildx imagetools inspect --raw debian:bookworm-slim\n  rbox buildx imagetools inspect --format '{{json .Image}}' debian:bookworm-slim\n  rbox buildx imagetools inspect --format '{{.Manifest.Digest}}' debian:bookworm-slim"
)]
pub(crate) struct Inspect {
    /// Accepted for compatibility with Docker; there is one builder
    #[arg(long)]
    builder: Option<String>,
    /// Accepted for compatibility with Docker
    #[arg(short = 'D', long)]
    debug: bool,
    /// Format the output using the given Go template: .Name, .Manifest, .Image, .Provenance, .SBOM
    #[arg(long)]
    format: Option<String>,
    /// Show original, unformatted JSON manifest
    #[arg(long)]
    raw: bool,
    /// A name
    name: String,
}

impl Execute for Inspect {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let format = self.format.as_deref().filter(|format| !format.is_empty());
        if format.is_some() && self.raw {
            anyhow::bail!("format and raw cannot be used together");
        }
        let name = Reference::parse(&self.name).map_err(bad_input)?.with_default_tag();
        let remote = global.engine.remote()?;
        let image = remote.fetch(&name)?;
        let mut out = std::io::stdout();
        if self.raw {
            // As it came, or its digest would be another one; a terminal is not driven by it.
            let text = String::from_utf8_lossy(&image.bytes);
            let text = if out.is_terminal() { escape::multiline(&text) } else { text };
            write_all(&mut out, &text)?;
            return Ok(0);
        }
        let words = |text: &str| text.split_whitespace().collect::<String>();
        let text = match format.map(words).as_deref() {
            None | Some("{{.Manifest}}") => shown(&image),
            Some(_) => Fields::new(&remote, &image, &self.name).formatted(format.unwrap_or_default())?,
        };
        write_all(&mut out, &text)?;
        Ok(0)
    }
}

/// What buildx shows where nothing is asked for.
fn shown(image: &RemoteImage) -> String {
    let Descriptor { media_type, digest, .. } = &image.descriptor;
    let mut text =
        align(&format!("Name:\t{}\nMediaType:\t{media_type}\nDigest:\t{digest}\n", image.name.full()));
    let Document::Index(index) = &image.document else { return text };
    text.push_str(&align("\t\nManifests:\t\n"));
    let mut rows = String::new();
    for (at, one) in index.manifests.iter().enumerate() {
        if at > 0 {
            rows.push_str("\t\n");
        }
        let name = match image.name.digest() {
            Some(_) => image.name.with_digest(one.digest).full(),
            None => format!("{}@{}", image.name.full(), one.digest),
        };
        let _ = writeln!(rows, "  Name:\t{name}\n  MediaType:\t{}", escape::text(&one.media_type));
        let Some(platform) = &one.platform else { continue };
        let _ = writeln!(rows, "  Platform:\t{}", escape::text(&platform.normal().to_string()));
        if let Some(version) = platform.os_version.as_ref().filter(|version| !version.is_empty()) {
            let _ = writeln!(rows, "  OSVersion:\t{}", escape::text(version));
        }
        if let Some(notes) = one.annotations.as_ref().filter(|notes| !notes.is_empty()) {
            rows.push_str("  Annotations:\t\n");
            text.push_str(&align(&std::mem::take(&mut rows)));
            let mut lines = String::new();
            for (key, value) in notes {
                let _ = writeln!(lines, "    {}:\t{}", escape::text(key), escape::text(value));
            }
            text.push_str(&align(&lines));
        }
    }
    text.push_str(&align(&rows));
    text
}

/// As Go's tabwriter with one space between columns.
fn align(text: &str) -> String {
    align_with(text, 0, 1)
}
