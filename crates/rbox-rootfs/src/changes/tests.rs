#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rbox_spec::Kind;

use super::*;
use crate::overlay::Overlay;

/// Layers on top of each other, each written through an overlay of those below. Needs root.
struct Stack {
    dir: tempfile::TempDir,
    lowers: Vec<PathBuf>,
}

impl Stack {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("0");
        fs::create_dir(&base).unwrap();
        Some(Self { dir, lowers: vec![base] })
    }

    fn place(&self, what: &str) -> PathBuf {
        let path = self.dir.path().join(what);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// The merged tree of all layers with a new upper directory, and that directory.
    fn mount(&self, what: &str) -> (OwnedFd, PathBuf) {
        let upper = self.place(&format!("{what}-upper"));
        let (work, stage) = (self.place(&format!("{what}-work")), self.place("stage"));
        let overlay =
            Overlay { lowers: &self.lowers, upper: &upper, work: &work, volatile: false, stage: &stage };
        (overlay.mount().unwrap(), upper)
    }

    /// Makes a further layer of what `write` does to the tree.
    fn layer(&mut self, write: impl FnOnce(&Path)) {
        let (tree, upper) = self.mount(&self.lowers.len().to_string());
        write(&root_of(&tree));
        drop(tree);
        self.lowers.push(upper);
    }

    /// What a container that does this has changed, and what that comes to by a comparison of the two trees.
    fn changes(&self, what: &str, own: &[Own<'_>], write: impl FnOnce(&Path)) -> (Vec<String>, Vec<String>) {
        let (before, _) = self.mount(&format!("{what}-before"));
        let (after, upper) = self.mount(what);
        write(&root_of(&after));
        let mut compared = Vec::new();
        compare(&root_of(&before), &root_of(&after), "", &mut compared);
        (told(&upper, &self.lowers, own).0, compared)
    }
}

fn root_of(tree: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()))
}

