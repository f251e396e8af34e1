//! The embedded image: `hello`, made from rbox's own executable, so that a first run needs no registry.
//!
//! Its one layer holds a copy of this static binary under the name `/hello`; started by that name, it prints
//! what it sees from inside (`crates/rbox/guest/hello.rs`). Under the name `/sh` it is a small shell (`tools.rs` there), and under those
//! of [`TOOLS`] one tool of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;

use rbox_image::hash::sha256;
use rbox_image::store::Expected;
use rbox_image::{Image, ImageStore, StoreError};
use rbox_spec::Reference;
use serde_json::json;

use crate::error::EngineError;
use crate::record::container::{ContainerRecord, LiveState};

/// The name it is run by.
pub const NAME: &str = "hello";

/// Its programs beside `/hello` and `/sh`, each at `/NAME`.
pub const TOOLS: [&str; 14] = [
    "cat", "eat", "env", "get", "hostname", "id", "kill", "ls", "mounts", "net", "ps", "serve", "sleep",
    "write",
];

/// Whether a program was started by the name of a tool, as a container or `exec` does it: `ps`, `/ps`.
pub fn is_tool(started_as: &str) -> bool {
    TOOLS.contains(&started_as.strip_prefix('/').unwrap_or(started_as))
}

/// Whether `text` names the embedded image.
pub fn is_name(text: &str) -> bool {
    matches!(text, "hello" | "hello:latest" | "docker.io/library/hello:latest")
}

/// The embedded image, put into the store when it is not there or is another version's.
pub fn ensure(store: &ImageStore) -> Result<Image, EngineError> {
    let version = version()?;
    let known = store.find(NAME).map_err(EngineError::Image)?;
    if let Some(image) = known.filter(|image| image.config.config.labels.get(VERSION_LABEL) == Some(&version))
    {
        return Ok(image);
    }
    build(store, &version)
}

const VERSION_LABEL: &str = "org.opencontainers.image.version";

/// Tells one build of rbox from another: its version, size and time of writing.
fn version() -> Result<String, EngineError> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata("/proc/self/exe").map_err(EngineError::file("read", "/proc/self/exe"))?;
    Ok(format!("{}+{:x}.{:x}", env!("CARGO_PKG_VERSION"), meta.len(), meta.mtime()))
}

fn build(store: &ImageStore, version: &str) -> Result<Image, EngineError> {
    let failed = |source: StoreError| EngineError::Image(source);
    let transaction = store.transaction().map_err(failed)?;
    let layer = transaction.add_layer(layer()?, &Expected::default()).map_err(failed)?;
    let platform = rbox_spec::Platform::host();
    let created = jiff::Timestamp::now().to_string();
    let config = json!({
        "created": created,
        "architecture": platform.architecture,
        "os": "linux",
        "config": {
            "Cmd": ["/hello"],
            "Env": ["PATH=/"],
            "WorkingDir": "/",
            "Labels": { VERSION_LABEL: version, "org.opencontainers.image.title": "What a container sees of itself" },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer.diff_id.to_string()] },
        "history": [{ "created": created, "created_by": "rbox: a copy of its own executable as /hello" }],
    })
    .to_string();
    let digest = transaction.add_blob(config.as_bytes()).map_err(failed)?;
    debug_assert_eq!(digest, sha256(config.as_bytes()));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest.to_string(), "size": config.len(),
        },
        "layers": [layer.descriptor],
    })
    .to_string();
    let reference =
        Reference::parse(NAME).map_err(|e| EngineError::Invalid(e.to_string()))?.with_default_tag();
    transaction
        .register(manifest.as_bytes(), "application/vnd.oci.image.manifest.v1+json", &[reference], None)
        .map_err(failed)
}

/// A tar with the executable and the directories that mounts go on.
fn layer() -> Result<impl Read + Send, EngineError> {
    let exe = "/proc/self/exe";
    let mut bytes = Vec::new();
    File::open(exe)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(EngineError::file("read", exe))?;
    let mut tar = tar::Builder::new(Vec::with_capacity(bytes.len() + 8192));
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        tar.append_data(&mut header, path, data).map_err(EngineError::file("pack", path))
    };
    for dir in ["dev/", "etc/", "proc/", "sys/", "sbin/"] {
        add(dir, tar::EntryType::Directory, 0o755, &[])?;
    }
    add("tmp/", tar::EntryType::Directory, 0o1777, &[])?;
    add(
        "etc/passwd",
        tar::EntryType::Regular,
        0o644,
        b"root:x:0:0:root:/:/hello\nnobody:x:65534:65534:nobody:/:/hello\n",
    )?;
    add("etc/group", tar::EntryType::Regular, 0o644, b"root:x:0:\nnobody:x:65534:\n")?;
    add("hello", tar::EntryType::Regular, 0o755, &bytes)?;
    // The shell and the tools are the same executable.
    for name in std::iter::once("sh").chain(TOOLS) {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Link);
        link.set_mode(0o755);
        link.set_size(0);
        tar.append_link(&mut link, name, "hello").map_err(EngineError::file("pack", name))?;
    }
    let packed = tar.into_inner().map_err(EngineError::file("pack", exe))?;
    Ok(std::io::Cursor::new(packed))
}

/// What the host sees of a container, a `key=value` a line: the embedded image's program shows it beside its own view.
pub(crate) fn host_view(record: &ContainerRecord, live: &LiveState) -> String {
    let mut facts: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |key: &str, value: String| drop(facts.insert(key.to_owned(), value));
    put("pid", live.pid.to_string());
    put("monitor", live.monitor.to_string());
    put("hostname", rustix::system::uname().nodename().to_string_lossy().into_owned());
    put("name", record.name.to_string());
    for (kind, _) in rbox_runtime::namespace::KINDS {
        if let Some(inode) = rbox_runtime::namespace::inode(0, kind) {
            put(&format!("ns.{kind}"), inode.to_string());
        }
    }
    if let Some(endpoint) = live.main_endpoint() {
        put("address", format!("{} (bridge {})", endpoint.gateway, endpoint.bridge));
        put("link", endpoint.host_link.clone());
    }
    let layers = if record.layers.len() == 1 { "layer" } else { "layers" };
    put("root", format!("{} {layers} below upper", record.layers.len()));
    if let Some(group) = live.cgroup.unified.as_ref().or_else(|| live.cgroup.v1.values().next()) {
        put("cgroup", group.display().to_string());
    }
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_pid = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    put("processes", pids.filter(|entry| is_pid(&entry.file_name())).count().to_string());
    for (key, files) in
        [("pids.max", ["pids.max", "pids.max"]), ("memory.max", ["memory.max", "memory.limit_in_bytes"])]
    {
        // The same limit, read at its place in the host's tree.
        let groups = live.cgroup.v1.values().chain(&live.cgroup.unified);
        let found = groups
            .flat_map(|group| files.map(|file| group.join(file)))
            .find_map(|path| Some((std::fs::read_to_string(&path).ok()?, path)));
        if let Some((text, path)) = found {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            put(key, format!("{} ({name})", text.trim()));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_or(0, |text| text.lines().count());
    put("mounts", mounts.to_string());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(line) = status.lines().find_map(|l| l.strip_prefix("CapEff:")) {
        put("capabilities", line.trim().to_owned());
    }
    let mut text = String::new();
    for (key, value) in facts {
        let _ = writeln!(text, "{key}={}", value.replace('\n', " "));
    }
    text
}
