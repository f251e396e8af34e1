//! RUN --mount.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

use rbox_spec::Digest;
use rbox_spec::mount::{GivenBy, MountKind as Kind, MountSpec, Recursive};
use rbox_sys::lock::How;
use rbox_sys::own;

use super::agent::Forward;
use super::copy::Origin;
use crate::builder::Builder;
use crate::cache::{KeyBuilder, Part, STEP, cache_id, clean_target, lock_filled, mount_dir};
use crate::context::Work;
use crate::dockerfile::{Mount, MountKind, Run, Sharing};
use crate::error::{BuildError, io_error};
use crate::stage::Stage;
use crate::tree::{Content, Copier, CopyOptions, NoMemory, Owner, Source};

/// The mounts of one RUN, before and after they are made.
pub(super) struct Mounted {
    wanted: Vec<(Mount, Option<Origin>)>,
    /// What they read, for the trace.
    pub(super) files: BTreeMap<PathBuf, Digest>,
    /// Variables that they bring.
    pub(super) env: Vec<String>,
    /// Caches that it has locked, by their directories or by their locks.
    held: BTreeMap<PathBuf, File>,
}

impl Builder<'_> {
    /// Reads the flags, and puts into the key what decides what the step makes.
    pub(super) fn mounts(
        &mut self,
        stage: &Stage,
        run: &Run,
        key: &mut KeyBuilder,
    ) -> Result<Mounted, BuildError> {
        let mut mounted =
            Mounted { wanted: Vec::new(), files: BTreeMap::new(), env: Vec::new(), held: BTreeMap::new() };
        for flag in &run.mounts {
            let mount = flag.mount(|text| self.words.word(text, &stage.env))?;
            let place = [&mount.target, &mount.id].into_iter().find(|text| !text.is_empty());
            let place = place.map_or_else(|| mount.kind.as_str().to_owned(), Clone::clone);
            key.other(&format!("mount {place}"), &mount_line(&mount));
            // What is not allowed is not to be had from the cache either.
            self.host_cache(&mount)?;
            let reads =
                mount.kind == MountKind::Bind || (mount.kind == MountKind::Cache && !mount.from.is_empty());
            let origin = if reads { Some(self.origin(stage, Some(&mount.from))?) } else { None };
            if let Some(origin) = &origin {
                let selected = source_of(origin.source(), &mount)?;
                let content = Content::of(origin.source(), &[selected], &|_| true, &mut NoMemory)?;
                key.add(Part::Files(mount.target.clone()), &content.digest.to_string());
                mounted.files.extend(content.entries);
            }
            self.note_secret(&mount);
            mounted.wanted.push((mount, origin));
        }
        Ok(mounted)
    }

    /// Makes what is mounted, as binds of the host.
    pub(super) fn make_mounts(
        &mut self,
        stage: &Stage,
        mounted: &mut Mounted,
    ) -> Result<Vec<MountSpec>, BuildError> {
        let mut specs = Vec::new();
        let wanted = std::mem::take(&mut mounted.wanted);
        // In one order by all who lock several, or two steps could wait for each other.
        let mut caches = Vec::new();
        for (place, (mount, origin)) in wanted.iter().enumerate() {
            if mount.kind == MountKind::Cache {
                let of_host = self.host_cache(mount)?;
                let order = (of_host.as_ref().map(|cache| cache.identity), id_of(mount));
                caches.push((order, place, mount, origin, of_host));
            }
        }
        caches.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        let mut dirs = BTreeMap::new();
        for (_, place, mount, origin, of_host) in caches {
            dirs.insert(
                place,
                match of_host {
                    Some(cache) => self.lock_host_cache(mount, &cache, &mut mounted.held)?,
                    None => self.cache_dir(mount, origin.as_ref(), &mut mounted.held)?,
                },
            );
        }
        for (place, (mount, origin)) in wanted.iter().enumerate() {
            let target = |default: &str| {
                let target = if mount.target.is_empty() { default } else { &mount.target };
                super::absolute(&stage.image.config.working_dir, target).trim_end_matches('/').to_owned()
            };
            match mount.kind {
                MountKind::Bind => {
                    if let Some(origin) = origin {
                        let place = self.copied(origin.source(), mount)?;
                        specs.push(bind(&place, target(""), mount.read_only));
                    }
                }
                MountKind::Cache => {
                    specs.extend(dirs.get(&place).map(|dir| bind(dir, target(""), mount.read_only)));
                }
                MountKind::Tmpfs => specs.push(MountSpec {
                    kind: Kind::Tmpfs { size: mount.size, mode: None, options: Vec::new() },
                    target: target(""),
                    read_only: false,
                    given_by: GivenBy::Mount,
                    mode: String::new(),
                    chown: false,
                }),
                MountKind::Secret => specs.extend(self.secret(mount, &target, &mut mounted.env)?),
                MountKind::Ssh => {
                    let number = mounted.env.iter().filter(|line| line.starts_with("SSH_AUTH_SOCK=")).count();
                    specs.extend(self.agent(mount, &target, number, &mut mounted.env)?);
                }
            }
        }
        mounted.wanted = wanted;
        if let Some(root) = specs.iter().find(|spec| spec.target.is_empty()) {
            let _ = root;
            return Err(BuildError::Invalid("invalid mount target \"/\"".to_owned()));
        }
        Ok(specs)
    }

    /// A script of RUN <<EOF as a file.
    pub(super) fn script_mount(&mut self, place: &str, text: &str) -> Result<MountSpec, BuildError> {
        let path = file_of(&self.work.fresh(), text.as_bytes(), 0o755, Owner { uid: 0, gid: 0 })?;
        Ok(bind(&path, place.to_owned(), true))
    }

    /// A copy of what is mounted: the program sees what the build saw, and nothing of the host changes.
    fn copied(&mut self, source: &Source, mount: &Mount) -> Result<PathBuf, BuildError> {
        let selected = source_of(source, mount)?;
        let dir = self.work.fresh();
        own::make_private(&dir).map_err(io_error("make directory", &dir))?;
        let root = crate::context::open_dir(&dir)?;
        let mut copier = Copier::new(&root, CopyOptions::default());
        if selected.is_dir {
            copier.contents(source, &selected, Path::new("/tree"), &|_| true)?;
            return Ok(dir.join("tree"));
        }
        copier.file(source, &selected, Path::new("/"), std::ffi::OsStr::new("file"))?;
        Ok(dir.join("file"))
    }

    /// The directory of a cache, made when it is new. `private`: another one as long as one is in use.
    fn cache_dir(
        &mut self,
        mount: &Mount,
        origin: Option<&Origin>,
        held: &mut BTreeMap<PathBuf, File>,
    ) -> Result<PathBuf, BuildError> {
        let id = id_of(mount);
        let namespace = self.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS").cloned().unwrap_or_default();
        let first = mount_dir(&self.engine.build_dir(), &namespace, &id);
        let all = first.parent().unwrap_or(&first);
        own::make_private(all).map_err(io_error("make directory", all))?;
        let name = first.file_name().unwrap_or_default().to_string_lossy();
        let sharing = mount.sharing.unwrap_or_default();
        let mut number = 0;
        loop {
            let dir = all.join(if number == 0 { name.to_string() } else { format!("{name}-{number}") });
            let data = dir.join("data");
            // The same one twice in one step.
            if sharing != Sharing::Private && held.contains_key(&dir) {
                return Ok(data);
            }
            let open = || {
                own::make_private(&dir).map_err(io_error("make directory", &dir))?;
                Ok(File::from(crate::context::open_dir(&dir)?))
            };
            let mut fill = || {
                own::write(&dir.join("id"), &id).map_err(io_error("write", &dir))?;
                fill_cache(mount, origin, &dir)
            };
            let how = if sharing == Sharing::Shared { How::Shared } else { How::Exclusive };
            let mut lock = lock_filled(&dir, &open, how, None, &mut fill)?;
            if lock.is_none() && sharing == Sharing::Private {
                number += 1;
                continue;
            }
            if lock.is_none() {
                let line = format!("waiting for cache {id}, which another build or stage uses");
                self.tell(self.number, &line);
                lock = lock_filled(&dir, &open, how, Some(STEP), &mut fill)?;
            }
            if let Some(lock) = lock {
                held.insert(dir, lock);
                return Ok(data);
            }
        }
    }

    /// Makes the directory of secrets, if there are any.
    pub(crate) fn begin_secrets(&mut self) -> Result<(), BuildError> {
        if self.secrets.is_none() && !self.request.secrets.is_empty() {
            self.secrets = Some(Work::begin(&self.engine.live_build_dir())?);
        }
        Ok(())
    }

    /// Notes which secret or agent a step asks for, for statements: never what it is.
    fn note_secret(&mut self, mount: &Mount) {
        let place = self.targets.place();
        if mount.kind == MountKind::Secret {
            self.used.secrets.insert((place, secret_id(mount), !mount.required));
        }
        if mount.kind == MountKind::Ssh {
            self.used.agents.insert((place, agent_id(mount).to_owned(), !mount.required));
        }
    }

    fn secret(
        &mut self,
        mount: &Mount,
        target: &dyn Fn(&str) -> String,
        env: &mut Vec<String>,
    ) -> Result<Option<MountSpec>, BuildError> {
        let id = secret_id(mount);
        let Some(secret) = self.request.secrets.get(&id).cloned() else {
            if mount.required {
                return Err(BuildError::Invalid(format!("secret {id}: not found")));
            }
            return Ok(None);
        };
        if let Some(name) = &mount.env {
            let name = if name.is_empty() { &id } else { name };
            env.push(format!("{name}={}", String::from_utf8_lossy(&secret)));
            if mount.target.is_empty() {
                return Ok(None);
            }
        }
        let owner = Owner { uid: mount.uid.unwrap_or(0), gid: mount.gid.unwrap_or(0) };
        self.begin_secrets()?;
        let Some(dir) = self.secrets.as_ref().map(Work::fresh) else { return Ok(None) };
        let path = file_of(&dir, &secret, mount.mode.unwrap_or(0o400), owner)?;
        Ok(Some(bind(&path, target(&format!("/run/secrets/{id}")), true)))
    }

    fn agent(
        &mut self,
        mount: &Mount,
        target: &dyn Fn(&str) -> String,
        number: usize,
        env: &mut Vec<String>,
    ) -> Result<Option<MountSpec>, BuildError> {
        let id = agent_id(mount);
        let Some(socket) = self.request.agents.get(id) else {
            if mount.required {
                return Err(BuildError::Invalid(format!("unset ssh forward key {id}")));
            }
            return Ok(None);
        };
        let place = target(&format!("/run/buildkit/ssh_agent.{number}"));
        env.push(format!("SSH_AUTH_SOCK={place}"));
        let owner = Owner { uid: mount.uid.unwrap_or(0), gid: mount.gid.unwrap_or(0) };
        let (forward, path) = Forward::begin(socket, &self.work.fresh(), mount.mode.unwrap_or(0o600), owner)?;
        self.agents.push(forward);
        Ok(Some(bind(&path, place, false)))
    }
}

