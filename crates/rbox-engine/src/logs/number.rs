//! Which log file comes after which, and which of its lives a file is in.
//!
//! The names of files change at every rotation, one file after the other, so a reader that opens them meanwhile may miss one; each has a
//! number of its own in an extended attribute, by which a reader sees that it has them all.
//!
//! A file that is emptied starts another life. By its size alone a follower that is behind would not see that, once the file has grown
//! again, so lives are counted in a second attribute: an odd number while the file is being emptied, the next even one after it.

use std::fs::File;

use rustix::fs::XattrFlags;

const NAME: &str = "user.rbox.log";
const LIFE: &str = "user.rbox.life";

/// The file's number. None where the file system keeps none, and of files of older versions.
pub(super) fn of(file: &File) -> Option<u64> {
    get(file, NAME)
}

/// Gives the file its number. Without it a slow reader may miss lines, and nothing else.
pub(super) fn give(file: &File, number: u64) {
    set(file, NAME, number);
}

/// Which life it is in; 0 where none is kept.
pub(super) fn life(file: &File) -> u64 {
    get(file, LIFE).unwrap_or(0)
}

/// The file is about to be emptied. Returns what [`emptied`] takes.
pub(super) fn empties(file: &File) -> u64 {
    let next = life(file).wrapping_add(1) | 1;
    set(file, LIFE, next);
    next
}

/// It has been emptied.
pub(super) fn emptied(file: &File, life: u64) {
    set(file, LIFE, life.wrapping_add(1));
}

/// Whether these numbers follow each other. Not known without numbers: then it is taken for granted.
pub(super) fn are_whole(numbers: &[Option<u64>]) -> bool {
    numbers.windows(2).all(|pair| match pair {
        [Some(a), Some(b)] => a + 1 == *b,
        _ => true,
    })
}

fn get(file: &File, name: &str) -> Option<u64> {
    let mut bytes = [0_u8; 8];
    (rustix::fs::fgetxattr(file, name, &mut bytes[..]) == Ok(8)).then(|| u64::from_le_bytes(bytes))
}

fn set(file: &File, name: &str, number: u64) {
    let _ = rustix::fs::fsetxattr(file, name, &number.to_le_bytes(), XattrFlags::empty());
}
