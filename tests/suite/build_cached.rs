//! `build --cache-to` and `--cache-from` with registries, which may say anything, and with images.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::build::Builds;
use crate::build_carried::text;
use crate::harness::registry::{PasswordRegistry, sha256};
use crate::harness::{BUSYBOX, Cmd, OwnRoots, Test};

/// A context, a registry, and the name of a cache there.
struct World<'t> {
    t: &'t Test,
    b: Builds,
    registry: PasswordRegistry,
    kept: PathBuf,
    name: String,
    to: String,
}

impl<'t> World<'t> {
    fn new(t: &'t Test) -> Option<Self> {
        let b = Builds::new(t);
        b.file("x", "1");
        let kept = t.dir("registry");
        let registry = PasswordRegistry::open(&kept)?;
        let name = format!("{}/app:cache", registry.name);
        let to = format!("type=registry,ref={name},mode=max");
        Some(Self { t, b, registry, kept, name, to })
    }

    /// The same context on another host.
    fn elsewhere(&self, name: &str) -> Builds {
        Builds { own: OwnRoots::new(self.t, name, &self.t.suite.registry), dir: self.b.dir.clone() }
    }

    /// Pushes what was built last.
    fn push(&self, name: &str) {
        self.b.own.run(&["tag", "made", name]).ok();
        self.b.own.run(&["push", "-q", name]).ok();
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.registry.get(&format!("app/{path}"))).unwrap()
    }

    fn manifest(&self) -> Value {
        self.get("manifests/cache")
    }

    fn layers(&self) -> Vec<String> {
        let digest = |layer: &Value| layer["digest"].as_str().unwrap().to_owned();
        self.manifest()["layers"].as_array().unwrap().iter().map(digest).collect()
    }

    /// Where the registry keeps a blob.
    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.kept.join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Puts the steps and the manifest in anew, with digests that are right.
    fn forge(&self, change: impl Fn(&mut Value, &mut Value)) {
        let mut manifest = self.manifest();
        let mut steps = self.get(&format!("blobs/{}", manifest["config"]["digest"].as_str().unwrap()));
        change(&mut manifest, &mut steps);
        let text = steps.to_string();
        manifest["config"]["digest"] = json!(self.registry.put_blob("app", &text));
        manifest["config"]["size"] = json!(text.len());
        self.registry.put_manifest("app", Some("cache"), &manifest);
    }
}

fn taken(said: &str) -> usize {
    said.matches(" taken from the cache in ").count()
}

fn id(b: &Builds) -> String {
    b.own.run(&["image", "inspect", "-f", "{{.Id}}", "made"]).ok()
}

#[test]
fn results_of_steps_are_carried_through_a_registry() {
    let Some(t) = Test::start() else { return };
    let Some(w) = World::new(&t) else { return };
    let (b, text) = (&w.b, text());
    // The first time there is nothing yet.
    let said = b.built(&text, &["--cache-from", &w.name, "--cache-to", &w.to]);
    assert!(said.contains(&format!("[Warning] no cache is read from {}: ", w.name)), "{said}");
    assert_eq!(said.matches("writing layer sha256:").count(), 6, "{said}");
    assert_eq!(w.manifest()["config"]["mediaType"], "application/vnd.rbox.buildcache.v1+json");
    let second = w.elsewhere("second");
    let said = second.built(&text, &["--cache-from", &w.name]);
    assert_eq!(taken(&said), 6, "{said}");
    let files = "ls -ln /d; cat /other /w/part /last /w/x";
    assert_eq!((id(&second), second.sh(files)), (id(b), b.sh(files)));
    second.is_tidy();
    // What is there is not sent again, to the same name or to another one.
    for tag in ["cache", "other"] {
        let to = format!("type=registry,ref={}/app:{tag},mode=max", w.registry.name);
        let said = second.built(&text, &["--cache-to", &to]);
        assert!(!said.contains("writing layer") && said.contains("writing cache manifest"), "{said}");
    }
    // Only what the result stands on: the stage that it copies from is carried out again, so that what follows is too.
    let least = format!("{}/app:least", w.registry.name);
    b.built(&text, &["--cache-to", &least]);
    let from = format!("type=registry,ref={least}");
    assert_eq!(taken(&w.elsewhere("third").built(&text, &["--cache-from", &from])), 3);
    // Half a build is no reason to lose what there is of a whole one.
    let before = w.manifest();
    b.built(&text, &["--until", "8", "--cache-to", &w.to]);
    assert_eq!(w.manifest(), before);
    // Layers that an image was pushed with are mounted.
    let image = format!("{}/image:1", w.registry.name);
    b.built(&text, &[]);
    w.push(&image);
    let to = format!("type=registry,ref={}/mounted:1,compression=gzip", w.registry.name);
    let said = b.built(&text, &["--cache-to", &to]);
    assert_eq!(said.matches(" from image done").count(), 5, "{said}");
}

