//! Signatures of images, in cosign's form: checked at a pull, made by `image sign`.
mod check;
#[cfg(fuzzing)]
pub mod fuzzing;
mod key;
mod payload;
mod sign;

pub use check::VerifyKeys;
pub use key::{KeyError, PrivateKey, PublicKey};
pub use sign::{SignError, Signed, sign};

pub(crate) use check::{Verdict, check};
pub(crate) use payload::is_cosigns;
