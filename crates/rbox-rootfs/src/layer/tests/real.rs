//! A real Debian root filesystem, against GNU tar and umoci.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use super::tree::{ALL, Scratch, assert_same, gnu_tar, have, tree, unpack_into};

/// The root filesystem's tar, made once and kept under `target/`. Tests that want it at the same time wait for one.
pub(super) fn debian() -> Option<PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    MADE.get_or_init(make_debian).clone()
}

fn make_debian() -> Option<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fixtures");
    let archive = fixtures.join("debian-bookworm-minbase.tar");
    if archive.exists() {
        return Some(archive);
    }
    if !have("mmdebstrap") {
        return None;
    }
    fs::create_dir_all(&fixtures).unwrap();
    let part = fixtures.join(format!("debian-bookworm-minbase.{}.tar", std::process::id()));
    let made =
        Command::new("mmdebstrap").args(["-q", "--variant=minbase", "bookworm"]).arg(&part).status().unwrap();
    if !made.success() {
        println!("skipped: mmdebstrap made no root filesystem ({made})");
        return None;
    }
    fs::rename(&part, &archive).unwrap();
    Some(archive)
}

#[test]
fn debian_unpacks_as_gnu_tar_has_it() {
    let Some(archive) = debian() else { return };
    let scratch = Scratch::new();
    let (theirs, ours) = (scratch.empty("theirs"), scratch.empty("ours"));
    let begun = Instant::now();
    assert!(gnu_tar(&archive, &theirs).status.success());
    let tar_took = begun.elapsed();
    let begun = Instant::now();
    let summary = unpack_into(&ours, File::open(&archive).unwrap()).unwrap();
    println!("{summary:?}\nrbox {:?}, tar -x {tar_took:?}", begun.elapsed());
    let (ours, theirs) = (tree(&ours, ALL), tree(&theirs, ALL));
    assert!(theirs.len() > 3000, "{} entries are no Debian", theirs.len());
    assert_same(&ours, &theirs, "Debian, GNU tar");
}

#[test]
fn debian_unpacks_as_umoci_has_it() {
    let Some(archive) = debian() else { return };
    if !have("umoci") {
        return;
    }
    let scratch = Scratch::new();
    let layout = scratch.path("layout");
    let image = format!("{}:debian", layout.display());
    let umoci = |args: &[&str]| {
        let output = Command::new("umoci").args(args).output().unwrap();
        assert!(output.status.success(), "umoci {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    umoci(&["raw", "add-layer", "--image", &image, archive.to_str().unwrap()]);
    let theirs = scratch.path("theirs");
    umoci(&["raw", "unpack", "--image", &image, theirs.to_str().unwrap()]);
    let ours = scratch.empty("ours");
    unpack_into(&ours, File::open(&archive).unwrap()).unwrap();
    assert_same(&tree(&ours, ALL), &tree(&theirs, ALL), "Debian, umoci");
}
