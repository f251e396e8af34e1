//! The catalogue of advisories (docs/threats.md), row by row: what is tried inside a running container, or asked for on the command
//! line. What an image's bytes try is in `crafted`, what wants a tree laid out for it in `hostile` and `layouts`.

use std::collections::HashMap;
use std::fs;

use crate::harness::{BUSYBOX, Cmd, PYTHON, Test, fields, rounds};

/// Row 1. Programs that are the runtime itself: whichever is run, nobody gets hold of the file on the host.
#[test]
fn programs_that_are_the_runtime_itself() {
    let Some(t) = Test::start() else { return };
    let before = fs::read(crate::harness::binary()).unwrap();
    let name = t.name("c");
    // Each that runs tries to write to the file it was started from, then to that of whoever joins.
    let script = "
for n in 'self/exe' 'self/exe --version' '1/exe' 'thread-self/exe'; do
  f=/by-$(echo $n | tr -c 'a-z0-9\\n' -); printf '#!/proc/%s\\n' \"$n\" > $f; chmod 755 $f
done
ln -s /proc/self/exe /link; ln -s /proc/self/fd/3 /third; ln -s /by-self-exe /twice
cat > /write <<'END'
#!/bin/sh
for exe in /proc/*/exe; do
  case $(readlink $exe) in */busybox|*/sleep) ;; *) (echo gone > $exe) 2>/dev/null && echo \"wrote $exe $(readlink $exe)\" >> /wrote;; esac
done
END
chmod 755 /write
trap 'exit 0' TERM; echo made > /made; while :; do /write; done";
    t.ok(["run", "-d", "--name", &name, "--cap-add", "ALL", BUSYBOX, "sh", "-c", script]);
    crate::harness::wait_until("it is prepared", || t.rbox(["exec", &name, "test", "-e", "/made"]).code == 0);
    let tried = [
        "/by-self-exe",
        "/by-self-exe---version",
        "/by-1-exe",
        "/by-thread-self-exe",
        "/link",
        "/third",
        "/twice",
        "/proc/self/exe",
        "/proc/1/exe",
        "/write",
    ];
    for _ in 0..rounds(20) / 10 {
        for program in tried {
            // Whatever that is, it ends.
            t.cmd(["exec", &name, program, "--help"]).limit(std::time::Duration::from_secs(20)).run();
        }
    }
    for entrypoint in ["/proc/self/exe", "/proc/self/fd/3", "/proc/1/exe"] {
        t.rbox(["run", "--rm", "--network", "none", "--entrypoint", entrypoint, BUSYBOX, "--version"]);
    }
    assert!(before == fs::read(crate::harness::binary()).unwrap(), "the binary was changed");
    t.rbox(["exec", &name, "cat", "/wrote"]).code(1);
}

/// Row 2. Working directories that lead to descriptors of the runtime: by themselves, and through links of the image.
#[test]
fn working_directories_through_links() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let links: Vec<String> = [
        "self/fd/3",
        "self/fd/5",
        "self/fd/8",
        "self/cwd",
        "1/cwd",
        "self/root",
        "thread-self/fd/7",
        "1/root/../proc/self/fd/6",
    ]
    .iter()
    .enumerate()
    .map(|(n, to)| format!("ln -s /proc/{to} /l{n}; ln -s /l{n}/.. /m{n}"))
    .collect();
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        &format!("{}; echo inside > /mark; sleep 1000", links.join("; ")),
    ]);
    crate::harness::wait_until("the links are made", || {
        t.rbox(["exec", &name, "test", "-e", "/mark"]).code == 0
    });
    let look = "cat /proc/self/cwd/mark ../mark ../../mark ../../../mark 2>/dev/null; ls -d ../../../../rbox* 2>/dev/null; true";
    let outside = |what: &str, out: &crate::harness::Output| {
        // A directory that was entered is the container's own: from it, going up ends at the container's root.
        if out.code == 0 {
            assert!(
                out.stdout.lines().all(|line| line == "inside") && !out.stdout.is_empty(),
                "{what}: {out:?}"
            );
        }
    };
    for n in 0..links.len() {
        for link in ["l", "m"] {
            let dir = format!("/{link}{n}");
            outside(&dir, &t.rbox(["exec", "-w", &dir, &name, "sh", "-c", look]));
        }
    }
    for number in (3..64).step_by(64 / rounds(64)) {
        for dir in [
            format!("/proc/self/fd/{number}"),
            format!("/dev/fd/{number}/.."),
            format!("/proc/thread-self/fd/{number}"),
        ] {
            outside(&dir, &t.rbox(["exec", "-w", &dir, &name, "sh", "-c", look]));
        }
    }
}

