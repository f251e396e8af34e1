//! The processes: one for each stage that is carried out beside others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use rbox_spec::Kind;
use rbox_sys::process::{self, CloneFlags, Side};
use rbox_sys::{own, waiting};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::message::{Heard, encode, encode_lost, take};
use super::plan::Plan;
use crate::builder::Builder;
use crate::cache::{FileMarks, StepTrace, remove_locks};
use crate::context::Work;
use crate::dockerfile::Lines;
use crate::error::{BuildError, io_error};
use crate::material::Used;
use crate::progress::{BuildEvent, BuildProgress, Number};
use crate::stage::Stage;

/// At most so many stages are carried out at one moment: more would only wait for the same processors.
const MOST_WORKERS: usize = 16;
/// How often those who watch hear of nothing but the time.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// How much of what a worker says is taken at once: the others are heard too, however much one has to say.
const ONCE: usize = 64 << 10;
/// How often that is done after its end: no pipe has more.
const LAST: usize = 64;
/// No report is larger.
const MOST_REPORT: u64 = 1 << 30;
/// What the file of a worker's report is called.
const REPORT: &str = "report";

/// What a worker's stage came to, and what it has learnt.
#[derive(Serialize, Deserialize)]
struct Report {
    stage: Result<(), Failure>,
    /// All stages that were carried out: there may be more than the one, which only its steps have named.
    made: Vec<(usize, Stage)>,
    consumed: HashSet<String>,
    used: Used,
    has_made_layers: bool,
    traces: BTreeMap<String, StepTrace>,
    files: FileMarks,
}

impl Report {
    fn write(&self, path: &Path) -> Result<(), BuildError> {
        let bytes = serde_json::to_vec(self).map_err(|error| BuildError::Internal(error.to_string()))?;
        own::write(path, bytes).map_err(io_error("write", path))
    }
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
    /// The task.
    stage: usize,
    pidfd: OwnedFd,
    pipe: File,
    /// The beginning of an event.
    waiting: Vec<u8>,
    steps: Steps,
    dir: PathBuf,
}

/// What is known of a worker's steps.
#[derive(Default)]
struct Steps {
    /// Their numbers: its own, and those of the build.
    numbers: HashMap<Number, Number>,
    /// Those that have no end yet.
    open: BTreeSet<Number>,
    /// When it was heard that one failed.
    failed: Option<Instant>,
    /// Why there is no report of them.
    lost: Option<String>,
    /// They were ended because another stage failed: that is the one that is told.
    is_canceled: bool,
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
    /// A stage for each platform and all that they need, side by side where that can be.
    pub(crate) fn stages(&mut self, target: usize) -> Result<Vec<Rc<Stage>>, BuildError> {
        self.find_shares();
        let mut plan = Plan::of(self, &self.tasks_of(target));
        let is_watched = self.request.is_watched();
        if (!is_watched && plan.is_wide()) || self.targets.are_several() {
            // ONBUILD of an image may name further stages, and these further images.
            loop {
                let known = self.base_images.len();
                for (place, image, platform, lines) in &plan.images {
                    let before = self.targets.go_to(*place);
                    let found = self.image_stage(image, platform.clone());
                    self.targets.go_to(before);
                    found.map_err(|error| error.at(*lines))?;
                }
                if self.base_images.len() == known {
                    break;
                }
                self.find_shares();
                plan = Plan::of(self, &self.tasks_of(target));
            }
        }
        if !is_watched && plan.is_wide() {
            self.begin_secrets()?;
            let mut workers = Vec::new();
            let done = self.carry_out_plan(&plan, &mut workers);
            if done.is_err() {
                self.cancel(workers);
            }
            done?;
        }
        self.tasks_of(target).into_iter().map(|task| self.stage(task)).collect()
    }

    /// The tasks of a stage: one for each platform.
    fn tasks_of(&self, stage: usize) -> Vec<usize> {
        let places = 0..self.targets.all().len();
        places.map(|place| self.targets.task(place, stage)).collect()
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
                    steps: Steps::default(),
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
        let own_pipe = pipe.try_clone();
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
        let before: Vec<bool> = self.stages.iter().map(Option::is_some).collect();
        let done = self.stage(stage);
        let made = self.stages.iter().zip(before).enumerate();
        let made = made.filter(|(_, (_, was))| !was);
        let made = made.filter_map(|(number, (stage, _))| Some((number, (**stage.as_ref()?).clone())));
        let report = Report {
            stage: done.map(drop).map_err(|error| Failure::of(&error)),
            made: made.collect(),
            consumed: self.consumed.clone(),
            used: self.used.clone(),
            has_made_layers: self.has_made_layers,
            traces: self.last.take_now(),
            files: self.known.borrow_mut().take_marks(),
        };
        let Err(why) = report.write(&dir.join(REPORT)) else { return 0 };
        // It may be long: what the next build would like to know can be left out.
        let short = Report { traces: BTreeMap::new(), files: Vec::new(), ..report };
        if short.write(&dir.join(REPORT)).is_ok() {
            return 0;
        }
        let _ = own_pipe.and_then(|mut pipe| pipe.write_all(&encode_lost(&why.chain())));
        1
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
        let mut ended = BTreeSet::new();
        for (place, worker) in workers.iter_mut().enumerate() {
            // Looked at first: what it said before its end is in the pipe by then.
            if poll(&mut [PollFd::new(&worker.pidfd, PollFlags::IN)], Some(&NOW)).unwrap_or(0) > 0 {
                self.hear_the_rest(worker);
                ended.insert(place);
            } else {
                self.hear(worker);
            }
        }
        // Of several that fail, the first one is told.
        let failed = workers.iter().enumerate();
        let failed = failed.filter_map(|(place, worker)| Some((worker.steps.failed?, place))).min();
        Ok(match failed {
            Some((_, place)) => ended.contains(&place).then_some(place),
            None => ended.first().copied(),
        })
    }

