//! What rbox may leave on a host, looked at from outside of rbox.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Suite;

/// Everything on the host that belongs to a container of this suite. With no containers it is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) mounts: BTreeSet<String>,
    pub(crate) links: BTreeSet<String>,
    pub(crate) cgroups: BTreeSet<String>,
    pub(crate) processes: BTreeSet<String>,
    pub(crate) rules: BTreeSet<String>,
    pub(crate) files: BTreeSet<String>,
}

impl Left {
    /// Looks now.
    pub(crate) fn look(suite: &Suite) -> Self {
        Self {
            mounts: mounts(suite),
            links: links(suite),
            cgroups: cgroups(suite),
            processes: processes(suite),
            rules: rules(suite),
            files: files(suite),
        }
    }

    /// Nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Mounts at, or of something in, either root. The roots themselves may be mount points (a test's own).
fn mounts(suite: &Suite) -> BTreeSet<String> {
    let (root, state) = (suite.root.to_string_lossy().into_owned(), suite.state.to_string_lossy().into_owned());
    fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter(|l| l.contains(&*root) || l.contains(&*state))
        .filter(|l| !l.contains("-scratch"))
        .map(str::to_owned)
        .collect()
}

/// Links on this suite's bridge.
fn links(suite: &Suite) -> BTreeSet<String> {
    suite.bridge().map(|bridge| names(&Path::new("/sys/class/net").join(bridge).join("brif"))).unwrap_or_default()
}

/// Control groups below this suite's parent group, in every hierarchy.
fn cgroups(suite: &Suite) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let tags = suite.tags();
    walk(Path::new("/sys/fs/cgroup"), 0, &mut |dir| {
        let text = dir.to_string_lossy();
        // The parent group itself stays, as the bridge does; what is below it belongs to a container.
        if text.split('/').rev().skip(1).any(|part| tags.iter().any(|t| part.contains(t))) {
            found.insert(text.into_owned());
        }
    });
    found
}

fn walk(dir: &Path, depth: usize, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) && depth < 6 {
            visit(&entry.path());
            walk(&entry.path(), depth + 1, visit);
        }
    }
}

/// Processes that were started with this suite's roots: commands and monitors. A container's own processes are in its
/// cgroup, which cannot go before they do.
fn processes(suite: &Suite) -> BTreeSet<String> {
    let mine = format!("RBOX_STATE={}", suite.state.display());
    let exe = super::binary();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let is_rbox = fs::read_link(path.join("exe")).is_ok_and(|e| e == exe || e.to_string_lossy().contains("rbox"));
        if !is_rbox {
            continue;
        }
        let environ = fs::read(path.join("environ")).unwrap_or_default();
        if environ.split(|b| *b == 0).any(|v| v == mine.as_bytes()) {
            let cmdline = fs::read(path.join("cmdline")).unwrap_or_default();
            let words: Vec<_> = cmdline.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
            found.insert(format!("{} {}", entry.file_name().to_string_lossy(), words.join(" ")));
        }
    }
    found
}

/// Elements of the maps and sets in this suite's firewall table: one for each published port.
fn rules(suite: &Suite) -> BTreeSet<String> {
    let Ok(out) = Command::new("nft").args(["-j", "list", "ruleset"]).output() else { return BTreeSet::new() };
    let Ok(all) = serde_json::from_slice::<serde_json::Value>(&out.stdout) else { return BTreeSet::new() };
    let tags = suite.tags();
    let mut found = BTreeSet::new();
    for object in all["nftables"].as_array().into_iter().flatten() {
        for kind in ["map", "set"] {
            let one = &object[kind];
            let ours = one["table"].as_str().is_some_and(|t| tags.iter().any(|tag| t.contains(tag)));
            // Elements that name the subnet itself belong to the network, not to a container.
            if ours && one["type"].to_string().contains("inet_service") {
                for element in one["elem"].as_array().into_iter().flatten() {
                    found.insert(format!("{}: {element}", one["name"]));
                }
            }
        }
    }
    found
}

/// Records, names, live state and addresses.
fn files(suite: &Suite) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for dir in ["containers", "names", "trash", "volumes"] {
        found.extend(names(&suite.root.join(dir)).into_iter().map(|n| format!("root/{dir}/{n}")));
    }
    found.extend(names(&suite.state.join("containers")).into_iter().map(|n| format!("state/containers/{n}")));
    // An address is a file named for it.
    walk_files(&suite.state.join("network"), &mut |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.parse::<std::net::Ipv4Addr>().is_ok() {
            found.insert(path.to_string_lossy().into_owned());
        }
    });
    found
}

fn walk_files(dir: &Path, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk_files(&entry.path(), visit);
        } else {
            visit(&entry.path());
        }
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default()
}
