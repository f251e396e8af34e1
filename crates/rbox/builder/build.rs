//! `rbox build`: an image of a Dockerfile.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use rbox_build::{BuildError, BuildRequest, OnError, Output, Reasons, Until};
use rbox_engine::engine::Observer;
use rbox_engine::image::Image;
use rbox_engine::spec::Digest;

use crate::builder::call::{Call, as_json, show_json, show_outline, show_targets};
use crate::builder::elsewhere::Elsewhere;
use crate::builder::flags::{BuildFlags, name};
use crate::builder::live::Live;
use crate::builder::output::Outputs;
use crate::builder::plain::Plain;
use crate::builder::rawjson::RawJson;
use crate::builder::show::{Failed, Show};
use crate::command::entry::Execute;
use crate::command::error::{Coded, bad_input, message};
use crate::command::global::Global;
use crate::image::progress::{Out, Progress};
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::write_all;

/// What `--on-error` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum WhenFails {
    #[default]
    End,
    Shell,
}

/// What `--progress` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum How {
    #[default]
    Auto,
    Plain,
    Tty,
    Quiet,
    #[value(name = "rawjson")]
    RawJson,
}

impl How {
    /// What `BUILDKIT_PROGRESS` says when no flag does.
    fn or_variable(self) -> anyhow::Result<Self> {
        let given = std::env::var("BUILDKIT_PROGRESS").ok().filter(|text| !text.is_empty());
        match given {
            Some(text) if self == Self::Auto => Self::from_str(&text, false).map_err(|_| {
                bad_input(format!(
                    "invalid BUILDKIT_PROGRESS {text:?}: it is auto, plain, tty, quiet or rawjson"
                ))
            }),
            _ => Ok(self),
        }
    }
}

/// Build an image from a Dockerfile
#[derive(Debug, Parser)]
#[command(
    name = "build",
    after_help = "Examples:
  rbox build -t app .                               # the Dockerfile of this directory
  rbox build -t app -f docker/prod.Dockerfile --target web .
  rbox build --build-arg VERSION=2 --secret id=token,src=token.txt -t app:2 .
  rbox build -t app https://git.example.com/app.git#v1.2:service
  tar cz . | rbox build -t app -                    # an archive is the context
  printf 'FROM busybox\\nRUN date > /built\\n' | rbox build -t dated -
  printf '# extend=rbox\\nINCLUDE base.inc\\nCMD run\\n' | rbox build -t app -f - .    # the lines of another file
  rbox build -o out --target binaries .             # the files of a stage, into the directory out
  rbox build -o type=oci,dest=app.tar -t app .
  rbox build --platform linux/amd64,linux/arm64 -t registry.lan/app --push .    # one name, an image for each platform
  rbox build --network shop -t app .                # RUN is on the network of this name
  rbox build --call outline .                       # the arguments and secrets that it takes; targets: its stages
  rbox build --allow device=vendor.com/class=name . # RUN --device gets this device
  rbox build --allow cache.host=/var/cache/npm .    # RUN --mount=type=cache,source=host:/var/cache/npm has this directory
  rbox build -v ~/.m2:/root/.m2 -t app .            # RUN sees a directory of the host
  rbox build --squash -t app .                      # one layer on top of the base image's
  rbox build --cache-from type=local,src=c --cache-to type=local,dest=c,mode=max .   # a cache that CI keeps
  rbox build --cache-from registry.lan/app:cache --cache-to type=registry,ref=registry.lan/app:cache,mode=max .
  rbox build --cache-from registry.lan/app --cache-to type=inline -t registry.lan/app --push .   # the image is the cache
  rbox build --provenance mode=max -t registry.lan/app --push .   # with a statement of how it was made
  rbox build --on-error shell .                     # a shell in the RUN that failed, as it was
  rbox build --until 12 .                           # a shell before line 12; with -t, an image of what is there

