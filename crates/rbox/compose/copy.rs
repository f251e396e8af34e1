//! `rbox compose cp`, `export` and `commit`: the files of a service's containers.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Parser;
use rbox_compose::Instance;

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE};
use crate::command::file::{PRIVATE, check_directory, replace};
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, not_done};
use crate::compose::progress::Progress;
use crate::compose::stop::each;
use crate::container::commit::CommitFlags;
use crate::container::cp::split;
use crate::container::export::warn_of_left_out;

/// Copy files between a service's containers and the host
#[derive(Debug, Parser)]
#[command(
    name = "cp",
    after_help = "Examples:
  rbox compose cp web:/var/log/app.log .     # out of its first container
  rbox compose cp ./conf/. web:/etc/app      # into each of its containers
  rbox compose cp --index 2 web:/etc - | tar -t"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Cp {
    /// Also into containers of run
    #[arg(long)]
    all: bool,
    /// Keep owners
    #[arg(short, long)]
    archive: bool,
    /// Follow a link in the source
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// SERVICE:PATH, or a path, or - for an archive on the standard input
    #[arg(value_name = "SOURCE")]
    source: OsString,
    /// A path, or - for an archive on the standard output, or SERVICE:PATH
    #[arg(value_name = "DESTINATION")]
    destination: OsString,
}

impl Execute for Cp {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        for (text, what) in [(&self.source, "source"), (&self.destination, "destination")] {
            if text.is_empty() {
                return Err(refused(format!("{what} can not be empty")));
            }
        }
        let chosen = not_done(Chosen::named(global))?;
        not_done(match (split(&self.source), split(&self.destination)) {
            ((Some(_), _), (Some(_), _)) => Err(refused("copying between services is not supported".into())),
            ((None, _), (None, _)) => Err(refused("unknown copy direction".into())),
            ((Some(service), from), (None, to)) => self.copy_out(global, &chosen, service, from, to),
            ((None, from), (Some(service), to)) => self.copy_in(global, &chosen, service, from, to),
        })
    }
}

impl Cp {
    /// The containers that are meant.
    fn meant<'a>(&self, chosen: &'a Chosen, service: &str) -> anyhow::Result<Vec<&'a Instance>> {
        if self.index.is_some_and(|index| index > 0) {
            return Ok(vec![chosen.one(service, self.index, |one| !one.one_off)?]);
        }
        let all = chosen.observed.instances.iter();
        let found: Vec<&Instance> =
            all.filter(|one| one.service == service && (self.all || !one.one_off)).collect();
        if found.is_empty() {
            return Err(refused(format!("no container found for service {service:?}")));
        }
        Ok(found)
    }

    fn copy_out(
        &self,
        global: &Global,
        chosen: &Chosen,
        service: &str,
        from: &OsStr,
        to: &OsStr,
    ) -> anyhow::Result<u8> {
        let meant = self.meant(chosen, service)?;
        let one = *meant.first().ok_or_else(|| refused(String::new()))?;
        let path = Path::new(from);
        if to == "-" {
            if io::stdout().is_terminal() {
                return Err(refused(
                    "cowardly refusing to write an archive to a terminal. Redirect it".into(),
                ));
            }
            let out = io::stdout().lock();
            warn_of_left_out(&global.engine.copy_out(&one.container, path, self.follow_link, out)?);
            return Ok(0);
        }
        let progress = Progress::new(&global.project, "Copying")?;
        let text = format!("copy {}:{} to {}", one.name(), path.display(), to.display());
        progress.step(one.name(), &text, "Copying");
        let target = Path::new(to);
        let copied = global
            .engine
            .copy_to_host(&one.container, path, self.follow_link, target, &|_| progress.tick())?;
        progress.step(one.name(), &text, "Copied");
        progress.leave();
        warn_of_left_out(&copied.packed);
        Ok(0)
    }

    fn copy_in(
        &self,
        global: &Global,
        chosen: &Chosen,
        service: &str,
        from: &OsStr,
        to: &OsStr,
    ) -> anyhow::Result<u8> {
        let meant = self.meant(chosen, service)?;
        let path = Path::new(to);
        let progress = Progress::new(&global.project, "Copying")?;
        if from == "-" {
            let [one] = &meant[..] else {
                return Err(refused(format!(
                    "service {service:?} has {} containers, and the standard input can be read once: choose with --index",
                    meant.len()
                )));
            };
            let copied = global.engine.copy_in(&one.container, io::stdin(), path, self.archive)?;
            warn_of_left_out(&copied.packed);
            return Ok(0);
        }
        let source = Path::new(from);
        each(&meant, &progress, |one| {
            let text = format!("copy {} to {}:{}", source.display(), one.name(), path.display());
            progress.step(one.name(), &text, "Copying");
            let copied = global.engine.copy_from_host(
                &one.container,
                source,
                self.follow_link,
                path,
                self.archive,
                &|_| {},
            )?;
            warn_of_left_out(&copied.packed);
            progress.step(one.name(), &text, "Copied");
            Ok(())
        })?;
        Ok(0)
    }
}

fn refused(message: String) -> anyhow::Error {
    Coded { message, code: NOT_DONE }.into()
}

/// Export the files of a service's container as a tar archive
#[derive(Debug, Parser)]
#[command(
    name = "export",
    after_help = "Examples:\n  rbox compose export -o web.tar web\n  rbox compose export --index 2 web | tar -t"
)]
pub(crate) struct Export {
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The service
    service: String,
}

impl Execute for Export {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done((|| {
            let chosen = Chosen::named(global)?;
            let one = chosen.running(&self.service, self.index)?;
            let Some(path) = &self.output else {
                if io::stdout().is_terminal() {
                    return Err(refused("output option is required when exporting to terminal".into()));
                }
                warn_of_left_out(&global.engine.export(&one.container, io::stdout().lock())?);
                return Ok(0);
            };
            check_directory(path).map_err(|why| why.context("failed to export container"))?;
            let progress = Progress::new(&global.project, "Exporting")?;
            let text = format!("export {} to {}", one.name(), path.display());
            progress.step(one.name(), &text, "Exporting");
            let packed = replace(path, PRIVATE, |file| global.engine.export(&one.container, file))?;
            progress.step(one.name(), &text, "Exported");
            progress.leave();
            warn_of_left_out(&packed);
            Ok(0)
        })())
    }
}

/// Create an image of the changes of a service's container
#[derive(Debug, Parser)]
#[command(
    name = "commit",
    after_help = "Examples:\n  rbox compose commit web web:edited\n  rbox compose commit -m 'with curl' -c 'ENV LANG=C.UTF-8' --index 2 web"
)]
pub(crate) struct Commit {
    #[command(flatten)]
    flags: CommitFlags,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// The service
    service: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl Execute for Commit {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done((|| {
            let chosen = Chosen::named(global)?;
            let one = chosen.running(&self.service, self.index)?;
            let progress = Progress::new(&global.project, "Committing")?;
            let text = format!("Commit {}", one.name());
            progress.step(one.name(), &text, "Committing");
            let committed = self.flags.commit(global, &one.container, self.reference.as_deref())?;
            progress.step(one.name(), &text, &format!("Committed as {}", committed.image.id));
            Ok(0)
        })())
    }
}
