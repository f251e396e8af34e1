//! The catalogue of advisories (docs/threats.md), rows 12 to 19: images and registries whose every byte is made by an enemy, through the
//! commands that take them: `load`, `import`, `pull`, `run`.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{BUSYBOX, Cmd, Test};

/// A tar archive, made byte by byte.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// A header as it is given, with a right checksum, and data up to the next block.
    fn raw(mut self, name: &str, flag: u8, link: &str, size: &[u8], data: &[u8]) -> Self {
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, size);
        put(136, b"00000000001\0");
        put(148, b"        ");
        put(156, &[flag]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        put(329, b"0000000\0");
        put(337, b"0000000\0");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref();
        self.raw(name, b'0', "", format!("{:011o}\0", data.len()).as_bytes(), data)
    }

    fn program(self, name: &str, data: &[u8]) -> Self {
        let at = self.0.len();
        let mut tar = self.file(name, data);
        tar.0[at + 100..at + 108].copy_from_slice(b"0000755\0");
        tar.0[at + 148..at + 156].copy_from_slice(b"        ");
        let sum: u32 = tar.0[at..at + 512].iter().map(|byte| u32::from(*byte)).sum();
        tar.0[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar
    }

    fn entry(self, name: &str, flag: u8, link: &str) -> Self {
        self.raw(name, flag, link, b"00000000000\0", b"")
    }

    /// An extended header of these records.
    fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut data = String::new();
        for (key, value) in records {
            let body = format!(" {key}={value}\n");
            let mut length = body.len() + 1;
            while length != body.len() + length.to_string().len() {
                length = body.len() + length.to_string().len();
            }
            let _ = write!(data, "{length}{body}");
        }
        self.raw("PaxHeaders/x", b'x', "", format!("{:011o}\0", data.len()).as_bytes(), data.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A program that is all of an image: it has its shell and its tools in one file.
fn busybox(t: &Test) -> Vec<u8> {
    let dir = t.dir("busybox");
    let bind = format!("{}:/out", dir.display());
    t.ok(["run", "--rm", "--network", "none", "-v", &bind, BUSYBOX, "cp", "/bin/busybox", "/out/busybox"]);
    fs::read(dir.join("busybox")).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let out = Cmd::new("sha256sum", [] as [&str; 0]).input(bytes).run().ok();
    format!("sha256:{}", out.split(' ').next().unwrap())
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn config(layers: &[Vec<u8>], run: &Value) -> Value {
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    json!({"architecture": architecture(), "os": "linux", "config": run, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
}

/// What `docker save` would make of an image of these layers.
fn docker_archive(name: &str, layers: &[Vec<u8>], run: &Value) -> Vec<u8> {
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{"Config": "c.json", "RepoTags": [name], "Layers": names}]);
    let mut tar = Tar::default()
        .file("manifest.json", manifest.to_string())
        .file("c.json", config(layers, run).to_string());
    for (name, layer) in names.iter().zip(layers) {
        tar = tar.file(name, layer);
    }
    tar.end()
}

fn load(t: &Test, archive: Vec<u8>) -> crate::harness::Output {
    t.cmd(["load"]).input(archive).limit(Duration::from_mins(1)).run()
}

/// One line, and no image.
#[track_caller]
fn refused(t: &Test, what: &str, out: &crate::harness::Output) {
    assert!(out.code != 0, "{what} is taken: {out:?}");
    assert!(
        out.stderr.starts_with("rbox: ") && out.stderr.trim_end().lines().count() == 1,
        "{what}: {out:?}"
    );
    assert!(!out.stderr.contains('\u{1b}'), "{what}: {out:?}");
    assert!(!t.ok(["images", "--format", "{{.Repository}}"]).contains("crafted/"), "{what} is an image");
}

/// Row 12. Layers that write, link, chmod and remove outside of themselves: refused, or kept inside.
#[test]
fn layers_that_lead_outside() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("canary");
    fs::write(dir.join("secret"), "as it was").unwrap();
    let out = dir.display().to_string();
    let up = format!("../../../../../../../../../../..{out}");
    let new = || Tar::default();
    let layers: Vec<(&str, Tar)> = vec![
        ("a name with ..", new().file(&format!("{up}/evil"), "x")),
        ("an absolute name", new().file(&format!("{out}/evil"), "x")),
        (".. in the middle", new().file(&format!("a/b/../../{up}/evil"), "x")),
        ("through an absolute link", new().entry("l", b'2', &out).file("l/evil", "x")),
        ("through a relative link", new().entry("l", b'2', &up).file("l/secret", "x")),
        ("through two links", new().entry("a", b'2', "b").entry("b", b'2', &up).file("a/secret", "x")),
        ("a link to a file, written to", new().entry("l", b'2', &format!("{out}/secret")).file("l", "x")),
        ("a hard link outside", new().entry("h", b'1', &format!("{out}/secret")).file("h", "x")),
        ("a hard link by ..", new().entry("h", b'1', &format!("{up}/secret"))),
        (
            "a hard link through a link",
            new().entry("l", b'2', &out).entry("h", b'1', "l/secret").file("h", "x"),
        ),
        ("a directory over a link", new().entry("l", b'2', &out).entry("l/", b'5', "").file("l/evil", "x")),
        ("a whiteout through a link", new().entry("l", b'2', &out).file("l/.wh.secret", "")),
        ("an opaque link", new().entry("l", b'2', &out).file("l/.wh..wh..opq", "")),
        ("a whiteout of ..", new().file(".wh...", "")),
        ("a device of overlayfs", new().entry("gone", b'3', "")),
    ];
    let before = fs::metadata(&dir).unwrap();
    for (what, layer) in layers {
        let made = load(&t, docker_archive("crafted/layer:1", &[layer.clone().end()], &json!({})));
        if made.code == 0 {
            t.ok(["rmi", "crafted/layer:1"]);
        } else {
            refused(&t, what, &made);
        }
        t.cmd(["import", "-", "crafted/tree:1"]).input(layer.end()).run();
        t.rbox(["rmi", "crafted/tree:1"]);
        assert_eq!(fs::read_to_string(dir.join("secret")).unwrap(), "as it was", "{what}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "{what}");
        assert_eq!(before.permissions(), fs::metadata(&dir).unwrap().permissions(), "{what}");
    }
}

/// Row 13. Archives in which one reader of tar finds what another does not: each is refused.
#[test]
fn archives_that_two_readers_read_differently() {
    let Some(t) = Test::start() else { return };
    let new = || Tar::default();
    // What is hidden: a whole entry in the data of another.
    let hidden = Tar::default().file("hidden", "x").0;
    let octal = |n: usize| format!("{n:011o}\0").into_bytes();
    let sized = |pax: &[(&str, &str)], size: usize| new().pax(pax).raw("f", b'0', "", &octal(size), &hidden);
    for (what, tar) in [
        ("a PAX size beside another in the header", sized(&[("size", "0")], hidden.len())),
        ("a PAX size larger than the header's", sized(&[("size", &hidden.len().to_string())], 0)),
        ("two PAX sizes", sized(&[("size", "0"), ("size", "1024")], 1024)),
        ("a PAX size that is no number", sized(&[("size", "0x10")], 1024)),
        ("an empty PAX size", sized(&[("size", "")], 1024)),
        ("a size with letters", new().raw("f", b'0', "", b"0000001000z\0", &hidden)),
        (
            "a negative size",
            new().raw("f", b'0', "", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfc\x00", &hidden),
        ),
        (
            "a size beyond all bounds",
            new().raw("f", b'0', "", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", &hidden),
        ),
        ("a blank size", new().raw("f", b'0', "", b"            ", &hidden)),
        ("two extended headers", new().pax(&[("path", "a")]).pax(&[("path", "b")]).file("f", "")),
        (
            "a PAX record that is too long",
            new().raw("p", b'x', "", &octal(12), b"99 path=abc\n").file("f", ""),
        ),
        ("a PAX record without its end", new().raw("p", b'x', "", &octal(11), b"11 path=abc").file("f", "")),
        (
            "a global header that renames",
            new().raw("g", b'g', "", &octal(12), b"12 path=abc\n").file("f", ""),
        ),
        ("a link with data", new().raw("l", b'2', "x", &octal(hidden.len()), &hidden)),
        ("a lone block of zeros", Tar([vec![0; 512], hidden.clone()].concat())),
        ("an extended header and nothing after it", new().pax(&[("path", "a")])),
    ] {
        let out = t.cmd(["import", "-", "crafted/tree:1"]).input(tar.end()).run();
        refused(&t, what, &out);
    }
}

/// Row 14. One lower layer, and over it every order of a whiteout, an opaque mark and what is new.
#[test]
fn whiteouts_in_every_order() {
    let Some(t) = Test::start() else { return };
    let marks: [(&str, &str); 3] = [("wh", ".wh.old"), ("opq", ".wh..wh..opq"), ("new", "new")];
    let mut lower = Tar::default().program("busybox", &busybox(&t));
    let (mut upper, mut want) = (Tar::default(), Vec::new());
    for mask in 1..8_u32 {
        let chosen: Vec<_> = (0..3).filter(|bit| mask >> bit & 1 == 1).map(|bit| marks[bit]).collect();
        for order in permutations(&chosen) {
            let dir = format!(
                "{:02}-{}",
                want.len(),
                order.iter().map(|(what, _)| *what).collect::<Vec<_>>().join("-")
            );
            lower = lower
                .entry(&format!("{dir}/"), b'5', "")
                .file(&format!("{dir}/old"), "")
                .file(&format!("{dir}/kept"), "");
            for (_, name) in &order {
                upper = upper.file(&format!("{dir}/{name}"), "");
            }
            let has = |what: &str| order.iter().any(|(mark, _)| *mark == what);
            let mut left = Vec::new();
            if !has("opq") {
                left.push("kept");
            }
            if has("new") {
                left.push("new");
            }
            if !has("opq") && !has("wh") {
                left.push("old");
            }
            want.push(format!("{dir}: {}", left.join(" ")));
        }
    }
    let image = docker_archive("crafted/whiteouts:1", &[lower.end(), upper.end()], &json!({}));
    load(&t, image).ok();
    let script = "for d in [0-9]*; do echo \"$d: $(cd $d; echo *)\"; done";
    let out = t.ok([
        "run",
        "--rm",
        "--network",
        "none",
        "-w",
        "/",
        "--entrypoint",
        "/busybox",
        "crafted/whiteouts:1",
        "sh",
        "-c",
        script,
    ]);
    let seen: Vec<String> = out.lines().map(|line| line.replace(": *", ":")).collect();
    let want: Vec<String> = want.iter().map(|line| line.trim_end().to_owned()).collect();
    t.ok(["rmi", "crafted/whiteouts:1"]);
    assert_eq!(seen, want);
}

fn permutations<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
    let Some((first, rest)) = items.split_first() else { return vec![Vec::new()] };
    permutations(rest)
        .into_iter()
        .flat_map(|order| {
            (0..=order.len()).map(move |at| {
                let mut order = order.clone();
                order.insert(at, *first);
                order
            })
        })
        .collect()
}

/// Row 15. Sizes without end: each meets its limit in a moment.
#[test]
fn bombs() {
    let Some(t) = Test::start() else { return };
    let spaces = |n: usize| vec![b' '; n];
    let manifest = |config: &str, layers: usize| {
        let layers = vec!["l"; layers];
        json!([{"Config": config, "RepoTags": ["crafted/bomb:1"], "Layers": layers}]).to_string()
    };
    let empty = Tar::default().end();
    let diff_ids = vec![sha256(&empty); 600];
    let deep = json!({"architecture": architecture(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string();
    let entries = |count: usize| {
        let mut tar = Tar::default();
        let one = Tar::default().entry("d", b'5', "").0;
        tar.0 = one.repeat(count);
        tar
    };
    for (what, why, archive) in [
        ("a manifest of 5 MiB", "over 4194304 bytes", Tar::default().file("manifest.json", spaces(5 << 20))),
        (
            "an index of 5 MiB",
            "over 4194304 bytes",
            Tar::default().file("oci-layout", "{}").file("index.json", spaces(5 << 20)),
        ),
        (
            "a configuration of 9 MiB",
            "over 8388608 bytes",
            Tar::default().file("manifest.json", manifest("c", 0)).file("c", spaces(9 << 20)),
        ),
        ("JSON without end", "manifest.json", Tar::default().file("manifest.json", "[".repeat(1 << 20))),
        (
            "600 layers",
            "at most 500",
            Tar::default().file("manifest.json", manifest("c", 600)).file("c", &deep).file("l", &empty),
        ),
        (
            "an extended header of 2 MiB",
            "an extended header of",
            Tar::default().pax(&[("comment", &"x".repeat(2 << 20))]).file("f", ""),
        ),
        (
            "a file of an exabyte",
            "bytes in one file",
            Tar::default().raw("f", b'0', "", b"\x80\0\0\0\x10\0\0\0\0\0\0\0", b""),
        ),
        ("210,000 entries", "more than 200000 entries", entries(210_000)),
    ] {
        let out = load(&t, archive.end());
        refused(&t, what, &out);
        assert!(out.stderr.contains(why), "{what}: {out:?}");
    }
    // As trees: what is sparse costs no disk but cannot be without end either.
    let sparse = [
        ("GNU.sparse.size", "9999999999999999"),
        ("GNU.sparse.numblocks", "1"),
        ("GNU.sparse.map", "9999999999999999,0"),
    ];
    let long = format!("{}n", "n/".repeat(3000));
    for (what, why, tree) in [
        ("a sparse file of ten petabytes", "bytes in one file", Tar::default().pax(&sparse).file("f", "")),
        (
            "a name of 6,000 bytes",
            "a name that is too long",
            Tar::default().pax(&[("path", &long)]).file("f", ""),
        ),
        (
            "a component of 300 bytes",
            "longer than 255 bytes",
            Tar::default().pax(&[("path", &"c".repeat(300))]).file("f", ""),
        ),
    ] {
        let out = t.cmd(["import", "-", "crafted/tree:1"]).input(tree.end()).run();
        refused(&t, what, &out);
        assert!(out.stderr.contains(why), "{what}: {out:?}");
    }
}

/// Row 16. Digests that are paths, or wrong; sizes and layers that are not what is said of them.
#[test]
fn digests_that_are_none() {
    let Some(t) = Test::start() else { return };
    let layer = Tar::default().file("f", "x").end();
    let other = Tar::default().file("g", "y").end();
    let good = config(std::slice::from_ref(&layer), &json!({})).to_string();
    let (id, blob) = (sha256(good.as_bytes()), sha256(&layer));
    let manifest = |id: &str, size: usize, blob: &str, length: usize| {
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {"mediaType": OCI_CONFIG, "digest": id, "size": size},
            "layers": [{"mediaType": OCI_LAYER, "digest": blob, "size": length}]})
        .to_string()
    };
    let layout = |digest: Option<&str>, manifest: &str, config: &str, layer: &[u8]| {
        let name = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
        let of = sha256(manifest.as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": OCI_MANIFEST, "digest": digest.unwrap_or(&of), "size": manifest.len(),
            "annotations": {"io.containerd.image.name": "docker.io/crafted/digest:1"}}]});
        Tar::default()
            .file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", index.to_string())
            .file(&name(&of), manifest)
            .file(&name(&id), config)
            .file(&name(&blob), layer)
            .end()
    };
    let whole = manifest(&id, good.len(), &blob, layer.len());
    load(&t, layout(None, &whole, &good, &layer)).ok();
    t.ok(["rmi", "crafted/digest:1"]);
    let upper = blob.to_uppercase().replace("SHA256", "sha256");
    for (what, archive) in [
        ("a path", layout(Some("sha256:../../../../etc/passwd"), &whole, &good, &layer)),
        (
            "a path of 64 letters",
            layout(Some(&format!("sha256:{}", "../".repeat(22).get(..64).unwrap())), &whole, &good, &layer),
        ),
        ("nothing", layout(Some(""), &whole, &good, &layer)),
        ("an algorithm without digits", layout(Some("sha256:"), &whole, &good, &layer)),
        ("63 digits", layout(Some(&blob[..70]), &whole, &good, &layer)),
        ("an unknown algorithm", layout(Some("md5:d41d8cd98f00b204e9800998ecf8427e"), &whole, &good, &layer)),
        ("capital letters", layout(None, &manifest(&id, good.len(), &upper, layer.len()), &good, &layer)),
        (
            "a path for the configuration",
            layout(None, &manifest("sha256:../c", good.len(), &blob, layer.len()), &good, &layer),
        ),
        (
            "a path for the layer",
            layout(None, &manifest(&id, good.len(), "sha256:../../l", layer.len()), &good, &layer),
        ),
        ("another layer's bytes", layout(None, &whole, &good, &other)),
        ("another configuration's bytes", layout(None, &whole, &good.replace("linux", "linuy"), &layer)),
        ("a layer that is cut", layout(None, &whole, &good, &layer[..layer.len() - 512])),
        ("a diff ID that is another's", {
            let lie = config(std::slice::from_ref(&other), &json!({})).to_string();
            let id = sha256(lie.as_bytes());
            let manifest = manifest(&id, lie.len(), &blob, layer.len());
            let of = sha256(manifest.as_bytes());
            let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": OCI_MANIFEST, "digest": of, "size": manifest.len()}]});
            let name = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
            Tar::default()
                .file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
                .file("index.json", index.to_string())
                .file(&name(&of), manifest)
                .file(&name(&id), lie)
                .file(&name(&blob), &layer)
                .end()
        }),
    ] {
        refused(&t, what, &load(&t, archive));
    }
}

const PASSWORD: &str = "ThePassword";
const TOKEN: &str = "TheToken";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A registry that answers as it is told, and keeps the requests.
struct Fake {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// `answer` gets the head of a request and gives status, header fields and body.
    fn start(answer: impl Fn(&str) -> (u16, Vec<(String, String)>, Vec<u8>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(Vec::new())));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut head, mut byte) = (Vec::new(), [0]);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                while !head.ends_with(b"\r\n\r\n")
                    && head.len() < 65536
                    && stream.read(&mut byte).is_ok_and(|n| n == 1)
                {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                log.lock().unwrap().push(head.clone());
                let (status, fields, body) = answer(&head);
                let mut text =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
                for (name, value) in fields {
                    let _ = write!(text, "{name}: {value}\r\n");
                }
                let _ = stream
                    .write_all(text.as_bytes())
                    .and_then(|()| stream.write_all(b"\r\n"))
                    .and_then(|()| stream.write_all(&body));
            }
        });
        Self { address, seen }
    }

    fn saw(&self, word: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|head| head.to_lowercase().contains(&word.to_lowercase()))
    }
}

