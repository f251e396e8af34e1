#![allow(clippy::unwrap_used)]
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rbox_spec::Reference;

use super::*;
use crate::media::OCI_MANIFEST;
use crate::testing::{TestImage, host_architecture, tar_of};

pub(super) fn fresh() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&dir.path().join("images")).unwrap();
    (dir, store)
}

pub(super) fn add(store: &ImageStore, image: &TestImage, names: &[&str]) -> Image {
    let transaction = store.transaction().unwrap();
    for digest in &image.layers {
        let expected = Expected { digest: Some(*digest), ..Expected::default() };
        transaction.add_layer(Cursor::new(&image.blobs[digest]), &expected).unwrap();
    }
    transaction.add_blob(&image.blobs[&image.config]).unwrap();
    let references: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
    transaction.register(&image.manifest, OCI_MANIFEST, &references, None).unwrap()
}

fn names(image: &Image) -> Vec<String> {
    image.references.iter().map(Reference::familiar).collect()
}

fn lines(removed: &[Removed]) -> Vec<String> {
    removed.iter().map(|r| r.to_string().chars().take(24).collect()).collect()
}

/// Every path under the store that belongs to an image.
pub(super) fn content(store: &ImageStore) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for sub in ["blobs/sha256", "layers", "tmp"] {
        found.extend(fs::read_dir(store.dir().join(sub)).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort();
    found
}

#[test]
fn finds_by_every_name() {
    let (_dir, store) = fresh();
    let image = add(&store, &TestImage::small(), &["app:1", "localhost:5000/x"]);
    let id = image.id.to_string();
    let by_digest = format!("app@{}", image.manifest_digest);
    for text in [
        "app:1",
        "docker.io/library/app:1",
        "localhost:5000/x:latest",
        &id,
        &id[7..],
        &id[..15],
        &id[7..12],
        &by_digest,
    ] {
        let found = store.find(text).unwrap().unwrap_or_else(|| panic!("{text} is not found"));
        assert_eq!(found.id, image.id, "{text}");
    }
    for text in
        ["app", "app:2", "user/app:1", "sha256:zz", "App:1", "", "x@y", &by_digest.replace("app@", "other@")]
    {
        assert!(store.find(text).unwrap().is_none(), "{text} is found");
    }
    assert_eq!(names(&image), ["app:1", "localhost:5000/x:latest"]);
    assert_eq!(image.config.config.env, ["A=b"]);
    assert_eq!(fs::read_to_string(image.layers[2].dir.join("etc/z")).unwrap(), "333");
    assert_eq!(image.size, 4 + 1 + 2 + 3);
    assert!(store.is_complete(&image));
    assert_eq!(store.get("nope").unwrap_err().to_string(), "No such image: nope:latest");
}

#[test]
fn ambiguous_prefixes_are_refused() {
    let (_dir, store) = fresh();
    let mut first_digits = std::collections::BTreeMap::new();
    for n in 0..17_u8 {
        let layers = [(tar_of(&[("n", &[n])]), "")];
        let image = add(&store, &TestImage::new(&layers, host_architecture()), &[&format!("n:{n}")]);
        *first_digits.entry(image.id.hex().remove(0)).or_insert(0) += 1;
    }
    let (digit, count) = first_digits.into_iter().find(|(_, count)| *count > 1).unwrap();
    let error = store.find(&format!("sha256:{digit}")).unwrap_err();
    assert!(matches!(error, StoreError::Ambiguous { count: found, .. } if found == count), "{error}");
}

#[test]
fn a_moved_tag_leaves_a_dangling_image() {
    let (_dir, store) = fresh();
    let old = add(&store, &TestImage::small(), &["app:1"]);
    let new = TestImage::new(&[(tar_of(&[("n", b"new")]), "+gzip")], host_architecture());
    let new = add(&store, &new, &["app:1"]);
    assert_eq!(store.find("app:1").unwrap().unwrap().id, new.id);
    let old = store.find_id(&old.id).unwrap().unwrap();
    assert!(old.references.is_empty());
    assert_eq!(store.list().unwrap().len(), 2);
    let pruned = store.prune(false, |_| true).unwrap();
    assert!(pruned.removed.contains(&Removed::Deleted(old.id)) && pruned.freed > 0);
    assert!(store.find_id(&old.id).unwrap().is_none() && store.find("app:1").unwrap().is_some());
}

#[test]
fn removal_is_dockers() {
    let (_dir, store) = fresh();
    let image = add(&store, &TestImage::small(), &["app:1"]);
    // Shares its lowest layer with the first.
    let shared =
        TestImage::new(&[(tar_of(&[("bin/true", b"true"), ("etc/x", b"1")]), "+gzip")], host_architecture());
    let shared = add(&store, &shared, &["shared"]);
    store.tag(&image, &"other:2".parse().unwrap()).unwrap();
    assert!(store.tag(&image, &image_digest(&image)).is_err());

    let soft = RemoveOptions::default();
    let by_id = store.remove(&image.id.short(), soft).unwrap_err().to_string();
    assert!(by_id.contains("(must be forced) - image is referenced in multiple repositories"), "{by_id}");
    assert_eq!(lines(&store.remove("app:1", soft).unwrap()), ["Untagged: app:1"]);

    let id = image.id.short();
    let used = |running| store.clone().with_users(Containers::of(&image, running));
    let refused = used(false).remove("other:2", soft).unwrap_err().to_string();
    assert_eq!(
        refused,
        format!(
            "conflict: unable to remove repository reference \"other:2\" (must force) - container cccccccccccc is using its referenced image {id}"
        )
    );
    for (force, running, why) in [
        (false, false, "(must be forced) - image is being used by stopped container cccccccccccc"),
        (false, true, "(cannot be forced) - image is being used by running container cccccccccccc"),
        (true, true, "(cannot be forced) - image is being used by running container cccccccccccc"),
    ] {
        let refused = used(running)
            .remove(&id, RemoveOptions { force, ..RemoveOptions::default() })
            .unwrap_err()
            .to_string();
        assert_eq!(refused, format!("conflict: unable to delete {id} {why}"));
    }

    let pin = store.pin(&image).unwrap();
    assert!(
        store.remove("other:2", RemoveOptions { force: true, ..RemoveOptions::default() }).is_err(),
        "a container is being made of it"
    );
    drop(pin);
    let removed = store.remove("other:2", RemoveOptions::default()).unwrap();
    let deleted = removed.iter().filter(|r| matches!(r, Removed::Deleted(_))).count();
    assert_eq!(
        (removed[0].to_string().as_str(), deleted),
        ("Untagged: other:2", 3),
        "{removed:?}: the image and two layers"
    );
    assert!(matches!(store.pin(&image), Err(StoreError::NotFound(_))));
    let shared = store.find_id(&shared.id).unwrap().unwrap();
    assert!(store.is_complete(&shared), "the shared layer stays");
    store.remove("shared", RemoveOptions::default()).unwrap();
    assert_eq!(content(&store), Vec::<PathBuf>::new());
    let gone = store.remove("shared", RemoveOptions::default()).unwrap_err().to_string();
    assert_eq!(gone, "No such image: shared:latest");
}

/// One container of an image.
#[derive(Debug)]
struct Containers(Users);

impl Containers {
    fn of(image: &Image, running: bool) -> Arc<Self> {
        let layers = image.overlay_layers().iter().map(|layer| layer.dir.clone()).collect();
        let user = ImageUser {
            mounted_at: None,
            image: image.id,
            name: String::new(),
            container: "c".repeat(64),
            running,
            layers,
        };
        Arc::new(Self(Users { known: vec![user], incomplete: false }))
    }
}

impl ListUsers for Containers {
    fn list(&self) -> Result<Users, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.clone())
    }
}

