//! Files, read to a limit, and their documents.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{ComposeError, Place};
use crate::yaml::{Document, read};

/// The largest file that is read. The largest compose files that are known have some hundred kilobytes.
const MAX_FILE: u64 = 16 << 20;
/// How many files a project may be made of, counting each time that one is extended or included.
const MAX_FILES: usize = 1000;

/// The files of a project, in the order of the numbers that places have.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) names: Vec<String>,
    read: usize,
    /// Those that were read already.
    contents: BTreeMap<String, String>,
}

/// Reads a text file.
pub(crate) fn read_text(path: &Path) -> Result<String, ComposeError> {
    let failed = |action: &'static str| {
        move |source: std::io::Error| ComposeError::Io { action, path: path.to_owned(), source }
    };
    let file = File::open(path).map_err(failed("open"))?;
    let kind = file.metadata().map_err(failed("stat"))?.file_type();
    if kind.is_dir() {
        return Err(failed("read")(std::io::ErrorKind::IsADirectory.into()));
    }
    text(path, &mut file.take(MAX_FILE + 1))
}

fn text(path: &Path, reader: &mut dyn Read) -> Result<String, ComposeError> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|source| ComposeError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > MAX_FILE {
        let limit = MAX_FILE >> 20;
        return Err(ComposeError::Invalid(format!("{}: larger than {limit} MiB", path.display())));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        ComposeError::Invalid(format!("{}: line {line} is not UTF-8", path.display()))
    })
}

impl Files {
    /// None is read yet but for these.
    pub(crate) fn with(contents: BTreeMap<String, String>) -> Self {
        Self { contents, ..Self::default() }
    }

    /// Reads a compose file; `-` is the standard input.
    pub(crate) fn documents(&mut self, file: &str) -> Result<Vec<Document>, ComposeError> {
        self.read += 1;
        if self.read > MAX_FILES {
            let message = format!("{file}: more than {MAX_FILES} files are extended or included");
            return Err(ComposeError::Invalid(message));
        }
        let content = if let Some(content) = self.contents.get(file) {
            content.clone()
        } else if file == "-" {
            text(Path::new("-"), &mut std::io::stdin().lock().take(MAX_FILE + 1))?
        } else {
            read_text(Path::new(file))?
        };
        let number = self.names.iter().position(|name| name == file).unwrap_or_else(|| {
            self.names.push(file.to_owned());
            self.names.len() - 1
        });
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        read(&content, number).map_err(|(line, column, message)| ComposeError::Syntax {
            at: Place { file: file.to_owned(), line, column },
            message,
        })
    }
}
