//! `--platform`.

use rbox_engine::spec::Platform;

use crate::command::error::bad_input;

/// `linux/arm64`.
pub(crate) fn parse_platform(text: &str) -> anyhow::Result<Platform> {
    text.parse().map_err(bad_input)
}

/// The one that was given, or else that of `DOCKER_DEFAULT_PLATFORM`, if there is any.
pub(crate) fn default_platform(given: Option<&str>) -> anyhow::Result<Option<Platform>> {
    let variable = || std::env::var("DOCKER_DEFAULT_PLATFORM").ok();
    let text = given.map(str::to_owned).or_else(variable).filter(|text| !text.is_empty());
    text.as_deref().map(parse_platform).transpose()
}

/// Several of them.
pub(crate) fn parse_platforms(texts: &[String]) -> anyhow::Result<Vec<Platform>> {
    texts.iter().map(|text| parse_platform(text)).collect()
}
