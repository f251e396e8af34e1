//! What every test stands on: one pair of roots and one image store for the whole run, a registry, and a check after
//! each test that the host is as it was.

mod command;
mod disk;
mod host;
mod peer;
mod project;
mod pty;
pub(crate) mod registry;
mod tmux;

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use command::{Cmd, Output, RAW};
pub(crate) use disk::Disk;
pub(crate) use host::Left;
pub(crate) use peer::Peer;
pub(crate) use project::Project;
pub(crate) use pty::OnTerminal;
pub(crate) use tmux::Tmux;

use serde_json::Value;

/// The images most tests use.
pub(crate) const PYTHON: &str = "python:3.11-slim";
pub(crate) const BUSYBOX: &str = "busybox";

/// The whole run's surroundings. The janitor takes them away when this process ends, however it ends.
pub(crate) struct Suite {
    pub(crate) root: PathBuf,
    pub(crate) state: PathBuf,
    /// Scratch space of the run, for files that tests hand to rbox.
    pub(crate) scratch: PathBuf,
    /// `127.0.0.1:<port>`, or `[::1]:<port>` on a machine without IPv4.
    pub(crate) registry: String,
    pub(crate) registries: PathBuf,
    /// Its standard input closes with this process: that is the janitor's signal.
    _janitor: Mutex<Child>,
}

static SUITE: OnceLock<Result<Suite, String>> = OnceLock::new();
/// Tests run one at a time: each compares the host before with the host after.
static TURN: Mutex<()> = Mutex::new(());

/// The source tree, or in a virtual machine the part of it that the suite needs.
pub(crate) fn project() -> PathBuf {
    std::env::var_os("RBOX_TEST_PROJECT")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// A time limit as this machine needs it: an emulated one is slower by `RBOX_TEST_PATIENCE`.
pub(crate) fn patience(limit: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    limit
        * *FACTOR.get_or_init(|| {
            std::env::var("RBOX_TEST_PATIENCE").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
        })
}

/// How many, where a test wants `full`: an emulated machine has `RBOX_TEST_ROUNDS` per cent of it, but ten.
pub(crate) fn rounds(full: usize) -> usize {
    let percent = std::env::var("RBOX_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    (full * percent / 100).max(10)
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("RBOX_BINARY").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_rbox")), PathBuf::from)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// Says on standard output, and in the file that `tests/run` counts, that something was not tried.
pub(crate) fn skipped(why: &str) {
    println!("skipped: {why}");
    if let Some(path) = std::env::var_os("RBOX_TEST_SKIPPED") {
        let line = format!("{}: {why}\n", std::thread::current().name().unwrap_or("?"));
        if let Ok(mut file) = fs::OpenOptions::new().append(true).create(true).open(path) {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

/// Whether `program` is on PATH.
pub(crate) fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(program).is_file()))
}

impl Suite {
    fn start() -> Result<Self, String> {
        let pid = std::process::id();
        let base = std::env::var("RBOX_TEST_DIR").unwrap_or_else(|_| "/var/tmp".into());
        let root = PathBuf::from(format!("{base}/rbox-test-{pid}"));
        // Short: a Unix socket's path has 107 bytes, and 64 of them are a container's id.
        let state = PathBuf::from(format!("/run/rbt-{pid}"));
        let scratch = PathBuf::from(format!("{base}/rbox-test-{pid}-scratch"));
        // Before anything is made: this may fail, and the janitor is not there yet.
        let (registry, registry_pid) = match std::env::var("RBOX_TEST_REGISTRY") {
            Ok(address) => (address, String::new()),
            Err(_) => start_registry()?,
        };
        for dir in [&root, &state, &scratch] {
            fs::create_dir_all(dir).map_err(|e| format!("create {}: {e}", dir.display()))?;
        }
        let janitor = Command::new("bash")
            .arg(project().join("tests/janitor"))
            .args([&binary(), &root, &state, &scratch])
            .arg(&registry_pid)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| format!("start tests/janitor: {e}"))?;
        let registries = scratch.join("registries.json");
        write_registries(&registries, &registry)?;
        let suite = Self { root, state, scratch, registry, registries, _janitor: Mutex::new(janitor) };
        for image in [PYTHON, BUSYBOX] {
            let out = suite.rbox(["pull", image]).run();
            if out.code != 0 {
                return Err(format!(
                    "pull {image} before the first test: exit {}\n{}{}",
                    out.code, out.stdout, out.stderr
                ));
            }
        }
        Ok(suite)
    }

    /// The binary with this run's roots.
    pub(crate) fn rbox<I, S>(&self, args: I) -> Cmd
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        self.with_roots(Cmd::new(binary(), args))
    }

    pub(crate) fn with_roots(&self, command: Cmd) -> Cmd {
        command
            .env("RBOX_ROOT", &self.root)
            .env("RBOX_STATE", &self.state)
            .env("RBOX_REGISTRIES", &self.registries)
            .env("HOME", &self.scratch)
    }

    /// The registry's address for skopeo, which reads no IPv6 address in a reference.
    pub(crate) fn registry_for_skopeo(&self) -> String {
        match self.registry.strip_prefix("[::1]") {
            Some(port) => format!("localhost{port}"),
            None => self.registry.clone(),
        }
    }

    /// What bridge and firewall table of this pair of roots are called: made from the state directory's path, as
    /// rbox-network does it.
    pub(crate) fn bridge_name(&self) -> String {
        bridge_name(&self.state)
    }

    /// This pair of roots' bridge, as /sys names it.
    pub(crate) fn bridge(&self) -> Option<String> {
        Some(self.bridge_name()).filter(|b| Path::new("/sys/class/net").join(b).exists())
    }
}

/// What bridge and firewall table of the rbox with this state directory are called.
pub(crate) fn bridge_name(state: &Path) -> String {
    let hash = state.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("rbox-{:06x}", (hash ^ (hash >> 32)) & 0x00ff_ffff)
}

/// A pair of roots of a test's own, in its scratch directory. Reset when dropped, also by a test that fails.
pub(crate) struct OwnRoots {
    pub(crate) dir: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) registries: PathBuf,
}

