//! `build`: stages side by side, and a shell in a build.

use std::time::Duration;

use crate::build::Builds;
use crate::crash::kill9;
use crate::harness::{BUSYBOX, Output, Test, wait_until};

/// A Dockerfile whose stages `a` and `b` wait for each other: they meet in a cache that both have mounted.
fn meeting(last: &str) -> String {
    let half = |own: &str, other: &str| {
        format!(
            "FROM base AS {own}\nRUN --mount=type=cache,target=/meet touch /meet/{own}; for i in $(seq 300); do test -e /meet/{other} && break; sleep 0.1; done; test -e /meet/{other} && echo {own} > /{own}\n"
        )
    };
    format!("FROM {BUSYBOX} AS base\nRUN echo base > /base\n{}{}{last}", half("a", "b"), half("b", "a"))
}

#[test]
fn stages_that_do_not_need_each_other_are_carried_out_at_once() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("x", "context");
    let text = meeting(
        "FROM base AS c\nCOPY x /x\nFROM base\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /x /\n",
    );
    let said = b.built(&text, &["--build-arg", "NOBODY=1"]);
    assert_eq!(b.sh("cat /a /b /base /x"), "a\nb\nbase\ncontext");
    assert!(said.contains("[Warning] One or more build-args [NOBODY] were not consumed"), "{said}");
    // Each line belongs to a step, and where the step is another one than before it is said which.
    let mut known: Vec<&str> = Vec::new();
    for (number, line) in said.lines().filter_map(|line| line.strip_prefix('#')?.split_once(' ')) {
        assert!(
            known.contains(&number) || line.starts_with('[') || line.starts_with("exporting"),
            "{number} {line}\n{said}"
        );
        known.push(number);
    }
    for done in ["[a 1/1] RUN", "[b 1/1] RUN", "[c 1/1] COPY x /x", "[stage-4 3/3] COPY --from=c /x /"] {
        assert!(said.contains(done), "{done}: {said}");
    }
    // All of it is in the cache, whichever process has made it, and the image is the same.
    let id = || b.own.run(&["image", "inspect", "-f", "{{.Id}}", "made"]).ok();
    let first = id();
    let again = b.built(&text, &[]);
    assert!(!again.contains("not cached"), "{again}");
    assert_eq!(again.matches(" CACHED").count(), 8, "{again}");
    assert_eq!(id(), first);
    b.file("x", "changed");
    let said = b.built(&text, &[]);
    assert!(said.contains("not cached: x changed"), "{said}");
    b.is_tidy();
}

#[test]
fn what_fails_in_one_stage_ends_the_others() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    std::fs::write(b.dir.join("token"), "s3cret").unwrap();
    let token = format!("id=token,src={}", b.dir.join("token").display());
    let text = format!(
        "FROM {BUSYBOX} AS slow\nRUN --mount=type=secret,id=token echo begun; sleep 1000\n\
         FROM {BUSYBOX} AS wrong\nRUN --mount=type=cache,target=/meet \\\n    sleep 1; echo bad; exit 3\n\
         FROM {BUSYBOX}\nCOPY --from=slow / /\nCOPY --from=wrong / /\n"
    );
    let out = b.build(&text, &["--secret", &token]);
    assert_eq!(out.code, 1, "{}", out.stderr);
    for wanted in [
        "CANCELED\n",
        "\n > [wrong 2/2] RUN --mount=type=cache,target=/meet     sleep 1; echo bad; exit 3:\n",
        " bad\n",
        "   4 | >>> RUN --mount=type=cache,target=/meet \\\n",
        "\nrbox: failed to solve: process \"/bin/sh -c sleep 1; echo bad; exit 3\" did not complete successfully: exit code: 3\n",
    ] {
        assert!(out.stderr.contains(wanted), "{wanted:?}: {}", out.stderr);
    }
    // What is looked for before all stages is told with its line as well.
    let out = b.build(&text.replacen(BUSYBOX, "nobody/has:this", 1), &["--secret", &token]);
    assert!(
        out.code == 1 && out.stderr.contains("   1 | >>> FROM nobody/has:this AS slow\n"),
        "{}",
        out.stderr
    );
    b.is_tidy();
    assert_eq!(std::fs::read_dir(b.own.state.join("build/work")).unwrap().count(), 0);
    // Nor does the step that was ended hold its place.
    let steps = std::fs::read_dir(b.own.root.join("build/steps")).unwrap().flatten();
    let locks: Vec<_> = steps
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "lock"))
        .collect();
    assert_eq!(locks, [] as [std::path::PathBuf; 0]);
}

