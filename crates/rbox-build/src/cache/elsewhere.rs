//! Results of steps that are elsewhere, wherever that is: which there are, and a layer when a step needs it.

use std::fmt;
use std::io::Read;
use std::path::Path;

use rbox_engine::engine::Engine;
use rbox_image::ImageStore;
use rbox_image::archive::uncompressed_up_to;
use rbox_image::media::{Compression, Descriptor};
use rbox_image::store::{Expected, Transaction};
use rbox_spec::Reference;

use super::key::Key;
use super::layout;
use super::place::Place;
use super::registry;
use super::steps::{Carried, Known, layer_of, most_packed};
use super::store::{StepResult, Turn};
use crate::error::{BuildError, io_error};
use crate::request::CacheSource;

/// A layer that needs no more than this part of the room is taken beside others: no build does more steps at once.
const MOST_TOGETHER: u64 = 32;

/// Results of steps that are elsewhere.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    at: At,
    steps: Known,
}

/// Where.
#[derive(Debug)]
enum At {
    Directory(Place),
    Registry(Reference),
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Directory(place) => write!(f, "{}", place.path().display()),
            At::Registry(name) => f.write_str(&name.full()),
        }
    }
}

impl Elsewhere {
    /// Reads which steps there are.
    pub(crate) fn read(source: &CacheSource, engine: &Engine) -> Result<Self, BuildError> {
        match source {
            CacheSource::Directory { dir, which } => {
                let (place, steps) = layout::read(dir, which)?;
                Ok(Self { at: At::Directory(place), steps })
            }
            CacheSource::Registry(name) => {
                let steps = registry::read(&engine.remote()?, name)?;
                Ok(Self { at: At::Registry(name.clone()), steps })
            }
        }
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.steps.contains_key(key)
    }

    /// Takes the layer of a step into the store, if there is one. `what`: the step. `turn`: waits until no other takes one that needs much
    /// of the room there is.
    pub(crate) fn fetch(
        &self,
        key: &Key,
        what: &str,
        (engine, transaction): (&Engine, &Transaction<'_>),
        turn: &dyn Fn() -> Result<Turn, BuildError>,
    ) -> Result<Option<StepResult>, BuildError> {
        let Some((blob_size, step)) = self.steps.get(key) else { return Ok(None) };
        let store = transaction.store();
        let media_type = Compression::None.layer_type();
        let layer = layer_of(store, step.diff_id, step.size);
        let size = if store.has_whole_layer(&layer.diff_id, &layer.digest, layer.blob_size) {
            store.layer_size(&layer)
        } else {
            self.take(step, *blob_size, (engine, transaction), turn)?
        };
        Ok(Some(StepResult {
            diff_id: step.diff_id,
            digest: step.diff_id,
            blob_size: step.size,
            media_type: media_type.to_owned(),
            size,
            created: step.created.clone(),
            what: what.to_owned(),
        }))
    }

    /// Brings a layer in. The bytes of its files.
    fn take(
        &self,
        step: &Carried,
        blob_size: u64,
        (engine, transaction): (&Engine, &Transaction<'_>),
        turn: &dyn Fn() -> Result<Turn, BuildError>,
    ) -> Result<u64, BuildError> {
        let (digest, diff_id) = (Some(step.diff_id), Some(step.diff_id));
        let expected = Expected { digest, size: Some(step.size), diff_id };
        let store = transaction.store();
        let put = |blob: Box<dyn Read + Send + '_>| -> Result<u64, BuildError> {
            let tar = uncompressed_up_to(step.size, blob.take(blob_size))
                .map_err(|error| io_error("read", Path::new(&format!("{} of {self}", step.blob)))(error))?;
            Ok(transaction.add_layer(tar, &expected)?.size)
        };
        match &self.at {
            At::Directory(place) => {
                let file = layout::open(place, step, blob_size)?;
                let _turn = room_for(step.size, &|| free(store), turn)?;
                put(Box::new(file))
            }
            At::Registry(name) => {
                if blob_size > most_packed(step.size) {
                    return Err(BuildError::Invalid(format!(
                        "{} is said to be {blob_size} bytes long, for a layer of {}",
                        step.blob, step.size
                    )));
                }
                let _turn = room_for(step.size, &|| free(store), turn)?;
                // Each time anew: a connection is not shared with the processes that were forked meanwhile.
                let remote = engine.remote()?;
                let blob = Descriptor::new("", step.blob, blob_size);
                put(Box::new(remote.blob_stream(name, &blob)))
            }
        }
    }
}

fn free(store: &ImageStore) -> Result<u64, BuildError> {
    let found = rustix::fs::statvfs(store.dir())
        .map_err(|errno| io_error("ask for the free space of", store.dir())(errno.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Refuses a layer that there is no room for. The steps of a build are taken side by side, and each would see the same room: those that
/// need much of it are taken in `turn`.
fn room_for<T>(
    size: u64,
    free: &dyn Fn() -> Result<u64, BuildError>,
    turn: &dyn Fn() -> Result<T, BuildError>,
) -> Result<Option<T>, BuildError> {
    // It is kept as it is and unpacked.
    let needed = size.saturating_mul(2);
    if needed <= free()? / MOST_TOGETHER {
        return Ok(None);
    }
    let turn = turn()?;
    let free = free()?;
    if needed > free {
        return Err(BuildError::Invalid(format!(
            "a layer of {size} bytes is more than there is room for ({free} bytes are free)"
        )));
    }
    Ok(Some(turn))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_looked_at_again_when_it_is_ones_turn() {
        let left = std::cell::Cell::new(6400_u64);
        let ask = |size| {
            let turn = || {
                // Who was before has taken most of it.
                left.set(1000);
                Ok(())
            };
            room_for(size, &|| Ok(left.get()), &turn)
        };
        assert!(ask(100).unwrap().is_none(), "many have room for it");
        assert!(ask(101).unwrap().is_some());
        left.set(6400);
        let error = ask(3000).unwrap_err().to_string();
        assert!(error.contains("more than there is room for (1000 bytes are free)"), "{error}");
    }
}
