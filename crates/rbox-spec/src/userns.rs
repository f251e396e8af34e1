//! `--userns` and what goes with it: which ids of the host the users of a container are.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::idmap::{self, IdRange};
use crate::kind::Kind;
use crate::user::ResolvedUser;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsernsMode {
    /// No user namespace of its own.
    Host,
    /// Ids that no other container has, out of those that the files of subordinate ids give to `containers`.
    Auto {
        /// How many.
        size: u32,
    },
    /// Each id is the same inside and outside.
    KeepId,
    /// The ids that the files of subordinate ids give to this user, and to this group.
    Remap {
        /// The name in /etc/subuid.
        user: String,
        /// The name in /etc/subgid.
        group: String,
    },
    /// The ids that `--uidmap` and `--gidmap` say, or `--subuidname` and `--subgidname`.
    Private,
}

/// As many ids as `auto` gives when nothing else is said: all that a distribution gives to users and daemons.
const AUTO: u32 = 65_536;
/// An image has more users than fit into less.
const LEAST: u32 = 1024;

/// `--uidmap` and those like it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdFlags {
    /// `--uidmap INSIDE:HOST[:COUNT]`.
    pub uid_map: Vec<String>,
    /// `--gidmap`; that of users when there is none.
    pub gid_map: Vec<String>,
    /// `--subuidname`.
    pub subuid_name: String,
    /// `--subgidname`; the name of the user when there is none.
    pub subgid_name: String,
}

/// The ids that a container has: in each range `disk` is what it is inside, and in the image, and `seen` what it is on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

/// What was asked for in another form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidUserns {
    /// `--userns` with something else.
    #[error("invalid --userns \"{0}\": it takes host, auto[:size=N], keep-id, or remap:USER[:GROUP]")]
    Mode(String),
    /// podman has it for those who run without root.
    #[error(
        "invalid --userns \"nomap\": it is for those who run containers without root, and rbox needs root"
    )]
    NoMap,
    /// podman has these for those who run without root.
    #[error(
        "invalid --userns \"{0}\": uid= and gid= are for those who run containers without root, and rbox needs root; --uidmap and --gidmap say which id is which"
    )]
    KeepIdOptions(String),
    /// A line of a map.
    #[error("invalid {flag} \"{text}\": {why}: expected INSIDE:HOST[:COUNT]")]
    Map {
        /// `--uidmap` or `--gidmap`.
        flag: &'static str,
        /// It, or the whole map.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Flags that exclude each other.
    #[error("{0}")]
    Both(&'static str),
    /// Maps that no flag gave.
    #[error("{of} ids: {why}")]
    Ids {
        /// Of users or groups.
        of: &'static str,
        /// What is wrong.
        why: &'static str,
    },
}

impl InvalidUserns {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl UsernsMode {
    /// Reads what the flags say.
    ///
    /// # Errors
    /// Another form, or two that exclude each other.
    pub fn parse(mode: &str, flags: &IdFlags) -> Result<Self, InvalidUserns> {
        let bad = || InvalidUserns::Mode(mode.chars().take(200).collect());
        let asked = *flags != IdFlags::default();
        if asked && !matches!(mode, "" | "private") {
            return Err(InvalidUserns::Both(
                "--userns cannot be used together with --uidmap, --gidmap, --subuidname and --subgidname",
            ));
        }
        let by_name = !flags.subuid_name.is_empty() || !flags.subgid_name.is_empty();
        if by_name && !(flags.uid_map.is_empty() && flags.gid_map.is_empty()) {
            return Err(InvalidUserns::Both(
                "--subuidname and --subgidname cannot be used together with --uidmap and --gidmap",
            ));
        }
        if by_name {
            let [user, group] = or_other(&flags.subuid_name, &flags.subgid_name);
            return Ok(Self::Remap { user, group });
        }
        let (kind, rest) = mode.split_once(':').map_or((mode, None), |(kind, rest)| (kind, Some(rest)));
        match (kind, rest) {
            ("" | "private", None) if asked => Ok(Self::Private),
            ("" | "host", None) => Ok(Self::Host),
            ("nomap", _) => Err(InvalidUserns::NoMap),
            ("keep-id", None) => Ok(Self::KeepId),
            ("keep-id", Some(_)) => Err(InvalidUserns::KeepIdOptions(mode.chars().take(200).collect())),
            ("auto", None) => Ok(Self::Auto { size: AUTO }),
            ("auto", Some(options)) => {
                let size = options.strip_prefix("size=").and_then(|size| size.parse().ok());
                size.filter(|size| *size >= LEAST).map(|size| Self::Auto { size }).ok_or_else(bad)
            }
            ("remap", Some(names)) => {
                let (user, group) = names.split_once(':').unwrap_or((names, names));
                if user.is_empty() || group.is_empty() {
                    return Err(bad());
                }
                Ok(Self::Remap { user: user.to_owned(), group: group.to_owned() })
            }
            _ => Err(bad()),
        }
    }
}

/// One that is not given is the other.
fn or_other(one: &str, other: &str) -> [String; 2] {
    let pick = |first: &str, second: &str| if first.is_empty() { second } else { first }.to_owned();
    [pick(one, other), pick(other, one)]
}

impl IdFlags {
    /// The maps of `--uidmap` and `--gidmap`.
    ///
    /// # Errors
    /// A map that the kernel would not take, or that has no root.
    pub fn maps(&self) -> Result<IdMaps, InvalidUserns> {
        let (uids, gids) = (ranges("--uidmap", &self.uid_map)?, ranges("--gidmap", &self.gid_map)?);
        Ok(match (uids.is_empty(), gids.is_empty()) {
            (false, true) => IdMaps { gids: uids.clone(), uids },
            (true, false) => IdMaps { uids: gids.clone(), gids },
            _ => IdMaps { uids, gids },
        })
    }
}

fn ranges(flag: &'static str, lines: &[String]) -> Result<Vec<IdRange>, InvalidUserns> {
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    let bad = |text: &str, why| InvalidUserns::Map { flag, text: text.chars().take(200).collect(), why };
    let mut all = Vec::with_capacity(lines.len());
    for line in lines {
        let numbers: Option<Vec<u32>> = line
            .split(':')
            .map(|n| n.parse().ok().filter(|_| n.bytes().all(|b| b.is_ascii_digit())))
            .collect();
        let range = match numbers.as_deref() {
            Some([disk, seen]) => IdRange { disk: *disk, seen: *seen, count: 1 },
            Some([disk, seen, count]) => IdRange { disk: *disk, seen: *seen, count: *count },
            _ => return Err(bad(line, "it has two or three numbers")),
        };
        let fits = |first: u32| first.checked_add(range.count).is_some();
        if range.count == 0 || !fits(range.disk) || !fits(range.seen) {
            return Err(bad(line, "it is empty or goes beyond the last id"));
        }
        all.push(range);
    }
    check(&all).map_err(|why| bad(&lines.join(" "), why))?;
    Ok(all)
}

/// What the kernel takes as a map, and rbox as that of a container.
fn check(ranges: &[IdRange]) -> Result<(), &'static str> {
    idmap::check(ranges)?;
    if translated(ranges, 0).is_none() {
        return Err("the container's root (0) is not in it");
    }
    Ok(())
}

/// What an id inside is on the host.
fn translated(ranges: &[IdRange], inside: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let at = inside.checked_sub(range.disk).filter(|at| *at < range.count)?;
        range.seen.checked_add(at)
    })
}

