//! `INCLUDE`, behind the directive `# extend=rbox`.

use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};

use crate::build::Builds;
use crate::harness::{BUSYBOX, Cmd, Output, Test};

fn last(out: &Output) -> &str {
    assert_eq!(out.code, 1, "{}", out.stderr);
    out.stderr.lines().last().unwrap_or_default()
}

#[test]
fn files_of_the_context_stand_in_their_places() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("build/args", &format!("# what is built on\nARG IMAGE={BUSYBOX}"));
    b.file(
        "build/steps/all.inc",
        "# extend=rbox\nINCLUDE env.inc\nINCLUDE /build/last.inc\nRUN echo $MODE > /mode",
    );
    b.file("build/steps/env.inc", "ENV MODE=test");
    b.file("build/last.inc", "COPY <<EOF /text\nINCLUDE nothing\nEOF");
    // What the image cannot have may be included.
    b.file(".dockerignore", "build");
    let text = "# extend=rbox\nINCLUDE build/args\nFROM $IMAGE AS made\nINCLUDE build/steps/all.inc\nRUN cat /text > /seen";
    b.built(text, &[]);
    assert_eq!(b.sh("cat /mode /seen"), "test\nINCLUDE nothing");
    let history = b.own.run(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made"]).ok();
    assert!(history.contains("ENV MODE=test\n") && !history.contains("INCLUDE build"), "{history}");
    assert_eq!(b.built(text, &[]).lines().filter(|line| line.ends_with(" CACHED")).count(), 4);
    b.file("build/steps/env.inc", "ENV MODE=other");
    let said = b.built(text, &[]);
    assert!(said.contains(" not cached: ENV MODE: test → other\n"), "{said}");
    // A step that fails is shown where it is written.
    b.file("build/last.inc", "RUN echo so && \\\n  exit 7");
    let out = b.build(text, &[]);
    assert!(
        out.stderr.contains("\nbuild/last.inc:1\n--------------------\n   1 | >>> RUN echo so && \\\n"),
        "{}",
        out.stderr
    );
    assert!(last(&out).ends_with("exit code: 7"), "{}", out.stderr);
    // So is what is no instruction, and what --check finds.
    b.file("build/last.inc", "RUN true\nRNU x");
    let out = b.build(text, &[]);
    assert!(out.stderr.contains("build/last.inc:2\n"), "{}", out.stderr);
    assert!(
        last(&out).contains("dockerfile parse error on line 2 of build/last.inc: unknown instruction: RNU"),
        "{}",
        out.stderr
    );
    b.file("build/last.inc", "\nMAINTAINER me");
    let out = b.own.run(&["build", "--check", b.dir.to_str().unwrap()]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(
        out.stdout.contains("MaintainerDeprecated") && out.stdout.contains("\nbuild/last.inc:2\n"),
        "{out:?}"
    );
    b.is_tidy();
}

#[test]
fn targets_outline_and_lines() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("one.inc", "# first a stage of the file\nFROM scratch AS first\n# NAME who it is for\nARG NAME=you\nLABEL name=$NAME");
    b.file("two.inc", "RUN --mount=type=secret,id=token,required true");
    b.file("Dockerfile", &format!("# extend=rbox\nINCLUDE one.inc\nFROM {BUSYBOX} AS second\nCOPY --from=first / /\nRUN touch /one\nINCLUDE two.inc\nRUN touch /two"));
    let dir = b.dir.to_str().unwrap();
    let told = |what: &str| -> Value {
        let call = format!("--call={what},format=json");
        serde_json::from_str(&b.own.run(&["build", &call, dir]).ok()).unwrap()
    };
    let targets = told("targets");
    assert_eq!(targets["targets"][0]["description"], "a stage of the file");
    let at = |source: usize, file: &str, line: usize| {
        let line = json!({ "line": line });
        json!({ "sourceIndex": source, "file": file, "ranges": [{ "start": line, "end": line }] })
    };
    assert_eq!(targets["targets"][0]["location"], at(1, "one.inc", 2));
    let line = json!({ "line": 3 });
    let own = json!({ "ranges": [{ "start": line, "end": line }] });
    assert_eq!(targets["targets"][1]["location"], own);
    assert_eq!(targets["sources"].as_array().unwrap().len(), 3);
    let outline = told("outline");
    assert_eq!(outline["args"][0]["location"], at(1, "one.inc", 4));
    assert_eq!(outline["secrets"][0]["location"], at(2, "two.inc", 1));
    assert!(b.own.run(&["build", "--call=outline", dir]).ok().contains("who it is for"));
    // A line is one of the Dockerfile.
    let until = |line: &str| b.own.run(&["build", "-q", "-t", "made", "--until", line, dir]).ok();
    until("6");
    assert_eq!(b.sh("ls /one /two 2>/dev/null || true"), "/one");
    b.file("two.inc", "RUN touch /inside");
    until("7");
    assert_eq!(b.sh("ls /one /inside /two 2>/dev/null || true"), "/inside\n/one");
    b.is_tidy();
}