/// Row 2. What the caller has open stays with the caller: a program has 0, 1 and 2.
#[test]
fn nothing_that_the_caller_has_open_is_inside() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("open");
    fs::write(dir.join("secret"), "the caller's secret").unwrap();
    let name = t.name("c");
    t.sleeper(&name, []);
    let rbox = crate::harness::binary().display().to_string();
    let opened = format!(
        "exec 3<{0}/secret 4>>{0}/log 5<{0} 6<>{0}/both 7</dev/null 8</proc/self/ns/mnt 9</",
        dir.display()
    );
    for line in [
        format!("run --rm --network none {BUSYBOX}"),
        format!("run --rm -i --network none {BUSYBOX}"),
        format!("run --rm --privileged --network none {BUSYBOX}"),
        format!("exec {name}"),
        format!("exec -i {name}"),
        format!("exec --privileged {name}"),
        format!("exec -u 1000 {name}"),
        format!("run --rm --init --network none {BUSYBOX}"),
    ] {
        let script = format!(
            "{opened}; {rbox} {line} sh -c 'ls /proc/self/fd | tr \"\\n\" \" \"; cat /proc/self/fd/[3-9] 2>/dev/null; true'"
        );
        let out = t.program("bash", ["-c", &script]).run().ok();
        // `ls` itself has the directory open.
        assert_eq!(out.trim(), "0 1 2 3", "{line}");
    }
}

/// Row 6. Groups that lead out of rbox's own place, and the files through which cgroup v1 runs programs on the host.
#[test]
fn control_groups_lead_nowhere_else() {
    let Some(t) = Test::start() else { return };
    for parent in [
        "..",
        "../x",
        "../../x",
        "/..",
        "/../x",
        "a/../../x",
        "/a/../..",
        "./..",
        "a/..",
        "//../x",
        "x/../../../sys/fs/cgroup/y",
    ] {
        t.rbox(["create", "--cgroup-parent", parent, BUSYBOX, "true"]).refused(125, &["--cgroup-parent"]);
    }
    let write = "
cd /sys/fs/cgroup
for f in release_agent notify_on_release cgroup.procs tasks cgroup.subtree_control memory.max pids.max devices.allow cgroup.kill; do
  for p in $(find . -name $f | head -n 4); do (echo 1 > $p) 2>/dev/null && echo wrote $p; done
done
mkdir below 2>/dev/null && echo made
mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo remounted
mkdir /tmp/g && mount -t cgroup2 none /tmp/g 2>/dev/null && echo mounted
mount -t cgroup -o memory none /tmp/g 2>/dev/null && echo mounted
true";
    for flags in
        [&[][..], &["--cap-add", "SYS_RESOURCE"], &["-u", "1000"], &["--read-only", "--tmpfs", "/tmp"]]
    {
        let out = t
            .cmd(["run", "--rm", "--network", "none"])
            .args(flags)
            .args(&[BUSYBOX, "sh", "-c", write])
            .run()
            .ok();
        assert_eq!(out, "", "{flags:?}");
    }
}

/// linux/capability.h: the twelve of docs/security.md.
const DEFAULT: u64 = 0xa004_05fb;
const NET_RAW: u64 = 1 << 13;
const SYS_ADMIN: u64 = 1 << 21;