fn secret_id(mount: &Mount) -> String {
    match (mount.id.as_str(), mount.source.as_str(), mount.target.as_str()) {
        ("", "", target) => Path::new(target).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        ("", source, _) => source.to_owned(),
        (id, _, _) => id.to_owned(),
    }
}

fn agent_id(mount: &Mount) -> &str {
    if mount.id.is_empty() { "default" } else { &mount.id }
}

/// A file with this content, in a new directory.
fn file_of(dir: &Path, content: &[u8], mode: u32, owner: Owner) -> Result<PathBuf, BuildError> {
    own::make_private(dir).map_err(io_error("make directory", dir))?;
    let root = crate::context::open_dir(dir)?;
    let options = CopyOptions { owner: Some(owner), ..CopyOptions::default() };
    let name = std::ffi::OsStr::new("file");
    Copier::new(&root, options).text(Path::new("/"), name, mode, content, None)?;
    Ok(dir.join("file"))
}

/// Makes the directory of a new cache: empty, or with what a stage or image has.
fn fill_cache(mount: &Mount, origin: Option<&Origin>, dir: &Path) -> Result<(), BuildError> {
    // Of a build that was killed while it did this.
    let new = dir.join("new");
    rbox_sys::removal::remove_tree(&new).map_err(io_error("remove", &new))?;
    let root = crate::context::open_dir(dir)?;
    let owner = Owner { uid: mount.uid.unwrap_or(0), gid: mount.gid.unwrap_or(0) };
    let mut copier = Copier::new(&root, CopyOptions::default());
    if let Some(origin) = origin {
        let selected = source_of(origin.source(), mount)?;
        copier.contents(origin.source(), &selected, Path::new("/new"), &|_| true)?;
    } else {
        copier.make_dirs(Path::new("/new"), mount.mode.unwrap_or(0o755), owner)?;
    }
    std::fs::rename(new, dir.join("data")).map_err(io_error("rename", dir))
}

