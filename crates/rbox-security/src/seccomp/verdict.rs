//! What a filter says to a call, asked without installing it.

use super::compiler::arch::Arch;

/// `SECCOMP_RET_ALLOW` and `SECCOMP_RET_LOG`: the call is made.
const MADE: [u32; 2] = [0x7fff_0000, 0x7ffc_0000];

/// Whether `program` lets the call of this number and these arguments through. No for anything that cannot be known.
pub(super) fn lets_through(program: &[u64], arch: Arch, nr: u32, args: &[u64]) -> bool {
    verdict(program, arch, nr, args).is_some_and(|verdict| MADE.contains(&(verdict & 0xffff_0000)))
}

/// Interprets the instructions that our compiler emits.
fn verdict(program: &[u64], arch: Arch, nr: u32, args: &[u64]) -> Option<u32> {
    let load = |offset: u32| match offset {
        0 => Some(nr),
        4 => Some(arch.audit()),
        16..64 => {
            let arg = args.get((offset as usize - 16) / 8).copied().unwrap_or(0);
            Some(if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 })
        }
        _ => None,
    };
    let (mut a, mut at) = (0_u32, 0_usize);
    loop {
        let word = *program.get(at)?;
        let (code, jt, jf, k) = (word as u16, (word >> 16) as u8, (word >> 24) as u8, (word >> 32) as u32);
        at += 1;
        // Jumps lead forward only, so this ends.
        let holds = match code {
            0x20 => {
                a = load(k)?;
                continue;
            }
            0x54 => {
                a &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return Some(k),
            0x15 => a == k,
            0x25 => a > k,
            0x35 => a >= k,
            _ => return None,
        };
        at += usize::from(if holds { jt } else { jf });
    }
}
