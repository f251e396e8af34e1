//! The instructions: what each changes in a stage.

mod agent;
mod carry;
mod copy;
mod devices;
mod host_cache;
mod mounts;
mod run;

pub(crate) use agent::Forward;

use std::fmt::Write as _;
use std::time::Duration;

use rbox_spec::health::go_text;
use rbox_spec::signal::Signal;
use serde_json::{Map, Value};

use crate::builder::Builder;
use crate::dockerfile::{
    ArgDefinition, CommandLine, Form, Instruction, InstructionKind, KeyValue, Word, exposed_ports,
};
use crate::error::BuildError;
use crate::image;
use crate::stage::Stage;

impl Builder<'_> {
    /// Carries one instruction out.
    pub(crate) fn step(&mut self, stage: &mut Stage, instruction: &Instruction) -> Result<(), BuildError> {
        match &instruction.kind {
            InstructionKind::Run(run) => self.run(stage, instruction, run),
            InstructionKind::Copy(copy) => self.copy(stage, instruction, copy),
            InstructionKind::Add(add) => self.add(stage, instruction, add),
            InstructionKind::Workdir(path) => self.workdir(stage, instruction, path),
            InstructionKind::Env(pairs) => self.env(stage, pairs),
            InstructionKind::Arg(definitions) => self.arg(stage, definitions),
            InstructionKind::Label(pairs) => self.label(stage, pairs),
            InstructionKind::Expose(ports) => self.expose(stage, ports),
            InstructionKind::User(user) => {
                let user = self.word(stage, user)?;
                stage.note(format!("USER {user}"));
                stage.image.config.user = user;
                Ok(())
            }
            InstructionKind::Volume(paths) => self.volume(stage, paths),
            InstructionKind::Stopsignal(signal) => self.stop_signal(stage, signal),
            InstructionKind::Cmd(command) => {
                let words = command_of(stage, command);
                stage.note(format!("CMD {}", image::quoted(&words)));
                stage.image.config.cmd = Some(words);
                stage.image.config.args_escaped = Some(true);
                stage.has_cmd = true;
                Ok(())
            }
            InstructionKind::Entrypoint(command) => {
                let words = command_of(stage, command);
                stage.note(format!("ENTRYPOINT {}", image::quoted(&words)));
                stage.image.config.entrypoint = Some(words);
                if !stage.has_cmd {
                    stage.image.config.cmd = None;
                }
                Ok(())
            }
            InstructionKind::Healthcheck(check) => {
                stage.note(format!("HEALTHCHECK {}", health_line(check)));
                stage.image.config.healthcheck = Some(check.clone());
                Ok(())
            }
            InstructionKind::Shell(words) => {
                stage.note(format!("SHELL [{}]", words.join(" ")));
                stage.image.config.shell = Some(words.clone());
                Ok(())
            }
            InstructionKind::Onbuild(onbuild) => {
                stage.image.config.on_build.push(onbuild.trigger.clone());
                Ok(())
            }
            InstructionKind::Maintainer(name) => {
                stage.note(format!("MAINTAINER {name}"));
                stage.image.author = Some(name.clone());
                Ok(())
            }
        }
    }

    /// What a word becomes in the stage's environment.
    ///
    /// # Errors
    /// It cannot be expanded, or the words of this build have come to too much: one instruction may name a long variable many times.
    pub(crate) fn word(&self, stage: &Stage, word: &Word) -> Result<String, BuildError> {
        Ok(self.words.word(&word.0, &stage.env)?)
    }

    /// The text of an instruction for those who watch, its variables expanded.
    pub(crate) fn shown(&self, stage: &Stage, instruction: &Instruction) -> String {
        let lexer = self.words.lexer().keep_quotes().keep_unset();
        let text = lexer
            .word(&instruction.original, &stage.env)
            .map_or_else(|_| instruction.original.clone(), |word| word.text);
        match text.split_once(char::is_whitespace) {
            Some((keyword, rest)) => format!("{} {}", keyword.to_uppercase(), rest.trim_start()),
            None => text.to_uppercase(),
        }
    }

    fn env(&self, stage: &mut Stage, pairs: &[KeyValue]) -> Result<(), BuildError> {
        // All values are of the environment before the instruction.
        let set = self.expand_pairs(stage, pairs)?;
        let mut line = "ENV".to_owned();
        for (name, value) in set {
            let _ = write!(line, " {name}={value}");
            image::set_env(&mut stage.image.config.env, &name, &value);
            stage.set_env(&name, &value);
        }
        stage.note(line);
        Ok(())
    }

    fn label(&self, stage: &mut Stage, pairs: &[KeyValue]) -> Result<(), BuildError> {
        let mut line = "LABEL".to_owned();
        for (name, value) in self.expand_pairs(stage, pairs)? {
            let _ = write!(line, " {name}={value}");
            stage.image.config.labels.insert(name, value);
        }
        stage.note(line);
        Ok(())
    }

    fn expand_pairs(&self, stage: &Stage, pairs: &[KeyValue]) -> Result<Vec<(String, String)>, BuildError> {
        pairs.iter().map(|pair| Ok((self.word(stage, &pair.key)?, self.word(stage, &pair.value)?))).collect()
    }

    fn arg(&mut self, stage: &mut Stage, definitions: &[ArgDefinition]) -> Result<(), BuildError> {
        let mut lines = Vec::new();
        for ArgDefinition { name, default, .. } in definitions {
            let global = || self.targets.current().args.iter().rev().find(|(one, _)| one == name);
            let value = match (self.request.build_args.get(name), default) {
                (Some(given), _) => {
                    self.consumed.insert(name.clone());
                    Some(given.clone())
                }
                (None, Some(default)) => Some(self.word(stage, default)?),
                (None, None) => global().map(|(_, value)| value.clone()),
            };
            lines.push(value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
            if let Some(value) = &value {
                stage.set_env(name, value);
            }
            stage.args.push((name.clone(), value));
        }
        stage.note(format!("ARG {}", lines.join(" ")));
        Ok(())
    }

    fn expose(&self, stage: &mut Stage, ports: &[Word]) -> Result<(), BuildError> {
        let mut all = Vec::new();
        for word in ports {
            for text in self.words.words(&word.0, &stage.env)? {
                let ports = exposed_ports(&text).map_err(|error| BuildError::Invalid(error.to_string()))?;
                all.extend(ports.names());
            }
        }
        all.sort();
        stage.note(format!("EXPOSE [{}]", all.join(" ")));
        stage.image.config.exposed_ports.extend(all.into_iter().map(|port| (port, empty())));
        Ok(())
    }

    fn volume(&self, stage: &mut Stage, paths: &[Word]) -> Result<(), BuildError> {
        let mut all = Vec::new();
        for word in paths {
            let path = self.word(stage, word)?;
            if path.is_empty() {
                return Err(BuildError::Invalid("VOLUME specified can not be an empty string".to_owned()));
            }
            all.push(path);
        }
        stage.note(format!("VOLUME [{}]", all.join(" ")));
        stage.image.config.volumes.extend(all.into_iter().map(|path| (path, empty())));
        Ok(())
    }

    fn stop_signal(&self, stage: &mut Stage, signal: &Word) -> Result<(), BuildError> {
        let signal = self.word(stage, signal)?;
        signal.parse::<Signal>().map_err(|_| BuildError::Invalid(format!("invalid signal: {signal}")))?;
        stage.note(format!("STOPSIGNAL {signal}"));
        stage.image.config.stop_signal = Some(signal);
        Ok(())
    }
}

