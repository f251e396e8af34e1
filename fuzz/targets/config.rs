//! The configuration of an image: what is accepted is written as it is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbox_image::ImageConfig;

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = ImageConfig::parse(bytes) else { return };
    let _ = config.platform();
    let written = serde_json::to_vec(&config).expect("what was read can be written");
    let again = ImageConfig::parse(&written).expect("what was written can be read");
    assert_eq!(config, again);
});