/// The changes, as Docker prints them, and what is unused.
fn told(upper: &Path, lowers: &[PathBuf], own: &[Own<'_>]) -> (Vec<String>, Vec<String>) {
    let (mut told, mut unused) = (Vec::new(), Vec::new());
    changes(&Layers { upper, lowers, own }, &mut |seen| {
        match seen {
            Seen::Change(kind, path) => told.push(format!("{} {}", kind.letter(), path.display())),
            Seen::Unused(path) => unused.push(path.display().to_string()),
        }
        Ok(())
    })
    .unwrap();
    (told, unused)
}

/// Docker's way: both trees are mounted and compared, without a look at the upper directory.
fn compare(before: &Path, after: &Path, path: &str, told: &mut Vec<String>) {
    let names = |dir: &Path| -> BTreeSet<String> {
        let listed = fs::read_dir(dir.join(path.trim_start_matches('/')));
        listed.into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let at = |root: &Path, path: &str| fs::symlink_metadata(root.join(path.trim_start_matches('/'))).ok();
    let was_directory = at(before, path).is_some_and(|meta| meta.is_dir()) || path.is_empty();
    let old = if was_directory { names(before) } else { BTreeSet::new() };
    let new = names(after);
    for name in &new {
        let path = format!("{path}/{name}");
        let now = at(after, &path).unwrap();
        let place = told.len();
        let mut is_told = true;
        match at(before, &path).filter(|_| old.contains(name)) {
            None => told.push(format!("A {path}")),
            Some(was) if differs(&was, &now) => told.push(format!("C {path}")),
            Some(_) => is_told = false,
        }
        if now.is_dir() {
            compare(before, after, &path, told);
        }
        if !is_told && told.len() > place {
            told.insert(place, format!("C {path}"));
        }
    }
    told.extend(old.difference(&new).map(|name| format!("D {path}/{name}")));
}

fn differs(was: &fs::Metadata, now: &fs::Metadata) -> bool {
    let looks = |meta: &fs::Metadata| (meta.mode(), meta.uid(), meta.gid(), meta.rdev());
    let content = |meta: &fs::Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec());
    looks(was) != looks(now) || (!now.is_dir() && content(was) != content(now))
}

#[test]
fn each_kind_of_change() {
    let Some(mut stack) = Stack::new() else { return };
    stack.layer(|root| {
        fs::create_dir_all(root.join("etc/deep/er")).unwrap();
        for file in ["etc/passwd", "etc/deep/er/x", "etc/deep/y", "gone", "hidden", "file", "same"] {
            fs::write(root.join(file), file).unwrap();
        }
        fs::create_dir_all(root.join("opaque/below")).unwrap();
        fs::write(root.join("opaque/kept"), "").unwrap();
        fs::create_dir_all(root.join("dir/in")).unwrap();
        fs::create_dir_all(root.join("moved/in")).unwrap();
        symlink("etc", root.join("link")).unwrap();
    });
    // What this layer hides is not there for the ones above it.
    stack.layer(|root| {
        fs::remove_file(root.join("hidden")).unwrap();
        fs::remove_dir_all(root.join("etc/deep/er")).unwrap();
        fs::create_dir_all(root.join("etc/deep/er/new")).unwrap();
    });
    let (told, compared) = stack.changes("one", &[], |root| {
        fs::write(root.join("etc/x"), "").unwrap();
        fs::write(root.join("etc/deep/er/x"), "again").unwrap();
        fs::write(root.join("hidden"), "again").unwrap();
        fs::remove_file(root.join("gone")).unwrap();
        fs::remove_file(root.join("etc/deep/y")).unwrap();
        fs::remove_dir_all(root.join("opaque")).unwrap();
        fs::create_dir_all(root.join("opaque/new")).unwrap();
        fs::write(root.join("opaque/kept"), "another").unwrap();
        fs::remove_dir_all(root.join("dir")).unwrap();
        fs::write(root.join("dir"), "").unwrap();
        fs::remove_file(root.join("file")).unwrap();
        fs::create_dir_all(root.join("file/a")).unwrap();
        fs::set_permissions(root.join("same"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::remove_file(root.join("link")).unwrap();
        fs::create_dir(root.join("link")).unwrap();
        fs::write(root.join("link/z"), "").unwrap();
    });
    let wanted = [
        "C /dir",
        "C /etc",
        "C /etc/deep",
        "C /etc/deep/er",
        "A /etc/deep/er/x",
        "D /etc/deep/y",
        "A /etc/x",
        "C /file",
        "A /file/a",
        "A /hidden",
        "C /link",
        "A /link/z",
        "C /opaque",
        "C /opaque/kept",
        "A /opaque/new",
        "D /opaque/below",
        "D /gone",
    ];
    assert_eq!(told, wanted);
    assert_eq!(compared, wanted);
}

/// Two hundred containers that do what comes to their mind, in layers that others made so.
#[test]
fn what_is_told_is_what_a_comparison_of_the_trees_shows() {
    let Some(mut stack) = Stack::new() else { return };
    for seed in 0..4 {
        stack.layer(|root| at_random(root, seed, 60));
    }
    for seed in 100..300 {
        let (told, compared) = stack.changes(&seed.to_string(), &[], |root| at_random(root, seed, 12));
        assert_eq!(told, compared, "seed {seed}");
        if seed % 50 == 0 {
            stack.layer(|root| at_random(root, seed, 30));
        }
    }
}

fn at_random(root: &Path, seed: u64, steps: usize) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for step in 0..steps {
        let names = ["a", "b", "c", "d"];
        let depth = 1 + next(3);
        let path: PathBuf = (0..depth).map(|_| names[next(4) as usize]).collect();
        let (path, other) = (root.join(path), root.join(names[next(4) as usize]));
        // Whatever is in the way of one of these makes it fail, and nothing happens.
        let remove = || drop(fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)));
        let _ = match next(10) {
            0 | 1 => path
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&path, "x".repeat(step + 1))),
            2 => fs::create_dir_all(&path),
            3 => {
                remove();
                Ok(())
            }
            4 => {
                remove();
                fs::create_dir(&path)
            }
            5 => fs::set_permissions(&path, fs::Permissions::from_mode(0o700 + step as u32 % 8)),
            6 => std::os::unix::fs::lchown(&path, Some(next(3) as u32), None),
            7 => symlink(names[next(4) as usize], &path),
            8 => fs::rename(&path, &other),
            _ => fs::hard_link(&path, &other),
        };
    }
}

