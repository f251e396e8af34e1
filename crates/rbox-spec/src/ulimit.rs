//! `--ulimit nofile=1024:2048`: a resource limit of setrlimit(2), read as Docker reads it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::kind::Kind;

/// Why a `--ulimit` value was refused, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // Each message says what its fields are.
pub enum UlimitError {
    #[error("invalid ulimit argument: {0}")]
    NoValue(String),
    #[error("invalid ulimit type: {0}")]
    UnknownName(String),
    #[error("too many limit value arguments - {0}, can only have up to two, `soft[:hard]`")]
    TooManyValues(String),
    #[error("invalid ulimit value \"{0}\": it is a whole number, or -1 for unlimited")]
    NotANumber(String),
    #[error("ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}")]
    UnlimitedOverHard { hard: u64 },
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    SoftOverHard { soft: u64, hard: u64 },
}

impl UlimitError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

macro_rules! limits {
    ($($variant:ident = $number:literal, $name:literal;)*) => {
        /// What is limited; the discriminant is the kernel's `RLIMIT_*` number, the same on every
        /// architecture rbox builds for (asm-generic/resource.h).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Rlimit {
            $(#[doc = concat!("`", $name, "`")] #[serde(rename = $name)] $variant = $number,)*
        }

        impl Rlimit {
            /// Every limit of the kernel.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name of Docker's command line: `nofile`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

limits! {
    Cpu = 0, "cpu";
    Fsize = 1, "fsize";
    Data = 2, "data";
    Stack = 3, "stack";
    Core = 4, "core";
    Rss = 5, "rss";
    Nproc = 6, "nproc";
    Nofile = 7, "nofile";
    Memlock = 8, "memlock";
    As = 9, "as";
    Locks = 10, "locks";
    Sigpending = 11, "sigpending";
    Msgqueue = 12, "msgqueue";
    Nice = 13, "nice";
    Rtprio = 14, "rtprio";
    Rttime = 15, "rttime";
}

impl Rlimit {
    /// The number setrlimit(2) takes.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// One limit. A value of `None` is unlimited (`RLIM_INFINITY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What is limited.
    #[serde(rename = "Name")]
    pub name: Rlimit,
    /// What holds, in the limit's own unit; `None` is unlimited.
    #[serde(rename = "Soft", with = "minus_one")]
    pub soft: Option<u64>,
    /// What an unprivileged process can raise it to.
    #[serde(rename = "Hard", with = "minus_one")]
    pub hard: Option<u64>,
}

/// Docker's JSON has -1 for unlimited.
mod minus_one {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option)] // The signature serde's `with` asks for.
    pub(super) fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(value.map_or(-1, |v| i64::try_from(v).unwrap_or(i64::MAX)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        Ok(u64::try_from(i64::deserialize(deserializer)?).ok())
    }
}

impl FromStr for Ulimit {
    type Err = UlimitError;

    fn from_str(text: &str) -> Result<Self, UlimitError> {
        let (name, values) = text.split_once('=').ok_or_else(|| UlimitError::NoValue(text.into()))?;
        let name = Rlimit::ALL
            .iter()
            .copied()
            .find(|limit| limit.name() == name)
            .ok_or_else(|| UlimitError::UnknownName(name.into()))?;
        let mut parts = values.split(':');
        let soft = value(parts.next().unwrap_or_default())?;
        let hard = parts.next().map_or(Ok(soft), value)?;
        if parts.next().is_some() {
            return Err(UlimitError::TooManyValues(values.into()));
        }
        match (soft, hard) {
            (None, Some(hard)) => Err(UlimitError::UnlimitedOverHard { hard }),
            (Some(soft), Some(hard)) if soft > hard => Err(UlimitError::SoftOverHard { soft, hard }),
            _ => Ok(Self { name, soft, hard }),
        }
    }
}

fn value(text: &str) -> Result<Option<u64>, UlimitError> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(number) => u64::try_from(number)
            .map(Some)
            .map_err(|_| UlimitError::NotANumber(text.escape_debug().to_string())),
        Err(_) => Err(UlimitError::NotANumber(text.escape_debug().to_string())),
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: Option<u64>| value.map_or_else(|| "-1".to_owned(), |v| v.to_string());
        write!(f, "{}={}:{}", self.name.name(), show(self.soft), show(self.hard))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_docker_reads() {
        let both: Ulimit = "nofile=1024:2048".parse().unwrap();
        assert_eq!((both.name, both.soft, both.hard), (Rlimit::Nofile, Some(1024), Some(2048)));
        let one: Ulimit = "core=0".parse().unwrap();
        assert_eq!((one.soft, one.hard), (Some(0), Some(0)));
        let unlimited: Ulimit = "memlock=-1:-1".parse().unwrap();
        assert_eq!(unlimited.to_string(), "memlock=-1:-1");
        let json = serde_json::to_string(&unlimited).unwrap();
        assert_eq!(json, r#"{"Name":"memlock","Soft":-1,"Hard":-1}"#);
        assert_eq!(serde_json::from_str::<Ulimit>(&json).unwrap(), unlimited);
    }

    #[test]
    fn refuses_with_dockers_words() {
        let error = |text: &str| text.parse::<Ulimit>().unwrap_err().to_string();
        assert_eq!(error("nofile"), "invalid ulimit argument: nofile");
        assert_eq!(error("bad=1"), "invalid ulimit type: bad");
        assert_eq!(error("cpu=2:1"), "ulimit soft limit must be less than or equal to hard limit: 2 > 1");
        assert!(error("cpu=-1:1").contains("-1 (unlimited)"));
        assert!(error("cpu=1:2:3").starts_with("too many"));
        for bad in ["cpu=", "cpu=x", "cpu=-2", "cpu=1:", "cpu=9223372036854775808"] {
            assert!(error(bad).contains("value"), "{bad}");
        }
    }
}
