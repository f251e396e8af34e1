//! `security_opt`.

use rbox_engine::engine::SecurityOptions;
use rbox_spec::container::HostConfig;

use super::Making;
use crate::error::RunError;

impl Making<'_> {
    pub(super) fn apply_security(&self, host: &mut HostConfig) -> Result<(), RunError> {
        let options = SecurityOptions::parse(&self.service.security_opt)
            .map_err(|error| self.refused("security_opt", error))?;
        options.apply(host);
        Ok(())
    }
}
