//! The process that stays with a container: its streams, its log, its exit.
//!
//! It is forked from the command, not executed, and is one thread around one poll(2). It keeps the container's
//! lock for as long as there is something to look after.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use jiff::Timestamp;
use rbox_runtime::{Running, Stdio};
use rbox_sys::process::{self, Side};
use rbox_sys::{SysError, channel, trace};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{WaitId, WaitIdOptions};

use crate::error::EngineError;
use crate::launch::{Launched, launch};
use crate::lock::Lock;
use crate::logs::{LogOptions, LogWriter, Stream};
use crate::paths::Paths;
use crate::protocol::{CHUNK, FromMonitor, ToMonitor, listen};
use crate::record::{ContainerRecord, ExitRecord, LiveState, write_json};
use crate::teardown;

/// How a container is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartOptions {
    /// The caller attaches: its end of input is the program's end of input.
    pub attach: bool,
    /// The caller's terminal: rows and columns.
    pub size: Option<(u16, u16)>,
}

/// Starts a container: forks its monitor and gives the socket on which it tells how that went. The caller holds
/// the lock and gives it away.
pub fn start(
    paths: &Paths,
    record: &ContainerRecord,
    lock: Lock,
    options: StartOptions,
) -> Result<OwnedFd, EngineError> {
    let (ours, theirs) = channel::pair()?;
    match process::fork()? {
        Side::Parent(_) => Ok(ours),
        Side::Child => {
            drop(ours);
            lock.keep_until_exit();
            run(paths, record, theirs, options);
            process::exit_now(0)
        }
    }
}

/// The monitor's life.
fn run(paths: &Paths, record: &ContainerRecord, client: OwnedFd, options: StartOptions) {
    detach_from_caller();
    trace::set_actor("monitor");
    let streams = match Streams::open(record, options.size) {
        Ok(streams) => streams,
        Err(error) => return report_failure(paths, record, &client, &error, None),
    };
    let (stdio, outputs, input) = streams;
    match launch(paths, record, stdio) {
        Err(aborted) => report_failure(paths, record, &client, &aborted.error, aborted.live.as_ref()),
        Ok(launched) => watch(paths, record, launched, client, outputs, input, options),
    }
}

/// A session of its own, and no descriptor of the caller's: a shell that waits for the end of our output gets it.
fn detach_from_caller() {
    process::set_name(c"rbox-monitor");
    let _ = rustix::process::setsid();
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    let _ = rustix::process::chdir("/");
}

/// Our ends of the program's output, and of its input.
type Ends = (Stdio, Vec<(Stream, OwnedFd)>, Option<OwnedFd>);

struct Streams;

impl Streams {
    /// Pipes for the program's streams, or a terminal that it will open itself.
    fn open(record: &ContainerRecord, size: Option<(u16, u16)>) -> Result<Ends, EngineError> {
        if record.config.tty {
            return Ok((Stdio::Terminal { size }, Vec::new(), None));
        }
        let (out_read, out_write) = pipe()?;
        let (err_read, err_write) = pipe()?;
        let (input_end, input) = if record.config.open_stdin {
            let (read, write) = pipe()?;
            unblock(&write)?;
            (read, Some(write))
        } else {
            let null = std::fs::File::open("/dev/null").map_err(EngineError::file("open", "/dev/null"))?;
            (null.into(), None)
        };
        unblock(&out_read)?;
        unblock(&err_read)?;
        let stdio = Stdio::Fds { fds: [input_end, out_write, err_write], own: true };
        Ok((stdio, vec![(Stream::Stdout, out_read), (Stream::Stderr, err_read)], input))
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), EngineError> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|e| SysError::new("pipe2", "O_CLOEXEC".into(), e))?)
}

fn unblock(fd: impl AsFd) -> Result<(), EngineError> {
    Ok(rustix::io::ioctl_fionbio(fd, true).map_err(|e| SysError::new("ioctl", "FIONBIO, 1".into(), e))?)
}

/// A container that did not come to be: all it had is freed, the reason is kept and told.
fn report_failure(
    paths: &Paths,
    record: &ContainerRecord,
    client: &OwnedFd,
    error: &EngineError,
    live: Option<&LiveState>,
) {
    if let Some(live) = live {
        teardown::free(paths, live);
    }
    let message = error.to_string();
    if record.host.auto_remove {
        let _ = teardown::hide_record(paths, record);
        let _ = teardown::delete_hidden(paths, record, true);
    } else {
        let exit = ExitRecord {
            exit_code: error.exit_code(),
            oom_killed: false,
            error: message.clone(),
            started: None,
            finished: Timestamp::now(),
        };
        let _ = write_json(&paths.container(&record.id).join("exit.json"), &exit);
    }
    teardown::remove_live(paths, &record.id);
    let _ = channel::send(client, &FromMonitor::Failed(error.exit_code(), message).encode(), None);
}

/// Somebody attached, and what could not be sent to them yet.
struct Client {
    socket: OwnedFd,
    pending: VecDeque<Vec<u8>>,
    /// Its end of input ends the program's.
    owns_input: bool,
}