#[test]
fn a_stage_that_says_much_keeps_no_other_one_from_being_heard() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let text = format!(
        "FROM {BUSYBOX} AS much\nRUN yes\nFROM {BUSYBOX} AS wrong\nRUN sleep 1; exit 4\nFROM {BUSYBOX}\nCOPY --from=much / /\nCOPY --from=wrong / /\n"
    );
    b.own.run(&["pull", "-q", BUSYBOX]).ok();
    b.file("Dockerfile", &text);
    // What it says goes nowhere: there is much of it.
    let line = r#"timeout 40 "$0" build "$1" 2>&1 >/dev/null | tail -n 30"#;
    let mut build = b.own.program("sh");
    build.args(["-c", line, crate::harness::binary().to_str().unwrap(), b.dir.to_str().unwrap()]);
    let out = String::from_utf8_lossy(&build.output().unwrap().stdout).into_owned();
    assert!(out.contains("did not complete successfully: exit code: 4"), "{out}");
    assert!(out.contains("\n > [wrong 2/2] RUN sleep 1; exit 4:\n"), "{out}");
    b.is_tidy();
}

#[test]
fn of_stages_that_fail_at_once_one_is_told() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let half = |own: &str, other: &str, code: u8| {
        format!(
            "FROM {BUSYBOX} AS {own}\nRUN --mount=type=cache,target=/meet touch /meet/{own}; until test -e /meet/{other}; do usleep 1000; done; echo in {own}; sleep 0.2; rm /meet/{other}; exit {code}\n"
        )
    };
    let text = format!(
        "{}{}FROM {BUSYBOX}\nCOPY --from=one / /\nCOPY --from=two / /\n",
        half("one", "two", 31),
        half("two", "one", 32)
    );
    for _ in 0..8 {
        let out = b.build(&text, &[]);
        let (_, end) = out.stderr.split_once("\n------\n > [").expect("a step is shown");
        let (name, code) = if end.starts_with("one ") { ("one", 31) } else { ("two", 32) };
        assert!(
            end.contains(&format!(" in {name}\n")) && end.trim_end().ends_with(&format!("exit code: {code}")),
            "{}",
            out.stderr
        );
    }
}

#[test]
fn names_that_are_no_text_are_told_from_stage_to_stage() {
    use std::os::unix::ffi::OsStrExt as _;
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    std::fs::create_dir(b.dir.join("d")).unwrap();
    std::fs::write(b.dir.join("d").join(name), "1").unwrap();
    let text = format!(
        "FROM {BUSYBOX} AS one\nCOPY d /d\nFROM {BUSYBOX} AS two\nCOPY d /e\nFROM {BUSYBOX}\nCOPY --from=one /d /d\nCOPY --from=two /e /e\n"
    );
    b.built(&text, &[]);
    assert_eq!(b.sh("cat /d/* /e/*"), "11");
    std::fs::write(b.dir.join("d").join(name), "2").unwrap();
    let said = b.built(&text, &[]);
    assert!(said.contains("not cached: d/\u{fffd}\u{fffd} changed"), "{said}");
}

#[test]
fn what_onbuild_of_an_image_needs_is_carried_out_once() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("Dockerfile", &format!("FROM {BUSYBOX}\nONBUILD COPY --from=shared /made /made\n"));
    b.own.cmd(&["build", "-q", "-t", "puts-off", b.dir.to_str().unwrap()]).run().ok();
    let text = format!(
        "FROM {BUSYBOX} AS shared\nRUN cat /proc/sys/kernel/random/uuid > /made\nFROM puts-off AS one\nFROM puts-off AS two\n\
         FROM {BUSYBOX} AS puts\nONBUILD COPY --from=shared /made /made\nFROM puts AS three\n\
         FROM {BUSYBOX}\nCOPY --from=one /made /1\nCOPY --from=two /made /2\nCOPY --from=three /made /3\n"
    );
    let said = b.built(&text, &["--no-cache"]);
    assert_eq!(b.sh("cat /1 /2 /3 | sort -u | wc -l"), "1", "{said}");
    // The step is named again where something else is told while it goes on.
    let steps: std::collections::BTreeSet<&str> =
        said.lines().filter(|line| line.contains("[shared 2/2] RUN")).collect();
    assert_eq!(steps.len(), 1, "{said}");
    b.is_tidy();
}

/// The directory of the cache with this id.
fn cache_dir(b: &Builds, id: &str) -> std::path::PathBuf {
    let all = std::fs::read_dir(b.own.root.join("build/mounts")).unwrap().flatten().map(|entry| entry.path());
    let mut all = all.filter(|dir| std::fs::read_to_string(dir.join("id")).is_ok_and(|text| text == id));
    all.next().expect("there is such a cache")
}

