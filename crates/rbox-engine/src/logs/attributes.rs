//! What each entry of a container's log tells beside its text: `--log-opt labels`, `labels-regex`, `env`, `env-regex`, `tag`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{Template, Value};
use regex::Regex;

use crate::record::container::ContainerRecord;

/// An option of these that is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAttribute {
    /// A regular expression that is none.
    #[error("invalid value for {key}: {value}: expected a regular expression")]
    Pattern {
        /// The option.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A template that is none, or asks for what there is not.
    #[error("invalid value for tag: {template}: {why}")]
    Tag {
        /// The template.
        template: String,
        /// What is wrong with it.
        why: String,
    },
}

impl BadAttribute {
    fn pattern(key: &'static str, value: &str) -> Self {
        Self::Pattern { key, value: value.escape_debug().to_string() }
    }
}

/// The attributes of a container's entries, by name.
pub(crate) fn attributes(record: &ContainerRecord) -> Result<BTreeMap<String, String>, BadAttribute> {
    let options = &record.host.log_opts;
    let env: BTreeMap<String, String> = record
        .config
        .env
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut out = BTreeMap::new();
    for (named, matching, from) in
        [("labels", "labels-regex", &record.config.labels), ("env", "env-regex", &env)]
    {
        for name in options.get(named).into_iter().flat_map(|names| names.split(',')) {
            if let Some(value) = from.get(name) {
                out.insert(name.to_owned(), value.clone());
            }
        }
        if let Some(pattern) = options.get(matching).filter(|pattern| !pattern.is_empty()) {
            let pattern = Regex::new(pattern).map_err(|_| BadAttribute::pattern(matching, pattern))?;
            out.extend(
                from.iter().filter(|(name, _)| pattern.is_match(name)).map(|(k, v)| (k.clone(), v.clone())),
            );
        }
    }
    if let Some(template) = options.get("tag").filter(|template| !template.is_empty()) {
        out.insert("tag".to_owned(), tag(template, record)?);
    }
    Ok(out)
}

/// What its messages are tagged with where they are collected: its short id, unless `tag` says otherwise.
pub(super) fn tag_of(record: &ContainerRecord) -> Result<String, BadAttribute> {
    let given = record.host.log_opts.get("tag").filter(|template| !template.is_empty());
    given.map_or_else(|| Ok(record.id.short().to_owned()), |template| tag(template, record))
}

/// The tag of a container's log: a Go template over what Docker's log drivers know of a container.
fn tag(template: &str, record: &ContainerRecord) -> Result<String, BadAttribute> {
    let text = |text: &str| Value::String(text.into());
    let image_id = record.image_id.strip_prefix("sha256:").unwrap_or(&record.image_id);
    let labels = record.config.labels.iter().map(|(name, value)| (Arc::from(name.as_str()), text(value)));
    let command: Vec<&str> =
        record.config.entrypoint.iter().chain(&record.config.cmd).map(String::as_str).collect();
    let fields = [
        ("ID", text(record.id.short())),
        ("FullID", text(record.id.as_str())),
        ("Name", text(record.name.as_str())),
        ("ImageID", text(image_id.get(..12).unwrap_or(image_id))),
        ("ImageFullID", text(&record.image_id)),
        ("ImageName", text(&record.image)),
        ("Hostname", text(&record.config.hostname)),
        ("Command", text(&command.join(" "))),
        ("DaemonName", text("rbox")),
        ("ContainerID", text(record.id.as_str())),
        ("ContainerName", text(&format!("/{}", record.name))),
        ("ContainerImageID", text(&record.image_id)),
        ("ContainerImageName", text(&record.image)),
        ("ContainerLabels", Value::Map(Arc::new(labels.collect()))),
    ];
    let data =
        Value::Map(Arc::new(fields.into_iter().map(|(name, value)| (Arc::from(name), value)).collect()));
    let wrong = |error: gotmpl::TemplateError| BadAttribute::Tag {
        template: template.escape_debug().to_string(),
        why: error.to_string().escape_debug().to_string(),
    };
    let parsed = Template::new("").missing_key(gotmpl::MissingKey::Error).parse(template).map_err(wrong)?;
    parsed.execute_to_string(&data).map_err(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rbox_spec::container::{ContainerConfig, HostConfig};
    use rbox_spec::id::ContainerId;

    fn record(name: &str) -> ContainerRecord {
        ContainerRecord {
            id: ContainerId::from_bytes(&[7; 32]),
            name: name.parse().unwrap(),
            created: jiff::Timestamp::UNIX_EPOCH,
            image: "shop:1".into(),
            image_id: format!("sha256:{}", "ab".repeat(32)),
            image_manifest: String::new(),
            platform: String::new(),
            layers: Vec::new(),
            embedded: false,
            build_step: None,
            config: ContainerConfig::default(),
            host: HostConfig::default(),
        }
    }

    #[test]
    fn what_is_named_and_what_matches() {
        let mut record = record("web");
        record.config.env = vec!["LANG=C".into(), "LC_ALL=C.UTF-8".into(), "HOME=/".into()];
        record.config.labels = [("app", "shop"), ("app.tier", "front"), ("other", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let mut read = |pairs: &[(&str, &str)]| {
            record.host.log_opts = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let found = attributes(&record).map_err(|error| error.to_string())?;
            Ok::<_, String>(found.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(read(&[]).unwrap(), "");
        assert_eq!(read(&[("labels", "app,absent"), ("env", "HOME")]).unwrap(), "HOME=/ app=shop");
        assert_eq!(
            read(&[("labels-regex", "^app"), ("env-regex", "^L")]).unwrap(),
            "LANG=C LC_ALL=C.UTF-8 app=shop app.tier=front"
        );
        assert_eq!(
            read(&[("tag", "{{.ImageName}}/{{.Name}}/{{.ID}}")]).unwrap(),
            "tag=shop:1/web/070707070707"
        );
        assert_eq!(read(&[("tag", "{{index .ContainerLabels \"app\"}}")]).unwrap(), "tag=shop");
        assert!(read(&[("tag", "{{.Nope}}")]).unwrap_err().contains("tag"));
        assert!(read(&[("tag", "{{")]).unwrap_err().contains("tag"));
        assert!(read(&[("env-regex", "(")]).unwrap_err().contains("env-regex"));
    }
}
