//! Secrets and configs of a container: files of the host that are mounted, or contents that it is given as files of its own.

use rbox_spec::given::{Content, GivenFile, MOST, SECRETS};
use rbox_spec::mount::{GivenBy, MountKind, MountSpec, Recursive};

use super::Making;
use crate::error::RunError;
use crate::model::{ExternalFile, MountedFile, Project, Service};

/// The secrets and configs of a container.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Files of the host, as they are.
    pub(crate) mounts: Vec<MountSpec>,
    /// Files that the container is given.
    pub(crate) given: Vec<(GivenFile, Content)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Sort {
    Secret,
    Config,
}

impl Sort {
    fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// Where it is in the container.
    fn target(self, file: &MountedFile) -> String {
        match (self, file.target.as_str()) {
            (_, target) if target.starts_with('/') => target.to_owned(),
            (Self::Secret, "") => format!("{SECRETS}/{}", file.source),
            (Self::Secret, target) => format!("{SECRETS}/{target}"),
            (Self::Config, "") => format!("/{}", file.source),
            (Self::Config, target) => format!("/{target}"),
        }
    }
}

impl Files {
    /// Those of a service.
    ///
    /// # Errors
    /// One is not there, or cannot be read.
    pub(crate) fn of(project: &Project, service: &Service) -> Result<Self, RunError> {
        let mut files = Self::default();
        for (sort, wanted, objects) in [
            (Sort::Secret, &service.secrets, &project.secrets),
            (Sort::Config, &service.configs, &project.configs),
        ] {
            for file in wanted {
                let refused = |why: String| RunError::Service {
                    service: service.name.clone(),
                    why: format!("{} {:?}: {why}", sort.as_str(), file.source),
                };
                let object = objects.get(&file.source).ok_or_else(|| refused("it is not defined".into()))?;
                files.add(sort, file, object).map_err(refused)?;
            }
        }
        Ok(files)
    }

    fn add(&mut self, sort: Sort, file: &MountedFile, object: &ExternalFile) -> Result<(), String> {
        if object.external {
            return Err(format!("unsupported external {}: rbox keeps none: name a file", sort.as_str()));
        }
        let target = sort.target(file);
        let plain = file.uid.is_empty() && file.gid.is_empty() && file.mode.is_none();
        if !object.file.is_empty() && (plain || std::path::Path::new(&object.file).is_dir()) {
            if !plain {
                return Err("uid, gid and mode are for files, and this is a directory".into());
            }
            let mount = bind(&object.file, &target).map_err(|error| error.to_string())?;
            self.mounts.push(mount);
            return Ok(());
        }
        let number = |key: &str, text: &str| match text {
            "" => Ok(0),
            text => text.parse().map_err(|_| format!("{key} {text:?} is no number")),
        };
        let given = GivenFile {
            uid: number("uid", &file.uid)?,
            gid: number("gid", &file.gid)?,
            mode: file.mode.unwrap_or(0o444),
            ..GivenFile::readable(target)
        };
        given.check().map_err(|error| error.to_string())?;
        self.given.push((given, Content(content(object)?)));
        Ok(())
    }
}

fn content(object: &ExternalFile) -> Result<Vec<u8>, String> {
    match &object.content {
        Some(content) => Ok(content.clone().into_bytes()),
        None if !object.file.is_empty() => read(&object.file),
        None if object.environment.is_empty() => Err("it has neither a file nor a content".into()),
        None => Err(format!("environment variable {:?} is not set", object.environment)),
    }
}

/// A file of the host that is read when the container is made, and for each plan. One that is too large is refused by its size, not
/// read; a FIFO, which gives what it has once, if ever, is refused too.
fn read(path: &str) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let failed = |what: &str, error: std::io::Error| format!("{what} {path}: {error}");
    if !std::fs::metadata(path).map_err(|error| failed("open", error))?.is_file() {
        return Err(format!("{path} is not a regular file, which can be read again for each plan"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| failed("open", error))?;
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(|error| failed("read", error))?;
    Ok(bytes)
}

fn bind(source: &str, target: &str) -> Result<MountSpec, rbox_spec::mount::InvalidMount> {
    let kind = MountKind::Bind {
        source: source.to_owned(),
        create: false,
        propagation: String::new(),
        recursive: Recursive::default(),
        idmap: None,
    };
    MountSpec::new(kind, target, true, GivenBy::Mount)
}

impl Making<'_> {
    pub(super) fn files(&self) -> Result<Files, RunError> {
        Files::of(self.project, self.service)
    }
}
