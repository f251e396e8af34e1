//! eBPF, as much as the device filter of a v2 control group needs: a tiny assembler, loading, attaching.
//!
//! Instruction encoding: Documentation/bpf/standardization/instruction-set.rst. The calls: bpf(2).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{SysError, told};
use crate::trace::fd;

/// A register. `R1` holds the context on entry, `R0` the verdict on exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Their names say it all.
#[repr(u8)]
pub enum Reg {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    R5 = 5,
    R6 = 6,
}

const LDX_MEM_W: u8 = 0x61;
const MOV64_IMM: u8 = 0xb7;
const MOV32_REG: u8 = 0xbc;
const AND32_IMM: u8 = 0x54;
const RSH32_IMM: u8 = 0x74;
const JNE32_IMM: u8 = 0x56;
const EXIT: u8 = 0x95;

const fn insn(opcode: u8, dst: Reg, src: Reg, offset: i16, imm: u32) -> u64 {
    opcode as u64 | (dst as u64) << 8 | (src as u64) << 12 | (offset as u16 as u64) << 16 | (imm as u64) << 32
}

/// A place later in the program, jumped to before it is known.
#[derive(Debug)]
pub struct Label(Vec<usize>);

impl Label {
    /// A place not yet known.
    pub fn new() -> Self {
        Self(Vec::new())
    }
}

impl Default for Label {
    fn default() -> Self {
        Self::new()
    }
}

/// Builds a program instruction by instruction. Only forward jumps exist, so every program ends.
#[derive(Debug, Default)]
pub struct Assembler(Vec<u64>);

impl Assembler {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// `dst = *(u32 *)(src + offset)`
    pub fn load_u32(&mut self, dst: Reg, src: Reg, offset: i16) -> &mut Self {
        self.0.push(insn(LDX_MEM_W, dst, src, offset, 0));
        self
    }

    /// `dst = (u32)src`
    pub fn copy_u32(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.0.push(insn(MOV32_REG, dst, src, 0, 0));
        self
    }

    /// `dst = (u32)dst & mask`
    pub fn and_u32(&mut self, dst: Reg, mask: u32) -> &mut Self {
        self.0.push(insn(AND32_IMM, dst, Reg::R0, 0, mask));
        self
    }

    /// `dst = (u32)dst >> bits`
    pub fn shift_right_u32(&mut self, dst: Reg, bits: u32) -> &mut Self {
        self.0.push(insn(RSH32_IMM, dst, Reg::R0, 0, bits));
        self
    }

    /// `if ((u32)dst != value) goto label`
    pub fn jump_unless_equal(&mut self, dst: Reg, value: u32, label: &mut Label) -> &mut Self {
        label.0.push(self.0.len());
        self.0.push(insn(JNE32_IMM, dst, Reg::R0, 0, value));
        self
    }

    /// `return value`
    pub fn exit_with(&mut self, value: u32) -> &mut Self {
        self.0.push(insn(MOV64_IMM, Reg::R0, Reg::R0, 0, value));
        self.0.push(insn(EXIT, Reg::R0, Reg::R0, 0, 0));
        self
    }

    /// `label:` here. A jump of more than 32,767 instructions cannot be written; the kernel refuses what results.
    pub fn place(&mut self, label: Label) -> &mut Self {
        for at in label.0 {
            let distance = i16::try_from(self.0.len() - at - 1).unwrap_or(-1);
            if let Some(jump) = self.0.get_mut(at) {
                *jump |= u64::from(distance as u16) << 16;
            }
        }
        self
    }

    /// The program, one instruction a word, as the kernel takes it on a little-endian machine.
    pub fn finish(self) -> Vec<u64> {
        self.0
    }
}

/// Attached below, another program takes this one's place (`BPF_F_ALLOW_OVERRIDE`).
pub const ALLOW_OVERRIDE: u32 = 1;

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_GET_FD_BY_ID: i32 = 13;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const PROG_QUERY: i32 = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;

/// The part of `union bpf_attr` these commands use, as words; what is beyond is zero to the kernel.
type Attr = [u64; 16];

fn bpf(command: i32, attr: &mut Attr) -> Result<i32, Errno> {
    // SAFETY: `attr` is 128 readable and writable bytes, the size told. The pointers inside are made by the
    // callers below from slices that outlive the call, with their true lengths beside them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of::<Attr>()) };
    if result < 0 { Err(Errno::last()) } else { Ok(result as i32) }
}

