//! What is mounted in a container, and what of it is covered.
//!
//! The engine's own file systems (/proc, /sys, /dev and those in them) go to directories that no link leads to, below the
//! descriptor of the mount they are in, and are used through the descriptor of the mount that was made. So an image cannot
//! lead them elsewhere, and a mask is in the procfs that the program sees. What the user mounts may follow the image's
//! links, but not onto these.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rbox_rootfs::{dev, hide, tree};
use rbox_sys::file::{make_device, make_dir, open_beneath, open_in_root};
use rbox_sys::mount::{Attr, Param, attach, clone_tree, id_of, new_mount, set_attributes};
use rbox_sys::{SysError, trace};
use rustix::fs::{FileType, OFlags};
use rustix::mount::MountPropagationFlags;

use crate::copies::{Copies, FileCopy};
use crate::credentials::StepError;
use crate::own_user::HERE;
use crate::plan::{PreparedMount, Source, texts};
use crate::streams::{null_of, open_null, own_null};

/// Files of procfs that may have another file mounted on them: each tells of the machine's size and load, and lxcfs has them
/// for a container. runc permits the same.
pub const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// A container's mounts: those to come, and the engine's own that were made.
pub(crate) struct Mounts<'a> {
    root: BorrowedFd<'a>,
    /// The directory of the host that the root is attached on.
    stage: &'a Path,
    planned: Vec<PreparedMount>,
    made: Vec<Made>,
    /// The null device of our own /dev, taken before anything could be mounted on it.
    null: Option<OwnedFd>,
    /// A file system with a null device, for a container that cannot make one.
    spare: Option<OwnedFd>,
    /// A null device for streams that was opened when it was made, where no other can be.
    stream_null: Option<OwnedFd>,
    /// Where copies of files are made, once there was one.
    copies: Option<Copies>,
}

/// A file system that was made here.
struct Made {
    kind: &'static str,
    target: PathBuf,
    mount: OwnedFd,
}