#[test]
fn a_container_keeps_its_layers_as_long_as_it_is_there() {
    let (_dir, store) = fresh();
    let image = add(&store, &TestImage::small(), &["app:1", "app:2"]);
    let force = RemoveOptions { force: true, ..RemoveOptions::default() };
    let layers: Vec<PathBuf> = image.layers.iter().map(|layer| layer.dir.clone()).collect();
    let all_there = || layers.iter().all(|dir| dir.is_dir());

    // By its last name while it runs: it loses the name and stays.
    let with_running = store.clone().with_users(Containers::of(&image, true));
    assert_eq!(lines(&with_running.remove("app:1", force).unwrap()), ["Untagged: app:1"]);
    assert_eq!(lines(&with_running.remove("app:2", force).unwrap()), ["Untagged: app:2"]);
    assert!(store.find_id(&image.id).unwrap().unwrap().references.is_empty() && all_there());

    // Stopped: the image goes, what the container stands on stays, whoever sweeps.
    let with_stopped = store.clone().with_users(Containers::of(&image, false));
    let removed = with_stopped.remove(&image.id.to_string(), force).unwrap();
    assert_eq!(removed, [Removed::Deleted(image.id)]);
    with_stopped.sweep(Duration::ZERO).unwrap();
    with_stopped.prune(true, |_| true).unwrap();
    with_stopped.release(Some(image.id), &layers).unwrap();
    assert!(store.find_id(&image.id).unwrap().is_none() && all_there());
    assert!(fs::read_dir(store.dir().join("blobs/sha256")).unwrap().next().is_none(), "blobs go with it");

    // A container whose record cannot be read may stand on anything.
    let unknown = Containers(Users { known: Vec::new(), incomplete: true });
    let with_unknown = store.clone().with_users(Arc::new(unknown));
    with_unknown.sweep(Duration::ZERO).unwrap();
    with_unknown.release(None, &layers).unwrap();
    assert!(all_there());
    store.release(None, &[PathBuf::from("../..")]).unwrap();
    store.release(Some(image.id), &layers).unwrap();
    assert_eq!(content(&store), Vec::<PathBuf>::new());
}

