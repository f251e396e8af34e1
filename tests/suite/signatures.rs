//! Signatures: pulls that want one, and `image sign`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::registry::PasswordRegistry;
use crate::harness::{BUSYBOX, Cmd, OwnRoots, Test, has, skipped};

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// A key of openssl's, of this kind, with its public half beside it.
fn key(dir: &Path, name: &str, kind: &[&str]) -> Option<[String; 2]> {
    if !has("openssl") {
        skipped("openssl is not installed");
        return None;
    }
    let paths =
        [dir.join(name), dir.join(format!("{name}.pub"))].map(|path| path.to_str().unwrap().to_owned());
    let args = [&["genpkey", "-out", &paths[0]], kind].concat();
    Cmd::new("openssl", args).run().ok();
    Cmd::new("openssl", ["pkey", "-in", &paths[0], "-pubout", "-out", &paths[1]]).run().ok();
    Some(paths)
}

const ED25519: &[&str] = &["-algorithm", "ed25519"];
const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// A registry with an image, and roots from which pulls want a signature by a key of this file.
struct World {
    own: OwnRoots,
    registry: PasswordRegistry,
    image: String,
    digest: String,
}

fn world(t: &Test) -> Option<World> {
    let registry = PasswordRegistry::open(&t.dir("registry"))?;
    let own = OwnRoots::new(t, "own", &t.suite.registry);
    let image = format!("{}/team/app:1", registry.name);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["tag", BUSYBOX, &image]).ok();
    let out = own.run(&["push", &image]).ok();
    let digest = out.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().to_owned();
    Some(World { own, registry, image, digest })
}

/// Two keys, of both kinds, and a world whose image the first has signed; its public half is the last.
fn signed_by_one_of_two(t: &Test) -> Option<(World, [String; 3])> {
    let dir = t.dir("keys");
    let ([ed, public], [ec, _]) = (key(&dir, "ed", ED25519)?, key(&dir, "ec", P256)?);
    let world = world(t)?;
    world.own.run(&["image", "sign", "--key", &ed, &world.image]).ok();
    Some((world, [ed, ec, public]))
}

impl World {
    /// Roots whose pulls from the registry want one of these keys.
    fn strict(&self, t: &Test, what: &str, public: &str) -> OwnRoots {
        let strict = OwnRoots::new(t, what, &t.suite.registry);
        let config = json!({ "registries": { &self.registry.name: { "verify-key": public } } });
        fs::write(strict.dir.join("registries.json"), config.to_string()).unwrap();
        strict
    }

    fn signature_tag(&self) -> String {
        format!("{}.sig", self.digest.replace(':', "-"))
    }

    fn get(&self, path: &str) -> String {
        self.registry.get(path)
    }

    fn manifest(&self) -> Value {
        serde_json::from_str(&self.get(&format!("team/app/manifests/{}", self.signature_tag()))).unwrap()
    }

    fn put_manifest(&self, repository: &str, tag: &str, manifest: &Value) {
        self.registry.put_manifest(repository, Some(tag), manifest);
    }

    fn put_blob(&self, repository: &str, text: &str) -> String {
        self.registry.put_blob(repository, text)
    }
}

