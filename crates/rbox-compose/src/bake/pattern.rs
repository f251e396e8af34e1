//! Patterns of names: `*`, `?` and `[a-z]`.

/// Whether a name is one of a pattern's.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut of) = (0, 0);
    // Where the last star was, and up to where it took the name.
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        let step = one(&pattern, at, name.get(of).copied().unwrap_or_default());
        if pattern.get(at) == Some(&'*') {
            star = Some((at, of));
            at += 1;
        } else if let Some(next) = step {
            at = next;
            of += 1;
        } else if let Some((place, taken)) = star {
            star = Some((place, taken + 1));
            at = place + 1;
            of = taken + 1;
        } else {
            return false;
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|one| *one == '*'))
}

/// What comes after the piece of the pattern that is this letter.
fn one(pattern: &[char], at: usize, letter: char) -> Option<usize> {
    match pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => {
            let is_not = pattern.get(at + 1) == Some(&'^');
            let begin = at + 1 + usize::from(is_not);
            let (mut place, mut is_in) = (begin, false);
            while pattern.get(place).is_some_and(|one| *one != ']' || place == begin) {
                let low = *pattern.get(place)?;
                let high = if pattern.get(place + 1) == Some(&'-') { *pattern.get(place + 2)? } else { low };
                is_in |= (low..=high).contains(&letter);
                place += if pattern.get(place + 1) == Some(&'-') { 3 } else { 1 };
            }
            (pattern.get(place) == Some(&']') && is_in != is_not).then_some(place + 1)
        }
        '\\' => (pattern.get(at + 1) == Some(&letter)).then_some(at + 2),
        own => (*own == letter).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, wanted) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[", "[", false),
            ("[a-", "a", false),
            ("**a*b", "xaxxb", true),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(200), &"a".repeat(5000).replace("aaaa", "aaab")[..150]));
    }
}
