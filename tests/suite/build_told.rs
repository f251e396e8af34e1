//! `build`: what is told of a Dockerfile and of what is not cached, and what a build gets that BuildKit has not.

use crate::build::Builds;
use crate::harness::{BUSYBOX, Test};

/// Of stages that need each other, with comments that describe them.
const DESCRIBED: &str = "# base where it stands\nARG BASE=busybox\n# UNUSED nobody needs\nARG UNUSED=1\n# first the first stage\nFROM $BASE AS first\n\
    # VERSION of what is built\nARG VERSION=1.0\nARG FULL=v${VERSION}\nARG LONELY\n\
    RUN --mount=type=secret,id=tok,required=true --mount=type=secret,id=opt --mount=type=ssh echo $FULL\n\
    FROM first AS second\nARG OTHER=x\nENV A=$OTHER\nCOPY --from=first / /y\n# unrelated comment\nFROM scratch\nARG NOPE=1\nCOPY --from=second / /\nRUN true\n";

#[test]
fn targets_and_the_outline_are_those_of_docker() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let call = |what: &str, more: &[&str]| b.build(DESCRIBED, &[&["--call", what], more].concat()).ok();
    assert_eq!(
        call("targets", &[]),
        "TARGET    DESCRIPTION\nfirst     the first stage\nsecond    \n(default) "
    );
    let outline = "BUILD ARG   VALUE     DESCRIPTION\nBASE        busybox   \nVERSION     1.0       of what is built\nFULL        v1.0      \n\
                   LONELY                \nOTHER       x         \nNOPE        1         \n\nSECRET   REQUIRED\ntok      true\nopt      \n\nSSH       REQUIRED\ndefault";
    assert_eq!(call("outline", &[]).trim_end(), outline);
    let first = call("outline", &["--target", "first", "--build-arg", "VERSION=7"]);
    assert!(first.starts_with("TARGET:      first\nDESCRIPTION: the first stage\n\nBUILD ARG"), "{first}");
    assert!(first.contains("FULL        v7        \n") && !first.contains("OTHER"), "{first}");
    let json: serde_json::Value =
        serde_json::from_str(&call("outline,format=json", &["--target", "first"])).unwrap();
    assert_eq!((&json["name"], &json["args"][1]["value"]), (&"first".into(), &"1.0".into()), "{json}");
    let json: serde_json::Value = serde_json::from_str(&call("targets,format=json", &[])).unwrap();
    assert_eq!(
        (&json["targets"][2]["default"], &json["targets"][0]["base"]),
        (&true.into(), &"$BASE".into()),
        "{json}"
    );
    b.build(DESCRIBED, &["--call", "nothing"]).refused(125, &["invalid --call \"nothing\""]);
    b.build(DESCRIBED, &["--call", "outline", "--target", "no"])
        .refused(1, &["target stage \"no\" could not be found"]);
    b.build(DESCRIBED, &["--check", "--call", "outline"]).refused(125, &["--check and --call outline"]);
    b.build(DESCRIBED, &["--call", "build,format=json"]).refused(125, &["a build is not told as JSON"]);
    let checked = |text: &str| -> serde_json::Value {
        let out = b.build(text, &["--call", "check,format=json"]).code(1);
        serde_json::from_str(&out.stdout).unwrap()
    };
    let found = checked("FROM scratch AS Big\nMAINTAINER \\\n me\n");
    let line = |line: usize| serde_json::json!({ "line": line });
    let one = &found["warnings"][1];
    assert_eq!(
        (&one["ruleName"], &found["warnings"][2]),
        (&"MaintainerDeprecated".into(), &serde_json::Value::Null)
    );
    assert_eq!(one["location"], serde_json::json!({ "ranges": [{ "start": line(2), "end": line(3) }] }));
    assert_eq!(found["sources"][0]["filename"], "Dockerfile");
    let wrong = checked("RUN x\nFROM scratch\n");
    assert_eq!(wrong["buildError"]["message"], "no build stage in current context");
    assert_eq!(wrong["buildError"]["location"]["ranges"][0]["start"], line(1));
    // FROM has the platform's arguments, and no stage by its number.
    let platforms = "FROM scratch AS amd64-base\nARG OF_AMD=1\nRUN true\nFROM scratch AS arm64-base\nARG OF_ARM=1\nRUN true\nFROM ${TARGETARCH}-base\n";
    let outline = |text: &str, flags: &[&str]| b.build(text, &[&["--call", "outline"], flags].concat()).ok();
    let arm = outline(platforms, &["--platform", "linux/arm64"]);
    assert!(arm.contains("OF_ARM") && !arm.contains("OF_AMD"), "{arm}");
    let numbered = outline("FROM scratch AS a\nARG OF_A=1\nRUN true\nFROM 0\nRUN true\n", &[]);
    assert!(!numbered.contains("OF_A"), "{numbered}");
    // What is long is clipped, and what comes to too much refused.
    let long = format!("A={}", "v".repeat(70_000));
    let told = outline("FROM scratch\nARG A\nRUN true\n", &["--build-arg", &long]);
    assert!(told.contains("vvv… ") && told.len() < 1000, "{} bytes", told.len());
    let lines: Vec<String> = (0..1100).map(|n| format!("ENV B{n}=$A\n")).collect();
    b.build(
        &format!("FROM scratch\nARG A\n{}", lines.concat()),
        &["--call", "outline", "--build-arg", &long],
    )
    .refused(1, &["the words of the Dockerfile come to more than 64 MiB"]);
    // Nothing was built, and nothing pulled.
    assert_eq!(b.own.run(&["images", "-q"]).ok(), "");
}

