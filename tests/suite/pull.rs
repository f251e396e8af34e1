//! `pull` from a real registry.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{BUSYBOX, OwnRoots, PYTHON, Test, has, skipped};

/// Passes connections on to `target` and counts requests.
fn counting_proxy(target: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (target, counter) = (target.clone(), counter.clone());
            std::thread::spawn(move || {
                let Ok(server) = TcpStream::connect(&target) else { return };
                let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut back_from, &mut back_to);
                    let _ = back_to.shutdown(std::net::Shutdown::Write);
                });
                let (mut server, mut reader) = (server, BufReader::new(client));
                let mut line = String::new();
                // Requests to a registry of a client that only reads have no bodies: lines are all there is.
                while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                    if line.contains(" HTTP/1.") {
                        counter.fetch_add(1, Ordering::SeqCst);
                    }
                    if server.write_all(line.as_bytes()).is_err() {
                        return;
                    }
                    line.clear();
                }
                let _ = server.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    (address, count)
}

#[test]
fn says_digest_and_status_as_docker_does() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "fresh", &t.suite.registry);
    let out = own.cmd(&["pull", PYTHON]).run().ok();
    assert!(out.contains("Digest: sha256:"), "{out}");
    assert!(out.contains("Status: Downloaded newer image for python:3.11-slim"), "{out}");
    let out = own.cmd(&["pull", PYTHON]).run().ok();
    assert!(out.contains("Status: Image is up to date for python:3.11-slim"), "{out}");
}

#[test]
fn a_second_pull_costs_one_request() {
    let Some(t) = Test::start() else { return };
    let (proxy, count) = counting_proxy(t.suite.registry.clone());
    let own = OwnRoots::new(&t, "fresh", &proxy);
    own.cmd(&["pull", BUSYBOX]).run().ok();
    let first = count.swap(0, Ordering::SeqCst);
    assert!(first >= 3, "manifest, config, layer: {first} requests");
    own.cmd(&["pull", BUSYBOX]).run().ok();
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn quiet_prints_the_full_name_only() {
    let Some(t) = Test::start() else { return };
    assert_eq!(t.ok(["pull", "-q", BUSYBOX]), "docker.io/library/busybox:latest");
}

#[test]
fn all_tags_of_a_repository() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "fresh", &t.suite.registry);
    let out = own.cmd(&["pull", "-a", "python"]).run().ok();
    for part in [
        "3: Pulling from library/python",
        "3.11-slim: Pulling from library/python",
        "\nDigest: sha256:",
        "\nStatus: Downloaded newer image for python\n",
    ] {
        assert!(out.contains(part), "no {part:?} in\n{out}");
    }
    assert!(out.ends_with("\ndocker.io/library/python"), "{out}");
    let tags = own.cmd(&["images", "--format", "{{.Tag}}", "python"]).run().ok();
    assert!(tags.lines().any(|tag| tag == "3") && tags.lines().any(|tag| tag == "3.11-slim"), "{tags}");
    let out = own.cmd(&["pull", "-q", "--all-tags", "python"]).run().ok();
    assert_eq!(out, "docker.io/library/python");
    own.run(&["pull", "-a", PYTHON]).refused(125, &["tag can't be used with --all-tags/-a"]);
}

/// A terminal that cannot move its cursor gets lines.
#[test]
fn a_dumb_terminal_gets_lines() {
    let Some(t) = Test::start() else { return };
    if !has("script") {
        return skipped("script is not installed");
    }
    let own = OwnRoots::new(&t, "fresh", &t.suite.registry);
    let line = format!("{} pull {BUSYBOX}", crate::harness::binary().display());
    let out = crate::harness::Cmd::new("script", ["-qec", &line, "/dev/null"])
        .env("TERM", "dumb")
        .env("RBOX_ROOT", &own.root)
        .env("RBOX_STATE", &own.state)
        .env("RBOX_REGISTRIES", own.dir.join("registries.json"))
        .run()
        .ok();
    for part in [": Pulling fs layer", ": Download complete", ": Pull complete"] {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
    assert!(!out.contains('\u{1b}'), "{out:?}");
}

#[test]
fn two_tags_of_one_image_share_it() {
    let Some(t) = Test::start() else { return };
    t.ok(["pull", "python:3"]);
    let id = |name: &str| t.ok(["image", "inspect", "-f", "{{.Id}}", name]);
    assert_eq!(id("python:3"), id(PYTHON));
    let out = t.ok(["pull", "debian:bookworm-slim"]);
    let of_layer: Vec<_> = out.lines().filter(|l| l.as_bytes().get(12) == Some(&b':')).collect();
    assert!(
        of_layer.len() == 1 && of_layer[0].ends_with(": Already exists"),
        "the base layer is python's too:\n{out}"
    );
    t.ok(["rmi", "python:3"]);
    t.ok(["rmi", "debian:bookworm-slim"]);
    assert_eq!(t.ok(["run", "--rm", PYTHON, "python3", "-c", "print(1+1)"]), "2");
}

#[test]
fn platforms() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/multi", t.suite.registry);
    let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let other = if own == "amd64" { "arm64" } else { "amd64" };
    t.ok(["pull", &image]);
    assert_eq!(t.ok(["image", "inspect", "-f", "{{.Architecture}}", &image]), own);
    assert_eq!(t.ok(["run", "--rm", &image, "sh", "-c", "echo $IMAGE_ARCH"]), own);
    t.ok(["pull", "--platform", &format!("linux/{other}"), &image]);
    // The one that was there stays, and is meant where nothing else is said: tests/suite/platforms.rs.
    assert_eq!(t.ok(["image", "inspect", "-f", "{{.Architecture}}", &image]), own);
    t.rbox(["pull", "--platform", "linux/s390x", &image]).refused(1, &["s390x"]);
    let out = t.rbox(["pull", "--platform", "a/b/c/d", &image]);
    assert!(out.code != 0 && out.stderr.contains("a/b/c/d"), "{out:?}");
    t.ok(["rmi", "-f", &image]);
}

