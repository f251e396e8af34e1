//! The processes: one for each stage that is carried out beside others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rbox_spec::Kind;
use rbox_sys::process::{self, CloneFlags, Side};
use rbox_sys::{own, waiting};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::message::{encode, take};
use super::plan::Plan;
use crate::builder::Builder;
use crate::cache::{FileMarks, StepTrace};
use crate::context::Work;
use crate::dockerfile::Lines;
use crate::error::{BuildError, io_error};
use crate::progress::{BuildEvent, BuildProgress, Number};
use crate::stage::Stage;

/// At most so many stages are carried out at one moment: more would only wait for the same processors.
const MOST_WORKERS: usize = 16;
/// How often those who watch hear of nothing but the time.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// No report is larger.
const MOST_REPORT: u64 = 1 << 30;
/// What the file of a worker's report is called.
const REPORT: &str = "report";

/// What a worker's stage came to, and what it has learnt.
#[derive(Serialize, Deserialize)]
struct Report {
    stage: Result<Stage, Failure>,
    consumed: HashSet<String>,
    has_made_layers: bool,
    traces: BTreeMap<String, StepTrace>,
    files: FileMarks,
}

/// An error, as another process hears of it.
#[derive(Serialize, Deserialize)]
struct Failure {
    message: String,
    /// Its place in [`Kind::ALL`].
    kind: usize,
    lines: Option<(usize, usize)>,
}

impl Failure {
    fn of(error: &BuildError) -> Self {
        let kind = Kind::ALL.iter().position(|kind| *kind == error.kind()).unwrap_or_default();
        let lines = error.lines().map(|lines| (lines.start, lines.end));
        Self { message: error.chain(), kind, lines }
    }

    fn error(self) -> BuildError {
        let kind = Kind::ALL.get(self.kind).copied().unwrap_or(Kind::Internal);
        let error = BuildError::InStage { message: self.message, kind };
        match self.lines {
            Some((start, end)) => error.at(Lines { start, end }),
            None => error,
        }
    }
}

/// A process that carries out a stage.
struct Worker {
    stage: usize,
    pidfd: OwnedFd,
    pipe: File,
    /// The beginning of an event.
    waiting: Vec<u8>,
    /// The numbers of its steps: its own, and those of the build.
    numbers: HashMap<Number, Number>,
    /// Steps that have no end yet.
    open: BTreeSet<Number>,
    dir: PathBuf,
}

/// Tells another process.
struct Remote(File);

impl BuildProgress for Remote {
    fn event(&mut self, event: BuildEvent<'_>) {
        // Nobody hears of it any more: the build is gone, and this process is about to be.
        let _ = self.0.write_all(&encode(&event));
    }
}

