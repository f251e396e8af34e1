//! `idmap` of a bind: whom the files of the host seem to belong to inside, and whom what is made inside belongs to outside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kind::Kind;

/// Ids on disk that are seen as others: as many from `seen` up as from `disk` up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first as it is on disk.
    pub disk: u32,
    /// The first as it is seen through the mount.
    pub seen: u32,
    /// How many.
    pub count: u32,
}

/// What a bind does with ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdMap {
    /// The owner of the source and the user of the container change places; everybody else stays who they are.
    Owner,
    /// As given; of what there is nothing given of, all stay who they are.
    Given {
        /// User ids.
        uids: Vec<IdRange>,
        /// Group ids.
        gids: Vec<IdRange>,
    },
}

/// Ids there are: the last of 32 bits is none.
const ALL: u32 = u32::MAX;
/// As many lines a map of the kernel has (`user_namespaces(7)`).
const MOST: usize = 340;
/// Its text is shorter than this: it is written at once, and the kernel takes less than a page.
const PAGE: usize = 4096;

/// A map as the kernel reads it: what is inside of its user namespace, what is outside, how many.
pub fn as_map(ranges: &[IdRange]) -> String {
    let lines: Vec<String> =
        ranges.iter().map(|range| format!("{} {} {}", range.disk, range.seen, range.count)).collect();
    lines.join("\n")
}

/// A map of another form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid idmap \"{text}\": {why}: expected uids=DISK-INSIDE-COUNT[#…][;gids=DISK-INSIDE-COUNT[#…]]")]
pub struct InvalidIdMap {
    text: String,
    why: &'static str,
}

impl InvalidIdMap {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl IdMap {
    /// The user ids: `owner` is the source's, `user` that of the container.
    pub fn uids(&self, owner: u32, user: u32) -> Vec<IdRange> {
        match self {
            Self::Owner => swapped(owner, user),
            Self::Given { uids, .. } => or_all(uids),
        }
    }

    /// The same of groups.
    pub fn gids(&self, owner: u32, user: u32) -> Vec<IdRange> {
        match self {
            Self::Owner => swapped(owner, user),
            Self::Given { gids, .. } => or_all(gids),
        }
    }
}

fn or_all(given: &[IdRange]) -> Vec<IdRange> {
    if given.is_empty() { vec![IdRange { disk: 0, seen: 0, count: ALL }] } else { given.to_vec() }
}

/// All ids, of which two change places.
fn swapped(one: u32, other: u32) -> Vec<IdRange> {
    let (low, high) = (one.min(other), one.max(other));
    let same = |from: u32, to: u32| IdRange { disk: from, seen: from, count: to.saturating_sub(from) };
    let mut all = vec![same(0, low)];
    if low == high {
        all = vec![same(0, ALL)];
    } else {
        all.push(IdRange { disk: low, seen: high, count: 1 });
        all.push(same(low + 1, high));
        all.push(IdRange { disk: high, seen: low, count: 1 });
        all.push(same(high.saturating_add(1), ALL));
    }
    all.retain(|range| range.count > 0);
    all
}

/// Nothing, `true` and `owner` are [`IdMap::Owner`].
impl FromStr for IdMap {
    type Err = InvalidIdMap;
    fn from_str(text: &str) -> Result<Self, InvalidIdMap> {
        let bad = |why| InvalidIdMap { text: text.chars().take(200).collect(), why };
        if matches!(text, "" | "true" | "owner") {
            return Ok(Self::Owner);
        }
        let (mut uids, mut gids) = (Vec::new(), Vec::new());
        for part in text.split(';') {
            let (to, list) = match part.split_once('=') {
                Some(("uids", list)) => (&mut uids, list),
                Some(("gids", list)) => (&mut gids, list),
                _ => return Err(bad("it has something else than uids and gids")),
            };
            if !to.is_empty() {
                return Err(bad("one is there twice"));
            }
            *to = list.split('#').map(range).collect::<Result<Vec<_>, _>>().map_err(bad)?;
            check(to).map_err(bad)?;
        }
        Ok(Self::Given { uids, gids })
    }
}

fn range(text: &str) -> Result<IdRange, &'static str> {
    let numbers: Option<Vec<u32>> = text
        .split('-')
        .map(|part| part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit())))
        .collect();
    let Some([disk, seen, count]) = numbers.as_deref().and_then(|all| <[u32; 3]>::try_from(all).ok()) else {
        return Err("a range has three numbers");
    };
    let fits = |first: u32| first.checked_add(count).is_some();
    if count == 0 || !fits(disk) || !fits(seen) {
        return Err("a range is empty or goes beyond the last id");
    }
    Ok(IdRange { disk, seen, count })
}

