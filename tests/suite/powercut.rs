//! What a command promised is there after a power cut, and what was cut off stands in nobody's way.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::crash::{Random, kill9};
use crate::harness::{BUSYBOX, Disk, OwnRoots, Test, poll, rounds};

/// How often the power is cut: `RBOX_TEST_CUTS`, else a few times.
fn cuts() -> usize {
    std::env::var("RBOX_TEST_CUTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| (rounds(100) / 8).max(3))
}

/// A host, which may lose its power.
struct Host<'a> {
    own: &'a OwnRoots,
}

/// What a command promised when it came back: the outputs of other commands from then on.
struct Promise {
    told: String,
    /// The thing that it is about, by its name.
    of: String,
    says: Vec<(Vec<String>, String)>,
}

impl Promise {
    fn new(told: &str, of: &str) -> Self {
        Self { told: told.into(), of: of.into(), says: Vec::new() }
    }

    fn says(mut self, args: &[&str], output: &str) -> Self {
        self.says.push((args.iter().map(|&arg| arg.to_owned()).collect(), output.to_owned()));
        self
    }

    fn is_kept(&self, host: &Host<'_>) {
        for (args, output) in &self.says {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let out = host.own.run(&args);
            let same = out.code == 0 && out.stdout.trim_end_matches('\n') == output;
            assert!(same, "{} of {} promised {output:?}; {args:?}: {out:?}", self.told, self.of);
        }
    }
}

