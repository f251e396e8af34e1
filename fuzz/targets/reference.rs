//! Names of images, digests, platforms: what is accepted is written as it is read, and is safe in a path and in a URL.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbox_spec::{Digest, Platform, Reference};

fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        for written in [reference.full(), reference.familiar(), reference.to_string()] {
            assert_eq!(Reference::parse(&written).as_ref(), Ok(&reference), "{written}");
        }
        let tagged = reference.clone().with_default_tag();
        assert_eq!(Reference::parse(&tagged.full()), Ok(tagged));
        let path = reference.path();
        assert!(path.split('/').all(|part| !part.is_empty() && !part.starts_with('.')), "{path}");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
        assert!(path.len() <= 255 && path.chars().all(plain), "{path}");
        let host = reference.domain();
        assert!(!host.is_empty() && !host.contains(['/', '@', '?', '#', '\\', '%']), "{host}");
        assert!(host.chars().all(|c| c.is_ascii_graphic()), "{host}");
        let tag = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(reference.tag().is_none_or(|t| t.len() <= 128 && t.chars().all(tag)));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.to_string(), text);
        assert!(digest.hex().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse(), Ok(platform.clone()));
        assert_eq!(platform.rank(&platform), Some(0));
    }
});