impl<'a> Mounts<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>, stage: &'a Path, planned: Vec<PreparedMount>) -> Self {
        Self {
            root,
            stage,
            planned,
            made: Vec::with_capacity(8),
            null: None,
            spare: None,
            stream_null: None,
            copies: None,
        }
    }

    /// Our own procfs: by this, never by the name /proc, are sysctls and settings written.
    pub(crate) fn proc(&self) -> Option<BorrowedFd<'_>> {
        self.of_kind("proc", "/proc")
    }

    /// Our own /dev.
    pub(crate) fn dev(&self) -> Option<BorrowedFd<'_>> {
        self.of_kind("tmpfs", "/dev")
    }

    /// A null device for streams: that of our own /dev, else one that nobody else has.
    pub(crate) fn null(&mut self) -> Result<OwnedFd, StepError> {
        let spare = self.stream_null.take();
        let other = || spare.map_or_else(own_null, Ok);
        match self.dev() {
            Some(dev) => open_null(dev, Path::new("null"), other),
            None => other(),
        }
    }

    fn of_kind(&self, kind: &str, target: &str) -> Option<BorrowedFd<'_>> {
        let found = |made: &&Made| made.kind == kind && made.target == Path::new(target);
        self.made.iter().find(found).map(|made| made.mount.as_fd())
    }

    /// The mount of ours that `path` is in, else the root; and the path below that.
    fn within(&self, path: &Path) -> (BorrowedFd<'_>, PathBuf) {
        let holder = self.made.iter().filter(|made| path.starts_with(&made.target));
        let (base, above) = holder
            .max_by_key(|made| made.target.as_os_str().len())
            .map_or((self.root, Path::new("/")), |made| (made.mount.as_fd(), made.target.as_path()));
        let below = path.strip_prefix(above).unwrap_or(path);
        (base, if below.as_os_str().is_empty() { ".".into() } else { below.to_owned() })
    }

    /// Takes the sources of shared mounts anew, in this namespace: what the parent opened has the host's peers, but once
    /// this namespace has parted from the host nothing taken here would.
    pub(crate) fn keep_peers(&mut self) -> Result<(), StepError> {
        for mount in &mut self.planned {
            if let Source::Tree { tree, bind } = &mut mount.source
                && bind.shared
            {
                *tree = bind.open_again()?;
            }
        }
        Ok(())
    }

    pub(crate) fn mount_all(&mut self) -> Result<(), StepError> {
        for PreparedMount { target, source } in std::mem::take(&mut self.planned) {
            let source = match source {
                Source::Spare(mount) => {
                    self.stream_null = Some(null_of(&mount)?);
                    self.spare = Some(mount);
                    continue;
                }
                other => other,
            };
            let (name, why) = story(&target, &source);
            trace::step(name, why, || self.mount_one(&target, source)).map_err(|mut error| {
                let shown = target.display().to_string();
                if !error.message.contains(&shown) {
                    error.message = format!("{shown}: {}", error.message);
                }
                error
            })?;
        }
        Ok(())
    }

    fn mount_one(&mut self, target: &Path, source: Source) -> Result<(), StepError> {
        match source {
            Source::Fresh { kind, params, attr } => self.mount_fresh(target, kind, &params, attr),
            Source::Tree { tree, bind } => {
                let place = self.place_of_users(target, bind.is_dir)?;
                match attach(&tree, &place) {
                    // A file of a mount namespace is mounted below the source. This namespace has none, so a copy made
                    // here goes without, as with mount(2).
                    Err(error) if error.errno == Errno::ELOOP => Ok(attach(bind.open_again()?, &place)?),
                    other => Ok(other?),
                }
            }
            Source::Dev(mount) => {
                self.null = Some(open_beneath(&mount, Path::new("null"), OFlags::PATH, 0)?);
                self.stream_null = Some(null_of(&mount)?);
                self.attach_own(target, "tmpfs", mount)
            }
            Source::Spare(_) => Ok(()),
            Source::Given(mount) => {
                let is_dir = kind_of(&mount)?.is_dir();
                Ok(attach(mount, self.place_of_users(target, is_dir)?)?)
            }
            Source::Copy(copy) => {
                let place = self.place_of_users(target, false)?;
                Ok(attach(self.copy(&copy)?, place)?)
            }
            Source::CgroupsV1(groups) => self.mount_groups(target, &groups),
        }
    }

    fn mount_fresh(
        &mut self,
        target: &Path,
        kind: &'static str,
        params: &[(String, String)],
        attr: Attr,
    ) -> Result<(), StepError> {
        let mount = new_mount(kind, &texts(params), attr)?;
        if kind == "tmpfs" && ![Path::new("/dev"), Path::new("/dev/shm")].contains(&target) {
            let place = self.place_of_users(target, true)?;
            return Ok(attach(&mount, place)?);
        }
        if target == Path::new("/dev") {
            dev::populate(mount.as_fd())?;
            self.null = Some(open_beneath(&mount, Path::new("null"), OFlags::PATH, 0)?);
        }
        self.attach_own(target, kind, mount)
    }

    fn attach_own(&mut self, target: &Path, kind: &'static str, mount: OwnedFd) -> Result<(), StepError> {
        let (base, below) = self.within(target);
        attach(&mount, tree::plain_directory(base, &below, target, kind)?)?;
        self.made.push(Made { kind, target: target.to_owned(), mount });
        Ok(())
    }

    /// The place of something the user mounts. The image's links are followed, but not to procfs, nor to /sys itself:
    /// what is seen there would not be what was masked.
    fn place_of_users(&self, target: &Path, is_dir: bool) -> Result<OwnedFd, StepError> {
        let place = tree::mount_target(self.root, target, is_dir)?;
        let refused = |what: &str| {
            Err(StepError::new(format!(
                "{} leads to {what} inside the container, where nothing can be mounted",
                target.display()
            )))
        };
        if let Some(proc) = self.proc()
            && id_of(&place)? == id_of(proc)?
            && !PROC_FILES.iter().any(|file| target == Path::new(file))
        {
            return refused("/proc");
        }
        if let Some(sys) = self.of_kind("sysfs", "/sys")
            && id_of(&place)? == id_of(sys)?
            && inode(&place)? == inode(sys)?
        {
            return refused("/sys");
        }
        Ok(place)
    }

    /// The layout of a v1 host: a small tmpfs with a directory a controller, each the container's own group.
    fn mount_groups(&mut self, target: &Path, groups: &[(String, PathBuf)]) -> Result<(), StepError> {
        let attr = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
        let sealed = |mount: &OwnedFd, propagation| {
            set_attributes(mount, attr | Attr::MOUNT_ATTR_RDONLY, Attr::empty(), propagation, false)
        };
        let top = new_mount("tmpfs", &[Param::Text("mode", "755"), Param::Text("size", "64k")], attr)?;
        let (base, below) = self.within(target);
        attach(&top, tree::plain_directory(base, &below, target, "cgroup")?)?;
        for (names, directory) in groups {
            let copy = clone_tree(rustix::fs::CWD, directory, false)?;
            sealed(&copy, MountPropagationFlags::PRIVATE)?;
            make_dir(&top, Path::new(names), 0o755)?;
            attach(copy, open_beneath(&top, Path::new(names), OFlags::PATH | OFlags::DIRECTORY, 0)?)?;
        }
        Ok(sealed(&top, MountPropagationFlags::empty())?)
    }

    /// A devpts to take a terminal from, and whether it is attached: our own, else the one that the user has put at
    /// /dev/pts, else one that nobody sees.
    pub(crate) fn terminals(&self) -> Result<(OwnedFd, bool), StepError> {
        const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
        if let Some(own) = self.of_kind("devpts", "/dev/pts") {
            let copy = rustix::io::fcntl_dupfd_cloexec(own, 3)
                .map_err(|e| SysError::new("fcntl", trace::fd(own), e))?;
            return Ok((copy, true));
        }
        let there = open_in_root(self.root, Path::new("/dev/pts"), OFlags::PATH | OFlags::DIRECTORY, 0);
        let is_devpts =
            |fd: &OwnedFd| rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type == DEVPTS_SUPER_MAGIC);
        if let Some(there) = there.ok().filter(is_devpts) {
            return Ok((there, true));
        }
        let params =
            [Param::Flag("newinstance"), Param::Text("ptmxmode", "0666"), Param::Text("mode", "0620")];
        Ok((new_mount("devpts", &params, Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC)?, false))
    }

    /// Where the terminal is mounted as /dev/console, made in a /dev of our own; a /dev of the user's may have none.
    pub(crate) fn console_place(&self) -> Result<Option<OwnedFd>, StepError> {
        let Some(dev) = self.dev() else {
            let there = open_in_root(self.root, Path::new("/dev/console"), OFlags::PATH, 0).ok();
            return Ok(there.filter(|fd| kind_of(fd).is_ok_and(|kind| !kind.is_dir())));
        };
        let name = Path::new("console");
        match open_beneath(dev, name, OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY, 0o600) {
            Err(error) if error.errno != Errno::EEXIST => return Err(error.into()),
            _ => {}
        }
        let place = open_beneath(dev, name, OFlags::PATH, 0)?;
        if kind_of(&place)?.is_dir() {
            return Err(StepError::new(
                "/dev/console is a directory inside the container, by a volume or mount, where the terminal belongs (run without -t)",
            ));
        }
        Ok(Some(place))
    }

    /// Makes paths read-only and masks others.
    pub(crate) fn cover(&mut self, read_only: &[String], masked: &[String]) -> Result<(), StepError> {
        for path in read_only {
            let shown = Path::new(path);
            let (base, below) = self.within(shown);
            hide::make_read_only(hide::Place { base, below: &below, shown })?;
        }
        if masked.is_empty() {
            return Ok(());
        }
        if self.null.is_none() {
            self.null = Some(self.null_out_of_sight()?);
        }
        let Some(null) = self.null.as_ref().filter(|null| dev::is_null(null.as_fd())) else {
            return Err(StepError::new("the device for masks is not the null device"));
        };
        for path in masked {
            let shown = Path::new(path);
            let (base, below) = self.within(shown);
            hide::mask(hide::Place { base, below: &below, shown }, null.as_fd())?;
        }
        Ok(())
    }

    /// A mount of a file that the caller gives as a copy.
    fn copy(&mut self, copy: &FileCopy) -> Result<OwnedFd, StepError> {
        let mut copies = match self.copies.take() {
            Some(copies) => copies,
            None => Copies::out_of_sight(self.out_of_sight()?.as_fd())?,
        };
        let made = copies.make(copy);
        self.copies = Some(copies);
        made
    }

    /// A directory for what is to be copied from: a copy can be made only of what is attached somewhere. It is above the
    /// stage, in the part of this namespace that goes with `pivot root`.
    fn out_of_sight(&self) -> Result<OwnedFd, SysError> {
        let above = match self.stage.parent() {
            _ if self.stage == Path::new(HERE) => Path::new(".."),
            above => above.unwrap_or(Path::new("/")),
        };
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(above, how, rustix::fs::Mode::empty())
            .map_err(|errno| SysError::new("open", trace::quoted(above), errno))
    }

    /// A null device for masks where /dev is the user's.
    fn null_out_of_sight(&mut self) -> Result<OwnedFd, StepError> {
        let place = self.out_of_sight()?;
        let mount = if let Some(spare) = self.spare.take() {
            spare
        } else {
            let mount = new_mount("tmpfs", &[], Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC)?;
            make_device(&mount, "null", 0o666, false, 1, 3)?;
            mount
        };
        attach(&mount, place)?;
        Ok(open_beneath(&mount, Path::new("null"), OFlags::PATH, 0)?)
    }
}

