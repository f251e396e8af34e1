//! Bridge, veth, address allocation, nftables and published ports.
#![forbid(unsafe_code)]