fn empty() -> Value {
    Value::Object(Map::new())
}

/// The words of CMD and ENTRYPOINT.
fn command_of(stage: &Stage, command: &CommandLine) -> Vec<String> {
    match &command.form {
        Form::Exec(words) => words.clone(),
        Form::Shell(line) => [stage.shell(), vec![line.clone()]].concat(),
    }
}

/// Go's `%+v` of a health check.
fn health_line(check: &rbox_spec::health::Healthcheck) -> String {
    let time = |nanoseconds: i64| go_text(Duration::from_nanos(nanoseconds.unsigned_abs()));
    format!(
        "{{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        time(check.interval),
        time(check.timeout),
        time(check.start_period),
        time(check.start_interval),
        check.retries
    )
}

/// A path seen from a working directory, without `.` and `..`; a slash at its end stays.
pub(crate) fn absolute(working_dir: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{working_dir}/{path}") };
    let clean = crate::tree::clean(std::path::Path::new(&joined));
    let text = format!("/{}", clean.display());
    let is_dir = path.ends_with('/') || path == "." || path.is_empty() || path.ends_with("/.");
    if is_dir && text != "/" { format!("{text}/") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_working_directory() {
        for (dir, path, wanted) in [
            ("/app", "x", "/app/x"),
            ("/app", ".", "/app/"),
            ("/app", "./", "/app/"),
            ("/", ".", "/"),
            ("/app", "../x/", "/x/"),
            ("/app", "/a/../b", "/b"),
            ("", "x", "/x"),
            ("/app", "../../..", "/"),
        ] {
            assert_eq!(absolute(dir, path), wanted, "{dir} {path}");
        }
    }
}
