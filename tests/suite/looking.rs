//! `image mount`, `image diff` and `image tree`: looking into images.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{BUSYBOX, OwnRoots, PYTHON, Test};

fn mounts_below(dir: &Path) -> usize {
    let dir = dir.to_str().unwrap();
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(dir)).count()
}

#[test]
fn an_image_is_mounted_read_only_and_unmounted() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["pull", "-q", PYTHON]).ok();
    assert_eq!(own.run(&["image", "mount"]).ok(), "");
    let path = own.run(&["image", "mount", PYTHON]).ok();
    let root = Path::new(&path);
    assert!(root.join("usr/bin/python3").exists() || root.join("usr/local/bin/python3").exists(), "{path}");
    let denied = fs::write(root.join("new"), "x").unwrap_err();
    assert_eq!(denied.raw_os_error(), Some(30), "{denied}");
    assert!(
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .any(|line| { line.contains(&path) && line.contains("nosuid") && line.contains("nodev") })
    );
    // Twice is two mounts to take back, and one place.
    assert_eq!(own.run(&["image", "mount", PYTHON]).ok(), path);
    assert_eq!(mounts_below(&own.state), 1);
    let id = own.run(&["image", "inspect", "-f", "{{.Id}}", PYTHON]).ok().replace("sha256:", "");
    let listed = own.run(&["image", "mount"]).ok();
    assert!(listed.starts_with(PYTHON) && listed.ends_with(&path), "{listed}");
    let json: Value = serde_json::from_str(&own.run(&["image", "mount", "--format", "json"]).ok()).unwrap();
    assert_eq!(
        (json[0]["id"].as_str(), json[0]["mountpoint"].as_str()),
        (Some(id.as_str()), Some(path.as_str()))
    );
    // In use.
    own.run(&["rmi", PYTHON])
        .refused(1, &["must force", &format!("is mounted at {path}"), "rbox image unmount"]);
    own.run(&["rmi", "-f", &id]).refused(1, &["cannot be forced", "image is mounted at"]);
    own.run(&["image", "prune", "-a", "-f"]).ok();
    assert_eq!(own.run(&["images", "-q", "--no-trunc"]).ok(), format!("sha256:{id}"));
    // With -f the name goes and the image stays, as with a container that runs.
    own.run(&["rmi", "-f", PYTHON]).ok();
    assert!(root.join("usr/bin").exists());
    assert_eq!(own.run(&["image", "unmount", PYTHON]).ok(), id);
    assert_eq!(mounts_below(&own.state), 1);
    assert_eq!(own.run(&["image", "umount", &id[..12]]).ok(), id);
    assert_eq!(mounts_below(&own.state), 0);
    own.run(&["image", "unmount", &id]).refused(1, &["is not mounted"]);
    own.run(&["rmi", &id]).ok();

    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["image", "mount", "--all"]).ok();
    own.run(&["image", "mount", "-a", BUSYBOX]).refused(125, &["when using the --all switch"]);
    own.run(&["image", "unmount"]).refused(125, &["image name or ID must be specified"]);
    own.run(&["image", "mount", "none"]).refused(1, &["No such image: none"]);
    own.run(&["image", "unmount", "none"]).refused(1, &["No such image: none"]);
    own.run(&["image", "mount", BUSYBOX]).ok();
    own.run(&["image", "unmount", "-f", "-a"]).ok();
    assert_eq!(mounts_below(&own.state), 0);
}

