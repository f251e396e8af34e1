//! Which log file comes after which. Their names change at every rotation, one file after the other, so a reader that opens them
//! meanwhile may miss one; each has a number of its own in an extended attribute, by which a reader sees that it has them all.

use std::fs::File;

use rustix::fs::XattrFlags;

const NAME: &str = "user.rbox.log";

/// The file's number. None where the file system keeps none, and of files of older versions.
pub(super) fn of(file: &File) -> Option<u64> {
    let mut bytes = [0_u8; 8];
    (rustix::fs::fgetxattr(file, NAME, &mut bytes[..]) == Ok(8)).then(|| u64::from_le_bytes(bytes))
}

/// Gives the file its number. Without it a slow reader may miss lines, and nothing else.
pub(super) fn give(file: &File, number: u64) {
    let _ = rustix::fs::fsetxattr(file, NAME, &number.to_le_bytes(), XattrFlags::empty());
}

/// Whether these numbers follow each other. Not known without numbers: then it is taken for granted.
pub(super) fn are_whole(numbers: &[Option<u64>]) -> bool {
    numbers.windows(2).all(|pair| match pair {
        [Some(a), Some(b)] => a + 1 == *b,
        _ => true,
    })
}
