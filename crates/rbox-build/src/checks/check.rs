//! The door: from a text to a report.

use super::arguments::{self, Given, Globals};
use super::casing;
use super::options::{Options, first_word};
use super::report::{Linter, Report};
use super::stage::Stages;
use crate::dockerfile::{Dockerfile, DockerfileError, Lines};

/// Checks a Dockerfile. What comes before an error is reported beside it.
pub fn check(text: &str, given: &Given<'_>) -> Report {
    let (file, error) = Dockerfile::read(text);
    let options = match (given.options, &file.check) {
        (Some(options), _) => options.clone(),
        (None, None) => Options::default(),
        (None, Some(directive)) => match Options::parse(first_word(&directive.value)) {
            Ok(options) => options,
            Err(why) => {
                let message = format!("failed to parse check options: {why}");
                let error = DockerfileError::at(Lines::one(directive.line), message);
                return Report { warnings: Vec::new(), error: Some(error) };
            }
        },
    };
    let mut linter = Linter::new(options);
    casing::check(&file, &mut linter);
    let error = error.or_else(|| expanded(&file, given, &mut linter).err());
    linter.report(error)
}

/// The rules that need the values of variables.
fn expanded(file: &Dockerfile, given: &Given<'_>, linter: &mut Linter) -> Result<(), DockerfileError> {
    arguments::check_defaults(file, given, linter);
    let globals = Globals::read(file, given, true)?;
    let bases = file.stages.iter().map(|stage| globals.base(file, stage, linter));
    let bases = bases.collect::<Result<Vec<_>, _>>()?;
    let mut stages = Stages::new(file, given, &globals, linter);
    for (number, base) in bases.iter().enumerate() {
        stages.check(number, base)?;
    }
    Ok(())
}
