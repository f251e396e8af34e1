//! Digests of a context's files, so that a file that is unchanged is not read again.
//!
//! A file counts as unchanged when its size, times, inode and device are what they were; one that was changed right before it was read
//! may change again within the same tick of the file system's clock, so it is not remembered.

use std::collections::HashMap;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rbox_spec::Digest;
use rbox_sys::own;
use rustix::fs::Stat;

use crate::context::Work;
use crate::tree::FileDigests;

/// What tells that a file is the same: device, inode, size, and when it changed.
type Mark = [u64; 7];

/// The digests of one context's files.
#[derive(Debug)]
pub(crate) struct KnownFiles {
    path: PathBuf,
    known: HashMap<Vec<u8>, (Mark, Digest)>,
    /// Those that this build has asked for.
    used: HashMap<Vec<u8>, (Mark, Digest)>,
    now: i64,
    is_changed: bool,
}

/// What one process has learnt of files, for another: paths as bytes, what tells that a file is the same, and its digest.
pub(crate) type FileMarks = Vec<(Vec<u8>, [u64; 7], Digest)>;

/// No more is remembered of one context.
const MOST_BYTES: u64 = 256 << 20;
/// How old a change must be to be remembered, in seconds.
const SETTLED: i64 = 2;

impl KnownFiles {
    /// Those of the context with this name. What cannot be read is not known.
    pub(crate) fn read(build_dir: &Path, name: &str) -> Self {
        let dir = build_dir.join("files");
        let _ = own::make_private(&dir);
        let path = dir.join(name);
        let bytes = own::read(&path, MOST_BYTES).unwrap_or_default();
        let known = bytes.split(|byte| *byte == 0).filter_map(parse).collect();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        Self { path, known, used: HashMap::new(), now, is_changed: false }
    }

    /// What was learnt so far, for another process.
    pub(crate) fn take_marks(&mut self) -> FileMarks {
        std::mem::take(&mut self.used)
            .into_iter()
            .map(|(path, (mark, digest))| (path, mark, digest))
            .collect()
    }

    /// Takes in what another process has learnt.
    pub(crate) fn take_in(&mut self, marks: FileMarks) {
        self.is_changed |= !marks.is_empty();
        self.used.extend(marks.into_iter().map(|(path, mark, digest)| (path, (mark, digest))));
    }

    /// Writes them down if there is anything new. Best effort: without them files are read again.
    pub(crate) fn save(mut self, work: &Work) {
        if !self.is_changed {
            return;
        }
        // What this build did not look at may be of another Dockerfile of the same context.
        for (path, entry) in self.used {
            self.known.insert(path, entry);
        }
        let mut text = Vec::new();
        for (path, (mark, digest)) in &self.known {
            let mark: Vec<String> = mark.iter().map(|number| format!("{number:x}")).collect();
            text.extend_from_slice(format!("{} {digest} ", mark.join(" ")).as_bytes());
            text.extend_from_slice(path);
            text.push(0);
        }
        if text.len() as u64 > MOST_BYTES {
            text.clear();
        }
        let temporary = work.fresh();
        if own::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &self.path)).is_err() {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

fn parse(line: &[u8]) -> Option<(Vec<u8>, (Mark, Digest))> {
    let mut fields = line.splitn(9, |byte| *byte == b' ');
    let mut mark = [0; 7];
    for number in &mut mark {
        *number = u64::from_str_radix(std::str::from_utf8(fields.next()?).ok()?, 16).ok()?;
    }
    let digest = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let path = std::ffi::OsString::from_vec(fields.next()?.to_vec()).into_vec();
    Some((path, (mark, digest)))
}

#[allow(clippy::cast_sign_loss, reason = "only compared")]
const fn mark_of(stat: &Stat) -> Mark {
    [
        stat.st_dev,
        stat.st_ino,
        stat.st_size as u64,
        stat.st_mtime as u64,
        stat.st_mtime_nsec,
        stat.st_ctime as u64,
        stat.st_ctime_nsec,
    ]
}

impl FileDigests for KnownFiles {
    fn get(&mut self, path: &Path, stat: &Stat) -> Option<Digest> {
        let (mark, digest) = self.known.get(path.as_os_str().as_bytes())?;
        (*mark == mark_of(stat)).then_some(*digest)
    }

    fn put(&mut self, path: &Path, stat: &Stat, digest: Digest) {
        if self.now.saturating_sub(stat.st_ctime.max(stat.st_mtime)) < SETTLED {
            return;
        }
        self.is_changed = true;
        self.used.insert(path.as_os_str().as_bytes().to_vec(), (mark_of(stat), digest));
    }
}
