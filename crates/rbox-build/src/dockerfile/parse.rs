//! The doors: from a text to a [`Dockerfile`].

use super::directive::{self, Name};
use super::error::DockerfileError;
use super::file::{Directive, Dockerfile, Instruction};
use super::include::parse_error;
use super::instruction::InstructionKind;
use super::lines::{self, Node};
use super::read::{self, Read};
use super::source::Lines;

impl Dockerfile {
    /// Reads a file.
    ///
    /// # Errors
    /// In BuildKit's words, with the lines.
    pub fn parse(text: &str) -> Result<Self, DockerfileError> {
        match Self::read(text) {
            (file, None) => Ok(file),
            (_, Some(error)) => Err(error),
        }
    }

    /// Reads a file as far as it can be read, for who wants to say more of it than the first error. After an error there are the
    /// instructions before it, or none if a line somewhere cannot be divided into words.
    pub fn read(text: &str) -> (Self, Option<DockerfileError>) {
        let mut file = Self {
            syntax: directive::detect(text, Name::Syntax, "#"),
            check: directive::detect(text, Name::Check, "#"),
            escape: '\\',
            args: Vec::new(),
            stages: Vec::new(),
            empty_continuations: Vec::new(),
        };
        if text.is_empty() {
            return (file, Some(DockerfileError::of_all("the Dockerfile cannot be empty")));
        }
        let found = match lines::nodes(text) {
            Ok(found) => found,
            Err(error) => return (file, Some(error)),
        };
        file.escape = found.escape;
        file.empty_continuations = found.empty_continuations;
        for node in found.all {
            if let Err(error) = file.add(node) {
                return (file, Some(error));
            }
        }
        let empty = file.stages.is_empty();
        let error = empty.then(|| DockerfileError::of_all("dockerfile contains no stages to build"));
        (file, error)
    }

    /// The frontend that a text asks for, which need not be a Dockerfile: `# syntax=` or `// syntax=` in its first lines.
    pub fn frontend(text: &str) -> Option<Directive> {
        directive::detect(text, Name::Syntax, "#").or_else(|| directive::detect(text, Name::Syntax, "//"))
    }

    /// Reads what the configuration of an image keeps of an ONBUILD. `lines` are those of the FROM that names the image.
    pub fn parse_trigger(trigger: &str, lines: Lines) -> Result<Instruction, DockerfileError> {
        let here = |error: DockerfileError| DockerfileError::at(lines, error.message);
        let mut nodes = lines::nodes(trigger).map_err(here)?.all;
        let (Some(node), true) = (nodes.pop(), nodes.is_empty()) else {
            return Err(DockerfileError::at(lines, "onbuild trigger should be a single expression"));
        };
        match read::read(Node { lines, ..node }).map_err(|why| DockerfileError::at(lines, why))? {
            Read::Instruction(instruction) => Ok(instruction),
            Read::Stage(_) => Err(DockerfileError::at(lines, "FROM isn't allowed as an ONBUILD trigger")),
        }
    }

    /// Adds an instruction to where it belongs.
    fn add(&mut self, node: Node) -> Result<(), DockerfileError> {
        let lines = node.lines;
        let read = read::read(node)
            .map_err(|why| DockerfileError::at(lines, parse_error(lines.start, None) + &why))?;
        match (read, self.stages.last_mut()) {
            (Read::Stage(stage), _) => self.stages.push(stage),
            (Read::Instruction(instruction), Some(stage)) => stage.instructions.push(instruction),
            (Read::Instruction(instruction), None) => match instruction.kind {
                InstructionKind::Arg(_) => self.args.push(instruction),
                _ => return Err(DockerfileError::at(lines, "no build stage in current context")),
            },
        }
        Ok(())
    }
}
