#![allow(clippy::unwrap_used)]
#![allow(clippy::unnecessary_wraps, reason = "these stand for what reads the records")]
use crate::listing::filter::{PRUNE_KEYS, VOLUME_KEYS};
use crate::record::paths::DATA;
use crate::volume::store::*;

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

fn unused() -> Result<VolumeUsers, RecordError> {
    Ok(VolumeUsers::default())
}

fn used() -> Result<VolumeUsers, RecordError> {
    let by_name = HashMap::from([(name("data"), vec!["c0ffee".to_owned()])]);
    Ok(VolumeUsers { by_name, damaged: Vec::new() })
}

fn store() -> (tempfile::TempDir, VolumeStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = VolumeStore::new(&dir.path().join("volumes"));
    (dir, store)
}

#[test]
fn a_volumes_life() {
    let (_dir, store) = store();
    assert_eq!(store.list().unwrap(), []);
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let data = name("data");
    let volume = store.create(Some(&data), &NewVolume { labels, ..NewVolume::default() }).unwrap();
    assert!(volume.mountpoint.ends_with("volumes/data/_data") && volume.mountpoint.is_dir());
    assert_eq!(
        store.create(Some(&data), &NewVolume::default()).unwrap(),
        volume,
        "a second create gives the first"
    );
    let anonymous = store.create(None, &NewVolume::default()).unwrap();
    assert!(anonymous.anonymous && anonymous.name.as_str().len() == 64);
    assert_eq!(store.list().unwrap().len(), 2);
    let json = serde_json::to_string(&volume.to_json()).unwrap();
    assert!(json.starts_with(r#"{"CreatedAt":"2"#) && json.contains(r#""Labels":{"a":"b"}"#), "{json}");
    assert!(json.ends_with(r#""Name":"data","Options":null,"Scope":"local"}"#), "{json}");

    fs::write(volume.mountpoint.join("file"), "x").unwrap();
    let refused = store.remove(&data, &used).unwrap_err().to_string();
    assert_eq!(refused, "remove data: volume is in use - [c0ffee]");
    store.remove(&data, &unused).unwrap();
    assert_eq!(store.remove(&data, &unused).unwrap_err().to_string(), "get data: no such volume");
    assert!(store.get(&data).unwrap().is_none());
    let left: Vec<_> = fs::read_dir(&store.dir).unwrap().collect();
    assert_eq!(left.len(), 2, "one volume and .tmp: {left:?}");
    assert_eq!(fs::read_dir(store.dir.join(TEMPORARIES)).unwrap().count(), 0);
}

#[test]
fn drivers_and_options_are_refused() {
    let none = BTreeMap::new();
    assert!(VolumeStore::check_driver("x", "local", &none).is_ok());
    let said = |driver, options| VolumeStore::check_driver("x", driver, options).unwrap_err().to_string();
    assert!(said("nfs", &none).starts_with("create x: error looking up volume plugin nfs: "));
    let foo = BTreeMap::from([("foo".to_owned(), "bar".to_owned())]);
    assert_eq!(said("local", &foo), "create x: invalid option: \"foo\"");
}

#[test]
fn filters_and_prune() {
    let (_dir, store) = store();
    store.create(Some(&name("data")), &NewVolume::default()).unwrap();
    let labels = BTreeMap::from([("keep".to_owned(), String::new())]);
    store.create(Some(&name("old")), &NewVolume { labels, ..NewVolume::default() }).unwrap();
    let anonymous = store.create(None, &NewVolume::default()).unwrap();
    fs::write(anonymous.mountpoint.join("file"), vec![1; 5000]).unwrap();
    let names = |given: &[&str]| -> Vec<String> {
        let filters = Filters::parse(given, VOLUME_KEYS).unwrap();
        let found = store.filtered(&filters, &used().unwrap()).unwrap();
        let mut names: Vec<_> = found.into_iter().map(|v| v.name.to_string()).collect();
        names.retain(|name| name.len() < 64);
        names
    };
    assert_eq!(names(&[]), ["data", "old"]);
    assert_eq!(names(&["name=da"]), ["data"]);
    assert_eq!(names(&["dangling=true"]), ["old"]);
    assert_eq!(names(&["dangling=false"]), ["data"]);
    assert_eq!(names(&["label=keep"]), ["old"]);
    assert!(names(&["driver=nfs"]).is_empty());

    let plain = Filters::default();
    let pruned = store.prune(&plain, false, &|_| true, &used).unwrap();
    assert_eq!((pruned.names, pruned.reclaimed), (vec![anonymous.name], 5000));
    let kept = Filters::parse(&["label!=keep"], PRUNE_KEYS).unwrap();
    assert!(store.prune(&kept, true, &|_| true, &used).unwrap().names.is_empty());
    assert_eq!(store.prune(&plain, true, &|_| true, &used).unwrap().names, ["old"]);
}

#[test]
fn what_a_kill_left_is_swept_and_work_in_progress_is_not() {
    let (_dir, store) = store();
    store.create(Some(&name("data")), &NewVolume::default()).unwrap();
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    for left in [format!("new-a.{}.1", dead.id()), "gone-b".into(), "new-".into()] {
        fs::create_dir_all(store.dir.join(TEMPORARIES).join(left).join(DATA)).unwrap();
    }
    let mine = store.temporary(NEW).unwrap();
    fs::create_dir(&mine).unwrap();
    fs::write(store.dir.join("foreign"), "").unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    store.sweep();
    let left = |dir: &Path| {
        let mut left: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        left.sort();
        left
    };
    assert_eq!(left(&store.dir.join(TEMPORARIES)), [mine]);
    assert_eq!(left(&store.dir), [".tmp", "data", "foreign"].map(|name| store.dir.join(name)));
}

/// An older version made them among the volumes.
#[test]
fn of_an_older_versions_leftovers_only_what_is_surely_ours_is_swept() {
    let (_dir, store) = store();
    store.create(Some(&name("data")), &NewVolume::default()).unwrap();
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let dead = dead.id();
    let alive = std::process::id() as i32;
    let ticks = process_start(alive).unwrap().0;
    let swept = [format!(".new-0123456789abcdef.{dead}.1"), format!(".gone-0123456789abcdef.{alive}.1")];
    let kept = [
        format!(".new-0123456789abcdef.{alive}.{ticks}"),
        format!(".new-0123456789abcde.{dead}.1"),
        format!(".new-0123456789abcdeg.{dead}.1"),
        format!(".gone-0123456789abcdef.{dead}"),
        format!(".gone-0123456789abcdef.{dead}.1.1"),
        format!(".old-0123456789abcdef.{dead}.1"),
        ".new-theirs".into(),
    ];
    for left in swept.iter().chain(&kept) {
        fs::create_dir_all(store.dir.join(left).join(DATA)).unwrap();
    }
    assert_eq!(store.list().unwrap().len(), 1);
    for name in swept {
        assert!(!store.dir.join(&name).exists(), "{name}");
    }
    for name in kept {
        assert!(store.dir.join(&name).exists(), "{name}");
    }
}

/// Of one that is damaged the data counts; the others have nothing to do with it.
#[test]
fn a_damaged_record_is_that_volumes_alone() {
    let (_dir, store) = store();
    for damaged in ["", "{", "[]", "\0\0\0", r#"{"created":1}"#] {
        let (bad, good) = (name("bad"), name("good"));
        for name in [&bad, &good] {
            store.create(Some(name), &NewVolume::default()).unwrap();
        }
        fs::write(store.mountpoint(&bad).join("kept"), "x").unwrap();
        fs::write(store.dir.join("bad/volume.json"), damaged).unwrap();
        let listed = store.list().unwrap();
        assert_eq!(listed.iter().map(|v| v.damage.is_some()).collect::<Vec<_>>(), [true, false]);
        assert!(!listed[0].anonymous, "prune without -a leaves it");
        assert!(store.create(Some(&bad), &NewVolume::default()).unwrap().damage.is_some(), "told once");
        assert!(store.get(&bad).unwrap().unwrap().damage.is_none(), "and mended");
        assert!(store.mountpoint(&bad).join("kept").exists());
        fs::remove_file(store.dir.join("bad/volume.json")).unwrap();
        store.remove(&bad, &unused).unwrap();
        store.remove(&good, &unused).unwrap();
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let (dir, store) = store();
    fs::create_dir_all(store.dir.join("empty")).unwrap();
    fs::create_dir_all(dir.path().join("host/_data")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("host"), store.dir.join("link")).unwrap();
    fs::write(store.dir.join("file"), "").unwrap();
    for foreign in ["empty", "link", "file"] {
        let refused = store.remove(&name(foreign), &unused).unwrap_err().to_string();
        assert_eq!(refused, format!("get {foreign}: no such volume"));
        assert!(fs::symlink_metadata(store.dir.join(foreign)).is_ok());
    }
    for foreign in ["link", "file"] {
        let refused = store.create(Some(&name(foreign)), &NewVolume::default()).unwrap_err().to_string();
        assert!(refused.contains("is in the way"), "{refused}");
    }
    assert_eq!(fs::read_dir(dir.path().join("host")).unwrap().count(), 1);
    store.create(Some(&name("empty")), &NewVolume::default()).unwrap();
}

/// A removal and a use at the same time: whoever is told that the volume is there has it.
#[test]
fn a_volume_taken_into_use_is_not_removed() {
    use std::sync::Mutex;
    let (_dir, store) = store();
    let (store, data) = (&store, &name("data"));
    for _ in 0..200 {
        store.create(Some(data), &NewVolume::default()).unwrap();
        let taken = Mutex::new(false);
        let users = || if *taken.lock().unwrap() { used() } else { unused() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                *taken.lock().unwrap() = true;
                let volume = store.create(Some(data), &NewVolume::default()).unwrap();
                assert!(File::create(volume.mountpoint.join("file")).is_ok());
            });
            scope.spawn(|| store.remove(data, &users).is_ok());
        });
        assert!(store.mountpoint(data).join("file").exists());
    }
}

#[test]
fn many_makers_of_one_name_get_one_volume() {
    let (_dir, store) = store();
    let made: Vec<Volume> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| store.create(Some(&name("shared")), &NewVolume::default()).unwrap()))
            .collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    assert!(made.iter().all(|volume| *volume == made[0]));
    assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 2, "the volume and .tmp");
    assert_eq!(fs::read_dir(store.dir.join(TEMPORARIES)).unwrap().count(), 0);
}
