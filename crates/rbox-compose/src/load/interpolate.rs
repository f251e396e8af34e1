//! Variables in the values of a tree, and what becomes of a text where a number or a boolean is due.

use std::collections::BTreeMap;

use super::tree::any;
use crate::environment::{Environment, Use};
use crate::error::{ComposeError, Place};
use crate::words::{Missing, TemplateError, substitute};
use crate::yaml::{At, Node, Value};

/// What is known of the variables that files name, by the name.
pub(crate) type Uses = BTreeMap<String, Use>;

struct Values<'a> {
    environment: &'a Environment,
    uses: &'a mut Uses,
    warnings: &'a mut Vec<String>,
    place: Place,
}

impl Missing for Values<'_> {
    fn lookup(&mut self, name: &str) -> Option<String> {
        let variable = self.environment.variable(name);
        let value = variable.as_ref().map(|variable| variable.value.clone());
        let used = self.uses.entry(name.to_owned()).or_insert_with(|| Use {
            name: name.to_owned(),
            variable: variable.clone(),
            places: Vec::new(),
        });
        if used.variable.is_none() {
            used.variable = variable;
        }
        if !used.places.contains(&self.place) && used.places.len() < 1000 {
            used.places.push(self.place.clone());
        }
        value
    }

    fn missing(&mut self, name: &str) {
        let warning = format!("The {name:?} variable is not set. Defaulting to a blank string.");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// Puts values into all texts of a tree.
pub(crate) fn interpolate(
    root: &mut Node,
    environment: &Environment,
    files: &[String],
    uses: &mut Uses,
    warnings: &mut Vec<String>,
) -> Result<(), ComposeError> {
    let mut values = Values { environment, uses, warnings, place: Place::default() };
    each(root, &mut Vec::new(), &mut values, files)
}

/// The place of a node, to be shown.
pub(crate) fn place(at: At, files: &[String]) -> Place {
    let file = usize::try_from(at.file).ok().and_then(|file| files.get(file)).cloned().unwrap_or_default();
    Place { file, line: at.line, column: at.column }
}

fn each(
    node: &mut Node,
    path: &mut Vec<String>,
    values: &mut Values<'_>,
    files: &[String],
) -> Result<(), ComposeError> {
    match &mut node.value {
        Value::Map(map) => {
            for (key, node) in map {
                path.push(key.clone());
                each(node, path, values, files)?;
                path.pop();
            }
        }
        Value::List(list) => {
            for node in list {
                path.push("[]".into());
                each(node, path, values, files)?;
                path.pop();
            }
        }
        Value::Text(text) => {
            values.place = place(node.at, files);
            let fault = |message: String| ComposeError::Interpolation { at: place(node.at, files), message };
            let name = path.join(".");
            let filled = if text.contains('$') {
                substitute(text, values).map_err(|error| match error {
                    TemplateError::Invalid(template) => fault(format!(
                        "invalid interpolation format for {name}: {template:?}. You may need to escape any $ with another $"
                    )),
                    error @ TemplateError::Required { .. } => {
                        fault(format!("error while interpolating {name}: {error}"))
                    }
                })?
            } else {
                std::mem::take(text)
            };
            node.value = cast(&filled, path, values.warnings).map_err(|error| {
                fault(format!("error while interpolating {name}: failed to cast to expected type: {error}"))
            })?;
        }
        _ => {}
    }
    Ok(())
}

const INTEGERS: &[&str] = &[
    "services.*.cpu_count",
    "services.*.cpu_period",
    "services.*.cpu_quota",
    "services.*.cpu_rt_period",
    "services.*.cpu_rt_runtime",
    "services.*.cpu_shares",
    "services.*.deploy.replicas",
    "services.*.deploy.update_config.parallelism",
    "services.*.deploy.rollback_config.parallelism",
    "services.*.deploy.restart_policy.max_attempts",
    "services.*.deploy.placement.max_replicas_per_node",
    "services.*.healthcheck.retries",
    "services.*.oom_score_adj",
    "services.*.pids_limit",
    "services.*.ports.[].target",
    "services.*.scale",
    "services.*.ulimits.*",
    "services.*.ulimits.*.hard",
    "services.*.ulimits.*.soft",
];
const FLOATS: &[&str] = &[
    "services.*.cpu_percent",
    "services.*.cpus",
    "services.*.deploy.update_config.max_failure_ratio",
    "services.*.deploy.rollback_config.max_failure_ratio",
];
const BOOLEANS: &[&str] = &[
    "services.*.init",
    "services.*.healthcheck.disable",
    "services.*.oom_kill_disable",
    "services.*.privileged",
    "services.*.read_only",
    "services.*.stdin_open",
    "services.*.tty",
    "services.*.volumes.[].read_only",
    "services.*.volumes.[].volume.nocopy",
    "networks.*.external",
    "networks.*.internal",
    "networks.*.attachable",
    "networks.*.enable_ipv4",
    "networks.*.enable_ipv6",
    "volumes.*.external",
    "secrets.*.external",
    "configs.*.external",
];

fn cast(text: &str, path: &[String], warnings: &mut Vec<String>) -> Result<Value, String> {
    let number = |what: &str| format!("{text:?} is not {what}");
    if any(path, INTEGERS) {
        return text.parse::<i64>().map(|int| Value::Int(int.into())).map_err(|_| number("an integer"));
    }
    if any(path, FLOATS) {
        return match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(Value::Float(float)),
            _ => Err(number("a number")),
        };
    }
    if any(path, BOOLEANS) {
        let (value, strange) = match text.to_lowercase().as_str() {
            "true" => (true, false),
            "false" => (false, false),
            "y" | "yes" | "on" => (true, true),
            "n" | "no" | "off" => (false, true),
            _ => return Err(format!("invalid boolean: {text}")),
        };
        if strange {
            warnings.push(format!("{text:?} for boolean is not supported by YAML 1.2, please use `{value}`"));
        }
        return Ok(Value::Bool(value));
    }
    Ok(Value::Text(text.to_owned()))
}