#[test]
fn a_cache_that_is_pruned_while_a_build_waits_for_it_is_made_again() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let text = |what: &str| {
        format!("FROM {BUSYBOX}\nRUN --mount=type=cache,target=/cache,sharing=locked touch /cache/{what}\n")
    };
    b.built(&text("first"), &[]);
    let dir = cache_dir(&b, "/cache");
    let held = std::fs::File::open(&dir).unwrap();
    held.try_lock().unwrap();
    let said = std::thread::scope(|scope| {
        let build = scope.spawn(|| b.built(&text("second"), &[]));
        std::thread::sleep(Duration::from_secs(2));
        std::fs::remove_dir_all(&dir).unwrap();
        drop(held);
        build.join().unwrap()
    });
    assert!(said.contains("waiting for cache /cache, which another build or stage uses"), "{said}");
    let listed = b.own.run(&["builder", "cache", "ls", "--format", "{{.Description}}"]).ok();
    assert_eq!(listed, "/cache");
    assert!(dir.join("data/second").exists() && !dir.join("data/first").exists());
    b.is_tidy();
}

#[test]
fn caches_are_locked_in_one_order_whatever_the_file_says() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let cache = |id: &str| format!("--mount=type=cache,id={id},target=/{id},sharing=locked");
    let run = |ids: [&str; 3], what: &str| format!("RUN {} {what}\n", ids.map(cache).join(" "));
    b.built(&format!("FROM {BUSYBOX}\n{}", run(["a", "m", "z"], "true")), &[]);
    // Each of the two would get its first one, and wait for the one in the middle; and then for that of the other.
    let held = std::fs::File::open(cache_dir(&b, "m")).unwrap();
    held.try_lock().unwrap();
    let text = format!(
        "FROM {BUSYBOX} AS one\n{}FROM {BUSYBOX} AS two\n{}FROM {BUSYBOX}\nCOPY --from=one /1 /\nCOPY --from=two /2 /\n",
        run(["a", "m", "z"], "touch /1"),
        run(["z", "m", "a"], "touch /2")
    );
    std::thread::scope(|scope| {
        let build = scope.spawn(|| b.built(&text, &[]));
        std::thread::sleep(Duration::from_secs(3));
        drop(held);
        build.join().unwrap()
    });
    assert_eq!(b.sh("ls -d /1 /2"), "/1\n/2");
    b.is_tidy();
}

#[test]
fn caches_that_several_stages_lock_do_not_hold_each_other_up() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let cache = |id: &str| format!("--mount=type=cache,id={id},target=/{id},sharing=locked");
    let stage = |name: &str, ids: [&str; 3]| {
        let mounts = ids.map(cache).join(" ");
        format!(
            "FROM {BUSYBOX} AS {name}\nRUN {mounts} --mount=type=cache,id={0},target=/again,sharing=locked mkdir /{0}/mine && sleep 0.2 && rmdir /again/mine && touch /{name}\n",
            ids[0]
        )
    };
    let text = format!(
        "{}{}{}FROM {BUSYBOX}\nCOPY --from=one /one /\nCOPY --from=two /two /\nCOPY --from=three /three /\n",
        stage("one", ["x", "y", "z"]),
        stage("two", ["z", "y", "x"]),
        stage("three", ["y", "z", "x"])
    );
    b.built(&text, &[]);
    assert_eq!(b.sh("ls -d /one /two /three"), "/one\n/three\n/two");
    b.is_tidy();
}

#[test]
fn a_build_that_is_killed_ends_all_its_stages() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let text = format!(
        "FROM {BUSYBOX} AS one\nRUN echo in one; sleep 1000\nFROM {BUSYBOX} AS two\nRUN echo in two; sleep 1000\n\
         FROM {BUSYBOX}\nCOPY --from=one / /\nCOPY --from=two / /\n"
    );
    b.file("Dockerfile", &text);
    let mut build = b.own.program(crate::harness::binary().to_str().unwrap());
    let mut build = build
        .args(["build", "-t", "made"])
        .arg(&b.dir)
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let running = || {
        std::fs::read_dir(b.own.state.join("containers"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                let state = std::fs::read_to_string(entry.path().join("state.json")).unwrap_or_default();
                state.contains("\"running\": true") || state.contains("\"running\":true")
            })
            .count()
    };
    wait_until("both stages run", || running() == 2);
    kill9(i32::try_from(build.id()).unwrap());
    build.wait().unwrap();
    wait_until("no stage runs", || running() == 0);
    // The next build goes on as if nothing had been, and sweeps; the last monitor may still be there, with what it has from its build.
    wait_until("the next build sweeps", || {
        b.built(&text.replace("sleep 1000", "true"), &[]);
        std::fs::read_dir(b.own.root.join("build/work")).unwrap().count() == 0
    });
    b.is_tidy();
}

