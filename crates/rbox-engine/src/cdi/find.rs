//! Which devices a step of a build asks for, by BuildKit's rules: `vendor.com/class=name`, a class for its first device, `=*` for all
//! of a class, and classes that the files' annotations make.

use rbox_spec::device_request::split_kind;

use crate::cdi::CdiError;
use crate::cdi::specs::Specs;

/// The annotation whose value is another name for all devices that have it.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// The annotation of devices that a build gets unasked.
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// A device that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDevice {
    /// Its full name.
    pub name: String,
    /// Its file says that every build may have it.
    pub is_allowed: bool,
}

/// What was found under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDevices {
    /// The devices; none when no file has any.
    pub devices: Vec<FoundDevice>,
    /// What is wrong with files, for the end of a line that says so.
    pub hint: String,
}

/// Finds what `wanted` means.
pub(crate) fn find(wanted: &str, specs: &Specs) -> Result<FoundDevices, CdiError> {
    let (kind, name) = wanted.split_once('=').unwrap_or((wanted, ""));
    if split_kind(kind).is_none() {
        return Err(CdiError::Name(wanted.chars().take(200).collect()));
    }
    let (mut of_kind, _) = specs.all();
    of_kind.retain(|full| full.split_once('=').is_some_and(|(of, _)| of == kind));
    let mut names = match name {
        "" => of_kind.iter().take(1).cloned().collect(),
        "*" => of_kind.clone(),
        _ => of_kind.iter().filter(|full| *full == wanted).cloned().collect::<Vec<_>>(),
    };
    if names.is_empty() {
        names = of_kind;
        names.retain(|full| annotation(specs, full, CLASS).is_some_and(|class| class == name));
    }
    let is_allowed = |full: &str| annotation(specs, full, AUTO_ALLOW).is_some_and(|text| is_true(&text));
    let devices = names.into_iter().map(|name| FoundDevice { is_allowed: is_allowed(&name), name }).collect();
    Ok(FoundDevices { devices, hint: specs.hint() })
}

/// What a device's file says of it; its own word counts before that of all in the file.
fn annotation(specs: &Specs, full: &str, name: &str) -> Option<String> {
    let (document, device) = specs.find(full).ok().flatten()?;
    device.annotations.get(name).or_else(|| document.annotations.get(name)).cloned()
}

/// As Go's `strconv.ParseBool`.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_classes_and_annotations() {
        let dir = tempfile::tempdir().unwrap();
        let device = |name: &str, annotations: serde_json::Value| serde_json::json!({ "name": name, "annotations": annotations, "containerEdits": { "env": ["A=1"] } });
        let text = serde_json::json!({
            "cdiVersion": "0.6.0", "kind": "v.com/c", "annotations": { AUTO_ALLOW: "true" },
            "devices": [
                device("two", serde_json::json!({ CLASS: "big" })),
                device("one", serde_json::json!({ AUTO_ALLOW: "no" })),
                device("three", serde_json::json!({ CLASS: "big", AUTO_ALLOW: "0" })),
            ],
        });
        std::fs::write(dir.path().join("a.json"), text.to_string()).unwrap();
        std::fs::write(dir.path().join("b.json"), "{").unwrap();
        let specs = Specs::load(&[dir.path().to_owned()]);
        for (wanted, found) in [
            ("v.com/c", "one"),
            ("v.com/c=", "one"),
            ("v.com/c=two", "two+"),
            ("v.com/c=*", "one three two+"),
            ("v.com/c=big", "three two+"),
            ("v.com/c=none", ""),
            ("v.com/other", ""),
        ] {
            let all = find(wanted, &specs).unwrap();
            let short =
                |one: &FoundDevice| one.name.replace("v.com/c=", "") + if one.is_allowed { "+" } else { "" };
            assert_eq!(all.devices.iter().map(short).collect::<Vec<_>>().join(" "), found, "{wanted}");
            assert!(all.hint.contains("b.json"), "{}", all.hint);
        }
        for wrong in ["", "big", "v.com", "/c=one", "v.com/=one", "-v/c"] {
            assert_eq!(find(wrong, &specs).unwrap_err().to_string(), format!("invalid device {wrong:?}"));
        }
    }
}
