//! From files to all targets and groups that they name, before anything is inherited.

use std::collections::{BTreeMap, BTreeSet};

use super::eval::{Fault, Scope, World as _};
use super::program::{Names, Program};
use super::syntax::Body;
use super::target::{ATTRIBUTES, Group, Target};
use super::value::Value;
use crate::yaml::At;

/// All that files define.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub(crate) targets: Vec<Target>,
    pub(crate) groups: Vec<Group>,
    pub(crate) variables: Vec<Listed>,
    pub(crate) warnings: Vec<(At, String)>,
}

/// A variable, as `--list` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its type, where it has one.
    pub of: String,
    /// Its value. None: null.
    pub value: Option<String>,
}

/// A matrix makes no more targets, and all files together define no more.
const MOST_TARGETS: usize = 10_000;

impl Config {
    /// Adds what HCL and JSON files say.
    pub(crate) fn add(
        &mut self,
        bodies: Vec<Body>,
        given: &dyn Fn(&str) -> Option<String>,
        fixed: BTreeMap<String, String>,
    ) -> Result<(), Fault> {
        self.warn(&bodies);
        let mut program = Program::of(bodies, given, fixed)?;
        self.list(&program)?;
        name_all(&mut program)?;
        for place in 0..program.placed.len() {
            self.place(&program, place)?;
        }
        self.add_matrices(&program);
        program.check_attributes()?;
        Ok(())
    }

    /// What buildx passes over in silence.
    fn warn(&mut self, bodies: &[Body]) {
        for block in bodies.iter().flat_map(|body| &body.blocks) {
            let known: &[&str] = match block.kind.as_str() {
                "target" => ATTRIBUTES,
                "group" => &["targets", "description"],
                "variable" => &["type", "default", "description"],
                "function" => &["params", "variadic_params", "result"],
                other => {
                    self.warnings
                        .push((block.at, format!("{other:?} is no block of bake files: it is passed over")));
                    continue;
                }
            };
            let label = block.labels.first().map_or("", String::as_str);
            let has_matrix = matches!(block.kind.as_str(), "target" | "group");
            let extra: &[&str] = if has_matrix { &["matrix", "name"] } else { &[] };
            for attribute in &block.body.attributes {
                let name = attribute.name.as_str();
                if !(known.contains(&name) || extra.contains(&name)) {
                    let message =
                        format!("{} {label:?} has no attribute {name:?}: it is passed over", block.kind);
                    self.warnings.push((attribute.at, message));
                }
            }
            for inner in block
                .body
                .blocks
                .iter()
                .filter(|inner| block.kind != "variable" || inner.kind != "validation")
            {
                let message =
                    format!("{} {label:?} has no block {:?}: it is passed over", block.kind, inner.kind);
                self.warnings.push((inner.at, message));
            }
        }
    }

    /// Works all variables out, and holds them against their rules.
    fn list(&mut self, program: &Program<'_>) -> Result<(), Fault> {
        for (name, defined) in &program.variables {
            let Some(value) = program.variable(name, defined.at) else { continue };
            let value = value?;
            let shown = match (&value, &defined.of) {
                (Value::Null, _) => None,
                (Value::Text(text), _) => Some(text.to_string()),
                (value, _) => Some(value.to_string()),
            };
            self.variables.push(Listed {
                name: name.clone(),
                description: defined.description.clone(),
                of: defined.of.as_ref().map(ToString::to_string).unwrap_or_default(),
                value: shown,
            });
        }
        program.variables.keys().try_for_each(|name| program.validate(name))
    }

    /// Takes in what one block makes.
    fn place(&mut self, program: &Program<'_>, place: usize) -> Result<(), Fault> {
        let Some(placed) = program.placed.get(place) else { return Ok(()) };
        if placed.block.kind == "group" {
            let name = placed.made.first().map(|(name, _)| name.clone()).unwrap_or_default();
            let mut targets = program.group_targets(place)?;
            super::target::once(&mut targets);
            let description = match program.field(place, 0, "description") {
                Some(text) => match text? {
                    Value::Null => String::new(),
                    text => text.to_text().map_err(|error| Fault::new(placed.block.at, error))?.to_string(),
                },
                None => String::new(),
            };
            let group = Group { name, description, targets };
            match self.groups.iter_mut().find(|known| known.name == group.name) {
                Some(known) => *known = group,
                None => self.groups.push(group),
            }
            return Ok(());
        }
        for made in 0..placed.made.len() {
            let target = program.target(place, made, None)?;
            match self.targets.iter_mut().find(|known| known.name == target.name) {
                Some(known) => known.merge(&target),
                None => self.targets.push(target),
            }
        }
        Ok(())
    }

