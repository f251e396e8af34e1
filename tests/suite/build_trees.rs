//! `build`: the files that COPY, ADD and WORKDIR make, as `docker build` makes them of the same (compared in November 2026).

use std::os::unix::fs::PermissionsExt as _;

use crate::build::Builds;
use crate::harness::{BUSYBOX, Test};

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
}
