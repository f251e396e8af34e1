//! A call's arguments, as the trace writes them, taken apart.

/// The arguments, apart at the commas that are in no quotes, brackets or paths of descriptors.
pub(crate) fn split(args: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0_usize, false, false);
    for (at, char) in args.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' | '{' | '(' | '<' => depth += 1,
            ']' | '}' | ')' | '>' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(args[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(args[begin..].trim());
    parts
}

/// The bytes that a quoted argument stands for.
pub(crate) fn unquoted(arg: &str) -> Option<Vec<u8>> {
    let text = arg.trim().strip_prefix('"')?.strip_suffix('"')?;
    let (mut bytes, mut chars) = (Vec::new(), text.chars());
    while let Some(char) = chars.next() {
        let meant = match char {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '0' => '\0',
                'u' => {
                    let digits: String = chars.by_ref().skip(1).take_while(|char| *char != '}').collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                'x' => {
                    // A byte that is no text.
                    let digits: String = chars.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(&digits, 16).ok()?);
                    continue;
                }
                other => other,
            },
            other => other,
        };
        bytes.extend(meant.encode_utf8(&mut [0; 4]).bytes());
    }
    Some(bytes)
}

/// A quoted argument that is text.
pub(crate) fn text(arg: &str) -> Option<String> {
    String::from_utf8(unquoted(arg)?).ok()
}

/// The members of `["a", "b"]`.
pub(crate) fn list(arg: &str) -> Option<Vec<Vec<u8>>> {
    let inner = arg.trim().strip_prefix('[')?.strip_suffix(']')?;
    if inner.trim().is_empty() {
        return Some(Vec::new());
    }
    split(inner).into_iter().map(unquoted).collect()
}

/// The number of a descriptor, and the path it stands for: `17</dev>`. None of a path in which characters are written as digits.
pub(crate) fn descriptor(arg: &str) -> Option<(i32, Option<&str>)> {
    match arg.split_once('<') {
        Some((number, path)) => {
            let path = path.strip_suffix('>').filter(|path| !path.contains(['<', '>', '"', '\\']));
            Some((number.parse().ok()?, path))
        }
        None => Some((arg.parse().ok()?, None)),
    }
}

/// The value behind `name=` in `{a=1, name=2}`.
pub(crate) fn field<'a>(arg: &'a str, name: &str) -> Option<&'a str> {
    let inner = arg.trim().strip_prefix('{')?.strip_suffix('}')?;
    split(inner).into_iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_taken_apart() {
        assert_eq!(
            split(r#"19</a, b>, "x, \"y", {flags=A|B, mode=0}, makedev(1, 3)"#),
            ["19</a, b>", r#""x, \"y""#, "{flags=A|B, mode=0}", "makedev(1, 3)"]
        );
        assert_eq!(field("{flags=A|B, cgroup=11</sys/fs/x>}", "cgroup"), Some("11</sys/fs/x>"));
        assert_eq!(descriptor("11</sys/fs/x>"), Some((11, Some("/sys/fs/x"))));
        assert_eq!(descriptor("7"), Some((7, None)));
        assert_eq!(descriptor("AT_FDCWD"), None);
        assert_eq!(descriptor(r#"7</a>, "b>"#), Some((7, None)));
    }

    /// Whatever `Debug` writes is read back.
    #[test]
    fn quotes_are_taken_off() {
        for text in ["", "a b", "\"\\\n\t\0\u{1b}'", "ä\u{202e}"] {
            assert_eq!(unquoted(&format!("{text:?}")).unwrap(), text.as_bytes(), "{text:?}");
        }
        let bytes = std::ffi::CString::new([b'a', 0xff, b'b', 0xfe]).unwrap();
        assert_eq!(unquoted(&format!("{bytes:?}")).unwrap(), bytes.as_bytes());
        let args = [c"one", c"two, three]"];
        assert_eq!(list(&format!("{args:?}")).unwrap(), [&b"one"[..], b"two, three]"]);
        assert_eq!(list("[]").unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!((unquoted("a"), list("3 variables")), (None, None));
    }
}