/// What an id of the host is inside; none when it has none there.
fn back(ranges: &[IdRange], host: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let at = host.checked_sub(range.seen).filter(|at| *at < range.count)?;
        range.disk.checked_add(at)
    })
}

/// As whom the kernel shows who has no id inside.
const NOBODY: u32 = 65_534;

/// A user or a group that a container has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{of} {id} is not among the {count} ids of the container")]
pub struct NotAmong {
    of: &'static str,
    id: u32,
    count: u64,
}

impl NotAmong {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl IdMaps {
    /// Each id is the same inside and outside.
    pub fn same() -> Self {
        let all = vec![IdRange { disk: 0, seen: 0, count: u32::MAX }];
        Self { uids: all.clone(), gids: all }
    }

    /// The user and the group that these are on the host; none for one that the container has not.
    pub fn to_host(&self, (uid, gid): (u32, u32)) -> (Option<u32>, Option<u32>) {
        (translated(&self.uids, uid), translated(&self.gids, gid))
    }

    /// The container's root on the host.
    pub fn root(&self) -> (u32, u32) {
        (translated(&self.uids, 0).unwrap_or(0), translated(&self.gids, 0).unwrap_or(0))
    }

    /// What a user and a group of the host are inside.
    pub fn to_inside(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        (back(&self.uids, uid).unwrap_or(NOBODY), back(&self.gids, gid).unwrap_or(NOBODY))
    }

    /// What a user of the host is inside; none for one that the container has not.
    pub fn user_inside(&self, uid: u32) -> Option<u32> {
        back(&self.uids, uid)
    }

