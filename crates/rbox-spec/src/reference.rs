//! Image references as Docker reads them: `[domain/]path[:tag][@digest]`.
//!
//! `python:3.11-slim` is short (the "familiar" form) for `docker.io/library/python:3.11-slim` (the full form).
//! The first component is a domain only if it has a dot, a colon or an upper-case letter, or is `localhost`.
//! Source: the grammar in the documentation of `github.com/distribution/reference`.
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestError};
use crate::kind::Kind;

/// The domain meant when a reference names none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag meant when a reference names neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// A parsed reference: a repository, and possibly a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference. The wording starts as Docker's does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text is empty.
    #[error("invalid reference format: the image name is empty")]
    Empty,
    /// 64 hexadecimal digits: an image id, which cannot be a name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Upper-case letters in the repository.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The repository is too long.
    #[error("repository name must not be more than {MAX_PATH} characters")]
    TooLong,
    /// The domain does not follow the grammar.
    #[error("invalid reference format: {0:?} is not a registry host name with an optional port")]
    Domain(String),
    /// A path component does not follow the grammar.
    #[error("invalid reference format: {component:?} in {text:?} is not a repository name: {reason}")]
    Path {
        /// The component.
        component: String,
        /// All of the text.
        text: String,
        /// What the grammar wants there.
        reason: &'static str,
    },
    /// The tag does not follow the grammar.
    #[error(
        "invalid reference format: {0:?} is not a tag (letters, digits, '_', '.' and '-', at most 128, not starting with '.' or '-')"
    )]
    Tag(String),
    /// The digest is not one.
    #[error("invalid reference format: {0}")]
    Digest(#[from] DigestError),
}

impl ReferenceError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Reference {
    /// Reads a reference in familiar or full form.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if looks_like_id(text) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase(clip(path)));
        }
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') && !path.is_empty() {
            format!("{OFFICIAL}{path}")
        } else {
            path.to_owned()
        };
        check_domain(domain)?;
        for component in path.split('/') {
            if let Err(reason) = check_component(component) {
                return Err(ReferenceError::Path { component: clip(component), text: clip(text), reason });
            }
        }
        if path.len() > MAX_PATH {
            return Err(ReferenceError::TooLong);
        }
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let digest = digest.map(str::parse).transpose()?;
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// The registry's domain, with its port: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/python`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The full name of the repository: `docker.io/library/python`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The short name of the repository: `python`, `user/app`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            // The short name of one that is called like an id would be read as that.
            Some(rest) if !rest.contains('/') && !looks_like_id(rest) => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The full form: `docker.io/library/python:3.11-slim`.
    pub fn full(&self) -> String {
        self.with_suffix(self.name())
    }

    /// The short form, which is also what `Display` prints.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }

    /// Whether there is neither a tag nor a digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The same reference, with `:latest` if it had neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The repository alone.
    #[must_use]
    pub fn repository(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// Whether both name the same repository.
    pub fn same_repository(&self, other: &Self) -> bool {
        self.domain == other.domain && self.path == other.path
    }
}

/// Whether this is what an image id without its algorithm looks like.
fn looks_like_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The domain and what follows it. See the module's first lines for the rule.
fn split_domain(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((LEGACY_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    }
}

fn check_domain(domain: &str) -> Result<(), ReferenceError> {
    let bad = || ReferenceError::Domain(clip(domain));
    let (host, port) = if let Some(rest) = domain.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or_else(bad)?;
        let valid = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        if !valid {
            return Err(bad());
        }
        (None, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(bad)?) })
    } else {
        match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        }
    };
    if let Some(host) = host {
        let label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !host.split('.').all(label) {
            return Err(bad());
        }
    }
    match port {
        Some(port) if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) => Err(bad()),
        _ => Ok(()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn check_component(component: &str) -> Result<(), &'static str> {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (component.bytes().next(), component.bytes().next_back()) else {
        return Err("a component is empty");
    };
    if let Some(bad) = component.bytes().find(|&b| !alphanumeric(b) && !b"._-".contains(&b)) {
        return Err(match bad {
            b':' | b'@' => "':' and '@' belong after the last component",
            b' ' | b'\t' => "it has a space",
            _ => "only a-z, 0-9, '.', '_' and '-' are allowed",
        });
    }
    if !alphanumeric(first) || !alphanumeric(last) {
        return Err("it must start and end with a letter or a digit");
    }
    let mut separators = component.split(|c: char| c.is_ascii_alphanumeric()).filter(|s| !s.is_empty());
    if separators.any(|s| !matches!(s, "." | "_" | "__") && !s.bytes().all(|b| b == b'-')) {
        return Err("between letters and digits only '.', '_', '__' or dashes may stand");
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), ReferenceError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if valid { Ok(()) } else { Err(ReferenceError::Tag(clip(tag))) }
}

