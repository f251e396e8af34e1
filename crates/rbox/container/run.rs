//! `rbox run` and `rbox create`: an image becomes a container, and for `run` the container's program runs.

use crate::image::progress::{Out, Progress};
use std::io::Write;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use rbox_engine::caller::require_descriptors;
use rbox_engine::engine::{ContainerRecord, RemoveRequest, StartOptions, Started};
use rbox_engine::error::EngineError;
use rbox_engine::spec::container::Attached;
use rbox_engine::spec::{ContainerName, Kind};

use crate::args::flags::ContainerFlags;
use crate::command::entry::Execute;
use crate::command::error::{Coded, bad_input, coded};
use crate::command::global::Global;
use crate::explain::{Depth, Telling};
use crate::output::lines::say;
use crate::session::client::{self, Attachment, DEFAULT_DETACH_KEYS};
use crate::session::output::Shown;
use crate::session::peers::MonitorPeer;
use crate::session::start::{exit_code, signal_proxy};

/// Create a container from an image and run a command in it
#[derive(Debug, Parser)]
#[command(
    name = "run",
    disable_help_flag = true,
    after_help = "Examples:
  rbox run hello                                    # the embedded image: what a container sees of itself
  rbox run --rm -it python:3.11-slim                # a terminal; the image is pulled when it is missing
  rbox run -d --name web -p 8080:8000 python:3.11-slim python3 -m http.server 8000
  rbox run --rm -v \"$PWD\":/src -w /src -m 256m --cpus 1.5 python:3.11-slim python3 test.py
  rbox run --rm -v .:/src:idmap busybox touch /src/file   # what is made belongs to the owner of .
  rbox run --rm --secret id=token,src=token.txt python:3.11-slim cat /run/secrets/token
  rbox run --rm --rootfs /srv/debian sh            # the files of a directory, which stays as it is
  rbox run --rm --without pid --yes busybox ps      # a wall less, and what can be seen then
  rbox run --rm --explain python:3.11-slim true     # how it is made, and why; =steps and =calls tell more, =sh does it by hand"
)]
pub(crate) struct Run {
    #[command(flatten)]
    flags: ContainerFlags,
    /// Attach only to these of its streams: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM")]
    attach: Vec<String>,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Keys that detach from the terminal
    #[arg(long, value_name = "KEYS", default_value = DEFAULT_DETACH_KEYS, hide_default_value = true)]
    detach_keys: String,
    /// Show it being made: story, steps, calls, sh for commands that do the same, or json for machines
    #[arg(long, value_name = "DEPTH", num_args = 0..=1, require_equals = true, default_missing_value = "story", hide_possible_values = true)]
    explain: Option<Depth>,
    /// Write that to this file, in place of standard error
    #[arg(long, value_name = "FILE", requires = "explain")]
    explain_to: Option<PathBuf>,
    /// Give it so many descriptors of this command besides the streams: 3, 4, …
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u32).range(0..=1000))]
    preserve_fds: u32,
    /// Pass signals on to the program
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// The image: NAME[:TAG], NAME@DIGEST or an id
    image: String,
    /// The command and its arguments; the image's own when left out
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Create a container without starting it
#[derive(Debug, Parser)]
#[command(
    name = "create",
    disable_help_flag = true,
    after_help = "Examples:\n  rbox create --name job python:3.11-slim python3 -c 'print(1)'\n  rbox start -a job"
)]
pub(crate) struct Create {
    #[command(flatten)]
    flags: ContainerFlags,
    /// Attach only to these of its streams: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM")]
    attach: Vec<String>,
    /// The image: NAME[:TAG], NAME@DIGEST or an id
    image: String,
    /// The command and its arguments; the image's own when left out
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Execute for Create {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let make = |attached| make(global, &self.flags, attached, &self.image, &self.command);
        let record = coded(streams(&self.flags, &self.attach).and_then(|streams| {
            let record = make(streams.attached)?;
            if let Err(error) = global.engine.fill_volumes(&record) {
                let request = RemoveRequest { force: true, volumes: true };
                let unfilled = global.engine.container(record.id.as_str());
                let _ = unfilled.and_then(|container| global.engine.remove(&container, request));
                return Err(error.into());
            }
            Ok(record)
        }))?;
        say(record.id.as_str())?;
        Ok(0)
    }
}