#[test]
fn explain_tells_all_that_is_different() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    for name in ["one", "two", "three"] {
        b.file(&format!("d/{name}"), name);
    }
    let text = format!("FROM {BUSYBOX}\nARG A=1\nENV E=1\nCOPY d /d\nRUN echo $A\n");
    b.built(&text, &[]);
    b.file("d/one", "changed");
    b.file("d/new", "new");
    std::fs::remove_file(b.dir.join("d/two")).unwrap();
    let why = |said: &str| -> Vec<String> {
        said.lines()
            .filter_map(|line| line.split_once(" not cached: ").map(|(_, why)| why.to_owned()))
            .collect()
    };
    let said = b.built(&text.replace("E=1", "E=2"), &["--explain", "--build-arg", "A=2"]);
    assert_eq!(
        why(&said),
        [
            "d/new is new",
            "d/one changed",
            "d/two is gone",
            "what it stands on is different",
            "ARG A: 1 → 2",
            "ENV E: 1 → 2"
        ],
        "{said}"
    );
    let said = b.built(&text, &["--no-cache", "--explain"]);
    assert_eq!(why(&said), [] as [&str; 0]);
}

#[test]
fn a_build_that_stops_early_does_not_forget_the_rest() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("x", "1");
    let text = |first: &str| format!("FROM {BUSYBOX}\nRUN {first}\nRUN mkdir /more\nCOPY x /x\n");
    b.built(&text("true"), &[]);
    b.built(&text("true"), &["--until", "3"]);
    let failed = b.build(&text("false"), &[]);
    assert_eq!(failed.code, 1);
    b.file("x", "2");
    let why = |said: &str| {
        said.lines()
            .filter_map(|line| Some(line.split_once("not cached: ")?.1.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(why(&b.built(&text("true"), &[])), ["x changed"]);
    // The one that failed is new to the cache, not lost from it.
    b.file("y", "1");
    assert_eq!(b.build(&text("cat /no"), &[]).code, 1);
    let said = b.built(&text("echo 2"), &[]);
    assert_eq!(why(&said).first().map(String::as_str), Some("the instruction is different"), "{said}");
}

#[test]
fn what_is_optional_may_be_missing() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("here", "here");
    let text = format!(
        "FROM {BUSYBOX} AS one\nFROM {BUSYBOX}\nCOPY --optional here missing lock-*.json /a/\nCOPY --optional missing /b/\nCOPY --optional --from=one /none /c\n"
    );
    b.built(&text, &[]);
    assert_eq!(b.sh("ls /a; ls -d /b /c 2>/dev/null; true"), "here");
    // It is there later.
    b.file("missing", "found");
    b.built(&text, &[]);
    assert_eq!(b.sh("cat /a/missing /b/missing"), "found\nfound");
    std::fs::remove_file(b.dir.join("missing")).unwrap();
    let out = b.build(&text.replace("--optional missing", "missing"), &[]);
    assert!(out.code == 1 && out.stderr.contains("\"/missing\": not found"), "{}", out.stderr);
    // It is no way out of the context.
    std::os::unix::fs::symlink("/etc", b.dir.join("out")).unwrap();
    b.built(&format!("FROM {BUSYBOX}\nCOPY --optional out/shadow /a/\n"), &[]);
    assert_eq!(b.sh("ls -d /a 2>/dev/null; true"), "");
    b.is_tidy();
}

#[test]
fn run_sees_a_directory_of_the_host_that_no_image_has() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let host = b.own.dir.join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("f"), "of the host\n").unwrap();
    let volume = format!("{}:/mnt/host", host.display());
    let text = format!("FROM {BUSYBOX}\nRUN cat /mnt/host/f > /seen; echo kept > /mnt/host/made\n");
    b.built(&text, &["-v", &volume]);
    assert_eq!(b.sh("cat /seen; ls -d /mnt/host 2>/dev/null; true"), "of the host");
    assert_eq!(std::fs::read_to_string(host.join("made")).unwrap(), "kept\n");
    // What is in it decides nothing, that it is there does.
    std::fs::write(host.join("f"), "changed\n").unwrap();
    assert!(!b.built(&text, &["-v", &volume]).contains("not cached"));
    let read_only = format!("{volume}:ro");
    let out = b.build(&text, &["-v", &read_only]);
    assert!(out.code == 1 && out.stderr.contains("Read-only file system"), "{}", out.stderr);
    // What of it is different is said, of each of them.
    let text = format!("FROM {BUSYBOX}\nRUN --mount=type=tmpfs,target=/t,size=64m ls /mnt/host /two\n");
    let two = |place: &str| format!("{}:/two", b.own.dir.join(place).display());
    b.built(&text, &["-v", &volume, "-v", &two("host")]);
    assert!(!b.built(&text, &["-v", &volume, "-v", &two("host")]).contains("not cached"));
    let why = |text: &str, flags: &[&str]| {
        let said = b.built(text, flags);
        let line =
            said.lines().find_map(|line| line.split_once(" not cached: ")).map(|(_, why)| why.to_owned());
        line.unwrap_or(said)
    };
    let said = why(&text, &["-v", &read_only, "-v", &two("host")]);
    assert!(said.starts_with("volume /mnt/host: ") && said.contains(" → "), "{said}");
    let said = why(&text, &["-v", &read_only, "-v", &two("context")]);
    assert!(said.starts_with("volume /two: "), "{said}");
    let said = why(&text.replace("64m", "32m"), &["-v", &read_only, "-v", &two("context")]);
    assert!(said.starts_with("mount /t: type=tmpfs"), "{said}");
    b.build(&text, &["-v", "/no/such:/x"]).refused(125, &["bind source path does not exist: /no/such"]);
    b.build(&text, &["-v", "name:/x"]).refused(125, &["a build mounts directories of the host"]);
    b.is_tidy();
}

