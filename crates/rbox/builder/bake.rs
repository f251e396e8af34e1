//! `rbox bake`: builds of the targets that a file defines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use rbox_build::{Arrived, Neighbours, is_repository, without_password};
use rbox_compose::Shell;
use rbox_compose::bake::{BakeError, BakeFile, BakeOptions, Definition, Grants, Plan, Remote, Target};
use rbox_engine::image::store::RemoveOptions;

use crate::builder::bake_list::List;
use crate::builder::bake_words::{Around, words};
use crate::builder::build::{Build, Done, write_json};
use crate::builder::call::{Call, show_json};
use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, bad_input, message};
use crate::command::global::Global;
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::write_all;

/// Build the targets of a file
#[derive(Debug, Parser)]
#[command(
    name = "bake",
    after_help = "Examples:
  rbox bake                                   # the group default of docker-bake.hcl, docker-bake.json or compose.yaml
  rbox bake --print                           # what would be built, as JSON
  rbox bake -f ci.hcl app 'test-*'
  rbox bake --set '*.platform=linux/arm64' --set app.args.VERSION=2 --push
  VERSION=2 rbox bake app                     # variable \"VERSION\" of the file; --var VERSION=2 does the same
  rbox bake --list targets                    # or variables
  rbox bake --check                           # the Dockerfiles of all of them
  rbox bake --allow fs.read=.. app            # a context above this directory
  rbox bake https://git.example.com/app.git#v1 app"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Bake {
    /// Allow what targets ask for (network.host, security.insecure, ssh, fs=PATH, fs.read=PATH, fs.write=PATH)
    #[arg(long, value_name = "WHAT")]
    allow: Vec<String>,
    /// The builder; there is one
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,
    /// What to do with each target: build, check, outline or targets
    #[arg(long, value_name = "WHAT", default_value = "build")]
    call: String,
    /// Only check the Dockerfiles
    #[arg(long)]
    check: bool,
    /// A file that defines targets: HCL, JSON or a compose file; - for standard input; later ones lie over earlier ones
    #[arg(short, long, value_name = "FILE")]
    file: Vec<String>,
    /// List targets or variables (also type=targets,format=json)
    #[arg(long, value_name = "WHAT")]
    list: Option<String>,
    /// Keep images here, as is done in any case; an output of files stays alone
    #[arg(long)]
    load: bool,
    /// Write what the builds came to, as JSON, to this file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<String>,
    /// Use nothing of the cache
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_cache: Option<bool>,
    /// Print what would be built, and build nothing
    #[arg(long)]
    print: bool,
    /// How it is shown: auto, tty, plain, quiet, none or rawjson
    #[arg(long, value_name = "HOW", value_parser = ["auto", "tty", "plain", "quiet", "none", "rawjson"])]
    progress: Option<String>,
    /// A statement of where images come from: --set=*.attest=type=provenance
    #[arg(long, value_name = "STATEMENT")]
    provenance: Option<String>,
    /// Pull images also when they are there
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pull: Option<bool>,
    /// Push images to their registries
    #[arg(long)]
    push: bool,
    /// A list of what is in images: --set=*.attest=type=sbom
    #[arg(long, value_name = "STATEMENT")]
    sbom: Option<String>,
    /// Set what a target says (TARGET.KEY=VALUE; += adds to a list; TARGET may be a pattern)
    #[arg(long, value_name = "TARGET.KEY=VALUE")]
    set: Vec<String>,
    /// Set a variable of the files (NAME=VALUE)
    #[arg(long, value_name = "NAME=VALUE")]
    var: Vec<String>,
    /// Targets and groups, or patterns of their names (default: default); before them the address of a repository that has the files
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Whatever is wrong with a file, buildx ends with 1.
fn refused(error: BakeError) -> anyhow::Error {
    Coded { message: message(&error.into()), code: NOT_DONE }.into()
}

