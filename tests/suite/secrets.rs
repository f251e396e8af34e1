//! `--secret`: files that a container is given, in memory and read-only.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::harness::{BUSYBOX, Test, wait_until};

/// No text that a test's host has by chance.
const HIDDEN: &str = "hidden-4c1d9f";

fn put(dir: &Path, name: &str, text: &str) -> String {
    fs::write(dir.join(name), text).unwrap();
    dir.join(name).display().to_string()
}

/// The regular files below `dir` that have the text in them.
fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                ahead.push(entry.path());
            } else if kind.is_file()
                && fs::read(entry.path())
                    .is_ok_and(|bytes| bytes.windows(text.len()).any(|at| at == text.as_bytes()))
            {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn whatever_user_it_runs_as() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("given");
    let file = put(&dir, "token", &format!("{HIDDEN}\n"));
    let plain = format!("id=token,src={file}");
    for user in ["0", "1000", "65534:65534"] {
        let script = "cat /run/secrets/token; stat -c '%a %u %g %F' /run/secrets/token";
        let shown = t.sh_with(["-u", user, "--secret", &plain], script);
        assert_eq!(shown, format!("{HIDDEN}\n444 0 0 regular file"), "{user}");
    }
    // Owner, mode and place; a second one beside it; a variable; nothing in it.
    let own = format!("id=own,src={file},target=/etc/app/key,uid=1000,gid=7,mode=0400");
    let empty = format!("id=empty,src={}", put(&dir, "empty", ""));
    let out = t
        .cmd(["run", "--rm", "-u", "1000:7", "--secret", &own, "--secret", "id=v,env=RBOX_TEST_VALUE"])
        .args(&["--secret", &empty, "--read-only", "--tmpfs", "/run", BUSYBOX, "sh", "-c"])
        .args(&["stat -c '%a %u %g' /etc/app/key; cat /etc/app/key /run/secrets/v /run/secrets/empty"])
        .env("RBOX_TEST_VALUE", "of a variable")
        .run();
    assert_eq!(out.ok(), format!("400 1000 7\n{HIDDEN}\nof a variable"));
    // It cannot be changed, taken away or covered, and is in memory.
    let script = "
        echo x > /run/secrets/token; rm -f /run/secrets/token; chmod 777 /run/secrets/token
        grep -c ' /run/secrets/token tmpfs ro,nosuid,nodev,noexec' /proc/mounts; cat /run/secrets/token";
    let out = t.cmd(["run", "--rm", "--secret", &plain, BUSYBOX, "sh", "-c", script]).run().code(0);
    assert_eq!(out.stdout.trim_end(), format!("1\n{HIDDEN}"));
    for why in ["Read-only file system", "busy"] {
        assert!(out.stderr.contains(why), "{}", out.stderr);
    }
    assert_eq!(t.sh_with(["--privileged", "--secret", &plain], "cat /run/secrets/token"), HIDDEN);
}

#[test]
fn its_content_is_nowhere_else() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("given");
    let flag = format!("id=token,src={}", put(&dir, "token", HIDDEN));
    let name = t.name("c");
    let script = "cat /run/secrets/token; exec sleep 1000";
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--restart",
        "always",
        "--secret",
        &flag,
        BUSYBOX,
        "sh",
        "-c",
        script,
    ]);
    fs::remove_file(dir.join("token")).unwrap();
    let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
    let kept = t.suite.root.join("containers").join(&id).join("files/0");
    let modes = [&kept, &kept.parent().unwrap().to_owned()]
        .map(|path| fs::metadata(path).unwrap().permissions().mode() & 0o7777);
    assert_eq!(modes, [0o600, 0o700]);
    assert_eq!(t.ok(["exec", "-u", "1000", &name, "cat", "/run/secrets/token"]), HIDDEN);
    assert_eq!(t.ok(["cp", &format!("{name}:/run/secrets/token"), "-"]).matches(HIDDEN).count(), 1);
    // It outlives its source, its program, and its monitor.
    for _ in 0..2 {
        let pid = t.pid(&name);
        t.ok(["restart", "-t", "0", &name]);
        assert_ne!(t.pid(&name), pid);
        assert_eq!(t.ok(["exec", &name, "cat", "/run/secrets/token"]), HIDDEN);
    }
    let pid = t.pid(&name);
    t.program("kill", ["-9", &pid.to_string()]).run().ok();
    wait_until("started again", || t.status(&name) == "running" && t.pid(&name) != pid);
    assert_eq!(t.ok(["exec", &name, "cat", "/run/secrets/token"]), HIDDEN);
    // Its log has it, which is the program's doing; nothing else has.
    for args in
        [&["inspect", &name][..], &["inspect", "--create-command", &name], &["diff", &name], &["ps", "-a"]]
    {
        assert!(!t.cmd(args.iter().copied()).run().ok().contains(HIDDEN), "{args:?}");
    }
    let files: Vec<PathBuf> = files_with(&t.suite.root, HIDDEN)
        .into_iter()
        .filter(|path| !path.to_string_lossy().ends_with("-json.log"))
        .collect();
    assert_eq!(files, std::slice::from_ref(&kept));
    assert_eq!(files_with(&t.suite.state, HIDDEN), Vec::<PathBuf>::new());
    let image = format!("{}:1", t.name("image"));
    t.ok(["commit", &name, &image]);
    assert_eq!(t.ok(["run", "--rm", &image, "cat", "/run/secrets/token"]), "");
    t.ok(["rmi", &image]);
    let given = t.ok(["inspect", "-f", "{{json .HostConfig.Files}}", &name]);
    assert_eq!(given, r#"[{"Target":"/run/secrets/token","UID":0,"GID":0,"Mode":292}]"#);
    t.ok(["rm", "-f", &name]);
    assert!(!kept.exists());
    assert_eq!(files_with(&t.suite.root, HIDDEN), Vec::<PathBuf>::new());
}

