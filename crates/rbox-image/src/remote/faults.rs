//! Copies between registries that cut, forget and lie.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rbox_spec::Reference;

use super::copying::{Brought, MOST_PARTS, Part};
use super::tools::ImageTools;
use super::*;
use crate::hash::sha256;
use crate::media::{OCI_INDEX, OCI_MANIFEST};
use crate::registry::Registries;
use crate::testing::{
    FakeRegistry, Has, Reply, Request, Spoil, TestImage, busy_at_first, forgets_uploads, host_architecture,
    keeps_half_a_piece, noise, spoiled, tar_of,
};

/// What the source makes of its answer to each request for the large layer, which are counted.
type Bend = dyn Fn(&Request, Reply, u32) -> Reply + Send + Sync;

struct Copied {
    result: Result<(), RemoteError>,
    has: Arc<Mutex<Has>>,
    image: TestImage,
    /// Bytes that the target was sent.
    sent: usize,
    /// The parts of the large layer that the source was asked for.
    asked: Vec<Option<String>>,
    said: Vec<String>,
}

fn copy(bend: Box<Bend>, spoil: Box<Spoil>) -> Copied {
    let big = noise(20 << 20, 3);
    let image = TestImage::new(&[(tar_of(&[("big", &big)]), "")], host_architecture());
    let (served, large) = (image.clone(), image.layers[0].to_string());
    let count = AtomicU32::new(0);
    let source = FakeRegistry::start(move |request| {
        let reply = served.serve(request);
        if request.path.ends_with(&large) {
            return bend(request, reply, count.fetch_add(1, Ordering::Relaxed) + 1);
        }
        reply
    });
    let (target, has) = spoiled(spoil);
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let lines = Arc::clone(&said);
    let say: Say = Arc::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()));
    let remote = Remote::new(Registries::default(), say);
    let name =
        |registry: &FakeRegistry| format!("{}/library/app:t", registry.name()).parse::<Reference>().unwrap();
    let found = remote.fetch(&name(&source)).unwrap();
    let result = remote.copy(&found, &name(&target), &mut Brought::default());
    let sent = target.requests.lock().unwrap().iter().map(|request| request.raw.len()).sum();
    let of_large = |request: &&Request| request.path.ends_with(&image.layers[0].to_string());
    let asked = source.requests.lock().unwrap();
    let asked = asked.iter().filter(of_large).map(|one| one.header("range").map(str::to_owned)).collect();
    let said = said.lock().unwrap().clone();
    Copied { result, has, image, sent, asked, said }
}

impl Copied {
    fn is_whole(&self, case: &str) {
        self.result.as_ref().unwrap_or_else(|error| panic!("{case}: {error}: {:?}", self.said));
        let has = self.has.lock().unwrap();
        for (digest, bytes) in &self.image.blobs {
            let of_manifest = has.manifests.get(&digest.to_string());
            assert_eq!(has.blobs.get(&digest.to_string()).or(of_manifest), Some(bytes), "{case}: {digest}");
        }
    }
}

fn good() -> Box<Spoil> {
    Box::new(|_, _, _| None)
}

#[test]
fn a_source_that_is_cut_off_is_read_on() {
    let cut = |mut reply: Reply| {
        reply.cut = Some(9 << 20);
        reply
    };
    let copied = copy(Box::new(move |_, reply, _| cut(reply)), good());
    copied.is_whole("cut");
    // Nothing is sent twice, and nothing read twice.
    assert!(copied.sent < 21 << 20, "{} bytes were sent", copied.sent);
    let parts = [None, Some("bytes=9437184-".to_owned()), Some("bytes=18874368-".to_owned())];
    assert_eq!(copied.asked, parts);
    assert!(copied.said.iter().all(|line| line.contains("trying again in")), "{:?}", copied.said);
    // Also where no answer is as long as a piece.
    let small = |_: &Request, mut reply: Reply, _| {
        reply.cut = Some(3 << 20);
        reply
    };
    let copied = copy(Box::new(small), good());
    copied.is_whole("cut within each piece");
    assert!(copied.sent < 21 << 20 && copied.asked.len() == 7, "{} {:?}", copied.sent, copied.asked);
    // One that cannot send a part sends all of it again.
    let deaf = move |request: &Request, reply: Reply, count| match (request.header("range"), count) {
        (Some(_), _) => Reply::status(416),
        (None, 1) => cut(reply),
        (None, _) => reply,
    };
    let copied = copy(Box::new(deaf), good());
    copied.is_whole("no parts");
    assert!(copied.sent < 21 << 20, "{} bytes were sent", copied.sent);
}

