//! The ARGs that each Dockerfile has: the platforms, and the stage that is wanted.

use std::collections::BTreeMap;

use rbox_spec::Platform;

/// Their names and values; a build argument of the same name counts instead. `build`: the platform that builds, `target`: the one that
/// is built for.
pub(crate) fn arguments(
    build: &Platform,
    target: &Platform,
    stage: &str,
    given: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        for (name, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", String::new()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ] {
            all.push((format!("{prefix}{name}"), value));
        }
    }
    all.push(("TARGETSTAGE".to_owned(), stage.to_owned()));
    for (name, value) in &mut all {
        if let Some(given) = given.get(name) {
            value.clone_from(given);
        }
    }
    all
}
