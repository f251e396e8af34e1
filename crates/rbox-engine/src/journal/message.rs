//! One event: as a line of the journal, and as Docker shows it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What kind of thing something happened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorType {
    /// A container.
    #[default]
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
}

impl ActorType {
    /// As Docker spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
        }
    }
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What kind of thing it happened to.
    #[serde(rename = "type")]
    pub actor_type: ActorType,
    /// What happened: `start`, `exec_create: ls -l`, …
    pub action: String,
    /// The thing's id, or a volume's name, or an image's name when it was pulled.
    pub id: String,
    /// Docker's attributes: the container's or image's labels, its name, and what belongs to the action.
    pub attributes: BTreeMap<String, String>,
    /// When, in nanoseconds since 1970.
    pub time: i64,
}

/// A line is no longer; labels that make it so are left out.
pub(super) const MOST_LINE: usize = 64 * 1024;
/// The longest text that an action or an attribute has in a line that would be too long.
const MOST_TEXT: usize = 4096;

/// The attributes that say what happened, and to what.
const OWN: [&str; 14] = [
    "name",
    "image",
    "container",
    "exitCode",
    "execDuration",
    "execID",
    "signal",
    "oldName",
    "height",
    "width",
    "driver",
    "type",
    "destination",
    "reclaimed",
];

impl Message {
    /// Its line in the journal, between line feeds.
    pub(super) fn line(&self) -> Vec<u8> {
        let encoded = |message: &Self| {
            let mut line = vec![b'\n'];
            // A message of texts and a number can always be written as JSON.
            let _ = serde_json::to_writer(&mut line, message);
            line.push(b'\n');
            line
        };
        let line = encoded(self);
        if line.len() <= MOST_LINE { line } else { encoded(&self.shortened()) }
    }

    /// The line's message.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        rbox_spec::json::from_slice(line).ok()
    }

    /// What is left of one whose line would be too long: its own attributes, and the beginnings of long texts.
    fn shortened(&self) -> Self {
        let cut = |text: &str| text.chars().take(MOST_TEXT).collect::<String>();
        let own = self.attributes.iter().filter(|(key, _)| OWN.contains(&key.as_str()));
        Self {
            action: cut(&self.action),
            id: cut(&self.id),
            attributes: own.map(|(key, value)| (key.clone(), cut(value))).collect(),
            ..self.clone()
        }
    }

    /// When it happened.
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(self.time)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// As Docker's API gives it.
    pub fn as_docker(&self) -> Value {
        let mut all = Map::new();
        if matches!(self.actor_type, ActorType::Container | ActorType::Image) {
            all.insert("status".into(), self.action.clone().into());
            if !self.id.is_empty() {
                all.insert("id".into(), self.id.clone().into());
            }
        }
        if let (ActorType::Container, Some(image)) = (self.actor_type, self.attributes.get("image")) {
            all.insert("from".into(), image.clone().into());
        }
        all.insert("Type".into(), self.actor_type.as_str().into());
        all.insert("Action".into(), self.action.clone().into());
        all.insert("Actor".into(), json!({ "ID": self.id, "Attributes": self.attributes }));
        all.insert("scope".into(), SCOPE.into());
        all.insert("time".into(), self.time.div_euclid(1_000_000_000).into());
        all.insert("timeNano".into(), self.time.into());
        Value::Object(all)
    }
}

/// Docker's word for events of one host.
pub(super) const SCOPE: &str = "local";

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn message(action: &str, time: i64) -> Message {
        let attributes = [("image", "busybox"), ("name", "web"), ("app", "x\ny")];
        Message {
            actor_type: ActorType::Container,
            action: action.into(),
            id: "c0ffee".into(),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            time,
        }
    }

    #[test]
    fn a_line_is_one_line_and_is_read_again() {
        let message = message("exec_create: sh -c 'a\nb'", 1_700_000_000_000_000_001);
        let line = message.line();
        assert!(line.starts_with(b"\n") && line.ends_with(b"\n") && !line.trim_ascii().contains(&b'\n'));
        assert_eq!(Message::parse(line.trim_ascii()), Some(message));
        assert_eq!(Message::parse(&line[1..line.len() - 2]), None);
    }

    #[test]
    fn a_line_that_would_be_too_long_loses_its_labels() {
        let mut long = message("start", 1);
        long.attributes.insert("label".into(), "x".repeat(MOST_LINE));
        let short = Message::parse(long.line().trim_ascii()).unwrap();
        assert_eq!(short.attributes.keys().collect::<Vec<_>>(), ["image", "name"]);
        let long = Message { action: format!("exec_start: {}", "é".repeat(MOST_LINE)), ..message("", 1) };
        assert!(long.line().len() < MOST_LINE);
        assert!(Message::parse(long.line().trim_ascii()).unwrap().action.starts_with("exec_start: éé"));
    }

    #[test]
    fn dockers_keys_in_dockers_order() {
        let text = message("start", 1_700_000_000_000_000_001).as_docker().to_string();
        let wanted = r#"{"status":"start","id":"c0ffee","from":"busybox","Type":"container","Action":"start","Actor":{"ID":"c0ffee","Attributes":{"app":"x\ny","image":"busybox","name":"web"}},"scope":"local","time":1700000000,"timeNano":1700000000000000001}"#;
        assert_eq!(text, wanted);
        let network = Message { actor_type: ActorType::Network, ..message("connect", 1) };
        assert!(network.as_docker().to_string().starts_with(r#"{"Type":"network","Action":"connect","#));
    }
}
