//! `semvercmp`: whether a version is one of those that a constraint allows, in the words of Masterminds' semver.

use std::cmp::Ordering;

use super::super::value::Value;
use super::given::{Entry, Given};

pub(super) const ALL: &[Entry] = &[Entry("semvercmp", 2, 2, false, |given| {
    let (version, constraint) = (Given(given).text(0)?, Given(given).text(1)?);
    let version = Version::parse(&version).filter(|version| version.parts == 3 || !version.is_wild);
    let version = version.ok_or("invalid semantic version")?;
    let mut holds = false;
    for all in constraint.split("||") {
        let mut all_hold = true;
        for one in alternatives(all)? {
            all_hold &= one.holds(&version);
        }
        holds |= all_hold;
    }
    Ok(Value::Bool(holds))
})];

/// Up to three numbers and what comes before a release.
#[derive(Clone, Debug)]
struct Version {
    numbers: [u64; 3],
    /// How many of them were given.
    parts: usize,
    is_wild: bool,
    before: Vec<String>,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches(['v', 'V']);
        let text = text.split('+').next().unwrap_or_default();
        let (numbers, before) = match text.split_once('-') {
            Some((numbers, before)) => (numbers, before.split('.').map(str::to_owned).collect()),
            None => (text, Vec::new()),
        };
        let mut version = Self { numbers: [0; 3], parts: 0, is_wild: false, before };
        if version.before.iter().any(String::is_empty) {
            return None;
        }
        for part in numbers.split('.') {
            if matches!(part, "x" | "X" | "*") {
                version.is_wild = true;
                continue;
            }
            if version.is_wild || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            *version.numbers.get_mut(version.parts)? = part.parse().ok()?;
            version.parts += 1;
        }
        Some(version)
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.before.is_empty(), other.before.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => before(&self.before, &other.before),
            }
        })
    }

    /// The first version that is beyond all that begin with so many of its numbers.
    fn beyond(&self, parts: usize) -> Self {
        let mut next = Self { before: Vec::new(), ..self.clone() };
        for (place, number) in next.numbers.iter_mut().enumerate() {
            match (place + 1).cmp(&parts) {
                Ordering::Less => {}
                Ordering::Equal => *number = number.saturating_add(1),
                Ordering::Greater => *number = 0,
            }
        }
        next
    }
}

fn before(left: &[String], right: &[String]) -> Ordering {
    for (one, other) in left.iter().zip(right) {
        let order = match (one.parse::<u64>(), other.parse::<u64>()) {
            (Ok(one), Ok(other)) => one.cmp(&other),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => one.cmp(other),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

/// An operator and a version.
struct Constraint {
    operator: String,
    version: Version,
}

/// The constraints between two `||`: with commas or spaces between them, and `1 - 2` as two.
fn alternatives(text: &str) -> Result<Vec<Constraint>, String> {
    let refused = || format!("improper constraint: {text}");
    let spaced = text.replace(',', " ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut all = Vec::new();
    let mut place = 0;
    while let Some(word) = words.get(place) {
        place += 1;
        let begin = word.find(|one: char| !"=!<>~^".contains(one)).unwrap_or(word.len());
        let (operator, mut version) = word.split_at(begin);
        if version.is_empty() {
            version = words.get(place).copied().ok_or_else(refused)?;
            place += 1;
        }
        let read = |text: &str| Version::parse(text).ok_or_else(refused);
        if operator.is_empty() && words.get(place) == Some(&"-") {
            let last = words.get(place + 1).copied().ok_or_else(refused)?;
            place += 2;
            all.push(Constraint { operator: ">=".to_owned(), version: read(version)? });
            all.push(Constraint { operator: "<=".to_owned(), version: read(last)? });
            continue;
        }
        if !matches!(operator, "" | "=" | "!=" | ">" | "<" | ">=" | "=>" | "<=" | "=<" | "~" | "~>" | "^") {
            return Err(refused());
        }
        all.push(Constraint { operator: operator.to_owned(), version: read(version)? });
    }
    if all.is_empty() { Err(refused()) } else { Ok(all) }
}

impl Constraint {
    fn holds(&self, version: &Version) -> bool {
        let own = &self.version;
        // What comes before a release is meant only by a constraint that names such a one.
        if !version.before.is_empty() && own.before.is_empty() {
            return false;
        }
        let is_whole = own.parts == 3;
        let within = |parts: usize| {
            version.cmp(own) != Ordering::Less
                && (parts == 0 || version.cmp(&own.beyond(parts)) == Ordering::Less)
        };
        match self.operator.as_str() {
            "" | "=" if is_whole => version.cmp(own) == Ordering::Equal,
            "" | "=" => within(own.parts),
            "!=" if is_whole => version.cmp(own) != Ordering::Equal,
            "!=" => !within(own.parts),
            ">" if is_whole => version.cmp(own) == Ordering::Greater,
            ">" => version.cmp(&own.beyond(own.parts)) != Ordering::Less,
            "<" => version.cmp(own) == Ordering::Less,
            ">=" | "=>" => version.cmp(own) != Ordering::Less,
            "<=" | "=<" if is_whole => version.cmp(own) != Ordering::Greater,
            "<=" | "=<" => own.parts == 0 || version.cmp(&own.beyond(own.parts)) == Ordering::Less,
            "~" | "~>" => within(own.parts.min(2)),
            _ => {
                let first = own.numbers.iter().position(|number| *number > 0);
                within(first.map_or(own.parts, |first| (first + 1).min(own.parts.max(1))))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_those_of_masterminds() {
        let holds =
            |version: &str, constraint: &str| ALL[0].4(&[Value::text(version), Value::text(constraint)]);
        for (version, constraint, wanted) in [
            ("1.2.3", ">=1.2", true),
            ("1.2.3", ">= 1.0, < 2", true),
            ("v1.2.3", "1.2.x", true),
            ("1.3.0", "~1.2.3", false),
            ("1.2.9", "~1.2.3", true),
            ("1.9.0", "^1.2.3", true),
            ("2.0.0", "^1.2.3", false),
            ("0.3.0", "^0.2.3", false),
            ("1.5.0", "1.2 - 1.4.5", false),
            ("3.0.0", "<2 || >=3", true),
            ("1.2.3-beta.1", ">=1", false),
            ("1.2.3-beta.2", ">1.2.3-beta.1", true),
            ("1.2.3", "!=1.2", false),
            ("1.2.3", "*", true),
        ] {
            assert_eq!(holds(version, constraint), Ok(Value::Bool(wanted)), "{version} {constraint}");
        }
        for (version, constraint) in
            [("x", "1"), ("1.2.3", ""), ("1.2.3", ">>1"), ("1.2.3", "1.2.3.4"), ("1", "- 1")]
        {
            assert!(holds(version, constraint).is_err(), "{version} {constraint}");
        }
    }
}
