//! Which files, and what they are.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::error::BakeError;

/// The files that are read when none is named, those that are there.
pub(crate) const NAMES: &[&str] = &[
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
];

/// No bake file is larger.
const MOST: u64 = 1 << 20;
/// No more files are read.
const MOST_FILES: usize = 100;

/// A file, read.
#[derive(Clone, Debug)]
pub struct BakeFile {
    /// What it is called; `-` is standard input.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// What a file is by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Compose,
    Hcl,
    Json,
    /// To be seen from what is in it.
    Unknown,
}

impl BakeFile {
    /// The names of files that are read when none is named.
    pub fn usual_names() -> &'static [&'static str] {
        NAMES
    }

    /// Reads a file of a directory.
    ///
    /// # Errors
    /// It is not there, too large, or no text.
    pub fn read(name: &str, directory: &Path) -> Result<Self, BakeError> {
        Ok(Self { name: name.to_owned(), text: read_file(name, directory)? })
    }

    /// Whether its name is that of a compose file.
    pub fn is_compose(&self) -> bool {
        self.form() == Form::Compose
    }

    pub(crate) fn form(&self) -> Form {
        let ends = |end: &str| self.name.to_lowercase().ends_with(end);
        match () {
            () if ends(".yml") || ends(".yaml") => Form::Compose,
            () if ends(".json") => Form::Json,
            () if ends(".hcl") => Form::Hcl,
            () => Form::Unknown,
        }
    }
}

/// Reads the files that were named, or those that are there by the usual names.
pub(crate) fn read(names: &[String], directory: &Path) -> Result<Vec<BakeFile>, BakeError> {
    if names.len() > MOST_FILES {
        return Err(BakeError::Invalid(format!("more than {MOST_FILES} files")));
    }
    let mut files = Vec::new();
    for name in names {
        let text = if name == "-" {
            text(name, &PathBuf::from(name), &mut std::io::stdin().lock())?
        } else {
            read_file(name, directory)?
        };
        files.push(BakeFile { name: name.clone(), text });
    }
    if names.is_empty() {
        for name in NAMES.iter().filter(|name| directory.join(name).is_file()) {
            files.push(BakeFile { name: (*name).to_owned(), text: read_file(name, directory)? });
        }
    }
    if files.is_empty() {
        return Err(BakeError::NoFile(NAMES.join(", ")));
    }
    Ok(files)
}

fn read_file(name: &str, directory: &Path) -> Result<String, BakeError> {
    let path = directory.join(name.strip_prefix("cwd://").unwrap_or(name));
    let failed = |source| BakeError::Io { path: PathBuf::from(name), source };
    let mut file = std::fs::File::open(&path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    text(name, &path, &mut file)
}

fn text(name: &str, path: &Path, from: &mut dyn std::io::Read) -> Result<String, BakeError> {
    let mut bytes = Vec::new();
    let read = from.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|source| BakeError::Io { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MOST {
        return Err(BakeError::Invalid(format!("{name}: larger than {} MiB", MOST >> 20)));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| BakeError::Invalid(format!("{name}: this is not UTF-8")))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
