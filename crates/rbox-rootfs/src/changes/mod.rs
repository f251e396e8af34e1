//! What a container has changed: its overlay upper directory, beside the layers below it.
//!
//! # What is told
//! What Docker's overlay2 driver tells, which compares the merged tree with that of the layers: [`ChangeKind::Added`] for all that is not
//! below, [`ChangeKind::Modified`] for what is below and has another type, mode, owner, device number or `security.capability`, or, if it
//! is no directory, another size or modification time; and for each directory with a change in it. [`ChangeKind::Deleted`] for what is
//! below only; of a directory that is gone, for it alone. What is below a layer's whiteout or opaque directory is not there.
//! A file that was copied up and is as it was is no change. Names come in the order of their bytes, what was deleted in a
//! directory at its end, as Docker has it.
//!
//! # What is guaranteed
//! A container decides how deep and wide its tree is, and may change it meanwhile. Nothing is opened but directories, each by one name
//! below an open one, following no link; sixteen of the upper directory's are open at most, and one of the layers'. Nothing is on
//! the stack. In memory are the names of the directories on the way down.

mod change;
mod lower;
mod place;
mod squash;
mod walk;

#[cfg(test)]
mod tests;

use std::io;

pub use change::{ChangeKind, ChangesError, Layers, Own, Seen};
pub use place::{Place, What, places, resolve};
pub use squash::{Squashed, squash};

/// Tells `tell` of everything that the container has changed. Whether the upper directory has anything that is not
/// [`Seen::Unused`], be it a file that was copied up and may be as it was.
///
/// # Errors
/// A layer cannot be read, or `tell` fails.
pub fn changes(
    layers: &Layers<'_>,
    tell: &mut dyn FnMut(Seen<'_>) -> io::Result<()>,
) -> Result<bool, ChangesError> {
    walk::Walk::new(layers, tell).run()
}
