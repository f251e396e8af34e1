//! What those need who look after several containers at once.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbox_spec::given::Content;
use rbox_sys::lock::{self, How, Patience};
use rbox_sys::{own, reading};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::networks::hand_over::{self, Reached};
use crate::record::container::{Container, ContainerRecord};
use crate::watch::Watch;

/// How long another command may change the containers of a project: it may have to stop all of them.
const PATIENCE: Patience = Patience::of(Duration::from_mins(5));

/// The right to change the containers of a project. It goes with the process that has it.
#[derive(Debug)]
pub struct ProjectLock {
    _file: File,
}

/// Wakes whoever waits for something to happen to any container.
#[derive(Debug)]
pub struct Happenings(Watch);

impl Happenings {
    /// Waits until something has happened since the last call, `other` is readable, or half a second or `at_most` is over.
    ///
    /// # Errors
    /// Of poll(2) and read(2).
    pub fn wait(&self, other: Option<BorrowedFd<'_>>, at_most: Option<Duration>) -> io::Result<()> {
        self.0.wait(other, at_most)
    }

    /// The same with several others.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_for_any(&self, others: &[BorrowedFd<'_>], at_most: Option<Duration>) -> io::Result<()> {
        self.0.wait_for_any(others, at_most)
    }
}

/// No project's name has a plus sign.
fn lock_name(project: &str, purpose: Option<&str>) -> String {
    match purpose {
        Some(purpose) => format!("{project}+{}", purpose.replace('/', "_")),
        None => project.to_owned(),
    }
}

/// Whether the lock was free, and is this process's now.
fn is_taken(path: &Path, file: &File) -> Result<bool, EngineError> {
    lock::try_take(file, How::Exclusive).map_err(|errno| EngineError::file("lock", path)(errno.into()))
}

impl Engine {
    /// Keeps others from changing the containers of a Compose project, as long as the answer is held. `waiting` is called when another
    /// command does so now.
    ///
    /// # Errors
    /// Another command changes them for minutes, or was stopped meanwhile; or the lock's file cannot be made.
    pub fn lock_project(&self, project: &str, waiting: &dyn Fn()) -> Result<ProjectLock, EngineError> {
        let (path, file) = self.project_file(project, None)?;
        if is_taken(&path, &file)? {
            return Ok(ProjectLock { _file: file });
        }
        waiting();
        lock::take(&file, How::Exclusive, PATIENCE).map_err(EngineError::file("lock", &path))?;
        Ok(ProjectLock { _file: file })
    }

    /// Keeps others from doing one thing to a Compose project. None where another command does it now.
    ///
    /// # Errors
    /// The lock's file cannot be made.
    pub fn try_lock_project(&self, project: &str, purpose: &str) -> Result<Option<ProjectLock>, EngineError> {
        let (path, file) = self.project_file(project, Some(purpose))?;
        if !is_taken(&path, &file)? {
            return Ok(None);
        }
        // Who has it is only told: without it the lock is as good.
        let _ = file.set_len(0).and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes()));
        Ok(Some(ProjectLock { _file: file }))
    }

    /// The process that has such a lock, or had it last.
    pub fn project_lock_holder(&self, project: &str, purpose: &str) -> Option<u32> {
        let path = self.paths.project_lock(&lock_name(project, Some(purpose)));
        String::from_utf8(reading::read_file(&path, 32).ok()?).ok()?.parse().ok()
    }

    fn project_file(&self, project: &str, purpose: Option<&str>) -> Result<(PathBuf, File), EngineError> {
        if project.is_empty() || project.contains('/') {
            return Err(EngineError::Invalid(format!("invalid project name {project:?}")));
        }
        let path = self.paths.project_lock(&lock_name(project, purpose));
        let mut options = File::options();
        options.create(true).truncate(false).write(true).read(true);
        let file = own::open(&path, &mut options).map_err(EngineError::file("open", &path))?;
        Ok((path, file))
    }

    /// Makes `next` be reached by `reached`, of which `former` has the ports and names until then. What is under way to `former` goes on;
    /// what begins from here on comes to `next`.
    ///
    /// # Errors
    /// One of the two does not run or is gone, or a port that `former` has not cannot be had.
    pub fn hand_over(
        &self,
        former: &Container,
        next: &Container,
        reached: &Reached,
    ) -> Result<(), EngineError> {
        hand_over::hand_over(&self.paths, former, next, reached)
    }

    /// Waits until nobody is connected any more to the published ports of a container, `at_most` so long.
    pub fn drain(&self, container: &Container, at_most: Duration) {
        hand_over::drain(container, at_most);
    }

    /// Holds the ports that a container took over, now that the one before it is gone.
    ///
    /// # Errors
    /// It is gone.
    pub fn hold_ports(&self, container: &Container) -> Result<(), EngineError> {
        hand_over::hold(&self.paths, container)
    }

    /// Where the files of projects are that came from elsewhere: containers may have them mounted.
    pub fn projects_dir(&self) -> PathBuf {
        self.paths.projects()
    }

    /// What is in the files that a container is given, in their order: to tell whether it is still what it should be. One that cannot
    /// be read is empty.
    pub fn contents(&self, record: &ContainerRecord) -> Vec<Content> {
        crate::create::contents::read(&self.paths, record)
    }

    /// What happens to containers from here on, to be waited for.
    ///
    /// # Errors
    /// Of inotify(7).
    pub fn happenings(&self) -> Result<Happenings, EngineError> {
        let journal = self.paths.journal();
        Watch::beside(&journal).map(Happenings).map_err(EngineError::file("watch", journal))
    }
}
