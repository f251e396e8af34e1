//! A token server as the distribution specification has it: tokens are JWTs signed by `issuer.key`.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

pub(crate) struct TokenServer {
    pub(crate) port: u16,
    served: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What the server knows.
struct Issuer {
    dir: PathBuf,
    basic: String,
    refresh: String,
}

impl TokenServer {
    /// Serves HTTPS with `localhost.pem`; opens repositories to this password and this refresh token.
    pub(crate) fn start(dir: &Path, password: &str, refresh: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let chain = CertificateDer::pem_file_iter(dir.join("localhost.pem")).unwrap();
        let chain: Vec<_> = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(dir.join("localhost.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let basic = format!("Basic {}", STANDARD.encode(password));
        let issuer = Issuer { dir: dir.to_owned(), basic, refresh: refresh.to_owned() };
        let (served, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, stopped) = (Arc::clone(&served), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let stream = StreamOwned::new(connection, stream.unwrap());
                // A client that hangs up in the middle is not an error of the server's.
                let _ = issuer.answer(stream, &counter);
            }
        });
        Self { port, served, stop, thread: Some(thread) }
    }

    /// How many tokens it gave.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Issuer {
    /// Answers one request and closes the connection. `None` if the client broke it off.
    fn answer(&self, stream: impl Read + Write, served: &AtomicUsize) -> Option<()> {
        let mut stream = BufReader::new(stream);
        let (mut line, mut authorization, mut length) = (String::new(), String::new(), 0);
        stream.read_line(&mut line).ok()?;
        loop {
            let mut field = String::new();
            stream.read_line(&mut field).ok()?;
            let Some((name, value)) = field.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => value.trim().clone_into(&mut authorization),
                "content-length" => length = value.trim().parse().ok()?,
                _ => {}
            }
        }
        let mut form = vec![0; length];
        stream.read_exact(&mut form).ok()?;
        let form = String::from_utf8(form).ok()?;
        let query = if line.starts_with("POST") { form.as_str() } else { line.split(['?', ' ']).nth(2)? };
        let field = |name: &str| {
            query.split('&').find_map(|pair| {
                Some(pair.strip_prefix(name)?.strip_prefix('=')?.replace("%3A", ":").replace("%2F", "/"))
            })
        };
        let refreshed = field("grant_type").as_deref() == Some("refresh_token")
            && field("refresh_token").as_ref() == Some(&self.refresh);
        let opens = refreshed || authorization == self.basic;
        let denied = !opens && !authorization.is_empty();
        let (status, body) = if denied || field("service").as_deref() != Some("s") {
            ("401 Unauthorized", r#"{"errors":[]}"#.to_owned())
        } else {
            let scope = field("scope").unwrap_or_default();
            // Before the client can know of it: it may look at once.
            served.fetch_add(1, Ordering::Relaxed);
            let key = if refreshed { "access_token" } else { "token" };
            ("200 OK", format!(r#"{{"{key}":"{}"}}"#, self.token(&scope, opens)))
        };
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let stream = stream.get_mut();
        stream.write_all((head + &body).as_bytes()).ok()?;
        stream.flush().ok()
    }

    fn token(&self, scope: &str, opens: bool) -> String {
        let certificate = CertificateDer::from_pem_file(self.dir.join("issuer.pem")).unwrap();
        let header =
            serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [STANDARD.encode(&certificate)]});
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut parts = scope.split(':');
        let (kind, name, actions) = (parts.next(), parts.next(), parts.next());
        let access = match (kind, name, actions) {
            (Some(kind), Some(name), Some(actions)) if opens => {
                serde_json::json!([{"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}])
            }
            _ => serde_json::json!([]),
        };
        let claims = serde_json::json!({"iss": "issuer", "sub": "user", "aud": "s", "exp": now + 60, "nbf": now - 60,
            "iat": now, "jti": "1", "access": access});
        let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let content = format!("{}.{}", encode(&header), encode(&claims));
        let mut signer = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(self.dir.join("issuer.key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        signer.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
        let signature = signer.wait_with_output().unwrap().stdout;
        format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
