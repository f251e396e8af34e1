//! A real connection, to see whether the kernel agrees with a trace.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rbox_sys::process;
use serde::Serialize;

use crate::error::EngineError;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a real connection went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Probe {
    /// Whether it was made.
    pub connected: bool,
    /// `connected`, `connection refused`, `no answer within 2 s`, …
    pub result: String,
    /// How long that took, in microseconds.
    pub microseconds: u64,
    /// Whether it is what the trace says.
    pub agrees: bool,
}

/// Connects over TCP from the network namespace of the process `pid`, or, when none, from this one. `reaches` is what
/// the trace says.
pub fn probe(pid: Option<i32>, to: SocketAddr, reaches: bool) -> Result<Probe, EngineError> {
    let begin = Instant::now();
    let connect = || TcpStream::connect_timeout(&to, PATIENCE).map(drop);
    let result = match pid {
        None => connect(),
        Some(pid) => {
            let path = format!("/proc/{pid}/ns/net");
            let netns = File::open(&path).map_err(EngineError::file("open", path))?;
            process::in_network(netns.as_fd(), connect)?
        }
    };
    let microseconds = begin.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
    let connected = result.is_ok();
    let result = match result {
        Ok(()) => "connected".to_owned(),
        Err(error) => match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                format!("no answer within {} s", PATIENCE.as_secs())
            }
            ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
            ErrorKind::HostUnreachable => "host unreachable".to_owned(),
            _ => error.to_string(),
        },
    };
    Ok(Probe { connected, result, microseconds, agrees: connected == reaches })
}
