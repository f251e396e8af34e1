//! Carrying a project out with the engine: what [`crate::plan`] says is to be done, in an order that keeps what depends on others
//! waiting for them.

mod converge;
mod down;
mod ending;
mod hooks;
mod making;
mod one_off;
mod pre_start;
mod providers;
mod rolling;
mod start;
mod things;
mod up;
mod waiting;
mod walk;

use rbox_engine::engine::{Container, Engine, LogEntry, LogQuery, LogSink, ProjectLock};

use rbox_engine::error::EngineError;

use crate::plan::Cause;

pub use down::{DownRequest, RemovedImages, down, stop};

pub use hooks::{hook_request, run_hooks};
pub use one_off::{OneOff, one_off};
pub use pre_start::prepare;
pub use providers::{provide, stop_provided};
pub use things::tell_missing;
pub use up::{UpRequest, check, plan, up};
pub use waiting::{Far, far, ready};
pub use walk::{Visit, walk};

/// What something is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// A container.
    Container,
    /// An image.
    Image,
    /// A service that somebody else provides.
    Service,
}

impl Thing {
    /// As Compose names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "Network",
            Self::Volume => "Volume",
            Self::Container => "Container",
            Self::Image => "Image",
            Self::Service => "Service",
        }
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "Compose's words")]
pub enum Stage {
    Creating,
    Created,
    Recreate,
    Recreated,
    Starting,
    Started,
    Running,
    Waiting,
    Healthy,
    Exited,
    Error,
    Stopping,
    Stopped,
    Removing,
    Removed,
    StillInUse,
}

impl Stage {
    /// As Compose prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Created => "Created",
            Self::Recreate => "Recreate",
            Self::Recreated => "Recreated",
            Self::Starting => "Starting",
            Self::Started => "Started",
            Self::Running => "Running",
            Self::Waiting => "Waiting",
            Self::Healthy => "Healthy",
            Self::Exited => "Exited",
            Self::Error => "Error",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
            Self::Removing => "Removing",
            Self::Removed => "Removed",
            Self::StillInUse => "Resource is still in use",
        }
    }

    /// Whether something follows.
    pub fn is_going_on(self) -> bool {
        matches!(
            self,
            Self::Creating
                | Self::Recreate
                | Self::Starting
                | Self::Waiting
                | Self::Stopping
                | Self::Removing
        )
    }
}

/// Hears what is done.
pub trait Narrator: Sync {
    /// Something has come so far.
    fn tell(&self, thing: Thing, name: &str, stage: Stage);
    /// How far it is, in the words of who does it.
    fn tell_word(&self, thing: Thing, name: &str, word: &str);
    /// A container is made again, for these causes.
    fn because(&self, container: &str, causes: &[Cause]);
    /// What a container that failed has said last.
    fn said(&self, container: &str, text: &str);
    /// What the user should know.
    fn warn(&self, text: &str);
    /// Whether the output of what runs before a start is shown as it comes.
    fn shows_steps(&self) -> bool {
        false
    }
    /// A line of it.
    fn step_wrote(&self, _source: &str, _line: &str) {}
}

/// The right to change a project. Who has to wait for another command is told so.
pub(crate) fn alone(
    engine: &Engine,
    project: &str,
    narrator: &dyn Narrator,
) -> Result<ProjectLock, EngineError> {
    engine.lock_project(project, &|| {
        narrator.warn(&format!("another command changes project {project}: waiting for it"));
    })
}

/// The last lines that a container has written since it was started last, for the message that it failed.
pub(crate) fn last_lines(engine: &Engine, container: &Container) -> String {
    const MOST: u64 = 10;
    struct Lines(Vec<u8>);
    impl LogSink for Lines {
        fn entry(&mut self, entry: &LogEntry<'_>) -> std::io::Result<()> {
            self.0.extend_from_slice(&entry.text);
            Ok(())
        }
    }
    let mut lines = Lines(Vec::new());
    let exit = container.exit.as_ref().and_then(|exit| exit.started);
    let since = container.live.as_ref().map(|live| live.started).or(exit);
    let query = LogQuery { tail: Some(MOST), since, ..LogQuery::default() };
    // Without a log there are none.
    let _ = engine.logs(container, &query, false, &mut lines);
    String::from_utf8_lossy(&lines.0).trim_end().to_owned()
}