What is not carried out again comes from the cache; for what is, a line says what is different from the last time."
)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, independent of the others"
)]
pub(crate) struct Build {
    #[command(flatten)]
    flags: BuildFlags,
    #[command(flatten)]
    elsewhere: Elsewhere,
    /// What to do: build, check the Dockerfile as --check does, or tell its targets, or the outline of one: its arguments and secrets
    /// (build, check, targets, outline; with ,format=json for machines)
    #[arg(long, value_name = "WHAT", default_value = "build")]
    call: String,
    /// Only check the Dockerfile, and build nothing
    #[arg(long)]
    check: bool,
    /// Tell all that is different in a step that is not cached, not only the first thing
    #[arg(long)]
    explain: bool,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<String>,
    /// What is done when a RUN fails: the build ends, or a shell is opened in it as it was, and then the build ends
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    on_error: WhenFails,
    /// Stop before this line of the Dockerfile, with a shell there; with --tag or --output, with what there is by then. Not with --target: the line
    /// says which stage it is
    #[arg(long, value_name = "LINE")]
    until: Option<usize>,
    /// Write what the build came to, as JSON, to this file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<String>,
    /// Where it goes: a directory for its files, or type=local|tar|docker|oci|image|registry|cacheonly[,dest=PATH][,name=NAME]; - for a
    /// tar archive on standard output (default: the image store)
    #[arg(short, long, value_name = "OUTPUT")]
    output: Vec<String>,
    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,
    /// How it is shown: auto (a list on a terminal, lines elsewhere), tty, plain, quiet, or rawjson: a line of JSON for each event
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    progress: How,
    /// Push the image to its registry once it is built
    #[arg(long)]
    push: bool,
    /// Keep the image here, as is always done
    #[arg(long)]
    load: bool,
    /// Remove containers of RUN, as is always done
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<bool>,
    /// The same after a failure
    #[arg(long)]
    force_rm: bool,
}

impl Build {
    /// What is asked for.
    fn request(&self, global: &Global, outputs: &Outputs) -> anyhow::Result<BuildRequest> {
        let mut request = self.flags.request(&global.engine.build_dir())?;
        let names = outputs.names.iter().map(|text| name(text)).collect::<anyhow::Result<Vec<_>>>()?;
        request.names.extend(names);
        request.rewrite_timestamps = outputs.rewrite_timestamps;
        request.squash = self.elsewhere.squash;
        request.provenance = self.elsewhere.provenance()?;
        let is_index = request.platforms.len() > 1 || request.provenance.is_some();
        (request.annotations, request.index_annotations) = self.elsewhere.annotations(is_index)?;
        self.elsewhere.caches(&mut request)?;
        request.outputs.clone_from(&outputs.build);
        if self.pushes(outputs) && !request.outputs.contains(&Output::Store) {
            request.outputs.insert(0, Output::Store);
        }
        if self.on_error == WhenFails::Shell {
            request.on_error = OnError::Shell;
        }
        if self.explain {
            request.reasons = Reasons::All;
        }
        request.until = self.until.map(|line| Until {
            line: request.file.line_of(line),
            shell: request.names.is_empty() && self.output.is_empty(),
        });
        Ok(request)
    }

    /// How it is shown, and what shows what is pulled meanwhile.
    fn how_shown(&self, quiet: bool) -> anyhow::Result<(Box<dyn Show>, Arc<dyn Observer>)> {
        let how = self.progress.or_variable()?;
        if how == How::Tty && !Out::Stderr.has_cursor() {
            return Err(bad_input(
                "failed to get console: --progress tty wants a terminal on standard error",
            ));
        }
        let is_drawn = how == How::Tty || (how == How::Auto && Out::Stderr.has_cursor());
        let pulls = |quiet| Arc::new(Progress::on(Out::Stderr, quiet));
        Ok(if quiet || how == How::Quiet {
            (Box::new(Plain::new(true)), pulls(true))
        } else if how == How::RawJson {
            (Box::new(RawJson::default()), pulls(true))
        } else if is_drawn {
            let live = Live::new();
            let watcher = Arc::new(live.pulls());
            (Box::new(live), watcher)
        } else {
            (Box::new(Plain::new(false)), pulls(false))
        })
    }