#[test]
fn steps_of_several_platforms_are_carried_together() {
    let Some(t) = Test::start() else { return };
    let Some(w) = World::new(&t) else { return };
    let text = format!(
        "FROM --platform=$BUILDPLATFORM {BUSYBOX} AS build\nRUN cat /proc/sys/kernel/random/uuid > /common\n\
         ARG TARGETARCH\nRUN cat /proc/sys/kernel/random/uuid > /$TARGETARCH\nFROM scratch\nCOPY --from=build / /\n"
    );
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let inline = format!("{}/app:inline", w.registry.name);
    w.b.built(&text, &[&platforms[..], &["--cache-to", &w.to, "--cache-to", "type=inline"]].concat());
    w.push(&inline);
    let second = w.elsewhere("second");
    let said = second
        .built(&text, &[&platforms[..], &["--cache-from", &w.name, "--cache-to", "type=inline"]].concat());
    assert_eq!(taken(&said), 5, "{said}");
    assert_eq!(id(&second), id(&w.b));
    // The images have their own last layers only; to see which these are, all before is made again.
    let said = w.elsewhere("third").built(&text, &[&platforms[..], &["--cache-from", &inline]].concat());
    assert!(taken(&said) == 0 && !said.contains("[Warning]"), "{said}");
}

#[test]
fn what_is_there_under_a_name_is_looked_at() {
    let Some(t) = Test::start() else { return };
    let Some(w) = World::new(&t) else { return };
    let (b, text) = (&w.b, text());
    let refused = |to: &str, why: &str| {
        let out = b.build(&text, &["--cache-to", to]);
        assert!(out.code == 1 && out.stderr.contains(why), "{why}: {}", out.stderr);
        let said = b.built(&text, &["--cache-to", &format!("{to},ignore-error=true")]);
        assert!(said.contains("[Warning] the cache is not exported to ") && said.contains(why), "{said}");
    };
    // An image would be gone.
    let image = format!("{}/app:image", w.registry.name);
    b.built(&text, &[]);
    w.push(&image);
    let before = w.get("manifests/image");
    refused(&format!("type=registry,ref={image}"), "is no cache but");
    assert_eq!(w.get("manifests/image"), before);
    let said = w.elsewhere("second").built(&text, &["--cache-from", &image]);
    assert!(said.contains("brings no cache: build it with --cache-to type=inline"), "{said}");
    let config = w.registry.put_blob("app", "{}");
    let theirs = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
        "config": {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": config, "size": 2}});
    w.registry.put_manifest("app", Some("cache"), &theirs);
    let said = b.built(&text, &["--cache-from", &w.name]);
    assert!(said.contains("is a cache of BuildKit's, whose keys of steps are others"), "{said}");
    let said = b.built(&text, &["--cache-to", &w.to]);
    assert!(said.contains("was a cache of BuildKit's, which is replaced"), "{said}");
    assert_eq!(w.manifest()["config"]["mediaType"], "application/vnd.rbox.buildcache.v1+json");
    // Nobody listens there, or a password is wanted.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(&format!("type=registry,ref={free}/x"), &free.to_string());
    let Some(closed) = PasswordRegistry::start(&t.dir("closed")) else { return };
    refused(&format!("type=registry,ref={}/x", closed.name), "no basic auth credentials");
    for (flags, why) in [
        (["--cache-to", "type=registry"], "registry cache exporter requires ref"),
        (["--cache-from", "type=registry"], "registry cache importer requires ref"),
        (["--cache-from", "UPPER"], "invalid ref"),
    ] {
        b.build(&text, &flags).refused(125, &[why]);
    }
}

#[test]
fn what_a_registry_says_is_not_believed() {
    let Some(t) = Test::start() else { return };
    let Some(w) = World::new(&t) else { return };
    let (b, text) = (&w.b, text());
    b.built(&text, &["--cache-to", &w.to]);
    let good = w.manifest();
    let try_it = |name: &str, why: &str, most: usize| {
        let other = w.elsewhere(name);
        let said = other.built(&text, &["--cache-from", &w.name]);
        assert!(said.contains(why) && taken(&said) <= most, "{name}: {said}");
        assert_eq!(other.sh("cat /w/x"), "1");
        other.is_tidy();
    };
    let forge = |change: &dyn Fn(&mut Value, &mut Value)| {
        w.registry.put_manifest("app", Some("cache"), &good);
        w.forge(change);
    };
    let each = |steps: &mut Value, key: &str, value: Value| {
        for step in steps["steps"].as_array_mut().unwrap() {
            step[key] = value.clone();
        }
    };
    forge(&|_, steps| each(steps, "size", json!(u64::MAX)));
    try_it("sizes", "is more than there is room for", 0);
    forge(&|_, steps| each(steps, "size", json!(1)));
    try_it("short", "not taken from the cache: ", 0);
    forge(&|_, steps| each(steps, "created", json!("not a time")));
    try_it("times", "RUN rm /d/o", 0);
    // A layer of another step, whose digest is right.
    forge(&|_, steps| {
        let first = steps["steps"][0]["blob"].clone();
        each(steps, "blob", first);
    });
    try_it("others", "not taken from the cache: ", 1);
    forge(&|manifest, _| {
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["size"] = json!(1_u64 << 40);
        }
    });
    try_it("long", "is said to be 1099511627776 bytes long", 0);
    forge(&|_, steps| *steps = json!({ "steps": "many" }));
    try_it("shape", "is damaged: ", 0);
    w.registry.put_manifest("app", Some("cache"), &good);
    // What the registry has has become other bytes, fewer of them, or is gone.
    for (number, layer) in w.layers().iter().enumerate() {
        let path = w.blob(layer);
        let mut bytes = fs::read(&path).unwrap();
        match number {
            0 => fs::remove_file(&path).unwrap(),
            1 => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
            _ => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0xff;
                fs::write(&path, bytes).unwrap();
            }
        }
    }
    try_it("damaged", "not taken from the cache: ", 0);
    fs::write(w.blob(good["config"]["digest"].as_str().unwrap()), "{\"steps\":[]}").unwrap();
    try_it("steps", "no cache is read from ", 0);
}

