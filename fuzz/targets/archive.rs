//! `load`: files that are put in an archive under the names that are looked for there. They are divided by NUL NUL; the first line of each is
//! its name, the rest is what it has.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rbox_image::ImageStore;
use rbox_image::archive::load;

/// A store in memory, with a file beside it that nothing may touch.
struct Place {
    dir: PathBuf,
    store: ImageStore,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let dir = PathBuf::from(format!("/dev/shm/rbox-fuzz-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("a directory in memory");
    std::fs::write(dir.join("canary"), "alive").expect("a file in memory");
    let store = ImageStore::open(&dir.join("image")).expect("a store");
    Place { dir, store }
});

fuzz_target!(|input: &[u8]| {
    let place = &*PLACE;
    let mut tar = tar::Builder::new(Vec::new());
    let files: Vec<_> = std::str::from_utf8(input).unwrap_or_default().split("\0\0").collect();
    for file in files {
        let (name, data) = file.split_once('\n').unwrap_or((file, ""));
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        // A name that begins with `>` is a link to the first line of its data.
        if let Some(name) = name.strip_prefix('>') {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let _ = tar.append_link(&mut header, name, data.lines().next().unwrap_or_default());
        } else {
            let _ = tar.append_data(&mut header, name, data.as_bytes());
        }
    }
    let Ok(tar) = tar.into_inner() else { return };
    if let Ok(loaded) = load(&place.store, tar.as_slice(), &[], &mut |_| {}) {
        assert!(!loaded.is_empty());
        let listed = place.store.list().expect("the store can be read");
        assert!(loaded.iter().all(|new| listed.iter().any(|image| image.id == new.image.id)));
        std::fs::remove_dir_all(place.dir.join("image")).expect("it can be removed");
        ImageStore::open(&place.dir.join("image")).expect("a store");
    }
    let names: Vec<_> =
        std::fs::read_dir(&place.dir).expect("it is there").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(std::fs::read(place.dir.join("canary")).ok().as_deref(), Some(&b"alive"[..]));
});
