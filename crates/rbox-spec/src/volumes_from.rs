//! `--volumes-from`: whose mounts a container has too.

use std::fmt;
use std::str::FromStr;

use crate::kind::Kind;

/// `CONTAINER[:OPTIONS]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumesFrom {
    /// A name, an id, or the beginning of an id.
    pub container: String,
    /// What is writable there is read-only here.
    pub read_only: bool,
}

/// Why a `--volumes-from` was refused: Docker's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidVolumesFrom {
    /// Nothing.
    #[error("volumes-from specification cannot be an empty string")]
    Empty,
    /// Options other than `ro` or `rw`, and `z` or `Z`.
    #[error("invalid mode: {0}")]
    Mode(String),
}

impl InvalidVolumesFrom {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl FromStr for VolumesFrom {
    type Err = InvalidVolumesFrom;

    fn from_str(text: &str) -> Result<Self, InvalidVolumesFrom> {
        if text.is_empty() {
            return Err(InvalidVolumesFrom::Empty);
        }
        let (container, mode) = text.split_once(':').unwrap_or((text, ""));
        let (mut access, mut label) = (None, None);
        for option in mode.split(',').filter(|_| !mode.is_empty()) {
            // A label of SELinux: there is nothing to relabel. Each group is given once.
            let group = match option {
                "ro" | "rw" => &mut access,
                "z" | "Z" => &mut label,
                _ => return Err(InvalidVolumesFrom::Mode(mode.to_owned())),
            };
            if group.replace(option).is_some() {
                return Err(InvalidVolumesFrom::Mode(mode.to_owned()));
            }
        }
        Ok(Self { container: container.to_owned(), read_only: access == Some("ro") })
    }
}

impl fmt::Display for VolumesFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.container, if self.read_only { ":ro" } else { "" })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_as_docker_takes_them() {
        let read = |text: &str| text.parse::<VolumesFrom>().unwrap();
        assert_eq!(read("web"), VolumesFrom { container: "web".into(), read_only: false });
        for writable in ["web:rw", "web:z", "web:rw,Z", "web:"] {
            assert!(!read(writable).read_only, "{writable}");
        }
        assert!(read("web:ro").read_only && read("web:z,ro").read_only);
        for bad in ["web:rslave", "web:nocopy", "web:ro,rw", "web:z,Z", "web:ro,", "web:x", "web:ro:rw"] {
            let mode = bad.split_once(':').unwrap().1;
            assert_eq!(bad.parse::<VolumesFrom>(), Err(InvalidVolumesFrom::Mode(mode.to_owned())), "{bad}");
        }
        assert_eq!("".parse::<VolumesFrom>(), Err(InvalidVolumesFrom::Empty));
    }
}
