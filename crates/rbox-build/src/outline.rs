//! What a Dockerfile has to offer, told without building: `build --call targets` and `--call outline`.

use std::collections::BTreeSet;

use rbox_spec::Platform;
use serde::Serialize;

use crate::dockerfile::{
    ArgDefinition, Dockerfile, Instruction, InstructionKind, Lines, MountKind, Sources, Stage,
};
use crate::error::BuildError;
use crate::expand::Words;
use crate::predefined;
use crate::request::BuildRequest;

/// Where something is, as BuildKit's JSON has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Which of the sources it is in: 0 is the Dockerfile itself.
    #[serde(skip_serializing_if = "is_dockerfile")]
    source_index: usize,
    /// What that is called, if the Dockerfile includes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    ranges: [Range; 1],
    /// The line in the text with all that is included.
    #[serde(skip)]
    line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Position {
    line: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_dockerfile(source: &usize) -> bool {
    *source == 0
}

impl Location {
    /// Where these lines are.
    pub fn of(sources: &Sources, lines: Lines) -> Self {
        let (source_index, start) = sources.source_of(lines.start);
        let (_, end) = sources.source_of(lines.end);
        let file = sources.place(lines.start).0.map(str::to_owned);
        let ranges = [Range { start: Position { line: start }, end: Position { line: end } }];
        Self { source_index, file, ranges, line: lines.start }
    }
}

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name; empty if it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What the comment above FROM says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// It is built when nothing else is asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// What FROM names, as it was written.
    pub base: String,
    /// `--platform`, as it was written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// Where FROM is.
    pub location: Location,
}

/// An ARG that a target uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What the comment above it says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it has, if it has anything.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Where it is.
    pub location: Location,
}

/// A secret or an agent that a target asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlineNeed {
    /// Its id.
    pub name: String,
    /// The build fails without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Where it is asked for.
    pub location: Location,
}

/// What a target takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// Its name; empty if it has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What the comment above FROM says of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What `--build-arg` can change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<OutlineArg>,
    /// What `--secret` can give.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<OutlineNeed>,
    /// What `--ssh` can give.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<OutlineNeed>,
}

/// The stages of a build's Dockerfile.
///
/// # Errors
/// It is none.
pub fn targets(request: &BuildRequest) -> Result<Vec<Target>, BuildError> {
    let file = request.dockerfile()?;
    let last = file.stages.len().saturating_sub(1);
    let of = |(number, stage): (usize, &Stage)| Target {
        name: stage.name.clone().unwrap_or_default(),
        description: stage.description.clone().unwrap_or_default(),
        default: number == last,
        base: stage.base.0.clone(),
        platform: stage.platform.as_ref().map(|word| word.0.clone()).unwrap_or_default(),
        location: Location::of(&request.file, stage.lines),
    };
    Ok(file.stages.iter().enumerate().map(of).collect())
}

/// What the target of a build takes, with all stages that it needs. Images are not looked at: what ONBUILD of a base wants is not known.
///
/// # Errors
/// The file is no Dockerfile, there is no such target, or words cannot be expanded.
pub fn outline(request: &BuildRequest) -> Result<Outline, BuildError> {
    let file = request.dockerfile()?;
    let words = Words::new(file.escape);
    let mut reader = Reader { request, file: &file, words: &words, outline: Outline::default() };
    let global = reader.global_args()?;
    let target = match &request.target {
        Some(name) => reader
            .file
            .stage_named(name)
            .ok_or_else(|| BuildError::Invalid(format!("target stage {name:?} could not be found")))?,
        None => file.stages.len().saturating_sub(1),
    };
    let (mut left, mut seen) = (vec![target], BTreeSet::new());
    while let Some(number) = left.pop() {
        if seen.insert(number) {
            left.extend(reader.stage(number, &global)?);
        }
    }
    let mut outline = reader.outline;
    if let Some(stage) = file.stages.get(target) {
        outline.name = stage.name.clone().unwrap_or_default();
        outline.description = stage.description.clone().unwrap_or_default();
    }
    outline.args.sort_by_key(|arg| arg.location.line);
    for needs in [&mut outline.secrets, &mut outline.ssh] {
        needs.sort_by_key(|need| need.location.line);
        let mut known = BTreeSet::new();
        needs.retain(|need| known.insert(need.name.clone()));
    }
    Ok(outline)
}

struct Reader<'a> {
    request: &'a BuildRequest,
    file: &'a Dockerfile,
    words: &'a Words,
    outline: Outline,
}

type Variables = Vec<(String, String)>;

