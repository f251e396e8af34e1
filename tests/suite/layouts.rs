//! Images, volumes and mounts that would lead the engine's own mounts astray: links and nested directories at and around
//! /proc, /sys and /dev. The oracle: the host's settings and a canary stay as they were; inside there is one procfs, at /proc,
//! nothing of it can be written that reaches the host, and what is masked is masked. The search is made from inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{BUSYBOX, Test, rounds, wait_until};

/// What must come of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// The container runs, with procfs and sysfs in their places.
    Runs,
    /// It runs; what is at /sys is the user's.
    NoSys,
    /// One line, and no container.
    Refused,
    /// Either: the host is the same.
    Either,
}
use Then::{Either, NoSys, Refused, Runs};

/// In a script and in flags: `{C}` the canary's directory, `{D}` a directory of the host, `{F}` a file, `{V}` a volume.
/// The script runs in the image's root, with a shell of the host; a flag `VOLUME …` goes into the image.
#[rustfmt::skip]
const LAYOUTS: &[(&str, &[&str], Then)] = &[
    // Links at /proc.
    ("mkdir realproc dev; ln -s dev/lnk proc; ln -s /realproc dev/lnk", &[], Refused),
    ("mkdir realproc; ln -s realproc proc", &[], Refused),
    ("mkdir realproc; ln -s /realproc proc", &[], Refused),
    ("mkdir realproc; ln -s ../../realproc proc", &[], Refused),
    ("mkdir -p a/b/realproc; ln -s a/link proc; ln -s b/realproc a/link", &[], Refused),
    ("mkdir realproc; ln -s realproc proc", &["VOLUME /realproc"], Refused),
    ("mkdir realproc; ln -s realproc proc", &["--privileged"], Refused),
    ("ln -s {C} proc", &[], Refused),
    ("ln -s /absent proc", &[], Refused),
    ("ln -s sys proc; mkdir sys", &[], Refused),
    ("ln -s dev proc; mkdir dev", &[], Refused),
    ("ln -s . proc", &[], Refused),
    ("ln -s proc proc", &[], Refused),
    ("echo file > proc", &[], Refused),
    ("mkfifo proc", &[], Refused),
    // Links at /sys.
    ("mkdir realsys; ln -s realsys sys", &[], Refused),
    ("mkdir realsys dev; ln -s dev/lnk sys; ln -s /realsys dev/lnk", &[], Refused),
    ("mkdir proc; ln -s proc sys", &[], Refused),
    ("ln -s {C} sys", &[], Refused),
    ("ln -s /absent sys", &[], Refused),
    ("echo file > sys", &[], Refused),
    // Links at /dev.
    ("mkdir realdev; ln -s realdev dev", &[], Refused),
    ("mkdir proc; ln -s proc dev", &[], Refused),
    ("ln -s {C} dev", &[], Refused),
    ("ln -s dev2 dev; ln -s dev3 dev2; mkdir dev3", &[], Refused),
    ("ln -s /absent dev", &[], Refused),
    ("echo file > dev", &[], Refused),
    // Below them the image has nothing to say: it is covered.
    ("mkdir -p proc/sys/kernel; echo evil > proc/sys/kernel/core_pattern", &[], Runs),
    ("mkdir proc; ln -s {C} proc/sys; ln -s {C}/secret proc/kcore", &[], Runs),
    ("mkdir -p sys; ln -s {C} sys/fs; ln -s {C} sys/firmware", &[], Runs),
    ("mkdir -p sys/fs; ln -s {C} sys/fs/cgroup", &[], Runs),
    ("mkdir dev; ln -s {C} dev/pts; ln -s {C} dev/shm; ln -s /proc dev/mqueue", &[], Runs),
    ("mkdir dev; ln -s /proc/sys/kernel/core_pattern dev/null; ln -s {C}/secret dev/console", &[], Runs),
    ("true", &[], Runs),
    ("true", &["--read-only"], Runs),
    ("mkdir -m 0 proc sys dev", &["-u", "1000"], Runs),
    // What the engine gives, led elsewhere.
    ("ln -s proc etc", &[], Refused),
    ("ln -s /proc/sys etc", &[], Refused),
    ("mkdir etc; ln -s /proc/sys/kernel/core_pattern etc/hosts", &[], Refused),
    ("mkdir etc; ln -s ../proc/self/comm etc/hostname", &[], Refused),
    ("mkdir etc; ln -s /proc/cpuinfo etc/resolv.conf", &[], Refused),
    ("mkdir etc; ln -s /sys/kernel/notes etc/hosts", &[], Either),
    ("mkdir etc; ln -s {C}/secret etc/hosts; ln -s {C}/new etc/hostname", &[], Runs),
    ("ln -s {C} etc", &[], Runs),
    ("ln -s dev etc", &[], Runs),
    // Volumes of the image.
    ("true", &["VOLUME /proc"], Refused),
    ("true", &["VOLUME /proc/sys"], Refused),
    ("mkdir -p proc/self", &["VOLUME /proc/self"], Refused),
    ("true", &["VOLUME /sys"], NoSys),
    ("mkdir -p sys/firmware; echo x > sys/firmware/x", &["VOLUME /sys"], NoSys),
    ("mkdir -p sys etc; ln -s /etc sys/firmware", &["VOLUME /sys"], Refused),
    ("mkdir -p sys/fs etc; ln -s /etc sys/devices", &["VOLUME /sys"], Refused),
    ("true", &["VOLUME /sys/firmware"], Runs),
    ("true", &["VOLUME /sys/fs/cgroup"], Runs),
    ("mkdir dev; ln -s {C} dev/shm", &["VOLUME /dev"], Runs),
    ("true", &["VOLUME /dev/shm"], Runs),
    ("true", &["VOLUME /dev/pts"], Runs),
    ("true", &["VOLUME /dev/mqueue"], Runs),
    ("ln -s proc data", &["VOLUME /data"], Refused),
    ("ln -s /proc/sys data", &["VOLUME /data"], Refused),
    ("ln -s /proc/self data", &["VOLUME /data/fd"], Refused),
    ("mkdir -p a/b; ln -s /proc a/b/c", &["VOLUME /a/b/c/x"], Refused),
    ("ln -s sys data", &["VOLUME /data"], Refused),
    ("ln -s /sys/firmware data", &["VOLUME /data"], Runs),
    ("ln -s dev data", &["VOLUME /data"], Runs),
    ("mkdir dev; ln -s /dev/lnk data; ln -s {C} dev/lnk", &["VOLUME /data/sub"], Runs),
    // Mounts of the user.
    ("true", &["-v", "{D}:/proc"], Refused),
    ("true", &["-v", "{D}:/proc/sys/kernel"], Refused),
    ("true", &["-v", "{F}:/proc/cpuinfo", "-v", "{F}:/proc/meminfo:ro"], Runs),
    ("ln -s proc data", &["-v", "{F}:/data/cpuinfo"], Refused),
    ("true", &["--tmpfs", "/proc/irq"], Refused),
    ("true", &["--tmpfs", "/proc/self/attr"], Refused),
    ("true", &["--tmpfs", "/proc/thread-self/attr"], Refused),
    ("true", &["-v", "{F}:/proc/self/attr/exec"], Refused),
    ("true", &["-v", "{D}:/proc/self/fd"], Refused),
    ("ln -s /proc/irq data", &["--tmpfs", "/data"], Refused),
    ("ln -s sys data", &["--tmpfs", "/data"], Refused),
    ("true", &["--tmpfs", "/sys"], NoSys),
    ("true", &["--tmpfs", "/sys/firmware"], Runs),
    ("true", &["--tmpfs", "/dev"], Runs),
    ("true", &["--tmpfs", "/dev/pts", "--tmpfs", "/dev/shm"], Runs),
    ("true", &["-v", "/sys:/sys:ro"], Runs),
    ("true", &["-v", "/:/sys:ro"], NoSys),
    ("true", &["-v", "{D}:/sys/kernel"], Runs),
    ("true", &["-v", "{D}:/sys/firmware"], Runs),
    ("true", &["-v", "{V}:/dev"], Runs),
    ("true", &["-v", "/dev:/dev"], Runs),
    ("true", &["-v", "{D}:/dev/shm", "-v", "{D}:/dev/deep/er"], Runs),
    ("true", &["-v", "{F}:/dev/null"], Runs),
    ("mkdir realdev; ln -s realdev dev", &["-v", "{V}:/dev"], Either),
    ("ln -s realsys sys; mkdir realsys", &["-v", "/sys:/sys:ro"], Refused),
    ("ln -s /proc/sys data", &["-w", "/data"], Runs),
];