/// Whatever moment it is, the tag leads to the old cache or to the new one, with all their layers.
#[test]
fn a_killed_export_leaves_the_old_cache() {
    let Some(t) = Test::start() else { return };
    let Some(w) = World::new(&t) else { return };
    let text = format!("FROM {BUSYBOX}\nCOPY x /x\nRUN head -c 20000000 /dev/urandom > /noise\n");
    w.b.built(&text, &["--cache-to", &w.to]);
    let old = w.manifest();
    let dir = w.b.dir.to_str().unwrap();
    let mut killed = 0;
    for step in 1..=6 {
        w.b.file("x", &format!("step {step}"));
        w.b.built(&text, &[]);
        let build = w.b.own.cmd(&["build", "--cache-to", &w.to, dir]).spawn();
        std::thread::sleep(Duration::from_millis(step * 60));
        build.signal("KILL");
        if build.finish(Duration::from_secs(30)).code == 0 {
            break;
        }
        killed += 1;
        let now = w.manifest();
        if now != old {
            break;
        }
        for layer in w.layers() {
            let url = format!("http://{}/v2/app/blobs/{layer}", w.registry.name);
            Cmd::new("curl", ["-sSf", "-o", "/dev/null", &url]).run().ok();
        }
    }
    assert!(killed > 0);
    w.b.file("x", "1");
    w.registry.put_manifest("app", Some("cache"), &old);
    let second = w.elsewhere("second");
    assert_eq!(taken(&second.built(&text, &["--cache-from", &w.name])), 2);
    // What was killed is in nobody's way.
    w.b.built(&text, &["--cache-to", &w.to]);
    let left: Vec<_> = fs::read_dir(w.b.own.root.join("image/tmp")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_image_brings_its_own_cache() {
    let Some(t) = Test::start() else { return };
    let Some(w) = World::new(&t) else { return };
    let (b, text) = (&w.b, text());
    let image = format!("{}/app:1", w.registry.name);
    b.built(&text, &["--cache-to", "type=inline"]);
    w.push(&image);
    let (own, layers) =
        (id(b), b.own.run(&["image", "inspect", "-f", "{{len .RootFS.Layers}}", "made"]).ok());
    // The same build is the same image, whoever asks how, and another one than without.
    b.built(&text, &["--build-arg", "BUILDKIT_INLINE_CACHE=1"]);
    assert_eq!(id(b), own);
    b.built(&text, &["--build-arg", "BUILDKIT_INLINE_CACHE=0"]);
    assert_ne!(id(b), own);
    // Of `part` nothing is in the image: it is carried out again, so that what follows is too.
    let second = w.elsewhere("second");
    let said = second.built(&text, &["--cache-from", &image, "--cache-to", "type=inline"]);
    assert_eq!(taken(&said), 3, "{said}");
    assert_eq!((second.sh("cat /other"), second.sh("cat /w/x")), (b.sh("cat /other"), "1".to_owned()));
    // Where all of it is in the image, all is taken, and it is the same one.
    let text = text.replace("COPY --from=part /part .\n", "");
    b.built(&text, &["--cache-to", "type=inline"]);
    w.push(&image);
    let third = w.elsewhere("third");
    let said = third.built(&text, &["--cache-from", &image, "--cache-to", "type=inline"]);
    assert_eq!((taken(&said), id(&third)), (4, id(b)), "{said} {layers}");
    // What stands on it has steps of its own only.
    let on_it = format!("FROM {image}\nRUN echo more > /more\n");
    b.built(&on_it, &[]);
    b.own.run(&["save", "-o", &format!("{}/saved.tar", b.own.dir.display()), "made"]).ok();
    let path = format!("oci-archive:{}/saved.tar", b.own.dir.display());
    let config = t.program("skopeo", ["inspect", "--config", "--raw", &path]).run().ok();
    assert!(!config.contains("buildcache"), "{config}");
    // A layer is asked for when a step needs it: of what has changed nothing is.
    let config = w.get("manifests/1")["config"]["digest"].as_str().unwrap().to_owned();
    let mut fields = w.get(&format!("blobs/{config}"));
    let steps = fields["io.rbox.buildcache.v1"]["steps"].as_array_mut().unwrap();
    for step in steps.iter_mut() {
        step["size"] = json!(512);
    }
    let put = |fields: &Value| {
        let text = fields.to_string();
        let mut manifest = w.get("manifests/1");
        manifest["config"]["digest"] = json!(w.registry.put_blob("app", &text));
        manifest["config"]["size"] = json!(text.len());
        w.registry.put_manifest("app", Some("1"), &manifest);
        assert_eq!(manifest["config"]["digest"], sha256(&text));
    };
    put(&fields);
    let fourth = w.elsewhere("fourth");
    let said = fourth.built(&text, &["--cache-from", &image]);
    assert!(said.contains("not taken from the cache: ") && taken(&said) == 0, "{said}");
    // Layers that there are not, and what is no list.
    fields["io.rbox.buildcache.v1"]["steps"][0]["layer"] = json!(1_u64 << 60);
    put(&fields);
    fourth.built(&text, &["--no-cache", "--cache-from", &image]);
    fields["io.rbox.buildcache.v1"] = json!([1]);
    put(&fields);
    let said = fourth.built(&text, &["--cache-from", &image]);
    assert!(said.contains("no cache is read from ") && said.contains(" is damaged: "), "{said}");
}
