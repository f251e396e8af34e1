//! The system calls rbox makes, shown as they are made: the sink behind `--explain`.
//!
//! Every wrapper in this crate, and every crate that issues a call through a safe library, goes through
//! [`call`]. Work is grouped by [`step`]. So what is printed was done, with the arguments it was done with.
//! With no sink installed a call costs one relaxed load.

use std::cell::Cell;
use std::fmt::{Debug, Display};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Where events go: one JSON object each, with one call.
#[derive(Debug)]
pub enum Sink {
    /// A line each.
    Stream(OwnedFd),
    /// A message each, of a socket.
    Messages(OwnedFd),
}

/// A named piece of work and one sentence on why it is done.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// In the words of the field: `mount proc`.
    pub name: &'static str,
    /// One sentence.
    pub why: &'static str,
}

struct Installed {
    sink: Sink,
    start: Instant,
}

/// The step that a thread is at.
#[derive(Clone, Copy, Debug)]
struct Current {
    step: Step,
    begin: Instant,
    /// Whether it was told: one without a call did nothing, and is not.
    told: bool,
}

static ENABLED: AtomicBool = AtomicBool::new(false);
static SINK: Mutex<Option<Installed>> = Mutex::new(None);

thread_local! {
    static STEP: Cell<Option<Current>> = const { Cell::new(None) };
    static ACTOR: Cell<&'static str> = const { Cell::new("rbox") };
}

/// Installs the sink.
pub fn enable(sink: Sink) {
    if let Ok(mut installed) = SINK.lock() {
        *installed = Some(Installed { sink, start: Instant::now() });
        ENABLED.store(true, Ordering::Relaxed);
    }
}

/// Stops telling, in this process only, and closes the sink's descriptor. The monitor does so once the
/// container runs.
pub fn disable() {
    ENABLED.store(false, Ordering::Relaxed);
    if let Ok(mut sink) = SINK.lock() {
        *sink = None;
    }
}

/// The number of the sink's descriptor, which is kept when all others are closed.
pub(crate) fn sink() -> Option<RawFd> {
    if !enabled() {
        return None;
    }
    SINK.lock().ok().and_then(|installed| installed.as_ref().map(|installed| installed.fd().as_raw_fd()))
}

/// Whether a sink listens.
pub fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Names this process in the events that follow: `rbox`, `monitor` or `container`.
pub fn set_actor(actor: &'static str) {
    ACTOR.set(actor);
}

/// Runs `work` as the step `name`; calls made inside are shown below it. Steps nest: the inner one is shown.
pub fn step<T>(name: &'static str, why: &'static str, work: impl FnOnce() -> T) -> T {
    if !enabled() {
        return work();
    }
    let current = Current { step: Step { name, why }, begin: Instant::now(), told: false };
    let (outer, process) = (STEP.replace(Some(current)), std::process::id());
    let out = work();
    // A process that was made in the step comes back from it too.
    if process == std::process::id() && STEP.get().is_some_and(|current| current.told) {
        told(|at_us| {
            serde_json::json!({
                "event": "end", "at_us": at_us, "pid": std::process::id(), "actor": ACTOR.get(), "step": name,
            })
        });
    }
    // One that has told nothing yet begins with what it does itself.
    STEP.set(outer.map(|outer| if outer.told { outer } else { Current { begin: Instant::now(), ..outer } }));
    out
}

/// A value a call returned, as `strace` would show it.
pub trait Returned {
    /// The text after `=`.
    fn returned(&self) -> String;
}

impl Returned for () {
    fn returned(&self) -> String {
        "0".into()
    }
}
impl Returned for OwnedFd {
    fn returned(&self) -> String {
        self.as_raw_fd().to_string()
    }
}
impl Returned for BorrowedFd<'_> {
    fn returned(&self) -> String {
        self.as_raw_fd().to_string()
    }
}
impl Returned for std::fs::File {
    fn returned(&self) -> String {
        self.as_raw_fd().to_string()
    }
}
impl Returned for Vec<u8> {
    fn returned(&self) -> String {
        self.len().to_string()
    }
}
macro_rules! returned_number {
    ($($t:ty),*) => { $(impl Returned for $t { fn returned(&self) -> String { self.to_string() } })* };
}
returned_number!(i32, u32, i64, u64, usize, isize);
impl<A: Returned, B> Returned for (A, B) {
    fn returned(&self) -> String {
        self.0.returned()
    }
}
impl<A: Returned> Returned for Option<A> {
    fn returned(&self) -> String {
        self.as_ref().map_or_else(|| "-".into(), Returned::returned)
    }
}

