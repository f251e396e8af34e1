//! `build`: images of Dockerfiles.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::crash::kill9;
use crate::harness::{BUSYBOX, Output, OwnRoots, Test, wait_until};

/// A context, and what is built of it.
pub(crate) struct Builds {
    pub(crate) own: OwnRoots,
    pub(crate) dir: PathBuf,
}

impl Builds {
    pub(crate) fn new(t: &Test) -> Self {
        let own = OwnRoots::new(t, "builds", &t.suite.registry);
        let dir = own.dir.join("context");
        std::fs::create_dir(&dir).unwrap();
        Self { own, dir }
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }

    /// Builds `text` as the image `made`.
    pub(crate) fn build(&self, text: &str, flags: &[&str]) -> Output {
        self.file("Dockerfile", text);
        let args = [&["build", "-t", "made"], flags, &[self.dir.to_str().unwrap()]].concat();
        self.own.cmd(&args).limit(Duration::from_mins(1)).run()
    }

    /// What it says on its way, which has to go well.
    pub(crate) fn built(&self, text: &str, flags: &[&str]) -> String {
        let out = self.build(text, flags);
        assert_eq!(out.code, 0, "{}", out.stderr);
        out.stderr
    }

    pub(crate) fn sh(&self, script: &str) -> String {
        self.own.run(&["run", "--rm", "--network", "none", "--entrypoint", "sh", "made", "-c", script]).ok()
    }

    fn config(&self) -> Value {
        let text = self.own.run(&["image", "inspect", "-f", "{{json .Config}}", "made"]).ok();
        serde_json::from_str(&text).unwrap()
    }

    fn history(&self) -> Vec<String> {
        let text = self.own.run(&["history", "--no-trunc", "--format", "{{json .CreatedBy}}", "made"]).ok();
        let mut lines: Vec<String> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.reverse();
        lines
    }

    pub(crate) fn has_running_step(&self) -> bool {
        let live = self.own.state.join("containers");
        std::fs::read_dir(live).into_iter().flatten().flatten().any(|entry| {
            let state = std::fs::read(entry.path().join("state.json")).unwrap_or_default();
            let state: Value = serde_json::from_slice(&state).unwrap_or_default();
            state["running"] == true
        })
    }

    /// Nothing of a build is left but its cache.
    pub(crate) fn is_tidy(&self) {
        assert_eq!(self.own.run(&["ps", "-aq"]).ok(), "");
        let left = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
        assert_eq!(left(&self.own.root.join("build/work")), 0);
        assert_eq!(left(&self.own.root.join("containers")), 0);
        // Its container's monitor tells the exit first.
        wait_until("the trash is empty", || left(&self.own.root.join("trash")) == 0);
    }
}

/// How many steps came from the cache.
fn cached(said: &str) -> usize {
    said.lines().filter(|line| line.ends_with(" CACHED")).count()
}

fn why(said: &str) -> Vec<&str> {
    said.lines().filter_map(|line| line.split_once(" not cached: ").map(|(_, why)| why)).collect()
}

/// Of the image of all instructions.
const HISTORY: [&str; 22] = [
    "MAINTAINER me",
    "ARG WHO=you NONE",
    "ENV A=1 B=two words",
    "ENV C=1-unset",
    "LABEL x.y=a b z=you",
    "WORKDIR /app",
    "WORKDIR /app/sub",
    "COPY --chown=7:8 --chmod=u=rwx,go=r app.py ../ # buildkit",
    "COPY sub/ /tree/ # buildkit",
    "ADD app.py /added/ # buildkit",
    "RUN |2 WHO=you NONE= /bin/sh -c echo \"$WHO $A $PWD\" > /ran # buildkit",
    "RUN |2 WHO=you NONE= sh -c echo exec > /exec # buildkit",
    "RUN |2 WHO=you NONE= /bin/sh -c echo one > /one\necho two > /two\n # buildkit",
    "COPY <<EOF <<RAW /etc/texts/ # buildkit",
    "EXPOSE [53/udp 80/tcp]",
    "VOLUME [/data]",
    "USER 7:8",
    "SHELL [/bin/sh -ec]",
    "STOPSIGNAL SIGINT",
    "HEALTHCHECK {Test:[CMD-SHELL true] Interval:5s Timeout:0s StartPeriod:0s StartInterval:0s Retries:2}",
    "ENTRYPOINT [\"echo\"]",
    "CMD [\"/bin/sh\" \"-ec\" \"shell form\"]",
];