impl OwnRoots {
    /// Empty ones, whose docker.io is the registry at `registry`.
    pub(crate) fn new(t: &Test, what: &str, registry: &str) -> Self {
        Self::at(t.dir(what), registry)
    }

    /// The same in a directory that is there, with what is in it.
    pub(crate) fn at(dir: PathBuf, registry: &str) -> Self {
        let (root, state, registries) = (dir.join("root"), dir.join("state"), dir.join("registries.json"));
        write_registries(&registries, registry).unwrap();
        Self { dir, root, state, registries }
    }

    /// A command with these roots.
    pub(crate) fn cmd(&self, args: &[&str]) -> Cmd {
        self.other(binary(), args)
    }

    /// Another program, with these roots for the rbox that it may call.
    pub(crate) fn other(&self, program: impl AsRef<Path>, args: &[&str]) -> Cmd {
        Cmd::new(program, args)
            .env("RBOX_ROOT", &self.root)
            .env("RBOX_STATE", &self.state)
            .env("RBOX_REGISTRIES", &self.registries)
            .env("HOME", &self.dir)
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.cmd(args).run()
    }

    /// Another program, with these roots for the rbox that it may call.
    pub(crate) fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("RBOX_ROOT", &self.root)
            .env("RBOX_STATE", &self.state)
            .env("RBOX_REGISTRIES", &self.registries)
            .env("HOME", &self.dir);
        command
    }
}

impl Drop for OwnRoots {
    fn drop(&mut self) {
        let out = self.run(&["system", "reset", "--force"]);
        assert!(out.code == 0 || std::thread::panicking(), "system reset: {out:?}");
    }
}

/// Registry configuration whose docker.io is the registry at `address`.
pub(crate) fn write_registries(path: &Path, address: &str) -> Result<(), String> {
    let config = serde_json::json!({
        "registries": { "docker.io": { "mirrors": [format!("http://{address}")] } }
    });
    fs::write(path, config.to_string()).map_err(|e| format!("write {}: {e}", path.display()))
}