#[test]
fn by_digest() {
    let Some(t) = Test::start() else { return };
    let digests = t.ok(["image", "inspect", "-f", "{{index .RepoDigests 0}}", BUSYBOX]);
    let digest = digests.split('@').nth(1).unwrap();
    let name = format!("busybox@{digest}");
    t.ok(["pull", &name]);
    assert_eq!(t.ok(["run", "--rm", &name, "echo", "by digest"]), "by digest");
    let wrong = format!("busybox@sha256:{}", "0".repeat(64));
    t.rbox(["pull", &wrong]).refused(1, &[&"0".repeat(64)]);
}

#[test]
fn media_types_and_compressions() {
    let Some(t) = Test::start() else { return };
    for image in ["whiteouts", "docker", "zstd"] {
        let name = format!("{}/rbox/{image}:latest", t.suite.registry);
        t.ok(["pull", "-q", &name]);
        let out = t.ok(["run", "--rm", &name, "sh", "-c", "cd /w && find . | sort && cat replaced && stat -c '%a %u:%g %h' kept/file setuid && readlink symlink && test -p fifo && echo fifo"]);
        let expected = ".\n./fifo\n./hardlink\n./kept\n./kept/file\n./opaque\n./opaque/new\n./opaque/third\n./replaced\n./setuid\n./symlink\nsecond\n\
                        644 1000:1001 2\n4755 0:0 1\nkept/file\nfifo";
        assert_eq!(out, expected, "{image}");
        t.ok(["rmi", &name]);
    }
}

#[test]
fn names_that_are_not_names() {
    let Some(t) = Test::start() else { return };
    for (name, word) in [
        ("UPPER", "lowercase"),
        ("a//b", "reference"),
        ("busybox:", "reference"),
        ("busybox@sha256:12", "reference"),
        ("-x", ""),
        ("busybox:t a g", "reference"),
        ("", ""),
        ("a/../b", "reference"),
    ] {
        let out = t.rbox(["pull", name]);
        assert!(out.code != 0 && out.stderr.starts_with("rbox: "), "{name}: {out:?}");
        assert!(out.stderr.contains(word), "{name}: {}", out.stderr);
    }
}

#[test]
fn what_the_registry_lacks() {
    let Some(t) = Test::start() else { return };
    let name = format!("{}/rbox/no-such:latest", t.suite.registry);
    t.rbox(["pull", &name]).refused(1, &["no-such"]);
    let name = format!("{}/rbox/config:no-such-tag", t.suite.registry);
    t.rbox(["pull", &name]).refused(1, &["no-such-tag"]);
    // A port where nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    t.rbox(["pull", &format!("{free}/x/y:z")]).refused(1, &[&free.to_string()]);
}

#[test]
fn two_pulls_at_once_both_succeed() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "fresh", &t.suite.registry);
    let all: Vec<_> = (0..4).map(|_| own.cmd(&["pull", "-q", PYTHON]).spawn()).collect();
    for one in all {
        one.finish(std::time::Duration::from_mins(2)).ok();
    }
    assert_eq!(own.cmd(&["images", "-q"]).run().ok().lines().count(), 1);
}

