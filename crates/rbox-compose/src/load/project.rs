//! The flow of loading: each file filled in, extended, included and merged, then the whole checked and made canonical.

use super::canonical::{canonical, defaults, omit_empty};
use super::checks::check;
use super::discover::{Found, checked_name, discover, normal_name};
use super::files::Files;
use super::interpolate::{Uses, interpolate, place};
use super::merge::{merge, unique};
use super::normalize::{normalize, resolve};
use super::options::Options;
use super::paths::Resolver;
use super::services;
use super::tree::Fault;
use super::whole::Whole;
use crate::environment::{Environment, Origin};
use crate::error::{ComposeError, Place};
use crate::schema;
use crate::yaml::{At, Document, Map, Node, Value};

/// What a file is loaded with.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) environment: Environment,
    /// Where relative paths of the model lead.
    pub(crate) directory: String,
    /// Where files that are extended or included are looked for.
    pub(crate) resources: String,
    pub(crate) resolve: bool,
    pub(crate) included: Vec<String>,
}

/// What is known while files are loaded.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    pub(crate) options: &'a Options,
    pub(crate) files: Files,
    pub(crate) warnings: Vec<String>,
    pub(crate) uses: Uses,
    /// What came from elsewhere, by its name.
    pub(crate) remote: Vec<String>,
}