#[test]
fn every_instruction_changes_what_buildkit_changes() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("app.py", "print(1)");
    b.file("sub/deep/x", "x");
    let text = format!(
        r#"ARG TAG=latest
FROM {BUSYBOX}:$TAG
MAINTAINER me
ARG WHO=world NONE
ENV A=1 B="two words"
ENV C=$A-${{NONE:-unset}}
LABEL x.y="a b" z=$WHO
WORKDIR /app
WORKDIR sub
COPY --chown=7:8 --chmod=u=rwx,go=r app.py ../
COPY sub/ /tree/
ADD app.py /added/
RUN echo "$WHO $A $PWD" > /ran
RUN ["sh", "-c", "echo exec > /exec"]
RUN <<EOF
echo one > /one
echo two > /two
EOF
COPY <<EOF <<"RAW" /etc/texts/
value=$A
EOF
raw=$A
RAW
EXPOSE 80 53/udp
VOLUME /data
USER 7:8
SHELL ["/bin/sh", "-ec"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD true
ONBUILD RUN echo triggered > /tmp/triggered
ENTRYPOINT ["echo"]
CMD shell form
"#
    );
    let said = b.built(&text, &["--label", "flag=1", "--build-arg", "WHO=you"]);
    assert!(said.contains("[ 1/10] FROM docker.io/library/busybox:latest"), "{said}");
    let config = b.config();
    for (key, wanted) in [
        (
            "Env",
            json!([
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "A=1",
                "B=two words",
                "C=1-unset"
            ]),
        ),
        ("Labels", json!({"x.y": "a b", "z": "you", "flag": "1"})),
        ("WorkingDir", json!("/app/sub")),
        ("ExposedPorts", json!({"53/udp": {}, "80/tcp": {}})),
        ("Volumes", json!({"/data": {}})),
        ("User", json!("7:8")),
        ("Shell", json!(["/bin/sh", "-ec"])),
        ("StopSignal", json!("SIGINT")),
        ("Healthcheck", json!({"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64, "Retries": 2})),
        ("OnBuild", json!(["RUN echo triggered > /tmp/triggered"])),
        ("Entrypoint", json!(["echo"])),
        ("Cmd", json!(["/bin/sh", "-ec", "shell form"])),
    ] {
        assert_eq!(config[key], wanted, "{key}");
    }
    let script = "cat /ran /exec /one /two /etc/texts/EOF /etc/texts/RAW /tree/deep/x /added/app.py; stat -c '%u:%g %a' /app/app.py";
    assert_eq!(b.sh(script), "you 1 /app/sub\nexec\none\ntwo\nvalue=1\nraw=$A\nx\nprint(1)\n7:8 744");
    let history = b.history();
    let made: Vec<&str> =
        history.iter().map(String::as_str).skip_while(|line| !line.starts_with("MAINTAINER")).collect();
    assert_eq!(made, HISTORY);
    // What ONBUILD keeps is carried out by who stands on it.
    b.own.run(&["tag", "made", "base"]).ok();
    b.built("FROM base\nUSER 0\n", &[]);
    assert_eq!(b.sh("cat /tmp/triggered"), "triggered");
    assert_eq!(b.config()["OnBuild"], Value::Null);
    b.is_tidy();
}

/// moby/buildkit#2567.
#[test]
fn what_is_unchanged_comes_from_the_cache_and_the_rest_says_why() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("app.py", "1");
    b.file("other.txt", "2");
    b.file(".dockerignore", "*.log\nDockerfile");
    let text = format!(
        "FROM {BUSYBOX}\nARG VERSION=1\nENV E=1\nRUN echo $VERSION > /version\nCOPY . /app/\nRUN cat /app/app.py > /copied\n"
    );
    let first = b.built(&text, &[]);
    assert_eq!((cached(&first), why(&first)), (1, vec![]), "{first}");
    let id = |b: &Builds| b.own.run(&["image", "inspect", "-f", "{{.Id}}", "made"]).ok();
    let before = id(&b);
    let again = b.built(&text, &[]);
    assert_eq!(cached(&again), 4, "{again}");
    assert_eq!(id(&b), before);
    // Neither times nor what is ignored count.
    b.file("x.log", "ignored");
    b.file("app.py", "1");
    assert_eq!(cached(&b.built(&text, &[])), 4);
    b.file("app.py", "changed");
    let said = b.built(&text, &[]);
    assert_eq!(why(&said), ["app.py changed", "what it stands on is different"], "{said}");
    assert_eq!(b.sh("cat /copied; ls /app"), "changed\napp.py\nother.txt");
    b.file("new.txt", "");
    assert_eq!(why(&b.built(&text, &[]))[0], "new.txt is new");
    std::fs::remove_file(b.dir.join("other.txt")).unwrap();
    assert_eq!(why(&b.built(&text, &[]))[0], "other.txt is gone");
    let said = b.built(&text, &["--build-arg", "VERSION=2"]);
    assert_eq!(why(&said)[0], "ARG VERSION: 1 → 2", "{said}");
    let said = b.built(&text.replace("E=1", "E=3"), &["--build-arg", "VERSION=2"]);
    assert_eq!(why(&said)[0], "ENV E: 1 → 3", "{said}");
    b.built(&text, &[]);
    let said = b.built(&text.replace("cat /app/app.py", "cat /app/new.txt"), &[]);
    assert_eq!(why(&said), ["the instruction is different"], "{said}");
    // A label is no reason.
    assert_eq!(why(&b.built(&format!("{text}LABEL a=b\n"), &[])), Vec::<&str>::new());
    assert_eq!(cached(&b.built(&text, &["--no-cache"])), 1);
    // Without the image the layers stay, without the cache they go.
    b.own.run(&["rmi", "-f", "made"]).ok();
    assert_eq!(cached(&b.built(&text, &[])), 4);
    assert!(b.own.run(&["builder", "du", "--verbose"]).ok().contains("RUN cat /app/app.py"));
    b.own.run(&["rmi", "-f", "made"]).ok();
    let pruned = b.own.run(&["builder", "prune", "-f"]).ok();
    assert!(pruned.contains("Total:"), "{pruned}");
    assert_eq!(cached(&b.built(&text, &[])), 1);
    // Docker's `system prune` takes them too, unless it is for what has a label.
    for (flags, left) in [(&["--filter", "label=x"][..], 4), (&[], 1)] {
        b.own.run(&["rmi", "-f", "made"]).ok();
        let pruned = b.own.run(&[&["system", "prune", "-f"], flags].concat()).ok();
        assert_eq!(pruned.contains("Deleted build cache objects:\n"), left == 1, "{pruned}");
        assert_eq!(cached(&b.built(&text, &[])), left);
    }
    b.is_tidy();
}

/// What a link leads to is made, inside the image.
#[test]
fn links_to_nothing_are_followed() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let place = format!("/rbox-test-{}", std::process::id());
    let text = format!(
        "FROM {BUSYBOX}\nRUN ln -s {place}/deep /wd; mkdir -p /a/b; ln -s b/wd /a/wd; ln -s ../../rel/x /a/b/wd; ln -s {place}/copied /c\n\
         WORKDIR /wd/y\nWORKDIR /a/wd\nCOPY app.py /c/\nRUN ls -d {place}/deep/y {place}/copied/app.py /rel/x\n"
    );
    std::fs::write(b.dir.join("app.py"), "x\n").unwrap();
    let said = b.built(&text, &["--progress", "plain"]);
    assert!(said.contains("/rel/x"), "{said}");
    assert!(!std::path::Path::new(&place).exists(), "made on the host");
    b.is_tidy();
}

#[test]
fn stages() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let text = format!(
        "FROM {BUSYBOX} AS base\nRUN echo base > /base\n\
         FROM base AS wrong\nRUN false\n\
         FROM base AS Made\nRUN mkdir /out && echo made > /out/it && ln -s it /out/link\n\
         FROM scratch\nCOPY --from=made /out /out\nCOPY --from=0 /bin/busybox /bin/sh\nCOPY --from={BUSYBOX} /etc/passwd /etc/\n\
         FROM base\nCOPY --from=3 / /\n"
    );
    let said = b.built(&text, &[]);
    assert!(!said.contains("RUN false") && said.contains("[made 1/1] RUN mkdir /out"), "{said}");
    assert_eq!(
        b.sh("cat /out/link /base; readlink /out/link; head -c 4 /etc/passwd"),
        "made\nbase\nit\nroot"
    );
    b.build(&text, &["--target", "wrong"]).code(1);
    b.built(&text, &["--target", "made"]);
    assert_eq!(b.sh("ls /out"), "it\nlink");
    let out = b.build(&text, &["--target", "nobody"]);
    out.refused(1, &["target stage \"nobody\" could not be found"]);
}

