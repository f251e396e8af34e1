//! What the tests of this crate are made with: an image in memory, and a registry that misbehaves as told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::format_push_string)]
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use flate2::write::GzEncoder;
use rbox_spec::Digest;

use crate::hash::sha256;
use crate::media::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};

/// A tar of these files.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend(seed.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An image in memory.
#[derive(Clone)]
pub(crate) struct TestImage {
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) config: Digest,
    pub(crate) layers: Vec<Digest>,
    pub(crate) manifest: Vec<u8>,
}

impl TestImage {
    /// From tars and how to compress each.
    pub(crate) fn new(layers: &[(Vec<u8>, &str)], architecture: &str) -> Self {
        let mut blobs = BTreeMap::new();
        let (mut descriptors, mut diff_ids, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        for (tar, kind) in layers {
            let blob = match *kind {
                "+gzip" => gzip(tar),
                "+zstd" => zstd::encode_all(tar.as_slice(), 1).unwrap(),
                _ => tar.clone(),
            };
            let digest = sha256(&blob);
            diff_ids.push(sha256(tar));
            digests.push(digest);
            descriptors.push(serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.layer.v1.tar{kind}"), "digest": digest, "size": blob.len()}));
            blobs.insert(digest, blob);
        }
        let config = serde_json::to_vec(&serde_json::json!({
            "architecture": architecture, "os": "linux", "created": "2026-01-02T03:04:05Z",
            "config": {"Cmd": ["/bin/true"], "Env": ["A=b"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}))
        .unwrap();
        let config_digest = sha256(&config);
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": config.len()}, "layers": descriptors}))
        .unwrap();
        blobs.insert(config_digest, config);
        Self { blobs, config: config_digest, layers: digests, manifest }
    }

    /// Three layers, one of each compression.
    pub(crate) fn small() -> Self {
        Self::new(
            &[
                (tar_of(&[("bin/true", b"true"), ("etc/x", b"1")]), "+gzip"),
                (tar_of(&[("etc/y", b"22")]), "+zstd"),
                (tar_of(&[("etc/z", b"333")]), ""),
            ],
            host_architecture(),
        )
    }

    pub(crate) fn manifest_digest(&self) -> Digest {
        sha256(&self.manifest)
    }

    /// An index of several images.
    pub(crate) fn index(images: &[(&Self, &str)]) -> Vec<u8> {
        let manifests: Vec<_> = images
            .iter()
            .map(|(image, architecture)| {
                serde_json::json!({"mediaType": OCI_MANIFEST, "digest": image.manifest_digest(),
                    "size": image.manifest.len(), "platform": {"os": "linux", "architecture": architecture}})
            })
            .collect();
        serde_json::to_vec(
            &serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}),
        )
        .unwrap()
    }

    /// Answers as a good registry would, for repository `name` and tag `t`.
    pub(crate) fn serve(&self, request: &Request) -> Reply {
        let Some(rest) = request.path.strip_prefix("/v2/library/app/") else { return Reply::status(404) };
        let manifest = self.manifest_digest();
        if rest == "manifests/t" || rest == format!("manifests/{manifest}") {
            return Reply::ok(&self.manifest)
                .header("content-type", OCI_MANIFEST)
                .header("docker-content-digest", &manifest.to_string());
        }
        let blob = rest
            .strip_prefix("blobs/")
            .and_then(|digest| digest.parse().ok())
            .and_then(|d| self.blobs.get(&d));
        let Some(blob) = blob else { return Reply::status(404) };
        match request
            .header("range")
            .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok())
        {
            Some(from) => Reply { status: 206, ..Reply::ok(&blob[from..]) }
                .header("content-range", &format!("bytes {from}-{}/{}", blob.len() - 1, blob.len())),
            None => Reply::ok(blob),
        }
    }
}

pub(crate) fn host_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// Looked through for secrets.
    #[allow(dead_code)] // By way of Debug.
    pub(crate) body: String,
    pub(crate) raw: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Close the connection after this many bytes of body.
    pub(crate) cut: Option<usize>,
    /// Send nothing more after `cut` bytes, but keep the connection.
    pub(crate) hang: bool,
    /// Close the connection without an answer.
    pub(crate) silent: bool,
    /// Promise another length.
    pub(crate) promise: Option<usize>,
}

impl Reply {
    pub(crate) fn ok(body: &[u8]) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.to_vec(),
            cut: None,
            hang: false,
            silent: false,
            promise: None,
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::ok(b"") }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A registry on a loopback port, which answers as its handler says and remembers what it was asked.
pub(crate) struct FakeRegistry {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeRegistry {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stop): (Arc<Mutex<Vec<Request>>>, _) =
            (Arc::default(), Arc::new(AtomicBool::new(false)));
        let handler: Arc<Handler> = Arc::new(handler);
        let (log, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut workers = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (handler, log, stopped) = (Arc::clone(&handler), Arc::clone(&log), Arc::clone(&stopped));
                workers.push(std::thread::spawn(move || answer(stream.unwrap(), &*handler, &log, &stopped)));
            }
            for worker in workers {
                let _ = worker.join();
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    /// `METHOD path` of each request so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|r| format!("{} {}", r.method, r.path)).collect()
    }