/// Runs one system call; with a sink, records its name, arguments, result and microseconds.
/// `args` is only called when somebody listens.
pub fn call<T: Returned, E: Display>(
    name: &'static str,
    args: impl FnOnce() -> String,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    if !enabled() {
        return run();
    }
    let args = args();
    let begin = Instant::now();
    let out = run();
    let micros = begin.elapsed().as_micros();
    let result = match &out {
        Ok(value) => value.returned(),
        Err(error) => failed(error),
    };
    emit_call(name, &args, &result, micros);
    out
}

/// What a call that failed returned, as strace(1) shows it: `-1 ENOENT (No such file or directory)`. The libraries' errors have the kernel's
/// number at one end of their text or the other.
fn failed(error: &impl Display) -> String {
    let text = error.to_string();
    let number = text.rsplit_once("(os error ").and_then(|(_, rest)| rest.strip_suffix(')')?.parse().ok());
    match (number.map(nix::errno::Errno::from_raw), text.split_once(": ")) {
        (Some(errno), _) => format!("-1 {errno:?} ({})", errno.desc()),
        (None, Some((name, why))) if name.starts_with('E') => format!("-1 {name} ({why})"),
        _ => format!("-1 {text}"),
    }
}

/// Tells a call that was made elsewhere: for one that returns twice.
pub fn tell<T: Returned, E: Display>(
    name: &'static str,
    args: impl FnOnce() -> String,
    out: &Result<T, E>,
    begin: Instant,
) {
    if enabled() {
        let micros = begin.elapsed().as_micros();
        let result = match out {
            Ok(value) => value.returned(),
            Err(error) => failed(error),
        };
        emit_call(name, &args(), &result, micros);
    }
}

/// Tells a call before it is made, because it does not come back when it works: execve(2).
pub fn last_call(name: &'static str, args: impl FnOnce() -> String) {
    if enabled() {
        emit_call(name, &args(), "does not return", 0);
    }
}

/// A path or string argument, quoted.
#[allow(clippy::unnecessary_debug_formatting, reason = "quotes and escapes are what is wanted")]
pub fn quoted(value: impl AsRef<std::ffi::OsStr>) -> String {
    format!("{:?}", value.as_ref())
}

