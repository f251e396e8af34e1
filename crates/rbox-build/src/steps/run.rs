//! RUN.

use std::path::Path;
use std::time::Instant;

use rbox_engine::engine::{StepNews, StepRequest};
use rbox_engine::error::EngineError;
use rbox_image::store::StoredLayer;
use rbox_spec::Platform;
use rbox_spec::container::{Attachment, ContainerConfig, HostConfig, NetworkMode};
use rbox_spec::mount::{MountKind, MountSpec};

use super::carry::Prepared;
use super::mounts::Mounted;
use crate::builder::Builder;
use crate::cache::{KeyBuilder, Part};
use crate::dockerfile::{Form, Instruction, InstructionKind, Run, RunNetwork, RunSecurity};
use crate::error::{BuildError, Foreign};
use crate::progress::{BuildEvent, Number};
use crate::request::OnError;
use crate::stage::{PROXIES, Stage};

/// A script that is a file of its own: a heredoc that begins with `#!`.
const SCRIPTS: &str = "/dev/pipes";

/// What is run.
struct Command {
    words: Vec<String>,
    /// A file that it needs: where, and what is in it.
    script: Option<(String, String)>,
}

impl Builder<'_> {
    pub(super) fn run(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<(), BuildError> {
        let command = command_of(stage, run);
        let mut host = self.host_of(run)?;
        let devices = self.devices(run)?;
        host.device_requests.extend(devices.request());
        let mut key = KeyBuilder::new("run");
        key.add(Part::Base, stage.key.hex());
        key.add(Part::Instruction, &serde_json::json!([command.words, command.script]).to_string());
        for (name, value) in &stage.env {
            let is_arg = stage.args.iter().any(|(arg, _)| arg == name);
            let part = if is_arg { Part::Arg(name.clone()) } else { Part::Env(name.clone()) };
            key.add(part, value);
        }
        key.other("the user", &stage.image.config.user);
        key.other("the working directory", &stage.image.config.working_dir);
        key.other("the platform", &stage.platform.to_string());
        let networks: Vec<&str> = host.attachments.iter().map(|one| one.network.as_str()).collect();
        key.other("the network", &format!("{:?} {}", host.network, networks.join(" ")));
        for mount in &host.mounts {
            key.other(&format!("volume {}", mount.target), &volume_line(mount));
        }
        key.other("the security mode", &format!("{:?}", run.security));
        for name in &devices.names {
            key.other(&format!("device {name}"), "");
        }
        add_host_parts(&mut key, &host);
        let mut mounted = self.mounts(stage, run, &mut key)?;
        let files = std::mem::take(&mut mounted.files);
        let line = format!("RUN {}{} # buildkit", args_line(stage), command.words.join(" "));
        let prepared = Prepared { instruction, line, key, is_of_host: is_of_host(&host), files };
        self.carry_out(stage, prepared, &mut |builder, stage, number, dir| {
            for name in &devices.missing {
                builder.tell(number, &format!("without device {name}: it is not registered"));
            }
            builder.run_program(stage, number, dir, &command, host.clone(), &mut mounted)
        })
    }

    /// What the program gets from the host.
    fn host_of(&self, run: &Run) -> Result<HostConfig, BuildError> {
        let mut host = self.request.host.clone();
        match run.network {
            RunNetwork::Default => {}
            RunNetwork::None => (host.network, host.attachments) = (NetworkMode::None, Vec::new()),
            RunNetwork::Host => {
                is_allowed(self.request.allowed.network_host, "network.host")?;
                (host.network, host.attachments) = (NetworkMode::Host, Vec::new());
            }
        }
        if run.security == RunSecurity::Insecure {
            is_allowed(self.request.allowed.insecure, "security.insecure")?;
            host.privileged = true;
            host.resources.all_devices = true;
        }
        if matches!(host.network, NetworkMode::Bridge) && host.attachments.is_empty() {
            host.attachments = vec![Attachment::to("bridge")];
        }
        Ok(host)
    }

    fn run_program(
        &mut self,
        stage: &Stage,
        number: Number,
        dir: &Path,
        command: &Command,
        mut host: HostConfig,
        mounted: &mut Mounted,
    ) -> Result<StoredLayer, BuildError> {
        host.mounts.extend(self.make_mounts(stage, mounted)?);
        if let Some((place, text)) = &command.script {
            host.mounts.push(self.script_mount(place, text)?);
        }
        let env = std::mem::take(&mut mounted.env);
        let request = self.step_request(stage, dir, command.words.clone(), env, host);
        let shell = (self.request.on_error == OnError::Shell).then(|| shell_of(stage, &request));
        let engine = self.engine;
        let progress = self.progress();
        let mut news = |news: StepNews<'_>| {
            progress.event(match news {
                StepNews::Output(stream, bytes) => BuildEvent::Output { number, stream, bytes },
                StepNews::Silence => BuildEvent::Tick,
            });
        };
        let ended = engine.run_step(request, &mut news).map_err(|error| not_run(stage, error))?;
        let code = ended.exit_code;
        if code != 0 {
            if let Some(shell) = shell {
                let dir = self.work.fresh();
                ended.move_to(&dir)?;
                self.failed_step = Some(StepRequest { dir, ..shell });
            }
            return Err(BuildError::Exited { command: command.words.join(" "), code });
        }
        self.agents.clear();
        Ok(ended.layer(self.transaction, self.newest()?)?)
    }

    /// A program in the tree of a stage. `more`: variables that it gets beside the stage's.
    fn step_request(
        &self,
        stage: &Stage,
        dir: &Path,
        words: Vec<String>,
        mut more: Vec<String>,
        host: HostConfig,
    ) -> StepRequest {
        let mut env: Vec<String> = stage.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for name in PROXIES {
            // Programs look for one case or the other: RUN has both, whichever was given.
            let other = PROXIES.iter().find(|other| **other != name && other.eq_ignore_ascii_case(name));
            let args = &self.request.build_args;
            if let Some(value) = args.get(name).or_else(|| args.get(*other?))
                && !stage.env.iter().any(|(one, _)| one == name)
            {
                env.push(format!("{name}={value}"));
            }
        }
        env.append(&mut more);
        let config = ContainerConfig {
            cmd: words,
            env,
            user: stage.image.config.user.clone(),
            working_dir: super::absolute("/", &stage.image.config.working_dir),
            ..ContainerConfig::default()
        };
        StepRequest {
            layers: stage.dirs(),
            platform: stage.platform.to_string(),
            config,
            host,
            dir: dir.to_owned(),
        }
    }

    /// Opens a shell where `--until` stops: in what the RUN at its line would get, or in the stage as it is.
    pub(crate) fn shell_at(&mut self, stage: &Stage) -> Result<(), BuildError> {
        let line = self.request.until.map_or(0, |until| until.line);
        let next = self.place_of(line).and_then(|(number, place)| {
            self.file.stages.get(number).and_then(|stage| stage.instructions.get(place)).cloned()
        });
        let number = self.begin(&format!("[shell before line {}]", self.request.file.place(line).1));
        let dir = self.work.fresh();
        let mut request = self.step_request(stage, &dir, Vec::new(), Vec::new(), self.request.host.clone());
        // It holds what the mounts need as long as the shell runs.
        let mut mounted = None;
        if let Some(instruction) = &next {
            self.tell(number, &format!("next: {}", self.shown(stage, instruction)));
            if let InstructionKind::Run(run) = &instruction.kind {
                request.host = self.host_of(run)?;
                request.host.device_requests.extend(self.devices(run)?.request());
                let mounted = mounted.insert(self.mounts(stage, run, &mut KeyBuilder::new("run"))?);
                request.host.mounts.extend(self.make_mounts(stage, mounted)?);
                request.config.env.append(&mut mounted.env);
            }
        }
        let begun = Instant::now();
        self.shell(shell_of(stage, &request));
        drop(mounted);
        self.done(number, begun);
        Ok(())
    }

    /// Stays with a shell of the user's until its end. That it cannot be opened is a warning: the build ends anyway.
    pub(crate) fn shell(&mut self, mut request: StepRequest) {
        let Some(seat) = self.progress.seat() else { return };
        request.config.tty = seat.is_terminal;
        request.config.open_stdin = true;
        let opened =
            self.engine.open_step(request, seat.size).map_err(|error| BuildError::from(error).chain());
        if let Err(why) = opened.and_then(|socket| self.progress.attach(socket, seat)) {
            self.event(BuildEvent::Warning(&format!("no shell could be opened: {why}")));
        }
    }
}

