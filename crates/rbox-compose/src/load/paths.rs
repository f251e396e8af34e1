//! Relative paths in a tree, made absolute, or relative to another directory.

use std::path::Path;

use rbox_spec::lexical::clean;

use super::tree::{Fault, matches, walk};
use crate::yaml::{Node, Value};

/// One path behind another.
pub(crate) fn join(base: &str, path: &str) -> String {
    if base.is_empty() { clean(path) } else { clean(&format!("{base}/{path}")) }
}

/// The directory of a path.
pub(crate) fn parent(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) => "/".into(),
        Some((directory, _)) => clean(directory),
        None => ".".into(),
    }
}

/// A path as it is named from `base`, where both are absolute.
pub(crate) fn relative(base: &str, target: &str) -> String {
    let (base, target) = (clean(base), clean(target));
    let parts =
        |path: &str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (base, target) = (parts(&base), parts(&target));
    let same = base.iter().zip(&target).take_while(|(one, other)| one == other).count();
    let mut path = vec!["..".to_owned(); base.len() - same];
    path.extend(target[same..].iter().cloned());
    if path.is_empty() { ".".into() } else { path.join("/") }
}

/// Where relative paths lead.
pub(crate) struct Resolver<'a> {
    pub(crate) directory: &'a str,
    pub(crate) home: Option<&'a str>,
}

impl Resolver<'_> {
    fn expand(&self, path: &str) -> String {
        match (path.strip_prefix('~'), self.home) {
            (Some(rest), Some(home)) => join(home, rest),
            _ => path.to_owned(),
        }
    }

    /// A path of this host.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let path = self.expand(path);
        if path.is_empty() || path.starts_with('/') { path } else { join(self.directory, &path) }
    }

    /// A path of this host, or one of Windows.
    fn maybe_unix(&self, path: &str) -> String {
        let path = self.expand(path);
        let bytes = path.as_bytes();
        let windows = path.starts_with("\\\\")
            || bytes.first().is_some_and(u8::is_ascii_alphabetic)
                && bytes.get(1) == Some(&b':')
                && matches!(bytes.get(2), Some(b'\\' | b'/'));
        if path.starts_with('/') || windows { path } else { join(self.directory, &path) }
    }

    fn context(&self, path: &str) -> String {
        const REMOTE: &[&str] =
            &["https://", "http://", "git://", "ssh://", "github.com/", "git@", "service:"];
        if path.contains("://") || REMOTE.iter().any(|prefix| path.starts_with(prefix)) {
            return path.to_owned();
        }
        self.absolute(path)
    }

    fn watched(&self, path: &str) -> String {
        let path = self.absolute(path);
        let mut seen = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            seen = format!("{seen}/{part}");
            if Path::new(&seen).is_symlink() {
                let target = std::fs::canonicalize(&seen).ok();
                return match target.as_deref().and_then(Path::to_str) {
                    Some(target) => path.replacen(&seen, target, 1),
                    None => path,
                };
            }
        }
        path
    }

    /// Changes all paths of a tree.
    pub(crate) fn resolve(&self, root: &mut Node) -> Result<(), Fault> {
        walk(root, &mut Vec::new(), &mut |node, path| {
            let at = node.at;
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            let text = |node: &mut Node, change: &dyn Fn(&str) -> String| {
                if let Value::Text(text) = &mut node.value {
                    *text = change(text);
                }
            };
            match names.as_slice() {
                ["services", _, "build", "context"] | ["services", _, "build", "additional_contexts", _] => {
                    text(node, &|path| self.context(path));
                }
                ["services", _, "build", "ssh", _] | ["configs" | "secrets", _, "file"] => {
                    text(node, &|path| self.maybe_unix(path));
                }
                ["services", _, "env_file", _, "path"]
                | ["services", _, "label_file", _]
                | ["services", _, "extends", "file"] => text(node, &|path| self.absolute(path)),
                ["services", _, "develop", "watch", _, "path"] => text(node, &|path| self.watched(path)),
                ["services", _, "volumes", _] => self.mount(node, at)?,
                ["volumes", _] => self.device(node),
                _ => {}
            }
            Ok(!matches(path, "services.*.volumes.*"))
        })
    }

    fn mount(&self, node: &mut Node, at: crate::yaml::At) -> Result<(), Fault> {
        let Some(mount) = node.as_map_mut() else { return Ok(()) };
        if mount.get("type").and_then(Node::as_text) != Some("bind") {
            return Ok(());
        }
        match mount.get_mut("source") {
            Some(Node { value: Value::Text(source), .. }) => {
                *source = self.maybe_unix(source);
                Ok(())
            }
            _ => Err((at, "invalid mount config for type \"bind\": field Source must not be empty".into())),
        }
    }

    /// A volume of the local driver that is a bind mount of a directory.
    fn device(&self, node: &mut Node) {
        let Some(volume) = node.as_map_mut() else { return };
        if volume.get("driver").and_then(Node::as_text) != Some("local") {
            return;
        }
        let Some(options) = volume.get_mut("driver_opts").and_then(Node::as_map_mut) else { return };
        if options.get("o").and_then(Node::as_text) == Some("bind")
            && let Some(Node { value: Value::Text(device), .. }) = options.get_mut("device")
        {
            *device = self.maybe_unix(device);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_joined_and_told_from_elsewhere() {
        assert_eq!(join("/a/b", "../c/./d"), "/a/c/d");
        assert_eq!(join("sub", "./data"), "sub/data");
        assert_eq!(relative("/a/b", "/a/c/d"), "../c/d");
        assert_eq!(relative("/a", "/a"), ".");
        assert_eq!(parent("/a"), "/");
        let resolver = Resolver { directory: "/w", home: Some("/home/x") };
        assert_eq!(resolver.absolute("~/data"), "/home/x/data");
        assert_eq!(resolver.maybe_unix("C:\\data"), "C:\\data");
        assert_eq!(resolver.context("https://example.org/x.git"), "https://example.org/x.git");
    }
}