#[test]
fn mounts_of_run_leave_nothing_in_the_image() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("here.txt", "here");
    std::fs::write(b.dir.join("token"), "s3cret").unwrap();
    let token = format!("id=token,src={}", b.dir.join("token").display());
    let text = format!(
        "FROM {BUSYBOX}\n\
         RUN --mount=type=cache,target=/cache/deep echo x >> /cache/deep/n; cat /cache/deep/n\n\
         RUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN test \"$(cat /run/secrets/token)\" = \"$TOKEN\" && stat -c %a /run/secrets/token && grep /run/secrets/token /proc/self/mountinfo\n\
         RUN --mount=type=bind,target=/ctx cat /ctx/here.txt; ! touch /ctx/new\n\
         RUN --mount=type=bind,from={BUSYBOX},source=/bin,target=/b,rw touch /b/new\n\
         RUN --mount=type=tmpfs,target=/mem,size=1m df -k /mem | tail -n 1\n\
         RUN --mount=type=secret,id=absent ! ls /run/secrets/absent\n"
    );
    let said = b.built(&text, &["--secret", &token]);
    let in_memory = format!("{}/build/work/", b.own.state.file_name().unwrap().to_str().unwrap());
    assert!(
        said.contains(" 400\n")
            && said.contains(&in_memory)
            && said.contains(" here\n")
            && said.contains("1024"),
        "{said}"
    );
    assert_eq!(b.sh("ls -d /cache /run/secrets /ctx /b /mem 2>/dev/null; ls /bin/new 2>/dev/null; true"), "");
    let layers = std::process::Command::new("grep")
        .args(["-rl", "s3cret"])
        .arg(b.own.root.join("image"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&layers.stdout), "", "the secret is in the store");
    // The cache is there for the next one.
    let more = text.replace("echo x", "echo y");
    let said = b.built(&more, &["--secret", &token]);
    assert!(said.contains(" x\n") && said.contains(" y\n"), "{said}");
    b.build(&text.replace("id=absent ! ls", "id=absent,required ls"), &["--secret", &token]).code(1);
    b.is_tidy();
}

