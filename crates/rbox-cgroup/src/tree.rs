//! Groups made and removed in one tree.

use std::path::Path;
use std::time::{Duration, Instant};

use rbox_spec::Resources;
use rbox_sys::SysError;
use rbox_sys::error::told;
use rbox_sys::trace::quoted;
use rustix::io::Errno;

use crate::dir;
use crate::error::{CgroupError, Result};
use crate::hierarchy::{Controller, Hierarchy, V2_CONTROLLERS};

/// Whether the v2 tree has `controller`; on a hybrid host it has those no v1 tree took.
pub(crate) fn has_v2_controller(hierarchy: &Hierarchy, controller: Controller) -> bool {
    let name = if controller == Controller::Blkio { "io" } else { controller.name() };
    hierarchy.unified().is_some_and(|root| {
        dir::read(root, "cgroup.controllers")
            .is_ok_and(|all| all.split_ascii_whitespace().any(|one| one == name))
    })
}

/// Makes the group of one tree. Another's leftovers in its place are removed if nobody is in there.
pub(crate) fn make_group(root: &Path, group: &Path, cpuset: bool) -> Result<()> {
    if !make_parents(root, group, cpuset)? {
        remove_tree(group, Instant::now())?;
        make_parents(root, group, cpuset)?;
    }
    Ok(())
}

/// Makes `group` and what is missing between it and `root`; `false` if it was there.
pub(crate) fn make_parents(root: &Path, group: &Path, cpuset: bool) -> Result<bool> {
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
pub(crate) fn enable_v2(root: &Path, parent: &str, resources: &Resources) -> Result<()> {
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

/// rmdir(2) of `group` and everything below; EBUSY is tried again until `until`.
pub(crate) fn remove_tree(group: &Path, until: Instant) -> Result<()> {
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
