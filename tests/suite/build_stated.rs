//! `build --provenance`: what is stated of how an image was made, here, in archives and in registries.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::build::Builds;
use crate::harness::registry::PasswordRegistry;
use crate::harness::{BUSYBOX, OwnRoots, Test};

const TYPE: &str = "vnd.docker.reference.type";
const OF: &str = "vnd.docker.reference.digest";

fn text() -> String {
    format!(
        "FROM {BUSYBOX} AS tools\nARG WHO=nobody\nRUN --mount=type=secret,id=token cat /run/secrets/token > /dev/null; echo $WHO > /made\n\
         FROM scratch\nCOPY --from=tools /made /\n"
    )
}

/// The attestation of an index's image, and its statement.
fn statement(registry: &PasswordRegistry, index: &Value, place: usize) -> Value {
    let image = &index["manifests"][place]["digest"];
    let all = index["manifests"].as_array().unwrap();
    let entry = all.iter().find(|one| &one["annotations"][OF] == image).unwrap();
    assert_eq!(entry["annotations"][TYPE], "attestation-manifest");
    assert_eq!(entry["platform"], json!({ "architecture": "unknown", "os": "unknown" }));
    let get = |path: String| -> Value { serde_json::from_str(&registry.get(&path)).unwrap() };
    let manifest = get(format!("app/manifests/{}", entry["digest"].as_str().unwrap()));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.in-toto+json");
    let statement = get(format!("app/blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap()));
    assert_eq!(statement["predicateType"], manifest["layers"][0]["annotations"]["in-toto.io/predicate-type"]);
    let hex = image.as_str().unwrap().trim_start_matches("sha256:");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], hex);
    statement
}

/// Builds that are pushed to a registry, each with a secret, an argument and a label.
struct Pushed {
    b: Builds,
    registry: PasswordRegistry,
    name: String,
}

impl Pushed {
    fn open(t: &Test) -> Option<Self> {
        let registry = PasswordRegistry::open(&t.dir("registry"))?;
        let b = Builds::new(t);
        std::fs::write(b.own.dir.join("token"), "hidden-word").unwrap();
        b.file("Dockerfile", &text());
        let name = format!("{}/app:1", registry.name);
        Some(Self { b, registry, name })
    }

    /// Builds and pushes; what the registry has then.
    fn push(&self, flags: &[&str]) -> Value {
        let secret = format!("id=token,src={}", self.b.own.dir.join("token").display());
        let given = ["--secret", &secret, "--build-arg", "WHO=someone", "--label", "a=b"];
        let dir = self.b.dir.to_str().unwrap();
        let flags = [&["build", "-t", &self.name, "--push"], &given[..], flags, &[dir]].concat();
        self.b.own.run(&flags).code(0);
        serde_json::from_str(&self.registry.get("app/manifests/1")).unwrap()
    }

    fn statement(&self, flags: &[&str]) -> Value {
        statement(&self.registry, &self.push(flags), 0)
    }
}

