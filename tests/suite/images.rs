//! `images`, `rmi`, `tag`, `image inspect`, `history`.

use serde_json::Value;

use crate::harness::{BUSYBOX, PYTHON, Test};

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
