//! The configuration of an image that is built, and its history, as BuildKit writes them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rbox_image::{History, ImageConfig, RunConfig};
use rbox_spec::{Digest, Platform};
use serde_json::Value;

use crate::error::BuildError;

/// The default `PATH` of an image that says none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The comment of each line of history.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// A line of history.
pub(crate) fn history(created_by: String, created: Option<String>, empty_layer: bool) -> History {
    History {
        created,
        created_by: Some(created_by),
        author: None,
        comment: Some(COMMENT.to_owned()),
        empty_layer,
    }
}

/// Gives each line without a time the time of the first layer made after it, or of the last one before.
///
/// Source: `normalizeLayersAndHistory` of BuildKit's container image exporter.
pub(crate) fn fill_times(lines: &mut [History]) {
    let mut created: Option<String> = None;
    let mut is_missing = false;
    for line in lines.iter() {
        if let Some(time) = &line.created {
            created = Some(time.clone());
            if is_missing {
                break;
            }
        } else {
            is_missing = true;
        }
    }
    let mut is_missing = false;
    for line in lines.iter_mut() {
        if let Some(time) = &line.created {
            if is_missing {
                created = Some(time.clone());
            }
        } else {
            is_missing = true;
            line.created.clone_from(&created);
        }
    }
}

/// Gives a moment, in seconds since 1970, to all lines of history that are younger or have none; and says it as they do.
pub(crate) fn no_younger_than(lines: &mut [History], seconds: i64) -> Result<String, BuildError> {
    let newest = jiff::Timestamp::from_second(seconds)
        .map_err(|error| BuildError::Invalid(format!("invalid SOURCE_DATE_EPOCH: {seconds}: {error}")))?;
    for line in lines {
        let time = line.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        if time.is_none_or(|time| time > newest) {
            line.created = Some(newest.to_string());
        }
    }
    Ok(newest.to_string())
}

/// Says that an image is for the platform that was asked for, whatever its last stage stands on.
///
/// Source: the end of `toDispatchState` of BuildKit's dockerfile2llb.
pub(crate) fn set_platform(config: &mut ImageConfig, wanted: &Platform) {
    let is_same = (&config.os, &config.architecture) == (&wanted.os, &wanted.architecture);
    config.os.clone_from(&wanted.os);
    config.architecture.clone_from(&wanted.architecture);
    if wanted.variant.is_some() || !is_same {
        config.variant.clone_from(&wanted.variant);
    }
}

/// The document of an image, its fields and these `more` in the order of their names as BuildKit has them.
pub(crate) fn document(config: &ImageConfig, more: Option<(String, Value)>) -> serde_json::Result<Vec<u8>> {
    let value = serde_json::to_value(config)?;
    let mut fields: BTreeMap<String, Value> = match value {
        Value::Object(fields) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    fields.extend(more);
    serde_json::to_vec(&fields)
}

/// The chain ID of layers with these diff IDs.
pub(crate) fn chain_of(diff_ids: &[Digest]) -> Option<Digest> {
    diff_ids.iter().fold(None, |chain: Option<Digest>, diff_id| {
        Some(match chain {
            Some(below) => rbox_image::hash::sha256(format!("{below} {diff_id}").as_bytes()),
            None => *diff_id,
        })
    })
}

/// Sets a variable in a list of `NAME=value`, in its place if it is there.
pub(crate) fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let line = format!("{name}={value}");
    match env.iter_mut().find(|one| one.split('=').next() == Some(name)) {
        Some(one) => *one = line,
        None => env.push(line),
    }
}

/// What a stage from `scratch` begins with.
pub(crate) fn of_scratch() -> RunConfig {
    RunConfig {
        env: vec![format!("PATH={DEFAULT_PATH}")],
        working_dir: "/".to_owned(),
        ..RunConfig::default()
    }
}

/// Go's `%q` of a list of words: `["a" "b"]`.
pub(crate) fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", words.join(" "))
}

/// Go's `%q` of a text.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => drop(write!(quoted, "\\x{:02x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_time_get_the_next_layers_or_the_last_ones() {
        let line = |time: Option<&str>| history("x".into(), time.map(str::to_owned), time.is_none());
        let times = |lines: &[Option<&str>]| {
            let mut lines: Vec<History> = lines.iter().map(|time| line(*time)).collect();
            fill_times(&mut lines);
            lines.into_iter().map(|line| line.created.unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!(times(&[Some("1"), None, Some("3"), None]), ["1", "3", "3", "3"]);
        assert_eq!(times(&[None, Some("2")]), ["2", "2"]);
        assert_eq!(times(&[Some("1"), None]), ["1", "1"]);
        assert_eq!(times(&[None]), [""]);
    }

    #[test]
    fn an_image_is_for_what_was_asked_for() {
        let set = |is: (&str, Option<&str>), wanted: (&str, Option<&str>)| {
            let mut config = ImageConfig {
                os: "linux".to_owned(),
                architecture: is.0.to_owned(),
                variant: is.1.map(str::to_owned),
                ..ImageConfig::default()
            };
            set_platform(&mut config, &Platform::new("linux", wanted.0, wanted.1));
            (config.architecture, config.variant.unwrap_or_default())
        };
        let (of, none) = (|a: &str, v: &str| (a.to_owned(), v.to_owned()), None);
        assert_eq!(set(("amd64", none), ("arm", Some("v7"))), of("arm", "v7"));
        assert_eq!(set(("arm", Some("v7")), ("amd64", none)), of("amd64", ""));
        // What the image says of itself more exactly stays.
        assert_eq!(set(("arm64", Some("v8")), ("arm64", none)), of("arm64", "v8"));
    }

    #[test]
    fn words_are_quoted_as_go_does() {
        assert_eq!(
            quoted(&["/bin/sh".into(), "-c".into(), "echo \"a\\b\"\n".into()]),
            r#"["/bin/sh" "-c" "echo \"a\\b\"\n"]"#
        );
    }

    #[test]
    fn variables_are_set_in_their_place() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned()];
        set_env(&mut env, "A", "3");
        set_env(&mut env, "C", "");
        assert_eq!(env, ["A=3", "AB=2", "C="]);
    }
}