#[test]
fn a_step_that_fails_is_shown_with_its_line() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let out = b.build(&format!("FROM {BUSYBOX}\n\nRUN echo before; \\\n    exit 7\nRUN true\n"), &[]);
    assert_eq!(out.code, 1);
    for wanted in [
        "ERROR: process \"/bin/sh -c echo before;     exit 7\" did not complete successfully: exit code: 7",
        "\n > [2/3] RUN echo before;     exit 7:\n",
        "   3 | >>> RUN echo before; \\\n",
        "   4 | >>>     exit 7\n",
        "\nrbox: failed to solve: process \"/bin/sh -c echo before;     exit 7\" did not complete successfully: exit code: 7\n",
    ] {
        assert!(out.stderr.contains(wanted), "{wanted:?}: {}", out.stderr);
    }
    b.is_tidy();
    for (text, words) in [
        ("", &["file with no instructions"][..]),
        ("FROM scratch\nFORM x\n", &["unknown instruction: FORM", "line 2"]),
        ("FROM scratch\nCOPY nothing /\n", &["\"/nothing\": not found"]),
        ("FROM scratch AS one\nCOPY --from=later x /\nFROM scratch AS later\nFROM one\n", &["later"]),
        ("FROM busybox\nCOPY --from=0 /etc /x\n", &["before current stage"]),
        ("# syntax=example.com/other:1\nFROM scratch\n", &["no other frontend"]),
        ("FROM scratch\nRUN --network=host true\n", &["network.host is not allowed"]),
        ("FROM scratch\nRUN --security=insecure true\n", &["security.insecure is not allowed"]),
    ] {
        let out = b.build(text, &[]);
        assert_eq!(out.code, 1, "{text:?}: {}", out.stderr);
        let last = out.stderr.lines().last().unwrap_or_default().to_lowercase();
        let all = words.iter().all(|word| last.contains(&word.to_lowercase()));
        assert!(all && last.starts_with("rbox: "), "{text:?}: {}", out.stderr);
    }
    b.is_tidy();
}