/// What decides what a mount has, as `--mount` would say it. No two mounts that differ in it have the same line.
fn mount_line(mount: &Mount) -> String {
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    let mut line = format!("type={}", mount.kind.as_str());
    for (name, value) in [
        // Which secret or agent it is decides what the step makes. Which cache does not: what is in it may be anything.
        ("id", text(&mount.id).filter(|_| matches!(mount.kind, MountKind::Secret | MountKind::Ssh))),
        ("from", text(&mount.from)),
        ("source", text(&mount.source)),
        ("target", text(&mount.target)),
        ("ro", mount.read_only.then(String::new)),
        ("size", mount.size.map(|size| size.to_string())),
        ("mode", mount.mode.map(|mode| format!("{mode:04o}"))),
        ("uid", number(mount.uid)),
        ("gid", number(mount.gid)),
        ("env", mount.env.clone()),
    ] {
        let Some(value) = value else { continue };
        if value.contains([',', '"', '\\']) {
            let _ = write!(line, ",{name}={value:?}");
        } else {
            let _ = write!(line, ",{name}={value}");
        }
    }
    line
}

/// What a cache is called.
fn id_of(mount: &Mount) -> String {
    cache_id(&mount.id).unwrap_or_else(|_| clean_target(&mount.target))
}

fn source_of(source: &Source, mount: &Mount) -> Result<crate::tree::Selected, BuildError> {
    let written = if mount.source.is_empty() { "/" } else { &mount.source };
    // What is mounted is one thing: its name has no wildcards.
    Ok(source.named(Path::new(written))?)
}

fn bind(source: &Path, target: String, read_only: bool) -> MountSpec {
    MountSpec {
        kind: Kind::Bind {
            source: source.to_string_lossy().into_owned(),
            create: false,
            propagation: String::new(),
            recursive: Recursive::default(),
            idmap: None,
        },
        target,
        read_only,
        given_by: GivenBy::Mount,
        mode: String::new(),
        chown: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_another_one_by_its_id_and_a_cache_is_not() {
        let line = |kind, id: &str| {
            let (target, id) = ("/t".to_owned(), id.to_owned());
            mount_line(&Mount { kind, target, id, ..Mount::default() })
        };
        assert_eq!(line(MountKind::Secret, "prod"), "type=secret,id=prod,target=/t");
        assert_eq!(line(MountKind::Ssh, "prod"), "type=ssh,id=prod,target=/t");
        assert_eq!(line(MountKind::Secret, ""), "type=secret,target=/t");
        assert_eq!(line(MountKind::Cache, "prod"), "type=cache,target=/t");
    }
}
