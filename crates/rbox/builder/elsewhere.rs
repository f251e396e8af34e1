//! Options of `build` that are about other builders, caches and statements: what of them is done, accepted or refused.

use std::collections::BTreeMap;

use rbox_build::{BuildRequest, Provenance};

use crate::builder::cache_place::{self, Sources, Targets};
use crate::builder::statement;
use crate::command::error::bad_input;

/// Keys and values.
type Annotations = BTreeMap<String, String>;

/// Options that scripts give to BuildKit.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Elsewhere {
    /// Add an annotation to the image's manifest (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Statements about the build, beside the image: type=provenance[,mode=min|max][,version=v0.2|v1][,builder-id=URL][,disabled=true]; type=sbom only
    /// with disabled=true
    #[arg(long, value_name = "STATEMENT")]
    attest: Vec<String>,
    /// The builder; there is one
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,
    /// Read the results of steps from a cache elsewhere (type=local,src=DIR[,tag=NAME], type=registry,ref=NAME, or the NAME of a cache or an image
    /// that brings one); other types are accepted, and not read
    #[arg(long, value_name = "CACHE")]
    cache_from: Vec<String>,
    /// Write the results of steps to a cache elsewhere (type=local,dest=DIR or type=registry,ref=NAME, with mode=max those of all stages;
    /// type=inline: the image itself); other types are accepted, and not written
    #[arg(long, value_name = "CACHE")]
    cache_to: Vec<String>,
    /// Compress the context, which goes nowhere
    #[arg(long)]
    compress: bool,
    /// Skip image verification, of which there is none
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// The isolation technology (only default)
    #[arg(long, value_name = "WHAT", value_parser = ["default", ""])]
    isolation: Option<String>,
    /// A statement of how the image was made, beside it: true, false, or mode=max and the other fields of --attest type=provenance
    #[arg(long, value_name = "BOOL | FIELDS")]
    provenance: Option<String>,
    /// A list of what is in the image (only false)
    #[arg(long, value_name = "BOOL")]
    sbom: Option<String>,
    /// Options of confinement: refused, as RUN --security says what a step may do
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Make one layer of all that the build makes; those of the base image stay
    #[arg(long)]
    pub(crate) squash: bool,
}

impl Elsewhere {
    /// The annotations of each manifest, and those of the index. `is_index`: there is one, of several platforms.
    pub(crate) fn annotations(&self, is_index: bool) -> anyhow::Result<(Annotations, Annotations)> {
        let (mut all, mut of_index) = (BTreeMap::new(), BTreeMap::new());
        for text in &self.annotation {
            let (key, value) = text
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| bad_input(format!("invalid annotation {text:?}, expected key=value")))?;
            let key = match key.split_once(':') {
                Some(("manifest", key)) => key,
                Some(("index", key)) if is_index => {
                    of_index.insert(key.to_owned(), value.to_owned());
                    continue;
                }
                Some((kind, _)) if kind.starts_with("index") || kind.starts_with("manifest") => {
                    return Err(bad_input(format!(
                        "invalid annotation {text:?}: {kind} has none here: KEY=VALUE and manifest:KEY=VALUE are of each image's manifest, index:KEY=VALUE is of several platforms' index"
                    )));
                }
                _ => key,
            };
            all.insert(key.to_owned(), value.to_owned());
        }
        Ok((all, of_index))
    }

    /// Reads what is said of caches into a request.
    pub(crate) fn caches(&self, request: &mut BuildRequest) -> anyhow::Result<()> {
        let refuse = |flag: &str, error: String| bad_input(format!("invalid --{flag}: {error}"));
        for text in &self.cache_from {
            match cache_place::sources(text).map_err(|error| refuse("cache-from", error))? {
                Sources::Caches(caches) => request.cache_from.extend(caches),
                Sources::Unused => {}
            }
        }
        for text in &self.cache_to {
            match cache_place::targets(text).map_err(|error| refuse("cache-to", error))? {
                Targets::Caches(caches) => request.cache_to.extend(caches),
                Targets::Inline { .. } => request.inline_cache = true,
                Targets::Unused => {}
            }
        }
        // As buildx has it.
        let given = request.build_args.get("BUILDKIT_INLINE_CACHE").map(String::as_str);
        request.inline_cache |= matches!(given, Some("1" | "t" | "T" | "true" | "TRUE" | "True"));
        Ok(())
    }

    /// What is to be stated of how images are made. Nothing is unless the user asks.
    pub(crate) fn provenance(&self) -> anyhow::Result<Option<Provenance>> {
        let attested = statement::of_attest(&self.attest).map_err(bad_input)?;
        match &self.provenance {
            Some(_) if attested.has_provenance => {
                Err(bad_input("--provenance and --attest type=provenance say the same: give one of them"))
            }
            Some(text) => statement::of_provenance(text).map_err(bad_input),
            None => Ok(attested.provenance),
        }
    }

    /// What is said of what is not done.
    pub(crate) fn warnings(&self) -> anyhow::Result<Vec<String>> {
        let mut warnings = Vec::new();
        let unused = |flag: &str, text: &str, types: &str| {
            format!("--{flag} {text} is not used: there are only {types}")
        };
        for text in &self.cache_from {
            if cache_place::sources(text) == Ok(Sources::Unused) {
                warnings.push(unused("cache-from", text, "type=local and type=registry"));
            }
        }
        for text in &self.cache_to {
            match cache_place::targets(text) {
                Ok(Targets::Unused) => {
                    warnings.push(unused("cache-to", text, "type=local, type=registry and type=inline"));
                }
                Ok(Targets::Inline { is_whole: true }) => warnings.push(format!(
                    "--cache-to {text} is as without mode=max: an image has no layers but its own"
                )),
                _ => {}
            }
        }
        if let Some(option) = self.security_opt.first() {
            return Err(bad_input(format!(
                "--security-opt {option}: not for builds: RUN --security=insecure with --allow security.insecure takes the confinement away"
            )));
        }
        let wants = |text: &String| !matches!(text.as_str(), "false" | "0");
        let attested = statement::of_attest(&self.attest).map_err(bad_input)?;
        if self.sbom.as_ref().is_some_and(wants) || attested.sbom {
            return Err(bad_input(
                "--sbom: a list of an image's packages is not made here: scan the image once it is built",
            ));
        }
        Ok(warnings)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_and_what_is_said() {
        let of = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let with = |text: &str, is_index| {
            Elsewhere { annotation: of(&[text]), ..Elsewhere::default() }.annotations(is_index)
        };
        let annotated = |text: &str| with(text, false);
        let (found, _) = annotated("manifest:org.example.a=b=c").unwrap();
        assert_eq!(found.get("org.example.a").map(String::as_str), Some("b=c"));
        assert!(annotated("index:a=b").is_err() && annotated("=b").is_err() && annotated("a").is_err());
        let (own, of_index) = with("index:a=b", true).unwrap();
        assert!(own.is_empty() && of_index.get("a").is_some_and(|value| value == "b"));
        assert!(with("index-descriptor:a=b", true).is_err());
        let off = Elsewhere {
            provenance: Some("false".into()),
            sbom: Some("false".into()),
            attest: of(&["type=sbom,disabled=true"]),
            ..Elsewhere::default()
        };
        assert_eq!(off.warnings().unwrap(), Vec::<String>::new());
        let on = Elsewhere { cache_to: of(&["type=gha", "type=inline,mode=max"]), ..Elsewhere::default() };
        assert_eq!(on.warnings().unwrap().len(), 2);
        assert!(Elsewhere { attest: of(&["type=sbom"]), ..Elsewhere::default() }.warnings().is_err());
    }
}
