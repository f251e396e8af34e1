//! Archives as Docker wrote them before 1.10: no `manifest.json`, but a `repositories` file with the names, and a directory
//! a layer with `json`, `VERSION` and `layer.tar`. Each `json` is the configuration of the image that ends with this layer,
//! and names its parent. Configuration and history of today's kind are put together from the chain.
//!
//! Ids are looked up among the directories that the archive has, and never become part of a path.
//! Source: moby `image/tarexport/load.go`, `legacyLoad`, and `image/v1/imagev1.go`, `MakeConfigFromV1Config`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;

use rbox_spec::{Digest, Platform, Reference};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::error::ArchiveError;
use super::planned::{
    Plan, Planned, PlannedLayer, check_platforms, json, parse_config, parse_reference, shown,
};
use super::spool::{Spool, io_error};
use super::{CONFIG, LAYER, REPOSITORIES};
use crate::config::{History, RootFs};
use crate::go_json::nullable;
use crate::keys::{self, Shape};
use crate::layer::unpack_stream;
use crate::media::{Compression, MAX_CONFIG, MAX_LAYERS};

/// Keys of a `json` that mean something only there.
const OF_THE_CHAIN: [&str; 6] = ["id", "parent", "Size", "parent_id", "layer_id", "throwaway"];

/// What of a `json` is read here; what stays in the configuration is checked when that is read.
static SHAPE: Shape = Shape::Object(&[
    ("id", &Shape::Any),
    ("parent", &Shape::Any),
    ("created", &Shape::Any),
    ("author", &Shape::Any),
    ("comment", &Shape::Any),
    ("container_config", &Shape::Object(&[("Cmd", &Shape::Any)])),
]);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct V1 {
    #[serde(deserialize_with = "nullable")]
    parent: String,
    created: Option<String>,
    author: Option<String>,
    comment: Option<String>,
    #[serde(deserialize_with = "nullable")]
    container_config: ContainerConfig,
}

/// The container that the layer was committed from.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ContainerConfig {
    #[serde(deserialize_with = "nullable")]
    cmd: Vec<String>,
}

/// One directory: a layer, and how it came to be.
struct Link {
    /// The directory below it; empty at the bottom.
    parent: String,
    layer: PlannedLayer,
    history: History,
}

type Chain<'l> = Vec<&'l Link>;

/// The images that have a name, and those that no other is built on.
pub(super) fn legacy(
    spool: &Spool,
    repositories: &[u8],
    platforms: &[Platform],
) -> Result<Vec<Planned>, ArchiveError> {
    let mut plan = Plan::default();
    let links = links(spool, &mut plan)?;
    let mut names = names(repositories, &links)?;
    let parents: HashSet<&str> = links.values().map(|link| link.parent.as_str()).collect();
    let mut reached = HashSet::new();
    for id in links.keys() {
        let references = names.remove(id).unwrap_or_default();
        if references.is_empty() && parents.contains(id.as_str()) {
            continue;
        }
        let chain = chain(&links, id, &mut reached)?;
        let config = config(spool, id, &chain)?;
        check_platforms(platforms, &parse_config(&config, &path(id, CONFIG))?)?;
        let layers = chain.iter().map(|link| link.layer.clone()).collect();
        plan.add(Planned { config, layers, references, manifest: None, of: None, stated: Vec::new() })?;
    }
    // What neither has a name nor leads up to an image that nobody builds on goes round in a circle.
    if let Some(id) = links.keys().find(|id| !reached.contains(id.as_str())) {
        return Err(ArchiveError::Circle(shown(id)));
    }
    plan.end()
}

fn path(id: &str, file: &str) -> String {
    format!("{}/{file}", shown(id))
}

/// All directories of the archive, each of which has to be a layer.
fn links(spool: &Spool, plan: &mut Plan) -> Result<BTreeMap<String, Link>, ArchiveError> {
    let directories: BTreeSet<&str> =
        spool.all_names().filter_map(|name| name.split_once('/')).map(|(directory, _)| directory).collect();
    let mut diff_ids = HashMap::new();
    let mut all = BTreeMap::new();
    for id in directories {
        let absent = |file| ArchiveError::Absent { by: REPOSITORIES, name: path(id, file) };
        let bytes = spool.named(&format!("{id}/{CONFIG}"), MAX_CONFIG)?.ok_or_else(|| absent(CONFIG))?;
        plan.reserve(bytes.len())?;
        keys::check(&bytes, &SHAPE)
            .map_err(|source| ArchiveError::Json { name: path(id, CONFIG), source })?;
        let v1: V1 = json(&bytes, &path(id, CONFIG))?;
        let blob = spool.digest_of(&format!("{id}/{LAYER}")).ok_or_else(|| absent(LAYER))?;
        let layer = match diff_ids.get(&blob) {
            Some(layer) => PlannedLayer::clone(layer),
            None => diff_ids.entry(blob).or_insert(layer(spool, &blob)?).clone(),
        };
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let history = History {
            created: v1.created,
            created_by: filled(Some(v1.container_config.cmd.join(" "))),
            author: filled(v1.author),
            comment: filled(v1.comment),
            empty_layer: false,
        };
        all.insert(id.to_owned(), Link { parent: v1.parent, layer, history });
    }
    Ok(all)
}