    /// Whether a secret was in any part of any request, base64 included.
    pub(crate) fn saw(&self, secret: &str) -> bool {
        use base64::Engine;
        let all = format!("{:?}", self.requests.lock().unwrap());
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("user:{secret}"));
        all.contains(secret) || all.contains(&encoded)
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>, stop: &AtomicBool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace();
    let (method, path) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request =
        Request { method, path, headers, body: String::from_utf8_lossy(&body).into_owned(), raw: body };
    log.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    if reply.silent {
        return;
    }
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    head.push_str(&format!("content-length: {}\r\n", reply.promise.unwrap_or(reply.body.len())));
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = stream;
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    if request.method != "HEAD" {
        let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        let _ = stream.write_all(&reply.body[..end]);
    }
    while reply.hang && !stop.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a registry has, and the uploads under way.
#[derive(Default, Clone)]
pub(crate) struct Has {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) manifests: BTreeMap<String, Vec<u8>>,
    pub(crate) upload: BTreeMap<String, Vec<u8>>,
    pub(crate) next: usize,
}

impl Has {
    /// Answers as a good registry does, in whatever repository.
    pub(crate) fn serve(&mut self, request: &Request) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let last = path.rsplit('/').next().unwrap().to_owned();
        match request.method.as_str() {
            "HEAD" | "GET" if path.contains("/blobs/sha256:") => match self.blobs.get(&last) {
                Some(blob) => Reply::ok(blob),
                None => Reply::status(404),
            },
            "HEAD" | "GET" if path.contains("/manifests/") => match self.manifests.get(&last) {
                Some(bytes) => Reply::ok(bytes)
                    .header("content-type", OCI_MANIFEST)
                    .header("docker-content-digest", &sha256(bytes).to_string()),
                None => Reply::status(404),
            },
            "POST" => {
                self.next += 1;
                let id = self.next.to_string();
                self.upload.insert(id.clone(), Vec::new());
                Reply::status(202).header("location", &format!("{path}{id}?state=x"))
            }
            "PUT" if path.contains("/manifests/") => {
                self.manifests.insert(last, request.raw.clone());
                self.manifests.insert(sha256(&request.raw).to_string(), request.raw.clone());
                Reply::status(201)
            }
            "PATCH" => {
                let Some(upload) = self.upload.get_mut(&last) else { return Reply::status(404) };
                let start = format!("{}-", upload.len());
                if !request.header("content-range").unwrap().starts_with(&start) {
                    return Reply::status(416);
                }
                upload.extend(&request.raw);
                let range = format!("0-{}", upload.len() - 1);
                Reply::status(202).header("location", &request.path).header("range", &range)
            }
            "GET" => match self.upload.get(&last) {
                Some(upload) => {
                    let range = format!("0-{}", upload.len().max(1) - 1);
                    Reply::status(204).header("location", &request.path).header("range", &range)
                }
                None => Reply::status(404),
            },
            "PUT" => {
                let digest = query.split("digest=").nth(1).unwrap().replace("%3A", ":");
                let Some(upload) = self.upload.remove(&last) else { return Reply::status(404) };
                if sha256(&upload).to_string() != digest {
                    return Reply {
                        status: 400,
                        ..Reply::ok(br#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#)
                    };
                }
                self.blobs.insert(digest.clone(), upload);
                Reply::status(201).header("docker-content-digest", &digest)
            }
            _ => Reply::status(405),
        }
    }
}

pub(crate) type Spoil = dyn Fn(&Request, &mut Has, u32) -> Option<Reply> + Send + Sync;

/// Half of the second piece is kept, and the connection closed.
pub(crate) fn keeps_half_a_piece() -> Box<Spoil> {
    Box::new(|request, has, count| {
        if request.method != "PATCH" || count != 2 {
            return None;
        }
        let half = Request { raw: request.raw[..request.raw.len() / 2].to_vec(), ..request.clone() };
        let _ = has.serve(&half);
        Some(Reply { silent: true, ..Reply::status(202) })
    })
}

/// Uploads are forgotten at the second piece.
pub(crate) fn forgets_uploads() -> Box<Spoil> {
    Box::new(|request, has, count| {
        if request.method == "PATCH" && count == 2 {
            has.upload.clear();
        }
        None
    })
}

/// The first two pieces are refused for now.
pub(crate) fn busy_at_first() -> Box<Spoil> {
    Box::new(|request, _, count| (request.method == "PATCH" && count < 3).then(|| Reply::status(503)))
}

/// A registry that spoils some answers: the number is that of the request among those of its method.
pub(crate) fn spoiled(spoil: Box<Spoil>) -> (FakeRegistry, Arc<Mutex<Has>>) {
    let has = Arc::new(Mutex::new(Has::default()));
    let (inner, counts) = (Arc::clone(&has), Mutex::new(BTreeMap::<String, u32>::new()));
    let registry = FakeRegistry::start(move |request| {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(request.method.clone()).or_default();
        *count += 1;
        let mut has = inner.lock().unwrap();
        spoil(request, &mut has, *count).unwrap_or_else(|| has.serve(request))
    });
    (registry, has)
}