#[test]
fn what_is_signed_by_the_key_is_pulled_and_nothing_else() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("keys");
    let (Some([ed, first_public]), Some([ec, other_public])) =
        (key(&dir, "ed", ED25519), key(&dir, "ec", P256))
    else {
        return;
    };
    let Some(world) = world(&t) else { return };
    let image = &world.image;
    let strict = world.strict(&t, "strict", &first_public);
    let refused = |own: &OwnRoots, why: &str| {
        let key = if own.dir.to_string_lossy().ends_with("other") { &other_public } else { &first_public };
        let words = [format!("refused {image}: it is not signed by a key of {key}: "), why.to_owned()];
        let out = own.run(&["pull", image]);
        assert_eq!(out.stderr.lines().count(), 1, "{out:?}");
        out.refused(1, &words.each_ref().map(String::as_str));
        let run = own.run(&["run", "--rm", image, "true"]).code(125);
        assert!(run.stderr.lines().last().unwrap().contains("it is not signed by a key of"), "{run:?}");
        assert_eq!(own.run(&["images", "-q"]).ok(), "");
        assert_eq!(fs::read_dir(own.root.join("image/layers")).unwrap().count(), 0);
    };
    refused(&strict, "there is no signature of sha256:");

    let said = world.own.run(&["image", "sign", "--key", &ed, image]).ok();
    let signed = format!("{}/team/app@{}", world.registry.name, world.digest);
    assert_eq!(said, format!("Pushing signature to: {}/team/app\nSigned: {signed}", world.registry.name));
    let said = world.own.run(&["image", "sign", "--key", &ed, image]).ok();
    assert_eq!(said, format!("Already signed by this key: {signed}"));
    // As cosign has it.
    let manifest = world.manifest();
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], PAYLOAD);
    let payload = world.get(&format!("team/app/blobs/{}", layer["digest"].as_str().unwrap()));
    let payload: Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(payload["critical"]["image"]["docker-manifest-digest"], world.digest.as_str());
    assert_eq!(
        payload["critical"]["identity"]["docker-reference"],
        format!("{}/team/app", world.registry.name)
    );
    assert_eq!(payload["critical"]["type"], "cosign container image signature");

    for name in [image, &signed] {
        strict.run(&["pull", name]).ok();
        assert_eq!(strict.run(&["run", "--rm", "--network", "none", name, "echo", "runs"]).ok(), "runs");
    }
    // All tags: the signature is none of them.
    strict.run(&["pull", "-q", "-a", &format!("{}/team/app", world.registry.name)]).ok();

    let other = world.strict(&t, "other", &other_public);
    refused(&other, "its signature is by another key");
    world.own.run(&["image", "sign", "--key", &ec, image]).ok();
    assert_eq!(world.manifest()["layers"].as_array().unwrap().len(), 2);
    other.run(&["pull", "-q", image]).ok();
    strict.run(&["pull", "-q", image]).ok();

    // openssl checks what is made here, as cosign would.
    let layer = &world.manifest()["layers"][1];
    let files = ["payload", "signature"].map(|name| dir.join(name).to_str().unwrap().to_owned());
    let blob =
        format!("http://{}/v2/team/app/blobs/{}", world.registry.name, layer["digest"].as_str().unwrap());
    Cmd::new("curl", ["-sSf", "-o", &files[0], &blob]).run().ok();
    let text = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
    Cmd::new("sh", ["-c", &format!("printf %s '{text}' | base64 -d > {}", files[1])]).run().ok();
    let args = ["dgst", "-sha256", "-verify", &other_public, "-signature", &files[1], &files[0]];
    assert_eq!(Cmd::new("openssl", args).run().ok(), "Verified OK");
}

