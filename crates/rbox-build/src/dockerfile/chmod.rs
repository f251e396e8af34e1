//! The value of `--chmod`: a number in base eight, or what chmod(1) takes: `u=rwX,go-w`.

use rbox_spec::Kind;

use crate::text::shown;

const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;

/// Why a text is no mode. The words are BuildKit's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChmodError {
    /// A number that is none, or too large.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Octal(String),
    /// It is neither a number nor a list of changes.
    #[error("invalid syntax")]
    Symbolic,
}

impl ChmodError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// A mode, or changes to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chmod {
    /// This mode, whatever it was.
    Octal(u32),
    /// Changes, one after the other.
    Symbolic(Vec<Change>),
}

/// A change to a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes bits away.
    Clear(u32),
    /// Adds bits.
    Add(u32),
    /// Adds bits if it is a directory, or if anybody could execute it before all changes.
    AddIfExecutable(u32),
    /// Takes the permissions of a class (a shift of 6, 3 or 0 bits) for classes (`0o700` and its kin).
    Copy {
        /// The class they are taken from.
        from: u32,
        /// The classes they are for.
        to: u32,
        /// `+`, `-` or `=`.
        operator: char,
    },
}

impl Chmod {
    /// Reads a value that is not empty.
    ///
    /// # Errors
    /// In BuildKit's words.
    pub fn parse(text: &str) -> Result<Self, ChmodError> {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let octal = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return octal.map(Self::Octal).ok_or_else(|| ChmodError::Octal(shown(text)));
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let operators = clause.trim_start_matches(['u', 'g', 'o', 'a']);
            let who = clause[..clause.len() - operators.len()]
                .chars()
                .fold(0, |who, class| who | class_bits(class));
            let mut rest = operators.chars().peekable();
            let mut operator = rest.next();
            while let Some(sign @ ('+' | '-' | '=')) = operator {
                let mut letters = String::new();
                while let Some(letter) = rest.next_if(|letter| !matches!(letter, '+' | '-' | '=')) {
                    letters.push(letter);
                }
                change(who, sign, &letters, &mut changes)?;
                operator = rest.next();
                if operator.is_none() {
                    break;
                }
            }
            // Nothing but operators and letters, and at least one operator.
            if operators.is_empty() || operator.is_some() {
                return Err(ChmodError::Symbolic);
            }
        }
        Ok(Self::Symbolic(changes))
    }

    /// What a mode becomes: the twelve bits of chmod(2).
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        let changes = match self {
            Self::Octal(mode) => return *mode,
            Self::Symbolic(changes) => changes,
        };
        let executable = directory || mode & EXECUTE != 0;
        changes.iter().fold(mode & 0o7777, |mode, change| match *change {
            Change::Clear(bits) => mode & !bits,
            Change::Add(bits) => mode | bits,
            Change::AddIfExecutable(bits) => mode | if executable { bits } else { 0 },
            Change::Copy { from, to, operator } => {
                let bits = (((mode >> from) & 0o7) * EXECUTE) & to;
                match operator {
                    '+' => mode | bits,
                    '-' => mode & !bits,
                    _ => mode & !to | bits,
                }
            }
        })
    }
}

fn class_bits(class: char) -> u32 {
    match class {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => 0o0007,
        _ => SET_IDS | 0o777,
    }
}

/// Adds what an operator and its letters say. `who` is 0 when no class is named, which stands for all.
fn change(who: u32, sign: char, letters: &str, changes: &mut Vec<Change>) -> Result<(), ChmodError> {
    // What is for others alone has nothing to do with the set-id bits and the sticky bit.
    let special = who == 0 || who & !0o7 != 0;
    let mut classes = if who == 0 { class_bits('a') } else { who };
    let (mut bits, mut if_executable, mut copied) = (0, 0, false);
    for letter in letters.chars() {
        let from = match letter {
            'u' => 6,
            'g' => 3,
            'o' => 0,
            _ => {
                match letter {
                    'r' => bits |= 0o444,
                    'w' => bits |= 0o222,
                    'x' => bits |= EXECUTE,
                    'X' if sign == '-' => bits |= EXECUTE,
                    'X' => if_executable = EXECUTE,
                    's' if special => bits |= SET_IDS,
                    't' if special => {
                        bits |= STICKY;
                        classes |= STICKY;
                    }
                    's' | 't' => {}
                    _ => return Err(ChmodError::Symbolic),
                }
                continue;
            }
        };
        // A class is copied after what stands before it; with `=` it leaves the special bits.
        if bits != 0 {
            add(sign, classes, bits, changes);
        }
        changes.push(Change::AddIfExecutable(if_executable & classes));
        changes.push(Change::Copy { from, to: classes & 0o777, operator: sign });
        (bits, if_executable, copied) = (0, 0, true);
    }
    if bits != 0 || !copied {
        add(sign, classes, bits, changes);
    }
    changes.push(Change::AddIfExecutable(if_executable & classes));
    Ok(())
}

