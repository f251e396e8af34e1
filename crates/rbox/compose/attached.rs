//! An attached `up`: what the services write is shown until all have ended, or the user or one of them ends it.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rbox_compose::model::Project;
use rbox_compose::run::{self, DownRequest};
use rbox_compose::{Instance, Observed};
use rbox_engine::engine::Engine;
use rbox_engine::own_file;
use rbox_engine::session::{SignalFd, Taken};

use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::compose::menu::Menu;
use crate::compose::narrator::Shown;
use crate::compose::progress::Progress;
use crate::compose::watcher::Watcher;
use crate::output::table::write_all;

/// What of the services' output is shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attached {
    pub(crate) services: Vec<String>,
    pub(crate) no_color: bool,
    pub(crate) no_prefix: bool,
    pub(crate) timestamps: bool,
}

/// What goes on beside the output of an attached `up`.
pub(crate) struct Beside<'a> {
    pub(crate) menu: Option<Menu<'a>>,
    pub(crate) watcher: &'a Watcher<'a>,
}

/// What ends an attached `up` besides the user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    pub(crate) on_exit: bool,
    pub(crate) on_failure: bool,
    pub(crate) code_from: Option<String>,
    pub(crate) timeout: Option<i64>,
}

/// Shows output in a process of its own: this one has to stay with one thread as long as it starts containers.
#[derive(Debug)]
pub(crate) struct Follower {
    child: Option<Child>,
    signals: Option<SignalFd>,
}

/// How long that may take to say the rest once it is to end: whoever reads it may be slow.
const SAYING_THE_REST: Duration = Duration::from_secs(10);
/// Exit code after Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Begins to show what the services write from now on.
pub(crate) fn follow(global: &Global, project: &Project, shown: &Attached) -> anyhow::Result<Follower> {
    if shown.services.is_empty() {
        return Ok(Follower { child: None, signals: SignalFd::new(Taken::Ending) });
    }
    let paths = global.engine.paths();
    let mut command = own_file::command()?;
    command.arg("--root").arg(&paths.root).arg("--state").arg(&paths.state);
    command.args(["compose", "--project-name", &project.name]);
    if let Some(ansi) = &global.project.ansi {
        command.args(["--ansi", ansi]);
    }
    command.args(["logs", "--follow", "--until-input-ends", "--since", &now()]);
    command.args(shown.no_color.then_some("--no-color"));
    command.args(shown.no_prefix.then_some("--no-log-prefix"));
    command.args(shown.timestamps.then_some("--timestamps"));
    command.args(&shown.services);
    // Its input is what tells it to end. Signals of the terminal are for this process alone: what is written while all is stopped is
    // shown as well.
    let child = command.stdin(Stdio::piped()).process_group(0).spawn();
    let child = child.context("show what the services write")?;
    Ok(Follower { child: Some(child), signals: SignalFd::new(Taken::Ending) })
}

/// This moment, as `--since` reads it.
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

impl Follower {
    /// What the user asks this command to end with.
    pub(crate) fn signals(&self) -> Option<&SignalFd> {
        self.signals.as_ref()
    }

    /// Stays until all have ended, and ends the rest when it is to.
    pub(crate) fn wait(
        mut self,
        global: &Global,
        project: &Project,
        ending: &Ending,
        beside: Beside<'_>,
    ) -> anyhow::Result<u8> {
        let code = self.wait_for_end(global, project, ending, beside);
        self.finish();
        code
    }

    fn wait_for_end(
        &self,
        global: &Global,
        project: &Project,
        ending: &Ending,
        Beside { mut menu, watcher }: Beside<'_>,
    ) -> anyhow::Result<u8> {
        let engine = &global.engine;
        let happenings = engine.happenings()?;
        loop {
            let instances = own(engine, project)?;
            let ended = |one: &&Instance| !one.container.is_active();
            let code = |one: &Instance| one.container.exit.as_ref().map_or(0, |exit| exit.exit_code);
            let first = instances
                .iter()
                .filter(ended)
                .find(|one| ending.on_exit || (ending.on_failure && code(one) != 0));
            if let Some(first) = first {
                let first = first.name().to_owned();
                drop(menu);
                watcher.end();
                self.stop_or_kill(global, project, ending)?;
                return Ok(exit_code(&own(engine, project)?, &first, ending));
            }
            // One that is watched may only be on its way to the next one.
            if !watcher.is_on() && instances.iter().all(|one| !one.container.is_active()) {
                return Ok(0);
            }
            if menu.as_mut().is_some_and(Menu::act) {
                return Ok(0);
            }
            if self.signals().is_some_and(SignalFd::asks_to_end) {
                drop(menu);
                watcher.end();
                return self.interrupted(global, project, ending);
            }
            let signals = self.signals().map(AsFd::as_fd);
            let keys = menu.as_ref().and_then(Menu::keys);
            let others: Vec<_> = signals.into_iter().chain(keys).collect();
            happenings.wait_for_any(&others, None).context("wait for what happens")?;
        }
    }

    /// Stops all, since the user asked for that.
    pub(crate) fn interrupted(
        &self,
        global: &Global,
        project: &Project,
        ending: &Ending,
    ) -> anyhow::Result<u8> {
        write_all(&mut std::io::stderr(), "Gracefully stopping... (press Ctrl+C again to force)\n")?;
        self.stop_or_kill(global, project, ending)?;
        Err(Coded { message: String::new(), code: INTERRUPTED }.into())
    }

    /// A second signal does what it does without this: what is stopped goes on being stopped by nobody, and is killed.
    fn stop_or_kill(&self, global: &Global, project: &Project, ending: &Ending) -> anyhow::Result<()> {
        stop_all(global, project, ending, &|| {
            if self.signals().is_some_and(SignalFd::asks_to_end) {
                // What cannot be listed cannot be killed either; the next signal tries again.
                for one in own(&global.engine, project).unwrap_or_default() {
                    global.engine.begin_kill(&one.container);
                }
            }
        })
    }

    /// Lets what shows the output say the rest.
    fn finish(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let begin = Instant::now();
            while child.try_wait().is_ok_and(|ended| ended.is_none()) {
                if begin.elapsed() > SAYING_THE_REST {
                    let _ = child.kill();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.finish();
    }
}

fn own(engine: &Engine, project: &Project) -> anyhow::Result<Vec<Instance>> {
    let observed = Observed::of(engine, &project.name)?;
    let is_meant = |one: &Instance| !one.one_off && project.services.contains_key(&one.service);
    Ok(observed.instances.into_iter().filter(is_meant).collect())
}

/// Stops the services, those that depend on others first.
fn stop_all(
    global: &Global,
    project: &Project,
    ending: &Ending,
    tick: &(dyn Fn() + Sync),
) -> anyhow::Result<()> {
    let progress = Progress::new(&global.project, "Stopping")?;
    progress.share();
    let request = DownRequest {
        services: project.services.keys().cloned().collect(),
        timeout: ending.timeout,
        ..DownRequest::default()
    };
    run::stop(&global.engine, &project.name, Some(project), &request, &Shown(&progress), tick)?;
    Ok(())
}

fn exit_code(instances: &[Instance], first: &str, ending: &Ending) -> u8 {
    let is_asked = |one: &&Instance| match &ending.code_from {
        Some(service) => one.service == *service,
        None => one.name() == first,
    };
    let exit = instances.iter().find(is_asked).and_then(|one| one.container.exit.as_ref());
    exit.map_or(NOT_DONE, |exit| u8::try_from(exit.exit_code).unwrap_or(u8::MAX))
}
