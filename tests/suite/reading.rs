//! Files that an image or a container can write are read by one function, with a look at what they are and a limit.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::harness::{Cmd, PYTHON, Test, binary, project, skipped, wait_until};

/// The most memory in KiB that the command may take: many times what it needs, and far below what it must not read.
const MOST_KIB: u64 = 300 << 10;

/// Runs it, and says how many KiB of memory it or a child of it had at once.
fn memory(t: &Test, args: &[&str]) -> u64 {
    let script = "import resource,subprocess,sys
subprocess.run(sys.argv[1:],check=True,stdout=2)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let binary = binary();
    let command = t.program("python3", ["-c", script, binary.to_str().unwrap()]);
    command.args(args).limit(Duration::from_mins(1)).run().ok().parse().unwrap()
}

#[test]
fn files_that_a_container_has_made_huge() {
    let Some(t) = Test::start() else { return };
    let (lab, name, linked) = (t.name("lab"), t.name("big"), t.name("linked"));
    t.ok(["network", "create", &lab]);
    t.sleeper(&linked, []);
    t.sleeper(&name, ["--link", &linked, "--link", &format!("{linked}:two")]);
    t.ok(["exec", &name, "dd", "if=/dev/zero", "of=/etc/hosts", "bs=1", "count=1", "seek=3G"]);
    for args in [
        &["network", "connect", &lab, &name][..],
        &["network", "disconnect", &lab, &name],
        // Tells those that have a link to it.
        &["restart", "-t", "0", &linked],
        &["net", "trace", &name, "host:1"],
    ] {
        let args: Vec<&str> = args.to_vec();
        if args[0] == "net" {
            // It may say that nobody listens.
            let shell = format!("ulimit -v {}; exec \"$@\"", 4 * MOST_KIB);
            let binary = binary();
            let out = t.program("sh", ["-c", &shell, "sh", binary.to_str().unwrap()]).args(&args).run();
            assert!(out.code <= 1, "{out:?}");
        } else {
            let used = memory(&t, &args);
            assert!(used < MOST_KIB, "{args:?} took {used} KiB");
        }
    }
    // The network was joined and left all the same.
    t.rbox(["network", "disconnect", &lab, &name]).refused(1, &["is not connected"]);
}

#[test]
fn arguments_that_a_process_has_made_huge() {
    let Some(t) = Test::start() else { return };
    // prctl(PR_SET_MM, PR_SET_MM_MAP) needs no capability: the arguments are 1 GiB of memory that is not there.
    let script = "
import ctypes,struct,time
libc=ctypes.CDLL(None,use_errno=True)
area=libc.mmap; area.restype=ctypes.c_void_p; area.argtypes=[ctypes.c_void_p,ctypes.c_size_t]+[ctypes.c_int]*3+[ctypes.c_long]
size=1<<30
at=area(None,size,3,0x4022,-1,0)
stat=open('/proc/self/stat').read().rsplit(')',1)[1].split()
f=lambda n:int(stat[n-3])
libc.sbrk.restype=ctypes.c_void_p
m=struct.pack('=12QIi',f(26),f(27),f(45),f(46),f(47),libc.sbrk(0),f(28),at,at+size,f(50),f(51),0,0,-1)
buf=ctypes.create_string_buffer(m,len(m))
U=ctypes.c_ulong
print(libc.prctl(35,U(14),U(ctypes.addressof(buf)),U(len(m)),U(0)),ctypes.get_errno(),flush=True)
time.sleep(1000)
";
    let name = t.name("arguments");
    t.ok(["run", "-d", "--name", &name, PYTHON, "python3", "-c", script]);
    wait_until("it has set them", || !t.ok(["logs", &name]).is_empty());
    let said = t.ok(["logs", &name]);
    if said != "0 0" {
        return skipped(&format!("the kernel did not let it set its arguments: {said}"));
    }
    for command in ["top", "pid"] {
        let used = memory(&t, &[command, &name]);
        assert!(used < MOST_KIB, "{command} took {used} KiB");
    }
}

/// Makes an image of what the commands of `make` leave beside an empty `etc`.
fn image(t: &Test, what: &str, make: &str) -> String {
    let dir = t.dir(what);
    t.program("sh", ["-ec", &format!("cd {}; mkdir etc; {make}", dir.display())]).run().ok();
    let tar = dir.with_extension("tar");
    Cmd::new("tar", ["--sparse", "-C", dir.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]).run().ok();
    let name = format!("reading/{what}:1");
    t.ok(["import", tar.to_str().unwrap(), &name]);
    name
}

