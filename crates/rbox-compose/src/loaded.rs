//! A project that was loaded, and what `config` prints of it.

use std::collections::BTreeMap;

use crate::environment::{Environment, Use};
use crate::error::ComposeError;
use crate::load::{Options, Whole, bound, whole};
use crate::model::Project;
use crate::output::{Form, PROJECT, bind};
use crate::words::{Mention, mentions};
use crate::yaml::{Node, Out, Value, json, yaml};

/// A project that was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// What the user should know, one line each.
    pub warnings: Vec<String>,
    /// All variables that the files could name.
    pub environment: Environment,
    /// Those that they do name.
    pub variables: Vec<Use>,
    /// The files that came from elsewhere, by their names in the command and in files.
    pub remote: Vec<String>,
    interpolated: bool,
    whole: Whole,
}

/// Loads a project.
///
/// # Errors
///
/// The first thing that is wrong, with its place where it has one.
pub fn load(options: &Options) -> Result<Loaded, ComposeError> {
    load_telling(options, &mut |_| ())
}

/// The same. `tell` hears what there is to be known of it, also where it is refused: that may be why.
///
/// # Errors
///
/// The first thing that is wrong, with its place where it has one.
pub fn load_telling(options: &Options, tell: &mut dyn FnMut(&str)) -> Result<Loaded, ComposeError> {
    let mut warnings = Vec::new();
    let loaded = loaded(options, &mut warnings);
    for warning in &warnings {
        tell(warning);
    }
    loaded
}

fn loaded(options: &Options, warnings: &mut Vec<String>) -> Result<Loaded, ComposeError> {
    let whole = whole(options, warnings)?;
    // Without values of variables there are no types.
    let project = if options.interpolate {
        bound(&whole)?
    } else {
        Project { name: whole.name.clone(), ..Project::default() }
    };
    Ok(Loaded {
        project,
        warnings: warnings.clone(),
        environment: whole.environment.clone(),
        variables: whole.uses.values().cloned().collect(),
        remote: whole.remote.clone(),
        interpolated: options.interpolate,
        whole,
    })
}

/// A variable that compose files name, as they name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Refused without a value.
    pub required: bool,
    /// What stands for it where it has no value.
    pub default: String,
    /// What stands for it where it has one.
    pub alternate: String,
}

impl Loaded {
    /// The project in Compose's canonical form, in YAML. A project that was loaded without interpolation is printed as the tree it is.
    pub fn to_yaml(&self) -> Result<String, ComposeError> {
        match self.rendered(Form::Yaml)? {
            Some(out) => Ok(yaml(&out).replace('$', "$$")),
            None => Ok(yaml(&Out::from(&self.whole.root))),
        }
    }

    /// The same in JSON, without an end of line.
    pub fn to_json(&self) -> Result<String, ComposeError> {
        match self.rendered(Form::Json)? {
            Some(out) => Ok(json(&out, true).replace('$', "$$")),
            None => Ok(json(&Out::from(&self.whole.root), true)),
        }
    }

    /// None where no values of variables are in.
    fn rendered(&self, form: Form) -> Result<Option<Out>, ComposeError> {
        if !self.interpolated {
            return Ok(None);
        }
        let mut root = self.whole.root.as_map().cloned().unwrap_or_default();
        if !self.project.name.is_empty() {
            root.insert("name".into(), Node::text(self.project.name.clone()));
        }
        root.entry("services".into()).or_insert_with(|| Value::Map(BTreeMap::new()).into());
        // What came from a variable is not shown.
        for kind in ["secrets", "configs"] {
            let objects = root.get_mut(kind).and_then(Node::as_map_mut);
            for object in objects.into_iter().flat_map(BTreeMap::values_mut).filter_map(Node::as_map_mut) {
                if object.get("environment").is_some_and(|node| node.as_text() != Some("")) {
                    object.remove("content");
                }
            }
        }
        let out = bind(&root, PROJECT, form, "").map_err(|fault| self.whole.fault(fault))?;
        if form == Form::Yaml {
            return Ok(Some(out));
        }
        let Out::Fields(fields) = out else { return Ok(Some(out)) };
        let mut sorted: BTreeMap<String, Out> = fields.into_iter().collect();
        let extensions = root.iter().filter(|(key, _)| key.starts_with("x-"));
        sorted.extend(extensions.map(|(key, node)| (key.clone(), Out::from(node))));
        Ok(Some(Out::Sorted(sorted)))
    }

    /// Puts other images in place of those that services name and do not build, as `config` prints them.
    ///
    /// # Errors
    /// That of `replace`.
    pub fn replace_images<E>(&mut self, mut replace: impl FnMut(&str) -> Result<String, E>) -> Result<(), E> {
        let services = self.whole.root.as_map_mut().and_then(|root| root.get_mut("services"));
        for service in services.and_then(Node::as_map_mut).into_iter().flat_map(BTreeMap::values_mut) {
            let Some(fields) = service.as_map_mut().filter(|fields| !fields.contains_key("build")) else {
                continue;
            };
            let Some(image) = fields.get_mut("image") else { continue };
            if let Some(name) = image.as_text().filter(|name| !name.is_empty()) {
                *image = Node::text(replace(name)?);
            }
        }
        Ok(())
    }

    /// Leaves nothing but the images of services for `config` to print: a file to lay over the others.
    pub fn keep_only_images(&mut self) {
        let Some(root) = self.whole.root.as_map_mut() else { return };
        root.retain(|key, _| key == "services");
        let services = root.get_mut("services").and_then(Node::as_map_mut);
        for fields in services.into_iter().flat_map(BTreeMap::values_mut).filter_map(Node::as_map_mut) {
            fields.retain(|key, _| key == "image");
        }
        self.project.name.clear();
    }

    /// The names of the services that are meant.
    pub fn service_names(&self) -> Vec<String> {
        let services = self.whole.root.get("services").and_then(Node::as_map);
        services.into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// The variables that the files name, when they were loaded without interpolation.
    pub fn named_variables(&self) -> Vec<Named> {
        let mut all = BTreeMap::new();
        collect(&self.whole.root, &mut all);
        let named = |found: Mention| Named {
            name: found.name,
            required: found.required,
            default: found.default,
            alternate: found.alternate,
        };
        all.into_values().map(named).collect()
    }
}

fn collect(node: &Node, all: &mut BTreeMap<String, Mention>) {
    match &node.value {
        Value::Text(text) => {
            let mut found = Vec::new();
            mentions(text, &mut found);
            all.extend(found.into_iter().map(|mention| (mention.name.clone(), mention)));
        }
        Value::List(list) => list.iter().for_each(|node| collect(node, all)),
        Value::Map(map) => map.values().for_each(|node| collect(node, all)),
        _ => {}
    }
}