impl Execute for Run {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let detach_keys = client::parse_detach_keys(&self.detach_keys)?;
        if !self.detach {
            client::require_terminal(self.flags.interactive, self.flags.tty)?;
        }
        let mut telling = match self.explain {
            Some(depth) => {
                Telling::begin(depth, &self.title(), self.explain_to.as_deref()).context("explain")?
            }
            None => Telling::nothing(),
        };
        coded(self.carry_out(global, &detach_keys, &mut telling))
    }
}

/// What `run` attaches.
struct Streams {
    shown: Shown,
    /// What `inspect` shows of it.
    attached: Attached,
}

/// `--attach`: all but input without it, input with `-i` anyway.
fn streams(flags: &ContainerFlags, attach: &[String]) -> anyhow::Result<Streams> {
    let stdin = flags.interactive;
    if attach.is_empty() {
        return Ok(Streams { shown: Shown::ALL, attached: Attached::output_and(stdin) });
    }
    let named: Vec<String> = attach.iter().map(|name| name.to_lowercase()).collect();
    if named.iter().any(|name| !["stdin", "stdout", "stderr"].contains(&name.as_str())) {
        return Err(bad_input("valid streams are STDIN, STDOUT and STDERR"));
    }
    let has = |name: &str| named.iter().any(|named| named == name);
    // What is written to a terminal is one stream.
    let stdout = has("stdout") || (flags.tty && has("stderr"));
    let attached = Attached { stdin: stdin || has("stdin"), stdout: has("stdout"), stderr: has("stderr") };
    Ok(Streams { shown: Shown { stdout, stderr: has("stderr") }, attached })
}

const ATTACHED_AND_NOT: &str = "conflicting options: cannot specify both --attach and --detach";

impl Run {
    fn streams(&self) -> anyhow::Result<Streams> {
        match (self.detach, self.attach.is_empty()) {
            (true, true) => Ok(Streams { shown: Shown::NONE, attached: Attached::NONE }),
            // With the code of Docker's client.
            (true, false) => Err(Coded { message: ATTACHED_AND_NOT.to_owned(), code: 1 }.into()),
            (false, _) => streams(&self.flags, &self.attach),
        }
    }

    /// What is made, in words.
    fn title(&self) -> String {
        [&["rbox run".to_owned(), self.image.clone()][..], &self.command[..]].concat().join(" ")
    }

    fn carry_out(&self, global: &Global, detach_keys: &[u8], telling: &mut Telling) -> anyhow::Result<u8> {
        let streams = self.streams()?;
        require_descriptors(self.preserve_fds)?;
        let record = make(global, &self.flags, streams.attached, &self.image, &self.command)?;
        let attach = !self.detach;
        let options = StartOptions {
            attach,
            size: client::size().filter(|_| record.config.tty),
            preserve_fds: self.preserve_fds,
        };
        let started = global.engine.start_created(&record, options);
        // All of it is printed before the program's output is.
        telling.end();
        if self.detach {
            // Docker's client tells it of one that could not be started too: it is there.
            say(record.id.as_str())?;
            return Ok(started.map(|_| 0)?);
        }
        stay(global, &record, started?, streams.shown, detach_keys, self.sig_proxy)
    }
}

/// Stays with a container that was just started until its end, or until the user detaches; its exit code.
fn stay(
    global: &Global,
    record: &ContainerRecord,
    started: Started,
    shown: Shown,
    detach_keys: &[u8],
    pass_signals: bool,
) -> anyhow::Result<u8> {
    let socket = started.socket();
    let socket =
        socket.with_context(|| format!("container {} was started by another command", record.name))?;
    let proxy = signal_proxy(global, record);
    let attachment = Attachment {
        input: record.config.open_stdin,
        shown,
        tty: record.config.tty,
        detach_keys,
        proxy: pass_signals.then_some(&proxy),
    };
    let ended = client::run(&mut MonitorPeer::new(socket)?, attachment)?;
    exit_code(global, record, &ended)
}

/// Starts a container that was just made, and stays with it until its end; its exit code.
pub(crate) fn start_and_stay(global: &Global, record: &ContainerRecord) -> anyhow::Result<u8> {
    let detach_keys = client::parse_detach_keys(DEFAULT_DETACH_KEYS)?;
    let options = StartOptions {
        attach: true,
        size: client::size().filter(|_| record.config.tty),
        ..StartOptions::default()
    };
    let started = coded(global.engine.start_created(record, options).map_err(Into::into))?;
    coded(stay(global, record, started, Shown::ALL, &detach_keys, true))
}

