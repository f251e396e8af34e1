//! `--security-opt` and `security_opt`: the walls that a container has besides its namespaces.

use std::path::Path;

use rbox_runtime::security::apparmor;
use rbox_spec::container::{HostConfig, SeccompMode};

use crate::create::check::{check_seccomp, invalid};
use crate::error::EngineError;

/// What the options of `--security-opt` come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    seccomp: SeccompMode,
    no_new_privileges: bool,
    system_paths_unconfined: bool,
    apparmor: String,
}

impl SecurityOptions {
    /// Reads options of the form `KEY=VALUE` or `KEY:VALUE`. The file of a seccomp profile is read and checked.
    ///
    /// # Errors
    /// One is not known, or its profile cannot be read or used.
    pub fn parse(options: &[String]) -> Result<Self, EngineError> {
        let mut out = Self::default();
        for option in options {
            let (key, value) =
                option.split_once(['=', ':']).map_or((option.as_str(), None), |(k, v)| (k, Some(v)));
            match (key, value) {
                ("no-new-privileges", None | Some("true" | "TRUE" | "True" | "t" | "T" | "1")) => {
                    out.no_new_privileges = true;
                }
                ("no-new-privileges", Some("false" | "FALSE" | "False" | "f" | "F" | "0")) => {
                    out.no_new_privileges = false;
                }
                ("seccomp", Some("unconfined")) => out.seccomp = SeccompMode::Unconfined,
                ("seccomp", Some("builtin")) => out.seccomp = SeccompMode::Default,
                // As `inspect` has it: the profile itself.
                ("seccomp", Some(text)) if text.starts_with('{') => {
                    out.seccomp = SeccompMode::Profile(checked(text, "seccomp profile")?);
                }
                ("seccomp", Some(path)) => out.seccomp = SeccompMode::Profile(profile(path)?),
                ("systempaths", Some("unconfined")) => out.system_paths_unconfined = true,
                ("systempaths", Some("confined")) => out.system_paths_unconfined = false,
                ("apparmor", Some(profile)) => out.apparmor = checked_profile(option, profile)?,
                // It switches off what containers do not have.
                ("label", Some("disable")) => {}
                ("label", Some(_)) => return Err(invalid(no_label(option))),
                _ => {
                    return Err(invalid(format!(
                        "invalid --security-opt: \"{option}\": known are seccomp=FILE, seccomp=unconfined, systempaths=unconfined, no-new-privileges, label=disable, apparmor=PROFILE, apparmor=unconfined"
                    )));
                }
            }
        }
        Ok(out)
    }

    /// Puts them into `host`.
    pub fn apply(self, host: &mut HostConfig) {
        host.seccomp = self.seccomp;
        host.no_new_privileges = self.no_new_privileges;
        host.system_paths_unconfined = self.system_paths_unconfined;
        host.apparmor = self.apparmor;
    }
}

/// Why a label that is asked for is refused: without it the container would be less confined than its user believes.
fn no_label(option: &str) -> String {
    let why = if Path::new("/sys/fs/selinux/enforce").exists() {
        "rbox confines containers by no SELinux yet"
    } else {
        "this host has no SELinux"
    };
    format!("--security-opt {option}: {why}: leave it out, or say label=disable")
}

/// The name of an AppArmor profile that can be asked of the kernel. On a host without AppArmor that is none.
fn checked_profile(option: &str, profile: &str) -> Result<String, EngineError> {
    if profile.len() > 1024 || profile.contains(char::is_control) {
        return Err(invalid(format!(
            "--security-opt {}: no AppArmor profile has such a name",
            option.escape_debug()
        )));
    }
    if !matches!(profile, "" | apparmor::UNCONFINED) && !apparmor::is_on() {
        return Err(invalid(format!(
            "--security-opt {option}: this host has no AppArmor: leave it out, or say apparmor=unconfined"
        )));
    }
    Ok(profile.to_owned())
}

/// The text of a seccomp profile that can be used.
fn profile(path: &str) -> Result<String, EngineError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| invalid(format!("opening seccomp profile ({path}) failed: {e}")))?;
    checked(&text, &format!("seccomp profile {path}"))
}

fn checked(text: &str, what: &str) -> Result<String, EngineError> {
    check_seccomp(text).map_err(|e| invalid(format!("{what}: {e}")))?;
    Ok(text.to_owned())
}