/// What is damaged hides only itself, and goes with `rmi`.
#[test]
fn a_damaged_image_is_told_and_removed() {
    for (what, spoil) in [
        (
            "an empty manifest",
            (|store, image| fs::write(store.blob_path(&image.manifest_digest), b"").unwrap())
                as fn(&ImageStore, &Image),
        ),
        ("no manifest", |store, image| fs::remove_file(store.blob_path(&image.manifest_digest)).unwrap()),
        ("an empty configuration", |store, image| fs::write(store.blob_path(&image.id), b"").unwrap()),
        ("no configuration", |store, image| fs::remove_file(store.blob_path(&image.id)).unwrap()),
        ("zeros", |store, image| {
            let path = store.blob_path(&image.id);
            let length = fs::metadata(&path).unwrap().len() as usize;
            fs::write(path, vec![0; length]).unwrap();
        }),
        ("another configuration", |store, image| {
            let path = store.blob_path(&image.id);
            let text = fs::read_to_string(&path).unwrap().replace("A=b", "A=c");
            fs::write(path, text).unwrap();
        }),
    ] {
        let (_dir, store) = fresh();
        let bad = add(&store, &TestImage::small(), &["bad:1"]);
        let layers = [(tar_of(&[("bin/true", b"true"), ("etc/x", b"1")]), "+gzip")];
        let good = add(&store, &TestImage::new(&layers, host_architecture()), &["good:1"]);
        spoil(&store, &bad);
        let listing = store.listing().unwrap();
        assert_eq!(listing.images.iter().map(|image| image.id).collect::<Vec<_>>(), [good.id], "{what}");
        assert_eq!(
            listing.broken.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
            ["bad:1"],
            "{what}"
        );
        let error = store.find("bad:1").unwrap_err().to_string();
        assert_eq!(
            error, "image bad:1 is damaged; pull it again, or remove it with 'rbox rmi bad:1'",
            "{what}"
        );
        store.sweep(Duration::ZERO).unwrap();
        let removed = store.remove("bad:1", RemoveOptions::default()).unwrap();
        assert!(removed.contains(&Removed::Deleted(bad.id)), "{what}: {removed:?}");
        assert!(store.listing().unwrap().broken.is_empty(), "{what}");
        assert!(store.is_complete(&store.get("good:1").unwrap()), "{what}");
        store.remove("good:1", RemoveOptions::default()).unwrap();
        store.sweep(Duration::ZERO).unwrap();
        assert_eq!(content(&store), Vec::<PathBuf>::new(), "{what}");
    }
}

/// A directory stands where a blob belongs: who adds the image again puts the blob there.
#[test]
fn a_directory_in_the_place_of_a_blob_goes() {
    let (_dir, store) = fresh();
    let image = add(&store, &TestImage::small(), &["app:1"]);
    let spoil = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::create_dir_all(path.join("of/somebody")).unwrap();
    };
    let blobs = [image.manifest_digest, image.id, image.layers[0].digest];
    for blob in blobs {
        spoil(&store.blob_path(&blob));
        assert!(!store.find("app:1").is_ok_and(|image| store.is_complete(&image.unwrap())), "{blob}");
        let again = add(&store, &TestImage::small(), &["app:1"]);
        assert!(again.id == image.id && store.is_complete(&store.get("app:1").unwrap()), "{blob}");
    }
    for blob in blobs {
        spoil(&store.blob_path(&blob));
    }
    store.remove("app:1", RemoveOptions::default()).unwrap();
    store.sweep(Duration::ZERO).unwrap();
    assert_eq!(content(&store), Vec::<PathBuf>::new());
}