/// Killed at ever later moments, a pull leaves an image that is absent or whole, and the next pull works.
#[test]
fn a_killed_pull_leaves_nothing_half_there() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "fresh", &t.suite.registry);
    let mut killed = 0;
    for step in 1..=12 {
        let pull = own.cmd(&["pull", "-q", PYTHON]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(step * step * 15));
        let _ = Command::new("kill").args(["-9", &pull.id().to_string()]).status();
        if pull.finish(std::time::Duration::from_secs(30)).code == 0 {
            break;
        }
        killed += 1;
        let listed = own.cmd(&["images", "-q"]).run().ok();
        assert_eq!(listed, "", "an image that was not pulled to its end is listed");
    }
    own.cmd(&["pull", "-q", PYTHON]).run().ok();
    let out = own
        .cmd(&[
            "run",
            "--rm",
            "--network",
            "none",
            PYTHON,
            "python3",
            "-c",
            "import json;print(json.dumps([1]))",
        ])
        .run()
        .ok();
    assert_eq!(out, "[1]");
    println!("killed {killed} pulls");
}

/// Every layer, byte for byte, as skopeo and umoci have it.
#[test]
fn the_tree_is_the_one_umoci_unpacks() {
    let Some(t) = Test::start() else { return };
    if !has("umoci") || !has("skopeo") {
        return skipped("umoci and skopeo are the oracle, and one of them is not installed");
    }
    let dir = t.dir("oracle");
    let layout = format!("oci:{}:x", dir.join("layout").display());
    let source = format!("docker://{}/library/python:3.11-slim", t.suite.registry_for_skopeo());
    let run = |program: &str, args: &[&str]| {
        let out = Command::new(program).args(args).output().unwrap();
        assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    run("skopeo", &["copy", "-q", "--insecure-policy", "--src-tls-verify=false", &source, &layout]);
    let bundle = dir.join("bundle");
    run(
        "umoci",
        &["unpack", "--image", &format!("{}:x", dir.join("layout").display()), bundle.to_str().unwrap()],
    );
    let list = r"cd $0 && find . -xdev -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune -o -path ./etc/hosts -prune -o -path ./etc/hostname -prune -o -path ./etc/resolv.conf -prune -o -path ./etc/mtab -prune -o \( -type f -printf '%P %y %m %U:%G %s %n %T@\n' -o -type d -printf '%P d %m %U:%G\n' -o -printf '%P %y %m %U:%G %l %T@\n' \) | sort; cd $0 && find usr etc var bin sbin lib root home opt srv -xdev -type f ! -path etc/hosts ! -path etc/hostname ! -path etc/resolv.conf -print0 | sort -z | xargs -0 sha256sum";
    let theirs = run("sh", &["-c", list, bundle.join("rootfs").to_str().unwrap()]);
    let ours = t.ok(["run", "--rm", "--network", "none", PYTHON, "sh", "-c", list, "/"]);
    let (theirs, ours): (Vec<_>, Vec<_>) =
        (theirs.lines().filter(|l| !l.is_empty()).collect(), ours.lines().collect());
    let only_theirs: Vec<_> = theirs.iter().filter(|l| !ours.contains(l)).take(8).collect();
    let only_ours: Vec<_> = ours.iter().filter(|l| !theirs.contains(l)).take(8).collect();
    assert!(theirs.len() > 5000, "{}", theirs.len());
    assert!(
        only_theirs.is_empty() && only_ours.is_empty(),
        "umoci only: {only_theirs:#?}\nrbox only: {only_ours:#?}"
    );
}

#[test]
fn basic_credentials_from_dockers_configuration() {
    let Some(t) = Test::start() else { return };
    // A registry in front of the real one that wants a password.
    let upstream = t.suite.registry.clone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let upstream = upstream.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(client.try_clone().unwrap());
                let mut request = String::new();
                while reader.read_line(&mut request).is_ok_and(|n| n > 2) {}
                // user:secret
                if !request.contains("Basic dXNlcjpzZWNyZXQ=") && !request.contains("basic dXNlcjpzZWNyZXQ=")
                {
                    let _ = client.write_all(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    return;
                }
                let mut server = TcpStream::connect(&upstream).unwrap();
                let close = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                let _ = server.write_all(close.as_bytes());
                let mut answer = Vec::new();
                let _ = server.read_to_end(&mut answer);
                let _ = client.write_all(&answer);
            });
        }
    });
    let own = OwnRoots::new(&t, "fresh", &t.suite.registry);
    let image = format!("{address}/rbox/config:latest");
    own.cmd(&["pull", &image]).run().refused(1, &["credentials"]);
    let docker = t.dir("docker-config");
    let auths: Value = serde_json::json!({"auths": {&address: {"auth": "dXNlcjpzZWNyZXQ="}}});
    std::fs::write(docker.join("config.json"), auths.to_string()).unwrap();
    own.cmd(&["pull", &image]).env("DOCKER_CONFIG", &docker).run().ok();
}
