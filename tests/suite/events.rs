//! `events`: what happens is told once, in Docker's order, by whoever does it and whoever is killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::crash::{Random, kill9};
use crate::harness::{BUSYBOX, Cmd, OnTerminal, OwnRoots, PYTHON, Test, rounds, wait_until};

/// This moment, as `--since` takes it.
fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// An event as `--format json` gives it.
struct Seen(Value);

impl Seen {
    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn id(&self) -> &str {
        self.text("/Actor/ID")
    }

    fn attribute(&self, key: &str) -> &str {
        self.0["Actor"]["Attributes"][key].as_str().unwrap_or_default()
    }

    /// `container die`, with what belongs to the action.
    fn short(&self) -> String {
        let own = ["exitCode", "signal"].map(|key| self.attribute(key)).join("");
        let line = format!("{} {} {own}", self.text("/Type"), self.text("/Action"));
        line.trim_end().to_owned()
    }
}

fn parse(text: &str) -> Vec<Seen> {
    text.lines().map(|line| Seen(serde_json::from_str(line).unwrap())).collect()
}

/// What has happened since then, without a warning.
fn since(command: impl Fn(&[&str]) -> Cmd, since: &str) -> Vec<Seen> {
    let out = command(&["events", "--since", since, "--until", &now(), "--format", "json"]).run().code(0);
    assert_eq!(out.stderr, "");
    parse(&out.stdout)
}

fn happened(t: &Test, begin: &str) -> Vec<Seen> {
    since(|args| t.cmd(args), begin)
}

fn short(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(Seen::short).collect()
}