#[test]
fn a_target_that_cuts_or_forgets_gets_the_rest() {
    let cases: [(&str, Box<Spoil>, bool); 3] = [
        ("half a piece is kept, and the connection closed", keeps_half_a_piece(), false),
        ("503", busy_at_first(), true),
        ("the upload is forgotten", forgets_uploads(), true),
    ];
    for (case, spoil, again) in cases {
        let copied = copy(Box::new(|_, reply, _| reply), spoil);
        copied.is_whole(case);
        let most = (if again { 38 } else { 30 }) << 20;
        assert!(copied.sent < most, "{case}: {} bytes were sent", copied.sent);
    }
}

#[test]
fn a_source_that_lies_is_refused() {
    let other = |_: &Request, mut reply: Reply, _| {
        reply.body[12345] ^= 1;
        reply
    };
    let copied = copy(Box::new(other), good());
    let error = copied.result.unwrap_err().to_string();
    assert!(error.starts_with("the registry sent content with digest sha256:"), "{error}");
    assert!(copied.has.lock().unwrap().blobs.is_empty());
    // It says that the layer ends before it does, each time.
    let short = |request: &Request, mut reply: Reply, _| {
        let most = if request.header("range").is_some() { 0 } else { 1 << 20 };
        reply.body.truncate(most);
        reply
    };
    let copied = copy(Box::new(short), good());
    let error = copied.result.unwrap_err();
    assert!(error.to_string().contains("it ended after 1048576 of 209"), "{error}");
    assert_eq!(copied.asked.len(), 5);
    assert!(copied.has.lock().unwrap().blobs.is_empty());
}

/// An index whose entries are these documents, each so many times.
fn index_of(entries: &[(&[u8], &str)], times: usize) -> Vec<u8> {
    let one = |(bytes, media_type): &(&[u8], &str)| serde_json::json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() });
    let all: Vec<_> = entries.iter().map(one).collect();
    let all: Vec<_> = std::iter::repeat_n(all, times).flatten().collect();
    serde_json::to_vec(&serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": all }))
        .unwrap()
}

/// Puts an image together of the last of these documents, which the source has beside the image, and pushes it.
fn put_together(
    image: &TestImage,
    documents: &[Vec<u8>],
) -> (Result<(), RemoteError>, usize, Arc<Mutex<Has>>) {
    let (served, all) = (image.clone(), documents.to_vec());
    let source = FakeRegistry::start(move |request| {
        let last = request.path.rsplit('/').next().unwrap();
        let found = all.iter().find(|bytes| sha256(bytes).to_string() == last);
        match found.or_else(|| all.last().filter(|_| last == "top")) {
            Some(bytes) => {
                let kind =
                    if bytes.windows(9).any(|part| part == b"manifests") { OCI_INDEX } else { OCI_MANIFEST };
                Reply::ok(bytes).header("content-type", kind)
            }
            None => served.serve(request),
        }
    });
    let (target, has) = spoiled(good());
    let remote = Remote::new(Registries::default(), Arc::new(|_: &str| {}));
    let name = |registry: &FakeRegistry, tag: &str| {
        format!("{}/library/app:{tag}", registry.name()).parse::<Reference>().unwrap()
    };
    let tags = [name(&target, "new")];
    let sources = [Source::Name(name(&source, "top"))];
    let result = ImageTools::default()
        .combine(&remote, &sources, &tags)
        .and_then(|combined| ImageTools::push(&remote, &combined, &tags, &mut |_, _| {}));
    let asked = source.requests.lock().unwrap().len();
    (result, asked, has)
}

#[test]
fn whatever_is_named_many_times_is_brought_once() {
    let image = TestImage::small();
    let mut documents = vec![index_of(&[(&image.manifest, OCI_MANIFEST)], 5_000)];
    for _ in 0..3 {
        let inner = documents.last().unwrap().clone();
        documents.push(index_of(&[(&inner, OCI_INDEX)], 5_000));
    }
    let (result, asked, has) = put_together(&image, &documents);
    result.unwrap();
    // Four indexes, one manifest, its configuration and three layers.
    assert!(asked <= 10, "{asked} requests");
    let has = has.lock().unwrap();
    assert!(image.blobs.keys().all(|digest| has.blobs.contains_key(&digest.to_string())));
    assert_eq!(has.manifests.get("new"), documents.last());
}

