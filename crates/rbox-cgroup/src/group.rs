//! A container's control group: made, found again from its record, deleted.

use crate::error::{CgroupError, Result};
use crate::hierarchy::{Controller, Hierarchy};
use crate::paths::{CgroupPaths, tree_root};
use crate::place::Place;
use crate::tree::{enable_v2, make_group, remove_tree};
use crate::{dir, limits};
use rbox_spec::Resources;
use rbox_sys::trace::step;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a group's last processes may take to leave it before deleting gives up.
const DELETE_PATIENCE: Duration = Duration::from_secs(3);

/// A container's control group.
#[derive(Debug)]
pub struct Cgroup {
    pub(crate) paths: CgroupPaths,
    directory: Option<OwnedFd>,
    joins: Vec<OwnedFd>,
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
            let there = crate::members::pids_of(group);
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
