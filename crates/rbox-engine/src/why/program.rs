//! The file of a container's program: whether it is there, and whether the kernel can execute it. All of it may be hostile: it is
//! looked at below the root, and only read.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rbox_spec::user::ResolvedUser;
use rbox_sys::file::open_in_root;
use rbox_sys::reading::read_start_in_root;
use rustix::fs::{FileType, OFlags};

use crate::why::binary::{Beginning, Script, beginning, executes, machine_name};
use crate::why::cause::Cause;
use crate::why::disks::permitted;

/// So much of a program is read: its loader's name is near the beginning, but for what patchelf has changed.
const MOST: u64 = 4 << 20;
/// A script's interpreter may be a script.
const DEEPEST: u32 = 4;
/// Programs that read a script which is their argument.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];

/// A program as a container is asked to run it.
#[derive(Debug)]
pub(super) struct Program<'a> {
    /// The container's root.
    pub(super) root: BorrowedFd<'a>,
    /// The command and its arguments.
    pub(super) args: &'a [String],
    /// Directories that a command without a slash is looked for in.
    pub(super) path: Vec<String>,
    /// The working directory.
    pub(super) cwd: &'a str,
    /// Whose program it is.
    pub(super) user: &'a ResolvedUser,
}

/// A file that was found.
struct Found {
    path: String,
    kind: FileType,
    mode: u32,
    /// User and group.
    owner: (u32, u32),
}

impl Program<'_> {
    /// What is wrong with it, if anything is.
    pub(super) fn fault(&self) -> Option<Cause> {
        let command = self.args.first()?;
        if command.contains('/') {
            let path = self.absolute(command);
            let Some(found) = self.find(&path) else {
                return Some(Cause::CommandMissing { command: command.clone(), searched: Vec::new() });
            };
            return self.fault_of(&found, 0).or_else(|| self.fault_of_argument(command));
        }
        let all: Vec<Found> =
            self.path.iter().filter_map(|dir| self.find(&format!("{dir}/{command}"))).collect();
        let Some(first) = all.first() else {
            return Some(Cause::CommandMissing { command: command.clone(), searched: self.path.clone() });
        };
        let executable = all.iter().find(|found| found.kind.is_file() && found.mode & 0o111 != 0);
        self.fault_of(executable.unwrap_or(first), 0).or_else(|| self.fault_of_argument(command))
    }

    /// A shell's script may be the one that is wrong.
    fn fault_of_argument(&self, command: &str) -> Option<Cause> {
        let name = command.rsplit('/').next()?;
        let script = self.args.get(1).filter(|_| SHELLS.contains(&name))?;
        let found = self.find(&self.absolute(script)).filter(|found| found.kind.is_file())?;
        let text = self.read(&found.path)?;
        let has_returns = !text.contains(&0) && text.windows(2).any(|two| two == b"\r\n");
        has_returns.then_some(Cause::CarriageReturns { script: found.path, interpreter: name.to_owned() })
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') {
            return path.to_owned();
        }
        format!("{}/{path}", self.cwd.trim_end_matches('/'))
    }

    fn find(&self, path: &str) -> Option<Found> {
        let fd = open_in_root(self.root, Path::new(path), OFlags::PATH, 0).ok()?;
        let stat = rustix::fs::fstat(&fd).ok()?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        Some(Found {
            path: path.to_owned(),
            kind,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
        })
    }

    /// Whether its user may, by the file's bits: root may what anybody may.
    fn may_execute(&self, found: &Found) -> bool {
        self.user.uid == 0 || permitted(found.mode, found.owner, self.user) & 0o1 != 0
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        read_start_in_root(self.root, Path::new(path), MOST).ok()
    }

    fn fault_of(&self, found: &Found, depth: u32) -> Option<Cause> {
        let path = found.path.clone();
        if found.kind.is_dir() {
            return Some(Cause::Directory { path });
        }
        if !found.kind.is_file() || found.mode & 0o111 == 0 || !self.may_execute(found) {
            return Some(Cause::NotExecutable {
                path,
                mode: format!("{:04o}", found.mode),
                uid: self.user.uid,
            });
        }
        match beginning(&self.read(&path)?) {
            Beginning::Empty => Some(Cause::NoFormat { path, is_empty: true }),
            Beginning::Other => Some(Cause::NoFormat { path, is_empty: false }),
            Beginning::Script(script) => self.fault_of_script(path, script, depth),
            Beginning::Elf(elf) if !executes(std::env::consts::ARCH, elf.machine) => {
                Some(Cause::WrongArchitecture {
                    program: path,
                    machine: machine_name(elf.machine),
                    host: rbox_spec::Platform::host().architecture,
                })
            }
            Beginning::Elf(elf) => {
                let loader = elf.loader.filter(|loader| self.find(loader).is_none())?;
                Some(Cause::LoaderMissing { program: path, loader })
            }
        }
    }

    fn fault_of_script(&self, path: String, script: Script, depth: u32) -> Option<Cause> {
        let Script { interpreter, argument, has_return } = script;
        if has_return {
            return Some(Cause::CarriageReturns { script: path, interpreter });
        }
        let Some(found) = self.find(&interpreter) else {
            return Some(Cause::InterpreterMissing { script: path, interpreter });
        };
        // env(1) looks for what it is given.
        let wanted = argument.split_whitespace().find(|word| !word.starts_with('-') && !word.contains('='));
        if let (Some(wanted), true) = (wanted, interpreter.ends_with("/env")) {
            let is_there = wanted.contains('/')
                || self.path.iter().any(|dir| self.find(&format!("{dir}/{wanted}")).is_some());
            if !is_there {
                return Some(Cause::InterpreterMissing { script: path, interpreter: wanted.to_owned() });
            }
        }
        if depth < DEEPEST { self.fault_of(&found, depth + 1) } else { None }
    }
}
