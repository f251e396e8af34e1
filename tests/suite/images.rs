//! `images`, `rmi`, `tag`, `image inspect`, `history`.

use serde_json::Value;

use crate::harness::{BUSYBOX, OwnRoots, PYTHON, Test};

#[test]
fn the_table_has_dockers_columns() {
    let Some(t) = Test::start() else { return };
    let out = t.ok(["images"]);
    let header: Vec<_> =
        out.lines().next().unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(header, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    let line = out.lines().find(|l| l.starts_with("python ")).unwrap_or_else(|| panic!("{out}"));
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[1], "3.11-slim");
    assert_eq!(words[2].len(), 12);
    assert!(line.trim_end().ends_with("MB"), "{line}");
    let id = t.ok(["images", "-q", PYTHON]);
    assert_eq!(id, words[2]);
    assert_eq!(t.ok(["images", "-q", "--no-trunc", PYTHON]).len(), "sha256:".len() + 64);
    assert!(t.ok(["images", "--digests"]).lines().next().unwrap().contains("DIGEST"));
    assert_eq!(t.ok(["images", "--format", "{{.Repository}}:{{.Tag}}", "python"]), PYTHON);
    let json: Value =
        serde_json::from_str(t.ok(["images", "--format", "json", PYTHON]).lines().next().unwrap()).unwrap();
    assert_eq!(json["Repository"], "python");
    assert_eq!(t.ok(["image", "ls", "-q", PYTHON]), id);
}

#[test]
fn filters() {
    let Some(t) = Test::start() else { return };
    assert_eq!(t.ok(["images", "-f", "reference=busy*", "--format", "{{.Repository}}"]), "busybox");
    assert_eq!(t.ok(["images", "-f", "dangling=true", "-q"]), "");
    t.rbox(["images", "-f", "nonsense=1"]).refused(125, &["nonsense"]);
}

#[test]
fn tag_and_untag() {
    let Some(t) = Test::start() else { return };
    t.ok(["tag", BUSYBOX, "mine/box:v1"]);
    let id = t.ok(["image", "inspect", "-f", "{{.Id}}", BUSYBOX]);
    assert_eq!(t.ok(["image", "inspect", "-f", "{{.Id}}", "mine/box:v1"]), id);
    assert_eq!(t.ok(["run", "--rm", "mine/box:v1", "echo", "tagged"]), "tagged");
    let out = t.ok(["rmi", "mine/box:v1"]);
    assert_eq!(out, "Untagged: mine/box:v1");
    assert_eq!(t.ok(["run", "--rm", BUSYBOX, "echo", "still"]), "still");
    t.rbox(["tag", "no-such-image", "x:y"]).refused(1, &["no-such-image"]);
    t.rbox(["tag", BUSYBOX, "UPPER"]).refused(125, &["UPPER"]);
    t.rbox(["tag", BUSYBOX, "sha256:abc"]).refused(1, &["ambiguous"]);
}

#[test]
fn removing_frees_layers_nobody_uses() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/whiteouts", t.suite.registry);
    let used = || {
        let out = std::process::Command::new("du")
            .args(["-s", "--block-size=1"])
            .arg(t.suite.root.join("image"))
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().parse::<i64>().unwrap()
    };
    let before = used();
    t.ok(["pull", "-q", &image]);
    assert!(used() > before);
    let out = t.ok(["rmi", &image]);
    assert!(out.contains("Untagged: ") && out.contains("Deleted: sha256:"), "{out}");
    let after = used();
    assert!((after - before).abs() < 64 * 1024, "{before} bytes before, {after} after");
    assert_eq!(t.sh("echo busybox shares its base"), "busybox shares its base");
}

#[test]
fn an_image_in_use_stays() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/users:latest", t.suite.registry);
    let name = t.name("user");
    let id = t.ok(["create", "--name", &name, &image, "true"]);
    t.rbox(["rmi", &image]).refused(1, &["unable to remove", "must force", &id[..12]]);
    t.ok(["rm", &name]);
    t.ok(["rmi", &image]);
    t.rbox(["rmi", &image]).refused(1, &["no such image"]);
}

