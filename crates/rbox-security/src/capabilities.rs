//! Taking capabilities away in the child. See capabilities(7), "Transformation of capabilities during `execve()`".

use caps::CapSet as Kind;
use rbox_spec::{CapSet, Capability};
use rbox_sys::SysError;
use rbox_sys::error::{RawErrno, told};
use rbox_sys::trace;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::fmt;

/// What the caps crate says, with the errno it only has as text.
struct CapsFailure(caps::errors::CapsError, RawErrno);

impl fmt::Display for CapsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<CapsFailure> for RawErrno {
    fn from(failure: CapsFailure) -> Self {
        failure.1
    }
}

/// The errno of a prctl that just failed: the caps crate keeps it as words, and the only ones `PR_CAPBSET_DROP` and
/// `PR_CAP_AMBIENT` have are EPERM and EINVAL (prctl(2)).
fn failure(error: caps::errors::CapsError) -> CapsFailure {
    let invalid = error.to_string().contains("os error 22");
    let errno = if invalid { rustix::io::Errno::INVAL } else { rustix::io::Errno::PERM };
    CapsFailure(error, errno.into())
}

/// What this process could hand on: the permitted set. A container gets no more, also a privileged one.
pub fn available() -> Result<CapSet, SysError> {
    let sets = told("capget", String::new, || rustix::thread::capabilities(None).map(|sets| Sets(sets, ())))?;
    Ok(CapSet::from_bits(sets.0.permitted.bits()))
}

struct Sets(CapabilitySets, ());

impl trace::Returned for Sets {
    fn returned(&self) -> String {
        format!("{:#x}", self.0.permitted.bits())
    }
}

/// Lets what this thread makes in file systems belong to these, while it may still do all that it could: with another user the kernel
/// takes what root may do with files out of the effective set. Only for threads and processes that end with this.
pub fn act_as(uid: u32, gid: u32) -> Result<(), SysError> {
    let (root, user) = (rustix::process::Uid::ROOT, rustix::process::Uid::from_raw(uid));
    let (roots, group) = (rustix::process::Gid::ROOT, rustix::process::Gid::from_raw(gid));
    let of = |id: u32| move || format!("0, {id}, 0");
    told("setresgid", of(gid), || rustix::thread::set_thread_res_gid(roots, group, roots))?;
    told("setresuid", of(uid), || rustix::thread::set_thread_res_uid(root, user, root))?;
    told(
        "capset",
        || "effective=permitted".into(),
        || {
            let mut sets = rustix::thread::capabilities(None)?;
            sets.effective = sets.permitted;
            rustix::thread::set_capabilities(None, sets)
        },
    )
}

/// Drops everything but `keep` from the bounding set, so that no execve gives it back, and empties the ambient
/// set. Capabilities of a kernel newer than this build go too. Needs `CAP_SETPCAP`.
///
/// Some 30 prctl calls, 5 µs in all.
pub fn drop_bounding(keep: CapSet) -> Result<(), SysError> {
    told(
        "prctl",
        || "PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL".into(),
        || caps::clear(None, Kind::Ambient).map_err(failure),
    )?;
    // Dropping what a kernel does not know fails with EINVAL: capabilities are numbered without gaps, so the first
    // such number is the end.
    let mut known = true;
    for cap in CapSet::ALL.difference(keep).iter() {
        if !drop_known(cap)? {
            known = false;
            break;
        }
    }
    if known && keep != CapSet::ALL {
        drop_unnamed()?;
    }
    Ok(())
}