    /// What a user and a group are on the host.
    ///
    /// # Errors
    /// The container has not both.
    pub fn find(&self, (uid, gid): (u32, u32)) -> Result<(u32, u32), NotAmong> {
        let one = |of, ranges: &[IdRange], id| {
            let count = || ranges.iter().map(|range| u64::from(range.count)).sum();
            translated(ranges, id).ok_or_else(|| NotAmong { of, id, count: count() })
        };
        Ok((one("user", &self.uids, uid)?, one("group", &self.gids, gid)?))
    }

    /// Refuses a user who is not one of the container's, or has a group that is not.
    ///
    /// # Errors
    /// The first of them.
    pub fn has_user(&self, user: &ResolvedUser) -> Result<(), NotAmong> {
        let mut groups = user.supplementary.iter().chain([&user.gid]);
        groups.try_for_each(|gid| self.find((user.uid, *gid)).map(drop))
    }

    /// Whether the kernel takes these as maps, and root is among them.
    ///
    /// # Errors
    /// What is wrong with those of the users, or the groups.
    pub fn check(&self) -> Result<(), InvalidUserns> {
        for (of, ranges) in [("user", &self.uids), ("group", &self.gids)] {
            check(ranges).map_err(|why| InvalidUserns::Ids { of, why })?;
        }
        Ok(())
    }

    /// The first id of the host that is a user of both, or a group of both. One that maps all ids is a wall for capabilities only, and
    /// meets nobody.
    pub fn meets(&self, other: &Self) -> Option<u32> {
        meeting(&self.uids, &other.uids).or_else(|| meeting(&self.gids, &other.gids))
    }

    /// Whether a group of the container is one of the host.
    pub fn has_group(&self, gid: u32) -> bool {
        translated(&self.gids, gid).is_some()
    }

    /// The last of the groups from 0 up that the container has without a gap.
    pub fn last_group(&self) -> u32 {
        let mut next = 0_u32;
        while let Some(range) =
            self.gids.iter().find(|range| range.disk <= next && next - range.disk < range.count)
        {
            next = range.disk.saturating_add(range.count);
        }
        next.saturating_sub(1)
    }

    /// The ranges of a mount whose ids are seen as those of the container, as ids of the host; what the container has not, goes.
    pub fn over(&self, [uids, gids]: [Vec<IdRange>; 2]) -> [Vec<IdRange>; 2] {
        [composed(&uids, &self.uids), composed(&gids, &self.gids)]
    }
}

fn meeting(some: &[IdRange], others: &[IdRange]) -> Option<u32> {
    let apart = |range: &&IdRange| !is_all(range);
    some.iter().filter(apart).find_map(|one| {
        let first = |other: &IdRange| {
            let end = |range: &IdRange| range.seen.saturating_add(range.count);
            let from = one.seen.max(other.seen);
            (from < end(one).min(end(other))).then_some(from)
        };
        others.iter().filter(apart).find_map(first)
    })
}

/// Whether a range has all the ids there are, as with `keep-id`.
pub fn is_all(range: &IdRange) -> bool {
    range.count == u32::MAX
}

/// `first` and then `second`.
fn composed(first: &[IdRange], second: &[IdRange]) -> Vec<IdRange> {
    let mut all = Vec::new();
    for one in first {
        for other in second {
            let from = one.seen.max(other.disk);
            let to = one.seen.saturating_add(one.count).min(other.disk.saturating_add(other.count));
            if from < to {
                all.push(IdRange {
                    disk: one.disk + (from - one.seen),
                    seen: other.seen + (from - other.disk),
                    count: to - from,
                });
            }
        }
    }
    all
}

/// What a file of subordinate ids gives to `owner`, by name or by number: `OWNER:FIRST:COUNT` lines (subuid(5)). What has another form is
/// passed over, as shadow does, and so is a line that was there before.
pub fn subordinate(text: &[u8], owner: &str) -> Vec<(u32, u32)> {
    let line = |line: &[u8]| {
        let mut parts = std::str::from_utf8(line).ok()?.trim().split(':');
        let name = parts.next()?;
        let (first, count): (u32, u32) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let count = count.min(u32::MAX - first);
        (name == owner && count > 0).then_some((first, count))
    };
    let mut all = Vec::new();
    for given in text.split(|byte| *byte == b'\n').filter_map(line) {
        if !all.contains(&given) {
            all.push(given);
        }
    }
    all
}

/// These ranges of the host, one after the other from 0 inside. Those that are neighbours become one.
pub fn stacked(given: &[(u32, u32)]) -> Vec<IdRange> {
    let mut disk = 0_u32;
    let mut all: Vec<IdRange> = Vec::new();
    for (first, count) in given {
        let count = (*count).min(u32::MAX - disk);
        if count == 0 {
            continue;
        }
        match all.last_mut().filter(|last| last.seen.checked_add(last.count) == Some(*first)) {
            Some(last) => last.count += count,
            None => all.push(IdRange { disk, seen: *first, count }),
        }
        disk += count;
    }
    all
}

/// The first `size` ids of `given` that are in none of `taken`.
pub fn free(given: &[(u32, u32)], taken: &[IdRange], size: u32) -> Option<IdRange> {
    for (first, count) in given {
        let end = u64::from(*first) + u64::from(*count);
        let mut at = u64::from(*first);
        while at + u64::from(size) <= end {
            let clash = taken.iter().find(|range| {
                let (begin, over) = (u64::from(range.seen), u64::from(range.seen) + u64::from(range.count));
                begin < at + u64::from(size) && at < over
            });
            match clash {
                Some(range) => at = u64::from(range.seen) + u64::from(range.count),
                None => return u32::try_from(at).ok().map(|seen| IdRange { disk: 0, seen, count: size }),
            }
        }
    }
    None
}

impl fmt::Display for IdMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uids {}; gids {}", lines(&self.uids).join(","), lines(&self.gids).join(","))
    }
}

