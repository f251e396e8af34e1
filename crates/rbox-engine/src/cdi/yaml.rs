//! YAML as JSON has it: what the files of devices are written in.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// How deep collections may stand in each other; those files need six.
const MAX_DEPTH: usize = 32;
/// As many values, those that aliases stand for among them.
const MAX_VALUES: usize = 200_000;

enum Open {
    List(usize, Vec<Value>),
    Map(usize, Map<String, Value>, Option<String>),
}

/// The one document of a text.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, (Value, usize)> = HashMap::new();
    let mut root = None;
    let mut count = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|e| format!("line {}: {}", e.marker().line(), e.info()))?;
        let failed = |why: &str| format!("line {}: {why}", span.start.line());
        let (anchor, value, size) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (anchor, if style == ScalarStyle::Plain { plain(&text) } else { text.into_owned().into() }, 1)
            }
            Event::SequenceStart(anchor, _) => {
                open.push(Open::List(anchor, Vec::new()));
                if open.len() > MAX_DEPTH {
                    return Err(failed("it is nested too deep"));
                }
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open::Map(anchor, Map::new(), None));
                if open.len() > MAX_DEPTH {
                    return Err(failed("it is nested too deep"));
                }
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(anchor, list)) => (anchor, Value::Array(list), 0),
                Some(Open::Map(anchor, map, _)) => (anchor, Value::Object(map), 0),
                None => continue,
            },
            Event::Alias(anchor) => {
                let (value, size) =
                    anchors.get(&anchor).cloned().ok_or_else(|| failed("an alias of nothing"))?;
                (0, value, size)
            }
            Event::DocumentStart(_) if root.is_some() => return Err(failed("a second document")),
            _ => continue,
        };
        count += size;
        if count > MAX_VALUES {
            return Err(failed("it has too many values"));
        }
        if anchor != 0 {
            anchors.insert(anchor, (value.clone(), values_in(&value)));
        }
        match open.last_mut() {
            None => root = Some(value),
            Some(Open::List(_, list)) => list.push(value),
            Some(Open::Map(_, map, key)) => match key.take() {
                Some(key) => {
                    if map.insert(key, value).is_some() {
                        return Err(failed("a key is there twice"));
                    }
                }
                None => match value {
                    Value::String(text) => *key = Some(text),
                    other @ (Value::Number(_) | Value::Bool(_)) => *key = Some(other.to_string()),
                    _ => return Err(failed("a key is no text")),
                },
            },
        }
    }
    root.ok_or_else(|| "it is empty".to_owned())
}

fn values_in(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(values_in).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(values_in).sum::<usize>(),
        _ => 1,
    }
}

/// A scalar without quotes, as YAML 1.2's core schema reads it, and octal numbers as go-yaml does.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    let digits =
        |text: &str, base| i64::from_str_radix(text, base).ok().filter(|_| !text.starts_with(['+', '-']));
    let number = if let Some(hex) = text.strip_prefix("0x") {
        digits(hex, 16)
    } else if let Some(octal) =
        text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|rest| !rest.is_empty()))
    {
        digits(octal, 8)
    } else {
        text.strip_prefix('+').unwrap_or(text).parse().ok()
    };
    number.map_or_else(|| text.into(), Value::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_tools_of_vendors_write() {
        let text = "---\ncdiVersion: 0.5.0\nkind: vendor.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes: &nodes\n    - path: /dev/x\n      fileMode: 0644\n      major: 0x10\n    env: [A=1, 'B=2', \"0\"]\n- name: all\n  containerEdits: {deviceNodes: *nodes}\n";
        let nodes = json!([{ "path": "/dev/x", "fileMode": 0o644, "major": 16 }]);
        assert_eq!(
            read(text).unwrap(),
            json!({
                "cdiVersion": "0.5.0",
                "kind": "vendor.com/gpu",
                "devices": [
                    { "name": "0", "containerEdits": { "deviceNodes": nodes, "env": ["A=1", "B=2", "0"] } },
                    { "name": "all", "containerEdits": { "deviceNodes": nodes } },
                ],
            })
        );
        assert_eq!(
            read("a: -5\nb: ~\nc: true\nd: 1.5\ne: 08").unwrap(),
            json!({ "a": -5, "b": null, "c": true, "d": "1.5", "e": "08" })
        );
    }

    #[test]
    fn what_cannot_be_read() {
        let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
        let bomb = (1..9).fold("- &a0 [x]\n".to_owned(), |text, n| {
            format!("{text}- &a{n} [{}]\n", vec![format!("*a{}", n - 1); 20].join(","))
        });
        for bad in ["", "a: 1\na: 2", "[1", "? [a]\n: b", "a: 1\n---\nb: 2", &deep, &bomb, "a: *b"] {
            assert!(read(bad).is_err(), "{}", &bad[..bad.len().min(40)]);
        }
    }
}
