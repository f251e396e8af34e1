//! Repositories that stay: a project's directory, which containers have mounted, is in one.

use std::io;
use std::path::{Path, PathBuf};

use rbox_sys::own;

use super::error::{ContextError, io_error};
use super::git::{Repository, without_password};
use super::work::Work;

/// Whether a name is of a repository.
pub fn is_repository(name: &str) -> bool {
    Repository::parse(name).is_some()
}

/// A repository as it is now: its commit in a directory below `kept`, which is fetched if it is not there, and there the directory that
/// the URL names. `build_dir`: where builds keep what they need.
///
/// # Errors
/// It cannot be had, or what it has there leads out of it.
pub fn keep_repository(url: &str, kept: &Path, build_dir: &Path) -> Result<PathBuf, ContextError> {
    let wrong = |message: &str| ContextError::Git {
        url: without_password(url, url),
        message: without_password(url, message),
    };
    let repository = match Repository::parse(url) {
        Some(repository) => repository.map_err(|message| wrong(&message))?,
        None => return Err(wrong("it is no URL of a git repository")),
    };
    own::make_private(kept).map_err(io_error("make directory", kept))?;
    // Passwords stand in no name. The last part is what a project is called that says no name.
    let named = rbox_image::hash::sha256(repository.url.as_bytes()).hex();
    let last = base(&repository.url);
    let place = |commit: &str| kept.join(format!("{}-{commit}", &named[..16])).join(&last);
    if let Some(commit) = repository.resolve(kept)? {
        let place = place(&commit);
        if place.is_dir() {
            return repository.subdir(&place);
        }
    }
    let work = Work::begin(build_dir)?;
    let fresh = work.fresh();
    let (_, commit) = repository.clone().keeping_git(Some(false)).get(&fresh)?;
    let place = place(&commit);
    let above = place.parent().unwrap_or(kept);
    own::make_private(above).map_err(io_error("make directory", above))?;
    match std::fs::rename(&fresh, &place) {
        Ok(()) => {}
        // Another command was faster.
        Err(_) if place.is_dir() => {}
        Err(error) => return Err(io_error("move to", &place)(error)),
    }
    repository.subdir(&place)
}

/// The repository's own name.
fn base(url: &str) -> String {
    let path = url.trim_end_matches('/').trim_end_matches(".git");
    let last = path.rsplit(['/', ':']).next().unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = last.chars().filter(plain).collect();
    if name.trim_matches('.').is_empty() { "repository".to_owned() } else { name }
}

/// A file below a directory, which no link of it leads out of.
///
/// # Errors
/// It is not there, or leads out.
pub fn file_within(directory: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    let whole = directory.canonicalize()?;
    match whole.join(name).canonicalize() {
        Ok(found) if found.starts_with(&whole) && found.is_file() => Ok(Some(found)),
        Ok(_) => Err(io::Error::other(format!("{name} is no regular file of it"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::base;

    #[test]
    fn repositories_have_names() {
        for (url, name) in [
            ("https://host/a/shop.git", "shop"),
            ("git@host:shop", "shop"),
            ("git://host/a/shop/", "shop"),
            ("https://host/..git", "repository"),
            ("https://host/a/s%20x.git", "s20x"),
        ] {
            assert_eq!(base(url), name, "{url}");
        }
    }
}