#[test]
fn databases_of_users_that_are_none() {
    let Some(t) = Test::start() else { return };
    let huge = "truncate -s 3G";
    for (what, make, why) in [
        ("device", "mknod etc/passwd c 1 3", "is not a regular file but a character device"),
        ("block", "mknod etc/group b 7 250", "is not a regular file but a block device"),
        ("fifo", "mkfifo etc/passwd", "is not a regular file but a fifo"),
        ("directory", "mkdir etc/group", "is not a regular file but a directory"),
        (
            "linked",
            "mknod etc/x c 1 3; ln -s ../etc/x etc/passwd",
            "is not a regular file but a character device",
        ),
        ("sparse", &format!("{huge} etc/passwd"), "has 3221225472 bytes"),
        ("groups", &format!("{huge} etc/group"), "has 3221225472 bytes"),
    ] {
        let name = image(&t, what, make);
        t.rbox(["run", "--rm", &name, "/absent"]).refused(125, &["inside the container", why]);
        t.ok(["rmi", &name]);
    }
    // What leads nowhere is none, and what leads out of the root leads to a file of the image.
    let name = image(
        &t,
        "absent",
        "ln -s /nowhere etc/passwd; ln -s ../../../../../etc/g etc/group; echo g:x:77: > etc/g",
    );
    t.rbox(["run", "--rm", "-u", "0:g", &name, "/absent"]).refused(127, &["/absent"]);
    t.rbox(["run", "--rm", "-u", "0:h", &name, "/absent"]).refused(125, &["unable to find group h"]);
    t.ok(["rmi", &name]);
}

/// Crates that handle what images and containers write.
const CRATES: [&str; 6] =
    ["rbox-engine", "rbox-namespace", "rbox-network", "rbox-rootfs", "rbox-runtime", "rbox"];

/// Files there that read others whole, and whose those are.
const READERS: [(&str, &str); 27] = [
    ("rbox/args/secret.rs", "the caller's secrets, which may be pipes"),
    ("rbox/builder/flags.rs", "the caller's Dockerfile, which may be a pipe"),
    ("rbox-engine/src/embedded.rs", "the host's own /proc and /sys"),
    ("rbox-engine/src/logs/writer.rs", "the log, which the monitor writes"),
    ("rbox-engine/src/networks/port_owner.rs", "a process's name, which has 15 letters"),
    ("rbox-engine/src/networks/sockets.rs", "a process's name, which has 15 letters"),
    ("rbox-engine/src/packet/world.rs", "the host's settings"),
    ("rbox-engine/src/record/file.rs", "records, which nobody but root reaches"),
    ("rbox-engine/src/containers/stop_mark.rs", "a mark in the state directory"),
    ("rbox-engine/src/containers/trash.rs", "a mark in the record"),
    (
        "rbox-engine/src/containers/volumes.rs",
        "what is left of a damaged record, which nobody but root reaches",
    ),
    ("rbox-engine/src/volume/store.rs", "records of volumes, beside what containers reach"),
    ("rbox-engine/src/networks/files.rs", "the host's /etc/resolv.conf"),
    ("rbox-network/src/address.rs", "addresses in the state directory"),
    ("rbox-network/src/dns/upstream.rs", "the host's /etc/resolv.conf"),
    ("rbox-network/src/host.rs", "the host's settings"),
    ("rbox-network/src/names.rs", "names in the state directory"),
    ("rbox-network/src/store.rs", "records of networks"),
    ("rbox/args/flags.rs", "files that the caller names"),
    ("rbox-engine/src/create/security.rs", "a profile that the caller names"),
    ("rbox/guest/hello.rs", "the hello image's own program, inside"),
    ("rbox/guest/demo.rs", "its tools, inside"),
    ("rbox/image/imagetools.rs", "a descriptor in a file that the caller names"),
    ("rbox/image/login.rs", "what the caller gives on standard input, 1 MiB of it at most"),
    ("rbox/system/info.rs", "the host's own /proc"),
    ("rbox/container/top.rs", "the host's own /proc and /etc"),
    ("rbox-runtime/src/hooks.rs", "what a hook of the administrator's has said, 1 MiB of it at most"),
];

#[test]
fn nothing_else_reads_whole_files_there() {
    let crates = project().join("crates");
    if !crates.exists() {
        return skipped("the sources are not here");
    }
    let mut found = Vec::new();
    for name in CRATES {
        let dir = crates.join(name);
        sources(&if dir.join("src").exists() { dir.join("src") } else { dir }, &mut |path, text| {
            let at = path.strip_prefix(&crates).unwrap().to_str().unwrap().to_owned();
            // The tests at the end read what they have made.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let reads =
                    ["fs::read(", "read_to_string(", "read_to_end("].iter().any(|call| line.contains(call));
                // What stands there in words is the host's own.
                let own = ["\"/proc/", "\"/sys/", "\"/etc/"].iter().any(|path| line.contains(path));
                if reads && !own && !READERS.iter().any(|(file, _)| *file == at) {
                    found.push(format!("{at}: {}", line.trim()));
                }
            }
        });
    }
    assert!(
        found.is_empty(),
        "read with rbox_sys::reading, or say in READERS why nobody inside can write these: {found:#?}"
    );
    for (file, why) in READERS {
        assert!(crates.join(file).exists() || file == "-", "{file} ({why}) is gone");
    }
}

fn sources(dir: &Path, visit: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|name| name == "tests" || name == "tests.rs") {
            continue;
        }
        if path.is_dir() {
            sources(&path, visit);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            visit(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
