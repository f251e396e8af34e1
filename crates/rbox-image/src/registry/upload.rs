//! Giving a registry content: blobs in pieces, and manifests.
//!
//! Source: OCI distribution specification, "Pushing blobs in chunks" and "Mounting a blob from another repository".
use rbox_spec::Digest;

use super::answer::redirect;
use super::client::Session;
use super::error::RegistryError;
use super::origin::Origin;
use super::transport::Response;
use crate::hash::sha256;

/// Bytes of a blob in one request, unless the registry wants more.
const PIECE: usize = 8 << 20;
/// More than this a registry does not get at once.
const MOST_PIECE: usize = 64 << 20;

/// Where an upload goes on.
#[derive(Debug, Clone)]
pub struct Upload {
    origin: Origin,
    path: String,
    /// Bytes in one request.
    pub piece: usize,
}

/// How an upload begins.
#[derive(Debug)]
pub enum Begun {
    /// The blob is there now, from the other repository.
    Mounted,
    /// It is to be sent.
    Send(Upload),
}

impl Upload {
    /// Where its next request goes, if the answer says so.
    fn moved(&mut self, response: &Response) -> Result<(), RegistryError> {
        if response.header("location").is_some() {
            (self.origin, self.path) = redirect(response, &self.origin)?;
        }
        Ok(())
    }
}

