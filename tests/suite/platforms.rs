//! Several platforms of one image, side by side in the store.

use std::fs;

use serde_json::Value;

use crate::harness::registry::PasswordRegistry;
use crate::harness::{Cmd, OwnRoots, Test};

const OWN: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
const OTHER: &str = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };

/// Roots of a test's own, and the image for two platforms.
fn world(t: &Test) -> (OwnRoots, String) {
    (OwnRoots::new(t, "own", &t.suite.registry), format!("{}/rbox/multi", t.suite.registry))
}

fn id(own: &OwnRoots, platform: &str, image: &str) -> String {
    own.run(&["image", "inspect", "--platform", platform, "-f", "{{.Id}}", image]).ok()
}

/// What `images --tree` says of the image's platforms: name, and whether there is anything of it.
fn tree(own: &OwnRoots, image: &str) -> Vec<(String, bool)> {
    let text = own.run(&["images", "--tree", image]).ok();
    let child = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        line.starts_with(['├', '└']).then(|| (words[1].to_owned(), words[3] != "0B"))
    };
    text.lines().filter_map(child).collect()
}

fn platforms(own: bool, other: bool) -> Vec<(String, bool)> {
    let mut all = vec![(OWN.to_owned(), own), (OTHER.to_owned(), other)];
    all.sort();
    all
}

#[test]
fn a_second_platform_is_pulled_beside_the_first() {
    let Some(t) = Test::start() else { return };
    let (own, image) = world(&t);
    own.run(&["pull", "-q", "--platform", OTHER, &image]).ok();
    assert_eq!(tree(&own, &image), platforms(false, true));
    // Only the other one is here, and nothing was said: that is not what the name means on this machine.
    let pulled = own.run(&["pull", &image]).ok();
    assert!(pulled.contains("Downloaded newer image"), "{pulled}");
    assert_eq!(tree(&own, &image), platforms(true, true));
    for platform in [OWN, OTHER] {
        let again = own.run(&["pull", "--platform", platform, &image]).ok();
        assert!(again.contains("Image is up to date"), "{again}");
    }
    let (mine, theirs) = (id(&own, OWN, &image), id(&own, OTHER, &image));
    assert_ne!(mine, theirs);
    // A line for each name, with this machine's image.
    assert_eq!(own.run(&["images", "-q", "--no-trunc"]).ok(), mine);
    assert_eq!(own.run(&["inspect", "-f", "{{.Id}}", &image]).ok(), mine);
    for (platform, id) in [(OWN, &mine), (OTHER, &theirs)] {
        own.run(&["create", "--name", "made", "--pull", "never", "--platform", platform, &image]).ok();
        assert_eq!(own.run(&["inspect", "-f", "{{.Image}}", "made"]).ok(), *id);
        own.run(&["rm", "made"]).ok();
        let steps = own.run(&["history", "--platform", platform, "-q", "--no-trunc", &image]).ok();
        assert!(steps.starts_with(id.as_str()), "{steps}");
    }
    let missing = "was found but does not provide the specified platform (linux/s390x)";
    for command in [&["history"][..], &["image", "inspect"], &["save", "-o", "/dev/null"], &["rmi"]] {
        let args = [command, &["--platform", "linux/s390x", &image]].concat();
        own.run(&args).refused(1, &[missing]);
    }
    // Nothing of it is unnamed.
    assert_eq!(own.run(&["images", "-q", "--filter", "dangling=true"]).ok(), "");
    own.run(&["image", "prune", "-f"]).ok();
    assert_eq!(tree(&own, &image), platforms(true, true));
}

