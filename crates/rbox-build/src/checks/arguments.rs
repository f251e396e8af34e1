//! What is given besides the file, and the ARGs before the first FROM.

use std::collections::{BTreeMap, BTreeSet};

use rbox_spec::{Platform, Reference};

use super::report::Linter;
use super::rule::Rule;
use crate::dockerfile::{Dockerfile, DockerfileError, InstructionKind, Lines, Stage, closest};
use crate::expand::{Expanded, Lexer};
use crate::ignore::Ignore;
use crate::text::shown;

/// The most bytes of an image's name: more than one can have.
const LONGEST_BASE: usize = 4096;

/// The most names among which the one that was meant is looked for.
pub(super) const MOST_HINTS: usize = 1000;

/// The most bytes that the values of all variables take, in all stages.
pub(super) const MAX_VALUES: usize = 64 << 20;

pub(super) fn too_much(lines: Lines) -> DockerfileError {
    DockerfileError::at(lines, format!("the values of all variables take more than {MAX_VALUES} bytes"))
}

/// What the checks have to know of a base image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseImage {
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Whether it has a SHELL of its own.
    pub has_shell: bool,
}

/// What a build is given besides its Dockerfile.
pub struct Given<'a> {
    /// Build arguments.
    pub build_args: &'a BTreeMap<String, String>,
    /// The platform that builds.
    pub build_platform: &'a Platform,
    /// The platform that is built for.
    pub target_platform: &'a Platform,
    /// The stage that is wanted, if one was named.
    pub target: Option<&'a str>,
    /// The stages that are checked beyond their FROM, by number; none stands for all of them.
    pub stages: Option<&'a BTreeSet<usize>>,
    /// What `.dockerignore` leaves out.
    pub ignore: Option<&'a Ignore>,
    /// The configuration of a base image, if it is known.
    pub base_image: &'a dyn Fn(&str) -> Option<BaseImage>,
    /// Options that count in place of the file's `# check=`.
    pub options: Option<&'a super::Options>,
}

/// The ARGs before the first FROM, and those that are always there.
pub(super) struct Globals {
    values: BTreeMap<String, String>,
    /// Names of all that are declared, with a value or without.
    declared: BTreeSet<String>,
}

impl Globals {
    /// With the build arguments that were given, or with none.
    pub(super) fn read(file: &Dockerfile, given: &Given<'_>, with: bool) -> Result<Self, DockerfileError> {
        let lexer = Lexer::new(file.escape);
        let mut globals = Self { values: predefined(file, given), declared: BTreeSet::new() };
        let mut room = MAX_VALUES;
        for instruction in &file.args {
            let InstructionKind::Arg(definitions) = &instruction.kind else { continue };
            for definition in definitions {
                let value = match (given.build_args.get(&definition.name), &definition.default) {
                    (Some(value), _) if with => Some(value.clone()),
                    (_, Some(default)) => {
                        let expanded = lexer
                            .word(&default.0, &globals.values)
                            .map_err(|why| DockerfileError::at(instruction.lines, why.to_string()))?;
                        Some(expanded.text)
                    }
                    (_, None) => None,
                };
                globals.declared.insert(definition.name.clone());
                if let Some(value) = value {
                    room = room.checked_sub(value.len()).ok_or_else(|| too_much(instruction.lines))?;
                    globals.values.insert(definition.name.clone(), value);
                }
            }
        }
        Ok(globals)
    }

    pub(super) fn value(&self, name: &str) -> Option<&String> {
        self.values.get(name)
    }

