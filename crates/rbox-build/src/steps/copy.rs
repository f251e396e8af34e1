//! COPY, ADD and WORKDIR.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rbox_image::store::StoredLayer;
use rbox_spec::Digest;
use rbox_spec::digest::Algorithm;
use rbox_sys::own;

use super::absolute;
use super::carry::Prepared;
use crate::builder::Builder;
use crate::cache::{KeyBuilder, Part};
use crate::context::{NamedContext, Repository};
use crate::dockerfile::{Add, Chmod, Copy, Instruction, Transfer, Word};
use crate::error::{BuildError, io_error};
use crate::ignore::Ignore;
use crate::material::Material;
use crate::stage::Stage;
use crate::tree::{Content, Copier, CopyOptions, NoMemory, Owner, Selected, Source, TreeError, clean};

/// Where COPY reads.
#[derive(Clone)]
pub(super) enum Origin {
    /// The context, or another by its name.
    Context(Rc<crate::context::OpenContext>),
    /// A stage or an image.
    Stage(Rc<Stage>, Rc<Source>),
}

impl Origin {
    pub(super) fn source(&self) -> &Source {
        match self {
            Self::Context(context) => &context.source,
            Self::Stage(_, source) => source,
        }
    }
}

/// One thing to write, or several of one kind.
enum Item {
    /// What is in a tree. `base`: with `--parents`, the directory that the names are kept from.
    Tree { selected: Selected, base: Option<PathBuf> },
    /// A text of the Dockerfile.
    Text { name: String, text: String },
    /// A file that was fetched, and its time.
    Fetched { name: String, path: PathBuf, time: Option<i64> },
    /// A repository that was fetched: all of this tree, which is that of a commit.
    Repository { source: Rc<Source>, commit: String },
    /// An archive that was fetched, to be unpacked: `file` in this tree.
    FetchedArchive { source: Rc<Source> },
    /// An archive of the tree, to be unpacked.
    Archive { selected: Selected },
}

/// What COPY and ADD write, and where to.
struct Plan {
    origin: Option<Origin>,
    items: Vec<Item>,
    /// Absolute; with a slash at its end it is a directory.
    destination: String,
    chown: String,
    mode: Option<Chmod>,
    exclude: Option<Ignore>,
    link: bool,
}