#[test]
fn what_the_engine_put_there_is_not_told() {
    let Some(mut stack) = Stack::new() else { return };
    stack.layer(|root| fs::create_dir(root.join("etc")).unwrap());
    let own = [
        Own::Directory("/dev"),
        Own::Directory("/proc"),
        Own::Directory("/run"),
        Own::File("/etc/hosts"),
        Own::File("/etc/hostname"),
    ];
    let (tree, upper) = stack.mount("own");
    let root = root_of(&tree);
    for dir in ["dev", "proc", "run"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    fs::write(root.join("etc/hosts"), "").unwrap();
    let unused = || told(&upper, &stack.lowers, &own);
    assert_eq!(unused(), (vec![], ["/dev", "/etc/hosts", "/etc", "/proc", "/run"].map(String::from).into()));
    // What somebody used is theirs.
    fs::create_dir_all(root.join("run/in/side")).unwrap();
    fs::write(root.join("run/in/side/lock"), "").unwrap();
    fs::write(root.join("etc/hostname"), "mine").unwrap();
    std::os::unix::fs::chown(root.join("proc"), Some(7), None).unwrap();
    let (changed, left) = unused();
    assert_eq!(
        changed,
        [
            "C /etc",
            "A /etc/hostname",
            "A /proc",
            "C /run",
            "A /run/in",
            "A /run/in/side",
            "A /run/in/side/lock"
        ]
    );
    assert_eq!(left, ["/dev", "/etc/hosts"]);
}

#[test]
fn what_holds_something_used_is_used() {
    let Some(mut stack) = Stack::new() else { return };
    stack.layer(|root| {
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::write(root.join("a/b/c/same"), "").unwrap();
    });
    let (tree, upper) = stack.mount("holds");
    let layers = || Layers { upper: &upper, lowers: &stack.lowers, own: &[] };
    assert!(!changes(&layers(), &mut |_| Ok(())).unwrap());
    // Copied up with all that it is in, which says nothing of what is in the file.
    drop(fs::File::options().append(true).open(root_of(&tree).join("a/b/c/same")).unwrap());
    assert!(upper.join("a/b/c/same").exists());
    assert!(changes(&layers(), &mut |_| Ok(())).unwrap());
    assert_eq!(told(&upper, &stack.lowers, &[]), (vec![], vec![]));
}

#[test]
fn a_whiteout_over_nothing_is_no_change() {
    let Some(stack) = Stack::new() else { return };
    let (_, upper) = stack.mount("nothing");
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("absent"), kind, rustix::fs::Mode::empty(), 0).unwrap();
    assert_eq!(told(&upper, &stack.lowers, &[]), (vec![], vec![]));
}

