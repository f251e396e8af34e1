//! Names and values: ids, digests, references, ports, sizes, users, resources. Parsing and display, no I/O.
#![forbid(unsafe_code)]
