//! The image configuration: OCI's fields and the ones only Docker writes.
//!
//! `oci-spec`'s type has no `Healthcheck`, `OnBuild` or `Shell`, so this is our own reading of the document. It is
//! only ever read from here: the bytes as they came stay on disk, because writing them again would drop
//! unknown fields and change the image's id.
//! Source: OCI image specification, `config.md`; Docker's fields from moby `image/spec/v1.3`.
use std::collections::BTreeMap;

use rbox_spec::health::Healthcheck;
use rbox_spec::{Digest, Platform};
use serde::{Deserialize, Serialize};

use crate::go_json::nullable;
use crate::keys::{self, Shape};

/// The configuration of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The CPU architecture in Go's words.
    #[serde(deserialize_with = "nullable")]
    pub architecture: String,
    /// The variant of the architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The operating system in Go's words.
    #[serde(deserialize_with = "nullable")]
    pub os: String,
    /// The version of the operating system (Windows).
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// A comment (`docker import -m`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The Docker version that built it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    /// What a container gets by default.
    #[serde(deserialize_with = "nullable")]
    pub config: RunConfig,
    /// The layers, bottom first.
    #[serde(deserialize_with = "nullable")]
    pub rootfs: RootFs,
    /// How each layer came to be, bottom first; steps that made no layer have `empty_layer`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// The image that it was committed on, in those made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// A configuration's lists have at most so many entries. No image needs as many, the kernel could not hand them to a program,
/// and what is done for each (a mount, a volume) must not take a minute.
const MOST_ENTRIES: usize = 10_000;
/// `VOLUME`s: each is a directory, a record and a mount.
const MOST_VOLUMES: usize = 1_000;
/// `EXPOSE 1-65535` of both protocols, and some.
const MOST_PORTS: usize = 140_000;

static SHAPE: Shape = Shape::Object(&[
    ("created", &Shape::Any),
    ("author", &Shape::Any),
    ("architecture", &Shape::Any),
    ("variant", &Shape::Any),
    ("os", &Shape::Any),
    ("os.version", &Shape::Any),
    ("os.features", &Shape::Any),
    ("comment", &Shape::Any),
    ("docker_version", &Shape::Any),
    (
        "config",
        &Shape::Object(&[
            ("User", &Shape::Any),
            ("ExposedPorts", &Shape::Any),
            ("Env", &Shape::Any),
            ("Entrypoint", &Shape::Any),
            ("Cmd", &Shape::Any),
            (
                "Healthcheck",
                &Shape::Object(&[
                    ("Test", &Shape::Any),
                    ("Interval", &Shape::Any),
                    ("Timeout", &Shape::Any),
                    ("StartPeriod", &Shape::Any),
                    ("StartInterval", &Shape::Any),
                    ("Retries", &Shape::Any),
                ]),
            ),
            ("ArgsEscaped", &Shape::Any),
            ("Volumes", &Shape::Any),
            ("WorkingDir", &Shape::Any),
            ("OnBuild", &Shape::Any),
            ("Labels", &Shape::Any),
            ("StopSignal", &Shape::Any),
            ("StopTimeout", &Shape::Any),
            ("Shell", &Shape::Any),
        ]),
    ),
    ("rootfs", &Shape::Object(&[("type", &Shape::Any), ("diff_ids", &Shape::Any)])),
    (
        "history",
        &Shape::List(&Shape::Object(&[
            ("created", &Shape::Any),
            ("created_by", &Shape::Any),
            ("author", &Shape::Any),
            ("comment", &Shape::Any),
            ("empty_layer", &Shape::Any),
        ])),
    ),
]);

impl ImageConfig {
    /// Reads a configuration that comes from outside, and refuses what is ambiguous or out of all proportion.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        keys::check(bytes, &SHAPE)?;
        Self::parse_known(bytes)
    }

    /// The same for one that was looked at when it came, and has its digest still.
    pub(crate) fn parse_known(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let config: Self = rbox_spec::json::from_slice(bytes)?;
        let run = &config.config;
        let list = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
        let test = run.healthcheck.as_ref().map_or(0, |check| check.test.len());
        for (what, count, most) in [
            ("environment variables", run.env.len(), MOST_ENTRIES),
            ("volumes", run.volumes.len(), MOST_VOLUMES),
            ("exposed ports", run.exposed_ports.len(), MOST_PORTS),
            ("labels", run.labels.len(), MOST_ENTRIES),
            ("words in ENTRYPOINT", list(&run.entrypoint), MOST_ENTRIES),
            ("words in CMD", list(&run.cmd), MOST_ENTRIES),
            ("words in SHELL", list(&run.shell), MOST_ENTRIES),
            ("words in HEALTHCHECK", test, MOST_ENTRIES),
            ("ONBUILD triggers", run.on_build.len(), MOST_ENTRIES),
            ("layers", config.rootfs.diff_ids.len(), crate::media::MAX_LAYERS),
            ("history entries", config.history.len(), MOST_ENTRIES),
        ] {
            if count > most {
                return Err(serde::de::Error::custom(format!(
                    "it has {count} {what}; at most {most} are taken"
                )));
            }
        }
        Ok(config)
    }

    /// The platform the image is for; an empty field counts as the host's.
    pub fn platform(&self) -> Platform {
        let host = Platform::host();
        let os = if self.os.is_empty() { &host.os } else { &self.os };
        let architecture = if self.architecture.is_empty() { &host.architecture } else { &self.architecture };
        Platform::new(os, architecture, self.variant.as_deref())
    }
}

