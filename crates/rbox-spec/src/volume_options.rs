//! What `volume create -o` says: the options of Docker's driver `local`.

use std::collections::BTreeMap;

use crate::kind::Kind;
use crate::size::Size;

/// The options that the driver has.
const KNOWN: [&str; 4] = ["type", "o", "device", "size"];
/// Each with what it is nothing without.
const NEEDS: [(&str, &[&str]); 3] =
    [("device", &["type"]), ("o", &["device", "type"]), ("type", &["device"])];

/// Why options were refused: Docker's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidVolumeOption {
    /// One that the driver does not have.
    #[error("invalid option: {0:?}")]
    Unknown(String),
    /// One that another needs.
    #[error("missing required option: {0:?}")]
    Missing(&'static str),
    /// A share with a port.
    #[error("port not allowed in CIFS device URL, include 'port' in 'o='")]
    Port,
    /// A size that is none.
    #[error("invalid size: '{0}'")]
    Size(String),
    /// A size: a limit of the directory, not of a file system.
    #[error(
        "quota size requested but no quota support (a volume of its own size is type=tmpfs, or a file system of a device)"
    )]
    Quota,
}

impl InvalidVolumeOption {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Quota => Kind::Unsupported,
            _ => Kind::Invalid,
        }
    }
}

/// `KEY=VALUE` each, as `-o` takes them: of two with one key the later counts.
pub fn parse_options(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}

/// Refuses what the driver could not mount, whatever the host has.
pub fn check_options(options: &BTreeMap<String, String>) -> Result<(), InvalidVolumeOption> {
    if let Some(unknown) = options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(InvalidVolumeOption::Unknown(unknown.clone()));
    }
    let of = |key: &str| options.get(key).map(String::as_str);
    if of("type") == Some("cifs") && of("device").is_some_and(has_port) {
        return Err(InvalidVolumeOption::Port);
    }
    if let Some(text) = of("size") {
        let size: Size = text.parse().map_err(|_| InvalidVolumeOption::Size(text.to_owned()))?;
        if size.bytes() > 0 {
            return Err(InvalidVolumeOption::Quota);
        }
    }
    let given = NEEDS.iter().filter(|(key, _)| options.contains_key(*key));
    match given.flat_map(|(_, needs)| *needs).find(|needed| !options.contains_key(**needed)) {
        Some(missing) => Err(InvalidVolumeOption::Missing(missing)),
        None => Ok(()),
    }
}

/// Whether `//host:port/share` has one.
fn has_port(device: &str) -> bool {
    let host = device.trim_start_matches('/').split('/').next().unwrap_or_default();
    let port = host.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(texts: &[&str]) -> Result<(), String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        check_options(&parse_options(&texts)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_can_be_mounted_is_taken() {
        for good in [
            &[] as &[&str],
            &["type=tmpfs", "device=tmpfs"],
            &["type=tmpfs", "device=tmpfs", "o=size=100m,uid=1000"],
            &["type=none", "o=bind", "device=/path"],
            &["type=nfs", "o=addr=192.0.2.1,rw,nfsvers=4", "device=:/path"],
            &["type=btrfs", "device=/dev/sda2"],
            &["type=cifs", "device=//host/share", "o=port=44,username=a"],
            &["size=0"],
        ] {
            assert_eq!(checked(good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn refusals_are_dockers() {
        for (bad, why) in [
            (&["foo=bar"] as &[&str], "invalid option: \"foo\""),
            (&["foo"], "invalid option: \"foo\""),
            (&["type=tmpfs"], "missing required option: \"device\""),
            (&["device=/dev/x"], "missing required option: \"type\""),
            (&["o=ro"], "missing required option: \"device\""),
            (&["o=ro", "device=/x"], "missing required option: \"type\""),
            (
                &["type=cifs", "device=//host:44/share"],
                "port not allowed in CIFS device URL, include 'port' in 'o='",
            ),
            (&["size=big"], "invalid size: 'big'"),
        ] {
            assert_eq!(checked(bad), Err(why.to_owned()), "{bad:?}");
        }
        let quota = checked(&["size=10m"]);
        assert!(quota.is_err_and(|why| why.starts_with("quota size requested but no quota support")));
    }
}
