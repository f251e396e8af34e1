//! YAML as Compose reads and writes it: go-yaml's rules for scalars, its layout of what is written.

mod node;
mod out;
mod read;
mod scalar;
mod write;

pub(crate) use node::{At, Map, Node, Value};
pub(crate) use out::Out;
pub(crate) use read::{Document, read};
pub(crate) use write::{json, natural, yaml};