const SLEEP: [&str; 4] = [BUSYBOX, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"];

impl Host<'_> {
    fn ok(&self, args: &[&str]) -> String {
        self.own.run(args).ok()
    }

    fn said(&self, of: &str, format: &str) -> String {
        self.ok(&["inspect", "-f", format, of])
    }

    fn run(&self, name: &str, policy: &str) -> String {
        let mut args = vec!["run", "-d", "--network", "none", "--restart", policy, "--name", name];
        args.extend(SLEEP);
        self.ok(&args)
    }

    fn create(&self, name: &str) -> String {
        self.ok(&["create", "--name", name, BUSYBOX, "true"])
    }

    /// An image of its own, of one small file.
    fn import(&self, name: &str) -> String {
        let (dir, tar) = (self.own.dir.join(name), self.own.dir.join(format!("{name}.tar")));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("name"), name).unwrap();
        let made = Command::new("tar").arg("-C").arg(&dir).arg("-cf").arg(&tar).arg(".").status();
        assert!(made.unwrap().success());
        let id = self.ok(&["import", tar.to_str().unwrap(), name]);
        std::fs::remove_file(tar).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        id
    }

    /// Does one of the things that are promised to last, about a new thing of this name. Others that it needs are called
    /// `NAME-…`.
    fn promise(&self, kind: usize, name: &str) -> Promise {
        let inspect = |format: &'static str| ["inspect", "-f", format, name];
        let image = ["image", "inspect", "-f", "{{.Id}}", name];
        match kind % KINDS {
            0 => {
                self.ok(&["volume", "create", "--label", "a=b", name]);
                Promise::new("volume create", name)
                    .says(&["volume", "inspect", "-f", "{{.Labels.a}}", name], "b")
            }
            1 => {
                let id =
                    self.ok(&["create", "--name", name, "-v", "data:/data", "-e", "A=b", BUSYBOX, "true"]);
                Promise::new("create", name)
                    .says(&inspect("{{.Id}} {{.State.Status}} {{len .Mounts}}"), &format!("{id} created 1"))
            }
            2 => {
                let id = self.run(name, "always");
                Promise::new("run -d", name).says(
                    &inspect(
                        "{{.Id}} {{.State.Status}} {{.State.ExitCode}} {{.HostConfig.RestartPolicy.Name}}",
                    ),
                    &format!("{id} exited 255 always"),
                )
            }
            3 => {
                let former = format!("{name}-old");
                let id = self.create(&former);
                self.ok(&["rename", &former, name]);
                Promise::new("rename", name)
                    .says(&inspect("{{.Name}} {{.Id}}"), &format!("/{name} {id}"))
                    .says(&["ps", "-aq", "--filter", &format!("name=^{former}$")], "")
            }
            4 => {
                self.create(name);
                self.ok(&["update", "--restart", "unless-stopped", name]);
                Promise::new("update", name)
                    .says(&inspect("{{.HostConfig.RestartPolicy.Name}}"), "unless-stopped")
            }
            5 => {
                self.run(name, "unless-stopped");
                let listens =
                    || self.ok(&["exec", name, "grep", "SigCgt", "/proc/1/status"]).ends_with("4002");
                poll(Duration::from_secs(2), listens);
                self.ok(&["stop", "-t", "5", name]);
                let end = self.said(name, "{{.State.ExitCode}} {{.State.FinishedAt}}");
                Promise::new("stop", name).says(&inspect("{{.State.ExitCode}} {{.State.FinishedAt}}"), &end)
            }
            6 => {
                let id = self.ok(&["network", "create", name]);
                Promise::new("network create", name)
                    .says(&["network", "inspect", "-f", "{{.Name}} {{.Id}}", name], &format!("{name} {id}"))
            }
            7 => {
                self.create(name);
                self.ok(&["start", name]);
                Promise::new("start", name).says(&inspect("{{.State.Status}}"), "exited")
            }
            8 => Promise::new("import", name).says(&image, &self.import(name)),
            9 => {
                let id = self.ok(&["image", "inspect", "-f", "{{.Id}}", BUSYBOX]);
                self.ok(&["tag", BUSYBOX, name]);
                Promise::new("tag", name).says(&image, &id)
            }
            other => self.promise_more(other, name),
        }
    }

    /// Those that stand on things of other promises.
    fn promise_more(&self, kind: usize, name: &str) -> Promise {
        let inspect = |format: &'static str| ["inspect", "-f", format, name];
        let image = ["image", "inspect", "-f", "{{.Id}}", name];
        match kind {
            10 => {
                let tar = self.own.dir.join(format!("{name}-saved.tar"));
                let id = self.import(name);
                self.ok(&["save", "-o", tar.to_str().unwrap(), name]);
                self.ok(&["rmi", name]);
                self.ok(&["load", "-q", "-i", tar.to_str().unwrap()]);
                std::fs::remove_file(tar).unwrap();
                Promise::new("load", name).says(&image, &id)
            }
            PULL => {
                self.own.run(&["rmi", PULLED]);
                self.ok(&["pull", "-q", PULLED]);
                let id = self.ok(&["image", "inspect", "-f", "{{.Id}}", PULLED]);
                // Its name is no new one.
                Promise::new("pull", PULLED).says(&["image", "inspect", "-f", "{{.Id}}", PULLED], &id)
            }
            12 => {
                let network = format!("{name}-net");
                self.ok(&["network", "create", &network]);
                self.create(name);
                self.ok(&["network", "connect", &network, name]);
                Promise::new("network connect", name).says(&inspect("{{len .NetworkSettings.Networks}}"), "2")
            }
            13 => {
                self.create(name);
                self.ok(&["network", "disconnect", "bridge", name]);
                Promise::new("network disconnect", name)
                    .says(&inspect("{{len .NetworkSettings.Networks}}"), "0")
            }
            14 => {
                self.create(name);
                self.ok(&["port", "add", name, "18999:80"]);
                Promise::new("port add", name).says(&inspect("{{len .HostConfig.PortBindings}}"), "1")
            }
            15 => {
                self.create(name);
                self.ok(&["mount", "add", name, "data:/data"]);
                Promise::new("mount add", name).says(&inspect("{{len .Mounts}}"), "1")
            }
            16 => {
                self.run(name, "no");
                self.ok(&["restart", "-t", "0", name]);
                Promise::new("restart", name)
                    .says(&inspect("{{.State.Status}} {{.State.ExitCode}}"), "exited 255")
            }
            17 => {
                self.create(name);
                let id = self.ok(&["commit", name, name]);
                Promise::new("commit", name).says(&image, &id)
            }
            18 => {
                let dir = self.own.dir.join(name);
                std::fs::create_dir_all(&dir).unwrap();
                let steps = format!("FROM {BUSYBOX}\nRUN echo {name} > /name\n");
                std::fs::write(dir.join("Dockerfile"), steps).unwrap();
                let id = self.ok(&["build", "-q", "--network", "none", "-t", name, dir.to_str().unwrap()]);
                std::fs::remove_dir_all(dir).unwrap();
                Promise::new("build", name).says(&image, &id)
            }
            19 => {
                let (dir, tar) = (self.own.dir.join(name), self.own.dir.join(format!("{name}.tar")));
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join("name"), name).unwrap();
                let made = Command::new("tar").arg("-C").arg(&dir).arg("-cf").arg(&tar).arg(".").status();
                assert!(made.unwrap().success());
                self.ok(&["volume", "import", name, tar.to_str().unwrap()]);
                std::fs::remove_file(tar).unwrap();
                std::fs::remove_dir_all(dir).unwrap();
                let mount = format!("{name}:/v");
                let show = ["run", "--rm", "--network", "none", "-v", &mount, BUSYBOX, "cat", "/v/name"];
                Promise::new("volume import", name).says(&show, name)
            }
            _ => {
                // Its code was told to whoever ran it, and is not promised to be found again: that it has ended is.
                let args =
                    ["run", "--network", "none", "--name", name, BUSYBOX, "sh", "-c", "touch /made; exit 3"];
                self.own.run(&args).code(3);
                Promise::new("run", name).says(&inspect("{{.State.Status}}"), "exited")
            }
        }
    }

    /// Takes away whatever has this name.
    fn remove(&self, name: &str) {
        for args in [
            &["rm", "-f", "-v", name][..],
            &["volume", "rm", name],
            &["network", "rm", name],
            &["network", "rm", &format!("{name}-net")],
            &["rmi", name],
            &["rm", "-f", "-v", &format!("{name}-b")],
            &["rm", "-f", "-v", &format!("{name}-a-1")],
            &["volume", "rm", &format!("{name}-b")],
        ] {
            self.own.run(args);
        }
    }

    /// Nothing that was cut off keeps a command from its work.
    fn works(&self, told: &str) {
        let lines: [&[&str]; 11] = [
            &["ps", "-a"],
            &["images"],
            &["volume", "ls"],
            &["network", "ls"],
            &["system", "df"],
            &["volume", "create", "probe"],
            &["create", "--name", "probe", "-v", "probe:/v", BUSYBOX, "true"],
            &["rm", "probe"],
            &["volume", "rm", "probe"],
            &["run", "--rm", "--network", "none", BUSYBOX, "true"],
            &["image", "prune", "-f"],
        ];
        // A removal is no promise: the one of the last time may have come back.
        self.own.run(&["rm", "-f", "probe"]);
        for args in lines {
            let out = self.own.run(args);
            assert!(out.code == 0, "after {told}: {args:?}: {out:?}");
        }
    }
}

