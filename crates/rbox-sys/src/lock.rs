//! Waiting for a lock, and for how long.
//!
//! All locks are flock(2)s of open files: death releases them. But whoever holds one may be stopped, or be waiting itself for a
//! disk that does not answer. So no wait is without an end, and this is the only place in which rbox takes a lock
//! (`house::locks_are_taken_in_one_place`). A lock that is free costs one call.
//!
//! A wait ends
//! - after its [`Patience`], which is chosen by what may rightly be done under the lock;
//! - sooner when everybody who holds it has been stopped (SIGSTOP, Ctrl-Z) for ten seconds: nothing moves there, however long
//!   the work under it may take.
//!
//! The error names the file, who holds it and what to do. The kernel names holders by process id: one that runs in another
//! PID namespace, or that got the lock by fork from one that is gone, stays unnamed.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

pub use crate::waiting::Patience;
use crate::waiting::{Seen, look};

/// Whether others may hold it at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

/// How often it is looked at who holds a lock.
const LOOK: Duration = Duration::from_secs(1);
/// Pauses between two attempts.
const SHORTEST: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_millis(20);

/// Takes the lock of an open file, waiting for it.
///
/// # Errors
/// When it was not available in time (`TimedOut`; the text says who holds it), and what the kernel refused.
pub fn take(file: impl AsFd, how: How, patience: Patience) -> io::Result<()> {
    take_while(file, how, patience, &|| true)
}

/// The same, as long as that is still wanted.
///
/// # Errors
/// As [`take`]; `Interrupted` when it is not wanted any more.
pub fn take_while(
    file: impl AsFd,
    how: How,
    patience: Patience,
    is_wanted: &dyn Fn() -> bool,
) -> io::Result<()> {
    let begin = Instant::now();
    let mut stopped: Option<Instant> = None;
    let mut looked = begin;
    let mut holders = Vec::new();
    loop {
        if try_take(&file, how)? {
            return Ok(());
        }
        if !is_wanted() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let waited = begin.elapsed();
        let given_up = stopped.is_some_and(|since| since.elapsed() >= patience.stopped);
        let ends = given_up || waited >= patience.whole;
        if ends || looked.elapsed() >= LOOK.min(patience.stopped / 2) {
            looked = Instant::now();
            look_again(&mut holders, &file);
            let all = !holders.is_empty() && holders.iter().all(Seen::is_stopped);
            stopped = all.then(|| stopped.unwrap_or(looked));
        }
        if ends {
            return Err(io::Error::new(io::ErrorKind::TimedOut, held(&holders, waited)));
        }
        std::thread::sleep((waited / 8).clamp(SHORTEST, LONGEST));
    }
}

