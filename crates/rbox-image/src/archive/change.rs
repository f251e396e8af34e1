//! `--change`: one Dockerfile instruction each, applied to what a container of the image gets.
//!
//! Source: Dockerfile reference; `docker import` takes CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER
//! VOLUME WORKDIR.

use rbox_spec::Kind;
use rbox_spec::port::parse_expose;
use rbox_spec::signal::Signal;
use serde_json::Value;

use rbox_spec::health::Healthcheck;

use crate::config::RunConfig;

/// A `--change` that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid change {change:?}: {why}")]
pub struct ChangeError {
    /// The change as it was given.
    pub change: String,
    /// What is wrong with it.
    pub why: String,
}

impl ChangeError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Applies changes in their order.
pub fn apply_changes<S: AsRef<str>>(config: &mut RunConfig, changes: &[S]) -> Result<(), ChangeError> {
    let mut has_cmd = false;
    for change in changes {
        let change = change.as_ref();
        apply(config, change.trim())
            .map_err(|why| ChangeError { change: change.chars().take(200).collect(), why })?;
        match instruction_of(change.trim()).as_str() {
            "CMD" => has_cmd = config.cmd.as_ref().is_some_and(|words| !words.is_empty()),
            // The command was for the entrypoint before.
            "ENTRYPOINT" if !has_cmd => config.cmd = None,
            _ => {}
        }
    }
    Ok(())
}

fn instruction_of(change: &str) -> String {
    change.split(char::is_whitespace).next().unwrap_or_default().to_ascii_uppercase()
}

/// What `docker import --change` and `docker commit --change` take.
const KNOWN: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

