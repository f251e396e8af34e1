//! A container's control group: made, found again from its record, deleted.

use crate::dir;
use crate::error::{CgroupError, Result};
use crate::hierarchy::{Controller, Hierarchy, V2_CONTROLLERS};
use crate::{device, limits};
use rbox_spec::Resources;
use rbox_sys::SysError;
use rbox_sys::error::told;
use rbox_sys::trace::{quoted, step};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a group's last processes may take to leave it before deleting gives up.
const DELETE_PATIENCE: Duration = Duration::from_secs(3);

/// Where a container's groups are: what its record keeps, enough to find and delete all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPaths {
    /// Its v2 directory.
    pub unified: Option<PathBuf>,
    /// Its own v1 directories, by the controllers of the tree (`cpu,cpuacct`).
    pub v1: BTreeMap<String, PathBuf>,
    /// v1 directories it is in together with others: the parent with the default device filter.
    pub shared: Vec<PathBuf>,
}

impl CgroupPaths {
    /// Its own v1 directory for `controller`.
    pub fn v1(&self, controller: Controller) -> Option<&Path> {
        let has = |names: &str| names.split(',').any(|name| name == controller.name());
        self.v1.iter().find(|(names, _)| has(names)).map(|(_, path)| path.as_path())
    }

    /// These, and the v1 directories that [`Cgroup::update`] made later for limits it had not before.
    #[must_use]
    pub fn with_later(mut self, hierarchy: &Hierarchy) -> Self {
        let Some(relative) = self.relative(hierarchy) else { return self };
        for mount in hierarchy.v1_mounts() {
            let group = mount.mountpoint.join(&relative);
            if !self.v1.contains_key(&mount.names()) && group.is_dir() {
                self.v1.insert(mount.names(), group);
            }
        }
        self
    }

    /// Its place below the root of each v1 tree.
    fn relative(&self, hierarchy: &Hierarchy) -> Option<PathBuf> {
        // The device filter's group may stand in another place.
        let devices = |names: &str| names.split(',').any(|name| name == Controller::Devices.name());
        let (names, path) = self.v1.iter().find(|(names, _)| !devices(names))?;
        path.strip_prefix(tree_root(hierarchy, names).ok()?).ok().map(Path::to_owned)
    }

    /// Every directory that is only its own.
    pub fn own(&self) -> impl Iterator<Item = &Path> {
        self.v1.values().chain(&self.unified).map(PathBuf::as_path)
    }

    /// A directory to read the processes from. All trees hold the same ones.
    pub(crate) fn any(&self) -> Option<&Path> {
        self.unified.as_deref().or_else(|| self.own().next())
    }

    /// A record is a file: what it says is used only if it can be a group's path.
    fn check(&self) -> Result<()> {
        for path in self.own().chain(self.shared.iter().map(PathBuf::as_path)) {
            let text = path.to_string_lossy();
            if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
                return Err(CgroupError::Path {
                    path: text.into_owned(),
                    why: "it is no absolute path without `..`",
                });
            }
        }
        Ok(())
    }
}

/// A container's control group.
#[derive(Debug)]
pub struct Cgroup {
    pub(crate) paths: CgroupPaths,
    directory: Option<OwnedFd>,
    joins: Vec<OwnedFd>,
}

impl CgroupPaths {
    /// Everywhere that [`Cgroup::create`] could have made the group `path`: to clean up after a process that was
    /// killed before it wrote its record.
    pub fn everywhere(hierarchy: &Hierarchy, path: &str) -> Result<Self> {
        let place = Place::new(path)?;
        let mut paths =
            Self { unified: hierarchy.unified().map(|root| root.join(place.path)), ..Self::default() };
        for mount in hierarchy.v1_mounts() {
            paths.v1.insert(mount.names(), mount.mountpoint.join(place.path));
        }
        if let Some(mount) = hierarchy.v1(Controller::Devices) {
            let beside = mount.mountpoint.join(format!("{}.devices", place.parent)).join(place.leaf);
            // The tree's other directory stands under its own name; this one only has to be found.
            paths.v1.insert(format!("{}.beside", mount.names()), beside);
        }
        Ok(paths)
    }
}

/// Whether `path` can be a group's: relative, of parts that are names, with a parent.
pub fn check_path(path: &str) -> Result<()> {
    Place::new(path).map(drop)
}

/// Removes the parents of the containers' groups from every tree, as far as they are empty.
pub fn remove_parents(hierarchy: &Hierarchy, parent: &str) {
    let roots =
        hierarchy.v1_mounts().iter().map(|mount| mount.mountpoint.as_path()).chain(hierarchy.unified());
    for root in roots {
        for name in [parent.to_owned(), format!("{parent}.devices")] {
            // Not there, or in use: both are fine.
            let _ = rustix::fs::rmdir(root.join(name));
        }
    }
}