#[test]
fn a_life_as_docker_tells_it() {
    let Some(t) = Test::start() else { return };
    let (name, volume, begin) = (t.name("life"), t.name("data"), now());
    let id = t.sleeper(&name, ["-v", &format!("{volume}:/data:ro"), "--label", "app=x"]);
    t.ok(["exec", &name, "echo", "hi"]);
    t.rbox(["exec", &name, "sh", "-c", "exit 3"]).code(3);
    t.ok(["pause", &name]);
    t.ok(["unpause", &name]);
    t.ok(["kill", "-s", "WINCH", &name]);
    let renamed = t.name("renamed");
    t.ok(["rename", &name, &renamed]);
    t.ok(["update", "--memory", "64m", &renamed]);
    t.ok(["top", &renamed]);
    t.ok(["stop", &renamed]);
    t.ok(["start", &renamed]);
    t.listens(&renamed);
    t.ok(["restart", &renamed]);
    t.ok(["rm", "-f", &renamed]);
    let seen = happened(&t, &begin);
    let (up, down) =
        (["volume mount", "network connect", "container start"], ["network disconnect", "volume unmount"]);
    let mut wanted = vec!["volume create", "container create"];
    wanted.extend(up);
    wanted.extend([
        "container exec_create: echo hi",
        "container exec_start: echo hi",
        "container exec_die 0",
    ]);
    let script =
        ["container exec_create: sh -c exit 3", "container exec_start: sh -c exit 3", "container exec_die 3"];
    wanted.extend(script);
    wanted.extend(["container pause", "container unpause", "container kill 28", "container rename"]);
    wanted.extend(["container update", "container top"]);
    let stop = ["container kill 15", down[0], down[1], "container die 0", "container stop"];
    wanted.extend(stop);
    wanted.extend(up);
    wanted.extend(stop);
    wanted.extend(up);
    wanted.extend(["container restart", "container kill 9", down[0], down[1], "container die 137"]);
    wanted.push("container destroy");
    assert_eq!(short(&seen), wanted);
    let find = |action: &str| seen.iter().find(|seen| seen.short() == action).unwrap();
    let create = find("container create");
    assert_eq!((create.id(), create.text("/id"), create.text("/status")), (&*id, &*id, "create"));
    assert_eq!((create.text("/from"), create.text("/scope")), (BUSYBOX, "local"));
    assert_eq!((create.attribute("image"), create.attribute("app")), (BUSYBOX, "x"));
    assert_eq!((create.attribute("name"), find("container top").attribute("name")), (&*name, &*renamed));
    assert_eq!(find("container rename").attribute("oldName"), format!("/{name}"));
    // The monitor was told of the name.
    assert_eq!(find("container die 0").attribute("name"), renamed);
    let (made, ran) = (&seen[5], &seen[6]);
    assert_eq!(made.attribute("execID").len(), 64);
    assert_eq!(made.attribute("execID"), ran.attribute("execID"));
    assert_eq!(seen[7].attribute("execID"), ran.attribute("execID"));
    let mount = find("volume mount");
    assert_eq!(
        (mount.id(), mount.attribute("container"), mount.attribute("destination")),
        (&*volume, &*id, "/data")
    );
    assert_eq!((mount.attribute("read/write"), mount.attribute("driver")), ("false", "local"));
    let connect = find("network connect");
    assert_eq!((connect.attribute("name"), connect.attribute("type")), ("bridge", "bridge"));
    assert_eq!((connect.attribute("container"), connect.id().len()), (&*id, 64));
    assert_eq!(connect.0.get("status"), None);
    let times: Vec<i64> = seen.iter().map(|seen| seen.0["timeNano"].as_i64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn all_of_a_command_is_there_when_it_ends() {
    let Some(t) = Test::start() else { return };
    let begin = now();
    t.sh("exit 0");
    let wanted = ["create", "attach", "connect", "start", "disconnect", "die 0", "destroy"];
    let of = |seen: &[Seen]| -> Vec<String> {
        short(seen).iter().map(|text| text.split_once(' ').unwrap().1.to_owned()).collect()
    };
    assert_eq!(of(&happened(&t, &begin)), wanted);
    // Its program cannot be executed: it never starts, and so never dies.
    let begin = now();
    t.rbox(["run", "--rm", BUSYBOX, "/no/such"]).refused(127, &["no such"]);
    assert_eq!(of(&happened(&t, &begin)), ["create", "attach", "connect", "disconnect", "destroy"]);
    // A volume that nobody named goes before its container.
    let begin = now();
    t.sh_with(["-v", "/data", "--network", "none"], "exit 0");
    wait_until("it is gone", || {
        short(&happened(&t, &begin)).last().is_some_and(|last| last == "container destroy")
    });
    let seen = short(&happened(&t, &begin));
    assert_eq!(seen[0], "volume create");
    // The first second there was, as with Docker.
    assert!(t.ok(["events", "--since", "0", "--until", "0s"]).lines().count() >= seen.len());
    assert_eq!(
        seen[seen.len() - 4..],
        ["volume unmount", "container die 0", "volume destroy", "container destroy"]
    );
}

#[test]
fn eight_writers_at_once() {
    let Some(t) = Test::start() else { return };
    let begin = now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..rounds(12)).for_each(|_| drop(t.sh_with(["--network", "none"], "true"))));
        }
    });
    let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for seen in happened(&t, &begin).into_iter().filter(|seen| seen.text("/Type") == "container") {
        of.entry(seen.id().to_owned()).or_default().push(seen.text("/Action").to_owned());
    }
    assert_eq!(of.len(), 8 * rounds(12));
    for (id, actions) in of {
        assert_eq!(actions, ["create", "attach", "start", "die", "destroy"], "{id}");
    }
}