#[test]
fn targets_that_are_refused() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("given");
    let file = put(&dir, "token", HIDDEN);
    let large = put(&dir, "large", &"x".repeat((1 << 20) + 1));
    for (more, why) in [
        (format!("src={file},target=/a/../b"), "plain path"),
        (format!("src={file},target=/"), "plain path"),
        (format!("src={file},target=/a/"), "plain path"),
        (format!("src={file},target=../../etc/passwd"), "plain path"),
        (format!("src={file},target=/proc/self/attr/x"), "below /proc"),
        (format!("src={file},mode=4755"), "invalid mode"),
        (format!("src={large}"), "more than 1048576 bytes"),
        (format!("src={}/absent", dir.display()), "No such file"),
        ("env=RBOX_TEST_UNSET".to_owned(), "is not set"),
    ] {
        t.rbox(["create", "--secret", &format!("id=x,{more}"), BUSYBOX]).refused(125, &[why]);
    }
    let twice = format!("id=x,src={file}");
    let refused = ["Duplicate mount point: /run/secrets/x"];
    t.rbox(["create", "--secret", &twice, "--secret", &twice, BUSYBOX]).refused(125, &refused);
    t.rbox(["create", "--secret", &twice, "--tmpfs", "/run/secrets/x", BUSYBOX]).refused(125, &refused);
    let on_directory = format!("id=x,src={file},target=/etc");
    t.rbox(["run", "--rm", "--secret", &on_directory, BUSYBOX, "true"]).refused(125, &["/etc", "directory"]);
}

/// Links of the image lead to places inside, and not onto what the engine mounts.
#[test]
fn links_of_the_image_lead_nowhere_outside() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("given");
    let flag = format!("id=token,src={}", put(&dir, "token", HIDDEN));
    let outside = dir.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "of the host").unwrap();
    let own_proc = Path::new("/proc/self/root").join(outside.strip_prefix("/").unwrap());
    for (case, link, to) in [
        ("a", "run/secrets", outside.clone()),
        ("b", "run", PathBuf::from(format!("../../../../../..{}", outside.display()))),
        ("c", "run/secrets/token", outside.join("file")),
        ("d", "run/secrets", own_proc),
        ("e", "run/secrets", "/proc".into()),
        ("f", "run/secrets/token", "/proc/sysrq-trigger".into()),
        ("g", "run/secrets/token", "/sys/kernel".into()),
        ("h", "run/secrets/token", "token".into()),
        ("i", "run/secrets/token", "/proc/1/mem".into()),
    ] {
        let name = t.name(case);
        t.ok(["create", "--name", &name, "--secret", &flag, BUSYBOX, "cat", "/run/secrets/token"]);
        let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
        let place = t.suite.root.join("containers").join(&id).join("upper").join(link);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(&to, &place).unwrap();
        let out = t.rbox(["start", "-a", &name]);
        if matches!(case, "a" | "b" | "c") {
            assert_eq!(out.ok(), HIDDEN, "{case}");
        } else {
            assert_ne!(out.code, 0, "{case}: {}", out.stdout);
            assert!(!out.stdout.contains(HIDDEN), "{case}: {}", out.stdout);
        }
        t.ok(["rm", "-f", &name]);
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "of the host");
}
