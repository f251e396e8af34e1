//! Commands on containers.

pub(crate) mod boot;
pub(crate) mod commit;
pub(crate) mod cp;
pub(crate) mod diff;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod logs;
pub(crate) mod merge;
pub(crate) mod mount;
pub(crate) mod pid;
pub(crate) mod pieces;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod ps;
pub(crate) mod rename;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod why;
