//! Docker's `--filter key=value`: the grammar, and what each key means for containers, images and volumes.
//!
//! Values of one key are alternatives, except for `label`, where all must hold; keys must all hold.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rbox_spec::Kind;
use regex::Regex;

use crate::listing::moment;

/// A filter that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No `=`.
    #[error("bad format of filter (expected name=value): '{0}'")]
    Format(String),
    /// A key that the command does not know.
    #[error("invalid filter '{0}'")]
    Unknown(String),
    /// A value that the key does not take.
    #[error("invalid filter '{key}={value}': {why}")]
    Value {
        /// The key.
        key: String,
        /// The value refused.
        value: String,
        /// What it takes.
        why: String,
    },
}

impl FilterError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Keys of `ps`.
pub const CONTAINER_KEYS: &[&str] = &[
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "volume", "network", "publish",
    "expose", "health", "is-task",
];
/// Keys of `images`.
pub const IMAGE_KEYS: &[&str] = &["dangling", "label", "before", "since", "reference", "until"];
/// Keys of `volume ls`.
pub const VOLUME_KEYS: &[&str] = &["dangling", "name", "label", "driver"];
/// Keys of `network ls`.
pub const NETWORK_KEYS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];
/// Keys of `volume prune`.
pub const VOLUME_PRUNE_KEYS: &[&str] = &["label", "label!", "all", "last-used"];
/// Keys of every other `prune`.
pub const PRUNE_KEYS: &[&str] = &["until", "label", "label!", "dangling", "all", "last-used"];

/// What was given by `--filter`, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    values: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// Reads the options; `keys` are those the command knows.
    pub fn parse<S: AsRef<str>>(given: &[S], keys: &[&str]) -> Result<Self, FilterError> {
        let mut filters = Self::default();
        for item in given.iter().map(AsRef::as_ref).filter(|item| !item.is_empty()) {
            let (key, value) =
                item.split_once('=').ok_or_else(|| FilterError::Format(item.escape_debug().to_string()))?;
            // `label!=x` is the one key that ends in `!`.
            let key = key.trim().to_lowercase();
            if !keys.contains(&key.as_str()) {
                return Err(FilterError::Unknown(key.escape_debug().to_string()));
            }
            filters.values.entry(key).or_default().push(value.trim().to_owned());
        }
        Ok(filters)
    }

    /// Whether no filter was given.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether `key` was given.
    pub fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The values of `key`.
    pub fn values(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// True when `key` was not given, or one value equals `text`.
    pub fn equals(&self, key: &str, text: &str) -> bool {
        !self.contains(key) || self.values(key).iter().any(|value| value == text)
    }

    /// True when `key` was not given, or one value equals `text` or matches it as a regular expression
    /// (unanchored, as Docker's `name` and `id`).
    pub fn matches(&self, key: &str, text: &str) -> bool {
        !self.contains(key)
            || self.values(key).iter().any(|value| {
                value == text
                    || text.contains(value.as_str())
                    || Regex::new(value).is_ok_and(|re| re.is_match(text))
            })
    }

    /// True when every `label` value (`key` or `key=value`) is among `labels` and no `label!` value is.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }

    /// The value of a yes-or-no key; none when it was not given.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, FilterError> {
        let mut answer = None;
        for value in self.values(key) {
            let value = match value.to_lowercase().as_str() {
                "1" | "true" | "t" => true,
                "0" | "false" | "f" => false,
                _ => return Err(bad(key, value, "expected true or false")),
            };
            if answer.is_some_and(|before| before != value) {
                return Err(bad(key, &self.values(key).join(","), "expected true or false, not both"));
            }
            answer = Some(value);
        }
        Ok(answer)
    }

    /// The moment of an `until` key; none when it was not given.
    pub fn until(&self, now: Timestamp) -> Result<Option<Timestamp>, FilterError> {
        self.moment("until", now)
    }

    /// The moment of a `last-used` key: what was used since then is left.
    pub fn last_used(&self, now: Timestamp) -> Result<Option<Timestamp>, FilterError> {
        self.moment("last-used", now)
    }

    fn moment(&self, key: &str, now: Timestamp) -> Result<Option<Timestamp>, FilterError> {
        match self.values(key) {
            [] => Ok(None),
            [value] => moment::parse(value, now).map(Some).map_err(|e| bad(key, value, &e.to_string())),
            more => Err(bad(key, &more.join(","), &format!("more than one {key} filter"))),
        }
    }
}

