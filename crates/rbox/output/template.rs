//! Go templates for `--format`, as Docker has them: the language of Go's `text/template` with Docker's
//! functions (`json`, `join`, `split`, `lower`, `upper`, `title`, `pad`, `truncate`).
//!
//! The language itself is `gotmpl`'s. What is Docker's own is here: its functions, the words `json` and
//! `table …`, `\t` and `\n` written as two characters, and method calls such as `{{.Label "x"}}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{MissingKey, Template as Engine, TemplateError, Value};

use crate::output::printf::printf;
use crate::output::{escape, typed};

/// A template that is of no use, in Docker's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is none: wrong input.
    #[error("template parsing error: template: :{0}")]
    Parse(String),
    /// It asks a record for what that has not, or cannot do.
    #[error("template parsing error: template: :{0}")]
    Execute(String),
}

impl Error {
    fn parse(error: &TemplateError) -> Self {
        match error {
            TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
                Self::Parse(format!("{line}: {}", escape::text(message)))
            }
            other => Self::Parse(format!("1: {}", escape::text(&other.to_string()))),
        }
    }
}

/// A parsed template.
pub(crate) struct Template {
    strict: Engine,
    lenient: Engine,
    source: String,
    /// The type of its records, where the keys of their JSON do not say it.
    of: &'static str,
}

/// What the functions do: work on values, or leave a header's words alone (`table {{upper .Names}}` still
/// heads its column NAMES).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Values,
    Headers,
}

impl Template {
    /// Parses `source` as `inspect -f` takes it: every character stands for itself.
    pub(crate) fn parse(source: &str) -> Result<Self, Error> {
        Self::with_mode(source, Mode::Values)
    }

    /// Parses `source` for a table's header line.
    pub(crate) fn parse_header(source: &str) -> Result<Self, Error> {
        Self::with_mode(source, Mode::Headers)
    }

    fn with_mode(source: &str, mode: Mode) -> Result<Self, Error> {
        let (calls_resolved, open_blocks) = resolve_methods(source);
        // The engine would take the end of the text for a missing `{{end}}`, and stop at one too many.
        let why = match open_blocks {
            0 => None,
            1.. => Some("unexpected EOF: {{end}} is missing"),
            _ => Some("unexpected {{end}}"),
        };
        if let Some(why) = why {
            let line = source.matches('\n').count() + 1;
            return Err(Error::Parse(format!("{line}: {why}")));
        }
        if let Some((line, name)) = unknown_function(source) {
            return Err(Error::Parse(format!("{line}: function \"{name}\" not defined")));
        }
        let engine = |missing| {
            let mut engine = Engine::new("").missing_key(missing);
            for (name, function) in functions(mode) {
                engine = engine.func(name, function);
            }
            engine.parse(&calls_resolved).map_err(|error| Error::parse(&error))
        };
        Ok(Self {
            strict: engine(MissingKey::Error)?,
            lenient: engine(MissingKey::default())?,
            source: source.to_owned(),
            of: "",
        })
    }

    /// The same for records of this type, which `typed` knows.
    pub(crate) fn of(self, of: &'static str) -> Self {
        Self { of, ..self }
    }

    /// The text for one record.
    ///
    /// A field that the record does not have is an error, as with Docker's typed records; a key that a
    /// free-form map (labels, options) lacks prints `<no value>`, as Go's maps do.
    pub(crate) fn render(&self, data: &serde_json::Value) -> Result<String, Error> {
        self.render_as(self.of, data)
    }

    /// The same for a record of this type.
    pub(crate) fn render_as(&self, of: &str, data: &serde_json::Value) -> Result<String, Error> {
        // What the record holds comes from images and other users, and must not drive the terminal. The result is
        // made safe as a whole, so that `json` and `split` see true values; a template that has controls of its
        // own (colours) keeps them, and its values are made safe one by one.
        let own_controls =
            ["\u{1b}", "\\x1b", "\\x1B", "\\033", "\\u001b", "\\e["].iter().any(|c| self.source.contains(c));
        // What the type does not know may be in the JSON, so that is asked next, as Docker's client does it.
        let text = match self.render_values(&typed::record(data, of, own_controls)) {
            Ok(text) => text,
            Err(_) => self.render_values(&typed::raw(data, own_controls))?,
        };
        Ok(if own_controls { text } else { escape::multiline(&text).into_owned() })
    }

