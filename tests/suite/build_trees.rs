//! `build`: the files that COPY, ADD and WORKDIR make, as `docker build` makes them of the same (compared in November 2026).

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::build::Builds;
use crate::crash::kill9;
use crate::harness::{BUSYBOX, PYTHON, Test, binary, wait_until};

#[test]
fn what_leads_to_a_destination_is_as_with_buildkit() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("x", "new");
    b.file("d/y", "y");
    std::fs::set_permissions(b.dir.join("d"), std::fs::Permissions::from_mode(0o711)).unwrap();
    let touched = std::process::Command::new("touch").args(["-d", "@5000"]).arg(b.dir.join("d")).status();
    assert!(touched.unwrap().success());
    b.built(
        &format!(
            "FROM {BUSYBOX}\n\
             RUN mkdir /real /was && chmod 700 /was && chown 3:3 /was && echo old > /target && ln -s target /flink && ln -s /nowhere/file /dangling && ln -s real /dlink\n\
             COPY x /flink\nCOPY x /dangling\nCOPY d /dlink\nCOPY d /was\nCOPY d /new\n"
        ),
        &[],
    );
    // A link at the end is followed, also where nothing is.
    assert_eq!(
        b.sh("readlink /flink; readlink /dangling; cat /target /nowhere/file /real/y"),
        "target\n/nowhere/file\nnew\nnew\ny"
    );
    // What is in a directory comes into one that is as it was or as any new one; it has the time of the other.
    assert_eq!(b.sh("stat -c '%a %u %g %Y' /was /new /real"), "700 3 3 5000\n755 0 0 5000\n755 0 0 5000");
    let out = b.build(&format!("FROM {BUSYBOX}\nRUN ln -s loop /loop\nCOPY x /loop\n"), &[]);
    let words = "resolve /loop: Too many levels of symbolic links";
    assert!(out.code == 1 && out.stderr.contains(words), "{}", out.stderr);
    b.is_tidy();
}

#[test]
fn modes_and_owners_of_directories_that_are_made_on_the_way() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("x", "x");
    b.file("d/y", "y");
    std::fs::set_permissions(b.dir.join("d"), std::fs::Permissions::from_mode(0o700)).unwrap();
    b.built(
        &format!(
            "FROM {BUSYBOX} AS one\nRUN mkdir -p /o/p && chown -R 5:6 /o && chmod 2775 /o/p\nFROM {BUSYBOX}\n\
             COPY --chmod=640 x /n1/m/y\nCOPY --link --chmod=640 d /n2/m\nCOPY --chmod=u=rw d /n3/m\nCOPY --chown=3:4 --chmod=u+x x /n4/m/\n\
             COPY --from=one /o /n5\nCOPY --parents d /n6/\n"
        ),
        &[],
    );
    let found = b.sh(
        "stat -c '%n %a %u:%g' /n1 /n1/m /n1/m/y /n2 /n2/m /n3/m /n3/m/y /n4/m /n4/m/x /n5 /n5/p /n6 /n6/d",
    );
    // A number in --chmod is for all that is made, a change of bits for what is copied.
    assert_eq!(
        found,
        "/n1 640 0:0\n/n1/m 640 0:0\n/n1/m/y 640 0:0\n/n2 640 0:0\n/n2/m 640 0:0\n/n3/m 755 0:0\n/n3/m/y 644 0:0\n\
         /n4/m 755 3:4\n/n4/m/x 744 3:4\n/n5 755 0:0\n/n5/p 2775 5:6\n/n6 755 0:0\n/n6/d 700 0:0"
    );
    b.is_tidy();
}

#[test]
fn a_working_directory_is_told_as_it_was_written() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.file("x", "x");
    b.built(&format!("FROM {BUSYBOX}\nWORKDIR /a//b/\nRUN pwd > /pwd\nCOPY x x\nWORKDIR ./c/../d/\n"), &[]);
    let of = |what: &str| b.own.run(&["image", "inspect", "-f", what, "made"]).ok();
    assert_eq!(of("{{.Config.WorkingDir}}"), "/a/b/d");
    let history = b.own.run(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made"]).ok();
    assert!(history.contains("WORKDIR /a//b/\n"), "{history}");
    assert_eq!(b.sh("cat /pwd; ls -d /a/b/*"), "/a/b\n/a/b/d\n/a/b/x");
    b.built(&format!("FROM {BUSYBOX}\nWORKDIR /a/./c\n"), &[]);
    assert_eq!(of("{{.Config.WorkingDir}}"), "/a/./c");
}

