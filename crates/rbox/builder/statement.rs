//! What `--provenance` and `--attest` ask for.

use rbox_build::{Provenance, SlsaVersion};

use crate::builder::output::{split, truth};

/// What `--attest` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Attested {
    /// A statement of how it was made; none as well where that is said.
    pub(crate) provenance: Option<Provenance>,
    /// Whether anything was said of that.
    pub(crate) has_provenance: bool,
    /// A list of packages.
    pub(crate) sbom: bool,
}

/// Reads all of `--attest`.
pub(crate) fn of_attest(texts: &[String]) -> Result<Attested, String> {
    let mut all = Attested::default();
    for text in texts {
        let refuse = |error: String| format!("invalid --attest {text:?}: {error}");
        let fields = fields(text).map_err(refuse)?;
        let kind = fields.iter().find(|(key, _)| key == "type").map_or("", |(_, value)| value.as_str());
        match kind {
            "provenance" if all.has_provenance => {
                return Err(refuse("type=provenance was given before".to_owned()));
            }
            "provenance" => {
                all.provenance = provenance(fields).map_err(refuse)?;
                all.has_provenance = true;
            }
            "sbom" => {
                let disabled = fields.iter().find(|(key, _)| key == "disabled");
                let is_off = disabled.map_or(Ok(false), |(key, value)| truth(key, value)).map_err(refuse)?;
                all.sbom |= !is_off;
            }
            "" => return Err(refuse("type is required: type=provenance".to_owned())),
            other => return Err(refuse(format!("unknown type {other:?}: there is type=provenance"))),
        }
    }
    Ok(all)
}

/// Reads `--provenance`: whether there is to be one, or the fields of it.
pub(crate) fn of_provenance(text: &str) -> Result<Option<Provenance>, String> {
    match text {
        "true" | "1" | "" => Ok(Some(Provenance::default())),
        "false" | "0" => Ok(None),
        "min" | "max" => of_provenance(&format!("mode={text}")),
        _ => {
            let refuse = |error: String| format!("invalid --provenance {text:?}: {error}");
            provenance(fields(text).map_err(refuse)?).map_err(refuse)
        }
    }
}

fn provenance(fields: Vec<(String, String)>) -> Result<Option<Provenance>, String> {
    let (mut made, mut is_off) = (Provenance::default(), false);
    for (key, value) in fields {
        match (key.as_str(), value.as_str()) {
            ("type", "provenance") => {}
            ("mode", "min") => made.is_whole = false,
            ("mode", "max") => made.is_whole = true,
            ("version", "v0.2") => made.version = SlsaVersion::V02,
            ("version", "v1") => made.version = SlsaVersion::V1,
            ("builder-id", _) => made.builder_id = value,
            ("reproducible", _) => made.is_reproducible = truth(&key, &value)?,
            ("disabled", _) => is_off = truth(&key, &value)?,
            ("inline-only", _) => made.is_inline_only = truth(&key, &value)?,
            ("mode" | "version" | "type", _) => return Err(format!("{key}={value} is not supported")),
            _ => return Err(format!("unknown key {key:?}")),
        }
    }
    Ok((!is_off).then_some(made))
}

fn fields(text: &str) -> Result<Vec<(String, String)>, String> {
    let field = |field: String| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_lowercase(), value.to_owned())),
        None => Err(format!("invalid field {field:?}, must be a key=value pair")),
    };
    split(text)?.into_iter().map(field).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_stated() {
        let attested = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            of_attest(&texts)
        };
        let whole = Provenance { is_whole: true, ..Provenance::default() };
        let v1 = Provenance {
            version: SlsaVersion::V1,
            builder_id: "https://a".to_owned(),
            is_inline_only: true,
            ..whole.clone()
        };
        for (text, wanted) in [
            ("true", Some(Provenance::default())),
            ("false", None),
            ("mode=max", Some(whole.clone())),
            ("mode=max,version=v1,builder-id=https://a,inline-only=true", Some(v1)),
            ("mode=max,disabled=true", None),
        ] {
            assert_eq!(of_provenance(text).unwrap(), wanted, "{text}");
            if text.contains('=') {
                let text = format!("type=provenance,{text}");
                let all = attested(&[&text]).unwrap();
                assert_eq!((all.provenance, all.has_provenance), (wanted, true), "{text}");
            }
        }
        assert_eq!(attested(&[]).unwrap(), Attested::default());
        assert!(attested(&["type=sbom"]).unwrap().sbom);
        assert!(!attested(&["type=sbom,disabled=true"]).unwrap().sbom);
        for (texts, why) in [
            (&["type=other"][..], "unknown type \"other\""),
            (&["mode=max"], "type is required"),
            (&["type=provenance,mode=most"], "mode=most is not supported"),
            (&["type=provenance,version=v2"], "version=v2 is not supported"),
            (&["type=provenance,color=red"], "unknown key \"color\""),
            (&["type=provenance", "type=provenance"], "was given before"),
        ] {
            assert!(attested(texts).unwrap_err().contains(why), "{texts:?}");
        }
        assert!(of_provenance("yes").unwrap_err().contains("key=value"));
    }
}