fn is_allowed(is_allowed: bool, what: &str) -> Result<(), BuildError> {
    if is_allowed {
        return Ok(());
    }
    Err(BuildError::Invalid(format!("{what} is not allowed: give --allow {what} to the build")))
}

/// Why a program was not run, with what to do about one that is not this machine's.
fn not_run(stage: &Stage, error: EngineError) -> BuildError {
    let (host, image) = (Platform::host(), &stage.platform);
    // Which variants this machine has is for its processor to say.
    let is_foreign = host.rank(&Platform::new(&image.os, &image.architecture, None)).is_none();
    if is_foreign && error.to_string().contains("exec format error") {
        return BuildError::Foreign(Box::new(Foreign { image: image.clone(), host, source: error }));
    }
    error.into()
}

/// The same step with a shell instead of its program.
fn shell_of(stage: &Stage, request: &StepRequest) -> StepRequest {
    let mut request = request.clone();
    request.config.cmd = interactive(stage.shell());
    request
}

/// SHELL without the flag after which it reads a command: `-c`, or several in one such as `-ec`.
fn interactive(mut shell: Vec<String>) -> Vec<String> {
    let is_command =
        |flag: &mut String| flag.starts_with('-') && !flag.starts_with("--") && flag.ends_with('c');
    if shell.len() > 1 {
        let _ = shell.pop_if(is_command);
    }
    shell
}

