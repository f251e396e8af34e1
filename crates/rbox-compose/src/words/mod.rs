//! Variables: `$NAME` and `${NAME…}` in texts, and the files of `KEY=VALUE` that they come from.

mod dotenv;
mod raw;
mod template;

pub(crate) use dotenv::parse as parse_dotenv;
pub(crate) use raw::parse as parse_raw;
pub(crate) use template::{Mention, Missing, TemplateError, mentions, substitute};