/// The record of a new container, its image pulled when need be.
fn make(
    global: &Global,
    flags: &ContainerFlags,
    attached: Attached,
    image: &str,
    command: &[String],
) -> anyhow::Result<ContainerRecord> {
    let mut request = flags.request(image, command)?;
    request.config.attached = attached;
    flags.settle_walls(&request.host)?;
    let cid_file = flags.cidfile.as_deref().map(CidFile::reserve).transpose()?;
    let engine = global.engine.watched_by(Arc::new(Progress::on(Out::Stderr, flags.quiet)));
    let obtained = if flags.rootfs { None } else { Some(engine.obtain_image(&flags.image_request(image)?)?) };
    request.embedded = obtained.as_ref().is_some_and(|obtained| obtained.is_embedded);
    let create = |request| match &obtained {
        Some(obtained) => engine.create(request, &obtained.image),
        None => engine.create_on(request, Path::new(image)),
    };
    let record = match request.name.clone().filter(|_| flags.replace) {
        Some(name) => replacing(global, &name, || create(request.clone()))?,
        None => create(request)?,
    };
    if let Some(Err(error)) = cid_file.map(|file| file.write(record.id.as_str())) {
        let _ = engine.give_up(&record);
        return Err(error);
    }
    Ok(record)
}

/// How long `--replace` tries to get a name that others replace as well.
const REPLACING: Duration = Duration::from_secs(20);

/// Makes a container in place of the one of this name. Of several that do this at once the last one stays.
fn replacing(
    global: &Global,
    name: &ContainerName,
    create: impl Fn() -> Result<ContainerRecord, EngineError>,
) -> anyhow::Result<ContainerRecord> {
    let begin = Instant::now();
    loop {
        match make_room(global, name).map(|()| create()) {
            Ok(Err(EngineError::NameTaken { .. })) if begin.elapsed() < REPLACING => {}
            // Somebody else removes it.
            Err(error) if is_busy(&error) && begin.elapsed() < REPLACING => {}
            done => return Ok(done??),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_busy(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<EngineError>().map(EngineError::kind);
    matches!(kind, Some(Kind::NotFound | Kind::Conflict))
}

/// Removes the container of this name, for `--replace`.
fn make_room(global: &Global, name: &ContainerName) -> anyhow::Result<()> {
    match global.engine.container(name.as_str()) {
        // What else the word may be the beginning of an id of is not meant.
        Ok(former) if former.record.name == *name => {
            let request = RemoveRequest { force: true, ..RemoveRequest::default() };
            Ok(global.engine.remove(&former, request)?)
        }
        Ok(_) | Err(EngineError::NoContainer(_) | EngineError::Ambiguous(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A file that gets the container's id. It is made before the container, so that an old one is never overwritten.
struct CidFile {
    path: String,
    file: std::fs::File,
    written: bool,
}

impl CidFile {
    fn reserve(path: &str) -> anyhow::Result<Self> {
        match rbox_engine::caller::create_new(Path::new(path), 0o666) {
            Ok(file) => Ok(Self { path: path.to_owned(), file, written: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // A pipe, as of a shell's `>(…)`: nothing is overwritten there, and nothing of ours is to be removed.
                let is_pipe = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
                let file = is_pipe.then(|| std::fs::File::options().write(true).open(path).ok()).flatten();
                match file {
                    Some(file) => Ok(Self { path: path.to_owned(), file, written: true }),
                    None => Err(bad_input(format!(
                        "container ID file found, make sure the other container isn't running or delete {path}"
                    ))),
                }
            }
            Err(error) => Err(bad_input(format!("failed to create the container ID file {path}: {error}"))),
        }
    }

    fn write(mut self, id: &str) -> anyhow::Result<()> {
        self.file.write_all(id.as_bytes()).with_context(|| format!("write {}", self.path))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        use std::os::unix::fs::MetadataExt as _;
        if self.written {
            return;
        }
        // Only what was made above is removed, not what has its name by now.
        let same = match (self.file.metadata(), std::fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(there)) => (ours.ino(), ours.dev()) == (there.ino(), there.dev()),
            _ => false,
        };
        if same {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
