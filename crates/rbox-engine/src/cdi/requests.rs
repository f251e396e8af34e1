//! From what is asked for to what it brings.

use std::path::PathBuf;

use rbox_spec::container::HostConfig;
use rbox_spec::device_request::{DeviceRequest, is_qualified};

use crate::cdi::CdiError;
use crate::cdi::edits::Edits;
use crate::cdi::specs::Specs;

/// Vendors that Docker knows by name, and the kind of their GPUs.
const VENDORS: [(&str, &str); 2] = [("nvidia", "nvidia.com/gpu"), ("amd", "amd.com/gpu")];
/// What GPUs are asked for besides: what the drivers of these vendors have.
const CAPABILITIES: [&str; 9] =
    ["gpu", "nvidia", "amd", "compute", "compat32", "graphics", "utility", "video", "display"];

/// What a container's devices bring; none when it asks for none.
pub(crate) fn edits(host: &HostConfig, directories: &[PathBuf]) -> Result<Option<Edits>, CdiError> {
    if host.device_requests.is_empty() {
        return Ok(None);
    }
    let specs = Specs::load(directories);
    let mut names = Vec::new();
    for request in &host.device_requests {
        names.extend(names_of(request, &specs)?);
    }
    let (mut all, mut unknown, mut used) = (Edits::default(), Vec::new(), Vec::new());
    for name in &names {
        let Some((document, device)) = specs.find(name).map_err(CdiError::Inject)? else {
            unknown.push(name.as_str());
            continue;
        };
        // What goes with all devices of a file comes once, however many there are.
        if !used.iter().any(|before| std::ptr::eq(*before, document)) {
            used.push(document);
            all.append(&document.container_edits);
        }
        all.append(&device.container_edits);
        for edits in [&document.container_edits, &device.container_edits] {
            edits
                .check_supported(host.id_maps.is_some())
                .map_err(|what| CdiError::Inject(format!("device {name} has {what}")))?;
        }
    }
    if !unknown.is_empty() {
        let hint = specs.hint();
        return Err(CdiError::Inject(format!("unresolvable CDI devices {}{hint}", unknown.join(", "))));
    }
    Ok(Some(all))
}

/// The full names of the devices that a request is for.
fn names_of(request: &DeviceRequest, specs: &Specs) -> Result<Vec<String>, CdiError> {
    if request.is_cdi() {
        return Ok(request.ids.clone());
    }
    let kind = kind_of(request, specs)?;
    let there = specs.devices_of(kind);
    let full = |device: &str| format!("{kind}={device}");
    if !request.ids.is_empty() {
        let ids = request.ids.iter();
        return Ok(ids.map(|id| if is_qualified(id) { id.clone() } else { full(id) }).collect());
    }
    let single: Vec<&str> = if there.contains(&"0") {
        // Files have each GPU under its number and under other names, too.
        there.iter().copied().filter(|name| name.parse::<u32>().is_ok()).collect()
    } else {
        there.iter().copied().filter(|name| *name != "all").collect()
    };
    let Ok(count) = usize::try_from(request.count) else {
        return Ok(if there.contains(&"all") {
            vec![full("all")]
        } else {
            single.into_iter().map(full).collect()
        });
    };
    if count > single.len() {
        return Err(CdiError::Inject(format!(
            "{count} devices are asked for, and {kind} has {}",
            single.len()
        )));
    }
    Ok(single.into_iter().take(count).map(full).collect())
}