impl Execute for Bake {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        if self.print && self.list.is_some() {
            return Err(bad_input("--print and --list are mutually exclusive"));
        }
        let (call, is_json) = Call::parse(&self.call, self.check)?;
        let list = self.list.as_deref().map(List::parse).transpose()?;
        let grants = Grants::parse(&self.allow).map_err(refused)?;
        let (remote, words) = self.remote();
        let options = self.options(global, remote.as_ref(), &words)?;
        let definition = Definition::load(&options).map_err(refused)?;
        for warning in definition.warnings() {
            write_all(&mut std::io::stderr(), &format!("rbox: warning: {}\n", escape::text(warning)))?;
        }
        if let Some(list) = list {
            list.show(&definition)?;
            return Ok(0);
        }
        let skipped = remote.iter().count() + usize::from(options.context.is_some());
        let mut wanted: Vec<String> = words.get(skipped..).unwrap_or_default().to_vec();
        if wanted.is_empty() {
            wanted.push("default".to_owned());
        }
        let mut plan = definition.plan(&wanted, &self.said(call), remote.as_ref()).map_err(refused)?;
        add_epoch(&mut plan);
        if self.print {
            say(&plan.to_json())?;
            return Ok(0);
        }
        let wall =
            Wall { checks_paths: checks_paths(remote.is_some()), grants, directory: options.directory };
        let missing = wall.grants.missing(&plan, &wall.directory, wall.checks_paths).map_err(refused)?;
        ask_for(missing)?;
        self.carry_out(global, &plan, &wall, is_json)
    }
}

/// `SOURCE_DATE_EPOCH` of the environment is an argument of each.
fn add_epoch(plan: &mut Plan) {
    const EPOCH: &str = "SOURCE_DATE_EPOCH";
    if let Some(epoch) = std::env::var(EPOCH).ok().filter(|epoch| !epoch.is_empty()) {
        for target in plan.targets.values_mut() {
            target.args.entry(EPOCH.to_owned()).or_insert_with(|| epoch.clone());
        }
    }
}

/// What `--allow` grants, and where paths are looked at from.
struct Wall {
    grants: Grants,
    directory: PathBuf,
    checks_paths: bool,
}

/// Whether the paths of targets are looked at: not so where a variable of buildx's says it.
fn checks_paths(is_remote: bool) -> bool {
    let truth = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u8>().ok().map(|one| one > 0).or(text.parse().ok()))
    };
    let allows_all = is_remote && truth("BAKE_ALLOW_REMOTE_FS_ACCESS") == Some(true);
    truth("BUILDX_BAKE_ENTITLEMENTS_FS").unwrap_or(!allows_all)
}

/// Refuses what `--allow` does not grant.
fn ask_for(missing: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
    let flag = |one: String| escape::shell(&format!("--allow={one}"));
    let flags: Vec<String> = missing.into_iter().map(flag).collect();
    if flags.is_empty() {
        return Ok(());
    }
    let message = format!(
        "additional privileges requested: the targets reach what they were not granted: pass {} to grant that",
        flags.join(" ")
    );
    Err(Coded { message, code: NOT_DONE }.into())
}

impl Bake {
    /// The repository that has the files, and the words that name it and the targets.
    fn remote(&self) -> (Option<Remote>, Vec<String>) {
        let url = self.targets.first().filter(|word| rbox_build::is_remote(word));
        (url.map(|url| Remote { url: url.clone() }), self.targets.clone())
    }

    fn options(
        &self,
        global: &Global,
        remote: Option<&Remote>,
        words: &[String],
    ) -> anyhow::Result<BakeOptions> {
        let mut variables = BTreeMap::new();
        for text in self.var.iter().filter(|text| !text.is_empty()) {
            match text.split_once('=') {
                Some(("", _)) => return Err(bad_input(format!("invalid variable {text:?}, key is empty"))),
                Some((name, value)) => drop(variables.insert(name.to_owned(), value.to_owned())),
                None => return Err(bad_input(format!("invalid variable {text:?}, expected key=value"))),
            }
        }
        let mut options = BakeOptions {
            directory: std::env::current_dir()?,
            environment: Shell::of_process(),
            files: self.files(),
            variables,
            ..BakeOptions::default()
        };
        if let Some(remote) = remote {
            options.context = words.get(1).filter(|word| rbox_build::is_remote(word)).cloned();
            options.remote = Some(fetched(remote, &options, global)?);
        }
        Ok(options)
    }

