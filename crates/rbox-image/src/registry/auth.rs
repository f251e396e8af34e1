//! Answering a registry's challenge: basic and bearer tokens.
//!
//! A credential belongs to one registry. It is shown to that registry's own origin, and to the token server the registry
//! names only if that server
//! - is the registry's own origin; or
//! - is reached over HTTPS, as the registry is, and lies in the registry's domain (`auth.docker.io` for
//!   `registry-1.docker.io`, `gitlab.example.com` for `registry.example.com`), or is listed in `token-servers`.
//!
//! Anything else is refused with a line that names both (CVE-2020-15157, CVE-2019-10214). Without a credential there is no
//! secret to lose, and tokens are asked for anonymously, though never from HTTPS down to HTTP. A token is only ever sent
//! to the origin of the registry it was issued for.
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::answer::{explain, redirect, retry_after};
use super::credentials::Credential;
use super::error::RegistryError;
use super::origin::Origin;
use super::registries::Endpoint;
use super::transport::{Response, Transport};

const MAX_TOKEN: u64 = 1 << 20;
const MAX_REDIRECTS: usize = 8;
/// A year, in seconds.
const MAX_EXPIRY: u64 = 365 * 24 * 3600;

/// One challenge of a `WWW-Authenticate` header (RFC 9110, section 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// `basic`, `bearer`, in lower case.
    pub scheme: String,
    /// Its parameters, names in lower case.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Reads a header field, which may hold several.
    pub fn parse(field: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let mut rest = field.trim_start_matches([' ', ',']);
        while !rest.is_empty() {
            let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if let Some(value) = after.strip_prefix('=') {
                let (value, after) = take_value(value);
                if let Some(challenge) = found.last_mut() {
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            } else {
                found.push(Self { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = after;
            }
            let next = rest.trim_start_matches([' ', ',', '\t']);
            // A field that cannot be read on is not read on for ever.
            if next.len() == field.len() {
                break;
            }
            rest = next;
        }
        found
    }
}

/// A token or a quoted string, and what follows.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[derive(Deserialize)]
#[allow(clippy::struct_field_names)] // Token servers name them so.
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    /// Seconds. Not believed where it is no number.
    #[serde(default)]
    expires_in: serde_json::Value,
}

/// What opens a repository.
#[derive(Clone)]
pub struct Authorization {
    /// The value for the `Authorization` field.
    pub value: String,
    /// When it will be no good any more, if that is known.
    pub until: Option<Instant>,
    /// What may be kept in the password's place, where that was asked for and the token server gives such.
    pub refresh: Option<String>,
}

/// Secrets are not printed.
impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorization").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Authorization {
    /// Whether it may still be used.
    pub fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// What answers a challenge needs.
pub struct Login<'a> {
    /// Sends the requests.
    pub transport: &'a Transport,
    /// The registry.
    pub endpoint: &'a Endpoint,
    /// What a token is to be good for: `repository:library/python:pull`.
    pub scopes: &'a [String],
    /// Ask for a refresh token as well, as `rbox login` does.
    pub offline: bool,
    /// What messages call it.
    pub shown: &'a str,
    /// The registry's credential, if there is one.
    pub credential: Option<&'a Credential>,
}

