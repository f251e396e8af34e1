//! The normal path against Debian's `docker-registry`, filled by `skopeo`: plain, with a password, and as a mirror.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::format_push_string,
    clippy::result_large_err
)]
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rbox_image::registry::Credentials;
use rbox_image::{ImageStore, NoProgress, PullError, PullOptions, Pulled, Registries, pull};
use rbox_spec::Digest;

/// A registry of this test's own; ended by its id.
struct Registry {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Registry {
    /// `None`, having said why, if the programs are not there.
    fn start(password: bool) -> Option<Self> {
        for program in ["docker-registry", "skopeo"] {
            if Command::new(program).arg("--version").output().is_err() {
                println!("skipped: {program} is not installed");
                return None;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            dir.path().display()
        );
        if password {
            let hash = "import crypt; print('user:' + crypt.crypt('pa:ss word', crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))";
            let output = Command::new("python3").args(["-W", "ignore", "-c", hash]).output().ok();
            let Some(output) = output.filter(|output| output.stdout.starts_with(b"user:$2")) else {
                println!("skipped: no python3 that makes a bcrypt password");
                return None;
            };
            fs::write(dir.path().join("htpasswd"), output.stdout).unwrap();
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: r, path: {}/htpasswd}}}}\n",
                dir.path().display()
            ));
        }
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", dir.path().join("config.yml").to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, port, dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// Pushes the OCI layout under `name`, in the manifest format asked for.
    fn push(&self, layout: &Path, name: &str, format: &str) {
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
fn layout(dir: &Path) {
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

fn pull_into(
    store: &ImageStore,
    registries: &Registries,
    name: &str,
    credentials: Credentials,
) -> Result<Pulled, PullError> {
    let options = PullOptions { credentials, attempts: 1, ..PullOptions::default() };
    pull(store, registries, &name.parse().unwrap(), &options, &NoProgress)
}

#[test]
fn pulls_from_a_real_registry() {
    let Some(registry) = Registry::start(false) else { return };
    let source = registry.dir.path().join("source");
    layout(&source);
    registry.push(&source, "some/app:oci", "oci");
    registry.push(&source, "some/app:docker", "v2s2");
    let store = ImageStore::open(&registry.dir.path().join("images")).unwrap();
    let mut ids = Vec::new();
    for tag in ["oci", "docker"] {
        let name = format!("localhost:{}/some/app:{tag}", registry.port);
        let pulled = pull_into(&store, &Registries::default(), &name, Credentials::none()).unwrap();
        assert!(!pulled.up_to_date);
        assert!(pull_into(&store, &Registries::default(), &name, Credentials::none()).unwrap().up_to_date);
        let data = fs::read(pulled.image.layers[0].dir.join("data")).unwrap();
        assert_eq!(data.len(), 1_000_000);
        let output = Command::new("skopeo")
            .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{name}")])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), pulled.digest.to_string());
        ids.push(pulled.image.layers);
    }
    assert_eq!(ids[0][0].dir, ids[1][0].dir, "layers are shared by diff ID");

    // The store is an OCI layout: skopeo reads it.
    let copy = registry.dir.path().join("copy");
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--preserve-digests"])
        .arg(format!("oci:{}:oci", store.dir().display()))
        .arg(format!("oci:{}:x", copy.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let missing = format!("localhost:{}/some/app:none", registry.port);
    let error = pull_into(&store, &Registries::default(), &missing, Credentials::none()).unwrap_err();
    assert!(error.to_string().contains("manifest for some/app:none not found"), "{error}");
}

#[test]
fn a_mirror_serves_dockers_names() {
    let Some(registry) = Registry::start(false) else { return };
    let source = registry.dir.path().join("source");
    layout(&source);
    registry.push(&source, "library/app:1", "v2s2");
    let file = registry.dir.path().join("registries.json");
    let config =
        format!(r#"{{"registries":{{"docker.io":{{"mirrors":["http://127.0.0.1:{}"]}}}}}}"#, registry.port);
    fs::write(&file, config).unwrap();
    let store = ImageStore::open(&registry.dir.path().join("images")).unwrap();
    let registries = Registries::from_file(&file).unwrap();
    let pulled = pull_into(&store, &registries, "app:1", Credentials::none()).unwrap();
    assert_eq!(pulled.image.references[0].full(), "docker.io/library/app:1");
    assert_eq!(store.find("app:1").unwrap().unwrap().id, pulled.image.id);
}

#[test]
fn a_password_is_asked_for_and_found() {
    let Some(registry) = Registry::start(true) else { return };
    let source = registry.dir.path().join("source");
    layout(&source);
    registry.push(&source, "some/app:1", "oci");
    let store = ImageStore::open(&registry.dir.path().join("images")).unwrap();
    let name = format!("127.0.0.1:{}/some/app:1", registry.port);
    let error =
        pull_into(&store, &Registries::default(), &name, Credentials::none()).unwrap_err().to_string();
    assert!(error.contains("pull access denied for some/app"), "{error}");
    let file = registry.dir.path().join("config.json");
    let auth = "dXNlcjpwYTpzcyB3b3Jk"; // user:pa:ss word
    let write = |auth: &str| {
        fs::write(&file, format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"{auth}"}}}}}}"#, registry.port))
    };
    write("dXNlcjp3cm9uZw==").unwrap(); // user:wrong
    assert!(pull_into(&store, &Registries::default(), &name, Credentials::from_file(file.clone())).is_err());
    write(auth).unwrap();
    pull_into(&store, &Registries::default(), &name, Credentials::from_file(file.clone())).unwrap();
}
