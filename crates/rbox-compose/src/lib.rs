//! Compose: from files to a project, and from a project and what runs of it to containers.
//!
//! [`load`] is the door of the first half, which reads files and does nothing else; [`Observed`] says what there is. The words of errors are Compose's, where it has words for it, with the place in the file.

pub mod bake;
mod consistency;
mod environment;
mod error;
pub mod labels;
mod load;
mod loaded;
pub mod model;
mod observed;
mod output;
pub mod plan;
mod request;
pub mod run;
mod schema;
mod words;
mod yaml;

pub use environment::{Environment, Origin, Shell, Use, Variable};
pub use error::{ComposeError, Place, RunError};
pub use load::{Options, Remote, check_name};
pub use loaded::{Loaded, Named, load, load_telling};
pub use observed::{Instance, Observed};
pub use request::{container_name, image_name, mounted_images};
