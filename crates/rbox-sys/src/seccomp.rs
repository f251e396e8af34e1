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
    let Some(len) = u16::try_from(program.len()).ok().filter(|len| (1..=MAX_INSTRUCTIONS).contains(&usize::from(*len)))
    else {
        return Err(SysError::new("seccomp", shown(), Errno::EINVAL));
    };
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    told("seccomp", shown, || {
        // SAFETY: `filter` points at `len` words of 8 bytes, each laid out as sock_filter (checked above to be
        // little-endian) and aligned more strictly than it; the kernel copies and verifies them and writes nothing.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
        if result == 0 { Ok(()) } else { Err(Errno::last()) }
    })
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
