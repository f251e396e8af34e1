//! The instructions of each stage, with the variables that are set at each of them.

use std::collections::{BTreeMap, BTreeSet};

use super::arguments::{Given, Globals, MAX_VALUES, MOST_HINTS, too_much};
use super::report::Linter;
use super::rule::Rule;
use rbox_spec::lexical::clean;

use crate::dockerfile::{
    ArgDefinition, Dockerfile, DockerfileError, ExposeError, Form, Instruction, InstructionKind, KeyValue,
    Lines, PortParts, Transfer, Word, closest, exposed_ports,
};
use crate::expand::{ExpandError, Lexer};
use crate::text::{quoted, shown};

/// Arguments that are no variables.
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What a variable takes besides its name and value.
const EACH: usize = 64;

/// Words in the name of what should not be known to others, and words that make it harmless.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// What is known at an instruction.
#[derive(Clone, Default)]
struct State {
    env: BTreeMap<String, String>,
    /// Whether all variables are known: the base image is.
    complete: bool,
    /// Names that ARG has declared.
    declared: BTreeSet<String>,
    has_shell: bool,
    has_workdir: bool,
    /// Where CMD, ENTRYPOINT and HEALTHCHECK were last, in this stage.
    last: [Option<Lines>; 3],
}

/// All stages.
pub(super) struct Stages<'a> {
    file: &'a Dockerfile,
    given: &'a Given<'a>,
    globals: &'a Globals,
    linter: &'a mut Linter,
    lexer: Lexer,
    /// What each stage ends with.
    done: Vec<State>,
    /// Bytes that values of variables may still take.
    room: usize,
    /// There was not enough of it: nothing is expanded any more.
    full: bool,
}

impl<'a> Stages<'a> {
    pub(super) fn new(
        file: &'a Dockerfile,
        given: &'a Given<'a>,
        globals: &'a Globals,
        linter: &'a mut Linter,
    ) -> Self {
        Self {
            file,
            given,
            globals,
            linter,
            lexer: Lexer::new(file.escape),
            done: Vec::new(),
            room: MAX_VALUES,
            full: false,
        }
    }

    /// Checks the next stage, which is built on `base`.
    pub(super) fn check(&mut self, number: usize, base: &str) -> Result<(), DockerfileError> {
        let file = self.file;
        let from = &file.stages[number];
        let before = file.stages[..number].iter().rposition(|other| other.name.as_deref() == Some(base));
        let mut state = match before {
            Some(before) => {
                let env = &self.done[before].env;
                let bytes = env.iter().map(|(name, value)| name.len() + value.len() + EACH).sum();
                self.spend(bytes, from.lines)?;
                State { last: [None; 3], ..self.done[before].clone() }
            }
            None => self.of_image(base),
        };
        if self.given.stages.is_none_or(|stages| stages.contains(&number)) {
            // What the stage below has put off is done first.
            for instruction in before.iter().flat_map(|before| &file.stages[*before].instructions) {
                if let InstructionKind::Onbuild(onbuild) = &instruction.kind {
                    self.spend(onbuild.trigger.len() + EACH, from.lines)?;
                    let trigger = Dockerfile::parse_trigger(&onbuild.trigger, from.lines)?;
                    self.instruction(&mut state, &trigger)?;
                }
            }
            for instruction in &from.instructions {
                self.instruction(&mut state, instruction)?;
            }
        }
        self.done.push(state);
        Ok(())
    }

    fn spend(&mut self, bytes: usize, lines: Lines) -> Result<(), DockerfileError> {
        self.room = self.room.checked_sub(bytes).ok_or_else(|| too_much(lines))?;
        Ok(())
    }

    fn of_image(&self, base: &str) -> State {
        let image =
            if base == "scratch" { Some(super::BaseImage::default()) } else { (self.given.base_image)(base) };
        let complete = image.is_some();
        let image = image.unwrap_or_default();
        let mut env: BTreeMap<String, String> = image.env.into_iter().collect();
        env.entry("PATH".to_owned())
            .or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        State { env, complete, has_shell: image.has_shell, ..State::default() }
    }

    fn instruction(&mut self, state: &mut State, at: &Instruction) -> Result<(), DockerfileError> {
        self.linter.enter(&at.comments);
        self.of_kind(state, at)?;
        if self.full { Err(too_much(at.lines)) } else { Ok(()) }
    }

