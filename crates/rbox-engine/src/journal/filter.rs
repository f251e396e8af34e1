//! The filters of `rbox events`, which match as those of Docker's daemon do.

use rbox_spec::Reference;

use crate::journal::message::{ActorType, Message, SCOPE};
use crate::listing::filter::{FilterError, Filters};

/// Keys of `events`. Some name what rbox has not, and let nothing through that is not called so.
pub const EVENT_KEYS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];
/// Those whose value is the beginning of an id or of a name, of whatever kind of thing.
const NAMES: [&str; 9] =
    ["config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"];
/// Actions with something behind a colon. With one of them alone all values of `event` are beginnings.
const WITH_TEXT: [&str; 3] = ["health_status", "exec_create", "exec_start"];

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct EventFilter(Filters);

impl EventFilter {
    /// Reads the options.
    ///
    /// # Errors
    /// One is no `key=value`, or its key is none of [`EVENT_KEYS`].
    pub fn parse<S: AsRef<str>>(given: &[S]) -> Result<Self, FilterError> {
        Filters::parse(given, EVENT_KEYS).map(Self)
    }

    /// Whether an event is wanted.
    pub(super) fn accepts(&self, message: &Message) -> bool {
        let filters = &self.0;
        let name = message.attributes.get("name").map_or("", String::as_str);
        let is_named = |key: &&str| self.begins(key, &message.id) || self.begins(key, name);
        self.is_action(&message.action)
            && filters.equals("type", message.actor_type.as_str())
            && filters.equals("scope", SCOPE)
            && NAMES.iter().all(is_named)
            && self.is_image(message)
            && filters.labels(&message.attributes)
    }

    fn begins(&self, key: &str, text: &str) -> bool {
        !self.0.contains(key) || self.0.values(key).iter().any(|value| text.starts_with(value.as_str()))
    }

    fn is_action(&self, action: &str) -> bool {
        let wanted = self.0.values("event");
        if wanted.iter().any(|value| WITH_TEXT.contains(&value.as_str())) {
            return self.begins("event", action);
        }
        self.0.equals("event", action)
    }

    /// The image, or that of the container, with its tag or without.
    fn is_image(&self, message: &Message) -> bool {
        let attribute = if message.actor_type == ActorType::Image { "name" } else { "image" };
        let name = message.attributes.get(attribute).map_or("", String::as_str);
        !self.0.contains("image")
            || [message.id.as_str(), name]
                .into_iter()
                .any(|text| self.0.equals("image", text) || self.0.equals("image", &without_tag(text)))
    }
}

fn without_tag(image: &str) -> String {
    Reference::parse(image).map_or_else(|_| image.to_owned(), |reference| reference.familiar_name())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::journal::message::tests::message;

    fn accepts(given: &[&str], message: &Message) -> bool {
        EventFilter::parse(given).unwrap().accepts(message)
    }

    #[test]
    fn each_key_as_dockers_daemon_has_it() {
        let mut start = message("start", 1);
        start.attributes.insert("image".into(), "python:3.11".into());
        for yes in [
            &[][..],
            &["container=web"],
            &["container=w"],
            &["container=c0f"],
            &["container=other", "container=web"],
            &["event=start"],
            &["event=stop", "event=start"],
            &["image=python:3.11"],
            &["image=python"],
            &["type=container", "type=network"],
            &["label=app"],
            &["label=app=x\ny"],
            &["label=name=web"],
            &["scope=local"],
            // Names are compared whatever kind of thing it is.
            &["volume=we"],
            &["network=web", "daemon=web"],
        ] {
            assert!(accepts(yes, &start), "{yes:?}");
        }
        for no in [
            &["container=eb"][..],
            &["event=star"],
            &["image=pyth"],
            &["type=network"],
            &["type=contain"],
            &["label=app=x"],
            &["label=app", "label=none"],
            &["scope=swarm"],
            &["volume=data"],
            &["daemon=host"],
            &["container=web", "event=die"],
        ] {
            assert!(!accepts(no, &start), "{no:?}");
        }
        assert!(EventFilter::parse(&["contianer=web"]).is_err());
        assert!(EventFilter::parse(&["web"]).is_err());
    }

    #[test]
    fn what_has_text_behind_a_colon_is_found_by_its_beginning() {
        let healthy = message("health_status: healthy", 1);
        for (given, wanted) in [
            (&["event=health_status"][..], true),
            (&["event=health_status: healthy"], true),
            (&["event=health_status: unhealthy"], false),
            (&["event=health_stat"], false),
            (&["event=exec_create", "event=health"], true),
        ] {
            assert_eq!(accepts(given, &healthy), wanted, "{given:?}");
        }
    }
}
