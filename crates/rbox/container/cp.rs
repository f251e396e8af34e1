//! `rbox cp`: files between a container and the host.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::container::export::warn_of_left_out;
use crate::output::escape;
use crate::output::table::write_all;
use crate::output::units::human_size;

/// How often the count is written anew.
const BETWEEN_LINES: Duration = Duration::from_millis(75);

/// Copy files/folders between a container and the local filesystem
#[derive(Debug, Parser)]
#[command(
    name = "cp",
    after_help = "Examples:
  rbox cp web:/var/log/app.log .            # out of a container, running or not
  rbox cp ./conf/. web:/etc/app             # what is in conf, into a directory
  rbox cp -L web:/etc/localtime zone        # what the link leads to
  rbox cp web:/etc - | tar -t               # as a tar archive
  tar -C rootfs -c . | rbox cp - web:/      # a tar archive, unpacked

A local path with a colon is written ./a:b or /a:b."
)]
pub(crate) struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    // Docker's words.
    #[arg(short = 'L', long, help = "Always follow symlinks in SRC_PATH")]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(
        short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true,
        value_name = "BOOL"
    )]
    quiet: Option<bool>,
    #[arg(value_name = "SRC_PATH", help = "CONTAINER:SRC_PATH, or SRC_PATH, or - for an archive on STDIN")]
    source: OsString,
    #[arg(
        value_name = "DEST_PATH",
        help = "DEST_PATH, or - for an archive on STDOUT, or CONTAINER:DEST_PATH"
    )]
    destination: OsString,
}

impl Execute for Cp {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        for (text, what) in [(&self.source, "source"), (&self.destination, "destination")] {
            if text.is_empty() {
                return Err(bad_input(format!("{what} can not be empty")));
            }
        }
        match (split(&self.source), split(&self.destination)) {
            ((Some(_), _), (Some(_), _)) => Err(bad_input("copying between containers is not supported")),
            ((None, _), (None, _)) => Err(bad_input("must specify at least one container source")),
            ((Some(container), from), (None, to)) => self.copy_out(global, container, from, to),
            ((None, from), (Some(container), to)) => self.copy_in(global, container, from, to),
        }
    }
}

impl Cp {
    fn copy_out(&self, global: &Global, name: &str, from: &OsStr, to: &OsStr) -> anyhow::Result<u8> {
        if to == "-" && io::stdout().is_terminal() {
            return Err(bad_input("cowardly refusing to write an archive to a terminal. Redirect it"));
        }
        let container = global.engine.container(name)?;
        let from = inside(from)?;
        if to == "-" {
            let out = io::stdout().lock();
            warn_of_left_out(&global.engine.copy_out(&container, from, self.follow_link, out)?);
            return Ok(0);
        }
        let progress = Progress::new(self.is_quiet(), "Copying from container - ");
        let shown = |bytes: u64| progress.show(bytes);
        let copied = global.engine.copy_to_host(&container, from, self.follow_link, Path::new(to), &shown);
        progress.clear();
        let copied = copied?;
        warn_of_left_out(&copied.packed);
        if copied.devices > 0 {
            warn(&format!("{} device nodes were not made on the host", copied.devices));
        }
        self.tell(copied.bytes, &absolute(to));
        Ok(0)
    }

    fn copy_in(&self, global: &Global, name: &str, from: &OsStr, to: &OsStr) -> anyhow::Result<u8> {
        if from == "-" && io::stdin().is_terminal() {
            return Err(bad_input("cowardly refusing to read an archive from a terminal. Redirect it"));
        }
        let container = global.engine.container(name)?;
        let path = inside(to)?;
        let progress = Progress::new(self.is_quiet(), "Copying to container - ");
        let shown = |bytes: u64| progress.show(bytes);
        let copied = if from == "-" {
            global.engine.copy_in(&container, io::stdin(), path, self.archive)
        } else {
            let source = Path::new(from);
            global.engine.copy_from_host(&container, source, self.follow_link, path, self.archive, &shown)
        };
        progress.clear();
        let copied = copied?;
        warn_of_left_out(&copied.packed);
        self.tell(copied.bytes, &format!("{name}:{}", to.display()));
        Ok(0)
    }

    /// Without the option it depends on whether somebody looks.
    fn is_quiet(&self) -> bool {
        self.quiet.unwrap_or_else(|| !io::stdout().is_terminal())
    }

    /// Docker's line at the end.
    fn tell(&self, bytes: u64, target: &str) {
        if !self.is_quiet() {
            let line = format!("Successfully copied {} to {}\n", human_size(bytes), escape::text(target));
            let _ = write_all(&mut io::stderr(), &line);
        }
    }
}

/// The line that counts what is copied, on a terminal.
struct Progress {
    header: Option<&'static str>,
    last: Mutex<Option<Instant>>,
}

impl Progress {
    fn new(is_quiet: bool, header: &'static str) -> Self {
        let header = (!is_quiet && io::stderr().is_terminal()).then_some(header);
        Self { header, last: Mutex::new(None) }
    }

    fn show(&self, bytes: u64) {
        let Some(header) = self.header else { return };
        let Ok(mut last) = self.last.lock() else { return };
        if last.is_none_or(|last| last.elapsed() >= BETWEEN_LINES) {
            *last = Some(Instant::now());
            let _ = write_all(&mut io::stderr(), &format!("\r{header}{}\x1b[K", human_size(bytes)));
        }
    }

    fn clear(&self) {
        if self.last.lock().is_ok_and(|last| last.is_some()) {
            let _ = write_all(&mut io::stderr(), "\r\x1b[K");
        }
    }
}

fn warn(line: &str) {
    let _ = write_all(&mut io::stderr(), &format!("rbox: warning: {line}\n"));
}

/// A path in the container.
fn inside(path: &OsStr) -> anyhow::Result<&Path> {
    if path.is_empty() {
        return Err(bad_input("the path in the container can not be empty"));
    }
    Ok(Path::new(path))
}

/// As Docker shows a path of the host: from the root, and with the slash or dot that it ends in.
fn absolute(path: &OsStr) -> String {
    let mut whole = std::path::absolute(path).unwrap_or_else(|_| path.into()).into_os_string();
    if path.as_bytes().ends_with(b"/.") {
        whole.push("/.");
    }
    whole.display().to_string()
}

/// The container and the path in it, or a path of the host alone: one that is absolute or begins with a dot, or has no colon.
pub(crate) fn split(text: &OsStr) -> (Option<&str>, &OsStr) {
    let bytes = text.as_bytes();
    let colon = bytes
        .iter()
        .position(|byte| *byte == b':')
        .filter(|_| !bytes.starts_with(b"/") && !bytes.starts_with(b"."));
    let parts = colon.and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?)));
    match parts.and_then(|(name, path)| Some((std::str::from_utf8(name).ok()?, path))) {
        Some((name, path)) if !name.is_empty() => (Some(name), OsStr::from_bytes(path)),
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_stand_before_a_colon() {
        for (text, container, path) in [
            ("web:/x", Some("web"), "/x"),
            ("web:x:y", Some("web"), "x:y"),
            ("web:", Some("web"), ""),
            ("x", None, "x"),
            ("./web:x", None, "./web:x"),
            ("/web:x", None, "/web:x"),
            ("-", None, "-"),
            (":x", None, ":x"),
        ] {
            assert_eq!(split(OsStr::new(text)), (container, OsStr::new(path)), "{text}");
        }
    }
}
