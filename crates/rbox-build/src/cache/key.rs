//! Keys of steps: what decides what a step makes, part by part, so that it can be said which one has changed.

use std::fmt;

use rbox_image::hash::Hasher;
use rbox_spec::Digest;
use rbox_spec::digest::Algorithm;
use serde::{Deserialize, Serialize};

use crate::tree::field;

/// What a step's result is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Key(String);

impl Key {
    /// Of a tree that is known by the chain ID of its layers.
    pub(crate) fn of_layers(chain: Option<&Digest>) -> Self {
        let mut key = KeyBuilder::new("layers");
        key.add(Part::Base, &chain.map(ToString::to_string).unwrap_or_default());
        key.finish().0
    }

    pub(crate) fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a part of a key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// The tree that it works on.
    Base,
    /// The instruction, variables expanded.
    Instruction,
    /// A variable of the environment.
    Env(String),
    /// An ARG.
    Arg(String),
    /// Anything else, by its name.
    Other(String),
    /// Files that it reads, by where they come from.
    Files(String),
}

/// Puts a key together.
pub(crate) struct KeyBuilder {
    hasher: Hasher,
    parts: Vec<(Part, String)>,
}

impl KeyBuilder {
    pub(crate) fn new(kind: &str) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        // Should what steps make become different, this number does as well.
        field(&mut hasher, b"1");
        field(&mut hasher, kind.as_bytes());
        Self { hasher, parts: Vec::new() }
    }

    pub(crate) fn add(&mut self, part: Part, value: &str) {
        field(&mut self.hasher, format!("{part:?}").as_bytes());
        field(&mut self.hasher, value.as_bytes());
        self.parts.push((part, value.to_owned()));
    }

    pub(crate) fn other(&mut self, name: &str, value: &str) {
        self.add(Part::Other(name.to_owned()), value);
    }

    /// The key, and what it is made of.
    pub(crate) fn finish(self) -> (Key, Vec<(Part, String)>) {
        (Key(self.hasher.finish().hex()), self.parts)
    }
}