#[test]
fn more_than_any_image_has_is_refused() {
    let image = TestImage::small();
    let too_many = index_of(&[(&image.manifest, OCI_MANIFEST)], MOST_PARTS + 1);
    let mut brought = Brought::default();
    for number in 0..MOST_PARTS {
        assert!(brought.note(Part::Blob, &sha256(&number.to_le_bytes())).unwrap());
    }
    assert!(!brought.note(Part::Blob, &sha256(&0_usize.to_le_bytes())).unwrap());
    let error = brought.note(Part::Blob, &sha256(b"more")).unwrap_err().to_string();
    assert!(error.starts_with("it names more than 10000 documents and layers"), "{error}");
    let mut deep = vec![index_of(&[(&image.manifest, OCI_MANIFEST)], 1)];
    for _ in 0..5 {
        let inner = deep.last().unwrap().clone();
        deep.push(index_of(&[(&inner, OCI_INDEX)], 1));
    }
    for (documents, said) in [
        (vec![too_many], "the sources name 10001 images, and at most 10000 are put together"),
        (deep, "indexes are nested too deeply"),
    ] {
        let (result, _, has) = put_together(&image, &documents);
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(said), "{said}: {error}");
        assert!(!has.lock().unwrap().manifests.contains_key("new"), "{said}");
    }
}

/// Reads the large layer of an image from a source that answers so. What came, and the parts that were asked for.
fn streamed(bend: Box<Bend>) -> (std::io::Result<Vec<u8>>, Vec<u8>, Vec<Option<String>>) {
    let big = noise(2 << 20, 3);
    let image = TestImage::new(&[(tar_of(&[("big", &big)]), "")], host_architecture());
    let (served, large) = (image.clone(), image.layers[0]);
    let count = AtomicU32::new(0);
    let source = FakeRegistry::start(move |request| {
        let reply = served.serve(request);
        if request.path.ends_with(&large.to_string()) {
            return bend(request, reply, count.fetch_add(1, Ordering::Relaxed) + 1);
        }
        reply
    });
    let remote = Remote::new(Registries::default(), Arc::new(|_: &str| {}));
    let name: Reference = format!("{}/library/app:t", source.name()).parse().unwrap();
    let whole = image.blobs[&large].clone();
    let blob = crate::media::Descriptor::new("", large, whole.len() as u64);
    let mut bytes = Vec::new();
    let read = std::io::Read::read_to_end(&mut remote.blob_stream(&name, &blob), &mut bytes);
    let asked = source.requests.lock().unwrap();
    let asked = asked.iter().filter(|one| one.path.ends_with(&large.to_string()));
    let asked = asked.map(|one| one.header("range").map(str::to_owned)).collect();
    (read.map(|_| bytes), whole, asked)
}

#[test]
fn a_blob_that_is_cut_off_is_read_on() {
    let cut = |mut reply: Reply| {
        reply.cut = Some(1 << 20);
        reply
    };
    let (read, whole, asked) =
        streamed(Box::new(move |_, reply, count| if count == 1 { cut(reply) } else { reply }));
    assert!(read.unwrap() == whole);
    assert_eq!(asked, [None, Some("bytes=1048576-".to_owned())]);
    // From the start where no part is to be had.
    let deaf = move |request: &Request, reply: Reply, count| match (request.header("range"), count) {
        (Some(_), _) => Reply::status(416),
        (None, 1) => cut(reply),
        (None, _) => reply,
    };
    assert!(streamed(Box::new(deaf)).0.unwrap() == whole);
    // No more than was promised, and an error where there is less.
    let longer = |_: &Request, mut reply: Reply, _| {
        reply.body.extend_from_slice(b"more");
        reply
    };
    assert!(streamed(Box::new(longer)).0.unwrap() == whole);
    let short = |request: &Request, mut reply: Reply, _| {
        let most = if request.header("range").is_some() { 0 } else { 1 << 20 };
        reply.body.truncate(most);
        reply
    };
    let (read, _, asked) = streamed(Box::new(short));
    let error = read.unwrap_err().to_string();
    assert!(error.contains("it ended after 1048576 of "), "{error}");
    assert_eq!(asked.len(), 5);
    let (read, ..) = streamed(Box::new(|_, _, _| Reply::status(404)));
    read.unwrap_err();
}