/// What a container of the image gets when the user says nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    /// `USER`: name or number, with an optional group.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `EXPOSE`: `80/tcp` and so on.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// `ENV`, each as `NAME=value`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// `ENTRYPOINT`; `None` where the image has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`; `None` where the image has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// `HEALTHCHECK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Windows: the command line is already escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// `VOLUME`: paths as written by the image's author, so hostile.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// `WORKDIR`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `ONBUILD` triggers.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// `LABEL`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`: a name or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// `SHELL`, used for the shell form of later instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// The image's layers by the digest of their uncompressed tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Diff IDs, bottom first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of an image's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command that did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_docker_fields_and_nulls() {
        let text = r#"{"architecture":"arm64","variant":"v8","os":"linux","config":{"Env":null,"Cmd":null,
            "Entrypoint":["/e"],"OnBuild":null,"Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":{}},"Labels":null,
            "Shell":["/bin/bash","-c"],"StopSignal":"SIGQUIT",
            "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000,"Retries":3}},
            "history":[{"created_by":"x","empty_layer":true}],"rootfs":{"type":"layers","diff_ids":null},"extra":1}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.platform().to_string(), "linux/arm64");
        assert_eq!(config.config.cmd, None);
        assert_eq!(config.config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(config.config.healthcheck.unwrap().retries, 3);
        assert!(config.config.volumes.contains_key("/data"));
        assert!(config.history[0].empty_layer);
        assert!(
            serde_json::from_str::<ImageConfig>(r#"{"config":null,"rootfs":null,"history":null}"#).is_ok()
        );
        for ambiguous in [
            r#"{"Config":{"Env":["A=b"]}}"#,
            r#"{"config":{"Env":["A=b"],"env":["A=c"]}}"#,
            r#"{"config":{"user":"root"}}"#,
            r#"{"rootfs":{"Diff_Ids":[]}}"#,
            r#"{"history":[{"Empty_Layer":true}]}"#,
        ] {
            assert!(ImageConfig::parse(ambiguous.as_bytes()).is_err(), "{ambiguous}");
        }
        assert!(
            ImageConfig::parse(br#"{"config":{"Labels":{"a":"1","A":"2"}},"Extra":{"a":1,"A":2}}"#).is_ok()
        );
        let bad = r#"{"rootfs":{"diff_ids":["sha256:../../x"]}}"#;
        assert!(serde_json::from_str::<ImageConfig>(bad).is_err());
    }
    /// Any other reader refuses these; which field is which in a list is nobody's to say.
    #[test]
    fn a_list_is_no_object() {
        for bad in [
            "[]",
            r#"{"config":[]}"#,
            r#"{"config":["65534",{},["A=x"],["sh"]]}"#,
            r#"{"config":{"Healthcheck":[["NONE"]]}}"#,
            r#"{"rootfs":["layers",["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]]}"#,
            r#"{"history":[[]]}"#,
        ] {
            let error = ImageConfig::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("invalid type: sequence"), "{bad}: {error}");
        }
    }

    /// What a hostile configuration has too much of is refused at once, and what is under the limits is read.
    #[test]
    fn lists_out_of_all_proportion_are_refused() {
        let many =
            |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(",");
        let env = |count| format!(r#"{{"config":{{"Env":[{}]}}}}"#, many(count, &|n| format!(r#""V{n}=1""#)));
        let volumes = |count| {
            format!(r#"{{"config":{{"Volumes":{{{}}}}}}}"#, many(count, &|n| format!(r#""/v{n}":{{}}"#)))
        };
        let ports = |count| {
            format!(
                r#"{{"config":{{"ExposedPorts":{{{}}}}}}}"#,
                many(count, &|n| format!(r#""{n}/tcp":{{}}"#))
            )
        };
        for (text, good) in [
            (env(MOST_ENTRIES), true),
            (env(300_000), false),
            (volumes(MOST_VOLUMES), true),
            (volumes(20_000), false),
            (ports(131_070), true),
            (ports(200_000), false),
        ] {
            let start = std::time::Instant::now();
            let parsed = ImageConfig::parse(text.as_bytes());
            assert_eq!(parsed.is_ok(), good, "{}", &text[..60]);
            assert!(parsed.is_ok() || parsed.unwrap_err().to_string().contains("; at most "));
            assert!(start.elapsed() < std::time::Duration::from_secs(20), "{}", &text[..60]);
        }
    }
}