    fn render_values(&self, data: &Value) -> Result<String, Error> {
        let found = match self.strict.execute_to_string(data) {
            Err(TemplateError::MissingKey { key }) if self.free_form(&key) => {
                self.lenient.execute_to_string(data)
            }
            other => other,
        };
        found.map_err(|error| self.not_done(&error))
    }

    /// The error with the place it happened at, as Go writes it.
    fn not_done(&self, error: &TemplateError) -> Error {
        let (at, what, why) = match error {
            TemplateError::MissingKey { key } => {
                let (at, chain) = self.chain_with(key);
                (at, chain, format!("map has no entry for key \"{key}\""))
            }
            other => {
                let text = other.to_string();
                let why = text.strip_prefix("execution error: ").unwrap_or(&text).to_owned();
                (self.source.find("{{").map_or(0, |at| at + 2), String::new(), why)
            }
        };
        let before = &self.source[..at];
        let line = before.matches('\n').count() + 1;
        let column = at - before.rfind('\n').map_or(0, |at| at + 1);
        let what = if what.is_empty() { what } else { format!(" at <{what}>") };
        Error::Execute(escape::text(&format!("{line}:{column}: executing \"\"{what}: {why}")).into_owned())
    }

    /// The chain of fields (`.State.Nope`) that has `key` in it, and where Go sees it: at its second field if it has one.
    fn chain_with(&self, key: &str) -> (usize, String) {
        let source = &self.source;
        let field = format!(".{key}");
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let ends = |at: &usize| !source[at + field.len()..].starts_with(is_name);
        let action = source.find("{{").unwrap_or(0);
        let Some(at) = source.match_indices(&field).map(|(at, _)| at).filter(|at| *at > action).find(ends)
        else {
            return (0, field);
        };
        let in_chain = |c: char| is_name(c) || matches!(c, '.' | '$');
        let begin = source[..at]
            .rfind(|c| !in_chain(c))
            .map_or(0, |before| before + source[before..].chars().next().map_or(1, char::len_utf8));
        let end = source[at..].find(|c| !in_chain(c)).map_or(source.len(), |length| at + length);
        let chain = &source[begin..end];
        let second = chain.match_indices('.').map(|(at, _)| at).find(|at| *at > 0);
        let second = second.map_or(begin, |second| begin + second);
        (second, chain.to_owned())
    }

    /// Whether `key` is asked of a map whose keys are the user's own.
    fn free_form(&self, key: &str) -> bool {
        const MAPS: [&str; 13] = [
            "AuxiliaryAddresses",
            "Services",
            "Attributes",
            "Labels",
            "Options",
            "Networks",
            "Ports",
            "Volumes",
            "ExposedPorts",
            "Sysctls",
            "PortBindings",
            "Tmpfs",
            "Annotations",
        ];
        MAPS.iter().any(|map| self.source.contains(&format!("{map}.{key}")))
    }
}

/// Docker's records have one method that takes an argument, `Label`; the template language knows fields
/// only. `.Label "x"` inside an action becomes `label . "x"`. The number says how many blocks are left open.
fn resolve_methods(source: &str) -> (String, i64) {
    let mut out = String::with_capacity(source.len() + 8);
    let mut open_blocks = 0;
    let mut rest = source;
    while let Some(open) = rest.find("{{") {
        let Some(length) = action_length(&rest[open..]) else { break };
        let action = &rest[open..open + length];
        let inside = action[2..].strip_prefix("- ").unwrap_or(&action[2..]).trim_start();
        match inside.split(|c: char| !c.is_ascii_alphabetic()).next() {
            Some("if" | "range" | "with" | "define" | "block") => open_blocks += 1,
            Some("end") => open_blocks -= 1,
            _ => {}
        }
        out.push_str(&rest[..open]);
        out.push_str(&printed(&resolve_action(action)));
        rest = &rest[open + length..];
    }
    out.push_str(rest);
    (out, open_blocks)
}

/// The length of the action that `text` begins with, up to and including `}}`; quoted text may hold braces.
fn action_length(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if char == '\\' => escaped = true,
            Some(mark) if char == mark => quote = None,
            None if char == '"' || char == '`' => quote = Some(char),
            None if text[at..].starts_with("}}") => return Some(at + 2),
            _ => {}
        }
    }
    None
}

