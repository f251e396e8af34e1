//! `search`, `manifest` and `buildx imagetools`: what is done with registries, without the store.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::harness::registry::PasswordRegistry;
use crate::harness::{BUSYBOX, Cmd, OnTerminal, OwnRoots, PYTHON, Test};

/// A server that answers each of so many requests with this; what they asked for comes out of the channel.
fn answers(status: &'static str, body: String, times: usize) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(times) {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            reader.read_line(&mut first).unwrap();
            let mut line = String::from("x");
            while line.trim() != "" {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            tell.send(first.trim().to_owned()).unwrap();
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    (address, told)
}

#[test]
fn search_prints_dockers_columns() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let long = "a server\nof pages, with a description that is longer than its column";
    let results = json!({ "num_results": 3, "results": [
        { "name": "nginx", "description": long, "star_count": 20000, "is_official": true, "is_automated": false },
        { "name": "me/nginx", "description": null, "star_count": 3, "is_official": false },
        { "name": "\u{1b}[31mred", "description": "", "star_count": 0, "is_official": false },
    ]});
    let (registry, asked) = answers("200 OK", results.to_string(), 7);
    let search = |flags: &[&str]| {
        let term = format!("{registry}/nginx & more");
        own.run(&[&["search"], flags, &[&term]].concat())
    };
    let out = search(&[]).ok();
    let mut lines = out.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    );
    assert_eq!(
        lines.next().unwrap(),
        "nginx         a server of pages, with a description that i…   20000     [OK]"
    );
    assert!(lines.next().unwrap().starts_with("me/nginx "), "{out}");
    assert!(!out.contains('\u{1b}') && out.lines().count() == 4, "{out}");
    assert_eq!(asked.recv().unwrap(), "GET /v1/search?q=nginx%20%26%20more&n=25 HTTP/1.1");
    assert!(search(&["--no-trunc"]).ok().contains("longer than its column"));
    // A registry that sends more than it was asked for.
    assert_eq!(search(&["--limit", "1", "--format", "{{.Name}}"]).ok(), "nginx");
    assert!(asked.iter().nth(1).unwrap().contains("&n=1 "));
    assert_eq!(
        search(&["-f", "stars=3", "-f", "is-official=false", "--format", "{{.Name}}"]).ok(),
        "me/nginx"
    );
    assert_eq!(
        search(&["-f", "is-official=true", "--format", "{{.Name}} {{.IsOfficial}}"]).ok(),
        "nginx [OK]"
    );
    let json: Value = serde_json::from_str(&search(&["--limit", "1", "--format", "json"]).ok()).unwrap();
    assert_eq!(json["IsOfficial"], "true");
    assert_eq!(json["StarCount"], "20000");
    assert_eq!(search(&["-f", "is-automated=true", "--format", "{{.Name}}"]).ok(), "");
    for (flags, code, said) in [
        (&["--limit", "101"][..], 1, "limit 101 is outside the range of [1, 100]"),
        (&["--limit", "-1"], 1, "limit -1 is outside the range of [1, 100]"),
        (&["-f", "stars=many"], 1, "invalid filter 'stars=many'"),
        (&["-f", "color=red"], 125, "invalid filter 'color'"),
    ] {
        search(flags).refused(code, &[said]);
    }
    own.run(&["search", "https://x/y"]).refused(1, &["should not have a scheme"]);
    own.run(&["search"]).refused(125, &["TERM"]);
}

