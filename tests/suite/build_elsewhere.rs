//! `build` of what is no directory, and to what is no image of the store.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::build::Builds;
use crate::harness::{BUSYBOX, Test};

/// A repository of two commits, and a server of it that is there for some questions.
fn git_server(t: &Test, dir: &Path, questions: usize) -> (u16, std::thread::JoinHandle<()>) {
    let script = "git init -q -b main repo && cd repo && git config user.email a@b && git config user.name n && mkdir sub &&
        printf 'FROM $BUSYBOX\\nCOPY . /src\\n' | sed \"s,.BUSYBOX,$1,\" | tee Dockerfile > sub/Dockerfile && echo one > one &&
        echo two > sub/two && ln -s / out && git add -A && git commit -qm first && git tag v1 && echo more > more &&
        git add -A && git commit -qm second";
    t.program("sh", ["-ec", &format!("cd \"$2\" && {script}"), "sh", BUSYBOX, dir.to_str().unwrap()])
        .run()
        .ok();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let base = format!("--base-path={}", dir.display());
    let server = std::thread::spawn(move || {
        for _ in 0..questions {
            let (socket, _) = listener.accept().unwrap();
            let socket = std::os::fd::OwnedFd::from(socket);
            let daemon = ["daemon", "--inetd", "--export-all", &base];
            let mut git = std::process::Command::new("git");
            let git = git.args(daemon).stdin(socket.try_clone().unwrap()).stdout(socket);
            git.status().unwrap();
        }
    });
    (port, server)
}

#[test]
fn a_repository_is_a_context_and_a_source() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    // Each that is not there is asked for twice: once without a depth.
    let (port, server) = git_server(&t, &b.own.dir, 9);
    let url = format!("git://127.0.0.1:{port}/repo");
    let build =
        |context: &str| b.own.cmd(&["build", "-t", "made", context]).limit(Duration::from_mins(1)).run();
    for (what, files) in [
        ("", "Dockerfile\nmore\none\nout\nsub"),
        ("#v1", "Dockerfile\none\nout\nsub"),
        ("?tag=v1&subdir=sub", "Dockerfile\ntwo"),
    ] {
        build(&format!("{url}{what}")).ok();
        assert_eq!(b.sh("ls -A /src"), files, "{what}");
    }
    for (what, why) in [
        ("#:out", "it has no directory \"out\""),
        ("#nope", "couldn't find remote ref nope"),
        ("?commit=1234567", "expected checksum to match 1234567"),
    ] {
        let out = build(&format!("{url}{what}"));
        assert!(out.code == 1 && out.stderr.contains(why), "{what}: {}", out.stderr);
    }
    b.built(&format!("FROM {BUSYBOX}\nADD {url}#v1:sub /a\nADD --keep-git-dir=true {url}#v1 /b/\n"), &[]);
    assert_eq!(b.sh("ls -A /a; ls -d /b/.git"), "Dockerfile\ntwo\n/b/.git");
    server.join().unwrap();
    let out = build("https://127.0.0.1:1/none.git");
    assert!(out.code == 1 && out.stderr.contains("failed to fetch https://127.0.0.1:1/none.git"), "{out:?}");
    b.is_tidy();
}

#[test]
fn an_archive_is_a_context() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("Dockerfile", &format!("FROM {BUSYBOX}\nCOPY . /src\n"));
    b.file(".dockerignore", "left-out");
    b.file("left-out", "");
    b.file("deep/Other", &format!("FROM {BUSYBOX}\nRUN touch /other\n"));
    std::os::unix::fs::symlink("/etc/passwd", b.dir.join("Passwd")).unwrap();
    let tar = b.own.dir.join("context.tar");
    let pack = |flag: &str| {
        let words = ["-C", b.dir.to_str().unwrap(), flag, tar.to_str().unwrap(), "."];
        t.program("tar", words).run().ok();
        std::fs::read(&tar).unwrap()
    };
    for flag in ["-cf", "-czf", "-cJf"] {
        b.own.cmd(&["build", "-q", "-t", "made", "-"]).input(pack(flag)).run().ok();
        assert_eq!(b.sh("ls -A /src"), ".dockerignore\nDockerfile\nPasswd\ndeep", "{flag}");
    }
    let other = ["build", "-q", "-t", "made", "-f", "deep/Other", "-"];
    b.own.cmd(&other).input(pack("-cf")).run().ok();
    assert_eq!(b.sh("ls /other"), "/other");
    // A link of the archive's leads nowhere but into it.
    let out = b.own.cmd(&["build", "-f", "Passwd", "-"]).input(pack("-cf")).run();
    assert!(out.code == 1 && out.stderr.contains("open Passwd: no such file"), "{out:?}");
    let mut cut = pack("-czf");
    cut.truncate(cut.len() / 2);
    let out = b.own.cmd(&["build", "-"]).input(cut).run();
    assert!(out.code == 1 && out.stderr.contains("unpack the context's archive"), "{out:?}");
    // From a web server: an archive, and a Dockerfile alone.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = [pack("-czf"), format!("FROM {BUSYBOX}\nRUN touch /alone\n").into_bytes()];
    let server = std::thread::spawn(move || {
        for body in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 4096]).unwrap();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            socket.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        }
    });
    b.own.run(&["build", "-q", "-t", "made", &format!("http://{address}/context.tar.gz")]).ok();
    assert_eq!(b.sh("ls -A /src"), ".dockerignore\nDockerfile\nPasswd\ndeep");
    b.own.run(&["build", "-q", "-t", "made", &format!("http://{address}/Dockerfile")]).ok();
    assert_eq!(b.sh("ls /alone"), "/alone");
    server.join().unwrap();
    b.is_tidy();
}

