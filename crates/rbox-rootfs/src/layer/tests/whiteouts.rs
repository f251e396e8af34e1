//! Whiteouts: whatever their order, one tree; and what overlayfs shows of it over a lower layer is what the
//! specification says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::build::{Item, Tar, dir, file, link};
use super::tree::{Look, Scratch, assert_same, tree, xattrs};

/// What the lower layer has: path, and whether it is a directory.
const LOWER: [(&str, bool); 8] = [
    ("d", true),
    ("d/x", true),
    ("d/x/low", false),
    ("d/y", false),
    ("d/z", true),
    ("d/z/low", false),
    ("e", true),
    ("e/low", false),
];

fn wh(path: &str) -> Item {
    let (directory, name) =
        path.rsplit_once('/').map_or((String::new(), path), |(d, n)| (format!("{d}/"), n));
    file(format!("{directory}.wh.{name}"), "")
}

fn opaque(path: &str) -> Item {
    file(format!("{path}/.wh..wh..opq"), "")
}

/// Sets of entries whose order is not to matter.
fn sets() -> Vec<Vec<Item>> {
    let x = "data";
    vec![
        vec![wh("d/y")],
        vec![wh("d/x"), wh("d/y"), dir("d")],
        vec![wh("d/y"), file("d/y", x)],
        vec![wh("d/x"), dir("d/x")],
        vec![wh("d/x"), file("d/x/new", x), dir("d")],
        vec![wh("d/x"), file("d/x", x), file("d/y", x)],
        vec![opaque("d"), file("d/new", x)],
        vec![opaque("d"), file("d/y", x), dir("d/z")],
        vec![opaque("d"), file("d/x/new", x), dir("d")],
        vec![opaque("d"), wh("d/y"), wh("d/x"), file("d/new", x)],
        vec![opaque("d/x"), wh("d/x")],
        vec![opaque("d/x"), wh("d/x"), file("d/x/new", x)],
        vec![wh("d"), wh("d/y"), wh("d/x/low")],
        vec![wh("d"), wh("d/y"), file("d/z/new", x)],
        vec![wh("d"), opaque("d"), file("d/z/new", x)],
        vec![wh("d"), link(b'2', "d", "e"), file("e/new", x)],
        vec![wh("d"), opaque("e"), wh("e"), file("new", x)],
        vec![opaque("e"), opaque("d"), wh("d/z"), file("d/z/new", x)],
        vec![wh("absent"), wh("absent/too"), opaque("e")],
    ]
}

fn permutations(items: &[Item]) -> Vec<Vec<Item>> {
    if items.len() <= 1 {
        return vec![items.to_vec()];
    }
    let mut all = Vec::new();
    for first in 0..items.len() {
        let mut rest = items.to_vec();
        let item = rest.remove(first);
        all.extend(permutations(&rest).into_iter().map(|tail| [vec![item.clone()], tail].concat()));
    }
    all
}

/// The specification: whiteouts take from what is below, then the layer's own entries are added.
fn model(items: &[Item]) -> BTreeMap<String, bool> {
    let mut view: BTreeMap<String, bool> =
        LOWER.iter().map(|(path, is_dir)| ((*path).to_owned(), *is_dir)).collect();
    let name = |item: &Item| String::from_utf8(item.name.clone()).unwrap();
    let mut implied = Vec::new();
    for item in items {
        let path = name(item);
        let (directory, last) = path.rsplit_once('/').unwrap_or(("", &path));
        if last == ".wh..wh..opq" {
            view.retain(|below, _| !below.starts_with(&format!("{directory}/")));
            implied.push(directory.to_owned());
        } else if let Some(hidden) = last.strip_prefix(".wh.") {
            let hidden =
                if directory.is_empty() { hidden.to_owned() } else { format!("{directory}/{hidden}") };
            view.retain(|below, _| *below != hidden && !below.starts_with(&format!("{hidden}/")));
        }
    }
    let whited = |path: &str| {
        let mut prefix = String::new();
        path.split('/').any(|part| {
            let hidden = format!("{prefix}.wh.{part}");
            prefix = format!("{prefix}{part}/");
            items.iter().any(|item| name(item) == hidden)
        })
    };
    for path in implied {
        if !whited(&path) {
            view.insert(path, true);
        }
    }
    for item in items {
        let path = name(item);
        if path.contains(".wh.") {
            continue;
        }
        for (at, _) in path.match_indices('/') {
            view.insert(path[..at].to_owned(), true);
        }
        if item.flag != b'5' {
            view.retain(|below, _| !below.starts_with(&format!("{path}/")));
        }
        view.insert(path, item.flag == b'5');
    }
    view
}

/// What overlayfs shows of the layer over the lower one, unmounted whatever happens.
fn merged(scratch: &Scratch, layer: &Path) -> BTreeMap<String, bool> {
    struct Mounted<'p>(&'p Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            assert!(Command::new("umount").arg(self.0).status().unwrap().success());
        }
    }
    let lower = scratch.empty("lower");
    for (path, is_dir) in LOWER {
        if is_dir {
            fs::create_dir(lower.join(path)).unwrap();
        } else {
            fs::write(lower.join(path), "low").unwrap();
        }
    }
    let target = scratch.empty("merged");
    let options = format!("lowerdir={}:{}", layer.display(), lower.display());
    let mount = Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(&target)
        .output()
        .unwrap();
    assert!(mount.status.success(), "{}", String::from_utf8_lossy(&mount.stderr));
    let mounted = Mounted(&target);
    let view = tree(mounted.0, Look { times: false, holes: false });
    view.into_iter()
        .filter(|(path, _)| !path.is_empty())
        .map(|(path, line)| (String::from_utf8(path).unwrap(), line.starts_with("40")))
        .collect()
}

