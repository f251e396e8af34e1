//! What keeps a container from running, from being healthy or from being reached: what it is, in words, and what to try.

use rbox_spec::size::Size;
use serde::Serialize;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "Kind", rename_all = "kebab-case", rename_all_fields = "PascalCase")]
pub enum Cause {
    /// Nobody has started it.
    NeverStarted,
    /// Its record cannot be read.
    Unreadable {
        /// Why not.
        error: String,
    },
    /// It could not be started.
    StartFailed {
        /// What the start said.
        error: String,
    },
    /// The command is not there.
    CommandMissing {
        /// As it was asked for.
        command: String,
        /// Where it was looked for; empty for a path.
        searched: Vec<String>,
    },
    /// The command is a directory.
    Directory {
        /// Its path inside.
        path: String,
    },
    /// The command is a file that nobody may execute.
    NotExecutable {
        /// Its path inside.
        path: String,
        /// Its permission bits.
        mode: String,
        /// Who was to execute it.
        uid: u32,
    },
    /// What a script's first line names is not there.
    InterpreterMissing {
        /// The script.
        script: String,
        /// What is missing.
        interpreter: String,
    },
    /// The lines of a script end as on Windows.
    CarriageReturns {
        /// The script.
        script: String,
        /// What reads it.
        interpreter: String,
    },
    /// What loads a program and its libraries is not there.
    LoaderMissing {
        /// The program.
        program: String,
        /// What is missing.
        loader: String,
    },
    /// A shared library is not there.
    LibraryMissing {
        /// Its name.
        library: String,
    },
    /// The program is built for another processor.
    WrongArchitecture {
        /// The program.
        program: String,
        /// What for.
        machine: String,
        /// What this host is.
        host: String,
    },
    /// The file is no program, and no script with a first line.
    NoFormat {
        /// Its path inside.
        path: String,
        /// There is nothing in it.
        is_empty: bool,
    },
    /// Memory ran out.
    OutOfMemory {
        /// What the kernel said of it; may be empty.
        told: String,
        /// Bytes that it may have.
        limit: Option<u64>,
    },
    /// Memory ran out, and it goes on without the process that was killed.
    LostToMemory {
        /// What the kernel said of it; may be empty.
        told: String,
        /// Bytes that it may have.
        limit: Option<u64>,
    },
    /// Somebody stopped it, and it ended.
    Stopped {
        /// The signal that asked it to.
        signal: String,
        /// How it ended.
        exit_code: i32,
    },
    /// It did not end when it was asked to, and was killed.
    StopTimeout {
        /// The signal that asked it to.
        signal: String,
        /// Milliseconds that it was given.
        waited: i64,
        /// It has a small init as PID 1, which passes signals on.
        has_init: bool,
    },
    /// It was sent a signal by a command of rbox.
    Killed {
        /// Which.
        signal: String,
    },
    /// It ran longer than `--timeout` lets it.
    TimeLimit {
        /// Seconds.
        seconds: u64,
    },
    /// It turned unhealthy, and is killed then.
    KilledUnhealthy {
        /// What its last check said.
        output: String,
        /// What is done then: `kill` or `stop`.
        action: String,
    },
    /// A signal ended it that no command of rbox has sent.
    Signalled {
        /// Which.
        signal: String,
    },
    /// The kernel ended it for a fault.
    Crashed {
        /// The signal.
        signal: String,
    },
    /// The program said that it failed.
    Failed {
        /// Its exit code.
        exit_code: i32,
        /// The last it has written.
        last_words: Vec<String>,
        /// What it writes is kept nowhere.
        unlogged: bool,
    },
    /// It has done what it was to do.
    Finished,
    /// Nobody saw how it ended.
    Unseen {
        /// Why not.
        error: String,
    },
    /// Its restart policy starts it again after a pause.
    Restarting {
        /// The policy.
        policy: String,
        /// How often it was started again.
        count: u32,
    },
    /// Its restart policy starts it no more.
    RestartsUsedUp {
        /// The policy.
        policy: String,
    },
    /// It is frozen.
    Paused,
    /// Its monitor is gone.
    Unwatched,
    /// Its health checks fail.
    Unhealthy {
        /// What is run.
        command: Vec<String>,
        /// Failures in a row.
        failures: u32,
        /// The last one's exit code; -1 for one that did not end in time or could not be run.
        exit_code: i32,
        /// What the last one wrote.
        output: String,
        /// Not often enough yet to be unhealthy.
        still_starting: bool,
    },
    /// No health check was made yet.
    HealthStarting,
    /// A published port leads to a program that takes what comes from inside only.
    ListensElsewhere {
        /// The port, as `80/tcp`.
        port: String,
        /// The host's side.
        published: String,
        /// Where it listens.
        addresses: Vec<String>,
    },
    /// A published port leads to nobody.
    NobodyListens {
        /// The port, as `80/tcp`.
        port: String,
        /// The host's side.
        published: String,
        /// Ports that somebody listens on.
        others: Vec<String>,
    },
    /// A port is published to this host only.
    PublishedHere {
        /// The host's side.
        published: String,
    },
    /// Its programs listen, and none of their ports is published.
    NotPublished {
        /// The ports.
        ports: Vec<String>,
        /// Where it is reached from this host.
        address: String,
    },
    /// A file system that it writes to is full.
    FullDisk {
        /// What is full: a path of the host, or one inside.
        path: String,
        /// It is inside.
        is_inside: bool,
        /// Full of files, not of bytes.
        no_inodes: bool,
    },
    /// It has written as much into its own layer as `--storage-opt size=` lets it.
    OwnLimit {
        /// Bytes that it may have there.
        limit: u64,
        /// Bytes that it has.
        used: u64,
    },
    /// It wrote that there was no space.
    NoSpaceTold {
        /// The line.
        line: String,
    },
    /// Its user may not do in a mount what it is there for.
    MountDenied {
        /// Where it is mounted.
        target: String,
        /// What is mounted.
        source: String,
        /// The user inside.
        uid: u32,
        /// And the group.
        gid: u32,
        /// What they are on the host, where they are others there.
        outside: Option<(u32, u32)>,
        /// Whose it is.
        owner: u32,
        /// And its group.
        group: u32,
        /// Its permission bits.
        mode: String,
        /// `read` or `write`.
        wanted: &'static str,
    },
}

