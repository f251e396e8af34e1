//! Containers as users know them: records, monitor, logs, volumes, networks, images.
#![forbid(unsafe_code)]