impl Cgroup {
    /// Makes the group `path` (`rbox/<id>`, relative to the root of each tree) with these limits and the device
    /// filter that goes with them. What was made is taken away again if something fails.
    ///
    /// A group of that name left by a container that was killed is replaced; one with processes is an error.
    pub fn create(hierarchy: &Hierarchy, path: &str, resources: &Resources) -> Result<Self> {
        step(
            "make the control group",
            "what the container uses is counted, limited and ended through it",
            || {
                let place = Place::new(path)?;
                let paths = place.plan(hierarchy, resources)?;
                let made = Self::make(hierarchy, &place, &paths, resources);
                if made.is_err() {
                    for group in paths.own() {
                        // Best effort: what failed is the error to report.
                        let _ = remove_tree(group, Instant::now());
                    }
                }
                made
            },
        )
    }

    fn make(
        hierarchy: &Hierarchy,
        place: &Place<'_>,
        paths: &CgroupPaths,
        resources: &Resources,
    ) -> Result<Self> {
        if let (Some(group), Some(root)) = (&paths.unified, hierarchy.unified()) {
            enable_v2(root, place.parent, resources)?;
            make_group(root, group, false)?;
        }
        for (names, group) in &paths.v1 {
            make_group(tree_root(hierarchy, names)?, group, names.split(',').any(|name| name == "cpuset"))?;
        }
        limits::apply(paths, resources)?;
        let directory = paths.unified.as_deref().map(dir::open).transpose()?;
        place.filter_devices(hierarchy, paths, directory.as_ref(), resources)?;
        let joins = open_joins(paths)?;
        Ok(Self { paths: paths.clone(), directory, joins })
    }

    /// The group of a record, to look at, freeze, kill or delete. It need not exist any more.
    pub fn open(paths: &CgroupPaths) -> Result<Self> {
        paths.check()?;
        Ok(Self { paths: paths.clone(), directory: None, joins: Vec::new() })
    }

    /// The group of a record, to start another process in.
    pub fn open_to_join(paths: &CgroupPaths) -> Result<Self> {
        paths.check()?;
        let directory = paths.unified.as_deref().map(dir::open).transpose()?;
        let joins = open_joins(paths)?;
        Ok(Self { paths: paths.clone(), directory, joins })
    }

    /// What there is of the group `path`, on every tree: for a container whose making was cut off before its record
    /// told which groups it has. Deleting what [`Cgroup::open`] makes of it leaves nothing.
    pub fn find(hierarchy: &Hierarchy, path: &str) -> Result<CgroupPaths> {
        let place = Place::new(path)?;
        let there = |group: PathBuf| group.is_dir().then_some(group);
        let mut paths = CgroupPaths {
            unified: hierarchy.unified().and_then(|root| there(root.join(place.path))),
            ..CgroupPaths::default()
        };
        for mount in hierarchy.v1_mounts() {
            let beside = mount.mountpoint.join(place.beside()).join(place.leaf);
            if let Some(group) = there(mount.mountpoint.join(place.path)).or_else(|| there(beside)) {
                paths.v1.insert(mount.names(), group);
            }
        }
        Ok(paths)
    }

    /// For the container's record.
    pub fn paths(&self) -> &CgroupPaths {
        &self.paths
    }

    /// The v2 directory for `CLONE_INTO_CGROUP`; none on a host without v2.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// The v1 `tasks` files: the child writes `0` to each for itself, while it has one thread and before it
    /// unshares its cgroup namespace. Empty on a v2 host.
    pub fn join_fds(&self) -> &[OwnedFd] {
        &self.joins
    }

    /// Changes the limits of a living container to what is set in `resources`; the rest stays. v1 controllers
    /// it did not need before are made, and its processes moved there, which takes some 10 ms each.
    /// Device rules do not change. When one value is refused, all are as before.
    pub fn update(&mut self, hierarchy: &Hierarchy, resources: &Resources) -> Result<()> {
        self.paths = std::mem::take(&mut self.paths).with_later(hierarchy);
        let before = limits::Before::of(&self.paths, resources);
        let own = self.paths.clone();
        let done = self.try_update(hierarchy, resources);
        if done.is_err() {
            before.put_back();
            self.forget_new(&own);
        }
        done
    }

