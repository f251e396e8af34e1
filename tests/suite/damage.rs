//! Something else stands where a file of rbox's own belongs: nobody waits for it, nothing is written through it, and all that has no
//! need of it works on.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{BUSYBOX, OwnRoots, Test};

/// A pair of roots in which there is one of each thing; all without a network.
struct World {
    own: OwnRoots,
    running: String,
    /// A file that is nobody's business.
    victim: PathBuf,
}

impl World {
    fn make(t: &Test) -> Self {
        let own = OwnRoots::new(t, "damage", &t.suite.registry);
        own.run(&["pull", "-q", BUSYBOX]).ok();
        own.run(&["volume", "create", "vol"]).ok();
        own.run(&["network", "create", "lab"]).ok();
        let running = own
            .run(&[
                "run",
                "-d",
                "--name",
                "running",
                "--network",
                "lab",
                "-v",
                "vol:/v",
                BUSYBOX,
                "sleep",
                "9999",
            ])
            .ok();
        own.run(&["run", "--name", "ended", "--network", "none", BUSYBOX, "echo", "said"]).ok();
        let victim = t.dir("victim").join("file");
        fs::write(&victim, "another's").unwrap();
        Self { own, running, victim }
    }

    /// Each file below the roots that is rbox's own: not what is a container's, an image's or a volume's.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![self.own.root.clone(), self.own.state.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().and_then(OsStr::to_str).unwrap();
                if ["fs", "upper", "work", "_data", "trash", "tmp", "stage"].contains(&name) {
                    continue;
                }
                let kind = fs::symlink_metadata(&path).unwrap().file_type();
                if kind.is_dir() {
                    dirs.push(path);
                } else if kind.is_file() || kind.is_socket() {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }

