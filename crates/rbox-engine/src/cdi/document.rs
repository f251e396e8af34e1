//! One file: what it may say, and what is wrong with it.

use std::collections::{BTreeMap, HashSet};

use rbox_spec::device_request::{is_device_name, split_kind};
use serde::Deserialize;

use crate::cdi::edits::Edits;
use crate::cdi::yaml;

/// The versions of the specification, each as a number that grows with it.
const VERSIONS: [(&str, u32); 10] = [
    ("0.1.0", 1),
    ("0.2.0", 2),
    ("0.3.0", 3),
    ("0.4.0", 4),
    ("0.5.0", 5),
    ("0.6.0", 6),
    ("0.7.0", 7),
    ("0.8.0", 8),
    ("1.0.0", 10),
    ("1.1.0", 11),
];

/// A file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Document {
    cdi_version: String,
    /// `vendor.com/class`.
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    /// The devices.
    pub(crate) devices: Vec<Device>,
    /// What goes with each of them.
    #[serde(default)]
    pub(crate) container_edits: Edits,
}

/// A device.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) container_edits: Edits,
}

impl Document {
    /// Reads a file; `is_json` by its name.
    pub(crate) fn parse(bytes: &[u8], is_json: bool) -> Result<Self, String> {
        let document: Self = if is_json {
            rbox_spec::json::from_slice(bytes)
        } else {
            let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
            rbox_spec::json::from_value::<Self>(yaml::read(text)?)
        }
        .map_err(|error| error.to_string())?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), String> {
        let version = self.cdi_version.strip_prefix('v').unwrap_or(&self.cdi_version);
        let Some((_, number)) = VERSIONS.iter().find(|(known, _)| *known == version) else {
            return Err(format!("invalid version {:?}: known are 0.3.0 to 1.1.0", self.cdi_version));
        };
        let (_, class) = split_kind(&self.kind)
            .ok_or_else(|| format!("invalid kind {:?}: expected vendor.com/class", self.kind))?;
        if self.devices.is_empty() {
            return Err("no devices".to_owned());
        }
        let mut names = HashSet::new();
        for Device { name, container_edits, .. } in &self.devices {
            if !is_device_name(name) {
                return Err(format!("invalid device name {name:?}"));
            }
            if !names.insert(name) {
                return Err(format!("device {name:?} is there twice"));
            }
            if container_edits.is_empty() {
                return Err(format!("device {name:?} has empty containerEdits"));
            }
        }
        let all = || self.devices.iter().map(|device| &device.container_edits).chain([&self.container_edits]);
        all().try_for_each(Edits::check)?;
        let has_annotations =
            !self.annotations.is_empty() || self.devices.iter().any(|device| !device.annotations.is_empty());
        let has_number =
            self.devices.iter().any(|device| device.name.starts_with(|c: char| c.is_ascii_digit()));
        let needed = [(6, has_annotations || class.contains('.')), (5, has_number), (0, true)];
        let needed = needed.into_iter().filter_map(|(version, is)| is.then_some(version)).max();
        let needed = all().map(Edits::needs_version).chain(needed).max().unwrap_or_default();
        match VERSIONS.iter().find(|(_, version)| *version == needed) {
            Some((known, _)) if needed > *number => {
                Err(format!("it says version {version}, and what it has is of version {known}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parse(version: &str, kind: &str, device: &str) -> Result<Document, String> {
        let text = format!(r#"{{"cdiVersion":"{version}","kind":"{kind}","devices":[{device}]}}"#);
        Document::parse(text.as_bytes(), true)
    }

    fn edits(text: &str) -> String {
        format!(r#"{{"name":"a","containerEdits":{{{text}}}}}"#)
    }

    #[test]
    fn rules_of_the_specification() {
        const KIND: &str = "vendor.com/class";
        let device = r#"{"name":"one","containerEdits":{"env":["A=1"]}}"#;
        for version in ["0.3.0", "v0.5.0", "1.0.0", "1.1.0"] {
            assert!(parse(version, KIND, device).is_ok(), "{version}");
        }
        let named = |name: &str| device.replace("one", name);
        for (version, kind, device, words) in [
            ("9.9.9", KIND, device.to_owned(), "version \"9.9.9\""),
            ("0.5.0", "vendor.com", device.to_owned(), "invalid kind"),
            ("0.5.0", "1vendor/class", device.to_owned(), "invalid kind"),
            ("0.5.0", "vendor.com/class.sub", device.to_owned(), "of version 0.6.0"),
            ("0.5.0", KIND, named("a/b"), "device name"),
            ("0.5.0", KIND, named("-a"), "device name"),
            ("0.4.0", KIND, named("0"), "of version 0.5.0"),
            ("0.5.0", KIND, format!("{device},{device}"), "twice"),
            ("0.5.0", KIND, String::new(), "no devices"),
            ("0.5.0", KIND, edits(""), "empty"),
            ("0.5.0", KIND, edits(r#""x":1"#), "unknown field"),
            ("0.5.0", KIND, device.replace("A=1", "=1"), "variable"),
            ("0.5.0", KIND, device.replace("A=1", "A=\\u0000"), "NUL"),
            ("0.6.0", KIND, edits(r#""additionalGids":[5]"#), "of version 0.7.0"),
            (
                "1.0.0",
                KIND,
                edits(r#""netDevices":[{"hostInterfaceName":"a","name":"b"}]"#),
                "of version 1.1.0",
            ),
            (
                "0.3.0",
                KIND,
                edits(r#""mounts":[{"hostPath":"/a","containerPath":"/b","type":"bind"}]"#),
                "of version 0.4.0",
            ),
            (
                "0.3.0",
                KIND,
                edits(r#""deviceNodes":[{"path":"/dev/a","hostPath":"/dev/b"}]"#),
                "of version 0.5.0",
            ),
            ("0.8.0", KIND, edits(r#""deviceNodes":[{"path":"/dev/a","type":"x"}]"#), "type"),
            ("0.8.0", KIND, edits(r#""deviceNodes":[{"path":"/dev/a","type":"p"}]"#), "FIFO"),
            ("0.8.0", KIND, edits(r#""deviceNodes":[{"path":"/dev/a","major":-1}]"#), "integer"),
            ("0.8.0", KIND, edits(r#""deviceNodes":[{"path":"/dev/a","permissions":"x"}]"#), "permissions"),
            ("0.8.0", KIND, edits(r#""deviceNodes":[{"path":"/dev/../etc/passwd"}]"#), "below /dev"),
            ("0.8.0", KIND, edits(r#""deviceNodes":[{"path":"/opt/a"}]"#), "below /dev"),
            ("0.8.0", KIND, edits(r#""hooks":[{"hookName":"later","path":"/x"}]"#), "hook"),
            ("0.8.0", KIND, edits(r#""hooks":[{"hookName":"prestart","path":"x"}]"#), "absolute"),
            ("0.8.0", KIND, edits(r#""mounts":[{"hostPath":"/x","containerPath":""}]"#), "containerPath"),
            (
                "0.8.0",
                KIND,
                edits(r#""mounts":[{"hostPath":"/x","containerPath":"/a/../b"}]"#),
                "containerPath",
            ),
            ("0.8.0", KIND, edits(r#""mounts":[{"hostPath":"x","containerPath":"/a"}]"#), "hostPath"),
            ("0.8.0", KIND, edits(r#""mounts":[{"hostPath":"/x","containerPath":"/proc/sys"}]"#), "/proc"),
            (
                "0.8.0",
                KIND,
                edits(r#""mounts":[{"hostPath":"/x","containerPath":"/dev"}]"#),
                "the container's own",
            ),
            (
                "0.8.0",
                KIND,
                edits(r#""mounts":[{"hostPath":"/x","containerPath":"/"}]"#),
                "the container's own",
            ),
            (
                "0.8.0",
                KIND,
                edits(r#""mounts":[{"hostPath":"/x","containerPath":"/sys/fs"}]"#),
                "the container's own",
            ),
            (
                "0.8.0",
                KIND,
                edits(r#""mounts":[{"hostPath":"/x","containerPath":"/a","type":"ext4"}]"#),
                "type \"ext4\"",
            ),
        ] {
            let said = parse(version, kind, &device).err().unwrap_or_default();
            assert!(said.contains(words), "{device}: {said:?} has no {words:?}");
        }
    }

    #[test]
    fn yaml_and_json_are_one() {
        let yaml = "---\ncdiVersion: 0.5.0\nkind: v/c\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - {path: /dev/x, fileMode: 0644}\n";
        let json = r#"{"cdiVersion":"0.5.0","kind":"v/c","devices":[{"name":"0","containerEdits":{"deviceNodes":[{"path":"/dev/x","fileMode":420}]}}]}"#;
        let [one, two] = [(yaml, false), (json, true)]
            .map(|(text, is_json)| format!("{:?}", Document::parse(text.as_bytes(), is_json).unwrap()));
        assert_eq!(one, two);
    }
}
