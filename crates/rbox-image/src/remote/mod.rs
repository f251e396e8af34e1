//! Images in registries, without the store: what `manifest` and `imagetools` work on.
mod copying;
mod error;
#[cfg(test)]
mod faults;
mod image;
mod list;
mod reading;
mod tools;

pub use error::RemoteError;
pub use image::{Remote, RemoteImage, Say};
pub use list::{Annotation, ListedImage, ManifestLists};
pub use reading::RemoteBlob;
pub use tools::{Combined, ImageTools, Source};
