//! The capabilities, the seccomp filter and the AppArmor profile that a record asks for.

use rbox_runtime::security::apparmor::AppArmorError;
use rbox_runtime::security::capabilities::available;
use rbox_runtime::security::seccomp::{Filter, Profile, filter_for, filter_keeping_projects};
use rbox_runtime::security::{DEFAULT_CAPABILITIES, apparmor};
use rbox_spec::capability::CapSet;
use rbox_spec::container::{HostConfig, SeccompMode};

use crate::error::EngineError;
use crate::host::confines_by_apparmor;
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

/// The AppArmor profile that a start or an exec changes to; none to stay as rbox itself is. The default one is loaded when it is missing;
/// a host that cannot load it has none, as with Docker.
pub(crate) fn profile(host: &HostConfig) -> Result<Option<String>, EngineError> {
    let asked = host.apparmor.as_str();
    let is_default = asked.is_empty() && !host.privileged;
    if asked == apparmor::UNCONFINED || (asked.is_empty() && host.privileged) {
        return Ok(None);
    }
    if !apparmor::is_on() {
        // The host may have had it when the container was made.
        return if is_default { Ok(None) } else { Err(AppArmorError::Off(asked.to_owned()).into()) };
    }
    if !is_default && asked != apparmor::DEFAULT {
        return Ok(Some(asked.to_owned()));
    }
    // Asked for by its name it has to be there: then the start fails.
    let is_there = apparmor::ensure_default()? || !is_default;
    Ok(is_there.then(|| apparmor::DEFAULT.to_owned()))
}

/// The same as `inspect` shows it: nothing without AppArmor.
pub(crate) fn shown_profile(host: &HostConfig) -> String {
    match host.apparmor.as_str() {
        _ if !apparmor::is_on() => String::new(),
        "" if host.privileged => apparmor::UNCONFINED.to_owned(),
        "" if !confines_by_apparmor() => String::new(),
        "" => apparmor::DEFAULT.to_owned(),
        asked => asked.to_owned(),
    }
}
