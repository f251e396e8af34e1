//! What an answer asks for, to go elsewhere or to come back later, and what one says that is no success.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::error::RegistryError;
use super::origin::Origin;
use super::transport::Response;

const MAX_RETRY_AFTER: u64 = 120;

/// Where a `Location` leads that `from` answered with. Nothing goes from HTTPS to HTTP.
fn lead(from: &Origin, location: &str) -> Result<(Origin, String), &'static str> {
    if location.starts_with('/') && !location.starts_with("//") {
        // What follows a # is the client's own business.
        return Ok((from.clone(), location.split('#').next().unwrap_or_default().to_owned()));
    }
    let (next, path) = Origin::split(location).ok_or("not a usable http or https URL")?;
    if from.https && !next.https { Err("that would give up TLS") } else { Ok((next, path)) }
}

/// Where the redirect that `origin` answered with leads.
pub(crate) fn redirect(response: &Response, origin: &Origin) -> Result<(Origin, String), RegistryError> {
    let location = response.header("location").unwrap_or_default();
    lead(origin, location).map_err(|reason| RegistryError::Redirect {
        url: response.url.clone(),
        location: location.split('?').next().unwrap_or_default().chars().take(200).collect(),
        reason,
    })
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110, section 10.2.3); at most two minutes.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    wait_until(response.header("retry-after")?.trim(), Timestamp::now())
}

fn wait_until(text: &str, now: Timestamp) -> Option<Duration> {
    let wait = if let Ok(seconds) = text.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        // A date in the past asks for no wait; one read off a clock that is wrong is bounded like any other.
        Duration::try_from(date.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(Duration::from_secs(MAX_RETRY_AFTER)))
}

#[derive(Deserialize)]
pub(crate) struct Failure {
    #[serde(default)]
    pub(crate) errors: Vec<FailureDetail>,
}

#[derive(Deserialize)]
pub(crate) struct FailureDetail {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

/// `code: message` of the first error in a registry's answer, without control characters.
pub(crate) fn explain(bytes: &[u8]) -> Option<String> {
    let failure: Failure = rbox_spec::json::from_slice(bytes).ok()?;
    let first = failure.errors.first()?;
    let code = first.code.to_ascii_lowercase().replace('_', " ");
    let text = match &first.message {
        Some(message) if !message.is_empty() => format!("{code}: {message}"),
        _ => code,
    };
    Some(text.chars().filter(|c| !c.is_control()).take(300).collect())
}

/// The fields alone, for the fuzzer.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    use super::{MAX_RETRY_AFTER, Origin, lead, wait_until};
    use jiff::Timestamp;

    /// When to come back.
    pub(crate) fn retry_after(text: &str) {
        let wait = wait_until(text, Timestamp::UNIX_EPOCH);
        assert!(wait.is_none_or(|wait| wait.as_secs() <= MAX_RETRY_AFTER));
    }

    /// Where a registry with TLS leads to.
    pub fn redirect(location: &str, look: &mut dyn FnMut(&Origin, &str)) {
        let home = Origin { https: true, host: "registry.example".to_owned(), port: 5000 };
        if let Ok((origin, path)) = lead(&home, location) {
            look(&origin, &path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn redirects_keep_tls_and_lose_what_follows_a_number_sign() {
        let home = Origin::new(true, "registry.example").unwrap();
        let to = |location| lead(&home, location).map(|(origin, path)| format!("{origin}{path}"));
        assert_eq!(to("/a?b#c").as_deref(), Ok("https://registry.example/a?b"));
        assert_eq!(to("https://cdn.example/a#c").as_deref(), Ok("https://cdn.example/a"));
        for bad in [
            "http://registry.example/",
            "//cdn.example/",
            "a",
            "",
            "ftp://cdn.example/",
            "https://u@cdn.example/",
        ] {
            assert!(to(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn registries_say_when_to_come_back() {
        let now = Timestamp::from_second(784_111_770).unwrap();
        for (text, want) in [
            ("7", Some(7)),
            ("100000", Some(MAX_RETRY_AFTER)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(MAX_RETRY_AFTER)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait_until(text, now), want.map(Duration::from_secs), "{text}");
        }
    }
}
