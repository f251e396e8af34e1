//! The instructions, with words as they were written: [`Word`]s are for the plan to expand, texts ([`String`]) are not expanded ever.

use rbox_spec::health::Healthcheck;

use super::source::Word;

/// What an instruction says. FROM is a [`Stage`](super::Stage).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// ADD.
    Add(Add),
    /// ARG, with one or several definitions.
    Arg(Vec<ArgDefinition>),
    /// CMD. Not expanded.
    Cmd(CommandLine),
    /// COPY.
    Copy(Copy),
    /// ENTRYPOINT. Not expanded.
    Entrypoint(CommandLine),
    /// ENV.
    Env(Vec<KeyValue>),
    /// EXPOSE: ports, sorted as BuildKit sorts them. Each may be several words once it is expanded: `Lexer::words`.
    Expose(Vec<Word>),
    /// HEALTHCHECK. Not expanded. Its test is `NONE`, `CMD …` or `CMD-SHELL …`; the shell of `SHELL` does not matter here.
    Healthcheck(Healthcheck),
    /// LABEL.
    Label(Vec<KeyValue>),
    /// MAINTAINER. Not expanded.
    Maintainer(String),
    /// ONBUILD.
    Onbuild(Onbuild),
    /// RUN.
    Run(Run),
    /// SHELL. Not expanded.
    Shell(Vec<String>),
    /// STOPSIGNAL.
    Stopsignal(Word),
    /// USER.
    User(Word),
    /// VOLUME.
    Volume(Vec<Word>),
    /// WORKDIR.
    Workdir(Word),
}

/// A name and a value of ENV or LABEL; both are expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The name.
    pub key: Word,
    /// The value.
    pub value: Word,
    /// Written in the old form, `ENV name value`.
    pub legacy: bool,
}

/// One definition of ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDefinition {
    /// The name. Not expanded.
    pub name: String,
    /// The default, if there is a `=`.
    pub default: Option<Word>,
    /// What the comment right above says of it: `# name description`.
    pub description: Option<String>,
}

/// How a command was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A line for the shell.
    Shell(String),
    /// A JSON array: the program and its arguments.
    Exec(Vec<String>),
}

/// The command of RUN, CMD or ENTRYPOINT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// How it was written. The line of a shell still has its `<<NAME`.
    pub form: Form,
    /// The heredocs of a line for the shell, in their order. Only RUN has any.
    pub heredocs: Vec<Heredoc>,
}

impl CommandLine {
    /// The heredoc that is the whole command (`RUN <<EOF`): its text is the script, and a file of its own if it begins with `#!`.
    pub fn script(&self) -> Option<&Heredoc> {
        match &self.form {
            Form::Shell(line) => super::heredoc::opens(line).and(self.heredocs.first()),
            Form::Exec(_) => None,
        }
    }

    /// The line for the shell with its heredocs behind it, as a shell would read them; none of the exec form.
    pub fn with_heredocs(&self) -> Option<String> {
        let Form::Shell(line) = &self.form else { return None };
        let mut text = line.clone();
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.raw);
            text.push_str(&heredoc.name);
        }
        Some(text)
    }
}

/// A text between `<<NAME` and a line with that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without quotes; for COPY and ADD the file's name.
    pub name: String,
    /// The number before `<<`, 0 without one.
    pub descriptor: u64,
    /// Whether variables are expanded: no part of the delimiter was quoted.
    pub expand: bool,
    /// `<<-`: tabs at the beginning of lines are left out.
    pub chomp: bool,
    /// The lines as they were written, each with its end.
    pub raw: String,
}

impl Heredoc {
    /// The text, without tabs at the beginning of lines if it was `<<-`.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.raw.clone();
        }
        self.raw.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What is run. Not expanded: its shell does that.
    pub command: CommandLine,
    /// `--mount`, in the order of the flags.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: RunNetwork,
    /// `--security`.
    pub security: RunSecurity,
    /// `--device`, in the order of the flags.
    pub devices: Vec<Device>,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// That of the build.
    #[default]
    Default,
    /// None but loopback.
    None,
    /// The host's.
    Host,
}

/// `RUN --security`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunSecurity {
    /// Confined.
    #[default]
    Sandbox,
    /// With all privileges.
    Insecure,
}

/// `RUN --device`: a device of the Container Device Interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name, or a class of devices.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// One `RUN --mount`, as it was written: its values have variables. `MountFlag::mount` expands them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    /// The text after `=`.
    pub text: String,
    /// `from`: a stage, an image or a context. It has no variables.
    pub from: Option<String>,
}

/// What COPY and ADD have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Paths with wildcards, or URLs.
    pub sources: Vec<Word>,
    /// Heredocs.
    pub inline: Vec<Inline>,
    /// The destination.
    pub destination: Word,
    /// `--chown`, empty without.
    pub chown: Word,
    /// `--chmod`, octal or symbolic once expanded; empty without.
    pub chmod: Word,
    /// `--link`.
    pub link: bool,
    /// `--exclude`, in the order of the flags. Not expanded.
    pub exclude: Vec<String>,
}

/// A file whose content is a heredoc of COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inline {
    /// The name of the file.
    pub name: String,
    /// Its content. Variables are expanded by [`Lexer::heredoc`](crate::expand::Lexer::heredoc) if `expand` says so.
    pub content: String,
    /// Whether variables are expanded.
    pub expand: bool,
}

/// COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Sources, destination, owner and mode.
    pub transfer: Transfer,
    /// `--from`: a stage by name or number, an image or a context. Not expanded; an empty one is none.
    pub from: Option<String>,
    /// `--parents`.
    pub parents: bool,
    /// `--optional`: a source that is not there is left out. Of rbox alone (moby#26332).
    pub optional: bool,
}

/// ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// Sources, destination, owner and mode.
    pub transfer: Transfer,
    /// `--keep-git-dir`, if it was given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`, empty without.
    pub checksum: Word,
    /// `--unpack`, if it was given.
    pub unpack: Option<bool>,
}

/// ONBUILD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// The instruction to be carried out later, heredocs included: what the image's configuration keeps. `Dockerfile::parse_trigger`
    /// reads it.
    pub trigger: String,
}
