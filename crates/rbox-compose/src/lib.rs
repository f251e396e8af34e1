//! Compose files: from files to a project, and what `config` says of it. Nothing here runs anything; files are read and nothing else.
//!
//! [`load`] is the door. The words of errors are Compose's, where it has words for it, with the place in the file.

mod consistency;
mod environment;
mod error;
mod load;
mod loaded;
pub mod model;
mod output;
mod schema;
mod words;
mod yaml;

pub use environment::{Environment, Origin, Shell, Use, Variable};
pub use error::{ComposeError, Place};
pub use load::Options;
pub use loaded::{Loaded, Named, load};
