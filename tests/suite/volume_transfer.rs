//! `volume export`, `import`, `clone` and `rename`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use crate::harness::{BUSYBOX, Test, has, skipped, wait_until};

fn data(t: &Test, name: &str) -> PathBuf {
    t.ok(["volume", "inspect", "-f", "{{.Mountpoint}}", name]).into()
}

fn names(t: &Test) -> String {
    t.ok(["volume", "ls", "-q"])
}

/// What a database has: files of one user, closed to others, with links and a socket. moby#37162.
#[test]
fn a_backup_comes_back_as_it_was() {
    let Some(t) = Test::start() else { return };
    let (volume, copy, archive) = (t.name("db"), t.name("copy"), t.dir("db").with_extension("tar"));
    let archive = archive.to_str().unwrap();
    let mount = |name: &str| format!("{name}:/db");
    t.ok(["volume", "create", "--label", "app=db", &volume]);
    let fill = "mkdir /db/base; echo one > /db/base/1; ln /db/base/1 /db/base/2; ln -s base/1 /db/current; \
                mkfifo /db/pipe; dd if=/dev/zero of=/db/zeros bs=1M count=3 2>/dev/null; \
                chown -R 70:70 /db; chmod 700 /db; chmod 640 /db/base/1";
    t.ok(["run", "--rm", "-v", &mount(&volume), BUSYBOX, "sh", "-c", fill]);
    t.ok(["volume", "export", "-o", archive, &volume]);
    assert_eq!(t.ok(["volume", "import", &copy, archive]), copy);
    let look = "cd /db; stat -c '%n %u %g %a %h %s %F' . base base/* current pipe zeros; cat base/2; readlink current";
    let seen = |name: &str| t.ok(["run", "--rm", "-v", &mount(name), BUSYBOX, "sh", "-c", look]);
    let before = seen(&volume);
    assert!(before.starts_with(". 70 70 700 "), "{before}");
    assert_eq!(seen(&copy), before);
    // Into what is there: the rest stays. By a pipe, compressed.
    t.ok(["run", "--rm", "-v", &mount(&copy), BUSYBOX, "sh", "-c", "rm -r /db/base; echo mine > /db/other"]);
    let both = format!("\"$RBOX\" volume export {volume} | gzip | \"$RBOX\" volume import {copy}");
    t.program("sh", ["-c", &both]).env("RBOX", crate::harness::binary()).run().code(0);
    assert_eq!(seen(&copy), before);
    assert_eq!(fs::read_to_string(data(&t, &copy).join("other")).unwrap(), "mine\n");

    let cloned = t.name("cloned");
    assert_eq!(t.ok(["volume", "clone", &volume, &cloned]), cloned);
    assert_eq!(seen(&cloned), before);
    assert_eq!(t.ok(["volume", "inspect", "-f", "{{.Labels.app}}", &cloned]), "db");
    t.rbox(["volume", "clone", &volume, &copy]).refused(1, &[&copy, "there is a volume of this name"]);
    t.rbox(["volume", "clone", "no-such", "new"]).refused(1, &["no-such: no such volume"]);
    t.rbox(["volume", "export", "no-such"]).refused(1, &["no-such: no such volume"]);
    t.rbox(["volume", "export", "-o", "/no/such/dir", &volume])
        .refused(1, &["directory \"/no/such\" does not exist"]);
    t.rbox(["volume", "import", "a/b", archive]).refused(125, &["a/b"]);
    t.rbox(["volume", "import", "new", "/no/such"]).refused(125, &["/no/such"]);
    // What a pipe gives whose writer failed is no backup.
    for nothing in [vec![], vec![0; 10240]] {
        t.cmd(["volume", "import", "new"]).input(nothing).run().refused(125, &["the archive has no entry"]);
    }
    t.cmd(["volume", "import", &copy]).input("").run().refused(125, &["nothing was restored"]);
    assert_eq!(seen(&copy), before);
    assert_eq!(fs::metadata(archive).unwrap().mode() & 0o777, 0o600, "others could read it");
    assert!(!names(&t).lines().any(|name| name == "new"));
    t.ok(["volume", "rm", &volume, &copy, &cloned]);
    fs::remove_file(archive).unwrap();
}