#[test]
fn a_context_cannot_lead_out_of_itself() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    std::fs::write(b.own.dir.join("outside"), "outside").unwrap();
    std::os::unix::fs::symlink("../outside", b.dir.join("up")).unwrap();
    std::os::unix::fs::symlink(b.own.dir.join("outside"), b.dir.join("far")).unwrap();
    std::os::unix::fs::symlink("/", b.dir.join("root")).unwrap();
    for source in ["up", "far", "../outside", "root/etc/shadow"] {
        let out = b.build(&format!("FROM {BUSYBOX}\nCOPY {source} /x\n"), &[]);
        assert!(out.code == 1 && out.stderr.contains("not found"), "{source}: {}", out.stderr);
    }
    // In a directory they are links as they are; and what an image has does not lead the builder out of it.
    b.file("d/f", "inside");
    std::os::unix::fs::symlink("../../outside", b.dir.join("d/link")).unwrap();
    let deep = "../".repeat(40);
    let place = b.own.dir.join("written");
    let text = format!(
        "FROM {BUSYBOX}\nCOPY d /d\nRUN ln -s {deep}{place} /evil; mkdir -p {place}\nCOPY d/f /evil/\nWORKDIR /evil/sub\n",
        place = place.display()
    );
    b.built(&text, &[]);
    assert_eq!(
        b.sh(&format!("readlink /d/link; cat {}/f; ls -d {0}/sub", place.display())),
        format!("../../outside\ninside\n{}/sub", place.display())
    );
    assert!(!place.exists());
    // What a text is called is a path as any other.
    let place = b.own.dir.join("texts");
    let text = format!(
        "FROM {BUSYBOX}\nRUN mkdir -p {place} /dest && ln -s {place} /dest/a\nCOPY <<a/b /dest/\ntext\na/b\n",
        place = place.display()
    );
    b.built(&text, &[]);
    assert_eq!(b.sh(&format!("cat {}/b", place.display())), "text");
    assert!(!place.exists());
    let out = b.build(&format!("FROM {BUSYBOX}\nCOPY <<.. /dest/\ntext\n..\n"), &[]);
    assert!(out.code == 1 && out.stderr.contains("is no name for a file"), "{}", out.stderr);
}