pub(crate) fn kind_of(fd: &OwnedFd) -> Result<FileType, SysError> {
    let stat = rustix::fs::fstat(fd).map_err(|e| SysError::new("fstat", trace::fd(fd), e))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn inode(fd: impl AsFd) -> Result<u64, SysError> {
    let fd = fd.as_fd();
    Ok(rustix::fs::fstat(fd).map_err(|e| SysError::new("fstat", trace::fd(fd), e))?.st_ino)
}

/// How a mount is shown: name and why.
fn story(target: &Path, source: &Source) -> (&'static str, &'static str) {
    match source {
        Source::Fresh { kind, .. } => match (*kind, target.to_str()) {
            ("proc", _) => {
                ("mount proc", "It shows the processes of the PID namespace of whoever mounts it: ours.")
            }
            ("sysfs", _) => ("mount sysfs", "It shows the links of our own network namespace; read-only."),
            ("devpts", _) => ("mount devpts", "Terminals of its own, numbered from 0."),
            ("mqueue", _) => ("mount mqueue", "POSIX message queues of our own IPC namespace."),
            ("cgroup2", _) => ("mount cgroup2", "It shows our own group as the root; read-only."),
            ("tmpfs", Some("/dev")) => {
                ("mount /dev", "A small memory file system with a few harmless devices.")
            }
            ("tmpfs", Some("/dev/shm")) => ("mount /dev/shm", "POSIX shared memory, limited by --shm-size."),
            _ => ("mount tmpfs", "Memory, as asked for."),
        },
        Source::Tree { .. } => ("bind mount", "A file or directory of the host, or a volume, seen inside."),
        Source::Copy(_) => {
            ("copy a file", "A file that is given, such as a secret: in memory, and read-only.")
        }
        Source::Dev(_) => ("mount /dev", "Made before, as nobody makes devices in a user namespace."),
        Source::Spare(_) => ("keep a null device", "For masks."),
        Source::Given(_) if target == Path::new("/dev/shm") => {
            ("bind mount", "What belongs to the namespace that is shared.")
        }
        Source::Given(_) => ("mount an image", "Its layers, stacked outside, read-only."),
        Source::CgroupsV1(_) => ("mount control groups", "Our own groups of each v1 controller; read-only."),
    }
}