    /// Removes the directories that `old` does not have: of an update that failed, or came too late.
    pub fn forget_new(&mut self, old: &CgroupPaths) {
        self.paths.v1.retain(|names, group| {
            let known = old.v1.contains_key(names);
            if !known {
                let _ = remove_tree(group, Instant::now());
            }
            known
        });
    }

    fn try_update(&mut self, hierarchy: &Hierarchy, resources: &Resources) -> Result<()> {
        // All others are on since the group was made.
        if let (Some(group), Some(root)) = (&self.paths.unified, hierarchy.unified())
            && !resources.hugetlb_limits.is_empty()
            && let Some(parent) = group.strip_prefix(root).ok().and_then(Path::parent).and_then(Path::to_str)
        {
            enable_v2(root, parent, resources)?;
        }
        let Some(relative) = self.paths.relative(hierarchy) else {
            return limits::apply(&self.paths, resources);
        };
        let mut new = Vec::new();
        for (controller, limit) in limits::controllers_needed(resources) {
            if self.paths.v1(controller).is_some() {
                continue;
            }
            match (hierarchy.v1(controller), &self.paths.unified) {
                (Some(mount), _) => {
                    let group = mount.mountpoint.join(&relative);
                    self.paths.v1.insert(mount.names(), group.clone());
                    make_group(&mount.mountpoint, &group, mount.controllers.contains(&Controller::Cpuset))?;
                    new.push(group);
                }
                (None, Some(_)) => {}
                (None, None) => return Err(limits::no_controller(limit, controller)),
            }
        }
        limits::apply(&self.paths, resources)?;
        new.iter().try_for_each(|group| self.move_into(group))
    }