#[test]
fn how_an_image_was_made_is_stated() {
    let Some(t) = Test::start() else { return };
    let Some(pushed) = Pushed::open(&t) else { return };
    let (b, registry) = (&pushed.b, &pushed.registry);
    let push = |flags: &[&str]| pushed.push(flags);
    // Without being asked, nothing is stated.
    assert!(push(&[]).get("manifests").is_none());
    let index = push(&["--provenance=true"]);
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
    let least = statement(registry, &index, 0);
    let predicate = &least["predicate"];
    assert_eq!(predicate["buildType"], "https://mobyproject.org/buildkit@v1");
    let invocation = &predicate["invocation"];
    assert_eq!(invocation["configSource"], json!({ "entryPoint": "Dockerfile" }));
    assert_eq!(invocation["parameters"]["secrets"], json!([{ "id": "token", "optional": true }]));
    assert_eq!(invocation["parameters"]["locals"], json!([{ "name": "context" }, { "name": "dockerfile" }]));
    assert_eq!(predicate["metadata"]["reproducible"], false);
    assert_eq!(
        predicate["metadata"]["completeness"],
        json!({ "parameters": false, "environment": true, "materials": false })
    );
    // The base, by the digest that its registry has for it.
    let base = b.own.run(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", BUSYBOX]).ok();
    let material = &predicate["materials"][0];
    assert_eq!(material["digest"]["sha256"], base.split_once("@sha256:").unwrap().1);
    assert!(material["uri"].as_str().unwrap().starts_with("pkg:docker/"), "{material}");
    let subject = least["subject"][0]["name"].as_str().unwrap();
    let wanted = format!("pkg:docker/{}/app@1?platform=linux%2F", registry.name.replace(':', "%3A"));
    assert!(subject.starts_with(&wanted), "{subject}");
    let words = least.to_string();
    assert!(!words.contains("someone") && !words.contains("hidden-word"), "{words}");
    // All of what was asked for, but no secret.
    let whole = pushed.statement(&["--attest", "type=provenance,mode=max"]);
    let args = &whole["predicate"]["invocation"]["parameters"]["args"];
    assert_eq!((&args["build-arg:WHO"], &args["label:a"]), (&json!("someone"), &json!("b")));
    let metadata = &whole["predicate"]["metadata"];
    assert_eq!(metadata["completeness"]["parameters"], true);
    let source = &metadata["https://mobyproject.org/buildkit@v1#metadata"]["source"]["infos"][0];
    assert_eq!((&source["filename"], &source["language"]), (&json!("Dockerfile"), &json!("Dockerfile")));
    assert!(!whole.to_string().contains("hidden-word"));
    let v1 = pushed.statement(&["--provenance=mode=max,version=v1,builder-id=https://builder.lan/7"]);
    assert_eq!(v1["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(v1["predicate"]["runDetails"]["builder"]["id"], "https://builder.lan/7");
    let definition = &v1["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["configSource"]["path"], "Dockerfile");
    assert_eq!(definition["externalParameters"]["request"]["args"]["build-arg:WHO"], "someone");
    assert_eq!(definition["resolvedDependencies"][0], *material);
}

#[test]
fn others_read_it_and_nothing_is_left() {
    let Some(t) = Test::start() else { return };
    let Some(pushed) = Pushed::open(&t) else { return };
    let (b, registry, name) = (&pushed.b, &pushed.registry, &pushed.name);
    let v1 = pushed.statement(&["--provenance=mode=max,version=v1"]);
    // Others read it, and take the image.
    let shown =
        b.own.run(&["buildx", "imagetools", "inspect", "--format", "{{json .Provenance}}", name]).ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["SLSA"], v1["predicate"]);
    let machine = t.program(
        "skopeo",
        ["inspect", "--tls-verify=false", "--format", "{{.Os}}", &format!("docker://{name}")],
    );
    assert_eq!(machine.run().ok(), "linux");
    let other = OwnRoots::new(&t, "other", &t.suite.registry);
    other.run(&["pull", "-q", name]).ok();
    let out = other.run(&["image", "inspect", "-f", "{{.Os}}", name]).ok();
    assert_eq!(out, "linux");
    // Pushed again under another name it goes along; without that platform's index it does not.
    let again = format!("{}/app:2", registry.name);
    b.own.run(&["tag", name, &again]).ok();
    b.own.run(&["push", "-q", &again]).ok();
    let index: Value = serde_json::from_str(&registry.get("app/manifests/2")).unwrap();
    assert_eq!(statement(registry, &index, 0)["predicate"], v1["predicate"]);
    // Nothing of it is left when its image is gone.
    b.own.run(&["rmi", "-f", name, &again]).ok();
    b.own.run(&["rmi", "-f", BUSYBOX]).ok();
    b.own.run(&["builder", "prune", "-af"]).ok();
    b.own.run(&["image", "prune", "-af"]).ok();
    let left =
        t.program("grep", ["-rl", "in-toto.io", b.own.root.join("image/blobs").to_str().unwrap()]).run();
    assert_eq!(left.stdout, "", "{}", left.stdout);
    for (flag, why) in [
        ("--provenance=mode=most", "mode=most is not supported"),
        ("--attest=type=slsa", "unknown type \"slsa\""),
        ("--sbom=true", "scan the image"),
        ("--attest=type=sbom", "scan the image"),
    ] {
        b.build(&text(), &[flag]).refused(125, &[why]);
    }
    b.build(&text(), &["--provenance=true", "--attest=type=provenance"]).refused(125, &["give one of them"]);
}

#[test]
fn archives_and_several_platforms_have_their_statements() {
    let Some(t) = Test::start() else { return };
    let Some(registry) = PasswordRegistry::open(&t.dir("registry")) else { return };
    let b = Builds::new(&t);
    b.file("x", "1");
    let name = format!("{}/app:1", registry.name);
    let several = "FROM scratch\nARG TARGETARCH\nCOPY x /$TARGETARCH\n";
    let path = b.own.dir.join("saved.tar");
    let to = format!("type=oci,dest={}", path.display());
    b.file("Dockerfile", several);
    let platforms = ["--platform", "linux/amd64,linux/arm64", "--provenance=mode=max"];
    let flags =
        [&["build", "-t", &name, "--push", "-o", &to], &platforms[..], &[b.dir.to_str().unwrap()]].concat();
    let out = b.own.run(&flags);
    assert_eq!(out.code, 0, "{}", out.stderr);
    let index: Value = serde_json::from_str(&registry.get("app/manifests/1")).unwrap();
    let all = index["manifests"].as_array().unwrap();
    assert_eq!(all.len(), 4, "{index}");
    for (place, machine) in ["amd64", "arm64"].into_iter().enumerate() {
        assert_eq!(all[place]["platform"]["architecture"], machine);
        let subject = statement(&registry, &index, place)["subject"][0]["name"].as_str().unwrap().to_owned();
        assert!(subject.ends_with(&format!("linux%2F{machine}")), "{subject}");
    }
    // The same is in the archive, whose images others find as well.
    let archive = format!("oci-archive:{}:1", path.display());
    let raw = t.program("skopeo", ["inspect", "--raw", &archive]).run().ok();
    let saved: Value = serde_json::from_str(&raw).unwrap();
    let stated = saved["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["annotations"][TYPE] == "attestation-manifest");
    assert_eq!(stated.count(), 2, "{raw}");
    let other = OwnRoots::new(&t, "other", &t.suite.registry);
    other.run(&["load", "-i", path.to_str().unwrap()]).ok();
    assert_eq!(other.run(&["image", "inspect", "-f", "{{.Os}}", &name]).ok(), "linux");
    // What is loaded brings them along, and has them when it is saved again; nothing of them stays.
    let again = b.own.dir.join("again.tar");
    other.run(&["save", "--format", "oci-archive", "-o", again.to_str().unwrap(), &name]).ok();
    let listed =
        t.program("skopeo", ["inspect", "--raw", &format!("oci-archive:{}", again.display())]).run().ok();
    assert_eq!(listed, raw);
    assert!(has_statements(&other));
    other.run(&["rmi", &name]).ok();
    assert!(!has_statements(&other));
    // One platform has an index for it, too, under which it runs.
    let text = format!("FROM {BUSYBOX}\nRUN echo made > /made\n");
    b.built(&text, &["--provenance=true", "-o", &to]);
    assert_eq!(b.sh("cat /made"), "made");
    let raw =
        t.program("skopeo", ["inspect", "--raw", &format!("oci-archive:{}", path.display())]).run().ok();
    assert!(raw.contains("attestation-manifest"), "{raw}");
    // Docker's archive is that of an image alone.
    b.own.run(&["save", "-o", path.to_str().unwrap(), "made"]).ok();
    let listed = t.program("tar", ["-xOf", path.to_str().unwrap(), "index.json"]).run().ok();
    let index: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(index["manifests"][0]["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let left = t.program("grep", ["-c", "in-toto.io", path.to_str().unwrap()]).run();
    assert_eq!(left.stdout.trim(), "0");
}

/// Whether anything stated is in the store.
fn has_statements(own: &OwnRoots) -> bool {
    let blobs = own.root.join("image/blobs");
    let found =
        own.other("grep", &["-rlE", "in-toto.io|attestation-manifest", blobs.to_str().unwrap()]).run();
    !found.stdout.is_empty()
}

#[test]
fn files_have_their_statement_among_them() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("x", "one");
    std::fs::create_dir(b.dir.join("links")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", b.dir.join("links/provenance.json")).unwrap();
    // What a link of the image's leads to is not written to.
    let text = "FROM scratch\nARG TARGETARCH\nCOPY x /d/$TARGETARCH\nCOPY x links/ /\n";
    let read = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let names = |statement: &Value| -> Vec<String> {
        let subjects = statement["subject"].as_array().unwrap().iter();
        subjects.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let out = b.own.dir.join("files");
    let to = out.to_str().unwrap();
    b.build(text, &["-o", to, "--platform", "linux/amd64"]).ok();
    assert!(std::fs::symlink_metadata(out.join("provenance.json")).unwrap().is_symlink());
    b.build(text, &["-o", to, "--platform", "linux/amd64", "--provenance", "inline-only=true"]).ok();
    assert!(std::fs::symlink_metadata(out.join("provenance.json")).unwrap().is_symlink());
    let flags = ["--provenance", "mode=max,version=v1", "--build-arg", "TARGETARCH=amd64"];
    b.build(text, &[&["-o", to, "--platform", "linux/amd64"][..], &flags].concat()).ok();
    let path = out.join("provenance.json");
    let meta = std::fs::symlink_metadata(&path).unwrap();
    assert!(meta.is_file() && meta.permissions().mode() & 0o777 == 0o600, "{meta:?}");
    let statement = read(&path);
    assert_eq!(names(&statement), ["d/amd64", "x"]);
    let sum = t.program("sha256sum", [b.dir.join("x").to_str().unwrap()]).run().ok();
    assert_eq!(statement["subject"][0]["digest"]["sha256"], sum.split(' ').next().unwrap());
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let request = &statement["predicate"]["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:TARGETARCH"], "amd64");
    // As a file of the caller; in an archive as root's.
    let tar = b.own.dir.join("files.tar");
    let to_tar = format!("type=tar,dest={}", tar.display());
    b.build(text, &["-o", &to_tar, "--platform", "linux/arm64", "--provenance=true"]).ok();
    let listed = t.program("tar", ["--numeric-owner", "-tvf", tar.to_str().unwrap()]).run().ok();
    let line = listed.lines().find(|line| line.ends_with(" provenance.json")).unwrap();
    assert!(line.starts_with("-rw------- 0/0 "), "{listed}");
    let prefixed = format!("type=local,dest={to},attestation-prefix=of-");
    b.build(text, &["-o", &prefixed, "--platform", "linux/amd64", "--provenance=true"]).ok();
    assert_eq!(names(&read(&out.join("of-provenance.json"))), ["d/amd64", "x"]);
    // Each platform has its own.
    let both = ["--platform", "linux/amd64,linux/arm64", "--provenance=true"];
    b.build(text, &[&["-o", to][..], &both].concat()).ok();
    for machine in ["amd64", "arm64"] {
        let statement = read(&out.join(format!("linux_{machine}/provenance.json")));
        assert_eq!(names(&statement), [format!("d/{machine}"), "x".to_owned()]);
    }
    b.is_tidy();
}

#[test]
fn a_build_again_leaves_nothing_of_what_was_stated_before() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let text = "FROM scratch\nCOPY x /\n";
    b.file("x", "one");
    let blobs = || {
        let dir = std::fs::read_dir(b.own.root.join("image/blobs/sha256")).unwrap();
        dir.map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>()
    };
    b.built(text, &["--provenance=true"]);
    let first = blobs();
    b.built(text, &["--provenance=true"]);
    let second = blobs();
    assert_ne!(first, second);
    assert_eq!(first.len(), second.len(), "{first:?} {second:?}");
    // Without one it is an image alone again; what was stated goes with the next thing that is new.
    b.built(text, &[]);
    b.file("x", "two");
    b.built(text, &[]);
    assert!(!has_statements(&b.own), "{:?}", blobs());
    b.is_tidy();
}