/// How many things are promised to last.
const KINDS: usize = 21;
/// The one of them whose thing has always the same name.
const PULL: usize = 11;
const PULLED: &str = "rbox/whiteouts";

/// The power goes, all processes with it, and the host comes up again with an empty state directory.
fn crash(disk: &Disk, own: &OwnRoots) {
    disk.cut();
    let live = own.state.join("containers");
    for entry in std::fs::read_dir(&live).into_iter().flatten().flatten() {
        let text = std::fs::read(entry.path().join("state.json")).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        for of in ["monitor", "pid"] {
            if let Some(pid) = state[of].as_i64().filter(|pid| *pid > 1) {
                kill9(pid as i32);
            }
        }
        let id = entry.file_name().to_string_lossy().into_owned();
        assert!(poll(Duration::from_secs(20), || remove_groups(&id)), "the groups of {id}");
    }
    std::fs::remove_dir_all(&own.state).unwrap();
    disk.boot();
}

/// Removes a container's control groups: a machine that fell down has none.
fn remove_groups(id: &str) -> bool {
    fn walk(dir: &Path, id: &str, depth: usize) -> bool {
        let mut gone = true;
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_str() == Some(id) {
                gone &= std::fs::remove_dir(&path).is_ok();
            } else if depth < 5 && entry.file_type().is_ok_and(|t| t.is_dir()) {
                gone &= walk(&path, id, depth + 1);
            }
        }
        gone
    }
    walk(Path::new("/sys/fs/cgroup"), id, 0)
}

