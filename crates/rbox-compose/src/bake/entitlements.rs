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
                ("network.host" | "security.insecure" | "ssh" | "device", None)
                | ("device" | "cache.host" | "network", Some(_)) => {
                    grants.plain.insert(text.clone());
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
                ("image" | "image.push" | "image.load", _) => {}
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
            missing.extend(self.missing_of(target, plan, directory, checks_paths));
        }
        Ok(missing.into_iter().collect())
    }

    /// The same of one target, as the paths are now: what was built before it may have put links there.
    pub fn missing_of(
        &self,
        target: &Target,
        plan: &Plan,
        directory: &Path,
        checks_paths: bool,
    ) -> BTreeSet<String> {
        let mut missing: BTreeSet<String> = BTreeSet::new();
        // Whatever `build --allow` may know: nothing is granted by the file that asks for it.
        let is_given = |one: &String| {
            let is_device = one.starts_with("device=") && self.plain.contains("device");
            is_device || self.plain.contains(one) || plan.allowed.entitlements.contains(one)
        };
        missing.extend(target.entitlements.iter().filter(|one| !is_given(one)).cloned());
        let network = match target.network.as_deref() {
            None | Some("" | "default" | "none") => None,
            Some("host") => Some("network.host".to_owned()),
            Some(name) => Some(format!("network={name}")),
        };
        missing.extend(network.filter(|one| !is_given(one)));
        if checks_paths {
            self.add_paths(target, plan, directory, &mut missing);
        }
        missing
    }

    fn add_paths(&self, target: &Target, plan: &Plan, directory: &Path, missing: &mut BTreeSet<String>) {
        if target.ssh.iter().any(|ssh| ssh.paths.is_empty()) && !self.plain.contains("ssh") {
            missing.insert("ssh".to_owned());
        }
        let (reads, writes) = paths(target, directory);
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
}

/// Paths of this host that a target reads, and those that it writes, as `build` takes its words.
fn paths(target: &Target, directory: &Path) -> (Vec<String>, Vec<String>) {
    // For `build` a directory of such a name is a directory.
    let is_here = |path: &str| !is_elsewhere(path) || directory.join(path).symlink_metadata().is_ok();
    let stripped = |path: &str| path.strip_prefix("cwd://").unwrap_or(path).to_owned();
    let mut reads = Vec::new();
    let context = target.context.as_deref().unwrap_or(".");
    if is_here(context) {
        reads.push(stripped(context));
    }
    if target.dockerfile_inline.is_none()
        && let Some(file) = &target.dockerfile
    {
        match file.strip_prefix("cwd://") {
            Some(own) => reads.push(own.to_owned()),
            None if is_here(context) => {
                reads.push(Path::new(&stripped(context)).join(file).to_string_lossy().into_owned());
            }
            None => {}
        }
    }
    reads.extend(target.contexts.values().filter(|path| is_here(path)).map(|path| stripped(path)));
    for secret in &target.secrets {
        // Without a file and without a variable its name is that of a file.
        match (secret.source.as_str(), secret.variable.as_str()) {
            ("", "") => reads.push(secret.id.clone()),
            ("", _) => {}
            (source, _) => reads.push(source.to_owned()),
        }
    }
    reads.extend(target.ssh.iter().flat_map(|one| one.paths.iter().cloned()));
    let path = |key: &'static str| {
        move |one: &super::entries::Entry| one.attributes.get(key).filter(|path| *path != "-").cloned()
    };
    reads.extend(target.cache_from.iter().filter_map(path("src")));
    let mut writes: Vec<String> = target.cache_to.iter().flatten().filter_map(path("dest")).collect();
    writes.extend(target.outputs.iter().flatten().filter_map(path("dest")));
    (reads, writes)
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