/// Row 7. Every line of every set, for PID 1 and for those who join: nothing is inheritable, nothing ambient.
#[test]
fn capabilities_to_the_bit() {
    let Some(t) = Test::start() else { return };
    let own = fields(&fs::read_to_string("/proc/self/status").unwrap());
    let all = u64::from_str_radix(&own["CapBnd"], 16).unwrap();
    let expect = |what: &str, text: &str, bounding: u64, held: bool| {
        let status = fields(text);
        let held = if held { bounding } else { 0 };
        for (line, want) in
            [("CapInh", 0), ("CapPrm", held), ("CapEff", held), ("CapBnd", bounding), ("CapAmb", 0)]
        {
            assert_eq!(status[line], format!("{want:016x}"), "{what}: {line}");
        }
    };
    for (flags, bounding) in [
        (&[][..], DEFAULT),
        (&["-u", "1000"], DEFAULT),
        (&["--cap-drop", "ALL"], 0),
        (&["--cap-drop", "ALL", "--cap-add", "NET_RAW"], NET_RAW),
        (&["--cap-add", "SYS_ADMIN"], DEFAULT | SYS_ADMIN),
        (&["-u", "1000", "--cap-add", "NET_RAW"], DEFAULT | NET_RAW),
        (&["--security-opt", "no-new-privileges"], DEFAULT),
        (&["--privileged"], all),
        (&["--privileged", "-u", "1000:1000"], all),
    ] {
        let name = t.name("c");
        t.cmd(["run", "-d", "--name", &name, "--network", "none"])
            .args(flags)
            .args(&[BUSYBOX, "sleep", "1000"])
            .run()
            .ok();
        let root = !flags.contains(&"-u");
        let status =
            |flags: &[&str], file: &str| t.cmd(["exec"]).args(flags).args(&[&name, "cat", file]).run().ok();
        expect(&format!("{flags:?}, PID 1"), &status(&[], "/proc/1/status"), bounding, root);
        expect(&format!("{flags:?}, exec"), &status(&[], "/proc/self/status"), bounding, root);
        expect(
            &format!("{flags:?}, exec -u 1000"),
            &status(&["-u", "1000"], "/proc/self/status"),
            bounding,
            false,
        );
        expect(&format!("{flags:?}, exec -u 0"), &status(&["-u", "0"], "/proc/self/status"), bounding, true);
        expect(
            &format!("{flags:?}, exec --privileged"),
            &status(&["--privileged", "-u", "0"], "/proc/self/status"),
            all,
            true,
        );
        t.ok(["rm", "-f", &name]);
    }
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
app:x:1000:1001::/srv:/bin/sh
1000:x:7:70:a name of digits:/:/bin/sh
neg:x:-1:0::/:/bin/sh
huge:x:4294967296:0::/:/bin/sh
wrap:x:4294967295:0::/:/bin/sh
hexa:x:0x0:0::/:/bin/sh
blank:x: 0:0::/:/bin/sh
none:x::0::/:/bin/sh
short
";
const GROUP: &str = "root:x:0:
web:x:33:app
adm:x:4:app,other
neg:x:-5:app
huge:x:4294967296:app
2000:x:34:
";

/// Row 8: what is somebody, and who.
const SOMEBODY: [(&str, &str); 20] = [
    ("", "0 0 0"),
    (":", "0 0 0"),
    ("0", "0 0 0"),
    ("00", "0 0 0"),
    ("0:0", "0 0 0"),
    ("root", "0 0 0"),
    ("root:", "0 0 0"),
    ("app", "1000 1001 1001 4 33"),
    ("app:", "1000 1001 1001 4 33"),
    // Digits are a number also where somebody is called so.
    ("1000", "1000 1001 1001 4 33"),
    ("0001000", "1000 1001 1001 4 33"),
    ("7", "7 70 70"),
    ("app:web", "1000 33 33"),
    ("app:4", "1000 4 4"),
    ("1000:0", "1000 0 0"),
    ("0:2000", "0 2000 2000"),
    (":web", "0 33 33"),
    ("4242", "4242 0 0"),
    ("4242:77", "4242 77 77"),
    ("2147483647:2147483647", "2147483647 2147483647 2147483647"),
];

/// And what is nobody.
const NOBODY: [&str; 62] = [
    "nobody",
    "Root",
    "ROOT",
    "rooT",
    "root ",
    " root",
    "root\t",
    "root\n",
    "root\r",
    "ro ot",
    "root,app",
    "root/../app",
    "../root",
    "/",
    "/etc/passwd",
    "root;id",
    "$(id)",
    "`id`",
    "%s",
    "root%00",
    "root#",
    "#",
    "*",
    "?",
    "~",
    "+0",
    "+1000",
    "-0",
    "-1",
    "-1000",
    "0x0",
    "0b0",
    "1e3",
    "1_000",
    "1,000",
    "0.0",
    "1000 ",
    " 1000",
    "\u{ff11}\u{ff10}",
    "\u{663}",
    "\u{1d7d8}",
    "root\u{202e}",
    "\u{feff}root",
    "neg",
    "huge",
    "wrap",
    "hexa",
    "blank",
    "none",
    "short",
    "a:b:c",
    "::",
    "root::",
    ":0:",
    "root:nogroup",
    ":nogroup",
    "root:-1",
    "root:neg",
    "root:huge",
    "app:app",
    "root:+0",
    "app:web ",
];

/// Row 8. Two hundred ways to say who: each is exactly one user with exactly its groups, or it is refused.
#[test]
fn two_hundred_users() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    t.ok(["run", "-d", "--name", &name, "--network", "none", BUSYBOX, "sleep", "1000"]);
    for (file, text) in [("passwd", PASSWD), ("group", GROUP)] {
        t.cmd(["exec", "-i", &name, "sh", "-c", &format!("cat > /etc/{file}")]).input(text).run().ok();
    }
    let mut all: Vec<(String, Option<&str>)> =
        SOMEBODY.iter().map(|(user, who)| ((*user).to_owned(), Some(*who))).collect();
    all.extend(NOBODY.iter().map(|user| ((*user).to_owned(), None)));
    // Where a number of 31, 32, 63, 64 … bits wraps, it may not become 0 or 1000.
    for bits in 31..71 {
        let power = 1_u128 << bits;
        all.extend([power, power + 1000, power * 2 - 1].map(|number| (number.to_string(), None)));
    }
    assert!(all.len() >= 200);
    let step = all.len().div_ceil(rounds(all.len()).min(all.len()));
    for (user, who) in all.iter().step_by(step) {
        let out =
            t.rbox(["exec", &format!("--user={user}"), &name, "sh", "-c", "echo $(id -u) $(id -g) $(id -G)"]);
        match who {
            Some(who) => assert_eq!(out.ok(), *who, "{user:?}"),
            None => assert!(
                out.code != 0 && out.stdout.is_empty() && out.stderr.starts_with("rbox: "),
                "{user:?}: {out:?}"
            ),
        }
    }
    // `run` reads them by the same code: one of each.
    t.rbox(["run", "--rm", "--user=4294967296", BUSYBOX, "id"]).refused(125, &["range"]);
    assert_eq!(
        t.ok(["run", "--rm", "--user=4242:77", BUSYBOX, "sh", "-c", "echo $(id -u) $(id -g) $(id -G)"]),
        "4242 77 77"
    );
}