fn resolve_action(action: &str) -> String {
    let mut out = String::with_capacity(action.len() + 8);
    let mut rest = action;
    while let Some(at) = rest.find(".Label ") {
        let before = &rest[..at];
        let quoted = before.matches('"').count() % 2 == 1;
        // `$.Label` and `.Label` are calls on the record; `.Config.Label` is a field of something else.
        let on_record =
            before.ends_with('$') || !before.ends_with(|c: char| c.is_alphanumeric() || "_)".contains(c));
        if quoted || !on_record {
            out.push_str(&rest[..at + 7]);
        } else {
            let (kept, receiver) = before.strip_suffix('$').map_or((before, "."), |kept| (kept, "$"));
            out.push_str(kept);
            out.push_str("label ");
            out.push_str(receiver);
            out.push(' ');
        }
        rest = &rest[at + 7..];
    }
    out.push_str(rest);
    out
}

/// An action that prints something, with the last word on how that looks: structures print as Go's do.
fn printed(action: &str) -> String {
    let Some(body) = action.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) else {
        return action.to_owned();
    };
    let (body, end) = match body.strip_suffix('-') {
        Some(body) if body.ends_with(char::is_whitespace) => (body, "-}}"),
        _ => (body, "}}"),
    };
    let inside = body.strip_prefix("- ").unwrap_or(body).trim();
    let word = inside.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let is_control = matches!(
        word,
        "if" | "else" | "end" | "range" | "with" | "define" | "block" | "template" | "break" | "continue"
    );
    let names_variable = inside.strip_prefix('$').is_some_and(|rest| {
        let rest = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').trim_start();
        rest.starts_with(":=") || rest.starts_with('=')
    });
    if inside.is_empty() || inside.starts_with("/*") || is_control || names_variable {
        return action.to_owned();
    }
    format!("{{{{{} | _shown {end}", body.trim_end())
}

/// The first function that `source` calls and that there is not, and the line it stands in. The engine would find out when it gets
/// there, which is never where there are no records.
fn unknown_function(source: &str) -> Option<(usize, &str)> {
    const WORDS: [&str; 14] = [
        "if", "else", "end", "range", "with", "define", "block", "template", "break", "continue", "nil",
        "true", "false", "_",
    ];
    const OF_THE_LANGUAGE: [&str; 19] = [
        "and", "call", "html", "index", "slice", "js", "len", "not", "or", "print", "printf", "println",
        "urlquery", "eq", "ge", "gt", "le", "lt", "ne",
    ];
    let own = functions(Mode::Values);
    let known = |name: &str| {
        let of_docker = own.iter().any(|(own, _)| *own == name) && !matches!(name, "label" | "_shown");
        WORDS.contains(&name) || OF_THE_LANGUAGE.contains(&name) || of_docker
    };
    let mut at = 0;
    while let Some(open) = source[at..].find("{{").map(|open| at + open) {
        let end = open + action_length(&source[open..])?;
        let action = &source[open..end];
        if !action[2..].trim_start_matches(['-', ' ']).starts_with("/*")
            && let Some((found, name)) = words_of(action).find(|(_, name)| !known(name))
        {
            return Some((source[..open + found].matches('\n').count() + 1, name));
        }
        at = end;
    }
    None
}

/// The words of an action that are no fields, variables, numbers or quoted texts, and where they begin.
fn words_of(action: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(char) = action[at..].chars().next() {
            let begin = at;
            at += char.len_utf8();
            let rest = &action[at..];
            match char {
                '"' | '\'' | '`' => {
                    let mut escaped = false;
                    let end = rest.find(|c: char| {
                        let ends = c == char && !escaped;
                        escaped = c == '\\' && char != '`' && !escaped;
                        ends
                    });
                    at += end.map_or(rest.len(), |end| end + 1);
                }
                '.' | '$' | '0'..='9' | 'a'..='z' | 'A'..='Z' | '_' => {
                    let chain = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '$'));
                    at += rest.find(chain).unwrap_or(rest.len());
                    let word = &action[begin..at];
                    if char.is_ascii_alphabetic() || char == '_' {
                        return Some((begin, word.split('.').next().unwrap_or(word)));
                    }
                }
                _ => {}
            }
        }
        None
    })
}