/// `rmi -f` takes the image, never what a container stands on.
#[test]
fn a_container_outlives_its_image() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/users:latest", t.suite.registry);
    let (stopped, live) = (t.name("stopped"), t.name("live"));
    t.rbox(["run", "--name", &stopped, &image, "sh", "-c", "echo kept > /mine; exit 7"]).code(7);
    t.ok(["rmi", "-f", &image]);
    t.rbox(["image", "inspect", &image]).code(1);
    let state = |name: &str| t.ok(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]);
    assert_eq!(state(&stopped), "exited 7");
    // Whoever tidies: another removal, a pull, prune.
    t.ok(["tag", BUSYBOX, "other:1"]);
    t.ok(["rmi", "other:1"]);
    t.ok(["image", "prune", "-f"]);
    t.ok(["pull", "-q", BUSYBOX]);
    let out = t.rbox(["start", "-a", &stopped]).code(7);
    assert_eq!(out.stderr, "");
    assert_eq!(t.ok(["ps", "-a", "--filter", &format!("name={stopped}"), "--format", "{{.Names}}"]), stopped);
    let layers = || std::fs::read_dir(t.suite.root.join("image/layers")).unwrap().count();
    let before = layers();
    t.ok(["rm", &stopped]);
    assert!(layers() < before, "what only the container had goes with it");

    // One that runs: the name goes, the image stays until it is asked for by its id, and then too.
    t.ok(["pull", "-q", &image]);
    let id = { t.ok(["run", "-d", "--name", &live, &image, "sh", "-c", "while :; do sleep 0.1; done"]) };
    let image_id = t.ok(["image", "inspect", "-f", "{{.Id}}", &image]);
    let by_name = t.ok(["rmi", "-f", &image]);
    assert!(by_name.starts_with("Untagged: ") && !by_name.contains("Deleted"), "{by_name}");
    let short = &image_id[7..19];
    let why = format!(
        "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
        &id[..12]
    );
    t.rbox(["rmi", "-f", short]).refused(1, &[&why]);
    assert_eq!(t.ok(["exec", &live, "echo", "on"]), "on");
    t.ok(["kill", &live]);
    crate::harness::wait_until("it is stopped", || t.status(&live) == "exited");
    t.ok(["rmi", "-f", short]);
    t.ok(["start", &live]);
    assert_eq!(t.ok(["exec", &live, "echo", "again"]), "again");
}

/// One image that is damaged is a warning, is pulled again or removed, and is in nobody's way.
#[test]
fn a_damaged_image_is_in_nobodys_way() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.cmd(&["pull", "-q", BUSYBOX]).run().ok();
    own.cmd(&["pull", "-q", PYTHON]).run().ok();
    let blob = |digest: &str| own.root.join("image/blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let id = own.cmd(&["image", "inspect", "-f", "{{.Id}}", PYTHON]).run().ok();
    let manifest: Value = {
        let digests = own.cmd(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", PYTHON]).run().ok();
        serde_json::from_slice(&std::fs::read(blob(digests.split('@').nth(1).unwrap())).unwrap()).unwrap()
    };
    for remove in [true, false] {
        if remove {
            std::fs::remove_file(blob(&id)).unwrap();
        } else {
            std::fs::write(blob(&id), b"").unwrap();
        }
        let out = own.run(&["images", "--format", "{{.Repository}}"]).code(0);
        assert_eq!(out.stdout, "busybox\n");
        let warned = out.stderr.starts_with("rbox: warning: image python:3.11-slim is damaged: ");
        assert!(warned && out.stderr.lines().count() == 1, "{out:?}");
        own.run(&["history", PYTHON])
            .refused(1, &["python:3.11-slim is damaged; pull it again, or remove it"]);
        own.cmd(&["system", "df"]).run().ok();
        own.cmd(&["info"]).run().ok();
        own.cmd(&["run", "--rm", "--network", "none", BUSYBOX, "true"]).run().ok();
        if remove {
            own.cmd(&["pull", "-q", PYTHON]).run().ok();
        } else {
            // `run` fetches it itself.
            let args = ["run", "--rm", "--network", "none", PYTHON, "python3", "-c", "print(1)"];
            assert_eq!(own.cmd(&args).run().ok(), "1");
        }
        assert_eq!(own.cmd(&["images", "-q", PYTHON]).run().ok().lines().count(), 1);
    }
    // A layer that is spoilt is not saved, and leaves no half archive; the next pull has it whole again.
    let layer = blob(manifest["layers"][0]["digest"].as_str().unwrap());
    let good = std::fs::read(&layer).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&layer, &bad).unwrap();
    let file = own.dir.join("out.tar");
    own.run(&["save", "-o", file.to_str().unwrap(), PYTHON]).refused(1, &["layer sha256:", "is damaged"]);
    let left = std::fs::read_dir(&own.dir)
        .unwrap()
        .flatten()
        .any(|e| e.file_name().to_string_lossy().contains("out.tar"));
    assert!(!left, "a part of the archive is left");
    own.cmd(&["pull", "-q", PYTHON]).run().ok();
    assert!(std::fs::read(&layer).unwrap() == good);
    std::fs::write(&layer, &bad).unwrap();
    own.cmd(&["pull", "-q", PYTHON]).run().ok();
    assert!(std::fs::read(&layer).unwrap() == good, "a pull looks at what is there");
    own.cmd(&["save", "-o", file.to_str().unwrap(), PYTHON]).run().ok();
    std::fs::write(blob(&id), b"").unwrap();
    let out = own.cmd(&["rmi", PYTHON]).run().ok();
    assert!(out.contains(&format!("Deleted: {id}")), "{out}");
    let out = own.run(&["images", "--format", "{{.Repository}}"]).code(0);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("busybox\n", ""));
}