#[test]
fn one_platform_or_all_of_a_name_are_removed() {
    let Some(t) = Test::start() else { return };
    let (own, image) = world(&t);
    let layers = || fs::read_dir(own.root.join("image/layers")).unwrap().count();
    for platform in [OWN, OTHER] {
        own.run(&["pull", "-q", "--platform", platform, &image]).ok();
    }
    let theirs = id(&own, OTHER, &image);
    own.run(&["create", "--name", "made", "--platform", OTHER, &image]).ok();
    own.run(&["rmi", "--platform", OTHER, &image]).refused(1, &["must be forced", "stopped container"]);
    own.run(&["rmi", &image]).refused(1, &["must force", "is using its referenced image"]);
    assert_eq!(tree(&own, &image), platforms(true, true));
    own.run(&["rm", "made"]).ok();
    let removed = own.run(&["rmi", "--platform", OTHER, &image]).ok();
    assert!(
        removed.starts_with(&format!("Deleted: {theirs}\n")) && !removed.contains("Untagged"),
        "{removed}"
    );
    assert_eq!(tree(&own, &image), platforms(true, false));
    own.run(&["pull", "-q", "--platform", OTHER, &image]).ok();
    // Other names of the platform stay, without -f.
    own.run(&["tag", &image, "other:1"]).ok();
    own.run(&["tag", &theirs, "alone:1"]).ok();
    let removed = own.run(&["rmi", "--platform", OTHER, "other:1"]).ok();
    assert!(removed.starts_with("Untagged: other@sha256:") && removed.lines().count() == 1, "{removed}");
    assert_eq!(tree(&own, "other:1"), platforms(true, false));
    assert_eq!(tree(&own, &image), platforms(true, true));
    let removed = own.run(&["rmi", "--platform", OTHER, "alone:1"]).ok();
    assert_eq!(removed, "Untagged: alone:1");
    assert_eq!(own.run(&["rmi", "other:1"]).ok(), "Untagged: other:1");
    // Its name goes once, and all images of it.
    let removed = own.run(&["rmi", &image]).ok();
    assert_eq!(removed.matches(&format!("Untagged: {image}:latest")).count(), 1, "{removed}");
    assert_eq!(removed.matches("Untagged").count(), 2, "{removed}");
    assert!(removed.contains(&format!("Deleted: {theirs}")), "{removed}");
    assert_eq!(layers(), 0);
    let blobs = fs::read_dir(own.root.join("image/blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 0, "the index goes with the last image of it");
}

#[test]
fn all_platforms_are_tagged_saved_loaded_and_pushed() {
    let Some(t) = Test::start() else { return };
    let (own, image) = world(&t);
    let Some(registry) = PasswordRegistry::open(&t.dir("registry")) else { return };
    for platform in [OWN, OTHER] {
        own.run(&["pull", "-q", "--platform", platform, &image]).ok();
    }
    let index = own.run(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &image]).ok();
    let index = index.split('@').nth(1).unwrap().to_owned();
    let name = format!("{}/team/app:1", registry.name);
    own.run(&["tag", &image, &name]).ok();
    assert_eq!(tree(&own, &name), platforms(true, true));
    // An id is one image, and so is its name.
    let theirs = id(&own, OTHER, &image);
    own.run(&["tag", &theirs, "alone:1"]).ok();
    assert_eq!(own.run(&["inspect", "-f", "{{.Id}}", "alone:1"]).ok(), theirs);
    own.run(&["tag", &theirs, &format!("{image}:theirs")]).ok();
    assert_eq!(own.run(&["inspect", "-f", "{{.Id}}", &format!("{image}:theirs")]).ok(), theirs);

    let raw = |what: &str| -> Value {
        let accept =
            "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
        let url = format!("http://{}/v2/team/app/manifests/{what}", registry.name);
        serde_json::from_str(&Cmd::new("curl", ["-sSf", "-H", accept, &url]).run().ok()).unwrap()
    };
    // What came as an index goes out as the same.
    let pushed = own.run(&["push", &name]).ok();
    assert!(pushed.contains(&format!("1: digest: {index} ")), "{pushed}");
    assert_eq!(raw("1")["manifests"].as_array().unwrap().len(), 2);
    let one = format!("{}/team/app:one", registry.name);
    own.run(&["tag", &image, &one]).ok();
    own.run(&["push", "--platform", OTHER, &one]).ok();
    assert_eq!(raw("one")["config"]["digest"], theirs.as_str());

    let archive = own.dir.join("all.tar");
    let archive = archive.to_str().unwrap();
    own.run(&["save", "-o", archive, &name]).ok();
    let raw_of_archive =
        Cmd::new("skopeo", ["inspect", "--raw", &format!("oci-archive:{archive}")]).run().ok();
    assert_eq!(raw_of_archive.matches("\"architecture\"").count(), 2, "{raw_of_archive}");
    let fresh = OwnRoots::new(&t, "fresh", &t.suite.registry);
    assert_eq!(fresh.run(&["load", "-i", archive]).ok(), format!("Loaded image: {name}"));
    assert_eq!(tree(&fresh, &name), platforms(true, true));
    fresh.run(&["rmi", &name]).ok();
    fresh.run(&["load", "--platform", OTHER, "-i", archive]).ok();
    assert_eq!(tree(&fresh, &name), platforms(false, true));
    fresh.run(&["load", "--platform", "linux/s390x", "-i", archive]).refused(1, &["linux/s390x"]);
    own.run(&["save", "--platform", OTHER, "-o", archive, &name]).ok();
    fresh.run(&["rmi", &name]).ok();
    let none = format!("the archive has no image for {OWN}");
    fresh.run(&["load", "--platform", OWN, "-i", archive]).refused(1, &[&none]);
    assert_eq!(fresh.run(&["images", "-aq"]).ok(), "");
    fresh.run(&["load", "-i", archive]).ok();
    assert_eq!(fresh.run(&["inspect", "-f", "{{.Id}}", &name]).ok(), theirs);

    // A name and the id of one of its platforms are one image of the archive.
    for names in [[&name, &theirs], [&theirs, &name]] {
        own.run(&["save", "-o", archive, names[0], names[1]]).ok();
        let index = Cmd::new("tar", ["-xOf", archive, "index.json"]).run().ok();
        let index: Value = serde_json::from_str(&index).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], name.as_str());
    }

    // With one of two an index would promise too much.
    own.run(&["rmi", "-f", "--platform", OTHER, &name]).ok();
    let alone = format!("{}/other/app:1", registry.name);
    own.run(&["tag", &name, &alone]).ok();
    let pushed = own.run(&["push", &alone]).ok();
    assert!(pushed.contains("only the available single-platform image was pushed"), "{pushed}");
}

