//! Registries that are not quite what they should be, and with which Docker works all the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::tests::{Fixture, big, text};
use crate::hash::sha256;
use crate::media::{OCI_INDEX, OCI_MANIFEST};
use crate::testing::{FakeRegistry, Reply, Request, TestImage, gzip, host_architecture, noise, tar_of};

/// The rest of a download is refused or answered with another part: it is begun anew, and is whole.
#[test]
fn a_registry_that_cannot_resume_is_asked_for_all() {
    type Spoil = fn(Reply) -> Reply;
    let cases: [(&str, Spoil); 7] = [
        ("416", |_| Reply::status(416)),
        ("400", |_| Reply::status(400)),
        ("another part", |reply| {
            Reply { headers: Vec::new(), ..reply }.header("content-range", "bytes 0-9/700000")
        }),
        ("no content-range", |reply| Reply { headers: Vec::new(), ..reply }),
        ("a content-range that is none", |reply| {
            Reply { headers: Vec::new(), ..reply }.header("content-range", "nonsense")
        }),
        ("a shorter part", |mut reply| {
            reply.body.truncate(100_000);
            reply
        }),
        ("a cut part", |mut reply| {
            reply.cut = Some(100_000);
            reply
        }),
    ];
    for (case, spoil) in cases {
        let (fixture, image) = (Fixture::new(), big());
        let blob = image.blobs[&image.layers[0]].clone();
        let partial = fixture.store.tmp().join(format!("sha256-{}.partial", image.layers[0].hex()));
        fs::write(partial, &blob[..300_000]).unwrap();
        let registry = FakeRegistry::start(move |request| {
            let reply = image.serve(request);
            if request.header("range").is_some() { spoil(reply) } else { reply }
        });
        let pulled =
            fixture.pull_from(&registry.name()).unwrap_or_else(|error| panic!("{case}: {}", text(&error)));
        assert_eq!(fs::read(pulled.image.layers[0].dir.join("big")).unwrap(), noise(700_000, 7), "{case}");
    }
}

/// A token server in front of an image, whose tokens hold for so many requests, and what the registry says when one does not.
struct Tokens {
    good_for: usize,
    challenge_again: bool,
    expires_in: &'static str,
    redirect: bool,
}

