//! One repository at one registry: manifests and blobs.
use std::sync::{Mutex, MutexGuard, PoisonError};

use rbox_spec::{Digest, Reference};
use serde::Deserialize;

use super::answer::{explain, redirect, retry_after};
use super::auth::{Authorization, Challenge, Login};
use super::credentials::Credentials;
use super::error::RegistryError;
use super::origin::Origin;
use super::registries::Endpoint;
use super::transport::{Response, Timeouts, Transport};
use crate::hash::digest_of;
use crate::media::{DOCKER_LIST, DOCKER_MANIFEST, MAX_DOCUMENT, OCI_INDEX, OCI_MANIFEST};

const MAX_REDIRECTS: usize = 8;
const MAX_MESSAGE: u64 = 64 << 10;
const TAGS_A_PAGE: usize = 1000;
const MAX_TAGS: usize = 100_000;

/// Connections and credentials, shared by all that one command asks of registries.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    credentials: Credentials,
}

impl Client {
    /// A client that logs in with these credentials where it is asked to.
    pub fn new(timeouts: Timeouts, credentials: Credentials) -> Self {
        Self { transport: Transport::new(timeouts), credentials }
    }

    /// Talk to one repository at one endpoint.
    pub fn session<'c>(&'c self, endpoint: &'c Endpoint, name: &'c Reference) -> Session<'c> {
        Session {
            client: self,
            endpoint,
            repository: name.path(),
            shown: name.familiar_name(),
            scopes: vec![format!("repository:{}:pull", name.path())],
            offline: false,
            login: Mutex::default(),
        }
    }

    /// Talk to one repository in order to write to it, and to read blobs from these others.
    pub fn push_session<'c>(
        &'c self,
        endpoint: &'c Endpoint,
        name: &'c Reference,
        others: impl Iterator<Item = &'c String>,
    ) -> Session<'c> {
        let mut scopes = vec![format!("repository:{}:pull,push", name.path())];
        for other in others {
            let scope = format!("repository:{other}:pull");
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        Session { scopes, ..self.session(endpoint, name) }
    }

    /// Talk to a registry about no repository.
    pub(super) fn nameless_session<'c>(&'c self, endpoint: &'c Endpoint) -> Session<'c> {
        Session {
            client: self,
            endpoint,
            repository: "",
            shown: endpoint.registry.clone(),
            scopes: Vec::new(),
            offline: false,
            login: Mutex::default(),
        }
    }

    /// Whether the registry takes the client's credential. What may be kept in the password's place, if its token server gives that.
    ///
    /// A registry that asks for no credential takes any.
    pub fn log_in(&self, endpoint: &Endpoint) -> Result<Option<String>, RegistryError> {
        let session = Session { offline: true, ..self.nameless_session(endpoint) };
        let refused = |reason| RegistryError::Login { url: format!("{}/v2/", endpoint.origin), reason };
        let response = session.request("GET", "/v2/", &[]).map_err(|error| match error {
            RegistryError::Denied { message, .. } => refused(format!("unauthorized: {message}")),
            other => other,
        })?;
        match response.status {
            200 => Ok(session.login().authorization.take().and_then(|granted| granted.refresh)),
            401 => Err(refused("401 Unauthorized".to_owned())),
            403 => Err(refused("403 Forbidden".to_owned())),
            _ => session.success(response, "GET", None).map(|_| None),
        }
    }
}

/// One repository at one endpoint, with the token that opens it.
#[derive(Debug)]
pub struct Session<'c> {
    client: &'c Client,
    endpoint: &'c Endpoint,
    repository: &'c str,
    /// What messages call it: as the user does, with the registry where it is not Docker Hub.
    shown: String,
    /// What tokens are asked for.
    scopes: Vec<String>,
    /// Whether something to keep is asked for beside them.
    offline: bool,
    login: Mutex<LoggedIn>,
}

/// What one repository was opened with.
#[derive(Debug, Default)]
struct LoggedIn {
    authorization: Option<Authorization>,
    /// What the registry asked for last. Some say it once, and later answer 401 and nothing else.
    challenges: Vec<Challenge>,
}

/// A document as a registry sent it; its digest is verified.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The Content-Type.
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct TagPage {
    tags: Option<Vec<String>>,
}

