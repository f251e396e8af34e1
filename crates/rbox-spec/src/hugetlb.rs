//! `--hugetlb-limit 2MB=64m`: how much memory a container may have in huge pages of one size.

use crate::kind::Kind;
use crate::size::Size;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a limit of huge pages was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // Each message says what its fields are.
pub enum HugetlbError {
    #[error("bad format: {0}: it is PAGESIZE=LIMIT, such as 2MB=64m, or -1 for no limit")]
    Syntax(String),
    #[error("huge pages of {0} are not available on this host: {1}")]
    Unavailable(PageSize, String),
    #[error("a limit of {limit} bytes is no whole number of huge pages of {size}")]
    NotWhole { size: PageSize, limit: u64 },
}

impl HugetlbError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unavailable(..) => Kind::Unsupported,
            Self::Syntax(_) | Self::NotWhole { .. } => Kind::Invalid,
        }
    }
}

/// The size of a huge page in bytes. Displays as the kernel calls it in the names of files: `64KB`, `2MB`, `1GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PageSize(u64);

impl PageSize {
    /// Of so many bytes; none for what can be no page.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes >= 1024 && bytes.is_power_of_two() { Some(Self(bytes)) } else { None }
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 => write!(f, "{}GB", bytes >> 30),
            bytes if bytes >= 1 << 20 => write!(f, "{}MB", bytes >> 20),
            bytes => write!(f, "{}KB", bytes >> 10),
        }
    }
}

impl FromStr for PageSize {
    type Err = HugetlbError;

    fn from_str(text: &str) -> Result<Self, HugetlbError> {
        let bytes = text.parse::<Size>().ok().map(Size::bytes);
        bytes.and_then(Self::new).ok_or_else(|| HugetlbError::Syntax(text.escape_debug().to_string()))
    }
}

impl TryFrom<String> for PageSize {
    type Error = HugetlbError;

    fn try_from(text: String) -> Result<Self, HugetlbError> {
        text.parse()
    }
}

impl From<PageSize> for String {
    fn from(size: PageSize) -> Self {
        size.to_string()
    }
}

/// The limit for one size of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HugetlbLimit {
    /// Of which pages.
    pub page_size: PageSize,
    /// Bytes; -1 is no limit.
    pub limit: i64,
}

impl FromStr for HugetlbLimit {
    type Err = HugetlbError;

    fn from_str(text: &str) -> Result<Self, HugetlbError> {
        let bad = || HugetlbError::Syntax(text.escape_debug().to_string());
        let (size, limit) = text.split_once('=').ok_or_else(bad)?;
        let page_size = size.parse().map_err(|_| bad())?;
        let limit = if limit == "-1" {
            -1
        } else {
            limit.parse::<Size>().ok().and_then(|size| i64::try_from(size.bytes()).ok()).ok_or_else(bad)?
        };
        Ok(Self { page_size, limit })
    }
}

impl HugetlbLimit {
    /// Refuses what cannot hold on a host with pages of the sizes in `available`.
    pub(crate) fn validate(self, available: &[PageSize]) -> Result<(), HugetlbError> {
        let size = self.page_size;
        if !available.contains(&size) {
            let has = match available {
                [] => "it has none (see /sys/kernel/mm/hugepages)".to_owned(),
                some => {
                    format!("it has {}", some.iter().map(PageSize::to_string).collect::<Vec<_>>().join(", "))
                }
            };
            return Err(HugetlbError::Unavailable(size, has));
        }
        // The kernel would round it down without a word.
        match u64::try_from(self.limit) {
            Ok(limit) if limit % size.0 != 0 => Err(HugetlbError::NotWhole { size, limit }),
            _ => Ok(()),
        }
    }

    /// `old` with the limits of `change` in place of those of the same sizes; of several for one size the last one.
    pub fn updated(old: &[Self], change: &[Self]) -> Vec<Self> {
        let mut new: Vec<Self> = Vec::new();
        for limit in old.iter().chain(change) {
            match new.iter_mut().find(|known| known.page_size == limit.page_size) {
                Some(known) => *known = *limit,
                None => new.push(*limit),
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn limit(text: &str) -> HugetlbLimit {
        text.parse().unwrap()
    }

    #[test]
    fn reads_any_unit_and_shows_the_kernels() {
        for (text, shown) in
            [("64k=0", "64KB"), ("2MB=64m", "2MB"), ("2048kB=4194304", "2MB"), ("1g=-1", "1GB")]
        {
            assert_eq!(limit(text).page_size.to_string(), shown, "{text}");
        }
        assert_eq!(limit("2MB=64m").limit, 64 << 20);
        assert_eq!(limit("2m=-1").limit, -1);
        for bad in
            ["", "2MB", "2MB=", "=64m", "3MB=64m", "0=0", "2MB=x", "2MB=-2", "2MB:64m", "2MB=64m=1", "512=0"]
        {
            assert!(bad.parse::<HugetlbLimit>().is_err(), "{bad}");
        }
    }

    #[test]
    fn is_held_against_the_hosts_sizes() {
        let two = PageSize::new(2 << 20).unwrap();
        assert_eq!(limit("2MB=64m").validate(&[two]), Ok(()));
        assert_eq!(limit("2MB=-1").validate(&[two]), Ok(()));
        let other = limit("1GB=1g").validate(&[two]).unwrap_err().to_string();
        assert_eq!(other, "huge pages of 1GB are not available on this host: it has 2MB");
        assert!(limit("2MB=2m").validate(&[]).unwrap_err().to_string().contains("it has none"));
        assert!(limit("2MB=3m").validate(&[two]).unwrap_err().to_string().contains("no whole number"));
    }

    #[test]
    fn the_last_of_a_size_holds() {
        let both = HugetlbLimit::updated(&[limit("2MB=2m"), limit("1GB=0")], &[limit("2MB=8m")]);
        assert_eq!(both, [limit("2MB=8m"), limit("1GB=0")]);
        let json = serde_json::to_string(&both[0]).unwrap();
        assert_eq!(json, r#"{"PageSize":"2MB","Limit":8388608}"#);
        assert_eq!(serde_json::from_str::<HugetlbLimit>(&json).unwrap(), both[0]);
    }
}