impl Login<'_> {
    /// The value for the `Authorization` field that answers these challenges.
    pub fn answer(&self, challenges: &[Challenge]) -> Result<Authorization, RegistryError> {
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            return self.bearer(bearer);
        }
        if challenges.iter().any(|challenge| challenge.scheme == "basic") {
            return match self.credential {
                Some(Credential::Basic { user, password }) => {
                    Ok(Authorization { value: basic(user, password), until: None, refresh: None })
                }
                Some(Credential::Identity(_)) => {
                    Err(self.fail("it wants a password, and there is only a token".into()))
                }
                None => Err(RegistryError::Denied {
                    repository: self.shown.to_owned(),
                    message: format!("no basic auth credentials for {}", self.endpoint.registry),
                }),
            };
        }
        if challenges.is_empty() {
            return Err(RegistryError::Denied {
                repository: self.shown.to_owned(),
                message: "it answers 401 and does not say how to log in".to_owned(),
            });
        }
        let schemes: Vec<_> = challenges.iter().map(|challenge| clip(&challenge.scheme)).collect();
        Err(self.fail(format!("it asks for authentication of an unknown kind ({})", schemes.join(", "))))
    }

    fn fail(&self, reason: String) -> RegistryError {
        RegistryError::Auth { registry: self.endpoint.origin.authority(), reason }
    }

    fn bearer(&self, challenge: &Challenge) -> Result<Authorization, RegistryError> {
        let realm = challenge.get("realm").unwrap_or_default();
        let (origin, path) = Origin::split(realm)
            .ok_or_else(|| self.fail(format!("its token server {:?} is not a URL", clip(realm))))?;
        if self.endpoint.origin.https && !origin.https {
            return Err(self
                .fail(format!("it names {origin} as its token server, which has no TLS; not going there")));
        }
        if self.credential.is_some() && !self.may_see(&origin) {
            return Err(self.fail(format!(
                "it names {origin} as its token server, which is not of the same site; credentials are not sent there \
                 (to allow it, add {:?} to the registry's token-servers)",
                origin.authority()
            )));
        }
        let service = challenge.get("service").unwrap_or_default();
        let response = if let Some(Credential::Identity(refresh)) = self.credential {
            let form = form(&[
                ("grant_type", "refresh_token"),
                ("service", service),
                ("client_id", "rbox"),
                ("scope", &self.scopes.join(" ")),
                ("refresh_token", refresh),
            ]);
            let headers = [("content-type", "application/x-www-form-urlencoded")];
            self.send("POST", &origin, &path, &headers, Some(&form))?
        } else {
            let separator = if path.contains('?') { '&' } else { '?' };
            let mut fields = vec![("service", service)];
            fields.extend(self.scopes.iter().map(|scope| ("scope", scope.as_str())));
            if let (true, Some(Credential::Basic { user, .. })) = (self.offline, self.credential) {
                fields.extend([("account", user.as_str()), ("client_id", "rbox"), ("offline_token", "true")]);
            }
            let path = format!("{path}{separator}{}", form(&fields));
            let authorization = match self.credential {
                Some(Credential::Basic { user, password }) => Some(basic(user, password)),
                _ => None,
            };
            let headers: Vec<_> =
                authorization.iter().map(|value| ("authorization", value.as_str())).collect();
            self.send("GET", &origin, &path, &headers, None)?
        };
        self.read_token(&origin, response)
    }

    /// Sends a request to the token server and follows its redirects. What is secret stays with the origin it was meant for:
    /// a form is not sent anywhere else, a password is left out there.
    fn send(
        &self,
        method: &'static str,
        first: &Origin,
        path: &str,
        headers: &[(&str, &str)],
        form: Option<&str>,
    ) -> Result<Response, RegistryError> {
        let ca_file = self.endpoint.ca_file.as_deref();
        let (mut origin, mut path) = (first.clone(), path.to_owned());
        for _ in 0..=MAX_REDIRECTS {
            let fields = if origin == *first { headers } else { &[] };
            let response =
                self.transport.send(method, &origin, &path, fields, form.map(str::as_bytes), ca_file)?;
            if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let (next, next_path) = redirect(&response, &origin)?;
            if next != *first && form.is_some() {
                return Err(self.fail(format!(
                    "token server {first} redirects to {next}; a refresh token is not sent there"
                )));
            }
            (origin, path) = (next, next_path);
        }
        Err(self.fail(format!("token server {first} redirects too often")))
    }

    fn read_token(&self, origin: &Origin, response: Response) -> Result<Authorization, RegistryError> {
        match response.status {
            200 => {}
            401 | 403 => {
                let with = if self.credential.is_some() { "the credentials" } else { "anonymous access" };
                let why = response.bytes(MAX_TOKEN).ok().and_then(|bytes| refusal(&bytes));
                let why = why.map_or_else(String::new, |why| format!(": {why}"));
                return Err(RegistryError::Denied {
                    repository: self.shown.to_owned(),
                    message: format!("{origin} refuses {with}{why}"),
                });
            }
            status => {
                let retry_after = retry_after(&response);
                return Err(RegistryError::Status {
                    method: "GET",
                    url: response.url,
                    status,
                    message: String::new(),
                    retry_after,
                });
            }
        }
        let asked = Instant::now();
        let bytes = response.bytes(MAX_TOKEN)?;
        let token: Token = rbox_spec::json::from_slice(&bytes).map_err(|error| {
            self.fail(format!("the answer of token server {origin} is not a token: {error}"))
        })?;
        let Token { token, access_token, refresh_token, expires_in } = token;
        let token = token.filter(|token| !token.is_empty()).or(access_token).unwrap_or_default();
        // It becomes a header field.
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(self.fail(format!("the answer of token server {origin} has no usable token")));
        }
        // Without a time that is a number it holds until it is refused. Less than a minute is a minute, as for Docker: one
        // that is never fresh would be asked for before every request.
        let seconds = expires_in.as_u64().map(|seconds| seconds.clamp(60, MAX_EXPIRY));
        let until = seconds.and_then(|seconds| asked.checked_add(Duration::from_secs(seconds)));
        let refresh = refresh_token.filter(|token| self.offline && !token.is_empty());
        Ok(Authorization { value: format!("Bearer {token}"), until, refresh })
    }

    /// Whether the registry's credential may be shown to this token server.
    fn may_see(&self, server: &Origin) -> bool {
        let registry = &self.endpoint.origin;
        if server == registry {
            return true;
        }
        if !registry.https || !server.https {
            return false;
        }
        let listed = |name: &String| Origin::new(true, name).is_some_and(|listed| listed == *server);
        self.endpoint.token_servers.iter().any(listed) || same_site(&registry.host, &server.host)
    }
}

