//! `build --cache-to` and `--cache-from type=local`: results of steps in a directory, which may be anybody's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::build::Builds;
use crate::harness::registry::sha256;
use crate::harness::{BUSYBOX, OwnRoots, Test};

/// What is random would be seen to be made again. `part` is needed by no layer of the result.
pub(crate) fn text() -> String {
    format!(
        "FROM {BUSYBOX} AS part\nRUN cat /proc/sys/kernel/random/uuid > /part\n\
         FROM {BUSYBOX} AS other\nRUN cat /proc/sys/kernel/random/uuid > /other && mkdir /d && ln /other /d/o && chown 5:6 /d\n\
         FROM other\nWORKDIR /w\nCOPY x .\nCOPY --from=part /part .\nRUN rm /d/o && cat /proc/sys/kernel/random/uuid > /last\n"
    )
}

/// A context and a directory for a cache.
struct World<'t> {
    t: &'t Test,
    b: Builds,
    place: PathBuf,
    to: String,
    from: String,
}

impl<'t> World<'t> {
    fn new(t: &'t Test) -> Self {
        let b = Builds::new(t);
        b.file("x", "1");
        let place = b.own.dir.join("cache");
        let (to, from) =
            (format!("type=local,dest={}", place.display()), format!("type=local,src={}", place.display()));
        Self { t, b, place, to, from }
    }

