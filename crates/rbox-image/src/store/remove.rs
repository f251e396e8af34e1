//! Tags, and removal.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use rbox_rootfs::lock::{self, How};
use rbox_rootfs::own;
use rbox_spec::{Digest, Platform, Reference};

use super::find::chain_ids;
use super::index::{
    IndexFile, clear_source, drop_name, full_name, index_of, names_of, note_index, noted_id, reference,
    set_reference, source,
};
use super::users::{ImageUser, Users};
use super::{Image, ImageStore, StoreError};
use crate::media::{Descriptor, MAX_CONFIG};

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions<'p> {
    /// Only of these platforms, if there are any; others of the name stay.
    pub platforms: &'p [Platform],
    /// `-f`: also if stopped containers use it, or if it has several tags.
    pub force: bool,
}

/// One thing that was done. `Display` is Docker's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A reference was removed.
    Untagged(Reference),
    /// An image (its id) or a layer (its chain ID) was removed.
    Deleted(Digest),
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged(reference) => write!(f, "Untagged: {reference}"),
            Self::Deleted(digest) => write!(f, "Deleted: {digest}"),
        }
    }
}

/// An image that is to be removed, as much of it as can be read: what is damaged must be removable too.
pub(super) struct Doomed {
    /// Its id; the manifest's digest if neither index.json nor the manifest has the id.
    id: Digest,
    manifest: Digest,
    tags: BTreeSet<Reference>,
    repo_digests: BTreeSet<Reference>,
    /// Diff IDs, bottom first.
    pub(super) layers: Vec<Digest>,
    /// Manifest, configuration, layers; the indexes that it is of, whether or not they were kept.
    pub(super) blobs: Vec<Digest>,
    /// Nothing of it is damaged.
    pub(super) whole: bool,
}

/// What one removal removes, as `index.json` has it before.
struct Meant {
    first: Descriptor,
    others: Vec<Descriptor>,
}

impl Meant {
    fn first(&self) -> &Descriptor {
        &self.first
    }

    fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// A removal under way. Nothing is written before all of it is known to be allowed.
struct Removal<'i, 'p> {
    index: &'i mut IndexFile,
    options: RemoveOptions<'p>,
    users: Users,
    removed: Vec<Removed>,
    gone: Vec<(Doomed, Option<File>)>,
}

impl Doomed {
    pub(super) fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(self.layers.iter().copied())
    }
}

impl ImageStore {
    /// Gives an image one more reference, which names this platform alone. What the reference named before stays, without it.
    pub fn tag(&self, image: &Image, target: &Reference) -> Result<(), StoreError> {
        self.tag_entries(target, image.id.to_string(), |index| {
            let same = |entry: &&Descriptor| entry.digest == image.manifest_digest;
            Ok((index.entries.iter().filter(same).collect(), true))
        })
    }

    /// Gives what `text` names one more reference: each platform of a name or of the digest of an index, the one image of an id.
    ///
    /// # Errors
    /// It is not there, or the reference cannot be given.
    pub fn tag_named(&self, text: &str, target: &Reference) -> Result<(), StoreError> {
        let named = Reference::parse(text).ok();
        self.tag_entries(target, text.to_owned(), |index| {
            let found = self.candidates(index, text)?;
            let by_name = found.first().and_then(|entry| reference(entry));
            let by_name = by_name.zip(named).is_some_and(|(own, given)| own.same_repository(&given));
            let by_index = self.index_meant(index, text);
            Ok((found, !by_name && by_index.is_none()))
        })
    }

    /// The index that `text` is the digest of: what is no image's id.
    fn index_meant(&self, index: &IndexFile, text: &str) -> Option<Digest> {
        let bare = text.strip_prefix("sha256:").unwrap_or(text);
        let digest = format!("sha256:{bare}").parse().ok()?;
        self.entry_of_id(index, &digest).is_none().then_some(digest)
    }