/// Each life that began has one end, and each container that was made goes once, whoever is killed.
#[test]
fn nothing_is_lost_or_told_twice_by_who_is_killed() {
    let Some(t) = Test::start() else { return };
    let (mut random, begin) = (Random::new(), now());
    for round in 0..rounds(30) {
        let name = t.name(&format!("k{round}"));
        let flags: &[&str] = if random.below(2) == 0 { &["run", "-d", "--rm"] } else { &["run", "-d"] };
        let run =
            t.cmd(flags).args(&["--name", &name, "--network", "none", BUSYBOX, "sleep", "1000"]).spawn();
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        kill9(run.id());
        run.finish(Duration::from_secs(20));
        let state = t.rbox(["inspect", "-f", "{{.Id}}", &name]).stdout;
        let live = t.suite.state.join("containers").join(state.trim()).join("state.json");
        let live: Value =
            fs::read(live).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        if let Some(monitor) = live["monitor"].as_i64().filter(|_| random.below(3) > 0) {
            let pid = live["pid"].as_i64().unwrap_or_default() as i32;
            let both = [monitor as i32, pid].into_iter().filter(|pid| *pid > 1);
            both.for_each(kill9);
        }
        t.rbox(["ps", "-a"]).code(0);
        let rm = t.cmd(["rm", "-f", &name]).spawn();
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        kill9(rm.id());
        rm.finish(Duration::from_secs(20));
        wait_until("it is gone", || t.rbox(["rm", "-f", &name]).code(0).stderr.contains("o such container"));
    }
    wait_until("the trash is empty", || {
        t.rbox(["ps", "-a"]).code(0);
        fs::read_dir(t.suite.root.join("trash")).unwrap().count() == 0
    });
    t.expect_nothing_left();
    let mut of: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    let out = t.rbox(["events", "--since", &begin, "--until", &now(), "--format", "json"]).code(0);
    for seen in parse(&out.stdout).iter().filter(|seen| seen.text("/Type") == "container") {
        *of.entry(seen.id().to_owned()).or_default().entry(seen.text("/Action").to_owned()).or_default() += 1;
    }
    assert!(of.len() >= 5, "{of:?}");
    for (id, counts) in of {
        let of = |action: &str| counts.get(action).copied().unwrap_or_default();
        // Who is killed right after what it did cannot tell of that; what follows is told all the same.
        assert!(of("create") <= 1 && of("start") <= 1, "{id}: {counts:?}");
        assert!(of("die") <= 1 && of("die") >= of("start"), "{id}: {counts:?}");
        assert_eq!(of("destroy"), 1, "{id}: {counts:?}");
    }
}

#[test]
fn the_end_that_nobody_saw_is_told_once() {
    let Some(t) = Test::start() else { return };
    let (name, begin) = (t.name("unseen"), now());
    let id = t.sleeper(&name, ["--network", "none"]);
    let live = fs::read(t.suite.state.join("containers").join(&id).join("state.json")).unwrap();
    let live: Value = serde_json::from_slice(&live).unwrap();
    for pid in ["monitor", "pid"] {
        kill9(live[pid].as_i64().unwrap() as i32);
    }
    for _ in 0..3 {
        wait_until("it has ended", || t.status(&name) == "exited");
        t.ok(["ps", "-a"]);
    }
    t.ok(["rm", &name]);
    let wanted = [
        "container create",
        "network connect",
        "container start",
        "network disconnect",
        "container die 255",
        "container destroy",
    ];
    assert_eq!(short(&happened(&t, &begin)), wanted);
}

/// A listener whose output goes to a file.
struct Listener {
    child: std::process::Child,
    path: std::path::PathBuf,
}

