//! Programs of the config that run at points of a container's life (the OCI runtime specification, "POSIX-platform Hooks").
//!
//! | hook | when | where, and as whom |
//! |---|---|---|
//! | `prestart`, `createRuntime` | all is mounted, before `pivot root` | the host's namespaces, as the one who creates |
//! | `createContainer` | after these | the container's namespaces, the host's root |
//! | `startContainer` | when it is started, before execve | the container, confined as its program is |
//! | `poststart` | after execve | the host's namespaces, as the one who starts |
//! | `poststop` | after the container was deleted | the host's namespaces, as the one who deletes |
//!
//! Each gets the container's state on standard input. A `startContainer` hook is a file of the container's tree, so it gets the limits,
//! user, capabilities and filter of the program.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use oci_spec::runtime::{ContainerState, Hook, Process, State};
use rbox_security::seccomp::Filter;
use rbox_sys::process::{self, Side};
use rbox_sys::waiting::{self, Patience};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::WaitIdStatus;

use crate::credentials::{self, StepError};
use crate::launch::Launch;
use crate::streams::connect;

/// How long a hook without a timeout may take.
const LONGEST: Duration = Duration::from_hours(1);
/// The end of what a failed hook printed goes into the error.
const SAID_MAX: usize = 2048;

/// The hooks of a container whose first process is the caller's child: those that run on this side.
#[derive(Debug)]
pub(crate) struct OfParent {
    early: Vec<(&'static str, Vec<Hook>)>,
    poststart: Vec<Hook>,
    state: State,
    /// How long those of the other side may take.
    pub(crate) patience: Patience,
}

impl OfParent {
    /// Those of a launch; none where none are to be run.
    pub(crate) fn of(launch: &Launch<'_>) -> Option<Self> {
        let state = launch.state.clone()?;
        launch.spec.hooks().as_ref()?;
        let inside = launch.hooks(|hooks| hooks.create_container().as_deref());
        let at_start = launch.hooks(|hooks| hooks.start_container().as_deref());
        Some(Self {
            early: launch.runtime_hooks().map(|(kind, hooks)| (kind, hooks.to_vec())).into(),
            poststart: launch.hooks(|hooks| hooks.poststart().as_deref()).to_vec(),
            state,
            patience: patience(&[inside, at_start].concat()),
        })
    }

    /// The first ones, when the process has asked for them.
    pub(crate) fn run_early(&self, pid: i32) -> Result<(), String> {
        let state = self.state_of(ContainerState::Creating, pid);
        self.early.iter().try_for_each(|(kind, hooks)| run(kind, hooks, &state))
    }

    /// Those after its program was executed.
    pub(crate) fn run_poststart(&self, pid: i32) -> Result<(), String> {
        run("poststart", &self.poststart, &self.state_of(ContainerState::Running, pid))
    }

    fn state_of(&self, status: ContainerState, pid: i32) -> State {
        let mut state = self.state.clone();
        state.set_status(status).set_pid(Some(pid));
        state
    }
}

/// Runs the `poststop` hooks of a container that is gone. `state`: what they get. What failed comes back; all of them run.
pub fn run_poststop(hooks: &[Hook], state: &State) -> Vec<String> {
    let mut state = state.clone();
    state.set_status(ContainerState::Stopped).set_pid(None);
    run_all("poststop", hooks, &state)
}

/// How long these may take together, and a moment for what comes between them.
pub(crate) fn patience(hooks: &[Hook]) -> Patience {
    let all: Duration = hooks.iter().map(time).sum();
    Patience::of(all.saturating_add(Duration::from_mins(1)))
}

fn time(hook: &Hook) -> Duration {
    let seconds =
        hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(LONGEST, |seconds| Duration::from_secs(seconds).min(LONGEST))
}

/// Refuses hooks that cannot be run, before anything is made.
///
/// # Errors
/// The first of them, and why.
pub fn check(kind: &str, hooks: &[Hook]) -> Result<(), String> {
    for hook in hooks {
        let shown = hook.path().display();
        if !hook.path().is_absolute() {
            return Err(format!("{kind} hook {shown}: its path is not absolute"));
        }
        if hook.timeout().is_some_and(|seconds| seconds <= 0) {
            return Err(format!("{kind} hook {shown}: its timeout is not greater than 0"));
        }
    }
    Ok(())
}

/// Runs these programs of the host one after the other, in the namespaces of this process, up to the first that fails.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &State) -> Result<(), String> {
    hooks.iter().try_for_each(|hook| run_one(kind, hook, state))
}

/// Runs all of them, and returns what failed.
pub(crate) fn run_all(kind: &str, hooks: &[Hook], state: &State) -> Vec<String> {
    hooks.iter().filter_map(|hook| run_one(kind, hook, state).err()).collect()
}

fn run_one(kind: &str, hook: &Hook, state: &State) -> Result<(), String> {
    let failed = |why: String| format!("{kind} hook {}: {why}", hook.path().display());
    let mut command = Command::new(hook.path());
    if let Some((name, args)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(args);
    }
    command.env_clear();
    command.envs(hook.env().iter().flatten().filter_map(|variable| variable.split_once('=')));
    let output = waiting::run(&mut command, &encode(state), Patience::of(time(hook)))
        .map_err(|error| failed(rbox_sys::plain(error)))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(format!("{}{}", output.status, said(&[output.stdout, output.stderr].concat()))))
}