impl Client {
    fn new(socket: OwnedFd, owns_input: bool) -> Self {
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        Self { socket, pending: VecDeque::new(), owns_input }
    }

    /// Sends what waits. False when the client is gone.
    fn flush(&mut self) -> bool {
        while let Some(packet) = self.pending.front() {
            match channel::send(&self.socket, packet, None) {
                Ok(()) => {
                    self.pending.pop_front();
                }
                Err(e) => return e.errno as i32 == nix::libc::EAGAIN,
            }
        }
        true
    }
}

struct Monitor<'a> {
    running: Running,
    log: Option<LogWriter>,
    outputs: Vec<(Stream, OwnedFd)>,
    /// Where input goes: the pipe, or the terminal.
    input: Option<OwnedFd>,
    input_pending: VecDeque<u8>,
    close_input: bool,
    listener: Option<OwnedFd>,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    paths: &'a Paths,
    record: &'a ContainerRecord,
}

fn watch(
    paths: &Paths,
    record: &ContainerRecord,
    launched: Launched,
    client: OwnedFd,
    mut outputs: Vec<(Stream, OwnedFd)>,
    mut input: Option<OwnedFd>,
    options: StartOptions,
) {
    trace::disable();
    let Launched { mut running, live, root, held_ports } = launched;
    if let Some(master) = running.terminal.take() {
        let _ = unblock(&master);
        input = master.try_clone().ok();
        outputs.push((Stream::Stdout, master));
    }
    let log_options = LogOptions::from_options(&record.host.log_opts).unwrap_or_default();
    let mut monitor = Monitor {
        running,
        log: LogWriter::open(&paths.log(&record.id), log_options).ok(),
        outputs,
        input,
        input_pending: VecDeque::new(),
        close_input: false,
        listener: listen(&paths.live_of(&record.id)).ok(),
        clients: Vec::new(),
        buffer: vec![0; CHUNK],
        paths,
        record,
    };
    let _ = channel::send(&client, &FromMonitor::Started.encode(), None);
    if options.attach {
        monitor.clients.push(Client::new(client, true));
    } else {
        drop(client);
    }
    while !monitor.turn() {}
    monitor.finish(&live, root, held_ports);
}

/// What a descriptor that is ready belongs to.
enum Ready {
    Exit,
    Output(usize),
    Input,
    Listener,
    ClientIn(usize),
    ClientOut(usize),
}