    /// Passes on some of what a worker said; whether there was anything.
    fn hear(&mut self, worker: &mut Worker) -> bool {
        let mut buffer = vec![0; ONCE];
        let Ok(length @ 1..) = worker.pipe.read(&mut buffer) else { return false };
        worker.waiting.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let Worker { waiting, steps, .. } = worker;
        let mut each = |heard: Heard<'_>| match heard {
            Heard::Event(event) => self.pass_on(event, steps),
            Heard::Lost(why) => steps.lost = Some(why.to_owned()),
        };
        while take(waiting, &mut each) {}
        true
    }

    /// The same of one that has ended: what is left.
    fn hear_the_rest(&mut self, worker: &mut Worker) {
        for _ in 0..LAST {
            if !self.hear(worker) {
                break;
            }
        }
    }

    fn pass_on(&mut self, event: BuildEvent<'_>, steps: &mut Steps) {
        if let BuildEvent::Begun { number, name } = event {
            let own = self.begin(name);
            steps.numbers.insert(number, own);
            steps.open.insert(own);
            return;
        }
        let event = event.renumbered(|number| steps.numbers.get(&number).copied().unwrap_or(number));
        if let BuildEvent::Failed { .. } = event {
            if steps.is_canceled {
                return;
            }
            steps.failed.get_or_insert_with(Instant::now);
        }
        if let Some(number) = event.ends() {
            steps.open.remove(&number);
        }
        self.event(event);
    }

    /// Takes in what the stage of a worker that has ended came to.
    fn take_in(&mut self, worker: Worker) -> Result<(), BuildError> {
        let status = waiting::reap(worker.pidfd.as_fd(), waiting::GONE);
        let path = worker.dir.join(REPORT);
        let report: Option<Report> = own::read(&path, MOST_REPORT)
            .ok()
            .filter(|_| status.is_some_and(|status| status.exit_status() == Some(0)))
            .and_then(|bytes| rbox_spec::json::from_slice(&bytes).ok());
        let _ = rbox_sys::removal::remove_tree(&worker.dir);
        let Some(report) = report else {
            let how = match (worker.steps.lost, status.and_then(|status| status.terminating_signal())) {
                (Some(why), _) => format!("could not report: {why}"),
                (None, Some(signal)) => format!("was ended by signal {signal}: try again"),
                (None, None) => "failed: try again".to_owned(),
            };
            let (_, number) = self.targets.split(worker.stage);
            let name = self.file.stages.get(number).and_then(|stage| stage.name.clone());
            let name = name.unwrap_or_else(|| format!("stage-{number}"));
            for number in worker.steps.open {
                self.event(BuildEvent::Canceled { number });
            }
            return Err(BuildError::InStage {
                message: format!("the process that carried out stage {name} {how}"),
                kind: Kind::Unavailable,
            });
        };
        self.consumed.extend(report.consumed);
        self.used.extend(report.used);
        self.has_made_layers |= report.has_made_layers;
        self.last.take_in(report.traces);
        self.known.borrow_mut().take_in(report.files);
        for (number, stage) in report.made {
            if self.stages.get(number).is_some_and(Option::is_none) {
                self.keep(number, Rc::new(stage));
            }
        }
        report.stage.map_err(Failure::error)
    }

    /// Ends the workers that are left: what one of them failed at, the others need not go on with.
    fn cancel(&mut self, workers: Vec<Worker>) {
        const KILL: i32 = 9;
        for worker in &workers {
            let _ = process::pidfd_send_signal(&worker.pidfd, KILL);
        }
        for mut worker in workers {
            let _ = waiting::reap(worker.pidfd.as_fd(), waiting::GONE);
            worker.steps.is_canceled = true;
            self.hear_the_rest(&mut worker);
            for number in worker.steps.open {
                self.event(BuildEvent::Canceled { number });
            }
            self.has_made_layers = true;
        }
        // Their programs end once the monitors have seen that.
        self.engine.await_steps(self.work.dir());
        remove_locks(&self.engine.build_dir());
    }
}
