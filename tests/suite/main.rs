//! Black-box tests of the `rbox` binary: as root, on this host, with real images from a real registry.
//! How the suite is set up, and how to run a part of it: docs/testing.md.
#![allow(clippy::unwrap_used, clippy::expect_used)] // A test that cannot go on has failed.

mod harness;

mod archive;
mod bad_input;
mod binary;
mod boot;
mod caller;
mod catalogue;
mod compat;
mod crafted;
mod crash;
mod disk_full;
mod docs;
mod embedded;
mod exec;
mod explain;
mod foreign;
mod groups;
mod hostile;
mod house;
mod images;
mod inspect;
mod keys;
mod layouts;
mod lifecycle;
mod limits;
mod logs;
mod many;
mod measured;
mod mounts;
mod nested;
mod net;
mod network;
mod network_crash;
mod network_live;
mod network_ports;
mod network_safe;
mod network_user;
mod powercut;
mod ps;
mod pull;
mod reading;
mod registry_faults;
mod removal;
mod restart;
mod run;
mod security;
mod stack;
mod streams;
mod streams_ways;
mod terminal;
mod together;
mod update;
mod volumes;
