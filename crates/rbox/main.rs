//! rbox: a complete container engine in one static binary, with no daemon.

mod archive;
mod boot;
mod cli;
mod client;
mod commands;
mod context;
mod escape;
mod exec;
mod flags;
mod generate;
mod global;
mod hello;
mod history;
mod images;
mod info;
mod inspect;
mod interspersed;
mod lacking;
mod limits;
mod logs;
mod net;
mod net_mermaid;
mod net_tree;
mod network;
mod network_flags;
mod output;
mod peers;
mod pid;
mod port;
mod process;
mod pruning;
mod ps;
mod pull;
mod rename;
mod rm;
mod rmi;
mod run;
mod small_init;
mod start;
mod stats;
mod stop;
mod system;
mod table;
mod template;
mod top;
mod typed;
mod units;
mod update;
mod volume;

use std::process::ExitCode;

/// Inside containers this executable goes by other names: the embedded image's program, and the small init.
fn main() -> ExitCode {
    rbox_engine::explain::begin();
    let name = std::env::args_os().next().unwrap_or_default();
    match name.to_str() {
        Some("/hello" | "hello") => hello::main(),
        Some("/sbin/docker-init") => small_init::main(),
        _ => cli::main(),
    }
}
