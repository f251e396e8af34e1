//! Docker's config.json. One line with the registry, then the file. A secret is found for the registry that its key names, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbox_image::fuzzing;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (Some(Ok(registry)), Some(file)) = (parts.next().map(std::str::from_utf8), parts.next()) else {
        return;
    };
    let Some((helper, key)) = fuzzing::credential(file, registry) else { return };
    // A helper is a program's name, and no path.
    assert!(helper.is_none_or(|helper| !helper.contains('/') && !helper.is_empty()));
    if let Some(key) = key {
        let host = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(&key);
        let host = host.split('/').next().unwrap_or_default();
        let hub = |name: &str| name.ends_with("docker.io");
        assert!(host.eq_ignore_ascii_case(registry) || hub(host) && hub(registry), "{key} for {registry}");
    }
});
