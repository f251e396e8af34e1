//! `--storage-opt size=`: a limit that the kernel holds on what a container writes into its own layer.
//!
//! The layer, with overlay's own directory beside it, belongs to a project of the file system, and a project has a limit there. Which
//! project that is stands on the directory alone: it survives a reboot, and whoever removes a container finds it. Limits are taken away
//! before the files are removed: a number with files or a limit is in use, so one that nobody needs any more is free again, wherever
//! a kill comes.
//!
//! Nobody hands the numbers out, to several rboxes on one file system or to others that limit projects. A number is taken by
//! giving it to an empty directory, and then looking whether that is all that has it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use rbox_spec::storage;
use rbox_sys::project::{self, Usage};
use rbox_sys::{SysError, own, trace};
use rustix::fs::OFlags;

use crate::error::EngineError;
use crate::record::container::ContainerRecord;
use crate::record::paths::{Paths, UPPER, WORK};

/// The numbers that are taken: far from those that people give, from Docker's (they begin at 1) and Kubernetes' (1048577).
const NUMBERS: std::ops::Range<u32> = 0x5260_0000..0x5270_0000;
/// Where an administrator writes down projects: `name:number` and `number:directory`.
const FILES: [&str; 2] = ["/etc/projid", "/etc/projects"];

/// The limit that a container is to have.
pub(crate) fn limit(options: &BTreeMap<String, String>) -> Result<Option<u64>, EngineError> {
    storage::limit(options).map_err(|error| EngineError::Invalid(error.to_string()))
}

/// Limits the layer of a container that is being made in `dir`.
pub(crate) fn take(dir: &Path, options: &BTreeMap<String, String>) -> Result<(), EngineError> {
    let Some(limit) = limit(options)? else { return Ok(()) };
    trace::step(
        "limit the layer",
        "What it writes belongs to a project of the file system, which may have so much and no more.",
        || {
            let (upper, work) = (open(&dir.join(UPPER))?, open(&dir.join(WORK))?);
            require(&upper, dir)?;
            let number = take_number(&upper)?;
            project::assign(&work, number)?;
            project::set_limit(&upper, number, limit)?;
            Ok(())
        },
    )
}

/// Gives a number to an empty directory, which nobody else has then.
fn take_number(upper: &File) -> Result<u32, EngineError> {
    let written_down = written_down();
    let mut number = NUMBERS.start;
    while NUMBERS.contains(&number) {
        if !written_down.contains(&number) && project::usage(upper, number)? == Usage::default() {
            project::assign(upper, number)?;
            if project::usage(upper, number)?.files == 1 {
                return Ok(number);
            }
            // Somebody took it in the same moment, and may see just this. Both go on, each by as many as it likes.
            number += u32::from(random()?) % 16;
        }
        number += 1;
    }
    Err(EngineError::Conflict(format!(
        "--storage-opt: all {} projects that rbox takes have files or limits on this file system: remove containers",
        NUMBERS.len()
    )))
}

fn random() -> Result<u8, SysError> {
    let mut byte = [0];
    rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| SysError::new("getrandom", "1 byte".into(), errno))?;
    Ok(byte[0])
}

/// The numbers that an administrator has given, whether they are in use or not.
fn written_down() -> Vec<u32> {
    let texts = FILES.iter().filter_map(|file| own::read(Path::new(file), 1 << 20).ok());
    texts.flat_map(|text| numbers(&String::from_utf8_lossy(&text))).collect()
}

fn numbers(text: &str) -> Vec<u32> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(|line| line.split(':')).filter_map(|word| word.trim().parse().ok()).collect()
}

/// So much a full layer may take more while it is mounted: overlayfs makes directories then, and where that fails the layer would be
/// read-only, with nothing in it that could be removed.
const ROOM: u64 = 4 << 20;

/// A layer with [`ROOM`]. It has its limit again when this goes.
#[derive(Debug)]
pub(crate) struct Raised {
    upper: File,
    number: u32,
    limit: u64,
}

impl Drop for Raised {
    fn drop(&mut self) {
        // Where it fails, the next start sets it.
        let _ = project::set_limit(&self.upper, self.number, self.limit);
    }
}