#[test]
fn every_order_gives_the_tree_the_specification_says() {
    let scratch = Scratch::new();
    let look = Look { times: false, holes: false };
    let mut orders = 0;
    for set in sets() {
        let names: Vec<_> = set.iter().map(|item| String::from_utf8_lossy(&item.name).into_owned()).collect();
        println!("{names:?}");
        let mut first = None;
        for order in permutations(&set) {
            orders += 1;
            scratch
                .unpack("root", &Tar::of(&order).end()[..])
                .unwrap_or_else(|error| panic!("{names:?}: {error:?}"));
            let made = tree(&scratch.path("root"), look);
            if first.is_none() {
                let shown = merged(&scratch, &scratch.path("root"));
                assert_eq!(
                    shown,
                    model(&set),
                    "{names:?}: left is overlayfs's view, right the specification's"
                );
            }
            assert_same(&made, first.get_or_insert_with(|| made.clone()), &format!("{names:?}"));
        }
    }
    println!("{orders} orders");
    assert!(orders > 100);
}

#[test]
fn whiteouts_are_in_overlayfs_s_terms() {
    let scratch = Scratch::new();
    let items = [
        wh("gone"),
        opaque("d"),
        wh("dir"),
        dir("dir"),
        file(".wh..wh.aufs", ""),
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1", "x"),
    ];
    let summary = scratch.unpack("root", &Tar::of(&items).end()[..]).unwrap();
    assert_eq!((summary.whiteouts, summary.opaque, summary.root_opaque), (1, 2, false));
    let root = scratch.path("root");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 3);
    for name in ["d", "dir"] {
        assert_eq!(xattrs(&root.join(name))["trusted.overlay.opaque"], b"y");
    }
    let summary = scratch.unpack("root", &Tar::of(&[file(".wh..wh..opq", "")]).end()[..]).unwrap();
    assert!(summary.root_opaque);
}

/// AUFS's directory of files with several names is not in the layer, the files under their names are.
#[test]
fn links_into_aufs_s_directory_are_files() {
    let scratch = Scratch::new();
    let items = [
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/123.45", "shared"),
        link(b'2', ".wh..wh.plnk/link", "/etc"),
        dir(".wh..wh.orph"),
        file(".wh..wh.orph/1", "x"),
        link(b'1', "bin/one", ".wh..wh.plnk/123.45"),
        link(b'1', "two", "/.wh..wh.plnk/123.45"),
        wh("gone"),
    ];
    scratch.unpack("root", &Tar::of(&items).end()[..]).unwrap();
    let root = scratch.path("root");
    let mut names: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bin", "gone", "two"]);
    for name in ["bin/one", "two"] {
        assert_eq!(fs::read_to_string(root.join(name)).unwrap(), "shared");
    }
    let absent = Tar::of(&[link(b'1', "one", ".wh..wh.plnk/9")]);
    let error = scratch.unpack("root", &absent.end()[..]).unwrap_err().to_string();
    assert!(error.contains("does not have before it"), "{error}");
}

/// Time and inodes in proportion: a layer of nothing but whiteouts.
#[test]
fn many_whiteouts_are_made_in_no_time() {
    // More than one inode may have names on ext4.
    let count = 70_000_u64;
    let scratch = Scratch::new();
    for (layout, name) in [
        ("flat", (|n| format!("d/.wh.{n}")) as fn(usize) -> String),
        ("spread", |n| format!("d/{}/.wh.{n}", n % 500)),
    ] {
        let mut tar = Tar::default();
        for number in 0..count as usize {
            tar.add(&file(name(number), ""));
        }
        let start = std::time::Instant::now();
        let summary = scratch.unpack("root", &tar.end()[..]).unwrap();
        println!("{layout}: {:?}", start.elapsed());
        assert_eq!(summary.whiteouts, count);
        let made = scratch.path("root").join(name(0).replace(".wh.", ""));
        let links = std::os::unix::fs::MetadataExt::nlink(&fs::metadata(made).unwrap());
        assert!(links > 10_000, "{layout}: they are {links} names of one file");
    }
}

#[test]
fn whiteouts_leave_the_directory_s_time_as_the_archive_has_it() {
    let scratch = Scratch::new();
    scratch.unpack("root", &Tar::of(&[dir("d"), wh("d/x")]).end()[..]).unwrap();
    let meta = fs::metadata(scratch.path("root/d")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&meta), 1_000_000_000);
}

#[test]
fn forged_whiteouts_are_refused() {
    let scratch = Scratch::new();
    for bad in [
        file(".wh.", ""),
        file("d/.wh..", ""),
        file(".wh...", ""),
        file(".wh.d/file", "x"),
        super::build::item(b'3', "d/x"),
        link(b'1', "x", ".wh.y"),
    ] {
        let tar = Tar::of(&[file(".wh.y", ""), bad.clone()]);
        let made = scratch.unpack("root", &tar.end()[..]);
        assert!(made.is_err(), "{}", bad.name.escape_ascii());
    }
}
