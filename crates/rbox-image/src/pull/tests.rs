#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::*;
use crate::hash::sha256;
use crate::media::OCI_MANIFEST;
use crate::registry::registries::Settings;
use crate::registry::{Credentials, Timeouts};
use crate::testing::{FakeRegistry, Reply, Request, TestImage, host_architecture, noise, tar_of};

pub(super) const SECRET: &str = "hunter2-very-secret";

pub(super) struct Fixture {
    dir: tempfile::TempDir,
    pub(super) store: ImageStore,
    pub(super) options: PullOptions,
}

/// Keeps the lines and the last state of each layer.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    states: Mutex<BTreeMap<Digest, LayerState>>,
}

impl PullProgress for Log {
    fn event(&self, event: PullEvent<'_>) {
        match event {
            PullEvent::Message(line) => self.lines.lock().unwrap().push(line.to_owned()),
            PullEvent::Layer { digest, state } => {
                self.states.lock().unwrap().insert(*digest, state);
            }
        }
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("images")).unwrap();
        let timeouts = Timeouts {
            connect: Duration::from_secs(2),
            answer: Duration::from_millis(700),
            read: Duration::from_millis(700),
        };
        let options = PullOptions {
            credentials: Credentials::none(),
            timeouts,
            attempts: 3,
            backoff: Duration::from_millis(5),
            ..PullOptions::default()
        };
        Self { dir, store, options }
    }

    pub(super) fn pull_from(&self, registry: &str) -> Result<Pulled, PullError> {
        self.pull(&Registries::default(), &format!("{registry}/library/app:t"))
    }

    fn pull(&self, registries: &Registries, name: &str) -> Result<Pulled, PullError> {
        pull(&self.store, registries, &name.parse().unwrap(), &self.options, &NoProgress)
    }

    /// Credentials for these registries.
    pub(super) fn log_in(&mut self, registries: &[&str]) {
        let entries: Vec<_> = registries
            .iter()
            .map(|name| format!(r#""{name}":{{"username":"user","password":"{SECRET}"}}"#))
            .collect();
        let file = self.dir.path().join("config.json");
        fs::write(&file, format!(r#"{{"auths":{{{}}}}}"#, entries.join(","))).unwrap();
        self.options.credentials = Credentials::from_file(file);
    }

    /// That nothing of an image is visible, and nothing half-unpacked is left.
    fn assert_empty(&self, case: &str) {
        assert!(self.store.list().unwrap().is_empty(), "{case}: an image is listed");
        for entry in fs::read_dir(self.store.dir().join("tmp")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                std::path::Path::new(&name).extension().is_some_and(|e| e == "partial"),
                "{case}: tmp/{name} is left"
            );
        }
    }
}

pub(super) fn text(error: &PullError) -> String {
    crate::transfer::one_line(error)
}

#[test]
fn pulls_and_sees_that_nothing_changed() {
    let (fixture, image) = (Fixture::new(), TestImage::small());
    let served = image.clone();
    let registry = FakeRegistry::start(move |request| served.serve(request));
    let log = Log::default();
    let name: Reference = format!("{}/library/app:t", registry.name()).parse().unwrap();
    let pulled = pull(&fixture.store, &Registries::default(), &name, &fixture.options, &log).unwrap();
    assert!(!pulled.up_to_date);
    assert_eq!((pulled.image.id, pulled.digest), (image.config, image.manifest_digest()));
    assert_eq!(log.lines.lock().unwrap()[0], "t: Pulling from library/app");
    assert!(log.states.lock().unwrap().values().all(|state| *state == LayerState::PullComplete));
    let read = |layer: usize, file: &str| fs::read(pulled.image.layers[layer].dir.join(file)).unwrap();
    assert_eq!(
        (read(0, "bin/true"), read(1, "etc/y"), read(2, "etc/z")),
        (b"true".to_vec(), b"22".to_vec(), b"333".to_vec())
    );
    let before = registry.seen().len();
    assert!(fixture.pull_from(&registry.name()).unwrap().up_to_date);
    assert_eq!(registry.seen()[before..], ["HEAD /v2/library/app/manifests/t"], "one request");
    let by_digest = format!("{}/library/app@{}", registry.name(), pulled.digest);
    assert!(fixture.pull(&Registries::default(), &by_digest).unwrap().up_to_date);
    // A damaged layer is fetched again, and a missing directory unpacked again.
    fs::write(fixture.store.blob_path(&image.layers[0]), b"").unwrap();
    fs::remove_dir_all(fixture.store.layer_path(&pulled.image.layers[0].diff_id)).unwrap();
    fs::remove_dir_all(fixture.store.layer_path(&pulled.image.layers[1].diff_id)).unwrap();
    let again = fixture.pull_from(&registry.name()).unwrap();
    assert!(!again.up_to_date && fixture.store.is_complete(&again.image));
    assert_eq!(
        fs::metadata(fixture.store.blob_path(&image.layers[0])).unwrap().len(),
        image.blobs[&image.layers[0]].len() as u64
    );
}

#[test]
fn an_index_is_read_by_platform() {
    let mut fixture = Fixture::new();
    let other = if host_architecture() == "arm64" { "amd64" } else { "arm64" };
    let make = |architecture: &str| {
        TestImage::new(&[(tar_of(&[("a", architecture.as_bytes())]), "+gzip")], architecture)
    };
    let (here, there) = (make(host_architecture()), make(other));
    let index = TestImage::index(&[(&there, other), (&here, host_architecture())]);
    let (index_digest, images) = (sha256(&index), [here.clone(), there.clone()]);
    let registry = FakeRegistry::start(move |request: &Request| {
        if request.path.ends_with("manifests/t") {
            return Reply::ok(&index)
                .header("content-type", crate::media::OCI_INDEX)
                .header("docker-content-digest", &sha256(&index).to_string());
        }
        let replies = images.iter().map(|image| image.serve(request));
        replies.into_iter().find(|reply| reply.status < 400).unwrap_or(Reply::status(404))
    });
    let pulled = fixture.pull_from(&registry.name()).unwrap();
    assert_eq!((pulled.image.id, pulled.digest), (here.config, index_digest));
    assert_eq!(pulled.image.repo_digests[0].digest(), Some(&index_digest));
    assert!(fixture.pull_from(&registry.name()).unwrap().up_to_date);
    fixture.options.platform = Some(format!("linux/{other}").parse().unwrap());
    assert_eq!(fixture.pull_from(&registry.name()).unwrap().image.id, there.config);
    fixture.options.platform = Some("linux/s390x".parse().unwrap());
    let error = text(&fixture.pull_from(&registry.name()).unwrap_err());
    assert!(error.contains("no matching manifest for linux/s390x in the manifest list entries"), "{error}");
}

/// Whatever was damaged, in whatever way, a pull makes it whole again.
#[test]
fn a_pull_repairs_what_is_damaged() {
    let image = TestImage::small();
    for victim in [image.manifest_digest(), image.config, image.layers[0], image.layers[2]] {
        for damage in ["gone", "empty", "short", "zeros"] {
            let (mut fixture, served) = (Fixture::new(), image.clone());
            fixture.options.verify = true;
            let registry = FakeRegistry::start(move |request| served.serve(request));
            fixture.pull_from(&registry.name()).unwrap();
            let path = fixture.store.blob_path(&victim);
            let good = fs::read(&path).unwrap();
            match damage {
                "gone" => fs::remove_file(&path).unwrap(),
                "empty" => fs::write(&path, b"").unwrap(),
                "short" => fs::write(&path, &good[..good.len() / 2]).unwrap(),
                _ => fs::write(&path, vec![0; good.len()]).unwrap(),
            }
            let pulled = fixture.pull_from(&registry.name()).unwrap();
            assert!(!pulled.up_to_date, "{victim} {damage}");
            assert_eq!(fs::read(&path).unwrap(), good, "{victim} {damage}");
            assert!(fixture.pull_from(&registry.name()).unwrap().up_to_date, "{victim} {damage}");
            assert_eq!(fixture.store.list().unwrap().len(), 1);
        }
    }
}

#[test]
fn the_tags_of_a_repository_come_in_pages() {
    let fixture = Fixture::new();
    let registry = FakeRegistry::start(|request: &Request| match request.path.as_str() {
        "/v2/library/app/tags/list?n=1000" => Reply::ok(br#"{"name":"app","tags":["b","a"]}"#)
            .header("link", r#"</v2/library/app/tags/list?last=a&n=1000>; rel="next""#),
        "/v2/library/app/tags/list?last=a&n=1000" => Reply::ok(br#"{"name":"app","tags":["c"]}"#)
            .header("link", r#"</v2/library/app/tags/list?last=a&n=1000>; rel="next""#),
        _ => Reply::status(404),
    });
    let name: Reference = format!("{}/library/app", registry.name()).parse().unwrap();
    assert_eq!(tags(&Registries::default(), &name, &fixture.options).unwrap(), ["b", "a", "c"]);
}

/// An image with one layer of 700 kB, which takes several chunks.
pub(super) fn big() -> TestImage {
    TestImage::new(&[(tar_of(&[("big", &noise(700_000, 7))]), "+gzip")], host_architecture())
}

/// moby#26146.
#[test]
fn a_cut_download_goes_on_where_it_was_cut() {
    for ranges in [true, false] {
        let (fixture, image) = (Fixture::new(), big());
        let served = image.clone();
        let count = AtomicU32::new(0);
        let registry = FakeRegistry::start(move |request| {
            let mut request = request.clone();
            if !ranges {
                request.headers.remove("range");
            }
            let mut reply = served.serve(&request);
            if reply.body.len() > 100_000 && count.fetch_add(1, Ordering::SeqCst) < 2 {
                reply.cut = Some(reply.body.len() / 2);
            }
            reply
        });
        let pulled = fixture.pull_from(&registry.name()).unwrap();
        assert_eq!(fs::read(pulled.image.layers[0].dir.join("big")).unwrap(), noise(700_000, 7));
        let asked = registry.requests.lock().unwrap().clone();
        assert_eq!(asked.iter().filter(|r| r.header("range").is_some()).count(), 2, "{ranges}");
    }
}

/// moby#26146.
#[test]
fn a_killed_pull_is_gone_on_with() {
    let (fixture, image) = (Fixture::new(), big());
    let (layer, blob) = (image.layers[0], image.blobs[&image.layers[0]].clone());
    let partial = fixture.store.tmp().join(format!("sha256-{}.partial", layer.hex()));
    fs::write(&partial, &blob[..300_000]).unwrap();
    let diff = sha256(&tar_of(&[("big", &noise(700_000, 7))]));
    let half = fixture.store.tmp().join(format!("layer-{}", diff.hex()));
    fs::create_dir_all(half.join("fs/rubbish")).unwrap();
    let registry = FakeRegistry::start(move |request| image.serve(request));
    let pulled = fixture.pull_from(&registry.name()).unwrap();
    assert!(!pulled.image.layers[0].dir.join("rubbish").exists());
    let asked = registry.requests.lock().unwrap().clone();
    assert!(asked.iter().any(|r| r.header("range") == Some("bytes=300000-")));
    assert!(!partial.exists() && !half.exists());
}

#[test]
fn a_spoilt_partial_download_is_started_anew() {
    let (fixture, image) = (Fixture::new(), big());
    let partial = fixture.store.tmp().join(format!("sha256-{}.partial", image.layers[0].hex()));
    fs::write(&partial, vec![0; 1000]).unwrap();
    let registry = FakeRegistry::start(move |request| image.serve(request));
    fixture.pull_from(&registry.name()).unwrap();
}

/// A registry whose replies are spoilt in one way, and what the pull says then.
fn fault(
    case: &str,
    spoil: impl Fn(&Request, &mut Reply) + Send + Sync + 'static,
    says: &[&str],
) -> Vec<String> {
    let (fixture, image) = (Fixture::new(), big());
    let registry = FakeRegistry::start(move |request| {
        let mut reply = image.serve(request);
        spoil(request, &mut reply);
        reply
    });
    let started = Instant::now();
    let error = text(&fixture.pull_from(&registry.name()).expect_err(case));
    for part in says {
        assert!(error.contains(part), "{case}: {error:?} has no {part:?}");
    }
    assert!(!error.contains('\n'), "{case}: {error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{case}");
    fixture.assert_empty(case);
    registry.seen()
}

fn is_layer(reply: &Reply) -> bool {
    reply.body.len() > 100_000
}

#[test]
fn faults_end_in_one_clear_line() {
    let count = |seen: &[String], part: &str| seen.iter().filter(|line| line.contains(part)).count();
    let seen = fault("404", |_, reply| *reply = Reply::status(404), &["/library/app:t not found"]);
    assert_eq!(seen.len(), 1, "not found is not tried again");
    fault("401 without a challenge", |_, reply| *reply = Reply::status(401), &["does not say how to log in"]);
    fault(
        "403",
        |_, reply| *reply = Reply::status(403),
        &["/library/app, repository does not exist", "docker login"],
    );
    let seen = fault("500", |_, reply| *reply = Reply::status(500), &["status 500"]);
    assert_eq!(seen.len(), 3, "tried again");
    let seen =
        fault("429", |_, reply| *reply = Reply::status(429).header("retry-after", "0"), &["status 429"]);
    assert_eq!(seen.len(), 3, "tried again");
    fault("manifest hangs", |_, r| (r.cut, r.hang, r.promise) = (Some(0), true, Some(10)), &["manifests/t"]);
    let hang = |_: &Request, r: &mut Reply| {
        if is_layer(r) {
            (r.cut, r.hang) = (Some(0), true);
        }
    };
    fault("layer hangs", hang, &["download", "blobs/sha256:", "after 0 of 7"]);
    let lie = |_: &Request, r: &mut Reply| {
        if is_layer(r) {
            r.body.push(0);
        }
    };
    fault("layer too long", lie, &["the manifest says"]);
    let flip = |_: &Request, r: &mut Reply| {
        if is_layer(r) {
            r.body[50_000] ^= 1;
        }
    };
    let spoil_start = |_: &Request, r: &mut Reply| {
        if is_layer(r) {
            r.body[0] ^= 1;
        }
    };
    let seen = fault("layer's first byte", spoil_start, &["content with digest sha256:", "expected sha256:"]);
    assert_eq!(count(&seen, "blobs/sha256:"), 3, "the configuration once, the layer twice: {seen:?}");
    let seen = fault("layer's digest", flip, &["content with digest sha256:", "expected sha256:"]);
    assert_eq!(count(&seen, "blobs/sha256:"), 3, "the configuration once, the layer twice: {seen:?}");
    let flip_config = |_: &Request, r: &mut Reply| {
        if r.body.starts_with(b"{\"architecture") || r.body.starts_with(b"{\"config\":{\"Cmd") {
            let last = r.body.len() - 2;
            r.body[last] ^= 1;
        }
    };
    fault("configuration's digest", flip_config, &["image configuration"]);
    let flip_manifest = |_: &Request, r: &mut Reply| {
        if !r.headers.is_empty() {
            r.body.push(b' ');
        }
    };
    fault("manifest's digest", flip_manifest, &["the manifest has digest sha256:", "expected sha256:"]);
    let huge = |_: &Request, r: &mut Reply| {
        if !r.headers.is_empty() {
            r.body.resize(5 << 20, b' ');
        }
    };
    fault("huge manifest", huge, &["over 4194304 bytes"]);
    let kind = |_: &Request, r: &mut Reply| {
        r.headers
            .iter_mut()
            .filter(|(name, _)| name == "content-type")
            .for_each(|(_, v)| *v = crate::media::DOCKER_MANIFEST.into());
    };
    fault("another type", kind, &["ambiguous manifest"]);
    let bad_digest = |_: &Request, r: &mut Reply| {
        r.headers
            .iter_mut()
            .filter(|(n, _)| n == "docker-content-digest")
            .for_each(|(_, v)| *v = "sha256:../../x".into());
    };
    fault("path for a digest", bad_digest, &["Docker-Content-Digest"]);
    fault(
        "redirect loop",
        |q, r| *r = Reply::status(307).header("location", &q.path),
        &["too many redirects"],
    );
    fault(
        "odd redirect",
        |_, r| *r = Reply::status(307).header("location", "file:///etc/passwd"),
        &["not a usable"],
    );
    let gone = format!(
        "127.0.0.1:{}",
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    );
    let (fixture, log) = (Fixture::new(), Log::default());
    let name = format!("{gone}/library/app:t").parse().unwrap();
    let error = pull(&fixture.store, &Registries::default(), &name, &fixture.options, &log).unwrap_err();
    let error = text(&error);
    assert!(error.contains("refused") && error.contains(&gone), "{error}");
    let lines = log.lines.lock().unwrap();
    assert!(
        !lines.iter().any(|line| line.contains("trying again")),
        "nobody is there to try again: {lines:?}"
    );
}

#[test]
fn a_layer_that_is_not_the_configurations_is_refused() {
    let (good, other) = (big(), TestImage::small());
    // A valid layer in the place of another: only the diff ID tells.
    let swapped = String::from_utf8(good.manifest.clone()).unwrap();
    let (from, to) = (good.layers[0], other.layers[0]);
    let sizes = (good.blobs[&from].len().to_string(), other.blobs[&to].len().to_string());
    let swapped = swapped.replace(&from.to_string(), &to.to_string()).replace(&sizes.0, &sizes.1);
    let mut image = good.clone();
    image.manifest = swapped.into_bytes();
    image.blobs.insert(to, other.blobs[&to].clone());
    let fixture = Fixture::new();
    let registry = FakeRegistry::start(move |request| image.serve(request));
    let error = text(&fixture.pull_from(&registry.name()).unwrap_err());
    assert!(error.contains("diff ID"), "{error}");
    fixture.assert_empty("swapped layer");
}

#[test]
fn two_pulls_share_the_work() {
    let (fixture, image) = (Fixture::new(), big());
    let layer = format!("GET /v2/library/app/blobs/{}", image.layers[0]);
    let registry = FakeRegistry::start(move |request| {
        let reply = image.serve(request);
        if is_layer(&reply) {
            std::thread::sleep(Duration::from_millis(200));
        }
        reply
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fixture.pull_from(&registry.name()).unwrap());
        }
    });
    assert_eq!(registry.seen().iter().filter(|line| **line == layer).count(), 1, "{:?}", registry.seen());
    fixture.assert_complete();
}

impl Fixture {
    fn assert_complete(&self) {
        let images = self.store.list().unwrap();
        assert!(images.len() == 1 && self.store.is_complete(&images[0]));
    }
}

#[test]
fn mirrors_come_first_and_are_not_needed() {
    let image = big();
    let served = image.clone();
    let good = FakeRegistry::start(move |request| served.serve(request));
    let bad = FakeRegistry::start(|_| Reply::status(500));
    let mut fixture = Fixture::new();
    fixture.log_in(&["docker.io"]);
    let settings = Settings {
        mirrors: vec![format!("http://{}", bad.address), format!("http://{}", good.address)],
        ..Settings::default()
    };
    let registries = Registries::default().with("docker.io", settings);
    let pulled = fixture.pull(&registries, "app:t").unwrap();
    assert_eq!(pulled.image.references[0].familiar(), "app:t");
    assert!(
        !bad.seen().is_empty() && !good.saw(SECRET) && !bad.saw(SECRET),
        "mirrors see no secret of docker.io"
    );
}

fn challenge(realm: &str) -> Reply {
    Reply::status(401)
        .header("www-authenticate", &format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"x\""))
}

#[test]
fn tokens_and_passwords_open_registries() {
    for kind in ["basic", "bearer", "anonymous"] {
        let (mut fixture, image) = (Fixture::new(), big());
        let registry = FakeRegistry::start(move |request: &Request| {
            let authorization = request.header("authorization").unwrap_or_default();
            if request.path.starts_with("/token?") {
                let good = kind == "anonymous" || authorization.starts_with("Basic ");
                assert!(
                    request.path.contains("scope=repository%3Alibrary%2Fapp%3Apull")
                        && request.path.contains("service=s")
                );
                return if good { Reply::ok(b"{\"token\":\"tok\"}") } else { Reply::status(401) };
            }
            let opens = if kind == "basic" {
                authorization.starts_with("Basic ")
            } else {
                authorization == "Bearer tok"
            };
            match (opens, kind) {
                (true, _) => image.serve(request),
                (false, "basic") => Reply::status(401).header("www-authenticate", "Basic realm=\"r\""),
                (false, _) => challenge(&format!("http://{}/token", request.header("host").unwrap())),
            }
        });
        if kind != "anonymous" {
            let error = text(&fixture.pull_from(&registry.name()).unwrap_err());
            assert!(error.contains("docker login"), "{kind}: {error}");
            fixture.log_in(&[&registry.name()]);
        }
        fixture.pull_from(&registry.name()).unwrap();
        assert_eq!(registry.saw(SECRET), kind != "anonymous");
    }
}

#[test]
fn the_second_host_never_sees_a_secret() {
    let tricks: [(&str, bool); 10] = [
        ("realm elsewhere", false),
        ("realm elsewhere, https", false),
        ("realm with user info", false),
        // Asked there without the password, as Docker does.
        ("realm that redirects", true),
        ("manifest redirects", true),
        ("blob redirects", true),
        ("blob redirects, then 401", false),
        ("redirect without scheme", true),
        ("basic, then redirect", true),
        ("realm elsewhere after a token", false),
    ];
    for (trick, succeeds) in tricks {
        let (mut fixture, image) = (Fixture::new(), big());
        let served = image.clone();
        let second = FakeRegistry::start(move |request: &Request| match request.path.as_str() {
            _ if trick == "blob redirects, then 401" => {
                Reply::status(401).header("www-authenticate", "Basic realm=x")
            }
            path if path.starts_with("/token") => Reply::ok(b"{\"token\":\"stolen\"}"),
            _ => served.serve(request),
        });
        let elsewhere = second.name();
        let registry = FakeRegistry::start(move |request: &Request| {
            let away =
                || Reply::status(307).header("location", &format!("http://{elsewhere}{}", request.path));
            let (blob, opened) =
                (request.path.contains("/blobs/"), request.header("authorization").is_some());
            let own = format!("http://{}/token", request.header("host").unwrap());
            if request.path.starts_with("/token") {
                return if trick == "realm that redirects" {
                    away()
                } else {
                    Reply::ok(b"{\"token\":\"tok\"}")
                };
            }
            match trick {
                "realm elsewhere" => challenge(&format!("http://{elsewhere}/token")),
                "realm elsewhere, https" => challenge(&format!("https://{elsewhere}/token")),
                "realm with user info" => challenge(&format!("http://127.0.0.1@{elsewhere}/token")),
                "realm elsewhere after a token" if opened && blob => {
                    challenge(&format!("http://{elsewhere}/token"))
                }
                "basic, then redirect" if !opened => {
                    Reply::status(401).header("www-authenticate", "Basic realm=x")
                }
                _ if !opened => challenge(&own),
                "manifest redirects" | "basic, then redirect" => away(),
                "redirect without scheme" if blob => {
                    Reply::status(307).header("location", &format!("//{elsewhere}{}", request.path))
                }
                _ if blob => away(),
                _ => image.serve(request),
            }
        });
        fixture.log_in(&[&registry.name()]);
        let result = fixture.pull_from(&registry.name());
        let second_saw = second.saw(SECRET) || second.saw("tok\"") || second.saw("authorization");
        assert!(!second_saw, "{trick}: {:?}", second.requests.lock().unwrap());
        let expected = succeeds && trick != "redirect without scheme";
        assert_eq!(result.is_ok(), expected, "{trick}: {:?}", result.map(|_| ()).map_err(|e| text(&e)));
    }
}

#[test]
fn a_full_disk_is_said_and_nothing_is_left() {
    // The filesystem is mounted in a mount namespace of a child's own: nothing of it is seen outside.
    let script = "mount -t tmpfs -o size=2m tmpfs \"$RBOX_TEST_FULL\" && exec \"$RBOX_TEST_EXE\" --exact pull::tests::on_a_small_disk --nocapture --ignored";
    let dir = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .env("RBOX_TEST_FULL", dir.path())
        .env("RBOX_TEST_EXE", std::env::current_exe().unwrap())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("Operation not permitted") => {
            println!("skipped: no right to make a mount namespace");
        }
        Ok(output) => {
            panic!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => println!("skipped: unshare: {error}"),
    }
}

/// Run by the test above, inside its mount namespace.
#[test]
#[ignore = "run by a_full_disk_is_said_and_nothing_is_left"]
fn on_a_small_disk() {
    let Some(dir) = std::env::var_os("RBOX_TEST_FULL") else { return };
    let mut fixture = Fixture::new();
    fixture.store = ImageStore::open(std::path::Path::new(&dir)).unwrap();
    let small = TestImage::small();
    let large = TestImage::new(&[(tar_of(&[("big", &noise(3 << 20, 3))]), "+gzip")], host_architecture());
    let registry = FakeRegistry::start({
        let (small, large) = (small.clone(), large.clone());
        move |request: &Request| {
            let first = small.serve(request);
            if first.status < 400 && !request.path.ends_with("/t") { first } else { large.serve(request) }
        }
    });
    let before = free(&fixture.store);
    let error = fixture.pull_from(&registry.name()).unwrap_err();
    assert!(error.is_disk_full() && text(&error).contains("no space left on the disk"), "{}", text(&error));
    fixture.assert_empty("full disk");
    assert!(before.abs_diff(free(&fixture.store)) < 64 << 10, "space is given back");
    // Filled to the last byte, an image can still be removed.
    let by_digest = format!("{}/library/app@{}", registry.name(), small.manifest_digest());
    let image = fixture.pull(&Registries::default(), &by_digest).unwrap().image;
    let filler = std::path::Path::new(&dir).join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    fixture
        .store
        .remove(&image.id.to_string(), crate::store::RemoveOptions { force: true, ..Default::default() })
        .unwrap();
    assert!(fixture.store.list().unwrap().is_empty());
}

fn free(store: &ImageStore) -> u64 {
    let stat = rustix::fs::statvfs(store.dir()).unwrap();
    stat.f_bavail * stat.f_frsize
}

#[test]
fn a_changed_tag_is_fetched_and_the_old_image_stays_by_digest() {
    let fixture = Fixture::new();
    let (old, new) = (TestImage::small(), big());
    let now = Arc::new(Mutex::new(old.clone()));
    let served = Arc::clone(&now);
    let registry = FakeRegistry::start(move |request| served.lock().unwrap().serve(request));
    let first = fixture.pull_from(&registry.name()).unwrap();
    *now.lock().unwrap() = new.clone();
    let second = fixture.pull_from(&registry.name()).unwrap();
    assert!(!second.up_to_date && second.image.id == new.config);
    let kept = fixture.store.find_id(&first.image.id).unwrap().unwrap();
    assert!(kept.references.is_empty() && kept.repo_digests[0].digest() == Some(&old.manifest_digest()));
    assert_eq!(second.image.manifest_type, OCI_MANIFEST);
}

#[test]
fn pulls_that_meet_in_the_middle_do_not_wait_for_each_other() {
    let tars: Vec<_> =
        (0..6).map(|n| (tar_of(&[(&format!("file{n}"), &noise(200_000, n + 1))]), "+gzip")).collect();
    let reversed: Vec<_> = tars.iter().rev().cloned().collect();
    let (sender, done) = std::sync::mpsc::channel();
    let fixture = Fixture::new();
    for layers in [tars, reversed] {
        let image = TestImage::new(&layers, host_architecture());
        let (store, mut options) = (fixture.store.clone(), fixture.options.clone());
        options.parallel = 1;
        let sender = sender.clone();
        std::thread::spawn(move || {
            let served = image.clone();
            let registry = FakeRegistry::start(move |request| {
                std::thread::sleep(Duration::from_millis(20));
                served.serve(request)
            });
            let name = format!("{}/library/app:t", registry.name()).parse().unwrap();
            let pulled = pull(&store, &Registries::default(), &name, &options, &NoProgress);
            let _ = sender.send(pulled.map(|pulled| pulled.image.layers.len()));
        });
    }
    for _ in 0..2 {
        let layers = done.recv_timeout(Duration::from_mins(1)).expect("the two pulls wait for each other");
        assert_eq!(layers.unwrap(), 6);
    }
}
