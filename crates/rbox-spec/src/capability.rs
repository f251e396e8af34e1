//! Capabilities by name and as a set, with Docker's `--cap-add`/`--cap-drop` arithmetic. See capabilities(7).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

use crate::kind::Kind;

/// A name that is no capability, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability: \"{0}\"")]
pub struct UnknownCapability(pub String);

impl UnknownCapability {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

macro_rules! capabilities {
    ($($variant:ident = $number:literal, $name:literal;)*) => {
        /// One capability; the discriminant is the kernel's number (linux/capability.h).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Capability {
            $(#[doc = concat!("`", $name, "`")] $variant = $number,)*
        }

        impl Capability {
            /// Every capability this build knows, in the kernel's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The full name: `CAP_CHOWN`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

capabilities! {
    Chown = 0, "CAP_CHOWN";
    DacOverride = 1, "CAP_DAC_OVERRIDE";
    DacReadSearch = 2, "CAP_DAC_READ_SEARCH";
    Fowner = 3, "CAP_FOWNER";
    Fsetid = 4, "CAP_FSETID";
    Kill = 5, "CAP_KILL";
    Setgid = 6, "CAP_SETGID";
    Setuid = 7, "CAP_SETUID";
    Setpcap = 8, "CAP_SETPCAP";
    LinuxImmutable = 9, "CAP_LINUX_IMMUTABLE";
    NetBindService = 10, "CAP_NET_BIND_SERVICE";
    NetBroadcast = 11, "CAP_NET_BROADCAST";
    NetAdmin = 12, "CAP_NET_ADMIN";
    NetRaw = 13, "CAP_NET_RAW";
    IpcLock = 14, "CAP_IPC_LOCK";
    IpcOwner = 15, "CAP_IPC_OWNER";
    SysModule = 16, "CAP_SYS_MODULE";
    SysRawio = 17, "CAP_SYS_RAWIO";
    SysChroot = 18, "CAP_SYS_CHROOT";
    SysPtrace = 19, "CAP_SYS_PTRACE";
    SysPacct = 20, "CAP_SYS_PACCT";
    SysAdmin = 21, "CAP_SYS_ADMIN";
    SysBoot = 22, "CAP_SYS_BOOT";
    SysNice = 23, "CAP_SYS_NICE";
    SysResource = 24, "CAP_SYS_RESOURCE";
    SysTime = 25, "CAP_SYS_TIME";
    SysTtyConfig = 26, "CAP_SYS_TTY_CONFIG";
    Mknod = 27, "CAP_MKNOD";
    Lease = 28, "CAP_LEASE";
    AuditWrite = 29, "CAP_AUDIT_WRITE";
    AuditControl = 30, "CAP_AUDIT_CONTROL";
    Setfcap = 31, "CAP_SETFCAP";
    MacOverride = 32, "CAP_MAC_OVERRIDE";
    MacAdmin = 33, "CAP_MAC_ADMIN";
    Syslog = 34, "CAP_SYSLOG";
    WakeAlarm = 35, "CAP_WAKE_ALARM";
    BlockSuspend = 36, "CAP_BLOCK_SUSPEND";
    AuditRead = 37, "CAP_AUDIT_READ";
    Perfmon = 38, "CAP_PERFMON";
    Bpf = 39, "CAP_BPF";
    CheckpointRestore = 40, "CAP_CHECKPOINT_RESTORE";
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// In any case, with or without the `CAP_` prefix. The error names it the way Docker does, normalised.
    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        Self::ALL.iter().copied().find(|cap| cap.name() == full).ok_or(UnknownCapability(full))
    }
}

/// A set of capabilities as the kernel's bit mask.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// All that this build knows.
    pub const ALL: Self = Self::of(Capability::ALL);

    /// The set of these.
    pub const fn of(caps: &[Capability]) -> Self {
        let mut bits = 0u64;
        let mut at = 0;
        while at < caps.len() {
            bits |= 1 << caps[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// The set of a kernel mask, as in `CapBnd:` of /proc/PID/status; bits without a name are left out.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The kernel's mask.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether `cap` is in it.
    pub const fn contains(self, cap: Capability) -> bool {
        self.0 & (1 << cap as u8) != 0
    }

    /// This and `cap`.
    #[must_use]
    pub const fn with(self, cap: Capability) -> Self {
        Self(self.0 | 1 << cap as u8)
    }

    /// This without `cap`.
    #[must_use]
    pub const fn without(self, cap: Capability) -> Self {
        Self(self.0 & !(1 << cap as u8))
    }

    /// In either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// In both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// In this and not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it holds nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members in the kernel's order.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.iter().copied().filter(move |cap| self.contains(*cap))
    }

    /// The set after `--cap-add` and `--cap-drop`, as Docker computes it from `self`, the defaults:
    /// `--cap-add ALL` is everything but what is dropped by name; else `--cap-drop ALL` leaves what is added;
    /// else the dropped go first and the added come after, so that what is in both stays.
    pub fn tweak(self, add: &[String], drop: &[String]) -> Result<Self, UnknownCapability> {
        // The order of the two checks is Docker's: of two unknown names the dropped one is reported.
        let (dropped, drop_all) = named(drop)?;
        let (added, add_all) = named(add)?;
        Ok(match (add_all, drop_all) {
            (true, _) => Self::ALL.difference(dropped),
            (false, true) => added,
            (false, false) => self.difference(dropped).union(added),
        })
    }
}

fn named(names: &[String]) -> Result<(CapSet, bool), UnknownCapability> {
    let mut set = CapSet::EMPTY;
    let mut all = false;
    for name in names {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
        } else {
            set = set.with(name.parse()?);
        }
    }
    Ok((set, all))
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<Capability> for CapSet {
    fn from_iter<I: IntoIterator<Item = Capability>>(iter: I) -> Self {
        iter.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl Serialize for CapSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Capability::name))
    }
}

impl<'de> Deserialize<'de> for CapSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|name| name.parse::<Capability>().map_err(serde::de::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_parse_with_and_without_the_prefix() {
        assert_eq!("net_raw".parse(), Ok(Capability::NetRaw));
        assert_eq!("CAP_NET_RAW".parse(), Ok(Capability::NetRaw));
        let error = "net_rawr".parse::<Capability>().unwrap_err();
        assert_eq!(error.to_string(), "unknown capability: \"CAP_NET_RAWR\"");
        for (number, cap) in Capability::ALL.iter().enumerate() {
            assert_eq!(*cap as usize, number);
        }
    }

    #[test]
    fn tweaks_as_docker_does() {
        let base = CapSet::of(&[Capability::Chown, Capability::Kill]);
        let tweak = |add: &[&str], drop: &[&str]| base.tweak(&strings(add), &strings(drop)).unwrap();
        assert_eq!(tweak(&[], &[]), base);
        assert_eq!(tweak(&["ALL"], &["KILL"]), CapSet::ALL.without(Capability::Kill));
        assert_eq!(tweak(&["kill"], &["all"]), CapSet::of(&[Capability::Kill]));
        assert_eq!(tweak(&["ALL"], &["ALL"]), CapSet::ALL);
        assert_eq!(tweak(&["CHOWN"], &["CHOWN"]), base);
        assert_eq!(tweak(&[], &["CHOWN"]), CapSet::of(&[Capability::Kill]));
        assert!(base.tweak(&strings(&["x"]), &[]).is_err());
    }

    #[test]
    fn a_set_survives_json() {
        let set = CapSet::of(&[Capability::Bpf, Capability::Chown]);
        let json = serde_json::to_string(&set).unwrap();
        assert_eq!(json, r#"["CAP_CHOWN","CAP_BPF"]"#);
        assert_eq!(serde_json::from_str::<CapSet>(&json).unwrap(), set);
        assert_eq!(CapSet::from_bits(u64::MAX), CapSet::ALL);
    }
}
