//! The process that stays with a container: its streams, its log, its exit.
//!
//! It is forked from the command, not executed, and is one thread around one poll(2). It keeps the container's
//! lock for as long as there is something to look after.

pub(crate) mod clients;
pub(crate) mod health;
pub(crate) mod kept;
pub(crate) mod launch;
pub(crate) mod oom;
pub(crate) mod post;
pub(crate) mod protocol;
pub(crate) mod reaper;
pub(crate) mod restart;
pub(crate) mod streams;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_network::Endpoint;
use rbox_runtime::cgroup::{Cgroup, OomWatch};
use rbox_runtime::{Running, Stdio};
use rbox_spec::Kind;
use rbox_spec::container::LogDriver;
use rbox_spec::id::ContainerId;
use rbox_sys::durable::Lasting;
use rbox_sys::passed::Passed;
use rbox_sys::process::{self, Side};
use rbox_sys::waiting::{self, Patience, Who};
use rbox_sys::{channel, trace};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::caller;
use crate::cleanup::{free, tidy};
use crate::containers::pause_lease;
use crate::containers::running::reap_child;
use crate::containers::stop_mark::{self, Why};
use crate::containers::trash::{self, Told};
use crate::containers::volumes::{remove_anonymous, volumes_of};
use crate::error::EngineError;
use crate::journal::{self, ContainerAction, Happening};
use crate::logs::{Forward, LogOptions, LogWriter, Stream};
use crate::monitor::clients::{Client, Clients, Heard};
use crate::monitor::health::Checks;
use crate::monitor::kept::Kept;
use crate::monitor::launch::{Aborted, Again, Launched, launch};
use crate::monitor::post::Post;
use crate::monitor::protocol::{CHUNK, FromMonitor, ToMonitor, listen};
use crate::monitor::restart::{Backoff, timespec};
use crate::monitor::streams::{Ends, detach_from_caller, fork_aside, unblock};
use crate::networks::serve::Served;
use crate::networks::store::builtin;
use crate::record::container::{ContainerRecord, ExitRecord, LiveState, UNSEEN_EXIT, keep, settle_exit};
use crate::record::file::{read_json, write_json};
use crate::record::lock::{Editing, Lock};
use crate::record::paths::Paths;

/// How a container is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// The caller attaches: its end of input is the program's end of input.
    pub attach: bool,
    /// The caller's terminal: rows and columns.
    pub size: Option<(u16, u16)>,
    /// So many descriptors of the caller's, from 3 up, go to the program.
    pub preserve_fds: u32,
}

/// A monitor that starts its container.
#[derive(Debug)]
pub(crate) struct Starting {
    socket: OwnedFd,
    /// This process's child, so the number is its own.
    pid: i32,
}

impl Starting {
    /// Waits until the program runs: the socket to attach by, or why not. As long as the monitor works: it may have to fill a volume, or
    /// to wait for another command that does.
    pub(crate) fn wait(self) -> Result<OwnedFd, EngineError> {
        waiting::readable(&self.socket, Who::Pid(self.pid), Patience::WORK).map_err(|still| {
            let message = format!("the container's monitor has not started it: {still}");
            EngineError::Monitor { message, kind: Kind::Unavailable, exit_code: 125 }
        })?;
        protocol::hear_started(&self.socket)?;
        Ok(self.socket)
    }
}

/// Starts a container: forks its monitor, which reports how that went. The caller holds the lock and gives it away.
pub(crate) fn start(
    paths: &Paths,
    record: &ContainerRecord,
    lock: Lock,
    options: StartOptions,
) -> Result<Starting, EngineError> {
    let passed = caller::passed(options.preserve_fds)?;
    let (ours, theirs) = channel::pair()?;
    match fork_aside()? {
        Side::Parent(pid) => Ok(Starting { socket: ours, pid }),
        Side::Child => {
            drop(ours);
            let keep: Vec<_> = passed.fds().chain([lock.as_fd(), theirs.as_fd()]).collect();
            detach_from_caller(&keep);
            lock.keep_until_exit();
            stop_mark::forget_asked(paths, &record.id);
            run(paths, record, theirs, options, passed);
            process::exit_now(0)
        }
    }
}

