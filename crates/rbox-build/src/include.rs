//! Where the files of INCLUDE are read: below the root of a context, whatever that is.

use std::collections::BTreeMap;
use std::path::Path;

use crate::context::{Context, NamedContext};
use crate::dockerfile::{IncludeError, Included, Sources};

/// Reads what a Dockerfile includes. `file_in_context`: its path below the context, if it is there.
///
/// # Errors
/// A file is not there, or cannot be included.
pub fn include(
    file_name: &str,
    text: String,
    file_in_context: Option<&str>,
    context: &Context,
    contexts: &BTreeMap<String, NamedContext>,
) -> Result<Sources, IncludeError> {
    let mut read = |included: &Included| {
        let context = match included.context.as_ref().map(|name| (name, contexts.get(name))) {
            None => context,
            Some((_, Some(NamedContext::Files(context)))) => context,
            Some((name, Some(NamedContext::Image(_)))) => {
                return Err(format!("the context {name} is an image: files are included from directories"));
            }
            Some((name, None)) => {
                return Err(format!("there is no context {name}: give --build-context {name}=DIRECTORY"));
            }
        };
        let name = included.path.to_string_lossy();
        match context.read(&name) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) if matches!(context, Context::Empty) => {
                Err("the Dockerfile came alone: there is no context to read it from".to_owned())
            }
            Ok(None) => Err("no such file in the context".to_owned()),
            Err(error) => Err(crate::error::BuildError::from(error).chain()),
        }
    };
    Sources::read(file_name, text, file_in_context.map(Path::new), &mut read)
}
