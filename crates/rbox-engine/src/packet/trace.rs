//! What a trace says: one step after the other, and how it ends.

use std::net::IpAddr;

use rbox_spec::port::Protocol;
use serde::Serialize;

use crate::packet::target::Target;

/// What a step decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The packet goes on.
    Ok,
    /// It does not.
    Stopped,
    /// Something decides that rbox does not know the mind of.
    Depends,
}

impl Verdict {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stopped => "stopped",
            Self::Depends => "depends",
        }
    }
}

/// The rule of nftables that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Rule {
    /// Family and name of its table: `ip rbox`.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// The rule as `nft` writes it; empty when it is the whole chain that is meant.
    pub rule: String,
}

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Step {
    /// What it decides.
    pub verdict: Verdict,
    /// What kind of step it is: `name`, `route`, `cable`, …
    pub step: &'static str,
    /// Why.
    pub text: String,
    /// The rule that decided, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
}

/// Where and why a packet goes no further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stopped {
    /// By what, in a few words.
    pub by: String,
    /// What to do about it; empty when nothing is known.
    pub advice: String,
}

/// A way and its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Trace {
    /// Where it begins: a container's name, `host` or `outside`.
    pub source: String,
    /// Where it was to go, as the user wrote it.
    pub destination: String,
    /// The address behind that, once it is known.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The steps.
    pub steps: Vec<Step>,
    /// Whether the packet arrives.
    pub reaches: bool,
    /// What it arrives at.
    pub arrival: Option<String>,
    /// What it depends on, for one that arrives if others let it.
    pub if_only: Vec<String>,
    /// What keeps it from arriving.
    pub stopped: Option<Stopped>,
}

impl Trace {
    /// Of a container that does not run: its `status`.
    pub fn not_running(source: &str, target: &Target, status: &str) -> Self {
        let text = format!("{source} does not run ({status})");
        Self {
            steps: vec![Step { verdict: Verdict::Stopped, step: "source", text, rule: None }],
            stopped: Some(Stopped {
                by: format!("{source}, which does not run"),
                advice: format!("rbox start {source}"),
            }),
            ..Self::begun(source.to_owned(), target)
        }
    }

    /// With no step yet.
    pub(super) fn begun(source: String, target: &Target) -> Self {
        let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
        Self {
            source,
            destination: format!("{host}:{}/{}", target.port, target.protocol),
            address: None,
            port: target.port,
            protocol: target.protocol,
            steps: Vec::new(),
            reaches: false,
            arrival: None,
            if_only: Vec::new(),
            stopped: None,
        }
    }
}