    /// `which`: the entries, and whether the first of them is meant alone.
    fn tag_entries<'n>(
        &self,
        target: &Reference,
        missing: String,
        which: impl FnOnce(&IndexFile) -> Result<(Vec<&Descriptor>, bool), StoreError> + 'n,
    ) -> Result<(), StoreError> {
        let target = checked_name(target.clone())?.with_default_tag();
        self.change_index(|index, _| {
            let (found, alone) = which(index)?;
            let first = found.first().ok_or(StoreError::NotFound(missing))?.digest;
            // The index that was meant: under other names the same manifest may be of others.
            let of = |entry: &Descriptor| index_of(entry).filter(|_| !alone);
            let meant: BTreeMap<Digest, Option<Digest>> =
                found.into_iter().map(|entry| (entry.digest, of(entry))).collect();
            let mut made = Vec::new();
            for (digest, of) in meant {
                let entries = || index.entries.iter().filter(|entry| entry.digest == digest);
                let from_same = entries().find(|e| reference(e).is_some_and(|r| r.same_repository(&target)));
                let Some(model) = from_same.or_else(|| entries().next()) else { continue };
                let mut entry = model.clone();
                note_index(&mut entry, of);
                // Where it came from stays with the repository it came from.
                if from_same.is_none() {
                    clear_source(&mut entry);
                }
                set_reference(&mut entry, Some(&target));
                made.push(entry);
            }
            made.sort_by_key(|entry| entry.digest != first);
            for entry in made {
                super::index::put(index, entry);
            }
            Ok(())
        })
    }

    /// What belongs to the image of an entry.
    pub(super) fn doomed(&self, index: &IndexFile, entry: &Descriptor) -> Doomed {
        let manifest = self.manifest_of(entry).ok();
        let id = noted_id(entry).or_else(|| manifest.as_ref().map(|manifest| manifest.config.digest));
        let config = id.and_then(|id| self.read_blob(&id, "image configuration", MAX_CONFIG).ok());
        let config =
            config.and_then(|bytes| rbox_spec::json::from_slice::<crate::config::ImageConfig>(&bytes).ok());
        let (tags, repo_digests) = names_of(index, &entry.digest, id);
        let same = index.entries.iter().filter(|other| other.digest == entry.digest);
        let indexes: BTreeSet<Digest> = same.filter_map(index_of).collect();
        let attested = self.attested_blobs(&indexes, &entry.digest);
        let of_layers = manifest.iter().flat_map(|manifest| &manifest.layers).map(|layer| layer.digest);
        Doomed {
            id: id.unwrap_or(entry.digest),
            manifest: entry.digest,
            tags,
            repo_digests,
            blobs: of_layers.chain([entry.digest]).chain(id).chain(indexes).chain(attested).collect(),
            whole: manifest.is_some() && config.is_some(),
            layers: config.map(|config| config.rootfs.diff_ids).unwrap_or_default(),
        }
    }

    /// Removes a reference, or an image by its id, as `docker rmi NAME` does: an image goes with its last reference, and with
    /// it the layers that no other image has and no container stands on. A reference is removed from every platform that it names.
    pub fn remove(&self, name: &str, options: RemoveOptions<'_>) -> Result<Vec<Removed>, StoreError> {
        let (mut removed, gone) = self.change_index(|index, _| {
            let entries = self.meant(index, name, options)?;
            let named = Reference::parse(name)
                .ok()
                .map(Reference::with_default_tag)
                .filter(|wanted| reference(entries.first()).is_some_and(|own| own.same_repository(wanted)));
            let by_index = named.is_none().then(|| self.index_meant(index, name)).flatten();
            let mut plan = Vec::new();
            for entry in entries.iter() {
                let image = self.doomed(index, entry);
                let stays = named.as_ref().is_some_and(|wanted| self.names_elsewhere(index, &image, wanted))
                    || by_index.is_some_and(|of| self.is_elsewhere(index, &image, of));
                let claim = if stays { None } else { Some(self.claim(&image)?) };
                plan.push((image, claim));
            }
            // Only now, and for all: of none of them a container can be made any more.
            let any_claimed = plan.iter().any(|(_, claim)| claim.is_some());
            let users = if any_claimed { self.users()? } else { Users::default() };
            let mut doing = Removal { index, options, users, removed: Vec::new(), gone: Vec::new() };
            for (image, claim) in plan {
                match (&named, claim) {
                    (Some(wanted), None) => self.untag(&mut doing, &image, wanted),
                    (None, None) if by_index.is_some() => self.leave_index(&mut doing, &image, by_index),
                    (named, claim) => self.remove_one(&mut doing, image, claim.flatten(), named.as_ref())?,
                }
            }
            Ok((doing.removed, doing.gone))
        })?;
        let any = !gone.is_empty();
        for (image, claim) in gone {
            removed.push(Removed::Deleted(image.id));
            self.free(&image, &mut removed)?;
            drop(claim);
        }
        if any {
            self.tidy();
        }
        Ok(removed)
    }

    /// The entries that are to be removed, each image once.
    fn meant(&self, index: &IndexFile, name: &str, options: RemoveOptions<'_>) -> Result<Meant, StoreError> {
        let found = self.candidates(index, name)?;
        let fits = |entry: &&Descriptor| {
            options.platforms.is_empty()
                || self.platform_of(entry).is_some_and(|own| options.platforms.contains(&own))
        };
        let mut seen = BTreeSet::new();
        // Two manifests of one configuration are one image, which can be claimed once.
        let kept = found.iter().copied().filter(fits);
        let kept = kept.filter(|entry| seen.insert(self.id_of(entry).unwrap_or(entry.digest)));
        let mut kept: Vec<Descriptor> = kept.cloned().collect();
        let first = match (kept.is_empty(), found.is_empty()) {
            (true, true) => return Err(not_found(name)),
            (true, false) => {
                return Err(StoreError::NoPlatform {
                    name: name.to_owned(),
                    wanted: list(options.platforms),
                });
            }
            _ => kept.remove(0),
        };
        Ok(Meant { first, others: kept })
    }

    fn remove_one(
        &self,
        doing: &mut Removal<'_, '_>,
        image: Doomed,
        claim: Option<File>,
        named: Option<&Reference>,
    ) -> Result<(), StoreError> {
        let Removal { index, options, removed, gone, users } = doing;
        // One platform of a name goes as one image does, and the name stays with the others.
        let named = named.filter(|_| options.platforms.is_empty());
        // Names that another platform has as well stay.
        let tags = self.names_lost(index, &image, named);
        let keep = match named {
            Some(wanted) => check_reference_use(&image, wanted, *options, users)?,
            None => check_id_use(&image, *options, users).map(|()| false)?,
        };
        let digests = image.repo_digests.iter().filter(|name| {
            let of_it = |entry: &&Descriptor| {
                reference(entry).is_some_and(|own| own.same_repository(name))
                    && source(entry).as_ref() == name.digest()
            };
            index.entries.iter().filter(of_it).all(|entry| self.is_of(entry, &image))
        });
        tags.into_iter().chain(digests.cloned()).for_each(|name| tell(removed, name));
        if keep {
            self.make_nameless(index, &image);
            return Ok(());
        }
        index.entries.retain(|entry| !self.is_of(entry, &image));
        gone.push((image, claim));
        Ok(())
    }

    /// Removes one reference of an image that has others: of all its platforms, or of this one.
    fn untag(&self, doing: &mut Removal<'_, '_>, image: &Doomed, wanted: &Reference) {
        let Removal { index, options, removed, .. } = doing;
        if let Some(digest) = wanted.digest() {
            for entry in index.entries.iter_mut().filter(|entry| self.is_of(entry, image)) {
                if reference(entry).is_some_and(|r| r.same_repository(wanted)) {
                    clear_source(entry);
                }
            }
            index.entries.retain(|entry| {
                let is_it = |r: Reference| r.same_repository(wanted) && r.digest() == Some(digest);
                !(self.is_of(entry, image) && reference(entry).is_some_and(is_it))
            });
            tell(removed, wanted.with_digest(*digest));
            return;
        }
        let full = wanted.full();
        let is_it = |entry: &Descriptor| full_name(entry) == Some(&full) && self.is_of(entry, image);
        let Some(position) = index.entries.iter().position(is_it) else { return };
        let from = index.entries.get(position).and_then(source);
        drop_name(index, position, false);
        let has_others = index.entries.iter().any(|entry| full_name(entry) == Some(&full));
        let is_part = !options.platforms.is_empty() && has_others;
        // The name is still there: what it does not name any more is this manifest.
        tell(removed, if is_part { wanted.with_digest(image.manifest) } else { wanted.clone() });
        // With a repository's last tag goes what is known of its digests.
        let of_repository = |entry: &Descriptor| {
            reference(entry).filter(|_| self.is_of(entry, image)).filter(|r| r.same_repository(wanted))
        };
        if index.entries.iter().filter_map(of_repository).any(|r| r.tag().is_some()) {
            return;
        }
        index.entries.retain(|entry| of_repository(entry).is_none());
        if let Some(digest) = from.filter(|_| !is_part) {
            tell(removed, wanted.with_digest(digest));
        }
    }

    /// The tags that are no image's any more when this one is gone, or are taken from all platforms of it.
    fn names_lost(&self, index: &IndexFile, image: &Doomed, wanted: Option<&Reference>) -> Vec<Reference> {
        let has_others = |tag: &Reference| {
            let full = tag.full();
            wanted != Some(tag)
                && index
                    .entries
                    .iter()
                    .any(|entry| full_name(entry) == Some(&full) && !self.is_of(entry, image))
        };
        image.tags.iter().filter(|tag| !has_others(tag)).cloned().collect()
    }

    /// Whether an entry is of this image.
    fn is_of(&self, entry: &Descriptor, image: &Doomed) -> bool {
        entry.digest == image.manifest || self.id_of(entry) == Some(image.id)
    }

    /// Takes all its names from an image that stays.
    fn make_nameless(&self, index: &mut IndexFile, image: &Doomed) {
        let mut kept = false;
        index.entries.retain_mut(|entry| {
            if !self.is_of(entry, image) {
                return true;
            }
            set_reference(entry, None);
            clear_source(entry);
            !std::mem::replace(&mut kept, true)
        });
    }

    /// Whether the image has a reference that removing `wanted` leaves.
    fn names_elsewhere(&self, index: &IndexFile, image: &Doomed, wanted: &Reference) -> bool {
        index.entries.iter().filter(|entry| self.is_of(entry, image)).any(|entry| {
            match (reference(entry), wanted.digest()) {
                (Some(other), None) => other.tag().is_some() && other != *wanted,
                (Some(other), Some(_)) => other.tag().is_some() || !other.same_repository(wanted),
                // The digest of an index that has no name is its name.
                (None, _) => index_of(entry).is_some(),
            }
        })
    }

    /// Whether the image has an entry that is not of this index.
    fn is_elsewhere(&self, index: &IndexFile, image: &Doomed, of: Digest) -> bool {
        let others = |entry: &&Descriptor| self.is_of(entry, image);
        index.entries.iter().filter(others).any(|entry| index_of(entry) != Some(of))
    }

    /// Takes an image that has other entries out of an index.
    fn leave_index(&self, doing: &mut Removal<'_, '_>, image: &Doomed, of: Option<Digest>) {
        let Removal { index, removed, .. } = doing;
        let mut lost = Vec::new();
        index.entries.retain(|entry| {
            let goes = self.is_of(entry, image) && index_of(entry) == of;
            lost.extend(reference(entry).filter(|_| goes));
            !goes
        });
        for name in lost {
            tell(removed, name);
        }
        let gone = of.map(Removed::Deleted).filter(|line| !removed.contains(line));
        removed.extend(gone);
    }

    /// Takes the lock that says that no container is just being made of the image. `None`: it has no configuration to be
    /// made of.
    fn claim(&self, image: &Doomed) -> Result<Option<File>, StoreError> {
        let path = self.blob_path(&image.id);
        let file = match own::open_to_read(&path) {
            Ok(file) => file,
            Err(source) => {
                let error = StoreError::Io { action: "open", path, source };
                return if error.is_damage_of_a_file() { Ok(None) } else { Err(error) };
            }
        };
        match lock::try_take(&file, How::Exclusive) {
            Ok(true) => Ok(Some(file)),
            Ok(false) => Err(StoreError::Conflict(format!(
                "unable to delete {} (cannot be forced) - a container is being created from it",
                image.id.short()
            ))),
            Err(errno) => Err(StoreError::Io { action: "lock", path, source: errno.into() }),
        }
    }
}