/// Starts a registry with the fixtures. Returns its address and its process id.
fn start_registry() -> Result<(String, String), String> {
    let run = |script: &str, args: &[&str]| -> Result<String, String> {
        let out = Command::new("bash")
            .arg(project().join("rootfs-fixtures").join(script))
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| format!("rootfs-fixtures/{script}: {e}"))?;
        if !out.status.success() {
            return Err(format!("rootfs-fixtures/{script}: {}", out.status));
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let built = run("build", &[])?;
    let line = run("registry", &["start", &format!("{built}/registry")])?;
    let (port, pid) =
        line.split_once(' ').ok_or_else(|| format!("rootfs-fixtures/registry said `{line}`"))?;
    Ok((format!("127.0.0.1:{port}"), pid.to_owned()))
}

/// One test's hold on the suite. When dropped it removes the containers, volumes and networks that are left, and fails the test
/// if anything of them stays on the host.
pub(crate) struct Test {
    pub(crate) suite: &'static Suite,
    name: String,
    _turn: MutexGuard<'static, ()>,
}

impl Test {
    /// Takes the turn. None, having said why, when this host cannot run the suite.
    pub(crate) fn start() -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_root() {
            skipped("needs root");
            return None;
        }
        let suite = match SUITE.get_or_init(Suite::start) {
            Ok(suite) => suite,
            Err(why) => panic!("the suite could not be set up: {why}"),
        };
        host::remember_others();
        let name = std::thread::current().name().unwrap_or("test").replace("::", "-").replace('_', "-");
        Some(Self { suite, name, _turn: turn })
    }

    /// A container name of this test's own.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    /// A command, to be run or spawned.
    pub(crate) fn cmd<I, S>(&self, args: I) -> Cmd
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        self.suite.rbox(args)
    }

    /// Another program, with this run's roots for the rbox that it may call.
    pub(crate) fn program<const N: usize>(&self, program: &str, args: [&str; N]) -> Cmd {
        self.suite.with_roots(Cmd::new(program, args))
    }

    /// Runs to the end.
    pub(crate) fn rbox<const N: usize>(&self, args: [&str; N]) -> Output {
        self.cmd(args).run()
    }

    /// Runs to the end, which must be success; standard output without the last newline.
    pub(crate) fn ok<const N: usize>(&self, args: [&str; N]) -> String {
        self.cmd(args).run().ok()
    }

    /// `run --rm busybox sh -c SCRIPT`, which must succeed.
    pub(crate) fn sh(&self, script: &str) -> String {
        self.sh_with([], script)
    }

    /// The same with flags of `run`.
    pub(crate) fn sh_with<const N: usize>(&self, flags: [&str; N], script: &str) -> String {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([BUSYBOX, "sh", "-c", script]);
        self.cmd(args).run().ok()
    }

    /// A detached container that sleeps until it is told to end, and ends at once then. Returns its id.
    pub(crate) fn sleeper<const N: usize>(&self, name: &str, flags: [&str; N]) -> String {
        let mut args = vec!["run", "-d", "--name", name];
        args.extend(flags);
        args.extend([BUSYBOX, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]);
        let id = self.cmd(args).run().ok();
        self.listens(name);
        id
    }

    /// Waits until PID 1 of a container handles SIGTERM: as PID 1 it would ignore one that comes before.
    pub(crate) fn listens(&self, container: &str) {
        let status = format!("/proc/{}/status", self.pid(container));
        wait_until("PID 1 handles SIGTERM", || {
            let status = fields(&fs::read_to_string(&status).unwrap_or_default());
            status
                .get("SigCgt")
                .and_then(|set| u64::from_str_radix(set, 16).ok())
                .is_some_and(|set| set & (1 << 14) != 0)
        });
    }

    /// `inspect` of one object.
    pub(crate) fn inspect(&self, what: &str) -> Value {
        let text = self.ok(["inspect", what]);
        let all: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("inspect {what}: {e}\n{text}"));
        all[0].clone()
    }

    /// Whether `container` runs, by `inspect`.
    pub(crate) fn status(&self, container: &str) -> String {
        self.ok(["inspect", "--format", "{{.State.Status}}", container])
    }

    /// A scratch directory of this test's own, empty.
    pub(crate) fn dir(&self, what: &str) -> PathBuf {
        let path = self.suite.scratch.join(self.name(what));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// The first host process of a container.
    pub(crate) fn pid(&self, container: &str) -> i32 {
        let pid = self.inspect(container)["State"]["Pid"].as_i64().unwrap() as i32;
        assert!(pid > 1, "{container} has pid {pid}");
        pid
    }

    /// Fails unless the host gets back to bare: nothing of any container is left. Cleaning up goes on for a moment
    /// after an exit was reported, hence the patience.
    pub(crate) fn expect_nothing_left(&self) {
        let mut left = Left::default();
        let clean = poll(Duration::from_secs(15), || {
            left = Left::look(self.suite);
            left.is_empty()
        });
        assert!(clean, "left on the host after 15 s: {left:#?}");
    }

    /// Containers, volumes and networks.
    fn remove_all(&self) {
        let ids = self.rbox(["ps", "-aq", "--no-trunc"]).stdout;
        let mut args = vec!["rm", "-f", "-v"];
        args.extend(ids.split_whitespace());
        if args.len() > 3 {
            let _ = self.cmd(args).run();
        }
        let volumes = self.rbox(["volume", "ls", "-q"]).stdout;
        let mut args = vec!["volume", "rm"];
        args.extend(volumes.split_whitespace());
        if args.len() > 2 {
            let _ = self.cmd(args).run();
        }
        let networks = self.rbox(["network", "ls", "-q", "--filter", "type=custom"]).stdout;
        let mut args = vec!["network", "rm"];
        args.extend(networks.split_whitespace());
        if args.len() > 2 {
            let _ = self.cmd(args).run();
        }
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        self.remove_all();
        if std::thread::panicking() {
            // The next test must not fail for this one's sake, nor this one twice.
            if !poll(Duration::from_secs(5), || Left::look(self.suite).is_empty()) {
                host::take_away_by_hand(self.suite);
            }
        } else {
            self.expect_nothing_left();
        }
    }
}

/// Asks `question` again and again until it says yes (true) or the time is up (false): `limit` with [`patience`].
pub(crate) fn poll(limit: Duration, mut question: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience(limit);
    loop {
        if question() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `question` says yes; fails the test when it does not within 20 seconds.
#[track_caller]
pub(crate) fn wait_until(what: &str, question: impl FnMut() -> bool) {
    assert!(poll(Duration::from_secs(20), question), "not within 20 s: {what}");
}

/// What an address (`HOST:PORT` or `HOST:PORT/PATH`) answers to a request for that page, in JSON. None while something on the way does not answer.
pub(crate) fn page(address: &str) -> Option<Value> {
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(patience(Duration::from_secs(10)))).ok()?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: stack\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// `KEY: value` lines, as in /proc/PID/status.
pub(crate) fn fields(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|l| l.split_once(':'))
        .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
        .collect()
}
