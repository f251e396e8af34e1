//! Copies between registries that cut, forget and lie.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use rbox_spec::Reference;

use super::*;
use crate::registry::Registries;
use crate::testing::{
    FakeRegistry, Has, Reply, Request, Spoil, TestImage, host_architecture, noise, spoiled, tar_of,
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
    let result = remote.copy(&found, &name(&target));
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
    // Nothing is sent twice: each piece is read anew from where it begins.
    assert!(copied.sent < 21 << 20, "{} bytes were sent", copied.sent);
    let parts = [None, Some("bytes=8388608-".to_owned()), Some("bytes=16777216-".to_owned())];
    assert_eq!(copied.asked, parts);
    assert!(copied.said.iter().all(|line| line.contains("trying again in")), "{:?}", copied.said);
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
        (
            "half a piece is kept, and the connection closed",
            Box::new(|request, has, count| {
                if request.method != "PATCH" || count != 2 {
                    return None;
                }
                let half = Request { raw: request.raw[..request.raw.len() / 2].to_vec(), ..request.clone() };
                let _ = has.serve(&half);
                Some(Reply { silent: true, ..Reply::status(202) })
            }),
            false,
        ),
        ("503", Box::new(|r, _, n| (r.method == "PATCH" && n < 3).then(|| Reply::status(503))), true),
        (
            "the upload is forgotten",
            Box::new(|r, has, n| {
                if r.method == "PATCH" && n == 2 {
                    has.upload.clear();
                }
                None
            }),
            true,
        ),
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
    let short = |_: &Request, mut reply: Reply, _| {
        reply.body.truncate(reply.body.len().min(1 << 20));
        reply
    };
    let copied = copy(Box::new(short), good());
    let error = copied.result.unwrap_err();
    assert!(error.to_string().contains("it ended after 1048576 of 209"), "{error}");
    assert_eq!(copied.asked.len(), 5);
    assert!(copied.has.lock().unwrap().blobs.is_empty());
}
