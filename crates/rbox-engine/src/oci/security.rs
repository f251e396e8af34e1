//! The capabilities and the seccomp filter that a record asks for.

use rbox_runtime::security::DEFAULT_CAPABILITIES;
use rbox_runtime::security::capabilities::available;
use rbox_runtime::security::seccomp::{Filter, Profile, filter_for, filter_keeping_projects};
use rbox_spec::capability::CapSet;
use rbox_spec::container::SeccompMode;

use crate::error::EngineError;
use crate::record::container::ContainerRecord;

/// The capabilities the record's flags leave.
pub(crate) fn capabilities(record: &ContainerRecord) -> Result<CapSet, EngineError> {
    if record.host.privileged {
        return Ok(available()?);
    }
    let set = DEFAULT_CAPABILITIES
        .tweak(&record.host.cap_add, &record.host.cap_drop)
        .map_err(|e| EngineError::Invalid(e.to_string()))?;
    Ok(if set.difference(DEFAULT_CAPABILITIES).is_empty() { set } else { set.intersection(available()?) })
}

/// The seccomp filter the record's flags ask for.
pub(crate) fn filter(record: &ContainerRecord, capabilities: CapSet) -> Result<Option<Filter>, EngineError> {
    let profile = match &record.host.seccomp {
        _ if record.host.privileged => return Ok(None),
        SeccompMode::Unconfined => return Ok(None),
        SeccompMode::Default => Profile::Default,
        SeccompMode::Profile(text) => Profile::parse(text.as_bytes())
            .map_err(|e| EngineError::Invalid(format!("seccomp profile: {e}")))?,
    };
    if record.host.storage_opt.is_empty() {
        return Ok(filter_for(&profile, capabilities)?);
    }
    Ok(filter_keeping_projects(&profile, capabilities)?)
}