    fn pushes(&self, outputs: &Outputs) -> bool {
        self.push || outputs.push
    }

    /// Refuses what cannot be together in a build.
    fn check_pairs(&self, request: &BuildRequest, outputs: &Outputs) -> anyhow::Result<()> {
        let stops_in_shell = request.until.is_some_and(|until| until.shell);
        let wants_shell = request.on_error == OnError::Shell || stops_in_shell;
        if wants_shell && self.progress == How::RawJson {
            return Err(bad_input("a shell and --progress rawjson do not go together"));
        }
        if wants_shell && self.flags.reads_standard_input() {
            return Err(bad_input(
                "a shell needs standard input, which the context or the Dockerfile is read from",
            ));
        }
        if stops_in_shell && (self.iidfile.is_some() || self.metadata_file.is_some()) {
            return Err(bad_input(
                "--until opens a shell and makes no image for --iidfile and --metadata-file: give --tag as well",
            ));
        }
        if request.until.is_some() && request.target.is_some() {
            return Err(bad_input(
                "--until and --target do not go together: the line says which stage is built",
            ));
        }
        if request.platforms.len() > 1 {
            outputs.check_several()?;
            if request.until.is_some() {
                return Err(bad_input(
                    "--until stops in the build of one platform: give one with --platform",
                ));
            }
        }
        if self.pushes(outputs) && request.names.is_empty() {
            return Err(bad_input("tag is needed when pushing to registry"));
        }
        Ok(())
    }

    /// What the build came to, as `--metadata-file` has it. `pushed`: what the registry calls it.
    fn metadata(
        request: &BuildRequest,
        (image, index): (&Image, Option<Digest>),
        pushed: Option<Digest>,
    ) -> serde_json::Value {
        // What is pushed is packed, and so has another digest there.
        let digest = pushed.or(index).unwrap_or(image.manifest_digest);
        let mut told = serde_json::json!({ "containerimage.digest": digest.to_string() });
        if let (None, Some(fields)) = (index, told.as_object_mut()) {
            fields.insert("containerimage.config.digest".to_owned(), image.id.to_string().into());
        }
        let names: Vec<String> = request.names.iter().map(rbox_engine::spec::Reference::full).collect();
        if !names.is_empty()
            && let Some(fields) = told.as_object_mut()
        {
            fields.insert("image.name".to_owned(), names.join(",").into());
        }
        told
    }

    /// Carries it out. `tells_id`: with `--quiet` the id is printed.
    pub(crate) fn carry_out(&self, global: &Global, tells_id: bool) -> anyhow::Result<Done> {
        let outputs = Outputs::parse(&self.output)?;
        let (call, is_json) = Call::parse(&self.call, self.check)?;
        let request = self.request(global, &outputs)?;
        match call {
            _ if is_json => {
                let (code, json) = as_json(call, &request)?;
                return Ok(Done { code, json: Some(json), ..Done::default() });
            }
            Call::Outline => return show_outline(&request).map(Done::told),
            Call::Targets => return show_targets(&request).map(Done::told),
            Call::Check => return check(&request).map(Done::told),
            Call::Build => self.check_pairs(&request, &outputs)?,
        }
        let quiet = self.quiet || self.progress == How::Quiet;
        let (mut shown, watcher) = self.how_shown(quiet)?;
        let engine = global.engine.watched_by(watcher);
        for warning in self.elsewhere.warnings()? {
            write_all(&mut std::io::stderr(), &format!("WARNING: {warning}\n"))?;
        }
        let built = rbox_build::build(&engine, &request, &mut *shown);
        shown.finish();
        let built = match built {
            Ok(built) => built,
            Err(error) => return Err(failed(&request, shown.failed().as_ref(), error)),
        };
        let Some(image) = built.images.first() else { return Ok(Done::default()) };
        let id = built.index.unwrap_or(image.id).to_string();
        outputs.save(&global.engine, &id, &request.names)?;
        let is_taken = outputs.archives.iter().any(|(path, _)| path.is_none())
            || request.outputs.iter().any(Output::is_stdout);
        if quiet && tells_id && !is_taken {
            say(&id)?;
        }
        let mut pushed = None;
        if self.pushes(&outputs) {
            for name in &request.names {
                let sent = engine.push(name, &rbox_engine::image::PushOptions::default())?;
                pushed.get_or_insert(sent.digest);
            }
        }
        let metadata = Self::metadata(&request, (image, built.index), pushed);
        Ok(Done { id: Some(id), metadata: Some(metadata), ..Done::default() })
    }
}