fn image_digest(image: &Image) -> Reference {
    "app".parse::<Reference>().unwrap().with_digest(image.manifest_digest)
}

/// Whoever is killed while it is made again leaves one of the two: with none there would be no images.
#[test]
fn the_list_of_images_is_there_at_each_moment() {
    let (_dir, store) = fresh();
    let image = add(&store, &TestImage::small(), &["app:1"]);
    let (index, damaged) = (store.index_path(), store.dir().join("damaged"));
    let ends = std::sync::atomic::AtomicBool::new(false);
    let lacking = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut lacking = 0;
            while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                lacking += u32::from(fs::symlink_metadata(&index).is_err());
            }
            lacking
        });
        for _ in 0..50 {
            fs::write(&damaged, "{").unwrap();
            fs::rename(&damaged, &index).unwrap();
            assert!(store.find_id(&image.id).unwrap().is_some());
        }
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
        watching.join().unwrap()
    });
    assert_eq!(lacking, 0);
}

#[test]
fn what_the_dead_left_is_tidied() {
    let (_dir, store) = fresh();
    let image = add(&store, &TestImage::small(), &["app:1"]);
    let before = content(&store);
    let left = [store.fresh("new"), store.tmp().join("layer-00")];
    for dir in &left {
        fs::create_dir_all(dir.join("fs/deep")).unwrap();
    }
    fs::write(store.fresh("new-blob"), b"x").unwrap();
    let partial = store.tmp().join("sha256-00.partial");
    fs::write(&partial, b"x").unwrap();
    fs::create_dir_all(store.dir().join("layers/00/fs")).unwrap();
    fs::write(store.dir().join("blobs/sha256/00"), b"x").unwrap();
    {
        let _adding = store.transaction().unwrap();
        store.tidy();
        ImageStore::tidy_unfinished(store.dir()).unwrap();
        assert!(left[0].exists(), "nothing is touched while someone adds");
    }
    ImageStore::tidy_unfinished(store.dir()).unwrap();
    assert!(
        !left[0].exists() && !left[1].exists() && partial.exists(),
        "any command takes what is half done"
    );
    fs::create_dir_all(left[0].join("fs/deep")).unwrap();
    store.tidy();
    assert!(!left[0].exists() && !left[1].exists() && partial.exists(), "only downloads can be gone on with");
    assert!(store.dir().join("layers/00").exists(), "a young layer may be wanted");
    store.sweep(Duration::ZERO).unwrap();
    assert_eq!(content(&store), before);
    assert!(store.is_complete(&image));
    // Where there is no store none is made.
    let none = store.dir().join("none");
    ImageStore::tidy_unfinished(&none).unwrap();
    assert!(!none.exists());
}

/// A removal holds the one lock and then wants the other: whoever only tidies is in the way of neither.
#[test]
fn a_change_of_the_list_is_not_waited_for() {
    let (_dir, store) = fresh();
    for kind in ["new", "dead"] {
        fs::create_dir_all(store.fresh(kind).join("fs/deep")).unwrap();
        fs::write(store.fresh(kind), b"x").unwrap();
    }
    let changing = store.lock_index().unwrap();
    let before = content(&store);
    std::thread::scope(|scope| {
        let tidying = scope.spawn(|| ImageStore::tidy_unfinished(store.dir()));
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while !tidying.is_finished() && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (ended, is_free) = (tidying.is_finished(), store.try_alone().unwrap().is_some());
        let after = content(&store);
        drop(changing);
        tidying.join().unwrap().unwrap();
        assert!(ended && is_free);
        assert_eq!(after, before);
    });
    ImageStore::tidy_unfinished(store.dir()).unwrap();
    assert_eq!(content(&store), Vec::<PathBuf>::new());
}