#[test]
fn signatures_that_were_tampered_with() {
    let Some(t) = Test::start() else { return };
    let Some((world, [ed, ec, public])) = signed_by_one_of_two(&t) else { return };
    let strict = world.strict(&t, "strict", &public);
    let image = &world.image;
    let good = world.manifest();
    let tag = world.signature_tag();
    let payload = world.get(&format!("team/app/blobs/{}", good["layers"][0]["digest"].as_str().unwrap()));
    let refused = |manifest: &Value, why: &str| {
        world.put_manifest("team/app", &tag, manifest);
        strict.run(&["pull", image]).refused(1, &["it is not signed by a key of", why]);
    };
    // A payload of another image, under the good signature, and one that says more.
    for (from, to) in [(world.digest.as_str(), format!("sha256:{}", "0".repeat(64)).as_str()), ("null", "{}")]
    {
        let mut bad = good.clone();
        let text = payload.replace(from, to);
        bad["layers"][0]["digest"] = world.put_blob("team/app", &text).into();
        bad["layers"][0]["size"] = text.len().into();
        refused(&bad, "not of its payload");
    }
    for signature in ["", "AAAA", "not base64"] {
        let mut bad = good.clone();
        bad["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"] = signature.into();
        refused(&bad, "its signature is by another key");
    }
    let mut bad = good.clone();
    bad["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
    refused(&bad, "has no signature in it");
    let mut bad = good.clone();
    bad["layers"] = json!([]);
    refused(&bad, "has no signature in it");
    // A good signature of another image, put in this one's place.
    let other = format!("{}/team/app:2", world.registry.name);
    let dir = t.dir("context");
    fs::write(dir.join("Dockerfile"), format!("FROM {BUSYBOX}\nLABEL other=1\n")).unwrap();
    world.own.run(&["build", "-q", "-t", &other, dir.to_str().unwrap()]).ok();
    let out = world.own.run(&["push", &other]).ok();
    let digest = out.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    world.own.run(&["image", "sign", "--key", &ed, &other]).ok();
    let theirs: Value =
        serde_json::from_str(&world.get(&format!("team/app/manifests/{}.sig", digest.replace(':', "-"))))
            .unwrap();
    refused(&theirs, "it is the signature of another image");
    strict.run(&["pull", "-q", &other]).ok();
    // Among others that are wrong the good one counts; and none of it is kept while none is.
    world.put_manifest("team/app", &tag, &theirs);
    world.own.run(&["image", "sign", "--key", &ec, image]).ok();
    strict.run(&["pull", image]).refused(1, &["it is the signature of another image"]);
    world.own.run(&["image", "sign", "--key", &ed, image]).ok();
    strict.run(&["pull", "-q", image]).ok();
    // What is here already is looked at again.
    world.put_manifest("team/app", &tag, &theirs);
    strict.run(&["pull", image]).refused(1, &["it is not signed by a key of"]);
}

/// An image that is copied elsewhere takes its signature with it, as with cosign: the repository's name in the payload says nothing.
#[test]
fn a_signature_is_good_in_another_repository() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("keys");
    let Some([ed, first_public]) = key(&dir, "ed", ED25519) else { return };
    let Some(world) = world(&t) else { return };
    let strict = world.strict(&t, "strict", &first_public);
    world.own.run(&["image", "sign", "--key", &ed, &world.image]).ok();
    let copy = format!("{}/mirror/app:1", world.registry.name);
    world.own.run(&["tag", &world.image, &copy]).ok();
    world.own.run(&["push", &copy]).ok();
    strict.run(&["pull", &copy]).refused(1, &["there is no signature of"]);
    let manifest = world.manifest();
    for blob in [&manifest["config"], &manifest["layers"][0]] {
        let digest = blob["digest"].as_str().unwrap();
        world.put_blob("mirror/app", &world.get(&format!("team/app/blobs/{digest}")));
    }
    world.put_manifest("mirror/app", &world.signature_tag(), &manifest);
    strict.run(&["pull", "-q", &copy]).ok();
}

#[test]
fn keys_that_cannot_be_used() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("keys");
    let Some([ed, first_public]) = key(&dir, "ed", ED25519) else { return };
    let Some(world) = world(&t) else { return };
    let image = &world.image;
    let sign = |key: &str| world.own.run(&["image", "sign", "--key", key, image]);
    sign("/nonexistent").refused(1, &["read the key /nonexistent"]);
    sign(&first_public).refused(1, &[&first_public, "no PRIVATE KEY"]);
    let cosigns = dir.join("cosign.key").to_str().unwrap().to_owned();
    fs::write(&cosigns, "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\neyJ9\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
        .unwrap();
    sign(&cosigns).refused(1, &["it is encrypted in cosign's own form"]);
    world
        .own
        .run(&["image", "sign", "--key", &ed, &format!("{}/team/none:1", world.registry.name)])
        .refused(1, &["none"]);
    world.own.run(&["image", "sign", image]).refused(125, &["--key"]);
    // Keys that pulls want.
    world.strict(&t, "gone", "/nonexistent").run(&["pull", image]).refused(1, &["read the key /nonexistent"]);
    world.strict(&t, "private", &ed).run(&["pull", image]).refused(1, &["no PUBLIC KEY"]);
}

