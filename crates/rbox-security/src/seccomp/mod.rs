//! The seccomp filter: Docker's default profile and profiles in its format, compiled and installed.
//!
//! The default profile with the default capabilities is compiled when rbox is built and costs a start nothing;
//! others are compiled by the parent, in under a millisecond. The compiler is our own: seccompiler cannot say all
//! a profile says, libseccomp is C under the LGPL. That its verdicts are libseccomp's is a test
//! (tests/libseccomp.rs).

mod compiler;
mod verdict;

use crate::DEFAULT_CAPABILITIES;
use compiler::arch::Arch;
use compiler::profile::Document;
pub use compiler::{CompileError, Context, arch, compile, compile_keeping_projects, profile};
use rbox_spec::{CapSet, Kind};
use rbox_sys::SysError;
use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The default profile, as it is.
pub const DEFAULT_PROFILE: &str = include_str!("../../profiles/default.json");
/// The most a profile file may have, bytes. Docker's is 17,000.
const MAX_PROFILE_BYTES: u64 = 1 << 20;

/// The default profile for [`DEFAULT_CAPABILITIES`], compiled by build.rs.
const DEFAULT_PROGRAM: &[u64] = include!(concat!(env!("OUT_DIR"), "/default_filter.rs"));

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The file could not be read.
    #[error("opening seccomp profile ({}) failed", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no profile.
    #[error("seccomp profile {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: CompileError,
    },
    /// The profile cannot become a filter.
    #[error("seccomp profile")]
    Compile(#[from] CompileError),
    /// A kernel that does not tell its version.
    #[error("cannot read the kernel's version in {0:?}")]
    Kernel(String),
    /// An architecture without tables here.
    #[error("seccomp filters for {} are not supported", std::env::consts::ARCH)]
    Arch,
}

impl SeccompError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::File { source, .. } | Self::Compile(source) => source.kind(),
            Self::Kernel(_) | Self::Arch => Kind::Unsupported,
        }
    }
}

/// What `--security-opt seccomp=` names.
#[derive(Clone, Debug, Default)]
pub enum Profile {
    /// `builtin`, and what holds when the option is absent.
    #[default]
    Default,
    /// `unconfined`: no filter.
    Unconfined,
    /// A file's.
    Custom(Box<Document>),
}

impl Profile {
    /// The value of the option: `unconfined`, `builtin` or a file.
    pub fn from_option(value: &str) -> Result<Self, SeccompError> {
        match value {
            "unconfined" => Ok(Self::Unconfined),
            "builtin" => Ok(Self::Default),
            path => Self::read(Path::new(path)),
        }
    }

    /// Reads a profile file; a file that could not become a filter for anyone is refused here.
    pub fn read(path: &Path) -> Result<Self, SeccompError> {
        let failed = |source| SeccompError::Read { path: path.to_owned(), source };
        let mut json = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_PROFILE_BYTES + 1).read_to_end(&mut json).map_err(failed)?;
        Self::parse(&json).map_err(|source| SeccompError::File { path: path.to_owned(), source })
    }

    /// A profile from its text, as a container's record keeps it.
    pub fn parse(json: &[u8]) -> Result<Self, CompileError> {
        if json.len() as u64 > MAX_PROFILE_BYTES {
            return Err(CompileError::Profile(format!("it is larger than {MAX_PROFILE_BYTES} bytes")));
        }
        let document = Document::parse(json)?;
        if let Some(native) = native() {
            // Whatever the container will be, each rule is looked at.
            compile(&document, Context { capabilities: CapSet::EMPTY, kernel: (u32::MAX, 0), native })?;
        }
        Ok(Self::Custom(Box::new(document)))
    }
}

/// A program for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Cow<'static, [u64]>);

impl Filter {
    /// The default profile for the default capabilities.
    pub const DEFAULT: Self = Self(Cow::Borrowed(DEFAULT_PROGRAM));

    /// Its instructions, a word for each `struct sock_filter`.
    pub fn instructions(&self) -> &[u64] {
        &self.0
    }

