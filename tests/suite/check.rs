//! `system check`: each kind of trouble made for real, found, and put right.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{BUSYBOX, Cmd, OwnRoots, Test, bridge_name, has, skipped};

/// What is found: the lines but the last, which sums up; and the exit code fits.
fn found(own: &OwnRoots, args: &[&str]) -> Vec<String> {
    let out = own.run(&[&["system", "check"], args].concat());
    let mut lines: Vec<String> = out.stdout.lines().map(str::to_owned).collect();
    let sum = lines.pop().unwrap_or_default();
    let left = lines.iter().filter(|line| !line.ends_with("(repaired)")).count();
    assert_eq!(out.code, i32::from(left > 0), "{out:?}");
    assert_eq!(sum == "nothing is stray or damaged", lines.is_empty(), "{out:?}");
    lines
}

/// Exactly this is found, more than once; then it is repaired, and nothing is found any more.
#[track_caller]
fn is_repaired(own: &OwnRoots, args: &[&str], kind: &str, words: &[&str]) {
    for _ in 0..2 {
        let lines = found(own, args);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].starts_with(kind) && words.iter().all(|word| lines[0].contains(word)), "{lines:#?}");
    }
    let repaired = found(own, &[args, &["--repair"]].concat());
    assert!(repaired.len() == 1 && repaired[0].ends_with("(repaired)"), "{repaired:#?}");
    assert_eq!(found(own, &["--layers"]), Vec::<String>::new());
}

fn ip(args: &[&str]) {
    Cmd::new("ip", args).run().ok();
}

/// The directories of a container's control group.
fn groups(id: &str) -> Vec<PathBuf> {
    let out = Cmd::new("find", ["/sys/fs/cgroup", "-type", "d", "-name", id]).run();
    out.stdout.lines().map(PathBuf::from).collect()
}

#[test]
fn what_is_in_use_is_not_found() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    assert_eq!(found(&own, &[]), Vec::<String>::new());
    own.run(&["network", "create", "net"]).ok();
    own.run(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory"]).ok();
    let run = [
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "net",
        "-p",
        "127.0.0.1::80",
        "-v",
        "memory:/m",
        "-v",
        "/anonymous",
    ];
    own.run(&[&run[..], &[BUSYBOX, "sleep", "1000"]].concat()).ok();
    own.run(&["create", "--name", "made", BUSYBOX, "true"]).ok();
    own.run(&["run", "--name", "ended", BUSYBOX, "true"]).ok();
    assert_eq!(found(&own, &["--layers"]), Vec::<String>::new());
    assert_eq!(found(&own, &["--layers", "--repair"]), Vec::<String>::new());
    own.run(&["exec", "web", "touch", "/m/file"]).ok();
    // One that comes and goes all the time is not taken for stray.
    for _ in 0..5 {
        let running = own.cmd(&["run", "--rm", "--network", "net", BUSYBOX, "true"]).spawn();
        assert_eq!(found(&own, &[]), Vec::<String>::new());
        running.finish(std::time::Duration::from_secs(30)).ok();
    }
    own.run(&["rm", "-f", "web"]).ok();
}