/// A flags argument as C writes it: the names its `Debug` gives, joined by `|`.
pub fn flags(value: impl Debug) -> String {
    let text = format!("{value:?}");
    let inner =
        text.split_once('(').map_or(text.as_str(), |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    match inner {
        "0x0" => "0".to_owned(),
        inner => inner.replace(" | ", "|"),
    }
}

/// [`flags`] of a type whose names are C's without their common beginning: `O_`, `RESOLVE_`, `MS_`.
pub fn flags_of(prefix: &str, value: impl Debug) -> String {
    match flags(value) {
        number if number.starts_with(|first: char| first.is_ascii_digit()) => number,
        names => names.split('|').map(|name| format!("{prefix}{name}")).collect::<Vec<_>>().join("|"),
    }
}

/// A path between `<` and `>`: what would end it, or begin something else, is written in octal digits, as strace(1) does.
fn plain(path: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(path.len());
    for char in path.chars() {
        if matches!(char, '<' | '>' | '"' | '\\' | ',') {
            let _ = write!(text, "\\{:o}", u32::from(char));
        } else {
            text.push(char);
        }
    }
    text
}

/// An fd argument with the path it stands for when the kernel knows one: `7</sys/fs/cgroup/rbox>`.
pub fn fd(value: impl AsFd) -> String {
    let raw = value.as_fd().as_raw_fd();
    if raw == libc::AT_FDCWD {
        return "AT_FDCWD".to_owned();
    }
    match std::fs::read_link(format!("/proc/self/fd/{raw}")) {
        Ok(path) => format!("{raw}<{}>", plain(&path.display().to_string())),
        Err(_) => raw.to_string(),
    }
}

/// Tells what the container's first process sees, before it is let go.
pub fn tell_view(view: &serde_json::Value) {
    told(|at_us| {
        serde_json::json!({
            "event": "view", "at_us": at_us, "pid": std::process::id(), "actor": ACTOR.get(), "view": view,
        })
    });
}

/// Tells the step of this thread now: before a call that makes a process which tells its own.
pub fn announce() {
    if enabled()
        && let Ok(guard) = SINK.lock()
        && let Some(installed) = guard.as_ref()
    {
        installed.announce();
    }
}

/// Tells one event, made with the microseconds since the sink was installed.
fn told(event: impl FnOnce(u64) -> serde_json::Value) {
    let Ok(guard) = SINK.lock() else { return };
    if let Some(installed) = guard.as_ref() {
        installed.tell(&event(installed.micros(Instant::now())));
    }
}

/// As many bytes of a call's arguments are told.
const LONGEST: usize = 48 << 10;

fn emit_call(name: &str, args: &str, result: &str, micros: u128) {
    let Ok(guard) = SINK.lock() else { return };
    let Some(installed) = guard.as_ref() else { return };
    let step = STEP.get();
    let cut = args.len() > LONGEST;
    let args =
        if cut { format!("{}…", &args[..args.floor_char_boundary(LONGEST)]) } else { args.to_owned() };
    installed.announce();
    installed.tell(&serde_json::json!({
        "event": "call", "at_us": installed.micros(Instant::now()), "pid": std::process::id(),
        "actor": ACTOR.get(), "step": step.map(|current| current.step.name), "syscall": name, "args": args,
        "result": result, "us": micros as u64,
    }));
}

impl Installed {
    fn fd(&self) -> &OwnedFd {
        match &self.sink {
            Sink::Stream(fd) | Sink::Messages(fd) => fd,
        }
    }

    /// Microseconds from its installation to `at`.
    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_micros() as u64
    }

    /// Tells the step that this thread is at, once.
    fn announce(&self) {
        if let Some(current) = STEP.get().filter(|current| !current.told) {
            STEP.set(Some(Current { told: true, ..current }));
            self.tell(&serde_json::json!({
                "event": "step", "at_us": self.micros(current.begin), "pid": std::process::id(),
                "actor": ACTOR.get(), "step": current.step.name, "why": current.step.why,
            }));
        }
    }

    /// A reader that went away ends the telling, never the work; so does one that does not read for as long as its socket waits.
    fn tell(&self, event: &serde_json::Value) {
        let line = format!("{event}\n");
        let told = rustix::io::retry_on_intr(|| match &self.sink {
            Sink::Stream(fd) => rustix::io::write(fd, line.as_bytes()),
            Sink::Messages(fd) => rustix::net::send(fd, line.as_bytes(), rustix::net::SendFlags::NOSIGNAL),
        });
        if told.is_err() {
            ENABLED.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told_as_strace_does() {
        let wanted = "-1 ENOENT (No such file or directory)";
        assert_eq!(failed(&rustix::io::Errno::NOENT), wanted);
        assert_eq!(failed(&nix::errno::Errno::ENOENT), wanted);
        assert_eq!(failed(&std::io::Error::from_raw_os_error(2)), wanted);
        assert_eq!(failed(&"it was not asked"), "-1 it was not asked");
    }

    #[test]
    fn flags_have_the_names_of_c() {
        use rustix::fs::{OFlags, ResolveFlags};
        assert_eq!(flags_of("O_", OFlags::PATH | OFlags::CLOEXEC), "O_PATH|O_CLOEXEC");
        assert_eq!(flags_of("RESOLVE_", ResolveFlags::empty()), "0");
        assert_eq!(fd(rustix::fs::CWD), "AT_FDCWD");
    }
}
