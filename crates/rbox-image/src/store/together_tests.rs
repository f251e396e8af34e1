//! Several images in one index: put together, named, taken apart.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use rbox_spec::Reference;

use super::tests::{add, add_two, content, fresh};
use super::*;
use crate::testing::{TestImage, tar_of};

#[test]
fn one_platform_of_a_name_is_removed_from_that_name_only() {
    let (_dir, store) = fresh();
    let [mine, theirs] = add_two(&store, &["app:1", "other:2"]);
    let arm = [theirs.platform.clone()];
    let of_arm = RemoveOptions { platforms: &arm, ..RemoveOptions::default() };
    let removed = store.remove("app:1", of_arm).unwrap();
    let by_manifest = format!("app@{}", theirs.manifest_digest).parse().unwrap();
    assert_eq!(removed, [Removed::Untagged(by_manifest)]);
    let ids = |name: &str| store.variants(name).unwrap().iter().map(|image| image.id).collect::<Vec<_>>();
    assert_eq!(ids("app:1"), [mine.id]);
    assert_eq!(ids("other:2").len(), 2);
    // By its id it goes from all names, which wants force as it does with a single image.
    store.tag_named("other:2", &"third:3".parse().unwrap()).unwrap();
    let error = store.remove(&theirs.id.to_string(), RemoveOptions::default()).unwrap_err().to_string();
    assert!(error.contains("image is referenced in multiple repositories"), "{error}");
    // With the last entry the image goes.
    store.remove("third:3", of_arm).unwrap();
    let removed = store.remove("other:2", of_arm).unwrap();
    assert_eq!(removed[0], Removed::Deleted(theirs.id));
    assert!(store.find_id(&theirs.id).unwrap().is_none());
    assert_eq!((ids("other:2"), ids("app:1")), (vec![mine.id], vec![mine.id]));
    assert!(removed.iter().all(|one| matches!(one, Removed::Deleted(_))), "{removed:?}");
}