#[test]
fn what_is_built_goes_where_it_is_wanted() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let text = format!(
        "FROM {BUSYBOX} AS work\nRUN mkdir -p /made/dir && echo one > /made/dir/file && chown 7:8 /made/dir/file && ln -s /etc/passwd /made/link\n\
         FROM scratch\nCOPY --from=work /made /\n"
    );
    let at = |name: &str| b.own.dir.join(name);
    let path = |name: &str| at(name).to_str().unwrap().to_owned();
    b.built(&text, &["-o", &path("files"), "-o", &format!("type=tar,dest={}", path("files.tar"))]);
    assert_eq!(std::fs::read_to_string(at("files").join("dir/file")).unwrap(), "one\n");
    assert_eq!(std::fs::read_link(at("files").join("link")).unwrap(), Path::new("/etc/passwd"));
    let owner =
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(at("files").join("dir/file")).unwrap());
    assert_eq!(owner, 0, "whoever called has it");
    let listed = t.program("tar", ["--numeric-owner", "-tvf", &path("files.tar")]).run().ok();
    assert!(listed.contains("7/8") && listed.contains("dir/file"), "{listed}");
    assert_eq!(b.own.run(&["images", "-q", "made"]).ok(), "", "no image was asked for");
    let piped = b.build(&text, &["-o", "-"]);
    assert!(piped.code == 0 && piped.stdout.contains("dir/file\0"), "{}", piped.stderr);
    // A device in the hands of a user of the host would be a way to its hardware.
    let pack = "mkdir dev && mknod dev/null c 1 3 && tar -cf context/dev.tar dev && rm -r dev";
    t.program("sh", ["-ec", &format!("cd {} && {pack}", b.own.dir.display())]).run().ok();
    let said = b.built("FROM scratch\nADD dev.tar /\n", &["-o", &path("devices")]);
    assert!(said.contains("1 device files were left out"), "{said}");
    assert!(at("devices/dev").is_dir() && !at("devices/dev/null").exists());
    // Archives of the image.
    for kind in ["oci", "docker"] {
        let archive = path(kind);
        b.built(&text, &["-o", &format!("type={kind},dest={archive}")]);
        b.own.run(&["rmi", "-f", "made"]).ok();
        assert!(b.own.run(&["load", "-i", &archive]).ok().contains("Loaded image: made:latest"));
    }
    for (flags, code, why) in [
        (["-o", "type=local"], 125, "dest is required for local output"),
        (["-o", "type=other,dest=x"], 125, "unsupported exporter type"),
        (["-o", "/dev/null/x"], 1, "/dev/null/x"),
    ] {
        let out = b.build(&text, &flags);
        assert!(out.code == code && out.stderr.contains(why), "{flags:?}: {} {}", out.code, out.stderr);
    }
    // What scripts give to BuildKit.
    let said = b
        .built(&text, &["--annotation", "org.example.a=b", "--provenance=false", "--cache-from", "type=gha"]);
    assert!(said.contains("WARNING: --cache-from type=gha is not used"), "{said}");
    b.own.run(&["save", "-o", &path("noted"), "made"]).ok();
    let manifest =
        t.program("skopeo", ["inspect", "--raw", &format!("oci-archive:{}", path("noted"))]).run().ok();
    assert!(manifest.contains(r#""annotations":{"org.example.a":"b"}"#), "{manifest}");
    for (flag, why) in [("--sbom=true", "scan the image"), ("--sbom=1", "scan the image")] {
        let out = b.build(&text, &[flag]);
        assert!(out.code == 125 && out.stderr.contains(why), "{flag}: {} {}", out.code, out.stderr);
    }
    // Links that are there already lead nowhere else.
    std::fs::create_dir_all(at("trap")).unwrap();
    std::fs::create_dir_all(at("outside")).unwrap();
    std::os::unix::fs::symlink(at("outside"), at("trap").join("dir")).unwrap();
    let _ = b.build(&text, &["-o", &path("trap")]);
    assert_eq!(std::fs::read_dir(at("outside")).unwrap().count(), 0);
    b.is_tidy();
}

#[test]
fn two_builds_at_one_moment_are_the_same_bytes() {
    let Some(t) = Test::start() else { return };
    let text = format!(
        "FROM {BUSYBOX}\nARG SOURCE_DATE_EPOCH\nWORKDIR /app\nCOPY file /app/\n\
         RUN mkdir -p /made/deep && date > /made/deep/when-$SOURCE_DATE_EPOCH && : > /made/deep/when-$SOURCE_DATE_EPOCH && \
         ln -s x /made/link && ln /made/deep/when-$SOURCE_DATE_EPOCH /made/hard && rm /bin/wget\n"
    );
    let archives: Vec<Vec<u8>> = ["first", "second"]
        .iter()
        .map(|name| {
            let mut b = Builds::new(&t);
            b.dir = b.own.dir.join(name);
            b.file("file", "the same");
            let to = b.own.dir.join("made.tar");
            let output = format!("type=oci,dest={},rewrite-timestamp=true", to.display());
            b.built(&text, &["--no-cache", "-o", &output, "--build-arg", "SOURCE_DATE_EPOCH=1700000000"]);
            let created = b.own.run(&["image", "inspect", "-f", "{{.Created}}", "made"]).ok();
            assert_eq!(created, "2023-11-14T22:13:20Z");
            assert_eq!(b.sh("find /made /app | xargs stat -c %Y | sort -u"), "1700000000");
            std::thread::sleep(Duration::from_millis(1100));
            std::fs::read(to).unwrap()
        })
        .collect();
    assert!(archives[0] == archives[1], "two builds are two images");
}