fn apply(config: &mut RunConfig, change: &str) -> Result<(), String> {
    let (_, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let (instruction, rest) = (instruction_of(change), rest.trim());
    if change.is_empty() {
        return Err("it is empty".to_owned());
    }
    if change.contains(['\n', '\r', '\0']) {
        return Err("it is more than one line".to_owned());
    }
    if !KNOWN.contains(&instruction.as_str()) {
        return Err(format!("{instruction} is not a valid change command; these are: {}", KNOWN.join(", ")));
    }
    if rest.is_empty() && !matches!(instruction.as_str(), "CMD" | "ENTRYPOINT") {
        let how_many = match instruction.as_str() {
            "USER" | "STOPSIGNAL" | "WORKDIR" => "exactly one argument",
            _ => "at least one argument",
        };
        return Err(format!("{instruction} requires {how_many}"));
    }
    let env = config.env.clone();
    let one = |what: &str| -> Result<String, String> {
        let value = expand(rest, &env)?;
        if value.is_empty() { Err(format!("{instruction} needs {what}")) } else { Ok(value) }
    };
    match instruction.as_str() {
        "CMD" => config.cmd = Some(command(rest)?),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)?),
        "ENV" => {
            for (name, value) in pairs(rest, &env, "ENV")? {
                let start = format!("{name}=");
                config.env.retain(|known| !known.starts_with(&start));
                config.env.push(format!("{name}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest, &env, "LABEL")?),
        "EXPOSE" => {
            for word in words(rest)? {
                let word = expand(&word, &env)?;
                for port in parse_expose(&word).map_err(|error| error.to_string())? {
                    config.exposed_ports.insert(port.to_string(), Value::Object(serde_json::Map::new()));
                }
            }
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        "ONBUILD" => config.on_build.push(trigger(rest)?),
        "STOPSIGNAL" => {
            let signal = one("a signal")?;
            signal.parse::<Signal>().map_err(|error| error.to_string())?;
            config.stop_signal = Some(signal);
        }
        "USER" => config.user = one("a user")?,
        "VOLUME" => {
            let paths = list(rest, &env)?;
            if paths.is_empty() {
                return Err("VOLUME requires at least one argument".to_owned());
            }
            for path in paths {
                if path.trim().is_empty() {
                    return Err("VOLUME specified can not be an empty string".to_owned());
                }
                config.volumes.insert(path, Value::Object(serde_json::Map::new()));
            }
        }
        _ => config.working_dir = working_dir(&config.working_dir, &one("a directory")?),
    }
    Ok(())
}

/// The exec form (a JSON array of strings) as it is, the shell form through `/bin/sh -c`.
fn command(rest: &str) -> Result<Vec<String>, String> {
    if let Some(array) = json_array(rest) {
        return Ok(array);
    }
    // Docker takes what is almost an array for a shell command, which then fails in every container.
    if rest.starts_with('[') && rest.ends_with(']') {
        return Err(
            "it looks like the exec form, and is no JSON array of strings (strings take double quotes)"
                .to_owned(),
        );
    }
    Ok(if rest.is_empty() { Vec::new() } else { vec!["/bin/sh".into(), "-c".into(), rest.into()] })
}

fn json_array(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// VOLUME's two forms.
fn list(rest: &str, env: &[String]) -> Result<Vec<String>, String> {
    let all = json_array(rest).map_or_else(|| words(rest), Ok)?;
    all.iter().map(|word| expand(word, env)).collect()
}

/// `NAME=value …`, or `NAME value with spaces`.
fn pairs(rest: &str, env: &[String], instruction: &str) -> Result<Vec<(String, String)>, String> {
    let all = words(rest)?;
    let Some(first) = all.first() else {
        return Err(format!("{instruction} requires at least one argument"));
    };
    let named = |name: &str| match name {
        "" => Err(format!("{instruction} names can not be blank")),
        name => Ok(name.to_owned()),
    };
    if !first.contains('=') {
        let (name, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{instruction} must have two arguments"))?;
        return Ok(vec![(named(&expand(name, env)?)?, expand(value.trim(), env)?)]);
    }
    all.iter()
        .map(|word| {
            let (name, value) =
                word.split_once('=').ok_or_else(|| format!("{word:?} is not of the form NAME=value"))?;
            Ok((named(&expand(name, env)?)?, expand(value, env)?))
        })
        .collect()
}

/// WORKDIR: a relative one goes on from the last.
fn working_dir(before: &str, next: &str) -> String {
    let joined = if next.starts_with('/') { next.to_owned() } else { format!("{before}/{next}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn trigger(rest: &str) -> Result<String, String> {
    let instruction = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match instruction.as_str() {
        "ONBUILD" => Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()),
        "MAINTAINER" | "FROM" => Err(format!("{instruction} isn't allowed as an ONBUILD trigger")),
        _ => Ok(rest.to_owned()),
    }
}

fn healthcheck(rest: &str) -> Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let (name, value) = option.split_once('=').ok_or_else(|| format!("--{option} has no value"))?;
        let place = match name {
            "interval" => &mut check.interval,
            "timeout" => &mut check.timeout,
            "start-period" => &mut check.start_period,
            "start-interval" => &mut check.start_interval,
            "retries" => {
                let retries = value.parse().ok().filter(|n| *n >= 0);
                check.retries = retries.ok_or_else(|| format!("--retries cannot be {value:?}"))?;
                rest = after.trim_start();
                continue;
            }
            _ => return Err(format!("--{name} is no option of HEALTHCHECK")),
        };
        let nanoseconds =
            duration(value).ok_or_else(|| format!("{value:?} is not a duration such as 30s or 1m30s"))?;
        // Docker: 0 means inherited, less than a millisecond is refused.
        if nanoseconds != 0 && nanoseconds < 1_000_000 {
            return Err(format!("Interval \"{name}\" cannot be less than 1ms"));
        }
        *place = nanoseconds;
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if check != Healthcheck::default() => {
            return Err("HEALTHCHECK NONE takes no options".to_owned());
        }
        "NONE" if command.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err("HEALTHCHECK NONE takes no arguments".to_owned()),
        "CMD" if command.is_empty() => return Err("Missing command after HEALTHCHECK CMD".to_owned()),
        "CMD" => match json_array(command) {
            Some(array) => [vec!["CMD".to_owned()], array].concat(),
            None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        },
        other => return Err(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")),
    };
    Ok(check)
}

/// Go's durations: numbers with a unit, one after another, in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut sum = 0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    (!text.is_empty() && sum < 9e18).then_some(sum as i64)
}

/// Words, split at blanks outside quotes; quotes and backslashes are kept for [`expand`].
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match (quote, next) {
            (None, ' ' | '\t') => {
                if !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None | Some('"'), '\\') => {
                word.push(next);
                word.extend(rest.next());
                continue;
            }
            (None, '"' | '\'') => quote = Some(next),
            (Some(open), next) if next == open => quote = None,
            _ => {}
        }
        word.push(next);
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    if !word.is_empty() {
        all.push(word);
    }
    Ok(all)
}

/// Takes quotes and backslashes away and puts variables in: `$NAME`, `${NAME}`, `${NAME:-else}`, `${NAME:+then}`.
fn expand(word: &str, env: &[String]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = word;
    let mut double = false;
    while let Some(next) = rest.chars().next() {
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
        match next {
            '\'' if !double => {
                let (literal, after) = rest.split_once('\'').ok_or("a quote is not closed")?;
                out.push_str(literal);
                rest = after;
            }
            '"' => double = !double,
            '\\' => match rest.chars().next() {
                Some(escaped) if !double || matches!(escaped, '"' | '$' | '\\') => {
                    out.push(escaped);
                    rest = rest.get(escaped.len_utf8()..).unwrap_or_default();
                }
                _ => out.push('\\'),
            },
            '$' => rest = variable(rest, env, &mut out)?,
            _ => out.push(next),
        }
    }
    if double { Err("a quote is not closed".to_owned()) } else { Ok(out) }
}

/// Expands what follows a `$`, and returns what follows that.
fn variable<'w>(rest: &'w str, env: &[String], out: &mut String) -> Result<&'w str, String> {
    let value = |name: &str| {
        env.iter()
            .find_map(|known| known.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    };
    let name_end =
        |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if let Some(braced) = rest.strip_prefix('{') {
        let (inside, after) = braced.split_once('}').ok_or("`${` is not closed")?;
        let (name, modifier) = inside.split_at(name_end(inside));
        if name.is_empty() {
            return Err("`${}` names no variable".to_owned());
        }
        let set = value(name).filter(|value| !value.is_empty());
        match modifier {
            "" => out.push_str(value(name).unwrap_or_default()),
            _ if modifier.starts_with(":-") => {
                out.push_str(set.unwrap_or_else(|| modifier.get(2..).unwrap_or_default()));
            }
            _ if modifier.starts_with(":+") => {
                out.push_str(set.and_then(|_| modifier.get(2..)).unwrap_or_default());
            }
            _ => return Err(format!("unsupported modifier ({modifier}) in substitution")),
        }
        return Ok(after);
    }
    let (name, after) = rest.split_at(name_end(rest));
    if name.is_empty() {
        out.push('$');
    }
    out.push_str(value(name).unwrap_or_default());
    Ok(after)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn changed(changes: &[&str]) -> RunConfig {
        let mut config = RunConfig::default();
        apply_changes(&mut config, changes).unwrap();
        config
    }

    #[test]
    fn every_instruction_is_applied() {
        let config = changed(&[
            r#"CMD ["python3", "-m", "http.server"]"#,
            "entrypoint echo hi there",
            "ENV A=1 B=\"two words\" C='$A' D=x\\ y",
            "ENV PATH /usr/bin:/bin dir",
            "ENV E=${A}0 F=${NONE:-else} G=${A:+then}",
            "EXPOSE 80 443/tcp 53/udp 8000-8002",
            "USER 1000:1000",
            "VOLUME /data /more",
            r#"VOLUME ["/with space"]"#,
            "WORKDIR /srv",
            "WORKDIR app/../lib",
            "LABEL one=1 \"two words\"=\"2 2\"",
            "STOPSIGNAL SIGQUIT",
            "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl -f localhost",
            "ONBUILD RUN make",
        ]);
        assert_eq!(config.cmd.unwrap(), ["python3", "-m", "http.server"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "echo hi there"]);
        let env =
            ["A=1", "B=two words", "C=$A", "D=x y", "PATH=/usr/bin:/bin dir", "E=10", "F=else", "G=then"];
        assert_eq!(config.env, env);
        let ports: Vec<_> = config.exposed_ports.keys().map(String::as_str).collect();
        assert_eq!(ports, ["443/tcp", "53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/srv/lib"));
        assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/data", "/more", "/with space"]);
        assert_eq!(config.labels["two words"], "2 2");
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        let check = config.healthcheck.unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "curl -f localhost"]);
        assert_eq!((check.interval, check.timeout, check.retries), (90_000_000_000, 500_000_000, 3));
        assert_eq!(config.on_build, ["RUN make"]);
    }

    #[test]
    fn later_changes_replace_earlier_ones() {
        let config = changed(&["ENV A=1", "ENV A=2 AB=3", "CMD a", "CMD [\"b\"]", "HEALTHCHECK NONE"]);
        assert_eq!(config.env, ["A=2", "AB=3"]);
        assert_eq!(config.cmd.unwrap(), ["b"]);
        assert_eq!(config.healthcheck.unwrap().test, ["NONE"]);
    }

    #[test]
    fn bad_changes_are_refused_with_the_reason() {
        for (change, why) in [
            ("RUN make", "RUN is not a valid change command"),
            ("FROM x", "FROM is not a valid change command"),
            ("", "empty"),
            ("ENV", "at least one argument"),
            ("VOLUME []", "VOLUME requires at least one argument"),
            ("USER", "USER requires exactly one argument"),
            ("ENV A", "two arguments"),
            ("ENV A=1 B", "NAME=value"),
            ("ENV =1", "blank"),
            ("ENV A=\"x", "quote"),
            ("ENV A=${B", "not closed"),
            ("ENV A=${B:?x}", "modifier"),
            ("EXPOSE x", "x"),
            ("EXPOSE 70000", "70000"),
            ("STOPSIGNAL SIGNOPE", "SIGNOPE"),
            ("HEALTHCHECK curl", "try CMD"),
            ("HEALTHCHECK --interval=5 CMD x", "duration"),
            ("HEALTHCHECK --interval=5us CMD x", "less than 1ms"),
            ("HEALTHCHECK --nope=1s CMD x", "no option"),
            ("HEALTHCHECK --retries=-1 CMD x", "retries"),
            ("HEALTHCHECK CMD", "Missing command"),
            ("HEALTHCHECK NONE x", "no arguments"),
            ("ONBUILD ONBUILD RUN x", "Chaining"),
            ("ONBUILD FROM x", "isn't allowed"),
            ("CMD ['a']", "double quotes"),
            ("VOLUME [\"\"]", "empty"),
            ("CMD a\nUSER b", "more than one line"),
        ] {
            let error = apply_changes(&mut RunConfig::default(), &[change]).unwrap_err();
            assert!(error.why.contains(why), "{change:?}: {error}");
        }
    }
}