/// The kind of the devices that a request for GPUs is for.
fn kind_of<'a>(request: &DeviceRequest, specs: &'a Specs) -> Result<&'a str, CdiError> {
    let lists: Vec<String> =
        request.capabilities.iter().map(|list| format!("[{}]", list.join(" "))).collect();
    let nobody = |hint: String| CdiError::NoDriver {
        driver: request.driver.clone(),
        capabilities: format!("[{}]", lists.join(" ")),
        hint,
    };
    let is_known = |list: &Vec<String>| list.iter().all(|one| CAPABILITIES.contains(&one.as_str()));
    if !request.capabilities.is_empty() && !request.capabilities.iter().any(is_known) {
        return Err(nobody(format!(": known are {}", CAPABILITIES.join(", "))));
    }
    let kinds = specs.kinds();
    let there = |wanted: &str| kinds.iter().copied().find(|kind| *kind == wanted);
    let missing = || {
        let hint = specs.hint();
        nobody(format!(": no CDI spec has such GPUs; 'nvidia-ctk cdi generate' and the like write one{hint}"))
    };
    if let Some((_, kind)) = VENDORS.iter().find(|(vendor, _)| *vendor == request.driver) {
        return there(kind).ok_or_else(missing);
    }
    if !request.driver.is_empty() {
        return Err(nobody(": drivers are nvidia, amd and cdi".to_owned()));
    }
    if let Some(kind) = VENDORS.iter().find_map(|(_, kind)| there(kind)) {
        return Ok(kind);
    }
    let others: Vec<&str> = kinds.iter().copied().filter(|kind| kind.ends_with("/gpu")).collect();
    match others[..] {
        [kind] => Ok(kind),
        [] => Err(missing()),
        _ => Err(nobody(format!(
            ": several vendors have GPUs here: name them with --device, as {}=…",
            others.join("=…, ")
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn specs(files: &[(&str, &[&str])]) -> Specs {
        let dir = tempfile::tempdir().unwrap();
        for (number, (kind, devices)) in files.iter().enumerate() {
            let devices: Vec<_> = devices
                .iter()
                .map(|name| serde_json::json!({ "name": name, "containerEdits": { "env": ["A=1"] } }))
                .collect();
            let text = serde_json::json!({ "cdiVersion": "0.5.0", "kind": kind, "devices": devices });
            std::fs::write(dir.path().join(format!("{number}.json")), text.to_string()).unwrap();
        }
        Specs::load(&[dir.path().to_owned()])
    }

    fn names(files: &[(&str, &[&str])], gpus: &str) -> String {
        match names_of(&DeviceRequest::parse_gpus(gpus).unwrap(), &specs(files)) {
            Ok(names) => names.join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn which_gpus() {
        let nvidia: (&str, &[&str]) = ("nvidia.com/gpu", &["0", "GPU-1f", "1", "GPU-2f", "all"]);
        let amd: (&str, &[&str]) = ("amd.com/gpu", &["0", "all"]);
        let intel: (&str, &[&str]) = ("intel.com/gpu", &["card0", "card1"]);
        let other: (&str, &[&str]) = ("other.com/gpu", &["x"]);
        for (files, gpus, wanted) in [
            (&[amd, nvidia][..], "all", "nvidia.com/gpu=all"),
            (&[amd, nvidia], "driver=amd,all", "amd.com/gpu=all"),
            (&[amd, nvidia], "2", "nvidia.com/gpu=0 nvidia.com/gpu=1"),
            (&[nvidia], "capabilities=compute", "nvidia.com/gpu=0"),
            (&[nvidia], "\"device=1,GPU-1f\"", "nvidia.com/gpu=1 nvidia.com/gpu=GPU-1f"),
            (&[nvidia, intel], "device=intel.com/gpu=card1", "intel.com/gpu=card1"),
            (&[nvidia], "driver=cdi,device=a.com/b=c", "a.com/b=c"),
            (
                &[nvidia],
                "3",
                "CDI device injection failed: 3 devices are asked for, and nvidia.com/gpu has 2",
            ),
            (&[intel], "all", "intel.com/gpu=card0 intel.com/gpu=card1"),
            (&[intel], "1", "intel.com/gpu=card0"),
            (
                &[intel, other],
                "1",
                "could not select device driver \"\" with capabilities: [[gpu]]: several vendors have GPUs here: name them with --device, as intel.com/gpu=…, other.com/gpu=…",
            ),
        ] {
            assert_eq!(names(files, gpus), wanted, "{gpus}");
        }
        for (gpus, wanted) in [
            ("all", "could not select device driver \"\" with capabilities: [[gpu]]: no CDI spec"),
            ("driver=x,all", "could not select device driver \"x\" with capabilities: [[gpu]]: drivers are"),
            (
                "driver=nvidia,1",
                "could not select device driver \"nvidia\" with capabilities: [[gpu]]: no CDI",
            ),
            ("capabilities=x", "could not select device driver \"\" with capabilities: [[x gpu]]: known are"),
        ] {
            let said = names(&[], gpus);
            assert!(said.starts_with(wanted), "{gpus}: {said}");
        }
    }
}