#[test]
fn run_sees_what_buildkit_shows_it() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    b.built(
        &format!("FROM {BUSYBOX}\nARG A=1\nENV B=2\nRUN env | sort > /env; hostname > /name; grep -c \"127.0.0.1.$(hostname)\" /etc/hosts > /own\n"),
        &["--network", "none"],
    );
    let wanted = "A=1\nB=2\nHOME=/root\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\nSHLVL=1\nbuildkitsandbox\n1";
    assert_eq!(b.sh("cat /env /name /own"), wanted);
    // A proxy by both its names, whichever was given.
    let text =
        format!("FROM {BUSYBOX}\nARG HTTP_PROXY\nENV no_proxy=own\nRUN env | grep -i _proxy | sort > /env\n");
    let given = ["HTTP_PROXY=http://a", "https_proxy=http://b", "NO_PROXY=c", "ALL_PROXY=d", "all_proxy=e"];
    let flags: Vec<&str> =
        given.iter().flat_map(|one| ["--build-arg", one]).chain(["--network", "none"]).collect();
    b.built(&text, &flags);
    assert_eq!(
        b.sh("cat /env"),
        "ALL_PROXY=d\nHTTPS_PROXY=http://b\nHTTP_PROXY=http://a\nNO_PROXY=c\nall_proxy=e\nhttp_proxy=http://a\nhttps_proxy=http://b\nno_proxy=own"
    );
}

#[test]
fn an_agent_is_there_for_a_step_that_asks() {
    let Some(t) = Test::start() else { return };
    let b = Builds::new(&t);
    let agent = UnixListener::bind(b.dir.join("agent")).unwrap();
    let answering = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut asked, _) = agent.accept().unwrap();
            let mut words = String::new();
            asked.read_to_string(&mut words).unwrap();
            asked.write_all(format!("answer to {words}").as_bytes()).unwrap();
        }
    });
    let ask = "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(os.environ['SSH_AUTH_SOCK']); \
               s.sendall(sys.argv[1].encode()); s.shutdown(socket.SHUT_WR); print(s.recv(100).decode(), os.getuid())";
    let text = format!(
        "FROM {PYTHON}\nRUN mkdir -m 777 /told\nRUN --mount=type=ssh stat -c '%F %a' $SSH_AUTH_SOCK > /told/1 && python3 -c \"{ask}\" one > /told/2\n\
         USER 5:6\n\
         RUN --mount=type=ssh,id=other,uid=5,gid=6,mode=0620,target=/agent stat -c '%F %u:%g %a' /agent > /told/3 && python3 -c \"{ask}\" two >> /told/4\n\
         RUN --mount=type=ssh,id=none echo ${{SSH_AUTH_SOCK:-none}} > /told/5\n"
    );
    // A path is seen from where the command is given.
    b.file("Dockerfile", &text);
    let script = "cd \"$1\" && shift && exec \"$@\"";
    let rbox = binary();
    let words =
        ["-c", script, "sh", b.dir.to_str().unwrap(), rbox.to_str().unwrap(), "build", "-q", "-t", "made"];
    let more = ["--ssh", "default=agent", "--ssh", "other=./agent", "."];
    b.own.other("sh", &[&words[..], &more].concat()).limit(Duration::from_mins(1)).run().ok();
    answering.join().unwrap();
    let seen = b.sh("cat /told/*; test -e /agent || echo gone");
    assert_eq!(seen, "socket 600\nanswer to one 0\nsocket 5:6 620\nanswer to two 5\nnone\ngone");
    for (given, why) in [("default=/no/agent", "No such file"), ("default=/etc/passwd", "it is no socket")] {
        b.build(&text, &["--ssh", given]).refused(125, &["invalid ssh agent", why]);
    }
    let required = format!("FROM {BUSYBOX}\nRUN --mount=type=ssh,required true\n");
    let out = b.build(&required, &[]);
    assert!(out.code == 1 && out.stderr.contains("unset ssh forward key default"), "{}", out.stderr);
    // The process behind the socket ends with the build, however that ends.
    let _silent = UnixListener::bind(b.dir.join("silent")).unwrap();
    let given = format!("default={}", b.dir.join("silent").display());
    b.file("Dockerfile", &format!("FROM {BUSYBOX}\nRUN --mount=type=ssh sleep 1000\n"));
    let running = b.own.cmd(&["build", "--ssh", &given, b.dir.to_str().unwrap()]).spawn();
    let is_behind = || {
        let all = t.program("ps", ["-eo", "comm=,args="]).run().ok();
        all.lines().any(|line| line.starts_with("rbox-agent ") && line.contains(&given))
    };
    wait_until("the step runs", || is_behind() && b.has_running_step());
    kill9(running.id());
    running.finish(Duration::from_secs(30));
    wait_until("the process ends", || !is_behind());
}
