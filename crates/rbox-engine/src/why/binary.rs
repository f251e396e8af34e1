//! What a program's file begins with: the kernel goes by that alone (execve(2), elf(5)).

/// What the kernel makes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A program of some architecture.
    Elf(Elf),
    /// `#!` and a line.
    Script(Script),
    /// There is nothing in it.
    Empty,
    /// Something else, which the kernel cannot execute.
    Other,
}

/// The head of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elf {
    /// `e_machine`.
    pub(super) machine: u16,
    /// What loads it and its libraries; none for a static one, or where that was not read.
    pub(super) loader: Option<String>,
}

/// The first line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// The program that reads it, without a carriage return behind it.
    pub(super) interpreter: String,
    /// The rest of the line.
    pub(super) argument: String,
    /// The line ends with a carriage return, which belongs to it as the kernel sees it.
    pub(super) has_return: bool,
}

/// The kernel reads so much of a script's first line (`BINPRM_BUF_SIZE`).
const LINE: usize = 256;
const PT_INTERP: u32 = 3;

pub(super) fn beginning(bytes: &[u8]) -> Beginning {
    if bytes.is_empty() {
        return Beginning::Empty;
    }
    if let Some(line) = bytes.strip_prefix(b"#!") {
        return Beginning::Script(script(line));
    }
    elf(bytes).map_or(Beginning::Other, Beginning::Elf)
}

fn script(line: &[u8]) -> Script {
    let line = line.get(..LINE).unwrap_or(line);
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = String::from_utf8_lossy(line);
    let has_return = text.ends_with('\r');
    let text = text.trim_matches([' ', '\t', '\r']);
    let (interpreter, argument) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    Script { interpreter: interpreter.to_owned(), argument: argument.trim().to_owned(), has_return }
}

/// Numbers of a file, whose order of bytes its head says.
struct Reader<'a> {
    bytes: &'a [u8],
    is_little: bool,
}

impl Reader<'_> {
    fn number(&self, at: usize, size: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(size)?)?;
        let fold = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
        Some(if self.is_little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    }

    fn place(&self, at: usize, size: usize) -> Option<usize> {
        usize::try_from(self.number(at, size)?).ok()
    }
}

fn elf(bytes: &[u8]) -> Option<Elf> {
    let ident = bytes.get(..16).filter(|ident| ident.starts_with(b"\x7fELF"))?;
    let (is_64, is_little) = (ident[4] == 2, ident[5] == 1);
    let reader = Reader { bytes, is_little };
    let machine = u16::try_from(reader.number(18, 2)?).ok()?;
    Some(Elf { machine, loader: loader(&reader, is_64) })
}

/// The path in the segment that names the loader.
fn loader(reader: &Reader<'_>, is_64: bool) -> Option<String> {
    let (table, entry_size, count) = if is_64 {
        (reader.place(32, 8)?, reader.place(54, 2)?, reader.place(56, 2)?)
    } else {
        (reader.place(28, 4)?, reader.place(42, 2)?, reader.place(44, 2)?)
    };
    for number in 0..count {
        let at = table.checked_add(number.checked_mul(entry_size)?)?;
        if reader.number(at, 4)? != u64::from(PT_INTERP) {
            continue;
        }
        let (offset, size) = if is_64 {
            (reader.place(at.checked_add(8)?, 8)?, reader.place(at.checked_add(32)?, 8)?)
        } else {
            (reader.place(at.checked_add(4)?, 4)?, reader.place(at.checked_add(16)?, 4)?)
        };
        let text = reader.bytes.get(offset..offset.checked_add(size)?)?;
        let text = text.split(|byte| *byte == 0).next()?;
        return Some(String::from_utf8_lossy(text).into_owned());
    }
    None
}

/// What a program is built for, in the words of image platforms where these have one.
pub(super) fn machine_name(machine: u16) -> String {
    let known = match machine {
        3 => "386",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64le",
        22 => "s390x",
        40 => "arm",
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        258 => "loong64",
        other => return format!("ELF machine {other}"),
    };
    known.to_owned()
}

