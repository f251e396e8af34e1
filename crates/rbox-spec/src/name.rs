//! Names that become part of a path: of containers, volumes and networks.
//!
//! There is one parser, [`check`], and a type for each kind of thing. Such a type holds one path component that is
//! neither hidden nor `.` nor `..`, so it may be joined to a directory. A text may not: it becomes a name first, be it
//! a user's word, a field of a record or an entry of a directory.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::ContainerId;
use crate::kind::Kind;

/// The longest name: that of a file.
const MOST: usize = 255;

/// A text that is no name of this kind of thing. It is shown escaped, and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Of a container.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Container(String),
    /// Of a volume.
    #[error(
        "create {0}: \"{0}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    Volume(String),
    /// Of a volume, with one character.
    #[error("create {0}: volume name is too short, names should be at least two alphanumeric characters")]
    ShortVolume(String),
    /// Of a network.
    #[error("invalid network name \"{0}\": letters, digits, '_', '.' and '-', a letter or digit first")]
    Network(String),
    /// More than a file's name can have.
    #[error("invalid {kind} name ({shown}): it has {length} characters, at most 255 are allowed")]
    Long {
        /// What it was to name.
        kind: &'static str,
        /// Its beginning.
        shown: String,
        /// Its length.
        length: usize,
    },
}

impl InvalidName {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// What is wrong with a text.
enum Fault {
    Short,
    Long,
    Characters,
}

/// The one rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]*` of `least` to 255 characters.
fn check(text: &str, least: usize) -> Result<(), Fault> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    if !first || !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Err(Fault::Characters);
    }
    match text.len() {
        length if length < least => Err(Fault::Short),
        length if length > MOST => Err(Fault::Long),
        _ => Ok(()),
    }
}

/// A user's text in a message: escaped, and no longer than a line.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// A type of name; how a text is read before it is checked, and what is said of one that is refused.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, least $least:literal, $read:expr, $invalid:expr, $short:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let read: fn(&str) -> &str = $read;
                let bare = read(text);
                match check(bare, $least) {
                    Ok(()) => Ok(Self(bare.to_owned())),
                    Err(Fault::Characters) => Err($invalid(shown(text))),
                    Err(Fault::Short) => Err($short(shown(text))),
                    Err(Fault::Long) => {
                        Err(InvalidName::Long { kind: $kind, shown: shown(text), length: bare.len() })
                    }
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl AsRef<Path> for $name {
            fn as_ref(&self) -> &Path {
                Path::new(&self.0)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// A container's name, of at least two characters. `/web` is read as `web`, as Docker does.
    ContainerName,
    "container",
    least 2,
    |text| text.strip_prefix('/').unwrap_or(text),
    InvalidName::Container,
    InvalidName::Container
);
name!(
    /// A volume's name, of at least two characters: one alone would be a drive's letter, or a directory's.
    VolumeName,
    "volume",
    least 2,
    |text| text,
    InvalidName::Volume,
    InvalidName::ShortVolume
);
name!(
    /// A network's name.
    NetworkName,
    "network",
    least 1,
    |text| text,
    InvalidName::Network,
    InvalidName::Network
);

impl From<&ContainerId> for ContainerName {
    /// The short id, which is a name as well.
    fn from(id: &ContainerId) -> Self {
        Self(id.short().to_owned())
    }
}

impl From<&ContainerId> for VolumeName {
    /// An anonymous volume's name is 64 random digits, as a container's id is.
    fn from(id: &ContainerId) -> Self {
        Self(id.as_str().to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What must never be joined to a path, or shown as it is.
    const NEVER: [&str; 26] = [
        "",
        "/",
        ".",
        "..",
        "//ab",
        "../x",
        "a/b",
        "a/../b",
        "/../x",
        "ab/",
        "-ab",
        "_ab",
        ".ab",
        ".new-1",
        "a b",
        " ab",
        "ab\n",
        "ab\0",
        "\0ab",
        "a\u{1b}[2Jb",
        "ä1",
        "a\u{202e}b",
        "\u{feff}ab",
        "a:b",
        "a\\b",
        "a*b",
    ];

    #[test]
    fn no_name_leads_elsewhere() {
        let long = "a".repeat(256);
        for bad in NEVER.iter().copied().chain([long.as_str()]) {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad:?}");
            assert!(bad.parse::<VolumeName>().is_err(), "{bad:?}");
            assert!(bad.parse::<NetworkName>().is_err(), "{bad:?}");
            assert!(serde_json::from_value::<VolumeName>(bad.into()).is_err(), "{bad:?} in a record");
        }
        for good in ["ab", "web-1", "A.b_c", "0x", "a..", &"a".repeat(255)] {
            for name in [
                good.parse::<ContainerName>().unwrap().to_string(),
                good.parse::<VolumeName>().unwrap().to_string(),
                good.parse::<NetworkName>().unwrap().to_string(),
            ] {
                let path = Path::new("/dir").join(&name);
                assert_eq!(path.parent(), Some(Path::new("/dir")), "{good}");
                assert_eq!(path.file_name().unwrap(), good);
            }
        }
    }

    #[test]
    fn a_slash_before_a_containers_name_is_dropped() {
        assert_eq!("/web".parse::<ContainerName>().unwrap(), "web");
        assert_eq!(serde_json::from_str::<ContainerName>("\"/web\"").unwrap(), "web");
        assert!("/web".parse::<VolumeName>().is_err() && "/web".parse::<NetworkName>().is_err());
    }

    #[test]
    fn reasons_are_dockers() {
        let said = |text: &str| text.parse::<ContainerName>().unwrap_err().to_string();
        assert_eq!(said("a b"), "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
        assert_eq!(said("/a"), "Invalid container name (/a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
        assert!(said("a\u{1b}b").contains(r"(a\u{1b}b)"), "escaped");
        assert!(said(&"a".repeat(300)).ends_with("it has 300 characters, at most 255 are allowed"));
        let said = |text: &str| text.parse::<VolumeName>().unwrap_err().to_string();
        assert_eq!(
            said("x"),
            "create x: volume name is too short, names should be at least two alphanumeric characters"
        );
        assert!(
            said("a/b").starts_with("create a/b: \"a/b\" includes invalid characters for a local volume")
        );
        assert_eq!("n".parse::<NetworkName>().unwrap(), "n", "one letter is enough");
    }

    #[test]
    fn an_id_is_a_name() {
        let id = ContainerId::from_bytes(&[0xab; 32]);
        assert_eq!(ContainerName::from(&id), "abababababab");
        assert_eq!(VolumeName::from(&id).as_str().len(), 64);
    }
}