#[test]
fn what_the_kernel_has_for_nobody() {
    let Some(t) = Test::start() else { return };
    if !has("ip") || !has("nft") {
        return skipped("iproute2 or nftables is not installed");
    }
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let id = own.run(&["run", "-d", "--name", "web", "-p", "127.0.0.1::80", BUSYBOX, "sleep", "1000"]).ok();
    let other = "ab".repeat(32);
    // A control group with a process in it.
    let made: Vec<PathBuf> = groups(&id).iter().map(|group| group.with_file_name(&other)).collect();
    assert!(!made.is_empty());
    for group in &made {
        fs::create_dir(group).unwrap();
    }
    let mut sleeper = Cmd::new("sleep", ["1000"]).spawn();
    fs::write(made[0].join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    is_repaired(&own, &[], "stray", &["control group", &other]);
    assert!(
        made.iter().all(|group| !group.exists())
            && crate::harness::poll(std::time::Duration::from_secs(20), || sleeper.ended())
    );
    // A link on the bridge. One with a name of somebody else stays.
    let bridge = bridge_name(&own.state);
    for (link, peer) in [("rbababababab01", "rbtestpeer1"), ("rbtestother", "rbtestpeer2")] {
        ip(&["link", "add", link, "type", "veth", "peer", "name", peer]);
        ip(&["link", "set", link, "master", &bridge]);
    }
    is_repaired(&own, &[], "stray", &["rbababababab01", &bridge]);
    ip(&["link", "delete", "rbtestother"]);
    // Its rules are flushed while a container runs.
    for family in ["ip", "ip6", "bridge"] {
        Cmd::new("nft", ["delete", "table", family, &bridge]).run();
    }
    is_repaired(&own, &[], "damaged", &["firewall rules of network bridge"]);
    // What was published for a container that is gone, and the address that it had.
    let port = own.run(&["port", "web", "80"]).ok().rsplit(':').next().unwrap().to_owned();
    let maps = Cmd::new("nft", ["list", "table", "ip", &bridge]).run().ok();
    let element =
        maps.lines().find(|line| line.contains(&port) && line.contains("elements")).map(str::trim).unwrap();
    let map = if maps.contains("map published_at") && element.contains("127.0.0.1") {
        "published_at"
    } else {
        "published"
    };
    let held = own.state.join("network/networks").join(&bridge);
    let aside = own.dir.join("held");
    Cmd::new("cp", ["-a", held.to_str().unwrap(), aside.to_str().unwrap()]).run().ok();
    own.run(&["rm", "-f", "web"]).ok();
    let add = format!("add element ip {bridge} {map} {}", element.trim_start_matches("elements = "));
    Cmd::new("nft", [&add]).run().ok();
    is_repaired(&own, &[], "stray", &["published port", &port]);
    Cmd::new("cp", ["-a", &format!("{}/.", aside.display()), held.to_str().unwrap()]).run().ok();
    is_repaired(&own, &[], "stray", &["address", "network bridge", &id]);
    // A volume's file system that nobody uses.
    own.run(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory"]).ok();
    let data = own.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", "memory"]).ok();
    Cmd::new("mount", ["-t", "tmpfs", "tmpfs", &data]).run().ok();
    is_repaired(&own, &[], "stray", &["mount on", &data, "volume memory"]);
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&data));
}

/// The blobs and the unpacked directories of an image's layers.
fn layers(own: &OwnRoots, image: &str) -> Vec<(PathBuf, PathBuf)> {
    let store = own.root.join("image");
    let hex = |digest: &serde_json::Value| digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let read = |hex: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(store.join("blobs/sha256").join(hex)).unwrap()).unwrap()
    };
    let id = own.run(&["image", "inspect", "-f", "{{.Id}}", image]).ok();
    let config = read(id.trim_start_matches("sha256:"));
    let index = own.run(&["image", "inspect", image]).ok();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let manifest = read(&hex(&index[0]["Descriptor"]["digest"]));
    let blobs = manifest["layers"].as_array().unwrap().iter().map(|layer| hex(&layer["digest"]));
    let dirs = config["rootfs"]["diff_ids"].as_array().unwrap().iter().map(hex);
    blobs
        .zip(dirs)
        .map(|(blob, dir)| (store.join("blobs/sha256").join(blob), store.join("layers").join(dir)))
        .collect()
}

/// The first regular file below a directory.
fn a_file(dir: &Path) -> PathBuf {
    let out =
        Cmd::new("find", [dir.to_str().unwrap(), "-type", "f", "-size", "+0", "-print", "-quit"]).run().ok();
    PathBuf::from(out)
}

