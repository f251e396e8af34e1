//! Containers by name, and what is done with one.

use std::io;
use std::path::Path;

use rbox_image::Image;
use rbox_runtime::rootfs::changes::ChangeKind;
use rbox_spec::container::NetworkMode;
use rbox_spec::id::ContainerId;
use rbox_spec::mount::MountSpec;
use rbox_spec::signal::Signal;
use rbox_spec::{ContainerName, Reference};

use crate::changes::commit::{CommitRequest, Committed};
use crate::changes::{commit, diff};
use crate::cleanup::tidy::tidy;
use crate::containers::running::{as_asked, not_running, refuse_unreadable};
use crate::containers::stop_mark::Why;
use crate::containers::volumes::volume_users;
use crate::containers::{find, name, pause_lease};
use crate::control::signal::{StopRequest, Stopped};
use crate::control::update::UpdateRequest;
use crate::control::{mounts, remove, rename, signal, start, update};
use crate::copy::fill;
use crate::create::request::CreateRequest;
use crate::create::{Base, create};
use crate::engine::{Engine, Event};
use crate::error::EngineError;
use crate::inspect::create_command::{CreateCommand, MadeOf, create_command};
use crate::journal::{ContainerAction, ImageAction, note_container};
use crate::monitor::StartOptions;
use crate::record::container::{Container, ContainerRecord, Status};
use crate::record::file::RecordError;
use crate::volume::store::{VolumeUsers, disk_usage};

/// How a container is removed.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveRequest {
    /// Also one that runs: it is killed first.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

impl Engine {
    /// All containers but those of builds, newest first, after what kills left behind was tidied up.
    ///
    /// # Errors
    /// The directory of records cannot be read.
    pub fn containers(&self) -> Result<Vec<Container>, EngineError> {
        let mut all = self.containers_and_steps()?;
        all.retain(|container| container.record.build_step.is_none());
        Ok(all)
    }

    /// The same with those of builds, which use networks and have to end as well.
    pub(super) fn containers_and_steps(&self) -> Result<Vec<Container>, EngineError> {
        self.tidy();
        let all = find::list(&self.paths)?;
        name::sweep_names(&self.paths, &all);
        Ok(all)
    }

    /// Those that run, newest first.
    ///
    /// # Errors
    /// The directory of records cannot be read.
    pub fn running(&self) -> Result<Vec<Container>, EngineError> {
        self.tidy();
        let mut running = find::list_running(&self.paths)?;
        running.retain(|container| container.record.build_step.is_none());
        Ok(running)
    }

    /// The container of this name, id or unique beginning of an id, as it is now.
    ///
    /// # Errors
    /// There is none, or more than one; or its record cannot be read.
    pub fn container(&self, name: &str) -> Result<Container, EngineError> {
        let again = |container: &Container| {
            let found = find::find(&self.paths, container.record.id.as_str());
            // Removed meanwhile: the caller knows it by another name than its id.
            found
                .map(|found| Container { asked: container.asked.clone(), ..found })
                .map_err(|error| as_asked(container, error))
        };
        let mut container = find::find(&self.paths, name)?;
        // By a command that was killed, and nobody else: it goes on.
        if container.status == Status::Paused && pause_lease::end_abandoned(&self.paths, &container.record.id)
        {
            container = again(&container)?;
        }
        // Only one whose end nobody wrote down has something to tidy up: it seems not to run any more, and has no exit. After
        // a boot that may be any.
        let seems_alive = self.paths.live_of(&container.record.id).exists();
        if container.is_active() || (!seems_alive && self.paths.boot_mark().exists()) {
            return Ok(container);
        }
        self.tidy();
        again(&container)
    }

    /// Mounts these in a container that exists: at once when it runs, and from then on.
    ///
    /// # Errors
    /// Something is mounted there already, a source is missing, or it cannot be mounted. What was mounted before that stays.
    pub fn add_mounts(&self, container: &Container, wanted: &[MountSpec]) -> Result<(), EngineError> {
        mounts::add(&self.paths, container, wanted)
    }