#[test]
fn registries_without_a_search() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.run(&["search", &format!("{}/x", t.suite.registry)]).refused(1, &["the registry has no search"]);
    for (status, body, said) in [
        ("500 Oops", "", "status 500"),
        ("200 OK", "<html>", "its results"),
        ("200 OK", "[]", "its results"),
        ("200 OK", r#"{"results":[{"name":5}]}"#, "its results"),
        ("206 Partial Content", r#"{"results":[]}"#, "unexpected status code 206"),
    ] {
        let (registry, _asked) = answers(status, body.to_owned(), 1);
        own.run(&["search", &format!("{registry}/x")]).refused(1, &[said]);
    }
    let nulls = r#"{"name":null,"description":null,"star_count":null,"is_official":null}"#;
    for (results, lines) in [("null".to_owned(), 1), (format!("[{nulls}]"), 2)] {
        let (registry, _asked) = answers("200 OK", format!("{{\"results\":{results}}}"), 1);
        assert_eq!(own.run(&["search", &format!("{registry}/x")]).ok().lines().count(), lines);
    }
}

/// A registry with images for two platforms by tags of their own.
struct World {
    own: OwnRoots,
    registry: PasswordRegistry,
    list: String,
}

const OWN: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
const OTHER: &str = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };

fn world(t: &Test) -> Option<World> {
    let registry = PasswordRegistry::open(&t.dir("registry"))?;
    let own = OwnRoots::new(t, "own", &t.suite.registry);
    let image = format!("{}/rbox/multi", t.suite.registry);
    for machine in [OWN, OTHER] {
        let platform = format!("linux/{machine}");
        own.run(&["pull", "-q", "--platform", &platform, &image]).ok();
        let name = format!("{}/parts/{machine}:1", registry.name);
        own.run(&["tag", &image, &name]).ok();
        own.run(&["push", "--platform", &platform, &name]).ok();
    }
    let list = format!("{}/team/app:1", registry.name);
    Some(World { own, registry, list })
}

impl World {
    fn part(&self, machine: &str) -> String {
        format!("{}/parts/{machine}:1", self.registry.name)
    }