/// Whether a processor of `host`, an architecture as Rust has it, executes a program for `machine` itself.
pub(super) fn executes(host: &str, machine: u16) -> bool {
    match host {
        "x86_64" => matches!(machine, 62 | 3),
        // Most execute programs of 32 bits, too.
        "aarch64" => matches!(machine, 183 | 40),
        "riscv64" => machine == 243,
        "s390x" => machine == 22,
        "powerpc64" => machine == 21,
        // Not known: nothing is said against it.
        _ => true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn scripts() {
        let of = |text: &str| match beginning(text.as_bytes()) {
            Beginning::Script(script) => (script.interpreter, script.argument, script.has_return),
            other => panic!("{text:?}: {other:?}"),
        };
        let plain = |a: &str, b: &str, c| (a.to_owned(), b.to_owned(), c);
        assert_eq!(of("#!/bin/sh\necho"), plain("/bin/sh", "", false));
        assert_eq!(of("#! /usr/bin/env  python3 -u\n"), plain("/usr/bin/env", "python3 -u", false));
        assert_eq!(of("#!/bin/sh\r\necho\r\n"), plain("/bin/sh", "", true));
        assert_eq!(of("#!/usr/bin/env bash\r\n"), plain("/usr/bin/env", "bash", true));
        assert_eq!(of("#!/bin/sh"), plain("/bin/sh", "", false));
        assert_eq!(of("#!"), plain("", "", false));
        assert_eq!(of(&format!("#!/{}", "x".repeat(4000))).0.len(), LINE);
        assert_eq!(beginning(b""), Beginning::Empty);
        assert_eq!(beginning(b"echo hi\n"), Beginning::Other);
        assert_eq!(beginning(b"\x7fELF"), Beginning::Other, "cut off");
    }

    /// The head of a program with one segment, which names its loader.
    fn program(is_64: bool, is_little: bool, machine: u16, loader: &str) -> Vec<u8> {
        let mut bytes = vec![0_u8; 0x100];
        let put = |bytes: &mut Vec<u8>, at: usize, value: u64, size: usize| {
            let little = value.to_le_bytes();
            let mut part = little[..size].to_vec();
            if !is_little {
                part.reverse();
            }
            bytes[at..at + size].copy_from_slice(&part);
        };
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 1 + u8::from(is_64), 2 - u8::from(is_little)]);
        put(&mut bytes, 18, machine.into(), 2);
        let (table, size) = (0x40, loader.len() as u64 + 1);
        if is_64 {
            for (at, value, size) in [(32, table, 8), (54, 56, 2), (56, 1, 2)] {
                put(&mut bytes, at, value, size);
            }
            for (at, value, size) in [(0x40, 3, 4), (0x48, 0x100, 8), (0x60, size, 8)] {
                put(&mut bytes, at, value, size);
            }
        } else {
            for (at, value, size) in [(28, table, 4), (42, 32, 2), (44, 1, 2)] {
                put(&mut bytes, at, value, size);
            }
            for (at, value, size) in [(0x40, 3, 4), (0x44, 0x100, 4), (0x50, size, 4)] {
                put(&mut bytes, at, value, size);
            }
        }
        bytes.extend(loader.bytes().chain([0]));
        bytes
    }

    #[test]
    fn programs() {
        for (is_64, is_little, machine) in
            [(true, true, 62), (true, false, 22), (false, true, 40), (false, false, 20)]
        {
            let bytes = program(is_64, is_little, machine, "/lib/ld.so");
            let wanted = Elf { machine, loader: Some("/lib/ld.so".into()) };
            assert_eq!(beginning(&bytes), Beginning::Elf(wanted));
            // Wherever it is cut off, there is no more than a loader that is not known.
            for length in 0..bytes.len() {
                if let Beginning::Elf(elf) = beginning(&bytes[..length]) {
                    assert!(elf.loader.is_none() && elf.machine == machine, "{length}");
                }
            }
        }
        let own = std::fs::read("/proc/self/exe").unwrap();
        let Beginning::Elf(elf) = beginning(&own) else { panic!("not a program") };
        assert!(executes(std::env::consts::ARCH, elf.machine));
    }

    #[test]
    fn hostile_heads() {
        let mut bytes = program(true, true, 62, "/lib/ld.so");
        // The table, what an entry takes, how many there are, where the text is, and how long.
        for (at, size, is_known) in
            [(32, 8, false), (54, 2, true), (56, 2, true), (0x48, 8, false), (0x60, 8, false)]
        {
            let kept = bytes.clone();
            bytes[at..at + size].fill(0xff);
            let Beginning::Elf(elf) = beginning(&bytes) else { panic!("not a program") };
            assert_eq!(elf.loader.is_some(), is_known, "{at}");
            bytes = kept;
        }
    }

    #[test]
    fn machines() {
        assert!(executes("x86_64", 62) && executes("x86_64", 3) && !executes("x86_64", 183));
        assert!(executes("aarch64", 183) && !executes("aarch64", 62));
        assert_eq!((machine_name(183), machine_name(9999)), ("arm64".into(), "ELF machine 9999".into()));
    }
}
