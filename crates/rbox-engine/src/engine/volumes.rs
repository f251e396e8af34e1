//! What volumes hold, given out and taken in.

use std::io::{Read, Write};

use rbox_spec::VolumeName;
use rbox_sys::lock::How;

use crate::containers::find;
use crate::containers::pause_lease::PauseLease;
use crate::engine::Engine;
use crate::engine::copying::Packed;
use crate::error::EngineError;
use crate::volume::transfer;

impl Engine {
    /// Writes what a volume holds as a tar archive. `pause`: the containers that mount it stand still meanwhile.
    ///
    /// # Errors
    /// There is no such volume, it cannot be read, or the writer fails.
    pub fn export_volume(
        &self,
        name: &VolumeName,
        pause: bool,
        into: impl Write,
    ) -> Result<Packed, EngineError> {
        let mut paused = Vec::new();
        let mut alone = None;
        if pause && self.volumes().get(name)?.is_some() {
            // Who starts a container of it from here on waits; who is just doing so is waited for, and found.
            alone = Some(self.volumes().turn(name, How::Exclusive, &|| true)?);
            let users = self.volume_users()?.of(name);
            let mut running = find::list_running(self.paths())?;
            running.retain(|container| users.iter().any(|id| id == container.record.id.as_str()));
            // In one order, so that two who do this wait for each other and not for ever.
            running.sort_by(|a, b| a.record.id.as_str().cmp(b.record.id.as_str()));
            for container in running {
                paused.extend(PauseLease::take(self.paths(), &container.record.id)?);
            }
        }
        let packed = transfer::export(&self.volumes(), name, into);
        drop(paused);
        drop(alone);
        packed
    }

    /// Unpacks a tar archive, compressed or not, in a volume, which is made when it is not there.
    ///
    /// # Errors
    /// The archive is damaged or would lead out of the volume, or it cannot be written.
    pub fn import_volume(&self, name: &VolumeName, tar: impl Read + Send) -> Result<(), EngineError> {
        transfer::import(&self.volumes(), name, tar)
    }

    /// Makes a volume that holds what another one holds.
    ///
    /// # Errors
    /// There is no such volume, or the new name is taken.
    pub fn clone_volume(&self, from: &VolumeName, to: &VolumeName) -> Result<Packed, EngineError> {
        transfer::clone(&self.volumes(), from, to)
    }

    /// Gives a volume that no container mounts another name.
    ///
    /// # Errors
    /// Containers mount it, or the new name is taken.
    pub fn rename_volume(&self, from: &VolumeName, to: &VolumeName) -> Result<(), EngineError> {
        Ok(transfer::rename(&self.volumes(), from, to, &|| self.volume_users())?)
    }
}
