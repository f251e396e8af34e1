//! An interpreter for classic BPF as seccomp uses it, and the calls to ask a filter about.
#![allow(dead_code, reason = "each test binary uses its part")]

/// `struct seccomp_data`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            16..64 => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            other => panic!("load of offset {other}"),
        }
    }
}

/// What a program made of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    /// The `SECCOMP_RET_*` value.
    pub verdict: u32,
    /// Instructions it took.
    pub steps: usize,
    /// Whether an argument was looked at: if not, the verdict is the number's alone.
    pub saw_args: bool,
}

/// Interprets `program` on `call`.
pub(crate) fn run(program: &[u64], call: &Call) -> Ran {
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let (mut at, mut steps, mut saw_args) = (0usize, 0, false);
    loop {
        let word = program[at];
        let (code, jt, jf, k) = (word as u16, (word >> 16) as u8, (word >> 24) as u8, (word >> 32) as u32);
        steps += 1;
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => {
                saw_args |= k >= 16;
                a = call.word(k);
            }
            0x00 => a = k,
            0x01 => x = k,
            0x02 => memory[k as usize] = a,
            0x03 => memory[k as usize] = x,
            0x60 => a = memory[k as usize],
            0x61 => x = memory[k as usize],
            0x07 => x = a,
            0x87 => a = x,
            0x54 => a &= k,
            0x44 => a |= k,
            0x74 => a >>= k,
            0x05 => at += k as usize,
            0x15 => jump(a == k),
            0x1d => jump(a == x),
            0x25 => jump(a > k),
            0x35 => jump(a >= k),
            0x45 => jump(a & k != 0),
            0x06 => return Ran { verdict: k, steps, saw_args },
            other => panic!("instruction {other:#x}"),
        }
    }
}
