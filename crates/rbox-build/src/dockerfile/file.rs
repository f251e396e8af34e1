//! What a Dockerfile is made of: arguments before the first FROM, stages, and the instructions of each.

use super::instruction::{ArgDefinition, InstructionKind};
use super::source::{Lines, Word};

/// A parser directive in the first lines of a file: `# name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The value, without spaces around it.
    pub value: String,
    /// The line.
    pub line: usize,
}

/// A parsed Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// `# syntax=`: the frontend that the file was written for.
    pub syntax: Option<Directive>,
    /// `# check=`: the rules to skip, and whether warnings are errors.
    pub check: Option<Directive>,
    /// `# escape=`: a backslash, or a backquote.
    pub escape: char,
    /// ARGs before the first FROM, each an instruction of [`InstructionKind::Arg`].
    pub args: Vec<Instruction>,
    /// The stages in the order of the file. None only in what [`Dockerfile::read`] gives beside an error.
    pub stages: Vec<Stage>,
    /// Lines with nothing on them inside a continued instruction; each is the last line of that instruction.
    pub empty_continuations: Vec<usize>,
}

impl Dockerfile {
    /// The definitions of all ARGs before the first FROM.
    pub fn global_args(&self) -> impl Iterator<Item = &ArgDefinition> {
        self.args
            .iter()
            .filter_map(|instruction| match &instruction.kind {
                InstructionKind::Arg(definitions) => Some(definitions),
                _ => None,
            })
            .flatten()
    }
}

impl Dockerfile {
    /// The number of the stage of this name or number, as `--target` and `--from` mean it. The last one of a name counts.
    pub(crate) fn stage_named(&self, name: &str) -> Option<usize> {
        let by_name = self.base_stage(self.stages.len(), name);
        by_name.or_else(|| name.parse().ok().filter(|number| *number < self.stages.len()))
    }

    /// The stage before this one that FROM means by a name.
    pub(crate) fn base_stage(&self, number: usize, name: &str) -> Option<usize> {
        let lower = name.to_lowercase();
        self.stages.iter().take(number).rposition(|stage| stage.name.as_ref() == Some(&lower))
    }
}

/// A FROM, and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// An image, `scratch`, or the name of a stage before this one. Variables are those before the first FROM.
    pub base: Word,
    /// `AS name`, in lower case.
    pub name: Option<String>,
    /// The words of `AS name` as they were written.
    pub as_written: Option<(String, String)>,
    /// `--platform`, with variables.
    pub platform: Option<Word>,
    /// What the comment right above FROM says of the stage: `# name description`.
    pub description: Option<String>,
    /// FROM as it was written, `from` for instance.
    pub keyword: String,
    /// The lines of FROM.
    pub lines: Lines,
    /// The text of FROM, continued lines joined.
    pub original: String,
    /// The comments right above FROM, without `#`.
    pub comments: Vec<String>,
    /// What follows, up to the next FROM.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The lines it stands on, heredocs included.
    pub lines: Lines,
    /// Its text with continued lines joined, without heredocs and without space around it: for progress.
    pub original: String,
    /// Its first word as it was written, `run` for instance.
    pub keyword: String,
    /// The comments right above it, without `#`.
    pub comments: Vec<String>,
    /// What it says.
    pub kind: InstructionKind,
}