#[test]
fn layers_are_unpacked_and_fetched_again() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    let (blob, dir) = layers(&own, BUSYBOX).pop().unwrap();
    let runs = || own.run(&["run", "--rm", "--network", "none", BUSYBOX, "echo", "runs"]).ok();
    // What is there and wrong is seen only by reading it.
    let quietly_wrong: [(&str, &dyn Fn()); 4] = [
        ("not what the digest says", &|| {
            let mut bytes = fs::read(&blob).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&blob, bytes).unwrap();
        }),
        ("not those of its blob", &|| {
            let file = a_file(&dir.join("fs"));
            let mut bytes = fs::read(&file).unwrap();
            bytes[0] ^= 1;
            fs::write(&file, bytes).unwrap();
        }),
        ("not those of its blob", &|| fs::remove_file(a_file(&dir.join("fs"))).unwrap()),
        ("not those of its blob", &|| {
            Cmd::new("chmod", ["u+s", a_file(&dir.join("fs")).to_str().unwrap()]).run().ok();
        }),
    ];
    for (why, damage) in quietly_wrong {
        damage();
        assert_eq!(found(&own, &[]), Vec::<String>::new());
        is_repaired(&own, &["--layers"], "damaged", &["layer sha256:", "busybox", why]);
        assert_eq!(runs(), "runs");
    }
    let missing: [(&str, &dyn Fn()); 3] = [
        ("its blob is gone", &|| fs::remove_file(&blob).unwrap()),
        ("not what the digest says", &|| fs::write(&blob, "short").unwrap()),
        ("not unpacked", &|| fs::remove_dir_all(&dir).unwrap()),
    ];
    for (why, damage) in missing {
        damage();
        is_repaired(&own, &[], "damaged", &["layer sha256:", "busybox", why]);
        assert_eq!(runs(), "runs");
    }
    // A container that runs keeps its layers as they are.
    own.run(&["run", "-d", "--name", "web", "--network", "none", BUSYBOX, "sleep", "1000"]).ok();
    fs::remove_file(a_file(&dir.join("fs"))).unwrap();
    let lines = found(&own, &["--layers", "--repair"]);
    assert!(lines.len() == 1 && lines[0].contains("(not repaired: container web runs on it"), "{lines:#?}");
    own.run(&["rm", "-f", "web"]).ok();
    is_repaired(&own, &["--layers"], "damaged", &["not those of its blob"]);
    // An image whose manifest is gone.
    let manifest = own.run(&["image", "inspect", "-f", "{{.Descriptor.digest}}", BUSYBOX]).ok();
    fs::remove_file(blob.with_file_name(manifest.trim_start_matches("sha256:"))).unwrap();
    is_repaired(&own, &[], "damaged", &["image", "busybox"]);
    assert_eq!(runs(), "runs");
    // What no image has.
    fs::create_dir_all(dir.with_file_name("ab".repeat(32)).join("fs")).unwrap();
    fs::write(blob.with_file_name("cd".repeat(32)), "text").unwrap();
    is_repaired(&own, &[], "stray", &["2 layers and blobs", "no image"]);
    assert_eq!(runs(), "runs");
}

/// Nobody has it but this host: that is said, and nothing is taken away.
#[test]
fn what_was_made_here_is_not_fetched() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.run(&["run", "--name", "one", "--network", "none", BUSYBOX, "sh", "-c", "echo text > /file"]).ok();
    own.run(&["commit", "one", "made:1"]).ok();
    own.run(&["rm", "one"]).ok();
    let (_, dir) = layers(&own, "made:1").pop().unwrap();
    fs::write(dir.join("fs/file"), "other").unwrap();
    for _ in 0..2 {
        let lines = found(&own, &["--layers", "--repair"]);
        assert!(
            lines.len() == 1 && lines[0].contains("made:1") && lines[0].contains("build or load"),
            "{lines:#?}"
        );
    }
    own.run(&["rmi", "made:1"]).ok();
    assert_eq!(found(&own, &["--layers"]), Vec::<String>::new());
}

#[test]
fn records_and_strangers() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let id = own.run(&["create", "--name", "made", BUSYBOX, "true"]).ok();
    own.run(&["volume", "create", "data"]).ok();
    let network = own.run(&["network", "create", "net"]).ok();
    let stranger = own.root.join("containers/stranger");
    fs::create_dir(&stranger).unwrap();
    fs::write(own.root.join("containers").join(&id).join("config.json"), "{").unwrap();
    fs::write(own.root.join("volumes/data/volume.json"), "{").unwrap();
    let record = own.root.join("network/networks").join(format!("{network}.json"));
    fs::write(&record, "{").unwrap();
    let wanted = [
        ("damaged", format!("container {id}"), format!("rm -f {}", &id[..12])),
        ("damaged", "volume data".to_owned(), "volume create data".to_owned()),
        ("damaged", "network".to_owned(), record.display().to_string()),
        ("stray", stranger.display().to_string(), "remove it".to_owned()),
    ];
    // None of these is repaired: what they hold may be worth something.
    for args in [&[][..], &["--repair"]] {
        let lines = found(&own, args);
        assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
        for (kind, what, words) in &wanted {
            let is = |line: &&String| {
                line.starts_with(kind) && line.contains(what.as_str()) && line.contains(words.as_str())
            };
            assert_eq!(lines.iter().filter(is).count(), 1, "{kind} {what} {words}: {lines:#?}");
        }
    }
    let out = own.run(&["system", "check", "--format", "json"]);
    assert_eq!(out.code, 1);
    let kinds: Vec<serde_json::Value> =
        out.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        kinds.len() == 4 && kinds.iter().all(|one| one["Outcome"] == "left" && one["Repairable"] == false),
        "{kinds:?}"
    );
    fs::remove_dir(&stranger).unwrap();
    fs::remove_file(&record).unwrap();
    own.run(&["rm", "-f", &id]).ok();
    own.run(&["volume", "create", "data"]).ok();
    assert_eq!(found(&own, &[]), Vec::<String>::new());
}