impl Builder<'_> {
    pub(super) fn copy(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<(), BuildError> {
        let origin = self.origin(stage, copy.from.as_deref())?;
        let sources = self.sources(stage, &copy.transfer)?;
        let mut plan = self.plan(stage, &copy.transfer)?;
        let mut words = vec!["COPY".to_owned()];
        if copy.parents {
            words.push("--parents".to_owned());
        }
        if copy.optional {
            words.push("--optional".to_owned());
        }
        for source in &sources {
            match select(&origin, source, copy.parents) {
                Err(BuildError::Source { .. }) if copy.optional => {}
                found => plan.items.extend(found?),
            }
        }
        plan.origin = Some(origin);
        self.write(stage, instruction, &copy.transfer, words, &plan)
    }

    pub(super) fn add(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), BuildError> {
        let origin = Origin::Context(Rc::clone(&self.context));
        let sources = self.sources(stage, &add.transfer)?;
        let checksum = self.word(stage, &add.checksum)?;
        let mut plan = self.plan(stage, &add.transfer)?;
        for source in &sources {
            if let Some(item) = self.fetched(source, &checksum, add)? {
                plan.items.push(item);
                continue;
            }
            for item in select(&origin, source, false)? {
                plan.items.push(match item {
                    Item::Tree { selected, .. }
                        if add.unpack != Some(false) && is_archive(&origin, &selected)? =>
                    {
                        Item::Archive { selected }
                    }
                    other => other,
                });
            }
        }
        plan.origin = Some(origin);
        self.write(stage, instruction, &add.transfer, vec!["ADD".to_owned()], &plan)
    }

    pub(super) fn workdir(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        path: &Word,
    ) -> Result<(), BuildError> {
        let path = self.word(stage, path)?;
        let dir = absolute(&stage.image.config.working_dir, &path);
        let dir = if dir == "/" { dir } else { dir.trim_end_matches('/').to_owned() };
        // As BuildKit does, the image says an absolute path as it was written.
        let told = if path.starts_with('/') { path } else { dir.clone() };
        let line = format!("WORKDIR {told}");
        stage.image.config.working_dir = told;
        if dir == "/" {
            stage.note(line);
            return Ok(());
        }
        let mut key = KeyBuilder::new("workdir");
        key.add(Part::Base, stage.key.hex());
        key.add(Part::Instruction, &dir);
        key.other("the user", &stage.image.config.user);
        self.add_epoch(&mut key);
        let prepared = Prepared { instruction, line, key, is_of_host: false, files: BTreeMap::new() };
        self.carry_out(stage, prepared, &mut |builder, stage, _, work| {
            let tree = builder.engine.layer_tree(&stage.dirs(), work)?;
            let owner = builder.owner(&tree.root, &stage.image.config.user)?;
            let options = CopyOptions { time: builder.epoch()?, ..CopyOptions::default() };
            let owner = owner.unwrap_or(Owner { uid: 0, gid: 0 });
            Copier::new(&tree.root, options).make_dirs(Path::new(&dir), 0o755, owner)?;
            Ok(tree.layer(builder.transaction, builder.newest()?)?)
        })
    }

    /// What `--from` or its absence means.
    pub(super) fn origin(&mut self, stage: &Stage, from: Option<&str>) -> Result<Origin, BuildError> {
        let Some(from) = from.filter(|from| !from.is_empty()) else {
            return Ok(Origin::Context(Rc::clone(&self.context)));
        };
        if let Some(number) = self.stage_named(from) {
            if number >= stage.number {
                return Err(BuildError::Invalid(format!(
                    "cannot copy from stage {from:?}, it needs to be defined before current stage {:?}",
                    stage.id
                )));
            }
            let done = self.stage(self.targets.task(self.targets.place(), number))?;
            return self.tree_of(done);
        }
        match self.request.contexts.get(from).cloned() {
            Some(NamedContext::Files(context)) => {
                if let Some(open) = self.named.get(from) {
                    return Ok(Origin::Context(Rc::clone(open)));
                }
                let open = Rc::new(context.open(None, &self.work.fresh())?);
                self.named.insert(from.to_owned(), Rc::clone(&open));
                Ok(Origin::Context(open))
            }
            Some(NamedContext::Image(_)) | None => {
                let known_as = (from.to_owned(), self.targets.current().wanted.clone());
                let image = self.image_stage(from, None)?;
                let done = if let Some(done) = self.from_images.get(&known_as) {
                    Rc::clone(done)
                } else {
                    let done = Rc::new(image);
                    self.from_images.insert(known_as, Rc::clone(&done));
                    done
                };
                self.tree_of(done)
            }
        }
    }

    /// The tree of a stage, to be read.
    fn tree_of(&mut self, stage: Rc<Stage>) -> Result<Origin, BuildError> {
        let key = stage.key.hex().to_owned();
        let source = if let Some(source) = self.trees.get(&key) {
            Rc::clone(source)
        } else {
            let tree = self.engine.layer_tree(&stage.dirs(), &self.work.fresh())?;
            let source = Rc::new(Source { root: tree.root, ignore: None, is_context: false });
            self.trees.insert(key, Rc::clone(&source));
            source
        };
        Ok(Origin::Stage(stage, source))
    }

    fn sources(&self, stage: &Stage, transfer: &Transfer) -> Result<Vec<String>, BuildError> {
        transfer.sources.iter().map(|word| self.word(stage, word)).collect()
    }

    fn plan(&self, stage: &Stage, transfer: &Transfer) -> Result<Plan, BuildError> {
        let chmod = self.word(stage, &transfer.chmod)?;
        let mode = if chmod.is_empty() {
            None
        } else {
            let mode = Chmod::parse(&chmod).map_err(|error| BuildError::Invalid(error.to_string()))?;
            Some(mode)
        };
        let exclude = (!transfer.exclude.is_empty())
            .then(|| {
                Ignore::new(transfer.exclude.iter().map(String::as_str))
                    .map_err(|error| BuildError::Invalid(error.to_string()))
            })
            .transpose()?;
        let mut items = Vec::new();
        for inline in &transfer.inline {
            let text = if inline.expand {
                crate::expand::Lexer::heredoc().word(&inline.content, &stage.env)?.text
            } else {
                inline.content.clone()
            };
            items.push(Item::Text { name: inline.name.clone(), text });
        }
        Ok(Plan {
            origin: None,
            items,
            destination: absolute(&stage.image.config.working_dir, &self.word(stage, &transfer.destination)?),
            chown: self.word(stage, &transfer.chown)?,
            mode,
            exclude,
            link: transfer.link,
        })
    }

    /// Writes what was selected, unless the cache has it.
    fn write(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        transfer: &Transfer,
        mut words: Vec<String>,
        plan: &Plan,
    ) -> Result<(), BuildError> {
        let destination = self.word(stage, &transfer.destination)?;
        if !plan.chown.is_empty() {
            words.push(format!("--chown={}", plan.chown));
        }
        let chmod = self.word(stage, &transfer.chmod)?;
        if !chmod.is_empty() {
            words.push(format!("--chmod={chmod}"));
        }
        words.extend(self.sources(stage, transfer)?);
        words.extend(transfer.inline.iter().map(|inline| format!("<<{}", inline.name)));
        words.push(destination);
        let mut key = KeyBuilder::new("copy");
        // What is linked does not depend on what is below it.
        let needs_base = !plan.link || plan.chown.contains(|c: char| c.is_alphabetic());
        key.add(Part::Base, if needs_base { stage.key.hex() } else { "" });
        let told =
            serde_json::json!([words, plan.destination, transfer.exclude, plan.link, instruction.keyword]);
        key.add(Part::Instruction, &told.to_string());
        self.add_epoch(&mut key);
        let mut files = BTreeMap::new();
        self.add_content(plan, &mut key, &mut files)?;
        let line = format!("{} # buildkit", words.join(" "));
        let prepared = Prepared { instruction, line, key, is_of_host: false, files };
        self.carry_out(stage, prepared, &mut |builder, stage, _, work| builder.write_layer(stage, plan, work))
    }

    /// Puts into the key what is read.
    fn add_content(
        &mut self,
        plan: &Plan,
        key: &mut KeyBuilder,
        files: &mut BTreeMap<PathBuf, Digest>,
    ) -> Result<(), BuildError> {
        let Some(origin) = &plan.origin else { return Ok(()) };
        // Names below what is copied are what `--exclude` is about; here it is enough that the digest is of no less.
        let wanted = |_: &Path| true;
        let mut of_tree = Vec::new();
        for item in &plan.items {
            match item {
                Item::Tree { selected, .. } => of_tree.push(selected.clone()),
                Item::Archive { selected } => {
                    key.other("an archive to unpack", &selected.path.to_string_lossy());
                    of_tree.push(selected.clone());
                }
                Item::Text { name, text } => {
                    key.other(
                        &format!("the text of {name}"),
                        &rbox_image::hash::sha256(text.as_bytes()).to_string(),
                    );
                }
                Item::Fetched { name, path, .. } => {
                    let source = Source { root: open(path.parent())?, ignore: None, is_context: true };
                    let one = Selected { path: file_name(path), name: PathBuf::from(name), is_dir: false };
                    let content = Content::of(&source, &[one], &|_| true, &mut NoMemory)?;
                    key.add(Part::Files(name.clone()), &content.digest.to_string());
                }
                Item::Repository { commit, .. } => key.other("the commit", commit),
                Item::FetchedArchive { source } => {
                    let content = Content::of(source, &[fetched_file()], &|_| true, &mut NoMemory)?;
                    key.add(Part::Files("the archive".to_owned()), &content.digest.to_string());
                }
            }
        }
        if of_tree.is_empty() {
            return Ok(());
        }
        let (content, from) = match origin {
            Origin::Context(context) if context.name == self.context.name => {
                let mut known = self.known.borrow_mut();
                (Content::of(&context.source, &of_tree, &wanted, &mut *known)?, "the context".to_owned())
            }
            Origin::Context(context) => {
                (Content::of(&context.source, &of_tree, &wanted, &mut NoMemory)?, "the context".to_owned())
            }
            Origin::Stage(stage, source) => {
                (Content::of(source, &of_tree, &wanted, &mut NoMemory)?, format!("stage {}", stage.id))
            }
        };
        key.add(Part::Files(from), &content.digest.to_string());
        files.extend(content.entries);
        Ok(())
    }

    fn write_layer(&mut self, stage: &Stage, plan: &Plan, work: &Path) -> Result<StoredLayer, BuildError> {
        let lowers = if plan.link { Vec::new() } else { stage.dirs() };
        let tree = self.engine.layer_tree(&lowers, work)?;
        let owner = if plan.link {
            let whole = self.engine.layer_tree(&stage.dirs(), &self.work.fresh())?;
            self.owner(&whole.root, &plan.chown)?
        } else {
            self.owner(&tree.root, &plan.chown)?
        };
        // With `--parents` what is copied has its directories with it.
        let plain_top = !plan.items.iter().any(|item| matches!(item, Item::Tree { base: Some(_), .. }));
        let options = CopyOptions { owner, mode: plan.mode.clone(), time: self.epoch()?, plain_top };
        let mut copier = Copier::new(&tree.root, options);
        let destination = copier.resolved(Path::new(&plan.destination))?;
        for item in &plan.items {
            write_item(&mut copier, plan, &destination, item)?;
        }
        drop(copier);
        Ok(tree.layer(self.transaction, self.newest()?)?)
    }

    /// Who `--chown` and USER mean in a tree; none for nobody.
    fn owner(&self, root: &std::os::fd::OwnedFd, name: &str) -> Result<Option<Owner>, BuildError> {
        if name.is_empty() {
            return Ok(None);
        }
        let (uid, gid) = self.engine.owner_in(root.as_fd(), name)?;
        Ok(Some(Owner { uid, gid }))
    }

    /// Puts the time of what is new into a key, where it does not depend on when it is made.
    fn add_epoch(&self, key: &mut KeyBuilder) {
        if let Some(text) = self.request.build_args.get("SOURCE_DATE_EPOCH") {
            key.other("SOURCE_DATE_EPOCH", text);
        }
    }

    /// What ADD has to fetch; none for a path.
    fn fetched(&mut self, source: &str, checksum: &str, add: &Add) -> Result<Option<Item>, BuildError> {
        let is_url = source.starts_with("http://") || source.starts_with("https://");
        if let Some(repository) = Repository::parse(source) {
            let repository = repository.map_err(BuildError::Invalid)?.at(checksum);
            let (dir, commit) = repository.keeping_git(add.keep_git_dir).get(&self.work.fresh())?;
            self.note_material(Some(Material::commit(source, &commit)));
            let source = Rc::new(Source { root: open(Some(&dir))?, ignore: None, is_context: true });
            return Ok(Some(Item::Repository { source, commit }));
        }
        if !is_url {
            return match checksum {
                "" => Ok(None),
                _ => Err(BuildError::Invalid("checksum requires HTTP(S) or Git sources".to_owned())),
            };
        }
        let dir = self.work.fresh();
        own::make_private(&dir).map_err(io_error("make directory", &dir))?;
        let path = dir.join("file");
        let file = File::create(&path).map_err(io_error("create", &path))?;
        let found = rbox_image::fetch(source, file)?;
        check_digest(&path, checksum)?;
        if self.request.provenance.is_some() {
            let digest = digest_of(&path, Algorithm::Sha256)?;
            self.note_material(Some(Material::file(source, &digest)));
        }
        if add.unpack == Some(true) {
            let source = Rc::new(Source { root: open(Some(&dir))?, ignore: None, is_context: true });
            return Ok(Some(Item::FetchedArchive { source }));
        }
        let name = source.split(['#', '?']).next().unwrap_or(source);
        let name = name.splitn(4, '/').nth(3).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let name = if name.is_empty() { "__unnamed__" } else { name };
        Ok(Some(Item::Fetched { name: name.to_owned(), path, time: found.modified }))
    }
}

