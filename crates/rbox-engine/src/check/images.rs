//! The image store: images, layers, blobs.

use std::collections::BTreeSet;
use std::path::Path;

use rbox_image::{Image, ImageStore, Layer, LayerDamage};
use rbox_spec::size::human_size;

use crate::check::finding::{Finding, Fix, Trouble};
use crate::containers::find;
use crate::error::EngineError;
use crate::record::paths::Paths;

const MADE_HERE: &str = "it was made or loaded here: build or load the image again";

/// `contents`: all layers are read and compared with their digests.
pub(super) fn look(paths: &Paths, store: &ImageStore, contents: bool) -> Result<Vec<Finding>, EngineError> {
    let mut found = Vec::new();
    let mut listing = store.listing()?;
    // A layer is told of by an image that it can be fetched for, and that has a name.
    listing.images.sort_by_key(|image| (image.repo_digests.is_empty(), image.references.is_empty()));
    for broken in &listing.broken {
        let (what, why) = (format!("image {}", broken.name), rbox_sys::plain(&broken.error));
        // By its name another image may come.
        found.push(if let Some((name, platform)) = &broken.origin {
            let fix = Fix::Image(name.clone(), platform.clone());
            Finding::repairable(Trouble::Damaged, what, why, fix)
        } else {
            let todo = format!("{MADE_HERE}, or 'rbox rmi {}'", broken.name);
            Finding::by_hand(Trouble::Damaged, what, why, todo)
        });
    }
    let mut seen = BTreeSet::new();
    for image in &listing.images {
        for layer in image.layers.iter().filter(|layer| seen.insert((layer.diff_id, layer.digest))) {
            if let Some(damage) = store.layer_damage(layer, contents)? {
                found.push(of_layer(image, layer, damage));
            }
        }
    }
    let known: BTreeSet<&Path> =
        listing.images.iter().flat_map(|image| &image.layers).map(|layer| layer.dir.as_path()).collect();
    for container in &find::list(paths)? {
        let record = &container.record;
        let layers = record.images().flat_map(|(_, layers)| layers);
        let gone = layers.filter(|layer| !known.contains(layer.as_path()) && !layer.is_dir());
        for layer in gone {
            let what = format!("container {}", record.name);
            let why = format!("its layer {} is gone", layer.display());
            let todo = format!("'rbox pull {}' brings it back if the image is still the same", record.image);
            found.push(Finding::by_hand(Trouble::Damaged, what, why, todo));
        }
    }
    let unnamed = store.unnamed()?;
    if !unnamed.is_empty() {
        let bytes: u64 = unnamed.iter().map(|(_, bytes)| bytes).sum();
        let (many, whose) = match unnamed.len() {
            1 => ("1 layer or blob".to_owned(), "has it; it takes"),
            count => (format!("{count} layers and blobs"), "has them; they take"),
        };
        let what = format!("{many} below {}", store.dir().display());
        let why = format!("no image, container or build {whose} {}", human_size(bytes as f64));
        let paths = unnamed.into_iter().map(|(path, _)| path).collect();
        found.push(Finding::repairable(Trouble::Stray, what, why, Fix::Unnamed(paths)));
    }
    Ok(found)
}

fn of_layer(image: &Image, layer: &Layer, damage: LayerDamage) -> Finding {
    let name = name(image);
    let what = format!("layer {} of image {name}", layer.digest);
    let why = match damage {
        LayerDamage::NotUnpacked => "it is not unpacked",
        LayerDamage::NoBlob => "its blob is gone",
        LayerDamage::Blob => "its blob is not what the digest says",
        LayerDamage::Files => "its unpacked files are not those of its blob",
    };
    let has_blob = matches!(damage, LayerDamage::NotUnpacked | LayerDamage::Files) && !is_made_here(layer);
    if image.repo_digests.is_empty() && !has_blob {
        return Finding::by_hand(Trouble::Damaged, what, why, MADE_HERE);
    }
    let fix = Fix::Layer(Box::new((image.clone(), layer.clone(), damage)));
    Finding::repairable(Trouble::Damaged, what, why, fix)
}

/// Its files are all there is of it.
fn is_made_here(layer: &Layer) -> bool {
    layer.digest == layer.diff_id
}

fn name(image: &Image) -> String {
    image.references.first().map_or_else(|| image.id.to_string(), rbox_spec::Reference::familiar)
}
