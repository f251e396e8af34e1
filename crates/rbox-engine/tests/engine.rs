//! The engine as others than the command line use it: requests in, answers out, events on the way. As root.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::sync::{Arc, Mutex};

use rbox_engine::engine::{
    CreateRequest, Engine, Event, ImageRequest, LogEntry, LogQuery, Nobody, Observer, Paths, PullPolicy,
    RemoveRequest, StartOptions, UpdateRequest,
};
use rbox_engine::error::EngineError;
use rbox_engine::listing::filter::{Filters, PRUNE_KEYS};

use rbox_engine::spec::container::{Attachment, NetworkMode};

/// Keeps what it is told.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Observer for Kept {
    fn event(&self, event: Event<'_>) {
        self.0.lock().unwrap().push(match event {
            Event::ImageMissing(reference) => format!("missing {}", reference.familiar()),
            Event::PortsDiscarded { why, .. } => format!("ports {why}"),
            other => format!("{other:?}"),
        });
    }
}

fn request(name: &str) -> CreateRequest {
    let mut request = CreateRequest {
        image: "hello".into(),
        name: Some(name.parse().unwrap()),
        embedded: true,
        ..CreateRequest::default()
    };
    request.host.network = NetworkMode::None;
    request
}

#[test]
fn from_an_image_to_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths { root: dir.path().join("root"), state: dir.path().join("state") };
    paths.prepare().unwrap();
    let kept = Arc::new(Kept::default());
    let engine = Engine::open(paths, kept.clone());

    let wanted = ImageRequest { name: "hello".into(), ..ImageRequest::default() };
    let obtained = engine.obtain_image(&wanted).unwrap();
    assert!(obtained.is_embedded);
    let absent =
        ImageRequest { name: "no.such.host/x".into(), pull: PullPolicy::Never, ..ImageRequest::default() };
    let refused = engine.obtain_image(&absent).unwrap_err();
    assert!(matches!(refused, EngineError::Image(_)), "{refused:?}");

    let first = engine.create(request("first"), &obtained.image).unwrap();
    let mut published = request("second");
    published.host.publish_all = true;
    engine.create(published, &obtained.image).unwrap();
    let taken = engine.create(request("first"), &obtained.image).unwrap_err();
    assert!(matches!(taken, EngineError::NameTaken { .. }), "{taken:?}");
    assert_eq!(*kept.0.lock().unwrap(), ["ports the container has no network"]);

    let names = |engine: &Engine| -> Vec<String> {
        engine.containers().unwrap().iter().map(|one| one.record.name.to_string()).collect()
    };
    assert_eq!(names(&engine), ["second", "first"]);
    assert!(engine.running().unwrap().is_empty());
    let container = engine.container("first").unwrap();
    assert_eq!(container.record.id, first.id);
    let idle = engine.kill(&container, "KILL".parse().unwrap()).unwrap_err();
    assert!(idle.to_string().ends_with("is not running"), "{idle}");

    let idle = engine.pause(&container).unwrap_err();
    assert!(idle.to_string().ends_with("is not running"), "{idle}");

    engine.rename(&container, &"third".parse().unwrap()).unwrap();
    let mut wanted = UpdateRequest::default();
    wanted.limits.memory = Some(64 << 20);
    engine.update(&container, &wanted).unwrap();
    let now = engine.current(&first.id).unwrap();
    assert_eq!((now.record.name.as_str(), now.record.host.resources.memory), ("third", Some(64 << 20)));
    assert_eq!(engine.inspect(&now, None)["HostConfig"]["Memory"], 64 << 20);
    assert_eq!(engine.written(&now.record), 0);
    engine
        .logs(&now, &LogQuery::default(), true, &mut |_: &LogEntry<'_>| panic!("it has written nothing"))
        .unwrap();
    assert!(engine.attach(&now).unwrap().is_none());

    let prefixed = engine.container(&first.id.as_str()[..20]).unwrap();
    engine.remove(&container, RemoveRequest::default()).unwrap();
    assert!(engine.current(&first.id).is_none());
    // It is called as the caller called it when it was there.
    let by_prefix = Attachment::to("bridge");
    for gone in [
        engine.rename(&prefixed, &"fourth".parse().unwrap()),
        engine.update(&prefixed, &wanted),
        engine.connect(&prefixed, by_prefix, Vec::new()),
        engine.disconnect(&prefixed, "bridge"),
        engine.start(&prefixed, StartOptions::default()).map(drop),
        engine.pause(&prefixed),
    ] {
        assert_eq!(gone.unwrap_err().to_string(), format!("No such container: {}", &first.id.as_str()[..20]));
    }
    let pruned = engine.prune_containers(&Filters::parse::<&str>(&[], PRUNE_KEYS).unwrap()).unwrap();
    assert_eq!((pruned.ids.len(), names(&engine).len()), (1, 0));
    let images = engine.watched_by(Arc::new(Nobody)).prune_images(&Filters::default(), true).unwrap();
    assert!(!images.removed.is_empty() && engine.listed_images().unwrap().is_empty());
    engine.reset().unwrap();
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}