fn add(sign: char, classes: u32, bits: u32, changes: &mut Vec<Change>) {
    match sign {
        '-' => changes.push(Change::Clear(bits & classes)),
        '+' => changes.push(Change::Add(bits & classes)),
        _ => changes.extend([Change::Clear(classes), Change::Add(bits & classes)]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn modes() {
        // The value, the mode before, and after it of a file and of a directory.
        for (text, before, file, directory) in [
            ("755", 0o644, 0o755, 0o755),
            ("0644", 0o755, 0o644, 0o644),
            ("4755", 0o644, 0o4755, 0o4755),
            ("0", 0o644, 0, 0),
            ("07777", 0, 0o7777, 0o7777),
            ("+x", 0o644, 0o755, 0o755),
            ("a+x", 0o644, 0o755, 0o755),
            ("u+x", 0o644, 0o744, 0o744),
            ("ug+w", 0o444, 0o664, 0o664),
            ("go-w", 0o666, 0o644, 0o644),
            ("-x", 0o755, 0o644, 0o644),
            ("o=", 0o755, 0o750, 0o750),
            ("=", 0o755, 0, 0),
            ("u=rwx,go=rx", 0o600, 0o755, 0o755),
            ("u=rwX,go=rX", 0o600, 0o644, 0o755),
            ("u=rwX,go=rX", 0o700, 0o755, 0o755),
            ("+X", 0o644, 0o644, 0o755),
            ("+X", 0o645, 0o755, 0o755),
            ("-X", 0o755, 0o644, 0o644),
            ("a-x,+X", 0o755, 0o755, 0o755),
            ("=rw,+X", 0o700, 0o777, 0o777),
            ("go=u", 0o740, 0o777, 0o777),
            ("go=u-w", 0o740, 0o755, 0o755),
            ("o=g", 0o754, 0o755, 0o755),
            ("g+u", 0o740, 0o770, 0o770),
            ("g-u", 0o760, 0o700, 0o700),
            ("u+s", 0o755, 0o4755, 0o4755),
            ("g+s", 0o755, 0o2755, 0o2755),
            ("+s", 0o755, 0o6755, 0o6755),
            ("o+s", 0o755, 0o755, 0o755),
            ("u-s", 0o6755, 0o2755, 0o2755),
            ("+t", 0o777, 0o1777, 0o1777),
            ("-t", 0o1777, 0o777, 0o777),
            ("+rt", 0o200, 0o1644, 0o1644),
            ("u+r+w-x", 0o100, 0o600, 0o600),
            ("u+", 0o644, 0o644, 0o644),
            ("u=g", 0o4750, 0o4550, 0o4550),
            ("uu+w", 0o444, 0o644, 0o644),
        ] {
            let chmod = Chmod::parse(text).unwrap();
            assert_eq!(chmod.apply(before, false), file, "{text} {before:o}");
            assert_eq!(chmod.apply(before, true), directory, "{text} {before:o} of a directory");
        }
        for text in ["", "u", "a", "x", "u+q", "u+r,", ",u+r", "u+r,,g+r", "+1", "u r", "é", "rwx"] {
            assert_eq!(Chmod::parse(text), Err(ChmodError::Symbolic), "{text}");
        }
        for text in ["10000", "8", "7x", "0o7", "99999999999999999999", "755,u+x"] {
            let error = Chmod::parse(text).unwrap_err().to_string();
            let words = "it should be octal string and between 0 and 07777";
            assert_eq!(error, format!("invalid chmod parameter: '{text}'. {words}"));
        }
    }
}