/// The monitor's life.
fn run(paths: &Paths, record: &ContainerRecord, client: OwnedFd, options: StartOptions, passed: Passed) {
    trace::set_actor("monitor");
    let opened = Forward::open(record).and_then(|forward| Ok((open_streams(record, options.size)?, forward)));
    let ((stdio, ends), forward) = match opened {
        Ok(opened) => opened,
        Err(error) => return report_failure(paths, record, &client, &error, None),
    };
    // There before anybody can see that it runs: they may want to attach.
    let listener = listen(&paths.live_of(&record.id)).ok();
    match launch(paths, record, stdio, Again::default(), passed) {
        Err(aborted) => report_failure(paths, record, &client, &aborted.error, aborted.live.as_ref()),
        Ok(launched) => {
            trace::disable();
            let post = Post { listener, clients: Clients::default(), size: options.size };
            let mut monitor = Monitor::new(paths, record.clone(), post, ends, forward);
            let _ = channel::send(&client, &FromMonitor::Started.encode(), None);
            if options.attach {
                let mut client = Client::new(client, true);
                // What it does not get, nobody could get: as with Docker, the program waits then.
                client.is_waited_for = record.host.auto_remove || record.host.log_driver == LogDriver::None;
                monitor.post.clients.add(client);
            } else {
                drop(client);
            }
            match monitor.watch(launched) {
                Next::Again(ended) => go_on(paths, *ended),
                Next::Over(clients) => clients.linger(),
            }
        }
    }
}

/// What comes after a life of a container.
enum Next {
    /// Another one.
    Again(Box<Ended>),
    /// Nothing is left but those who have not got everything yet.
    Over(Clients),
}

/// A container that ended and is to be started again.
struct Ended {
    record: ContainerRecord,
    post: Post,
    exit: ExitRecord,
    /// The places on networks that it had.
    endpoints: Vec<Endpoint>,
    /// How long it ran.
    ran: Duration,
}

/// Starts it again and again, until its policy has enough, somebody wants it to end, or its record is gone.
fn go_on(paths: &Paths, mut ended: Ended) {
    let mut backoff = Backoff::default();
    loop {
        let pause = backoff.next(ended.ran);
        if !ended.post.wait(paths, &ended.record, pause) {
            return ended.give_up(paths);
        }
        let (record, editing) = restart::current_held(paths, &ended.record);
        let restarts = ended.exit.restart_count;
        let again = Again { exit: Some(&ended.exit), endpoints: &ended.endpoints };
        let launched = match open_streams(&record, ended.post.size) {
            Ok((stdio, ends)) => {
                launch(paths, &record, stdio, again, Passed::default()).map(|launched| (launched, ends))
            }
            Err(error) => Err(Box::new(Aborted { error, live: None })),
        };
        drop(editing);
        ended = match launched {
            Ok((launched, ends)) => {
                // Who collects may be away for now.
                let forward = Forward::of(&record).ok().flatten();
                let monitor = Monitor::new(paths, record, ended.post, ends, forward);
                match monitor.watch(launched) {
                    Next::Again(ended) => *ended,
                    Next::Over(clients) => return clients.linger(),
                }
            }
            Err(aborted) => {
                let Aborted { error, live } = *aborted;
                let exit = ExitRecord {
                    restart_count: restarts,
                    ..ExitRecord::untold(error.state_code(), error.to_string(), ended.exit.started)
                };
                let mut failed = Ended { record, exit, ran: Duration::ZERO, ..ended };
                let due = restart::is_due(paths, &failed.record, failed.exit.exit_code, restarts);
                failed.exit.restart_count += u32::from(due);
                if let Some(live) = live {
                    free::free(paths, &failed.record.id, &live);
                    failed.say_between(paths, live);
                }
                let _ = tidy::write_exit(paths, &failed.record.id, &failed.exit);
                if !due {
                    return failed.give_up(paths);
                }
                failed
            }
        };
    }
}

impl Ended {
    /// Says that it is between two lives, to whoever looks.
    fn say_between(&self, paths: &Paths, live: LiveState) {
        let between = LiveState { between: Some(self.exit.clone()), running: false, ..live };
        // On a full tmpfs the last thing that was said stays.
        let _ = write_json(&paths.live_state(&self.record.id), &between);
    }

