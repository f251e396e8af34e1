//! Names that become part of a path: of containers, volumes and networks. None leads out of rbox's directories, and
//! nothing is removed that rbox did not make.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::harness::{BUSYBOX, OwnRoots, Test};

/// A file of the host in `/`, where `--name /FILE` would lead.
struct InRoot(PathBuf);

impl InRoot {
    fn plant() -> Self {
        let path = PathBuf::from(format!("/rbox-naming-{}", std::process::id()));
        fs::write(&path, "the host's").unwrap();
        Self(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn check(&self) {
        assert!(fs::symlink_metadata(&self.0).is_ok_and(|meta| meta.is_file()), "it was replaced or removed");
        assert_eq!(fs::read_to_string(&self.0).unwrap(), "the host's");
    }
}

impl Drop for InRoot {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const NO_NAMES: [&str; 18] = [
    "/",
    ".",
    "..",
    "//ab",
    "../x",
    "a/b",
    "a/../../b",
    "/../x",
    "/etc/passwd",
    "ab/",
    "-ab",
    "_ab",
    ".ab",
    "a b",
    "ab\n",
    "a\u{1b}[2Jb",
    "a\u{202e}b",
    "ä1",
];

#[test]
fn a_slash_before_a_name_leads_nowhere() {
    let Some(t) = Test::start() else { return };
    let file = InRoot::plant();
    let bare = file.name().trim_start_matches('/');
    t.ok(["create", "--name", file.name(), BUSYBOX]);
    file.check();
    assert_eq!(t.ok(["inspect", "-f", "{{.Name}}", bare]), file.name(), "Docker shows the slash");
    assert_eq!(t.ok(["ps", "-a", "--format", "{{.Names}}"]), bare);
    let taken = t.rbox(["create", "--name", bare, BUSYBOX]);
    taken.refused(125, &["Conflict. The container name", "is already in use by container"]);
    t.ok(["rename", file.name(), &format!("{}2", file.name())]);
    file.check();
    t.ok(["rename", &format!("{}2", file.name()), file.name()]);
    assert_eq!(t.ok(["rm", file.name()]), file.name());
    file.check();
    assert!(t.ok(["ps", "-aq"]).is_empty());
}

#[test]
fn a_slash_before_a_name_is_dropped_everywhere() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let (slashed, other) = (format!("/{name}"), t.name("d"));
    let id = t.sleeper(&slashed, []);
    for filter in [format!("name={slashed}"), format!("name=^{slashed}$"), format!("name=^{name}$")] {
        assert_eq!(t.ok(["ps", "-q", "--no-trunc", "--filter", &filter]), id, "{filter}");
    }
    assert_eq!(t.ok(["exec", &slashed, "echo", "in"]), "in");
    assert_eq!(t.ok(["inspect", "-f", "{{.Id}}", &slashed]), id);
    t.ok(["logs", &slashed]);
    t.ok(["port", &slashed]);
    t.ok(["top", &slashed]);
    t.ok(["pause", &slashed]);
    t.ok(["unpause", &slashed]);
    let link = format!("{slashed}:/al");
    let network = format!("container:{slashed}");
    t.ok(["create", "--name", &other, "--link", &link, BUSYBOX]);
    let links = t.ok(["inspect", "-f", "{{.HostConfig.Links}}", &other]);
    assert!(links.starts_with(&format!("[/{name}:/")) && links.ends_with("/al]"), "{links}");
    t.ok(["rm", &format!("/{other}")]);
    t.ok(["run", "--rm", "--network", &network, BUSYBOX, "true"]);
    assert_eq!(t.ok(["stop", "-t", "5", &slashed]), slashed);
    assert_eq!(t.ok(["wait", &slashed]), "0");
    t.ok(["start", &slashed]);
    t.ok(["rm", "-f", &slashed]);
}

#[test]
fn what_is_no_name_is_refused() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "names", &t.suite.registry);
    own.run(&["create", "--name", "kept", "hello"]).ok();
    let before = tree(&own.root);
    let long = "a".repeat(300);
    for bad in NO_NAMES.iter().copied().chain([long.as_str()]) {
        own.run(&["create", &format!("--name={bad}"), "hello"]).refused(125, &["name"]);
        own.run(&["rename", "kept", "--", bad]).refused(125, &["name"]);
        own.run(&["volume", "create", "--", bad]).refused(125, &["name"]);
        own.run(&["network", "create", "--", bad]).refused(125, &["network name"]);
        own.run(&["rm", "--", bad]).refused(1, &["no such container"]);
        own.run(&["volume", "rm", "--", bad]).refused(1, &["no such volume"]);
        own.run(&["volume", "inspect", "--", bad]).code(1);
        own.run(&["network", "rm", "--", bad]).refused(1, &["not found"]);
        // Else it is a path of the host.
        if !bad.starts_with(['/', '.']) {
            own.run(&["create", &format!("-v={bad}:/x"), "hello"]).code(125);
        }
    }
    for bad in ["a/b", "../x", "", "-a", &long] {
        own.run(&["create", "--hostname", &format!("x{bad}/"), "hello"]).refused(125, &["hostname"]);
        own.run(&["create", &format!("--network-alias=/{bad}"), "hello"]).refused(125, &["alias"]);
        own.run(&["create", &format!("--link=kept:../{bad}"), "hello"]).refused(125, &["alias"]);
    }
    // Beginnings of ids are hex digits and nothing else.
    let id = own.run(&["inspect", "-f", "{{.Id}}", "kept"]).ok();
    for bad in
        [format!("{}/", &id[..12]), format!("../containers/{id}"), format!("./{id}"), id[..20].to_uppercase()]
    {
        own.run(&["rm", &bad]).refused(1, &["no such container"]);
    }
    assert_eq!(tree(&own.root), before, "something was made or removed");
    assert_eq!(own.run(&["rm", &id[..3]]).ok(), &id[..3]);
}

