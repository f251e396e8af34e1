//! What a registry answers with: challenges, places to go on at, ranges, waits, tokens, errors. The first byte chooses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbox_image::fuzzing;
use rbox_image::registry::Origin;
use rbox_image::registry::auth::Challenge;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    if choice % 4 == 0 {
        return fuzzing::answers(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match choice % 4 {
        1 => {
            let challenges = Challenge::parse(text);
            let size: usize =
                challenges.iter().flat_map(|c| &c.parameters).map(|(k, v)| k.len() + v.len()).sum();
            // Lower case may take more bytes than upper case, three times at most.
            assert!(challenges.len() <= text.len() && size <= 3 * text.len());
        }
        2 => {
            if let Some((origin, path)) = Origin::split(text) {
                is_sound(&origin, &path);
            }
        }
        _ => fuzzing::redirect(text, &mut |origin, path| {
            is_sound(origin, path);
            assert!(origin.https, "{text:?} leads away from TLS");
        }),
    }
});

/// Nothing in it could end the host's name or the request line early.
fn is_sound(origin: &Origin, path: &str) {
    assert!(!origin.host.is_empty() && !origin.host.contains(['/', '@', '?', '#', ' ', '\\']), "{origin}");
    assert!(path.starts_with('/') && !path.contains('#'));
    let again = Origin::split(&format!("{origin}{path}"));
    assert_eq!(again, Some((origin.clone(), path.to_owned())), "{origin}{path}");
}
