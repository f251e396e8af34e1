//! Proxies as Go programs take them from the environment.
//!
//! HTTPS goes through a tunnel, which ureq asks for with CONNECT. Plain HTTP does not: the proxy is sent the whole URL in the
//! request line (RFC 9112, section 3.2.2), and most proxies refuse CONNECT to any port but 443. ureq has no such mode, so
//! [`ByProxy`] connects to the proxy and writes the request line anew.
use std::env;
use std::fmt::Debug;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Agent, Proxy, ProxyProtocol};

use super::origin::Origin;
use super::resolver::HostResolver;

/// A proxy that is sent whole URLs, and the origin these are of.
#[derive(Debug, Clone)]
pub(super) struct ByProxy {
    proxy: Proxy,
    origin: String,
}

impl ByProxy {
    /// For plain HTTP through a proxy that speaks plain HTTP itself; others tunnel.
    pub(super) fn of(proxy: &Proxy, origin: &Origin) -> Option<Self> {
        let plain = !origin.https && proxy.protocol() == ProxyProtocol::Http;
        plain.then(|| Self { proxy: proxy.clone(), origin: origin.to_string() })
    }

    /// The value for `Proxy-Authorization`, if the proxy's URL has a user.
    pub(super) fn authorization(&self) -> Option<String> {
        let user = self.proxy.username()?;
        let password = self.proxy.password().unwrap_or_default();
        Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    /// An agent that reaches the origin so.
    pub(super) fn agent(&self, config: Config, resolver: HostResolver) -> Agent {
        let connector = TcpConnector::default().chain(self.clone());
        Agent::with_parts(config, connector, ToProxy { proxy: self.proxy.uri().clone(), resolver })
    }
}

/// Gives every name the proxy's address.
#[derive(Debug)]
struct ToProxy {
    proxy: Uri,
    resolver: HostResolver,
}

impl Resolver for ToProxy {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.resolver.resolve(&self.proxy, config, timeout)
    }
}

impl<In: Transport> Connector<In> for ByProxy {
    type Out = WholeUrls<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(|inner| WholeUrls { inner, origin: self.origin.clone() }))
    }
}

/// Writes the origin in front of the path of each request line.
#[derive(Debug)]
pub(super) struct WholeUrls<In> {
    inner: In,
    origin: String,
}

impl<In: Transport> Transport for WholeUrls<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let origin = self.origin.as_bytes();
        let output = self.inner.buffers().output();
        // A body never starts so: the only ones sent are forms.
        let method =
            ["GET /", "HEAD /", "POST /"].into_iter().find(|start| output.starts_with(start.as_bytes()));
        let Some(method) = method else { return self.inner.transmit_output(amount, timeout) };
        let at = method.len() - 1;
        let longer = amount + origin.len();
        if longer > output.len() {
            return Err(ureq::Error::Io(std::io::Error::other("the request is too long for its buffer")));
        }
        output.copy_within(at..amount, at + origin.len());
        if let Some(place) = output.get_mut(at..at + origin.len()) {
            place.copy_from_slice(origin);
        }
        self.inner.transmit_output(longer, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

/// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as Go's net/http reads them; loopback never goes through a proxy.
pub(super) fn of(origin: &Origin) -> Result<Option<Proxy>, String> {
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
