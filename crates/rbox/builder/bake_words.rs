//! From a target to the words of `rbox build`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use rbox_build::is_remote;
use rbox_compose::bake::Target;

use crate::builder::flags;
use crate::builder::words::{Words, in_memory};
use crate::command::error::bad_input;

/// What the words depend on besides the target.
pub(crate) struct Around<'a> {
    /// Images of targets that were built already, by their names.
    pub(crate) built: &'a BTreeMap<String, String>,
    /// Others have it as a context, so that it has to be an image.
    pub(crate) is_needed: bool,
    /// It is told about and not built: no image is looked at.
    pub(crate) is_told: bool,
    /// As JSON.
    pub(crate) is_json: bool,
    pub(crate) progress: Option<&'a str>,
}

/// The words after `rbox build`. Texts that are no files are held in memory, as files of this process that `held` keeps.
pub(crate) fn words(
    target: &Target,
    around: &Around<'_>,
    held: &mut Vec<OwnedFd>,
) -> anyhow::Result<Vec<String>> {
    let mut words = Words::default();
    let context = target.context.as_deref().unwrap_or(".");
    if let Some(inline) = &target.dockerfile_inline {
        words.add("--file", [in_memory(inline.as_bytes(), held)?]);
    } else if let Some(own) = target.dockerfile.as_deref().and_then(|file| file.strip_prefix("cwd://"))
        && is_remote(context)
    {
        // `build` looks for it in the repository.
        let text = flags::read(Path::new(own))?;
        words.add("--file", [in_memory(text.as_bytes(), held)?]);
    } else {
        words.add("--file", dockerfile(context, target.dockerfile.as_deref()));
    }
    // What is only another one's context has no name of its own.
    let tags = target.tags.iter().flatten().filter(|_| !target.linked);
    words.add("--tag", tags.cloned());
    words.add("--build-arg", target.args.iter().map(pair));
    words.add("--label", target.labels.iter().map(pair));
    words.add("--annotation", target.annotations.iter().cloned());
    words.add("--attest", target.attest.iter().map(rbox_compose::bake::Attest::words));
    let is_meant = |context: &str| !around.is_told || !context.starts_with("target:");
    for (name, context) in target.contexts.iter().filter(|(_, context)| is_meant(context)) {
        words.add("--build-context", [format!("{name}={}", named(context, around)?)]);
    }
    words.add("--cache-from", target.cache_from.iter().map(rbox_compose::bake::Entry::words));
    words.add("--cache-to", target.cache_to.iter().flatten().map(rbox_compose::bake::Entry::words));
    words.add("--output", outputs(target, around.is_needed));
    words.add("--target", target.target.clone());
    words.add("--secret", target.secrets.iter().map(rbox_compose::bake::Secret::words));
    for ssh in &target.ssh {
        if ssh.paths.len() > 1 {
            return Err(bad_input(format!("ssh {:?} has several paths: an agent's socket is one", ssh.id)));
        }
        words.add("--ssh", [ssh.words()]);
    }
    words.add("--platform", target.platforms.iter().flatten().cloned());
    words.add("--network", target.network.clone().filter(|network| !network.is_empty()));
    words.add("--no-cache-filter", target.no_cache_filter.iter().cloned());
    words.add("--shm-size", target.shm_size.clone());
    words.add("--ulimit", target.ulimits.iter().cloned());
    words.add("--allow", target.entitlements.iter().cloned());
    for (name, addresses) in &target.extra_hosts {
        words.add("--add-host", addresses.split(',').map(|address| format!("{name}:{address}")));
    }
    for (name, value) in target.resources.iter().flatten() {
        words.add(&format!("--{name}"), [value.clone()]);
    }
    let format = if around.is_json { ",format=json" } else { "" };
    words.add(
        "--call",
        target.call.as_ref().filter(|call| !call.is_empty()).map(|call| call.clone() + format),
    );
    words.add("--progress", around.progress.map(str::to_owned));
    for (flag, given) in [("--no-cache", target.no_cache), ("--pull", target.pull)] {
        words.0.extend((given == Some(true)).then(|| flag.to_owned()));
    }
    // Whatever it begins with, it is no flag.
    words.0.extend(["--".to_owned(), context.to_owned()]);
    Ok(words.0)
}

fn pair((key, value): (&String, &String)) -> String {
    format!("{key}={value}")
}

/// The Dockerfile is named from the context, where that is a directory. None: by its usual name.
fn dockerfile(context: &str, file: Option<&str>) -> Option<String> {
    let file = file.filter(|file| *file != "Dockerfile")?;
    if let Some(own) = file.strip_prefix("cwd://") {
        return Some(own.to_owned());
    }
    if is_remote(context) {
        return Some(file.to_owned());
    }
    Some(Path::new(context).join(file).to_string_lossy().into_owned())
}

fn named(context: &str, around: &Around<'_>) -> anyhow::Result<String> {
    let Some(of) = context.strip_prefix("target:") else {
        return Ok(context.strip_prefix("cwd://").map_or_else(
            || context.to_owned(),
            |own| if own.is_empty() { ".".to_owned() } else { own.to_owned() },
        ));
    };
    match around.built.get(of) {
        Some(image) => Ok(format!("docker-image://{image}")),
        None => Err(bad_input(format!("its context {of} made no image"))),
    }
}

/// Where it goes. What another target needs is an image as well.
fn outputs(target: &Target, is_needed: bool) -> Vec<String> {
    let mut all: Vec<String> = if target.linked {
        Vec::new()
    } else {
        target.outputs.iter().flatten().map(rbox_compose::bake::Entry::words).collect()
    };
    let is_image = |words: &String| {
        ["type=image", "type=registry", "type=docker", "type=oci"].iter().any(|kind| words.starts_with(kind))
    };
    if is_needed && !all.is_empty() && !all.iter().any(is_image) {
        all.push("type=docker".to_owned());
    }
    all
}
