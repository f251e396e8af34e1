//! Volumes of `type=nfs`, against the kernel's own server. Its helpers in user space, which answer what the kernel asks about
//! clients and exports, are not needed where all answers were given before.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::harness::{BUSYBOX, Test, skipped};
use crate::volume_options::{mountpoint, mounts_at};

/// There is one server in a kernel.
static ONE: Mutex<()> = Mutex::new(());

const CONTROL: &str = "/proc/fs/nfsd";

/// Stands in for rpcbind, with whom the kernel's server wants to be registered although nobody asks there about version 4: says yes to
/// every call (RFC 5531), for as long as this program runs.
fn say_yes_to_registrations() {
    fn answer(stream: &mut TcpStream) -> std::io::Result<()> {
        loop {
            let mut mark = [0; 4];
            stream.read_exact(&mut mark)?;
            let mut call = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
            stream.read_exact(&mut call)?;
            // The last fragment of 28 bytes: the call's number, a reply, accepted, without a verifier, carried out, true.
            let mut reply = (0x8000_0000_u32 + 28).to_be_bytes().to_vec();
            reply.extend(&call[..4]);
            reply.extend([1, 0, 0, 0, 0, 1_u32].iter().flat_map(|word| word.to_be_bytes()));
            stream.write_all(&reply)?;
        }
    }
    // Whoever has the port already is rpcbind itself, or this from the other test.
    let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, 111)) else { return };
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(&mut stream));
        }
    });
}

/// The kernel's server of version 4, which gives one directory to this host, until it is dropped.
struct Server {
    tree: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

fn tell(file: &str, words: &str) {
    fs::write(Path::new(CONTROL).join(file), words).unwrap_or_else(|error| panic!("{file}: {error}"));
}

impl Server {
    fn start(t: &Test) -> Option<Self> {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = Command::new("modprobe").args(["-q", "nfsd"]).status();
        let _ = Command::new("modprobe").args(["-q", "nfs4"]).status();
        let known = fs::read_to_string("/proc/filesystems").unwrap();
        if !["nfsd", "nfs4"].iter().all(|kind| known.lines().any(|line| line.ends_with(&format!("\t{kind}"))))
        {
            skipped("needs a kernel with NFS, the server and the client");
            return None;
        }
        if !Path::new(CONTROL).join("threads").exists() {
            assert!(Command::new("mount").args(["-t", "nfsd", "nfsd", CONTROL]).status().unwrap().success());
        }
        let server = Self { tree: t.dir("exported"), _alone: alone };
        say_yes_to_registrations();
        for version in ["-2", "-3", "+4", "+4.1", "+4.2"] {
            // A kernel may be built without the older ones.
            let _ = fs::write(Path::new(CONTROL).join("versions"), version);
        }
        tell("nfsv4leasetime", "10");
        tell("nfsv4gracetime", "10");
        server.serve();
        Some(server)
    }

    /// What the kernel would ask of mountd: who this client is, what the root of all exports is, and how it is exported.
    fn answer(&self) {
        /// `NFSEXP_INSECURE_PORT`, `ASYNC`, `NOSUBTREECHECK`, `FSID` (nfsd/export.h).
        const FLAGS: u32 = 0x2 | 0x10 | 0x400 | 0x2000;
        const FOR_EVER: u32 = 0x7fff_ffff;
        let tree = self.tree.display();
        let say =
            |cache: &str, line: String| fs::write(format!("/proc/net/rpc/{cache}/channel"), line).unwrap();
        say("auth.unix.ip", format!("nfsd 127.0.0.1 {FOR_EVER} this-host\n"));
        say("nfsd.export", format!("this-host {tree} {FOR_EVER} {FLAGS} 65534 65534 0\n"));
        // By a number, 0, which is the root's.
        say("nfsd.fh", format!("this-host 1 \\x00000000 {FOR_EVER} {tree}\n"));
    }