impl Session<'_> {
    /// Whether the repository has a blob.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let response = self.request("HEAD", &self.path("blobs", &digest.to_string()), &[])?;
        match response.status {
            200 => Ok(true),
            // Without permission to read it may be written all the same: the upload itself says it in words.
            401 | 403 | 404 => Ok(false),
            _ => self.expect(response, "HEAD", &[200]).map(|_| true),
        }
    }

    /// Begins an upload, or has a blob mounted that another repository of the registry has.
    pub fn begin_upload(&self, mount: Option<(&Digest, &str)>) -> Result<Begun, RegistryError> {
        let query = mount.map_or_else(String::new, |(digest, from)| format!("?mount={digest}&from={from}"));
        let path = format!("{}{query}", self.path("blobs", "uploads/"));
        let response = self.give("POST", (&self.origin().clone(), &path), &[], b"")?;
        let response = self.expect(response, "POST", &[201, 202])?;
        if response.status == 201 {
            return match mount {
                Some((digest, _)) => self.same_digest(&response, digest).map(|()| Begun::Mounted),
                None => Err(odd(response, "it says that a blob is there before it was sent")),
            };
        }
        let (origin, path) = redirect(&response, self.origin())?;
        let least = response.header("oci-chunk-min-length").and_then(|text| text.trim().parse().ok());
        let piece = PIECE.max(least.unwrap_or(0)).min(MOST_PIECE);
        Ok(Begun::Send(Upload { origin, path, piece }))
    }

    /// Sends the next piece of a blob, which starts at byte `from`. How many bytes the registry has then.
    pub fn send_piece(&self, upload: &mut Upload, from: u64, piece: &[u8]) -> Result<u64, RegistryError> {
        let end = from + piece.len() as u64;
        let range = format!("{from}-{}", end.saturating_sub(1));
        let fields = [("content-type", "application/octet-stream"), ("content-range", range.as_str())];
        let response = self.give("PATCH", (&upload.origin, &upload.path), &fields, piece)?;
        let response = self.expect(response, "PATCH", &[202])?;
        let has = response.header("range").and_then(range_end).unwrap_or(end);
        if has > end {
            return Err(odd(response, "it says that it has more of a blob than was sent"));
        }
        upload.moved(&response)?;
        Ok(has)
    }

    /// How much of a blob the registry has. None where it knows nothing of the upload.
    pub fn uploaded(&self, upload: &mut Upload) -> Result<Option<u64>, RegistryError> {
        let response = self.request_at("GET", (&upload.origin, &upload.path), &[], None)?;
        if response.status != 204 {
            return Ok(None);
        }
        // Nothing at all is `0-0`, or no field.
        let has = response.header("range").and_then(range_end).unwrap_or(0);
        upload.moved(&response)?;
        Ok(Some(if has == 1 { 0 } else { has }))
    }

    /// Ends an upload: the registry has all of it, and it has this digest.
    pub fn end_upload(&self, upload: &Upload, digest: &Digest) -> Result<(), RegistryError> {
        let separator = if upload.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{separator}digest={}%3A{}", upload.path, digest.algorithm(), digest.hex());
        let response = self.give("PUT", (&upload.origin, &path), &[], b"")?;
        let response = self.expect(response, "PUT", &[201])?;
        self.same_digest(&response, digest)
    }

    /// Gives the registry a small blob, if it does not have it.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<(), RegistryError> {
        let digest = sha256(bytes);
        if self.has_blob(&digest)? {
            return Ok(());
        }
        let Begun::Send(mut upload) = self.begin_upload(None)? else { return Ok(()) };
        self.send_piece(&mut upload, 0, bytes)?;
        self.end_upload(&upload, &digest)
    }

    /// Gives the registry a manifest, under a tag.
    pub fn put_manifest(
        &self,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let path = self.path("manifests", tag);
        let response =
            self.give("PUT", (&self.origin().clone(), &path), &[("content-type", media_type)], bytes)?;
        let response = self.expect(response, "PUT", &[201])?;
        self.same_digest(&response, digest)
    }

    fn give(
        &self,
        method: &'static str,
        to: (&Origin, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, RegistryError> {
        self.request_at(method, to, headers, Some(body))
    }

    /// A registry that took something for other content than was sent has not got it.
    #[allow(clippy::unused_self)] // One of the steps above.
    fn same_digest(&self, response: &Response, digest: &Digest) -> Result<(), RegistryError> {
        let said = response.header("docker-content-digest").unwrap_or_default().trim();
        if said.is_empty() || said.parse::<Digest>().is_ok_and(|said| said == *digest) {
            return Ok(());
        }
        let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
        Err(RegistryError::Protocol {
            url: response.url.clone(),
            reason: format!("it has taken what was sent for {said}, and it is {digest}"),
        })
    }

    /// An answer with one of these statuses, or the error that another one means.
    fn expect(
        &self,
        response: Response,
        method: &'static str,
        wanted: &[u16],
    ) -> Result<Response, RegistryError> {
        if wanted.contains(&response.status) {
            return Ok(response);
        }
        let status = response.status;
        match self.success(response, method, None) {
            Ok(response) => Err(odd(response, &format!("it answers {method} with status {status}"))),
            // Docker's words for what a registry leaves unsaid.
            Err(RegistryError::Denied { repository, message }) if message == "denied" => {
                let said = if status == 401 {
                    "unauthorized: authentication required"
                } else {
                    "denied: requested access to the resource is denied"
                };
                Err(RegistryError::Denied { repository, message: said.to_owned() })
            }
            Err(error) => Err(error),
        }
    }
}

fn odd(response: Response, reason: &str) -> RegistryError {
    RegistryError::Protocol { url: response.url, reason: reason.to_owned() }
}

/// How many bytes a `Range` says are there: `0-99` is a hundred.
fn range_end(field: &str) -> Option<u64> {
    let bare = field.trim().strip_prefix("bytes=").unwrap_or_else(|| field.trim());
    let (start, end) = bare.split_once('-')?;
    let end: u64 = end.trim().parse().ok()?;
    (start.trim() == "0").then(|| end.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::range_end;

    #[test]
    fn ranges_are_counted() {
        for (field, want) in [
            ("0-99", Some(100)),
            ("bytes=0-0", Some(1)),
            ("5-9", None),
            ("0-18446744073709551615", Some(u64::MAX)),
            ("0-", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(range_end(field), want, "{field}");
        }
    }
}
