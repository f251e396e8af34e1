//! `--security-opt` and `security_opt`: the walls that a container has besides its namespaces.

use std::path::Path;

use rbox_spec::container::{HostConfig, SeccompMode};

use crate::create::check::{check_seccomp, invalid};
use crate::error::EngineError;

/// What the options of `--security-opt` come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    seccomp: SeccompMode,
    no_new_privileges: bool,
    system_paths_unconfined: bool,
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
                ("no-new-privileges", None | Some("true")) => out.no_new_privileges = true,
                ("no-new-privileges", Some("false")) => out.no_new_privileges = false,
                ("seccomp", Some("unconfined")) => out.seccomp = SeccompMode::Unconfined,
                ("seccomp", Some("builtin")) => out.seccomp = SeccompMode::Default,
                // As `inspect` has it: the profile itself.
                ("seccomp", Some(text)) if text.starts_with('{') => {
                    out.seccomp = SeccompMode::Profile(checked(text, "seccomp profile")?);
                }
                ("seccomp", Some(path)) => out.seccomp = SeccompMode::Profile(profile(path)?),
                ("systempaths", Some("unconfined")) => out.system_paths_unconfined = true,
                ("systempaths", Some("confined")) => out.system_paths_unconfined = false,
                // These switch off what containers do not have.
                ("label", Some("disable")) | ("apparmor", Some("" | "unconfined")) => {}
                ("label" | "apparmor", Some(_)) => return Err(invalid(no_wall(option, key))),
                _ => {
                    return Err(invalid(format!(
                        "invalid --security-opt: \"{option}\": known are seccomp=FILE, seccomp=unconfined, systempaths=unconfined, no-new-privileges, label=disable, apparmor=unconfined"
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
    }
}

/// Why a label or a profile that is asked for is refused: without it the container would be less confined than its user believes.
fn no_wall(option: &str, key: &str) -> String {
    let (module, sign, instead) = match key {
        "label" => ("SELinux", "/sys/fs/selinux/enforce", "label=disable"),
        _ => ("AppArmor", "/sys/kernel/security/apparmor/profiles", "apparmor=unconfined"),
    };
    let why = if Path::new(sign).exists() {
        format!("rbox confines containers by no {module} yet")
    } else {
        format!("this host has no {module}")
    };
    format!("--security-opt {option}: {why}: leave it out, or say {instead}")
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