#[test]
fn archives_and_urls() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("pack/one", "1");
    let tar = b.dir.join("pack.tar.gz");
    t.program("tar", ["-C", b.dir.join("pack").to_str().unwrap(), "-czf", tar.to_str().unwrap(), "."])
        .run()
        .ok();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..4 {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = socket.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let answer = if request.starts_with("GET /moved") {
                "HTTP/1.1 302 Found\r\nlocation: /file.txt\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    .to_owned()
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nlast-modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nconnection: close\r\n\r\nfetched".to_owned()
            };
            socket.write_all(answer.as_bytes()).unwrap();
        }
    });
    let text = format!(
        "FROM {BUSYBOX}\nADD pack.tar.gz /unpacked/\nADD --unpack=false pack.tar.gz /kept/\nCOPY pack.tar.gz /copied/\n\
         ADD http://{address}/moved?x=1 http://{address}/file.txt /urls/\n"
    );
    b.built(&text, &[]);
    let seen = b.sh("cat /unpacked/one; ls /kept /copied /urls; stat -c '%a %Y' /urls/file.txt");
    assert_eq!(
        seen,
        "1\n/copied:\npack.tar.gz\n\n/kept:\npack.tar.gz\n\n/urls:\nfile.txt\nmoved\n600 1445412480"
    );
    let zeros = "0".repeat(64);
    let wrong = format!("FROM {BUSYBOX}\nADD --checksum=sha256:{zeros} http://{address}/file.txt /\n");
    let out = b.build(&wrong, &[]);
    assert!(out.code == 1 && out.stderr.contains("digest mismatch"), "{}", out.stderr);
    server.join().unwrap();
}

