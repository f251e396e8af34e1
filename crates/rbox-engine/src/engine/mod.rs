//! The one door for all who use containers: the command line, and whoever comes after it. An [`Engine`] is opened once from
//! its directories; its methods take requests and give answers. It prints nothing, and knows no exit codes and no flags.

mod building;
mod checking;
mod containers;
mod copying;
mod events;
mod host;
mod images;
mod layered;
mod looking;
mod networks;
mod processes;
mod projects;
mod prune;
mod volumes;

use std::fmt;
use std::sync::Arc;

use rbox_image::{ImageStore, IndexMadeAgain, Notices, PullEvent, Pulled, PushEvent, StoreError};
use rbox_spec::{Platform, Reference};

use crate::containers::images::image_store;
use crate::error::EngineError;

pub use crate::cdi::find::{FoundDevice, FoundDevices};
pub use crate::changes::commit::{CommitRequest, Committed};
pub use crate::check::{Finding, Outcome, Trouble};
pub use crate::containers::image_mounts::ImageMount;
pub use crate::control::boot::stay;
pub use crate::control::exec::{ExecProcess, ExecRequest, ExecStdio};
pub use crate::control::signal::{SignalAction, StopRequest, Stopped};
pub use crate::control::start::{Begun, Started};
pub use crate::control::stats::{CpuStats, MemoryStats, Stats};
pub use crate::control::update::UpdateRequest;
pub use crate::create::request::CreateRequest;
pub use crate::create::security::SecurityOptions;
pub use crate::inspect::create_command::CreateCommand;
pub use crate::journal::{ActorType, EVENT_KEYS, EventFilter, EventQuery, Message};
pub use crate::logs::Stream;
pub use crate::logs::{LogEntry, LogGap, LogQuery, LogSink, MAX_ENTRY};
pub use crate::monitor::StartOptions;
pub use crate::networks::hand_over::Reached;
pub use crate::record::container::{Container, ContainerRecord, Status};
pub use crate::record::health::{CheckResult, Health, HealthStatus};
pub use crate::record::paths::{DEFAULT_ROOT, DEFAULT_STATE, Paths};
pub use crate::steps::{StepNews, StepRequest, StepRun};
pub use crate::volume::store::{NewVolume, Volume, VolumeError, VolumeStore};
pub use crate::why::cause::Cause;
pub use building::{
    LayerTree, pack_archive, pack_directory, unpack_archive, unpack_directory, unpack_on_host,
};
pub use checking::CheckRequest;
pub use containers::RemoveRequest;
pub use copying::{Copied, Packed, Progress};
pub use host::NamedDevices;
pub use images::{ImageRequest, ObtainedImage, PullPolicy};
pub use layered::{Covering, FileLayer, LayerKind};
pub use looking::{FileDifference, ImageDifferences};
pub use projects::{Happenings, ProjectLock};
pub use prune::{PrunedContainers, PrunedNetworks};
pub use rbox_runtime::rootfs::changes::{ChangeKind, Place, What};
pub use rbox_runtime::rootfs::compare::{Difference, Differs};

/// What happens while the engine works, for those who show it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// What a killed command left behind could not be tidied up. The next command tries again.
    NotTidied(&'a EngineError),
    /// An image that was listed cannot be read.
    ImageDamaged {
        /// Its name or id.
        name: &'a str,
        /// What is wrong with it.
        error: &'a StoreError,
    },
    /// The list of images could not be read and was made again.
    IndexMadeAgain(&'a IndexMadeAgain),
    /// The image is not in the store, and is pulled.
    ImageMissing(&'a Reference),
    /// A pull has come so far.
    Pull(PullEvent<'a>),
    /// A pull is done.
    Pulled {
        /// What was asked for.
        reference: &'a Reference,
        /// What it came to.
        pulled: &'a Pulled,
    },
    /// A push has come so far.
    Push(PushEvent<'a>),
    /// A registry did not answer as it should, and why that is waited for.
    Waiting(&'a str),
    /// The image is for another kind of machine, and nobody asked for that.
    ForeignImage {
        /// The image's.
        image: &'a Platform,
        /// This machine's.
        host: &'a Platform,
    },
    /// The journal of events has so many bytes that are no event.
    JournalDamaged(usize),
    /// So many files of the journal of events were deleted before they could be read.
    EventsLost(u64),
    /// The container's ports are published nowhere.
    PortsDiscarded {
        /// The container.
        record: &'a ContainerRecord,
        /// Why not, in Docker's words.
        why: &'static str,
    },
}

/// Shows what happens, or keeps it.
pub trait Observer: Send + Sync {
    /// Takes one event. A pull calls this from several threads at once.
    fn event(&self, event: Event<'_>);
}

/// One that looks at nothing.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Observer for Nobody {
    fn event(&self, _: Event<'_>) {}
}

/// What the image store does unasked, as events.
struct Noticed(Arc<dyn Observer>);

impl fmt::Debug for Noticed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Noticed").finish()
    }
}

impl Notices for Noticed {
    fn index_made_again(&self, notice: &IndexMadeAgain) {
        self.0.event(Event::IndexMadeAgain(notice));
    }
}

/// A container engine: its directories, and who watches.
#[derive(Clone)]
pub struct Engine {
    paths: Paths,
    observer: Arc<dyn Observer>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Engine {
    /// The engine of these directories. Nothing is read or made yet.
    pub fn open(paths: Paths, observer: Arc<dyn Observer>) -> Self {
        Self { paths, observer }
    }

    /// The same with another observer.
    #[must_use]
    pub fn watched_by(&self, observer: Arc<dyn Observer>) -> Self {
        Self { paths: self.paths.clone(), observer }
    }

    /// Where everything is.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The image store.
    ///
    /// # Errors
    /// Its directory cannot be made or read, or is another version's.
    pub fn images(&self) -> Result<ImageStore, StoreError> {
        Ok(image_store(&self.paths)?.with_notices(Arc::new(Noticed(Arc::clone(&self.observer)))))
    }

    /// The volumes.
    pub fn volumes(&self) -> VolumeStore {
        VolumeStore::of(&self.paths)
    }

    fn event(&self, event: Event<'_>) {
        self.observer.event(event);
    }
}