/// Takes the lock of an open file if it is free; whether it was.
pub fn try_take(file: impl AsFd, how: How) -> Result<bool, Errno> {
    let operation = match how {
        How::Shared => FlockOperation::NonBlockingLockShared,
        How::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        match rustix::fs::flock(file.as_fd(), operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Gives a lock back, also where a process that was forked meanwhile has the file open still.
pub fn release(file: impl AsFd) {
    // What is locked no more is no error, and there is nothing else that could be.
    let _ = rustix::fs::flock(file, FlockOperation::Unlock);
}

/// Brings up to date who holds the lock of a file. The kernel's list is read in pieces, and a line falls between two of them
/// when another lock is released just then: so a list in which nobody holds this one says nothing.
fn look_again(known: &mut Vec<Seen>, file: impl AsFd) {
    let found = holders(&file);
    *known = if found.is_empty() { known.iter().filter_map(|seen| look(seen.pid)).collect() } else { found };
}

/// Who holds the lock of a file, as far as the kernel knows.
fn holders(file: impl AsFd) -> Vec<Seen> {
    let Ok(stat) = rustix::fs::fstat(file.as_fd()) else { return Vec::new() };
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let exact = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let on = |exact: bool, place: &str| -> Vec<Seen> {
        let mut pids: Vec<u32> = locks
            .lines()
            .filter_map(|line| {
                // `1: FLOCK  ADVISORY  WRITE 4711 00:2b:97 0 EOF`; a line with `->` waits.
                let mut words = line.split_ascii_whitespace().skip(1);
                (words.next()? == "FLOCK").then_some(())?;
                let pid = words.nth(2)?.parse().ok().filter(|pid| *pid > 0)?;
                let found = words.next()?;
                (if exact { found == place } else { found.ends_with(place) }).then_some(pid)
            })
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().filter_map(look).collect()
    };
    let found = on(true, &exact);
    // btrfs and overlayfs tell fstat(2) another device.
    if found.is_empty() { on(false, &format!(":{}", stat.st_ino)) } else { found }
}

/// Why a wait ended, and what to do about it.
fn held(holders: &[Seen], waited: Duration) -> String {
    let waited = waited.as_secs().max(1);
    let Some(first) = holders.first() else {
        return format!(
            "another process has held the lock for {waited} s (lslocks shows which): try again once it has ended"
        );
    };
    let others = match holders.len() - 1 {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    let (pid, name) = (first.pid, &first.name);
    if first.is_stopped() {
        return format!(
            "process {pid} ({name}){others} holds the lock and is stopped: let it go on (kill -CONT {pid}) or end it (kill -KILL {pid})"
        );
    }
    format!(
        "process {pid} ({name}){others} has held the lock for {waited} s: try again once it has ended, or end it (kill {pid})"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_wait_ends_and_says_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (ours, theirs) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        take(&ours, How::Exclusive, Patience::MOMENT).unwrap();
        assert!(!try_take(&theirs, How::Shared).unwrap());
        let short = Patience::of(Duration::from_millis(50));
        let error = take(&theirs, How::Shared, short).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let text = error.to_string();
        let pid = std::process::id();
        assert!(
            text.contains(&format!("process {pid} (")) && text.contains(&format!("kill {pid}")),
            "{text}"
        );
        drop(ours);
        take(&theirs, How::Exclusive, short).unwrap();
    }

    /// Others release theirs while the kernel's list is read, and lines fall out of it.
    #[test]
    fn a_holder_that_a_list_lacks_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let locked = |name: String| {
            let file = File::create(dir.path().join(name)).unwrap();
            assert!(try_take(&file, How::Exclusive).unwrap());
            file
        };
        let many: Vec<File> = (0..300).map(|n| locked(format!("{n}"))).collect();
        let ends = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                    // A child of another test may have them still: that is as good.
                    let others =
                        (0..20).map(|n| File::create(dir.path().join(format!("other-{n}"))).unwrap());
                    let others: Vec<File> = others.collect();
                    for file in &others {
                        let _ = try_take(file, How::Exclusive);
                    }
                }
            });
            let mut known = Vec::new();
            while known.is_empty() {
                look_again(&mut known, &many[150]);
            }
            let lacking = (0..2000).filter(|_| {
                look_again(&mut known, &many[150]);
                known.is_empty()
            });
            let lacking = lacking.count();
            ends.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(lacking, 0);
        });
    }

    #[test]
    fn many_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        File::create(&path).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        take(File::open(&path).unwrap(), How::Exclusive, Patience::MOMENT).unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_done_about_it() {
        let holder = |pid, stopped| Seen { pid, name: "rbox".into(), state: if stopped { 'T' } else { 'S' } };
        let said = |holders: &[Seen]| held(holders, Duration::from_mins(1));
        assert!(said(&[]).contains("60 s (lslocks"));
        assert!(said(&[holder(7, false)]).contains("process 7 (rbox) has held the lock for 60 s"));
        assert!(
            said(&[holder(7, true), holder(8, true)])
                .contains("process 7 (rbox) and 1 more holds the lock and is stopped")
        );
        assert!(said(&[holder(7, true)]).contains("kill -CONT 7"));
    }
}
