//! What a command's caller has, by soft limits only (not every root may raise a hard one again), must not show in what the command makes: mask, limits, directory, environment, signals, streams.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{BUSYBOX, Cmd, OwnRoots, Test, binary};

/// A shell that does `before` and then becomes rbox with `args`.
fn after(t: &Test, before: &str, args: &[&str]) -> Cmd {
    let script = format!("{before}\nexec \"$@\"");
    t.program("bash", ["-c", &script, "bash"]).args(&[binary().to_str().unwrap()]).args(args)
}

/// What a container shows of modes, limits, signals and scores.
const LOOK: &str = "
    stat -c '%a %U %n' / /etc/hosts /etc/hostname /etc/resolv.conf /vol /vol/data /made /tmp/t /dev /dev/shm /dev/null
    id; umask; ulimit -a; cat /proc/self/oom_score_adj; cat /proc/self/limits
    grep -E '^Sig(Blk|Ign)|^ShdPnd' /proc/self/status; touch /tmp/t/mine && stat -c %a /tmp/t/mine; cat /etc/hostname";

/// A relative source must not become one of the host's root.
#[test]
fn relative_sources_need_a_directory() {
    let Some(t) = Test::start() else { return };
    let gone = "d=$(mktemp -d); cd $d; rmdir $d";
    for flags in [["-v", ".:/y"], ["-v", "./made-by-rbox:/y"], ["--mount", "type=bind,src=.,dst=/y"]] {
        let args = ["run", "--rm", flags[0], flags[1], BUSYBOX, "ls", "/y"];
        after(&t, gone, &args).run().refused(125, &["the current directory is gone"]);
    }
    assert!(!std::path::Path::new("/made-by-rbox").exists());
    after(&t, gone, &["--root", "x", "ps"]).run().refused(125, &["leads nowhere"]);
    after(&t, gone, &["run", "--rm", "-v", "/etc:/y:ro", BUSYBOX, "ls", "/y/passwd"]).run().ok();
}

#[test]
fn a_container_is_the_same_whoever_asks() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("image");
    // An image of our own, so that importing it is tried as well.
    let archive = dir.join("i.tar");
    let pack =
        "exec \"$0\" run --rm busybox sh -c 'mkdir /vol && echo x > /vol/data && tar -cf - bin vol' > \"$1\"";
    t.program("bash", ["-c", pack, binary().to_str().unwrap(), archive.to_str().unwrap()]).run().ok();
    let callers = [
        ("", "the usual caller"),
        ("umask 077", "umask 077"),
        ("umask 000", "umask 000"),
        ("umask 777", "umask 777"),
        (
            "ulimit -Sn 30; ulimit -Sf 4; ulimit -Sc 0; ulimit -Ss 2048; ulimit -Sv 4000000; ulimit -St 100; ulimit -Sl 10; ulimit -Su 5000",
            "limits",
        ),
        ("echo 777 > /proc/self/oom_score_adj", "an OOM score"),
        ("trap '' CHLD USR1", "ignored signals"),
        ("exec <&-", "no standard input"),
        ("d=$(mktemp -d); cd $d; rmdir $d", "a directory that is gone"),
        ("unset HOME; export LC_ALL=tr_TR.UTF-8 LANG=xx PATH=/nowhere TMPDIR=/nowhere", "an odd environment"),
    ];
    let mut usual = String::new();
    for (at, (before, what)) in callers.into_iter().enumerate() {
        let (image, volume, name) =
            (format!("caller:{at}"), t.name(&format!("v{at}")), t.name(&format!("c{at}")));
        after(&t, before, &["import", archive.to_str().unwrap(), &image]).run().ok();
        let flags = ["--rm", "-u", "1000", "--hostname", "h", "-w", "/made", "--tmpfs", "/tmp/t"];
        let run = ["run"].into_iter().chain(flags);
        let mount = format!("{volume}:/vol");
        let args: Vec<&str> =
            run.chain(["--name", &name, "-v", &mount, &image, "/bin/sh", "-c", LOOK]).collect();
        let seen = after(&t, before, &args).run();
        let seen = seen.ok();
        if at == 0 {
            usual.clone_from(&seen);
            assert!(seen.starts_with("755 ") && seen.contains("644 UNKNOWN /etc/hosts"), "{seen}");
            assert!(seen.contains("Max open files            1024 "), "{seen}");
        } else {
            assert_eq!(seen, usual, "with {what}");
        }
        t.ok(["rmi", &image]);
    }
}

#[test]
fn exec_is_the_same_whoever_asks() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    after(
        &t,
        "umask 077; ulimit -Sn 64; ulimit -Sf 1; trap '' CHLD",
        &["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"],
    )
    .run()
    .ok();
    let look =
        "umask; cat /proc/self/limits /proc/self/oom_score_adj; grep -E '^Sig(Blk|Ign)' /proc/self/status";
    let usual = t.ok(["exec", &name, "sh", "-c", look]);
    assert!(usual.starts_with("0022"), "{usual}");
    for before in
        ["umask 777; ulimit -Sn 50; ulimit -Sf 2", "echo 500 > /proc/self/oom_score_adj; trap '' CHLD USR2"]
    {
        assert_eq!(after(&t, before, &["exec", &name, "sh", "-c", look]).run().ok(), usual, "{before}");
    }
    // A log larger than its caller may write.
    let noisy = t.name("noisy");
    after(&t, "ulimit -Sf 8", &["run", "--name", &noisy, BUSYBOX, "sh", "-c", "yes | head -c 100000"])
        .run()
        .ok();
    assert_eq!(t.ok(["logs", &noisy]).len(), 99_999);
}

#[test]
fn files_made_for_the_caller_are_the_callers() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("files");
    // A whole file system has secrets in it, whatever the mask would let others read.
    for (mask, mode, private) in [("077", 0o600, 0o600), ("022", 0o644, 0o600), ("277", 0o400, 0o400)] {
        let (saved, cid) = (dir.join(format!("{mask}.tar")), dir.join(format!("{mask}.cid")));
        after(&t, &format!("umask {mask}"), &["save", "-o", saved.to_str().unwrap(), BUSYBOX]).run().ok();
        after(
            &t,
            &format!("umask {mask}"),
            &["run", "--rm", "--cidfile", cid.to_str().unwrap(), BUSYBOX, "true"],
        )
        .run()
        .ok();
        for (file, mode) in [(saved, private), (cid, mode)] {
            let found = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{}", file.display());
        }
    }
}

#[test]
fn roots_given_relative_to_a_directory() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let here = |args: &[&str]| {
        let script = "cd \"$0\" && umask 077 && RBOX_ROOT=root RBOX_STATE=./state exec \"$@\"";
        Cmd::new("bash", ["-c", script, own.dir.to_str().unwrap(), binary().to_str().unwrap()])
            .env("RBOX_REGISTRIES", own.dir.join("registries.json"))
            .args(args)
            .run()
    };
    here(&["pull", "-q", BUSYBOX]).ok();
    here(&["run", "-d", "--name", "cc", "--network", "none", BUSYBOX, "sleep", "1000"]).ok();
    // The same installation, from elsewhere and by absolute names.
    assert_eq!(own.run(&["ps", "--format", "{{.Names}}"]).ok(), "cc");
    assert_eq!(own.run(&["exec", "-u", "1000", "cc", "cat", "/etc/hostname"]).ok().len(), 12);
    here(&["rm", "-f", "cc"]).ok();
    assert_eq!(own.run(&["ps", "-aq"]).ok(), "");
}
