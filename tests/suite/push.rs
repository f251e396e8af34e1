//! `push` to a real registry.

use std::fs;
use std::time::Duration;

use crate::harness::registry::PasswordRegistry;
use crate::harness::{BUSYBOX, Cmd, OwnRoots, PYTHON, Test};

/// A pair of roots and a registry of a test's own.
fn world(t: &Test) -> Option<(OwnRoots, PasswordRegistry)> {
    let registry = PasswordRegistry::open(&t.dir("registry"))?;
    Some((OwnRoots::new(t, "own", &t.suite.registry), registry))
}

/// The digest that `push` prints.
fn digest(out: &str) -> String {
    let line = out.lines().last().unwrap();
    line.split(' ').find(|word| word.starts_with("sha256:")).unwrap_or_else(|| panic!("{out}")).to_owned()
}

/// Whoever pulls it gets the same bytes, and it runs.
#[test]
fn what_was_pulled_goes_out_as_it_came() {
    let Some(t) = Test::start() else { return };
    let Some((own, registry)) = world(&t) else { return };
    let name = format!("{}/team/python:1", registry.name);
    own.run(&["pull", "-q", PYTHON]).ok();
    own.run(&["tag", PYTHON, &name]).ok();
    let id = own.run(&["image", "inspect", "-f", "{{.Id}}", PYTHON]).ok();
    let out = own.run(&["push", &name]).ok();
    assert!(
        out.starts_with(&format!("The push refers to repository [{}/team/python]\n", registry.name)),
        "{out}"
    );
    let layers = out.lines().filter(|line| line.ends_with(": Pushed")).count();
    assert!(layers > 1, "{out}");
    assert!(out.lines().last().unwrap().starts_with("1: digest: sha256:"), "{out}");

    let shown = "{{.Actor.ID}} {{.Actor.Attributes.name}}";
    let args = ["events", "--since", "1h", "--until", "0s", "-f", "event=push", "--format", shown];
    assert_eq!(own.run(&args).ok(), format!("{name} {}/team/python", registry.name));

    // Of what is there nothing is sent again.
    let again = own.run(&["push", &name]).ok();
    assert_eq!(again.lines().filter(|line| line.ends_with(": Layer already exists")).count(), layers);
    assert_eq!(digest(&again), digest(&out));
    let known = own.run(&["image", "inspect", "-f", "{{json .RepoDigests}}", &name]).ok();
    assert!(known.contains(&format!("{}/team/python@{}", registry.name, digest(&out))), "{known}");

    // Into another repository of the same registry they are mounted.
    let other = format!("{}/other/python:1", registry.name);
    own.run(&["tag", PYTHON, &other]).ok();
    let out = own.run(&["push", &other]).ok();
    let mounted = out.lines().filter(|line| line.ends_with(": Mounted from team/python")).count();
    assert_eq!(mounted, layers, "{out}");

    own.run(&["rmi", &name, &other, PYTHON]).ok();
    let pulled = own.run(&["pull", &name]).ok();
    assert!(pulled.contains(&format!("Digest: {}", digest(&out))), "{pulled}");
    assert_eq!(own.run(&["image", "inspect", "-f", "{{.Id}}", &name]).ok(), id);
    assert_eq!(own.run(&["run", "--rm", "--network", "none", &name, "echo", "runs"]).ok(), "runs");
}

/// Layers that are kept uncompressed are compressed on the way, each time the same.
#[test]
fn imported_and_loaded_images() {
    let Some(t) = Test::start() else { return };
    let Some((own, registry)) = world(&t) else { return };
    let files = own.dir.join("files");
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("text"), "of the tar\n".repeat(10_000)).unwrap();
    let (tar, archive) = (own.dir.join("files.tar"), own.dir.join("image.tar"));
    let (files, tar, archive) = (files.to_str().unwrap(), tar.to_str().unwrap(), archive.to_str().unwrap());
    Cmd::new("tar", ["-C", files, "-cf", tar, "."]).run().ok();
    let name = format!("{}/made:1", registry.name);
    own.run(&["import", "-c", "CMD [\"x\"]", tar, &name]).ok();
    let first = digest(&own.run(&["push", &name]).ok());
    own.run(&["save", "-o", archive, &name]).ok();
    let id = own.run(&["image", "inspect", "-f", "{{.Id}}", &name]).ok();
    for (compression, kind) in [("gzip", "tar+gzip"), ("zstd", "tar+zstd")] {
        own.run(&["rmi", &name]).ok();
        own.run(&["load", "-i", archive]).ok();
        let out = own.run(&["push", "--compression", compression, &name]).ok();
        assert_eq!(digest(&out) == first, compression == "gzip", "{out}");
        let url = format!("http://{}/v2/made/manifests/1", registry.name);
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        let manifest = Cmd::new("curl", ["-sSf", "-H", accept, &url]).run().ok();
        assert!(manifest.contains(kind), "{manifest}");
        own.run(&["rmi", &name]).ok();
        own.run(&["pull", &name]).ok();
        assert_eq!(own.run(&["image", "inspect", "-f", "{{.Id}}", &name]).ok(), id);
    }
}