    /// Takes away what is mounted on `target` in a container, at once when it runs, and from then on.
    ///
    /// # Errors
    /// Nothing is mounted there.
    pub fn remove_mount(&self, container: &Container, target: &str) -> Result<(), EngineError> {
        mounts::remove(&self.paths, container, target)
    }

    /// A container as it is now, by its id. None when it was removed.
    pub fn current(&self, id: &ContainerId) -> Option<Container> {
        Container::read(&self.paths, id).ok().flatten()
    }

    /// The bytes that a container has written to its layer.
    pub fn written(&self, record: &ContainerRecord) -> u64 {
        disk_usage(&record.upper(&self.paths))
    }

    /// The bytes of a container's log, with the files that were full.
    pub fn log_size(&self, record: &ContainerRecord) -> u64 {
        let log = self.paths.log(&record.id);
        let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else { return 0 };
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let is_part = |entry: &std::fs::DirEntry| {
            entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes())
        };
        entries.filter(is_part).filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
    }

    /// Tells `tell` what a container has changed in its file system, in Docker's order. It may run meanwhile.
    ///
    /// # Errors
    /// Its layers cannot be read, or `tell` fails.
    pub fn changes(
        &self,
        container: &Container,
        tell: &mut dyn FnMut(ChangeKind, &Path) -> io::Result<()>,
    ) -> Result<(), EngineError> {
        diff::diff(&self.paths, container, tell)
    }

    /// Makes an image of what a container has changed, on the layers of its own. A container that runs is paused while it is read, if the
    /// request says so.
    ///
    /// # Errors
    /// A change is refused, what the container has written cannot be read, or the image cannot be written. Then there is none.
    pub fn commit(&self, container: &Container, request: CommitRequest) -> Result<Committed, EngineError> {
        let comment = request.message.clone().unwrap_or_default();
        let name = request.reference.clone().map(Reference::with_default_tag);
        let committed = commit::commit(&self.paths, &self.images()?, container, request)?;
        self.note_image(&committed.image, ImageAction::Create);
        if let Some(name) = &name {
            self.tell_tag(&committed.image, name);
        }
        let reference = name.map(|name| name.familiar()).unwrap_or_default();
        let image = committed.image.id.to_string();
        let action = ContainerAction::Commit { image: &image, reference: &reference, comment: &comment };
        note_container(&self.paths, &container.record, action);
        Ok(committed)
    }

    /// What `inspect` shows of a container. With `image_size`, the bytes of its image, its sizes too.
    pub fn inspect(&self, container: &Container, image_size: Option<u64>) -> serde_json::Value {
        crate::inspect::container(&self.paths, container, image_size)
    }

    /// The words of the command line that makes this container again, without quotes.
    ///
    /// # Errors
    /// The image store cannot be read.
    pub fn create_command(&self, container: &Container) -> Result<CreateCommand, EngineError> {
        let (store, record) = (self.images()?, &container.record);
        let of_image = !record.image_id.is_empty();
        let named = of_image
            && store.find(&record.image)?.is_some_and(|image| image.id.to_string() == record.image_id);
        let of_id = record.image_id.parse().ok().map(|id| store.find_id(&id)).transpose()?.flatten();
        let made_of = MadeOf {
            config: of_id.map(|image| image.config.config.clone()),
            is_named: named || record.embedded,
        };
        Ok(create_command(&self.paths, container, made_of))
    }

    /// Which containers mount which volume.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn volume_users(&self) -> Result<VolumeUsers, RecordError> {
        volume_users(&self.paths)
    }

    /// Makes a container of an image. Nothing of it runs.
    ///
    /// # Errors
    /// The request asks for what cannot be, the name is taken, or the record cannot be written.
    pub fn create(&self, request: CreateRequest, image: &Image) -> Result<ContainerRecord, EngineError> {
        let record = create(&self.paths, Base::Image(&self.images()?, image), request)?;
        self.tell_discarded_ports(&record);
        Ok(record)
    }

    /// Makes a container of the files in a directory of the host. What it changes goes to a layer of its own, and the directory stays as it
    /// is.
    ///
    /// # Errors
    /// As [`Engine::create`]; and what is there is no directory, or has this engine's own files in it.
    pub fn create_on(&self, request: CreateRequest, dir: &Path) -> Result<ContainerRecord, EngineError> {
        let dir = dir.canonicalize().map_err(EngineError::file("find", dir))?;
        let refused = |why: &str| Err(EngineError::Invalid(format!("rootfs {}: {why}", dir.display())));
        if !dir.is_dir() {
            return refused("it is not a directory");
        }
        if [&self.paths.root, &self.paths.state]
            .into_iter()
            .any(|own| own.starts_with(&dir) || dir.starts_with(own))
        {
            return refused("it has rbox's own files in it, or is one of them");
        }
        let request = CreateRequest { image: dir.to_string_lossy().into_owned(), ..request };
        let record = create(&self.paths, Base::Directory(&dir), request)?;
        self.tell_discarded_ports(&record);
        Ok(record)
    }

    /// Copies what its image has into the empty volumes of a container that was made and is not to be started yet.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn fill_volumes(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        self.current(&record.id).map_or(Ok(()), |container| fill::fill(&self.paths, &container))
    }

    fn tell_discarded_ports(&self, record: &ContainerRecord) {
        if let Some(why) = self.discards_ports(record) {
            self.event(Event::PortsDiscarded { record, why });
        }
    }

    /// Why a container's ports are published nowhere, if they are not.
    fn discards_ports(&self, record: &ContainerRecord) -> Option<&'static str> {
        let host = &record.host;
        if host.ports.is_empty() && !host.publish_all {
            return None;
        }
        let store = self.networks();
        let mut networks = host.attachments.iter();
        match host.network {
            NetworkMode::Host => Some("using host network mode"),
            NetworkMode::None => Some("the container has no network"),
            NetworkMode::Bridge
                if networks.all(|wanted| {
                    let network = store.attached(&wanted.network_id, &wanted.network);
                    network.is_ok_and(|network| network.internal)
                }) =>
            {
                Some("all its networks are internal")
            }
            _ => None,
        }
    }

    /// Starts a container, and comes back when its program runs.
    ///
    /// # Errors
    /// What it needs is not there any more, its record cannot be read, or its program cannot be executed.
    pub fn start(&self, container: &Container, options: StartOptions) -> Result<start::Started, EngineError> {
        refuse_unreadable(container)?;
        start::start(&self.paths, &container.record, options).map_err(|error| as_asked(container, error))
    }

    /// Begins to start a container: several can be begun before one of them is [waited for](start::Begun::wait).
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn begin_start(
        &self,
        container: &Container,
        options: StartOptions,
    ) -> Result<start::Begun, EngineError> {
        refuse_unreadable(container)?;
        start::begin(&self.paths, &container.record, options).map_err(|error| as_asked(container, error))
    }

    /// The same for one that was made just now.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_created(
        &self,
        record: &ContainerRecord,
        options: StartOptions,
    ) -> Result<start::Started, EngineError> {
        start::start(&self.paths, record, options)
    }

    /// Removes one of `--rm` that was made just now and will not be started.
    ///
    /// # Errors
    /// Its files cannot be removed.
    pub fn give_up(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        if record.host.auto_remove { start::remove_unstarted(&self.paths, record) } else { Ok(()) }
    }

    /// Stops a container; one that does not run has stopped already.
    ///
    /// # Errors
    /// It does not end, its monitor does not clean up after it, or its record cannot be read.
    pub fn stop(&self, container: &Container, request: StopRequest) -> Result<(), EngineError> {
        self.stop_and_tell(container, request, &|| ()).map(drop)
    }

    /// The same; `ended` is called once its program has ended, while it is still cleaned up: what only waits for the program can go on.
    ///
    /// # Errors
    /// As [`Engine::stop`].
    pub fn stop_and_tell(
        &self,
        container: &Container,
        request: StopRequest,
        ended: &dyn Fn(),
    ) -> Result<Stopped, EngineError> {
        refuse_unreadable(container)?;
        signal::stop(&self.paths, container, request, Why::User, ended)
    }

    /// Stops a container if it runs, and starts it. One of `--rm` stays for its next life.
    ///
    /// # Errors
    /// As [`Engine::stop`] and [`Engine::start`].
    pub fn restart(&self, container: &Container, request: StopRequest) -> Result<Stopped, EngineError> {
        refuse_unreadable(container)?;
        let record = &container.record;
        let why = if record.host.auto_remove { Why::Restart } else { Why::User };
        let stopped = signal::stop(&self.paths, container, request, why, &|| ())?;
        if record.host.auto_remove {
            start::forget_volatile(&self.paths, record)?;
        }
        self.start(container, StartOptions::default())?;
        note_container(&self.paths, record, ContainerAction::Restart);
        Ok(stopped)
    }

    /// Sends a signal to a container's first process. After SIGKILL it has ended when this comes back.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self, container: &Container, with: Signal) -> Result<(), EngineError> {
        if !container.is_active() {
            return Err(not_running(container));
        }
        if with == Signal::KILL {
            signal::kill_now(&self.paths, container)
        } else {
            signal::signal(&self.paths, container, with)
        }
    }

    /// Sends SIGKILL to a container's first process without waiting for its end: to several before one of them is waited for.
    pub fn begin_kill(&self, container: &Container) {
        signal::begin_kill(&self.paths, container);
    }

    /// Freezes every process of a container.
    ///
    /// # Errors
    /// It does not run, or is paused already.
    pub fn pause(&self, container: &Container) -> Result<(), EngineError> {
        pause_lease::end_abandoned(&self.paths, &container.record.id);
        signal::pause(&self.paths, container)
    }

    /// Lets the processes of a paused container go on.
    ///
    /// # Errors
    /// It is not paused.
    pub fn unpause(&self, container: &Container) -> Result<(), EngineError> {
        signal::unpause(&self.paths, container)
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// The name is taken.
    pub fn rename(&self, container: &Container, name: &ContainerName) -> Result<(), EngineError> {
        rename::rename(&self.paths, container, name)
    }

    /// Gives a container other limits or another restart policy, at once when it runs.
    ///
    /// # Errors
    /// A value is refused; then nothing has changed.
    pub fn update(&self, container: &Container, request: &UpdateRequest) -> Result<(), EngineError> {
        update::update(&self.paths, container, request)
    }

    /// Waits until a container does not run any more; its exit code.
    ///
    /// # Errors
    /// Its record cannot be read, or it was removed meanwhile.
    pub fn wait(&self, container: &Container) -> Result<i32, EngineError> {
        signal::wait(&self.paths, container)
    }

    /// Removes a container, and what of its image only it still used.
    ///
    /// # Errors
    /// It runs, or its files cannot be removed.
    pub fn remove(&self, container: &Container, request: RemoveRequest) -> Result<(), EngineError> {
        remove::remove(&self.paths, container, request.force, request.volumes)?;
        self.release_layers(&container.record);
        Ok(())
    }

    /// Deletes what a container has outlived its image with. If that fails the next removal of an image tidies it up.
    fn release_layers(&self, record: &ContainerRecord) {
        for (image, layers) in record.images() {
            if let Ok(store) = self.images() {
                let _ = store.release(image.parse().ok(), layers);
            }
        }
    }

    /// Tidies up what kills left behind. What cannot be tidied up is the next command's work; it must not keep this one from
    /// showing what there is, nor from removing it.
    fn tidy(&self) {
        for error in tidy(&self.paths) {
            self.event(Event::NotTidied(&error));
        }
    }
}