impl Listener {
    fn start(command: Cmd, dir: &Path) -> Self {
        let path = dir.join("events");
        let out = fs::File::create(&path).unwrap();
        let child = command.spawn_on(Stdio::null(), out.into(), Stdio::null());
        Self { child, path }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// Whoever starts a listener and then a container sees all of it, however long the listener takes to begin.
#[test]
fn a_listener_misses_nothing_of_what_starts_with_it() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("listener");
    for round in 0..rounds(100) {
        let name = t.name(&format!("l{round}-"));
        let filter = format!("container={name}");
        let listener = Listener::start(t.cmd(["events", "--format", "{{.Action}}", "-f", &filter]), &dir);
        t.ok(["run", "--rm", "--name", &name, "--network", "none", BUSYBOX, "true"]);
        wait_until("the listener has it all", || listener.text().contains("destroy"));
        assert_eq!(listener.text(), "create\nattach\nstart\ndie\ndestroy\n", "round {round}");
    }
}

/// The journal is put aside when it is full; who follows and who looks back see no gap.
#[test]
fn a_full_journal_leaves_no_gap() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "full", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    let journal = own.root.join("events/journal");
    let old = r#"{"type":"container","action":"old","id":"0","attributes":{},"time":1000000000}"#;
    let fill = |left: usize| {
        let size = fs::metadata(&journal).map_or(0, |meta| meta.len()) as usize;
        let lines = (8_usize << 20).saturating_sub(size + left) / (old.len() + 2);
        let mut file = fs::File::options().append(true).create(true).open(&journal).unwrap();
        file.write_all(format!("\n{old}\n").repeat(lines).as_bytes()).unwrap();
    };
    let (mut begin, dir) = (now(), t.dir("full-out"));
    let listener = Listener::start(
        own.cmd(&["events", "--since", &begin, "--format", "json", "-f", "image=busybox"]),
        &dir,
    );
    for round in 1..=3 {
        // It is full in the middle of the second container.
        fill(2500);
        for _ in 0..3 {
            own.run(&["run", "--rm", "--network", "none", BUSYBOX, "true"]).ok();
        }
        assert!(journal.with_extension(format!("{round}")).exists(), "round {round}");
        let names = fs::read_dir(own.root.join("events")).unwrap().count();
        assert!(names <= 2, "{names} files");
        let seen = since(|args| own.cmd(args), &begin);
        let one = ["create", "attach", "connect", "start", "disconnect", "die", "destroy"].repeat(3);
        let actions: Vec<&str> = seen.iter().map(|seen| seen.text("/Action")).collect();
        assert_eq!(actions, one, "round {round}");
        begin = now();
        wait_until("the listener has it all", || parse(&listener.text()).len() >= 15 * round);
    }
    assert_eq!(parse(&listener.text()).len(), 45);
}

#[test]
fn a_line_that_was_cut_off_is_skipped_and_told_of() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "torn", &t.suite.registry);
    let begin = now();
    own.run(&["volume", "create", "one"]).ok();
    let journal = own.root.join("events/journal");
    let mut file = fs::File::options().append(true).open(&journal).unwrap();
    file.write_all(b"\n{\"type\":\"volume\",\"act").unwrap();
    let look = || {
        own.run(&["events", "--since", &begin, "--until", &now(), "--format", "{{.Action}} {{.Actor.ID}}"])
    };
    let out = look().code(0);
    assert_eq!(out.stdout, "create one\n");
    assert!(out.stderr.starts_with("rbox: warning: ") && out.stderr.lines().count() == 1, "{}", out.stderr);
    own.run(&["volume", "create", "two"]).ok();
    let out = look().code(0);
    assert_eq!((out.stdout.as_str(), out.stderr.lines().count()), ("create one\ncreate two\n", 1));
    // One that cannot be written keeps no command from what it does.
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    own.run(&["volume", "rm", "one"]).ok();
    own.run(&["events", "--until", &now()]).refused(1, &["journal", "not a regular file"]);
}