    /// The name of a block with a matrix is a group of what it makes.
    fn add_matrices(&mut self, program: &Program<'_>) {
        let mut made: Vec<(String, Vec<String>)> = Vec::new();
        for placed in program.placed.iter().filter(|placed| placed.block.kind == "target") {
            let label = placed.block.labels.first().cloned().unwrap_or_default();
            let names = placed.made.iter().map(|(name, _)| name.clone());
            match made.iter_mut().find(|(known, _)| *known == label) {
                Some((_, known)) => known.extend(names),
                None => made.push((label, names.collect())),
            }
        }
        for (name, mut targets) in made {
            super::target::once(&mut targets);
            if targets != [name.as_str()] {
                self.groups.push(Group { name, description: String::new(), targets });
            }
        }
    }
}

/// Gives the targets of all blocks their names.
fn name_all(program: &mut Program<'_>) -> Result<(), Fault> {
    let mut count = 0;
    for place in 0..program.placed.len() {
        let made = names_of(program, place)?;
        count += made.len();
        if let Some(placed) = program.placed.get_mut(place) {
            if count > MOST_TARGETS {
                return Err(Fault::new(
                    placed.block.at,
                    format!("more than {MOST_TARGETS} targets: no matrix is that large"),
                ));
            }
            placed.made = made;
        }
    }
    program.is_named = true;
    Ok(())
}

fn names_of(program: &Program<'_>, place: usize) -> Result<Vec<(String, Names)>, Fault> {
    let Some(placed) = program.placed.get(place) else { return Ok(Vec::new()) };
    let block = &placed.block;
    let label = block.labels.first().cloned().unwrap_or_default();
    check_name(&label, block.at)?;
    let (matrix, name) = (block.body.get("matrix"), block.body.get("name"));
    if block.kind == "group" {
        if let Some(attribute) = matrix.or(name) {
            return Err(Fault::new(attribute.at, format!("{} is not supported for groups", attribute.name)));
        }
        return Ok(vec![(label, Names::new())]);
    }
    let Some(matrix) = matrix else {
        return match name {
            Some(name) => Err(Fault::new(name.at, "name requires matrix")),
            None => Ok(vec![(label, Names::new())]),
        };
    };
    let value = program.evaluator().value(&matrix.value, &Scope::EMPTY)?;
    let rows = rows(&value).map_err(|error| Fault::new(matrix.value.at, error))?;
    let (mut made, mut seen) = (Vec::with_capacity(rows.len()), BTreeSet::new());
    for row in rows {
        let called = match name {
            Some(name) => program.evaluator().text(&name.value, &Scope { names: &row, outer: None })?,
            None => label.clone(),
        };
        let at = name.map_or(matrix.at, |name| name.value.at);
        check_name(&called, at)?;
        if !seen.insert(called.clone()) {
            let hint = if name.is_some() {
                "name has to be another one for each of the matrix"
            } else {
                "a matrix needs a name"
            };
            return Err(Fault::new(at, format!("duplicate name {called:?}: {hint}")));
        }
        made.push((called, row));
    }
    Ok(made)
}

fn check_name(name: &str, at: At) -> Result<(), Fault> {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '_' | '-');
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(Fault::new(at, format!("invalid name {name:?}: letters, digits, _ and - are allowed")));
    }
    Ok(())
}

/// All combinations of a matrix, in the order of its names.
fn rows(matrix: &Value) -> Result<Vec<Names>, String> {
    let axes = matrix.as_map().ok_or("matrix must be a map")?;
    let mut count = 1_usize;
    let mut lists = Vec::new();
    for (name, axis) in axes {
        let list = axis
            .elements()
            .map_err(|_| format!("matrix values must be a list: {name:?} is {}", axis.kind()))?;
        count = count.saturating_mul(list.len());
        lists.push((name, list));
    }
    if count > MOST_TARGETS {
        return Err(format!("the matrix makes more than {MOST_TARGETS} targets"));
    }
    let mut rows: Vec<Names> = vec![Vec::new()];
    for (name, list) in lists {
        let longer = |value: &Value| rows.iter().map(move |row| (row, value.clone())).collect::<Vec<_>>();
        rows = list
            .iter()
            .flat_map(longer)
            .map(|(row, value)| row.iter().cloned().chain([(name.clone(), value)]).collect())
            .collect();
    }
    Ok(rows)
}
