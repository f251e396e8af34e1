//! Manifests and indexes. The first byte says as what the document was sent; what is accepted is one thing only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbox_image::media::{DOCKER_LIST, DOCKER_MANIFEST, Document, MAX_LAYERS, OCI_INDEX, OCI_MANIFEST};

const TYPES: [&str; 4] = [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST];

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else { return };
    let sent = TYPES[usize::from(choice) % TYPES.len()];
    let Ok(document) = Document::parse(bytes, sent) else { return };
    let again = match &document {
        Document::Manifest(manifest) => {
            assert!(manifest.layers.len() <= MAX_LAYERS);
            assert!(manifest.layers.iter().all(|layer| layer.urls.as_ref().is_none_or(Vec::is_empty)));
            serde_json::to_vec(manifest)
        }
        Document::Index(index) => serde_json::to_vec(index),
    }
    .expect("what was read can be written");
    let again = Document::parse(&again, sent).expect("what was written can be read");
    match (&document, &again) {
        (Document::Manifest(one), Document::Manifest(other)) => assert_eq!(one, other),
        (Document::Index(one), Document::Index(other)) => assert_eq!(one, other),
        _ => panic!("a manifest became an index"),
    }
    // Nobody reads it as the other kind (CVE-2021-41190), and another reader of JSON finds the same fields in it.
    let is_manifest = matches!(document, Document::Manifest(_));
    for other in TYPES {
        if let Ok(read) = Document::parse(bytes, other) {
            assert_eq!(matches!(read, Document::Manifest(_)), is_manifest, "{sent} and {other}");
        }
    }
    // But one that looks at every text of what nobody reads may refuse that.
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    assert_eq!(value["schemaVersion"], 2);
    let has = |name: &str| value.get(name).is_some();
    assert_eq!((has("layers") && has("config"), has("manifests")), (is_manifest, !is_manifest));
});
