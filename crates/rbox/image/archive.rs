//! `rbox load`, `save` and `import`: images as files.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use rbox_engine::image::archive::{ImportOptions, LoadEvent, SaveFormat};
use rbox_engine::spec::Reference;

use crate::args::platform::{parse_platform, parse_platforms};
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::file::{PRIVATE, replace};
use crate::command::global::Global;
use crate::output::lines::say;
use crate::output::table::{STDOUT, unwritten, write_all};
use crate::output::units::human_size;

/// Load images from a tar archive or STDIN
#[derive(Debug, Parser)]
#[command(
    name = "load",
    after_help = "Examples:\n  rbox load -i images.tar            # docker-archive or oci-archive, compressed or not\n  docker save app | rbox load\n  rbox load --platform linux/arm64 -i images.tar    # of an image for several platforms"
)]
pub(crate) struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load only these platforms of an image for several (OS/ARCH[/VARIANT])
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Execute for Load {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let source = open(
            self.input.as_deref(),
            "requested load from stdin, but stdin is a terminal; use -i FILE or redirect",
        )?;
        let shown = !self.quiet && io::stderr().is_terminal();
        let mut progress = |event: LoadEvent<'_>| {
            let line = match event {
                LoadEvent::Layer { diff_id, size } => {
                    format!("{}: Loading layer  {}\n", diff_id.short(), human_size(size))
                }
                LoadEvent::LayerExists { diff_id } => format!("{}: Already exists\n", diff_id.short()),
                LoadEvent::LayerDone { .. } => return,
            };
            if shown {
                let _ = write_all(&mut io::stderr(), &line);
            }
        };
        // Each platform of an image says the same of its name.
        let mut said = Vec::new();
        for loaded in global.engine.load_images(source, &parse_platforms(&self.platform)?, &mut progress)? {
            for line in loaded.lines() {
                if !said.contains(&line) {
                    say(&line)?;
                    said.push(line);
                }
            }
        }
        Ok(0)
    }
}

/// The file, or standard input unless that is a terminal.
fn open(path: Option<&Path>, refusal: &str) -> anyhow::Result<Box<dyn Read + Send>> {
    match path {
        Some(path) => {
            let file =
                File::open(path).map_err(|error| anyhow::anyhow!("open {}: {error}", path.display()))?;
            Ok(Box::new(file))
        }
        None if io::stdin().is_terminal() => Err(bad_input(refusal)),
        None => Ok(Box::new(io::stdin())),
    }
}

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// What docker load and skopeo's docker-archive: read; an OCI layout, too
    DockerArchive,
    /// An OCI layout alone
    OciArchive,
}

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(Debug, Parser)]
#[command(
    name = "save",
    after_help = "Examples:\n  rbox save -o images.tar python:3.11-slim busybox\n  rbox save python:3.11-slim | docker load\n  rbox save python:3.11-slim | zstd > python.tar.zst\n  rbox save --format oci-archive -o app.oci.tar app\n  rbox save --platform linux/arm64 -o arm64.tar app"
)]
pub(crate) struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The archive's form
    #[arg(long, value_enum, default_value = "docker-archive")]
    format: Form,
    /// Save only these platforms of an image for several (OS/ARCH[/VARIANT]); without, all that are here
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Execute for Save {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let engine = &global.engine;
        let form = match self.format {
            Form::DockerArchive => SaveFormat::DockerArchive,
            Form::OciArchive => SaveFormat::OciArchive,
        };
        let platforms = parse_platforms(&self.platform)?;
        match &self.output {
            Some(path) => {
                replace(path, PRIVATE, |file| engine.save_platforms(&self.images, &platforms, file, form))?;
            }
            None if io::stdout().is_terminal() => {
                return Err(bad_input(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                ));
            }
            None => {
                let mut out = io::BufWriter::with_capacity(128 * 1024, io::stdout().lock());
                engine.save_platforms(&self.images, &platforms, &mut out, form)?;
                out.flush().map_err(|error| unwritten(STDOUT, &error))?;
            }
        }
        Ok(0)
    }
}

/// Import the contents from a tarball to create a filesystem image
#[derive(Debug, Parser)]
#[command(
    name = "import",
    after_help = "Examples:\n  rbox import rootfs.tar.gz debian:mine\n  tar -C rootfs -c . | rbox import -c 'CMD [\"bash\"]' -c 'ENV LANG=C.UTF-8' - debian:mine"
)]
pub(crate) struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long)]
    message: Option<String>,
    /// Set platform (OS/ARCH[/VARIANT])
    #[arg(long)]
    platform: Option<String>,
    /// A tar archive, compressed or not; - for standard input
    #[arg(value_name = "FILE|-")]
    source: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl Execute for Import {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        if self.source.starts_with("http://") || self.source.starts_with("https://") {
            return Err(bad_input(
                "import reads files: fetch it first, as in 'curl -fL URL | rbox import - NAME'",
            ));
        }
        let options = ImportOptions {
            changes: self.change,
            message: self.message,
            reference: self.reference.as_deref().map(Reference::parse).transpose().map_err(bad_input)?,
            platform: self.platform.as_deref().map(parse_platform).transpose()?,
            source: self.source.clone(),
        };
        let path = (self.source != "-").then(|| PathBuf::from(&self.source));
        let source = open(
            path.as_deref(),
            "requested import from stdin, but stdin is a terminal; redirect a tar archive",
        )?;
        let image = global.engine.import_image(source, &options)?;
        say(&image.id.to_string())?;
        Ok(0)
    }
}