    fn of_kind(&mut self, state: &mut State, at: &Instruction) -> Result<(), DockerfileError> {
        match &at.kind {
            InstructionKind::Add(add) => {
                self.word(state, at, &add.checksum)?;
                self.transfer(state, at, &add.transfer, Some("Add"))?;
            }
            InstructionKind::Copy(copy) => {
                self.transfer(state, at, &copy.transfer, copy.from.is_none().then_some("Copy"))?;
            }
            InstructionKind::Arg(definitions) => {
                for definition in definitions {
                    self.argument(state, at, definition)?;
                }
            }
            InstructionKind::Env(pairs) => {
                let pairs = self.pairs(state, at, pairs)?;
                for (name, _) in &pairs {
                    self.secret("ENV", name, at);
                }
                let bytes = pairs.iter().map(|(name, value)| name.len() + value.len() + EACH).sum();
                self.spend(bytes, at.lines)?;
                state.env.extend(pairs);
            }
            InstructionKind::Label(pairs) => drop(self.pairs(state, at, pairs)?),
            InstructionKind::Run(run) => {
                for mount in &run.mounts {
                    let mount = mount.mount(|value| self.expand(state, at, self.lexer, value));
                    mount.map_err(|why| DockerfileError::at(at.lines, why.to_string()))?;
                }
            }
            InstructionKind::Cmd(command) => {
                self.once(state, 0, at);
                self.form(state, &command.form, at);
            }
            InstructionKind::Entrypoint(command) => {
                self.once(state, 1, at);
                self.form(state, &command.form, at);
            }
            InstructionKind::Healthcheck(_) => self.once(state, 2, at),
            InstructionKind::Shell(_) => state.has_shell = true,
            InstructionKind::Workdir(path) => {
                let path = self.word(state, at, path)?;
                if !state.has_workdir && !path.starts_with('/') {
                    self.linter.warn(Rule::WorkdirRelativePath, at.lines, || {
                        format!(
                            "Relative workdir {} can have unexpected results if the base image changes",
                            quoted(&path)
                        )
                    });
                }
                state.has_workdir = true;
            }
            InstructionKind::User(word) | InstructionKind::Stopsignal(word) => {
                self.word(state, at, word)?;
            }
            InstructionKind::Volume(words) => {
                for word in words {
                    self.word(state, at, word)?;
                }
            }
            InstructionKind::Expose(words) => {
                for word in words {
                    let ports = self.lexer.words(&word.0, &state.env);
                    for port in ports.map_err(|why| DockerfileError::at(at.lines, why.to_string()))? {
                        self.port(&port, at)?;
                    }
                }
            }
            InstructionKind::Maintainer(_) | InstructionKind::Onbuild(_) => {}
        }
        Ok(())
    }

    /// Expands, and warns of variables that are not set.
    fn expand(
        &mut self,
        state: &State,
        at: &Instruction,
        lexer: Lexer,
        text: &str,
    ) -> Result<String, ExpandError> {
        if self.full {
            return Ok(String::new());
        }
        let expanded = lexer.word(text, &state.env);
        let growth = expanded.as_ref().map_or(0, |e| e.text.len().saturating_sub(text.len()));
        self.full = growth > self.room;
        self.room = self.room.saturating_sub(growth);
        let unmatched = expanded.as_ref().map_or_else(|e| &e.unmatched, |e| &e.unmatched);
        if state.complete {
            for name in unmatched {
                if state.declared.contains(name) || NO_VARIABLES.contains(&name.as_str()) {
                    continue;
                }
                self.linter.warn(Rule::UndefinedVar, at.lines, || {
                    let detail = format!("Usage of undefined variable '${}'", shown(name));
                    match closest(name, state.env.keys().map(String::as_str).take(MOST_HINTS)) {
                        Some(hint) => format!("{detail} (did you mean ${hint}?)"),
                        None => detail,
                    }
                });
            }
        }
        expanded.map(|expanded| expanded.text)
    }

    fn word(&mut self, state: &State, at: &Instruction, word: &Word) -> Result<String, DockerfileError> {
        let lexer = self.lexer;
        self.expand(state, at, lexer, &word.0).map_err(|why| DockerfileError::at(at.lines, why.to_string()))
    }

    fn pairs(
        &mut self,
        state: &State,
        at: &Instruction,
        pairs: &[KeyValue],
    ) -> Result<Vec<(String, String)>, DockerfileError> {
        let mut expanded = Vec::new();
        for pair in pairs {
            expanded.push((self.word(state, at, &pair.key)?, self.word(state, at, &pair.value)?));
        }
        for _ in pairs.iter().filter(|pair| pair.legacy) {
            let keyword = &at.keyword;
            self.linter.warn(Rule::LegacyKeyValueFormat, at.lines, || {
                format!(
                    "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
                )
            });
        }
        Ok(expanded)
    }

