//! `mode=non-blocking`: a process of its own writes the log, so that a slow disk keeps the program waiting in no case.
//!
//! The monitor gives it entries by a pipe. What the pipe does not take waits in the monitor's memory, up to `max-buffer-size` bytes, and
//! what does not fit there is dropped and counted. From the first that was dropped on all are, until half of it is free again, so that
//! there are few gaps; an entry of its own tells of each.
//!
//! It is a process and no thread because only a process of one thread clones, and the monitor does so at each restart and each health
//! check.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_sys::process::{self, Side};
use rbox_sys::waiting::{self, Patience};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::logs::entry::Encoder;
use crate::logs::file::{BATCH, LogFile, end_of_last};
use crate::logs::{LogOptions, Stream};

/// How long what waits may take when the container has ended. Its end is written to the same disk.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long after one writer was begun the next one is.
const BETWEEN: Duration = Duration::from_secs(1);
/// No entry is like this: none comes after it. Closing the pipe may not tell: a health check may have a copy of it.
const END: &[u8] = b"\n";

/// The monitor's side.
#[derive(Debug)]
pub(super) struct Aside {
    /// None between one that was ended and the next one.
    writer: Option<Writer>,
    /// When that was begun.
    begun: Instant,
    path: PathBuf,
    options: LogOptions,
    encoder: Encoder,
    waiting: VecDeque<u8>,
    most: usize,
    dropped: u64,
    /// When the last of those was read from the container.
    dropped_at: Timestamp,
}

/// The process that writes, and the pipe to it.
#[derive(Debug)]
struct Writer {
    pidfd: OwnedFd,
    pipe: OwnedFd,
}

impl Writer {
    fn fork(path: &Path, options: &LogOptions, encoder: &Encoder) -> io::Result<Self> {
        let (read, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        let errno = |error: rbox_sys::SysError| io::Error::from_raw_os_error(error.errno as i32);
        let pid = match process::fork().map_err(errno)? {
            Side::Parent(pid) => pid,
            Side::Child => {
                process::close_all_but(&[read.as_fd()]);
                process::set_name(c"rbox-log");
                write_out(&read, LogFile::open(path, options, encoder.clone()));
                process::exit_now(0)
            }
        };
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pidfd: process::pidfd_open(pid).map_err(errno)?, pipe })
    }
}

impl Aside {
    /// Has somebody write to the log at `path`. `most` bytes wait.
    pub(super) fn start(path: &Path, options: LogOptions, encoder: Encoder, most: usize) -> io::Result<Self> {
        let writer = Writer::fork(path, &options, &encoder)?;
        let path = path.to_owned();
        Ok(Self {
            writer: Some(writer),
            begun: Instant::now(),
            path,
            options,
            encoder,
            waiting: VecDeque::new(),
            most,
            dropped: 0,
            dropped_at: Timestamp::UNIX_EPOCH,
        })
    }

    /// Takes an entry of this time, or drops it.
    pub(super) fn entry(&mut self, entry: &[u8], time: Timestamp) {
        if self.dropped == 0 && !self.fits(entry.len()) {
            self.turn();
        }
        if self.dropped > 0 || !self.fits(entry.len()) {
            self.dropped += 1;
            self.dropped_at = time;
        } else {
            self.waiting.extend(entry);
        }
    }

    /// One that is larger than all the room there is goes by itself, as with Docker.
    fn fits(&self, length: usize) -> bool {
        self.waiting.is_empty() || self.waiting.len().saturating_add(length) <= self.most
    }