    /// It stays as it is: said on disk, then to those who wait, and the live directory goes.
    fn give_up(mut self, paths: &Paths) {
        let id = &self.record.id;
        self.exit.stopped = stop_mark::asked_to_end(paths, id) == Some(Why::User);
        let on_disk =
            !paths.container(id).exists() || tidy::write_exit(paths, id, &self.exit).unwrap_or(true);
        if on_disk {
            // Before anybody hears of it: from here on it is between no two lives, and may be started again.
            let _ = std::fs::remove_file(paths.live_state(id));
        }
        self.post.close();
        self.post.clients.say_last(&FromMonitor::Exited(self.exit.exit_code));
        if on_disk {
            settle_exit(paths, id);
            trash::remove_live(paths, id);
        }
        self.post.clients.linger();
    }
}

/// Pipes for the program's streams, or a terminal that it will open itself.
fn open_streams(record: &ContainerRecord, size: Option<(u16, u16)>) -> Result<(Stdio, Ends), EngineError> {
    if record.config.tty {
        return Ok((Stdio::Terminal { size }, Ends::default()));
    }
    streams::pipes(record.config.open_stdin)
}

/// A container that did not come to be: all it had is freed, the reason is kept and reported.
fn report_failure(
    paths: &Paths,
    record: &ContainerRecord,
    client: &OwnedFd,
    error: &EngineError,
    live: Option<&LiveState>,
) {
    if let Some(live) = live {
        free::free(paths, &record.id, live);
    }
    let message = error.with_causes();
    if record.host.auto_remove {
        let _ = trash::hide_record(paths, record);
        let _ = trash::delete_hidden(paths, record, true, Told::NotYet);
    } else {
        let path = paths.exit(&record.id);
        let before = read_json::<ExitRecord>(&path).ok().flatten();
        let not_executed = matches!(error, EngineError::NotExecuted { .. });
        let exit = ExitRecord::failed_start(before, error.state_code(), not_executed, message.clone());
        let _ = keep(paths, &path, &exit, Lasting::Later);
    }
    trash::remove_live(paths, &record.id);
    let _ =
        channel::send(client, &FromMonitor::Failed(error.exit_code(), error.kind(), message).encode(), None);
}

struct Monitor<'a> {
    log: Option<LogWriter>,
    forward: Option<Forward>,
    outputs: Vec<(Stream, OwnedFd)>,
    /// Where input goes: the pipe, or the terminal.
    input: Option<OwnedFd>,
    input_pending: VecDeque<u8>,
    close_input: bool,
    /// What the terminal's size was before the last one.
    size_before: (u16, u16),
    kept: Kept,
    post: Post,
    buffer: Vec<u8>,
    checks: Option<Checks<'a>>,
    /// Where memory is limited, and whether it ran out was told.
    oom: Option<OomWatch>,
    oom_told: bool,
    /// When it is killed, with `--timeout`.
    deadline: Option<Instant>,
    /// The build that this is a step of is gone.
    is_abandoned: bool,
    paths: &'a Paths,
    record: ContainerRecord,
}

/// What a descriptor that is ready belongs to.
enum Ready {
    Exit,
    Output(usize),
    Input,
    Listener,
    Check,
    Oom,
    Log,
    Forward,
    Client(usize, PollFlags),
}

impl<'a> Monitor<'a> {
    fn new(
        paths: &'a Paths,
        record: ContainerRecord,
        post: Post,
        ends: Ends,
        forward: Option<Forward>,
    ) -> Self {
        let log_options = LogOptions::of(&record).unwrap_or_default();
        Self {
            log: match record.host.log_driver {
                LogDriver::None => None,
                _ => LogWriter::open(&paths.log(&record.id), &log_options).ok(),
            },
            forward,
            outputs: ends.outputs,
            input: ends.input,
            input_pending: VecDeque::new(),
            close_input: false,
            size_before: (0, 0),
            kept: Kept::default(),
            post,
            buffer: vec![0; CHUNK],
            checks: Checks::new(paths, &record),
            oom: None,
            oom_told: false,
            deadline: None,
            is_abandoned: false,
            paths,
            record,
        }
    }

