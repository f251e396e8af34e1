//! `(did you mean …?)`: what somebody may have wanted to write.

/// The most letters that may be wrong.
const FARTHEST: usize = 2;

/// The option that is closest to `text`, if one is close and none is the same. Of several, one that begins as the text does.
pub(crate) fn closest<'a>(text: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = text.chars().count();
    let mut best = None;
    for option in options {
        if option == text {
            return None;
        }
        if option.chars().count().abs_diff(length) > FARTHEST {
            continue;
        }
        let distance = strsim::levenshtein(text, option);
        let order = (distance, text.chars().next() != option.chars().next());
        if distance <= FARTHEST && best.is_none_or(|(least, _)| order < least) {
            best = Some((order, option));
        }
    }
    best.map(|(_, option)| option)
}

/// `message`, with a suggestion if there is one.
pub(crate) fn suggest<'a>(message: String, text: &str, options: impl IntoIterator<Item = &'a str>) -> String {
    match closest(text, options) {
        Some(option) => format!("{message} (did you mean {option}?)"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest() {
        for (text, options, want) in [
            ("form", &["from", "run"][..], Some("from")),
            ("RNU", &["ENV", "RUN"], Some("RUN")),
            ("chmd", &["chown", "chmod"], Some("chmod")),
            ("from", &["from", "form"], None),
            ("abc", &["xyz"], None),
            ("", &["ab", "a"], Some("a")),
            ("ab", &[], None),
            ("plat", &["platform"], None),
        ] {
            assert_eq!(closest(text, options.iter().copied()), want, "{text}");
        }
    }
}