#[test]
fn wrong_layers_are_refused_and_leave_nothing() {
    let (_dir, store) = fresh();
    let image = TestImage::small();
    let transaction = store.transaction().unwrap();
    let (digest, other) = (image.layers[0], image.layers[1]);
    let blob = &image.blobs[&digest];
    let size = blob.len() as u64;
    let good = Expected { digest: Some(digest), size: Some(size), ..Expected::default() };
    for (bytes, expected) in [
        (blob.clone(), Expected { digest: Some(other), ..good }),
        (blob.clone(), Expected { size: Some(size + 1), ..good }),
        (blob.clone(), Expected { size: Some(size - 1), ..good }),
        (blob.clone(), Expected { diff_id: Some(other), ..good }),
        (blob[..blob.len() / 2].to_vec(), Expected::default()),
        ([blob.as_slice(), b"trailing"].concat(), good),
        (b"not a tar at all".repeat(100), Expected::default()),
    ] {
        assert!(transaction.add_layer(Cursor::new(bytes), &expected).is_err(), "{expected:?}");
        assert_eq!(content(&store), Vec::<PathBuf>::new(), "{expected:?}");
    }
    transaction.add_layer(Cursor::new(blob), &good).unwrap();
    assert!(transaction.add_blob_as(&digest, b"other").is_err());
    transaction.add_blob(&image.blobs[&image.config]).unwrap();
    let missing = transaction.register(&image.manifest, OCI_MANIFEST, &[], None).unwrap_err();
    assert!(matches!(missing, StoreError::MissingLayer(_)), "{missing}");
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn a_store_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(matches!(ImageStore::open(dir.path()), Err(StoreError::Version { .. })));
}

#[test]
fn a_damaged_layout_file_is_written_again() {
    let (_dir, store) = fresh();
    let image = TestImage::new(&[(tar_of(&[("n", b"1")]), "")], host_architecture());
    add(&store, &image, &["n:1"]);
    for damaged in ["", "garbage"] {
        fs::write(store.dir().join("oci-layout"), damaged).unwrap();
        let again = ImageStore::open(store.dir()).unwrap();
        assert!(again.find("n:1").unwrap().is_some());
        assert_eq!(
            fs::read_to_string(store.dir().join("oci-layout")).unwrap(),
            r#"{"imageLayoutVersion":"1.0.0"}"#
        );
    }
}

#[test]
fn tidying_leaves_what_the_living_write() {
    let (dir, store) = fresh();
    add(&store, &TestImage::small(), &["a:1"]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = store.sweep(Duration::ZERO).unwrap();
            }
        });
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..100 {
                let image = store.find("a:1").unwrap().unwrap();
                store.tag(&image, &format!("b:{round}").parse().unwrap()).unwrap();
                fs::remove_file(store.dir().join("oci-layout")).unwrap();
                ImageStore::open(&dir.path().join("images")).unwrap();
            }
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        work.unwrap();
    });
    assert_eq!(store.find("a:1").unwrap().unwrap().references.len(), 101);
}

#[test]
fn what_an_opaque_root_hides_is_not_mounted() {
    let (_dir, store) = fresh();
    let layers = [
        tar_of(&[("lowest", b"0")]),
        tar_of(&[("middle", b"1"), (".wh..wh..opq", b"")]),
        tar_of(&[("upper", b"2"), (".wh..wh..opq", b"")]),
        tar_of(&[("top", b"3")]),
    ];
    let layers: Vec<_> = layers.into_iter().map(|tar| (tar, "+gzip")).collect();
    let made = add(&store, &TestImage::new(&layers, host_architecture()), &["opaque:1"]);
    assert_eq!((made.hidden, made.overlay_layers()), (2, &made.layers[2..]));
    let plain = add(&store, &TestImage::new(&layers[..1], host_architecture()), &["plain:1"]);
    assert_eq!((plain.hidden, plain.overlay_layers()), (0, &plain.layers[..]));

    // As found by name, and in an entry that another tool wrote and that says nothing of it.
    assert_eq!(store.find("opaque:1").unwrap().unwrap().hidden, 2);
    let index = store.dir().join("index.json");
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    for entry in document["manifests"].as_array_mut().unwrap() {
        entry["annotations"].as_object_mut().unwrap().retain(|name, _| !name.starts_with("io.rbox"));
    }
    fs::write(&index, document.to_string()).unwrap();
    let found = store.find("opaque:1").unwrap().unwrap();
    assert_eq!(found.hidden, 2);

    let (upper, work) = (store.dir().join("u"), store.dir().join("w"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let lowers: Vec<PathBuf> = found.overlay_layers().iter().map(|layer| layer.dir.clone()).collect();
    let overlay = rbox_rootfs::overlay::Overlay {
        lowers: &lowers,
        upper: &upper,
        work: &work,
        volatile: true,
        stage: store.dir(),
    };
    let mount = overlay.mount().unwrap();
    let tree = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount));
    let mut names: Vec<_> = fs::read_dir(tree).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["top", "upper"]);
}