#[test]
fn all_tags_and_quiet() {
    let Some(t) = Test::start() else { return };
    let Some((own, registry)) = world(&t) else { return };
    let repository = format!("{}/app", registry.name);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    for tag in ["1", "2", "latest"] {
        own.run(&["tag", BUSYBOX, &format!("{repository}:{tag}")]).ok();
    }
    assert_eq!(own.run(&["push", "-q", &repository]).ok(), format!("{repository}:latest"));
    let out = own.run(&["push", "-a", &repository]).ok();
    for tag in ["1", "2", "latest"] {
        assert!(out.contains(&format!("\n{tag}: digest: sha256:")), "{out}");
    }
    let tags = Cmd::new("curl", ["-sSf", &format!("http://{}/v2/app/tags/list", registry.name)]).run().ok();
    assert!(["\"1\"", "\"2\"", "\"latest\""].iter().all(|tag| tags.contains(tag)), "{tags}");
    assert!(own.run(&["image", "push", &repository]).ok().starts_with("Using default tag: latest\n"));
}

#[test]
fn what_cannot_be_pushed() {
    let Some(t) = Test::start() else { return };
    let Some((own, registry)) = world(&t) else { return };
    let repository = format!("{}/app", registry.name);
    let missing = format!("An image does not exist locally with the tag: {repository}");
    own.run(&["push", &format!("{repository}:1")]).refused(1, &[&missing]);
    own.run(&["push", "-a", &repository]).refused(1, &[&missing]);
    own.run(&["push", "-a", &format!("{repository}:1")]).refused(125, &["tag can't be used with"]);
    own.run(&["push", "UPPER"]).refused(125, &["lowercase"]);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["tag", BUSYBOX, &format!("{repository}:1")]).ok();
    own.run(&["push", &repository]).refused(1, &[&format!("tag does not exist: {repository}:latest")]);
    let by_digest = format!("{repository}@sha256:{}", "0".repeat(64));
    own.run(&["push", &by_digest]).refused(1, &["cannot push a digest reference"]);
    let name = format!("{repository}:1");
    own.run(&["push", "--platform", "linux/s390x", &name])
        .refused(1, &["does not provide the specified platform (linux/s390x)"]);
    // A port where nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    own.run(&["tag", BUSYBOX, &format!("{free}/x:1")]).ok();
    own.run(&["push", &format!("{free}/x:1")]).refused(1, &[&free.to_string()]);
}

#[test]
fn a_registry_with_a_password() {
    let Some(t) = Test::start() else { return };
    let Some(registry) = PasswordRegistry::start(&t.dir("registry")) else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let docker = own.dir.join("docker");
    let cmd = |args: &[&str]| own.cmd(args).env("DOCKER_CONFIG", &docker);
    let name = format!("{}/app:1", registry.name);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["tag", BUSYBOX, &name]).ok();
    cmd(&["push", &name]).run().refused(1, &["no basic auth credentials"]);
    cmd(&["login", "-u", "user", "--password-stdin", &registry.name]).input("pa:ss word").run().ok();
    let pushed = digest(&cmd(&["push", &name]).run().ok());
    own.run(&["rmi", &name]).ok();
    assert!(cmd(&["pull", &name]).run().ok().contains(&pushed));
    cmd(&["logout", &registry.name]).run().ok();
    cmd(&["push", &name]).run().refused(1, &["no basic auth credentials"]);
}

/// Killed at ever later moments, a push leaves the store as it was, and the next one works.
#[test]
fn a_killed_push_leaves_nothing_behind() {
    let Some(t) = Test::start() else { return };
    let Some((own, registry)) = world(&t) else { return };
    let name = format!("{}/app:1", registry.name);
    own.run(&["pull", "-q", PYTHON]).ok();
    own.run(&["tag", PYTHON, &name]).ok();
    let listed = own.run(&["images", "--no-trunc"]).ok();
    for (step, signal) in (1..=6).zip(["KILL", "INT"].into_iter().cycle()) {
        let push = own.cmd(&["push", "-q", &name]).spawn();
        std::thread::sleep(Duration::from_millis(step * step * 15));
        push.signal(signal);
        if push.finish(Duration::from_secs(30)).code == 0 {
            break;
        }
        assert_eq!(own.run(&["images", "--no-trunc"]).ok(), listed);
        let left: Vec<_> = fs::read_dir(own.root.join("image/tmp")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    own.run(&["push", "-q", &name]).ok();
    own.run(&["rmi", &name]).ok();
    own.run(&["pull", "-q", &name]).ok();
}
