//! Capabilities, seccomp, `no_new_privs`, namespaces: exact values.

use std::os::unix::fs::MetadataExt;

use crate::harness::{BUSYBOX, PYTHON, Test, fields, has, skipped, wait_until};

/// linux/capability.h.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn capabilities(t: &Test, flags: &[&str]) -> (Vec<&'static str>, std::collections::HashMap<String, String>) {
    let mut args = vec!["run", "--rm"];
    args.extend(flags);
    args.extend([BUSYBOX, "cat", "/proc/self/status"]);
    let status = fields(&t.cmd(args).run().ok());
    let bits = u64::from_str_radix(&status["CapEff"], 16).unwrap();
    (NAMES.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0).map(|(_, name)| *name).collect(), status)
}

/// Without `-i` a program reads from /dev/null: its own one. Through a descriptor of the host's it could change that one's mode.
#[test]
fn the_hosts_null_device_is_out_of_reach() {
    let Some(t) = Test::start() else { return };
    let owner = || std::fs::metadata("/dev/null").unwrap().uid();
    let before = owner();
    let look = ["sh", "-c", "stat -L -c %d:%i:%u /dev/null /proc/self/fd/0"];
    let name = t.name("c");
    t.sleeper(&name, ["-u", "1234"]);
    for args in [&["run", "--rm", "-u", "1234", BUSYBOX][..], &["exec", &name]] {
        let out = t.cmd(args).args(&look).run().ok();
        let lines: Vec<_> = out.lines().collect();
        assert!(lines.len() == 2 && lines[0] == lines[1] && lines[0].ends_with(":0"), "{args:?}: {out}");
    }
    assert_eq!(owner(), before, "the host's null device is given to the container's user");
    // What a container has in its place is not opened, and the host's is not given for it.
    let fake = "rm /dev/null && mkfifo /dev/null && sleep 1000";
    let name = t.name("fifo");
    t.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", fake]);
    let is_fifo = || t.rbox(["exec", &name, "test", "-p", "/dev/null"]).code == 0;
    wait_until("it has a pipe in its place", is_fifo);
    let host = std::fs::metadata("/dev/null").unwrap();
    let out = t.ok(["exec", &name, "sh", "-c", "stat -L -c '%t:%T %d:%i' /proc/self/fd/0; cat"]);
    let (kind, place) = out.split_once(' ').unwrap();
    assert_eq!(kind, "1:3");
    assert_ne!(place, format!("{}:{}", host.dev(), host.ino()));
}

#[test]
fn the_default_set() {
    let Some(t) = Test::start() else { return };
    let (held, status) = capabilities(&t, &[]);
    // Podman's eleven are all there; nothing that Docker does not give.
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ] {
        assert!(held.contains(&name), "{name} is missing: {held:?}");
    }
    for name in &held {
        let docker = [
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
            "MKNOD",
            "NET_RAW",
            "AUDIT_WRITE",
        ];
        assert!(docker.contains(name), "{name} is too much");
    }
    assert_eq!(status["CapPrm"], status["CapEff"]);
    assert_eq!(status["CapBnd"], status["CapEff"]);
    assert_eq!(status["CapInh"], "0000000000000000");
    assert_eq!(status["CapAmb"], "0000000000000000");
    assert_eq!(status["Seccomp"], "2");
}

#[test]
fn added_and_dropped() {
    let Some(t) = Test::start() else { return };
    assert_eq!(capabilities(&t, &["--cap-drop", "ALL"]).0, Vec::<&str>::new());
    assert_eq!(
        capabilities(&t, &["--cap-drop", "all", "--cap-add", "chown", "--cap-add", "CAP_SYS_TIME"]).0,
        ["CHOWN", "SYS_TIME"]
    );
    let most = capabilities(&t, &["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"]).0;
    assert!(most.len() >= 38 && !most.contains(&"SYS_ADMIN"), "{most:?}");
    t.rbox(["run", "--rm", "--cap-add", "NONSENSE", BUSYBOX, "true"]).refused(125, &["NONSENSE"]);
}

