//! What every command stands on: the directories, and the things in them by name.

use rbox_engine::containers::volumes::volume_users;
use rbox_engine::containers::{find, name};
use rbox_engine::error::EngineError;
use rbox_engine::image::{Image, ImageStore, Listing};
use rbox_engine::image_store;
use rbox_engine::record::container::Container;
use rbox_engine::record::file::RecordError;
use rbox_engine::record::paths::Paths;
use rbox_engine::volume::store::{VolumeStore, VolumeUsers};

/// What holds for every command.
#[derive(Debug, Clone)]
pub(crate) struct Global {
    /// Where everything lies.
    pub(crate) paths: Paths,
    /// All commands as one tree, for what is made from it: help, completions and manual pages.
    pub(crate) tree: fn() -> clap::Command,
}

impl Global {
    /// The image store.
    pub(crate) fn images(&self) -> anyhow::Result<ImageStore> {
        Ok(image_store(&self.paths)?)
    }

    /// The images that can be read, newest first. One that cannot is told in a line of its own.
    pub(crate) fn listed_images(&self) -> anyhow::Result<Vec<Image>> {
        let Listing { images, broken } = self.images()?.listing()?;
        for one in broken {
            let why = crate::command::error::message(&anyhow::Error::from(one.error));
            let line = format!(
                "image {} is damaged: {why}; pull it again, or remove it with 'rbox rmi {}'",
                one.name, one.name
            );
            let line = format!("rbox: warning: {}\n", crate::output::escape::text(&line));
            crate::output::table::write_all(&mut std::io::stderr(), &line)?;
        }
        Ok(images)
    }

    /// Tidies what kills left behind. What cannot be tidied is reported, and the next command's work; it must not keep this one
    /// from showing what there is, nor from removing it.
    fn tidy(&self) {
        for error in rbox_engine::cleanup::tidy::tidy(&self.paths) {
            let line = format!("rbox: warning: {}\n", crate::output::escape::text(&error.with_causes()));
            // Nobody reads: nothing to be done about it.
            let _ = crate::output::table::write_all(&mut std::io::stderr(), &line);
        }
    }

    /// All containers, newest first, after what kills left behind was tidied.
    pub(crate) fn containers(&self) -> Result<Vec<Container>, EngineError> {
        self.tidy();
        let all = find::list(&self.paths)?;
        name::sweep_names(&self.paths, &all);
        Ok(all)
    }

    /// Those that live, newest first.
    pub(crate) fn running(&self) -> Result<Vec<Container>, EngineError> {
        self.tidy();
        find::list_running(&self.paths)
    }

    /// The container of this name, id or unique beginning of an id, as it is now.
    pub(crate) fn container(&self, name: &str) -> Result<Container, EngineError> {
        let container = find::find(&self.paths, name)?;
        // Only one whose end nobody wrote down has something to tidy: it seems to live no more, and has no exit. After a
        // boot that may be any.
        let seems_alive = self.paths.live_of(&container.record.id).exists();
        if container.is_active() || (!seems_alive && self.paths.boot_mark().exists()) {
            return Ok(container);
        }
        self.tidy();
        find::find(&self.paths, container.record.id.as_str())
    }

    /// The volumes.
    pub(crate) fn volumes(&self) -> VolumeStore {
        VolumeStore::new(&self.paths.volumes())
    }

    /// Which containers mount which volume.
    pub(crate) fn volume_users(&self) -> Result<VolumeUsers, RecordError> {
        volume_users(&self.paths)
    }
}
