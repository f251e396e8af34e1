//! The device filter: everything is refused but the making of nodes and the devices every container has.
//!
//! On v1 it is lines in `devices.deny` and `devices.allow`, on v2 an eBPF program. The default one is put on the
//! group that all containers of rbox are in, once, and costs a start nothing but a look at it. On v2 it is
//! attached there with `BPF_F_ALLOW_OVERRIDE`, so that a container with rules of its own gets its own program
//! instead. On v1 a group never has more than its parent, so such a container's devices group stands elsewhere.

use crate::dir;
use crate::error::{CgroupError, Result};
use rbox_spec::Resources;
use rbox_spec::resources::{DeviceAccess, DeviceKind, DeviceRule};
use rbox_sys::SysError;
use rbox_sys::bpf::{self, Assembler, Label, Reg};
use rbox_sys::lock::{self, How, Patience};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

const fn node(major: u32, minor: Option<u32>) -> DeviceRule {
    DeviceRule { kind: DeviceKind::Char, major: Some(major), minor, access: DeviceAccess::ALL }
}

/// What every container may use: nodes of any kind can be made (not opened), null, zero, full, random, urandom,
/// the terminals of its own devpts (136:*), tty and ptmx.
pub const DEFAULT_RULES: [DeviceRule; 10] = [
    DeviceRule { kind: DeviceKind::Char, major: None, minor: None, access: DeviceAccess::MKNOD },
    DeviceRule { kind: DeviceKind::Block, major: None, minor: None, access: DeviceAccess::MKNOD },
    node(1, Some(3)),
    node(1, Some(5)),
    node(1, Some(7)),
    node(1, Some(8)),
    node(1, Some(9)),
    node(5, Some(0)),
    node(5, Some(2)),
    node(136, None),
];

const ALLOW_ALL: DeviceRule =
    DeviceRule { kind: DeviceKind::All, major: None, minor: None, access: DeviceAccess::ALL };

/// The rules that hold for `resources`.
pub fn rules(resources: &Resources) -> Vec<DeviceRule> {
    if resources.all_devices {
        return vec![ALLOW_ALL];
    }
    DEFAULT_RULES.iter().chain(&resources.device_cgroup_rules).copied().collect()
}

/// The eBPF program for `rules`: 1 when one of them covers the whole access asked for, else 0.
/// The context is `struct bpf_cgroup_dev_ctx` of linux/bpf.h.
pub fn program(rules: &[DeviceRule]) -> Vec<u64> {
    let mut asm = Assembler::new();
    asm.load_u32(Reg::R2, Reg::R1, 0)
        .copy_u32(Reg::R3, Reg::R2)
        .and_u32(Reg::R2, 0xffff)
        .shift_right_u32(Reg::R3, 16)
        .load_u32(Reg::R4, Reg::R1, 4)
        .load_u32(Reg::R5, Reg::R1, 8);
    for rule in rules {
        let mut next = Label::new();
        match rule.kind {
            DeviceKind::All => {}
            DeviceKind::Block => {
                asm.jump_unless_equal(Reg::R2, 1, &mut next);
            }
            DeviceKind::Char => {
                asm.jump_unless_equal(Reg::R2, 2, &mut next);
            }
        }
        let refused = !access_bits(rule.access) & 7;
        if refused != 0 {
            asm.copy_u32(Reg::R6, Reg::R3).and_u32(Reg::R6, refused).jump_unless_equal(Reg::R6, 0, &mut next);
        }
        for (register, number) in [(Reg::R4, rule.major), (Reg::R5, rule.minor)] {
            if let Some(number) = number {
                asm.jump_unless_equal(register, number, &mut next);
            }
        }
        asm.exit_with(1);
        if *rule == ALLOW_ALL {
            // What follows could not be reached, and the verifier refuses such instructions.
            return asm.finish();
        }
        asm.place(next);
    }
    asm.exit_with(0);
    asm.finish()
}

/// `BPF_DEVCG_ACC_*`
const fn access_bits(access: DeviceAccess) -> u32 {
    access.mknod as u32 | (access.read as u32) << 1 | (access.write as u32) << 2
}

/// Puts a program for `rules` on a v2 group, taking the place of the one above it.
pub(crate) fn attach_v2(group: &Path, directory: BorrowedFd<'_>, rules: &[DeviceRule]) -> Result<()> {
    let program = program(rules);
    let failed = |source| CgroupError::Limit { limit: "device filter", group: group.to_owned(), source };
    let loaded = bpf::load_device_filter(&program, &program_name(&program)).map_err(failed)?;
    bpf::attach_device_filter(directory, loaded, bpf::ALLOW_OVERRIDE).map_err(failed)
}

