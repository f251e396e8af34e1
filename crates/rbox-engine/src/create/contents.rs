//! What is in the files that a container is given: kept beside its record, for root only.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rbox_spec::given::{Content, MOST};
use rbox_sys::durable::{self, Lasting};
use rbox_sys::own;

use crate::create::request::CreateRequest;
use crate::error::EngineError;
use crate::record::container::ContainerRecord;
use crate::record::paths::{CONTENTS, Paths};

/// Each file has a content, and none is too large: its copies are memory of the container.
pub(crate) fn check(request: &CreateRequest) -> Result<(), EngineError> {
    let (files, contents) = (&request.host.files, &request.contents);
    if files.len() != contents.len() {
        return Err(EngineError::Invalid(format!(
            "{} files are given with {} contents",
            files.len(),
            contents.len()
        )));
    }
    match files.iter().zip(contents).find(|(_, content)| content.0.len() as u64 > MOST) {
        Some((file, content)) => Err(EngineError::Invalid(format!(
            "{}: {content:?} are too many for a file that is given: {MOST} at most",
            file.target
        ))),
        None => Ok(()),
    }
}

/// Writes them below a record's directory that nobody else knows.
pub(crate) fn write(dir: &Path, contents: &[Content], lasting: Lasting) -> Result<(), EngineError> {
    if contents.is_empty() {
        return Ok(());
    }
    let place = dir.join(CONTENTS);
    let made = std::fs::DirBuilder::new().mode(0o700).create(&place);
    made.map_err(EngineError::file("make directory", &place))?;
    for (number, content) in contents.iter().enumerate() {
        let path = place.join(number.to_string());
        durable::write_new(&path, &content.0, lasting).map_err(EngineError::file("write", &path))?;
    }
    if lasting == Lasting::Now {
        durable::sync_dir(&place).map_err(EngineError::file("fsync", &place))?;
    }
    Ok(())
}

/// Reads those of a container. One that is not there is empty.
pub(crate) fn read(paths: &Paths, record: &ContainerRecord) -> Vec<Content> {
    let one = |number: usize| own::read(&paths.content(&record.id, number), MOST).unwrap_or_default();
    (0..record.host.files.len()).map(|number| Content(one(number))).collect()
}
