//! Rules on keywords, names and comments: what can be seen without expanding anything.

use super::report::Linter;
use super::rule::Rule;
use crate::dockerfile::{Dockerfile, Instruction, InstructionKind, Lines, Stage};
use crate::text::{quoted, shown};

/// In the order of the file.
pub(super) fn check(file: &Dockerfile, linter: &mut Linter) {
    for line in &file.empty_continuations {
        linter.warn(Rule::NoEmptyContinuation, Lines::one(*line), || "Empty continuation line".to_owned());
    }
    for instruction in file.args.iter().chain(file.stages.iter().flat_map(|stage| &stage.instructions)) {
        of_instruction(instruction, linter);
    }
    file.stages.iter().for_each(|stage| of_stage(stage, linter));
    linter.enter(&[]);
    names(file, linter);
    instructions(file, linter);
}

fn of_instruction(instruction: &Instruction, linter: &mut Linter) {
    let Instruction { lines, comments, .. } = instruction;
    linter.enter(comments);
    match &instruction.kind {
        InstructionKind::Maintainer(_) => {
            linter.warn(Rule::MaintainerDeprecated, *lines, || {
                "Maintainer instruction is deprecated in favor of using label".to_owned()
            });
        }
        InstructionKind::Arg(definitions) => {
            let names: Vec<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
            description("ARG", &names, comments, *lines, linter);
        }
        _ => {}
    }
}

fn of_stage(stage: &Stage, linter: &mut Linter) {
    let (lines, comments) = (stage.lines, &stage.comments);
    linter.enter(comments);
    if let Some((word, name)) = &stage.as_written {
        if *name != name.to_lowercase() {
            linter.warn(Rule::StageNameCasing, lines, || {
                format!("Stage name '{}' should be lowercase", shown(name))
            });
        }
        // A FROM in both cases is reported on its own.
        let from = &stage.keyword;
        let lower = *from == from.to_lowercase();
        let upper = *from == from.to_uppercase();
        let fits = if lower { *word == word.to_lowercase() } else { *word == word.to_uppercase() };
        if (lower || upper) && !fits {
            linter.warn(Rule::FromAsCasing, lines, || {
                format!("'{word}' and '{from}' keywords' casing do not match")
            });
        }
    }
    if let Some(name) = &stage.name {
        description("FROM", &[name], comments, lines, linter);
    }
}

/// The last comment above has to begin with one of the names.
fn description(keyword: &str, names: &[&str], comments: &[String], lines: Lines, linter: &mut Linter) {
    let Some(first) = comments.last().and_then(|comment| comment.split(' ').next()) else { return };
    if names.contains(&first) {
        return;
    }
    let example = if let [name] = names { shown(name) } else { "<arg_key>".to_owned() };
    linter.warn(Rule::InvalidDefinitionDescription, lines, || {
        format!("Comment for {keyword} should follow the format: `# {example} <description>`")
    });
}

fn names(file: &Dockerfile, linter: &mut Linter) {
    let mut seen = std::collections::BTreeSet::new();
    for stage in &file.stages {
        let Some(name) = &stage.name else { continue };
        if name == "context" || name == "scratch" {
            linter.warn(Rule::ReservedStageName, stage.lines, || {
                format!("Stage name should not use the same name as reserved stage {}", quoted(name))
            });
        }
        if !seen.insert(name) {
            linter.warn(Rule::DuplicateStageName, stage.lines, || {
                format!("Duplicate stage name {}, stage names should be unique", quoted(name))
            });
        }
    }
}

/// All keywords in the case that most have.
fn instructions(file: &Dockerfile, linter: &mut Linter) {
    let keywords = || {
        file.stages.iter().flat_map(|stage| {
            let rest = stage.instructions.iter().map(|instruction| (&instruction.keyword, instruction.lines));
            [(&stage.keyword, stage.lines)].into_iter().chain(rest)
        })
    };
    let lower = keywords().filter(|(word, _)| **word == word.to_lowercase()).count();
    let upper = keywords().filter(|(word, _)| **word == word.to_uppercase()).count();
    let mostly_lower = lower > upper;
    for (word, lines) in keywords() {
        let (wanted, case) = if mostly_lower {
            (word.to_lowercase(), "lowercase")
        } else {
            (word.to_uppercase(), "uppercase")
        };
        if *word != wanted {
            linter.warn(Rule::ConsistentInstructionCasing, lines, || {
                format!("Command '{word}' should match the case of the command majority ({case})")
            });
        }
    }
}