/// Makes sure that the default filter is on the v2 group all containers are in.
pub(crate) fn ensure_default_v2(parent: &Path) -> Result<()> {
    let directory = dir::open(parent)?;
    let name = program_name(&program(&DEFAULT_RULES));
    let attached = bpf::attached_device_filter(&directory).map_err(|source| CgroupError::Limit {
        limit: "device filter",
        group: parent.to_owned(),
        source,
    })?;
    // A filter of another version of rbox has another name and is replaced. Two at once do no harm: they put
    // the same program there.
    if attached.as_deref() == Some(name.as_str()) {
        return Ok(());
    }
    attach_v2(parent, directory.as_fd(), &DEFAULT_RULES)
}

/// A name that is the same for the same program: `rbox_` and a hash of it (FNV-1a; nothing rests on it being hard
/// to collide with, only root attaches programs there).
fn program_name(program: &[u64]) -> String {
    let hash =
        program.iter().flat_map(|word| word.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("rbox_{:08x}", hash as u32)
}

/// Refuses everything in a v1 group but what `rules` allow.
pub(crate) fn write_v1(group: &Path, rules: &[DeviceRule]) -> Result<()> {
    let failed =
        |source: SysError| CgroupError::Limit { limit: "device filter", group: group.to_owned(), source };
    if rules == [ALLOW_ALL] {
        return dir::write(group, "devices.allow", "a").map_err(failed);
    }
    dir::write(group, "devices.deny", "a").map_err(failed)?;
    for rule in rules {
        dir::write(group, "devices.allow", &rule.to_string()).map_err(failed)?;
    }
    Ok(())
}

/// Makes sure that the default filter is on the v1 group all containers enter.
pub(crate) fn ensure_default_v1(parent: &Path) -> Result<()> {
    if has_default_v1(parent) {
        return Ok(());
    }
    // The first two containers ever may come at once: the second must not start between deny and allow.
    let lock = dir::open(parent)?;
    lock::take(&lock, How::Exclusive, Patience::MOMENT)
        .map_err(|source| CgroupError::Lock { group: parent.to_owned(), source })?;
    if has_default_v1(parent) { Ok(()) } else { write_v1(parent, &DEFAULT_RULES) }
}

fn has_default_v1(parent: &Path) -> bool {
    let Ok(list) = dir::read(parent, "devices.list") else { return false };
    list.lines().count() == DEFAULT_RULES.len()
        && DEFAULT_RULES.iter().all(|rule| list.lines().any(|line| line == rule.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MKNOD: u32 = 1;
    const READ: u32 = 2;
    const WRITE: u32 = 4;

    fn allows(program: &[u64], kind: DeviceKind, access: u32, major: u32, minor: u32) -> bool {
        let kind = if kind == DeviceKind::Block { 1 } else { 2 };
        bpf::interpret(program, &[access << 16 | kind, major, minor]).unwrap() == 1
    }

    #[test]
    fn the_default_filter_allows_what_it_says() {
        use DeviceKind::{Block, Char};
        let filter = program(&rules(&Resources::default()));
        for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (136, 99)] {
            assert!(allows(&filter, Char, READ | WRITE, major, minor), "{major}:{minor}");
            assert!(!allows(&filter, Block, READ, major, minor), "{major}:{minor}");
        }
        assert!(allows(&filter, Block, MKNOD, 8, 0));
        assert!(allows(&filter, Char, MKNOD, 10, 200));
        for (kind, access, major, minor) in [
            (Char, READ, 1, 1),
            (Char, READ, 10, 200),
            (Block, READ, 8, 0),
            (Block, READ | MKNOD, 8, 0),
            (Char, WRITE, 5, 1),
            (Char, READ, 4, 0),
        ] {
            assert!(!allows(&filter, kind, access, major, minor), "{kind:?} {major}:{minor}");
        }
    }

    #[test]
    fn extra_rules_and_privileged() {
        let extra: DeviceRule = "b 8:* r".parse().unwrap();
        let filter = program(&rules(&Resources { device_cgroup_rules: vec![extra], ..Resources::default() }));
        assert!(allows(&filter, DeviceKind::Block, READ, 8, 17));
        assert!(!allows(&filter, DeviceKind::Block, WRITE, 8, 17));
        assert!(!allows(&filter, DeviceKind::Block, READ, 9, 0));
        let all = program(&rules(&Resources { all_devices: true, ..Resources::default() }));
        assert!(allows(&all, DeviceKind::Block, READ | WRITE | MKNOD, 8, 0));
        // Major numbers use the whole 32 bits.
        let high = program(&["c 4294967295:1 rwm".parse().unwrap()]);
        assert!(allows(&high, DeviceKind::Char, READ, u32::MAX, 1));
        assert!(!allows(&high, DeviceKind::Char, READ, u32::MAX, 2));
    }

    #[test]
    fn the_kernel_takes_the_default_filter() {
        for rules in [&DEFAULT_RULES[..], &[ALLOW_ALL], &["b 8:* r".parse().unwrap()]] {
            match bpf::load_device_filter(&program(rules), "rbox_test") {
                Ok(_) => {}
                Err(error) if error.errno as i32 == rustix::io::Errno::PERM.raw_os_error() => {
                    println!("skipped: loading eBPF is not permitted here");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