fn bad(key: &str, value: &str, why: &str) -> FilterError {
    FilterError::Value { key: key.to_owned(), value: value.escape_debug().to_string(), why: why.to_owned() }
}

/// A port as filters see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterPort {
    /// The number.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// What the filters of `ps` look at in a container.
pub struct ContainerFacts<'a> {
    /// 64 hex digits.
    pub id: &'a str,
    /// Without a slash.
    pub name: &'a str,
    /// Of the image and of the user.
    pub labels: &'a BTreeMap<String, String>,
    /// `created`, `running`, `paused`, `exited`, …
    pub status: &'a str,
    /// The code of the last exit, when it has ended and does not run.
    pub exit_code: Option<i32>,
    /// When it was created.
    pub created: Timestamp,
    /// Names of volumes, sources of binds and targets of both.
    pub volumes: &'a [String],
    /// Names and ids of networks.
    pub networks: &'a [String],
    /// Ports of the host that lead to it.
    pub published: &'a [FilterPort],
    /// Ports its image or the user exposes.
    pub exposed: &'a [FilterPort],
    /// `none`, `starting`, `healthy` or `unhealthy`.
    pub health: &'a str,
    /// Whether the image named by an `ancestor` value is the container's or one it was built on.
    pub descends_from: &'a dyn Fn(&str) -> bool,
}

/// The filters of `ps`, checked.
#[derive(Debug)]
pub struct ContainerFilter {
    filters: Filters,
    exited: Vec<i32>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    publish: Vec<PortRange>,
    expose: Vec<PortRange>,
    task: Option<bool>,
}

#[derive(Debug, Clone)]
struct PortRange {
    from: u16,
    to: u16,
    protocol: String,
}

impl ContainerFilter {
    /// Checks the values. `created` gives the creation time of the container that `before` and `since` name.
    pub fn new<E: From<FilterError>>(
        filters: Filters,
        created: impl Fn(&str) -> Result<Timestamp, E>,
    ) -> Result<Self, E> {
        const STATES: [&str; 7] =
            ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
        const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];
        for (key, known) in [("status", &STATES[..]), ("health", &HEALTH[..])] {
            if let Some(value) = filters.values(key).iter().find(|value| !known.contains(&value.as_str())) {
                return Err(bad(key, value, &format!("expected one of {}", known.join(", "))).into());
            }
        }
        let mut exited = Vec::new();
        for value in filters.values("exited") {
            exited.push(value.parse().map_err(|_| bad("exited", value, "expected an exit code"))?);
        }
        let moment = |key: &str| match filters.values(key) {
            [] => Ok(None),
            [name] => created(name).map(Some),
            more => Err(bad(key, &more.join(","), "more than one container").into()),
        };
        Ok(Self {
            before: moment("before")?,
            since: moment("since")?,
            publish: port_ranges(&filters, "publish")?,
            expose: port_ranges(&filters, "expose")?,
            task: filters.boolean("is-task")?,
            exited,
            filters,
        })
    }

    /// Whether stopped containers are to be looked at though `-a` was not given.
    pub fn wants_all(&self) -> bool {
        self.filters.contains("status")
    }

    /// Whether the container passes.
    pub fn accepts(&self, container: &ContainerFacts<'_>) -> bool {
        let filters = &self.filters;
        let any = |key: &str, among: &[String]| {
            !filters.contains(key) || filters.values(key).iter().any(|value| among.contains(value))
        };
        filters.matches("id", container.id)
            && (filters.matches("name", container.name) || filters.matches("name", &format!("/{}", container.name)))
            && filters.labels(container.labels)
            && filters.equals("status", container.status)
            && filters.equals("health", container.health)
            && (self.exited.is_empty() || container.exit_code.is_some_and(|code| self.exited.contains(&code)))
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
            && any("volume", container.volumes)
            && any("network", container.networks)
            && ports_match(&self.publish, container.published)
            && ports_match(&self.expose, container.exposed)
            // rbox has no swarm: no container is a task.
            && self.task != Some(true)
            && (!filters.contains("ancestor")
                || filters.values("ancestor").iter().any(|image| (container.descends_from)(image)))
    }
}