    /// `-f`, or what the variable for it says.
    fn files(&self) -> Vec<String> {
        if !self.file.is_empty() {
            return self.file.clone();
        }
        let separator = std::env::var("BUILDX_BAKE_PATH_SEPARATOR").ok().filter(|text| !text.is_empty());
        let separator = separator.unwrap_or_else(|| ":".to_owned());
        let named = std::env::var("BUILDX_BAKE_FILE").unwrap_or_default();
        named.split(&separator).map(str::trim).filter(|file| !file.is_empty()).map(str::to_owned).collect()
    }

    /// `--set`, and the flags that are short for it.
    fn said(&self, call: Call) -> Vec<String> {
        let mut all = self.set.clone();
        let mut add =
            |key: &str, value: Option<String>| all.extend(value.map(|value| format!("*.{key}={value}")));
        add("push", self.push.then(|| "true".to_owned()));
        add("load", self.load.then(|| "true".to_owned()));
        add("call", (call != Call::Build).then(|| call.word().to_owned()));
        add("no-cache", self.no_cache.map(|given| given.to_string()));
        add("pull", self.pull.map(|given| given.to_string()));
        for (kind, given) in [("sbom", &self.sbom), ("provenance", &self.provenance)] {
            add(
                "attest",
                given
                    .as_deref()
                    .filter(|text| !text.is_empty())
                    .map(|text| rbox_compose::bake::Attest::canonical(kind, text)),
            );
        }
        all
    }

    /// `is_json`: what is told of the targets is JSON, all in one.
    fn carry_out(&self, global: &Global, plan: &Plan, wall: &Wall, is_json: bool) -> anyhow::Result<u8> {
        let order = plan.order();
        let needed: BTreeSet<&str> =
            order.iter().flat_map(|target| target.links()).map(|(_, of)| of).collect();
        // Nothing is built where all is told of a Dockerfile.
        let is_told =
            |target: &Target| target.call.as_deref().is_some_and(|call| !matches!(call, "" | "build"));
        let neighbours = Neighbours::join(&global.engine.live_build_dir())?;
        let mut run = Run { global, built: BTreeMap::new(), made: Vec::new() };
        let (mut metadata, mut told, mut code) = (serde_json::Map::new(), BTreeMap::new(), 0);
        let before = if needed.is_empty() { BTreeSet::new() } else { run.ids()? };
        let mut result = Ok(());
        for target in order {
            if target.linked && !order_needs(plan, target, is_told) {
                continue;
            }
            // Once more: what was built meanwhile may have put links where paths lead through.
            let missing = wall.grants.missing_of(target, plan, &wall.directory, wall.checks_paths);
            let is_needed = needed.contains(target.name.as_str());
            let how = (is_told(target), is_json);
            match ask_for(missing).and_then(|()| self.one(&run, target, is_needed, how)) {
                Ok(done) => {
                    told.extend(done.json.map(|json| (target.name.as_str(), json)));
                    code = if code == 0 { done.code } else { code };
                    if let Some(id) = done.id {
                        if target.linked && !before.contains(&id) {
                            run.made.push(id.clone());
                        }
                        run.built.insert(target.name.clone(), id);
                    }
                    metadata
                        .insert(target.name.clone(), done.metadata.unwrap_or_else(|| serde_json::json!({})));
                }
                Err(error) => {
                    result = Err(error.context(format!("target {}", target.name)));
                    break;
                }
            }
        }
        run.clean(&neighbours);
        result?;
        if is_json {
            show_json(&plan.told(told))?;
        }
        if let Some(file) = &self.metadata_file {
            write_json(file, &serde_json::Value::Object(metadata))?;
        }
        Ok(code)
    }

