//! What rbox may leave on a host, looked at from outside of rbox.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
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

/// Bridges of this suite's user-defined networks, and the links on these and on the default one.
fn links(suite: &Suite) -> BTreeSet<String> {
    let bridges: Vec<String> = networks(suite).into_iter().map(|network| network.bridge).collect();
    let all = bridges.iter().cloned().chain(suite.bridge());
    let ports = all.flat_map(|bridge| names(&Path::new("/sys/class/net").join(bridge).join("brif")));
    let made = bridges.iter().filter(|bridge| Path::new("/sys/class/net").join(bridge).exists()).cloned();
    ports.chain(made).collect()
}

/// A user-defined network as its record has it.
struct Network {
    id: String,
    bridge: String,
}

/// The user-defined networks that have records, or had when this was asked before: a bridge may be left without one.
fn networks(suite: &Suite) -> Vec<Network> {
    static SEEN: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = suite.root.join("network/networks");
    for name in names(&dir).iter().filter(|name| name.len() == 69) {
        let text = fs::read(dir.join(name)).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        if let (Some(id), Some(bridge)) = (record["id"].as_str(), record["bridge"].as_str()) {
            seen.insert((id.to_owned(), bridge.to_owned()));
        }
    }
    seen.iter().map(|(id, bridge)| Network { id: id.clone(), bridge: bridge.clone() }).collect()
}

/// State directories of other runs of rbox that are busy on this host: those of suites that run side by side with this one, and
/// those of the pairs of roots that their tests have to themselves.
fn other_states(suite: &Suite) -> Vec<PathBuf> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let beside = suite.scratch.parent().unwrap_or(Path::new("/"));
    let scratches = entries(beside).filter(|path| path.to_string_lossy().ends_with("-scratch"));
    let own =
        scratches.filter(|path| *path != suite.scratch).flat_map(|path| entries(&path).collect::<Vec<_>>());
    entries(Path::new("/run"))
        .filter(|path| *path != suite.state)
        .chain(own.map(|dir| dir.join("state")))
        .collect()
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
    let states = other_states(suite);
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

/// Elements of the maps and sets in this suite's firewall tables that name a published port, a container's link with its
/// addresses, or a network that a test made.
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
            if !ours {
                continue;
            }
            // Elements that name the default network's subnet or bridge stay with that.
            let types = one["type"].to_string();
            let of_container = ["inet_service", "ether_addr"].iter().any(|kind| types.contains(kind));
            for element in one["elem"].as_array().into_iter().flatten() {
                if of_container || element.to_string().contains("\"rb-") {
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
    for network in networks(suite) {
        let record = format!("network/networks/{}.json", network.id);
        if suite.root.join(&record).exists() {
            found.insert(format!("root/{record}"));
        }
        let live = format!("network/networks/{}", network.bridge);
        if suite.state.join(&live).exists() {
            found.insert(format!("state/{live}"));
        }
    }
    found.extend(names(&suite.state.join("links")).into_iter().map(|n| format!("state/links/{n}")));
    for dir in ["containers", "names", "trash", "volumes", "volumes/.tmp"] {
        // `.tmp` stays, what is made in it goes.
        let all = names(&suite.root.join(dir)).into_iter().filter(|name| name != ".tmp");
        found.extend(all.map(|n| format!("root/{dir}/{n}")));
    }
    found.extend(names(&suite.state.join("containers")).into_iter().map(|n| format!("state/containers/{n}")));
    // An address is a file named for it, and so is what a name leads to.
    walk_files(&suite.state.join("network"), &mut |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.parse::<std::net::IpAddr>().is_ok() {
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
        for family in ["ip", "ip6", "bridge"] {
            let _ = Command::new("nft").args(["delete", "table", family, &suite.bridge_name()]).output();
        }
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
