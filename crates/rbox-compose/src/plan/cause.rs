//! Why a container is made again: which field differs, from what to what.

use std::collections::BTreeSet;
use std::fmt;

use rbox_spec::container::NetworkMode;
use rbox_spec::mount::MountKind;
use serde_json::Value;

use super::outside::Outside;
use crate::labels;
use crate::model::{Project, Service};
use crate::observed::Instance;

/// A field that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The path of the field: `environment.LEVEL`.
    pub path: String,
    /// What it was; none where it was not there.
    pub from: Option<Value>,
    /// What it is.
    pub to: Option<Value>,
}

impl Change {
    /// Whether its values are nobody's business who reads what `up` says, such as the log of a build.
    fn is_secret(&self) -> bool {
        const WORDS: [&str; 5] = ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL"];
        let name = self.path.rsplit('.').next().unwrap_or_default().to_uppercase();
        let has_login = |value: &Option<Value>| {
            let text = value.as_ref().map(Value::to_string).unwrap_or_default();
            text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
        };
        WORDS.iter().any(|word| name.contains(word)) || has_login(&self.from) || has_login(&self.to)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_secret() {
            return match (&self.from, &self.to) {
                (None, _) => write!(f, "{} is new", self.path),
                (_, None) => write!(f, "{} is gone", self.path),
                _ => write!(f, "{} is another one now", self.path),
            };
        }
        match (&self.from, &self.to) {
            (None, Some(to)) => write!(f, "{} is new: {to}", self.path),
            (Some(from), None) => write!(f, "{} is gone: it was {from}", self.path),
            (from, to) => {
                let shown = |value: &Option<Value>| value.clone().unwrap_or(Value::Null);
                write!(f, "{}: {} is now {}", self.path, shown(from), shown(to))
            }
        }
    }
}

/// Why a container is made again.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// It was asked for.
    Forced,
    /// A field of the service differs.
    Changed(Change),
    /// The hash of the service differs, and what it was then is not known.
    Unknown,
    /// Its image is another one.
    Image {
        /// The id it was.
        from: String,
        /// The id it is.
        to: String,
    },
    /// An image that it mounts is another one.
    Mounted {
        /// The image's name.
        name: String,
        /// The id it was.
        from: String,
        /// The id it is.
        to: String,
    },
    /// A network of it was made again.
    Network(String),
    /// Providers give it other variables.
    Provided,
    /// A secret or a config of it, by its place in the container, has another content.
    Content(String),
    /// A command that was killed has left it half made.
    Unfinished,
    /// It shares something with a service whose container is made again.
    Shared(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect::<String>();
        match self {
            Self::Forced => f.write_str("it was asked for"),
            Self::Changed(change) => change.fmt(f),
            Self::Unknown => f.write_str("its configuration has changed"),
            Self::Image { from, to } => write!(f, "image: {} is now {}", short(from), short(to)),
            Self::Mounted { name, from, to } => {
                write!(f, "mounted image {name}: {} is now {}", short(from), short(to))
            }
            Self::Network(name) => write!(f, "network {name} was made again"),
            Self::Provided => f.write_str("its providers give it other variables"),
            Self::Content(target) => write!(f, "{target} has another content"),
            Self::Unfinished => f.write_str("it was left half made"),
            Self::Shared(service) => write!(f, "it shares something with {service}, which is made again"),
        }
    }
}

/// All that differs between a container and what its service is now.
pub(super) fn of(
    project: &Project,
    service: &Service,
    instance: &Instance,
    outside: &Outside,
    replaced: &BTreeSet<String>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    if instance.label(labels::CONFIG_HASH) != Some(service.config_hash()) {
        let changes = changes(instance, service);
        causes.extend(changes.into_iter().map(Cause::Changed));
        if causes.is_empty() {
            causes.push(Cause::Unknown);
        }
    }
    if let Some(provided) = &outside.provided
        && instance.label(labels::PROVIDED) != provided.get(&service.name).map(String::as_str)
    {
        causes.push(Cause::Provided);
    }
    if instance.label(labels::REPLACE).is_some() {
        causes.push(Cause::Unfinished);
    }
    let record = &instance.container.record;
    if let Some(image) = outside.images.get(&service.name).filter(|id| **id != record.image_id) {
        causes.push(Cause::Image { from: record.image_id.clone(), to: image.clone() });
    }
    for mount in &record.host.mounts {
        if let MountKind::Image { name, id, .. } = &mount.kind
            && let Some(now) = outside.mounted.get(name).filter(|now| *now != id)
        {
            causes.push(Cause::Mounted { name: name.clone(), from: id.clone(), to: now.clone() });
        }
    }
    if record.host.network == NetworkMode::Bridge && service.network_mode.is_empty() {
        let is_on = |id: &str| record.host.attachments.iter().any(|wanted| wanted.network_id == id);
        for key in service.networks.keys() {
            let Some(name) = project.networks.get(key).map(|network| &network.name) else { continue };
            if outside.networks.get(key).is_none_or(|id| is_on(id)) {
                continue;
            }
            // A field says it already when the service has not been on a network of this name.
            if record.host.attachments.iter().any(|wanted| wanted.network == *name) || causes.is_empty() {
                causes.push(Cause::Network(name.clone()));
            }
        }
    }
    let contents = outside.contents.get(&record.id).into_iter().flatten();
    causes.extend(contents.cloned().map(Cause::Content));
    causes.extend(
        shares_with(service).filter(|name| replaced.contains(*name)).map(|name| Cause::Shared(name.into())),
    );
    causes
}