    fn argument(
        &mut self,
        state: &mut State,
        at: &Instruction,
        definition: &ArgDefinition,
    ) -> Result<(), DockerfileError> {
        let name = &definition.name;
        self.secret("ARG", name, at);
        let value = match (self.given.build_args.get(name), &definition.default) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(default)) => Some(self.word(state, at, default)?),
            (None, None) => self.globals.value(name).cloned(),
        };
        self.spend(name.len() + value.as_ref().map_or(0, String::len) + EACH, at.lines)?;
        if let Some(value) = value.filter(|_| !NO_VARIABLES.contains(&name.as_str())) {
            state.env.insert(name.clone(), value);
        }
        state.declared.insert(name.clone());
        Ok(())
    }

    fn secret(&mut self, keyword: &str, name: &str, at: &Instruction) {
        let has = |words: &[&str]| {
            name.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
        };
        if has(&SECRET) && !has(&HARMLESS) {
            self.linter.warn(Rule::SecretsUsedInArgOrEnv, at.lines, || {
                format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {})", quoted(name))
            });
        }
    }

    /// Sources, destination, owner and mode. `what` is the verb if the sources are in the context.
    fn transfer(
        &mut self,
        state: &State,
        at: &Instruction,
        transfer: &Transfer,
        what: Option<&str>,
    ) -> Result<(), DockerfileError> {
        self.word(state, at, &transfer.chown)?;
        self.word(state, at, &transfer.chmod)?;
        let mut sources = Vec::new();
        for source in &transfer.sources {
            sources.push(self.word(state, at, source)?);
        }
        self.word(state, at, &transfer.destination)?;
        for inline in transfer.inline.iter().filter(|inline| inline.expand) {
            self.expand(state, at, Lexer::heredoc(), &inline.content)
                .map_err(|why| DockerfileError::at(at.lines, why.to_string()))?;
        }
        // With exceptions it cannot be known without the files: one below an ignored directory may be there.
        let ignore = self.given.ignore.filter(|ignore| !ignore.is_empty() && !ignore.has_exceptions());
        let (Some(what), Some(ignore)) = (what, ignore) else { return Ok(()) };
        for source in sources.iter().filter(|source| !is_remote(source)) {
            let source = clean(source);
            let ignored = match source.as_str() {
                "." | "/" => ignore.takes_everything(),
                path => ignore.matches(path),
            };
            if ignored {
                let file = quoted(&source);
                self.linter.warn(Rule::CopyIgnoredFile, at.lines, || {
                    format!("Attempting to {what} file {file} that is excluded by .dockerignore")
                });
            }
        }
        Ok(())
    }

    /// Of several, the last one counts: the one before is what is reported.
    fn once(&mut self, state: &mut State, which: usize, at: &Instruction) {
        if let Some(before) = state.last[which].replace(at.lines) {
            self.linter.warn(Rule::MultipleInstructionsDisallowed, before, || format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                at.keyword
            ));
        }
    }

    fn form(&mut self, state: &State, form: &Form, at: &Instruction) {
        if matches!(form, Form::Shell(_)) && !state.has_shell {
            self.linter.warn(Rule::JsonArgsRecommended, at.lines, || {
                format!(
                    "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                    at.keyword
                )
            });
        }
    }

    /// A port of EXPOSE.
    fn port(&mut self, port: &str, at: &Instruction) -> Result<(), DockerfileError> {
        let fault = |why: ExposeError| DockerfileError::at(at.lines, why.to_string());
        let parts = PortParts::of(port).map_err(fault)?;
        if parts.protocol != parts.protocol.to_lowercase() {
            self.linter.warn(Rule::ExposeProtoCasing, at.lines, || {
                format!("Defined protocol '{}' in EXPOSE instruction should be lowercase", shown(port))
            });
        }
        if !parts.address.is_empty() || !parts.host.is_empty() {
            self.linter.warn(Rule::ExposeInvalidFormat, at.lines, || {
                format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{}'",
                    shown(port)
                )
            });
        }
        exposed_ports(port).map_err(fault)?;
        Ok(())
    }
}

/// A URL, or a repository of git: nothing of the context.
fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|prefix| source.starts_with(prefix))
}