/// The ids of a build's caches and the names of its stages, secrets and targets are texts, and no paths.
#[test]
fn ids_of_caches_are_no_paths() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "caches", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    let canary = own.dir.join("canary");
    fs::create_dir(&canary).unwrap();
    let away = canary.display().to_string();
    let (long, hidden) = ("a".repeat(3000), "\u{202e}x".to_owned());
    let ids =
        ["../../../../canary", "..", ".", "/", "a/b", "../mounts/x", "x/../../last", &away, &long, &hidden];
    let mounts = own.root.join("build/mounts");
    for (at, id) in ids.iter().enumerate() {
        let steps = format!(
            "FROM {BUSYBOX}\nRUN --mount=type=cache,id={id},target=/c test -z \"$(ls -A /c)\" && touch /c/of-{at}\n"
        );
        own.cmd(&["build", "-q", "--network", "none", "-"]).input(steps).run().ok();
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
    let made = tree(&own.dir)
        .into_iter()
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("of-"));
    let mut places: Vec<_> = made.map(|path| path.parent().unwrap().to_owned()).collect();
    places.sort();
    places.dedup();
    // Each has a directory of its own, two levels down and with a name of our making.
    assert_eq!(places.len(), ids.len(), "{places:?}");
    for place in places {
        let name = place.strip_prefix(&mounts).unwrap().components().next().unwrap();
        let name = name.as_os_str().to_string_lossy().into_owned();
        assert!(name.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    }
    own.run(&["builder", "prune", "-af"]).ok();
    own.run(&["rmi", "-f", BUSYBOX]);
}

/// As for names that are asked for, for those that are read back from disk, where others may have put what they like.
#[test]
fn names_on_disk_lead_nowhere() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "disk", &t.suite.registry);
    let canary = own.dir.join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), "x").unwrap();
    own.run(&["create", "--name", "one", "hello"]).ok();
    let names = own.root.join("names");
    fs::write(names.join("foreign"), "not ours").unwrap();
    symlink(canary.join("secret"), names.join("astray")).unwrap();
    symlink("../../canary", names.join("up")).unwrap();
    fs::create_dir(names.join("directory")).unwrap();
    for name in ["foreign", "astray", "up", "directory"] {
        own.run(&["inspect", name]).code(1);
        // No command line has a NUL in it.
        if !name.contains('\0') {
            own.run(&["rm", "-f", "--", name]);
        }
        own.run(&["create", "--name", name, "hello"]).refused(125, &["cannot be taken", name]);
        own.run(&["rename", "one", name]).refused(1, &["cannot be taken", name]);
        assert!(fs::symlink_metadata(names.join(name)).is_ok(), "{name} was removed");
        assert_eq!(own.run(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "one");
    }
    // A record whose names lead elsewhere is none: it can be removed, and nothing else is.
    let id = own.run(&["inspect", "-f", "{{.Id}}", "one"]).ok();
    let record = own.root.join("containers").join(&id).join("config.json");
    let text = fs::read_to_string(&record).unwrap();
    let path = canary.join("secret").display().to_string();
    let long = "a".repeat(300);
    for name in [
        "",
        ".",
        "..",
        "//one",
        "a/b",
        "../../canary",
        "one/",
        "one\0",
        "\0",
        "\u{202e}eno",
        "o\u{1b}[2Jne",
        ".new-1",
        &long,
        &path,
    ] {
        let changed = text.replacen("\"name\":\"one\"", &format!("\"name\":{}", serde_json::json!(name)), 1);
        assert_ne!(changed, text);
        fs::write(&record, changed).unwrap();
        let listed = own.run(&["ps", "-a", "--format", "{{.State}} {{.Names}}"]).ok();
        assert!(listed.starts_with("dead ") && !listed.contains(char::is_control), "{name:?}: {listed:?}");
        // No command line has a NUL in it.
        if !name.contains('\0') {
            own.run(&["rm", "-f", "--", name]);
        }
        assert!(record.exists() && names.join("one").is_symlink(), "{name:?}: something was removed");
    }
    own.run(&["rm", "-f", &id]).ok();
    own.run(&["volume", "create", "data"]).ok();
    fs::create_dir_all(own.root.join("volumes/-odd name/_data")).unwrap();
    symlink(&canary, own.root.join("volumes/linked")).unwrap();
    assert_eq!(own.run(&["volume", "ls", "-q"]).ok(), "data");
    own.run(&["volume", "prune", "-a", "-f"]).ok();
    own.run(&["volume", "rm", "linked"]).refused(1, &["no such volume"]);
    assert_eq!(fs::read_to_string(canary.join("secret")).unwrap(), "x");
    assert!(
        own.root.join("volumes/linked").is_symlink() && own.root.join("volumes/-odd name/_data").is_dir()
    );
}

/// Every path below a directory but the image store's.
fn tree(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            // The networks' directory is made, empty, by the first look.
            if ["image", "networks", "network"].iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