/// Before a start: the limit must hold still, since it may be another file system by now. What is given back is kept until the layer
/// is mounted.
pub(crate) fn check(paths: &Paths, record: &ContainerRecord) -> Result<Option<Raised>, EngineError> {
    let Some(limit) = limit(&record.host.storage_opt)? else { return Ok(None) };
    let path = record.upper(paths);
    let upper = open(&path)?;
    require(&upper, &path)?;
    let number = project::of(&upper)?;
    if !NUMBERS.contains(&number) {
        return Err(EngineError::Conflict(format!(
            "--storage-opt: {} belongs to no project any more, so nothing limits it: it was copied here, or changed; make the container again ('rbox inspect --create-command {}' prints how)",
            path.display(),
            record.name
        )));
    }
    let usage = project::usage(&upper, number)?;
    if usage.bytes.saturating_add(ROOM) > limit {
        project::set_limit(&upper, number, limit.saturating_add(ROOM))?;
        return Ok(Some(Raised { upper, number, limit }));
    }
    // A number that is the same still; a kill may have left it raised.
    if usage.limit != limit.next_multiple_of(1024) {
        project::set_limit(&upper, number, limit)?;
    }
    Ok(None)
}

/// What a container's layer takes, and may take; none when nothing limits it.
pub(crate) fn usage(paths: &Paths, record: &ContainerRecord) -> Option<Usage> {
    limit(&record.host.storage_opt).ok()??;
    let upper = open(&record.upper(paths)).ok()?;
    let number = project::of(&upper).ok().filter(|number| NUMBERS.contains(number))?;
    project::usage(&upper, number).ok().filter(|usage| usage.limit > 0)
}

/// Takes the limit away of the layer in `dir`, which is about to be removed. Where there is none nothing happens.
pub(crate) fn give_back(dir: &Path) {
    let Ok(upper) = open(&dir.join(UPPER)) else { return };
    if let Ok(number) = project::of(&upper)
        && NUMBERS.contains(&number)
    {
        // With its limit the number stays taken; nothing else depends on it.
        let _ = project::set_limit(&upper, number, 0);
    }
}

fn open(path: &Path) -> Result<File, EngineError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .map(File::from)
        .map_err(|errno| EngineError::file("open", path)(errno.into()))
}

/// Refuses a file system whose kernel holds no limits of projects, with what to do.
fn require(dir: &File, path: &Path) -> Result<(), EngineError> {
    match project::hold(dir) {
        Ok(true) => Ok(()),
        Ok(false) => Err(EngineError::Unsupported(format!(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option, or ext4 with 'prjquota': {} is on {}",
            path.parent().unwrap_or(path).display(),
            what_to_do(dir)
        ))),
        Err(_) => Err(EngineError::Unsupported(
            "--storage-opt: limits of projects are set by quotactl_fd(2), which this kernel has not: Linux 5.14 does".into(),
        )),
    }
}

/// What the file system is, and what makes it one with project quotas.
fn what_to_do(dir: &File) -> String {
    let magic = rustix::fs::fstatfs(dir).map(|stat| stat.f_type).unwrap_or_default();
    match magic {
        0xEF53 => {
            "ext4 without: while it is not mounted 'tune2fs -O project,quota DEVICE', then mount it with -o prjquota".into()
        }
        0x5846_5342 => "xfs without: mount it with -o pquota (of / with rootflags=pquota on the kernel's command line)".into(),
        other => {
            let name = match other {
                0x9123_683E => "btrfs".to_owned(),
                0x0102_1994 => "tmpfs".to_owned(),
                0x2fc1_2fc1 => "zfs".to_owned(),
                0xF2F5_2010 => "f2fs".to_owned(),
                number => format!("a file system of type {number:#x}"),
            };
            format!("{name}: put --root on one of those")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_written_down() {
        let text = "# projects\nlogs:42\n1382023168:/srv # ours\n\nbad:line:7x\n";
        assert_eq!(numbers(text), [42, 1_382_023_168]);
    }
}
