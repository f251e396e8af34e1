//! Trees that a build reads and writes: a context, the layers of a stage. Every path in them is resolved below a root descriptor
//! (`docs/threats.md`), whatever links somebody puts there.

mod copy;
mod digest;
mod fill;
mod hands;
mod looks;
mod walk;

pub(crate) use copy::{Copier, CopyOptions};
pub(crate) use digest::{Content, FileDigests, NoMemory, field};
pub(crate) use looks::Owner;
pub use walk::TreeError;
pub(crate) use walk::{EntryKind, Selected, Source, clean, errno};
