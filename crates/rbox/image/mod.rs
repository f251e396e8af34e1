//! Commands on images.

pub(crate) mod archive;
pub(crate) mod history;
pub(crate) mod image_mount;
pub(crate) mod image_tree;
pub(crate) mod images;
pub(crate) mod imagetools;
mod imagetools_fields;
pub(crate) mod layers;
pub(crate) mod login;
pub(crate) mod manifest;
pub(crate) mod progress;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rmi;
pub(crate) mod search;
pub(crate) mod sign;
