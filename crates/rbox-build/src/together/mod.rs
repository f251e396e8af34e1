//! Stages side by side: those that do not need each other are carried out at one moment, each by a process of its own.
//!
//! Only a process of one thread may start containers, so there are no threads here: a child is forked for a stage, reports what happens
//! ([`message`]) through a pipe, and writes what its stage came to into a file of the build's directory. What all stages share (the
//! cache, the image store) is safe for several processes anyway. A child dies with the build, and its program with it.

mod message;
mod plan;
mod worker;
