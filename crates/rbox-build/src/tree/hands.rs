//! A second pair of hands for a copy of many files: while one thread finds files and makes new ones, another fills and finishes them.
//! A thread of its own is worth it for many files only, so that a copy of few has none.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::fill::{Filling, fill};
use super::walk::TreeError;

/// So many files are filled where they are made, before help is called.
const FEW: u32 = 64;
/// As many may wait, each with an open descriptor.
const WAITING: usize = 64;

/// Fills files, by itself or with help.
#[derive(Default)]
pub(super) struct Hands {
    filled: u32,
    helper: Option<Helper>,
}

struct Helper {
    jobs: SyncSender<Filling>,
    thread: JoinHandle<Result<(), TreeError>>,
}

impl Hands {
    /// Fills a file that was just made, now or before [`Self::rest`] returns.
    pub(super) fn fill(&mut self, filling: Filling) -> Result<(), TreeError> {
        self.filled = self.filled.saturating_add(1);
        if self.filled == FEW && std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) {
            self.helper = Helper::start();
        }
        let Some(helper) = &self.helper else { return fill(&filling) };
        match helper.jobs.send(filling) {
            Ok(()) => Ok(()),
            // It ended, which it does with a reason only.
            Err(_) => self.rest(),
        }
    }

    /// Waits until all are filled.
    pub(super) fn rest(&mut self) -> Result<(), TreeError> {
        self.filled = 0;
        let Some(Helper { jobs, thread }) = self.helper.take() else { return Ok(()) };
        drop(jobs);
        thread.join().unwrap_or_else(|_| {
            Err(TreeError::Refused("copying was given up: this is a fault of rbox".to_owned()))
        })
    }
}

/// What is not waited for is not left running either: the directory may be removed next.
impl Drop for Hands {
    fn drop(&mut self) {
        let _ = self.rest();
    }
}

impl Helper {
    /// None when the host has no thread for it: all is done without.
    fn start() -> Option<Self> {
        let (jobs, waiting) = sync_channel::<Filling>(WAITING);
        let work = move || waiting.into_iter().try_for_each(|filling| fill(&filling));
        let thread = std::thread::Builder::new().name("copy".to_owned()).spawn(work).ok()?;
        Some(Self { jobs, thread })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::sync::Arc;

    use super::super::looks::{Owner, Times};
    use super::*;

    fn filling(dir: &Path, number: u32) -> Filling {
        let source = dir.join(format!("from{number}"));
        let at = dir.join(format!("to{number}"));
        Filling {
            parent: Arc::new(std::fs::File::open(dir).unwrap().into()),
            size: 1,
            to: std::fs::File::create_new(&at).unwrap(),
            owner: Owner { uid: 0, gid: 0 },
            mode: 0o640,
            times: Times { seconds: 7, nanoseconds: 8 },
            source,
            at,
        }
    }

    #[test]
    fn all_are_filled_with_help_and_without() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root gives files to root");
            return;
        }
        for count in [1, FEW - 1, FEW, 3 * FEW] {
            let dir = tempfile::tempdir().unwrap();
            let mut hands = Hands::default();
            for number in 0..count {
                std::fs::write(dir.path().join(format!("from{number}")), number.to_string()).unwrap();
                hands.fill(filling(dir.path(), number)).unwrap();
            }
            hands.rest().unwrap();
            for number in 0..count {
                let at = dir.path().join(format!("to{number}"));
                assert_eq!(std::fs::read_to_string(&at).unwrap(), number.to_string());
                let meta = std::fs::metadata(&at).unwrap();
                assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o640, 7, 8));
            }
        }
    }

    /// The first failure ends it, whoever met it, and is told once.
    #[test]
    fn what_fails_is_told() {
        for broken in [3, FEW + 3] {
            let dir = tempfile::tempdir().unwrap();
            let mut hands = Hands::default();
            let all = (0..10 * FEW).try_for_each(|number| {
                let from = dir.path().join(format!("from{number}"));
                if number != broken {
                    std::fs::write(from, "x").unwrap();
                }
                hands.fill(filling(dir.path(), number))
            });
            let error = all.and_then(|()| hands.rest()).unwrap_err().to_string();
            assert!(error.contains(&format!("from{broken}")), "{error}");
            hands.rest().unwrap();
        }
    }
}