#[test]
fn a_source_is_no_index() {
    let (_dir, store) = fresh();
    let image = add(&store, &TestImage::small(), &["app:1", "app:2"]);
    let pushed = crate::hash::sha256(b"compressed");
    // As a store of before has it.
    let path = store.dir().join("index.json");
    let text = fs::read_to_string(&path).unwrap();
    let note = format!(r#","io.rbox.image.index":"{}""#, image.manifest_digest);
    assert!(text.contains(&note[1..]), "{text}");
    let bare = text.replacen(&note[1..], "", 2).replace("{,", "{").replace(",,", ",").replace(",}", "}");
    fs::write(&path, bare).unwrap();
    store.pushed(&image, &"app:1".parse().unwrap(), pushed).unwrap();
    assert_eq!(store.get("app:1").unwrap().index, None);
    assert!(store.indexes_of_names().unwrap().is_empty());
    assert_eq!(store.sources_of(&"app:1".parse().unwrap()).unwrap(), Some(vec![pushed]));
    assert_eq!(store.sources_of(&"app:2".parse().unwrap()).unwrap(), Some(Vec::new()));
    assert_eq!(store.sources_of(&"app:3".parse().unwrap()).unwrap(), None);
}

/// What was listed goes, and nothing else: not what can be gone on with, nor what came since, nor anything while somebody is adding.
#[test]
fn what_has_no_name_goes_as_listed() {
    let (_dir, store) = fresh();
    let blob = |digit: &str| store.dir().join("blobs/sha256").join(digit.repeat(64));
    let partial = store.dir().join("tmp/sha256-ab.partial");
    fs::write(&partial, "half").unwrap();
    fs::write(blob("a"), "text").unwrap();
    let found: Vec<PathBuf> = store.unnamed().unwrap().into_iter().map(|(path, _)| path).collect();
    assert_eq!(found, [blob("a")]);
    fs::write(blob("b"), "later").unwrap();
    let transaction = store.transaction().unwrap();
    assert!(matches!(store.remove_unnamed(&found), Err(StoreError::Conflict(_))));
    drop(transaction);
    assert!(blob("a").exists());
    store.remove_unnamed(&found).unwrap();
    assert_eq!(content(&store), [blob("b"), partial]);
}

#[test]
fn images_for_several_platforms_are_put_together() {
    let (_dir, store) = fresh();
    let before = add(&store, &TestImage::small(), &["app:1"]);
    let parts = ["amd64", "arm64"].map(|machine| {
        add(&store, &TestImage::new(&[(tar_of(&[("n", machine.as_bytes())]), "")], machine), &[])
    });
    let names: Vec<Reference> = ["app:1", "other"].map(|name| name.parse().unwrap()).into();
    let together =
        |parts: &[Image]| store.transaction().unwrap().put_together(parts, &names, &BTreeMap::new(), &[]);
    let ids =
        |name: &str| store.variants(name).unwrap().iter().map(|image| image.id).collect::<BTreeSet<_>>();
    let twice = [parts[0].clone(), parts[1].clone(), parts[1].clone()];
    let error = together(&twice).unwrap_err().to_string();
    assert!(error.ends_with("is the second image for linux/arm64"), "{error}");
    assert_eq!(ids("app:1"), BTreeSet::from([before.id]));
    let index = together(&parts).unwrap();
    for name in ["app:1", "other:latest"] {
        assert_eq!(ids(name), parts.iter().map(|part| part.id).collect());
        assert!(store.variants(name).unwrap().iter().all(|image| image.index == Some(index)));
    }
    let (_, _, document) = store.index_document(&index).unwrap().unwrap();
    let platforms = document.manifests.iter().map(|entry| entry.platform.as_ref().unwrap().normal());
    assert_eq!(platforms.collect::<Vec<_>>(), [parts[0].platform.clone(), parts[1].platform.clone()]);
    assert!(store.find_id(&before.id).unwrap().unwrap().references.is_empty());
    assert_eq!(together(&parts).unwrap(), index);
    // One of them is built anew.
    let newer = add(&store, &TestImage::new(&[(tar_of(&[("n", b"2")]), "")], "arm64"), &[]);
    together(&[parts[0].clone(), newer.clone()]).unwrap();
    assert_eq!(ids("app:1"), BTreeSet::from([parts[0].id, newer.id]));
    assert!(store.find_id(&parts[1].id).unwrap().unwrap().references.is_empty());
    for name in ["app:1", "other:latest"] {
        store.remove(name, RemoveOptions::default()).unwrap();
    }
    store.remove(&parts[1].id.to_string(), RemoveOptions::default()).unwrap();
    store.remove(&before.id.to_string(), RemoveOptions::default()).unwrap();
    assert_eq!(content(&store), Vec::<PathBuf>::new());
}

#[test]
fn what_has_no_name_but_that_of_its_index_is_tagged_as_a_whole() {
    let (_dir, store) = fresh();
    let part = |machine: &str, text: &str| {
        add(&store, &TestImage::new(&[(tar_of(&[("n", text.as_bytes())]), "")], machine), &[])
    };
    let [old, new, arm] = [part("amd64", "old"), part("amd64", "new"), part("arm64", "arm")];
    let together = |parts: &[&Image], names: &[Reference]| {
        let parts: Vec<Image> = parts.iter().map(|part| (*part).clone()).collect();
        store.transaction().unwrap().put_together(&parts, names, &BTreeMap::new(), &[]).unwrap()
    };
    let index = together(&[&old, &arm], &[]);
    let tag = |text: &str, name: &str| store.tag_named(text, &name.parse().unwrap()).unwrap();
    let has = |name: &str| {
        store.variants(name).unwrap().iter().map(|image| (image.id, image.index)).collect::<BTreeSet<_>>()
    };
    let both = |first: &Image, index| BTreeSet::from([(first.id, Some(index)), (arm.id, Some(index))]);
    tag(&index.to_string(), "app:1");
    assert_eq!(has("app:1"), both(&old, index));
    tag(&index.hex(), "app:2");
    assert_eq!(has("app:2"), both(&old, index));
    // The same manifest is of another index under another name.
    let later = together(&[&new, &arm], &["app:3".parse().unwrap()]);
    tag("app:3", "other:4");
    assert_eq!(has("other:4"), both(&new, later));
    // An id is that of one image.
    tag(&arm.id.to_string(), "arm");
    assert_eq!(has("arm"), BTreeSet::from([(arm.id, None)]));
    assert!(store.tag_named(&"0".repeat(64), &"none".parse().unwrap()).is_err());
}

#[test]
fn an_index_without_a_name_keeps_its_images() {
    let (_dir, store) = fresh();
    let part =
        |machine: &str, text: &str| TestImage::new(&[(tar_of(&[("n", text.as_bytes())]), "")], machine);
    let sources = [part("amd64", "old"), part("amd64", "new"), part("arm64", "arm")];
    let [old, new, arm] = [&sources[0], &sources[1], &sources[2]].map(|source| add(&store, source, &[]));
    let together = |parts: [&Image; 2]| {
        store
            .transaction()
            .unwrap()
            .put_together(&parts.map(Clone::clone), &[], &BTreeMap::new(), &[])
            .unwrap()
    };
    let has = |index: &Digest| {
        let all = store.variants(&index.to_string()).unwrap();
        assert!(all.iter().all(|image| image.index == Some(*index)));
        all.iter().map(|image| image.id).collect::<BTreeSet<_>>()
    };
    let remove = |name: &str| store.remove(name, RemoveOptions::default()).unwrap();
    let (first, second) = (together([&old, &arm]), together([&new, &arm]));
    let both = || {
        assert_eq!(has(&first), BTreeSet::from([old.id, arm.id]));
        assert_eq!(has(&second), BTreeSet::from([new.id, arm.id]));
    };
    both();
    // The same image under a name of its own, which goes again.
    add(&store, &sources[2], &["app:1"]);
    both();
    assert_eq!(remove("app:1"), [Removed::Untagged("app:1".parse().unwrap())]);
    both();
    // One index goes, and with it what no other has.
    let removed = remove(&first.to_string());
    assert!(removed.contains(&Removed::Deleted(old.id)) && removed.contains(&Removed::Deleted(first)));
    assert!(store.variants(&first.to_string()).unwrap().is_empty());
    assert_eq!(has(&second), BTreeSet::from([new.id, arm.id]));
    // One of which each image has a name is of no use to anybody; a name of the index is in place of none.
    add(&store, &sources[2], &["app:1"]);
    store.prune(false, |image| image.id != new.id).unwrap();
    assert_eq!(has(&second), BTreeSet::from([new.id, arm.id]));
    store.prune(false, |_| true).unwrap();
    assert!(store.variants(&second.to_string()).unwrap().is_empty());
    assert!(store.find("app:1").unwrap().is_some());
    let third = together([&add(&store, &sources[0], &[]), &arm]);
    store.tag_named(&third.to_string(), &"all:1".parse().unwrap()).unwrap();
    remove("all:1");
    remove("app:1");
    assert_eq!(content(&store), Vec::<PathBuf>::new());
}