    /// Builds a target, or tells what was asked for about it.
    fn one(
        &self,
        run: &Run<'_>,
        target: &Target,
        is_needed: bool,
        (is_told, is_json): (bool, bool),
    ) -> anyhow::Result<Done> {
        let progress = self.progress.as_deref().map(|how| if how == "none" { "quiet" } else { how });
        let is_quiet = matches!(progress, Some("quiet" | "rawjson"));
        if is_told && !is_json {
            let about = if target.description.is_empty() {
                String::new()
            } else {
                format!("{}\n", target.description)
            };
            write_all(&mut std::io::stdout(), &format!("{}\n{}\n", target.name, escape_lines(&about)))?;
        } else if !is_told && !is_quiet {
            write_all(&mut std::io::stderr(), &format!("=> target {}\n", target.name))?;
        }
        let mut held = Vec::new();
        let around = Around { built: &run.built, is_needed, is_told, is_json, progress };
        let words = words(target, &around, &mut held)?;
        let words = std::iter::once("build".to_owned()).chain(words);
        let build =
            Build::try_parse_from(words).map_err(|error| bad_input(first_line(&error.to_string())))?;
        build.carry_out(run.global, false)
    }
}

/// Whether a target that is only a context is built: when one that needs it is.
fn order_needs(plan: &Plan, linked: &Target, is_told: impl Fn(&Target) -> bool) -> bool {
    plan.targets.values().any(|one| !is_told(one) && one.links().any(|(_, of)| of == linked.name))
}

fn escape_lines(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| escape::text(line.trim_end_matches('\n')) + "\n");
    lines.collect::<Vec<_>>().concat()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// What was built so far.
struct Run<'a> {
    global: &'a Global,
    /// Images by the names of their targets.
    built: BTreeMap<String, String>,
    /// Those that are only contexts of others: nobody asked for them.
    made: Vec<String>,
}

impl Run<'_> {
    fn ids(&self) -> anyhow::Result<BTreeSet<String>> {
        Ok(self.global.engine.listed_images()?.iter().map(|image| image.id.to_string()).collect())
    }

    /// Removes images that were only contexts, unless somebody else may stand on them at this moment: then `image prune` finds them. What
    /// cannot be removed is in use.
    fn clean(&self, neighbours: &Neighbours) {
        if self.made.is_empty() || !neighbours.is_alone() {
            return;
        }
        for id in &self.made {
            let names =
                self.global.engine.images().and_then(|store| store.get(id)).map(|image| image.references);
            if names.is_ok_and(|names| names.is_empty()) {
                let options = RemoveOptions { platforms: &[], force: false };
                let _ = self.global.engine.remove_image(id, options);
            }
        }
    }
}

/// The files of a repository; those that are named `cwd://…` are here.
fn fetched(remote: &Remote, options: &BakeOptions, global: &Global) -> anyhow::Result<Vec<BakeFile>> {
    let no_source = |why: &str| bad_input(format!("{}: {why}", without_password(&remote.url, &remote.url)));
    if !is_repository(&remote.url) {
        return Err(no_source(
            "a bake definition comes from a git repository (an address that ends with .git): of an archive there are no directories for its targets",
        ));
    }
    let found = Arrived::fetch(&remote.url, &global.engine.build_dir())
        .with_context(|| format!("fetch {}", without_password(&remote.url, &remote.url)))?;
    let Arrived::Context(found) = found else { return Err(no_source("there is no repository at it")) };
    let usual = BakeFile::usual_names().iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let is_usual = options.files.is_empty();
    let mut files = Vec::new();
    for name in if is_usual { &usual } else { &options.files } {
        if let Some(own) = name.strip_prefix("cwd://") {
            files.push(BakeFile::read(own, &options.directory).map_err(refused)?);
            continue;
        }
        match found.file(name)? {
            Some(text) => files.push(BakeFile { name: name.clone(), text }),
            None if is_usual => {}
            None => return Err(no_source(&format!("it has no file {name:?}"))),
        }
    }
    if files.iter().any(BakeFile::is_compose) {
        return Err(no_source(
            "a compose file of a repository is not read: what it extends and includes would be looked for here",
        ));
    }
    if files.is_empty() {
        return Err(no_source("couldn't find a bake definition in it"));
    }
    Ok(files)
}