/// What decides what a step makes decides what it is found by.
#[test]
fn steps_that_differ_in_one_thing_are_two() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("pack/one", "1");
    let tar = b.dir.join("pack.tar");
    t.program("tar", ["-C", b.dir.join("pack").to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."])
        .run()
        .ok();
    b.file(".dockerignore", "Dockerfile");
    let seen = |text: &str, flags: &[&str], script: &str| {
        b.built(&format!("FROM {BUSYBOX}\n{text}\n"), flags);
        b.sh(script)
    };
    assert_eq!(seen("ADD pack.tar /x/", &[], "ls /x"), "one");
    assert_eq!(seen("ADD --unpack=false pack.tar /x/", &[], "ls /x"), "pack.tar");
    let copy = "COPY pack/one /x/\nWORKDIR /new";
    let time = |epoch: &str| format!("SOURCE_DATE_EPOCH={epoch}");
    for epoch in ["1", "2"] {
        let seen = seen(copy, &["--build-arg", &time(epoch)], "stat -c %Y /x/one /new");
        assert_eq!(seen, format!("{epoch}\n{epoch}"));
    }
    let links = "RUN ip link | grep -c eth0 > /links; true";
    assert_eq!(seen(links, &["--network", "none"], "cat /links"), "0");
    assert_eq!(seen(links, &[], "cat /links"), "1");
    assert_eq!(seen("COPY --chmod=600 pack/one /x", &[], "stat -c %a /x"), "600");
    assert_eq!(seen("COPY --chmod=640 pack/one /x", &[], "stat -c %a /x"), "640");
    let exclude = "COPY --exclude=pack --exclude=!pack/one . /x/";
    assert_eq!(
        seen(exclude, &[], "cd /x && find . -type f | sort"),
        "./.dockerignore\n./pack.tar\n./pack/one"
    );
    assert_eq!(seen("COPY --exclude=pack . /x/", &[], "ls /x"), "pack.tar");
    let limit = "RUN ulimit -n > /limit; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2 >> /limit";
    for (flags, wanted) in [
        (["--ulimit", "nofile=100", "--shm-size", "1m"], "100\n1024"),
        (["--ulimit", "nofile=200", "--shm-size", "1m"], "200\n1024"),
        (["--ulimit", "nofile=200", "--shm-size", "2m"], "200\n2048"),
    ] {
        assert_eq!(seen(limit, &flags, "cat /limit"), wanted);
    }
    // Where a host is decides nothing, as with BuildKit: which hosts there are does.
    let hosts =
        "RUN grep -c host.example /etc/hosts > /hosts; grep ' *one.host.example' /etc/hosts >> /hosts";
    let count = |flags: &[&str]| seen(hosts, flags, "head -n 1 /hosts");
    assert_eq!(count(&["--add-host", "one.host.example:192.0.2.1"]), "1");
    assert_eq!(
        count(&["--add-host", "one.host.example:192.0.2.1", "--add-host", "two.host.example=192.0.2.2"]),
        "2"
    );
    count(&["--add-host", "one.host.example=192.0.2.9"]);
    assert!(b.sh("tail -n 1 /hosts").starts_with("192.0.2.1"), "it was cached");
}

#[test]
fn a_build_that_is_killed_leaves_nothing() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("Dockerfile", &format!("FROM {BUSYBOX}\nRUN echo started; sleep 1000\n"));
    b.own.run(&["pull", "-q", BUSYBOX]).ok();
    for how in ["kill", "interrupt"] {
        let build = b.own.cmd(&["build", b.dir.to_str().unwrap()]).limit(Duration::from_mins(1)).spawn();
        let live = b.own.state.join("containers");
        wait_until("the step runs", || b.has_running_step());
        assert_eq!(b.own.run(&["ps", "-aq"]).ok(), "", "builds are in no list");
        if how == "kill" {
            kill9(build.id());
        } else {
            build.signal("INT");
        }
        build.finish(Duration::from_secs(20));
        wait_until("the step ends with the build", || std::fs::read_dir(&live).unwrap().count() == 0);
    }
    let events = b.own.run(&["events", "--since", "1h", "--until", "0s", "--filter", "type=container"]).ok();
    assert_eq!(events, "");
    // The monitor of the last one may still be there, and hold what it has from its build.
    wait_until("the next build sweeps", || {
        b.built(&format!("FROM {BUSYBOX}\nRUN true\n"), &[]);
        std::fs::read_dir(b.own.root.join("build/work")).unwrap().count() == 0
    });
    b.is_tidy();
    assert_eq!(std::fs::read_dir(b.own.root.join("image/tmp")).unwrap().count(), 0);
    // The one that was killed had the lock of its step.
    b.own.run(&["builder", "prune", "-af"]).ok();
    for dir in ["steps", "last", "files", "work"] {
        let left = std::fs::read_dir(b.own.root.join("build").join(dir)).unwrap().count();
        assert_eq!(left, 0, "{dir}");
    }
}