    /// The base of a stage; none that can be used is an error.
    pub(super) fn base(
        &self,
        file: &Dockerfile,
        stage: &Stage,
        linter: &mut Linter,
    ) -> Result<String, DockerfileError> {
        let fault = |message: String| DockerfileError::at(stage.lines, message);
        linter.enter(&stage.comments);
        let lexer = Lexer::new(file.escape);
        let base = lexer.word(&stage.base.0, &self.values);
        self.report_undeclared(stage, base.as_ref().map_or_else(|e| &e.unmatched, |e| &e.unmatched), linter);
        let base = base.map_err(|why| fault(why.to_string()))?.text;
        if base.is_empty() {
            let written = shown(&stage.base.0);
            return Err(fault(format!("base name ({written}) should not be blank")));
        }
        if base.len() > LONGEST_BASE {
            return Err(fault(format!("base name has {} bytes, more than {LONGEST_BASE}", base.len())));
        }
        let Some(platform) = &stage.platform else { return Ok(base) };
        let expanded = lexer.word(&platform.0, &self.values);
        let unmatched = expanded.as_ref().map_or_else(|e| &e.unmatched, |e| &e.unmatched);
        self.report_undeclared(stage, unmatched, linter);
        let expanded =
            expanded.map_err(|why| fault(format!("failed to process arguments for platform : {why}")))?;
        self.report_platform(stage, &platform.0, &expanded, linter);
        let with_hint = |message: String| {
            let names = || self.values.keys().map(String::as_str).take(MOST_HINTS);
            let hint = expanded.unmatched.iter().find_map(|name| closest(name, names()));
            fault(hint.map_or(message.clone(), |hint| format!("{message} (did you mean {hint}?)")))
        };
        let written = shown(&platform.0);
        if expanded.text.is_empty() {
            return Err(with_hint(format!("empty platform value from expression {written}")));
        }
        expanded
            .text
            .parse::<Platform>()
            .map_err(|why| with_hint(format!("failed to parse platform {written}: {why}")))?;
        Ok(base)
    }

    fn report_undeclared(&self, stage: &Stage, unmatched: &BTreeSet<String>, linter: &mut Linter) {
        for name in unmatched.iter().filter(|name| !self.declared.contains(*name)) {
            linter.warn(Rule::UndefinedArgInFrom, stage.lines, || {
                let known = self.declared.iter().chain(self.values.keys()).map(String::as_str);
                let detail = format!("FROM argument '{}' is not declared", shown(name));
                match closest(name, known.take(MOST_HINTS)) {
                    Some(hint) => format!("{detail} (did you mean {hint}?)"),
                    None => detail,
                }
            });
        }
    }

    fn report_platform(&self, stage: &Stage, written: &str, expanded: &Expanded, linter: &mut Linter) {
        const TARGET: &str = "TARGETPLATFORM";
        let Expanded { text, matched, unmatched } = expanded;
        if matched.len() == 1
            && matched.contains(TARGET)
            && unmatched.is_empty()
            && self.value(TARGET) == Some(text)
        {
            linter.warn(Rule::RedundantTargetPlatform, stage.lines, || format!(
                "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
            ));
        }
        if !matched.is_empty() || !unmatched.is_empty() {
            return;
        }
        let Ok(platform) = text.parse::<Platform>() else { return };
        // Who names a platform in the stage's name means it.
        let name = stage.name.as_deref().unwrap_or_default();
        if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
            linter.warn(Rule::FromPlatformFlagConstDisallowed, stage.lines, || {
                format!("FROM --platform flag should not use constant value \"{text}\"")
            });
        }
    }
}

fn predefined(file: &Dockerfile, given: &Given<'_>) -> BTreeMap<String, String> {
    let (build, target) = (given.build_platform, given.target_platform);
    let last = || file.stages.last().and_then(|stage| stage.name.as_deref());
    let stage = given.target.or_else(last).unwrap_or("default");
    crate::predefined::arguments(build, target, stage, given.build_args).into_iter().collect()
}

/// Whether each base is an image's name even when no build argument is given.
pub(super) fn check_defaults(file: &Dockerfile, given: &Given<'_>, linter: &mut Linter) {
    let Ok(globals) = Globals::read(file, given, false) else { return };
    let lexer = Lexer::new(file.escape);
    for stage in &file.stages {
        let Ok(base) = lexer.word(&stage.base.0, &globals.values) else { return };
        if Reference::parse(&base.text).is_err() {
            let written = shown(&stage.base.0);
            linter.warn(Rule::InvalidDefaultArgInFrom, stage.lines, || {
                format!("Default value for ARG {written} results in empty or invalid base image name")
            });
        }
    }
}
