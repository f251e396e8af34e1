//! What a bake file may reach: paths outside of the current directory, the host's network, all privileges.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::BakeError;
use super::plan::{Plan, is_elsewhere};
use super::target::Target;

/// What `--allow` says.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    plain: BTreeSet<String>,
    read: Vec<String>,
    write: Vec<String>,
}

impl Grants {
    /// Reads all of `--allow`.
    ///
    /// # Errors
    /// One is not known.
    pub fn parse(all: &[String]) -> Result<Self, BakeError> {
        let mut grants = Self::default();
        for text in all {
            let (key, value) =
                text.split_once('=').map_or((text.as_str(), None), |(key, value)| (key, Some(value)));
            match (key, value) {
                ("network.host" | "security.insecure" | "ssh", None) => {
                    grants.plain.insert(key.to_owned());
                }
                ("fs.read", Some(path)) => grants.read.push(path.to_owned()),
                ("fs.write", Some(path)) => grants.write.push(path.to_owned()),
                ("fs", Some(path)) => {
                    grants.read.push(path.to_owned());
                    grants.write.push(path.to_owned());
                }
                ("fs" | "fs.read" | "fs.write", None) => {
                    return Err(BakeError::Invalid(format!(
                        "--allow {text}: a path is missing: {text}=PATH, or {text}=*"
                    )));
                }
                // There is nothing that these are for.
                ("device" | "image" | "image.push" | "image.load", _) => {}
                _ => {
                    return Err(BakeError::Invalid(format!(
                        "--allow {text}: unknown entitlement key {key:?}"
                    )));
                }
            }
        }
        Ok(grants)
    }

    /// The words of `--allow` that the targets need and that were not given.
    ///
    /// # Errors
    /// The current directory cannot be found.
    pub fn missing(
        &self,
        plan: &Plan,
        directory: &Path,
        checks_paths: bool,
    ) -> Result<Vec<String>, BakeError> {
        let mut missing = BTreeSet::new();
        for target in plan.targets.values() {
            for one in &target.entitlements {
                let is_given = self.plain.contains(one) || plan.allowed.entitlements.contains(one);
                if matches!(one.as_str(), "network.host" | "security.insecure") && !is_given {
                    missing.insert(one.clone());
                }
            }
            if !checks_paths {
                continue;
            }
            if target.ssh.iter().any(|ssh| ssh.paths.is_empty()) && !self.plain.contains("ssh") {
                missing.insert("ssh".to_owned());
            }
            let (reads, writes) = paths(target);
            let given = |own: &[String], set: &[String]| [own, set, &[".".to_owned()]].concat();
            for (kind, paths, given) in [
                ("fs.read", reads, given(&self.read, &plan.allowed.read)),
                ("fs.write", writes, given(&self.write, &plan.allowed.write)),
            ] {
                if given.iter().any(|one| one == "*") {
                    continue;
                }
                let roots: Vec<PathBuf> =
                    given.iter().filter(|one| !one.is_empty()).map(|one| real(directory, one)).collect();
                let outside = paths.iter().map(|path| real(directory, path));
                let outside = outside.filter(|path| !roots.iter().any(|root| path.starts_with(root)));
                missing.extend(outside.map(|path| format!("{kind}={}", path.display())));
            }
        }
        Ok(missing.into_iter().collect())
    }
}

/// Paths of this host that a target reads, and those that it writes.
fn paths(target: &Target) -> (Vec<String>, Vec<String>) {
    let mut reads = Vec::new();
    let context = target.context.as_deref().unwrap_or(".");
    if !is_elsewhere(context) {
        reads.push(context.to_owned());
        if target.dockerfile_inline.is_none()
            && let Some(file) = &target.dockerfile
        {
            reads.push(format!("{context}/{file}"));
            if file.starts_with('/') {
                reads.pop();
                reads.push(file.clone());
            }
        }
    }
    reads.extend(target.contexts.values().filter(|path| !is_elsewhere(path)).cloned());
    reads.extend(target.secrets.iter().filter(|one| !one.source.is_empty()).map(|one| one.source.clone()));
    reads.extend(target.ssh.iter().flat_map(|one| one.paths.iter().cloned()));
    let local = |key: &'static str| {
        move |one: &super::entries::Entry| one.attributes.get(key).filter(|_| one.kind == "local").cloned()
    };
    reads.extend(target.cache_from.iter().filter_map(local("src")));
    let mut writes: Vec<String> = target.cache_to.iter().flatten().filter_map(local("dest")).collect();
    let outputs = target.outputs.iter().flatten();
    writes.extend(outputs.filter_map(|one| one.attributes.get("dest").filter(|dest| *dest != "-").cloned()));
    let strip = |path: String| path.strip_prefix("cwd://").map(str::to_owned).unwrap_or(path);
    (reads.into_iter().map(strip).collect(), writes)
}

/// Where a path really leads, as far as it is there.
fn real(directory: &Path, path: &str) -> PathBuf {
    let mut rest = Vec::new();
    let whole = directory.join(path);
    let mut at = whole.as_path();
    loop {
        if let Ok(found) = at.canonicalize() {
            return rest.iter().rev().fold(found, |all: PathBuf, part: &std::ffi::OsString| {
                match part.to_str() {
                    Some("..") => all.parent().map(Path::to_owned).unwrap_or_default(),
                    _ => all.join(part),
                }
            });
        }
        match (at.parent(), at.components().next_back()) {
            (Some(parent), Some(last)) => {
                rest.push(last.as_os_str().to_owned());
                at = parent;
            }
            _ => return whole.clone(),
        }
    }
}
