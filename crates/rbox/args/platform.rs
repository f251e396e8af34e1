//! `--platform`.

use rbox_engine::spec::Platform;

use crate::command::error::bad_input;

/// `linux/arm64`.
pub(crate) fn parse_platform(text: &str) -> anyhow::Result<Platform> {
    text.parse().map_err(bad_input)
}

/// Several of them.
pub(crate) fn parse_platforms(texts: &[String]) -> anyhow::Result<Vec<Platform>> {
    texts.iter().map(|text| parse_platform(text)).collect()
}