    /// Moves every process to a new v1 group, until a look finds none that is not there: they may be forking.
    fn move_into(&self, group: &Path) -> Result<()> {
        for _ in 0..64 {
            let there = crate::control::pids_of(group);
            let missing: Vec<_> = self.pids()?.into_iter().filter(|pid| !there.contains(pid)).collect();
            if missing.is_empty() {
                break;
            }
            for pid in missing {
                match dir::write(group, "cgroup.procs", &pid.to_string()) {
                    Err(error) if !dir::is(&error, Errno::SRCH) => {
                        return Err(CgroupError::Sys {
                            what: "move processes to",
                            group: group.to_owned(),
                            source: error,
                        });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Removes every directory of the group and those made below it. Waits a little for processes that are
    /// just ending; goes on past failures and returns all of them. What is not there is no failure.
    pub fn delete(&self) -> Result<()> {
        let until = Instant::now() + DELETE_PATIENCE;
        let errors: Vec<_> = self.paths.own().filter_map(|group| remove_tree(group, until).err()).collect();
        if errors.is_empty() { Ok(()) } else { Err(CgroupError::Delete(errors)) }
    }
}

/// A checked relative path: `parent/leaf`.
struct Place<'a> {
    path: &'a str,
    parent: &'a str,
    leaf: &'a str,
}

impl<'a> Place<'a> {
    fn new(path: &'a str) -> Result<Self> {
        let refuse = |why| Err(CgroupError::Path { path: path.escape_debug().to_string(), why });
        if path.len() > 1024 {
            return refuse("it is longer than 1024 bytes");
        }
        let path = path.trim_start_matches('/');
        for part in path.split('/') {
            if part.is_empty() || part == "." || part == ".." {
                return refuse("it has an empty, `.` or `..` part");
            }
            if part.len() > 255 || part.chars().any(char::is_control) {
                return refuse("a part of it cannot be a directory's name");
            }
            // `cgroup.x`, `memory.x`: the kernel's own files are named so.
            if ["cgroup.", "tasks", "notify_on_release", "release_agent"]
                .iter()
                .any(|own| part.starts_with(own))
            {
                return refuse("a part of it is a name the kernel uses");
            }
        }
        let Some((parent, leaf)) = path.rsplit_once('/') else {
            return refuse("it has no parent: it is parent/name");
        };
        Ok(Self { path, parent, leaf })
    }

    /// Whether the parent is a group that only rbox's containers are in, which may have the default filter.
    fn parent_is_ours(&self) -> bool {
        let name = self.parent.rsplit('/').next().unwrap_or_default();
        let hash = |text: &str| text.len() == 6 && text.bytes().all(|b| b.is_ascii_hexdigit());
        name == "rbox" || name.strip_prefix("rbox-").is_some_and(hash)
    }

    /// The parent of devices groups with rules of their own, beside the one with the default filter.
    fn beside(&self) -> String {
        format!("{}.devices", self.parent)
    }

    /// Which directories the container gets.
    fn plan(&self, hierarchy: &Hierarchy, resources: &Resources) -> Result<CgroupPaths> {
        let mut paths = CgroupPaths {
            unified: hierarchy.unified().map(|root| root.join(self.path)),
            ..Default::default()
        };
        let mut wanted = vec![Controller::Pids, Controller::Memory];
        if hierarchy.unified().is_none() {
            wanted.extend([Controller::Cpuacct, Controller::Freezer]);
        }
        for (controller, limit) in limits::controllers_needed(resources) {
            if hierarchy.v1(controller).is_none() && !has_v2_controller(hierarchy, controller) {
                return Err(limits::no_controller(limit, controller));
            }
            wanted.push(controller);
        }
        for mount in wanted.into_iter().filter_map(|controller| hierarchy.v1(controller)) {
            paths.v1.insert(mount.names(), mount.mountpoint.join(self.path));
        }
        if let Some(mount) = hierarchy.v1(Controller::Devices) {
            if resources.default_devices() && self.parent_is_ours() {
                paths.shared.push(mount.mountpoint.join(self.parent));
            } else if self.parent_is_ours() {
                // Below the default filter nothing more could be allowed.
                paths.v1.insert(mount.names(), mount.mountpoint.join(self.beside()).join(self.leaf));
            } else {
                paths.v1.insert(mount.names(), mount.mountpoint.join(self.path));
            }
        }
        Ok(paths)
    }

    fn filter_devices(
        &self,
        hierarchy: &Hierarchy,
        paths: &CgroupPaths,
        directory: Option<&OwnedFd>,
        resources: &Resources,
    ) -> Result<()> {
        let default = resources.default_devices() && self.parent_is_ours();
        if let Some(mount) = hierarchy.v1(Controller::Devices) {
            if default {
                let parent = mount.mountpoint.join(self.parent);
                make_parents(&mount.mountpoint, &parent, false)?;
                return device::ensure_default_v1(&parent);
            }
            return match paths.v1(Controller::Devices) {
                Some(group) => device::write_v1(group, &device::rules(resources)),
                None => Ok(()),
            };
        }
        let (Some(root), Some(group), Some(directory)) = (hierarchy.unified(), &paths.unified, directory)
        else {
            return Err(limits::no_controller("device filter", Controller::Devices));
        };
        if default {
            return device::ensure_default_v2(&root.join(self.parent));
        }
        device::attach_v2(group, directory.as_fd(), &device::rules(resources))
    }
}

fn tree_root<'a>(hierarchy: &'a Hierarchy, names: &str) -> Result<&'a Path> {
    hierarchy
        .v1_mounts()
        .iter()
        .find(|mount| mount.names() == names)
        .map(|mount| mount.mountpoint.as_path())
        .ok_or_else(|| CgroupError::Path {
            path: names.to_owned(),
            why: "these controllers are not mounted together on this host",
        })
}

/// Whether the v2 tree has `controller`; on a hybrid host it has those no v1 tree took.
fn has_v2_controller(hierarchy: &Hierarchy, controller: Controller) -> bool {
    let name = if controller == Controller::Blkio { "io" } else { controller.name() };
    hierarchy.unified().is_some_and(|root| {
        dir::read(root, "cgroup.controllers")
            .is_ok_and(|all| all.split_ascii_whitespace().any(|one| one == name))
    })
}

/// Makes the group of one tree. Another's leftovers in its place are removed if nobody is in there.
fn make_group(root: &Path, group: &Path, cpuset: bool) -> Result<()> {
    if !make_parents(root, group, cpuset)? {
        remove_tree(group, Instant::now())?;
        make_parents(root, group, cpuset)?;
    }
    Ok(())
}

/// Makes `group` and what is missing between it and `root`; `false` if it was there.
fn make_parents(root: &Path, group: &Path, cpuset: bool) -> Result<bool> {
    let made = match dir::make(group) {
        Err(CgroupError::Sys { source, .. }) if dir::is(&source, Errno::NOENT) => {
            let Some(parent) = group.parent().filter(|parent| parent.starts_with(root) && *parent != root)
            else {
                return Err(CgroupError::Sys { what: "make", group: group.to_owned(), source });
            };
            make_parents(root, parent, cpuset)?;
            dir::make(group)?
        }
        made => made?,
    };
    if made && cpuset {
        inherit_cpuset(group)?;
    }
    Ok(made)
}

/// A new v1 cpuset is empty and takes no process until it has processors and memory: those of its parent.
fn inherit_cpuset(group: &Path) -> Result<()> {
    let Some(parent) = group.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = dir::read_told(parent, file)?;
        dir::write(group, file, value.trim()).map_err(|source| CgroupError::Limit {
            limit: "cpuset",
            group: group.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// Turns the v2 controllers on for the children of `parent` and of all above it. Once it is done, this is one read.
fn enable_v2(root: &Path, parent: &str, resources: &Resources) -> Result<()> {
    let available = dir::read_told(root, "cgroup.controllers")?;
    let wanted: Vec<_> = V2_CONTROLLERS
        .into_iter()
        .filter(|name| *name != Controller::Hugetlb.name() || !resources.hugetlb_limits.is_empty())
        .filter(|name| available.split_ascii_whitespace().any(|one| one == *name))
        .collect();
    if wanted.is_empty() {
        return make_parents(root, &root.join(parent), false).map(|_| ());
    }
    let missing = |group: &Path| -> Vec<&str> {
        let on = dir::read(group, "cgroup.subtree_control").unwrap_or_default();
        wanted.iter().copied().filter(|name| !on.split_ascii_whitespace().any(|one| one == *name)).collect()
    };
    // A group can have no controller its parent lacks: what the parent has on, those above have too.
    if missing(&root.join(parent)).is_empty() {
        return Ok(());
    }
    make_parents(root, &root.join(parent), false)?;
    let mut group = root.to_owned();
    let mut parts = parent.split('/');
    loop {
        let off = missing(&group);
        if !off.is_empty() {
            turn_on(root, &group, &off)?;
        }
        match parts.next() {
            Some(part) => group.push(part),
            None => return Ok(()),
        }
    }
}

/// Turns controllers on for the children of `group`. The kernel refuses that (EBUSY) while `group` has processes of its
/// own, except at the top of the machine's tree. Where the tree that is seen begins further down, because rbox runs in a
/// container, those are its container's: they are moved to a group of their own beside rbox's.
fn turn_on(root: &Path, group: &Path, controllers: &[&str]) -> Result<()> {
    let text = controllers.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    let failed = |source| CgroupError::Sys { what: "enable controllers in", group: group.to_owned(), source };
    match dir::write(group, "cgroup.subtree_control", &text) {
        Err(error) if dir::is(&error, Errno::BUSY) && group == root => {
            empty_root(root)?;
            dir::write(group, "cgroup.subtree_control", &text).map_err(failed)
        }
        done => done.map_err(failed),
    }
}

/// The group that the processes of the container rbox runs in are moved to.
const BESIDE: &str = "init";

fn empty_root(root: &Path) -> Result<()> {
    let leaf = root.join(BESIDE);
    dir::make(&leaf)?;
    // They may be forking: until a look finds none.
    for _ in 0..64 {
        let text = dir::read_told(root, "cgroup.procs")?;
        if text.trim().is_empty() {
            return Ok(());
        }
        for pid in text.lines() {
            match dir::write(&leaf, "cgroup.procs", pid) {
                Err(error) if !dir::is(&error, Errno::SRCH) => {
                    return Err(CgroupError::Sys { what: "move processes to", group: leaf, source: error });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn open_joins(paths: &CgroupPaths) -> Result<Vec<OwnedFd>> {
    let groups = paths.v1.values().chain(&paths.shared);
    groups
        .map(|group| {
            dir::open_to_write(group, "tasks").map_err(|source| CgroupError::Sys {
                what: "open",
                group: group.clone(),
                source,
            })
        })
        .collect()
}

/// rmdir(2) of `group` and everything below; EBUSY is tried again until `until`.
fn remove_tree(group: &Path, until: Instant) -> Result<()> {
    let begin = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        let removed = told("rmdir", || quoted(group), || rustix::fs::rmdir(group));
        match removed {
            Ok(()) => return Ok(()),
            Err(error) if dir::is(&error, Errno::NOENT) => return Ok(()),
            Err(error) if !dir::is(&error, Errno::BUSY) => return Err(failed(group, error)),
            Err(error) => {
                // Groups the container made for itself, or its last process on its way out.
                for child in dir::children(group) {
                    remove_tree(&child, until)?;
                }
                if Instant::now() >= until {
                    return match rustix::fs::rmdir(group) {
                        Ok(()) | Err(Errno::NOENT) => Ok(()),
                        Err(_) if begin.elapsed() > Duration::from_millis(1) => Err(CgroupError::Timeout {
                            what: "empty",
                            group: group.to_owned(),
                            millis: begin.elapsed().as_millis(),
                        }),
                        Err(_) => Err(failed(group, error)),
                    };
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    }
}

fn failed(group: &Path, source: SysError) -> CgroupError {
    CgroupError::Sys { what: "remove", group: group.to_owned(), source }
}
