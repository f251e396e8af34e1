//! A registry of a test's own that wants a password.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{has, poll, skipped};

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

impl Drop for PasswordRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