/// What else of the host's side is in a step's key: the names of hosts, but not where these are, so that it is the same step on another
/// network. Nothing is added where nothing was asked for.
///
/// Source: `CacheMap` of BuildKit's exec operation, which has all of it but the addresses.
fn add_host_parts(key: &mut KeyBuilder, host: &HostConfig) {
    let names: Vec<&str> =
        host.extra_hosts.iter().map(|line| line.split([':', '=']).next().unwrap_or_default()).collect();
    if !names.is_empty() {
        key.other("the names of hosts", &names.join(" "));
    }
    for limit in &host.ulimits {
        key.other("a limit", &serde_json::json!(limit).to_string());
    }
    if let Some(size) = host.shm_size {
        key.other("the size of /dev/shm", &size.to_string());
    }
    if let Some(parent) = &host.cgroup_parent {
        key.other("the cgroup's parent", parent);
    }
}

/// Whether a RUN sees a directory or a device of the host's, or the containers of a network of its own.
fn is_of_host(host: &HostConfig) -> bool {
    let has_name = |one: &Attachment| one.network != "bridge";
    !host.mounts.is_empty()
        || !host.device_requests.is_empty()
        || matches!(host.network, NetworkMode::Container(_))
        || host.attachments.iter().any(has_name)
}

/// What `--volume` mounts, in a few words: what decides what a RUN sees.
fn volume_line(mount: &MountSpec) -> String {
    let source = match &mount.kind {
        MountKind::Bind { source, .. } => source.as_str(),
        _ => "",
    };
    let mode = if mount.read_only { ":ro" } else { "" };
    let idmap = match &mount.kind {
        MountKind::Bind { idmap: Some(map), .. } => format!(":idmap={map}"),
        _ => String::new(),
    };
    let chown = if mount.chown { ":U" } else { "" };
    format!("{source}{mode}{idmap}{chown}")
}

/// The words that are run, as BuildKit makes them of a RUN.
fn command_of(stage: &Stage, run: &Run) -> Command {
    let line = match &run.command.form {
        Form::Exec(words) => return Command { words: words.clone(), script: None },
        Form::Shell(line) => line,
    };
    let (text, script) = match run.command.script() {
        Some(heredoc) if heredoc.raw.starts_with("#!") => {
            let place = format!("{SCRIPTS}/{}", heredoc.name);
            (place.clone(), Some((place, heredoc.text())))
        }
        Some(heredoc) => (heredoc.text(), None),
        None => (run.command.with_heredocs().unwrap_or_else(|| line.clone()), None),
    };
    Command { words: [stage.shell(), vec![text]].concat(), script }
}

/// `|1 NAME=value `, for history.
fn args_line(stage: &Stage) -> String {
    let mut args: Vec<(&str, String)> = Vec::new();
    for (name, value) in &stage.args {
        let now = stage.env.iter().find(|(one, _)| one == name).map(|(_, value)| value.clone());
        let text = format!("{name}={}", now.or_else(|| value.clone()).unwrap_or_default());
        match args.iter_mut().find(|(one, _)| one == name) {
            Some((_, old)) => *old = text,
            None => args.push((name, text)),
        }
    }
    if args.is_empty() {
        return String::new();
    }
    let words: Vec<String> = args.into_iter().map(|(_, text)| text).collect();
    format!("|{} {} ", words.len(), words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_all_of_shell_but_its_command() {
        for (shell, wanted) in [
            (&["/bin/sh", "-c"][..], &["/bin/sh"][..]),
            (&["/bin/bash", "-o", "pipefail", "-c"], &["/bin/bash", "-o", "pipefail"]),
            (&["/bin/sh", "-ec"], &["/bin/sh"]),
            (&["busybox", "sh"], &["busybox", "sh"]),
            (&["-c"], &["-c"]),
        ] {
            let shell = shell.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(interactive(shell), wanted);
        }
    }
}