#[test]
fn privileged_has_all() {
    let Some(t) = Test::start() else { return };
    let (held, status) = capabilities(&t, &["--privileged"]);
    assert!(held.len() >= 38, "{held:?}");
    assert_eq!(status["Seccomp"], "0");
    assert_eq!(status["CapInh"], "0000000000000000");
    assert_eq!(t.sh_with(["--privileged"], "test -b /dev/vda -o -b /dev/sda -o -c /dev/kmsg && echo devices; mount -t tmpfs x /mnt 2>/dev/null || mkdir -p /mnt && mount -t tmpfs x /mnt && echo mounted"), "devices\nmounted");
    assert!(t.sh_with(["--privileged"], "grep ' /sys ' /proc/mounts").contains(" rw,"));
}

#[test]
fn no_new_privileges() {
    let Some(t) = Test::start() else { return };
    assert_eq!(capabilities(&t, &["--security-opt", "no-new-privileges"]).1["NoNewPrivs"], "1");
    assert_eq!(capabilities(&t, &["--security-opt", "no-new-privileges:true"]).1["NoNewPrivs"], "1");
    assert_eq!(capabilities(&t, &[]).1["NoNewPrivs"], "0");
    t.rbox(["run", "--rm", "--security-opt", "nonsense", BUSYBOX, "true"]).refused(125, &["nonsense"]);
}

/// Prints the errno of some system calls, by number and through the C library.
const PROBE: &str = r"
import ctypes, errno, os, platform, socket
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == 'x86_64'
numbers = {'keyctl': 250 if x86 else 219, 'userfaultfd': 323 if x86 else 282, 'io_uring_setup': 425, 'mount': 165 if x86 else 40,
           'unshare': 272 if x86 else 97, 'setns': 308 if x86 else 268, 'bpf': 321 if x86 else 280, 'clone3': 435, 'open_by_handle_at': 304 if x86 else 265,
           'reboot': 169 if x86 else 142, 'kexec_load': 246 if x86 else 104, 'init_module': 175 if x86 else 105, 'future': 999}
for name, number in numbers.items():
    args = [0x10000000] if name == 'unshare' else [0, 0, 0, 0]
    ctypes.set_errno(0)
    libc.syscall(number, *args)
    print(name, errno.errorcode.get(ctypes.get_errno(), ctypes.get_errno()))
for family in (38, 40, 2):
    try:
        socket.socket(family, socket.SOCK_STREAM if family != 38 else socket.SOCK_SEQPACKET).close()
        print('family', family, 'opens')
    except OSError as e:
        print('family', family, errno.errorcode[e.errno])
";

#[test]
fn the_filter_refuses_what_dockers_does() {
    let Some(t) = Test::start() else { return };
    let out = t.ok(["run", "--rm", PYTHON, "python3", "-c", PROBE]);
    for line in [
        "keyctl EPERM",
        "userfaultfd EPERM",
        "io_uring_setup EPERM",
        "mount EPERM",
        "unshare EPERM",
        "setns EPERM",
        "bpf EPERM",
        "clone3 ENOSYS",
        "open_by_handle_at EPERM",
        "reboot EPERM",
        "kexec_load EPERM",
        "init_module EPERM",
        "future ENOSYS",
        "family 38 EPERM",
        "family 40 EPERM",
        "family 2 opens",
    ] {
        assert!(out.lines().any(|l| l == line), "no `{line}` in\n{out}");
    }
    // With SYS_ADMIN the profile lets mount and unshare through.
    let out = t.ok(["run", "--rm", "--cap-add", "SYS_ADMIN", PYTHON, "python3", "-c", PROBE]);
    assert!(!out.contains("unshare EPERM") && !out.contains("clone3 ENOSYS"), "{out}");
    let out = t.ok(["run", "--rm", "--security-opt", "seccomp=unconfined", PYTHON, "python3", "-c", PROBE]);
    assert!(!out.contains("keyctl EPERM"), "{out}");
}

