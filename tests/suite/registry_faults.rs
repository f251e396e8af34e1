//! Images and registries that are odd, and with which Docker works all the same; and such that mean harm.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{BUSYBOX, OwnRoots, Test, patience};

/// A docker-archive with these layers, tars that lie in `dir`, and this configuration.
fn archive(dir: &Path, name: &str, layers: &[&str], config: &Value) -> PathBuf {
    let digest = |file: &str| {
        let out = Command::new("sha256sum").arg(dir.join(file)).output().unwrap();
        let hex = String::from_utf8(out.stdout).unwrap()[..64].to_owned();
        format!("sha256:{hex}")
    };
    let diff_ids: Vec<String> = layers.iter().map(|file| digest(file)).collect();
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let document = json!({
        "architecture": machine, "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    std::fs::write(dir.join("config.json"), document.to_string()).unwrap();
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": layers}]);
    std::fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    let file = dir.join("archive.tar");
    let mut names: Vec<&str> = layers.to_vec();
    names.sort_unstable();
    names.dedup();
    tar(dir, &file, &["manifest.json", "config.json"].into_iter().chain(names).collect::<Vec<_>>());
    file
}

fn tar(dir: &Path, file: &Path, names: &[&str]) {
    let out = Command::new("tar").arg("-cf").arg(file).arg("-C").arg(dir).args(names).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// A tar of files in the directory `name` of `dir`.
fn layer(dir: &Path, name: &str, files: &[(&str, &str)]) {
    let root = dir.join(name);
    for (file, text) in files {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    tar(&root, &dir.join(format!("{name}.tar")), &["."]);
}

/// The program that containers of these images run, mounted.
fn with_busybox<'a>(volume: &'a str, image: &'a str, script: &'a str) -> [&'a str; 12] {
    [
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        volume,
        "--entrypoint",
        "/b/busybox",
        image,
        "sh",
        "-c",
        script,
    ]
}

#[test]
fn a_layer_twice_and_no_layer_at_all() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("odd");
    layer(&dir, "base", &[("d/base", "0"), ("file", "0"), ("gone", "0")]);
    layer(&dir, "twice", &[("file", "twice"), ("d/twice", "twice"), (".wh.gone", "")]);
    layer(&dir, "between", &[(".wh.file", ""), ("gone", "between"), ("d/between", "1")]);
    t.ok(["run", "--name", &t.name("tools"), BUSYBOX, "true"]);
    let tools = t.dir("tools");
    let out = t
        .cmd(["run", "--rm", "--network", "none", "-v", &format!("{}:/out", tools.display()), BUSYBOX])
        .args(&["cp", "/bin/busybox", "/out/busybox"])
        .run();
    out.ok();
    let volume = format!("{}:/b:ro", tools.display());
    let layers = ["twice.tar", "base.tar", "twice.tar", "between.tar", "twice.tar"];
    let file = archive(&dir, "odd/twice:1", &layers, &json!({"Cmd": ["/x"]}));
    t.ok(["load", "-q", "-i", file.to_str().unwrap()]);
    let script =
        "/b/busybox cat file d/twice; /b/busybox echo; /b/busybox ls d; /b/busybox ls gone 2>&1; true";
    let out = t.cmd(with_busybox(&volume, "odd/twice:1", script)).run().ok();
    assert_eq!(out, "twicetwice\nbase\nbetween\ntwice\nls: gone: No such file or directory");
    assert_eq!(t.inspect("odd/twice:1")["RootFS"]["Layers"].as_array().unwrap().len(), 5);
    let again = dir.join("again.tar");
    t.ok(["save", "-o", again.to_str().unwrap(), "odd/twice:1"]);
    t.ok(["rmi", "odd/twice:1"]);
    t.ok(["load", "-q", "-i", again.to_str().unwrap()]);
    t.ok(["rmi", "odd/twice:1"]);

    let file = archive(&dir, "odd/none:1", &[], &json!({"Cmd": ["/x"]}));
    t.ok(["load", "-q", "-i", file.to_str().unwrap()]);
    let script = "/b/busybox echo made > /new && /b/busybox cat /new";
    assert_eq!(t.cmd(with_busybox(&volume, "odd/none:1", script)).run().ok(), "made");
    t.rbox(["run", "--rm", "odd/none:1"]).code(127);
    t.ok(["history", "odd/none:1"]);
    t.ok(["save", "-o", again.to_str().unwrap(), "odd/none:1"]);
    t.ok(["rmi", "odd/none:1"]);
}

/// A configuration with more of anything than an image can need is refused at once; one below the limits starts at once.
#[test]
fn configurations_out_of_all_proportion() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("many");
    layer(&dir, "base", &[("x", "0")]);
    let volumes =
        |count| (0..count).map(|n| (format!("/v/{n}"), json!({}))).collect::<serde_json::Map<_, _>>();
    let env = |count| (0..count).map(|n| format!("V{n}=1")).collect::<Vec<_>>();
    for (config, word) in [
        (json!({"Env": env(300_000)}), "300000 environment variables; at most 10000 are taken"),
        (json!({"Volumes": volumes(20_000)}), "20000 volumes; at most 1000 are taken"),
    ] {
        let file = archive(&dir, "many/x:1", &["base.tar"], &config);
        let start = Instant::now();
        t.rbox(["load", "-q", "-i", file.to_str().unwrap()]).refused(1, &[word]);
        assert!(start.elapsed() < patience(Duration::from_mins(1)), "{word}: {:?}", start.elapsed());
    }
    let config = json!({"Env": env(10_000), "Volumes": volumes(50), "Cmd": ["/none"]});
    let file = archive(&dir, "many/x:1", &["base.tar"], &config);
    t.ok(["load", "-q", "-i", file.to_str().unwrap()]);
    let start = Instant::now();
    // It has no program to run: all the rest is done by then.
    t.rbox(["run", "--rm", "many/x:1"]).code(127);
    assert!(start.elapsed() < patience(Duration::from_mins(1)), "{:?}", start.elapsed());
    for config in [json!({"env": ["A=b"]}), json!({"Env": [], "ENV": []})] {
        let file = archive(&dir, "many/y:1", &["base.tar"], &config);
        t.rbox(["load", "-q", "-i", file.to_str().unwrap()]).refused(1, &["ambiguous", "take for \"Env\""]);
    }
    t.ok(["rmi", "many/x:1"]);
}

#[test]
fn what_is_not_there_is_named_with_its_registry() {
    let Some(t) = Test::start() else { return };
    let name = format!("{}/rbox/no-such", t.suite.registry);
    t.rbox(["pull", &name]).refused(1, &[&name, "not found"]);
    let name = format!("{}/rbox/config:no-such-tag", t.suite.registry);
    t.rbox(["pull", &name]).refused(1, &[&format!("manifest for {name} not found")]);
}

/// A proxy for plain HTTP as squid is one: it takes whole URLs, refuses CONNECT to odd ports, and wants a password.
fn proxy(target: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = seen.clone();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (target, log) = (target.clone(), log.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(client.try_clone().unwrap());
                let (mut first, mut fields) = (String::new(), String::new());
                if reader.read_line(&mut first).unwrap_or(0) == 0 {
                    return;
                }
                while reader.read_line(&mut fields).is_ok_and(|n| n > 2) {}
                log.lock().unwrap().push(first.trim().to_owned());
                let known = fields.to_lowercase().contains("proxy-authorization: basic dxnlcjpzzwnyzxq=");
                let whole = first.replacen("http://registry.test:5000/", "/", 1);
                if !known || whole == first {
                    let _ = client.write_all(
                        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    );
                    return;
                }
                let mut server = TcpStream::connect(&target).unwrap();
                let _ = server.write_all(format!("{whole}Connection: close\r\n{fields}").as_bytes());
                let mut answer = Vec::new();
                let _ = server.read_to_end(&mut answer);
                let _ = client.write_all(&answer);
            });
        }
    });
    (address, seen)
}

#[test]
fn a_proxy_for_plain_http_is_sent_whole_urls() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let registries = json!({"registries": {"registry.test:5000": {"plain-http": true}}});
    std::fs::write(own.dir.join("registries.json"), registries.to_string()).unwrap();
    let (address, seen) = proxy(t.suite.registry.clone());
    let pull = |variable: &str| {
        own.cmd(&["pull", "-q", "registry.test:5000/rbox/users"])
            .env(variable, format!("http://user:secret@{address}"))
            .run()
    };
    assert_eq!(pull("HTTP_PROXY").ok(), "registry.test:5000/rbox/users:latest");
    let seen: Vec<String> = std::mem::take(&mut seen.lock().unwrap());
    assert!(
        seen.len() >= 3 && seen.iter().all(|line| line.contains(" http://registry.test:5000/v2/")),
        "{seen:?}"
    );
    own.cmd(&["rmi", "registry.test:5000/rbox/users"]).run().ok();
    assert_eq!(pull("http_proxy").ok(), "registry.test:5000/rbox/users:latest");
}
