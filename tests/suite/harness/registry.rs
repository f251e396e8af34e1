//! A registry of a test's own that wants a password.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Cmd, has, poll, skipped};

/// `user` and `pa:ss word`, as bcrypt has it.
const HTPASSWD: &str = "user:$2b$04$fNSalMk1cQGap0g3/HGnoOAtAKKUwDuxYSkSeaOy1tg0Ky4QGXo7W\n";

/// Ended by its id when dropped.
pub(crate) struct PasswordRegistry {
    child: Child,
    /// Host and port.
    pub(crate) name: String,
}

impl PasswordRegistry {
    /// Serves what is put under `dir`. None, having said why, where there is no such program.
    pub(crate) fn start(dir: &Path) -> Option<Self> {
        Self::start_with(
            dir,
            &format!("auth: {{htpasswd: {{realm: r, path: {}/htpasswd}}}}\n", dir.display()),
        )
    }

    /// One that is open to all.
    pub(crate) fn open(dir: &Path) -> Option<Self> {
        Self::start_with(dir, "")
    }

    fn start_with(dir: &Path, auth: &str) -> Option<Self> {
        if !has("docker-registry") {
            skipped("docker-registry is not installed");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{delete: {{enabled: true}}, filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{auth}",
            dir.display()
        );
        let file = dir.join("config.yml");
        fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, name: format!("127.0.0.1:{port}") };
        let answers = poll(Duration::from_secs(20), || TcpStream::connect(&registry.name).is_ok());
        assert!(answers, "docker-registry does not listen");
        Some(registry)
    }
}

impl PasswordRegistry {
    /// What an open one has under a path.
    pub(crate) fn get(&self, path: &str) -> String {
        let url = format!("http://{}/v2/{path}", self.name);
        let accept =
            "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        Cmd::new("curl", ["-sSf", "-H", accept, &url]).run().ok()
    }

    /// Puts a manifest in, as the type that it says it is, under a tag or its digest. The digest.
    pub(crate) fn put_manifest(&self, repository: &str, tag: Option<&str>, manifest: &Value) -> String {
        let text = manifest.to_string();
        let digest = sha256(&text);
        let url = format!("http://{}/v2/{repository}/manifests/{}", self.name, tag.unwrap_or(&digest));
        let kind = manifest["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
        let kind = format!("Content-Type: {kind}");
        Cmd::new("curl", ["-sSf", "-X", "PUT", "-H", &kind, "--data-binary", &text, &url]).run().ok();
        digest
    }

    /// Puts a blob in. Its digest.
    pub(crate) fn put_blob(&self, repository: &str, text: &str) -> String {
        let digest = sha256(text);
        let begin = format!("http://{}/v2/{repository}/blobs/uploads/", self.name);
        let head = Cmd::new("curl", ["-sSf", "-X", "POST", "-D", "-", "-o", "/dev/null", &begin]).run().ok();
        let line = head.lines().find(|line| line.to_lowercase().starts_with("location:")).unwrap();
        let url = format!("{}&digest={digest}", line.split_once(':').unwrap().1.trim());
        let octets = "Content-Type: application/octet-stream";
        Cmd::new("curl", ["-sSf", "-X", "PUT", "-H", octets, "--data-binary", "@-", &url])
            .input(text)
            .run()
            .ok();
        digest
    }
}

pub(crate) fn sha256(text: &str) -> String {
    let sum = Cmd::new("sha256sum", ["-"]).input(text).run().ok();
    format!("sha256:{}", &sum[..64])
}

impl Drop for PasswordRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