/// `false`: this kernel does not have `cap`.
fn drop_known(cap: Capability) -> Result<bool, SysError> {
    let Some(named) = caps_name(cap) else { return Ok(true) };
    let dropped = told(
        "prctl",
        || format!("PR_CAPBSET_DROP, {cap}"),
        || caps::drop(None, Kind::Bounding, named).map_err(failure),
    );
    match dropped {
        Ok(()) => Ok(true),
        Err(error) if error.errno as i32 == rustix::io::Errno::INVAL.raw_os_error() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Numbers after the last this build has a name for.
fn drop_unnamed() -> Result<(), SysError> {
    for number in Capability::ALL.len()..64 {
        let set = CapabilitySet::from_bits_retain(1 << number);
        match told(
            "prctl",
            || format!("PR_CAPBSET_DROP, {number}"),
            || rustix::thread::remove_capability_from_bounding_set(set),
        ) {
            Ok(()) => {}
            Err(error) if error.errno as i32 == rustix::io::Errno::INVAL.raw_os_error() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn caps_name(cap: Capability) -> Option<caps::Capability> {
    // The crate's enum has the kernel's numbers.
    CAPS.get(cap as usize).copied()
}

/// The caps crate's names in the kernel's order; a test holds each against its number.
const CAPS: [caps::Capability; 41] = [
    caps::Capability::CAP_CHOWN,
    caps::Capability::CAP_DAC_OVERRIDE,
    caps::Capability::CAP_DAC_READ_SEARCH,
    caps::Capability::CAP_FOWNER,
    caps::Capability::CAP_FSETID,
    caps::Capability::CAP_KILL,
    caps::Capability::CAP_SETGID,
    caps::Capability::CAP_SETUID,
    caps::Capability::CAP_SETPCAP,
    caps::Capability::CAP_LINUX_IMMUTABLE,
    caps::Capability::CAP_NET_BIND_SERVICE,
    caps::Capability::CAP_NET_BROADCAST,
    caps::Capability::CAP_NET_ADMIN,
    caps::Capability::CAP_NET_RAW,
    caps::Capability::CAP_IPC_LOCK,
    caps::Capability::CAP_IPC_OWNER,
    caps::Capability::CAP_SYS_MODULE,
    caps::Capability::CAP_SYS_RAWIO,
    caps::Capability::CAP_SYS_CHROOT,
    caps::Capability::CAP_SYS_PTRACE,
    caps::Capability::CAP_SYS_PACCT,
    caps::Capability::CAP_SYS_ADMIN,
    caps::Capability::CAP_SYS_BOOT,
    caps::Capability::CAP_SYS_NICE,
    caps::Capability::CAP_SYS_RESOURCE,
    caps::Capability::CAP_SYS_TIME,
    caps::Capability::CAP_SYS_TTY_CONFIG,
    caps::Capability::CAP_MKNOD,
    caps::Capability::CAP_LEASE,
    caps::Capability::CAP_AUDIT_WRITE,
    caps::Capability::CAP_AUDIT_CONTROL,
    caps::Capability::CAP_SETFCAP,
    caps::Capability::CAP_MAC_OVERRIDE,
    caps::Capability::CAP_MAC_ADMIN,
    caps::Capability::CAP_SYSLOG,
    caps::Capability::CAP_WAKE_ALARM,
    caps::Capability::CAP_BLOCK_SUSPEND,
    caps::Capability::CAP_AUDIT_READ,
    caps::Capability::CAP_PERFMON,
    caps::Capability::CAP_BPF,
    caps::Capability::CAP_CHECKPOINT_RESTORE,
];

/// The sets the process keeps: permitted and effective are `set` for root and empty for everyone else,
/// inheritable is empty (capset(2)). Call after setuid(2).
pub fn apply(set: CapSet, uid: u32) -> Result<(), SysError> {
    let held = CapabilitySet::from_bits_retain(if uid == 0 { set.bits() } else { 0 });
    let sets = CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
    told(
        "capset",
        || format!("{{effective={0:#x}, permitted={0:#x}, inheritable=0}}", held.bits()),
        || rustix::thread::set_capabilities(None, sets),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_enums_have_the_same_numbers() {
        assert_eq!(CAPS.len(), Capability::ALL.len());
        for cap in Capability::ALL {
            let other = CAPS[*cap as usize];
            assert_eq!((usize::from(other.index()), other.to_string().as_str()), (*cap as usize, cap.name()));
        }
    }
}
