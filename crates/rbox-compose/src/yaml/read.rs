//! From a text to trees: one for each document, with `!reset` and `!override` taken out and told beside.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::node::{At, Map, Node, Value};
use super::scalar::resolve;

/// How deep collections may stand in each other. Compose files need ten.
const MAX_DEPTH: usize = 100;
/// How many nodes a document may have when its aliases are put in. The largest files that are known have some ten thousand.
const MAX_NODES: usize = 2_000_000;
/// How many of them may come from aliases, unless they are no more than ten times what is written.
const MAX_ALIASED: usize = 200_000;

/// One document of a file.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) root: Node,
    /// The paths that `!reset` or `!override` stand at: what other files said of them is forgotten.
    pub(crate) resets: Vec<Vec<String>>,
}

/// What is wrong with a text, and where: a line and a column from 1.
pub(crate) type Fault = (u32, u32, String);

/// A node as it is written: anchors shared, tags kept.
#[derive(Debug)]
struct Raw {
    kind: RawKind,
    tag: Option<String>,
    at: At,
}

#[derive(Debug)]
enum RawKind {
    Scalar { text: String, plain: bool },
    List(Vec<Rc<Raw>>),
    Map(Vec<(Rc<Raw>, Rc<Raw>)>),
}

/// A collection that is not at its end yet.
struct Open {
    map: bool,
    anchor: usize,
    tag: Option<String>,
    at: At,
    nodes: Vec<Rc<Raw>>,
}

/// Reads all documents of a text.
pub(crate) fn read(text: &str, file: u32) -> Result<Vec<Document>, Fault> {
    if let Some(at) = text.find('\0') {
        let line = text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1;
        return Err((number(line), 1, "control characters are not allowed".into()));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Rc<Raw>> = HashMap::new();
    let mut root: Option<Rc<Raw>> = None;
    let mut written = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let marker = error.marker();
            (number(marker.line()), number(marker.col() + 1), error.info().to_owned())
        })?;
        let at = place(span, file);
        let done = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind = RawKind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                Some((anchor, Raw { kind, tag: tag_name(tag.as_deref()), at }))
            }
            Event::SequenceStart(anchor, tag) => {
                let tag = tag_name(tag.as_deref());
                open.push(Open { map: false, anchor, tag, at, nodes: Vec::new() });
                None
            }
            Event::MappingStart(anchor, tag) => {
                let tag = tag_name(tag.as_deref());
                open.push(Open { map: true, anchor, tag, at, nodes: Vec::new() });
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(|open| (open.anchor, close(open))),
            Event::Alias(anchor) => {
                let Some(target) = anchors.get(&anchor) else {
                    return Err((at.line, at.column, "an anchor's value contains itself".into()));
                };
                put(&mut open, &mut root, Rc::clone(target));
                None
            }
            Event::DocumentEnd => {
                let raw = root.take();
                anchors.clear();
                if let Some(raw) = raw {
                    documents.push(convert_document(&raw, written)?);
                }
                written = 0;
                None
            }
            _ => None,
        };
        if open.len() > MAX_DEPTH {
            return Err((at.line, at.column, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if let Some((anchor, raw)) = done {
            written += 1;
            if written > MAX_NODES {
                return Err((at.line, at.column, format!("more than {MAX_NODES} values")));
            }
            let raw = Rc::new(raw);
            if anchor != 0 {
                anchors.insert(anchor, Rc::clone(&raw));
            }
            put(&mut open, &mut root, raw);
        }
    }
    Ok(documents)
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn place(span: Span, file: u32) -> At {
    let start: Marker = span.start;
    At { file, line: number(start.line()), column: number(start.col() + 1) }
}

fn tag_name(tag: Option<&Tag>) -> Option<String> {
    tag.map(|tag| format!("{}{}", tag.handle, tag.suffix))
}

fn close(open: Open) -> Raw {
    let kind = if open.map {
        let mut pairs = Vec::with_capacity(open.nodes.len() / 2);
        let mut nodes = open.nodes.into_iter();
        while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
            pairs.push((key, value));
        }
        RawKind::Map(pairs)
    } else {
        RawKind::List(open.nodes)
    };
    Raw { kind, tag: open.tag, at: open.at }
}

fn put(open: &mut [Open], root: &mut Option<Rc<Raw>>, raw: Rc<Raw>) {
    match open.last_mut() {
        Some(collection) => collection.nodes.push(raw),
        None => *root = Some(raw),
    }
}

fn convert_document(raw: &Raw, written: usize) -> Result<Document, Fault> {
    let mut convert = Convert {
        resets: Vec::new(),
        path: Vec::new(),
        left: written.saturating_mul(10).clamp(MAX_ALIASED, MAX_NODES),
    };
    let root = convert.node(raw, 0)?.unwrap_or_default();
    Ok(Document { root, resets: convert.resets })
}

struct Convert {
    resets: Vec<Vec<String>>,
    path: Vec<String>,
    left: usize,
}

impl Convert {
    /// The node, or none where it is reset.
    fn node(&mut self, raw: &Raw, depth: usize) -> Result<Option<Node>, Fault> {
        let fault = |message: String| (raw.at.line, raw.at.column, message);
        if depth > MAX_DEPTH {
            return Err(fault(format!("nested deeper than {MAX_DEPTH} levels, with its aliases")));
        }
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| fault("document contains excessive aliasing".to_owned()))?;
        match raw.tag.as_deref() {
            Some("!reset") => {
                self.resets.push(self.path.clone());
                return Ok(None);
            }
            Some("!override") => self.resets.push(self.path.clone()),
            _ => {}
        }
        let value = match &raw.kind {
            RawKind::Scalar { text, plain } => scalar(text, *plain, raw.tag.as_deref()),
            RawKind::List(nodes) => {
                let mut list = Vec::with_capacity(nodes.len());
                for (index, node) in nodes.iter().enumerate() {
                    self.path.push(index.to_string());
                    let node = self.node(node, depth + 1);
                    self.path.pop();
                    list.extend(node?);
                }
                Value::List(list)
            }
            RawKind::Map(pairs) => Value::Map(self.map(pairs, depth)?),
        };
        Ok(Some(Node { value, at: raw.at, key: At::default() }))
    }

    fn map(&mut self, pairs: &[(Rc<Raw>, Rc<Raw>)], depth: usize) -> Result<Map, Fault> {
        let mut map = Map::new();
        let mut lines: HashMap<&str, u32> = HashMap::new();
        let mut merged = Vec::new();
        for (key, value) in pairs {
            let fault = |message: String| (key.at.line, key.at.column, message);
            let RawKind::Scalar { text, plain } = &key.kind else {
                return Err(fault("a key must be a text".into()));
            };
            if let Some(line) = lines.insert(text, key.at.line) {
                return Err(fault(format!("mapping key {text:?} already defined at line {line}")));
            }
            if *plain && text == "<<" && matches!(key.tag.as_deref(), None | Some("tag:yaml.org,2002:merge"))
            {
                merged.push(value);
                continue;
            }
            if !matches!(scalar(text, *plain, key.tag.as_deref()), Value::Text(_)) {
                let path = self.path.join(".");
                let place = if path.is_empty() { "at top level".into() } else { format!("in {path}") };
                return Err(fault(format!("non-string key {place}: {text}; put it into quotes")));
            }
            self.path.push(text.clone());
            let node = self.node(value, depth + 1);
            self.path.pop();
            if let Some(mut node) = node? {
                node.key = key.at;
                map.insert(text.clone(), node);
            }
        }
        for value in merged {
            self.merge(&mut map, value, depth)?;
        }
        Ok(map)
    }

    /// `<<`: what is written here wins, then what is merged first.
    fn merge(&mut self, map: &mut Map, value: &Raw, depth: usize) -> Result<(), Fault> {
        let fault = || {
            let message = "map merge requires map or sequence of maps as the value";
            (value.at.line, value.at.column, message.to_owned())
        };
        match &value.kind {
            RawKind::Map(_) => {
                let Some(Node { value: Value::Map(more), .. }) = self.node(value, depth + 1)? else {
                    return Ok(());
                };
                for (key, node) in more {
                    map.entry(key).or_insert(node);
                }
                Ok(())
            }
            RawKind::List(nodes) => {
                for node in nodes {
                    if !matches!(node.kind, RawKind::Map(_)) {
                        return Err(fault());
                    }
                    self.merge(map, node, depth + 1)?;
                }
                Ok(())
            }
            RawKind::Scalar { .. } => Err(fault()),
        }
    }
}