type Outcome = Result<Value, TemplateError>;
type Function = fn(&[Value]) -> Outcome;

fn functions(mode: Mode) -> Vec<(&'static str, Function)> {
    let mut all: Vec<(&'static str, Function)> = vec![
        ("json", json),
        ("join", join),
        ("split", split),
        ("lower", |args| Ok(string(text(args, 0, "lower")?.to_lowercase()))),
        ("upper", |args| Ok(string(text(args, 0, "upper")?.to_uppercase()))),
        ("title", |args| Ok(string(title(text(args, 0, "title")?)))),
        ("pad", pad),
        ("truncate", truncate),
        ("label", label),
        ("printf", printf),
        ("index", index),
        ("_shown", |args| Ok(typed::shown(argument(args, 0, "print")?))),
    ];
    if mode == Mode::Headers {
        for (name, function) in &mut all {
            *function = match *name {
                "label" => |args| Ok(args.get(1).cloned().unwrap_or(Value::Nil)),
                "join" | "split" | "json" | "lower" | "upper" | "title" | "pad" | "truncate" | "index" => {
                    |args| Ok(args.first().cloned().unwrap_or(Value::Nil))
                }
                _ => continue,
            };
        }
    }
    all
}

fn string(text: impl AsRef<str>) -> Value {
    Value::String(Arc::from(text.as_ref()))
}

fn failed(message: String) -> TemplateError {
    TemplateError::Exec(message)
}

fn argument<'a>(args: &'a [Value], at: usize, function: &str) -> Result<&'a Value, TemplateError> {
    args.get(at).ok_or_else(|| failed(format!("wrong number of args for {function}: got {}", args.len())))
}

fn text<'a>(args: &'a [Value], at: usize, function: &str) -> Result<&'a str, TemplateError> {
    match argument(args, at, function)? {
        Value::String(text) => Ok(text),
        other => Err(failed(format!("{function} takes text, not {}", other.type_name()))),
    }
}

/// No width is larger: it is also the most that a format string of Rust's takes.
const LONGEST: usize = u16::MAX as usize;

fn length(args: &[Value], at: usize, function: &str) -> Result<usize, TemplateError> {
    argument(args, at, function)?
        .as_int()
        .and_then(|n| usize::try_from(n).ok())
        // A width is typed by a person; a million is a slip, and would only fill memory.
        .filter(|n| *n <= LONGEST)
        .ok_or_else(|| failed(format!("{function} takes a length of 0 to {LONGEST}")))
}

fn json(args: &[Value]) -> Outcome {
    let text = typed::to_json(argument(args, 0, "json")?).to_string();
    Ok(string(escape::json(&text)))
}

fn join(args: &[Value]) -> Outcome {
    let separator = text(args, 1, "join")?;
    match argument(args, 0, "join")? {
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(string(items.join(separator)))
        }
        Value::Nil => Ok(string("")),
        other => Err(failed(format!("join takes a list, not {}", other.type_name()))),
    }
}

fn split(args: &[Value]) -> Outcome {
    let (whole, separator) = (text(args, 0, "split")?, text(args, 1, "split")?);
    if separator.is_empty() {
        return Ok(Value::List(whole.chars().map(|c| string(c.to_string())).collect()));
    }
    Ok(Value::List(whole.split(separator).map(string).collect()))
}

/// Upper case for the first letter of each word, as Go's `strings.Title`.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for char in text.chars() {
        if inside {
            out.push(char);
        } else {
            out.extend(char.to_uppercase());
        }
        inside = char.is_alphanumeric() || char == '_' || char == '\'';
    }
    out
}

fn pad(args: &[Value]) -> Outcome {
    let source = text(args, 0, "pad")?;
    if source.is_empty() {
        return Ok(string(""));
    }
    let (before, after) = (length(args, 1, "pad")?, length(args, 2, "pad")?);
    Ok(string(format!("{:before$}{source}{:after$}", "", "")))
}

fn truncate(args: &[Value]) -> Outcome {
    let (source, most) = (text(args, 0, "truncate")?, length(args, 1, "truncate")?);
    Ok(string(source.chars().take(most).collect::<String>()))
}

