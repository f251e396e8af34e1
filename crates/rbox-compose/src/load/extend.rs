//! `extends`: a service that stands on another one, of the same file or of another.

use super::paths::{Resolver, join, parent, relative};
use super::project::{Loader, Scope, reset};
use super::{interpolate::interpolate, merge};
use crate::error::ComposeError;
use crate::yaml::{Map, Node, Value};

/// How many services may stand on each other.
const MAX_DEPTH: usize = 100;

/// A service on the way to what it stands on, to see circles.
type Way = Vec<(String, String)>;

impl Loader<'_> {
    /// Extends all services of a file.
    pub(crate) fn extend_all(
        &mut self,
        file: &str,
        tree: &mut Node,
        resets: &[Vec<String>],
        scope: &Scope,
    ) -> Result<(), ComposeError> {
        let Some(services) = tree.as_map_mut().and_then(|map| map.get_mut("services")) else { return Ok(()) };
        let at = services.at;
        let Some(services) = services.as_map_mut() else {
            return Err(self.invalid((at, "services must be a mapping".into())));
        };
        let names: Vec<String> = services.keys().cloned().collect();
        for name in names {
            let merged = self.extended(&name, services, file, resets, scope, &Way::new())?;
            services.insert(name, merged);
        }
        Ok(())
    }

    fn extended(
        &mut self,
        name: &str,
        services: &mut Map,
        file: &str,
        resets: &[Vec<String>],
        scope: &Scope,
        way: &Way,
    ) -> Result<Node, ComposeError> {
        let Some(node) = services.get(name).cloned() else { return Ok(Node::default()) };
        if node.is_null() {
            return Ok(node);
        }
        let Some(service) = node.as_map() else {
            return Err(self.invalid((node.at, format!("services.{name} must be a mapping"))));
        };
        let Some(extends) = service.get("extends") else { return Ok(node) };
        let (wanted, other) = match &extends.value {
            Value::Text(wanted) => (wanted.clone(), None),
            Value::Map(map) => {
                let Some(wanted) = map.get("service").and_then(Node::as_text) else {
                    return Err(self.invalid((extends.at, format!("extends.{name}.service is required"))));
                };
                (wanted.to_owned(), map.get("file").filter(|file| !file.is_null()))
            }
            _ => {
                return Err(self
                    .invalid((extends.at, format!("services.{name}.extends must be a string or mapping"))));
            }
        };
        let mut base_services;
        let mut base_resets = Vec::new();
        let mut from = file.to_owned();
        let others = if let Some(other) = other {
            let path = other.value.to_string();
            (base_services, base_resets) = self.other_file(name, &wanted, file, &path, scope)?;
            from = path;
            &mut base_services
        } else {
            if !services.contains_key(&wanted) {
                let message =
                    format!("cannot extend service {name:?} in {file}: service {wanted:?} not found");
                return Err(self.invalid((extends.at, message)));
            }
            &mut *services
        };
        let mut way = way.clone();
        let step = (from, name.to_owned());
        if way.contains(&step) || way.len() > MAX_DEPTH {
            let first = format!("{} in {}", way[0].1, way[0].0);
            way.push(step);
            let rest: Vec<String> =
                way[1..].iter().map(|(file, name)| format!("extends {name} in {file}")).collect();
            let message = format!("Circular reference: {first} {}", rest.join(" "));
            return Err(self.invalid((extends.at, message)));
        }
        way.push(step);
        let mut base = self.extended(&wanted, others, file, &base_resets, scope, &way)?;
        if base.is_null() {
            return Ok(node);
        }
        reset(&mut base, &mut vec!["services".into(), name.to_owned()], resets);
        let mut merged = merge::merge_service(base, node.clone()).map_err(|fault| self.invalid(fault))?;
        if let Some(map) = merged.as_map_mut() {
            map.remove("extends");
        }
        merged.key = node.key;
        services.insert(name.to_owned(), merged.clone());
        Ok(merged)
    }

    /// The services of another file, with their paths from here.
    fn other_file(
        &mut self,
        name: &str,
        wanted: &str,
        file: &str,
        path: &str,
        scope: &Scope,
    ) -> Result<(Map, Vec<Vec<String>>), ComposeError> {
        let local = match self.options.fetched(path, &mut self.remote)? {
            Some(fetched) => fetched,
            None if path.starts_with('/') => path.to_owned(),
            None => join(&scope.resources, path),
        };
        let mut merged: Node = Value::Map(Map::new()).into();
        let mut resets = Vec::new();
        for mut document in self.files.documents(&local)? {
            if document.root.as_map().is_none() {
                return Err(self.invalid((document.root.at, "top-level object must be a mapping".into())));
            }
            if self.options.interpolate {
                let Self { files, uses, warnings, .. } = self;
                interpolate(&mut document.root, &scope.environment, &files.names, uses, warnings)?;
            }
            reset(&mut merged, &mut Vec::new(), &document.resets);
            merged = merge::merge(merged, document.root).map_err(|fault| self.invalid(fault))?;
            resets = document.resets;
        }
        self.canonical(&mut merged)?;
        let services = merged.get("services");
        let fault = |message: String| ComposeError::Invalid(message);
        match services.map(|services| &services.value) {
            None => {
                return Err(fault(format!("cannot extend service {name:?} in {local}: no services section")));
            }
            Some(Value::Map(services)) if services.contains_key(wanted) => {}
            Some(Value::Map(_)) => {
                return Err(fault(format!(
                    "cannot extend service {name:?} in {file}: service {wanted:?} not found in {path}"
                )));
            }
            Some(_) => {
                return Err(fault(format!(
                    "cannot extend service {name:?} in {local}: services must be a mapping"
                )));
            }
        }
        let directory = relative(&scope.resources, &parent(&local));
        let home = self.home();
        let resolver = Resolver { directory: &directory, home: home.as_deref() };
        resolver.resolve(&mut merged).map_err(|fault| self.invalid(fault))?;
        let services = merged.as_map_mut().and_then(|map| map.remove("services"));
        Ok((services.and_then(|node| node.as_map().cloned()).unwrap_or_default(), resets))
    }
}