#[test]
fn lines_templates_and_filters() {
    let Some(t) = Test::start() else { return };
    let (name, begin) = (t.name("f"), now());
    t.rbox([
        "run",
        "--name",
        &name,
        "--label",
        "app=web",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "exit 4",
    ])
    .code(4);
    let end = now();
    let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
    let show = |more: &[&str]| {
        let args = ["events", "--since", &begin, "--until", &end];
        t.cmd(args.iter().chain(more)).run().ok()
    };
    let line = show(&["--filter", "event=die"]);
    let (time, rest) = line.split_once(' ').unwrap();
    assert_eq!(time.len(), "2006-01-02T15:04:05.000000000Z".len(), "{time}");
    let wanted =
        format!("container die {id} (app=web, execDuration=0, exitCode=4, image={BUSYBOX}, name={name})");
    assert_eq!(rest, wanted);
    let count = |filters: &[&str]| {
        let given = filters.iter().flat_map(|filter| ["-f", filter]).collect::<Vec<_>>();
        show(&[&given[..], &["--format", "{{.Action}}"]].concat()).lines().count()
    };
    for (filters, wanted) in [
        (&[][..], 6),
        (&["type=container"], 4),
        (&["type=image"], 0),
        (&["event=die", "event=start"], 2),
        (&["label=app=web"], 4),
        (&["label=app", "label=other"], 0),
        (&["image=busybox"], 4),
        (&["image=busy"], 0),
        (&["scope=swarm"], 0),
        (&[&*format!("container={name}")], 4),
        (&[&*format!("container={}", &id[..12])], 4),
        (&["volume=nosuch"], 0),
    ] {
        assert_eq!(count(filters), wanted, "{filters:?}");
    }
    assert_eq!(
        show(&["-f", "event=die", "--format", "{{.Actor.Attributes.exitCode}} {{.ID}}"]),
        format!("4 {id}")
    );
    assert_eq!(show(&["--format", "{{json .}}"]), show(&["--format", "json"]));
    t.rbox(["events", "--format", "{{.Bogus}}"]).refused(64, &["Error parsing format"]);
    t.rbox(["events", "--filter", "contianer=x"]).refused(125, &["invalid filter 'contianer'"]);
    t.rbox(["events", "--filter", "x"]).refused(125, &["bad format of filter"]);
    t.rbox(["events", "--since", "nonsense"]).refused(125, &["nonsense"]);
    t.rbox(["events", "--since", "1m", "--until", "2m"]).refused(125, &["cannot be after"]);
    // In the future: it shows what comes until then, and ends by itself.
    let begin = std::time::Instant::now();
    let mut later = t
        .cmd(["system", "events", "--until", "-2s", "--since", "0s", "-f", &format!("container={name}")])
        .spawn();
    t.ok(["rm", &name]);
    assert!(!later.ended());
    let out = later.finish(Duration::from_secs(30)).code(0);
    assert!(out.stdout.contains(&format!("container destroy {id}")), "{}", out.stdout);
    assert!(begin.elapsed() >= Duration::from_secs(2));
}

#[test]
fn images_volumes_and_networks() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("images");
    let tag = format!("{}:1", t.name("tag"));
    let begin = now();
    t.ok(["pull", "-q", BUSYBOX]);
    t.ok(["tag", BUSYBOX, &tag]);
    let archive = dir.join("a.tar").display().to_string();
    t.ok(["save", "-o", &archive, &tag]);
    t.ok(["rmi", &tag]);
    t.ok(["load", "-q", "-i", &archive]);
    t.ok(["rmi", &tag]);
    let tar = dir.join("root.tar").display().to_string();
    let made =
        std::process::Command::new("tar").args(["-cf", &tar, "-C"]).arg(&dir).arg("a.tar").status().unwrap();
    assert!(made.success());
    let imported = format!("{}:2", t.name("import"));
    let id = t.ok(["import", "-c", "LABEL kind=x", &tar, &imported]);
    t.ok(["rmi", &imported]);
    let seen = happened(&t, &begin);
    let wanted = ["pull", "tag", "save", "untag", "load", "untag", "tag", "import", "untag", "delete"];
    assert_eq!(short(&seen), wanted.map(|action| format!("image {action}")));
    assert_eq!((seen[0].id(), seen[0].attribute("name")), ("busybox:latest", "busybox"));
    assert_eq!((seen[1].attribute("name"), seen[1].id().len()), (&*tag, 71));
    assert_eq!((seen[2].id(), seen[2].attribute("name")), (seen[1].id(), seen[1].id()));
    assert_eq!((seen[7].id(), seen[7].attribute("kind")), (&*id, "x"));
    assert_eq!((seen[9].id(), seen[9].attribute("name"), seen[9].text("/status")), (&*id, &*id, "delete"));

    let begin = now();
    let (volume, network, name) = (t.name("v"), t.name("n"), t.name("c"));
    t.ok(["volume", "create", &volume]);
    t.ok(["volume", "create", &volume]);
    t.ok(["network", "create", &network]);
    let container = t.sleeper(&name, []);
    t.ok(["network", "connect", &network, &name]);
    t.ok(["network", "disconnect", &network, &name]);
    t.ok(["stop", &name]);
    t.ok(["container", "prune", "-f"]);
    t.ok(["network", "rm", &network]);
    t.ok(["volume", "rm", &volume]);
    for kind in ["volume", "network", "image"] {
        t.ok([kind, "prune", "-f"]);
    }
    let seen = happened(&t, &begin);
    let wanted = [
        "volume create",
        "network create",
        "container create",
        "network connect",
        "container start",
        "network connect",
        "network disconnect",
        "container kill 15",
        "network disconnect",
        "container die 0",
        "container stop",
        "container destroy",
        "container prune",
        "network destroy",
        "volume destroy",
        "volume prune",
        "network prune",
        "image prune",
    ];
    assert_eq!(short(&seen), wanted);
    assert_eq!((seen[0].id(), seen[0].attribute("driver")), (&*volume, "local"));
    assert_eq!((seen[1].attribute("name"), seen[1].attribute("type")), (&*network, "bridge"));
    assert_eq!((seen[5].id(), seen[5].attribute("container")), (seen[1].id(), &*container));
    assert_eq!((seen[12].id(), seen[16].attribute("reclaimed")), ("", "0"));
}