fn digest_of(path: &Path, algorithm: Algorithm) -> Result<Digest, BuildError> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let mut reader = rbox_image::hash::HashingReader::new(&mut file, algorithm);
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(io_error("read", path))?;
    Ok(reader.finish().0)
}

/// Compares a file with the digest of `--checksum`.
fn check_digest(path: &Path, wanted: &str) -> Result<(), BuildError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted: Digest =
        wanted.parse().map_err(|error| BuildError::Invalid(format!("--checksum={wanted}: {error}")))?;
    let found = digest_of(path, wanted.algorithm())?;
    if found == wanted {
        return Ok(());
    }
    Err(BuildError::Invalid(format!("digest mismatch {found}: {wanted}")))
}

fn open(dir: Option<&Path>) -> Result<std::os::fd::OwnedFd, BuildError> {
    Ok(crate::context::open_dir(dir.unwrap_or(Path::new("/")))?)
}

fn file_name(path: &Path) -> PathBuf {
    PathBuf::from(path.file_name().unwrap_or_default())
}

/// What a source means in a tree.
fn select(origin: &Origin, written: &str, parents: bool) -> Result<Vec<Item>, BuildError> {
    let missing = |source: TreeError| match source {
        TreeError::NotFound { .. } => BuildError::Source { from: "the build context".to_owned(), source },
        other => other.into(),
    };
    let source = origin.source();
    if !parents {
        let found = source.select(written).map_err(missing)?;
        return Ok(found.into_iter().map(|selected| Item::Tree { selected, base: None }).collect());
    }
    let (base, pattern) = written.split_once("/./").unwrap_or(("", written));
    let base = clean(Path::new(base));
    let whole = base.join(clean(Path::new(pattern)));
    if !crate::ignore::Glob::is_in(pattern) {
        let found = source.select(&whole.to_string_lossy()).map_err(missing)?;
        let base = Some(base);
        return Ok(found.into_iter().map(|selected| Item::Tree { selected, base: base.clone() }).collect());
    }
    let matches = Ignore::new([&*clean(Path::new(pattern)).to_string_lossy()])
        .map_err(|error| BuildError::Invalid(error.to_string()))?;
    let mut found: Vec<Selected> = Vec::new();
    let all = Selected { path: base.clone(), name: PathBuf::new(), is_dir: true };
    source.walk(&all, &mut |entry| {
        let below = entry.path.strip_prefix(&base).unwrap_or(entry.path);
        // What is in something that was found is found with it.
        let is_in = found.last().is_some_and(|last| entry.path.starts_with(&last.path));
        if !below.as_os_str().is_empty() && !is_in && matches.matches(&below.to_string_lossy()) {
            let is_dir = entry.kind == crate::tree::EntryKind::Directory;
            found.push(Selected { path: entry.path.to_owned(), name: file_name(entry.path), is_dir });
        }
        Ok(())
    })?;
    Ok(found.into_iter().map(|selected| Item::Tree { selected, base: Some(base.clone()) }).collect())
}