#[test]
fn a_profile_of_ones_own() {
    let Some(t) = Test::start() else { return };
    let file = t.dir("seccomp").join("profile.json");
    std::fs::write(&file, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#).unwrap();
    let option = format!("seccomp={}", file.display());
    let out = t.rbox(["run", "--rm", "--security-opt", &option, BUSYBOX, "mkdir", "/x"]).code(1);
    assert!(out.stderr.contains("Function not implemented"), "{}", out.stderr);
    std::fs::write(&file, "not json").unwrap();
    t.rbox(["run", "--rm", "--security-opt", &option, BUSYBOX, "true"]).refused(125, &["profile.json"]);
    t.rbox(["run", "--rm", "--security-opt", "seccomp=/no/such/file", BUSYBOX, "true"])
        .refused(125, &["/no/such/file"]);
}

/// What rbox does for a program before it is executed does not need what its filter denies.
#[test]
fn a_profile_denies_calls_that_rbox_makes_itself() {
    let Some(t) = Test::start() else { return };
    let (dir, name) = (t.dir("seccomp"), t.name("c"));
    let (file, passed) = (dir.join("profile.json"), dir.join("passed"));
    std::fs::write(&file, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["close_range","fcntl"],"action":"SCMP_ACT_ERRNO"}]}"#).unwrap();
    std::fs::write(&passed, "passed").unwrap();
    let option = format!("seccomp={}", file.display());
    let checked = ["--health-cmd", "true", "--health-interval", "100ms", "--security-opt", &option];
    t.sleeper(&name, checked);
    assert_eq!(t.ok(["exec", &name, "echo", "runs"]), "runs");
    crate::harness::wait_until("the check is made", || {
        t.ok(["inspect", "-f", "{{.State.Health.Status}}", &name]) == "healthy"
    });
    for way in [
        format!("run --rm --security-opt {option} --preserve-fds 1 {BUSYBOX}"),
        format!("exec --preserve-fds 1 {name}"),
    ] {
        let line = format!(
            "exec {} {way} cat /proc/self/fd/3 3<{}",
            crate::harness::binary().display(),
            passed.display()
        );
        assert_eq!(
            t.suite.with_roots(crate::harness::Cmd::new("bash", ["-c", &line])).run().ok(),
            "passed",
            "{way}"
        );
    }
    t.ok(["rm", "-f", &name]);
}

#[test]
fn namespaces_are_its_own_but_those_asked_for() {
    let Some(t) = Test::start() else { return };
    let own = |name: &str| {
        std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_string_lossy().into_owned()
    };
    let script = "for n in cgroup ipc mnt net pid user uts; do echo $n $(readlink /proc/self/ns/$n); done";
    let inside = t.sh(script);
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        assert!(!inside.contains(&own(name)), "{name} is the host's");
    }
    assert!(inside.contains(&own("user")));
    assert!(t.sh_with(["--network", "host"], script).contains(&own("net")));
    assert!(t.sh_with(["--userns=host"], script).contains(&own("user")));
}

#[test]
fn groups_cannot_be_changed_from_inside() {
    let Some(t) = Test::start() else { return };
    let seen = t.sh("ls /sys/fs/cgroup; cat /proc/self/cgroup");
    assert!(!seen.contains("rbox"), "paths of the host show:\n{seen}");
    let out = t.sh("for f in $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs | head -n 4); do (echo 0 > $f) 2>&1 && echo wrote to $f; done; true");
    assert!(!out.contains("rbox"), "paths of the host show:\n{out}");
    assert!(!out.contains("wrote to"), "{out}");
    // What the shell says, not the names that `ls` prints: on pure cgroup v2 they are in this directory itself.
    let said: Vec<_> = out.lines().filter(|l| l.starts_with("sh: ")).collect();
    assert!(!said.is_empty(), "no group is there to try:\n{out}");
    assert!(said.iter().all(|line| line.contains("Read-only file system")), "{said:#?}");
}

