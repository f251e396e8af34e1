//! RUN --device.

use rbox_spec::device_request::DeviceRequest;

use crate::builder::Builder;
use crate::dockerfile::{Device, Run};
use crate::error::BuildError;

/// The devices of a RUN.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// By their full names, each once.
    pub(super) names: Vec<String>,
    /// Names without a device, where none is required.
    pub(super) missing: Vec<String>,
}

impl Devices {
    /// What the container asks for.
    pub(super) fn request(&self) -> Option<DeviceRequest> {
        (!self.names.is_empty()).then(|| DeviceRequest::of_names(self.names.clone()))
    }

    fn add(&mut self, name: String) {
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }
}

impl Builder<'_> {
    /// Finds the devices that a RUN asks for.
    ///
    /// # Errors
    /// A required one is not there, or one is not allowed: that is said of all at once.
    ///
    /// Source: `ValidateEntitlements` of BuildKit, whose words these are.
    pub(super) fn devices(&self, run: &Run) -> Result<Devices, BuildError> {
        let (mut devices, mut forbidden) = (Devices::default(), Vec::new());
        if run.devices.is_empty() {
            return Ok(devices);
        }
        let allowed = &self.request.allowed;
        let mut granted = Vec::new();
        for name in &allowed.devices {
            granted.extend(self.engine.find_devices(name)?.devices.into_iter().map(|found| found.name));
        }
        for Device { name, required } in &run.devices {
            let alias = allowed.aliases.get(name).filter(|_| !allowed.all_devices);
            let wanted = alias.unwrap_or(name);
            let found = self.engine.find_devices(wanted)?;
            if found.devices.is_empty() && *required {
                let hint = found.hint;
                return Err(BuildError::Invalid(format!(
                    "required device {wanted:?} is not registered{hint}"
                )));
            }
            if found.devices.is_empty() {
                devices.missing.push(format!("{wanted}{}", found.hint));
            }
            for device in found.devices {
                let is_granted = allowed.all_devices || alias.is_some() || granted.contains(&device.name);
                if is_granted || device.is_allowed {
                    devices.add(device.name);
                } else if !forbidden.contains(&device.name) {
                    forbidden.push(device.name);
                }
            }
        }
        let (words, flags) = match &forbidden[..] {
            [] => return Ok(devices),
            [one] => (format!("device {one} is"), format!("--allow device={one}")),
            several => {
                let flags: Vec<String> = several.iter().map(|one| format!("--allow device={one}")).collect();
                (format!("devices {} are", several.join(", ")), flags.join(" "))
            }
        };
        Err(BuildError::Invalid(format!(
            "{words} requested by the build but not allowed: give {flags} to the build"
        )))
    }
}
