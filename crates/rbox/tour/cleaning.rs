//! Takes away what the tour has made, and nothing else: all of it has the tour's label.
//!
//! The tour may be killed at any moment. So a second process, the janitor, stands beside it and does nothing but wait for the end of a
//! pipe: when the tour is gone, however it went, the janitor looks for what is left. If both are killed, the next tour does.

use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use rbox_engine::engine::{Engine, ProjectLock, RemoveRequest};
use rbox_engine::listing::filter::{Filters, PRUNE_KEYS, VOLUME_PRUNE_KEYS};

/// The label of all that the tour makes.
pub(crate) const LABEL: &str = "rbox.tour";

/// How long somebody else's cleaning is waited for, and a command that still runs when the tour is gone.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

/// How many things were removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removed {
    containers: usize,
    volumes: usize,
    networks: usize,
    images: usize,
}

impl Removed {
    /// In words; none when it was nothing.
    pub(crate) fn told(self) -> Option<String> {
        let counted = [
            (self.containers, "container"),
            (self.volumes, "volume"),
            (self.networks, "network"),
            (self.images, "image"),
        ];
        let words: Vec<String> = counted
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
            .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// Keeps other tours with these directories away. None: there is one.
pub(crate) fn lock(engine: &Engine, patience: Duration) -> anyhow::Result<Option<ProjectLock>> {
    let begin = Instant::now();
    loop {
        let taken = engine.try_lock_project("rbox", "tour")?;
        if taken.is_some() || begin.elapsed() >= patience {
            return Ok(taken);
        }
        std::thread::sleep(LOOK);
    }
}

/// The same, or an error that says who holds it.
pub(crate) fn lock_or_refuse(engine: &Engine) -> anyhow::Result<ProjectLock> {
    // A janitor may still be at work.
    if let Some(lock) = lock(engine, Duration::from_secs(2))? {
        return Ok(lock);
    }
    let holder = engine.project_lock_holder("rbox", "tour");
    let who = holder.map_or_else(String::new, |pid| format!(" (process {pid})"));
    anyhow::bail!(
        "a tour is running already{who}: end it with quit, or give this one --root and --state of its own"
    )
}

/// Removes all that has the label. What cannot be removed keeps nothing else from it.
pub(crate) fn clear(engine: &Engine) -> anyhow::Result<Removed> {
    let mut removed = Removed::default();
    let mut failed = None;
    for container in engine.containers()? {
        if !container.record.config.labels.contains_key(LABEL) {
            continue;
        }
        match engine.remove(&container, RemoveRequest { force: true, volumes: true }) {
            Err(error) if engine.current(&container.record.id).is_some() => failed = Some(error),
            // One of --rm may have gone by itself meanwhile.
            _ => removed.containers += 1,
        }
    }
    let label = [format!("label={LABEL}")];
    // Each prune is an event: none for nothing.
    if engine.volumes().list()?.iter().any(|volume| volume.labels.contains_key(LABEL)) {
        let pruned = engine.prune_volumes(&Filters::parse(&label, VOLUME_PRUNE_KEYS)?, true)?;
        removed.volumes = pruned.names.len();
    }
    if engine.networks().records()?.iter().any(|network| network.labels.contains_key(LABEL)) {
        removed.networks = engine.prune_networks(&Filters::parse(&label, PRUNE_KEYS)?)?.names.len();
    }
    let of_tour: Vec<_> = engine
        .listed_images()?
        .into_iter()
        .filter(|image| image.config.config.labels.contains_key(LABEL))
        .collect();
    if !of_tour.is_empty() {
        engine.prune_images(&Filters::parse(&label, PRUNE_KEYS)?, true)?;
        removed.images = of_tour.len();
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(removed),
    }
}

/// The process that cleans up when the tour is gone.
pub(crate) struct Janitor {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Janitor {
    /// Starts it.
    pub(crate) fn start(engine: &Engine) -> anyhow::Result<Self> {
        let paths = engine.paths();
        let mut command = rbox_engine::own_file::command()?;
        command.args(["tour", "--janitor"]).env("RBOX_ROOT", &paths.root).env("RBOX_STATE", &paths.state);
        // In a group of its own: ^C is not for it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// A command was started that the tour waits for.
    pub(crate) fn started(&mut self, pid: u32) {
        self.tell(&pid.to_string());
    }

    /// It has ended.
    pub(crate) fn ended(&mut self) {
        self.tell("");
    }

    fn tell(&mut self, line: &str) {
        // If it was killed, the next tour cleans up.
        let _ = self.pipe.as_mut().map(|pipe| writeln!(pipe, "{line}"));
    }

    /// Lets it clean up and end.
    pub(crate) fn finish(mut self) {
        drop(self.pipe.take());
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK);
        }
    }
}

/// What the janitor does: waits for the end of its standard input, and cleans up.
pub(crate) fn stand_by(engine: &Engine) -> anyhow::Result<()> {
    let mut pending: Option<u32> = None;
    for line in std::io::stdin().lock().lines() {
        pending = line.ok().and_then(|line| line.parse().ok());
    }
    // Who has the lock is another tour: it has cleaned up when it began.
    let Some(_lock) = lock(engine, PATIENCE)? else { return Ok(()) };
    clear(engine)?;
    let Some(pid) = pending else { return Ok(()) };
    // A command goes on without the tour, and may be about to make something.
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE && std::path::Path::new(&format!("/proc/{pid}")).exists() {
        std::thread::sleep(LOOK);
    }
    clear(engine).map(drop)
}