/// moby#31154.
#[test]
fn another_name() {
    let Some(t) = Test::start() else { return };
    let (old, new, user) = (t.name("old"), t.name("new"), t.name("user"));
    t.ok(["volume", "create", "--label", "k=v", &old]);
    fs::write(data(&t, &old).join("file"), "kept").unwrap();
    t.ok(["create", "--name", &user, "-v", &format!("{old}:/x"), BUSYBOX]);
    let id = t.ok(["inspect", "-f", "{{.Id}}", &user]);
    t.rbox(["volume", "rename", &old, &new]).refused(1, &["volume is in use", &id]);
    t.ok(["rm", &user]);
    t.ok(["volume", "rename", &old, &new]);
    assert_eq!(fs::read_to_string(data(&t, &new).join("file")).unwrap(), "kept");
    assert_eq!(t.ok(["volume", "inspect", "-f", "{{.Labels.k}} {{.Name}}", &new]), format!("v {new}"));
    t.rbox(["volume", "rename", &old, &new]).refused(1, &["no such volume"]);
    t.ok(["volume", "create", &old]);
    t.rbox(["volume", "rename", &old, &new]).refused(1, &[&new, "there is a volume of this name"]);
    t.rbox(["volume", "rename", &old, ".."]).refused(125, &[".."]);
    assert_eq!(fs::read_to_string(data(&t, &new).join("file")).unwrap(), "kept");
    // One that nobody had named goes with no container any more.
    t.ok(["volume", "rm", &old]);
    let nameless = t.ok(["volume", "create"]);
    t.ok(["volume", "rename", &nameless, &old]);
    assert_eq!(t.ok(["volume", "inspect", "-f", "{{.Labels}}", &old]), "map[]");
    t.ok(["volume", "rm", &old, &new]);
}

/// A moment of what is written all the time.
#[test]
fn a_moment_of_what_is_written() {
    let Some(t) = Test::start() else { return };
    let (volume, writer, copy) = (t.name("vol"), t.name("writer"), t.name("copy"));
    let archive = t.dir("moment").with_extension("tar");
    let archive = archive.to_str().unwrap();
    let script = "trap 'exit 0' TERM; dd if=/dev/urandom of=/d/b bs=1M count=48 2>/dev/null; n=0; \
                  while :; do n=$((n+1)); echo $n > /d/a.new; mv /d/a.new /d/a; echo $n > /d/c.new; mv /d/c.new /d/c; done";
    t.ok(["run", "-d", "--name", &writer, "-v", &format!("{volume}:/d"), BUSYBOX, "sh", "-c", script]);
    wait_until("it writes", || data(&t, &volume).join("c").exists());
    t.ok(["volume", "export", "--pause", "-o", archive, &volume]);
    assert_eq!(t.status(&writer), "running");
    t.ok(["volume", "import", &copy, archive]);
    let count =
        |name: &str| fs::read_to_string(data(&t, &copy).join(name)).unwrap().trim().parse::<i64>().unwrap();
    let apart = count("a") - count("c");
    assert!((0..=1).contains(&apart), "the two are {apart} apart");
    t.ok(["rm", "-f", &writer]);
    t.ok(["volume", "rm", &volume, &copy]);
    fs::remove_file(archive).unwrap();
}