impl Session<'_> {
    /// The endpoint's origin.
    pub fn origin(&self) -> &Origin {
        &self.endpoint.origin
    }

    /// Asks which digest a tag has: one request. `None` if the registry does not say.
    pub fn head_manifest(&self, reference: &str) -> Result<Option<Digest>, RegistryError> {
        let response = self.request("HEAD", &self.path("manifests", reference), &[("accept", &accept())])?;
        self.check(&response, "HEAD", Some(reference), String::new())?;
        Ok(response.header("docker-content-digest").and_then(|text| text.trim().parse().ok()))
    }

    /// Fetches a manifest or an index by tag or digest.
    pub fn manifest(&self, reference: &str, want: Option<&Digest>) -> Result<Fetched, RegistryError> {
        let response = self.request("GET", &self.path("manifests", reference), &[("accept", &accept())])?;
        let response = self.success(response, "GET", Some(reference))?;
        let media_type = response.header("content-type").unwrap_or_default().to_owned();
        let said = response.header("docker-content-digest").map(|text| text.trim().parse::<Digest>());
        let url = response.url.clone();
        let protocol = |reason: String| RegistryError::Protocol { url: url.clone(), reason };
        let said = said.transpose().map_err(|error| protocol(format!("Docker-Content-Digest: {error}")))?;
        let bytes = response.bytes(MAX_DOCUMENT)?;
        let expected = want.copied().or(said);
        let algorithm = expected.map_or(rbox_spec::digest::Algorithm::Sha256, |digest| digest.algorithm());
        let digest = digest_of(algorithm, &bytes);
        match expected {
            Some(expected) if expected != digest => {
                Err(protocol(format!("the manifest has digest {digest}, expected {expected}")))
            }
            _ => Ok(Fetched { media_type, digest, bytes }),
        }
    }

    /// Starts to fetch a blob from byte `from` on. The status is 200 (from the start, whatever was asked) or 206.
    pub fn blob(&self, digest: &Digest, from: u64) -> Result<Response, RegistryError> {
        let path = self.path("blobs", &digest.to_string());
        let range = format!("bytes={from}-");
        let headers: &[(&str, &str)] = if from == 0 { &[] } else { &[("range", &range)] };
        let response = self.request("GET", &path, headers)?;
        let response = self.success(response, "GET", None)?;
        if response.status == 206 && from == 0 {
            let reason = "it sends a part of the content, though all of it was asked for".to_owned();
            return Err(RegistryError::Protocol { url: response.url, reason });
        }
        if response.status == 206 && response.header("content-range").and_then(range_start) != Some(from) {
            return Err(RegistryError::Range { url: response.url, from });
        }
        Ok(response)
    }

    /// The tags of the repository, in the registry's order, from as many pages as it makes of them.
    pub fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let mut tags = Vec::new();
        let mut path = format!("/v2/{}/tags/list?n={TAGS_A_PAGE}", self.repository);
        loop {
            let response = self.success(self.request("GET", &path, &[])?, "GET", None)?;
            let next = response.header("link").and_then(next_page);
            let url = response.url.clone();
            let protocol = |reason: String| RegistryError::Protocol { url: url.clone(), reason };
            let page: TagPage = rbox_spec::json::from_slice(&response.bytes(MAX_DOCUMENT)?)
                .map_err(|error| protocol(format!("its list of tags: {error}")))?;
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > MAX_TAGS {
                return Err(protocol(format!("it has more than {MAX_TAGS} tags")));
            }
            match next {
                // One that leads to itself would never end.
                Some(next) if next != path => path = next,
                _ => return Ok(tags),
            }
        }
    }

    pub(super) fn path(&self, kind: &str, reference: &str) -> String {
        format!("/v2/{}/{kind}/{reference}", self.repository)
    }

    /// Sends a request, logs in if asked to, follows redirects.
    pub(super) fn request(
        &self,
        method: &'static str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response, RegistryError> {
        self.request_at(method, (&self.endpoint.origin, path), headers, None)
    }

    /// The same to where the registry has led, with a body.
    pub(super) fn request_at(
        &self,
        method: &'static str,
        to: (&Origin, &str),
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Response, RegistryError> {
        let mut attempts = 0;
        loop {
            let used = self.authorization()?;
            let response = self.follow(method, to, headers, used.as_deref(), body)?;
            // Once more if it refuses the new one: some servers issue tokens that are good only a moment later.
            if response.status != 401 || attempts == 1 {
                return Ok(response);
            }
            attempts += 1;
            let fields =
                response.headers.get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
            let challenges: Vec<Challenge> = fields.flat_map(Challenge::parse).collect();
            self.log_in(&challenges, used.as_deref())?;
        }
    }

    fn login(&self) -> MutexGuard<'_, LoggedIn> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to show the registry. One that has expired is renewed first, as its challenge is known.
    fn authorization(&self) -> Result<Option<String>, RegistryError> {
        let expired = {
            let login = self.login();
            match &login.authorization {
                Some(authorization) if !authorization.is_fresh() => authorization.value.clone(),
                other => return Ok(other.as_ref().map(|authorization| authorization.value.clone())),
            }
        };
        self.log_in(&[], Some(&expired))?;
        Ok(self.login().authorization.as_ref().map(|authorization| authorization.value.clone()))
    }

    fn log_in(&self, challenges: &[Challenge], used: Option<&str>) -> Result<(), RegistryError> {
        let mut login = self.login();
        // Another thread may have got a new token while this one was told that the old one is no good.
        if login.authorization.as_ref().is_some_and(|now| Some(now.value.as_str()) != used) {
            return Ok(());
        }
        if !challenges.is_empty() {
            login.challenges = challenges.to_vec();
        }
        let credential = self.client.credentials.find(&self.endpoint.registry)?;
        let answer = Login {
            transport: &self.client.transport,
            endpoint: self.endpoint,
            scopes: &self.scopes,
            offline: self.offline,
            shown: &self.shown,
            credential: credential.as_ref(),
        };
        login.authorization = Some(answer.answer(&login.challenges)?);
        Ok(())
    }

    fn follow(
        &self,
        method: &'static str,
        to: (&Origin, &str),
        headers: &[(&str, &str)],
        authorization: Option<&str>,
        body: Option<&[u8]>,
    ) -> Result<Response, RegistryError> {
        let (mut origin, mut path) = (to.0.clone(), to.1.to_owned());
        for _ in 0..=MAX_REDIRECTS {
            let mut fields = headers.to_vec();
            let at_home = origin == self.endpoint.origin;
            if let (true, Some(value)) = (at_home, authorization) {
                fields.push(("authorization", value));
            }
            let ca_file = self.endpoint.ca_file.as_deref();
            let response = self.client.transport.send(method, &origin, &path, &fields, body, ca_file)?;
            let moved = match response.status {
                307 | 308 => true,
                // These turn what is sent into a question (RFC 9110, section 15.4).
                301..=303 => body.is_none(),
                _ => false,
            };
            if !moved {
                // A challenge from elsewhere is not answered: it would show this registry's secret to another.
                if response.status == 401 && !at_home {
                    let reason = format!("{origin}, where it redirects to, asks for credentials of its own");
                    return Err(RegistryError::Auth { registry: self.endpoint.origin.authority(), reason });
                }
                return Ok(response);
            }
            (origin, path) = redirect(&response, &origin)?;
        }
        Err(RegistryError::Redirect {
            url: self.endpoint.origin.to_string(),
            location: origin.to_string(),
            reason: "too many redirects",
        })
    }

    pub(super) fn success(
        &self,
        response: Response,
        method: &'static str,
        reference: Option<&str>,
    ) -> Result<Response, RegistryError> {
        if matches!(response.status, 200 | 206) {
            return Ok(response);
        }
        let head = Response {
            status: response.status,
            headers: response.headers.clone(),
            body: ureq::Body::builder().data(Vec::new()).into_reader(),
            url: response.url.clone(),
        };
        let message = response.bytes(MAX_MESSAGE).ok().and_then(|bytes| explain(&bytes)).unwrap_or_default();
        self.check(&head, method, reference, message)?;
        Ok(head)
    }

    /// Turns a status other than success into the error it means.
    fn check(
        &self,
        response: &Response,
        method: &'static str,
        reference: Option<&str>,
        message: String,
    ) -> Result<(), RegistryError> {
        match (response.status, reference) {
            (200 | 206, _) => Ok(()),
            (404, _) if message.starts_with("name unknown") => {
                Err(RegistryError::NoRepository { name: self.shown.clone(), message })
            }
            (404, Some(reference)) => {
                let separator = if reference.contains(':') { '@' } else { ':' };
                Err(RegistryError::NotFound(format!("{}{separator}{reference}", self.shown)))
            }
            (401 | 403, _) => {
                let message = if message.is_empty() { "denied".to_owned() } else { message };
                Err(RegistryError::Denied { repository: self.shown.clone(), message })
            }
            (status, _) => Err(RegistryError::Status {
                method,
                url: response.url.clone(),
                status,
                message: if message.is_empty() { message } else { format!(": {message}") },
                retry_after: retry_after(response),
            }),
        }
    }
}

/// The first byte that a `Content-Range` names.
fn range_start(field: &str) -> Option<u64> {
    field.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// What is read of a registry's answers, for the fuzzer.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::range_start;
    use crate::registry::answer::{self, Failure, explain};

    /// Bodies and fields that are read alone.
    pub fn answers(bytes: &[u8]) {
        if let Some(text) = explain(bytes) {
            assert!(text.chars().count() <= 300 && !text.contains(char::is_control));
            assert!(rbox_spec::json::from_slice::<Failure>(bytes).is_ok_and(|f| !f.errors.is_empty()));
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let _ = range_start(text);
        answer::fuzzing::retry_after(text);
    }
}

/// The path of the next page in a `Link` field (RFC 8288): `</v2/app/tags/list?last=x>; rel="next"`. Other registries'
/// pages are none of this one's.
fn next_page(field: &str) -> Option<String> {
    let (target, parameters) = field.trim().strip_prefix('<')?.split_once('>')?;
    let next = parameters.split(';').any(|one| matches!(one.trim(), "rel=\"next\"" | "rel=next"));
    let path = target.starts_with('/') && !target.starts_with("//");
    (next && path).then(|| target.to_owned())
}

fn accept() -> String {
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].join(", ")
}