/// What another spelling of the registry's name leads to is the same registry, and wants the same key.
#[test]
fn a_key_holds_for_every_spelling_of_the_registry() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("keys");
    let Some([ed, public]) = key(&dir, "ed", ED25519) else { return };
    let Some(world) = world(&t) else { return };
    let port = world.registry.name.split_once(':').unwrap().1;
    let local = format!("localhost:{port}");
    // Docker Hub's is a mirror here.
    world.own.run(&["tag", BUSYBOX, &format!("{local}/rbox/multi:1")]).ok();
    let multi = format!("{local}/team/multi:1");
    for machine in ["amd64", "arm64"] {
        world.own.run(&["pull", "-q", "--platform", &format!("linux/{machine}"), "rbox/multi"]).ok();
    }
    world.own.run(&["tag", "rbox/multi", &multi]).ok();
    world.own.run(&["push", &multi]).ok();
    let strict = OwnRoots::new(&t, "strict", &t.suite.registry);
    // A path from the file's own directory, wherever rbox is called.
    fs::copy(&public, strict.dir.join("team.pub")).unwrap();
    let config = json!({ "registries": {
        &local: { "verify-key": "team.pub" },
        "docker.io": { "verify-key": "./team.pub", "mirrors": [format!("http://{}", world.registry.name)] },
    } });
    fs::write(strict.dir.join("registries.json"), config.to_string()).unwrap();
    let context = strict.dir.join("context");
    fs::create_dir(&context).unwrap();
    let from = |image: &str| {
        fs::write(context.join("Dockerfile"), format!("FROM {image}\nLABEL a=b\n")).unwrap();
        strict.run(&["build", "-q", "-t", "built", context.to_str().unwrap()])
    };
    let hosts = [
        local.clone(),
        format!("LOCALHOST:{port}"),
        format!("LocalHost:0{port}"),
        "docker.io".to_owned(),
        "Docker.io".to_owned(),
        "docker.io:443".to_owned(),
        "index.docker.io".to_owned(),
        "Index.Docker.IO:0443".to_owned(),
        "registry-1.docker.io".to_owned(),
    ];
    let images: Vec<String> = hosts
        .iter()
        .flat_map(|host| [format!("{host}/team/app:1"), format!("{host}/team/multi:1")])
        .chain([
            format!("{local}/team/app@{}", world.digest),
            format!("LOCALHOST:{port}/team/app@{}", world.digest),
        ])
        .collect();
    let why = "it is not signed by a key of ";
    for image in &images {
        strict.run(&["pull", image]).refused(1, &[why, "/team.pub"]);
        let run = strict.run(&["run", "--rm", "--network", "none", image, "true"]).code(125);
        assert!(run.stderr.contains(why), "{run:?}");
        let built = from(image);
        assert!(built.code != 0 && built.stderr.contains(why), "{built:?}");
    }
    assert_eq!(strict.run(&["images", "-aq"]).ok(), "");
    for image in [&world.image, &multi] {
        world.own.run(&["image", "sign", "--key", &ed, image]).ok();
    }
    for image in &images {
        strict.run(&["pull", "-q", image]).ok();
        assert_eq!(strict.run(&["run", "--rm", "--network", "none", image, "echo", "runs"]).ok(), "runs");
        from(image).ok();
    }
    // A part of an index is another image than the index: it has no signature of its own.
    let other = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
    strict.run(&["pull", "-q", "--platform", &format!("linux/{other}"), &multi]).ok();
    let tree = strict.run(&[
        "image",
        "inspect",
        "--platform",
        &format!("linux/{other}"),
        "-f",
        "{{.Architecture}}",
        &multi,
    ]);
    assert_eq!(tree.ok(), other);
    let index = world.own.run(&["buildx", "imagetools", "inspect", "--raw", &multi]).ok();
    let index: Value = serde_json::from_str(&index).unwrap();
    let child = format!("{local}/team/multi@{}", index["manifests"][0]["digest"].as_str().unwrap());
    strict.run(&["pull", &child]).refused(1, &[why]);
    // Twice the same registry is a mistake.
    let config =
        json!({ "registries": { &local: { "verify-key": "team.pub" }, format!("LOCALHOST:{port}"): {} } });
    fs::write(strict.dir.join("registries.json"), config.to_string()).unwrap();
    strict.run(&["pull", &multi]).refused(1, &["are the same registry"]);
}