fn scalar(text: &str, plain: bool, tag: Option<&str>) -> Value {
    match tag {
        Some(
            "tag:yaml.org,2002:int"
            | "tag:yaml.org,2002:float"
            | "tag:yaml.org,2002:bool"
            | "tag:yaml.org,2002:null",
        ) => resolve(text),
        Some("!override") | None if plain => resolve(text),
        _ => Value::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fmt::Write as _;

    fn one(text: &str) -> Node {
        read(text, 0).unwrap().remove(0).root
    }

    fn fault(text: &str) -> String {
        let (line, column, message) = read(text, 0).unwrap_err();
        format!("{line}:{column}: {message}")
    }

    #[test]
    fn nodes_know_where_they_are() {
        let root = one("services:\n  web:\n    image: nginx\n");
        let image = root.at_path(&["services", "web", "image"]).unwrap();
        assert_eq!((image.at.line, image.at.column, image.key.column), (3, 12, 5));
    }

    #[test]
    fn merge_keys_fill_in_what_is_not_written() {
        let root = one("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 9\n");
        let c = root.get("c").unwrap();
        let numbers: Vec<_> =
            ["x", "y", "z"].iter().map(|key| c.get(key).unwrap().value.to_string()).collect();
        assert_eq!(numbers, ["9", "2", "4"]);
        assert!(fault("a:\n  <<: 5\n").contains("map merge requires"));
    }

    #[test]
    fn reset_and_override_are_told_by_their_paths() {
        let text = "services:\n  web:\n    ports: !override [\"80\"]\n    command: !reset null\n";
        let document = read(text, 0).unwrap().remove(0);
        assert_eq!(document.resets, [["services", "web", "ports"], ["services", "web", "command"]]);
        let web = document.root.at_path(&["services", "web"]).unwrap();
        assert!(web.get("command").is_none());
        assert_eq!(web.get("ports").unwrap().as_list().unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_compose_file_is_refused_with_its_place() {
        assert_eq!(fault("a: 1\na: 2\n"), "2:1: mapping key \"a\" already defined at line 1");
        assert_eq!(fault("a:\n  8080: x\n"), "2:3: non-string key in a: 8080; put it into quotes");
        assert!(fault("a: &a [*a]\n").contains("contains itself"));
        assert!(fault("a: \0\n").contains("control characters"));
        assert!(fault("a: [1\n").starts_with("2:1"));
    }

    #[test]
    fn hostile_files_end_fast() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..9 {
            let before = format!("*a{}", level - 1);
            let ten = [before.as_str(); 10].join(",");
            let _ = writeln!(bomb, "a{level}: &a{level} [{ten}]");
        }
        assert!(fault(&bomb).contains("excessive aliasing"));
        assert!(fault(&"[".repeat(100_000)).starts_with("1:"));
        assert!(fault(&"- ".repeat(100_000)).contains("nested deeper"));
        assert!(fault(&"{a: ".repeat(100_000)).starts_with("1:"));
    }
}