/// A reference that an image may be given here.
pub fn checked_name(target: Reference) -> Result<Reference, StoreError> {
    if target.digest().is_some() {
        return Err(StoreError::TagWithDigest);
    }
    // `sha256:…` is read as an id everywhere else.
    if matches!(target.familiar_name().as_str(), "sha256" | "sha512") {
        return Err(StoreError::TagLikeDigest);
    }
    Ok(target)
}

/// A name is told of once, of however many platforms it was.
fn tell(removed: &mut Vec<Removed>, name: Reference) {
    let line = Removed::Untagged(name);
    if !removed.contains(&line) {
        removed.push(line);
    }
}

/// Platforms as a list for a message.
fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

/// Docker's rule for the last reference. True: the reference goes and the image stays, for a container runs on it.
fn check_reference_use(
    image: &Doomed,
    wanted: &Reference,
    options: RemoveOptions<'_>,
    users: &Users,
) -> Result<bool, StoreError> {
    let mut using = users.of(image.id);
    if options.force {
        return Ok(using.any(|user| user.running));
    }
    match using.next() {
        Some(ImageUser { mounted_at: Some(at), .. }) => Err(StoreError::Conflict(format!(
            "unable to remove repository reference {:?} (must force) - its referenced image {} is mounted at {}; unmount it with 'rbox image unmount {}'",
            wanted.familiar(),
            image.id.short(),
            at.display(),
            wanted.familiar()
        ))),
        Some(user) => Err(StoreError::Conflict(format!(
            "unable to remove repository reference {:?} (must force) - container {} is using its referenced image {}",
            wanted.familiar(),
            short(&user.container),
            image.id.short()
        ))),
        None => Ok(false),
    }
}

