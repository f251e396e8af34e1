//! Platforms: `os/architecture[/variant]` in the words of Go's GOOS and GOARCH.
//!
//! Source: OCI image specification, `image-index.md` ("platform"), and the fallbacks that containerd's
//! `platforms.Only` applies when an index has no exact match.
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// An operating system, an architecture, and the variant of that architecture if it has any.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7` of `arm`, `v3` of `amd64`; `None` for the common baseline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is an invalid platform: {reason}; write it as os/architecture[/variant], for example linux/arm64"
)]
pub struct PlatformError {
    text: String,
    reason: &'static str,
}

impl PlatformError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

const SYSTEMS: &[&str] = &["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "wasi", "wasip1"];
const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
];

impl Platform {
    /// A platform from its parts, with aliases (`x86_64`, `aarch64`, `armhf`) and baseline variants normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|v| !v.is_empty());
        let (architecture, variant) = normalise(&architecture.to_ascii_lowercase(), variant);
        Self { os, architecture, variant }
    }

    /// The platform this program was built for. 32-bit ARM counts as `v7`.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// The platforms that run where `self` is asked for, the best first.
    ///
    /// Older variants run on newer ones; arm64 also runs 32-bit arm, amd64 also runs 386.
    pub fn compatible(&self) -> Vec<Self> {
        let of = |architecture: &str, variant: Option<&str>| Self::new(&self.os, architecture, variant);
        let mut list = vec![self.clone()];
        let level = |default: u32| match &self.variant {
            Some(v) => {
                v.strip_prefix('v').and_then(|n| n.parse().ok()).filter(|n| *n <= 9).unwrap_or(default)
            }
            None => default,
        };
        match self.architecture.as_str() {
            "amd64" => {
                list.extend((1..level(1)).rev().map(|n| of("amd64", Some(&format!("v{n}")))));
                list.push(of("386", None));
            }
            "arm64" => {
                list.extend((8..level(8)).rev().map(|n| of("arm64", Some(&format!("v{n}")))));
                list.extend((5..=8).rev().map(|n| of("arm", Some(&format!("v{n}")))));
            }
            "arm" => list.extend((5..level(7)).rev().map(|n| of("arm", Some(&format!("v{n}"))))),
            _ => {}
        }
        list
    }

    /// How well `offered` serves where `self` is asked for: 0 is exact, larger is worse, `None` is not at all.
    pub fn rank(&self, offered: &Self) -> Option<usize> {
        let offered = Self::new(&offered.os, &offered.architecture, offered.variant.as_deref());
        self.compatible().iter().position(|p| *p == offered)
    }
}

/// Aliases to Go's names, and the variant every machine of the kind has to `None` (arm: to `v7`).
fn normalise(architecture: &str, variant: Option<String>) -> (String, Option<String>) {
    let (name, variant) = match (architecture, variant.as_deref()) {
        ("x86_64" | "x86-64" | "amd64", Some("v1")) => ("amd64", None),
        ("x86_64" | "x86-64" | "amd64", _) => ("amd64", variant),
        ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", None),
        ("aarch64" | "arm64", Some("8" | "v8" | "v8.0")) => ("arm64", None),
        ("aarch64" | "arm64", _) => ("arm64", variant),
        ("armhf", _) | ("arm", None) => ("arm", Some("v7".to_owned())),
        ("armel", _) => ("arm", Some("v6".to_owned())),
        ("arm", Some(v)) if !v.starts_with('v') => ("arm", Some(format!("v{v}"))),
        ("powerpc64le", _) => ("ppc64le", variant),
        ("loongarch64", _) => ("loong64", variant),
        (other, _) => (other, variant),
    };
    (name.to_owned(), variant)
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refuse = |reason| PlatformError { text: text.chars().take(100).collect(), reason };
        let word = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(refuse("a part is not a word of letters, digits, '_', '.' and '-'"));
        }
        let known_arch = |p: &Self| ARCHITECTURES.contains(&p.architecture.as_str());
        match parts.as_slice() {
            [one] => {
                let host = Self::host();
                let as_arch = Self::new(&host.os, one, None);
                let lower = one.to_ascii_lowercase();
                if SYSTEMS.contains(&lower.as_str()) || lower == "macos" {
                    Ok(Self::new(one, &host.architecture, host.variant.as_deref()))
                } else if known_arch(&as_arch) {
                    Ok(as_arch)
                } else {
                    Err(refuse("it is neither an operating system nor an architecture"))
                }
            }
            [os, arch] => Ok(Self::new(os, arch, None)),
            [os, arch, variant] => Ok(Self::new(os, arch, Some(variant))),
            _ => Err(refuse("it has more than three parts")),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn reads_and_normalises() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/ARM64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("s390x", "linux/s390x"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(read(text).to_string(), want);
        }
        assert_eq!(read("linux"), Platform::host());
        for bad in ["", "/", "linux/", "a/b/c/d", "nonsense", "linux/am d64", "linux/../x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn ranks_variants() {
        let arm64 = read("linux/arm64");
        assert_eq!(arm64.rank(&read("linux/arm64/v8")), Some(0));
        assert!(arm64.rank(&read("linux/arm/v7")) < arm64.rank(&read("linux/arm/v6")));
        assert_eq!(arm64.rank(&read("linux/amd64")), None);
        let v3 = read("linux/amd64/v3");
        assert!(v3.rank(&read("linux/amd64/v2")) < v3.rank(&read("linux/amd64")));
        assert_eq!(read("linux/amd64").rank(&v3), None, "newer instructions are not assumed");
        assert_eq!(read("linux/amd64").rank(&read("windows/amd64")), None);
        assert_eq!(read("linux/arm/v6").rank(&read("linux/arm/v7")), None);
    }
}