#[test]
fn volumes_that_are_file_systems() {
    let Some(t) = Test::start() else { return };
    let (memory, bound, copy) = (t.name("memory"), t.name("bound"), t.name("copy"));
    t.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", &memory]);
    t.rbox(["volume", "export", &memory]).refused(1, &[&memory, "only while a container"]);
    let user = t.name("user");
    t.sleeper(&user, ["-v", &format!("{memory}:/m")]);
    t.ok(["exec", &user, "sh", "-c", "echo here > /m/file"]);
    t.ok(["volume", "clone", &memory, &copy]);
    assert_eq!(fs::read_to_string(data(&t, &copy).join("file")).unwrap(), "here\n");
    t.ok(["rm", "-f", &user]);
    let dir = t.dir("bound");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("of-host"), "x").unwrap();
    let device = format!("device={}", dir.display());
    t.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, &bound]);
    let archive = t.dir("bound").with_extension("tar");
    t.ok(["volume", "export", "-o", archive.to_str().unwrap(), &copy]);
    t.ok(["volume", "import", &bound, archive.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "here\n");
    assert_eq!(fs::read_dir(data(&t, &bound)).unwrap().count(), 0, "it is mounted");
    t.ok(["volume", "rm", &memory, &bound, &copy]);
    fs::remove_file(archive).unwrap();
}

/// Archives and volumes that lead out of the volume.
#[test]
fn nothing_is_written_outside() {
    let Some(t) = Test::start() else { return };
    if !has("python3") {
        return skipped("python3 is not installed");
    }
    let dir = t.dir("hostile");
    fs::create_dir_all(dir.join("canary")).unwrap();
    fs::write(dir.join("canary/file"), "untouched").unwrap();
    fs::set_permissions(dir.join("canary"), fs::Permissions::from_mode(0o711)).unwrap();
    let canary = dir.join("canary").display().to_string();
    let program = "
import io, sys, tarfile
kind, canary, to = sys.argv[1:]
tar = tarfile.open(to, 'w')
def add(name, type=tarfile.REGTYPE, link='', data=b'evil', mode=0o777):
    info = tarfile.TarInfo(name); info.type = type; info.linkname = link; info.mode = mode
    info.size = len(data) if type == tarfile.REGTYPE else 0
    tar.addfile(info, io.BytesIO(data))
add('first')
if kind == 'dots': add('../../../../../../../..' + canary + '/file')
if kind == 'link': add('l', tarfile.SYMTYPE, canary); add('l/file'); add('l', tarfile.DIRTYPE); add('l/x')
if kind == 'climb': add('l', tarfile.SYMTYPE, '../' * 12 + canary[1:]); add('l/file')
if kind == 'hard': add('h', tarfile.LNKTYPE, '../' * 12 + canary[1:] + '/file'); add('h')
if kind == 'up': add('up/file'); add('up', tarfile.DIRTYPE)
if kind == 'top': add('./', tarfile.SYMTYPE, canary); add('file')
tar.close()
";
    let volume = t.name("vol");
    let archive = dir.join("a.tar");
    for kind in ["dots", "link", "climb", "hard", "up", "top"] {
        for is_there in [false, true] {
            if is_there {
                t.ok(["volume", "create", &volume]);
                let lead = format!("ln -s {canary} /v/up");
                t.ok(["run", "--rm", "-v", &format!("{volume}:/v"), BUSYBOX, "sh", "-c", &lead]);
            }
            let made = t.program("python3", ["-c", program, kind, &canary, archive.to_str().unwrap()]).run();
            made.code(0);
            let done = t.rbox(["volume", "import", &volume, archive.to_str().unwrap()]);
            let text = fs::read_to_string(dir.join("canary/file")).unwrap();
            assert_eq!(text, "untouched", "{kind} {is_there}");
            assert_eq!(fs::read_dir(dir.join("canary")).unwrap().count(), 1, "{kind} {is_there}");
            assert_eq!(fs::metadata(dir.join("canary")).unwrap().mode() & 0o777, 0o711, "{kind} {is_there}");
            let there = names(&t).lines().any(|name| *name == volume);
            assert_eq!(there, is_there || done.code == 0, "{kind}: what failed is there");
            if there {
                t.ok(["volume", "rm", &volume]);
            }
        }
    }
    // One that is cut off leaves no new volume either.
    fs::write(&archive, [&b"x"[..], &[0; 511]].concat()).unwrap();
    t.rbox(["volume", "import", &volume, archive.to_str().unwrap()]).refused(1, &["checksum is wrong"]);
    assert!(!names(&t).lines().any(|name| *name == volume));
}