/// Runs these programs of the container's tree, each in a process that is confined as the container's program is.
pub(crate) fn run_confined(
    kind: &str,
    hooks: &[Hook],
    state: &State,
    owner: &Process,
    seccomp: Option<&Filter>,
) -> Result<(), StepError> {
    for hook in hooks {
        let failed = |why: String| StepError::new(format!("{kind} hook {}: {why}", hook.path().display()));
        let memory = || -> Result<File, StepError> {
            rustix::fs::memfd_create("hook", rustix::fs::MemfdFlags::CLOEXEC)
                .map(File::from)
                .map_err(|errno| failed(rbox_sys::plain(errno)))
        };
        let (mut input, mut output) = (memory()?, memory()?);
        let given = input.write_all(&encode(state)).and_then(|()| input.rewind());
        given.map_err(|error| failed(rbox_sys::plain(error)))?;
        let child = match process::clone3(process::CloneFlags::empty(), None)? {
            Side::Child => become_hook(hook, owner, seccomp, [input.as_fd(), output.as_fd(), output.as_fd()]),
            Side::Parent(child) => child,
        };
        let ended = wait(&child.pidfd, time(hook));
        if ended.as_ref().is_some_and(|status| status.exit_status() == Some(0)) {
            continue;
        }
        let why = match ended {
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit status: {code}"),
                (None, signal) => format!("signal: {}", signal.unwrap_or_default()),
            },
            None => format!("it did not end within {} s", time(hook).as_secs()),
        };
        let mut text = Vec::new();
        let _ = output.rewind().and_then(|()| output.take(1 << 20).read_to_end(&mut text));
        return Err(failed(format!("{why}{}", said(&text))));
    }
    Ok(())
}

fn become_hook(hook: &Hook, owner: &Process, seccomp: Option<&Filter>, streams: [BorrowedFd<'_>; 3]) -> ! {
    let prepared = connect(streams)
        .and_then(|()| Ok(process::close_from_on_exec(3)?))
        .and_then(|()| credentials::limit_and_confine(owner, seccomp));
    process::reset_signals();
    let text = |text: &str| CString::new(text).unwrap_or_default();
    let path = hook.path().to_string_lossy();
    let args: Vec<CString> = match hook.args().as_deref() {
        None | Some([]) => vec![text(&path)],
        Some(args) => args.iter().map(|arg| text(arg)).collect(),
    };
    let env: Vec<CString> = hook.env().iter().flatten().map(|variable| text(variable)).collect();
    let why = match prepared {
        Ok(()) => process::execve(&text(&path), &args, &env).desc().to_lowercase(),
        Err(error) => error.message,
    };
    let _ = rustix::io::write(rustix::stdio::stderr(), why.as_bytes());
    process::exit_now(127)
}

/// How a child ended; none, and it is killed, when it took longer. Nothing is read under /proc: it is the container's.
fn wait(pidfd: &OwnedFd, time: Duration) -> Option<WaitIdStatus> {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(1) => return waiting::reap(pidfd.as_fd(), waiting::GONE),
            _ => break,
        }
    }
    let _ = process::pidfd_send_signal(pidfd, nix::libc::SIGKILL);
    let _ = waiting::reap(pidfd.as_fd(), waiting::GONE);
    None
}

fn encode(state: &State) -> Vec<u8> {
    serde_json::to_vec(state).unwrap_or_default()
}

/// The end of what it printed, as the end of a line.
fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SAID_MAX)..]);
    let text = text.trim().replace('\n', "; ");
    if text.is_empty() { text } else { format!(": {}", text.escape_debug()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<i64>) -> Hook {
        let mut hook = Hook::default();
        hook.set_path("/bin/sh".into());
        hook.set_args(Some(["named", "-c", script].map(str::to_owned).to_vec()));
        hook.set_env(Some(vec!["A=b=c".into()]));
        hook.set_timeout(timeout);
        hook
    }

    #[test]
    fn a_hook_has_the_state_its_arguments_and_no_other_environment() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let script = format!("cat >{0}; echo \" $0 $A [$HOME]\" >>{0}", out.display());
        let state = State::default();
        run("poststart", &[hook(&script, None)], &state).unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        assert_eq!(text, format!("{} named b=c []\n", serde_json::to_string(&state).unwrap()));
    }

    #[test]
    fn a_failure_is_told_with_what_it_printed_and_ends_the_row() {
        let failing = hook("echo one >&2; exit 3", None);
        let late = hook("sleep 100", Some(1));
        let state = State::default();
        let error = run("prestart", &[failing.clone(), late.clone()], &state).unwrap_err();
        assert_eq!(error, "prestart hook /bin/sh: exit status: 3: one");
        let begin = Instant::now();
        let errors = run_all("poststop", &[late, failing], &state);
        assert!(errors.len() == 2 && begin.elapsed() < Duration::from_secs(20), "{errors:?}");
        assert!(errors[0].contains("sh"), "{errors:?}");
    }

    #[test]
    fn what_cannot_run_is_refused() {
        let mut relative = hook("true", Some(1));
        relative.set_path("bin/sh".into());
        assert!(check("poststop", &[relative]).unwrap_err().contains("not absolute"));
        assert!(check("poststop", &[hook("true", Some(0))]).unwrap_err().contains("timeout"));
        assert!(check("poststop", &[hook("true", Some(1)), hook("true", None)]).is_ok());
    }
}