/// Whether ADD unpacks it: a tar archive, compressed or not.
fn is_archive(origin: &Origin, selected: &Selected) -> Result<bool, BuildError> {
    if selected.is_dir {
        return Ok(false);
    }
    let mut is_archive = false;
    origin.source().walk(selected, &mut |entry| {
        if entry.kind == crate::tree::EntryKind::File {
            is_archive = rbox_image::archive::is_tar(entry.open()?).unwrap_or(false);
        }
        Ok(())
    })?;
    Ok(is_archive)
}

fn write_item(
    copier: &mut Copier<'_>,
    plan: &Plan,
    destination: &Path,
    item: &Item,
) -> Result<(), BuildError> {
    let is_several = plan.items.len() > 1;
    let is_dir = plan.destination.ends_with('/') || is_several || copier.is_dir(destination);
    let place = |name: &OsStr| match (is_dir, destination.parent(), destination.file_name()) {
        (false, Some(dir), Some(own)) => (dir.to_owned(), own.to_owned()),
        _ => (destination.to_owned(), name.to_owned()),
    };
    match item {
        Item::Tree { selected, base } => {
            write_tree(copier, plan, (selected, base.as_deref()), destination, &place)?;
        }
        Item::Text { name, text } => {
            let (dir, name) = place(OsStr::new(name));
            copier.text(&dir, &name, 0o644, text.as_bytes(), None)?;
        }
        Item::Fetched { name, path, time } => {
            let (dir, name) = place(OsStr::new(name));
            let file = File::open(path).map_err(io_error("open", path))?;
            copier.text(&dir, &name, 0o600, file, *time)?;
        }
        Item::Repository { source, .. } => copier.contents(source, &whole_tree(), destination, &|_| true)?,
        Item::FetchedArchive { source } => unpack(copier, source, &fetched_file(), destination)?,
        Item::Archive { selected } => {
            if let Some(origin) = &plan.origin {
                unpack(copier, origin.source(), selected, destination)?;
            }
        }
    }
    Ok(())
}