impl Loader<'_> {
    pub(crate) fn place(&self, at: At) -> Place {
        place(at, &self.files.names)
    }

    /// An error that is no matter of a type.
    pub(crate) fn invalid(&self, fault: Fault) -> ComposeError {
        let (at, message) = fault;
        if at.line == 0 {
            return ComposeError::Invalid(message);
        }
        ComposeError::Schema { at: self.place(at), message }
    }

    pub(crate) fn home(&self) -> Option<String> {
        self.options.environment.get("HOME").filter(|home| !home.is_empty())
    }

    /// Loads files one over the other.
    pub(crate) fn model(
        &mut self,
        files: Vec<(String, Vec<Document>)>,
        scope: &Scope,
    ) -> Result<Node, ComposeError> {
        let mut dict: Node = Value::Map(Map::new()).into();
        for (file, documents) in files {
            for document in documents {
                dict = self.document(&file, document, dict, scope)?;
            }
        }
        defaults(&mut dict).map_err(|fault| self.invalid(fault))?;
        check(&dict).map_err(|fault| self.invalid(fault))?;
        if scope.resolve {
            let home = self.home();
            let resolver = Resolver { directory: &scope.directory, home: home.as_deref() };
            resolver.resolve(&mut dict).map_err(|fault| self.invalid(fault))?;
        }
        resolve_environment(&mut dict, &scope.environment);
        Ok(dict)
    }

    fn document(
        &mut self,
        file: &str,
        document: Document,
        mut dict: Node,
        scope: &Scope,
    ) -> Result<Node, ComposeError> {
        let mut tree = document.root;
        if tree.as_map().is_none() {
            let at = Place { file: file.to_owned(), line: tree.at.line, column: tree.at.column };
            return Err(ComposeError::Schema { at, message: "top-level object must be a mapping".into() });
        }
        if self.options.interpolate {
            let Self { files, uses, warnings, .. } = self;
            interpolate(&mut tree, &scope.environment, &files.names, uses, warnings)?;
        }
        self.extend_all(file, &mut tree, &document.resets, scope)?;
        reset(&mut dict, &mut Vec::new(), &document.resets);
        self.include_all(file, &mut tree, scope)?;
        let mut dict = merge(dict, tree).map_err(|fault| self.invalid(fault))?;
        unique(&mut dict).map_err(|fault| self.invalid(fault))?;
        schema::validate(&dict).map_err(|(at, message)| ComposeError::Schema {
            at: if at.line == 0 {
                Place { file: file.to_owned(), ..Place::default() }
            } else {
                self.place(at)
            },
            message,
        })?;
        if let Some(map) = dict.as_map_mut()
            && map.remove("version").is_some()
        {
            let warning = format!(
                "{file}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential confusion"
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        self.canonical(&mut dict)?;
        Ok(dict)
    }

    /// Into the long way, each key once.
    pub(crate) fn canonical(&mut self, dict: &mut Node) -> Result<(), ComposeError> {
        canonical(dict, !self.options.interpolate, &mut self.warnings)
            .map_err(|fault| self.invalid(fault))?;
        omit_empty(dict);
        unique(dict).map_err(|fault| self.invalid(fault))
    }
}

/// Forgets what stands at these paths.
pub(crate) fn reset(node: &mut Node, path: &mut Vec<String>, paths: &[Vec<String>]) {
    if paths.is_empty() {
        return;
    }
    let Some(map) = node.as_map_mut() else { return };
    map.retain(|key, _| {
        path.push(key.clone());
        let gone = paths.contains(path);
        path.pop();
        !gone
    });
    for (key, node) in map {
        path.push(key.clone());
        reset(node, path, paths);
        path.pop();
    }
}

/// Lists of `environment`, and contents of configs, by the variables of the project.
fn resolve_environment(dict: &mut Node, environment: &Environment) {
    let Some(dict) = dict.as_map_mut() else { return };
    if let Some(services) = dict.get_mut("services").and_then(Node::as_map_mut) {
        for service in services.values_mut().filter_map(Node::as_map_mut) {
            if let Some(variables) = service.get_mut("environment").filter(|node| node.as_list().is_some()) {
                resolve(variables, environment, true);
            }
        }
    }
    if let Some(configs) = dict.get_mut("configs").and_then(Node::as_map_mut) {
        for config in configs.values_mut().filter_map(Node::as_map_mut) {
            let content =
                config.get("environment").and_then(Node::as_text).and_then(|name| environment.get(name));
            if let Some(content) = content {
                config.insert("content".into(), Node::text(content));
            }
        }
    }
}

/// The last `name:` of the files.
fn name_of(files: &[(String, Vec<Document>)]) -> Option<Node> {
    let documents = files.iter().flat_map(|(_, documents)| documents);
    let mut names = documents.filter_map(|document| document.root.get("name").cloned());
    names.rfind(|name| name.as_text().is_some_and(|name| !name.is_empty()))
}

/// Loads a project. `warnings` has what there is to be told of it, also where it is refused.
pub(crate) fn whole(options: &Options, warnings: &mut Vec<String>) -> Result<Whole, ComposeError> {
    let mut found = discover(options, warnings)?;
    let files = Files::with(options.contents.clone());
    let remote = std::mem::take(&mut found.remote);
    let mut loader = Loader { options, files, warnings: std::mem::take(warnings), uses: Uses::new(), remote };
    let whole = loader.whole(found);
    warnings.append(&mut loader.warnings);
    let mut whole = whole?;
    if options.interpolate {
        services::finish(&mut whole, options)?;
    }
    Ok(whole)
}

impl Loader<'_> {
    fn whole(&mut self, found: Found) -> Result<Whole, ComposeError> {
        let Found { files: paths, directory, mut environment, profiles, env_files, .. } = found;
        let options = self.options;
        let mut files = Vec::with_capacity(paths.len());
        for path in &paths {
            files.push((path.clone(), self.files.documents(path)?));
        }
        let name = project_name(self, &files, &directory, &environment)?;
        environment.set("COMPOSE_PROJECT_NAME", name.clone(), Origin::Project);
        // Without interpolation nothing of the environment is in what is shown, as Compose has it.
        let mut seen = if options.interpolate { environment.clone() } else { Environment::default() };
        seen.set("COMPOSE_PROJECT_NAME", name.clone(), Origin::Project);
        let scope = Scope {
            environment: seen.clone(),
            directory: directory.clone(),
            resources: directory.clone(),
            resolve: options.resolve_paths,
            included: Vec::new(),
        };
        let mut root = self.model(files, &scope)?;
        if root.as_map().is_none_or(Map::is_empty) {
            return Err(ComposeError::Invalid("empty compose file".into()));
        }
        if name.is_empty() {
            return Err(ComposeError::Invalid("project name must not be empty".into()));
        }
        if options.normalize {
            normalize(&mut root, &name, &seen);
        }
        Ok(Whole {
            name,
            directory,
            files: paths,
            env_files,
            profiles,
            environment,
            root,
            disabled: Map::new(),
            uses: std::mem::take(&mut self.uses),
            remote: std::mem::take(&mut self.remote),
            places: std::mem::take(&mut self.files.names),
        })
    }
}

fn project_name(
    loader: &mut Loader<'_>,
    files: &[(String, Vec<Document>)],
    directory: &str,
    environment: &Environment,
) -> Result<String, ComposeError> {
    if let Some(name) = loader.options.name.as_deref().filter(|name| !name.is_empty()) {
        return checked_name(name);
    }
    if let Some(name) = environment.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()) {
        return checked_name(&name);
    }
    if let Some(name) = name_of(files) {
        let mut root = Node::map([("name", name)]);
        if loader.options.interpolate {
            let Loader { files, uses, warnings, .. } = loader;
            interpolate(&mut root, environment, &files.names, uses, warnings)?;
        }
        let name = root.get("name").and_then(Node::as_text).unwrap_or_default();
        return Ok(if loader.options.normalize { normal_name(name) } else { name.to_owned() });
    }
    Ok(normal_name(directory.rsplit('/').next().unwrap_or_default()))
}
