//! The caller's keys stay the caller's.

use crate::harness::{PYTHON, Test, binary, has, skipped, wait_until};

/// Keys are not in a namespace: a program without the filter looks for a key that another one has put in its session.
#[test]
fn the_session_keyring_is_a_programs_own() {
    let Some(t) = Test::start() else { return };
    let program = "
import ctypes, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
add, ctl = (248, 250) if platform.machine() == 'x86_64' else (217, 219)
session, what, name = -3, b'user', sys.argv[1].encode()
found = libc.syscall(ctl, 10, session, what, name, 0)
if found > 0: print('found'); libc.syscall(ctl, 9, found, session)
else: print('none', libc.syscall(add, what, name, b'secret', 6, session) > 0)
";
    let (name, key) = (t.name("c"), format!("rbox-test-{}", std::process::id()));
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--security-opt",
        "seccomp=unconfined",
        PYTHON,
        "python3",
        "-c",
        &format!("{program}\nimport time; sys.stdout.flush(); time.sleep(1000)"),
        &key,
    ]);
    wait_until("the key is there", || !t.ok(["logs", &name]).is_empty());
    assert_eq!(t.ok(["logs", &name]), "none True");
    for _ in 0..2 {
        assert_eq!(t.ok(["exec", &name, "python3", "-c", program, &key]), "none True");
    }
    assert_eq!(
        t.ok(["run", "--rm", "--security-opt", "seccomp=unconfined", PYTHON, "python3", "-c", program, &key]),
        "none True"
    );
}

/// Nor do they go along when the caller has a session keyring of its own, as every login has.
#[test]
fn a_logins_keys_stay_behind() {
    let Some(t) = Test::start() else { return };
    if !has("python3") {
        return skipped("python3 is not installed");
    }
    let calls = "
import ctypes, os, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
add, ctl = (248, 250) if platform.machine() == 'x86_64' else (217, 219)
";
    let login = format!(
        "{calls}
if libc.syscall(ctl, 1, None) < 0 or libc.syscall(add, b'user', b'rbox-login', b'secret', 6, -3) < 0: sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])"
    );
    let look = format!(
        "{calls}print('found' if libc.syscall(ctl, 10, -3, b'user', b'rbox-login', 0) > 0 else 'none')"
    );
    let with_keys = |args: &[&str]| {
        let binary = binary().display().to_string();
        t.program("python3", ["-c", &login, &binary]).args(args).run()
    };
    let name = t.name("c");
    let flags = ["--security-opt", "seccomp=unconfined", "--name", &name, PYTHON];
    let ran = with_keys(
        &[&["run", "-d"], &flags[..], &["sh", "-c", "python3 -c \"$0\"; sleep 1000", &look]].concat(),
    );
    if ran.code == 77 {
        return skipped("this kernel has no keys");
    }
    ran.ok();
    wait_until("it has looked", || !t.ok(["logs", &name]).is_empty());
    assert_eq!(t.ok(["logs", &name]), "none");
    assert_eq!(with_keys(&["exec", &name, "python3", "-c", &look]).ok(), "none");
}