/// Somebody's umount, a kill, a reset: nothing is left, and nothing is in the way.
#[test]
fn mounts_that_went_otherwise() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    let path = own.run(&["image", "mount", BUSYBOX]).ok();
    crate::harness::Cmd::new("umount", [&path]).run().ok();
    assert_eq!(own.run(&["image", "mount"]).ok(), "");
    own.run(&["image", "unmount", BUSYBOX]).refused(1, &["is not mounted"]);
    assert_eq!(own.run(&["image", "mount", BUSYBOX]).ok(), path);
    own.run(&["image", "unmount", BUSYBOX]).ok();
    // A kill at any moment of it.
    for round in 0..crate::harness::rounds(40) {
        let running = own.cmd(&["image", "mount", BUSYBOX]).spawn();
        std::thread::sleep(std::time::Duration::from_micros(700 * round as u64));
        running.signal("KILL");
        let _ = running.finish(std::time::Duration::from_mins(1));
        own.run(&["image", "mount", BUSYBOX]).ok();
        own.run(&["image", "unmount", "-f", BUSYBOX]).ok();
        assert_eq!(mounts_below(&own.state), 0, "round {round}");
    }
    // Many at once.
    let script = "for n in $(seq 40); do \"$0\" image mount busybox >/dev/null || echo failed & done; wait; \"$0\" image mount; \
                  for n in $(seq 40); do \"$0\" image unmount busybox >/dev/null || echo failed & done; wait";
    let out = own.other("sh", &["-c", script, crate::harness::binary().to_str().unwrap()]).run().ok();
    assert_eq!(out.lines().count(), 1, "{out}");
    assert_eq!(mounts_below(&own.state), 0);
    own.run(&["image", "mount", BUSYBOX]).ok();
    own.run(&["system", "reset", "-f"]).ok();
    assert_eq!(mounts_below(&own.dir), 0);
    assert!(!own.state.exists());
}

/// What was mounted is unmounted by the name it was mounted by, wherever that leads now, and whatever became of the image.
#[test]
fn images_that_changed_while_they_were_mounted() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let dir = t.dir("context");
    let build = |label: &str| {
        let text = format!("FROM scratch\nCOPY Dockerfile /{label}\n");
        fs::write(dir.join("Dockerfile"), text).unwrap();
        own.run(&["build", "-q", "-t", "app", dir.to_str().unwrap()]).ok();
        own.run(&["image", "inspect", "-f", "{{.Id}}", "app"]).ok().replace("sha256:", "")
    };
    let first = build("one");
    own.run(&["tag", "app", "aaa:1"]).ok();
    own.run(&["image", "mount", "app"]).ok();
    // The name has gone on to another one.
    let second = build("two");
    assert_eq!(own.run(&["image", "unmount", "app"]).ok(), first);
    own.run(&["image", "unmount", "app"]).refused(1, &["image app is not mounted"]);
    // Both are mounted: the one that has the name now comes first.
    own.run(&["image", "mount", "aaa:1"]).ok();
    own.run(&["tag", "aaa:1", "app"]).ok();
    own.run(&["tag", &second, "app"]).ok();
    own.run(&["image", "mount", "docker.io/library/app:latest"]).ok();
    assert_eq!(own.run(&["image", "unmount", "library/app"]).ok(), second);
    assert_eq!(own.run(&["image", "unmount", "aaa:1"]).ok(), first);
    // Its only name is gone.
    own.run(&["image", "mount", "app"]).ok();
    own.run(&["rmi", "-f", "app"]).ok();
    assert_eq!(own.run(&["image", "unmount", "app:latest"]).ok(), second);
    // Its manifest is damaged, or its configuration.
    own.run(&["image", "mount", "aaa:1"]).ok();
    own.run(&["image", "mount", "aaa:1"]).ok();
    let config = own.root.join("image/blobs/sha256").join(&first);
    let bytes = fs::read(&config).unwrap();
    fs::write(&config, "{").unwrap();
    let json = own.run(&["image", "mount", "--format", "json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["id"], &json[0]["Names"][0]), (&first.as_str().into(), &"aaa:1".into()));
    assert_eq!(own.run(&["image", "unmount", "aaa:1"]).ok(), first);
    assert_eq!(own.run(&["image", "unmount", &first[..12]]).ok(), first);
    fs::write(&config, bytes).unwrap();
    // So is the record of the mount: other images are removed all the same, and it is unmounted.
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["image", "mount", "aaa:1"]).ok();
    fs::write(own.state.join("images").join(&first).join("mount.json"), "{").unwrap();
    own.run(&["rmi", BUSYBOX]).ok();
    own.run(&["rmi", "aaa:1"]).refused(1, &["is mounted at"]);
    own.run(&["image", "mount"]).ok();
    assert_eq!(own.run(&["image", "unmount", "aaa:1"]).ok(), first);
    assert_eq!(mounts_below(&own.state), 0);
    own.run(&["rmi", "aaa:1"]).ok();
}