#[test]
fn inspect_has_dockers_shape() {
    let Some(t) = Test::start() else { return };
    let all: Value = serde_json::from_str(&t.ok(["image", "inspect", PYTHON])).unwrap();
    let image = &all[0];
    assert!(image["Id"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(image["RepoTags"][0], PYTHON);
    assert!(image["RepoDigests"][0].as_str().unwrap().starts_with("python@sha256:"));
    assert_eq!(image["Config"]["Cmd"][0], "python3");
    assert_eq!(image["Os"], "linux");
    assert!(image["Descriptor"]["size"].as_u64().unwrap() > 100, "{image:#}");
    assert_eq!(image["RootFS"]["Type"], "layers");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 3);
    assert!(image["Size"].as_i64().unwrap() > 50_000_000);
    assert!(image["Created"].as_str().unwrap().starts_with("2025-05-20T00:00:00"));
    t.rbox(["image", "inspect", "no-such"]).code(1);
}

#[test]
fn history_lists_every_step() {
    let Some(t) = Test::start() else { return };
    let out = t.ok(["history", PYTHON]);
    let lines: Vec<_> = out.lines().collect();
    let header: Vec<_> = lines[0].split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!(header, ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    assert_eq!(lines.len(), 5, "three layers and CMD:\n{out}");
    assert!(lines[1].contains("CMD") && lines[1].contains("0B"), "{out}");
    assert!(lines[4].contains("COPY base.tar"), "{out}");
    assert_eq!(t.ok(["history", "-q", PYTHON]).lines().count(), 4);
}

#[test]
fn the_store_is_an_oci_layout() {
    let Some(t) = Test::start() else { return };
    if !crate::harness::has("skopeo") {
        return crate::harness::skipped("skopeo is not installed");
    }
    let layout = t.suite.root.join("image");
    let version: Value = serde_json::from_slice(&std::fs::read(layout.join("oci-layout")).unwrap()).unwrap();
    assert_eq!(version["imageLayoutVersion"], "1.0.0");
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    for manifest in index["manifests"].as_array().unwrap() {
        let hex = manifest["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = std::fs::metadata(layout.join("blobs/sha256").join(hex)).unwrap();
        assert_eq!(blob.len(), manifest["size"].as_u64().unwrap());
    }
    // Another tool copies an image out of it, and compares every digest while it does.
    let out = std::process::Command::new("skopeo")
        .args(["copy", "-q", "--insecure-policy", &format!("oci:{}:3.11-slim", layout.display())])
        .arg(format!("dir:{}", t.dir("copied").display()))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
