//! The files of all directories, and what is in which.

use std::path::{Path, PathBuf};

use rbox_sys::{own, plain};

use crate::cdi::document::{Device, Document};

/// The largest that tools of vendors write has some 100 KB.
const MOST_BYTES: u64 = 4 << 20;

/// All files that can be read.
#[derive(Debug, Default)]
pub(crate) struct Specs {
    found: Vec<Found>,
    /// What is wrong with the others, each in a line.
    pub(crate) broken: Vec<String>,
}

/// A file.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    /// The number of its directory.
    priority: usize,
    document: Document,
}

impl Specs {
    /// Reads them.
    pub(crate) fn load(directories: &[PathBuf]) -> Self {
        let mut specs = Self::default();
        for (priority, dir) in directories.iter().enumerate() {
            specs.load_from(dir, priority);
        }
        specs
    }

    fn load_from(&mut self, dir: &Path, priority: usize) {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.broken.push(format!("{}: {}", dir.display(), plain(error))),
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let is_json = match path.extension().and_then(|ending| ending.to_str()) {
                Some("json") => true,
                Some("yaml") => false,
                _ => continue,
            };
            // A link is followed, as Docker follows it; a FIFO or a device behind it is not read.
            let read = path.canonicalize().and_then(|file| own::read(&file, MOST_BYTES));
            match read.map_err(plain).and_then(|bytes| Document::parse(&bytes, is_json)) {
                Ok(document) => self.found.push(Found { path, priority, document }),
                Err(why) => self.broken.push(format!("{}: {why}", path.display())),
            }
        }
    }

    /// A device and its file; none when no file has it.
    ///
    /// # Errors
    /// Two files of one directory have it.
    pub(crate) fn find(&self, name: &str) -> Result<Option<(&Document, &Device)>, String> {
        let Some((kind, device)) = name.split_once('=') else { return Ok(None) };
        let has = |found: &Found| found.document.kind == kind && of_name(&found.document, device).is_some();
        let highest = self.found.iter().filter(|found| has(found)).map(|found| found.priority).max();
        let mut of_highest = self.found.iter().filter(|found| Some(found.priority) == highest && has(found));
        let Some(first) = of_highest.next() else { return Ok(None) };
        if let Some(other) = of_highest.next() {
            let (one, other) = (first.path.display(), other.path.display());
            return Err(format!("conflicting device \"{name}\" (specs \"{one}\", \"{other}\")"));
        }
        Ok(of_name(&first.document, device).map(|device| (&first.document, device)))
    }

    /// The names of all devices of a kind, as the files have them, each once.
    pub(crate) fn devices_of(&self, kind: &str) -> Vec<&str> {
        let mut names = Vec::new();
        let files = self.found.iter().map(|found| &found.document).filter(|document| document.kind == kind);
        for device in files.flat_map(|document| &document.devices) {
            if !names.contains(&device.name.as_str()) {
                names.push(&device.name);
            }
        }
        names
    }

    /// The kinds that there are, sorted.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self.found.iter().map(|found| found.document.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// The full names of all devices that can be had, and what is wrong with those that cannot.
    pub(crate) fn all(&self) -> (Vec<String>, Vec<String>) {
        let (mut names, mut wrong) = (Vec::new(), self.broken.clone());
        for kind in self.kinds() {
            let mut devices = self.devices_of(kind);
            devices.sort_unstable();
            for name in devices.into_iter().map(|device| format!("{kind}={device}")) {
                match self.find(&name) {
                    Ok(_) => names.push(name),
                    Err(why) => wrong.push(why),
                }
            }
        }
        (names, wrong)
    }

    /// What is wrong with files, for the end of an error's line.
    pub(crate) fn hint(&self) -> String {
        if self.broken.is_empty() { String::new() } else { format!(" ({})", self.broken.join("; ")) }
    }
}

fn of_name<'a>(document: &'a Document, name: &str) -> Option<&'a Device> {
    document.devices.iter().find(|device| device.name == name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn spec(kind: &str, devices: &[&str], value: &str) -> String {
        let devices: Vec<String> = devices
            .iter()
            .map(|name| format!(r#"{{"name":"{name}","containerEdits":{{"env":["V={value}"]}}}}"#))
            .collect();
        format!(r#"{{"cdiVersion":"0.6.0","kind":"{kind}","devices":[{}]}}"#, devices.join(","))
    }

    #[test]
    fn directories_and_conflicts() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
        for made in [&first, &second] {
            std::fs::create_dir(made).unwrap();
        }
        let write = |dir: &Path, name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
        write(&first, "a.json", spec("v/c", &["one", "two"], "first"));
        write(&second, "a.json", spec("v/c", &["one"], "second"));
        write(&second, "b.yaml", spec("v/c", &["three"], "yaml"));
        write(&second, "c.json", spec("v/c", &["three"], "json"));
        write(&second, "d.json", "{".to_owned());
        write(&second, "e.txt", "{".to_owned());
        write(&second, "f.json", " ".repeat(5 << 20));
        std::os::unix::fs::symlink(first.join("a.json"), second.join("g.json")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", second.join("h.json")).unwrap();
        std::os::unix::fs::symlink("nowhere", second.join("i.json")).unwrap();
        let specs = Specs::load(&[first, second, dir.path().join("none")]);
        let broken = specs.broken.join("\n");
        for (file, why) in [
            ("d.json", "EOF"),
            ("f.json", "too large"),
            ("h.json", "regular file"),
            ("i.json", "No such file"),
        ] {
            assert!(broken.lines().any(|line| line.contains(file) && line.contains(why)), "{file}: {broken}");
        }
        assert_eq!(specs.broken.len(), 4, "{broken}");
        // By the link the second directory has all that the first has: `one` twice.
        assert!(specs.find("v/c=one").unwrap_err().contains("conflicting device \"v/c=one\""));
        assert!(specs.find("v/c=three").unwrap_err().contains("c.json"));
        let (_, device) = specs.find("v/c=two").unwrap().unwrap();
        assert_eq!(device.name, "two");
        assert!(specs.find("v/c=four").unwrap().is_none() && specs.find("x/y=one").unwrap().is_none());
        assert_eq!(specs.all().0, ["v/c=two"]);
    }
}