/// A name for the n-th thing that is not the beginning of an id as well: `rm -f` of a name that is free takes it for that.
fn thing(n: usize) -> String {
    format!("thing{n}")
}

/// What has to be there for a command to work on.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    Created,
    Running,
    Image,
    Volume,
    Network,
    /// A container, and a network that it is not on.
    Apart,
}

/// Every command that writes, and what it works on, which is called NAME. DIR has an archive, a saved image, a Dockerfile, a compose file.
const WRITERS: [(Before, &str); 47] = [
    (Before::Nothing, "run --network none --name NAME BUSYBOX true"),
    (Before::Nothing, "run --rm --network none --name NAME BUSYBOX true"),
    (Before::Nothing, "run -d --network none --name NAME BUSYBOX sleep 100"),
    (Before::Nothing, "create --name NAME -v /a BUSYBOX true"),
    (Before::Created, "start NAME"),
    (Before::Running, "stop -t 0 NAME"),
    (Before::Running, "restart -t 0 NAME"),
    (Before::Running, "kill NAME"),
    (Before::Running, "pause NAME"),
    (Before::Running, "exec NAME touch /made"),
    (Before::Running, "logs --clear NAME"),
    (Before::Created, "rename NAME NAME-b"),
    (Before::Nothing, "rename keep kept"),
    (Before::Nothing, "update --restart always keep"),
    (Before::Created, "rm -v NAME"),
    (Before::Running, "rm -f NAME"),
    (Before::Created, "cp DIR/Dockerfile NAME:/made"),
    (Before::Created, "port add NAME 18999:80"),
    (Before::Created, "port rm NAME 18998:80"),
    (Before::Created, "mount add NAME data:/data"),
    (Before::Created, "mount rm NAME /a"),
    (Before::Created, "container prune -f --filter label=cut"),
    (Before::Nothing, "volume create NAME"),
    (Before::Volume, "volume rm NAME"),
    (Before::Volume, "volume rename NAME NAME-b"),
    (Before::Volume, "volume clone NAME NAME-b"),
    (Before::Nothing, "volume import NAME DIR/tree.tar"),
    (Before::Created, "volume prune -f"),
    (Before::Nothing, "network create NAME"),
    (Before::Network, "network rm NAME"),
    (Before::Apart, "network connect NAME-net NAME"),
    (Before::Created, "network disconnect bridge NAME"),
    (Before::Network, "network prune -f"),
    (Before::Nothing, "pull -q PULLED"),
    (Before::Nothing, "import DIR/tree.tar NAME"),
    (Before::Nothing, "load -q -i DIR/image.tar"),
    (Before::Nothing, "tag BUSYBOX NAME"),
    (Before::Image, "rmi NAME"),
    (Before::Nothing, "image prune -f"),
    (Before::Nothing, "commit keep NAME"),
    (Before::Nothing, "build -q --no-cache --network none -t NAME DIR"),
    (Before::Nothing, "builder prune -f"),
    (Before::Nothing, "compose -p NAME -f DIR/compose.yaml up -d"),
    (Before::Running, "compose -p NAME -f DIR/compose.yaml down"),
    (Before::Nothing, "system prune -f --filter label=cut"),
    (Before::Created, "system check --repair"),
    (Before::Running, "system boot"),
];