    /// The same context on another host.
    fn elsewhere(&self, name: &str) -> Builds {
        Builds { own: OwnRoots::new(self.t, name, &self.t.suite.registry), dir: self.b.dir.clone() }
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.place.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    fn blobs(&self) -> usize {
        fs::read_dir(self.place.join("blobs/sha256")).unwrap().count()
    }

    fn layers(&self) -> Vec<String> {
        let index = document(&self.place.join("index.json"));
        let manifest = document(&self.blob(index["manifests"][0]["digest"].as_str().unwrap()));
        let digest = |layer: &Value| layer["digest"].as_str().unwrap().to_owned();
        manifest["layers"].as_array().unwrap().iter().map(digest).collect()
    }

    /// Writes the steps and the manifest anew, with digests that are right.
    fn forge(&self, change: impl Fn(&mut Value, &mut Value)) {
        let path = self.place.join("index.json");
        let mut index = document(&path);
        let mut manifest = document(&self.blob(index["manifests"][0]["digest"].as_str().unwrap()));
        let mut steps = document(&self.blob(manifest["config"]["digest"].as_str().unwrap()));
        change(&mut manifest, &mut steps);
        let put = |value: &Value, descriptor: &mut Value| {
            let text = value.to_string();
            descriptor["digest"] = json!(sha256(&text));
            descriptor["size"] = json!(text.len());
            fs::write(self.blob(&sha256(&text)), text).unwrap();
        };
        put(&steps, &mut manifest["config"]);
        put(&manifest, &mut index["manifests"][0]);
        fs::write(path, index.to_string()).unwrap();
    }
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn taken(said: &str) -> usize {
    said.matches(" taken from the cache in ").count()
}

fn id(b: &Builds) -> String {
    b.own.run(&["image", "inspect", "-f", "{{.Id}}", "made"]).ok()
}

#[test]
fn results_of_steps_are_carried_from_one_root_to_another() {
    let Some(t) = Test::start() else { return };
    let w = World::new(&t);
    let (b, text) = (&w.b, text());
    // The first time there is nothing yet.
    let said = b.built(&text, &["--cache-from", &w.from, "--cache-to", &format!("{},mode=max", w.to)]);
    assert!(said.contains("[Warning] no cache is read from "), "{said}");
    assert_eq!(said.matches("writing layer sha256:").count(), 6, "{said}");
    let second = w.elsewhere("second");
    let said = second.built(&text, &["--cache-from", &w.from]);
    assert_eq!(taken(&said), 6, "{said}");
    let files = "ls /d; cat /other /w/part /last /w/x";
    assert_eq!((id(&second), second.sh(files)), (id(b), b.sh(files)));
    // What was taken is in the cache of the other root, which can pass it on; what is the same is written once.
    let said = second.built(&text, &["--cache-to", &format!("{},mode=max,tag=second", w.to)]);
    assert!(!said.contains("writing layer") && taken(&said) == 0, "{said}");
    second.is_tidy();
    // Only what the result stands on: the stage that it copies from is carried out again, so that what follows is too.
    b.built(&text, &["--cache-to", &w.to]);
    let said = w.elsewhere("third").built(&text, &["--cache-from", &w.from]);
    assert_eq!(taken(&said), 3, "{said}");
    // The other tag has all of it still, and a tag that is written again leaves nothing behind.
    let said = w.elsewhere("fourth").built(&text, &["--cache-from", &format!("{},tag=second", w.from)]);
    assert_eq!(taken(&said), 6, "{said}");
    let before = w.blobs();
    fs::write(w.place.join("blobs/sha256/.rbox-new-left"), "killed").unwrap();
    for content in ["2", "3"] {
        b.file("x", content);
        b.built(&text, &["--cache-to", &w.to]);
    }
    assert!(w.blobs() <= before + 3, "{before} {}", w.blobs());
    // Half a build is no reason to lose what there is of a whole one.
    let index = fs::read(w.place.join("index.json")).unwrap();
    b.built(&text, &["--until", "8", "--cache-to", &w.to]);
    assert_eq!(fs::read(w.place.join("index.json")).unwrap(), index);
    b.build(&text, &["--cache-to", "type=local"]).refused(125, &["local cache exporter requires dest"]);
    let said = b.built(&text, &["--cache-from", "type=s3,bucket=b", "--cache-to", "type=gha"]);
    assert!(said.contains("--cache-from type=s3,bucket=b is not used: there are only "), "{said}");
}

#[test]
fn what_is_damaged_is_made_again_and_written_again() {
    let Some(t) = Test::start() else { return };
    let w = World::new(&t);
    let (b, text) = (&w.b, text());
    let to = format!("{},mode=max", w.to);
    b.built(&text, &["--cache-to", &to]);
    let layers = w.layers();
    let damage = || {
        for (number, layer) in layers.iter().enumerate() {
            let mut bytes = fs::read(w.blob(layer)).unwrap();
            match number {
                0 => fs::remove_file(w.blob(layer)).unwrap(),
                1 => fs::write(w.blob(layer), &bytes[..bytes.len() / 2]).unwrap(),
                _ => {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0xff;
                    fs::write(w.blob(layer), bytes).unwrap();
                }
            }
        }
    };
    damage();
    let second = w.elsewhere("second");
    let said = second.built(&text, &["--cache-from", &w.from]);
    assert!(said.contains(" not taken from the cache: ") && taken(&said) == 0, "{said}");
    assert_eq!(second.sh("cat /w/x"), "1");
    second.is_tidy();
    // Of the right length or not.
    let said = b.built(&text, &["--cache-to", &to]);
    assert_eq!(said.matches("writing layer sha256:").count(), 6, "{said}");
    let third = w.elsewhere("third");
    third.built(&text, &["--cache-from", &w.from]);
    assert_eq!(id(&third), id(b));
}

#[test]
fn nothing_outside_of_the_directory_is_touched_and_nothing_of_others_in_it() {
    let Some(t) = Test::start() else { return };
    let w = World::new(&t);
    let (b, text) = (&w.b, text());
    let refused = |why: &str| {
        let out = b.build(&text, &["--cache-to", &w.to]);
        assert!(out.code == 1 && out.stderr.contains(why), "{why}: {}", out.stderr);
    };
    // A link instead of a directory or a file.
    let outside = b.own.dir.join("outside");
    fs::create_dir_all(outside.join("sha256")).unwrap();
    fs::write(outside.join("sha256/kept"), "kept").unwrap();
    fs::create_dir(&w.place).unwrap();
    symlink(&outside, w.place.join("blobs")).unwrap();
    refused("there is a link in it");
    assert_eq!(fs::read_dir(outside.join("sha256")).unwrap().count(), 1);
    fs::remove_file(w.place.join("blobs")).unwrap();
    fs::write(outside.join("index.json"), "{}").unwrap();
    symlink(outside.join("index.json"), w.place.join("index.json")).unwrap();
    refused("there is a link in it");
    assert_eq!(fs::read_to_string(outside.join("index.json")).unwrap(), "{}");
    fs::remove_dir_all(&w.place).unwrap();
    // The directory itself may be a link of the caller's.
    fs::create_dir(b.own.dir.join("linked")).unwrap();
    symlink(b.own.dir.join("linked"), &w.place).unwrap();
    b.built(&text, &["--cache-to", &w.to]);
    assert!(b.own.dir.join("linked/index.json").exists());
    // A layout of somebody else's, under the same name and another.
    fs::remove_file(&w.place).unwrap();
    b.built(&text, &["-o", &format!("type=oci,dest={}.tar,name=other:latest", w.place.display())]);
    fs::create_dir(&w.place).unwrap();
    t.program("tar", ["-C", w.place.to_str().unwrap(), "-xf", &format!("{}.tar", w.place.display())])
        .run()
        .ok();
    let before = (document(&w.place.join("index.json")), w.blobs());
    refused("has no cache of rbox under this name");
    assert_eq!((document(&w.place.join("index.json")), w.blobs()), before);
    for _ in 0..2 {
        b.built(&text, &["--no-cache", "--cache-to", &format!("{},tag=steps", w.to)]);
    }
    let all = document(&w.place.join("index.json"));
    assert_eq!(all["manifests"][0], before.0["manifests"][0]);
    let image = format!("oci:{}:latest", w.place.display());
    t.program("skopeo", ["copy", &image, &format!("dir:{}/copied", b.own.dir.display())]).run().ok();
    // What is no layout is not written over.
    fs::write(w.place.join("index.json"), "{").unwrap();
    refused("is no OCI layout: index.json");
    let said = b.built(&text, &["--cache-to", &format!("{},ignore-error=true", w.to)]);
    assert!(said.contains("[Warning] the cache is not exported to "), "{said}");
    assert_eq!(fs::read_to_string(w.place.join("index.json")).unwrap(), "{");
}

#[test]
fn what_a_cache_says_is_not_believed() {
    let Some(t) = Test::start() else { return };
    let w = World::new(&t);
    let (b, text) = (&w.b, text());
    let to = format!("{},mode=max", w.to);
    b.built(&text, &["--cache-to", &to]);
    let try_it = |name: &str, why: &str| {
        let other = w.elsewhere(name);
        let said = other.built(&text, &["--cache-from", &w.from]);
        assert!(said.contains(why) && (name != "times" || taken(&said) == 0), "{why}: {said}");
        assert_eq!(other.sh("cat /w/x"), "1");
        // Sizes that are listed and added up are its own.
        let total = other.own.run(&["builder", "du"]).ok();
        assert!(total.contains("Total:"), "{total}");
        other.is_tidy();
    };
    let each = |steps: &mut Value, key: &str, value: Value| {
        for step in steps["steps"].as_array_mut().unwrap() {
            step[key] = value.clone();
        }
    };
    w.forge(|_, steps| each(steps, "size", json!(u64::MAX)));
    try_it("sizes", "is more than there is room for");
    b.built(&text, &["--cache-to", &to]);
    w.forge(|_, steps| each(steps, "size", json!(1)));
    try_it("short", "not taken from the cache: ");
    b.built(&text, &["--cache-to", &to]);
    w.forge(|_, steps| each(steps, "created", json!("not a time")));
    try_it("times", "RUN rm /d/o");
    // A layer of another step, whose digest is right.
    b.built(&text, &["--cache-to", &to]);
    w.forge(|_, steps| {
        let first = steps["steps"][0]["blob"].clone();
        each(steps, "blob", first);
    });
    try_it("others", "not taken from the cache: ");
    // Zeros that take no room until they are read.
    b.built(&text, &["--cache-to", &to]);
    let length = 1_u64 << 40;
    for layer in w.layers() {
        fs::File::options().write(true).open(w.blob(&layer)).unwrap().set_len(length).unwrap();
    }
    w.forge(|manifest, steps| {
        each(steps, "size", json!(length));
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["size"] = json!(length);
        }
    });
    try_it("sparse", "it is a sparse file of ");
}

/// A layer of zeros is packed to less than a thousandth.
#[test]
fn what_packs_well_is_carried_as_well() {
    let Some(t) = Test::start() else { return };
    let w = World::new(&t);
    let text = format!("FROM {BUSYBOX}\nRUN head -c 100000000 /dev/zero > /zeros && date +%s%N > /when\n");
    w.b.built(&text, &["--cache-to", &w.to]);
    let packed: u64 = w.layers().iter().map(|layer| fs::metadata(w.blob(layer)).unwrap().len()).sum();
    assert!(packed < 100_000_000 / 1000, "{packed}");
    let second = w.elsewhere("second");
    let said = second.built(&text, &["--cache-from", &w.from]);
    assert_eq!((taken(&said), id(&second)), (1, id(&w.b)), "{said}");
    // It is known to be there, too.
    let said = second.built(&text, &["--cache-to", &w.to]);
    assert!(!said.contains("writing layer"), "{said}");
    // One that is longer than was said is not taken.
    w.forge(|_, steps| steps["steps"][0]["size"] = json!(50_000_000));
    let said = w.elsewhere("third").built(&text, &["--cache-from", &w.from]);
    assert!(said.contains("not taken from the cache: "), "{said}");
}

#[test]
fn what_could_not_be_written_as_a_whole_leaves_nothing() {
    let Some(t) = Test::start() else { return };
    let w = World::new(&t);
    let (b, text) = (&w.b, text());
    b.built(&text, &[]);
    // The last thing before the index cannot be written.
    fs::create_dir_all(w.place.join("oci-layout")).unwrap();
    let failed = |why: &str| {
        let out = b.build(&text, &["--cache-to", &format!("{},mode=max", w.to)]);
        assert!(out.code == 1 && out.stderr.contains(why), "{why}: {}", out.stderr);
    };
    failed("oci-layout");
    assert_eq!(w.blobs(), 0);
    // A layer of the store is damaged, after others were written.
    fs::remove_dir(w.place.join("oci-layout")).unwrap();
    b.built(&text, &["--cache-to", &w.to]);
    let (before, index) = (w.blobs(), fs::read(w.place.join("index.json")).unwrap());
    let top = b.own.run(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", "made"]).ok();
    let layers: Vec<String> = serde_json::from_str(&top).unwrap();
    fs::remove_dir_all(w.place.join("blobs")).unwrap();
    let dir = |layer: &String| b.own.root.join("image/layers").join(layer.strip_prefix("sha256:").unwrap());
    fs::write(dir(layers.last().unwrap()).join("fs/last"), "other").unwrap();
    failed("is damaged: its files have changed");
    assert_eq!((w.blobs(), fs::read(w.place.join("index.json")).unwrap()), (0, index), "{before}");
    // What was killed is in nobody's way.
    for left in ["blobs/sha256/.rbox-new-1", ".rbox-new-2"] {
        fs::write(w.place.join(left), "killed").unwrap();
    }
    b.built(&text, &["--no-cache", "--cache-to", &w.to]);
    let all: Vec<PathBuf> = [&w.place, &w.place.join("blobs/sha256")]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(all.iter().all(|path| !path.display().to_string().contains(".rbox-new-")), "{all:?}");
}

/// A directory of this host and a name on its network are not those of another.
#[test]
fn what_saw_something_of_this_host_stays_here() {
    let Some(t) = Test::start() else { return };
    let w = World::new(&t);
    let text = format!(
        "FROM {BUSYBOX}\nRUN cat /proc/sys/kernel/random/uuid > /a\nRUN --network=none cat /proc/sys/kernel/random/uuid > /b\n"
    );
    let host = w.b.own.dir.join("host");
    fs::create_dir(&host).unwrap();
    let volume = format!("{}:/mnt", host.display());
    let second = w.elsewhere("second");
    for b in [&w.b, &second] {
        b.own.run(&["network", "create", "shop"]).ok();
    }
    for (flags, carried) in [(["--network", "shop"], 1), (["-v", &volume], 0)] {
        let said = w.b.built(&text, &[&flags[..], &["--cache-to", &w.to]].concat());
        let alone = format!("{} steps are this host's alone", 2 - carried);
        assert!(said.contains(&alone), "{said}");
        w.b.built(&text, &[&flags[..], &["--cache-to", &w.to]].concat());
        let said = second.built(&text, &[&flags[..], &["--cache-from", &w.from]].concat());
        assert_eq!(taken(&said), 0, "{said}");
        // Here they are cached as any other.
        assert!(!w.b.built(&text, &flags).contains("not cached"));
    }
    w.b.built(&text, &["--network", "bridge", "--cache-to", &w.to]);
    assert_eq!(taken(&second.built(&text, &["--cache-from", &w.from])), 2);
}

/// However often an index names a manifest, and whatever its descriptors say besides.
#[test]
fn a_manifest_is_read_once_and_little_of_it_is_kept() {
    let Some(t) = Test::start() else { return };
    let w = World::new(&t);
    let (b, text) = (&w.b, text());
    b.built(&text, &["--cache-to", &w.to]);
    let path = w.place.join("index.json");
    let own = document(&path);
    // Eight of these are all that is read of one directory.
    let forge = |length: usize| {
        w.forge(|manifest, steps| {
            steps["steps"] = json!([{ "key": "k", "blob": sha256("b"), "diff_id": sha256("d"), "size": 1, "created": "", "what": "x".repeat(length) }]);
            manifest["layers"] = json!([]);
        });
        let index = document(&path);
        let one = &index["manifests"][0];
        let manifest = document(&w.blob(one["digest"].as_str().unwrap()));
        one["size"].as_u64().unwrap() + manifest["config"]["size"].as_u64().unwrap()
    };
    let (wanted, length) = ((256_u64 << 20) / 8, 33_000_000);
    let more = usize::try_from(wanted - forge(length)).unwrap();
    assert_eq!(forge(length + more), wanted);
    let mut index = document(&path);
    let long = index["manifests"][0].clone();
    let named = |tag: usize| {
        let mut one = long.clone();
        one["annotations"]["org.opencontainers.image.ref.name"] = json!(format!("t{tag}"));
        one
    };
    let mut all: Vec<Value> = (0..8).map(named).collect();
    all.push(own["manifests"][0].clone());
    index["manifests"] = json!(all);
    fs::write(&path, index.to_string()).unwrap();
    let said = b.built(&text, &["--cache-to", &format!("{},tag=second", w.to)]);
    assert!(!said.contains("writing layer"), "{said}");
    // Notes of a descriptor are not handed on.
    fs::write(&path, own.to_string()).unwrap();
    w.forge(|manifest, _| {
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["annotations"] = json!({ "note": "x".repeat(1000) });
        }
    });
    b.built(&text, &["--cache-to", &format!("{},tag=third", w.to)]);
    let index = document(&path);
    let digest = |one: &Value| one["digest"].as_str().unwrap().to_owned();
    let of: Vec<String> = index["manifests"].as_array().unwrap().iter().map(digest).collect();
    let noted = |digest: &String| fs::read_to_string(w.blob(digest)).unwrap().contains("\"note\"");
    assert_eq!(of.iter().map(noted).collect::<Vec<_>>(), [true, false]);
}
