//! `include`: other compose files, each with its own directory and variables, whose parts become parts of this one.

use std::path::Path;

use super::discover::add_files;
use super::paths::{join, parent, relative};
use super::project::{Loader, Scope};
use crate::error::ComposeError;
use crate::yaml::{Map, Node, Value};

const PARTS: &[&str] = &["services", "volumes", "networks", "secrets", "configs", "models"];
/// How deep files may include each other.
const MAX_DEPTH: usize = 100;

/// One entry of `include`.
struct Entry {
    paths: Vec<String>,
    directory: String,
    env_files: Vec<String>,
}

fn texts(node: Option<&Node>) -> Vec<String> {
    match node.map(|node| &node.value) {
        Some(Value::Text(text)) => vec![text.clone()],
        Some(Value::List(list)) => list.iter().map(|node| node.value.to_string()).collect(),
        _ => Vec::new(),
    }
}

impl Loader<'_> {
    /// Includes what a file asks for.
    pub(crate) fn include_all(
        &mut self,
        file: &str,
        tree: &mut Node,
        scope: &Scope,
    ) -> Result<(), ComposeError> {
        let Some(include) = tree.as_map_mut().and_then(|map| map.remove("include")) else { return Ok(()) };
        let mut included = scope.included.clone();
        included.push(file.to_owned());
        if included.len() > MAX_DEPTH {
            return Err(
                self.invalid((include.at, format!("files include each other more than {MAX_DEPTH} deep")))
            );
        }
        let entries = match &include.value {
            Value::Null => return Ok(()),
            Value::List(entries) => entries,
            other => {
                return Err(
                    self.invalid((include.at, format!("`include` must be a list, got {}", other.go_type())))
                );
            }
        };
        for node in entries {
            crate::schema::include(node).map_err(|fault| self.invalid(fault))?;
            let entry = match &node.value {
                Value::Text(path) => {
                    Entry { paths: vec![path.clone()], directory: String::new(), env_files: Vec::new() }
                }
                _ => Entry {
                    paths: texts(node.get("path")),
                    directory: texts(node.get("project_directory")).concat(),
                    env_files: texts(node.get("env_file")),
                },
            };
            let imported = self.included(entry, node, scope, &included)?;
            self.import(imported, tree)?;
        }
        Ok(())
    }

    fn included(
        &mut self,
        mut entry: Entry,
        node: &Node,
        scope: &Scope,
        included: &[String],
    ) -> Result<Node, ComposeError> {
        let local =
            |path: &str| if path.starts_with('/') { join("", path) } else { join(&scope.resources, path) };
        for path in &mut entry.paths {
            *path = self.options.fetched(path, &mut self.remote)?.unwrap_or_else(|| local(path));
        }
        let Some(main) = entry.paths.first().cloned() else {
            return Err(self.invalid((node.at, "include.path: at least one path is needed".into())));
        };
        if included.contains(&main) {
            let mut way = included.to_vec();
            way.push(main);
            let message = format!("include cycle detected: {}", way.join(" include "));
            return Err(self.invalid((node.at, message)));
        }
        let directory_of = |path: &str| {
            let path = local(path);
            let directory = if Path::new(&path).is_dir() { path } else { parent(&path) };
            relative(&scope.resources, &directory)
        };
        let (directory, resources) = if entry.directory.is_empty() {
            (directory_of(&main), parent(&main))
        } else if entry.directory.starts_with('/') {
            (entry.directory.clone(), entry.directory.clone())
        } else {
            let resources = self.absolute_here(&join(&scope.directory, &entry.directory));
            (directory_of(&entry.directory), resources)
        };
        let env_files = if entry.env_files.is_empty() {
            let default = join(&resources, ".env");
            if Path::new(&default).is_file() { vec![default] } else { Vec::new() }
        } else {
            let paths = entry.env_files.iter();
            paths
                .map(|file| {
                    if file.starts_with('/') {
                        file.clone()
                    } else {
                        self.absolute_here(&join(&scope.directory, file))
                    }
                })
                .collect()
        };
        let mut environment = scope.environment.clone();
        add_files(&mut environment, &env_files, &mut self.warnings)?;
        let mut files = Vec::new();
        for path in entry.paths {
            let documents = self.files.documents(&path)?;
            files.push((path, documents));
        }
        let scope = Scope { environment, directory, resources, resolve: true, included: included.to_vec() };
        self.model(files, &scope)
    }

    /// A path below the current directory, where it is not absolute.
    fn absolute_here(&self, path: &str) -> String {
        super::discover::absolute(&self.options.directory.to_string_lossy(), path)
    }

    fn import(&self, imported: Node, tree: &mut Node) -> Result<(), ComposeError> {
        let Value::Map(mut imported) = imported.value else { return Ok(()) };
        let Some(tree) = tree.as_map_mut() else { return Ok(()) };
        for part in PARTS {
            let Some(Node { value: Value::Map(from), .. }) = imported.remove(*part) else { continue };
            let to = tree.entry((*part).to_owned()).or_insert_with(|| Value::Map(Map::new()).into());
            let Some(to) = to.as_map_mut() else { continue };
            for (name, node) in from {
                match to.get(&name) {
                    Some(other) if *other != node => {
                        let message = format!("{part}.{name} conflicts with imported resource");
                        return Err(self.invalid((other.key, message)));
                    }
                    _ => {
                        to.insert(name, node);
                    }
                }
            }
        }
        Ok(())
    }
}