/// All of a tree.
fn whole_tree() -> Selected {
    Selected { path: PathBuf::new(), name: PathBuf::new(), is_dir: true }
}

/// A fetched file in its tree.
fn fetched_file() -> Selected {
    Selected { path: PathBuf::from("file"), name: PathBuf::from("file"), is_dir: false }
}

/// Unpacks an archive of a tree into a directory.
fn unpack(copier: &Copier<'_>, source: &Source, selected: &Selected, to: &Path) -> Result<(), BuildError> {
    let mut done = Ok(());
    source.walk(selected, &mut |entry| {
        done = entry.open().map_err(BuildError::from).and_then(|file| {
            let tar = rbox_image::archive::uncompressed(file).map_err(io_error("read", entry.path))?;
            Ok(copier.archive(tar, to)?)
        });
        Ok(())
    })?;
    done
}

fn write_tree(
    copier: &mut Copier<'_>,
    plan: &Plan,
    (selected, base): (&Selected, Option<&Path>),
    destination: &Path,
    place: &dyn Fn(&OsStr) -> (PathBuf, std::ffi::OsString),
) -> Result<(), BuildError> {
    let Some(origin) = &plan.origin else { return Ok(()) };
    let source = origin.source();
    let root = selected.path.clone();
    let wanted = move |path: &Path| {
        let below = path.strip_prefix(&root).unwrap_or(path);
        let below = if below.as_os_str().is_empty() {
            Path::new(path.file_name().unwrap_or_default())
        } else {
            below
        };
        !plan.exclude.as_ref().is_some_and(|exclude| exclude.matches(&below.to_string_lossy()))
    };
    if let Some(base) = base {
        let below = selected.path.strip_prefix(base).unwrap_or(&selected.path);
        let mut above: Vec<&Path> =
            below.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        above.reverse();
        for dir in above {
            copier.like(source, &base.join(dir), &destination.join(dir))?;
        }
        let dir = destination.join(below.parent().unwrap_or(Path::new("")));
        let name = below.file_name().unwrap_or_default();
        if selected.is_dir {
            copier.contents(source, selected, &dir.join(name), &wanted)?;
        } else if wanted(&selected.path) {
            copier.file(source, selected, &dir, name)?;
        }
        return Ok(());
    }
    if selected.is_dir {
        copier.contents(source, selected, destination, &wanted)?;
    } else if wanted(&selected.path) {
        let (dir, name) = place(selected.name.as_os_str());
        copier.file(source, selected, &dir, &name)?;
    }
    Ok(())
}