    fn inspect(&self, args: &[&str]) -> Value {
        let text = self.own.run(&[&["manifest", "inspect"], args].concat()).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

#[test]
fn a_manifest_list_is_created_annotated_pushed_and_forgotten() {
    let Some(t) = Test::start() else { return };
    let Some(world) = world(&t) else { return };
    let (own, list) = (&world.own, &world.list);
    let (mine, theirs) = (world.part(OWN), world.part(OTHER));
    let created = own.run(&["manifest", "create", list, &mine, &theirs]).ok();
    assert_eq!(created, format!("Created manifest list {list}"));
    own.run(&["manifest", "create", list, &mine])
        .refused(1, &["refusing to amend an existing manifest list with no --amend flag"]);
    own.run(&["manifest", "create", "--amend", list, &mine]).ok();
    let text = own.run(&["manifest", "inspect", list]).ok();
    assert!(
        text.starts_with(
            "{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"application/vnd.oci.image.index.v1+json\""
        ),
        "{text}"
    );
    let machines = |value: &Value| -> Vec<String> {
        let all = value["manifests"].as_array().unwrap().iter();
        all.map(|one| one["platform"]["architecture"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(machines(&world.inspect(&[list])), ["amd64", "arm64"]);
    // One of it, as docker/cli keeps it.
    let one = world.inspect(&["-v", list, &theirs]);
    assert_eq!(one["Ref"], theirs.as_str());
    assert_eq!(one["Descriptor"]["platform"], json!({ "architecture": OTHER, "os": "linux" }));
    assert!(one["Raw"].is_string() && one["OCIManifest"]["schemaVersion"] == 2, "{one}");
    assert!(own.dir.join(".docker/manifests").read_dir().unwrap().count() == 1);

    own.run(&[
        "manifest",
        "annotate",
        "--variant",
        "v9",
        "--os-version",
        "6.1",
        "--os-features",
        "a,b",
        list,
        &theirs,
    ])
    .ok();
    let one = world.inspect(&["-v", list, &theirs]);
    let want = json!({ "architecture": OTHER, "os": "linux", "os.version": "6.1", "os.features": ["a", "b"], "variant": "v9" });
    assert_eq!(one["Descriptor"]["platform"], want);
    own.run(&["manifest", "annotate", "--arch", "pdp11", list, &theirs])
        .refused(1, &["manifest entry for image has unsupported os/arch combination: linux/pdp11"]);
    let absent = world.part("none");
    own.run(&["manifest", "annotate", "--os", "linux", list, &absent])
        .refused(1, &[&format!("manifest for image {absent} does not exist in {list}")]);
    own.run(&["manifest", "annotate", "--variant", "v8", list, &theirs]).ok();

    // A tag may end as a temporary file does.
    let odd = format!("{}/parts/{OWN}:1.tmp", world.registry.name);
    own.run(&["tag", &mine, &odd]).ok();
    own.run(&["push", &odd]).ok();
    let odd_list = format!("{}/team/odd:1", world.registry.name);
    own.run(&["manifest", "create", &odd_list, &odd]).ok();
    assert_eq!(machines(&world.inspect(&[&odd_list])), [OWN]);
    own.run(&["manifest", "rm", &odd_list]).ok();

    let pushed = own.run(&["manifest", "push", "--purge", list]).ok();
    let lines: Vec<&str> = pushed.lines().collect();
    assert_eq!(lines.len(), 3, "{pushed}");
    assert!(
        lines[0].starts_with(&format!("Pushed ref {}/team/app@sha256:", world.registry.name)),
        "{pushed}"
    );
    own.run(&["manifest", "push", list]).refused(1, &[&format!("No such manifest: {list}")]);
    own.run(&["manifest", "rm", list]).refused(1, &[&format!("No such manifest: {list}")]);
    // Now it is the registry's, and an image for both.
    assert_eq!(machines(&world.inspect(&[list])), ["amd64", "arm64"]);
    own.run(&["pull", "-q", list]).ok();
    assert_eq!(
        own.run(&["run", "--rm", "--network", "none", list, "sh", "-c", "echo $IMAGE_ARCH"]).ok(),
        OWN
    );
    let out = own.run(&["pull", list]).ok();
    assert!(out.contains(&format!("Digest: {}", lines[2])), "{out}");
}

#[test]
fn lists_that_cannot_be() {
    let Some(t) = Test::start() else { return };
    let Some(world) = world(&t) else { return };
    let (own, list) = (&world.own, &world.list);
    let multi = format!("{}/rbox/multi:latest", t.suite.registry);
    own.run(&["manifest", "create", list, &multi]).refused(1, &[&format!("{multi} is a manifest list")]);
    let absent = world.part("none");
    own.run(&["manifest", "create", list, &world.part(OWN), &absent])
        .refused(1, &[&format!("no such manifest: {absent}")]);
    // Nothing of it was kept.
    own.run(&["manifest", "rm", list]).refused(1, &["No such manifest"]);
    own.run(&["manifest", "create", list]).refused(125, &["MANIFEST"]);
    own.run(&["manifest", "inspect", "UPPER"]).refused(125, &["lowercase"]);
    own.run(&["manifest", "inspect", &absent]).refused(1, &[&format!("no such manifest: {absent}")]);
    // Parts of another registry cannot be mounted from there.
    own.run(&["manifest", "create", list, BUSYBOX]).ok();
    own.run(&["manifest", "push", list]).refused(
        1,
        &["cannot use source images from a different registry than the target image: docker.io != "],
    );
    own.run(&["manifest", "rm", list]).ok();
    // A file that was tampered with.
    own.run(&["manifest", "create", list, &world.part(OWN)]).ok();
    let dir = own.dir.join(".docker/manifests").read_dir().unwrap().next().unwrap().unwrap().path();
    let file = dir.read_dir().unwrap().next().unwrap().unwrap().path();
    let mut kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    kept["Raw"] = "e30=".into();
    fs::write(&file, kept.to_string()).unwrap();
    own.run(&["manifest", "push", list]).refused(1, &["internal digest mismatch"]);
    fs::write(&file, "{").unwrap();
    own.run(&["manifest", "inspect", list]).refused(1, &[file.to_str().unwrap()]);
    own.run(&["manifest", "rm", list]).ok();
}

#[test]
fn imagetools_show_and_put_together() {
    let Some(t) = Test::start() else { return };
    let Some(world) = world(&t) else { return };
    let (own, list) = (&world.own, &world.list);
    let tools = |args: &[&str]| own.run(&[&["buildx", "imagetools"], args].concat());
    let (mine, theirs) = (world.part(OWN), world.part(OTHER));
    let dry: Value =
        serde_json::from_str(&tools(&["create", "--dry-run", "-t", list, &mine, &theirs]).ok()).unwrap();
    assert_eq!(dry["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(dry["manifests"][0]["platform"], json!({ "architecture": OWN, "os": "linux" }));
    let metadata = own.dir.join("metadata.json");
    let metadata = metadata.to_str().unwrap();
    let out = tools(&[
        "create",
        "-t",
        list,
        "--annotation",
        "index:team=blue",
        "--annotation",
        &format!("manifest-descriptor[linux/{OTHER}]:far=yes"),
        "--metadata-file",
        metadata,
        &mine,
        &theirs,
    ]);
    assert!(out.stderr.contains("[internal] pushing ") && out.stderr.contains("copying sha256:"), "{out:?}");
    out.code(0);
    let known: Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
    let digest = known["containerimage.descriptor"]["digest"].as_str().unwrap();

    let shown = tools(&["inspect", list]).ok();
    let head = format!(
        "Name:      {list}\nMediaType: application/vnd.oci.image.index.v1+json\nDigest:    {digest}\n"
    );
    assert!(shown.starts_with(&head), "{shown}");
    assert!(shown.contains(&format!("\nManifests: \n  Name:        {list}@sha256:")), "{shown}");
    assert!(shown.contains("  Platform:    linux/amd64\n") && shown.contains("    far: yes"), "{shown}");
    let raw: Value = serde_json::from_str(&tools(&["inspect", "--raw", list]).ok()).unwrap();
    assert_eq!(raw["annotations"]["team"], "blue");
    assert_eq!(
        tools(&["inspect", "--format", "{{.Manifest.Digest}} {{.Name}}", list]).ok(),
        format!("{digest} {list}")
    );
    let images: Value =
        serde_json::from_str(&tools(&["inspect", "--format", "{{json .Image}}", list]).ok()).unwrap();
    assert_eq!(images[format!("linux/{OTHER}")]["architecture"], OTHER);
    let one = tools(&["inspect", "--format", "{{.Image.Architecture}} {{.Image.OS}}", &theirs]).ok();
    assert_eq!(one, format!("{OTHER} linux"));

    // One more tag is the same image; one platform of it is another.
    let again = format!("{}/team/app:again", world.registry.name);
    let out = tools(&["create", "-t", &again, list]).code(0);
    assert!(!out.stderr.contains("copying"), "nothing is copied: {out:?}");
    assert_eq!(tools(&["inspect", "--format", "{{.Manifest.Digest}}", &again]).ok(), digest);
    tools(&["create", "-t", &again, "-p", &format!("linux/{OTHER}"), list]).code(0);
    let raw: Value = serde_json::from_str(&tools(&["inspect", "--raw", &again]).ok()).unwrap();
    assert_eq!(raw["manifests"].as_array().unwrap().len(), 1);
    tools(&["create", "--append", "-t", &again, &mine]).code(0);
    let raw: Value = serde_json::from_str(&tools(&["inspect", "--raw", &again]).ok()).unwrap();
    assert_eq!(raw["manifests"].as_array().unwrap().len(), 2);
    tools(&["create", "--prefer-index=false", "-t", &again, &mine]).code(0);
    let raw: Value = serde_json::from_str(&tools(&["inspect", "--raw", &again]).ok()).unwrap();
    assert!(raw["config"].is_object(), "{raw}");
    // Out of another registry, with all its blobs; and it runs.
    let python = format!("{}/copied/python:1", world.registry.name);
    tools(&["create", "-t", &python, PYTHON]).code(0);
    own.run(&["pull", "-q", &python]).ok();
    assert_eq!(own.run(&["run", "--rm", "--network", "none", &python, "echo", "runs"]).ok(), "runs");
    // A descriptor, of a file.
    let file = own.dir.join("descriptor.json");
    fs::write(&file, raw["config"].to_string()).unwrap();
    // The registry may be asked for it several times.
    let out = tools(&["create", "--dry-run", "-f", file.to_str().unwrap(), &mine]).code(1);
    assert!(out.stderr.lines().last().unwrap().contains("manifest"), "{out:?}");
}

#[test]
fn what_imagetools_refuse_and_what_they_show_a_terminal() {
    let Some(t) = Test::start() else { return };
    let Some(world) = world(&t) else { return };
    let (own, list) = (&world.own, &world.list);
    let tools = |args: &[&str]| own.run(&[&["buildx", "imagetools"], args].concat());
    let mine = world.part(OWN);
    tools(&["create", "-t", list, &mine, &world.part(OTHER)]).code(0);
    let huge = own.dir.join("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    tools(&["create", "--dry-run", "-f", huge.to_str().unwrap()]).refused(1, &["is over 4194304 bytes long"]);
    // Nothing is pushed of which the file would not know.
    let unknown = format!("{}/team/unknown:1", world.registry.name);
    let nowhere = own.dir.join("none/metadata.json");
    tools(&["create", "-t", &unknown, "--metadata-file", nowhere.to_str().unwrap(), &mine])
        .refused(1, &[nowhere.to_str().unwrap()]);
    tools(&["inspect", &unknown]).refused(1, &["not found"]);
    let odd = format!("manifest-descriptor[linux/{OTHER}:far=yes");
    for (annotation, said) in [
        (odd.as_str(), "expected manifest-descriptor[PLATFORM]:key=value"),
        ("manifest-descriptor[]:a=b", "expected manifest-descriptor[PLATFORM]:key=value"),
        ("index[linux/arm64]:a=b", "an index is for no platform"),
        ("index:=b", "expected key=value"),
    ] {
        tools(&["create", "--dry-run", "--annotation", annotation, &mine]).refused(125, &[said]);
    }
    // What would drive a terminal is shown there, and is as it came elsewhere.
    let bell = format!("{}/team/bell:1", world.registry.name);
    tools(&["create", "-t", &bell, "--annotation", "index:title=\u{9b}31m\u{202e}", &mine]).code(0);
    let raw = tools(&["inspect", "--raw", &bell]).ok();
    assert!(raw.contains("\u{9b}31m\u{202e}"), "{raw}");
    let mut terminal = OnTerminal::start(own.cmd(&["buildx", "imagetools", "inspect", "--raw", &bell]));
    terminal.expect("\\x9b31m\\u{202e}");
    assert!(!terminal.shown().contains('\u{9b}'), "{:?}", terminal.shown());
    terminal.close();

    for (args, said) in [
        (&["create", "-t", list][..], "no sources specified"),
        (&["create", &mine], "can't push with no tags specified, please set --tag or --dry-run"),
        (&["create", "--dry-run", "sha256:short"], "valid sources are digests, references and descriptors"),
        (&["create", "--dry-run", "{\"schemaVersion\":2}"], "expected an OCI content descriptor"),
        (&["create", "--dry-run", "-p", "linux/s390x", list], "no manifests match the platforms linux/s390x"),
        (
            &["create", "--dry-run", "--annotation", "a=b", &mine],
            "\"manifest\" annotations are not supported yet",
        ),
        (&["create", "--dry-run", &format!("sha256:{}", "0".repeat(64))], "no repositories specified"),
        (&["inspect", "--raw", "--format", "x", list], "format and raw cannot be used together"),
        (&["inspect", &world.part("none")], "not found"),
    ] {
        tools(args).refused(1, &[said]);
    }
    let help = own.run(&["buildx", "imagetools"]).ok();
    assert!(help.contains("create") && help.contains("inspect"), "{help}");
    own.run(&["buildx", "imagetools", "melt"]).refused(125, &["melt"]);
}

/// Puts what is stated of an image into the registry: its entry of an index.
fn put_statements(registry: &PasswordRegistry, of: &str, statements: &[(&str, Value)]) -> Value {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let layer = |(kind, predicate): &(&str, Value)| {
        let text = json!({ "predicateType": kind, "subject": [], "predicate": predicate }).to_string();
        json!({
            "mediaType": "application/vnd.in-toto+json",
            "digest": registry.put_blob("team/app", &text),
            "size": text.len(),
            "annotations": { "in-toto.io/predicate-type": kind },
        })
    };
    let layers: Vec<Value> = statements.iter().map(layer).collect();
    let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
        "digest": registry.put_blob("team/app", "{}") });
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    json!({
        "mediaType": MANIFEST,
        "digest": registry.put_manifest("team/app", None, &manifest),
        "size": manifest.to_string().len(),
        "annotations": {
            "vnd.docker.reference.digest": of,
            "vnd.docker.reference.type": "attestation-manifest",
        },
        "platform": { "architecture": "unknown", "os": "unknown" },
    })
}

/// What builders state of an image beside it, and the fields of templates as buildx has them.
#[test]
fn provenance_and_bills_of_materials() {
    let Some(t) = Test::start() else { return };
    let Some(world) = world(&t) else { return };
    let (own, list, registry) = (&world.own, &world.list, &world.registry);
    let format =
        |format: &str, name: &str| own.run(&["buildx", "imagetools", "inspect", "--format", format, name]);
    let create = ["buildx", "imagetools", "create", "-t", list];
    own.run(&[&create[..], &[&world.part("amd64"), &world.part("arm64")]].concat()).code(0);
    for (template, nothing) in [
        ("{{json .Provenance}}", "{}"),
        ("{{json .SBOM.SPDX}}", "null"),
        ("{{range .Manifest.Manifests}}{{.Annotations}}{{end}}", "map[]map[]"),
    ] {
        assert_eq!(format(template, list).ok().trim_end(), nothing, "{template}");
    }
    let state = |of: &str, statements: &[(&str, Value)]| put_statements(registry, of, statements);
    let mut index: Value = serde_json::from_str(&registry.get("team/app/manifests/1")).unwrap();
    let entries = index["manifests"].as_array().unwrap().clone();
    let spdx = "https://spdx.dev/Document";
    let [first, second] = [&entries[0], &entries[1]].map(|entry| {
        let slsa = json!({ "builder": { "id": "" }, "of": entry["platform"]["architecture"] });
        let bills = [(spdx, json!({ "name": "one" })), (spdx, json!({ "name": "two" }))];
        let all = [&bills[..], &[("https://slsa.dev/provenance/v0.2", slsa)]].concat();
        state(entry["digest"].as_str().unwrap(), &all)
    });
    index["manifests"] = json!([entries[0], entries[1], first, second]);
    registry.put_manifest("team/app", Some("both"), &index);
    index["manifests"] = json!([entries[0], first]);
    registry.put_manifest("team/app", Some("one"), &index);
    let [both, one] = ["both", "one"].map(|tag| format!("{}/team/app:{tag}", registry.name));
    let json =
        |template: &str, name: &str| -> Value { serde_json::from_str(&format(template, name).ok()).unwrap() };
    let of = |machine: &str| json!({ "SLSA": { "builder": { "id": "" }, "of": machine } });
    assert_eq!(json("{{json .Provenance}}", &one), of("amd64"));
    let all = json!({ "linux/amd64": of("amd64"), "linux/arm64": of("arm64") });
    assert_eq!(json("{{ json .Provenance }}", &both), all);
    let bill = json!({ "SPDX": { "name": "one" }, "AdditionalSPDXs": [{ "name": "two" }] });
    assert_eq!(json("{{json .SBOM}}", &one), bill);
    assert_eq!(json("{{json .SBOM.SPDX}}", &one), bill["SPDX"]);
    assert_eq!(format("{{.SBOM.SPDX.name}} {{.Provenance.SLSA.of}}", &one).ok(), "one amd64");
    let arm = r#"{{(index .Provenance "linux/arm64").SLSA.of}}"#;
    assert_eq!(format(arm, &both).ok(), "arm64");
    let fields =
        "{{.Image.Architecture}} [{{.Image.Author}}] {{.Image.Config.Labels}} {{.Image.Config.Volumes}}";
    assert_eq!(format(fields, &one).ok(), "amd64 [] map[] map[]");
    format("{{.Nope}}", &one).refused(1, &["Nope"]);
    // Statements that are too long together are not kept in memory.
    let long = || (spdx, json!({ "name": "x".repeat(33 << 20) }));
    index["manifests"][1]["digest"] =
        state(entries[0]["digest"].as_str().unwrap(), &[long(), long()])["digest"].clone();
    registry.put_manifest("team/app", Some("long"), &index);
    let name = format!("{}/team/app:long", registry.name);
    format("{{json .SBOM}}", &name).refused(1, &["is over 64 MiB long in all", &name]);
    // Nor are such of which there is little but what takes much when it is read.
    let dense = (spdx, json!(vec![json!({}); 500_000]));
    index["manifests"][1]["digest"] =
        state(entries[0]["digest"].as_str().unwrap(), &[dense])["digest"].clone();
    registry.put_manifest("team/app", Some("long"), &index);
    format("{{json .SBOM}}", &name).refused(1, &["is over 256 MiB of values in all", &name]);
    // Nothing is stated of it.
    index["manifests"][1]["digest"] = state(entries[0]["digest"].as_str().unwrap(), &[])["digest"].clone();
    registry.put_manifest("team/app", Some("one"), &index);
    assert_eq!(json("{{json .Provenance}}", &one), json!({}));
}

/// A mirror that does not answer costs one request, and what is waited for is said.
#[test]
fn mirrors_that_do_not_answer() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let (dead, asked) = answers("503 Service Unavailable", String::new(), 100);
    let config = json!({ "registries": {
        "docker.io": { "mirrors": [format!("http://{dead}"), format!("http://{}", t.suite.registry)] },
    } });
    fs::write(own.dir.join("registries.json"), config.to_string()).unwrap();
    let out = own.run(&["buildx", "imagetools", "inspect", "--format", "{{json .Image}}", BUSYBOX]);
    let line = format!("rbox: mirror http://{dead}: ");
    assert_eq!(out.stderr.lines().filter(|one| one.starts_with(&line)).count(), 1, "{out:?}");
    out.ok();
    assert_eq!(asked.try_iter().count(), 1);
    // The registry itself is asked again, and that is said.
    let out = own.run(&["manifest", "inspect", &format!("{dead}/x/y:1")]);
    assert_eq!(out.stderr.matches("; trying again in ").count(), 4, "{out:?}");
    out.code(1);
    assert_eq!(asked.try_iter().count(), 5);
}

/// Many at once are no less than one after the other.
#[test]
fn forty_at_once() {
    let Some(t) = Test::start() else { return };
    let Some(world) = world(&t) else { return };
    let (own, list) = (&world.own, &world.list);
    let part = world.part(OWN);
    let names: Vec<String> =
        (0..40).map(|number| format!("{}/parts/{OWN}:t{number}", world.registry.name)).collect();
    let script = "set -e; list=$1; part=$2; shift 2; for name; do (\"$RBOX\" buildx imagetools create --prefer-index=false --progress none -t $name $part && \
                  \"$RBOX\" manifest create --amend $list $name >/dev/null || echo failed $name) & done; wait";
    let mut args = vec!["-c", script, "sh", list.as_str(), part.as_str()];
    args.extend(names.iter().map(String::as_str));
    let out = own.other("sh", &args).env("RBOX", crate::harness::binary()).run().ok();
    assert_eq!(out, "");
    assert_eq!(world.inspect(&["-v", list]).as_array().unwrap().len(), 40);
    own.run(&["manifest", "push", list]).ok();
    let tags =
        Cmd::new("curl", ["-sSf", &format!("http://{}/v2/parts/{OWN}/tags/list", world.registry.name)])
            .run()
            .ok();
    assert_eq!(tags.matches("\"t").count(), 41, "{tags}");
}