    /// Whether it lets the call `name` with these arguments (the rest of them 0) through.
    pub fn lets_through(&self, name: &str, args: &[u64]) -> bool {
        native().is_some_and(|arch| {
            arch.number(name).is_some_and(|nr| verdict::lets_through(&self.0, arch, nr, args))
        })
    }

    /// Puts it over this thread and all it will start. See the crate's documentation for when.
    pub fn install(&self) -> Result<(), SysError> {
        rbox_sys::seccomp::install(&self.0)
    }
}

/// The filter of a container with `capabilities` as its bounding set; `None` for an unconfined one.
/// For `exec` too: `--privileged` there has no filter.
pub fn filter_for(profile: &Profile, capabilities: CapSet) -> Result<Option<Filter>, SeccompError> {
    match profile {
        Profile::Default if capabilities == DEFAULT_CAPABILITIES => Ok(Some(Filter::DEFAULT)),
        _ => compiled(profile, capabilities, compile),
    }
}

/// The same for a container whose layer has a limit by the project that it belongs to (`--storage-opt size`): no file can be given to
/// another.
pub fn filter_keeping_projects(
    profile: &Profile,
    capabilities: CapSet,
) -> Result<Option<Filter>, SeccompError> {
    compiled(profile, capabilities, compile_keeping_projects)
}

fn compiled(
    profile: &Profile,
    capabilities: CapSet,
    compile: fn(&Document, Context) -> Result<Vec<u64>, CompileError>,
) -> Result<Option<Filter>, SeccompError> {
    let parsed;
    let document = match profile {
        Profile::Unconfined => return Ok(None),
        Profile::Default => {
            parsed = Document::parse(DEFAULT_PROFILE.as_bytes())?;
            &parsed
        }
        Profile::Custom(document) => document,
    };
    let context = Context { capabilities, kernel: kernel()?, native: native().ok_or(SeccompError::Arch)? };
    Ok(Some(Filter(Cow::Owned(compile(document, context)?))))
}

fn native() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::X86_64),
        "aarch64" => Some(Arch::Aarch64),
        _ => None,
    }
}

/// Major and minor of the running kernel.
fn kernel() -> Result<(u32, u32), SeccompError> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next().and_then(|part| part.parse().ok());
    next().zip(next()).ok_or_else(|| SeccompError::Kernel(release.clone().into_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_asked_about_calls_and_their_arguments() {
        let filter = Filter::DEFAULT;
        assert!(filter.lets_through("sendmsg", &[]) && filter.lets_through("clone", &[0x9011]));
        // A new user namespace; the call whose flags cannot be seen; one that does not exist.
        assert!(!filter.lets_through("clone", &[0x1000_0000]));
        assert!(!filter.lets_through("clone3", &[]) && !filter.lets_through("no_such_call", &[]));
    }

    #[test]
    fn projects_of_files_stay() {
        let all = Profile::parse(br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
        let some = br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 21505, "op": "SCMP_CMP_EQ"}]},
            {"names": ["file_setattr"], "action": "SCMP_ACT_ALLOW"}]}"#;
        let some = Profile::parse(some).unwrap();
        for (profile, others) in [(&Profile::Default, true), (&all, true), (&some, false)] {
            let before = filter_for(profile, DEFAULT_CAPABILITIES).unwrap().unwrap();
            let filter = filter_keeping_projects(profile, DEFAULT_CAPABILITIES).unwrap().unwrap();
            let ioctl = |number: u64| filter.lets_through("ioctl", &[3, number]);
            for number in [0x401c_5820, 0x1_401c_5820, 0x4008_6602, 0xffff_ffff_4004_6602] {
                assert!(!ioctl(number), "{number:#x} {profile:?}");
                assert_eq!(before.lets_through("ioctl", &[3, number]), others);
            }
            // TCGETS; FS_IOC_FSGETXATTR.
            assert!(ioctl(0x5401) && ioctl(0x801c_581f) == others);
            assert!(!filter.lets_through("file_setattr", &[]));
            assert_eq!(filter.lets_through("write", &[1]), before.lets_through("write", &[1]));
        }
        assert!(filter_keeping_projects(&Profile::Unconfined, DEFAULT_CAPABILITIES).unwrap().is_none());
    }
}
