//! Registries that cut, lie and lead elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbox_spec::Reference;
use tempfile::TempDir;

use super::*;
use crate::hash::sha256;
use crate::media::{Compression, OCI_MANIFEST};
use crate::pull::{NoProgress, PullOptions, pull};
use crate::registry::{Credential, Credentials};
use crate::store::Expected;
use crate::testing::{
    FakeRegistry, Has, Reply, Spoil, TestImage, busy_at_first, forgets_uploads, keeps_half_a_piece, noise,
    spoiled as registry, tar_of,
};

/// Keeps what happens, as lines.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl PushProgress for Seen {
    fn event(&self, event: PushEvent<'_>) {
        let line = match event {
            PushEvent::Message(text) => text.to_owned(),
            PushEvent::Layer { state: PushState::Pushing { .. } | PushState::Preparing, .. } => return,
            PushEvent::Layer { state, .. } => format!("{state:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

struct Fixture {
    _dir: TempDir,
    store: ImageStore,
    options: PushOptions,
    seen: Seen,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("images")).unwrap();
        let options = PushOptions {
            credentials: Credentials::none(),
            attempts: 3,
            backoff: Duration::from_millis(1),
            ..PushOptions::default()
        };
        Self { _dir: dir, store, options, seen: Seen::default() }
    }

    /// Puts an image into the store under these names.
    fn add(&self, image: &TestImage, names: &[&str]) {
        let transaction = self.store.transaction().unwrap();
        for digest in &image.layers {
            transaction.add_layer(image.blobs[digest].as_slice(), &Expected::default()).unwrap();
        }
        transaction.add_blob(&image.blobs[&image.config]).unwrap();
        let names: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
        transaction.register(&image.manifest, OCI_MANIFEST, &names, None).unwrap();
    }

    fn push(&self, name: &str) -> Result<Pushed, PushError> {
        push(&self.store, &Registries::default(), &name.parse().unwrap(), &self.options, &self.seen)
    }

    fn said(&self, part: &str) -> bool {
        self.seen.0.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

/// Two compressed layers, one of several pieces.
fn image() -> TestImage {
    let big = noise(20 << 20, 3);
    TestImage::new(
        &[(tar_of(&[("big", &big)]), "+gzip"), (tar_of(&[("etc/y", b"22")]), "+zstd")],
        crate::testing::host_architecture(),
    )
}

#[test]
fn an_image_goes_out_as_it_came_in_and_only_once() {
    let (fixture, image) = (Fixture::new(), image());
    let (registry, has) = registry(Box::new(|_, _, _| None));
    let name = format!("{}/app:t", registry.name());
    let other = format!("{}/app:u", registry.name());
    fixture.add(&image, &[&name, &other]);
    let pushed = fixture.push(&name).unwrap();
    assert_eq!((pushed.digest, pushed.size), (image.manifest_digest(), image.manifest.len() as u64));
    assert_eq!(has.lock().unwrap().manifests["t"], image.manifest);
    assert_eq!(has.lock().unwrap().blobs.len(), 3);
    assert!(fixture.said("Pushed") && fixture.said(&format!("t: digest: {} size: ", pushed.digest)));
    let config = registry.seen().iter().rposition(|line| line.starts_with("PUT /v2/app/blobs/"));
    let manifest = registry.seen().iter().position(|line| line == "PUT /v2/app/manifests/t");
    assert!(config < manifest, "{:?}", registry.seen());
    let sent = registry.seen().len();
    fixture.push(&other).unwrap();
    assert!(fixture.said("AlreadyExists"));
    assert!(
        registry.seen()[sent..].iter().all(|line| line.starts_with("HEAD") || line.contains("manifests"))
    );
    let known = fixture.store.get(&name).unwrap().repo_digests;
    assert_eq!(known[0].full(), format!("{}/app@{}", registry.name(), image.manifest_digest()));
    // What is pulled again is the same.
    let fresh = Fixture::new();
    let options = PullOptions { credentials: Credentials::none(), attempts: 1, ..PullOptions::default() };
    let reference = name.parse().unwrap();
    let pulled = pull(&fresh.store, &Registries::default(), &reference, &options, &NoProgress).unwrap();
    assert_eq!(pulled.digest, image.manifest_digest());
}

/// However it breaks, the upload goes on from what the registry has, or from the start where it has forgotten.
#[test]
fn a_cut_upload_goes_on() {
    let cases: [(&str, Box<Spoil>, bool); 5] = [
        ("half a piece is kept, and the connection closed", keeps_half_a_piece(), false),
        ("503", busy_at_first(), false),
        (
            "429 with a time",
            Box::new(|r, _, n| {
                (r.method == "POST" && n == 1).then(|| Reply::status(429).header("retry-after", "0"))
            }),
            false,
        ),
        ("the upload is forgotten", forgets_uploads(), true),
        (
            "only the last answer is lost",
            Box::new(|r, has, n| {
                let lost = r.method == "PUT" && n == 1;
                lost.then(|| {
                    let _ = has.serve(r);
                    Reply { silent: true, ..Reply::status(201) }
                })
            }),
            false,
        ),
    ];
    for (case, spoil, again) in cases {
        let (mut fixture, image) = (Fixture::new(), image());
        fixture.options.parallel = 1;
        let (registry, has) = registry(spoil);
        let name = format!("{}/app:t", registry.name());
        fixture.add(&image, &[&name]);
        let pushed = fixture.push(&name).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(pushed.digest, image.manifest_digest(), "{case}");
        assert!(has.lock().unwrap().manifests.contains_key("t"), "{case}");
        let sent: usize = registry.requests.lock().unwrap().iter().map(|r| r.raw.len()).sum();
        let whole: usize = image.blobs.values().map(Vec::len).sum();
        assert!(again || sent < whole + (9 << 20), "{case}: {sent} bytes were sent for {whole}");
    }
}

/// As Docker's registry does: of a request that is cut off it keeps a part, and then knows nothing of the upload any more.
#[test]
fn an_upload_that_is_forgotten_each_time_ends() {
    let (fixture, image) = (Fixture::new(), image());
    let (registry, has) = registry(Box::new(|request, has, _| {
        let is_second = request.header("content-range").is_some_and(|range| !range.starts_with("0-"));
        (request.method == "PATCH" && is_second).then(|| {
            has.upload.clear();
            Reply::status(500)
        })
    }));
    let name = format!("{}/app:t", registry.name());
    fixture.add(&image, &[&name]);
    let error = fixture.push(&name).unwrap_err().to_string();
    assert!(error.contains("status 500"), "{error}");
    assert!(has.lock().unwrap().manifests.is_empty());
    let begun = registry.seen().iter().filter(|line| line.starts_with("POST ")).count();
    assert!(begun <= 5, "the upload was begun {begun} times");
}

#[test]
fn lies_are_refused() {
    let cases: [(&str, Box<Spoil>, &str); 5] = [
        (
            "another digest of a blob",
            Box::new(|r, _, _| {
                let other = sha256(b"other").to_string();
                (r.method == "PUT").then(|| Reply::status(201).header("docker-content-digest", &other))
            }),
            "has taken what was sent for sha256:",
        ),
        (
            "another digest of the manifest",
            Box::new(|r, _, _| {
                r.path
                    .contains("/manifests/")
                    .then(|| Reply::status(201).header("docker-content-digest", "x"))
            }),
            "has taken what was sent for x",
        ),
        (
            "more than was sent",
            Box::new(|r, _, _| {
                (r.method == "PATCH").then(|| Reply::status(202).header("range", "0-99999999999"))
            }),
            "more of a blob than was sent",
        ),
        (
            "nothing is taken",
            Box::new(|r, _, _| (r.method == "PATCH").then(|| Reply::status(202).header("range", "0-0"))),
            "",
        ),
        (
            "mounted unasked",
            Box::new(|r, _, _| (r.method == "POST").then(|| Reply::status(201))),
            "before it was sent",
        ),
    ];
    for (case, spoil, why) in cases {
        let fixture = Fixture::new();
        let (registry, has) = registry(spoil);
        let name = format!("{}/app:t", registry.name());
        fixture.add(&image(), &[&name]);
        let error = fixture.push(&name).map(drop).expect_err(case).to_string();
        assert!(error.contains(why), "{case}: {error}");
        assert!(has.lock().unwrap().manifests.is_empty(), "{case}");
    }
}

#[test]
fn refusals_have_dockers_words() {
    let denied = br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    for (reply, words) in [
        (Reply { status: 403, ..Reply::ok(denied) }, "denied: requested access to the resource is denied"),
        (Reply::status(403), "denied: requested access to the resource is denied"),
        (Reply::status(401).header("www-authenticate", "Basic realm=x"), "no basic auth credentials"),
    ] {
        let fixture = Fixture::new();
        let (registry, _) = registry(Box::new(move |r, _, _| (r.method == "POST").then(|| reply.clone())));
        let name = format!("{}/app:t", registry.name());
        fixture.add(&image(), &[&name]);
        let error = fixture.push(&name).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }
    let fixture = Fixture::new();
    fixture.add(&image(), &["localhost:1/app:t"]);
    for (name, words) in [
        ("localhost:1/app:u", "tag does not exist: localhost:1/app:u"),
        ("localhost:1/other:t", "An image does not exist locally with the tag: localhost:1/other"),
    ] {
        assert_eq!(fixture.push(name).unwrap_err().to_string(), words);
    }
}

/// An upload may lead to another host; the password stays with the registry.
#[test]
fn another_host_never_sees_a_secret() {
    for by_redirect in [false, true] {
        let storage = Arc::new(Mutex::new(Has::default()));
        let inner = Arc::clone(&storage);
        let elsewhere = FakeRegistry::start(move |request| {
            let mut has = inner.lock().unwrap();
            if request.method == "PATCH" {
                let last = request.path.rsplit('/').next().unwrap().to_owned();
                has.upload.entry(last.split('?').next().unwrap().to_owned()).or_default();
            }
            has.serve(request)
        });
        let to = elsewhere.name();
        let (home, _) = registry(Box::new(move |request, has, _| {
            if request.header("authorization") != Some("Basic dXNlcjpodW50ZXIy") {
                return Some(Reply::status(401).header("www-authenticate", "Basic realm=x"));
            }
            if request.method == "POST" && !by_redirect {
                has.next += 1;
                let place = format!("http://{to}/storage/{}?signed=x", has.next);
                return Some(Reply::status(202).header("location", &place));
            }
            let upload = request.path.contains("/uploads/") && request.method != "POST";
            (upload && by_redirect)
                .then(|| Reply::status(307).header("location", &format!("http://{to}{}", request.path)))
        }));
        let mut fixture = Fixture::new();
        let (user, password) = ("user".to_owned(), "hunter2".to_owned());
        fixture.options.credentials = Credentials::only(Credential::Basic { user, password });
        let (name, image) = (format!("{}/app:t", home.name()), TestImage::small());
        fixture.add(&image, &[&name]);
        fixture.push(&name).unwrap();
        assert_eq!(storage.lock().unwrap().blobs.len(), 4, "{by_redirect}");
        assert!(home.saw("hunter2") && !elsewhere.saw("hunter2"), "{by_redirect}");
    }
}

#[test]
fn blobs_are_mounted_from_where_they_came() {
    let (fixture, image) = (Fixture::new(), image());
    let (registry, _) = registry(Box::new(|request, _, _| {
        if request.method == "HEAD" && request.path.starts_with("/v2/app/") {
            return Some(Reply::status(404));
        }
        let query = request.path.split_once("?mount=")?.1;
        let (digest, from) = query.split_once("&from=")?;
        assert_eq!(from, "some/base");
        Some(Reply::status(201).header("docker-content-digest", digest))
    }));
    let (base, name) = (format!("{}/some/base:1", registry.name()), format!("{}/app:t", registry.name()));
    fixture.add(&image, &[&base, &name]);
    fixture.push(&base).unwrap();
    registry.requests.lock().unwrap().clear();
    fixture.push(&name).unwrap();
    assert!(fixture.said("Mounted(\"some/base\")"));
    let pieces = registry.seen().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(pieces, 1, "only the configuration is sent");
}

/// A layer that is kept uncompressed goes out compressed, each time the same.
#[test]
fn an_uncompressed_layer_is_compressed() {
    let plain = TestImage::new(
        &[(tar_of(&[("a", &vec![7; 100_000])]), ""), (tar_of(&[("b", b"b")]), "+gzip")],
        crate::testing::host_architecture(),
    );
    for (compression, kind) in [(Compression::Gzip, "+gzip"), (Compression::Zstd, "+zstd")] {
        let mut fixture = Fixture::new();
        fixture.options.compression = compression;
        let (registry, has) = registry(Box::new(|_, _, _| None));
        let name = format!("{}/app:t", registry.name());
        fixture.add(&plain, &[&name]);
        let pushed = fixture.push(&name).unwrap();
        assert_ne!(pushed.digest, plain.manifest_digest());
        let manifest: crate::media::Manifest =
            rbox_spec::json::from_slice(&has.lock().unwrap().manifests["t"]).unwrap();
        assert!(manifest.layers[0].media_type.ends_with(kind), "{manifest:?}");
        assert_eq!(manifest.layers[1].digest, plain.layers[1]);
        assert!(manifest.layers[0].size < 10_000);
        assert_eq!(fixture.push(&name).unwrap().digest, pushed.digest, "another time it is another image");
        let fresh = Fixture::new();
        let options = PullOptions { credentials: Credentials::none(), ..PullOptions::default() };
        let reference = name.parse().unwrap();
        let pulled = pull(&fresh.store, &Registries::default(), &reference, &options, &NoProgress).unwrap();
        assert_eq!(pulled.image.id, plain.config);
        assert_eq!(std::fs::read_dir(fixture.store.tmp()).unwrap().count(), 0, "files are left");
    }
}

/// Pushes two layers of a store with what they are, under `cache`.
fn push_two(fixture: &Fixture, registry: &FakeRegistry) -> Result<Pushed, PushError> {
    let transaction = fixture.store.transaction().unwrap();
    let add = |name: &str| {
        let tar = tar_of(&[(name, b"1")]);
        let stored = transaction.add_layer(&*tar, &Expected::default()).unwrap();
        crate::store::Layer {
            diff_id: stored.diff_id,
            digest: stored.descriptor.digest,
            blob_size: stored.descriptor.size,
            media_type: stored.descriptor.media_type,
            dir: fixture.store.layer_path(&stored.diff_id).join("fs"),
        }
    };
    // One of them is that of two steps.
    let layers = [add("a"), add("b"), add("a")];
    let artifact = Artifact {
        layers: &layers,
        config_type: "application/x",
        config: &|blobs| serde_json::to_vec(&blobs.keys().map(ToString::to_string).collect::<Vec<_>>()),
    };
    let name = format!("{}/app:cache", registry.name()).parse().unwrap();
    push_artifact(&fixture.store, &Registries::default(), &name, &artifact, &fixture.options, &fixture.seen)
}

#[test]
fn layers_that_are_no_image_go_out_before_their_manifest() {
    let fixture = Fixture::new();
    let (registry, has) = registry(Box::new(|_, _, _| None));
    let pushed = push_two(&fixture, &registry).unwrap();
    let manifest = has.lock().unwrap().manifests["cache"].clone();
    assert_eq!(sha256(&manifest), pushed.digest);
    let manifest: crate::media::Manifest = rbox_spec::json::from_slice(&manifest).unwrap();
    assert_eq!((manifest.config.media_type.as_str(), manifest.layers.len()), ("application/x", 2));
    assert!(manifest.layers.iter().all(|layer| layer.media_type == Compression::Gzip.layer_type()));
    assert_eq!(has.lock().unwrap().blobs.len(), 3);
    let last = registry.seen().pop().unwrap();
    assert_eq!(last, "PUT /v2/app/manifests/cache");
    // Of what is there nothing is sent again.
    let before = registry.seen().len();
    push_two(&fixture, &registry).unwrap();
    let seen = registry.seen();
    assert!(
        seen[before..].iter().all(|line| line.starts_with("HEAD") || line.contains("manifests")),
        "{seen:?}"
    );
}

#[test]
fn what_a_registry_does_not_take_leaves_the_old_manifest() {
    let fixture = Fixture::new();
    let (registry, has) = registry(Box::new(|r, _, _| {
        (r.method == "PUT" && r.path.contains("/blobs/")).then(|| Reply::status(403))
    }));
    has.lock().unwrap().manifests.insert("cache".to_owned(), b"old".to_vec());
    push_two(&fixture, &registry).unwrap_err();
    assert_eq!(has.lock().unwrap().manifests["cache"], b"old");
    let left: Vec<_> = std::fs::read_dir(fixture.store.dir().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