/// Row 25: keys of the host, of no namespace of a container's, or of none at all.
const SYSCTLS: [&str; 52] = [
    "kernel.core_pattern",
    "kernel.core_uses_pid",
    "kernel.core_pipe_limit",
    "kernel.modprobe",
    "kernel.hotplug",
    "kernel.poweroff_cmd",
    "kernel.sysrq",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.pid_max",
    "kernel.threads-max",
    "kernel.kptr_restrict",
    "kernel.dmesg_restrict",
    "kernel.randomize_va_space",
    "kernel.unprivileged_bpf_disabled",
    "kernel.perf_event_paranoid",
    "kernel.yama.ptrace_scope",
    "kernel.ns_last_pid",
    "kernel.printk",
    "kernel.keys.maxkeys",
    "kernel.hostname",
    "kernel.domainname",
    "kernel.usermodehelper.bset",
    "kernel.kexec_load_disabled",
    "kernel/core_pattern",
    "vm.swappiness",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "vm.drop_caches",
    "vm.min_free_kbytes",
    "vm.mmap_min_addr",
    "vm.nr_hugepages",
    "fs.suid_dumpable",
    "fs.file-max",
    "fs.protected_symlinks",
    "fs.binfmt_misc.register",
    "fs.inotify.max_user_watches",
    "fs.mqueuex",
    "fs/suid_dumpable",
    "user.max_user_namespaces",
    "dev.raid.speed_limit_max",
    "debug.exception-trace",
    "abi.vsyscall32",
    "sunrpc.rpc_debug",
    "net",
    "net.",
    "net.../kernel/core_pattern",
    "net.ipv4.../../kernel/core_pattern",
    "net/../kernel/core_pattern",
    "kernel.shmmax/../core_pattern",
    "",
    "../kernel/core_pattern",
];

