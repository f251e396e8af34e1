//! A small disk of a test's own: ext4 in a file, whose power can be cut, or a file system with project quotas.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Test, has, poll, skipped};

/// Mounted for as long as it lives.
pub(crate) struct Disk {
    image: PathBuf,
    options: &'static str,
    /// Where it is mounted.
    pub(crate) at: PathBuf,
}

/// Has ext4 forget what is not in its journal on disk, as a power cut does: `EXT4_IOC_SHUTDOWN` with `NOLOGFLUSH`.
const SHUTDOWN: &str = "
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))
";

fn run(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

impl Disk {
    /// A new one of `megabytes`, made with these options of mkfs. None, having said why, when this host cannot.
    pub(crate) fn new(t: &Test, what: &str, megabytes: u64, options: &[&str]) -> Option<Self> {
        if !has("mkfs.ext4") || !has("python3") {
            skipped("needs mkfs.ext4 and python3");
            return None;
        }
        let dir = t.dir(what);
        let disk = Self { image: dir.join("image"), options: "loop", at: dir.join("at") };
        std::fs::create_dir(&disk.at).unwrap();
        std::fs::File::create(&disk.image).unwrap().set_len(megabytes << 20).unwrap();
        let mut args = vec!["-q", "-F", "-m", "0"];
        args.extend(options);
        let image = disk.image.to_string_lossy().into_owned();
        args.push(&image);
        assert!(run("mkfs.ext4", &args), "mkfs.ext4 {args:?}");
        if !disk.mount() {
            skipped("no loop device here");
            return None;
        }
        Some(disk)
    }

    /// One of `ext4` or `xfs` whose projects have limits. None, having said why, when this host cannot.
    pub(crate) fn with_project_quotas(t: &Test, kind: &'static str) -> Option<Self> {
        let make = format!("mkfs.{kind}");
        if !has(&make) || !has("repquota") {
            skipped(&format!("needs {make} and repquota"));
            return None;
        }
        let dir = t.dir(kind);
        let disk = Self { image: dir.join("image"), options: "loop,prjquota", at: dir.join("at") };
        std::fs::create_dir(&disk.at).unwrap();
        // xfs is not made any smaller.
        std::fs::File::create(&disk.image).unwrap().set_len(320 << 20).unwrap();
        let image = disk.image.to_string_lossy().into_owned();
        let options: &[&str] = if kind == "ext4" { &["-q", "-O", "project,quota"] } else { &["-q"] };
        assert!(run(&make, &[options, &[&image]].concat()), "{make} {options:?}");
        if !disk.mount() {
            skipped(&format!("this kernel has no project quotas of {kind}"));
            return None;
        }
        Some(disk)
    }

    fn mount(&self) -> bool {
        run("mount", &["-o", self.options, &self.image.to_string_lossy(), &self.at.to_string_lossy()])
    }

    /// The power goes: nothing more is written.
    pub(crate) fn cut(&self) {
        assert!(run("python3", &["-c", SHUTDOWN, &self.at.to_string_lossy()]), "the power cannot be cut");
    }

    /// The power comes back. Whoever used the disk has to be gone.
    pub(crate) fn boot(&self) {
        let at = self.at.to_string_lossy();
        assert!(poll(Duration::from_secs(20), || run("umount", &[&at])), "umount {at}");
        assert!(self.mount(), "mount it again");
    }

    /// Takes all that is free: bytes, or inodes.
    pub(crate) fn fill(&self, inodes: bool) {
        let dir = self.at.join("filler");
        std::fs::create_dir(&dir).unwrap();
        for number in 0.. {
            let path = dir.join(number.to_string());
            let Ok(mut file) = std::fs::File::create(path) else { return };
            if !inodes {
                // The big blocks first, then whatever is left.
                let zeros = vec![0_u8; 1 << 20];
                while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
                while std::io::Write::write(&mut file, &zeros[..512]).is_ok_and(|n| n > 0) {}
                let _ = file.sync_all();
                return;
            }
        }
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        std::fs::remove_dir_all(self.at.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", &self.at.to_string_lossy()]);
        let _ = std::fs::remove_file(&self.image);
    }
}
