//! What is asked of the kernel about chains, rules and changes, and how its answers are read.

use rustix::io::Errno;

use super::encode::{Attributes, Family, attribute, kind, msg};
use crate::error::{Error, Result};
use crate::socket::{DUMP, Message, Netlink, Request};

/// The table that `iptables` calls filter, and the chain by which Docker is known there.
pub(super) const FILTER: &str = "filter";
const DOCKER: &str = "DOCKER-USER";

/// Attributes of a rule, `NFTA_RULE_*`.
pub(super) const TABLE: u16 = 1;
pub(super) const CHAIN: u16 = 2;

/// Asks for one chain.
pub(super) fn get_chain(family: Family, table: &str, chain: &str) -> Request {
    Request {
        kind: kind(msg::GETCHAIN),
        flags: 0,
        body: Attributes::message(family).text(1, table).text(3, chain).into_body(),
        told: format!("NFT_MSG_GETCHAIN {family} {table} {chain}"),
        accept: None,
    }
}

/// Asks whether Docker uses `iptables` here.
pub(super) fn question(family: Family) -> Request {
    get_chain(family, FILTER, DOCKER)
}

/// How many rules are in the chain of an answer, to which nothing jumps.
pub(super) fn rules_in(answer: &Message) -> Option<u32> {
    const USE: u16 = 6;
    attribute(answer.body.get(4..)?, USE)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Asks for the number of the last change to any table.
pub(super) fn get_generation() -> Request {
    Request {
        kind: kind(msg::GETGEN),
        flags: 0,
        body: Attributes::any_family().into_body(),
        told: "NFT_MSG_GETGEN".into(),
        accept: None,
    }
}

pub(super) fn read_generation(answer: &Result<Message, Errno>) -> Result<u32> {
    let what = || "NFT_MSG_GETGEN".to_owned();
    let message = answer.as_ref().map_err(|errno| Error::Kernel { what: what(), errno: *errno })?;
    let id = message.body.get(4..).and_then(|body| attribute(body, 1)?.first_chunk::<4>().copied());
    id.map(u32::from_be_bytes)
        .ok_or_else(|| Error::Answer { what: what(), why: "no generation in it".into() })
}

/// The rules of a chain, in order; none when it is not there.
pub(super) fn rules_of(socket: &mut Netlink, family: u8, table: &str, chain: &str) -> Result<Vec<Message>> {
    let request = Request {
        kind: kind(msg::GETRULE),
        flags: DUMP,
        body: Attributes::of_number(family).text(TABLE, table).text(CHAIN, chain).into_body(),
        told: format!("NFT_MSG_GETRULE {table} {chain}"),
        accept: None,
    };
    match socket.ask(&request) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(Vec::new()),
        answer => answer,
    }
}
