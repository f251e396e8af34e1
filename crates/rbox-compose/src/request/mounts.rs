//! The mounts of a container: its volumes, tmpfs, secrets and configs, and what it keeps of the container before it.

use std::collections::{BTreeMap, BTreeSet};

use rbox_spec::VolumeName;
use rbox_spec::mount::{GivenBy, MountKind, MountSpec, Recursive};

use super::Making;
use crate::error::RunError;
use crate::model::Mount;

/// An anonymous volume of a container that is replaced: the next one mounts it again.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) target: String,
    pub(crate) volume: VolumeName,
}

impl Kept {
    /// Those among a container's mounts.
    pub(crate) fn of(mounts: &[MountSpec]) -> Vec<Self> {
        let kept = |mount: &MountSpec| match &mount.kind {
            MountKind::Volume { name: Some(volume), anonymous: true, .. } => {
                Some(Self { target: mount.target.clone(), volume: volume.clone() })
            }
            _ => None,
        };
        mounts.iter().filter_map(kept).collect()
    }

    fn mount(&self) -> MountSpec {
        let mut kind = MountKind::volume(Some(self.volume.clone()), false);
        if let MountKind::Volume { anonymous, .. } = &mut kind {
            *anonymous = true;
        }
        MountSpec {
            kind,
            target: self.target.clone(),
            read_only: false,
            given_by: GivenBy::Volume,
            mode: String::new(),
            chown: false,
        }
    }
}

impl Making<'_> {
    pub(super) fn mounts(&self) -> Result<Vec<MountSpec>, RunError> {
        let mut mounts = Vec::new();
        for mount in &self.service.volumes {
            mounts.push(self.mount(mount)?);
        }
        for text in &self.service.tmpfs {
            mounts.push(MountSpec::parse_tmpfs(text).map_err(|error| self.refused("tmpfs", error))?);
        }
        let named: BTreeSet<String> = mounts
            .iter()
            .filter(|mount| !matches!(mount.kind, MountKind::Volume { name: None, .. }))
            .map(|mount| mount.target.clone())
            .collect();
        for kept in self.kept.iter().filter(|kept| !named.contains(&kept.target)) {
            mounts.retain(|mount| mount.target != kept.target);
            mounts.push(kept.mount());
        }
        Ok(mounts)
    }

    fn mount(&self, mount: &Mount) -> Result<MountSpec, RunError> {
        let kind = match mount.kind.as_str() {
            "bind" => self.bind(mount)?,
            "volume" => self.volume(mount)?,
            "image" => MountKind::Image {
                name: super::mounted_image(self.project, &mount.source),
                id: String::new(),
                layers: Vec::new(),
                subpath: mount.image.clone().unwrap_or_default().subpath,
            },
            "tmpfs" => {
                let options = mount.tmpfs.clone().unwrap_or_default();
                MountKind::Tmpfs {
                    size: Some(options.size).filter(|bytes| *bytes > 0),
                    mode: Some(options.mode).filter(|mode| *mode > 0),
                    options: Vec::new(),
                }
            }
            other => {
                return Err(self.refused("volumes", format_args!("mounts of type {other} are not supported")));
            }
        };
        let given_by = if mount.kind == "bind" { GivenBy::Volume } else { GivenBy::Mount };
        // Nobody writes to an image.
        let read_only = mount.read_only || mount.kind == "image";
        MountSpec::new(kind, &mount.target, read_only, given_by)
            .map_err(|error| self.refused("volumes", error))
    }

    fn bind(&self, mount: &Mount) -> Result<MountKind, RunError> {
        let options = mount.bind.clone().unwrap_or_default();
        let recursive = match options.recursive.as_str() {
            "" | "enabled" => Recursive::Enabled,
            "disabled" => Recursive::Disabled,
            "writable" => Recursive::Writable,
            "readonly" => Recursive::ReadOnly,
            other => {
                return Err(self.refused("volumes.bind.recursive", format_args!("invalid value {other:?}")));
            }
        };
        Ok(MountKind::Bind {
            source: mount.source.clone(),
            // As with Compose: unless the file says otherwise.
            create: mount.bind.as_ref().is_none_or(|bind| bind.create_host_path),
            propagation: options.propagation,
            recursive,
            idmap: None,
        })
    }

    fn volume(&self, mount: &Mount) -> Result<MountKind, RunError> {
        let options = mount.volume.clone().unwrap_or_default();
        let name = match mount.source.as_str() {
            "" => None,
            source => {
                let outside = self.project.volumes.get(source).map_or(source, |volume| volume.name.as_str());
                Some(outside.parse().map_err(|error| self.refused("volumes", error))?)
            }
        };
        Ok(MountKind::Volume {
            anonymous: name.is_none(),
            name,
            no_copy: options.nocopy,
            subpath: options.subpath,
            labels: options.labels,
            options: BTreeMap::new(),
        })
    }

    /// `volumes_from`: a service's first container, or another one by its name.
    pub(super) fn volumes_from(&self) -> Result<Vec<String>, RunError> {
        let mut all = Vec::new();
        for text in &self.service.volumes_from {
            if let Some(container) = text.strip_prefix("container:") {
                all.push(container.to_owned());
                continue;
            }
            let (service, mode) = text.split_once(':').map_or((text.as_str(), None), |(s, m)| (s, Some(m)));
            let Some(id) = (self.peer)(service) else {
                let why = format!("there is no container of service {service:?}");
                return Err(self.refused("volumes_from", why));
            };
            all.push(mode.map_or_else(|| id.clone(), |mode| format!("{id}:{mode}")));
        }
        Ok(all)
    }
}