/// A registry, or who can push there, may give another image for the tag than the one that was pushed from here.
#[test]
fn what_is_signed_is_what_is_here() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("keys");
    let Some([ed, _]) = key(&dir, "ed", ED25519) else { return };
    let Some(world) = world(&t) else { return };
    let other = OwnRoots::new(&t, "other", &t.suite.registry);
    fs::write(dir.join("Dockerfile"), format!("FROM {BUSYBOX}\nLABEL evil=1\n")).unwrap();
    other.run(&["build", "-q", "-t", &world.image, dir.to_str().unwrap()]).ok();
    let out = other.run(&["push", &world.image]).ok();
    let theirs = out.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    let sign = |own: &OwnRoots, image: &str| own.run(&["image", "sign", "--key", &ed, image]);
    sign(&world.own, &world.image).refused(1, &[&world.image, theirs, &world.digest, "NAME@DIGEST"]);
    let by_digest = format!("{}/team/app@{}", world.registry.name, world.digest);
    let signed = sign(&world.own, &by_digest);
    assert_eq!(signed.stderr, "");
    assert!(signed.ok().contains(&format!("Signed: {by_digest}")));
    let signed = sign(&other, &world.image);
    assert_eq!(signed.stderr, "");
    signed.ok();
    // Who has never heard of it is told.
    let fresh = OwnRoots::new(&t, "fresh", &t.suite.registry);
    let signed = sign(&fresh, &world.image);
    assert!(signed.stderr.contains("warning: ") && signed.stderr.contains(theirs), "{signed:?}");
    signed.ok();
    assert!(!fresh.root.exists(), "signing makes no store");
}

#[test]
fn one_payload_that_cannot_be_read_hides_no_good_signature() {
    let Some(t) = Test::start() else { return };
    let Some((world, [_, ec, public])) = signed_by_one_of_two(&t) else { return };
    let strict = world.strict(&t, "strict", &public);
    let mut manifest = world.manifest();
    let large = "x".repeat(70_000);
    let digest = world.put_blob("team/app", &large);
    let mut layers = Vec::new();
    for size in [70_000, 100] {
        let mut bad = manifest["layers"][0].clone();
        bad["digest"] = digest.clone().into();
        bad["size"] = size.into();
        layers.push(bad);
    }
    layers.push(manifest["layers"][0].clone());
    manifest["layers"] = layers.clone().into();
    world.put_manifest("team/app", &world.signature_tag(), &manifest);
    strict.run(&["pull", "-q", &world.image]).ok();
    world.own.run(&["image", "sign", "--key", &ec, &world.image]).ok();
    assert_eq!(world.manifest()["layers"].as_array().unwrap().len(), 4);
    layers.pop();
    manifest["layers"] = layers.into();
    world.put_manifest("team/app", &world.signature_tag(), &manifest);
    strict.run(&["pull", &world.image]).refused(1, &["it is not signed by a key of", "payload"]);
}