/// The value of one label of the record.
fn label(args: &[Value]) -> Outcome {
    let name = text(args, 1, "Label")?;
    let labels = match argument(args, 0, "Label")? {
        Value::Map(fields) => fields.get("Labels"),
        _ => None,
    };
    let found = match labels {
        Some(Value::Map(labels)) => labels.get(name).cloned(),
        // The tables' records hold labels as Docker prints them, `a=b,c=d`.
        Some(Value::String(listed)) => listed
            .split(',')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| string(value)),
        _ => None,
    };
    Ok(found.unwrap_or_else(|| string("")))
}

/// `index`, with what Docker's typed maps give for a key that is absent: nothing.
fn index(args: &[Value]) -> Outcome {
    let mut here = argument(args, 0, "index")?.clone();
    for key in &args[1..] {
        here = match (&here, key) {
            (Value::Map(fields), Value::String(key)) => {
                fields.get(key).cloned().unwrap_or_else(|| string(""))
            }
            (Value::List(items), at) => {
                let at = at
                    .as_int()
                    .ok_or_else(|| failed(format!("index of a list must be a number, not {at}")))?;
                usize::try_from(at)
                    .ok()
                    .and_then(|at| items.get(at).cloned())
                    .ok_or_else(|| failed(format!("error calling index: index out of range: {at}")))?
            }
            (Value::Nil, _) => return Err(failed("error calling index: index of untyped nil".into())),
            (other, _) => {
                return Err(failed(format!(
                    "error calling index: can't index item of type {}",
                    other.type_name()
                )));
            }
        };
    }
    Ok(here)
}

