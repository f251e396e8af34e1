//! Who builds at the same moment: what one made and nobody named, another may stand on.

use std::fs::File;
use std::path::Path;

use rbox_sys::lock::{self, How, Patience};
use rbox_sys::own;

use crate::cache::STEP;
use crate::error::{BuildError, io_error};

/// One of those that carry out several builds at this moment.
#[derive(Debug)]
pub struct Neighbours(File);

impl Neighbours {
    /// Counts this process among them, until it is dropped. `live_build_dir`: where builds keep what is gone with the host.
    ///
    /// # Errors
    /// The lock cannot be made, or who tidies up does not come to an end.
    pub fn join(live_build_dir: &Path) -> Result<Self, BuildError> {
        const WHO_TIDIES: Patience = STEP;
        own::make_private(live_build_dir).map_err(io_error("make directory", live_build_dir))?;
        let path = live_build_dir.join("several.lock");
        let options = &mut File::options();
        let file = own::open(&path, options.write(true).create(true).truncate(false));
        let file = file.map_err(io_error("open", &path))?;
        lock::take(&file, How::Shared, WHO_TIDIES).map_err(io_error("lock", &path))?;
        Ok(Self(file))
    }

    /// Whether there is nobody else, and nobody comes before this is dropped. It is the last that is asked: a no gives up the place.
    pub fn is_alone(&self) -> bool {
        lock::try_take(&self.0, How::Exclusive).unwrap_or(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let join = || Neighbours::join(&dir.path().join("live")).unwrap();
        let (one, other) = (join(), join());
        assert!(!one.is_alone());
        drop(one);
        assert!(other.is_alone());
    }
}
