//! What of the store and the host belongs to nobody or is damaged.
//!
//! What kills leave is tidied up by every command; this looks for the rest: what somebody has changed by hand, a disk has lost, or a
//! kernel has kept. Nothing is changed by looking.

mod finding;
mod host;
mod images;
mod records;

use std::time::Duration;

use rbox_image::ImageStore;

use crate::cleanup::free;
use crate::error::EngineError;
use crate::networks::store::{is_live, live_endpoints, networks};
use crate::record::paths::Paths;
use crate::volume::store::VolumeStore;
use finding::Fix;

pub use finding::{Finding, Outcome, Trouble};

/// What belongs to a container that ends just now is gone after this.
const SETTLING: Duration = Duration::from_millis(500);

/// Looks at everything.
pub(crate) fn look(paths: &Paths, store: &ImageStore, contents: bool) -> Result<Vec<Finding>, EngineError> {
    let mut found = host::look(paths)?;
    if found.iter().any(|one| one.trouble == Trouble::Stray) {
        std::thread::sleep(SETTLING);
        let again = host::look(paths)?;
        found.retain(|one| again.iter().any(|other| one.is(other)));
    }
    found.extend(records::look(paths)?);
    found.extend(images::look(paths, store, contents)?);
    Ok(found)
}

/// Whether what was found is found again.
pub(crate) fn is_among(found: &[Finding], one: &Finding) -> bool {
    found.iter().any(|other| one.is(other))
}

/// What of images there is to repair, which takes the network.
pub(crate) enum OfImages<'a> {
    /// Fetch it again by its name.
    Image(&'a str),
    /// Make this layer whole.
    Layer(&'a rbox_image::Image, &'a rbox_image::Layer, rbox_image::LayerDamage),
    /// Delete what has no name.
    Unnamed,
}

/// Repairs what is the host's. What is the image store's comes back.
pub(crate) fn repair<'a>(paths: &Paths, one: &'a Finding) -> Result<Option<OfImages<'a>>, String> {
    let lines = |errors: Vec<rbox_network::Error>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    match &one.fix {
        None => return Err("it has to be done by hand".to_owned()),
        Some(Fix::Group(id)) => {
            let mut failures = Vec::new();
            free::free_group_of(paths, id, &mut failures);
            if !failures.is_empty() {
                return Err(failures.join("; "));
            }
        }
        Some(Fix::Link(link)) => networks(paths).remove_link(link).map_err(|error| error.to_string())?,
        Some(Fix::Rule(rule)) => {
            networks(paths).remove_stray_rule(rule).map_err(|error| error.to_string())?;
        }
        Some(Fix::Networks) => {
            let live = live_endpoints(paths);
            networks(paths).reconcile(&live, &|id| is_live(paths, id)).map_err(lines)?;
        }
        Some(Fix::Addresses(network, owner)) => {
            networks(paths).release_all(network, owner).map_err(|error| error.to_string())?;
        }
        Some(Fix::Volume(name)) => {
            VolumeStore::of(paths).unmount(name).map_err(|error| error.to_string())?;
        }
        Some(Fix::Image(name)) => return Ok(Some(OfImages::Image(name))),
        Some(Fix::Layer(what)) => return Ok(Some(OfImages::Layer(&what.0, &what.1, what.2))),
        Some(Fix::Unnamed) => return Ok(Some(OfImages::Unnamed)),
    }
    Ok(None)
}