fn field(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned())]
}

/// Row 17 (CVE-2021-41190). Twenty-four documents that two readers could take for two things: none is an image.
#[test]
fn documents_that_are_two_things() {
    let Some(t) = Test::start() else { return };
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let (cfg, lay) = (
        format!(r#"{{"mediaType":"{OCI_CONFIG}","digest":"sha256:{hex}","size":2}}"#),
        format!(r#"[{{"mediaType":"{OCI_LAYER}","digest":"sha256:{hex}","size":0}}]"#),
    );
    let image = |more: &str| format!(r#"{{"schemaVersion":2,{more}"config":{cfg},"layers":{lay}}}"#);
    let index = |more: &str| {
        format!(
            r#"{{"schemaVersion":2,{more}"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"sha256:{hex}","size":2}}]}}"#
        )
    };
    let own = |kind: &str| format!(r#""mediaType":"{kind}","#);
    let documents: Vec<(String, &str)> = vec![
        (image(r#""manifests":[],"#), OCI_MANIFEST),
        (image(r#""manifests":[],"#), OCI_INDEX),
        (index(&format!(r#""layers":{lay},"#)), OCI_INDEX),
        (index(&format!(r#""config":{cfg},"#)), OCI_INDEX),
        (index(&format!(r#""config":{cfg},"layers":{lay},"#)), OCI_MANIFEST),
        (image(&own(OCI_INDEX)), OCI_MANIFEST),
        (image(&own(DOCKER_MANIFEST)), OCI_MANIFEST),
        (image(&own(OCI_MANIFEST)), DOCKER_MANIFEST),
        (image(&own(OCI_MANIFEST)), OCI_INDEX),
        (index(&own(OCI_MANIFEST)), OCI_INDEX),
        (index(&own(OCI_INDEX)), OCI_MANIFEST),
        (index(&own(DOCKER_LIST)), OCI_INDEX),
        (index(&own(OCI_INDEX)), DOCKER_LIST),
        (image(""), DOCKER_MANIFEST),
        (index(""), DOCKER_LIST),
        (image(""), OCI_INDEX),
        (index(""), OCI_MANIFEST),
        (image(""), "application/json"),
        (image(r#""layers":[],"#), OCI_MANIFEST),
        (image(r#""schemaVersion":2,"#), OCI_MANIFEST),
        (image(r#""fsLayers":[],"#), OCI_MANIFEST),
        (image(r#""history":[],"#), OCI_MANIFEST),
        (image("").replace("\"schemaVersion\":2", "\"schemaVersion\":1"), OCI_MANIFEST),
        (format!("[{}]", image("")), OCI_MANIFEST),
    ];
    assert_eq!(documents.len(), 24);
    let current = Arc::new(Mutex::new((String::new(), "")));
    let told = Arc::clone(&current);
    let fake = Fake::start(move |head| {
        let (document, kind) = told.lock().unwrap().clone();
        if head.contains("/manifests/") {
            return (200, field("content-type", kind), document.into_bytes());
        }
        (200, Vec::new(), if head.contains("/blobs/") { Vec::new() } else { b"{}".to_vec() })
    });
    let name = format!("{}/crafted/two:1", fake.address);
    for (document, kind) in documents {
        *current.lock().unwrap() = (document.clone(), kind);
        refused(&t, &format!("as {kind}: {document}"), &t.rbox(["pull", &name]));
        assert!(!fake.saw("/blobs/"), "something of it was fetched: as {kind}: {document}");
    }
}

/// Row 18 (CVE-2020-15157). A registry that sends the client elsewhere, with a second host that listens there: that one sees no secret.
#[test]
fn a_second_host_learns_nothing() {
    let Some(t) = Test::start() else { return };
    let basic = "dXNlcjpUaGVQYXNzd29yZA==";
    let second = Fake::start(|_| (200, Vec::new(), format!("{{\"token\":\"{TOKEN}2\"}}").into_bytes()));
    let elsewhere = second.address.clone();
    let trick = Arc::new(Mutex::new(""));
    let told = Arc::clone(&trick);
    let first = Fake::start(move |head| {
        let opened = head.to_lowercase().contains("authorization:");
        let host = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned))
            .unwrap_or_default();
        let realm = |url: &str| {
            (401, field("www-authenticate", &format!("Bearer realm=\"{url}\",service=x")), Vec::new())
        };
        let away = |url: &str| (307, field("location", url), Vec::new());
        let trick = *told.lock().unwrap();
        if head.starts_with("GET /token") {
            return if trick == "a token server that redirects" {
                away(&format!("http://{elsewhere}/token"))
            } else {
                (200, Vec::new(), format!("{{\"token\":\"{TOKEN}\"}}").into_bytes())
            };
        }
        match trick {
            "a realm elsewhere" => realm(&format!("http://{elsewhere}/token")),
            "a realm of https" => realm(&format!("https://{elsewhere}/token")),
            "a realm with a user in it" => realm(&format!("http://{host}@{elsewhere}/token")),
            "a realm with a path like a host" => realm(&format!("http://{elsewhere}\\@{host}/token")),
            "a realm that is none" => realm(&format!("//{elsewhere}/token")),
            "basic, then away" if !opened => (401, field("www-authenticate", "Basic realm=x"), Vec::new()),
            _ if !opened => realm(&format!("http://{host}/token")),
            "away without a scheme" => away(&format!("//{elsewhere}/x")),
            "away with a user in it" => away(&format!("http://{host}@{elsewhere}/x")),
            "away, then a challenge" | "away" | "basic, then away" => {
                away(&format!("http://{elsewhere}/v2/crafted/x/manifests/1"))
            }
            "away twice" => away(&format!("http://{host}/again?to=http://{elsewhere}")),
            _ => realm(&format!("http://{elsewhere}/token")),
        }
    });
    let home = t.dir("docker");
    let auths = json!({"auths": {first.address.clone(): {"auth": basic}}});
    fs::write(home.join("config.json"), auths.to_string()).unwrap();
    let name = format!("{}/crafted/x:1", first.address);
    for one in [
        "a realm elsewhere",
        "a realm of https",
        "a realm with a user in it",
        "a realm with a path like a host",
        "a realm that is none",
        "basic, then away",
        "a token server that redirects",
        "away",
        "away twice",
        "away without a scheme",
        "away with a user in it",
        "a realm elsewhere after a token",
    ] {
        *trick.lock().unwrap() = one;
        let out = t.cmd(["pull", &name]).env("DOCKER_CONFIG", &home).run();
        refused(&t, one, &out);
        for secret in [basic, PASSWORD, TOKEN, "authorization:"] {
            assert!(
                !second.saw(secret),
                "{one}: the second host saw {secret}: {:?}",
                second.seen.lock().unwrap()
            );
        }
    }
    assert!(first.saw(basic) && first.saw(TOKEN), "the first host was never logged in to: nothing was tried");
}

/// Row 19 (CVE-2022-23648). A configuration that says what only the user may: none of it is heard.
#[test]
fn an_images_configuration_gives_no_orders() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("canary");
    fs::write(dir.join("secret"), "the host's secret").unwrap();
    let out = dir.display().to_string();
    let labels: serde_json::Map<String, Value> = [
        "io.rbox.privileged",
        "rbox.privileged",
        "io.rbox.mounts",
        "io.container.network",
        "privileged",
        "Privileged",
        "HostConfig",
        "org.opencontainers.image.ref.name",
        "com.docker.compose.project",
        "io.kubernetes.container.hash",
        "network",
        "rbox.root",
    ]
    .iter()
    .map(|key| ((*key).to_owned(), json!("true")))
    .collect();
    let env = [
        "RBOX_ROOT=/x",
        "RBOX_STATE=/x",
        "LD_PRELOAD=/evil.so",
        "PATH=/bin",
        "RBOX_REGISTRIES=/x",
        "DOCKER_HOST=x",
        "HTTP_PROXY=x",
        "IFS=x",
    ];
    let run = json!({"Env": env, "Labels": labels, "Volumes": {format!("/../../../../..{out}"): {}, "/v": {"Source": out.clone()}, "/w": {"bind": "/"}},
        "HostConfig": {"Privileged": true, "Binds": [format!("{out}:/host")], "NetworkMode": "host"}, "Privileged": true,
        "CapAdd": ["ALL"], "NetworkMode": "host", "Binds": [format!("{out}:/host")], "Mounts": [{"Type": "bind", "Source": out, "Target": "/host"}],
        "SecurityOpt": ["seccomp=unconfined"], "Domainname": "x", "Hostname": "image", "Tty": true, "AttachStdin": true, "StopTimeout": 1,
        "MacAddress": "02:00:00:00:00:01", "NetworkDisabled": false});
    let tree = Tar::default().entry("proc/", b'5', "").program("busybox", &busybox(&t)).end();
    load(&t, docker_archive("crafted/orders:1", std::slice::from_ref(&tree), &run)).ok();
    let look = "/busybox cat /host/secret /v/secret /w/etc/passwd 2>/dev/null; /busybox grep -E '^(CapEff|Seccomp):' /proc/self/status; /busybox cat /proc/sys/kernel/hostname; /busybox ls /sys/class/net";
    let seen = t.ok([
        "run",
        "--rm",
        "--name",
        &t.name("c"),
        "--network",
        "none",
        "--hostname",
        "mine",
        "--entrypoint",
        "/busybox",
        "crafted/orders:1",
        "sh",
        "-c",
        look,
    ]);
    assert!(!seen.contains("secret") && !seen.contains("root:"), "{seen}");
    assert!(
        seen.contains("CapEff:\t00000000a00405fb")
            && seen.contains("Seccomp:\t2")
            && seen.ends_with("mine\nlo"),
        "{seen}"
    );
    let name = t.name("made");
    t.ok(["create", "--name", &name, "--entrypoint", "/busybox", "crafted/orders:1"]);
    let made = t.inspect(&name);
    assert_eq!(made["HostConfig"]["Privileged"], false);
    assert_eq!(made["HostConfig"]["NetworkMode"], "bridge");
    assert!(made["HostConfig"]["CapAdd"].as_array().is_none_or(Vec::is_empty), "{made}");
    assert!(made["HostConfig"]["Binds"].as_array().is_none_or(Vec::is_empty), "{made}");
    assert_eq!(made["Config"]["Labels"]["privileged"], "true");
    t.ok(["rm", "-v", &name]);
    t.ok(["rmi", "crafted/orders:1"]);
}

/// Row 19. What would be an order to the host if it were believed, or is of no form that means anything: one line, or nothing.
#[test]
fn configurations_that_make_no_sense() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("canary");
    fs::write(dir.join("secret"), "the host's secret").unwrap();
    let tree = Tar::default().entry("proc/", b'5', "").program("busybox", &busybox(&t)).end();
    for (key, value) in [
        ("User", json!("4294967296")),
        ("User", json!("../../etc")),
        ("User", json!("0:0:0")),
        ("WorkingDir", json!("../../../../..")),
        ("StopSignal", json!("SIGNOTHING")),
        ("Volumes", json!({"": {}})),
        ("Volumes", json!({format!("/../../../../..{}", dir.display()): {}})),
        ("Volumes", json!({"/": {}})),
        ("Volumes", json!({"/proc": {}})),
        ("Env", json!(["=x"])),
        ("Env", json!(["A\u{0}B=x"])),
        ("Entrypoint", json!(["/sh\u{0}x"])),
        ("ExposedPorts", json!({"99999/tcp": {}, "x": {}, "80/xyz": {}})),
    ] {
        let run = json!({ "Entrypoint": ["/busybox", "true"], key: value.clone() });
        let archive = docker_archive("crafted/orders:1", std::slice::from_ref(&tree), &run);
        if load(&t, archive).code == 0 {
            let out = t
                .cmd(["run", "--rm", "--network", "none", "crafted/orders:1"])
                .limit(Duration::from_secs(20))
                .run();
            let line = out.stderr.trim_end();
            assert!(
                out.code == 0 || line.starts_with("rbox: ") && line.lines().count() == 1,
                "{key} {value}: {out:?}"
            );
            t.ok(["rmi", "-f", "crafted/orders:1"]);
        }
        assert_eq!(fs::read_dir(Path::new(&dir)).unwrap().count(), 1, "{key} {value}");
    }
}
