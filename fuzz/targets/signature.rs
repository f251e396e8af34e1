//! Signatures of images and the keys that check and make them. The first byte chooses: a payload, public keys, a private key, or keys, an
//! annotation and a payload, divided by NUL.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbox_image::fuzzing::signature;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    match choice % 4 {
        0 => {
            let (is_good, digest) = signature::payload(rest);
            // Another reader finds the same in it, unless it refuses it for what is not wanted of it, such as a name that is no UTF-8.
            if let (true, Ok(value)) = (is_good, serde_json::from_slice::<Value>(rest)) {
                let critical = &value["critical"];
                assert_eq!(critical["image"]["docker-manifest-digest"], digest.as_str());
                assert_eq!(critical["type"], "cosign container image signature");
            }
        }
        1 => assert!(signature::public(rest) <= 1 + rest.len() / 40),
        2 => signature::private(rest),
        _ => {
            let mut parts = rest.splitn(3, |byte| *byte == 0);
            let mut part = || parts.next().unwrap_or_default();
            let (keys, text, payload) = (part(), part(), part());
            signature::annotation(keys, &String::from_utf8_lossy(text), payload);
        }
    }
});
