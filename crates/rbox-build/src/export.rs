//! What a build made, as files of the host's: `--output type=local` and `type=tar`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rbox_engine::caller;
use rbox_engine::engine::{pack_archive, unpack_on_host};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::builder::Builder;
use crate::context::open_dir;
use crate::error::{BuildError, io_error};
use crate::progress::BuildEvent;
use crate::request::Destination;
use crate::stage::Stage;
use crate::tree::Source;

/// The file beside others that says how they were made.
const STATEMENT: &str = "provenance.json";

impl Builder<'_> {
    /// Writes the files of the stage at a place. `prefix`: how the name begins of what is stated of them.
    pub(crate) fn export(
        &mut self,
        (place, stage): (usize, &Stage),
        to: &Destination,
        prefix: &str,
    ) -> Result<(), BuildError> {
        let label = match to {
            Destination::Directory(_) => "exporting to client directory",
            _ => "exporting to client tarball",
        };
        let number = self.begin(label);
        let begun = Instant::now();
        let tree = self.engine.layer_tree(&stage.dirs(), &self.work.fresh())?;
        let root = tree.root.as_fd();
        if self.states_files() {
            self.put_statement((place, stage), root, &format!("{prefix}{STATEMENT}"))?;
        }
        match to {
            Destination::Directory(dir) => {
                let devices = copy_out(root, dir)?;
                if devices > 0 {
                    let text = format!("{devices} device files were left out of {}", dir.display());
                    self.event(BuildEvent::Warning(&text));
                }
            }
            Destination::Tar(path) => write_file(root, path)?,
            Destination::Stdout => write_tar(root, io::stdout())?,
        }
        self.done(number, begun);
        Ok(())
    }

    /// Puts what is stated of the files among them, in place of what is called so there, as BuildKit does.
    fn put_statement(
        &mut self,
        stage: (usize, &Stage),
        root: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), BuildError> {
        let name = Path::new(name);
        let root = root.try_clone_to_owned().map_err(io_error("open", Path::new("the files")))?;
        let source = Source { root, ignore: None, is_context: false };
        let text = self.statement_of_files(stage, &source.files()?)?;
        match rustix::fs::unlinkat(&source.root, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(io_error("replace", name)(error.into())),
        }
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&source.root, name, how, Mode::from_raw_mode(0o600))
            .map_err(|error| io_error("create", name)(error.into()))?;
        let mut file = File::from(file);
        file.write_all(&text).map_err(io_error("write", name))
    }
}

/// Writes an archive whole or not at all; what is no regular file, such as a pipe, is written to as it is.
fn write_file(root: BorrowedFd<'_>, path: &Path) -> Result<(), BuildError> {
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return write_tar(root, File::options().write(true).open(path).map_err(io_error("open", path))?);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.partial", std::process::id()));
    let beside = PathBuf::from(beside);
    let file = caller::create_new(&beside, 0o666).map_err(io_error("create", path))?;
    let written = write_tar(root, file)
        .and_then(|()| std::fs::rename(&beside, path).map_err(io_error("rename to", path)));
    written.inspect_err(|_| drop(std::fs::remove_file(&beside)))
}

fn write_tar(root: BorrowedFd<'_>, to: impl Write) -> Result<(), BuildError> {
    let mut to = BufWriter::with_capacity(256 << 10, to);
    pack_archive(root, &mut to)?;
    to.flush().map_err(io_error("write", Path::new("the archive")))
}

/// Copies the files into a directory, as whoever called: what an image says of owners means nothing on the host. How many devices
/// were left out.
fn copy_out(root: BorrowedFd<'_>, dir: &Path) -> Result<u64, BuildError> {
    std::fs::create_dir_all(dir).map_err(io_error("make directory", dir))?;
    let place = open_dir(dir)?;
    let (tar, into) = io::pipe().map_err(io_error("make", Path::new("a pipe")))?;
    std::thread::scope(|scope| {
        let packing = std::thread::Builder::new()
            .name("pack".to_owned())
            .spawn_scoped(scope, move || pack_archive(root, into))
            .map_err(io_error("start", Path::new("a thread")))?;
        let put = unpack_on_host(tar, place.as_fd());
        let packed = packing.join();
        // A reader that stopped is why the writer could not go on.
        let devices = put?;
        packed.map_err(|_| BuildError::Internal("the thread that reads the image failed".to_owned()))??;
        Ok(devices)
    })
}