impl Builds {
    /// Builds with these lines on standard input, for a shell.
    fn build_and_type(&self, text: &str, flags: &[&str], lines: &str) -> Output {
        self.file("Dockerfile", text);
        let args = [&["build"], flags, &[self.dir.to_str().unwrap()]].concat();
        self.own.cmd(&args).input(lines).limit(Duration::from_mins(1)).run()
    }
}

/// moby/buildkit#1472.
#[test]
fn a_shell_in_a_step_that_failed_is_in_it_as_it_was() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    std::fs::write(b.dir.join("token"), "s3cret").unwrap();
    let token = format!("id=token,src={}", b.dir.join("token").display());
    let text = format!(
        "FROM {BUSYBOX}\nARG WHO=me\nENV KEY=value\nRUN echo user:x:77:77::/: >> /etc/passwd && mkdir /work && chown 77 /work\nWORKDIR /work\nUSER user\n\
         RUN --mount=type=cache,target=/cache,uid=77 --mount=type=secret,id=token,uid=77 echo half > made; echo kept > /cache/k; exit 9\nRUN echo never\n"
    );
    let lines = "id -u; pwd; cat made; cat /cache/k; cat /run/secrets/token; echo \" $WHO $KEY\"; exit 5\n";
    let out = b.build_and_type(&text, &["--on-error", "shell", "--secret", &token], lines);
    assert_eq!(
        (out.code, out.stdout.as_str()),
        (1, "77\n/work\nhalf\nkept\ns3cret me value\n"),
        "{}",
        out.stderr
    );
    assert!(
        out.stderr.contains("a shell in this step as it failed") && out.stderr.contains("exit code: 9"),
        "{}",
        out.stderr
    );
    // Nobody types anything: the build ends.
    let out = b.build_and_type(&text, &["--on-error", "shell", "--secret", &token], "");
    assert_eq!((out.code, out.stdout.as_str()), (1, ""));
    // Without, there is none.
    let out = b.build_and_type(&text, &["--secret", &token], lines);
    assert_eq!((out.code, out.stdout.as_str()), (1, ""));
    // What has no shell says so, and fails as it did.
    let bare = format!(
        "FROM {BUSYBOX} AS b\nFROM scratch\nCOPY --from=b /bin/busybox /bin/busybox\nRUN [\"/bin/busybox\", \"false\"]\n"
    );
    let out = b.build_and_type(&bare, &["--on-error", "shell"], "");
    assert!(out.code == 1 && out.stderr.contains("no shell could be opened"), "{}", out.stderr);
    b.build_and_type("FROM scratch\n", &["--on-error", "shell", "-f", "-"], "FROM scratch\n")
        .refused(125, &["a shell needs standard input"]);
    b.is_tidy();
}

#[test]
fn a_build_stops_before_a_line() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("x", "x");
    let text = format!(
        "FROM {BUSYBOX} AS one\nENV A=1\nRUN echo one > /one\n\n# a comment\nRUN --mount=type=bind,target=/ctx \\\n    echo two > /two\nFROM one\nCOPY x /x\nRUN echo end > /end\n"
    );
    let typed = |line: &str| {
        let out = b.build_and_type(
            &text,
            &["--until", line],
            "ls / | grep -E 'one|two|ctx|x$|end'; echo $A; test -d /ctx && ls /ctx; touch /lost",
        );
        assert_eq!(out.code, 0, "{}", out.stderr);
        out
    };
    for (line, wanted) in [
        ("1", ""),
        ("3", "1"),
        ("4", "ctx\none\n1\nDockerfile\nx"),
        ("7", "ctx\none\n1\nDockerfile\nx"),
        ("8", "one\ntwo\n1"),
        ("10", "one\ntwo\nx\n1"),
        ("99", "end\none\ntwo\nx\n1"),
    ] {
        let out = typed(line);
        assert_eq!(out.stdout.trim(), wanted, "{line}: {}", out.stderr);
    }
    assert!(typed("7").stderr.contains("next: RUN --mount=type=bind,target=/ctx"), "{}", typed("7").stderr);
    b.build_and_type(&text, &["--until", "3", "--target", "one"], "")
        .refused(125, &["--until and --target do not go together"]);
    b.build_and_type(&text, &["--until", "3", "--iidfile", "/tmp/none"], "")
        .refused(125, &["--until opens a shell and makes no image for --iidfile"]);
    // What is only asked for opens no shell.
    let checked = b.build_and_type(&text, &["--until", "3", "--progress", "rawjson", "--check"], "");
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    // With a name it is an image of what is there.
    b.built(&text, &["--until", "10"]);
    assert_eq!(b.sh("ls / | grep -E 'one|two|x$|end|lost'"), "one\ntwo\nx");
    b.is_tidy();
}