impl Tokens {
    fn serve(self, image: TestImage) -> FakeRegistry {
        let address = Mutex::new(String::new());
        let (issued, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
        FakeRegistry::start(move |request| {
            let mut address = address.lock().unwrap();
            if let Some(host) = request.header("host") {
                address.clear();
                address.push_str(host);
            }
            if request.path.starts_with("/token?") && self.redirect {
                let to = request.path.replacen("/token", "/moved/token", 1);
                return Reply::status(307).header("location", &to);
            }
            if request.path.contains("/token?") {
                used.store(0, Ordering::SeqCst);
                let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
                let expires = self.expires_in;
                return Reply::ok(format!(r#"{{"token":"t{number}"{expires}}}"#).as_bytes());
            }
            let number = issued.load(Ordering::SeqCst);
            let known = request.header("authorization") == Some(&format!("Bearer t{number}"));
            if number > 0 && known && used.fetch_add(1, Ordering::SeqCst) < self.good_for {
                return image.serve(request);
            }
            let challenge = format!(r#"Bearer realm="http://{address}/token",service="x""#);
            if number == 0 || self.challenge_again {
                Reply::status(401).header("www-authenticate", &challenge)
            } else {
                Reply::status(401)
            }
        })
    }
}

#[test]
fn tokens_expire_move_and_are_renewed() {
    for challenge_again in [true, false] {
        for redirect in [true, false] {
            let mut fixture = Fixture::new();
            fixture.options.parallel = 1;
            // Manifest, configuration and three layers: several tokens.
            let tokens = Tokens { good_for: 2, challenge_again, expires_in: "", redirect };
            let registry = tokens.serve(TestImage::small());
            let pulled = fixture.pull_from(&registry.name());
            assert!(pulled.is_ok(), "{challenge_again} {redirect}: {}", text(&pulled.unwrap_err()));
        }
    }
    // One that holds for no time at all is not asked for twice in a row.
    let mut fixture = Fixture::new();
    fixture.options.parallel = 1;
    let tokens =
        Tokens { good_for: 1, challenge_again: false, expires_in: r#","expires_in":0"#, redirect: false };
    let registry = tokens.serve(TestImage::small());
    fixture.pull_from(&registry.name()).unwrap();
    let seen = registry.seen();
    let refused = seen.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(refused, 0, "{seen:?}");
    // An end that is nonsense is none.
    let fixture = Fixture::new();
    let expires_in = r#","expires_in":"soon""#;
    let tokens = Tokens { good_for: 99, challenge_again: false, expires_in, redirect: false };
    fixture.pull_from(&tokens.serve(TestImage::small()).name()).unwrap();
}

/// A password is not carried along to where a token server redirects.
#[test]
fn a_token_servers_redirect_gets_no_password() {
    let mut fixture = Fixture::new();
    let elsewhere = FakeRegistry::start(|_| Reply::ok(br#"{"token":"t"}"#));
    let to = format!("http://{}/token?x=y", elsewhere.name());
    let address = Mutex::new(String::new());
    let image = TestImage::small();
    let registry = FakeRegistry::start(move |request| {
        let mut address = address.lock().unwrap();
        *address = request.header("host").unwrap_or_default().to_owned();
        if request.path.starts_with("/token?") {
            return Reply::status(307).header("location", &to);
        }
        if request.header("authorization") == Some("Bearer t") {
            return image.serve(request);
        }
        Reply::status(401).header("www-authenticate", &format!(r#"Bearer realm="http://{address}/token""#))
    });
    fixture.log_in(&[&registry.name()]);
    fixture.pull_from(&registry.name()).unwrap();
    assert!(registry.saw(super::tests::SECRET), "the token server itself is shown it");
    assert!(!elsewhere.saw(super::tests::SECRET));
}

/// A registry with these documents besides the images' own, the last of them being the tag's.
fn serve(documents: Vec<Vec<u8>>, images: Vec<TestImage>) -> FakeRegistry {
    FakeRegistry::start(move |request: &Request| {
        let tag = documents.last().unwrap();
        for document in &documents {
            let digest = sha256(document);
            let path = format!("manifests/{digest}");
            if request.path.ends_with(&path) || (request.path.ends_with("manifests/t") && document == tag) {
                return Reply::ok(document)
                    .header("content-type", OCI_INDEX)
                    .header("docker-content-digest", &digest.to_string());
            }
        }
        let replies = images.iter().map(|image| image.serve(request));
        replies.into_iter().find(|reply| reply.status < 400).unwrap_or(Reply::status(404))
    })
}

/// An index of these entries: media type, content, and the platform's text if it says one.
fn index(entries: &[(&str, &[u8], Option<&str>)]) -> Vec<u8> {
    let manifests: Vec<_> = entries
        .iter()
        .map(|(media_type, content, platform)| {
            let mut entry = serde_json::json!({
                "mediaType": media_type, "digest": sha256(content), "size": content.len()});
            if let Some((os, architecture)) = platform.and_then(|text| text.split_once('/')) {
                entry["platform"] = serde_json::json!({"os": os, "architecture": architecture});
            }
            entry
        })
        .collect();
    serde_json::to_vec(
        &serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}),
    )
    .unwrap()
}

#[test]
fn indexes_inside_indexes_and_entries_without_a_platform() {
    let other = if host_architecture() == "arm64" { "amd64" } else { "arm64" };
    let make = |architecture: &str| {
        TestImage::new(&[(tar_of(&[("a", architecture.as_bytes())]), "+gzip")], architecture)
    };
    let (here, there) = (make(host_architecture()), make(other));
    let ours = format!("linux/{}", host_architecture());
    let (h, t) = (here.manifest.as_slice(), there.manifest.as_slice());
    let direct = index(&[(OCI_MANIFEST, t, Some(&format!("linux/{other}"))), (OCI_MANIFEST, h, Some(&ours))]);
    let inner = index(&[(OCI_INDEX, &direct, None)]);
    let outer = index(&[(OCI_MANIFEST, t, Some(&format!("linux/{other}"))), (OCI_INDEX, &inner, None)]);
    let silent = index(&[(OCI_MANIFEST, t, None), (OCI_MANIFEST, h, None)]);
    let late = index(&[(OCI_MANIFEST, t, None), (OCI_MANIFEST, h, Some(&ours))]);
    let beside = index(&[(OCI_MANIFEST, t, Some("unknown/unknown")), (OCI_MANIFEST, h, None)]);
    for (case, documents) in [
        ("nested", vec![direct.clone(), inner.clone(), outer]),
        ("without platforms", vec![silent]),
        ("one says", vec![late]),
        ("attestations", vec![beside]),
    ] {
        let fixture = Fixture::new();
        let tag = sha256(documents.last().unwrap());
        let registry = serve(documents, vec![here.clone(), there.clone()]);
        let pulled =
            fixture.pull_from(&registry.name()).unwrap_or_else(|error| panic!("{case}: {}", text(&error)));
        assert_eq!((pulled.image.id, pulled.digest), (here.config, tag), "{case}");
        assert!(fixture.pull_from(&registry.name()).unwrap().up_to_date, "{case}");
    }
    // Without an end, or with nothing for this machine.
    let mut chain = vec![direct];
    for _ in 0..9 {
        chain.push(index(&[(OCI_INDEX, chain.last().unwrap(), None)]));
    }
    let registry = serve(chain, vec![here.clone()]);
    let error = text(&Fixture::new().pull_from(&registry.name()).unwrap_err());
    assert!(error.contains("nested too deeply"), "{error}");
    let nothing = index(&[(OCI_MANIFEST, t, None), (OCI_MANIFEST, t, Some("windows/amd64"))]);
    let registry = serve(vec![nothing], vec![there]);
    let error = text(&Fixture::new().pull_from(&registry.name()).unwrap_err());
    assert!(error.contains("no matching manifest") && error.contains(&format!("linux/{other}")), "{error}");
}

/// Media types that are wrong about the compression: the content tells, and the digests hold.
#[test]
fn a_layer_is_what_its_content_says() {
    let tar = tar_of(&[("a", b"content")]);
    for (claimed, blob) in [
        ("+gzip", tar.clone()),
        ("", gzip(&tar)),
        ("+zstd", gzip(&tar)),
        ("+gzip", zstd::encode_all(tar.as_slice(), 1).unwrap()),
        ("+zstd", tar.clone()),
    ] {
        let mut image = TestImage::new(&[(tar.clone(), "")], host_architecture());
        let layer = image.layers[0];
        image.blobs.remove(&layer);
        let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
        manifest["layers"][0] = serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.layer.v1.tar{claimed}"),
            "digest": sha256(&blob), "size": blob.len()});
        image.manifest = serde_json::to_vec(&manifest).unwrap();
        image.blobs.insert(sha256(&blob), blob);
        let registry = FakeRegistry::start(move |request| image.serve(request));
        let fixture = Fixture::new();
        let pulled =
            fixture.pull_from(&registry.name()).unwrap_or_else(|error| panic!("{claimed}: {}", text(&error)));
        assert_eq!(fs::read(pulled.image.layers[0].dir.join("a")).unwrap(), b"content", "{claimed}");
    }
}

/// What the manifest says of the configuration's size holds, whether it is fetched or there already.
#[test]
fn the_configurations_size_is_checked_when_it_is_there_already() {
    let (fixture, good) = (Fixture::new(), TestImage::small());
    let mut bad = good.clone();
    let size = good.blobs[&good.config].len();
    let text_of = String::from_utf8(good.manifest.clone()).unwrap();
    bad.manifest =
        text_of.replace(&format!("\"size\":{size}"), &format!("\"size\":{}", size + 1)).into_bytes();
    assert_ne!(bad.manifest, good.manifest);
    let count = AtomicU32::new(0);
    let registry = FakeRegistry::start(move |request| {
        if request.path.ends_with("manifests/t") && count.fetch_add(1, Ordering::SeqCst) > 0 {
            return bad.serve(request);
        }
        good.serve(request)
    });
    fixture.pull_from(&registry.name()).unwrap();
    let error = text(&fixture.pull_from(&registry.name()).unwrap_err());
    assert!(
        error.contains("image configuration sha256:") && error.contains("bytes, the manifest says"),
        "{error}"
    );
}

#[test]
fn a_repository_that_is_not_there_is_named_as_it_was_asked_for() {
    let registry = FakeRegistry::start(|_| Reply {
        status: 404,
        ..Reply::ok(
            br#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#,
        )
    });
    let error = text(&Fixture::new().pull_from(&registry.name()).unwrap_err());
    let want = format!(
        "repository {}/library/app not found: name unknown: repository name not known to registry",
        registry.name()
    );
    assert_eq!(error, want);
    let registry = FakeRegistry::start(|_| Reply::status(404));
    let error = text(&Fixture::new().pull_from(&registry.name()).unwrap_err());
    assert_eq!(error, format!("manifest for {}/library/app:t not found: manifest unknown", registry.name()));
}