/// What a table's template needs to be rendered: a header for each field.
pub(crate) type Headers = BTreeMap<&'static str, &'static str>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn render(template: &str, data: &serde_json::Value) -> String {
        match Template::parse(template).and_then(|t| t.render(data)) {
            Ok(text) => text,
            Err(error) => format!("ERROR {error}"),
        }
    }

    #[test]
    fn the_language() {
        let data = json!({"Name": "web", "N": 3, "Zero": 0, "List": ["a", "b"], "State": {"Running": true,
            "Pid": 42, "Health": null}, "Config": {"Labels": {"com.x": "1", "a": "b"}, "Env": ["A=1", "B=2"]}});
        let cases = [
            ("{{.Name}}", "web"),
            ("{{.State.Running}} {{.State.Pid}}", "true 42"),
            ("{{index .Config.Labels \"com.x\"}}", "1"),
            ("{{index .Config.Labels \"none\"}}", ""),
            ("{{.Config.Labels.none}}", "<no value>"),
            ("{{index .List 1}}", "b"),
            ("{{range $i, $v := .List}}{{if $i}},{{end}}{{$i}}={{$v}}{{end}}", "0=a,1=b"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}", "a:b com.x:1 "),
            ("{{with .State.Health}}x{{else}}none{{end}}", "none"),
            ("{{if eq .Name \"web\"}}y{{else}}n{{end}}", "y"),
            ("{{if and (gt .N 2) (lt .N 4) (ne .N 5) (le .N 3) (ge .N 3)}}y{{end}}", "y"),
            ("{{if or .Zero .Name}}y{{end}}{{if not .Zero}}z{{end}}", "yz"),
            ("{{len .List}} {{len .Name}}", "2 3"),
            ("{{printf \"%s-%05d-%v-%q\" .Name .N .List .Name}}", "web-00003-[a b]-\"web\""),
            ("{{printf \"%s|%q|%-9v|\" .List .List .List}}", "[a b]|[\"a\" \"b\"]|[a b]    |"),
            ("{{printf \"%T %T %T %%\" .N .Name .List}}", "int string []string %"),
            ("{{print .N .N}} {{println .Name}}", "3 3 web\n"),
            ("{{json .Config}}", r#"{"Labels":{"a":"b","com.x":"1"},"Env":["A=1","B=2"]}"#),
            ("{{.List | json}}", r#"["a","b"]"#),
            ("{{join .List \", \"}}", "a, b"),
            ("{{range split \"a:b\" \":\"}}<{{.}}>{{end}}", "<a><b>"),
            ("{{upper .Name}} {{lower \"ABC\"}} {{title \"ab cd\"}}", "WEB abc Ab Cd"),
            ("[{{pad .Name 1 2}}] {{truncate .Name 2}}", "[ web  ] we"),
            ("{{$x := .N}}{{$x}}", "3"),
            ("{{- .Name -}}  ", "web"),
            ("{{.Label \"a\"}}|", "|"),
            ("{{.Config.Labels}}", "map[a:b com.x:1]"),
            ("literal {{\"{{\"}} }}", "literal {{ }}"),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template, &data), expected, "{template}");
        }
    }

    #[test]
    fn label_is_a_method_of_the_record() {
        let data = json!({"Labels": "a=1,b=2", "Config": {"Label ": 1}});
        assert_eq!(render("{{.Label \"b\"}}{{ $.Label \"a\"}}", &data), "21");
        assert_eq!(render("{{if eq (.Label \"b\") \"2\"}}y{{end}}", &data), "y");
        assert_eq!(render("{{\".Label \"}}.Label ", &data), ".Label .Label ");
    }

    #[test]
    fn errors_are_one_line_and_say_where() {
        let data = json!({"A": 1});
        for bad in [
            "{{.B}}",
            "{{.A",
            "{{range .A}}",
            "{{nosuch .A}}",
            "{{end}}",
            "{{index .A 1}}",
            "{{join .A \",\"}}",
            "é.B{{.B}}",
            "{{$é.B}}",
            "{{.A}}é{{.é.B}}",
        ] {
            let text = render(bad, &data);
            assert!(
                text.starts_with("ERROR template parsing error: template: :1") && !text.contains('\n'),
                "{bad}: {text}"
            );
        }
    }

    #[test]
    fn a_function_that_there_is_not_is_told_at_once() {
        for (template, said) in [
            ("{{nosuch .A}}", "1: function \"nosuch\" not defined"),
            ("a\n{{.A | upper | nosuch}}", "2: function \"nosuch\" not defined"),
            ("{{if (x .A)}}{{end}}", "1: function \"x\" not defined"),
            ("{{label . \"a\"}}", "1: function \"label\" not defined"),
        ] {
            let error = Template::parse(template).err().map(|error| error.to_string());
            assert_eq!(error, Some(format!("template parsing error: template: :{said}")), "{template}");
        }
        for template in [
            "{{/* nosuch */}}{{.nosuch}}{{$nosuch := 1}}{{$nosuch}}{{\"nosuch \\\" nosuch\"}}{{`nosuch`}}{{1e3}}",
            "{{range $i, $v := .A.nosuch}}{{else}}{{end}}{{define \"nosuch\"}}{{end}}{{template \"nosuch\" .}}",
            "{{- (index .A 0).nosuch -}} nosuch {{not true}}",
        ] {
            assert!(Template::parse(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn hostile_templates_end() {
        let data = json!({"A": 1});
        let deep = format!("{}x{}", "{{if .A}}".repeat(5000), "{{end}}".repeat(5000));
        let parens = format!("{{{{{}1{}}}}}", "(".repeat(20000), ")".repeat(20000));
        for bad in [
            deep.as_str(),
            &parens,
            "{{define \"x\"}}{{template \"x\" .}}{{end}}{{template \"x\" .}}",
            "{{range 99999999999}}{{end}}",
            "{{pad \"x\" 9999999999 1}}",
            "{{printf \"%999999999d\" 1}}",
            "{{index \"abc\"}}{{index}}",
        ] {
            let _ = render(bad, &data);
        }
    }

    #[test]
    fn values_cannot_drive_the_terminal() {
        let data = json!({"A": "x\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}y\r"});
        assert_eq!(render("{{.A}}", &data), r"x\x1b]0;owned\x07\x9b31m\u{202e}y\r");
        assert_eq!(
            render("{{\"\\x1b[1m\"}}{{.A}}", &data),
            "\u{1b}[1mx\\x1b]0;owned\\x07\\x9b31m\\u{202e}y\\r"
        );
        let json = render("{{json .A}}", &data);
        assert!(!json.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), data["A"]);
    }

    #[test]
    fn headers_keep_their_words() {
        let template = Template::parse_header("{{.ID}}\t{{upper .Names}}\t{{.Label \"a\"}}").unwrap();
        let text = template.render(&json!({"ID": "CONTAINER ID", "Names": "NAMES"})).unwrap();
        assert_eq!(text, "CONTAINER ID\tNAMES\ta");
    }
}
