//! Compose files of git repositories.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::harness::{Cmd, OnTerminal, OwnRoots, Test};

/// Serves the repositories below a directory until it goes.
struct GitServer {
    port: u16,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl GitServer {
    fn of(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let base = format!("--base-path={}", dir.display());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            for socket in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let socket = OwnedFd::from(socket.unwrap());
                let mut git = Command::new("git");
                git.args(["daemon", "--inetd", "--export-all", &base]);
                git.stdin(socket.try_clone().unwrap()).stdout(socket).status().unwrap();
            }
        });
        Self { port, asked, stop, thread: Some(thread) }
    }

    /// How often it was asked since the last look.
    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A repository of a project, whose second commit is another one, and one with a project in a directory.
const MAKE: &str = "git init -q -b main shop && cd shop && git config user.email a@b && git config user.name n &&
printf 'services: {web: {image: busybox, command: cat /src/word, volumes: [./data:/src], environment: {WHO: $WHO}}}' > compose.yaml &&
mkdir data deep && echo one > data/word && ln -s /etc/hostname deep/compose.yaml && mkdir other &&
printf 'services: {part: {image: busybox, command: echo part of it}}' > other/compose.yaml && mkdir steps &&
printf 'services: {web: {image: busybox, command: sleep 1000, init: true, pre_start: [{command: touch /made/it}], volumes: [made:/made]}}\\nvolumes: {made: }' > steps/compose.yaml && git add -A && git commit -qm first && git tag -a -m x v1 &&
echo two > data/word && git commit -qam second && git branch feature/main";

fn compose(own: &OwnRoots, file: &str, args: &[&str]) -> Cmd {
    own.cmd(&["compose", "-f", file]).args(args).env("WHO", "me")
}

#[test]
fn a_repository_is_a_project() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let dir = t.dir("git");
    t.program("sh", ["-ec", &format!("cd \"$1\" && {MAKE}"), "sh", dir.to_str().unwrap()]).run().ok();
    let server = GitServer::of(&dir);
    let url = format!("git://127.0.0.1:{}/shop", server.port);

    // Whoever wrote it might be told anything: the user is asked first, and where nobody can be asked nothing is made.
    let out = compose(&own, &url, &["up"]).run().code(1);
    for words in ["includes files from remote sources", &url, "  WHO=me (shell)", "add --yes"] {
        assert!(out.stderr.contains(words), "{words:?}: {}", out.stderr);
    }
    assert_eq!(own.cmd(&["ps", "-aq"]).run().ok(), "");
    for (answer, code) in [("n\n", 1), ("y\n", 0)] {
        let mut terminal = OnTerminal::start(compose(&own, &url, &["up", "-d"]));
        terminal.expect("Do you want to continue? [y/N]");
        terminal.keys(answer);
        assert_eq!(terminal.ended(), code, "{answer:?}");
        assert_eq!(own.cmd(&["ps", "-aq"]).run().ok().is_empty(), code == 1);
    }
    // Its name is the repository's; what it mounts is of the repository, and stays there.
    own.cmd(&["wait", "shop-web-1"]).run().ok();
    assert_eq!(own.cmd(&["logs", "shop-web-1"]).run().ok(), "two");
    server.asked();
    let up = |what: &str, words: &str| {
        let file = format!("{url}{what}");
        let shown = compose(&own, &file, &["up", "--yes", "--no-log-prefix"]).run().code(0).stdout;
        assert!(shown.starts_with(&format!("{words}\n")), "{what}: {shown}");
    };
    up("", "two");
    assert_eq!(server.asked(), 1, "what is there is not fetched again");
    up("#v1", "one");
    up("?tag=v1", "one");
    up("#main", "two");
    up("#:other", "part of it");
    let commit =
        t.program("git", ["-C", dir.join("shop").to_str().unwrap(), "rev-parse", "v1^{}"]).run().ok();
    server.asked();
    up(&format!("#{commit}"), "one");
    assert_eq!(server.asked(), 0, "a commit is what it is");
    let hidden = compose(&own, &url, &["config", "--format", "json"]).run().ok();
    assert!(hidden.contains("\"WHO\": \"me\"") && !hidden.contains(".git\""), "{hidden}");

    // The file of a project here may stand on one of there.
    let here = t.dir("here");
    let file = here.join("compose.yaml");
    let include =
        format!("include: ['{url}#v1']\nservices: {{top: {{image: busybox, command: echo top}}}}\n");
    fs::write(&file, include).unwrap();
    let file = file.display().to_string();
    compose(&own, &file, &["run", "--rm", "top"]).run().code(1);
    assert_eq!(compose(&own, &file, &["run", "--rm", "--yes", "-T", "web"]).run().ok(), "one");
    // What is run before a start is of there as well.
    let steps = format!("{url}#:steps");
    compose(&own, &steps, &["up", "-d", "--yes"]).run().code(0);
    compose(&own, &steps, &["stop"]).run().code(0);
    let out = compose(&own, &steps, &["start"]).run().code(1);
    assert!(out.stderr.contains("includes files from remote sources"), "{}", out.stderr);
    assert_eq!(own.cmd(&["ps", "-q"]).run().ok(), "");
    compose(&own, &steps, &["start", "--yes"]).run().code(0);
    assert_ne!(own.cmd(&["ps", "-q"]).run().ok(), "");
    compose(&own, &steps, &["down", "-v"]).run().code(0);
    for project in ["shop", "other", "here"] {
        own.cmd(&["compose", "-p", project, "down", "--remove-orphans"]).run().code(0);
    }

    // What cannot be had, and what leads out of it.
    for (what, why) in [
        ("#nope", "couldn't find remote ref nope"),
        ("#:deep", "compose.yaml is no regular file of it"),
        ("#:data", "it has no compose file there"),
        ("#:none", "it has no directory \"none\""),
        ("#--upload-pack=x", "is no ref"),
    ] {
        let out = compose(&own, &format!("{url}{what}"), &["up", "--yes"]).run().code(1);
        assert!(out.stderr.contains(why), "{what}: {}", out.stderr);
    }
    for (file, why) in [
        ("oci://127.0.0.1:1/shop", "compose files are read from this host and from git repositories only"),
        (
            "https://127.0.0.1:1/compose.yaml",
            "compose files are read from this host and from git repositories only",
        ),
    ] {
        let out = compose(&own, file, &["up", "--yes"]).run().code(1);
        assert!(out.stderr.contains(why), "{file}: {}", out.stderr);
    }
}
