//! Installing a seccomp filter (seccomp(2)). What is in the filter is rbox-security's business.

use nix::errno::Errno;

use crate::error::{SysError, told};

/// The kernel's bound on a filter's length (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;

// A filter's words are `struct sock_filter` (code:16, jt:8, jf:8, k:32) only in this byte order.
const _: () = assert!(cfg!(target_endian = "little"));

/// Puts `program` over this thread and all it will start; there is no way back. Each word is one
/// `struct sock_filter`: code in bits 0-15, jt in 16-23, jf in 24-31, k in 32-63.
///
/// Needs `no_new_privs` or `CAP_SYS_ADMIN` in the user namespace. No flags: speculation stays mitigated as the
/// kernel chooses, nothing is logged.
pub fn install(program: &[u64]) -> Result<(), SysError> {
    let shown = || format!("SECCOMP_SET_MODE_FILTER, 0, {{{} instructions}}", program.len());
    let Some(len) =
        u16::try_from(program.len()).ok().filter(|len| (1..=MAX_INSTRUCTIONS).contains(&usize::from(*len)))
    else {
        return Err(SysError::new("seccomp", shown(), Errno::EINVAL));
    };
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    told("seccomp", shown, || {
        // SAFETY: `filter` points at `len` words of 8 bytes, each laid out as sock_filter (checked above to be
        // little-endian) and aligned more strictly than it; the kernel copies and verifies them and writes nothing.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
        if result == 0 { Ok(()) } else { Err(Errno::last()) }
    })
}

/// A call to see what a filter says to it. Each is harmless also where it is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Named as the calls.
pub enum Probe {
    Mount,
    Unshare,
    Setns,
    Keyctl,
    IoUringSetup,
    Userfaultfd,
    Bpf,
    /// Into a new user namespace.
    Clone,
    Clone3,
    /// With this persona. 0xffffffff only asks.
    Personality(u32),
    /// Of this address family, as wide as the register it is passed in.
    Socket(u64),
    /// A number no kernel has.
    Number1000,
}

/// Makes the call, for tests that run under a filter.
pub fn probe(call: Probe) -> Result<(), Errno> {
    let (number, args): (libc::c_long, [u64; 2]) = match call {
        Probe::Mount => (libc::SYS_mount, [0, 0]),
        Probe::Unshare => (libc::SYS_unshare, [libc::CLONE_NEWUTS as u64, 0]),
        Probe::Setns => (libc::SYS_setns, [u64::from(u32::MAX), 0]),
        Probe::Keyctl => (libc::SYS_keyctl, [u64::from(u32::MAX), 0]),
        Probe::IoUringSetup => (libc::SYS_io_uring_setup, [1, 0]),
        Probe::Userfaultfd => (libc::SYS_userfaultfd, [u64::from(u32::MAX), 0]),
        Probe::Bpf => (libc::SYS_bpf, [u64::from(u32::MAX), 0]),
        Probe::Clone => (libc::SYS_clone, [libc::CLONE_NEWUSER as u64 | libc::SIGCHLD as u64, 0]),
        Probe::Clone3 => (libc::SYS_clone3, [0, 0]),
        Probe::Personality(persona) => (libc::SYS_personality, [u64::from(persona), 0]),
        Probe::Socket(family) => (libc::SYS_socket, [family, 1]),
        Probe::Number1000 => (1000, [0, 0]),
    };
    // SAFETY: every argument that is a pointer is null, which the kernel answers with EFAULT; the others are
    // integers. None of the calls touches this process's memory. The copy that clone makes, if a filter lets it,
    // ends at once below without running anything else.
    let result = unsafe { libc::syscall(number, args[0], args[1], 0, 0, 0) };
    if call == Probe::Clone && result == 0 {
        // SAFETY: _exit runs no handlers and touches no memory.
        unsafe { libc::_exit(0) }
    }
    if result >= 0 && matches!(call, Probe::Socket(_)) {
        // SAFETY: the descriptor is new and nobody else's.
        drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(result as i32) });
    }
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_kernel_could_not_take() {
        assert_eq!(install(&[]).map_err(|e| e.errno), Err(Errno::EINVAL));
        assert_eq!(install(&vec![0; MAX_INSTRUCTIONS + 1]).map_err(|e| e.errno), Err(Errno::EINVAL));
    }
}
