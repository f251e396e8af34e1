//! rbox's own nftables table: encoded here, sent over netlink, with no `nft` program at run time.
//!
//! `encode` speaks the wire format, `ruleset` holds the rules, `table` applies and checks them.

pub(crate) mod encode;
mod ruleset;
mod table;

pub(crate) use table::{Network, Table};