const SECRET: &str = "the host's secret";

/// Looks, from inside, at every directory that there is for a procfs or a sysfs; writes to a setting what it is already.
const SEARCH: &str = "
exec 2>&-
same() { [ -e $1 ] && v=$(cat $1) && echo \"$v\" > $1 && echo BAD $1 can be written; }
empty() { [ -d $1 ] && [ -n \"$(ls -A $1)\" ] && echo BAD $1 is not masked; [ -f $1 ] && [ -n \"$(head -c 1 $1)\" ] && echo BAD $1 is not masked; }
for d in $(find / -xdev -type d; find /dev /data /etc -xdev -type d); do
  if [ -e $d/self/mountinfo ]; then
    echo PROC $d
    for f in sys/kernel/core_pattern sys/vm/swappiness irq/default_smp_affinity sys/fs/protected_hardlinks; do same $d/$f; done
    echo > $d/sysrq-trigger && echo BAD $d/sysrq-trigger can be written
    for m in acpi interrupts kcore keys timer_list scsi; do empty $d/$m; done
  fi
  if [ -d $d/devices/system/cpu ] && [ $d != /sys ]; then echo BAD sysfs is at $d; fi
done
if [ -d /sys/devices/system/cpu ]; then
  echo SYS /sys
  (echo x > /sys/kernel/mm/rbox-test) 2>&1 | grep -q -i read-only || [ ! -d /sys/kernel/mm ] || echo BAD /sys can be written
fi
for m in /sys/firmware /sys/devices/virtual/powercap; do empty $m; done
cat /etc/hosts /secret /dev/console
true";

struct World {
    /// Its own tree: a shell and what the search needs.
    base: PathBuf,
    canary: PathBuf,
    dir: PathBuf,
    file: PathBuf,
    volume: String,
}

impl World {
    fn new(t: &Test) -> Self {
        let base = t.dir("base");
        fs::create_dir(base.join("bin")).unwrap();
        let tar = Command::new(crate::harness::binary())
            .args(["run", "--rm", "--network", "none", BUSYBOX, "tar", "c", "bin/busybox"])
            .env("RBOX_ROOT", &t.suite.root)
            .env("RBOX_STATE", &t.suite.state)
            .output()
            .unwrap();
        assert!(tar.status.success(), "{tar:?}");
        fs::write(base.join("busybox.tar"), tar.stdout).unwrap();
        shell(
            &base,
            "tar -xf busybox.tar; rm busybox.tar; cd bin; for a in sh cat ls find head grep true; do ln -s busybox $a; done",
        );
        let (canary, dir) = (t.dir("canary"), t.dir("given"));
        fs::write(canary.join("secret"), SECRET).unwrap();
        let file = t.dir("file").join("file");
        fs::write(&file, "given\n").unwrap();
        Self { base, canary, dir, file, volume: t.name("volume") }
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{C}", &self.canary.display().to_string())
            .replace("{D}", &self.dir.display().to_string())
            .replace("{F}", &self.file.display().to_string())
            .replace("{V}", &self.volume)
    }

    /// The image of one layout.
    fn image(&self, t: &Test, number: usize, script: &str, flags: &[&str]) -> String {
        let name = format!("layout/n{number}:1");
        let tree = t.dir("tree");
        shell(
            &tree,
            &format!("cp -a {}/bin .; {}; tar -cf ../layout.tar .", self.base.display(), self.fill(script)),
        );
        let tar = tree.parent().unwrap().join("layout.tar");
        let mut args = vec!["import"];
        for volume in flags.iter().filter(|flag| flag.starts_with("VOLUME")) {
            args.extend(["--change", volume]);
        }
        args.extend([tar.to_str().unwrap(), name.as_str()]);
        t.cmd(args).run().ok();
        name
    }
}

fn shell(dir: &Path, script: &str) {
    let out = Command::new("sh").args(["-e", "-c", script]).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Settings of the host that a container must not reach.
fn settings() -> Vec<String> {
    ["kernel/core_pattern", "kernel/modprobe", "kernel/sysrq", "vm/swappiness", "fs/protected_hardlinks"]
        .iter()
        .map(|key| fs::read_to_string(Path::new("/proc/sys").join(key)).unwrap_or_default())
        .collect()
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mounts").unwrap().lines().count()
}

#[test]
fn the_engines_own_mounts_go_where_they_belong() {
    let Some(t) = Test::start() else { return };
    let world = World::new(&t);
    let before = (settings(), mounts());
    // A slow machine takes a part of them, another one each time.
    let (count, first) = (rounds(LAYOUTS.len()).min(LAYOUTS.len()), std::process::id() as usize);
    let (mut images, mut wrong) = (Vec::new(), Vec::new());
    for step in 0..count {
        let number = (first + step) % LAYOUTS.len();
        let (script, flags, then) = LAYOUTS[number];
        let image = world.image(&t, number, script, flags);
        let flags: Vec<String> =
            flags.iter().filter(|flag| !flag.starts_with("VOLUME")).map(|flag| world.fill(flag)).collect();
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(flags.iter().map(String::as_str));
        args.extend([image.as_str(), "/bin/sh", "-c", SEARCH]);
        let out = t.cmd(args).run();
        if let Err(why) = judge(&out, then) {
            wrong.push(format!("layout {number}: {script} {flags:?}: {why}\n{}{}", out.stdout, out.stderr));
        }
        assert!(!out.stdout.contains(SECRET) && !out.stderr.contains(SECRET), "{script}: {out:?}");
        assert_eq!(
            fs::read_dir(&world.canary).unwrap().count(),
            1,
            "{script}: something is beside the canary"
        );
        assert_eq!(settings(), before.0, "{script}");
        images.push(image);
    }
    assert!(wrong.is_empty(), "{} of {count} layouts:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(fs::read_to_string(world.canary.join("secret")).unwrap(), SECRET);
    wait_until("the mount table is as before", || mounts() <= before.1);
    let mut args = vec!["rmi", "-f"];
    args.extend(images.iter().map(String::as_str));
    t.cmd(args).run().ok();
}

fn judge(out: &crate::harness::Output, then: Then) -> Result<(), String> {
    let refused = out.code == 125 && out.stderr.lines().count() == 1 && out.stderr.starts_with("rbox: ");
    let of = |word: &str| out.stdout.lines().filter(|line| line.starts_with(word)).collect::<Vec<_>>();
    let sys: &[&str] = if then == NoSys { &[] } else { &["SYS /sys"] };
    match then {
        Refused | Either if refused => Ok(()),
        Refused => Err(format!("not refused in one line, but {}", out.code)),
        _ if out.code != 0 => Err(format!("it does not run: {}", out.code)),
        _ if !of("BAD").is_empty() => Err("something is not covered".to_owned()),
        _ if of("PROC") != ["PROC /proc"] || of("SYS") != sys => Err("not in their places".to_owned()),
        _ => Ok(()),
    }
}