/// The services whose namespaces or volumes a service uses.
fn shares_with(service: &Service) -> impl Iterator<Item = &str> {
    let modes = [&service.network_mode, &service.pid, &service.ipc];
    let of_modes = modes.into_iter().filter_map(|mode| mode.strip_prefix("service:"));
    let of_volumes = service
        .volumes_from
        .iter()
        .filter(|text| !text.starts_with("container:"))
        .filter_map(|text| text.split(':').next());
    of_modes.chain(of_volumes)
}

/// The keys that are no part of the hash: what they say needs no other container.
const NOT_HASHED: [&str; 5] = ["build", "pull_policy", "scale", "depends_on", "profiles"];

fn changes(instance: &Instance, service: &Service) -> Vec<Change> {
    let known = instance.container.record.host.annotations.get(labels::DEFINITION);
    let Some(Ok(mut before)) = known.map(|text| rbox_spec::json::from_slice::<Value>(text.as_bytes())) else {
        return Vec::new();
    };
    let mut now = service.canonical().clone();
    for value in [&mut before, &mut now] {
        let Some(fields) = value.as_object_mut() else { continue };
        for key in NOT_HASHED {
            fields.remove(key);
        }
        if let Some(deploy) = fields.get_mut("deploy").and_then(Value::as_object_mut) {
            deploy.remove("replicas");
        }
    }
    let mut changes = Vec::new();
    compare(&mut changes, "", Some(&before), Some(&now));
    changes
}

/// Adds what differs, down to the smallest field that has a name.
fn compare(changes: &mut Vec<Change>, path: &str, from: Option<&Value>, to: Option<&Value>) {
    if from == to {
        return;
    }
    match (from, to) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(changes, &below, before.get(key), after.get(key));
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            compare_lists(changes, path, before, after);
        }
        _ => changes.push(Change { path: path.to_owned(), from: from.cloned(), to: to.cloned() }),
    }
}

/// Adds the elements that one of two different lists lacks. One that stands where another one stood is that one, changed.
fn compare_lists(changes: &mut Vec<Change>, path: &str, before: &[Value], after: &[Value]) {
    let not_in = |list: &[Value], other: &[Value]| -> BTreeSet<usize> {
        (0..list.len()).filter(|at| !other.contains(&list[*at])).collect()
    };
    let (gone, new) = (not_in(before, after), not_in(after, before));
    if gone.is_empty() && new.is_empty() {
        // They differ in their order, or in how often something is there.
        let list = |elements: &[Value]| Some(Value::Array(elements.to_vec()));
        changes.push(Change { path: path.to_owned(), from: list(before), to: list(after) });
        return;
    }
    for at in gone.union(&new) {
        let from = gone.contains(at).then(|| &before[*at]);
        let to = new.contains(at).then(|| &after[*at]);
        compare(changes, &format!("{path}[{at}]"), from, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_not_shown() {
        let change = |path: &str, from: &str, to: &str| {
            Change { path: path.into(), from: Some(from.into()), to: Some(to.into()) }.to_string()
        };
        assert_eq!(
            change("environment.DB_PASSWORD", "one", "two"),
            "environment.DB_PASSWORD is another one now"
        );
        assert_eq!(change("environment.URL", "pg://u:p@db/x", "y"), "environment.URL is another one now");
        assert_eq!(change("environment.LEVEL", "1", "2"), "environment.LEVEL: \"1\" is now \"2\"");
    }

    #[test]
    fn a_change_names_its_field() {
        let mut changes = Vec::new();
        let before = json!({"image": "a:1", "environment": {"A": "1", "B": "x"}, "ports": [1]});
        let after = json!({"image": "a:2", "environment": {"A": "1", "C": "y"}, "ports": [1]});
        compare(&mut changes, "", Some(&before), Some(&after));
        let wanted = [
            r#"environment.B is gone: it was "x""#,
            r#"environment.C is new: "y""#,
            r#"image: "a:1" is now "a:2""#,
        ];
        assert_eq!(shown(&changes), wanted);
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn of_a_list_only_what_differs_is_named() {
        let differ = |before: Value, after: Value| {
            let mut changes = Vec::new();
            compare(&mut changes, "", Some(&json!({ "x": before })), Some(&json!({ "x": after })));
            shown(&changes)
        };
        assert_eq!(differ(json!(["run", "-a"]), json!(["run", "-b"])), [r#"x[1]: "-a" is now "-b""#]);
        assert_eq!(differ(json!(["a", "b"]), json!(["b"])), [r#"x[0] is gone: it was "a""#]);
        assert_eq!(differ(json!(["a"]), json!(["a", "b"])), [r#"x[1] is new: "b""#]);
        assert_eq!(differ(json!(["a", "b"]), json!(["b", "a"])), [r#"x: ["a","b"] is now ["b","a"]"#]);
        let port = |published: &str| json!({ "target": 80, "published": published });
        let ports = differ(json!([port("1"), port("2")]), json!([port("1"), port("3")]));
        assert_eq!(ports, [r#"x[1].published: "2" is now "3""#]);
    }
}