#[test]
fn health_and_memory() {
    let Some(t) = Test::start() else { return };
    let (name, begin) = (t.name("h"), now());
    t.sleeper(&name, ["--health-cmd", "true", "--health-interval", "1s", "--network", "none"]);
    wait_until("it is healthy", || {
        t.ok(["events", "--since", &begin, "--until", &now(), "-f", "event=health_status"])
            .contains("health_status: healthy")
    });
    let seen = short(&happened(&t, &begin));
    let at = seen.iter().position(|one| one == "container health_status: healthy").unwrap();
    let wanted = [
        "container exec_create: /bin/sh -c true",
        "container exec_start: /bin/sh -c true",
        "container exec_die 0",
    ];
    assert_eq!(seen[at - 3..at], wanted);
    t.ok(["rm", "-f", &name]);
    let (name, begin) = (t.name("m"), now());
    let script = "x = b'x' * (200 << 20)";
    t.rbox(["run", "--name", &name, "-m", "64m", "--network", "none", PYTHON, "python3", "-c", script])
        .code(137);
    let seen = short(&happened(&t, &begin));
    assert_eq!(seen[seen.len() - 3..], ["container oom", "network disconnect", "container die 137"]);
}

/// Memory runs out for a child of PID 1, which goes on.
#[test]
fn the_end_of_memory_is_told_when_it_comes() {
    let Some(t) = Test::start() else { return };
    let (name, begin) = (t.name("m"), now());
    let script = "import subprocess, time; subprocess.run(['python3', '-c', 'x = [1] * (50 << 20)']); time.sleep(1000)";
    t.ok(["run", "-d", "--name", &name, "-m", "64m", "--network", "none", PYTHON, "python3", "-c", script]);
    let actions = || short(&happened(&t, &begin));
    wait_until("it is told", || actions().contains(&"container oom".to_owned()));
    assert_eq!(t.status(&name), "running");
    t.ok(["rm", "-f", &name]);
    let told = actions().iter().filter(|one| *one == "container oom").count();
    assert_eq!(told, 1, "once, and not at its end again");
}

