//! Seccomp profiles. The first bytes are the capabilities and the kernel; what becomes of the rest, if anything, is a program that the
//! kernel takes: it ends on every way, and jumps forward and into itself only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbox_security::seccomp::profile::Document;
use rbox_security::seccomp::{Context, arch::Arch, compile};
use rbox_spec::{CapSet, Capability};

const CLASS: u64 = 7;
const JUMP: u64 = 5;
const RETURN: u64 = 6;

fuzz_target!(|input: &[u8]| {
    let Some((head, json)) = input.split_first_chunk::<3>() else { return };
    let Ok(profile) = Document::parse(json) else { return };
    for native in [Arch::X86_64, Arch::Aarch64] {
        let held =
            Capability::ALL.iter().filter(|capability| head[0] >> (**capability as u8 % 8) & 1 == 1).copied();
        let context = Context {
            capabilities: held.collect::<CapSet>(),
            kernel: (head[1].into(), head[2].into()),
            native,
        };
        let Ok(program) = compile(&profile, context) else { continue };
        assert!(!program.is_empty() && program.len() <= 4096);
        for (at, insn) in program.iter().enumerate() {
            let (code, yes, no, k) = (insn & 0xffff, insn >> 16 & 0xff, insn >> 24 & 0xff, insn >> 32);
            let left = (program.len() - at - 1) as u64;
            match code & CLASS {
                JUMP if code & 0xf0 == 0 => assert!(k < left, "{at}: a jump of {k}"),
                JUMP => assert!(yes < left && no < left, "{at}: jumps of {yes} and {no}"),
                RETURN => {}
                _ => assert!(left > 0, "{at}: it runs off its end"),
            }
        }
        assert_eq!(program.last().map(|insn| insn & CLASS), Some(RETURN));
    }
});
