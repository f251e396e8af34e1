//! What lists can be asked for: filters, and moments in time.

pub mod filter;
pub mod moment;
