//! Archives written by skopeo and read by us, written by us and read by skopeo, and hostile ones.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rbox_spec::{Digest, Platform, Reference};
use serde_json::json;

use super::{ArchiveError, ImportOptions, Loaded, SaveFormat, import, load, save};
use crate::hash::sha256;
use crate::media::DOCKER_MANIFEST;
use crate::store::{Expected, ImageStore};

/// A tar of files and links, as text.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn with(mut self, name: &str, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref();
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        // Straight into the field: names that the crate would refuse are wanted too.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn link(mut self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        header.set_link_name_literal(target).unwrap();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        self.0.append(&header, std::io::empty()).unwrap();
        self
    }

    fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn layer(number: usize) -> Vec<u8> {
    Tar::new()
        .with(&format!("file-{number}"), format!("content {number}"))
        .with("etc/shared", format!("{number}"))
        .end()
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer).to_string()).collect();
    let host = rbox_spec::Platform::host();
    let config = json!({"architecture": host.architecture, "os": "linux", "config": {"Cmd": ["/file-1"]}, "unknown": 7,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": []});
    serde_json::to_vec(&config).unwrap()
}

/// A docker-archive as Docker wrote it before version 25.
fn docker_archive(tags: &[&str], layers: &[Vec<u8>]) -> Tar {
    let config = config(layers);
    let names: Vec<_> = (0..layers.len()).map(|n| format!("{n:064}/layer.tar")).collect();
    let name = format!("{}.json", sha256(&config).hex());
    let manifest = json!([{"Config": name, "RepoTags": tags, "Layers": names}]);
    let mut tar = Tar::new().with(&name, &config);
    for (name, layer) in names.iter().zip(layers) {
        tar = tar.with(name, layer);
    }
    tar.with("manifest.json", manifest.to_string()).with("repositories", "{}")
}

/// An archive as Docker wrote it before version 1.10: layers as id, parent and file, and `repositories`.
fn legacy_archive(chain: &[(&str, &str, &[u8])], repositories: &serde_json::Value) -> Tar {
    let mut tar = Tar::new();
    for (id, parent, layer) in chain {
        let mut json = json!({"id": id, "created": "2015-03-04T05:06:07.000000008Z", "container": "c0ffee",
            "container_config": {"Cmd": ["/bin/sh", "-c", format!("#(nop) ADD {id}")], "Image": ""},
            "docker_version": "1.7.0", "author": "nobody <n@example.com>", "config": {"Cmd": ["/file-1"], "Env": null},
            "architecture": "", "os": "linux", "Size": 17});
        if !parent.is_empty() {
            json["parent"] = (*parent).into();
        }
        tar = tar
            .with(&format!("{id}/VERSION"), "1.0")
            .with(&format!("{id}/json"), json.to_string())
            .with(&format!("{id}/layer.tar"), layer);
    }
    tar.with("repositories", repositories.to_string())
}

/// A store, and what is beside it.
struct Home {
    temp: tempfile::TempDir,
    store: ImageStore,
}

impl Home {
    fn new() -> Self {
        let temp = tempfile::Builder::new().prefix("rbox-archive-").tempdir().unwrap();
        let store = ImageStore::open(&temp.path().join("store")).unwrap();
        Self { temp, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn load(&self, archive: impl Read + Send) -> Result<Vec<Loaded>, ArchiveError> {
        load(&self.store, archive, &[], &mut |_| {})
    }

    fn save(&self, names: &[&str], format: SaveFormat) -> Vec<u8> {
        let mut archive = Vec::new();
        save(&self.store, names, &[], &mut archive, format).unwrap();
        archive
    }

    /// Nothing half-done is left.
    fn assert_tidy(&self, what: &str) {
        let left: Vec<_> =
            fs::read_dir(self.store.dir().join("tmp")).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{what} left {left:?}");
    }
}

fn lines(loaded: &[Loaded]) -> Vec<String> {
    loaded.iter().flat_map(Loaded::lines).collect()
}

/// Whether a program is there; says so when it is not.
fn have(program: &str) -> bool {
    let found =
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|path| path.join(program).exists());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

fn run(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Passes bytes through a program.
fn filter(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

/// A reader as a slow pipe is one.
struct Drip<'b>(&'b [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(7).min(self.0.len());
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn a_docker_archive_loads_from_a_pipe() {
    let home = Home::new();
    let layers = [layer(1), layer(2)];
    let archive = docker_archive(&["python:3.11-slim", "localhost:5000/x:y"], &layers).end();
    let loaded = home.load(Drip(&archive)).unwrap();
    assert_eq!(lines(&loaded), ["Loaded image: python:3.11-slim", "Loaded image: localhost:5000/x:y"]);
    let image = home.store.get("python:3.11-slim").unwrap();
    assert_eq!(image.id, sha256(&config(&layers)), "unknown fields of the configuration stay");
    assert_eq!(fs::read_to_string(image.layers[1].dir.join("file-2")).unwrap(), "content 2");
    assert!(home.store.is_complete(&image));
    home.assert_tidy("load");
    let again = home.load(&archive[..]).unwrap();
    assert_eq!(again[0].image.id, image.id);
    assert!(again[0].replaced.is_empty());
    let other = home.load(&docker_archive(&["python:3.11-slim"], &[layer(3)]).end()[..]).unwrap();
    let moved = format!(
        "The image python:3.11-slim already exists, renaming the old one with ID {} to empty string",
        image.id
    );
    assert_eq!(lines(&other), [moved.as_str(), "Loaded image: python:3.11-slim"]);
    let nameless = home.load(&docker_archive(&[], &[layer(4)]).end()[..]).unwrap();
    assert_eq!(lines(&nameless), [format!("Loaded image ID: {}", nameless[0].image.id)]);
}

#[test]
fn archives_with_repositories_only_load() {
    let home = Home::new();
    let (one, two, packed) = (layer(1), layer(2), filter("gzip", &["-c"], &layer(3)));
    // Every instruction had a layer then; those that changed nothing have an empty one, all of them the same.
    let empty = Tar::new().end();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|digit| digit.repeat(64));
    let chain: [(&str, &str, &[u8]); 5] =
        [(&b, &a, &empty), (&a, "", &one), (&c, &b, &two), (&d, &c, &empty), ("packed", &c, &packed)];
    let names = json!({"old/app": {"1.0": d, "latest": d}, "localhost:5000/base": {"x": b}});
    let loaded = home.load(Drip(&legacy_archive(&chain, &names).end())).unwrap();
    let head = home.store.get("old/app:1.0").unwrap();
    let mut said = lines(&loaded);
    said.sort();
    let unnamed = loaded.iter().find(|one| one.references.is_empty()).unwrap();
    assert_eq!(
        said,
        [
            format!("Loaded image ID: {}", unnamed.image.id),
            "Loaded image: localhost:5000/base:x".to_owned(),
            "Loaded image: old/app:1.0".to_owned(),
            "Loaded image: old/app:latest".to_owned(),
        ]
    );
    let diff_ids: Vec<_> = head.layers.iter().map(|layer| layer.diff_id).collect();
    assert_eq!(diff_ids, [&one, &empty, &two, &empty].map(|tar| sha256(tar)));
    assert_eq!(
        unnamed.image.layers[3].diff_id,
        sha256(&layer(3)),
        "a layer is known by what it has inflated"
    );
    assert_eq!(fs::read_to_string(head.layers[2].dir.join("etc/shared")).unwrap(), "2");
    assert_eq!(head.config.config.cmd.as_deref().unwrap(), ["/file-1"]);
    let history = &head.config.history;
    let steps: Vec<_> = history.iter().map(|step| step.created_by.clone().unwrap()).collect();
    assert_eq!(steps, [&a, &b, &c, &d].map(|id| format!("/bin/sh -c #(nop) ADD {id}")));
    assert!(history.iter().all(|step| step.author.is_some() && step.created.is_some() && !step.empty_layer));
    let written = fs::read_to_string(home.store.blob_path(&head.id)).unwrap();
    assert!(written.contains(r#""docker_version":"1.7.0""#), "{written}");
    for gone in [r#""id""#, r#""parent""#, r#""Size""#] {
        assert!(!written.contains(gone), "{gone} in {written}");
    }
    assert_eq!(home.store.get("localhost:5000/base:x").unwrap().layers.len(), 2);
    home.assert_tidy("load");
    let saved = home.save(&["old/app:1.0"], SaveFormat::DockerArchive);
    assert_eq!(Home::new().load(&saved[..]).unwrap()[0].image.id, head.id);
}

/// `repositories` and `json` are as hostile as any other file; each archive is refused for its own reason.
#[test]
fn hostile_archives_with_repositories_only_are_refused() {
    let layer = layer(1);
    let data: &[u8] = &layer;
    let name = |id: &str| json!({"a": {"1": id}});
    let one = |repositories: serde_json::Value| legacy_archive(&[("x", "", data)], &repositories).end();
    let chain = |links: &[(&str, &str)]| {
        let links: Vec<_> = links.iter().map(|(id, parent)| (*id, *parent, data)).collect();
        legacy_archive(&links, &name("x")).end()
    };
    let json_of = |json: &str| {
        let tar = Tar::new().with("x/json", json).with("x/layer.tar", data);
        tar.with("repositories", name("x").to_string()).end()
    };
    let ids: Vec<_> = (0..=crate::media::MAX_LAYERS).map(|number| format!("x{number}")).collect();
    let long: Vec<_> = ids.windows(2).map(|pair| (pair[1].as_str(), pair[0].as_str())).collect();
    let with_link = |link: &str, target: &str| {
        let tar = Tar::new().with("x/json", "{}").link(tar::EntryType::Symlink, link, target);
        tar.with("repositories", name("x").to_string()).end()
    };
    let large = format!(r#"{{"comment":"{}"}}"#, "x".repeat(crate::media::MAX_CONFIG as usize));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("its own parent", chain(&[("x", "x")]), "lead back"),
        ("a circle", chain(&[("x", "y"), ("y", "z"), ("z", "x")]), "lead back"),
        ("a circle beside it", chain(&[("x", ""), ("y", "z"), ("z", "y")]), "parents of layer y lead back"),
        (
            "no end",
            legacy_archive(&[("x", "y", data), ("y", "z", data), ("z", "y", data)], &json!({})).end(),
            "lead back",
        ),
        (
            "too long",
            chain(&[&[("x", ids.last().unwrap().as_str()), ("x0", "")], &long[..]].concat()),
            "more than 500",
        ),
        ("parent absent", chain(&[("x", "y")]), "names y, which is not in the archive"),
        ("parent above", chain(&[("x", "../x")]), "names ../x, which is not"),
        ("parent absolute", chain(&[("x", "/etc")]), "names /etc, which is not"),
        ("parent with an escape", chain(&[("x", "\u{1b}[2J")]), "which is not in the archive"),
        ("name of what is absent", one(name("y")), "repositories names y, which is not"),
        ("name of what is above", one(name("../x")), "repositories names ../x, which is not"),
        ("name of a file", one(name("x/json")), "repositories names x/json, which is not"),
        ("name of nothing", one(name("")), "which is not in the archive"),
        ("bad name", one(json!({"../../x": {"1": "x"}})), "names its image"),
        ("bad tag", one(json!({"a": {"../1": "x"}})), "names its image"),
        ("tag with a digest", one(json!({"a": {"1@sha256:e": "x"}})), "names its image"),
        ("not a map", one(json!(["x"])), "read repositories"),
        ("tags are no map", one(json!({"a": "x"})), "read repositories"),
        ("nothing", Tar::new().with("repositories", "{}").end(), "no saved image"),
        ("layer absent", Tar::new().with("x/json", "{}").with("repositories", "{}").end(), "x/layer.tar"),
        ("json absent", Tar::new().with("x/layer.tar", data).with("repositories", "{}").end(), "x/json"),
        ("json is none", json_of("x"), "read x/json"),
        ("json is a list", json_of("[]"), "read x/json"),
        ("parent is a number", json_of(r#"{"parent":1}"#), "read x/json"),
        ("parent in two cases", json_of(r#"{"Parent":"y"}"#), "read x/json"),
        ("another system", json_of(r#"{"os":"windows"}"#), "cannot load windows image on linux"),
        ("json too large", json_of(&large), "over 8388608 bytes"),
        ("layer links to itself", with_link("x/layer.tar", "layer.tar"), "x/layer.tar"),
        ("layer links to the host", with_link("x/layer.tar", "/etc/passwd"), "links out of the archive"),
        ("layer links above", with_link("x/layer.tar", "../../passwd"), "links out of the archive"),
        ("layer links to a configuration", with_link("x/layer.tar", "json"), ""),
    ];
    for (what, archive, why) in cases {
        let home = Home::new();
        let refused = home.load(&archive[..]).map(|loaded| lines(&loaded)).unwrap_err();
        let told: Vec<_> =
            std::iter::successors(Some(&refused as &dyn std::error::Error), |error| error.source())
                .map(ToString::to_string)
                .collect();
        let shown = told.join(": ");
        assert!(shown.contains(why), "{what}: {shown}");
        assert!(!shown.contains(['\u{1b}', '\r', '\n']), "{what}: {shown:?}");
        assert!(home.store.list().unwrap().is_empty(), "{what}");
        home.assert_tidy(what);
    }
}

/// One file may be the configuration of as many images as manifest.json has room for.
#[test]
fn many_images_of_a_large_configuration_are_refused() {
    let home = Home::new();
    let large = format!(r#"{{"comment":"{}"}}"#, "x".repeat(crate::media::MAX_CONFIG as usize - 20));
    let entries: Vec<_> = (0..64).map(|_| json!({"Config": "c.json", "Layers": []})).collect();
    let archive = Tar::new().with("c.json", large).with("manifest.json", json!(entries).to_string()).end();
    let refused = home.load(&archive[..]).unwrap_err();
    assert!(matches!(refused, ArchiveError::TooLarge { .. }), "{refused}");
    home.assert_tidy("load");
}

#[test]
fn every_compression_is_found_by_its_content() {
    let archive = docker_archive(&["app:1"], &[layer(1)]).end();
    for (program, args) in [("gzip", "-c"), ("zstd", "-c"), ("bzip2", "-c"), ("xz", "-c9")] {
        if !have(program) {
            continue;
        }
        let home = Home::new();
        let packed = filter(program, &[args], &archive);
        assert!(packed.len() < archive.len());
        assert_eq!(lines(&home.load(&packed[..]).unwrap()), ["Loaded image: app:1"], "{program}");
        let cut = home.load(&packed[..packed.len() / 2]);
        assert!(cut.is_err(), "{program}, cut off");
        let rootfs = filter(program, &[args], &layer(7));
        let image = import(&home.store, &rootfs[..], &ImportOptions::default()).unwrap();
        assert_eq!(image.layers[0].diff_id, sha256(&layer(7)), "{program}");
        home.assert_tidy(program);
    }
}

#[test]
fn links_between_layers_of_old_archives_are_followed() {
    let home = Home::new();
    let layers = [layer(1), layer(2), layer(1)];
    let config = config(&layers);
    let manifest = json!([{"Config": "c.json", "RepoTags": ["old:1"], "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"]}]);
    let archive = Tar::new()
        .with("c.json", &config)
        .with("a/layer.tar", &layers[0])
        .link(tar::EntryType::Symlink, "c/layer.tar", "../d/layer.tar")
        .link(tar::EntryType::Link, "d/layer.tar", "a/layer.tar")
        .with("./b/layer.tar", &layers[1])
        .with("manifest.json", manifest.to_string());
    home.load(&archive.end()[..]).unwrap();
    assert_eq!(home.store.get("old:1").unwrap().layers.len(), 3);
}

#[test]
fn what_is_saved_loads_again_and_is_the_same() {
    let home = Home::new();
    let packed = filter("gzip", &["-c"], &layer(2));
    let layers = [layer(1), layer(2)];
    let config = config(&layers);
    let name = format!("{}.json", sha256(&config).hex());
    let manifest = json!([{"Config": name, "RepoTags": ["one:1", "one:2"], "Layers": ["1.tar", "2.tar.gz"]}]);
    let archive = Tar::new().with(&name, &config).with("1.tar", &layers[0]).with("2.tar.gz", &packed);
    home.load(&archive.with("manifest.json", manifest.to_string()).end()[..]).unwrap();
    home.load(&docker_archive(&["two:latest"], &[layer(1), layer(3)]).end()[..]).unwrap();
    let before = home.store.get("one:1").unwrap();
    for format in [SaveFormat::DockerArchive, SaveFormat::OciArchive] {
        let saved = home.save(&["one", "two", &before.id.to_string()], format);
        assert_eq!(
            saved,
            home.save(&["one", "two", &before.id.to_string()], format),
            "the same images, other bytes"
        );
        let fresh = Home::new();
        let mut loaded = lines(&fresh.load(&saved[..]).unwrap());
        loaded.sort();
        assert_eq!(loaded, ["Loaded image: one:1", "Loaded image: one:2", "Loaded image: two:latest"]);
        let after = fresh.store.get("one:2").unwrap();
        assert_eq!((after.id, after.manifest_digest), (before.id, before.manifest_digest));
    }
    let by_id = home.save(&[&before.id.hex()[..12]], SaveFormat::DockerArchive);
    assert_eq!(lines(&Home::new().load(&by_id[..]).unwrap()), [format!("Loaded image ID: {}", before.id)]);
    let missing = save(&home.store, &["absent"], &[], Vec::new(), SaveFormat::DockerArchive).unwrap_err();
    assert_eq!(missing.to_string(), "No such image: absent:latest");
}

/// An OCI layout with two layers, made by umoci.
fn umoci_layout(at: &Path) -> bool {
    if !have("umoci") || !have("skopeo") {
        return false;
    }
    let image = format!("{}:tag", at.display());
    run("umoci", &["init", "--layout", at.to_str().unwrap()]);
    run("umoci", &["new", "--image", &image]);
    for number in 1..=2 {
        let tar = at.with_extension("tar");
        fs::write(&tar, layer(number)).unwrap();
        run("umoci", &["raw", "add-layer", "--image", &image, tar.to_str().unwrap()]);
    }
    true
}

fn config_of(source: &str) -> Vec<u8> {
    run("skopeo", &["--insecure-policy", "inspect", "--config", "--raw", source])
}

#[test]
fn archives_by_skopeo_load() {
    let home = Home::new();
    let layout = home.path("layout");
    if !umoci_layout(&layout) {
        return;
    }
    let source = format!("oci:{}:tag", layout.display());
    let id = sha256(&config_of(&source));
    for (transport, name) in [
        ("docker-archive", "example.com/app:v1"),
        ("oci-archive", "example.com/app:v1"),
        ("oci-archive", "app:v1"),
    ] {
        let file = home.path("by-skopeo.tar");
        let _ = fs::remove_file(&file);
        let target = format!("{transport}:{}:{name}", file.display());
        run("skopeo", &["--insecure-policy", "copy", &source, &target]);
        let fresh = Home::new();
        let loaded = fresh.load(fs::File::open(&file).unwrap()).unwrap();
        assert_eq!(lines(&loaded), [format!("Loaded image: {name}")], "{transport}");
        assert_eq!(loaded[0].image.id, id, "{transport}");
        assert_eq!(fs::read_to_string(loaded[0].image.layers[1].dir.join("etc/shared")).unwrap(), "2");
        fresh.assert_tidy(transport);
    }
}

#[test]
fn skopeo_reads_what_is_saved() {
    if !have("skopeo") {
        return;
    }
    let home = Home::new();
    home.load(&docker_archive(&["python:3.11-slim"], &[layer(1), layer(2)]).end()[..]).unwrap();
    home.load(&docker_archive(&["second:x"], &[layer(3)]).end()[..]).unwrap();
    // An image as Docker's registries have them: the types are Docker's.
    let transaction = home.store.transaction().unwrap();
    let packed = filter("gzip", &["-c"], &layer(5));
    let stored = transaction.add_layer(&packed[..], &Expected::default()).unwrap();
    let config = config(&[layer(5)]);
    let config_digest = transaction.add_blob(&config).unwrap();
    let manifest = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": crate::media::DOCKER_LAYER, "digest": stored.descriptor.digest, "size": packed.len()}]});
    let reference = Reference::parse("docker-types:1").unwrap();
    transaction.register(manifest.to_string().as_bytes(), DOCKER_MANIFEST, &[reference], None).unwrap();
    drop(transaction);
    let names = ["python:3.11-slim", "second:x", "docker-types:1"];
    for (transport, format) in [
        ("docker-archive", SaveFormat::DockerArchive),
        ("oci-archive", SaveFormat::DockerArchive),
        ("oci-archive", SaveFormat::OciArchive),
    ] {
        let file = home.path("saved.tar");
        fs::write(&file, home.save(&names, format)).unwrap();
        for name in names {
            let image = home.store.get(name).unwrap();
            let called = if transport == "docker-archive" { name } else { name.split_once(':').unwrap().1 };
            let source = format!("{transport}:{}:{called}", file.display());
            assert_eq!(sha256(&config_of(&source)), image.id, "{source}");
            let target = home.path("by-skopeo");
            let _ = fs::remove_dir_all(&target);
            // Copying reads, inflates and verifies every layer.
            run("skopeo", &["--insecure-policy", "copy", &source, &format!("oci:{}:t", target.display())]);
        }
    }
}

#[test]
fn a_root_filesystem_is_imported_with_its_changes() {
    let home = Home::new();
    let options = ImportOptions {
        changes: vec!["CMD [\"/bin/app\"]".into(), "ENV A=b".into(), "EXPOSE 80".into()],
        reference: Some(Reference::parse("mine").unwrap()),
        source: "-".into(),
        ..ImportOptions::default()
    };
    let tar = Tar::new().with("bin/app", "#!").end();
    let image = import(&home.store, &tar[..], &options).unwrap();
    assert_eq!(home.store.get("mine:latest").unwrap().id, image.id);
    assert_eq!(image.config.config.cmd.as_deref().unwrap(), ["/bin/app"]);
    assert_eq!(image.config.config.env, ["A=b"]);
    assert_eq!(image.history()[0].comment.as_deref(), Some("Imported from -"));
    assert_eq!(image.config.comment.as_deref(), Some("Imported from -"));
    assert!(image.layers[0].dir.join("bin/app").is_file());
    let bad = ImportOptions { changes: vec!["RUN x".into()], ..options };
    assert!(matches!(import(&home.store, &tar[..], &bad), Err(ArchiveError::Change(_))));
    let empty = import(&home.store, std::io::empty(), &ImportOptions::default());
    assert!(matches!(empty, Err(ArchiveError::Empty)));
    let noise = import(&home.store, &[7; 5000][..], &ImportOptions::default());
    assert!(noise.is_err());
    home.assert_tidy("import");
}

/// Archives nobody should make: each is an error, and leaves nothing.
#[test]
#[allow(clippy::too_many_lines)] // One table.
fn hostile_archives_are_refused() {
    let layers = [layer(1)];
    let good = config(&layers);
    let canary = tempfile::NamedTempFile::new().unwrap();
    fs::write(canary.path(), &layers[0]).unwrap();
    let outside = canary.path().to_str().unwrap().to_owned();
    let with = |manifest: serde_json::Value| {
        Tar::new().with("c.json", &good).with("l.tar", &layers[0]).with("manifest.json", manifest.to_string())
    };
    let entry = |config: &str, tags: serde_json::Value, layers: serde_json::Value| json!([{"Config": config, "RepoTags": tags, "Layers": layers}]);
    let layout = |index: serde_json::Value| {
        Tar::new()
            .with("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
            .with("index.json", index.to_string())
    };
    let hex = "e".repeat(64);
    let descriptor = |digest: &str| json!({"schemaVersion": 2, "manifests": [{"mediaType": crate::media::OCI_MANIFEST, "digest": digest, "size": 2}]});
    let nested = {
        // An index that leads to itself cannot be had; one that leads to another kind of document can.
        let inner = br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        layout(descriptor(&sha256(inner).to_string())).with("blobs/x", inner)
    };
    let bomb = filter("gzip", &["-c9"], &vec![0; 1 << 20]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("noise", vec![b'x'; 4000]),
        ("a tar of something else", Tar::new().with("etc/passwd", "root").end()),
        ("a gzip of zeros", bomb),
        (
            "20,000 names",
            with(entry("c.json", (0..20_000).map(|n| format!("x:{n}")).collect(), json!(["l.tar"]))).end(),
        ),
        (
            "absolute name",
            with(entry("c.json", json!(["a:1"]), json!(["l.tar"]))).with("/etc/evil", "x").end(),
        ),
        ("name with ..", with(entry("c.json", json!(["a:1"]), json!(["l.tar"]))).with("../evil", "x").end()),
        ("configuration outside", with(entry(&outside, json!(["a:1"]), json!(["l.tar"]))).end()),
        ("configuration absent", with(entry("nope.json", json!(["a:1"]), json!(["l.tar"]))).end()),
        ("layer outside", with(entry("c.json", json!(["a:1"]), json!([outside]))).end()),
        ("layer above", with(entry("c.json", json!(["a:1"]), json!(["../../../../etc/passwd"]))).end()),
        ("layer absent", with(entry("c.json", json!(["a:1"]), json!(["m.tar"]))).end()),
        ("layer another", with(entry("c.json", json!(["a:1"]), json!(["c.json"]))).end()),
        ("too few layers", with(entry("c.json", json!(["a:1"]), json!([]))).end()),
        ("too many layers", with(entry("c.json", json!(["a:1"]), json!(["l.tar", "l.tar"]))).end()),
        ("bad tag", with(entry("c.json", json!(["../../x"]), json!(["l.tar"]))).end()),
        ("tag with an escape", with(entry("c.json", json!(["a\u{1b}[2J:1"]), json!(["l.tar"]))).end()),
        ("no images", with(json!([])).end()),
        ("not a list", with(json!({"Config": "c.json"})).end()),
        (
            "absolute link",
            with(entry("c.json", json!(["a:1"]), json!(["s.tar"])))
                .link(tar::EntryType::Symlink, "s.tar", &outside)
                .end(),
        ),
        (
            "link above",
            with(entry("c.json", json!(["a:1"]), json!(["s.tar"])))
                .link(tar::EntryType::Symlink, "s.tar", "../../s")
                .end(),
        ),
        (
            "link loop",
            with(entry("c.json", json!(["a:1"]), json!(["s.tar"])))
                .link(tar::EntryType::Symlink, "s.tar", "s.tar")
                .end(),
        ),
        (
            "growing link",
            with(entry("c.json", json!(["a:1"]), json!(["s/x"])))
                .link(tar::EntryType::Symlink, "s", "s/x")
                .end(),
        ),
        (
            "a device",
            with(entry("c.json", json!(["a:1"]), json!(["l.tar"])))
                .link(tar::EntryType::Char, "dev", "")
                .end(),
        ),
        ("hostile layer", {
            let layer = Tar::new().with("../../evil", "x").end();
            docker_archive(&["a:1"], &[layer]).end()
        }),
        ("index names what is absent", layout(descriptor(&format!("sha256:{hex}"))).end()),
        ("index with a path for a digest", layout(descriptor("sha256:../../x")).end()),
        ("index of nothing", layout(json!({"schemaVersion": 2, "manifests": []})).end()),
        ("two kinds of document", nested.end()),
        ("configuration too large", {
            let large = vec![b' '; (crate::media::MAX_CONFIG + 1) as usize];
            Tar::new()
                .with("c.json", large)
                .with("manifest.json", entry("c.json", json!(["a:1"]), json!([])).to_string())
                .end()
        }),
        (
            "manifest too large",
            Tar::new().with("manifest.json", vec![b' '; (crate::media::MAX_DOCUMENT + 1) as usize]).end(),
        ),
        ("deep JSON", Tar::new().with("manifest.json", "[".repeat(100_000)).end()),
        ("cut off", {
            let mut whole = docker_archive(&["a:1"], &layers).end();
            whole.truncate(1800);
            whole
        }),
    ];
    for (what, archive) in cases {
        let home = Home::new();
        let made = home.load(&archive[..]);
        assert!(made.is_err(), "{what}: {made:?}");
        let shown = made.unwrap_err().to_string();
        assert!(!shown.contains(['\u{1b}', '\r', '\n']), "{what}: {shown:?}");
        assert!(home.store.list().unwrap().is_empty(), "{what}");
        home.assert_tidy(what);
    }
    assert_eq!(fs::read(canary.path()).unwrap(), layers[0]);
    assert!(!Path::new("/etc/evil").exists());
}

/// An image of an OCI layout, for this architecture: its blobs go into the archive. The manifest's descriptor.
fn part(mut tar: Tar, architecture: &str, number: usize) -> (Tar, serde_json::Value, Digest) {
    let layer = layer(number);
    let config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]}})
        .to_string();
    let manifest = json!({"schemaVersion": 2, "mediaType": crate::media::OCI_MANIFEST,
        "config": {"mediaType": crate::media::OCI_CONFIG, "digest": sha256(config.as_bytes()), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sha256(&layer), "size": layer.len()}]})
    .to_string();
    for bytes in [&layer[..], config.as_bytes(), manifest.as_bytes()] {
        tar = tar.with(&format!("blobs/sha256/{}", sha256(bytes).hex()), bytes);
    }
    let descriptor = json!({"mediaType": crate::media::OCI_MANIFEST, "digest": sha256(manifest.as_bytes()), "size": manifest.len()});
    (tar, descriptor, sha256(config.as_bytes()))
}

/// The archive of an index under this name.
fn of_index(tar: Tar, manifests: &[serde_json::Value], name: &str) -> Vec<u8> {
    let kind = crate::media::OCI_INDEX;
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).to_string();
    let digest = sha256(index.as_bytes());
    let top = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [{"mediaType": kind, "digest": digest,
        "size": index.len(), "annotations": {"io.containerd.image.name": name}}]});
    tar.with(&format!("blobs/sha256/{}", digest.hex()), index)
        .with("index.json", top.to_string())
        .with("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
        .end()
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

#[test]
fn of_an_index_the_first_image_of_each_platform_is_loaded() {
    // A signature, which is no image and says no platform.
    let artifact = json!({"schemaVersion": 2, "mediaType": crate::media::OCI_MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.example.chart", "digest": sha256(b"{}"), "size": 2}})
    .to_string();
    let artifact_digest = sha256(artifact.as_bytes());
    let tar = Tar::new().with(&format!("blobs/sha256/{}", artifact_digest.hex()), &artifact);
    let artifact =
        json!({"mediaType": crate::media::OCI_MANIFEST, "digest": artifact_digest, "size": artifact.len()});
    let (tar, mut first, first_id) = part(tar, "amd64", 1);
    first["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let (tar, second, _) = part(tar, "amd64", 2);
    let (tar, third, third_id) = part(tar, "arm64", 3);
    let archive = of_index(tar, &[artifact, first, second, third], "docker.io/library/app:1");
    let home = Home::new();
    let ids = |loaded: Vec<Loaded>| loaded.iter().map(|one| one.image.id).collect::<Vec<_>>();
    assert_eq!(ids(home.load(&archive[..]).unwrap()), [first_id, third_id]);
    let of_platforms = |wanted: &[Platform]| load(&Home::new().store, &archive[..], wanted, &mut |_| {});
    assert_eq!(ids(of_platforms(&[platform("linux/arm64")]).unwrap()), [third_id]);
    assert_eq!(
        ids(of_platforms(&[platform("linux/amd64"), platform("linux/arm64")]).unwrap()),
        [first_id, third_id]
    );
    let error = of_platforms(&[platform("linux/s390x")]).unwrap_err().to_string();
    assert_eq!(error, "the archive has no image for linux/s390x");
    // More than any image is for.
    let (tar, one, _) = part(Tar::new(), "amd64", 1);
    let archive = of_index(tar, &vec![one; 101], "docker.io/library/app:1");
    let error = home.load(&archive[..]).unwrap_err().to_string();
    assert_eq!(error, "an image of the archive is for more than 100 platforms");
}

#[test]
fn an_image_of_another_platform_than_asked_for_is_refused() {
    let (other, host) = (platform("linux/s390x"), Platform::host());
    let (tar, manifest, _) = part(Tar::new(), &host.architecture, 1);
    let top = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
    let plain = tar.with("index.json", top).with("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#).end();
    let dockers = docker_archive(&["app:1"], &[layer(1)]).end();
    let first = layer(1);
    let old = legacy_archive(&[("a", "", &first)], &json!({"app": {"1": "a"}})).end();
    for archive in [&plain, &dockers, &old] {
        let home = Home::new();
        let error = load(&home.store, &archive[..], std::slice::from_ref(&other), &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "the archive has no image for linux/s390x");
        assert!(home.store.list().unwrap().is_empty());
    }
    for archive in [&plain, &dockers] {
        let home = Home::new();
        load(&home.store, &archive[..], std::slice::from_ref(&host), &mut |_| {}).unwrap();
    }
}