/// `80`, `80/udp`, `8000-8010/tcp`; tcp when no protocol is named.
fn port_ranges(filters: &Filters, key: &str) -> Result<Vec<PortRange>, FilterError> {
    let read = |value: &String| {
        let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
        let (from, to) = ports.split_once('-').unwrap_or((ports, ports));
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        (from <= to && matches!(protocol, "tcp" | "udp" | "sctp")).then(|| PortRange {
            from,
            to,
            protocol: protocol.to_owned(),
        })
    };
    let checked = |value| read(value).ok_or_else(|| bad(key, value, "expected PORT[-PORT][/tcp|udp|sctp]"));
    filters.values(key).iter().map(checked).collect()
}

fn ports_match(wanted: &[PortRange], ports: &[FilterPort]) -> bool {
    let within = |port: &FilterPort| {
        wanted.iter().any(|w| (w.from..=w.to).contains(&port.port) && w.protocol == port.protocol)
    };
    wanted.is_empty() || ports.iter().any(within)
}

/// Go's `path.Match`, which the `reference` filter of `images` uses: `*` and `?` do not cross a `/`.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // The last `*` seen and how far it reached: on a mismatch it takes one character more.
    let (mut p, mut t, mut star) = (0, 0, None);
    loop {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        if let (Some(length), Some(_)) = (glob_one(&pattern[p..], text.get(t).copied()), text.get(t)) {
            p += length;
            t += 1;
            continue;
        }
        match star {
            Some((after, from)) if text.get(from).is_some_and(|c| *c != '/') => {
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

/// How many pattern characters match one character of the text, if they do.
fn glob_one(pattern: &[char], char: Option<char>) -> Option<usize> {
    let char = char?;
    match *pattern.first()? {
        '?' => (char != '/').then_some(1),
        '\\' => (pattern.get(1) == Some(&char)).then_some(2),
        '[' => {
            let close = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
            let inside = &pattern[1..close];
            let (negated, inside) = match inside.first() {
                Some('^') => (true, &inside[1..]),
                _ => (false, inside),
            };
            let mut found = false;
            let mut at = 0;
            while at < inside.len() {
                if inside.get(at + 1) == Some(&'-') && at + 2 < inside.len() {
                    found |= (inside[at]..=inside[at + 2]).contains(&char);
                    at += 3;
                } else {
                    found |= inside[at] == char;
                    at += 1;
                }
            }
            (found != negated).then_some(close + 1)
        }
        other => (other == char).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn accepts(given: &[&str]) -> Result<bool, FilterError> {
        let labels = labels(&[("app", "web"), ("tier", "1")]);
        let volumes = ["data".to_owned(), "/data".to_owned()];
        let networks = ["bridge".to_owned()];
        let port = |port, protocol: &str| FilterPort { port, protocol: protocol.into() };
        let facts = ContainerFacts {
            id: "0123456789abcdef",
            name: "web-1",
            labels: &labels,
            status: "exited",
            exit_code: Some(137),
            created: Timestamp::from_second(1000).unwrap(),
            volumes: &volumes,
            networks: &networks,
            published: &[port(8080, "tcp")],
            exposed: &[port(80, "tcp"), port(53, "udp")],
            health: "none",
            descends_from: &|image| image == "busybox",
        };
        let filters = Filters::parse(given, CONTAINER_KEYS)?;
        let created = |name: &str| match name {
            "old" => Ok(Timestamp::from_second(500).unwrap()),
            "new" => Ok(Timestamp::from_second(1500).unwrap()),
            _ => Err(FilterError::Unknown("no such container".into())),
        };
        Ok(ContainerFilter::new(filters, created)?.accepts(&facts))
    }

    #[test]
    fn every_key_of_ps() {
        for yes in [
            &[][..],
            &["name=web"],
            &["name=^web-[0-9]$"],
            &["name=^/web"],
            &["NAME = web "],
            &["name=nope", "name=web-1"],
            &["id=0123"],
            &["label=app", "label=tier=1"],
            &["status=exited"],
            &["status=running", "status=exited"],
            &["exited=137"],
            &["exited=0", "exited=137"],
            &["before=new", "since=old"],
            &["volume=data"],
            &["volume=/data"],
            &["network=bridge"],
            &["publish=8080"],
            &["publish=8000-9000/tcp"],
            &["expose=53/udp"],
            &["health=none"],
            &["is-task=false"],
            &["ancestor=debian", "ancestor=busybox"],
            &["name=("], // Not a regular expression, and no such text: see below.
        ] {
            let expected = yes != ["name=("];
            assert_eq!(accepts(yes), Ok(expected), "{yes:?}");
        }
        for no in [
            &["name=nope"][..],
            &["id=f0"],
            &["label=app", "label=tier=2"],
            &["status=running"],
            &["exited=0"],
            &["before=old"],
            &["since=new"],
            &["volume=dat"],
            &["network=host"],
            &["publish=80"],
            &["publish=8080/udp"],
            &["expose=8080"],
            &["health=healthy"],
            &["is-task=true"],
            &["ancestor=debian"],
            &["name=web", "status=running"],
        ] {
            assert_eq!(accepts(no), Ok(false), "{no:?}");
        }
    }

    #[test]
    fn refusals_in_dockers_words() {
        for (given, text) in [
            ("bogus=1", "invalid filter 'bogus'"),
            ("name", "bad format of filter (expected name=value): 'name'"),
            ("exited=x", "invalid filter 'exited=x': expected an exit code"),
            ("is-task=maybe", "invalid filter 'is-task=maybe': expected true or false"),
            ("publish=x", "invalid filter 'publish=x': expected PORT[-PORT][/tcp|udp|sctp]"),
            ("publish=9-8", "invalid filter 'publish=9-8': expected PORT[-PORT][/tcp|udp|sctp]"),
        ] {
            assert_eq!(accepts(&[given]).map_err(|e| e.to_string()), Err(text.to_owned()), "{given}");
        }
        assert!(accepts(&["status=bogus"]).is_err());
        assert!(accepts(&["health=bogus"]).is_err());
        assert!(accepts(&["before=missing"]).is_err());
        assert_eq!(accepts(&[""]), Ok(true));
    }

    #[test]
    fn booleans_and_moments() {
        let now = Timestamp::from_second(10_000).unwrap();
        let read = |item: &str| Filters::parse(&[item], IMAGE_KEYS).unwrap();
        assert_eq!(read("dangling=true").boolean("dangling"), Ok(Some(true)));
        assert_eq!(read("dangling=0").boolean("dangling"), Ok(Some(false)));
        assert_eq!(read("label=x").boolean("dangling"), Ok(None));
        assert_eq!(read("until=1h").until(now), Ok(Some(Timestamp::from_second(6_400).unwrap())));
        assert!(read("until=x").until(now).is_err());
        let pruned = Filters::parse(&["label!=keep"], PRUNE_KEYS).unwrap();
        assert!(pruned.labels(&labels(&[("a", "b")])) && !pruned.labels(&labels(&[("keep", "b")])));
    }

    #[test]
    fn globs_as_go_matches_them() {
        for (pattern, text, expected) in [
            ("python", "python", true),
            ("py*", "python", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("*:3.*", "python:3.11-slim", true),
            ("?ython", "python", true),
            ("[a-p]ython", "python", true),
            ("[^p]ython", "python", false),
            (r"\*", "*", true),
            ("", "", true),
            ("a", "", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("[", "[", false),
            ("***************************b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
