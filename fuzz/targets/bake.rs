//! A bake file: HCL, or JSON where it begins with a brace. It comes to an answer, which is a bake file that comes to the same targets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbox_compose::bake::load_text;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let name = if text.starts_with('{') { "docker-bake.json" } else { "docker-bake.hcl" };
    match load_text(name, text) {
        // Not all texts are escaped where they are printed: buildx has it so.
        Ok(printed) if printed.contains("${") || printed.contains("%{") => {}
        Ok(printed) => {
            let again = load_text("docker-bake.json", &printed);
            assert!(again.is_ok(), "{printed}: {again:?}");
        }
        Err(error) => assert!(error.to_string().len() < 40_000, "{error}"),
    }
});