/// A layer's diff ID is nowhere written: it is the digest of what its file has, inflated.
fn layer(spool: &Spool, blob: &Digest) -> Result<PlannedLayer, ArchiveError> {
    let compression = spool.compression(blob)?;
    let diff_id = match (compression, spool.get(blob)) {
        (Compression::None, _) | (_, None) => *blob,
        (_, Some(spooled)) => {
            let file = File::open(&spooled.path).map_err(|source| io_error("open", &spooled.path, source))?;
            let hashed = unpack_stream(&file, blob.algorithm(), None);
            hashed.map_err(|source| ArchiveError::Layer { digest: *blob, source })?.diff_id
        }
    };
    Ok(PlannedLayer { blob: *blob, diff_id, compression })
}

/// `repositories`: by repository and tag, the directory of an image's uppermost layer.
fn names(
    bytes: &[u8],
    links: &BTreeMap<String, Link>,
) -> Result<BTreeMap<String, Vec<Reference>>, ArchiveError> {
    let repositories: BTreeMap<String, BTreeMap<String, String>> = json(bytes, REPOSITORIES)?;
    let mut names: BTreeMap<String, Vec<Reference>> = BTreeMap::new();
    for (name, tags) in repositories {
        for (tag, id) in tags {
            if !links.contains_key(&id) {
                return Err(ArchiveError::Absent { by: REPOSITORIES, name: shown(&id) });
            }
            let reference = parse_reference(&name)?.with_tag(&tag);
            let refuse = |source| ArchiveError::Reference { name: shown(&format!("{name}:{tag}")), source };
            names.entry(id).or_default().push(reference.map_err(refuse)?);
        }
    }
    Ok(names)
}

/// The layers of an image, bottom first.
fn chain<'l>(
    links: &'l BTreeMap<String, Link>,
    id: &'l str,
    reached: &mut HashSet<&'l str>,
) -> Result<Chain<'l>, ArchiveError> {
    let mut chain = Vec::new();
    let mut next = id;
    while !next.is_empty() {
        let absent = || ArchiveError::Absent { by: "the json of a layer", name: shown(next) };
        let link = links.get(next).ok_or_else(absent)?;
        // A circle has no end, so it is over the limit too.
        if chain.len() >= MAX_LAYERS {
            return Err(ArchiveError::Chain { id: shown(id), limit: MAX_LAYERS });
        }
        reached.insert(next);
        chain.push(link);
        next = &link.parent;
    }
    chain.reverse();
    Ok(chain)
}

/// The configuration of the image that ends with a directory: what its `json` has, with the chain said in it.
fn config(spool: &Spool, id: &str, chain: &Chain<'_>) -> Result<Vec<u8>, ArchiveError> {
    let name = path(id, CONFIG);
    let bytes = spool.named(&format!("{id}/{CONFIG}"), MAX_CONFIG)?.unwrap_or_default();
    let mut config: BTreeMap<String, Box<RawValue>> = json(&bytes, &name)?;
    config.retain(|key, _| !OF_THE_CHAIN.contains(&key.as_str()));
    let rootfs =
        RootFs { diff_ids: chain.iter().map(|link| link.layer.diff_id).collect(), ..RootFs::default() };
    let history: Vec<&History> = chain.iter().map(|link| &link.history).collect();
    let refuse = |source| ArchiveError::Json { name: name.clone(), source };
    config.insert("rootfs".to_owned(), to_raw_value(&rootfs).map_err(refuse)?);
    config.insert("history".to_owned(), to_raw_value(&history).map_err(refuse)?);
    let config = serde_json::to_vec(&config).map_err(refuse)?;
    if config.len() as u64 > MAX_CONFIG {
        return Err(ArchiveError::TooLarge { name, limit: MAX_CONFIG });
    }
    Ok(config)
}