impl Host<'_> {
    /// The directory of what commands read.
    fn inputs(&self) -> std::path::PathBuf {
        self.own.dir.join("inputs")
    }

    fn make_inputs(&self) {
        let dir = self.inputs();
        std::fs::create_dir_all(dir.join("tree")).unwrap();
        std::fs::write(dir.join("tree/name"), "x").unwrap();
        let made = Command::new("tar")
            .arg("-C")
            .arg(dir.join("tree"))
            .arg("-cf")
            .arg(dir.join("tree.tar"))
            .arg(".")
            .status();
        assert!(made.unwrap().success());
        let image = dir.join("image.tar");
        self.ok(&["save", "-o", image.to_str().unwrap(), BUSYBOX]);
        std::fs::write(dir.join("Dockerfile"), format!("FROM {BUSYBOX}\nRUN echo x > /made\n")).unwrap();
        let service =
            format!("services:\n  a: {{image: {BUSYBOX}, network_mode: none, command: sleep 100}}\n");
        std::fs::write(dir.join("compose.yaml"), service).unwrap();
    }

    /// Makes what the writer whose turn it is works on; its command line.
    fn make_ready(&self, turn: usize, name: &str) -> String {
        let (before, line) = WRITERS[turn % WRITERS.len()];
        match before {
            Before::Nothing => {}
            Before::Created => {
                let port = ["-p", "18998:80", "--label", "cut"];
                let args = ["create", "--name", name, "-v", "/a", BUSYBOX, "true"];
                self.ok(&[&args[..3], &port, &args[3..]].concat());
            }
            Before::Running => drop(self.run(name, "no")),
            Before::Image => drop(self.import(name)),
            Before::Volume => drop(self.ok(&["volume", "create", name])),
            Before::Network => drop(self.ok(&["network", "create", name])),
            Before::Apart => {
                self.ok(&["network", "create", &format!("{name}-net")]);
                self.create(name);
            }
        }
        let line = line.replace("BUSYBOX", BUSYBOX).replace("PULLED", PULLED).replace("NAME", name);
        line.replace("DIR", self.inputs().to_str().unwrap())
    }
}

/// Cuts the power while a command is at work: each in its turn.
fn in_between(disk: &Disk, host: &Host<'_>, random: &mut Random, n: usize, turn: usize) -> String {
    let name = thing(n);
    let line = host.make_ready(turn, &name);
    let args: Vec<&str> = line.split(' ').collect();
    host.own.run(&["rmi", PULLED]);
    let running = host.own.cmd(&args).spawn();
    std::thread::sleep(Duration::from_micros(random.below(25_000)));
    disk.cut();
    running.finish(Duration::from_secs(30));
    crash(disk, host.own);
    // The one that is there all the time has its old state or its new one.
    let keep = host.own.run(&["rename", "kept", "keep"]);
    if keep.code != 0 {
        let found = host.own.run(&["inspect", "keep"]);
        assert!(found.code == 0, "after {args:?}: {keep:?}, {found:?}");
    }
    let policy = host.said("keep", "{{.HostConfig.RestartPolicy.Name}}");
    assert!(["always", "no"].contains(&policy.as_str()), "{policy}");
    host.works(&args.join(" "));
    host.remove(&name);
    args.join(" ")
}

/// Otherwise it would be no command of ours that is cut off.
#[test]
fn each_writer_works_where_nothing_is_cut() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "writers", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["create", "--name", "keep", BUSYBOX, "true"]).ok();
    let host = Host { own: &own };
    host.make_inputs();
    for turn in 0..WRITERS.len() {
        let name = thing(turn);
        let line = host.make_ready(turn, &name);
        own.run(&line.split(' ').collect::<Vec<_>>()).ok();
        own.run(&["rename", "kept", "keep"]);
        host.remove(&name);
    }
}