/// Whether two host names are the same, one lies within the other, or both lie in one domain that is not just a suffix
/// such as `com` or `co.uk`.
fn same_site(registry: &str, server: &str) -> bool {
    let is_name = |host: &str| !host.starts_with('[') && host.parse::<std::net::Ipv4Addr>().is_err();
    if registry == server {
        return true;
    }
    if !is_name(registry) || !is_name(server) {
        return false;
    }
    let within = |inner: &str, outer: &str| inner.strip_suffix(outer).is_some_and(|rest| rest.ends_with('.'));
    let labels = |host: &str| host.split('.').count();
    let Some((_, parent)) = registry.split_once('.') else { return false };
    // A parent of two labels of which the first is short may be a public suffix (co.uk, com.au).
    let registrable =
        labels(parent) > 2 || (labels(parent) == 2 && parent.split('.').next().is_some_and(|l| l.len() > 3));
    within(server, registry) || (registrable && (server == parent || within(server, parent)))
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// `application/x-www-form-urlencoded`, empty values left out.
fn form(fields: &[(&str, &str)]) -> String {
    let digit =
        |nibble: u8| char::from_digit(u32::from(nibble), 16).map_or('0', |digit| digit.to_ascii_uppercase());
    let encode = |text: &str| {
        let mut encoded = String::new();
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        encoded
    };
    let pairs = fields.iter().filter(|(_, value)| !value.is_empty());
    pairs.map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// Why a token server refuses: as registries say it, or in a field of its own, as Docker Hub's does.
fn refusal(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Details {
        details: String,
    }
    let own = || rbox_spec::json::from_slice::<Details>(bytes).ok().map(|refusal| refusal.details);
    let text = explain(bytes).or_else(own)?;
    Some(text.chars().filter(|c| !c.is_control()).take(200).collect())
}

fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_challenges() {
        let field = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b,c", Basic realm=x"#;
        let challenges = Challenge::parse(field);
        assert_eq!(challenges.len(), 2, "{challenges:?}");
        assert_eq!(challenges[0].get("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(challenges[0].get("scope"), Some("a:b,c"));
        assert_eq!((challenges[1].scheme.as_str(), challenges[1].get("realm")), ("basic", Some("x")));
        assert_eq!(Challenge::parse("Basic")[0].scheme, "basic");
        assert_eq!(Challenge::parse(r#"Bearer realm="a\"b"#)[0].get("realm"), Some("a\"b"));
        for odd in ["", ",", "=", "= =", "\"", "a=", "Bearer =\"x\"", "é=é"] {
            let _ = Challenge::parse(odd);
        }
    }

    #[test]
    fn sites() {
        for (registry, server, want) in [
            ("registry-1.docker.io", "auth.docker.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("ghcr.io", "ghcr.io", true),
            ("ghcr.io", "evil.io", false),
            ("quay.io", "evil.quay.io", true),
            ("a.example.com", "b.example.net", false),
            ("shop.co.uk", "evil.co.uk", false),
            ("registry.shop.co.uk", "auth.shop.co.uk", true),
            ("registry-1.docker.io", "auth.docker.io.evil.net", false),
            ("registry-1.docker.io", "evildocker.io", false),
            ("10.0.0.1", "11.0.0.1", false),
            ("localhost", "evil", false),
        ] {
            assert_eq!(same_site(registry, server), want, "{registry} {server}");
        }
    }
}
