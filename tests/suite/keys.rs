//! The caller's keys stay the caller's.

use crate::harness::{PYTHON, Test};

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
    crate::harness::wait_until("the key is there", || !t.ok(["logs", &name]).is_empty());
    assert_eq!(t.ok(["logs", &name]), "none True");
    for _ in 0..2 {
        assert_eq!(t.ok(["exec", &name, "python3", "-c", program, &key]), "none True");
    }
    assert_eq!(
        t.ok(["run", "--rm", "--security-opt", "seccomp=unconfined", PYTHON, "python3", "-c", program, &key]),
        "none True"
    );
}