#[test]
fn a_cache_of_run_is_carried_from_one_root_to_another() {
    let Some(t) = Test::start() else { return };
    let (b, other) = (
        Builds::new(&t),
        Builds {
            own: crate::harness::OwnRoots::new(&t, "others", &t.suite.registry),
            dir: t.dir("other-context"),
        },
    );
    let text = |what: &str| format!("FROM {BUSYBOX}\nRUN --mount=type=cache,target=/cache {what}\n");
    let of_nobody =
        |what: &str| format!("FROM {BUSYBOX}\nRUN --mount=type=cache,target=/own,uid=77,mode=0700 {what}\n");
    b.built(&text("mkdir /cache/d && echo deep > /cache/d/f && ln /cache/d/f /cache/h && chown 5:6 /cache/h && chmod 640 /cache/h"), &[]);
    let listed = b.own.run(&["builder", "cache", "ls", "--format", "{{.Type}} {{.Description}}"]).ok();
    assert_eq!(listed, "exec.cachemount /cache");
    let archive = b.own.dir.join("cache.tar");
    let archive = archive.to_str().unwrap();
    b.own.run(&["builder", "cache", "export", "-o", archive, "/cache"]).ok();
    b.own.run(&["builder", "cache", "export", "/none"]).refused(1, &["no such cache: /none"]);
    b.own.run(&["builder", "cache", "export", ""]).refused(1, &["a cache is named by its id"]);
    other.own.run(&["builder", "cache", "import", "-i", archive, "/cache/"]).ok();
    let said = other
        .built(&text("cat /cache/d/f; stat -c '%a %u:%g %h' /cache/h; rm /cache/h; touch /cache/own"), &[]);
    assert!(said.contains(" deep\n") && said.contains(" 640 5:6 2\n"), "{said}");
    // What was there is replaced, and a damaged archive changes nothing.
    other.own.run(&["builder", "cache", "import", "-i", archive, "/cache"]).ok();
    std::fs::write(b.own.dir.join("bad.tar"), "no archive at all").unwrap();
    let bad = b.own.dir.join("bad.tar");
    assert_ne!(other.own.run(&["builder", "cache", "import", "-i", bad.to_str().unwrap(), "/cache"]).code, 0);
    // Nor does nothing at all, which is what a pipe has when the export failed.
    other.own.run(&["builder", "cache", "import", "/cache"]).refused(1, &["nothing was changed"]);
    let said = other.built(&text("ls /cache"), &[]);
    assert!(said.contains(" h\n") && !said.contains(" own\n"), "{said}");
    // Its own owner and mode come with it.
    b.built(&of_nobody("true"), &[]);
    b.own.run(&["builder", "cache", "export", "-o", archive, "/own/"]).ok();
    other.own.run(&["builder", "cache", "import", "-i", archive, "/own"]).ok();
    let said = other.built(&of_nobody("stat -c '%a %u' /own"), &[]);
    assert!(said.contains(" 700 77\n"), "{said}");
    // One name for several is refused.
    b.built(&of_nobody("echo"), &["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=n"]);
    b.own.run(&["builder", "cache", "export", "/own"]).refused(1, &["several caches are called /own"]);
    other.is_tidy();
}

