//! Archives: headers, PAX records, long names, sparse maps. What is accepted is read by another reader as the same list of members with
//! the same bytes; where the two would differ it has to be refused (CVE-2025-62518 and its kind).
#![no_main]

use std::io::Read;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rbox_rootfs::layer::{Limits, Member, MemberKind, Members};

const BLOCK: usize = 512;

/// Whether to compare with the other reader: with `RBOX_FUZZ_COMPARE` only, since it has faults of its own that longer runs find.
static COMPARE: LazyLock<bool> = LazyLock::new(|| std::env::var_os("RBOX_FUZZ_COMPARE").is_some());

/// Writes right checksums where a plain reader would look for headers: libFuzzer would not find them. And ustar's only version,
/// which the other reader wants to see and GNU tar does not look at.
fn repaired(input: &[u8]) -> Vec<u8> {
    let mut tar = input.to_vec();
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + BLOCK) {
        if header.iter().any(|byte| *byte != 0) {
            if &header[257..263] == b"ustar\0" {
                header[263..265].fill(b'0');
            }
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let digits = header[124..136]
            .iter()
            .skip_while(|byte| **byte == b' ')
            .take_while(|byte| byte.is_ascii_digit());
        let size = digits
            .fold(0_usize, |size, digit| size.saturating_mul(8).saturating_add(usize::from(digit - b'0')));
        at = at.saturating_add(BLOCK).saturating_add(size.min(tar.len()).next_multiple_of(BLOCK));
    }
    tar
}

/// Whether a PAX header has a value with a newline: the other reader splits the header there, whatever its lengths say.
fn splits_values(tar: &[u8]) -> bool {
    let mut at = 0;
    while let Some(header) = tar.get(at..at + BLOCK) {
        let size = header[124..136]
            .iter()
            .skip_while(|byte| **byte == b' ')
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0_usize, |size, digit| size.saturating_mul(8).saturating_add(usize::from(digit - b'0')));
        let end = at.saturating_add(BLOCK).saturating_add(size).min(tar.len());
        if matches!(header[156], b'x' | b'g') {
            for line in tar[at + BLOCK..end].split_inclusive(|byte| *byte == b'\n') {
                let length = line.split(|byte| *byte == b' ').next().unwrap_or_default();
                let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse::<usize>().ok());
                if length != Some(line.len()) && line.iter().any(|byte| *byte != 0) {
                    return true;
                }
            }
        }
        at = at.saturating_add(BLOCK).saturating_add(size.min(tar.len()).next_multiple_of(BLOCK));
    }
    false
}

fn ours(tar: &[u8], limits: &Limits) -> Option<Vec<(Member, Vec<u8>)>> {
    let mut members = Members::new(tar, limits);
    let mut all = Vec::new();
    while let Some(member) = members.next_member().ok()? {
        let mut data = Vec::new();
        members.copy_data(&mut data).ok()?;
        assert_eq!(data.len() as u64, member.size);
        assert!(member.name.len() <= limits.name_bytes && !member.name.contains(&0));
        all.push((member, data));
    }
    Some(all)
}

fuzz_target!(|input: &[u8]| {
    let tar = repaired(input);
    let limits = Limits { file_bytes: 1 << 24, held_bytes: 1 << 20, ..Limits::default() };
    let Some(members) = ours(&tar, &limits) else { return };
    // The whole archive was read, and no more than it has.
    let stored: u64 = members.iter().map(|(member, _)| member.size).sum();
    assert!(stored <= tar.len() as u64);
    if !*COMPARE || splits_values(&tar) {
        return;
    }
    let mut other = tar::Archive::new(tar.as_slice());
    let mut entries = other.entries().expect("it can be read");
    // One that reads less is no danger: what it refuses it does not misread. A volume's label and a global header are no members to us.
    let mut next = || loop {
        match entries.next() {
            Some(Ok(entry)) if matches!(entry.header().entry_type().as_byte(), b'V' | b'g') => {}
            other => return other.transpose(),
        }
    };
    for (member, data) in &members {
        let Ok(entry) = next() else { return };
        let mut entry = entry.expect("another reader finds fewer members");
        // Of a sparse file the other reader does not know the name that its map has, and gives what it is, not what is stored of it.
        if member.kind != MemberKind::Other {
            // The zeros behind a long name are no part of it, for whoever makes a file of it.
            let path = entry.path_bytes();
            let end = path.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            assert_eq!(&path[..end], member.name.as_slice());
        }
        if member.kind == MemberKind::File {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("it can be read");
            assert_eq!(&bytes, data);
        }
    }
    assert!(!matches!(next(), Ok(Some(_))), "another reader finds more members");
});
