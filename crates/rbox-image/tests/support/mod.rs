//! A real registry and an image for it, for the tests beside this directory.
#![allow(dead_code)] // Not every test uses all of it.
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rbox_image::registry::Credentials;
use rbox_image::{ImageStore, NoProgress, PullError, PullOptions, Pulled, Registries, pull};
use rbox_spec::Digest;

/// What opens a registry with a password: `user` and `pa:ss word`, as bcrypt has it.
const HTPASSWD: &str = "user:$2b$04$fNSalMk1cQGap0g3/HGnoOAtAKKUwDuxYSkSeaOy1tg0Ky4QGXo7W\n";
/// The same for Docker's `auth` field.
pub(crate) const AUTH: &str = "dXNlcjpwYTpzcyB3b3Jk";

/// A registry of this test's own; ended by its id.
pub(crate) struct Registry {
    child: Child,
    pub(crate) port: u16,
}

/// Whether the programs are there; says so if not.
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let found = |dir: PathBuf| dir.join(program).is_file();
        !std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(found)
    });
    if let Some(program) = missing {
        println!("skipped: {program} is not installed");
    }
    missing.is_none()
}

/// The `auth` section for a password, whose file is put under `dir`.
pub(crate) fn password_auth(dir: &Path) -> String {
    fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
    format!("auth: {{htpasswd: {{realm: r, path: {}/htpasswd}}}}\n", dir.path_text())
}

/// Paths of tests are text.
pub(crate) trait PathText {
    fn path_text(&self) -> &str;
}

impl PathText for Path {
    fn path_text(&self) -> &str {
        self.to_str().unwrap()
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Registry {
    /// Serves what is under `dir`; `http` and `auth` are YAML for the configuration.
    pub(crate) fn start(dir: &Path, http: &str, auth: &str) -> Self {
        let port = free_port();
        let root = dir.path_text();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {root}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'{http}}}\n{auth}",
        );
        let file = dir.join(format!("config-{port}.yml"));
        fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", file.path_text()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// Pushes the OCI layout under `name`, in the manifest format asked for.
    pub(crate) fn push(&self, layout: &Path, name: &str, format: &str) {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--dest-tls-verify=false", "--format", format]);
        command.args(["--dest-creds", "user:pa:ss word"]);
        command.arg(format!("oci:{}:t", layout.display()));
        command.arg(format!("docker://127.0.0.1:{}/{name}", self.port));
        let output = command.output().unwrap();
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(1000);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Makes an OCI layout of two layers, gzip and zstd, tagged `t`.
pub(crate) fn layout(dir: &Path) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| -> Digest {
        let digest = rbox_image::hash::sha256(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    let lower = tar_of(&[("bin/app", b"#!x".to_vec()), ("data", b"0123456789".repeat(100_000))]);
    let upper = tar_of(&[("etc/conf", b"new".to_vec())]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&lower).unwrap();
    let (first, second) = (encoder.finish().unwrap(), upper.clone());
    let config = serde_json::json!({"architecture": if cfg!(target_arch = "aarch64") {"arm64"} else {"amd64"}, "os": "linux",
        "config": {"Cmd": ["/bin/app"]},
        "rootfs": {"type": "layers", "diff_ids": [rbox_image::hash::sha256(&lower), rbox_image::hash::sha256(&upper)]}});
    let config = serde_json::to_vec(&config).unwrap();
    let descriptor = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": put(bytes), "size": bytes.len()});
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar+gzip", &first), descriptor("layer.v1.tar", &second)]});
    let mut entry = descriptor("manifest.v1+json", &serde_json::to_vec(&manifest).unwrap());
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "t"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(dir.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

pub(crate) fn pull_into(
    store: &ImageStore,
    registries: &Registries,
    name: &str,
    credentials: Credentials,
) -> Result<Pulled, PullError> {
    let options = PullOptions { credentials, attempts: 1, ..PullOptions::default() };
    pull(store, registries, &name.parse().unwrap(), &options, &NoProgress)
}
