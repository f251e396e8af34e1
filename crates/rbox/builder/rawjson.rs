//! A build as JSON lines, as `docker build --progress rawjson` prints them: what became of steps, and what they wrote.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rbox_build::{BuildEvent, BuildProgress, Number};
use serde_json::{Value, json};

use crate::builder::show::Show;
use crate::output::table::write_all;

/// Prints a build on standard error.
#[derive(Debug, Default)]
pub(crate) struct RawJson {
    steps: HashMap<Number, Vertex>,
}

/// A step: BuildKit's word for it.
#[derive(Debug)]
struct Vertex {
    digest: String,
    name: String,
    started: Timestamp,
}

impl RawJson {
    /// The vertex of a step with more fields.
    fn vertex(&self, number: Number, more: &[(&str, Value)]) -> Value {
        let Some(vertex) = self.steps.get(&number) else { return Value::Null };
        let mut fields = json!({
            "digest": vertex.digest,
            "name": vertex.name,
            "started": vertex.started.to_string(),
        });
        if let Some(map) = fields.as_object_mut() {
            map.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        }
        json!({ "vertexes": [fields] })
    }

    fn ended(&self, number: Number, more: &[(&str, Value)]) -> Value {
        let now = Timestamp::now().to_string();
        self.vertex(number, &[&[("completed", json!(now))], more].concat())
    }

    fn status(&self, number: Number, id: &str) -> Value {
        let Some(vertex) = self.steps.get(&number) else { return Value::Null };
        let now = Timestamp::now().to_string();
        json!({ "statuses": [{
            "id": id, "vertex": vertex.digest, "current": 0, "timestamp": now, "started": now, "completed": now,
        }] })
    }
}

impl BuildProgress for RawJson {
    fn event(&mut self, event: BuildEvent<'_>) {
        let now = Timestamp::now();
        let told = match event {
            BuildEvent::Begun { number, name } => {
                let digest = rbox_engine::image::hash::sha256(format!("{number} {name}").as_bytes());
                let vertex = Vertex { digest: digest.to_string(), name: name.to_owned(), started: now };
                self.steps.insert(number, vertex);
                self.vertex(number, &[])
            }
            BuildEvent::Told { number, line } => self.status(number, line),
            BuildEvent::NotCached { number, why } => self.status(number, &format!("not cached: {why}")),
            BuildEvent::Output { number, stream, bytes } => {
                let Some(vertex) = self.steps.get(&number) else { return };
                let stream = if stream == rbox_engine::engine::Stream::Stderr { 2 } else { 1 };
                let data = STANDARD.encode(bytes);
                json!({ "logs": [{
                    "vertex": vertex.digest, "stream": stream, "data": data, "timestamp": now.to_string(),
                }] })
            }
            BuildEvent::Cached { number } => self.ended(number, &[("cached", json!(true))]),
            BuildEvent::Done { number, .. } => self.ended(number, &[]),
            BuildEvent::Failed { number, why } => self.ended(number, &[("error", json!(why))]),
            BuildEvent::Canceled { number } => self.ended(number, &[("error", json!("context canceled"))]),
            BuildEvent::Warning(text) => {
                json!({ "warnings": [{ "level": 1, "short": STANDARD.encode(text) }] })
            }
            BuildEvent::Tick => return,
        };
        // A reader that went away does not end the build.
        let _ = write_all(&mut std::io::stderr(), &format!("{told}\n"));
    }
}

impl Show for RawJson {}