impl Reader<'_> {
    /// The stage that `--from` means; one that comes later is an error of the build.
    fn read_by(&self, number: usize, from: &str) -> Option<usize> {
        self.file.stage_named(from).filter(|before| *before < number)
    }

    /// The ARGs before the first FROM; those that any FROM names are told.
    fn global_args(&mut self) -> Result<Variables, BuildError> {
        let host = Platform::host();
        let target = self.request.platforms.first().unwrap_or(&host);
        let stage = self.request.target.as_deref().unwrap_or("default");
        let mut all = predefined::arguments(&host, target, stage, &self.request.build_args);
        for instruction in &self.file.args {
            let InstructionKind::Arg(definitions) = &instruction.kind else { continue };
            for definition in definitions {
                let value = self.value(definition, &all)?;
                let is_used = self.file.stages.iter().any(|stage| names(&stage.original, &definition.name));
                if is_used {
                    self.tell(definition, instruction, value.clone());
                }
                all.extend(value.map(|value| (definition.name.clone(), value)));
            }
        }
        Ok(all)
    }

    fn value(&self, definition: &ArgDefinition, env: &Variables) -> Result<Option<String>, BuildError> {
        if let Some(given) = self.request.build_args.get(&definition.name) {
            return Ok(Some(given.clone()));
        }
        let Some(default) = &definition.default else { return Ok(None) };
        Ok(Some(self.words.word(&default.0, env)?))
    }

    fn tell(&mut self, definition: &ArgDefinition, instruction: &Instruction, value: Option<String>) {
        if self.outline.args.iter().any(|arg| arg.name == definition.name) {
            return;
        }
        self.outline.args.push(OutlineArg {
            name: definition.name.clone(),
            description: definition.description.clone().unwrap_or_default(),
            value: value.unwrap_or_default(),
            location: Location::of(&self.request.file, instruction.lines),
        });
    }

    /// Takes in one stage: the stages that it needs.
    fn stage(&mut self, number: usize, global: &Variables) -> Result<Vec<usize>, BuildError> {
        let file = self.file;
        let Some(stage) = file.stages.get(number) else { return Ok(Vec::new()) };
        let base = self.words.word(&stage.base.0, global)?;
        let mut needs: Vec<usize> = self.file.base_stage(number, &base).into_iter().collect();
        let mut env = Variables::new();
        for (place, instruction) in stage.instructions.iter().enumerate() {
            let rest = stage.instructions.get(place + 1..).unwrap_or_default();
            match &instruction.kind {
                InstructionKind::Arg(definitions) => {
                    for definition in definitions {
                        let inherited = global.iter().rev().find(|(name, _)| *name == definition.name);
                        let own = self.value(definition, &env)?;
                        let value = own.or_else(|| inherited.map(|(_, value)| value.clone()));
                        if is_used(&definition.name, rest) {
                            self.tell(definition, instruction, value.clone());
                        }
                        env.extend(value.map(|value| (definition.name.clone(), value)));
                    }
                }
                InstructionKind::Env(pairs) => {
                    let set: Result<Variables, BuildError> = pairs
                        .iter()
                        .map(|pair| {
                            let word = |text: &str| self.words.word(text, &env);
                            Ok((word(&pair.key.0)?, word(&pair.value.0)?))
                        })
                        .collect();
                    env.extend(set?);
                }
                InstructionKind::Copy(copy) => {
                    needs.extend(copy.from.as_ref().and_then(|from| self.read_by(number, from)));
                }
                InstructionKind::Run(run) => {
                    for flag in &run.mounts {
                        let expand = |text: &str| self.words.word(text, &env);
                        let mount = flag.mount(expand)?;
                        needs.extend(self.read_by(number, &mount.from));
                        let need = |usual: &str| OutlineNeed {
                            name: if mount.id.is_empty() { usual.to_owned() } else { mount.id.clone() },
                            required: mount.required,
                            location: Location::of(&self.request.file, instruction.lines),
                        };
                        match mount.kind {
                            MountKind::Secret => {
                                let path =
                                    if mount.source.is_empty() { &mount.target } else { &mount.source };
                                let name = path.rsplit('/').next().unwrap_or_default();
                                self.outline.secrets.push(need(name));
                            }
                            MountKind::Ssh => self.outline.ssh.push(need("default")),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(needs)
    }
}

/// Whether an ARG is used by what follows in its stage: RUN has all of them.
fn is_used(name: &str, rest: &[Instruction]) -> bool {
    rest.iter().any(|instruction| {
        matches!(instruction.kind, InstructionKind::Run(_)) || names(&instruction.original, name)
    })
}

/// Whether a text has `$NAME` or `${NAME…}`.
fn names(text: &str, name: &str) -> bool {
    text.match_indices('$').any(|(at, _)| {
        let rest = text.get(at + 1..).unwrap_or_default();
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        rest.strip_prefix(name)
            .is_some_and(|after| !after.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_named_by_its_whole_name() {
        for (text, wanted) in [
            ("FROM $BASE", true),
            ("FROM x:${BASE:-1}", true),
            ("FROM $BASES", false),
            ("FROM ${BASE_2}", false),
            ("FROM BASE", false),
        ] {
            assert_eq!(names(text, "BASE"), wanted, "{text}");
        }
    }
}
