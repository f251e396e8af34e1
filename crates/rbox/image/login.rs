//! `rbox login` and `logout`: credentials, kept where Docker keeps them.

use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;

use clap::Parser;
use rbox_engine::image::Registries;
use rbox_engine::image::registry::{Client, Credential, Credentials, Kept, RegistryError, Server, Timeouts};
use rbox_engine::session::{set_terminal, terminal_without_echo};

use crate::args::asking::line;
use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, message};
use crate::command::global::Global;
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::write_all;

/// More than any password or token has.
const MOST_PASSWORD: u64 = 1 << 20;

const HINT: &str = "Log in with your Docker ID or email address to push and pull images from Docker Hub. If you don't have a Docker ID, head over to https://hub.docker.com/ to create one.
You can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT grants better security and is required for organizations using SSO. Learn more at https://docs.docker.com/go/access-tokens/
";

/// Authenticate to a registry
#[derive(Debug, Parser)]
#[command(
    name = "login",
    after_help = "Examples:\n  rbox login registry.lan:5000\n  rbox login -u me --password-stdin registry.lan:5000 < token\n  rbox login                                # Docker Hub\n\nThe credentials are kept in ~/.docker/config.json (or $DOCKER_CONFIG/config.json), where Docker and other tools\nread them too, or in the credential helper that it names."
)]
pub(crate) struct Login {
    /// Username
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Password or Personal Access Token (PAT)
    #[arg(short, long)]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Registry host with an optional port; Docker Hub if not given
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// Log out from a registry
#[derive(Debug, Parser)]
#[command(
    name = "logout",
    after_help = "Examples:\n  rbox logout registry.lan:5000\n  rbox logout                               # Docker Hub"
)]
pub(crate) struct Logout {
    /// Registry host with an optional port; Docker Hub if not given
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Execute for Login {
    fn execute(self, _: &Global) -> anyhow::Result<u8> {
        let server = Server::parse(self.server.as_deref().unwrap_or_default());
        let mut user = self.username.clone().unwrap_or_default().trim().to_owned();
        let mut password = self.given_password(&user)?;
        if user.is_empty() && password.is_empty() {
            match stored(&server)? {
                Tried::Accepted => return say("Login Succeeded").map(|()| 0),
                Tried::Not { default } => (user, password) = asked(&server, user, password, &default)?,
            }
        } else {
            (user, password) = asked(&server, user, password, "")?;
        }
        let credential = Credential::Basic { user, password };
        log_in(&server, credential)?;
        say("Login Succeeded")?;
        Ok(0)
    }
}

impl Login {
    /// The password of the command line or of standard input; empty when it is to be asked for.
    fn given_password(&self, user: &str) -> anyhow::Result<String> {
        let password = self.password.clone().unwrap_or_default();
        if !password.is_empty() {
            if self.password_stdin {
                return Err(failed(
                    "conflicting options: cannot specify both --password and --password-stdin",
                ));
            }
            warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        if !self.password_stdin {
            return Ok(password);
        }
        if user.is_empty() {
            return Err(failed("the --password-stdin option requires --username to be set"));
        }
        let mut text = String::new();
        std::io::stdin().lock().take(MOST_PASSWORD).read_to_string(&mut text)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }
}

/// What came of the credentials that are kept already.
enum Tried {
    Accepted,
    /// The user is to be asked; this name is likely.
    Not {
        default: String,
    },
}

fn stored(server: &Server) -> anyhow::Result<Tried> {
    let Some(Credential::Basic { user, password }) = Credentials::docker().find(&server.registry)? else {
        return Ok(Tried::Not { default: String::new() });
    };
    warn(&format!(
        "Authenticating with existing credentials... [Username: {}]\n\n Info -> To login with a different account, run 'rbox logout' followed by 'rbox login'\n\n",
        escape::text(&user)
    ));
    match log_in(server, Credential::Basic { user: user.clone(), password }) {
        Ok(()) => return Ok(Tried::Accepted),
        Err(RegistryError::Login { .. }) => warn("Stored credentials invalid or expired"),
        Err(error) => {
            let why = message(&error.into());
            warn(&format!("Login did not succeed, error: {}", escape::text(&why)));
        }
    }
    Ok(Tried::Not { default: user })
}

/// Asks on the terminal for what is missing.
fn asked(
    server: &Server,
    mut user: String,
    mut password: String,
    default: &str,
) -> anyhow::Result<(String, String)> {
    let stdin = std::io::stdin();
    if (user.is_empty() || password.is_empty()) && !stdin.is_terminal() {
        return Err(failed("Error: Cannot perform an interactive login from a non TTY device"));
    }
    if user.is_empty() {
        if *server == Server::hub() {
            say(HINT)?;
        }
        let shown = escape::text(default);
        let prompt =
            if default.is_empty() { "Username: ".to_owned() } else { format!("Username ({shown}): ") };
        let typed = line(&prompt)?.trim().to_owned();
        user = if typed.is_empty() { default.to_owned() } else { typed };
        if user.is_empty() {
            return Err(failed("Error: Non-null Username Required"));
        }
    }
    if password.is_empty() {
        if *server == Server::hub() {
            warn(
                "Info -> A Personal Access Token (PAT) can be used instead.\n        To create a PAT, visit https://app.docker.com/settings\n",
            );
        }
        let before = terminal_without_echo(stdin.as_fd());
        let typed = line("Password: ");
        if let Some(before) = before {
            set_terminal(stdin.as_fd(), &before);
        }
        // The end of the line was not shown either.
        say("")?;
        password = typed?;
        if password.is_empty() {
            return Err(failed("Error: Password Required"));
        }
    }
    Ok((user, password))
}

/// Shows the credential to the registry, and keeps it when that takes it.
fn log_in(server: &Server, credential: Credential) -> Result<(), RegistryError> {
    // Mirrors are asked for images only.
    let endpoint = Registries::load()?.endpoints(&server.registry)?.pop();
    let endpoint = endpoint.ok_or_else(|| RegistryError::NotFound(server.registry.clone()))?;
    let client = Client::new(Timeouts::default(), Credentials::only(credential.clone()));
    let identity = client.log_in(&endpoint)?;
    let kept = identity.map_or(credential, Credential::Identity);
    if let Kept::InFile(file) = Credentials::docker().keep(server, &kept)? {
        warn(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            file.display()
        ));
    }
    Ok(())
}

impl Execute for Logout {
    fn execute(self, _: &Global) -> anyhow::Result<u8> {
        let server = Server::parse(self.server.as_deref().unwrap_or_default());
        say(&format!("Removing login credentials for {}", escape::text(&server.key)))?;
        match Credentials::docker().forget(&server) {
            Ok(failures) if failures.is_empty() => {}
            Ok(failures) => {
                warn("WARNING: could not erase credentials:");
                for (key, why) in failures {
                    warn(&escape::text(&format!("{key}: {why}")));
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(0)
    }
}

fn failed(text: &str) -> anyhow::Error {
    Coded { message: text.to_owned(), code: NOT_DONE }.into()
}

/// A line on standard error; nobody may be reading.
fn warn(text: &str) {
    let _ = write_all(&mut std::io::stderr(), &format!("{text}\n"));
}