    /// One life of the container, to its end. What is left to do when it is to be started again.
    fn watch(mut self, launched: Launched) -> Next {
        let begin = Instant::now();
        self.deadline =
            self.record.host.timeout.and_then(|most| begin.checked_add(Duration::from_secs(most)));
        let Launched { mut running, live, root, held_ports, dns } = launched;
        let mut served = Served::new(self.paths, &self.record, &live, dns, held_ports);
        // Without it the end of the container tells.
        self.oom = Cgroup::open(&live.cgroup).ok().and_then(|group| group.watch_oom().ok().flatten());
        if let Some(master) = running.terminal.take() {
            let _ = unblock(&master);
            self.input = master.try_clone().ok();
            self.outputs.push((Stream::Stdout, master));
        }
        while !self.turn(running.pidfd.as_fd(), &mut served) {}
        self.finish(&running, live, root, served, begin)
    }

    /// Waits for something to do and does it. True once the program has ended.
    fn turn(&mut self, pidfd: BorrowedFd<'_>, served: &mut Served<'a>) -> bool {
        let stalled = self.post.clients.must_wait();
        let (ready, left, asked) = self.wait(pidfd, served, stalled);
        served.turn(&asked);
        self.kept.turn(&left, &mut self.buffer);
        self.check(pidfd, ready.iter().any(|event| matches!(event, Ready::Check)));
        self.end_in_time(pidfd);
        if let Some(log) = &mut self.log {
            log.turn();
        }
        if let Some(forward) = &mut self.forward {
            forward.turn();
        }
        let mut ended = false;
        let mut outputs = Vec::new();
        // From the end, so that removing a client moves none that is still to come.
        for event in ready.into_iter().rev() {
            match event {
                Ready::Exit => ended = true,
                Ready::Output(index) => outputs.push(index),
                Ready::Input => self.write_input(),
                Ready::Listener => self.post.accept(),
                Ready::Check | Ready::Log | Ready::Forward => {}
                Ready::Oom => self.tell_oom(),
                Ready::Client(index, events) => self.serve_client(index, events, served),
            }
        }
        self.read_outputs(outputs);
        if std::mem::take(&mut self.is_abandoned) {
            let _ = process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL.as_raw());
        }
        ended
    }

    /// What is ready, and which descriptors of what is kept and of what is served are. `stalled`: a client must take what it was told
    /// first.
    fn wait(
        &self,
        pidfd: BorrowedFd<'_>,
        served: &Served<'_>,
        stalled: bool,
    ) -> (Vec<Ready>, Vec<bool>, Vec<bool>) {
        let mut kinds = vec![Ready::Exit];
        let mut fds = vec![PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        if let Some(listener) = &self.post.listener {
            kinds.push(Ready::Listener);
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        if let Some(done) = self.checks.as_ref().and_then(Checks::poll_fd) {
            kinds.push(Ready::Check);
            fds.push(done);
        }
        if let Some(writable) = self.forward.as_ref().and_then(Forward::poll_fd) {
            kinds.push(Ready::Forward);
            fds.push(writable);
        }
        if let Some(writable) = self.log.as_ref().and_then(LogWriter::poll_fd) {
            kinds.push(Ready::Log);
            fds.push(writable);
        }
        if let Some(oom) = &self.oom {
            kinds.push(Ready::Oom);
            fds.push(oom.poll_fd());
        }
        if let Some(input) = self.input.as_ref().filter(|_| !self.input_pending.is_empty()) {
            kinds.push(Ready::Input);
            fds.push(PollFd::new(input, PollFlags::OUT));
        }
        if !stalled {
            for (index, (_, fd)) in self.outputs.iter().enumerate() {
                kinds.push(Ready::Output(index));
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        // Input is taken only as fast as the program reads it.
        let wants_input = self.input_pending.len() < 4 * CHUNK;
        for index in 0..self.post.clients.len() {
            if let Some(fd) = self.post.clients.poll_fd(index, wants_input) {
                kinds.push(Ready::Client(index, PollFlags::empty()));
                fds.push(fd);
            }
        }
        let kept = self.kept.poll_fds(&mut fds);
        served.poll_fds(&mut fds);
        let of_checks = self.checks.as_ref().and_then(Checks::timeout);
        let left = self.deadline.map(|end| end.saturating_duration_since(Instant::now()));
        let of_log = self.forward.as_ref().and_then(Forward::timeout);
        let timeouts = [served.timeout(), self.post.clients.timeout(), of_checks, of_log, left];
        let timeout = timeouts.into_iter().flatten().min().map(timespec);
        let failed = rustix::event::poll(&mut fds, timeout.as_ref()).is_err();
        let mut events = fds.iter().map(|fd| if failed { PollFlags::empty() } else { fd.revents() });
        let own = kinds.into_iter().zip(events.by_ref()).filter(|(_, events)| !events.is_empty());
        let own = own.map(|(kind, events)| match kind {
            Ready::Client(index, _) => Ready::Client(index, events),
            other => other,
        });
        let own = own.collect();
        let mut others = events.map(|events| !events.is_empty());
        (own, others.by_ref().take(kept).collect(), others.collect())
    }

    /// Kills the program when its time is over. One that is paused under cgroup v1 ends when it goes on.
    fn end_in_time(&mut self, pidfd: BorrowedFd<'_>) {
        if self.deadline.take_if(|end| *end <= Instant::now()).is_some() {
            let kill = ContainerAction::Kill(rustix::process::Signal::KILL.as_raw());
            journal::note_container(self.paths, &self.record, kill);
            let _ = process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL.as_raw());
        }
    }

    /// Memory may have run out.
    fn tell_oom(&mut self) {
        if self.oom.as_mut().is_some_and(OomWatch::has_run_out) {
            self.oom_told = true;
            journal::note_container(self.paths, &self.record, ContainerAction::Oom);
        }
    }

    /// Makes the health check that is due, or takes in what one came to (`done`).
    fn check(&mut self, pidfd: BorrowedFd<'_>, done: bool) {
        let record = &self.record;
        if self.checks.as_mut().is_some_and(|checks| checks.turn(record, done)) {
            let kill = ContainerAction::Kill(rustix::process::Signal::KILL.as_raw());
            journal::note_container(self.paths, record, kill);
            let _ = process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL.as_raw());
        }
    }

    /// Reads the outputs of these numbers, which come last first: standard output before standard error, as most programs write
    /// them. Two pipes do not tell the order.
    fn read_outputs(&mut self, mut numbers: Vec<usize>) {
        numbers.reverse();
        let ended: Vec<usize> = numbers.into_iter().filter(|number| self.read_output(*number)).collect();
        for number in ended.into_iter().rev() {
            self.outputs.remove(number);
        }
    }

    /// Whether it has ended.
    fn read_output(&mut self, number: usize) -> bool {
        let Some((stream, fd)) = self.outputs.get(number) else { return false };
        let stream = *stream;
        match rustix::io::read(fd, &mut self.buffer) {
            Ok(length) if length > 0 => {
                let buffer = std::mem::take(&mut self.buffer);
                self.tell(stream, &buffer[..length]);
                self.buffer = buffer;
                false
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // The end of a pipe; EIO is the end of a terminal.
            _ => true,
        }
    }

    /// Output goes to the log and to everybody attached.
    fn tell(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.write(stream, bytes, Timestamp::now());
        }
        if let Some(forward) = &mut self.forward {
            forward.write(stream, bytes, Timestamp::now());
        }
        self.post.clients.say(&FromMonitor::Output(stream, bytes));
    }

    fn drop_client(&mut self, index: usize) {
        let client = self.post.clients.remove(index);
        // It may have been a command that had the container paused.
        pause_lease::end_abandoned(self.paths, &self.record.id);
        if client.owns_input {
            // Nobody would see what a step of a build comes to.
            self.is_abandoned = self.record.build_step.is_some();
            self.end_input();
        }
    }

    fn serve_client(&mut self, index: usize, events: PollFlags, served: &mut Served<'a>) {
        if events.contains(PollFlags::OUT) && !self.post.clients.flush(index) {
            return self.drop_client(index);
        }
        if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.read_client(index, served);
        }
    }

    fn read_client(&mut self, index: usize, served: &mut Served<'a>) {
        let owns_input = self.post.clients.owns_input(index);
        let mut packet = vec![0_u8; CHUNK + 1];
        let (length, passed) = match self.post.clients.receive(index, &mut packet) {
            Heard::Message(length, passed) => (length, passed),
            Heard::Nothing => return,
            Heard::End => return self.drop_client(index),
        };
        match ToMonitor::decode(&packet[..length]) {
            Some(ToMonitor::Input(bytes)) if self.input.is_some() && !self.close_input => {
                self.input_pending.extend(bytes);
                self.write_input();
            }
            Some(ToMonitor::EndOfInput) if owns_input => self.end_input(),
            Some(ToMonitor::Resize(rows, columns)) => self.resize(rows, columns),
            Some(ToMonitor::Hold(port)) => served.hold(self.paths, &self.record.id, (port, passed)),
            Some(ToMonitor::Keep) => {
                let command = self.post.clients.remove(index).into_socket();
                if let Some(stream) = passed {
                    self.kept.add(command, stream);
                }
            }
            Some(ToMonitor::Follow) => {
                // It may have another name, which events are to have.
                self.record.name = restart::current(self.paths, &self.record).name;
                served.follow(self.paths, &self.record.id);
            }
            _ => {}
        }
    }

    fn write_input(&mut self) {
        while let Some(input) = &self.input
            && !self.input_pending.is_empty()
        {
            let (bytes, _) = self.input_pending.as_slices();
            match rustix::io::write(input, bytes) {
                Ok(length) => drop(self.input_pending.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The program closed its input.
                Err(_) => {
                    self.input_pending.clear();
                    self.input = None;
                }
            }
        }
        if self.close_input {
            self.input = None;
        }
    }

    /// No more input after what still waits. A terminal has no such end.
    fn end_input(&mut self) {
        if self.record.config.tty {
            return;
        }
        self.close_input = true;
        self.write_input();
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        if let Some((_, master)) = self.outputs.first().filter(|_| self.record.config.tty) {
            let (rows, columns) = if (rows, columns) == (0, 0) { self.size_before } else { (rows, columns) };
            self.size_before =
                rustix::termios::tcgetwinsize(master).map_or((0, 0), |size| (size.ws_row, size.ws_col));
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            if rustix::termios::tcsetwinsize(master, size).is_ok() {
                let action = ContainerAction::Resize(rows, columns);
                journal::note_container(self.paths, &self.record, action);
            }
        }
    }

    /// The program has ended: the rest of its output, then the exit on disk, then to everybody who waits, and
    /// only then the cleaning up. What is needed to start it again, when it is to be.
    fn finish(
        mut self,
        running: &Running,
        live: LiveState,
        root: OwnedFd,
        served: Served<'a>,
        begin: Instant,
    ) -> Next {
        let ended = reap_child(running.pidfd.as_fd());
        let exit_code = ended.map_or(UNSEEN_EXIT, |(code, _)| code);
        self.tell_oom();
        self.drain();
        if let Some(log) = &mut self.log {
            log.finish(Timestamp::now());
        }
        if let Some(forward) = &mut self.forward {
            forward.finish();
        }
        let (paths, record) = (self.paths, &self.record);
        let health = self.checks.take().map(Checks::end);
        // What commands changed while it ran is on disk; from here on they find that it has ended.
        let editing = Editing::begin_within(paths, &record.id, PATIENCE).ok().flatten();
        let live = current_live(paths, &record.id).unwrap_or(live);
        let again = restart::is_due(paths, record, exit_code, live.restart_count);
        let exit = exit_of(paths, record, &live, ended, again);
        // Whoever restarts it starts it once this is done.
        let auto_remove =
            record.host.auto_remove && stop_mark::asked_to_end(paths, &record.id) != Some(Why::Restart);
        let mut on_disk = true;
        if again {
            // Said first: from its exit on it is restarting, and at no moment exited.
            let between = LiveState { between: Some(exit.clone()), ..live.clone() };
            let _ = write_json(&paths.live_state(&record.id), &between);
        }
        if auto_remove {
            // The name is free again before anybody hears of the exit.
            let _ = trash::hide_record(paths, record);
        } else {
            if let Some(health) = health {
                // No more than what was seen of it: a full disk loses that.
                let _ = keep(paths, &paths.last_health(&record.id), &health, Lasting::Later);
            }
            on_disk = tidy::write_exit(paths, &record.id, &exit).unwrap_or(true);
        }
        let told = tell_end(paths, record, &live, &exit, (auto_remove, self.oom_told));
        if !again {
            self.post.close();
        }
        // As with Docker: who waits for its end finds its anonymous volumes gone.
        let volumes_gone = auto_remove && remove_anonymous(paths, record).is_ok();
        // Who hears of the exit may want its ports at once. And its name server's sockets are of the container's network namespace, and would
        // keep that.
        drop(served);
        self.post.clients.say_last(&FromMonitor::Exited(exit_code));
        let _ = free::free(paths, &record.id, &live);
        drop(editing);
        drop(root);
        if again {
            return Next::Again(Box::new(Ended {
                record: self.record,
                post: self.post,
                exit,
                endpoints: live.endpoints,
                ran: begin.elapsed(),
            }));
        }
        if auto_remove {
            let _ = trash::delete_hidden(paths, &self.record, !volumes_gone, told);
        }
        if on_disk {
            // Who asked for the end waits for the lock, and with it for this; who waits for the exit has it already.
            if !auto_remove {
                settle_exit(paths, &self.record.id);
            }
            trash::remove_live(paths, &self.record.id);
        }
        Next::Over(self.post.clients)
    }

    /// What the program wrote before it ended. Nothing else of the container is left to write more, so what is
    /// there is read until there is no more; a client that is behind gets all of it later.
    fn drain(&mut self) {
        // Somebody outside of the container may have been passed its pipe, and may write on: some 64 MiB are enough.
        for _ in 0..1 << 11 {
            let Some((_, fd)) = self.outputs.first() else { return };
            match rustix::io::read(fd, &mut self.buffer) {
                Ok(length) if length > 0 => {
                    let (stream, buffer) = (self.outputs[0].0, std::mem::take(&mut self.buffer));
                    self.tell(stream, &buffer[..length]);
                    self.buffer = buffer;
                }
                Err(Errno::INTR) => {}
                _ => drop(self.outputs.remove(0)),
            }
        }
    }
}

/// How a container has ended. `again`: it is started again.
fn exit_of(
    paths: &Paths,
    record: &ContainerRecord,
    live: &LiveState,
    ended: Option<(i32, bool)>,
    again: bool,
) -> ExitRecord {
    let oom_killed = Cgroup::open(&live.cgroup).is_ok_and(|group| group.oom_kills() > 0);
    ExitRecord {
        exit_code: ended.map_or(UNSEEN_EXIT, |(code, _)| code),
        by_signal: ended.map(|(_, by_signal)| by_signal),
        oom_killed,
        error: oom_killed.then(|| oom::told(&record.id)).flatten().unwrap_or_default(),
        started: Some(live.started),
        finished: Timestamp::now(),
        restart_count: live.restart_count + u32::from(again),
        stopped: stop_mark::asked_to_end(paths, &record.id) == Some(Why::User),
    }
}

/// Writes the end of a container into the journal, before anybody hears of it: whoever waited for it finds it there. If it is `removed` that
/// it is gone, too, unless volumes go before that.
fn tell_end(
    paths: &Paths,
    record: &ContainerRecord,
    live: &LiveState,
    exit: &ExitRecord,
    (removed, oom_told): (bool, bool),
) -> Told {
    let builtin = builtin(paths, record);
    let mut all = journal::died(record, &live.endpoints, builtin.as_ref(), exit, oom_told);
    let is_gone = removed && !volumes_of(record).any(|(_, anonymous)| anonymous);
    if is_gone {
        all.push(Happening::Container(record, ContainerAction::Destroy));
    }
    journal::note(paths, &all);
    if is_gone { Told::Already } else { Told::NotYet }
}

/// How long the end of a container waits for a command that is just changing its record.
const PATIENCE: Duration = Duration::from_secs(5);

/// The live state as commands left it, when it is still of this life.
fn current_live(paths: &Paths, id: &ContainerId) -> Option<LiveState> {
    let live = LiveState::read(paths, id).ok().flatten()?;
    (live.running && live.monitor == rustix::process::getpid().as_raw_nonzero().get()).then_some(live)
}