/// Docker's refusals when an image is removed by its id.
fn check_id_use(image: &Doomed, options: RemoveOptions<'_>, users: &Users) -> Result<(), StoreError> {
    let refuse = |how: &str, why: String| {
        Err(StoreError::Conflict(format!("unable to delete {} ({how}) - {why}", image.id.short())))
    };
    let by = |kind: &str, user: &ImageUser| {
        format!("image is being used by {kind} container {}", short(&user.container))
    };
    if let Some(at) = users.of(image.id).find_map(|user| user.mounted_at.as_ref()) {
        let id = image.id.short();
        let why = format!("image is mounted at {}; unmount it with 'rbox image unmount {id}'", at.display());
        return refuse("cannot be forced", why);
    }
    if let Some(user) = users.of(image.id).find(|user| user.running) {
        return refuse("cannot be forced", by("running", user));
    }
    if options.force {
        return Ok(());
    }
    if image.tags.len() > 1 {
        return refuse("must be forced", "image is referenced in multiple repositories".to_owned());
    }
    match users.of(image.id).next() {
        Some(user) => refuse("must be forced", by("stopped", user)),
        None => Ok(()),
    }
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

fn not_found(name: &str) -> StoreError {
    let shown = Reference::parse(name).map_or_else(|_| name.to_owned(), |r| r.with_default_tag().familiar());
    StoreError::NotFound(shown)
}