/// A map as `inspect` has it: `INSIDE:HOST:COUNT`.
pub fn lines(ranges: &[IdRange]) -> Vec<String> {
    ranges.iter().map(|range| format!("{}:{}:{}", range.disk, range.seen, range.count)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn flags(uid_map: &[&str], gid_map: &[&str]) -> IdFlags {
        let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        IdFlags { uid_map: own(uid_map), gid_map: own(gid_map), ..IdFlags::default() }
    }

    #[test]
    fn modes() {
        let none = IdFlags::default();
        let parse = |mode: &str| UsernsMode::parse(mode, &none);
        assert_eq!(parse(""), Ok(UsernsMode::Host));
        assert_eq!(parse("host"), Ok(UsernsMode::Host));
        assert_eq!(parse("auto"), Ok(UsernsMode::Auto { size: 65_536 }));
        assert_eq!(parse("auto:size=2000"), Ok(UsernsMode::Auto { size: 2000 }));
        assert_eq!(parse("keep-id"), Ok(UsernsMode::KeepId));
        let remap = |user: &str, group: &str| UsernsMode::Remap { user: user.into(), group: group.into() };
        assert_eq!(parse("remap:dock"), Ok(remap("dock", "dock")));
        assert_eq!(parse("remap:dock:other"), Ok(remap("dock", "other")));
        assert_eq!(parse("nomap"), Err(InvalidUserns::NoMap));
        for bad in [
            "private",
            "x",
            "auto:",
            "auto:size=",
            "auto:size=10",
            "auto:size=-1",
            "remap",
            "remap:",
            "remap::",
            "host:x",
            "keep-id:uid=1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let maps = flags(&["0:1000:10"], &[]);
        assert_eq!(UsernsMode::parse("", &maps), Ok(UsernsMode::Private));
        assert!(UsernsMode::parse("auto", &maps).is_err());
        let named = IdFlags { subgid_name: "dock".into(), ..IdFlags::default() };
        assert_eq!(UsernsMode::parse("", &named), Ok(remap("dock", "dock")));
        assert!(UsernsMode::parse("", &IdFlags { subuid_name: "dock".into(), ..maps }).is_err());
    }

    #[test]
    fn maps_of_flags() {
        let maps = flags(&["0:1000:10", "20:5"], &[]).maps().unwrap();
        assert_eq!(
            (lines(&maps.uids), lines(&maps.gids)),
            (lines(&maps.gids), vec!["0:1000:10".into(), "20:5:1".into()])
        );
        assert_eq!(maps.to_host((3, 20)), (Some(1003), Some(5)));
        assert_eq!(maps.to_host((10, 21)), (None, None));
        assert_eq!(maps.to_inside((1003, 7)), (3, 65_534));
        assert_eq!((maps.root(), maps.last_group()), ((1000, 1000), 9));
        let longest = (0..400).map(|n| format!("{n}:{n}:1")).collect::<Vec<_>>();
        assert!(IdFlags { uid_map: longest, ..IdFlags::default() }.maps().is_err());
        for bad in
            ["1:0:5", "0:0:0", "0:0:-1", "0", "0:1:2:3", "a:0:1", "0:4294967295:2", "0:0:4294967296", ""]
        {
            assert!(flags(&[bad], &[]).maps().is_err(), "{bad}");
        }
        assert!(flags(&["0:0:5", "4:10:1"], &[]).maps().is_err());
    }

    #[test]
    fn subordinate_ids() {
        let text = b"a:100:10\n# f\xfcr b:1:2\ncontainers:1000:20\ncontainers:x:1\ncontainers:5000:30:\ncontainers:1000:20\n\
            containers:4294967290:100\ncontainers:4294967295:5\n";
        assert_eq!(subordinate(text, "containers"), [(1000, 20), (5000, 30), (4_294_967_290, 5)]);
        assert_eq!(lines(&stacked(&[(100, 10), (500, 5)])), ["0:100:10", "10:500:5"]);
        assert_eq!(lines(&stacked(&[(100, 10), (7, 0), (110, 5), (90, 10)])), ["0:100:15", "15:90:10"]);
        assert_eq!(
            lines(&stacked(&[(5, u32::MAX - 5), (0, 5), (7, 2)])),
            ["0:5:4294967290", "4294967290:0:5"]
        );
        let taken = |seen, count| IdRange { disk: 0, seen, count };
        let given = [(100, 20), (1000, 50)];
        assert_eq!(free(&given, &[], 20), Some(taken(100, 20)));
        assert_eq!(free(&given, &[taken(110, 1)], 20), Some(taken(1000, 20)));
        assert_eq!(free(&given, &[taken(0, 105), taken(1010, 5)], 15), Some(taken(105, 15)));
        assert_eq!(free(&given, &[taken(0, 106), taken(1010, 5)], 15), Some(taken(1015, 15)));
        assert_eq!(free(&given, &[taken(0, u32::MAX)], 1), None);
        assert_eq!(free(&given, &[], 51), None);
    }

    #[test]
    fn what_a_container_has_not() {
        let maps = flags(&["0:1000:10"], &["0:1000:10", "50:7:1"]).maps().unwrap();
        let has = |uid, gid, supplementary: &[u32]| {
            let user =
                ResolvedUser { uid, gid, supplementary: supplementary.to_vec(), ..ResolvedUser::default() };
            maps.has_user(&user).map_err(|error| error.to_string())
        };
        assert_eq!(has(9, 50, &[0, 50]), Ok(()));
        assert_eq!(has(33, 0, &[]), Err("user 33 is not among the 10 ids of the container".into()));
        assert_eq!(has(0, 51, &[]), Err("group 51 is not among the 11 ids of the container".into()));
        assert_eq!(has(0, 0, &[5, 10]), Err("group 10 is not among the 11 ids of the container".into()));
        assert_eq!((maps.user_inside(1009), maps.user_inside(999)), (Some(9), None));
    }

    #[test]
    fn maps_of_files() {
        let check = |given: &[(u32, u32)]| {
            let uids = stacked(given);
            IdMaps { gids: uids.clone(), uids }.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(&[(1000, 5), (2000, 5)]), Ok(()));
        assert_eq!(check(&[(1000, 5), (1004, 5)]), Err("user ids: an id is in two ranges".into()));
        assert_eq!(check(&[]), Err("user ids: the container's root (0) is not in it".into()));
        let many: Vec<(u32, u32)> = (0..400).map(|n| (10 * n, 5)).collect();
        assert_eq!(check(&many), Err("user ids: it has more than 340 ranges".into()));
        let row: Vec<(u32, u32)> = (0..400).map(|n| (10 * n, 10)).collect();
        assert_eq!(check(&row), Ok(()));
    }

    #[test]
    fn ids_of_two() {
        let of = |line: &str| flags(&[line], &[]).maps().unwrap();
        assert_eq!(of("0:1000:10").meets(&of("0:1009:5")), Some(1009));
        assert_eq!(of("0:1000:10").meets(&of("0:1010:5")), None);
        assert_eq!(of("0:1000:10").meets(&IdMaps::same()), None);
        let groups = flags(&["0:5000:10"], &["0:1000:10"]).maps().unwrap();
        assert_eq!((of("0:1000:10").meets(&groups), groups.meets(&of("0:0:1001"))), (Some(1000), Some(1000)));
    }

    #[test]
    fn one_map_over_another() {
        let range = |disk, seen, count| IdRange { disk, seen, count };
        let maps = IdMaps { uids: vec![range(0, 1000, 10), range(10, 5000, 10)], gids: vec![range(0, 7, 1)] };
        let [uids, gids] = maps.over([vec![range(100, 5, 10)], vec![range(0, 0, u32::MAX)]]);
        assert_eq!(uids, [range(100, 1005, 5), range(105, 5000, 5)]);
        assert_eq!(gids, [range(0, 7, 1)]);
    }
}
