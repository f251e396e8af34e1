//! What rbox may leave on a host, looked at from outside of rbox.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

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
    let (root, state) =
        (suite.root.to_string_lossy().into_owned(), suite.state.to_string_lossy().into_owned());
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
    suite
        .bridge()
        .map(|bridge| names(&Path::new("/sys/class/net").join(bridge).join("brif")))
        .unwrap_or_default()
}

/// Groups that were there when the test began: of other runs of rbox on this host.
static OTHERS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Remembers whose groups are none of this test's.
pub(crate) fn remember_others() {
    *OTHERS.lock().unwrap_or_else(PoisonError::into_inner) = all_groups();
}

/// Control groups of containers, in every hierarchy, that came with this test. Groups bear containers' ids; those of
/// another pair of roots that is busy at the same time are told by its records.
fn cgroups(suite: &Suite) -> BTreeSet<String> {
    let others = OTHERS.lock().unwrap_or_else(PoisonError::into_inner);
    let states: Vec<_> = fs::read_dir("/run")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| *p != suite.state)
        .collect();
    let is_others = |group: &str| {
        let id = group.rsplit('/').next().unwrap_or_default();
        others.contains(group) || states.iter().any(|s| s.join("containers").join(id).exists())
    };
    all_groups().into_iter().filter(|group| !is_others(group)).collect()
}

/// Groups named by an id of 64 hex digits below a group of rbox's.
fn all_groups() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), 0, &mut |dir| {
        let text = dir.to_string_lossy();
        let name = text.rsplit('/').next().unwrap_or_default();
        if text.contains("/rbox") && name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
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
        let is_rbox =
            fs::read_link(path.join("exe")).is_ok_and(|e| e == exe || e.to_string_lossy().contains("rbox"));
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
    let Ok(out) = Command::new("nft").args(["-j", "list", "ruleset"]).output() else {
        return BTreeSet::new();
    };
    let Ok(all) = serde_json::from_slice::<serde_json::Value>(&out.stdout) else { return BTreeSet::new() };
    let table = suite.bridge_name();
    let mut found = BTreeSet::new();
    for object in all["nftables"].as_array().into_iter().flatten() {
        for kind in ["map", "set"] {
            let one = &object[kind];
            let ours = one["table"].as_str().is_some_and(|t| t == table);
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

/// After a failed test: what is left goes without the help of the binary that failed.
pub(crate) fn take_away_by_hand(suite: &Suite) {
    let left = Left::look(suite);
    let kill =
        |pid: &str| drop(Command::new("kill").args(["-9", pid]).stderr(std::process::Stdio::null()).status());
    for line in &left.processes {
        kill(line.split(' ').next().unwrap_or_default());
    }
    for group in &left.cgroups {
        let procs = fs::read_to_string(Path::new(group).join("cgroup.procs")).unwrap_or_default();
        procs.lines().for_each(kill);
    }
    for link in &left.links {
        let _ = Command::new("ip").args(["link", "delete", link]).status();
    }
    if !left.rules.is_empty() {
        let _ = Command::new("nft").args(["delete", "table", "ip", &suite.bridge_name()]).status();
    }
    for file in &left.files {
        let path = match (file.strip_prefix("root/"), file.strip_prefix("state/")) {
            (Some(rest), _) => suite.root.join(rest),
            (_, Some(rest)) => suite.state.join(rest),
            _ => file.into(),
        };
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
    super::poll(std::time::Duration::from_secs(3), || {
        // Each is tried at each turn: a group may be free only after one below it.
        let still: Vec<_> = left
            .cgroups
            .iter()
            .filter(|group| fs::remove_dir(group).is_err() && Path::new(group).exists())
            .collect();
        still.is_empty()
    });
}