impl Builder<'_> {
    /// A stage and all that it needs, side by side where that can be.
    pub(crate) fn stages(&mut self, target: usize) -> Result<Rc<Stage>, BuildError> {
        let plan = Plan::of(self, target);
        if !self.request.is_watched() && plan.is_wide() {
            for (image, lines) in &plan.images {
                self.image_stage(image, None).map_err(|error| error.at(*lines))?;
            }
            self.begin_secrets()?;
            let mut workers = Vec::new();
            let done = self.carry_out_plan(&plan, &mut workers);
            if done.is_err() {
                self.cancel(workers);
            }
            done?;
        }
        self.stage(target)
    }

    fn carry_out_plan(&mut self, plan: &Plan, workers: &mut Vec<Worker>) -> Result<(), BuildError> {
        let (mut done, mut begun) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let ready = plan.ready(&done, &begun);
            if let ([only], true) = (ready.as_slice(), workers.is_empty()) {
                self.stage(*only)?;
                done.insert(*only);
                continue;
            }
            for number in ready {
                if workers.len() < MOST_WORKERS {
                    begun.insert(number);
                    workers.push(self.start_worker(number)?);
                }
            }
            if workers.is_empty() {
                return Ok(());
            }
            if let Some(place) = self.listen(workers)? {
                let worker = workers.swap_remove(place);
                done.insert(worker.stage);
                self.take_in(worker)?;
            }
        }
    }

    fn start_worker(&mut self, stage: usize) -> Result<Worker, BuildError> {
        let dir = self.work.fresh();
        own::make_private(&dir).map_err(io_error("make directory", &dir))?;
        let (read, write) = std::io::pipe().map_err(io_error("make", Path::new("a pipe")))?;
        let parent = std::process::id();
        match process::clone3(CloneFlags::empty(), None).map_err(BuildError::process)? {
            Side::Child => {
                drop(read);
                let code = self.work_on(stage, &dir, File::from(OwnedFd::from(write)), parent);
                process::exit_now(code)
            }
            Side::Parent(child) => {
                let pipe = File::from(OwnedFd::from(read));
                rustix::io::ioctl_fionbio(&pipe, true)
                    .map_err(|error| io_error("read", Path::new("a pipe"))(error.into()))?;
                Ok(Worker {
                    stage,
                    pidfd: child.pidfd,
                    pipe,
                    waiting: Vec::new(),
                    numbers: HashMap::new(),
                    open: BTreeSet::new(),
                    dir,
                })
            }
        }
    }

    /// What a worker does, from its first moment to its last. Nothing that it has from the build may be dropped here: that is the build's.
    fn work_on(&mut self, stage: usize, dir: &Path, pipe: File, parent: u32) -> i32 {
        process::set_name(c"rbox-stage");
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        let above = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
        if above.and_then(|pid| u32::try_from(pid).ok()) != Some(parent) {
            return 1;
        }
        self.progress = Box::leak(Box::new(Remote(pipe)));
        self.number = 0;
        let name = format!("stage-{stage}");
        std::mem::forget(std::mem::replace(&mut self.work, Work::below(dir)));
        if let Some(secrets) = self.secrets.take() {
            let below = secrets.dir().join(name);
            std::mem::forget(secrets);
            self.secrets = own::make_private(&below).is_ok().then(|| Work::below(&below));
        }
        self.has_made_layers = false;
        drop(self.last.take_now());
        let done = self.stage(stage);
        let report = Report {
            stage: done.map(|stage| (*stage).clone()).map_err(|error| Failure::of(&error)),
            consumed: self.consumed.clone(),
            has_made_layers: self.has_made_layers,
            traces: self.last.take_now(),
            files: self.known.borrow_mut().take_marks(),
        };
        let path = dir.join(REPORT);
        let written = serde_json::to_vec(&report).map(|bytes| own::write(&path, bytes));
        i32::from(!matches!(written, Ok(Ok(()))))
    }

    /// Hears what the workers say, for a moment. The place of one that is done.
    fn listen(&mut self, workers: &mut [Worker]) -> Result<Option<usize>, BuildError> {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(workers.len() * 2);
        for worker in workers.iter() {
            fds.push(PollFd::new(&worker.pidfd, PollFlags::IN));
            fds.push(PollFd::new(&worker.pipe, PollFlags::IN));
        }
        match poll(&mut fds, Some(&TICK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io_error("poll", Path::new("the stages"))(error.into())),
        }
        drop(fds);
        self.event(BuildEvent::Tick);
        let mut ended = None;
        for (place, worker) in workers.iter_mut().enumerate() {
            // Looked at first: what it said before its end is in the pipe by then.
            let is_over = poll(&mut [PollFd::new(&worker.pidfd, PollFlags::IN)], Some(&NOW)).unwrap_or(0) > 0;
            self.hear(worker);
            if is_over && ended.is_none() {
                ended = Some(place);
            }
        }
        Ok(ended)
    }

    /// Passes on what a worker said.
    fn hear(&mut self, worker: &mut Worker) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = worker.pipe.read(&mut buffer) {
            worker.waiting.extend_from_slice(buffer.get(..length).unwrap_or_default());
            let Worker { waiting, numbers, open, .. } = worker;
            while take(waiting, &mut |event| self.pass_on(event, numbers, open)) {}
        }
    }

    fn pass_on(
        &mut self,
        event: BuildEvent<'_>,
        numbers: &mut HashMap<Number, Number>,
        open: &mut BTreeSet<Number>,
    ) {
        if let BuildEvent::Begun { number, name } = event {
            let own = self.begin(name);
            numbers.insert(number, own);
            open.insert(own);
            return;
        }
        let event = event.renumbered(|number| numbers.get(&number).copied().unwrap_or(number));
        if let Some(number) = event.ends() {
            open.remove(&number);
        }
        self.event(event);
    }

    /// Takes in what the stage of a worker that has ended came to.
    fn take_in(&mut self, mut worker: Worker) -> Result<(), BuildError> {
        self.hear(&mut worker);
        let status = waiting::reap(worker.pidfd.as_fd(), waiting::GONE);
        let path = worker.dir.join(REPORT);
        let report: Option<Report> = own::read(&path, MOST_REPORT)
            .ok()
            .filter(|_| status.is_some_and(|status| status.exit_status() == Some(0)))
            .and_then(|bytes| rbox_spec::json::from_slice(&bytes).ok());
        let _ = rbox_sys::removal::remove_tree(&worker.dir);
        let Some(report) = report else {
            let how = match status.and_then(|status| status.terminating_signal()) {
                Some(signal) => format!("was ended by signal {signal}"),
                None => "failed".to_owned(),
            };
            let name = self.file.stages.get(worker.stage).and_then(|stage| stage.name.clone());
            let name = name.unwrap_or_else(|| format!("stage-{}", worker.stage));
            for number in worker.open {
                self.event(BuildEvent::Canceled { number });
            }
            return Err(BuildError::InStage {
                message: format!("the process that carried out stage {name} {how}: try again"),
                kind: Kind::Unavailable,
            });
        };
        self.consumed.extend(report.consumed);
        self.has_made_layers |= report.has_made_layers;
        self.last.take_in(report.traces);
        self.known.borrow_mut().take_in(report.files);
        let stage = report.stage.map_err(Failure::error)?;
        self.keep(worker.stage, Rc::new(stage));
        Ok(())
    }

    /// Ends the workers that are left: what one of them failed at, the others need not go on with.
    fn cancel(&mut self, workers: Vec<Worker>) {
        const KILL: i32 = 9;
        for worker in &workers {
            let _ = process::pidfd_send_signal(&worker.pidfd, KILL);
        }
        for mut worker in workers {
            let _ = waiting::reap(worker.pidfd.as_fd(), waiting::GONE);
            self.hear(&mut worker);
            for number in worker.open {
                self.event(BuildEvent::Canceled { number });
            }
            self.has_made_layers = true;
        }
        // Their programs end once the monitors have seen that.
        self.engine.await_steps(self.work.dir());
    }
}