#[test]
fn records_are_for_root_only() {
    let Some(t) = Test::start() else { return };
    t.sleeper(&t.name("c"), []);
    for root in [&t.suite.root, &t.suite.state] {
        // Layers, containers and volumes hold set-user-ID programs of images (CVE-2021-41091). The roots themselves are
        // readable here, because the harness made them; what rbox makes below is not.
        let script = format!(
            "cd {} && find image containers volumes -mindepth 1 2>/dev/null | head -n 5",
            root.display()
        );
        let out = crate::harness::Cmd::new("/bin/sh", ["-c", &script]).user(1000).run();
        assert_eq!(out.stdout, "", "an ordinary user reads below {}", root.display());
    }
}

/// CVE-2019-5736: a container that holds rbox's own file open writes to it when nobody executes it any more. By a second copy
/// of rbox, as after an upgrade: no monitor runs from that one, so the kernel's ETXTBSY does not help.
#[test]
fn the_binary_cannot_be_written_through_proc() {
    let Some(t) = Test::start() else { return };
    let copy = t.dir("copy").join("rbox-second");
    std::fs::copy(crate::harness::binary(), &copy).unwrap();
    let before = std::fs::read(&copy).unwrap();
    let attack = "
import glob, os, time
open('/evil', 'w').write('#!/proc/self/exe --help\\n')
os.chmod('/evil', 0o755)
print('ready', flush=True)
got = None
while got is None:
    for exe in glob.glob('/proc/[0-9]*/exe'):
        try:
            if 'rbox' in os.readlink(exe): got = os.open(exe, os.O_RDONLY)
        except OSError: pass
print('got', flush=True)
for attempt in range(100):
    try:
        fd = os.open(f'/proc/self/fd/{got}', os.O_WRONLY)
        os.pwrite(fd, b'overwritten', 0)
        print('written', flush=True)
        break
    except OSError as error:
        last = error
        time.sleep(.01)
else:
    print('refused:', last.strerror, flush=True)
time.sleep(1000)
";
    let name = t.name("attacker");
    t.ok(["run", "-d", "--name", &name, "--cap-add", "ALL", PYTHON, "python3", "-c", attack]);
    let says = |word: &str| t.ok(["logs", &name]).contains(word);
    wait_until("the attacker is ready", || says("ready"));
    let exec = |words: &[&str]| {
        let mut cmd = crate::harness::Cmd::new(&copy, ["exec", &name])
            .env("RBOX_ROOT", &t.suite.root)
            .env("RBOX_STATE", &t.suite.state);
        cmd = cmd.args(words);
        cmd.run()
    };
    wait_until("rbox's file is caught", || {
        exec(&["/evil"]);
        says("got")
    });
    wait_until("it was tried", || says("written") || says("refused"));
    assert!(before == std::fs::read(&copy).unwrap(), "the binary was overwritten");
    assert!(says("refused: Read-only file system"), "{}", t.ok(["logs", &name]));
}