/// Row 25 (CVE-2022-0811). Fifty keys that would change the host, given every way; and values that smuggle a second setting.
#[test]
fn sysctls_of_the_host() {
    let Some(t) = Test::start() else { return };
    let host = || -> HashMap<&str, Option<String>> {
        let read = |key: &&'static str| {
            (*key, fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/"))).ok())
        };
        SYSCTLS
            .iter()
            .filter(|key| {
                !key.contains("..") && !["fs.binfmt_misc.register", "kernel.ns_last_pid"].contains(*key)
            })
            .map(read)
            .collect()
    };
    let before = host();
    for key in SYSCTLS {
        // 1 is no value to leave behind in any of them, so one that is taken shows.
        t.rbox(["run", "--rm", "--network", "none", "--sysctl", &format!("{key}=1"), BUSYBOX, "true"])
            .refused(125, &["sysctl"]);
    }
    for flags in [["--network", "host"], ["--ipc", "host"]] {
        for key in ["net.ipv4.ip_forward", "net.core.somaxconn", "kernel.shmmax", "kernel.msgmax"] {
            if (flags[0] == "--network") == key.starts_with("net.") {
                let setting = format!("{key}=1");
                let out =
                    t.cmd(["run", "--rm", "--sysctl", &setting]).args(&flags).args(&[BUSYBOX, "true"]).run();
                assert!(out.code == 125, "{flags:?} {key}: {out:?}");
            }
        }
    }
    // Pinns took `a=1+kernel.core_pattern=x` for two settings.
    for value in [
        "net.ipv4.ip_forward=1+kernel.core_pattern=x",
        "kernel.shm_rmid_forced=1+kernel.core_pattern=|/bin/x",
        "net.ipv4.ip_forward=1\nkernel.core_pattern=x",
    ] {
        t.rbox(["run", "--rm", "--sysctl", value, BUSYBOX, "true"]);
    }
    assert_eq!(before, host());
}

/// What a terminal would act on, in each of its kinds.
const HARM: &str = "\x1b]0;title\x07\x1b[2J\x1b[31m\r\u{9b}1A\u{9d}x\u{9c}\u{202e}\u{2066}\u{200f}\x08\x7f";