/// What a registry calls an image that was made here is no index that it is one of.
#[test]
fn an_image_that_was_made_here_is_of_no_index() {
    let Some(t) = Test::start() else { return };
    let (own, image) = world(&t);
    let Some(registry) = PasswordRegistry::open(&t.dir("registry")) else { return };
    let name = format!("{}/team/app:1", registry.name);
    let dir = t.dir("context");
    fs::write(dir.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    own.run(&["build", "-q", "-t", &name, dir.to_str().unwrap()]).ok();
    let row = |name: &str| own.run(&["images", "--tree", name]).ok();
    let before = row(&name);
    own.run(&["push", &name]).ok();
    assert_eq!(row(&name), before);
    // By one name it is a platform of an index, by another it is alone.
    own.run(&["pull", "-q", &image]).ok();
    own.run(&["tag", &id(&own, OWN, &image), "alone:1"]).ok();
    assert_eq!(tree(&own, "alone:1"), vec![(OWN.to_owned(), true)]);
    assert_eq!(tree(&own, &image), platforms(true, false));
}

/// Pulling a tag that has moved on leaves nothing of the index before under its name.
#[test]
fn a_tag_that_moved_on() {
    let Some(t) = Test::start() else { return };
    let (own, image) = world(&t);
    let Some(registry) = PasswordRegistry::open(&t.dir("registry")) else { return };
    let name = format!("{}/team/app:1", registry.name);
    for platform in [OWN, OTHER] {
        own.run(&["pull", "-q", "--platform", platform, &image]).ok();
    }
    own.run(&["tag", &image, &name]).ok();
    own.run(&["push", &name]).ok();
    let fresh = OwnRoots::new(&t, "fresh", &t.suite.registry);
    for platform in [OWN, OTHER] {
        fresh.run(&["pull", "-q", "--platform", platform, &name]).ok();
    }
    // Now it is one image.
    own.run(&["push", "--platform", OWN, &name]).ok();
    fresh.run(&["pull", "-q", &name]).ok();
    assert_eq!(tree(&fresh, &name), vec![(OWN.to_owned(), true)]);
    let dangling = fresh.run(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]).ok();
    assert_eq!(dangling, id(&own, OTHER, &image));
}

/// What a store of before knew was the source only.
#[test]
fn a_store_without_notes_of_indexes() {
    let Some(t) = Test::start() else { return };
    let (own, image) = world(&t);
    own.run(&["pull", "-q", "--platform", OTHER, &image]).ok();
    let path = own.root.join("image/index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let notes = index["manifests"][0]["annotations"].as_object_mut().unwrap();
    let index_note = notes.remove("io.rbox.image.index").unwrap();
    let blob = index_note.as_str().unwrap().trim_start_matches("sha256:").to_owned();
    fs::remove_file(own.root.join("image/blobs/sha256").join(blob)).unwrap();
    fs::write(&path, index.to_string()).unwrap();
    assert_eq!(tree(&own, &image), vec![(OTHER.to_owned(), true)]);
    own.run(&["pull", "-q", &image]).ok();
    assert_eq!(tree(&own, &image), platforms(true, true));
    // Made again from what there is, it still knows that the two belong together.
    own.run(&["create", "--name", "one", "--platform", OWN, &image]).ok();
    own.run(&["create", "--name", "two", "--platform", OTHER, &image]).ok();
    fs::write(&path, "{").unwrap();
    assert_eq!(tree(&own, &image), platforms(true, true));
    own.run(&["rm", "one", "two"]).ok();
}