fn owned(raw: i32) -> OwnedFd {
    // SAFETY: called with what the kernel just returned as a new descriptor (close-on-exec), owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

fn words(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Loads a device filter (`BPF_PROG_TYPE_CGROUP_DEVICE`). The kernel's verifier checks it.
/// `name`: up to 15 letters, digits, `_` and `.`, to find the program by.
pub fn load_device_filter(program: &[u64], name: &str) -> Result<OwnedFd, SysError> {
    let mut attr: Attr = [0; 16];
    attr[0] = words(PROG_TYPE_CGROUP_DEVICE, u32::try_from(program.len()).unwrap_or(u32::MAX));
    attr[1] = program.as_ptr() as u64;
    attr[2] = c"Apache-2.0".as_ptr() as u64;
    for (at, byte) in name.bytes().take(15).enumerate() {
        attr[6 + at / 8] |= u64::from(byte) << (at % 8 * 8);
    }
    told(
        "bpf",
        || {
            format!(
                "BPF_PROG_LOAD, {{BPF_PROG_TYPE_CGROUP_DEVICE, {} instructions, {name:?}}}",
                program.len()
            )
        },
        || bpf(PROG_LOAD, &mut attr).map(owned),
    )
}

/// Attaches a device filter to a v2 control group's directory; `flags` is 0 or [`ALLOW_OVERRIDE`].
/// One that was attached with the same flags is replaced. It stays when the descriptors are closed.
pub fn attach_device_filter(cgroup: impl AsFd, program: impl AsFd, flags: u32) -> Result<(), SysError> {
    let (cgroup, program) = (cgroup.as_fd(), program.as_fd());
    let mut attr: Attr = [0; 16];
    attr[0] = words(cgroup.as_raw_fd() as u32, program.as_raw_fd() as u32);
    attr[1] = words(ATTACH_CGROUP_DEVICE, flags);
    told(
        "bpf",
        || {
            format!(
                "BPF_PROG_ATTACH, {{{}, BPF_CGROUP_DEVICE, program={}, flags={flags}}}",
                fd(cgroup),
                program.as_raw_fd()
            )
        },
        || bpf(PROG_ATTACH, &mut attr).map(|_| ()),
    )
}

/// The name of the device filter attached to exactly this control group, if there is one.
pub fn attached_device_filter(cgroup: impl AsFd) -> Result<Option<String>, SysError> {
    let cgroup = cgroup.as_fd();
    let told_query = || format!("BPF_PROG_QUERY, {{{}, BPF_CGROUP_DEVICE}}", fd(cgroup));
    let mut ids = [0u32; 64];
    let mut attr: Attr = [0; 16];
    attr[0] = words(cgroup.as_raw_fd() as u32, ATTACH_CGROUP_DEVICE);
    attr[2] = ids.as_mut_ptr() as u64;
    attr[3] = ids.len() as u64;
    told("bpf", told_query, || bpf(PROG_QUERY, &mut attr))?;
    if attr[3] as u32 == 0 {
        return Ok(None);
    }
    let mut by_id: Attr = [0; 16];
    by_id[0] = u64::from(ids[0]);
    let program = told(
        "bpf",
        || format!("BPF_PROG_GET_FD_BY_ID, {}", ids[0]),
        || bpf(PROG_GET_FD_BY_ID, &mut by_id).map(owned),
    )?;
    let mut info = [0u64; 10];
    let mut about: Attr = [0; 16];
    about[0] = words(program.as_raw_fd() as u32, size_of_val(&info) as u32);
    about[1] = info.as_mut_ptr() as u64;
    told(
        "bpf",
        || format!("BPF_OBJ_GET_INFO_BY_FD, {}", program.as_raw_fd()),
        || bpf(OBJ_GET_INFO_BY_FD, &mut about),
    )?;
    let name = [info[8], info[9]].into_iter().flat_map(u64::to_le_bytes).take_while(|byte| *byte != 0);
    Ok(Some(name.map(char::from).collect()))
}

/// Runs a program of this module's instructions on a context of 32-bit words, for tests that ask what a
/// filter decides without loading it. `None`: an instruction it does not know, or none left.
pub fn interpret(program: &[u64], context: &[u32]) -> Option<u32> {
    let mut registers = [0u64; 16];
    let mut at = 0usize;
    loop {
        let word = *program.get(at)?;
        let (opcode, dst, src) = (word as u8, (word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
        let (offset, imm) = ((word >> 16) as i16, (word >> 32) as u32);
        at += 1;
        match opcode {
            LDX_MEM_W if src == 1 => {
                registers[dst] = u64::from(*context.get(usize::try_from(offset).ok()? / 4)?);
            }
            MOV64_IMM => registers[dst] = i64::from(imm as i32) as u64,
            MOV32_REG => registers[dst] = registers[src] & 0xffff_ffff,
            AND32_IMM => registers[dst] = u64::from(registers[dst] as u32 & imm),
            RSH32_IMM => registers[dst] = u64::from((registers[dst] as u32).checked_shr(imm)?),
            JNE32_IMM => {
                if registers[dst] as u32 != imm {
                    at = at.checked_add_signed(isize::from(offset))?;
                }
            }
            EXIT => return Some(registers[0] as u32),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn jumps_land_where_the_label_is() {
        let mut asm = Assembler::new();
        let mut other = Label::new();
        asm.load_u32(Reg::R2, Reg::R1, 4).jump_unless_equal(Reg::R2, 7, &mut other).exit_with(1);
        asm.place(other).exit_with(0);
        let program = asm.finish();
        assert_eq!(interpret(&program, &[0, 7]), Some(1));
        assert_eq!(interpret(&program, &[7, 8]), Some(0));
        assert_eq!(interpret(&program, &[7]), None);
    }

    #[test]
    fn the_verifier_takes_it() {
        let mut asm = Assembler::new();
        asm.load_u32(Reg::R2, Reg::R1, 0).and_u32(Reg::R2, 0xffff).shift_right_u32(Reg::R2, 1);
        asm.copy_u32(Reg::R6, Reg::R2).exit_with(1);
        match load_device_filter(&asm.finish(), "rbox_test") {
            Ok(_) => {}
            Err(error) if error.errno == Errno::EPERM => {
                println!("skipped: loading eBPF is not permitted here");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
