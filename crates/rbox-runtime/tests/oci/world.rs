//! A directory of containers, a bundle to make them from, and the operations, each in a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct World {
    dir: TempDir,
    /// The config that the next `create` reads.
    pub(crate) config: Value,
    name: String,
}

impl World {
    /// None, after saying why, where it cannot be made.
    pub(crate) fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: not root");
            return None;
        }
        let Some(layer) = busybox() else {
            println!("skipped: there is no busybox image (rootfs-fixtures/build)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("bundle/rootfs");
        fs::create_dir_all(&rootfs).unwrap();
        let unpacked = Command::new("tar").arg("-xf").arg(layer).arg("-C").arg(&rootfs).status().unwrap();
        assert!(unpacked.success());
        let world =
            Self { dir, config: config(), name: format!("rbox-test-oci-{name}-{}", std::process::id()) };
        Some(world)
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.dir.path().join("containers")
    }

    fn command(&self, words: &[&str]) -> Command {
        let program = std::env::current_exe().unwrap();
        let program = program.parent().and_then(Path::parent).unwrap().join("examples/oci");
        assert!(program.exists(), "cargo test -p rbox-runtime builds the example oci; --test alone does not");
        let mut command = Command::new(program);
        command.arg("--root").arg(self.containers()).args(words).stdin(Stdio::null());
        command
    }

    /// One operation; its output when it worked, what it said when not.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String, String> {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        if status.success() {
            Ok(format!("{}{said}", String::from_utf8(stdout).unwrap()).trim().to_owned())
        } else {
            Err(said.trim().to_owned())
        }
    }

    pub(crate) fn ok(&self, words: &[&str]) -> String {
        self.run(words).unwrap_or_else(|said| panic!("{words:?}: {said}"))
    }

    pub(crate) fn fails(&self, words: &[&str], with: &str) {
        let said = self.run(words).unwrap_err();
        assert!(said.contains(with), "{words:?}: {said}, not {with}");
    }

    fn write_config(&mut self, id: &str) {
        self.config["linux"]["cgroupsPath"] = json!(self.group(id));
        fs::write(self.bundle().join("config.json"), self.config.to_string()).unwrap();
    }

    /// The pid of the process that waits.
    pub(crate) fn create(&mut self, id: &str) -> Result<i32, String> {
        self.write_config(id);
        let bundle = self.bundle();
        self.run(&["create", id, bundle.to_str().unwrap()]).map(|pid| pid.parse().unwrap())
    }

    /// A `create` that is not waited for.
    pub(crate) fn begin_to_create(&mut self, id: &str) -> Child {
        self.write_config(id);
        let bundle = self.bundle();
        self.command(&["create", id, bundle.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", id])).unwrap()
    }

    pub(crate) fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn waits_for(&self, id: &str, status: &str) {
        assert!(wait_until(|| self.status(id) == status), "{id} is {}", self.status(id));
    }

    pub(crate) fn group(&self, id: &str) -> String {
        format!("{}/{id}", self.name)
    }

    /// Control groups of this world, on every tree.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let trees = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let parents = trees.chain([PathBuf::from("/sys/fs/cgroup")]).map(|tree| tree.join(&self.name));
        parents.flat_map(|parent| directories(&parent)).collect()
    }

    /// Neither records nor groups.
    pub(crate) fn has_nothing(&self) {
        let records: Vec<_> = fs::read_dir(self.containers()).unwrap().flatten().collect();
        assert!(records.is_empty(), "{records:?}");
        assert!(self.groups().is_empty(), "{:?}", self.groups());
    }

    /// Sets the hooks of one kind: shell scripts, of the host or, for `startContainer`, of the container.
    pub(crate) fn hook(&mut self, kind: &str, script: &str) {
        let hook = json!({
            "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 20
        });
        self.config["hooks"][kind] = json!([hook]);
    }

    pub(crate) fn namespace(&mut self, kind: &str, path: Option<&str>) {
        let all = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        all.retain(|one| one["type"] != kind);
        all.push(match path {
            Some(path) => json!({"type": kind, "path": path}),
            None => json!({"type": kind}),
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.containers()).into_iter().flatten().flatten() {
            let id = entry.file_name().into_string().unwrap_or_default();
            let _ = self.run(&["delete", "--force", &id]);
        }
        for group in self.groups().iter().filter_map(|group| group.parent()) {
            let _ = fs::remove_dir(group);
        }
        for tree in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(tree.path().join(&self.name));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.name));
    }
}

fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

pub(crate) fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    done()
}

/// The one layer of the busybox image.
fn busybox() -> Option<PathBuf> {
    let given = std::env::var_os("RBOX_FIXTURES").map(PathBuf::from);
    let fixtures =
        given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fixtures"));
    let layout = fixtures.join("current/oci/busybox");
    let blob = |digest: &Value| {
        let digest = digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
        layout.join("blobs/sha256").join(digest)
    };
    let read = |path: PathBuf| -> Option<Value> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
    let manifest = read(blob(&read(layout.join("index.json"))?["manifests"][0]["digest"]))?;
    Some(blob(&manifest["layers"][0]["digest"]))
}

fn config() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", "echo ran; exec sleep 1000"],
            "env": ["PATH=/bin:/usr/bin"],
            "cwd": "/",
            "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "annotations": {"of": "the test"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "uts"},
                {"type": "ipc"}, {"type": "network"}, {"type": "cgroup"}
            ],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"]
        }
    })
}
