//! RUN.

use rbox_engine::engine::{StepRequest, Stream};
use rbox_image::store::StoredLayer;
use rbox_spec::container::{Attachment, ContainerConfig, HostConfig, NetworkMode};

use super::carry::Prepared;
use super::mounts::Mounted;
use crate::builder::Builder;
use crate::cache::{KeyBuilder, Part};
use crate::dockerfile::{Form, Instruction, Run, RunNetwork, RunSecurity};
use crate::error::BuildError;
use crate::progress::{BuildEvent, Number};
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
        let host = self.host_of(run)?;
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
        key.other("the security mode", &format!("{:?}", run.security));
        let mut mounted = self.mounts(stage, run, &mut key)?;
        let files = std::mem::take(&mut mounted.files);
        let line = format!("RUN {}{} # buildkit", args_line(stage), command.words.join(" "));
        let prepared = Prepared { instruction, line, key, files };
        self.carry_out(stage, prepared, &mut |builder, stage, number, dir| {
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
                self.is_allowed("network.host")?;
                (host.network, host.attachments) = (NetworkMode::Host, Vec::new());
            }
        }
        if run.security == RunSecurity::Insecure {
            self.is_allowed("security.insecure")?;
            host.privileged = true;
            host.resources.all_devices = true;
        }
        if let Some(device) = run.devices.iter().find(|device| device.required) {
            let name = &device.name;
            return Err(BuildError::Invalid(format!(
                "RUN --device={name}: devices of the Container Device Interface are not supported; leave out \"required\" to run without it"
            )));
        }
        if matches!(host.network, NetworkMode::Bridge) && host.attachments.is_empty() {
            host.attachments = vec![Attachment::to("bridge")];
        }
        Ok(host)
    }

    fn is_allowed(&self, what: &str) -> Result<(), BuildError> {
        if self.request.allowed.contains(what) {
            return Ok(());
        }
        Err(BuildError::Invalid(format!("{what} is not allowed: give --allow {what} to the build")))
    }

    fn run_program(
        &mut self,
        stage: &Stage,
        number: Number,
        dir: &std::path::Path,
        command: &Command,
        mut host: HostConfig,
        mounted: &mut Mounted,
    ) -> Result<StoredLayer, BuildError> {
        host.mounts.extend(self.make_mounts(stage, mounted)?);
        if let Some((place, text)) = &command.script {
            host.mounts.push(self.script_mount(place, text)?);
        }
        let mut env: Vec<String> = stage.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for name in PROXIES {
            if let Some(value) = self.request.build_args.get(name)
                && !stage.env.iter().any(|(one, _)| one == name)
            {
                env.push(format!("{name}={value}"));
            }
        }
        env.append(&mut mounted.env);
        let config = ContainerConfig {
            cmd: command.words.clone(),
            env,
            user: stage.image.config.user.clone(),
            working_dir: super::absolute("/", &stage.image.config.working_dir),
            ..ContainerConfig::default()
        };
        let request = StepRequest {
            layers: stage.dirs(),
            platform: stage.platform.to_string(),
            config,
            host,
            dir: dir.to_owned(),
        };
        let engine = self.engine;
        let progress = self.progress();
        let mut output = |stream: Stream, bytes: &[u8]| {
            progress.event(BuildEvent::Output { number, stream, bytes });
        };
        let ended = engine.run_step(request, &mut output)?;
        if ended.exit_code != 0 {
            return Err(BuildError::Exited { command: command.words.join(" "), code: ended.exit_code });
        }
        Ok(ended.layer(self.transaction, self.newest()?)?)
    }
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