/// Row 27 (CVE-2021-25743). Whatever names, labels, programs and images say, nothing that a terminal acts on comes out.
#[test]
fn nothing_drives_the_terminal() {
    let Some(t) = Test::start() else { return };
    let clean = |what: &str, out: &crate::harness::Output| {
        let harm = |c: &char| {
            (c.is_control() && !matches!(c, '\n' | '\t'))
                || HARM.chars().any(|h| h == *c && !h.is_ascii_graphic())
        };
        for text in [&out.stdout, &out.stderr] {
            let found: Vec<char> = text.chars().filter(harm).collect();
            assert!(found.is_empty(), "{what} sends {found:?}: {text:?}");
        }
    };
    let (name, volume, network) = (t.name("c"), t.name("v"), t.name("n"));
    let label = format!("k{HARM}=v{HARM}");
    // Its command, environment, labels and host files; then a process of that name, and what it says itself.
    let env = format!("E={HARM}");
    let script = format!("printf '%s' '{HARM}' > /proc/self/comm; sleep 1000; : '{HARM}'");
    t.ok(["run", "-d", "--name", &name, "--label", &label, "-e", &env, BUSYBOX, "sh", "-c", &script]);
    t.ok(["volume", "create", "--label", &label, &volume]);
    t.ok(["network", "create", "--label", &label, "--internal", &network]);
    let tree = t.dir("tree");
    let tar = tree.join("t.tar");
    Cmd::new("tar", ["-cf", &tar.display().to_string(), "-T", "/dev/null"]).run().ok();
    let image = "hostile/escapes:1";
    let (change, author) = (format!("LABEL k=\"{HARM}\""), format!("ENV X=\"{HARM}\""));
    t.rbox([
        "import",
        "-m",
        HARM,
        "--change",
        &change,
        "--change",
        &author,
        &tar.display().to_string(),
        image,
    ]);
    for args in [
        &["ps", "-a", "--no-trunc"][..],
        &["ps", "-a", "--format", "{{.Command}} {{.Labels}} {{.Names}}"],
        &["ps", "-a", "--format", "json"],
        &["inspect", &name],
        &["inspect", "-f", "{{.Config.Cmd}} {{.Config.Labels}} {{.Config.Env}}", &name],
        &["inspect", "-f", "{{json .Config}}", &name],
        &["top", &name],
        &["pid", &name],
        &["stats", "--no-stream", &name],
        &["images", "--no-trunc"],
        &["history", "--no-trunc", image],
        &["image", "inspect", image],
        &["volume", "ls", "--format", "{{.Name}} {{.Labels}}"],
        &["volume", "inspect", &volume],
        &["network", "ls", "--format", "{{.Name}} {{.Labels}}"],
        &["network", "inspect", &network],
        &["net"],
        &["system", "df", "-v"],
        // Errors that repeat what was given, or what the container has.
        &["run", "--rm", HARM],
        &["run", "--rm", "--name", HARM, BUSYBOX],
        &["run", "--rm", "-u", HARM, BUSYBOX],
        &["run", "--rm", "-w", HARM, BUSYBOX],
        &["run", "--rm", BUSYBOX, HARM],
        &["run", "--rm", "--network", HARM, BUSYBOX],
        &["run", "--rm", "-v", HARM, BUSYBOX],
        &["exec", &name, HARM],
        &["exec", HARM, "true"],
        &["inspect", HARM],
        &["logs", HARM],
        &["rm", HARM],
        &["volume", "rm", HARM],
        &["network", "rm", HARM],
        &["pull", HARM],
        &["load", "-i", HARM],
        &[HARM],
        &["ps", HARM],
    ] {
        clean(&format!("{args:?}"), &t.cmd(args).run());
    }
    t.rbox(["rmi", "-f", image]);
}

/// Row 28. What the filter is to keep from the kernel, by every door that an x86-64 kernel has; and files that are masked.
const DOORS: &str = r"
import ctypes, errno, mmap, os, platform, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
def said(name, code): print(name, 'opens' if code >= 0 else errno.errorcode.get(-code, code))
for family in (38, 40, 16, 1, 2):
    try: socket.socket(family, socket.SOCK_STREAM if family in (1, 2, 40) else socket.SOCK_SEQPACKET if family == 38 else socket.SOCK_RAW).close(); said(f'socket {family}', 0)
    except OSError as e: said(f'socket {family}', -e.errno)
if platform.machine() == 'x86_64':
    libc.syscall.restype = ctypes.c_long
    ctypes.set_errno(0)
    # x32's numbers have bit 30, and the 32-bit ones come by int 0x80: 359 is socket, 102 socketcall.
    said('x32 socket 38', -ctypes.get_errno() if libc.syscall(0x40000000 + 41, 38, 5, 0) < 0 else 0)
    low = 0x40
    libc.mmap.restype = ctypes.c_void_p
    page = libc.mmap(None, 4096, 7, 0x22 | low, -1, 0)
    words = page + 2048
    ctypes.memmove(words, struct.pack('=III', 38, 5, 0), 12)
    def old(eax, ebx, ecx, edx):
        # push rbx; mov eax,ebx,ecx,edx; int 0x80; pop rbx; ret
        code = b'\x53\xb8' + struct.pack('=I', eax) + b'\xbb' + struct.pack('=I', ebx) + b'\xb9' + struct.pack('=I', ecx) + b'\xba' + struct.pack('=I', edx) + b'\xcd\x80\x5b\xc3'
        ctypes.memmove(page, code, len(code))
        return ctypes.CFUNCTYPE(ctypes.c_int)(page)()
    said('old socket 38', old(359, 38, 5, 0))
    said('old socketcall 38', old(102, 1, words, 0))
    ctypes.memmove(words, struct.pack('=III', 40, 1, 0), 12)
    said('old socketcall 40', old(102, 1, words, 0))
