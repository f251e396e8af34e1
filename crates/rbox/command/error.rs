//! From an error to its one line on standard error and its exit code.

use std::borrow::Cow;
use std::fmt::Write as _;

use rbox_engine::spec::Kind;

use crate::output::{escape, table};

/// rbox itself failed, or was asked for what it cannot do.
pub(crate) const FAILED: u8 = 125;

/// A command other than run and exec did not succeed on what it was given, as Docker's client ends.
pub(crate) const NOT_DONE: u8 = 1;

/// Input that could not be understood: exit code 125 for every command.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub(crate) String);

/// For `map_err` on whatever reads a user's words.
pub(crate) fn bad_input(error: impl std::fmt::Display) -> anyhow::Error {
    BadInput(error.to_string()).into()
}

/// An error with an exit code of its own, and nothing to print when the message is empty.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Coded {
    /// The line to print.
    pub(crate) message: String,
    /// The exit code.
    pub(crate) code: u8,
}

/// An error that is told to a program: as one line of JSON, as Compose has it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct InJson {
    message: String,
    code: u8,
}

/// The same error, to be told in JSON.
pub(crate) fn in_json<T>(result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| InJson { message: message(&error), code: exit_code(&error) }.into())
}

/// Prints an error's one line and gives the exit code it stands for.
pub(crate) fn report(error: &anyhow::Error) -> u8 {
    let message = message(error);
    if !message.is_empty() {
        // Nobody reads: nothing to be done about it.
        let line = clipped(&message);
        let told = if error.is::<InJson>() {
            escape::json(&serde_json::json!({ "error": true, "message": line }).to_string()).into_owned()
                + "\n"
        } else {
            format!("rbox: {}\n", escape::text(&line))
        };
        let _ = table::write_all(&mut std::io::stderr(), &told);
    }
    exit_code(error)
}

/// A message quotes what the user, a registry or an image wrote, which may be of any length: the ends are enough.
pub(crate) fn clipped(message: &str) -> Cow<'_, str> {
    const MOST: usize = 4000;
    let length = message.chars().count();
    if length <= MOST {
        return message.into();
    }
    let head: String = message.chars().take(MOST / 2).collect();
    let tail: String = message.chars().skip(length - MOST / 2).collect();
    format!("{head} … {tail}").into()
}

/// The error and what caused it, each said once.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        // Before the comparison: what a message quotes of its cause is plain already.
        let cause = rbox_engine::plain(cause);
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
    }
    text
}

pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(coded) = error.downcast_ref::<Coded>() {
        return coded.code;
    }
    if let Some(told) = error.downcast_ref::<InJson>() {
        return told.code;
    }
    let kind = error.chain().find_map(rbox_engine::kind::kind_of);
    if error.is::<BadInput>() || kind == Some(Kind::Invalid) { FAILED } else { NOT_DONE }
}

/// Errors of `run`, `create`, `start` and `exec` end with their own code, or 125.
pub(crate) fn coded<T>(result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| {
        if error.is::<Coded>() {
            return error;
        }
        let code = error
            .downcast_ref::<rbox_engine::error::EngineError>()
            .map_or(125, rbox_engine::error::EngineError::exit_code);
        Coded { message: message(&error), code: u8::try_from(code).unwrap_or(125) }.into()
    })
}

/// Errors that have no code of their own end with 1, whatever they mean.
pub(crate) fn not_done<T>(result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| match error.downcast_ref::<Coded>() {
        Some(_) => error,
        None => Coded { message: message(&error), code: NOT_DONE }.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbox_engine::error::EngineError;

    #[test]
    fn codes_come_from_kinds() {
        let invalid = || EngineError::Invalid("x".into());
        let nothing = || EngineError::NoContainer("x".into());
        let table = [
            (anyhow::Error::from(invalid()), FAILED),
            (anyhow::Error::from(invalid()).context("start it"), FAILED),
            (anyhow::Error::from(nothing()), NOT_DONE),
            (
                anyhow::Error::from(EngineError::Link { container: "x".into(), source: invalid().into() }),
                FAILED,
            ),
            (anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::InvalidInput)), NOT_DONE),
            (bad_input("x"), FAILED),
            (Coded { message: "x".into(), code: 64 }.into(), 64),
        ];
        for (error, code) in table {
            assert_eq!(exit_code(&error), code, "{error:?}");
        }
    }
}
