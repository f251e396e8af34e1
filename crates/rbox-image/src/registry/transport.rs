//! HTTP: one agent an origin, TLS roots loaded on the first HTTPS request, proxies as Go programs take them.
use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{HeaderMap, Request};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, BodyReader};

use super::error::RegistryError;
use super::origin::Origin;
use super::proxy::{self, ByProxy};
use super::registries::Registries;
use super::resolver::HostResolver;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the head of an answer.
    pub answer: Duration,
    /// For more bytes of a body.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(30),
            read: Duration::from_secs(30),
        }
    }
}

/// Sends requests. Follows no redirect and knows no secret.
#[derive(Debug)]
pub struct Transport {
    timeouts: Timeouts,
    ways: Mutex<HashMap<(Origin, Option<PathBuf>), Way>>,
}

/// How an origin is reached.
#[derive(Debug, Clone)]
struct Way {
    agent: Agent,
    /// The proxy that is sent whole URLs, for plain HTTP.
    by_proxy: Option<ByProxy>,
}

/// An answer.
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, to be read by whoever wants it.
    pub body: BodyReader<'static>,
    /// What was asked for.
    pub url: String,
}

impl Response {
    /// A header field, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All of the body, up to `limit` bytes.
    pub fn bytes(self, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let cut = |received: usize, reason: String| RegistryError::Cut {
            url: self.url.clone(),
            received: received as u64,
            want: 0,
            reason,
        };
        let promised = self.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if promised.is_some_and(|length| length > limit) {
            return Err(RegistryError::Protocol {
                url: self.url,
                reason: format!("the answer is over {limit} bytes long"),
            });
        }
        let mut body = self.body;
        match (&mut body).take(limit + 1).read_to_end(&mut bytes) {
            Err(error) => Err(cut(bytes.len(), error.to_string())),
            Ok(_) if bytes.len() as u64 > limit => Err(RegistryError::Protocol {
                url: self.url,
                reason: format!("the answer is over {limit} bytes long"),
            }),
            Ok(_) => Ok(bytes),
        }
    }
}

impl Transport {
    /// A transport with these timeouts.
    pub fn new(timeouts: Timeouts) -> Self {
        Self { timeouts, ways: Mutex::default() }
    }

    /// Sends one request. `path` starts with `/`. A body may be empty: then its length is said to be 0.
    pub fn send(
        &self,
        method: &'static str,
        origin: &Origin,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        ca_file: Option<&Path>,
    ) -> Result<Response, RegistryError> {
        let url = format!("{origin}{path}");
        let Way { agent, by_proxy } = self.way(origin, ca_file, &url)?;
        let mut request = Request::builder().method(method).uri(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(value) = by_proxy.as_ref().and_then(ByProxy::authorization) {
            request = request.header("proxy-authorization", value);
        }
        let invalid = |error: ureq::http::Error| RegistryError::Protocol {
            url: shown(&url),
            reason: error.to_string(),
        };
        let answer = match body {
            Some(body) => agent.run(request.body(body).map_err(invalid)?),
            None => agent.run(request.body(()).map_err(invalid)?),
        };
        let response = answer.map_err(|error| {
            insecure(method, origin, &url, ca_file, &error)
                .unwrap_or_else(|| self.failure(method, &url, &error))
        })?;
        let (parts, body) = response.into_parts();
        let body = body.into_with_config().limit(u64::MAX).reader();
        Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body, url: shown(&url) })
    }

    fn failure(&self, method: &'static str, url: &str, error: &ureq::Error) -> RegistryError {
        let url = shown(url);
        if let ureq::Error::Timeout(during) = error {
            let wait = match during {
                ureq::Timeout::Connect | ureq::Timeout::Resolve => self.timeouts.connect,
                ureq::Timeout::PerRead | ureq::Timeout::PerWrite => self.timeouts.read,
                _ => self.timeouts.answer,
            };
            return RegistryError::Timeout {
                method,
                url,
                seconds: wait.as_secs(),
                during: during.to_string(),
            };
        }
        let (unreachable, reason) = match error {
            ureq::Error::HostNotFound => (true, "no such host".to_owned()),
            ureq::Error::Io(error) => {
                let nobody = matches!(
                    error.kind(),
                    ErrorKind::NotFound
                        | ErrorKind::ConnectionRefused
                        | ErrorKind::HostUnreachable
                        | ErrorKind::NetworkUnreachable
                );
                (nobody, error.to_string())
            }
            other => (false, other.to_string()),
        };
        RegistryError::Http { method, url, reason, unreachable }
    }

    fn way(&self, origin: &Origin, ca_file: Option<&Path>, url: &str) -> Result<Way, RegistryError> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (origin.clone(), ca_file.map(Path::to_owned));
        if let Some(way) = ways.get(&key) {
            return Ok(way.clone());
        }
        let problem = |reason: String| RegistryError::Protocol { url: shown(url), reason };
        let mut proxy = proxy::of(origin).map_err(problem)?;
        let by_proxy = proxy.as_ref().and_then(|proxy| ByProxy::of(proxy, origin));
        if by_proxy.is_some() {
            proxy = None;
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("rbox/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("")
            .proxy(proxy)
            .timeout_resolve(Some(self.timeouts.connect))
            .timeout_connect(Some(self.timeouts.connect))
            .timeout_recv_response(Some(self.timeouts.answer))
            .timeout_per_read(Some(self.timeouts.read))
            .timeout_per_write(Some(self.timeouts.read))
            .max_idle_connections_per_host(4);
        if origin.https {
            config = config.tls_config(tls(ca_file).map_err(problem)?);
        }
        let (config, resolver) = (config.build(), HostResolver::default());
        let agent = match &by_proxy {
            Some(by_proxy) => by_proxy.agent(config, resolver),
            None => Agent::with_parts(config, DefaultConnector::default(), resolver),
        };
        let way = Way { agent, by_proxy };
        ways.insert(key, way.clone());
        Ok(way)
    }
}

