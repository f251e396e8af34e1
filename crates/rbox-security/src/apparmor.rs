//! AppArmor: the profile that containers get where the kernel has it, and the change to a profile at execve.
//!
//! The kernel knows profiles by name and keeps them until it goes down. The default one is loaded by whoever finds it missing, with
//! `apparmor_parser`, which a host with AppArmor has: the kernel takes compiled profiles only.

use std::io;
use std::path::Path;
use std::process::Command;

use rbox_spec::Kind;
use rbox_sys::waiting::{self, Patience};
use rbox_sys::{SysError, told, trace};
use rustix::fs::{Mode, OFlags};

/// The name of the default profile.
pub const DEFAULT: &str = "rbox-default";
/// What switches it off.
pub const UNCONFINED: &str = "unconfined";
/// The default profile's text.
const PROFILE: &str = include_str!("../profiles/apparmor");

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const POLICY: &str = "/sys/kernel/security/apparmor";
const PARSERS: [&str; 2] = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"];
/// The file that a task changes its profile by; the second is that of Linux before 5.8, which other modules share.
const ON_EXEC: [&str; 2] = ["/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"];

/// Why a profile is not in force.
#[derive(Debug, thiserror::Error)]
pub enum AppArmorError {
    /// The kernel's list of profiles cannot be read.
    #[error("read the AppArmor profiles that are loaded ({POLICY}/profiles)")]
    List(#[source] io::Error),
    /// The parser could not be run.
    #[error("AppArmor enabled on system but the {DEFAULT} profile could not be loaded: run {parser}")]
    Run {
        /// Which.
        parser: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The parser refused the profile.
    #[error("AppArmor enabled on system but the {DEFAULT} profile could not be loaded: {parser}: {said}")]
    Refused {
        /// Which.
        parser: &'static str,
        /// Its last words.
        said: String,
    },
    /// The profile is not loaded.
    #[error(
        "unable to apply apparmor profile: apparmor failed to apply profile {0}: no such file or directory: load it with 'apparmor_parser -r FILE'"
    )]
    Absent(String),
    /// The kernel has no AppArmor.
    #[error("apparmor: config provided but apparmor not supported: profile {0}: this host has no AppArmor")]
    Off(String),
    /// The kernel refused the change.
    #[error("unable to apply apparmor profile: apparmor failed to apply profile {profile}: {source}")]
    Change {
        /// Which.
        profile: String,
        /// Why.
        source: SysError,
    },
}

impl AppArmorError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::List(source) | Self::Run { source, .. } => Kind::of_io(source),
            Self::Refused { .. } => Kind::Internal,
            Self::Absent(_) => Kind::NotFound,
            Self::Off(_) => Kind::Unsupported,
            Self::Change { source, .. } => Kind::of_errno(source.errno as i32),
        }
    }
}

/// Whether the kernel confines by AppArmor, and lets this process see how. Without AppArmor this is one file that is not there.
pub fn is_on() -> bool {
    rbox_sys::own::read(Path::new(ENABLED), 16).is_ok_and(|text| text.first() == Some(&b'Y'))
        && Path::new(POLICY).exists()
}

/// Whether the kernel has a profile of this name.
pub fn is_loaded(profile: &str) -> Result<bool, AppArmorError> {
    let list = Path::new(POLICY).join("profiles");
    let text = rbox_sys::own::read(&list, 4 << 20).map_err(AppArmorError::List)?;
    // A line each: `name (mode)`.
    let is_it =
        |line: &[u8]| line.strip_prefix(profile.as_bytes()).is_some_and(|rest| rest.starts_with(b" ("));
    Ok(text.split(|byte| *byte == b'\n').any(is_it))
}

/// The program that compiles and loads profiles, where the host has it.
pub fn parser() -> Option<&'static str> {
    PARSERS.into_iter().find(|parser| Path::new(parser).exists())
}

/// Has the kernel know the default profile. Whether it does: a host without the parser cannot load it.
pub fn ensure_default() -> Result<bool, AppArmorError> {
    if is_loaded(DEFAULT)? {
        return Ok(true);
    }
    let Some(parser) = parser() else { return Ok(false) };
    trace::step(
        "load the AppArmor profile",
        "The kernel keeps it: only the first container since the host came up finds it missing.",
        || {
            let mut command = Command::new(parser);
            // Another process that loads it too loads the same; the cache on disk is the host's own.
            command.env_clear().args(["--replace", "--skip-cache", "--quiet"]);
            let output = waiting::run(&mut command, PROFILE.as_bytes(), Patience::WORK)
                .map_err(|source| AppArmorError::Run { parser, source })?;
            if output.status.success() {
                return Ok(true);
            }
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it failed").trim();
            Err(AppArmorError::Refused { parser, said: said.chars().take(200).collect() })
        },
    )
}

/// From its next execve on this task, and what it makes before, is confined by `profile` (`apparmor(7)`, `aa_change_onexec(2)`).
/// The file is this process's own, and must be one of procfs: it is told a name there.
pub fn change_on_exec(profile: &str) -> Result<(), AppArmorError> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let failed = |source: SysError| AppArmorError::Change { profile: profile.to_owned(), source };
    if !Path::new(ENABLED).exists() {
        return Err(AppArmorError::Off(profile.to_owned()));
    }
    let path = ON_EXEC.into_iter().find(|path| Path::new(path).exists()).unwrap_or(ON_EXEC[0]);
    let file = told(
        "open",
        || format!("{}, O_WRONLY|O_CLOEXEC", trace::quoted(path)),
        || rustix::fs::open(path, OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()),
    )
    .map_err(failed)?;
    if !rustix::fs::fstatfs(&file).is_ok_and(|stat| stat.f_type == PROC_SUPER_MAGIC) {
        return Err(failed(SysError::new("open", trace::quoted(path), rustix::io::Errno::INVAL)));
    }
    let text = format!("exec {profile}");
    told(
        "write",
        || format!("{}, {}", trace::fd(&file), trace::quoted(&text)),
        || rustix::io::write(&file, text.as_bytes()),
    )
    .map(drop)
    .map_err(|error| {
        let is_absent = error.errno as i32 == rustix::io::Errno::NOENT.raw_os_error();
        if is_absent { AppArmorError::Absent(profile.to_owned()) } else { failed(error) }
    })
}