fn clip(text: &str) -> String {
    text.chars().take(300).collect()
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.full())
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_what_docker_reads() {
        let at = |name: &str| format!("{name}@{DIGEST}");
        for (text, full, familiar) in [
            ("python:3.11-slim", "docker.io/library/python:3.11-slim", "python:3.11-slim"),
            ("python", "docker.io/library/python", "python"),
            ("docker.io/python", "docker.io/library/python", "python"),
            ("index.docker.io/library/python", "docker.io/library/python", "python"),
            ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
            ("user/app:1", "docker.io/user/app:1", "user/app:1"),
            ("a/b/c", "docker.io/a/b/c", "a/b/c"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("localhost:5000/x", "localhost:5000/x", "localhost:5000/x"),
            ("127.0.0.1:5000/x:y", "127.0.0.1:5000/x:y", "127.0.0.1:5000/x:y"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("ghcr.io/o/r:v1.2_3", "ghcr.io/o/r:v1.2_3", "ghcr.io/o/r:v1.2_3"),
            ("LOCAL/x", "LOCAL/x", "LOCAL/x"),
            ("a--b/c__d.e_f", "docker.io/a--b/c__d.e_f", "a--b/c__d.e_f"),
            ("x:_T-1", "docker.io/library/x:_T-1", "x:_T-1"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(
                (reference.full().as_str(), reference.to_string().as_str()),
                (full, familiar),
                "{text}"
            );
            assert_eq!(Reference::parse(full).unwrap(), reference, "{full} reads back");
        }
        let named_like_id = format!("library/{}", &DIGEST[7..]);
        assert_eq!(Reference::parse(&named_like_id).unwrap().familiar(), named_like_id);
        let both = Reference::parse(&at("python:3.11")).unwrap();
        assert_eq!((both.tag(), both.digest().unwrap().to_string().as_str()), (Some("3.11"), DIGEST));
        assert_eq!(both.to_string(), at("python:3.11"));
        assert_eq!(Reference::parse("x").unwrap().with_default_tag().tag(), Some("latest"));
        assert_eq!(Reference::parse(&at("x")).unwrap().with_default_tag().tag(), None);
    }

    #[test]
    fn refuses_with_the_reason() {
        let hex = &DIGEST[7..];
        let long = format!("a/{}", "b".repeat(254));
        let tag = format!("x:{}", "t".repeat(129));
        for (text, reason) in [
            ("", "empty"),
            (hex, "64-byte hexadecimal"),
            ("Python", "must be lowercase"),
            ("user/App:1", "must be lowercase"),
            ("x:", "not a tag"),
            ("x:-a", "not a tag"),
            ("x:.a", "not a tag"),
            ("x:a b", "not a tag"),
            ("x:a/b", "host name"),
            (tag.as_str(), "not a tag"),
            (long.as_str(), "255"),
            ("-x", "start and end"),
            ("x-", "start and end"),
            ("a___b", "between letters"),
            ("a..b", "between letters"),
            ("a._b", "between letters"),
            ("a//b", "empty"),
            ("/x", "empty"),
            ("x/", "empty"),
            ("https://x/y", "host name"),
            ("../x", "host name"),
            ("a.b:c/x", "host name"),
            ("[::1/x", "host name"),
            ("[::1]5000/x", "host name"),
            ("-a.b/x", "host name"),
            ("x y", "space"),
            ("x\n", "only a-z"),
            ("x@sha256:12", "digits"),
            ("x@md5:d41d8cd98f00b204e9800998ecf8427e", "unsupported digest"),
            ("x@", "invalid digest"),
        ] {
            let error = Reference::parse(text).map(|r| r.full()).unwrap_err().to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}