/// An image for two platforms, under these names.
pub(super) fn add_two(store: &ImageStore, names: &[&str]) -> [Image; 2] {
    let parts = ["amd64", "arm64"]
        .map(|machine| TestImage::new(&[(tar_of(&[("n", machine.as_bytes())]), "")], machine));
    let bytes = TestImage::index(&[(&parts[0], "amd64"), (&parts[1], "arm64")]);
    let digest = crate::hash::sha256(&bytes);
    let of = OfIndex::new(digest, bytes.clone(), &serde_json::from_slice(&bytes).unwrap());
    let references: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
    parts.map(|part| {
        add(store, &part, &[]);
        let transaction = store.transaction().unwrap();
        let from = (Some(digest), Some(&of));
        let manifest = part.manifest_digest();
        transaction.register_as(manifest, &part.manifest, OCI_MANIFEST, &references, from).unwrap()
    })
}

/// Finds no user, and looks whether a container could still be made of one of these.
#[derive(Debug)]
struct Looks(Vec<PathBuf>);

impl ListUsers for Looks {
    fn list(&self) -> Result<Users, Box<dyn std::error::Error + Send + Sync>> {
        for config in &self.0 {
            // It is asked again while what was removed is deleted.
            let Ok(file) = File::open(config) else { continue };
            if lock::try_take(&file, How::Shared)? {
                return Err(format!("{} can be pinned", config.display()).into());
            }
        }
        Ok(Users::default())
    }
}

#[test]
fn who_uses_an_image_is_asked_once_nobody_can_begin_to() {
    let (_dir, store) = fresh();
    let both = add_two(&store, &["app:1"]);
    let configs = both.iter().map(|image| store.blob_path(&image.id)).collect();
    let removed =
        store.clone().with_users(Arc::new(Looks(configs))).remove("app:1", RemoveOptions::default());
    assert_eq!(removed.unwrap().iter().filter(|one| matches!(one, Removed::Untagged(_))).count(), 2);
    assert_eq!(content(&store), Vec::<PathBuf>::new());
}

/// Two removals side by side: who comes second does not find the lock free.
#[test]
fn what_could_not_be_deleted_goes_with_the_next_tidying() {
    let (_dir, store) = fresh();
    add(&store, &TestImage::small(), &["app:1"]);
    let other = store.try_alone().unwrap().unwrap();
    store.remove("app:1", RemoveOptions::default()).unwrap();
    assert_ne!(content(&store), Vec::<PathBuf>::new());
    drop(other);
    store.tidy();
    assert_eq!(content(&store), Vec::<PathBuf>::new());
    // What a container outlives its image with.
    let image = add(&store, &TestImage::small(), &["app:1"]);
    let layers: Vec<PathBuf> = image.layers.iter().map(|layer| layer.dir.clone()).collect();
    let left = store.dir().join("layers").join(image.layers[0].diff_id.hex());
    let other = store.try_alone().unwrap().unwrap();
    store.release(None, &layers).unwrap();
    drop(other);
    assert!(left.exists());
    store.tidy();
    assert!(store.is_complete(&image), "it has a name");
}

/// Two at once would be in each other's way, and report what the other has removed.
#[test]
fn what_another_one_is_deleting_is_left_to_them() {
    let (_dir, store) = fresh();
    let grave = store.fresh("dead");
    fs::create_dir_all(grave.join("fs")).unwrap();
    let other = File::open(&grave).unwrap();
    assert!(lock::try_take(&other, How::Exclusive).unwrap());
    store.sweep(Duration::ZERO).unwrap();
    assert!(grave.join("fs").exists());
    drop(other);
    store.sweep(Duration::ZERO).unwrap();
    assert_eq!(content(&store), Vec::<PathBuf>::new());
}

/// What a pull that was cut off has got so far is there for the next one, whatever times it has.
#[test]
fn what_nobody_gave_up_stays_for_a_day() {
    let (_dir, store) = fresh();
    let layer = store.dir().join("layers").join("a".repeat(64));
    let blob = store.dir().join("blobs/sha256").join("b".repeat(64));
    fs::create_dir_all(layer.join("fs")).unwrap();
    fs::write(&blob, "text").unwrap();
    for seconds in [0, 1, 315_532_800, 27_182_817] {
        let then = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        for path in [&layer.join("fs"), &layer, &blob] {
            File::open(path).unwrap().set_modified(then).unwrap();
        }
        store.tidy();
        assert!(layer.exists() && blob.exists(), "{seconds}");
    }
}
