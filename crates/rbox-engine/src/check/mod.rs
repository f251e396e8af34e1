//! What of the store and the host belongs to nobody or is damaged.
//!
//! What kills leave is tidied up by every command; this looks for the rest: what somebody has changed by hand, a disk has lost, or a
//! kernel has kept. Nothing is changed by looking.

mod finding;
mod host;
mod images;
mod records;

use std::path::PathBuf;
use std::time::Duration;

use rbox_image::ImageStore;
use rbox_spec::id::ContainerId;
use rbox_spec::{Platform, Reference};

use crate::cleanup::free;
use crate::containers::down::Down;
use crate::error::EngineError;
use crate::networks::store::{Live, networks};
use crate::record::lock::Lock;
use crate::record::paths::Paths;
use crate::volume::holders;
use crate::volume::store::VolumeStore;
use finding::Fix;

pub use finding::{Finding, Outcome, Trouble};

/// What belongs to a container that ends just now is gone after this.
const SETTLING: Duration = Duration::from_millis(500);

/// How long a monitor may take to clean up.
const ENDING: Duration = Duration::from_secs(10);

/// Looks at what the kernel has for containers.
pub(crate) fn look_at_host(paths: &Paths) -> Result<Vec<Finding>, EngineError> {
    let mut found = host::look(paths)?;
    if !found.is_empty() {
        std::thread::sleep(SETTLING);
        let again = host::look(paths)?;
        found.retain(|one| is_among(&again, one));
    }
    Ok(found)
}

/// Looks at the records and the image store.
pub(crate) fn look_at_files(
    paths: &Paths,
    store: &ImageStore,
    contents: bool,
) -> Result<Vec<Finding>, EngineError> {
    let mut found = records::look(paths)?;
    if !found.is_empty() {
        // What is made or removed just now is whole, or gone.
        std::thread::sleep(SETTLING);
        let again = records::look(paths)?;
        found.retain(|one| is_among(&again, one));
    }
    found.extend(images::look(paths, store, contents)?);
    Ok(found)
}

/// Whether what was found is found again.
pub(crate) fn is_among(found: &[Finding], one: &Finding) -> bool {
    found.iter().any(|other| one.is(other))
}

/// What of images there is to repair, which takes the network.
pub(crate) enum OfImages<'a> {
    /// Fetch it again by its digest.
    Image(&'a Reference, Option<&'a Platform>),
    /// Make this layer whole.
    Layer(&'a rbox_image::Image, &'a rbox_image::Layer, rbox_image::LayerDamage),
    /// Delete these, which have no name.
    Unnamed(&'a [PathBuf]),
}

/// What became of a repair.
pub(crate) enum Repair<'a> {
    /// It is done.
    Done,
    /// Somebody has it by now: it is as it should be.
    InUse,
    /// It is the image store's.
    Images(OfImages<'a>),
}

/// Repairs what is the host's. What was found is some moments old: each is looked at again while nobody can begin to use it. What is
/// the image store's comes back.
pub(crate) fn repair<'a>(paths: &Paths, one: &'a Finding) -> Result<Repair<'a>, String> {
    let lines = |errors: Vec<rbox_network::Error>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let text = |error: rbox_network::Error| error.to_string();
    let done = match &one.fix {
        None => return Err("it has to be done by hand".to_owned()),
        Some(Fix::Group(id)) => while_down(paths, id, || {
            let mut failures = Vec::new();
            free::free_group_of(paths, id, &mut failures);
            if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
        })?,
        Some(Fix::Unnoted(id)) => {
            if !host::is_unnoted(paths, id) {
                return Ok(Repair::InUse);
            }
            // Its monitor sees the end, and cleans up.
            free::kill_unrecorded(paths, id);
            let lock = Lock::take_within(&paths.live_of(id), ENDING).map_err(|error| error.to_string())?;
            lock.map(|_| true).ok_or_else(|| "its monitor does not let go of it".to_owned())?
        }
        // Somebody has removed it.
        Some(Fix::OwnLayer(id)) if !paths.config(id).exists() => false,
        Some(Fix::OwnLayer(id)) => while_down(paths, id, || {
            crate::create::make_own_layer(&paths.container(id)).map_err(|error| error.to_string())
        })?,
        Some(Fix::Data(name)) => {
            VolumeStore::of(paths).make_data(name).map_err(|error| error.to_string())?;
            true
        }
        Some(Fix::Link(bridge, link)) => host::remove_link(paths, bridge, link).map_err(text)?,
        Some(Fix::Rule(rule)) => host::remove_rule(paths, rule).map_err(text)?,
        Some(Fix::Networks) => {
            let live = Live::read(paths).map_err(|error| error.to_string())?;
            networks(paths).reconcile(&live.endpoints, &|id| host::may_run(paths, id)).map_err(lines)?;
            true
        }
        Some(Fix::Addresses(network, owner)) => {
            let give_back = || networks(paths).release_all(network, owner).map_err(text);
            match owner.parse() {
                Ok(id) => while_down(paths, &id, give_back)?,
                // No container is called that.
                Err(_) => give_back().map(|()| true)?,
            }
        }
        Some(Fix::Volume(name)) => {
            holders::unmount_unused(paths, name).map_err(|error| error.with_causes())?
        }
        Some(Fix::Image(name, platform)) => {
            return Ok(Repair::Images(OfImages::Image(name, platform.as_ref())));
        }
        Some(Fix::Layer(what)) => {
            return Ok(Repair::Images(OfImages::Layer(&what.0, &what.1, what.2)));
        }
        Some(Fix::Unnamed(paths)) => return Ok(Repair::Images(OfImages::Unnamed(paths))),
    };
    Ok(if done { Repair::Done } else { Repair::InUse })
}

/// Does what is to be done for a container that does not run while nobody can start it. False: it runs by now, or somebody is at it.
fn while_down(
    paths: &Paths,
    id: &ContainerId,
    work: impl FnOnce() -> Result<(), String>,
) -> Result<bool, String> {
    let Some(down) = Down::take(paths, id).map_err(|error| error.to_string())? else { return Ok(false) };
    let done = work();
    drop(down);
    done.map(|()| true)
}
