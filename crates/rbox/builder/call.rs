//! `build --call`: what is told of a Dockerfile instead of building it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rbox_build::BuildRequest;
use rbox_build::outline::{Location, Outline, OutlineNeed, Target, outline, targets};
use serde_json::{Map, Value, json};

use crate::command::error::bad_input;
use crate::output::escape;
use crate::output::table::write_all;

/// What `--call` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Build,
    Check,
    Outline,
    Targets,
}

impl Call {
    /// As a bake file has it: the checks by their older name.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Check => "lint",
            Self::Outline => "outline",
            Self::Targets => "targets",
        }
    }

    /// Reads `WHAT[,format=json]`: what, and whether it is wanted as JSON. `check`: `--check` was given too.
    pub(crate) fn parse(text: &str, check: bool) -> anyhow::Result<(Self, bool)> {
        let (what, format) = match text.split_once(',') {
            Some((what, format)) => (what, Some(format)),
            None => (text, None),
        };
        let is_json = match format {
            None | Some("format=text") => false,
            Some("format=json") => true,
            Some(other) => return Err(bad_input(format!("invalid --call {text:?}: {other} is no format"))),
        };
        let what = match what {
            "build" | "" if check => Self::Check,
            "build" | "" => Self::Build,
            "check" | "lint" => Self::Check,
            "outline" => Self::Outline,
            "targets" => Self::Targets,
            other => {
                return Err(bad_input(format!(
                    "invalid --call {other:?}: it is one of build, check, outline and targets"
                )));
            }
        };
        match what {
            Self::Outline | Self::Targets if check => {
                Err(bad_input(format!("--check and --call {text} do not go together: give one of them")))
            }
            Self::Build if is_json => {
                Err(bad_input(format!("invalid --call {text:?}: a build is not told as JSON")))
            }
            what => Ok((what, is_json)),
        }
    }
}

/// What is told of a Dockerfile as JSON, in BuildKit's keys, and the exit code.
pub(crate) fn as_json(call: Call, request: &BuildRequest) -> anyhow::Result<(u8, Value)> {
    let (mut code, mut all) = (0, Map::new());
    match call {
        Call::Build => {}
        Call::Targets => drop(all.insert("targets".to_owned(), json!(targets(request)?))),
        Call::Outline => {
            if let Value::Object(fields) = json!(outline(request)?) {
                all = fields;
            }
        }
        Call::Check => {
            let report = rbox_build::check(request)?;
            code = u8::from(report.error.is_some() || !report.warnings.is_empty());
            let location = |lines| Location::of(&request.file, lines);
            let warning = |one: &rbox_build::checks::Warning| {
                json!({
                    "ruleName": one.rule.name(),
                    "description": one.rule.description(),
                    "url": one.rule.url(),
                    "detail": one.detail,
                    "location": location(one.lines),
                })
            };
            let warnings: Vec<Value> = report.warnings.iter().map(warning).collect();
            all.insert("warnings".to_owned(), warnings.into());
            if let Some(error) = report.error {
                let told = json!({ "message": error.to_string(), "location": error.lines.map(location) });
                all.insert("buildError".to_owned(), told);
            }
        }
    }
    let file = |(name, text): (&str, &str)| {
        let data = STANDARD.encode(text);
        // The checks have more of their sources.
        if call == Call::Check {
            json!({ "filename": name, "data": data, "language": "Dockerfile" })
        } else {
            data.into()
        }
    };
    all.insert("sources".to_owned(), request.file.files().map(file).collect());
    Ok((code, all.into()))
}

/// `--call targets`.
pub(crate) fn show_targets(request: &BuildRequest) -> anyhow::Result<u8> {
    let all = targets(request)?;
    let name = |target: &Target| match (target.name.as_str(), target.default) {
        ("", true) => "(default)".to_owned(),
        (name, true) => format!("{name} (default)"),
        (name, false) => name.to_owned(),
    };
    let rows = all.iter().map(|target| vec![name(target), target.description.clone()]).collect();
    show(&columns(&["TARGET", "DESCRIPTION"], rows, 1))
}

/// `--call outline`.
pub(crate) fn show_outline(request: &BuildRequest) -> anyhow::Result<u8> {
    show(&text_of(&outline(request)?))
}

fn text_of(outline: &Outline) -> String {
    let mut text = String::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = if outline.name.is_empty() { "(default)" } else { &outline.name };
        let _ = writeln!(text, "TARGET:      {name}");
        if !outline.description.is_empty() {
            let _ = writeln!(text, "DESCRIPTION: {}", outline.description);
        }
        text.push('\n');
    }
    if !outline.args.is_empty() {
        let row = |arg: &rbox_build::outline::OutlineArg| {
            vec![arg.name.clone(), arg.value.clone(), arg.description.clone()]
        };
        let rows = outline.args.iter().map(row).collect();
        text.push_str(&columns(&["BUILD ARG", "VALUE", "DESCRIPTION"], rows, 3));
        text.push('\n');
    }
    for (heading, needs) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !needs.is_empty() {
            let row = |need: &OutlineNeed| {
                vec![need.name.clone(), if need.required { "true".to_owned() } else { String::new() }]
            };
            let rows = needs.iter().map(row).collect();
            text.push_str(&columns(&[heading, "REQUIRED"], rows, 3));
            text.push('\n');
        }
    }
    text
}

/// Rows below their headings, each column as wide as its longest text and `gap` more; the last one as it is.
fn columns(headings: &[&str], rows: Vec<Vec<String>>, gap: usize) -> String {
    let mut all = vec![headings.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()];
    all.extend(rows);
    let mut widths = vec![0; headings.len()];
    for row in &mut all {
        for (cell, width) in row.iter_mut().zip(&mut widths) {
            *cell = clip(&escape::text(cell));
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &all {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(cell);
            if column + 1 == row.len() {
                text.push('\n');
            } else {
                text.extend(std::iter::repeat_n(' ', width + gap - cell.chars().count()));
            }
        }
    }
    text
}

/// The beginning of a long text: JSON has all of it.
fn clip(text: &str) -> String {
    const MOST: usize = 80;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}

fn show(text: &str) -> anyhow::Result<u8> {
    write_all(&mut std::io::stdout(), text)?;
    Ok(0)
}

/// Prints JSON.
pub(crate) fn show_json(value: &Value) -> anyhow::Result<()> {
    show(&format!("{}\n", serde_json::to_string_pretty(value)?)).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_within_bounds() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = vec![row(["a", "ü\t", "x"]), row(["long", "", "y"])];
        assert_eq!(columns(&["N", "V", "D"], rows, 2), "N     V    D\na     ü\\t  x\nlong       y\n");
        let long = "v".repeat(70_000);
        let told = columns(&["N", "V", "D"], vec![row(["a", &long, "x"])], 2);
        assert!(told.len() < 400 && told.contains("vv…  x\n"), "{told}");
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        for (text, check) in [("build,format=json", false), ("check,format=x", false), ("outline", true)] {
            Call::parse(text, check).unwrap_err();
        }
        assert!(matches!(Call::parse("check,format=json", false), Ok((Call::Check, true))));
        assert!(matches!(Call::parse("build", true), Ok((Call::Check, false))));
        assert!(matches!(Call::parse("check", true), Ok((Call::Check, false))));
    }
}
