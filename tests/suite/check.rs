//! `system check`: each kind of trouble made for real, found, and put right.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{BUSYBOX, Cmd, OwnRoots, PYTHON, Test, bridge_name, has, rounds, skipped};

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
    for name in ["ended-one", "ended-two"] {
        own.run(&["run", "--name", name, BUSYBOX, "true"]).ok();
    }
    assert_eq!(found(&own, &["--layers"]), Vec::<String>::new());
    assert_eq!(found(&own, &["--layers", "--repair"]), Vec::<String>::new());
    own.run(&["exec", "web", "touch", "/m/file"]).ok();
    // What comes and goes all the time is not taken for stray, nor is anything taken from it.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for name in ["one", "two"] {
            let (own, done) = (&own, &done);
            scope.spawn(move || {
                let volume =
                    ["-v", "memory:/m", BUSYBOX, "sh", "-c", "touch /m/$0; ip addr show eth0 | grep -q inet"];
                let run = ["run", "--rm", "--network", "net", "-p", "127.0.0.1::80"];
                while !done.load(Ordering::Relaxed) {
                    own.run(&[&run[..], &volume, &[name]].concat()).ok();
                    own.run(&["start", "-a", &format!("ended-{name}")]).ok();
                }
            });
        }
        for _ in 0..rounds(6) {
            let repaired = own.run(&["system", "check", "--repair"]);
            if repaired.stdout != "nothing is stray or damaged\n" {
                done.store(true, Ordering::Relaxed);
                panic!("{repaired:?}");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    own.run(&["exec", "web", "test", "-e", "/m/file"]).ok();
    own.run(&["rm", "-f", "web"]).ok();
}

/// What was stray when it was looked at, and is in use when it would be removed.
#[test]
fn what_is_taken_into_use_meanwhile_stays() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.run(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory"]).ok();
    let data = own.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", "memory"]).ok();
    let create = ["create", "--name", "late", "-p", "127.0.0.1::80", "-v", "memory:/m"];
    let id = own.run(&[&create[..], &[BUSYBOX, "sleep", "1000"]].concat()).ok();
    own.run(&["start", "late"]).ok();
    let groups = groups(&id);
    let held = own.state.join("network/networks").join(bridge_name(&own.state)).join("addresses");
    let of_late = || {
        let entries = fs::read_dir(&held).unwrap().flatten();
        entries.map(|entry| entry.path()).find(|path| fs::read_to_string(path).unwrap() == id)
    };
    let address = of_late().unwrap();
    for delay in [300, 450, 500, 520, 540, 570, 600, 700] {
        own.run(&["stop", "-t", "0", "late"]).ok();
        for group in &groups {
            fs::create_dir(group).unwrap();
        }
        fs::write(&address, &id).unwrap();
        Cmd::new("mount", ["-t", "tmpfs", "tmpfs", &data]).run().ok();
        let checking = own.cmd(&["system", "check", "--repair"]).spawn();
        thread::sleep(Duration::from_millis(delay));
        own.run(&["start", "late"]).ok();
        let checked = checking.finish(Duration::from_mins(1));
        assert!(!checked.stdout.contains("not repaired"), "{checked:?}");
        let running = own.run(&["inspect", "-f", "{{.State.Running}}", "late"]).ok();
        assert_eq!(running, "true", "{delay}: {checked:?}");
        assert!(of_late().is_some(), "{delay}: {checked:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(mounts.contains(&data), "{delay}: {checked:?}");
    }
    own.run(&["rm", "-f", "late"]).ok();
    assert_eq!(found(&own, &[]), Vec::<String>::new());
}

/// A container whose records cannot be read runs on: what it has on networks stays.
#[test]
fn what_a_damaged_record_may_have_stays() {
    let Some(t) = Test::start() else { return };
    if !has("ip") {
        return skipped("iproute2 is not installed");
    }
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let run = ["run", "-d", "--name", "web", "-p", "127.0.0.1::80", BUSYBOX, "sleep", "1000"];
    let id = own.run(&run).ok();
    let bridge = bridge_name(&own.state);
    let (link, stray) = (format!("rb{}", &id[..12]), "rbcdcdcdcdcdcd");
    let has_link = |name: &str| Path::new("/sys/class/net").join(name).exists();
    let rules = || {
        let list = |family| Cmd::new("nft", ["list", "table", family, &bridge]).run().stdout;
        let lines = format!("{}{}", list("ip"), list("bridge"));
        lines.lines().filter(|line| line.contains("elements")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = rules();
    for file in [
        own.root.join("containers").join(&id).join("config.json"),
        own.state.join("containers").join(&id).join("state.json"),
    ] {
        let whole = fs::read(&file).unwrap();
        fs::write(&file, "{").unwrap();
        let lines = found(&own, &["--repair"]);
        assert!(lines.len() == 1 && lines[0].starts_with(&format!("damaged: container {id}")), "{lines:#?}");
        assert!(has_link(&link));
        assert_eq!(rules(), before);
        // Nor is what another may have had taken away while it is not known who has what.
        if file.ends_with("state.json") {
            ip(&["link", "add", stray, "type", "veth", "peer", "name", "rbtestpeer3"]);
            ip(&["link", "set", stray, "master", &bridge]);
            let lines = found(&own, &["--repair"]);
            let told = lines.iter().find(|one| one.contains(stray)).unwrap();
            assert!(told.contains(&id[..12]) && told.contains("see to that first"), "{told}");
            assert!(lines.len() == 2 && has_link(stray));
        }
        fs::write(&file, whole).unwrap();
    }
    is_repaired(&own, &[], "stray", &["link", stray]);
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
            && crate::harness::poll(Duration::from_secs(20), || sleeper.ended())
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
    // One that is gone can come back under whoever had it.
    own.run(&["run", "-d", "--name", "web", "--network", "none", BUSYBOX, "sleep", "1000"]).ok();
    fs::remove_dir_all(&dir).unwrap();
    is_repaired(&own, &[], "damaged", &["not unpacked"]);
    own.run(&["rm", "-f", "web"]).ok();
    // An image that is mounted is called so.
    own.run(&["image", "mount", BUSYBOX]).ok();
    fs::remove_file(a_file(&dir.join("fs"))).unwrap();
    let lines = found(&own, &["--layers", "--repair"]);
    assert!(
        lines.len() == 1 && lines[0].contains("is mounted at") && lines[0].contains("'rbox image unmount "),
        "{lines:#?}"
    );
    own.run(&["image", "unmount", BUSYBOX]).ok();
    is_repaired(&own, &["--layers"], "damaged", &["not those of its blob"]);
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
    fs::write(blob.with_file_name(manifest.trim_start_matches("sha256:")), "{}").unwrap();
    is_repaired(&own, &[], "damaged", &["image", "busybox"]);
    assert_eq!(runs(), "runs");
    // What no image has. A download that can be gone on with is not of that.
    fs::write(blob.with_file_name("cd".repeat(32)), "text").unwrap();
    let partial = own.root.join("image/tmp").join(format!("sha256-{}.partial", "ef".repeat(32)));
    fs::write(&partial, "half").unwrap();
    is_repaired(&own, &[], "stray", &["1 layer or blob below", "it takes", "kB"]);
    assert!(partial.exists());
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
    // A registry has one of that name, which is another one.
    own.run(&["run", "--name", "one", "--network", "none", BUSYBOX, "touch", "/file"]).ok();
    own.run(&["commit", "one", PYTHON]).ok();
    own.run(&["rm", "one"]).ok();
    let manifest = own.run(&["image", "inspect", "-f", "{{.Descriptor.digest}}", PYTHON]).ok();
    fs::remove_file(own.root.join("image/blobs/sha256").join(manifest.trim_start_matches("sha256:")))
        .unwrap();
    for _ in 0..2 {
        let lines = found(&own, &["--repair"]);
        let is = |words: &[&str]| words.iter().all(|word| lines[0].contains(word));
        assert!(
            lines.len() == 1 && is(&["image python:", "build or load", "'rbox rmi python:"]),
            "{lines:#?}"
        );
    }
    own.run(&["rmi", PYTHON]).ok();
}

/// A layer is not replaced under a container that was started while its blob was unpacked.
#[test]
fn no_layer_is_replaced_under_a_container() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["create", "--name", "late", "--network", "none", BUSYBOX, "sleep", "1000"]).ok();
    let (_, dir) = layers(&own, BUSYBOX).remove(0);
    let (file, other) = (dir.join("fs/etc/passwd"), dir.join("fs/etc/other"));
    let begin_repair = || {
        fs::write(&other, "other").unwrap();
        own.cmd(&["system", "check", "--repair", "--layers"]).spawn()
    };
    // It takes as long as the machine lets it: starts are spread over that.
    let begin = Instant::now();
    let alone = begin_repair().finish(Duration::from_mins(2));
    assert!(alone.stdout.contains("all repaired"), "{alone:?}");
    let whole = begin.elapsed();
    let mut refused = 0;
    for part in 0..12 {
        let checking = begin_repair();
        thread::sleep(whole * part / 12);
        own.run(&["start", "late"]).ok();
        let checked = checking.finish(Duration::from_mins(2));
        refused += usize::from(checked.stdout.contains("(not repaired: container late runs on it"));
        let inside = own.run(&["exec", "late", "stat", "-c", "%i", "/etc/passwd"]).ok();
        assert_eq!(inside, fs::metadata(&file).unwrap().ino().to_string(), "{part}: {checked:?}");
        own.run(&["stop", "-t", "0", "late"]).ok();
    }
    assert!(refused > 0);
    own.run(&["rm", "-f", "late"]).ok();
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

/// What a cleaner of directories takes away: a container's own layer, a volume's files, what is noted of a container that runs.
#[test]
fn what_a_cleaner_took_away() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let id = own.run(&["create", "--name", "one", "-v", "data:/data", BUSYBOX, "true"]).ok();
    for gone in ["upper", "work"] {
        fs::remove_dir_all(own.root.join("containers").join(&id).join(gone)).unwrap();
        is_repaired(&own, &[], "damaged", &["container one", gone]);
    }
    fs::remove_dir_all(own.root.join("volumes/data/_data")).unwrap();
    is_repaired(&own, &[], "damaged", &["volume data", "_data"]);
    own.run(&["start", "-a", "one"]).ok();
    let forget = |id: &str| {
        let live = own.state.join("containers").join(id);
        fs::remove_file(live.join("state.json")).unwrap();
        // One that is being started has none either: it is told by its age.
        let lock = live.join("lock");
        Cmd::new("touch", ["-d", "2 minutes ago", lock.to_str().unwrap()]).run().ok();
    };
    let run = ["run", "-d", "--name", "two", BUSYBOX, "sleep", "1000"];
    let running = own.run(&run).ok();
    let upper = own.root.join("containers").join(&running).join("upper");
    fs::rename(&upper, upper.with_extension("aside")).unwrap();
    assert!(found(&own, &[])[0].contains("rm -f two"));
    fs::rename(upper.with_extension("aside"), &upper).unwrap();
    forget(&running);
    is_repaired(&own, &[], "damaged", &["container", &running, "what was noted"]);
    own.run(&["rm", "two"]).ok();
    // `rm -f` finds it as well.
    let running = own.run(&run).ok();
    forget(&running);
    own.run(&["rm", "-f", "two"]).ok();
    assert!(groups(&running).is_empty());
    assert_eq!(found(&own, &[]), Vec::<String>::new());
}