#[test]
fn progress_is_told_as_json_too() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let text = format!(
        "FROM {BUSYBOX} AS one\nRUN echo out; echo err >&2\nFROM {BUSYBOX} AS two\nRUN sleep 1; exit 4\nFROM {BUSYBOX}\nCOPY --from=one / /\nCOPY --from=two / /\n"
    );
    b.own.run(&["pull", "-q", BUSYBOX]).ok();
    let out = b.build(&text, &["--progress", "rawjson"]);
    assert_eq!(out.code, 1);
    let told: Vec<serde_json::Value> = out
        .stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let vertex = |name: &str, field: &str| {
        told.iter()
            .map(|one| &one["vertexes"][0])
            .find(|one| one["name"] == name && !one[field].is_null())
            .cloned()
    };
    let run = vertex("[one 2/2] RUN echo out; echo err >&2", "completed").expect("it was completed");
    let log =
        |stream: i64| told.iter().map(|one| &one["logs"][0]).find(|one| one["stream"] == stream).unwrap();
    assert_eq!((&log(1)["vertex"], &log(1)["data"]), (&run["digest"], &"b3V0Cg==".into()));
    assert_eq!(log(2)["data"], "ZXJyCg==");
    let failed = vertex("[two 2/2] RUN sleep 1; exit 4", "error").expect("it failed");
    assert!(failed["error"].as_str().unwrap().ends_with("exit code: 4"), "{failed}");
    assert!(vertex("[one 1/2] FROM docker.io/library/busybox:latest", "cached").is_some());
}