    /// What a command does that has to end, whatever it says; or what is wrong with it.
    fn ends(&self, args: &[&str]) -> Result<(), String> {
        let mut running = self.own.cmd(args).spawn();
        let limit = crate::harness::patience(Duration::from_secs(30));
        let begin = std::time::Instant::now();
        while !running.ended() {
            if begin.elapsed() > limit {
                running.signal("KILL");
                return Err(format!("{args:?} hangs"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let out = running.finish(Duration::from_secs(30));
        if out.code == 101 || out.stderr.contains("panicked") {
            return Err(format!("{args:?}: {out:?}"));
        }
        Ok(())
    }

    /// What goes wrong with `thing` in the place of the file.
    fn with(&self, path: &Path, thing: &str) -> Vec<String> {
        let aside = self.own.dir.join("aside");
        let aside =
            if path.starts_with(&self.own.root) { aside } else { self.own.state.with_extension("aside") };
        fs::rename(path, &aside).unwrap();
        match thing {
            "fifo" => {
                let done = std::process::Command::new("mkfifo").arg(path).status().unwrap();
                assert!(done.success());
            }
            "link" => symlink(&self.victim, path).unwrap(),
            _ => symlink("/none/at/all", path).unwrap(),
        }
        let mut wrong: Vec<String> = [
            &["ps", "-a"][..],
            &["run", "--rm", "--network", "lab", "-v", "vol:/v", BUSYBOX, "true"],
            &["start", "ended"],
            &["logs", "ended"],
            &["exec", "running", "true"],
            &["volume", "ls"],
            &["network", "connect", "bridge", "running"],
            &["network", "disconnect", "bridge", "running"],
        ]
        .into_iter()
        .filter_map(|args| self.ends(args).err())
        .collect();
        if fs::read_to_string(&self.victim).unwrap() != "another's" {
            wrong.push("what the link leads to was written".to_owned());
            fs::write(&self.victim, "another's").unwrap();
        }
        if fs::symlink_metadata(path).is_ok() {
            fs::remove_file(path).unwrap();
        }
        // Where the file's directory went, what is left of it went with it.
        let _ = fs::rename(&aside, path);
        let _ = fs::remove_file(&aside);
        wrong.into_iter().map(|what| format!("{thing} at {}: {what}", path.display())).collect()
    }
}

#[test]
fn no_file_of_ours_is_waited_for_or_written_through() {
    let Some(t) = Test::start() else { return };
    let world = World::make(&t);
    let mut wrong = Vec::new();
    for path in world.files() {
        for thing in ["fifo", "link", "dangling"] {
            // A file that came and went with a command is none to try.
            if path.exists() {
                wrong.extend(world.with(&path, thing));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let ps = world.own.run(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok();
    for line in ["running running", "ended exited"] {
        assert!(ps.lines().any(|l| l == line), "{ps}");
    }
    assert!(world.own.run(&["inspect", "-f", "{{.Id}}", "running"]).ok() == world.running);
    world.own.run(&["rm", "-f", "running", "ended"]).ok();
}

/// One whose record cannot be read says so, and not that it is not running while it runs.
#[test]
fn a_running_container_without_a_record_says_what_is_wrong() {
    let Some(t) = Test::start() else { return };
    let world = World::make(&t);
    fs::write(world.own.root.join("containers").join(&world.running).join("config.json"), "").unwrap();
    for (args, code) in
        [(&["exec", "running", "true"][..], 1), (&["kill", "running"], 1), (&["top", "running"], 1)]
    {
        world.own.run(args).refused(code, &["record", "rm -f"]);
    }
    for args in [&["stop", "running"][..], &["restart", "running"], &["start", "running"]] {
        world.own.run(args).refused(1, &["record", "rm -f"]);
    }
    for args in [&["rename", "running", "new"][..], &["update", "-m", "100m", "running"]] {
        world.own.run(args).refused(1, &["config.json"]);
    }
    world.own.run(&["rm", "-f", &world.running]).ok();
    world.own.run(&["rm", "-f", "ended"]).ok();
}

/// A running container whose live record is damaged is not taken for one that never ran, and is removed with what it runs.
#[test]
fn a_running_container_without_a_live_record_is_removed() {
    let Some(t) = Test::start() else { return };
    let world = World::make(&t);
    fs::write(world.own.state.join("containers").join(&world.running).join("state.json"), "").unwrap();
    let shown = world
        .own
        .run(&["ps", "-a", "--filter", &format!("id={}", world.running), "--format", "{{.State}}"])
        .ok();
    assert_eq!(shown, "dead");
    for args in [&["stop", "running"][..], &["start", "running"], &["exec", "running", "true"]] {
        world.own.run(args).refused(1, &["state.json", "rm -f"]);
    }
    world.own.run(&["rm", "-f", &world.running]).ok();
    world.own.run(&["rm", "-f", "ended"]).ok();
}

/// The list of images is made again from the images, and their names from the containers.
#[test]
fn a_damaged_list_of_images_is_made_again() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "images", &t.suite.registry);
    let other = format!("{}/rbox/config", t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["pull", "-q", &other]).ok();
    let id = own.run(&["image", "inspect", "-f", "{{.Id}}", &other]).ok();
    let short: String = id.trim_start_matches("sha256:").chars().take(12).collect();
    own.run(&["create", "--name", "made", BUSYBOX, "true"]).ok();
    // By its id: that is no name.
    own.run(&["create", "--name", "by-id", &short, "true"]).ok();
    let image = own.root.join("image");
    let (index, aside) = (image.join("index.json"), image.join("index.json.damaged"));
    let whole = fs::read(&index).unwrap();
    let half = whole[..whole.len() / 2].to_vec();
    let texts: [(&str, Vec<u8>); 4] =
        [("empty", Vec::new()), ("cut", half), ("binary", vec![0xff; 4096]), ("another", b"[1]".to_vec())];
    for what in texts.iter().map(|(what, _)| *what).chain(["fifo", "link", "directory", "gone"]) {
        fs::remove_file(&index).unwrap();
        let _ = fs::remove_file(&aside);
        let _ = fs::remove_dir_all(&aside);
        match what {
            "gone" => {}
            "fifo" => assert!(std::process::Command::new("mkfifo").arg(&index).status().unwrap().success()),
            "link" => symlink("/etc/passwd", &index).unwrap(),
            "directory" => fs::create_dir_all(index.join("a/b")).unwrap(),
            _ => fs::write(&index, &texts.iter().find(|(name, _)| *name == what).unwrap().1).unwrap(),
        }
        let out = own.run(&["images", "--format", "{{.Repository}} {{.ID}}"]);
        let warning = out.stderr.clone();
        assert!(
            warning.contains(if what == "gone" { "made again" } else { aside.to_str().unwrap() })
                && warning.contains("1 of them have no name"),
            "{what}: {warning}"
        );
        let mut listed: Vec<String> = out.ok().lines().map(str::to_owned).collect();
        listed.sort();
        assert_eq!(listed.len(), 2, "{what}: {listed:?}");
        assert_eq!(listed[0], format!("<none> {short}"), "{what}");
        assert!(listed[1].starts_with("busybox "), "{what}: {listed:?}");
        // Told once; all goes on.
        let again = own.run(&["run", "--rm", "--network", "none", BUSYBOX, "echo", "runs"]);
        assert_eq!(again.stderr, "", "{what}");
        assert_eq!(again.ok(), "runs", "{what}");
        own.run(&["start", "-a", "made"]).ok();
        assert_eq!(fs::symlink_metadata(&aside).is_ok(), what != "gone", "{what}");
    }
    // By a change of it too.
    fs::write(&index, "{").unwrap();
    let out = own.run(&["tag", &short, "again:1"]);
    assert!(out.stderr.contains("index.json.damaged"), "{}", out.stderr);
    out.ok();
    own.run(&["pull", "-q", &other]).ok();
    own.run(&["rmi", "-f", "again:1", &other]).ok();
}

/// An image whose layers seem to be missing would be pulled again, in vain.
#[test]
fn a_store_without_its_directories_is_damaged() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "directories", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    for dir in ["layers", "blobs/sha256"] {
        let (path, aside) = (own.root.join("image").join(dir), own.dir.join("aside"));
        fs::rename(&path, &aside).unwrap();
        fs::write(&path, "").unwrap();
        let out = own.run(&["run", "--rm", "--network", "none", BUSYBOX, "true"]);
        assert!(!out.stderr.contains("Unable to find image"), "{dir}: {out:?}");
        out.refused(125, &["image store is damaged", dir]);
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    own.run(&["run", "--rm", "--network", "none", BUSYBOX, "true"]).ok();
}

/// The index that an image came out of says only which other platforms there are.
#[test]
fn a_damaged_index_hides_no_image() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "multi", &t.suite.registry);
    let multi = format!("{}/rbox/multi", t.suite.registry);
    own.run(&["pull", "-q", &multi]).ok();
    own.run(&["pull", "-q", BUSYBOX]).ok();
    let named = own.run(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &multi]).ok();
    let (_, hex) = named.split_once("@sha256:").unwrap();
    let blob = own.root.join("image/blobs/sha256").join(hex);
    for text in ["", "{"] {
        fs::write(&blob, text).unwrap();
        let tree = own.run(&["images", "--tree"]).ok();
        assert!(tree.contains("rbox/multi") && tree.contains("busybox"), "{tree}");
    }
}