#[test]
fn a_layer_has_no_blob_until_somebody_wants_it() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("kept/file", "text");
    let text = format!(
        "FROM {BUSYBOX}\nCOPY kept /kept\nRUN ln /kept/file /kept/link; mkfifo /kept/pipe; rm /bin/wget; \
         rm -r /etc/network; mkdir -p /etc/network; truncate -s 1M /sparse; chmod 4711 /kept/file\n"
    );
    b.built(&text, &[]);
    let look = "ls -lnR /kept /etc/network; stat -c %s /sparse; ls /bin/wget; cat /kept/link 2>&1";
    let before = b.sh(look);
    let made = b.own.run(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", "made"]).ok();
    let made: Vec<String> = serde_json::from_str(&made).unwrap();
    let blob = |diff_id: &String| {
        b.own.root.join("image/blobs/sha256").join(diff_id.strip_prefix("sha256:").unwrap()).exists()
    };
    assert_eq!(made.iter().filter(|diff_id| blob(diff_id)).count(), 0, "{made:?}");
    let archive = b.own.dir.join("made.tar");
    b.own.run(&["save", "-o", archive.to_str().unwrap(), "made"]).ok();
    b.own.run(&["rmi", "-f", "made"]).ok();
    b.own.run(&["builder", "prune", "-af"]).ok();
    b.own.run(&["load", "-i", archive.to_str().unwrap()]).ok();
    assert_eq!(b.sh(look), before);
    // What was changed in the store is not handed on.
    b.own.run(&["rmi", "-f", "made"]).ok();
    b.built(&text, &["--no-cache"]);
    let top = b.own.run(&["image", "inspect", "-f", "{{index .RootFS.Layers 1}}", "made"]).ok();
    let top = b.own.root.join("image/layers").join(top.strip_prefix("sha256:").unwrap());
    std::fs::write(top.join("fs/kept/file"), "other").unwrap();
    let out = b.own.run(&["save", "-o", archive.to_str().unwrap(), "made"]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(out.stderr.contains("is damaged: its files have changed"), "{out:?}");
}

#[test]
fn a_dockerfile_alone_and_what_scripts_ask_for() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let text = format!("FROM {BUSYBOX}\nRUN echo alone > /alone\n");
    let id = b.own.cmd(&["build", "-q", "-t", "made", "-"]).input(text.clone()).run().ok();
    assert_eq!(id, b.own.run(&["image", "inspect", "-f", "{{.Id}}", "made"]).ok());
    assert_eq!(b.sh("cat /alone"), "alone");
    let (iid, meta) = (b.own.dir.join("iid"), b.own.dir.join("meta"));
    b.file("Dockerfile", &text);
    let args = [
        "buildx",
        "build",
        "--load",
        "--iidfile",
        iid.to_str().unwrap(),
        "--metadata-file",
        meta.to_str().unwrap(),
        "-t",
        "made:2",
        b.dir.to_str().unwrap(),
    ];
    b.own.run(&args).ok();
    assert_eq!(std::fs::read_to_string(iid).unwrap(), id);
    let meta: Value = serde_json::from_slice(&std::fs::read(meta).unwrap()).unwrap();
    assert_eq!(
        (&meta["containerimage.config.digest"], &meta["image.name"]),
        (&json!(id), &json!("docker.io/library/made:2"))
    );
    // Checks.
    b.file("Dockerfile", "from scratch AS Big\nRUN true\n");
    let out = b.own.run(&["build", "--check", b.dir.to_str().unwrap()]);
    assert_eq!(out.code, 1, "{out:?}");
    assert!(
        out.stdout.contains("warnings have been found!") && out.stdout.contains("StageNameCasing"),
        "{out:?}"
    );
    b.file("Dockerfile", &text);
    assert_eq!(
        b.own.run(&["build", "--check", b.dir.to_str().unwrap()]).ok(),
        "Check complete, no warnings found."
    );
}

#[test]
fn a_step_is_on_the_network_that_was_named() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.own.run(&["network", "create", "shop"]).ok();
    b.own
        .run(&[
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "shop",
            BUSYBOX,
            "sh",
            "-c",
            "mkdir /w; echo served > /w/index.html; httpd -f -h /w",
        ])
        .ok();
    let text = format!(
        "FROM {BUSYBOX}\nRUN for i in 1 2 3 4 5 6 7 8 9; do wget -qO /got http://web/ && break; sleep 0.2; done\n"
    );
    b.built(&text, &["--network", "shop"]);
    assert_eq!(b.sh("cat /got"), "served");
    b.own.run(&["rm", "-f", "web"]).ok();
    // As long as a step is on it, it stays.
    b.file("Dockerfile", &format!("FROM {BUSYBOX}\nRUN sleep 1000\n"));
    let args = ["build", "--network", "shop", b.dir.to_str().unwrap()];
    let build = b.own.cmd(&args).limit(Duration::from_mins(1)).spawn();
    wait_until("the step runs", || b.has_running_step());
    b.own.run(&["network", "rm", "shop"]).refused(1, &["shop"]);
    kill9(build.id());
    build.finish(Duration::from_secs(20));
    wait_until("nobody uses it", || b.own.run(&["network", "rm", "shop"]).code == 0);
}