#[test]
fn two_images_are_compared_layer_by_layer() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let dir = t.dir("context");
    let build = |name: &str, text: &str| {
        fs::write(dir.join("Dockerfile"), format!("FROM {BUSYBOX}\n{text}")).unwrap();
        own.run(&["build", "-q", "--network", "none", "-t", name, dir.to_str().unwrap()]).ok();
    };
    build(
        "one:1",
        "RUN echo same > /same; echo 12 > /changed; echo gone > /gone; mkdir /d; echo d > /d/file; chmod 600 /same\n",
    );
    build(
        "two:1",
        "RUN echo same > /same; echo 123 > /changed; chmod 600 /same\nRUN rm /etc/passwd; mkdir /new; echo new > /new/file; ln -s x /new/link\n",
    );
    let out = own.run(&["image", "diff", "one:1", "two:1"]).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("= 1 layer in both, "), "{out}");
    let about = |sign: char| lines.iter().filter(|line| line.starts_with(sign)).count();
    assert_eq!((about('-'), about('+')), (1, 2), "{out}");
    let files: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("  ")).collect();
    for want in [
        "C /changed  3 4",
        "D /d",
        "D /d/file  2 -",
        "D /gone  5 -",
        "A /new",
        "A /new/file  - 4",
        "A /new/link",
    ] {
        assert!(files.contains(&want), "{want}:\n{out}");
    }
    assert!(files.iter().any(|file| file.starts_with("D /etc/passwd  ")), "{out}");
    assert_eq!(files.len(), 8, "{out}");
    // Each beside the layer that has it.
    let at = |text: &str| {
        lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {out}"))
    };
    assert!(
        at("echo 123") < at("C /changed")
            && at("C /changed") < at("rm /etc/passwd")
            && at("rm /etc/passwd") < at("A /new/file"),
        "{out}"
    );
    let json: Value =
        serde_json::from_str(&own.run(&["image", "diff", "--format", "json", "one:1", "two:1"]).ok())
            .unwrap();
    assert_eq!(json["SharedLayers"], 1);
    let changed = json["Files"].as_array().unwrap().iter().find(|one| one["Path"] == "/changed").unwrap();
    assert_eq!(
        (&changed["Kind"], &changed["SizeBefore"], &changed["SizeAfter"]),
        (&"C".into(), &3.into(), &4.into())
    );
    assert_eq!(changed["Layer"], json["Layers"][1][1]["DiffID"]);
    // The same image has no differences; the same files made again neither.
    let none = own.run(&["image", "diff", "one:1", "one:1"]).ok();
    assert_eq!(none.lines().count(), 1, "{none}");
    own.run(&["image", "diff", "one:1", "none"]).refused(1, &["No such image: none"]);
    assert_eq!(mounts_below(&own.dir), 0);
    assert_eq!(fs::read_dir(own.state.join("images")).unwrap().count(), 0);
}

#[test]
fn a_tree_of_layers_with_the_lines_that_made_them() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let dir = t.dir("context");
    fs::write(dir.join("file"), "x".repeat(5000)).unwrap();
    fs::write(dir.join("Dockerfile"), format!("FROM {BUSYBOX}\nENV A=1\nCOPY file /file\n")).unwrap();
    own.run(&["build", "-q", "-t", "app:1", dir.to_str().unwrap()]).ok();
    own.run(&["pull", "-q", BUSYBOX]).ok();
    let out = own.run(&["image", "tree", "app:1"]).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("app:1  linux/") && lines[0].ends_with(", 2 layers"), "{out}");
    assert!(lines[1].starts_with("├─ ") && lines[1].contains(&format!("(also in {BUSYBOX}")), "{out}");
    let last = lines.last().unwrap();
    assert!(last.starts_with("└─ ") && last.contains(" 5kB ") && last.contains("COPY file /file"), "{out}");
    assert!(lines.iter().any(|line| line.contains("ENV A=1") && !line.contains('%')), "{out}");
    let json: Value =
        serde_json::from_str(&own.run(&["image", "tree", "--format", "json", "app:1"]).ok()).unwrap();
    let copied = json["Layers"].as_array().unwrap().last().unwrap();
    assert_eq!(copied["Size"], 5000);
    // It is headed by the name that was asked for.
    own.run(&["tag", "app:1", "another:2"]).ok();
    for name in ["app:1", "another:2"] {
        let out = own.run(&["image", "tree", name]).ok();
        assert!(out.starts_with(&format!("{name}  ")), "{out}");
    }
    own.run(&["image", "tree", "none"]).refused(1, &["No such image"]);
    own.run(&["image", "tree", "--platform", "linux/s390x", "app:1"])
        .refused(1, &["does not provide the specified platform"]);
}
