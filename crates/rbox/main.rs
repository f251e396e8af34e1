//! rbox: a complete container engine in one static binary, with no daemon.

mod args;
mod builder;
mod command;
mod commands;
mod compose;
mod container;
mod dispatch;
mod explain;
mod generate;
mod guest;
mod image;
mod inspect;
mod lacking;
mod look;
mod network;
mod output;
mod session;
mod system;
mod tour;
mod volume;

use std::process::ExitCode;

use crate::guest::{hello, small_init, tools};

/// Inside containers this executable goes by other names: the embedded image's program and its shell, and the small init.
fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if name == "/sbin/docker-init" {
        // All that is open is for its program.
        return small_init::main();
    }
    rbox_engine::explain::begin();
    match name.to_str() {
        Some("/hello" | "hello") => hello::main(),
        Some("/sh" | "sh") => tools::main(),
        Some(name) if rbox_engine::embedded::is_tool(name) => tools::alone(name.trim_start_matches('/')),
        // Compose's own names: what follows are its words.
        Some(name) if matches!(name.rsplit('/').next(), Some("docker-compose" | "rbox-compose")) => {
            dispatch::compose()
        }
        _ => dispatch::main(),
    }
}