    /// Writable when more of what waits can go.
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        let writer = self.writer.as_ref().filter(|_| !self.waiting.is_empty())?;
        Some(PollFd::new(&writer.pipe, PollFlags::OUT))
    }

    /// Lets go what can go now.
    pub(super) fn turn(&mut self) {
        loop {
            if self.dropped > 0 && self.waiting.len() <= self.most / 2 {
                self.tell();
            }
            let (first, _) = self.waiting.as_slices();
            if first.is_empty() {
                break;
            }
            let Some(writer) = &self.writer else {
                if self.begin_again() {
                    continue;
                }
                return;
            };
            match rustix::io::write(&writer.pipe, first) {
                Ok(length) => drop(self.waiting.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Somebody has ended it. What stands first may have gone in part.
                Err(_) => {
                    let first = self.waiting.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    self.waiting.drain(..first);
                    self.dropped += 1;
                    self.dropped_at = Timestamp::now();
                    if let Some(ended) = self.writer.take() {
                        let _ = waiting::reap(ended.pidfd.as_fd(), waiting::GONE);
                    }
                }
            }
        }
        self.waiting.shrink_to(BATCH);
    }

    /// Has another one write; not at once, if the last one was ended as soon as it was there.
    fn begin_again(&mut self) -> bool {
        if self.begun.elapsed() < BETWEEN {
            return false;
        }
        self.begun = Instant::now();
        self.writer = Writer::fork(&self.path, &self.options, &self.encoder).ok();
        self.writer.is_some()
    }

    fn tell(&mut self) {
        let lines = if self.dropped == 1 { "line was" } else { "lines were" };
        let text =
            format!("rbox: {} {lines} dropped here: they came faster than they were written\n", self.dropped);
        self.dropped = 0;
        let mut out = Vec::new();
        self.encoder.encode(&mut out, Stream::Stderr, text.as_bytes(), self.dropped_at);
        self.waiting.extend(out);
    }

    /// The program has ended: all that waits is written, and who writes it ends.
    pub(super) fn finish(&mut self) {
        let end = Instant::now() + PATIENCE;
        if self.dropped > 0 {
            self.tell();
        }
        // What says that it is over goes by itself, after the rest: who writes may have been ended, and begun again, before that.
        loop {
            self.turn();
            let is_told = self.waiting.is_empty()
                && self
                    .writer
                    .as_ref()
                    .is_none_or(|one| rustix::io::write(&one.pipe, END) != Err(Errno::AGAIN));
            if is_told || Instant::now() >= end {
                break;
            }
            let pause = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
            let mut fds: Vec<PollFd<'_>> =
                self.writer.iter().map(|one| PollFd::new(&one.pipe, PollFlags::OUT)).collect();
            let _ = rustix::event::poll(&mut fds, Some(&pause));
        }
        let left = end.saturating_duration_since(Instant::now());
        if let Some(writer) = &self.writer {
            let _ = waiting::reap(writer.pidfd.as_fd(), Patience::of(left));
        }
    }
}

/// What the process does that writes the log.
fn write_out(pipe: &OwnedFd, mut file: LogFile) {
    let mut waiting = Vec::new();
    let mut buffer = vec![0; BATCH];
    let mut is_over = false;
    while !is_over {
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => is_over = true,
            Ok(length) => waiting.extend_from_slice(&buffer[..length]),
            Err(Errno::INTR) => {}
            Err(_) => is_over = true,
        }
        let whole = end_of_last(&waiting);
        for entry in waiting[..whole].split_inclusive(|byte| *byte == b'\n') {
            if entry == END {
                is_over = true;
            } else {
                file.entry(entry);
            }
        }
        waiting.drain(..whole);
        file.flush();
    }
    file.close();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::logs::entry::Form;

    /// Nobody reads from the pipe at first.
    #[test]
    fn what_does_not_fit_is_dropped_and_told_of() {
        let (read, pipe) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        let encoder = Encoder::new(Form::Plain, &std::collections::BTreeMap::new()).unwrap();
        let pidfd = process::pidfd_open(std::process::id() as i32).unwrap();
        let mut aside = Aside {
            writer: Some(Writer { pidfd, pipe }),
            begun: Instant::now(),
            path: PathBuf::new(),
            options: LogOptions::default(),
            waiting: VecDeque::new(),
            most: 4096,
            encoder: encoder.clone(),
            dropped: 0,
            dropped_at: Timestamp::UNIX_EPOCH,
        };
        let entry = |n: u32| {
            let mut out = Vec::new();
            encoder.encode(&mut out, Stream::Stdout, format!("{n}\n").as_bytes(), Timestamp::UNIX_EPOCH);
            out
        };
        for n in 0..10_000 {
            aside.entry(&entry(n), Timestamp::UNIX_EPOCH);
            assert!(aside.waiting.len() <= 4096);
        }
        assert!(aside.dropped > 1000, "{}", aside.dropped);
        let dropped = aside.dropped;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = LogFile::open(&path, &LogOptions::default(), encoder.clone());
        let reader = std::thread::spawn(move || write_out(&read, file));
        while aside.waiting.len() > 1000 {
            aside.turn();
            std::thread::sleep(Duration::from_millis(1));
        }
        aside.entry(&entry(10_000), Timestamp::UNIX_EPOCH);
        aside.waiting.extend(END);
        while !aside.waiting.is_empty() {
            aside.turn();
            std::thread::sleep(Duration::from_millis(1));
        }
        reader.join().unwrap();
        let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
        let texts: Vec<&str> = text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap()).collect();
        let kept = 10_000 - dropped as usize;
        let mut wanted: Vec<String> = (0..kept).map(|n| n.to_string()).collect();
        wanted.push(format!(
            "rbox: {dropped} lines were dropped here: they came faster than they were written"
        ));
        wanted.push("10000".to_owned());
        assert_eq!(texts.len(), wanted.len());
        assert!(texts.iter().eq(&wanted), "{:?}", &texts[kept.saturating_sub(2)..]);
    }
}