/// The exit codes that shells and engines give a meaning.
fn meaning_of(code: i32) -> Option<&'static str> {
    Some(match code {
        1 => "a general error of the program",
        2 => "wrong use of a shell or of a command, most often",
        64 => "a wrong command line (EX_USAGE)",
        78 => "a wrong configuration (EX_CONFIG)",
        125 => "the program that ran another one failed itself",
        126 => "a command was found and could not be executed",
        127 => "a command was not found",
        128 => "a wrong exit code",
        255 => "an error of the program, which it says no more of, or -1",
        _ => return None,
    })
}

impl Cause {
    /// It in one sentence.
    pub fn text(&self) -> String {
        match self {
            Self::NeverStarted => "it was created and never started".into(),
            Self::Unreadable { error } => format!("its record cannot be read: {error}"),
            Self::StartFailed { error } => format!("it could not be started: {error}"),
            Self::Failed { exit_code, .. } => match meaning_of(*exit_code) {
                Some(meaning) => format!("its program ended by itself with {exit_code}: {meaning}"),
                None if (129..=192).contains(exit_code) => format!(
                    "its program ended by itself with {exit_code}: what a shell says of a program of its own that signal {} ended, most often",
                    exit_code - 128
                ),
                None => format!("its program ended by itself with {exit_code}"),
            },
            Self::Finished => "its program has done its work: it ended by itself with 0".into(),
            Self::Unseen { error } if error.is_empty() => "nobody saw how it ended".into(),
            Self::Unseen { error } => error.clone(),
            Self::Restarting { policy, count } => format!(
                "it ended, and its restart policy ({policy}) starts it again after a pause that grows to a minute; so far {count} times"
            ),
            Self::RestartsUsedUp { policy } => format!("its restart policy ({policy}) starts it no more"),
            Self::Paused => "it is paused: its processes are frozen".into(),
            Self::Unwatched => "its monitor is gone (was it killed?): what it writes is kept nowhere, its health is not looked at, and nothing starts it again".into(),
            Self::HealthStarting => "none of its health checks has ended yet".into(),
            Self::Unhealthy { .. } => self.health_text(),
            Self::FullDisk { .. }
            | Self::OwnLimit { .. }
            | Self::NoSpaceTold { .. }
            | Self::MountDenied { .. } => self.files_text(),
            Self::ListensElsewhere { .. }
            | Self::NobodyListens { .. }
            | Self::PublishedHere { .. }
            | Self::NotPublished { .. } => self.network_text(),
            _ => self.program_text().unwrap_or_else(|| self.signal_text()),
        }
    }

    fn program_text(&self) -> Option<String> {
        Some(match self {
            Self::CommandMissing { command, searched } if searched.is_empty() => {
                format!("there is no {command} in the container")
            }
            Self::CommandMissing { command, searched } => {
                format!(
                    "there is no command {command} in the container: it is in none of {}",
                    searched.join(", ")
                )
            }
            Self::Directory { path } => format!("{path} is a directory, and no program"),
            Self::NotExecutable { path, mode, uid } => {
                format!("{path} may not be executed: its mode is {mode}, and the user is {uid}")
            }
            Self::InterpreterMissing { script, interpreter } => {
                format!("the first line of {script} names {interpreter}, which is not in the container")
            }
            Self::CarriageReturns { script, interpreter } => format!(
                "the lines of {script} end with carriage returns (CRLF, as on Windows): {interpreter} takes them for a part of words"
            ),
            Self::LoaderMissing { program, loader } => format!(
                "{program} needs {loader} to load its libraries, which is not in the container: it was built against another C library, or the image has none"
            ),
            Self::LibraryMissing { library } => {
                format!("the shared library {library} is not in the container")
            }
            Self::WrongArchitecture { program, machine, host } => {
                format!("{program} is built for {machine}, and this host is {host}")
            }
            Self::NoFormat { path, is_empty: true } => format!("there is nothing in {path}"),
            Self::NoFormat { path, .. } => {
                format!(
                    "{path} is neither a program nor a script that begins with #!, so the kernel does not execute it"
                )
            }
            _ => return None,
        })
    }

