//! Programs that keep credentials: `docker-credential-<name>`, which read one document and write one.
//!
//! Source: the protocol in the documentation of `docker-credential-helpers`.
use std::fmt;
use std::process::{Command, Output};
use std::time::Duration;

use rbox_rootfs::plain;
use rbox_rootfs::waiting::{self, Patience};
use serde::{Deserialize, Serialize};

/// The user name under which a refresh token is kept.
pub(super) const TOKEN_USER: &str = "<token>";

/// How long a helper may take: it may ask the user for a password.
const HELPER: Patience = Patience::of_working(Duration::from_mins(5));

/// What a helper keeps for one server.
pub(super) struct Secret {
    pub(super) user: String,
    pub(super) secret: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

#[derive(Serialize)]
struct ToKeep<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    #[serde(rename = "Username")]
    user: &'a str,
    #[serde(rename = "Secret")]
    secret: &'a str,
}

/// Whether it can be part of a program's name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// What the helper has for a server.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Secret>, String> {
    let output = run(name, "get", server.as_bytes())?;
    if !output.status.success() {
        let said = said(&output);
        return if said.contains("credentials not found") {
            Ok(None)
        } else {
            Err(failed("run", name, &said))
        };
    }
    let kept: Kept = rbox_spec::json::from_slice(&output.stdout)
        .map_err(|error| failed("read the answer of", name, &error))?;
    let Kept { username: user, secret } = kept;
    Ok((!secret.is_empty()).then_some(Secret { user, secret }))
}

/// Gives the helper a secret to keep.
pub(super) fn store(name: &str, server: &str, user: &str, secret: &str) -> Result<(), String> {
    let document = serde_json::to_vec(&ToKeep { server, user, secret }).map_err(|error| error.to_string())?;
    done(name, "store", &document)
}

/// Makes the helper forget a server.
pub(super) fn erase(name: &str, server: &str) -> Result<(), String> {
    done(name, "erase", server.as_bytes())
}

fn done(name: &str, action: &str, input: &[u8]) -> Result<(), String> {
    let output = run(name, action, input)?;
    if output.status.success() { Ok(()) } else { Err(failed("run", name, &said(&output))) }
}

fn failed(what: &str, name: &str, why: &dyn fmt::Display) -> String {
    format!("{what} docker-credential-{name}: {why}")
}

fn run(name: &str, action: &str, input: &[u8]) -> Result<Output, String> {
    if !is_name(name) {
        return Err(format!("{name:?} is not the name of a credential helper"));
    }
    waiting::run(Command::new(format!("docker-credential-{name}")).arg(action), input, HELPER)
        .map_err(|error| failed("run", name, &plain(&error)))
}

/// What a helper that failed says, on one line.
fn said(output: &Output) -> String {
    // The protocol has it on standard output; a helper that fails otherwise says so where programs do.
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    let found = said.iter().find(|said| said.contains("credentials not found"));
    let said = found.or_else(|| said.iter().find(|said| !said.is_empty()));
    let said = said.cloned().unwrap_or_else(|| output.status.to_string());
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