#[test]
fn how_a_process_ends_that_nobody_waits_for() {
    let Some(t) = Test::start() else { return };
    let (name, begin) = (t.name("c"), now());
    t.sleeper(&name, []);
    let ends = |code: &str| {
        let wanted = format!("container exec_die {code}");
        wait_until("it is told", || short(&happened(&t, &begin)).contains(&wanted));
    };
    assert_eq!(t.ok(["exec", "-d", &name, "sh", "-c", "sleep 0.2; exit 7"]), "");
    ends("7");
    // With a terminal, which it has to itself as long as it runs.
    t.ok(["exec", "-dt", &name, "sh", "-c", "test -t 1 && sleep 0.2 && echo x > /dev/tty && exit 8"]);
    ends("8");
    // Left by the detach keys: its parent is gone by then.
    let leaving =
        ["exec", "-it", &name, "sh", "-c", "echo up; until test -e /left; do sleep 0.1; done; exit 9"];
    let mut terminal = OnTerminal::start(t.cmd(leaving));
    terminal.expect("up");
    terminal.keys("\u{10}\u{11}");
    assert_eq!(terminal.ended(), 0);
    t.ok(["exec", &name, "touch", "/left"]);
    ends("9");
    let out = t.rbox(["exec", "-d", &name, "/no/such"]);
    out.refused(1, &["no such file"]);
    t.ok(["pause", &name]);
    t.rbox(["exec", "-d", &name, "true"]).refused(1, &["is paused"]);
    t.ok(["unpause", &name]);
    // The container ends before it.
    t.ok(["exec", "-d", &name, "sleep", "1000"]);
    t.ok(["rm", "-f", &name]);
    ends("137");
}

#[test]
fn networks_without_places() {
    let Some(t) = Test::start() else { return };
    for (network, driver) in [("host", "host"), ("none", "null")] {
        let begin = now();
        t.ok(["run", "--rm", "--network", network, BUSYBOX, "true"]);
        let seen = happened(&t, &begin);
        let of = |action: &str| seen.iter().find(|one| one.short() == action).unwrap();
        for action in ["network connect", "network disconnect"] {
            let (one, container) = (of(action), of("container start").id().to_owned());
            assert_eq!((one.attribute("name"), one.attribute("type")), (network, driver));
            assert_eq!((one.attribute("container"), one.id().len()), (&*container, 64));
        }
        let wanted = ["create", "attach", "connect", "start", "disconnect", "die 0", "destroy"];
        let actions: Vec<String> =
            short(&seen).iter().map(|text| text.split_once(' ').unwrap().1.to_owned()).collect();
        assert_eq!(actions, wanted);
    }
}

#[test]
fn files_and_images_of_a_container() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("web"), t.dir("files"));
    let host = |file: &str| dir.join(file).display().to_string();
    t.ok(["create", "--name", &name, BUSYBOX]);
    let begin = now();
    t.ok(["export", "-o", &host("web.tar"), &name]);
    t.ok(["cp", &host("web.tar"), &format!("{name}:/tmp")]);
    t.ok(["cp", &format!("{name}:/tmp/web.tar"), &host("back.tar")]);
    t.rbox(["cp", &format!("{name}:/absent"), &host("x")]).code(1);
    let tag = t.name("made");
    let id = t.ok(["commit", "-m", "with files", &name, &tag]);
    let unnamed = t.ok(["commit", &name]);
    let up = t.sleeper(&t.name("up"), []);
    let of_up = [t.ok(["commit", &up]), t.ok(["commit", "--pause=0", &up])];
    t.ok(["rmi", &tag]);
    t.rbox(["rmi", &unnamed]).code(0);
    let seen = happened(&t, &begin);
    for image in &of_up {
        t.ok(["rmi", image]);
    }
    let wanted = [
        "container export",
        "container extract-to-dir",
        "container archive-path",
        "image create",
        "image tag",
        "container commit",
        "image create",
        "container commit",
        "container create",
        "network connect",
        "container start",
        // Of one that runs it is paused, unless it is not to be.
        "container pause",
        "container unpause",
        "image create",
        "container commit",
        "image create",
        "container commit",
    ];
    assert_eq!(short(&seen)[..wanted.len()], wanted);
    let own = |event: &Seen| ["imageID", "imageRef", "comment"].map(|key| event.attribute(key).to_owned());
    assert_eq!((seen[3].attribute("name"), seen[3].id()), (id.as_str(), id.as_str()));
    assert_eq!(own(&seen[5]), [id, format!("{tag}:latest"), "with files".to_owned()]);
    assert_eq!(own(&seen[7]), [unnamed, String::new(), String::new()]);
}