    /// From here on it answers; files are opened once the seconds for those who reclaim theirs are over.
    fn serve(&self) {
        // With its last thread it forgot both.
        self.answer();
        if fs::read_to_string(Path::new(CONTROL).join("portlist")).unwrap().is_empty() {
            tell("portlist", "tcp 2049");
        }
        tell("threads", "2");
        // Nobody has anything to reclaim; a kernel without a record of its clients waits all the same.
        let _ = fs::write(Path::new(CONTROL).join("v4_end_grace"), "Y");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::write(Path::new(CONTROL).join("threads"), "0");
    }
}

/// `volume create` as Docker's users write it for NFS.
fn volume(t: &Test, name: &str, kind: &str, device: &str, words: &str) {
    let (kind, device) = (format!("type={kind}"), format!("device={device}"));
    t.ok(["volume", "create", "-o", &kind, "-o", &device, "-o", &format!("o={words}"), name]);
}

#[test]
fn containers_share_what_a_server_has() {
    let Some(t) = Test::start() else { return };
    let Some(server) = Server::start(&t) else { return };
    fs::create_dir(server.tree.join("sub")).unwrap();
    fs::write(server.tree.join("sub/of-the-server"), "there\n").unwrap();
    let (whole, part) = (t.name("whole"), t.name("part"));
    let (first, second) = (t.name("first"), t.name("second"));
    volume(&t, &whole, "nfs", ":/", "addr=127.0.0.1,vers=4");
    // By name, read-only and below the root; nfs4 says the version itself.
    volume(&t, &part, "nfs4", ":/sub", "addr=localhost,ro");
    assert_eq!(mounts_at(&mountpoint(&t, &whole)), 0, "nothing uses it");
    t.sleeper(&first, ["-v", &format!("{whole}:/v")]);
    assert_eq!(t.ok(["exec", &first, "cat", "/v/sub/of-the-server"]), "there");
    t.ok(["exec", &first, "sh", "-c", "echo of the first > /v/sub/f; chown 1000:1000 /v/sub/f"]);
    assert_eq!(fs::read_to_string(server.tree.join("sub/f")).unwrap(), "of the first\n");
    t.sleeper(&second, ["-v", &format!("{part}:/v")]);
    let script = "cat /v/f; stat -c %u /v/f; touch /v/x 2>/dev/null || echo refused";
    assert_eq!(t.ok(["exec", &second, "sh", "-c", script]), "of the first\n1000\nrefused");
    assert!(t.ok(["exec", &second, "grep", " /v ", "/proc/mounts"]).contains(" nfs4 ro,"));
    t.ok(["restart", "-t", "0", &first]);
    assert_eq!(t.ok(["exec", &first, "cat", "/v/sub/f"]), "of the first");
    let places = [mountpoint(&t, &whole), mountpoint(&t, &part)];
    assert_eq!(places.each_ref().map(|place| mounts_at(place)), [1, 1]);
    t.ok(["rm", "-f", &first, &second]);
    assert_eq!(places.each_ref().map(|place| mounts_at(place)), [0, 0], "unmounted with the last");
    t.ok(["volume", "rm", &whole, &part]);
    assert!(server.tree.join("sub/f").exists(), "the server's files are not the volume's");
}

/// Each ends with the reason or at all: nothing waits for a server without an end that was asked for.
#[test]
fn a_server_that_has_it_not_or_is_gone() {
    let Some(t) = Test::start() else { return };
    let Some(server) = Server::start(&t) else { return };
    let (absent, real, name) = (t.name("absent"), t.name("real"), t.name("c"));
    volume(&t, &absent, "nfs4", ":/absent", "addr=127.0.0.1");
    let flags = ["run", "--name", &name, "-v", &format!("{absent}:/v"), BUSYBOX, "true"];
    t.rbox(flags).refused(125, &["error while mounting volume", ":/absent", "no such file or directory"]);
    t.ok(["rm", &name]);
    volume(&t, &real, "nfs", ":/", "addr=127.0.0.1,vers=4.2,soft,timeo=10,retrans=1");
    t.sleeper(&name, ["-v", &format!("{real}:/v")]);
    t.ok(["exec", &name, "sh", "-c", "echo kept > /v/f"]);
    // Gone, with a program that waits for it: stop ends it all the same.
    tell("threads", "0");
    t.ok(["exec", "-d", &name, "sh", "-c", "while :; do cat /v/f; done"]);
    std::thread::sleep(Duration::from_secs(1));
    let begin = Instant::now();
    t.ok(["stop", "-t", "1", &name]);
    t.ok(["rm", "-f", &name]);
    assert!(begin.elapsed() < Duration::from_mins(2), "{:?}", begin.elapsed());
    assert_eq!(mounts_at(&mountpoint(&t, &real)), 0);
    // A start that waits for it is given up by ^C, and by rm where the command was killed.
    for signal in ["INT", "KILL"] {
        let waiting = t.cmd(["run", "--name", &name, "-v", &format!("{real}:/v"), BUSYBOX, "true"]).spawn();
        std::thread::sleep(Duration::from_secs(2));
        waiting.signal(signal);
        waiting.finish(Duration::from_mins(1));
        t.ok(["rm", "-f", &name]);
        assert_eq!(mounts_at(&mountpoint(&t, &real)), 0);
    }
    server.serve();
    t.sleeper(&name, ["-v", &format!("{real}:/v")]);
    assert_eq!(t.ok(["exec", &name, "cat", "/v/f"]), "kept");
    t.ok(["rm", "-f", &name]);
    t.ok(["volume", "rm", &absent, &real]);
}