/// A URL for a message: without the query, in which signed URLs carry secrets.
fn shown(url: &str) -> String {
    url.split('?').next().unwrap_or_default().chars().take(300).collect()
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, String> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots: Vec<Certificate<'static>> =
        loaded.certs.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
    if let Some(file) = ca_file {
        let pem = std::fs::read(file).map_err(|error| format!("read CA file {}: {error}", file.display()))?;
        let before = roots.len();
        for item in parse_pem(&pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(format!("CA file {}: {error}", file.display())),
            }
        }
        if roots.len() == before {
            return Err(format!("CA file {} has no certificate in PEM form", file.display()));
        }
    }
    if roots.is_empty() {
        return Err("this host has no CA certificates; install its ca-certificates package".to_owned());
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build())
}

/// What TLS found wrong with the other side, and what to do about it; `None` if TLS is not at fault.
fn insecure(
    method: &'static str,
    origin: &Origin,
    url: &str,
    ca_file: Option<&Path>,
    error: &ureq::Error,
) -> Option<RegistryError> {
    use rustls::{CertificateError as Bad, Error};
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<Error>()?,
        _ => return None,
    };
    let (file, name) = (Registries::file(), origin.authority());
    let told =
        |setting: &str| format!("{{\"registries\": {{{name:?}: {{{setting}}}}}}} in {}", file.display());
    let (reason, advice) = match error {
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            let reason = "the registry's certificate is signed by an unknown authority".to_owned();
            let advice = match ca_file {
                Some(ca) => format!(
                    "neither the system nor {} has the certificate of who signed it: put that there",
                    ca.display()
                ),
                None => {
                    format!("if it is yours, trust who signed it by {}", told("\"ca-file\": \"/FILE.pem\""))
                }
            };
            (reason, advice)
        }
        Error::InvalidCertificate(bad @ (Bad::NotValidForName | Bad::NotValidForNameContext { .. })) => {
            let names = match bad {
                Bad::NotValidForNameContext { presented, .. } => names(presented),
                _ => "other names".to_owned(),
            };
            let reason = format!("the registry's certificate is for {names} and not for {}", origin.host);
            (
                reason,
                "pull by a name that the certificate has, or give the registry one for this name".to_owned(),
            )
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            let advice = "renew it, or set this host's clock if that is wrong";
            ("the registry's certificate has expired".to_owned(), advice.to_owned())
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            let advice = "set this host's clock if that is wrong";
            ("the registry's certificate is not valid yet".to_owned(), advice.to_owned())
        }
        // What `openssl req -x509` makes when nothing else is said; webpki has no kind of its own for it.
        Error::InvalidCertificate(bad @ Bad::Other(_)) if format!("{bad:?}").contains("CaUsedAsEndEntity") => (
            "the registry's certificate says of itself that it is an authority's and not a server's".to_owned(),
            "make it anew with openssl's -addext basicConstraints=critical,CA:FALSE, or sign one by an authority".to_owned(),
        ),
        Error::InvalidCertificate(bad) => (
            format!("the registry's certificate is not valid: {bad}"),
            "the registry needs another".to_owned(),
        ),
        Error::InvalidMessage(_) => (
            "the registry does not speak TLS here".to_owned(),
            format!("if it is one without, say so by {}", told("\"plain-http\": true")),
        ),
        // Alerts and broken handshakes: another attempt may fare better.
        _ => return None,
    };
    Some(RegistryError::Tls { method, url: shown(url), reason, advice })
}

/// A certificate's names, which are the other side's words.
fn names(presented: &[String]) -> String {
    let plain = |name: &String| name.chars().filter(char::is_ascii_graphic).take(80).collect::<String>();
    let shown: Vec<_> = presented.iter().take(4).map(plain).collect();
    if shown.is_empty() { "no name".to_owned() } else { shown.join(", ") }
}