#[test]
fn contexts_of_all_kinds() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("common.inc", "RUN echo common > /common");
    let text = format!("# extend=rbox\nFROM {BUSYBOX}\nINCLUDE common.inc");
    b.file("Dockerfile", &text);
    b.file("deep/Dockerfile", &text.replace("common.inc", "../common.inc"));
    let dir = b.dir.to_str().unwrap();
    let input =
        |args: &[&str], bytes: Vec<u8>| b.own.cmd(args).input(bytes).limit(Duration::from_mins(1)).run();
    let packed = std::process::Command::new("tar").args(["-C", dir, "-cz", "."]).output().unwrap().stdout;
    for args in [&["build", "-t", "made", "-"][..], &["build", "-t", "made", "-f", "deep/Dockerfile", "-"]] {
        b.own.run(&["rmi", "-f", "made"]);
        input(args, packed.clone()).ok();
        assert_eq!(b.sh("cat /common"), "common");
    }
    // A Dockerfile on standard input is seen from the context's root; alone it has nothing to read.
    input(&["build", "-t", "made", "-f", "-", dir], text.clone().into()).ok();
    b.own.run(&["build", "-t", "made", "-f", &format!("{dir}/deep/Dockerfile"), dir]).ok();
    let out = input(&["build", "-"], text.clone().into());
    assert!(
        last(&out)
            .ends_with("INCLUDE common.inc: the Dockerfile came alone: there is no context to read it from"),
        "{}",
        out.stderr
    );
    // A further context.
    let other = t.dir("other");
    std::fs::create_dir(other.join("sub")).unwrap();
    std::fs::write(other.join("sub/a.inc"), "# extend=rbox\nINCLUDE b.inc").unwrap();
    std::fs::write(other.join("sub/b.inc"), "RUN echo other > /other").unwrap();
    let shared = text.replace("common.inc", "--from=shared sub/a.inc");
    b.built(&shared, &["--build-context", &format!("shared={}", other.display())]);
    assert_eq!(b.sh("cat /other"), "other");
    for (flags, why) in [
        (
            &[][..],
            "INCLUDE shared:sub/a.inc: there is no context shared: give --build-context shared=DIRECTORY",
        ),
        (&["--build-context", "shared=docker-image://busybox"], "the context shared is an image"),
    ] {
        let out = b.build(&shared, flags);
        assert!(last(&out).contains(why), "{}", out.stderr);
        assert!(out.stderr.contains("Dockerfile:3\n"), "{}", out.stderr);
    }
    // Without the directive it is what it is for BuildKit.
    let out = b.build(&format!("FROM {BUSYBOX}\nINCLUDE common.inc"), &[]);
    assert!(
        last(&out).contains(
            "unknown instruction: INCLUDE (it is of rbox alone, and needs the directive # extend=rbox"
        ),
        "{}",
        out.stderr
    );
    b.is_tidy();
}

#[test]
fn nothing_outside_of_the_context_and_nothing_that_is_no_file() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("common.inc", "RUN echo common > /common");
    b.file("deep/common.inc", "RUN echo deep > /common");
    let text = format!("# extend=rbox\nFROM {BUSYBOX}\nINCLUDE common.inc");
    let outside = t.dir("outside");
    std::fs::write(outside.join("secret.inc"), "RUN echo secret > /secret").unwrap();
    symlink(outside.join("secret.inc"), b.dir.join("link.inc")).unwrap();
    symlink(&outside, b.dir.join("dir")).unwrap();
    symlink("common.inc", b.dir.join("inside.inc")).unwrap();
    Cmd::new("mkfifo", [b.dir.join("fifo.inc")]).run().ok();
    b.built(&text.replace("common.inc", "inside.inc"), &[]);
    for (path, why) in [
        ("link.inc", "link.inc: "),
        ("dir/secret.inc", "no such file in the context"),
        ("../outside/secret.inc", "it is outside the context"),
        ("deep/../../outside/secret.inc", "it is outside the context"),
        ("/etc/passwd", "no such file in the context"),
        ("deep", "deep: "),
        ("fifo.inc", "fifo.inc: "),
        ("none.inc", "INCLUDE none.inc: no such file in the context"),
        ("Dockerfile", "INCLUDE Dockerfile: it includes itself: Dockerfile:3 → Dockerfile"),
    ] {
        let out = b.build(&text.replace("common.inc", path), &[]);
        assert!(last(&out).contains(why), "{path}: {}", out.stderr);
        assert!(
            last(&out).starts_with("rbox: failed to solve: dockerfile parse error on line 3: INCLUDE"),
            "{}",
            out.stderr
        );
    }
    // However the context and the Dockerfile are spelled, what is meant is beside it.
    b.file("deep/Dockerfile", &text);
    let dir = b.dir.to_str().unwrap();
    let (file, around) = (format!("{dir}/deep/Dockerfile"), format!("{dir}/deep/../../context"));
    let around = around.replace("context", b.dir.file_name().unwrap().to_str().unwrap());
    for (file, context) in [(&file, dir), (&file, around.as_str())] {
        b.own.run(&["build", "-t", "made", "-f", file, context]).ok();
        assert_eq!(b.sh("cat /common"), "deep");
    }
    b.is_tidy();
}