impl Monitor<'_> {
    /// Waits for something to do and does it. True once the program has ended.
    fn turn(&mut self) -> bool {
        let ready = self.wait();
        let mut ended = false;
        // Clients last and from the end, so that removing one moves none that is still to come.
        for event in ready.into_iter().rev() {
            match event {
                Ready::Exit => ended = true,
                Ready::Output(index) => self.read_output(index),
                Ready::Input => self.write_input(),
                Ready::Listener => self.accept(),
                Ready::ClientIn(index) => self.read_client(index),
                Ready::ClientOut(index) => {
                    if !self.clients[index].flush() {
                        self.drop_client(index);
                    }
                }
            }
        }
        ended
    }

    fn wait(&self) -> Vec<Ready> {
        let mut kinds = vec![Ready::Exit];
        let mut fds = vec![PollFd::new(&self.running.pidfd, PollFlags::IN)];
        if let Some(listener) = &self.listener {
            kinds.push(Ready::Listener);
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        if let Some(input) = self.input.as_ref().filter(|_| !self.input_pending.is_empty()) {
            kinds.push(Ready::Input);
            fds.push(PollFd::new(input, PollFlags::OUT));
        }
        let stalled = self.clients.iter().any(|c| !c.pending.is_empty());
        if !stalled {
            for (index, (_, fd)) in self.outputs.iter().enumerate() {
                kinds.push(Ready::Output(index));
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            // Input is taken only as fast as the program reads it.
            if self.input_pending.len() < 4 * CHUNK {
                kinds.push(Ready::ClientIn(index));
                fds.push(PollFd::new(&client.socket, PollFlags::IN));
            }
            if !client.pending.is_empty() {
                kinds.push(Ready::ClientOut(index));
                fds.push(PollFd::new(&client.socket, PollFlags::OUT));
            }
        }
        let _ = rustix::event::poll(&mut fds, None);
        let events: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        kinds.into_iter().zip(events).filter_map(|(kind, ready)| ready.then_some(kind)).collect()
    }

    fn read_output(&mut self, index: usize) {
        let Some((stream, fd)) = self.outputs.get(index) else { return };
        let stream = *stream;
        match rustix::io::read(fd, &mut self.buffer) {
            Ok(length) if length > 0 => {
                let buffer = std::mem::take(&mut self.buffer);
                self.tell(stream, &buffer[..length]);
                self.buffer = buffer;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The end of a pipe; EIO is the end of a terminal.
            _ => {
                self.outputs.remove(index);
            }
        }
    }

    /// Output goes to the log and to everybody attached.
    fn tell(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            // A full disk loses log lines, never the program.
            let _ = log.write(stream, bytes, Timestamp::now());
        }
        self.send_all(&FromMonitor::Output(stream, bytes).encode());
    }

    fn send_all(&mut self, packet: &[u8]) {
        let mut index = 0;
        while index < self.clients.len() {
            self.clients[index].pending.push_back(packet.to_vec());
            if self.clients[index].flush() {
                index += 1;
            } else {
                self.drop_client(index);
            }
        }
    }

    fn drop_client(&mut self, index: usize) {
        let client = self.clients.remove(index);
        if client.owns_input && !self.record.config.tty {
            self.end_input();
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        if let Ok(socket) = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC) {
            self.clients.push(Client::new(socket, false));
        }
    }

    fn read_client(&mut self, index: usize) {
        let Some(client) = self.clients.get(index) else { return };
        let mut packet = vec![0_u8; CHUNK + 1];
        let length = match channel::receive(&client.socket, &mut packet) {
            Ok((length, _)) => length,
            Err(e) if e.errno as i32 == nix::libc::EAGAIN => return,
            Err(_) => 0,
        };
        if length == 0 {
            self.drop_client(index);
            return;
        }
        match ToMonitor::decode(&packet[..length]) {
            Some(ToMonitor::Input(bytes)) if self.input.is_some() && !self.close_input => {
                self.input_pending.extend(bytes);
                self.write_input();
            }
            Some(ToMonitor::EndOfInput) if client.owns_input => self.end_input(),
            Some(ToMonitor::Resize(rows, columns)) => self.resize(rows, columns),
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

    fn resize(&self, rows: u16, columns: u16) {
        if let Some((_, master)) = self.outputs.first().filter(|_| self.record.config.tty) {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    /// The program has ended: the rest of its output, then the exit on disk, then to everybody who waits, and
    /// only then the cleaning up.
    fn finish(mut self, live: &LiveState, root: OwnedFd, held_ports: Vec<OwnedFd>) {
        let exit_code = reap(self.running.pidfd.as_fd());
        self.drain();
        if let Some(log) = &mut self.log {
            let _ = log.finish(Timestamp::now());
        }
        let oom_killed =
            rbox_runtime::cgroup::Cgroup::open(&live.cgroup).is_ok_and(|group| group.oom_kills() > 0);
        let exit = ExitRecord {
            exit_code,
            oom_killed,
            error: String::new(),
            started: Some(live.started),
            finished: Timestamp::now(),
        };
        let auto_remove = self.record.host.auto_remove;
        let mut on_disk = true;
        if auto_remove {
            // The name is free again before anybody hears of the exit.
            let _ = teardown::hide_record(self.paths, self.record);
        } else {
            on_disk = teardown::write_exit(self.paths, &self.record.id, &exit).unwrap_or(true);
        }
        self.listener = None;
        self.send_all(&FromMonitor::Exited(exit_code).encode());
        self.flush_clients();
        self.clients.clear();
        drop(held_ports);
        let _ = teardown::free(self.paths, live);
        drop(root);
        if auto_remove {
            let _ = teardown::delete_hidden(self.paths, self.record, true);
        }
        if on_disk {
            teardown::remove_live(self.paths, &self.record.id);
        }
    }

    /// What the program wrote before it ended. Nothing else of the container lives to write more, so what is
    /// there is read until there is no more.
    fn drain(&mut self) {
        for _ in 0..1 << 16 {
            let Some(index) = (0..self.outputs.len()).next() else { return };
            let mut waiting = false;
            match rustix::io::read(&self.outputs[index].1, &mut self.buffer) {
                Ok(length) if length > 0 => {
                    let (stream, buffer) = (self.outputs[index].0, std::mem::take(&mut self.buffer));
                    self.tell(stream, &buffer[..length]);
                    self.buffer = buffer;
                    waiting = self.clients.iter().any(|c| !c.pending.is_empty());
                }
                Err(Errno::INTR) => {}
                _ => {
                    self.outputs.remove(index);
                }
            }
            if waiting {
                self.flush_clients();
            }
        }
    }

    /// Gives those attached a while to take what waits for them; one that reads nothing for 10 s is let go.
    fn flush_clients(&mut self) {
        let patience = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        while let Some(index) = self.clients.iter().position(|c| !c.pending.is_empty()) {
            let client = &mut self.clients[index];
            let ready =
                rustix::event::poll(&mut [PollFd::new(&client.socket, PollFlags::OUT)], Some(&patience));
            if !matches!(ready, Ok(1..)) || !client.flush() {
                self.clients.remove(index);
            }
        }
    }
}

/// Waits for the process and gives its exit code: its own, or 128+n after signal n.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> i32 {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                return status
                    .exit_status()
                    .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
                    .unwrap_or(teardown::UNSEEN_EXIT);
            }
            Err(Errno::INTR) | Ok(None) => {}
            Err(_) => return teardown::UNSEEN_EXIT,
        }
    }
}
