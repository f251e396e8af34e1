//! Unpacking, compared with what GNU tar and umoci make of the same archives.