/// Moving to the read-only mount costs no second start of the program, and what stays beside the container has moved too.
#[test]
fn rbox_is_executed_once_from_a_read_only_mount() {
    let Some(t) = Test::start() else { return };
    if !has("strace") {
        return skipped("strace is not installed");
    }
    let name = t.name("once");
    let calls = t.dir("strace").join("calls");
    let executed = |words: &[&str]| {
        let out = std::process::Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=execve,execveat", "-e", "status=successful", "-o"])
            .arg(&calls)
            .arg(crate::harness::binary())
            .args(words)
            .env("RBOX_ROOT", &t.suite.root)
            .env("RBOX_STATE", &t.suite.state)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let calls = std::fs::read_to_string(&calls).unwrap();
        calls.lines().filter(|line| line.contains(" exec")).map(str::to_owned).collect::<Vec<_>>()
    };
    let run = executed(&["run", "--rm", BUSYBOX, "true"]);
    assert_eq!(run.len(), 2, "rbox and true, each once: {run:#?}");
    let id = t.sleeper(&name, []);
    let exec = executed(&["exec", &name, "true"]);
    assert_eq!(exec.len(), 2, "rbox and true, each once: {exec:#?}");
    let state = std::fs::read(t.suite.state.join("containers").join(&id).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let file = format!("/proc/{}/exe", state["monitor"]);
    let mount = rustix::fs::statvfs(&file).unwrap().f_flag;
    assert!(mount.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{file}: {mount:?}");
}

/// What somebody tries who wants to speak to a monitor, or in its name: a line for each that is given to them.
const TO_A_MONITOR: &str = "
import ctypes, os, signal, socket, sys
path, pid = sys.argv[1], int(sys.argv[2])
def connect(to): socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(to)
def open_(to, how): os.close(os.open(to, how))
def trace():
    if ctypes.CDLL(None).ptrace(0x4206, pid, 0, 0): raise OSError
    ctypes.CDLL(None).ptrace(17, pid, 0, 0)
tries = {
    'connect': lambda: connect(path),
    'connect through its root': lambda: connect(f'/proc/{pid}/root{path}'),
    'see the socket': lambda: os.stat(path),
    'list its directory': lambda: os.listdir(os.path.dirname(path)),
    'read the state': lambda: open_(os.path.dirname(path) + '/state.json', os.O_RDONLY),
    'put a socket there': lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(path + '2'),
    'lock it': lambda: open_(os.path.dirname(path) + '/lock', os.O_RDWR),
    'list its descriptors': lambda: os.listdir(f'/proc/{pid}/fd'),
    'read its environment': lambda: open(f'/proc/{pid}/environ').read(),
    'open its memory': lambda: open_(f'/proc/{pid}/mem', os.O_RDWR),
    'signal it': lambda: os.kill(pid, 0),
    'trace it': trace,
}
for what, attempt in tries.items():
    try:
        attempt()
        print(what)
    except OSError: pass
";

/// Row 23. There is no API; a container's monitor listens for root alone, by a path: not on the network, nor by a name that a
/// container on the host's network could connect to (CVE-2020-15257).
#[test]
fn monitors_listen_to_root_alone() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let id = t.sleeper(&name, []);
    let live = t.suite.state.join("containers").join(&id);
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(live.join("state.json")).unwrap()).unwrap();
    let (socket, pid) = (live.join("monitor.sock").display().to_string(), state["monitor"].to_string());
    let probe = |user: u32| {
        let args = ["-c", TO_A_MONITOR, &socket, &pid];
        crate::harness::Cmd::new("/usr/bin/python3", args).user(user).run().ok()
    };
    for user in [1000, 65534] {
        assert_eq!(probe(user), "", "as user {user}");
    }
    let root = probe(0);
    for what in ["connect", "list its directory", "read the state", "signal it"] {
        assert!(root.lines().any(|line| line == what), "root cannot {what}: the test tries nothing\n{root}");
    }
    std::fs::remove_file(format!("{socket}2")).ok();
    let joined = format!("container:{name}");
    for flags in [
        &["--network", "host"][..],
        &["--network", "host", "--privileged"],
        &["--network", "host", "--cap-add", "ALL", "-u", "0"],
        &["--network", &joined],
    ] {
        let look =
            ["sh", "-c", "grep -c . /proc/net/unix; grep -i '@.*\\(rbox\\|monitor\\)' /proc/net/unix; true"];
        let out = t.cmd(["run", "--rm"]).args(flags).args(&[BUSYBOX]).args(&look).run().ok();
        assert_eq!(out.lines().count(), 1, "{flags:?}: a socket with a name and no path: {out}");
    }
    let open: std::collections::HashSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .filter_map(|to| to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    assert!(!open.is_empty(), "it listens somewhere");
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let sockets = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in sockets.lines().skip(1) {
            let inode = line.split_whitespace().nth(9).unwrap_or_default();
            assert!(!open.contains(inode), "the monitor has a socket of the network: {line}");
        }
    }
}