for path in ('/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/latency_stats', '/proc/interrupts'):
    try: print(path, len(open(path, 'rb').read(16)))
    except OSError as e: print(path, errno.errorcode[e.errno])
for path in ('/sys/firmware', '/sys/devices/virtual/powercap', '/proc/acpi', '/proc/scsi'):
    try: print(path, len(os.listdir(path)))
    except OSError as e: print(path, errno.errorcode[e.errno])
for path in ('/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/irq/default_smp_affinity', '/sys/kernel/uevent_helper', '/sys/power/state'):
    try: os.close(os.open(path, os.O_WRONLY)); print('write', path, 'opens')
    except OSError as e: print('write', path, errno.errorcode[e.errno])
";

#[test]
fn doors_of_the_kernel() {
    let Some(t) = Test::start() else { return };
    for flags in [&[][..], &["-u", "1000"]] {
        let out = t
            .cmd(["run", "--rm", "--network", "none"])
            .args(flags)
            .args(&[PYTHON, "python3", "-c", DOORS])
            .run()
            .ok();
        let seen: HashMap<&str, &str> = out.lines().filter_map(|line| line.rsplit_once(' ')).collect();
        for family in ["socket 38", "socket 40"] {
            assert_eq!(seen[family], "EPERM", "{family}\n{out}");
        }
        assert_eq!(seen["socket 1"], "opens", "{out}");
        for door in ["x32 socket 38", "old socket 38", "old socketcall 38", "old socketcall 40"] {
            // Refused by the filter, or a kernel that has no such door; never a socket.
            assert!(seen.get(door).is_none_or(|said| ["EPERM", "ENOSYS"].contains(said)), "{door}\n{out}");
        }
        for path in [
            "/proc/kcore",
            "/proc/keys",
            "/proc/timer_list",
            "/proc/latency_stats",
            "/proc/interrupts",
            "/sys/firmware",
            "/sys/devices/virtual/powercap",
            "/proc/acpi",
            "/proc/scsi",
        ] {
            assert!(["0", "ENOENT", "EACCES", "EPERM"].contains(&seen[path]), "{path} is readable\n{out}");
        }
        for line in out.lines().filter(|line| line.starts_with("write ")) {
            assert!(!line.ends_with(" opens"), "{line}");
        }
    }
}

/// Row 26. An ordinary user of the host walks over both roots, whatever the modes are that an administrator gave them.
#[test]
fn an_ordinary_user_reaches_nothing() {
    let Some(t) = Test::start() else { return };
    let (name, volume) = (t.name("c"), t.name("v"));
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        "-v",
        &format!("{volume}:/v"),
        BUSYBOX,
        "sh",
        "-c",
        "cp /bin/busybox /v/su; chmod 4755 /v/su; cp /v/su /su; chmod 777 /v /; sleep 1000",
    ]);
    crate::harness::wait_until("the files are made", || {
        t.rbox(["exec", &name, "test", "-u", "/su"]).code == 0
    });
    let id = t.inspect(&name)["Id"].as_str().unwrap().to_owned();
    for (root, below) in [
        (&t.suite.root, format!("volumes/{volume}")),
        (&t.suite.root, format!("volumes/{volume}/_data")),
        (&t.suite.root, format!("volumes/{volume}/_data/su")),
        (&t.suite.root, format!("containers/{id}")),
        (&t.suite.root, format!("containers/{id}/config.json")),
        (&t.suite.root, format!("containers/{id}/upper/su")),
        (&t.suite.root, "image/index.json".into()),
        (&t.suite.root, "image/blobs/sha256".into()),
        (&t.suite.state, format!("containers/{id}/state.json")),
        (&t.suite.state, format!("containers/{id}/monitor.sock")),
    ] {
        let path = root.join(&below);
        assert!(
            path.symlink_metadata().is_ok(),
            "{below} is not there for root either: the test looks at the wrong place"
        );
        for test in ["-e", "-r", "-x"] {
            let out = Cmd::new("test", [test, &path.display().to_string()]).user(1000).run();
            assert_ne!(out.code, 0, "{below}: test {test} as an ordinary user");
        }
    }
}

