//! The set of namespaces, id maps, joining, and the handshake between parent and child.
#![forbid(unsafe_code)]