#[test]
fn promises_are_kept_and_the_rest_is_in_nobodys_way() {
    let Some(t) = Test::start() else { return };
    let Some(disk) = Disk::new(&t, "disk", 128, &[]) else { return };
    let mut own = OwnRoots::new(&t, "host", &t.suite.registry);
    own.root = disk.at.join("root");
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["create", "--name", "keep", BUSYBOX, "true"]).ok();
    let mut random = Random::new();
    let host = Host { own: &own };
    host.make_inputs();
    let first = random.below(KINDS as u64) as usize;
    let begin = random.below(WRITERS.len() as u64) as usize;
    let mut counts = BTreeMap::<String, u32>::new();
    for n in 0..cuts() {
        let told = if n % 3 == 2 {
            format!("during {}", in_between(&disk, &host, &mut random, n, begin + n / 3))
        } else {
            let name = thing(n);
            let promise = host.promise(first + n - n / 3, &name);
            crash(&disk, &own);
            promise.is_kept(&host);
            if promise.told == "stop" {
                assert_eq!(host.ok(&["system", "boot"]), "", "it was stopped");
            }
            host.remove(&name);
            host.works(&promise.told);
            format!("after {}", promise.told)
        };
        *counts.entry(told.split(" --").next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    println!("the power was cut: {counts:#?}");
    drop(own);
}

/// The beginning of the lines by which a machine that is going to be killed tells what it was promised.
const TOLD: &str = "rbox-promise ";

/// A line on the machine's console. What stands there has been seen outside when this is back.
fn tell(line: &serde_json::Value) {
    let mut console = std::fs::OpenOptions::new().write(true).open("/dev/console").unwrap();
    console.write_all(format!("\n{TOLD}{line}\n").as_bytes()).unwrap();
    rustix::termios::tcdrain(&console).unwrap();
}

/// The promises that hold by the lines of all boots before: the last of each thing, but of those that were being changed.
fn remembered(lines: &str) -> BTreeMap<String, Promise> {
    let mut all = BTreeMap::new();
    for line in lines.lines().filter_map(|line| line.strip_prefix(TOLD)) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |of: &serde_json::Value| of.as_str().unwrap_or_default().to_owned();
        let texts = |of: &serde_json::Value| of.as_array().into_iter().flatten().map(text).collect();
        let Some(of) = line["of"].as_str() else { continue };
        let says = line["says"].as_array().into_iter().flatten();
        let says: Vec<_> = says.map(|pair| (texts(&pair[0]), text(&pair[1]))).collect();
        if says.is_empty() {
            all.remove(of);
        } else {
            all.insert(of.to_owned(), Promise { told: text(&line["told"]), of: of.to_owned(), says });
        }
    }
    all
}

/// One boot of a machine whose disk outlives it (`vm-test/powercut`): what it was promised before it was killed has to be there; then it
/// is promised more, until it is killed again.
#[test]
#[ignore = "vm-test/powercut runs it, in a machine that is killed"]
fn a_machine_that_is_killed() {
    let Some(lines) = std::env::var_os("RBOX_TEST_PROMISES") else { return };
    let lines = std::fs::read_to_string(lines).unwrap();
    let dir = Path::new("/var/tmp/host");
    std::fs::create_dir_all(dir).unwrap();
    let mut own = OwnRoots::at(dir.to_owned(), &std::env::var("RBOX_TEST_REGISTRY").unwrap());
    own.state = "/run/host".into();
    let host = Host { own: &own };
    let mut kept = remembered(&lines);
    for promise in kept.values() {
        promise.is_kept(&host);
    }
    if !kept.contains_key(BUSYBOX) {
        host.ok(&["pull", "-q", BUSYBOX]);
        tell(
            &serde_json::json!({"of": BUSYBOX, "told": "pull", "says": [[["images", "--format", "{{.Repository}}", BUSYBOX], BUSYBOX]]}),
        );
    }
    host.works("the machine was killed");
    println!("{} promises were kept", kept.len());
    tell(&serde_json::json!({"kept": kept.len()}));
    if lines.contains("rbox-last") {
        for name in kept.keys() {
            host.remove(name);
        }
        host.ok(&["volume", "prune", "-a", "-f"]);
        host.ok(&["container", "prune", "-f"]);
        return;
    }
    let mut random = Random::new();
    let boot = lines.matches("\"kept\"").count();
    for n in 0.. {
        let name = format!("c{boot}-{n}");
        if n % 4 == 3
            && let Some(old) = kept.keys().nth(random.below(kept.len() as u64) as usize).cloned()
            && old != BUSYBOX
        {
            tell(&serde_json::json!({"of": old, "told": "removed"}));
            host.remove(&old);
            kept.remove(&old);
            continue;
        }
        let kind = random.below(KINDS as u64) as usize;
        if kind == PULL {
            tell(&serde_json::json!({"of": PULLED, "told": "pulled again"}));
        }
        let promise = host.promise(kind, &name);
        tell(&serde_json::json!({"of": promise.of, "told": promise.told, "says": promise.says}));
        kept.insert(promise.of.clone(), promise);
    }
}