/// Row 10. Names under which the host would look for programs and libraries: none of them runs outside, whatever is asked for.
#[test]
fn no_command_runs_what_a_container_has() {
    let Some(t) = Test::start() else { return };
    let marker = t.dir("marker").join("ran");
    let (name, network) = (t.name("c"), t.name("n"));
    let programs = "ps xz tar gzip unpigz zstd nsenter ip nft iptables mount umount id getent git newuidmap docker-credential-x modprobe sysctl true cat ls";
    // They can be told by a file on the host only if the host runs them: inside there is no such path.
    let script = format!(
        "mkdir -p /bin2; cp /bin/busybox /bin2/sh; for d in /bin /sbin /usr/bin /usr/sbin /usr/local/bin; do mkdir -p $d; for p in {programs}; do \
         rm -f $d/$p; printf '#!/bin/sh\\necho ran > {}\\n' > $d/$p; chmod 755 $d/$p; done; done; mkdir -p /lib /usr/lib /etc/ld.so.conf.d; \
         for l in libnss_files.so.2 libc.so.6 libnss_dns.so.2; do printf x > /lib/$l; printf x > /usr/lib/$l; done; echo /lib/libnss_files.so.2 > /etc/ld.so.preload; \
         trap 'exit 0' TERM; echo > /made; while :; do /bin2/sh -c 'read -t 1 x' < /dev/zero; done",
        marker.display()
    );
    t.ok(["network", "create", &network]);
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        "-e",
        "LD_PRELOAD=/lib/libc.so.6",
        "-e",
        "PATH=/bin2:/bin",
        BUSYBOX,
        "sh",
        "-c",
        &script,
    ]);
    crate::harness::wait_until("they are planted", || {
        t.rbox(["exec", &name, "/bin2/sh", "-c", "[ -e /made ]"]).code == 0
    });
    for args in [
        &["top", &name][..],
        &["pid", &name],
        &["exec", "-u", "root:root", &name, "/bin2/sh", "-c", ":"],
        &["inspect", "--size", &name],
        &["ps", "-a", "--size"],
        &["stats", "--no-stream", &name],
        &["logs", &name],
        &["port", &name],
        &["update", "--memory", "64m", "--memory-swap", "64m", &name],
        &["network", "connect", "--alias", "x", &network, &name],
        &["network", "disconnect", &network, &name],
        &["net"],
        &["pause", &name],
        &["unpause", &name],
        &["rename", &name, &format!("{name}2")],
        &["kill", "-s", "HUP", &format!("{name}2")],
        &["system", "df", "-v"],
        &["restart", "-t", "1", &format!("{name}2")],
        &["stop", "-t", "1", &format!("{name}2")],
        &["rm", "-f", &format!("{name}2")],
    ] {
        t.cmd(args).run();
        assert!(!marker.exists(), "{args:?} ran a program of the container on the host");
    }
}

/// Row 24. Frames are the business of `network` and of the crate's tests; here no socket is to be had that could send them.
#[test]
fn a_raw_socket_is_not_given() {
    let Some(t) = Test::start() else { return };
    let probe = "
import socket
for family, kind, proto in ((2, 3, 1), (2, 3, 6), (2, 3, 255), (10, 3, 58), (10, 3, 255), (17, 3, 0x0300), (17, 2, 0x0300), (17, 3, 0x0608)):
    try: socket.socket(family, kind, proto); print(family, kind, proto, 'opens')
    except OSError as e: print(family, kind, proto, e.errno)
";
    for flags in [&[][..], &["-u", "1000"]] {
        let out = t
            .cmd(["run", "--rm", "--network", "none"])
            .args(flags)
            .args(&[PYTHON, "python3", "-c", probe])
            .run()
            .ok();
        assert!(out.lines().count() == 8 && out.lines().all(|line| line.ends_with(" 1")), "{out}");
    }
}