/// The kernel takes no id twice.
pub(crate) fn check(ranges: &[IdRange]) -> Result<(), &'static str> {
    if ranges.len() > MOST {
        return Err("it has more than 340 ranges");
    }
    if as_map(ranges).len() >= PAGE {
        return Err("its ranges take more than the 4095 bytes that the kernel takes of a map");
    }
    for first in [|range: &IdRange| range.disk, |range: &IdRange| range.seen] {
        let mut sorted: Vec<(u32, u32)> = ranges.iter().map(|range| (first(range), range.count)).collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
            return Err("an id is in two ranges");
        }
    }
    Ok(())
}

/// As [`FromStr`] takes it.
impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Given { uids, gids } = self else { return f.write_str("owner") };
        let list = |ranges: &[IdRange]| {
            let all: Vec<String> =
                ranges.iter().map(|r| format!("{}-{}-{}", r.disk, r.seen, r.count)).collect();
            all.join("#")
        };
        let parts = [("uids", uids), ("gids", gids)].into_iter().filter(|(_, ranges)| !ranges.is_empty());
        let parts: Vec<String> = parts.map(|(name, ranges)| format!("{name}={}", list(ranges))).collect();
        f.write_str(&parts.join(";"))
    }
}

impl Serialize for IdMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IdMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(ranges: &[IdRange]) -> Vec<(u32, u32, u32)> {
        ranges.iter().map(|range| (range.disk, range.seen, range.count)).collect()
    }

    #[test]
    fn two_change_places_and_no_id_is_lost() {
        assert_eq!(shown(&swapped(0, 0)), [(0, 0, ALL)]);
        assert_eq!(
            shown(&swapped(1000, 0)),
            [(0, 1000, 1), (1, 1, 999), (1000, 0, 1), (1001, 1001, ALL - 1001)]
        );
        assert_eq!(shown(&swapped(1, 0)), [(0, 1, 1), (1, 0, 1), (2, 2, ALL - 2)]);
        assert_eq!(shown(&swapped(5, ALL - 1)).last(), Some(&(ALL - 1, 5, 1)));
        for (one, other) in [(0, 1000), (7, 7), (33, 5), (ALL - 1, 0)] {
            let ranges = swapped(one, other);
            check(&ranges).unwrap();
            assert_eq!(ranges.iter().map(|range| u64::from(range.count)).sum::<u64>(), u64::from(ALL));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["owner", "uids=0-1000-1", "uids=0-1-10#10-11-10;gids=0-100-10", "gids=5-6-7"] {
            let map: IdMap = text.parse().unwrap();
            assert_eq!(map.to_string(), text);
            let record = serde_json::to_string(&map).unwrap();
            assert_eq!(serde_json::from_str::<IdMap>(&record).unwrap(), map);
        }
        assert_eq!("".parse(), Ok(IdMap::Owner));
        let only: IdMap = "uids=0-1000-1".parse().unwrap();
        assert_eq!(
            (shown(&only.uids(5, 6)), shown(&only.gids(5, 6))),
            (vec![(0, 1000, 1)], vec![(0, 0, ALL)])
        );
    }

    #[test]
    fn what_the_kernel_would_not_take_is_refused() {
        let long = (0..300_u32).map(|n| format!("{0}-{0}-1", n + 10_000)).collect::<Vec<_>>().join("#");
        let why = format!("gids={long}").parse::<IdMap>().unwrap_err().to_string();
        assert!(why.contains("4095 bytes") && why.len() < 600, "{why}");
        let fits = (0..240_u32).map(|n| format!("{0}-{0}-1", n + 10_000)).collect::<Vec<_>>().join("#");
        format!("gids={fits}").parse::<IdMap>().unwrap();
        let many = format!("uids={}", (0..341).map(|n| format!("{n}-{n}-1")).collect::<Vec<_>>().join("#"));
        for bad in [
            "x",
            "uids",
            "uids=",
            "uids=0-1",
            "uids=0-1-2-3",
            "uids=0-1-0",
            "uids=-1-0-1",
            "uids=0-0-4294967296",
            "uids=4294967295-0-1",
            "uids=0-4294967290-10",
            "uids=0-0-10#5-20-1",
            "uids=0-0-10#20-5-1",
            "uids=0-0-1;uids=1-1-1",
            "uids=0-0-1;x=1-1-1",
            "uids=+0-0-1",
            &many,
        ] {
            assert!(bad.parse::<IdMap>().is_err(), "{bad}");
        }
    }
}