/// A directory that was copied up with an attribute is not unused: the attribute may be new.
#[test]
fn attributes_of_a_directory_make_it_used() {
    let Some(mut stack) = Stack::new() else { return };
    stack.layer(|root| {
        fs::create_dir(root.join("plain")).unwrap();
        fs::create_dir(root.join("marked")).unwrap();
    });
    let (tree, upper) = stack.mount("attributes");
    for name in ["plain", "marked"] {
        fs::set_permissions(root_of(&tree).join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let marked = fs::File::open(root_of(&tree).join("marked")).unwrap();
    rustix::fs::fsetxattr(&marked, c"user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    assert_eq!(told(&upper, &stack.lowers, &[]), (vec![], vec!["/plain".to_owned()]));
}

#[test]
fn a_capability_is_a_change() {
    let Some(mut stack) = Stack::new() else { return };
    stack.layer(|root| fs::write(root.join("ping"), "").unwrap());
    let (told, _) = stack.changes("capability", &[], |root| {
        let file = fs::File::open(root.join("ping")).unwrap();
        // Revision 2, CAP_NET_RAW, effective.
        let mut value = [0_u8; 20];
        (value[0], value[3], value[5]) = (1, 2, 0x20);
        rustix::fs::fsetxattr(&file, c"security.capability", &value, rustix::fs::XattrFlags::empty())
            .unwrap();
    });
    assert_eq!(told, ["C /ping"]);
}

/// The way back up leads through directories that have nothing else.
#[test]
fn what_comes_after_a_deep_tree_is_told() {
    let Some(stack) = Stack::new() else { return };
    let (_, upper) = stack.mount("chain");
    fs::create_dir_all(upper.join("a").join(["d"; 40].join("/"))).unwrap();
    fs::write(upper.join("z"), "").unwrap();
    let mut told = Vec::new();
    changes(&Layers { upper: &upper, lowers: &stack.lowers, own: &[] }, &mut |seen| {
        if let Seen::Change(kind, path) = seen {
            told.push(format!("{kind:?} {}", path.display()));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((told.len(), told.last().map(String::as_str)), (42, Some("Added /z")));
}

const DEPTH: usize = 3000;

#[test]
fn a_tree_of_any_depth_takes_few_descriptors() {
    let Some(stack) = Stack::new() else { return };
    let (_, upper) = stack.mount("deep");
    // Twice, so that the way back up leads to something.
    let mut here = fs::File::open(&upper).unwrap();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&here, c"d", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        rustix::fs::mkdirat(&here, c"e", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        here = rustix::fs::openat(&here, c"d", flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    drop(here);
    let ours = || {
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(&upper))).count()
    };
    let (mut count, mut most) = (0, 0);
    changes(&Layers { upper: &upper, lowers: &stack.lowers, own: &[] }, &mut |_| {
        count += 1;
        if count % 100 == 0 {
            most = most.max(ours());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(count, 2 * DEPTH);
    assert!((10..=20).contains(&most), "{most} descriptors");
    crate::removal::clear(fs::File::open(&upper).unwrap()).unwrap();
}

#[test]
fn nothing_is_opened_but_directories() {
    let Some(stack) = Stack::new() else { return };
    let (tree, upper) = stack.mount("kinds");
    let root = fs::File::open(root_of(&tree)).unwrap();
    rustix::fs::mknodat(&root, c"fifo", rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    fs::write(root_of(&tree).join("file"), "x").unwrap();
    symlink("/etc", root_of(&tree).join("link")).unwrap();
    assert!(fs::symlink_metadata(upper.join("fifo")).unwrap().file_type().is_fifo());
    // It would wait for a writer.
    assert_eq!(told(&upper, &stack.lowers, &[]).0, ["A /fifo", "A /file", "A /link"]);
}

#[test]
fn whoever_is_told_may_stop_it() {
    let Some(stack) = Stack::new() else { return };
    let (tree, upper) = stack.mount("stop");
    fs::write(root_of(&tree).join("file"), "x").unwrap();
    let layers = Layers { upper: &upper, lowers: &stack.lowers, own: &[] };
    let stopped = changes(&layers, &mut |_| Err(io::ErrorKind::BrokenPipe.into())).unwrap_err();
    assert_eq!(stopped.kind(), Kind::Unavailable);
    let absent = Layers { upper: Path::new("/absent"), ..layers };
    let error = changes(&absent, &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "look for changes: open /absent: no such file or directory");
}