    fn signal_text(&self) -> String {
        match self {
            Self::OutOfMemory { told, limit } | Self::LostToMemory { told, limit } => {
                let limit = limit.map_or(String::new(), |bytes| format!("; it may have {} MiB", bytes >> 20));
                let told =
                    if told.is_empty() { "out of memory: the kernel killed a process in it" } else { told };
                let goes_on =
                    if matches!(self, Self::LostToMemory { .. }) { "; it goes on without that" } else { "" };
                format!("{told}{limit}{goes_on}")
            }
            Self::Stopped { signal, exit_code } => {
                format!("it was stopped: sent {signal} by rbox stop, it ended with {exit_code}")
            }
            Self::StopTimeout { signal, waited, has_init } => {
                let seconds = waited / 1000;
                let why = if *has_init {
                    "it takes longer than that"
                } else {
                    "PID 1 gets no signal that it has no handler for, or it takes longer than that"
                };
                format!("it was stopped, did not end within {seconds} s of {signal}, and was killed: {why}")
            }
            Self::Killed { signal } => format!("it was sent {signal} by a command of rbox"),
            Self::TimeLimit { seconds } => format!("it was killed after {seconds} s, as --timeout says"),
            Self::KilledUnhealthy { output, action } => {
                let done = if action == "stop" { "stopped" } else { "killed" };
                let output = if output.is_empty() { String::new() } else { format!(": {output}") };
                format!("it turned unhealthy, and was {done} for that (--health-on-failure={action}){output}")
            }
            Self::Signalled { signal } => format!(
                "{signal} ended it, which no command of rbox sent: a process in it did, or one of the host"
            ),
            Self::Crashed { signal } => {
                let what = match signal.as_str() {
                    "SIGSEGV" => "it used memory that is not its own",
                    "SIGABRT" => "it gave up (abort), most often after a check of its own failed",
                    "SIGILL" => "it has an instruction that this processor has not",
                    "SIGBUS" => "it used memory that a file no longer backs: often /dev/shm is full",
                    "SIGFPE" => "an arithmetic error, such as a division by zero",
                    "SIGSYS" => "it made a system call that the seccomp filter kills for",
                    "SIGXCPU" => "its limit of processor time is used up",
                    "SIGXFSZ" => "its limit of a file's size is reached",
                    _ => "a trap",
                };
                format!("it crashed with {signal}: {what}")
            }
            _ => String::new(),
        }
    }

    fn health_text(&self) -> String {
        let Self::Unhealthy { command, failures, exit_code, output, still_starting } = self else {
            return String::new();
        };
        let often = if *still_starting { "its health checks fail so far" } else { "its health checks fail" };
        let ended = match exit_code {
            -1 => String::new(),
            code => format!(" ended with {code}"),
        };
        let said = match output.trim_end() {
            "" => String::new(),
            output => format!(": {output}"),
        };
        format!("{often} ({failures} in a row): {}{ended}{said}", command.join(" "))
    }

    fn files_text(&self) -> String {
        match self {
            Self::FullDisk { path, is_inside, no_inodes } => {
                let place = if *is_inside { format!("{path} in the container") } else { path.clone() };
                let what = if *no_inodes { "has room for no more files" } else { "is full" };
                format!("the file system of {place} {what}")
            }
            Self::OwnLimit { limit, .. } => format!(
                "what it has written is as much as its own limit of {} (--storage-opt size) lets it have",
                Size(*limit)
            ),
            Self::NoSpaceTold { line } => format!("it wrote that there was no space: {line}"),
            Self::MountDenied { target, source, uid, gid, outside, owner, group, mode, wanted } => {
                let host =
                    outside.map_or_else(String::new, |(uid, gid)| format!(" ({uid}:{gid} of the host)"));
                format!(
                    "user {uid}:{gid}{host} may not {wanted} {target}: {source} belongs to {owner}:{group} and has mode {mode}"
                )
            }
            _ => String::new(),
        }
    }

    fn network_text(&self) -> String {
        match self {
            Self::ListensElsewhere { port, published, addresses } => format!(
                "{published} leads to {port}, where its program listens on {} only: what comes from outside of the container does not get there",
                addresses.join(" and ")
            ),
            Self::NobodyListens { port, published, others } => {
                let others = if others.is_empty() {
                    "no program in it listens at all".to_owned()
                } else {
                    format!("its programs listen on {}", others.join(", "))
                };
                format!("{published} leads to {port}, where nobody listens: {others}")
            }
            Self::PublishedHere { published } => {
                format!("{published} is published to this host only, not to others")
            }
            Self::NotPublished { ports, address } => format!(
                "{} listens in it and is not published: this host and containers of its networks reach it at {address}, others do not",
                ports.join(", ")
            ),
            _ => String::new(),
        }
    }
}
