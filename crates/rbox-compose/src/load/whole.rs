//! A loaded project: as a tree, and the typed one that is read from it.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::interpolate::Uses;
use crate::environment::Environment;
use crate::error::{ComposeError, Place};
use crate::model::{Project, Service};
use crate::output::{Form, PROJECT, SERVICE, bind};
use crate::yaml::{At, Map, Node, Out, json};

/// A loaded project as a tree.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) name: String,
    pub(crate) directory: String,
    pub(crate) files: Vec<String>,
    pub(crate) env_files: Vec<String>,
    pub(crate) profiles: Vec<String>,
    pub(crate) environment: Environment,
    /// Canonical, with the services that are enabled.
    pub(crate) root: Node,
    pub(crate) disabled: Map,
    pub(crate) uses: Uses,
    pub(crate) remote: Vec<String>,
    /// The names of files, by the numbers of places.
    pub(crate) places: Vec<String>,
}

fn typed<T: DeserializeOwned>(out: &Out, what: &str) -> Result<T, ComposeError> {
    T::deserialize(out.to_json()).map_err(|error| ComposeError::Invalid(format!("{what}: {error}")))
}

/// The typed model of a tree.
pub(crate) fn bound(whole: &Whole) -> Result<Project, ComposeError> {
    let root = whole.root.as_map().cloned().unwrap_or_default();
    let mut rest = root.clone();
    let services = rest.remove("services");
    let out = bind(&rest, PROJECT, Form::Model, "").map_err(|fault| whole.fault(fault))?;
    let mut project: Project = typed(&out, "project")?;
    project.name.clone_from(&whole.name);
    project.directory = PathBuf::from(&whole.directory);
    project.files.clone_from(&whole.files);
    project.env_files.clone_from(&whole.env_files);
    project.profiles.clone_from(&whole.profiles);
    let added = whole.environment.added();
    project.environment = added.map(|(name, variable)| (name.to_owned(), variable.value.clone())).collect();
    let none = Map::new();
    let services = services.as_ref().and_then(Node::as_map).unwrap_or(&none);
    for (name, node) in services {
        project.services.insert(name.clone(), bound_service(whole, name, node)?);
    }
    for (name, node) in &whole.disabled {
        project.disabled_services.insert(name.clone(), bound_service(whole, name, node)?);
    }
    for secret in project.secrets.values_mut().filter(|secret| !secret.environment.is_empty()) {
        secret.content = whole.environment.get(&secret.environment);
    }
    Ok(project)
}

fn bound_service(whole: &Whole, name: &str, node: &Node) -> Result<Service, ComposeError> {
    let map = node.as_map().cloned().unwrap_or_default();
    let path = format!("services.{name}");
    let model = bind(&map, SERVICE, Form::Model, &path).map_err(|fault| whole.fault(fault))?;
    let canonical = bind(&map, SERVICE, Form::Json, &path).map_err(|fault| whole.fault(fault))?;
    let mut service: Service = typed(&model, &path)?;
    name.clone_into(&mut service.name);
    service.canonical = canonical.to_json();
    let mut hashed = canonical.without(&["build", "pull_policy", "scale", "depends_on", "profiles"]);
    if let Out::Fields(fields) = &mut hashed {
        for (_, value) in fields.iter_mut().filter(|(key, _)| key == "deploy") {
            let deploy = std::mem::replace(value, Out::Null);
            *value = deploy.without(&["replicas"]);
        }
    }
    let digest = Sha256::digest(json(&hashed, false).as_bytes());
    for byte in digest {
        let _ = write!(service.hash, "{byte:02x}");
    }
    Ok(service)
}

impl Whole {
    pub(crate) fn fault(&self, (at, message): (At, String)) -> ComposeError {
        let message = message.trim_start_matches('.').to_owned();
        if at.line == 0 {
            return ComposeError::Invalid(message);
        }
        let file = usize::try_from(at.file).ok().and_then(|file| self.places.get(file)).cloned();
        let at = Place { file: file.unwrap_or_default(), line: at.line, column: at.column };
        ComposeError::Schema { at, message }
    }
}
