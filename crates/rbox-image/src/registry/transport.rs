//! HTTP: one agent an origin, TLS roots loaded on the first HTTPS request, proxies as Go programs take them.
use std::collections::HashMap;
use std::env;
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{HeaderMap, Request};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, BodyReader, Proxy};

use super::error::RegistryError;
use super::origin::Origin;
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
    agents: Mutex<HashMap<(Origin, Option<PathBuf>), Agent>>,
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
        Self { timeouts, agents: Mutex::default() }
    }

    /// Sends one request. `path` starts with `/`; a body makes it a form.
    pub fn send(
        &self,
        method: &'static str,
        origin: &Origin,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
        ca_file: Option<&Path>,
    ) -> Result<Response, RegistryError> {
        let url = format!("{origin}{path}");
        let agent = self.agent(origin, ca_file, &url)?;
        let mut request = Request::builder().method(method).uri(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let invalid = |error: ureq::http::Error| RegistryError::Protocol {
            url: shown(&url),
            reason: error.to_string(),
        };
        let answer = match body {
            Some(form) => agent.run(request.body(form).map_err(invalid)?),
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
                ureq::Timeout::PerRead => self.timeouts.read,
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

    fn agent(&self, origin: &Origin, ca_file: Option<&Path>, url: &str) -> Result<Agent, RegistryError> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (origin.clone(), ca_file.map(Path::to_owned));
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let problem = |reason: String| RegistryError::Protocol { url: shown(url), reason };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("rbox/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("")
            .proxy(proxy_for(origin).map_err(problem)?)
            .timeout_resolve(Some(self.timeouts.connect))
            .timeout_connect(Some(self.timeouts.connect))
            .timeout_recv_response(Some(self.timeouts.answer))
            .timeout_per_read(Some(self.timeouts.read))
            .timeout_per_write(Some(self.timeouts.read))
            .max_idle_connections_per_host(4);
        if origin.https {
            config = config.tls_config(tls(ca_file).map_err(problem)?);
        }
        let agent = Agent::with_parts(config.build(), DefaultConnector::default(), HostResolver::default());
        agents.insert(key, agent.clone());
        Ok(agent)
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

/// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as Go's net/http reads them; loopback never goes through a proxy.
fn proxy_for(origin: &Origin) -> Result<Option<Proxy>, String> {
    let get = |name: &str| {
        let value = env::var(name).or_else(|_| env::var(name.to_ascii_lowercase()));
        value.ok().filter(|value| !value.is_empty())
    };
    let Some(proxy) = get(if origin.https { "HTTPS_PROXY" } else { "HTTP_PROXY" }) else { return Ok(None) };
    if origin.is_loopback() || get("NO_PROXY").is_some_and(|list| excluded(&list, origin)) {
        return Ok(None);
    }
    // The value may hold a password, so it is not repeated.
    Proxy::new(&proxy).map(Some).map_err(|error| format!("the proxy in the environment: {error}"))
}

/// Whether a `NO_PROXY` list has the origin: `*`, names with their subdomains, addresses, networks, each with an optional port.
fn excluded(list: &str, origin: &Origin) -> bool {
    let host = origin.host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>().ok();
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(
        |entry| {
            if entry == "*" {
                return true;
            }
            if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
                return in_network(network, bits, address);
            }
            let (name, port) = match entry.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port.parse().ok()),
                _ => (entry.as_str(), None),
            };
            if port.is_some_and(|port: u16| port != origin.port) {
                return false;
            }
            let name = name.trim_start_matches('*').trim_start_matches('[').trim_end_matches(']');
            match name.strip_prefix('.') {
                Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')),
                None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
            }
        },
    )
}

fn in_network(network: &str, bits: &str, address: IpAddr) -> bool {
    let as_bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let ((a, width), (b, other)) = (as_bits(network), as_bits(address));
    let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
    width == other && bits <= width && a & mask == b & mask
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        let origin = |text: &str| Origin::split(text).unwrap().0;
        for (list, url, want) in [
            ("*", "http://a.b", true),
            ("b.c", "http://a.b.c", true),
            ("b.c", "http://b.c", true),
            (".b.c", "http://b.c", false),
            (".b.c", "http://a.b.c", true),
            ("b.c", "http://ab.c", false),
            ("x, b.c:81", "http://b.c", false),
            ("x, b.c:80", "http://b.c", true),
            ("10.0.0.0/8", "http://10.2.3.4:5000", true),
            ("10.0.0.0/8", "http://11.2.3.4", false),
            ("0.0.0.0/0", "http://11.2.3.4", true),
            ("::/0", "http://11.2.3.4", false),
        ] {
            assert_eq!(excluded(list, &origin(url)), want, "{list} {url}");
        }
    }
}