/// What a build came to.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The exit code.
    pub(crate) code: u8,
    /// The image's id, or the index's digest; none where no image was made.
    pub(crate) id: Option<String>,
    /// What `--metadata-file` has.
    pub(crate) metadata: Option<serde_json::Value>,
    /// What is to be told.
    pub(crate) json: Option<serde_json::Value>,
}

impl Done {
    fn told(code: u8) -> Self {
        Self { code, ..Self::default() }
    }
}

impl Execute for Build {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let done = self.carry_out(global, true)?;
        done.json.as_ref().map_or(Ok(()), show_json)?;
        if let (Some(file), Some(id)) = (&self.iidfile, &done.id) {
            write(file, id)?;
        }
        if let (Some(file), Some(metadata)) = (&self.metadata_file, &done.metadata) {
            write_json(file, metadata)?;
        }
        Ok(done.code)
    }
}

/// Writes JSON into a file of the caller.
pub(crate) fn write_json(file: &str, json: &serde_json::Value) -> anyhow::Result<()> {
    write(file, &format!("{}\n", serde_json::to_string_pretty(json)?))
}

/// `--check`: what may be wrong with the Dockerfile. The exit code is 1 when there is anything.
fn check(request: &BuildRequest) -> anyhow::Result<u8> {
    let report = rbox_build::check(request)?;
    let count = report.warnings.len();
    let mut text = match count {
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        _ => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in &report.warnings {
        let (rule, detail) = (warning.rule, &warning.detail);
        let url = rule.url();
        let url = if url.is_empty() { url } else { format!(" - {url}") };
        let _ = write!(text, "\nWARNING: {}{url}\n{detail}\n", rule.name());
        text.extend(request.file.excerpt(warning.lines).map(|excerpt| excerpt.to_string()));
    }
    write_all(&mut std::io::stdout(), &escape_lines(&text))?;
    if let Some(error) = report.error {
        return Err(Coded { message: error.to_string(), code: 1 }.into());
    }
    Ok(u8::from(count > 0))
}

fn write(file: &str, text: &str) -> anyhow::Result<()> {
    rbox_engine::caller::replace(Path::new(file), text).with_context(|| format!("write {file}"))
}

/// Shows the step that failed and the lines of the Dockerfile, and makes the one line of the error.
fn failed(request: &BuildRequest, failed: Option<&Failed>, error: BuildError) -> anyhow::Error {
    let mut text = String::new();
    if let Some(failed) = failed {
        let _ = writeln!(text, "------\n > {}:", escape::text(&failed.name));
        for line in &failed.tail {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("------\n");
    }
    if let Some(lines) = error.lines()
        && let Some(excerpt) = request.file.excerpt(lines)
    {
        text.push_str(&excerpt.to_string());
    }
    let _ = write_all(&mut std::io::stderr(), &text);
    let message = format!("failed to solve: {}", message(&error.into()));
    Coded { message, code: 1 }.into()
}

fn escape_lines(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix('\n') {
            Some(line) => format!("{}\n", escape::text(line)),
            None => escape::text(line).into_owned(),
        })
        .collect()
}
