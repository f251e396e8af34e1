//! `rbox context`: tools ask which engine they talk to before anything else. There is one, and it is here.

use clap::Parser;
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::error::{NOT_DONE, bad_input, report};
use crate::command::global::Global;
use crate::inspect::pretty;
use crate::output::lines::say;
use crate::output::table::{self, Format};
use crate::output::template::Headers;

/// The one context.
pub(crate) const DEFAULT: &str = "default";

/// List contexts
#[derive(Debug, Parser)]
#[command(name = "ls", after_help = "Examples:\n  rbox context ls\n  rbox context ls --format json")]
pub(crate) struct Ls {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Only show context names
    #[arg(short, long)]
    quiet: bool,
}

impl Execute for Ls {
    fn execute(self, _: &Global) -> anyhow::Result<u8> {
        let format = if self.quiet {
            Format::Template("{{.Name}}".to_owned())
        } else {
            let columns =
                "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";
            Format::parse(self.format.as_deref(), columns)
        };
        let headers = Headers::from([
            ("Current", ""),
            ("Description", "DESCRIPTION"),
            ("DockerEndpoint", "DOCKER ENDPOINT"),
            ("Error", "ERROR"),
            ("Name", "NAME"),
        ]);
        let row = json!({
            "Current": true,
            "Description": "This host, without a daemon",
            "DockerEndpoint": "",
            "Error": "",
            "Name": DEFAULT,
        });
        table::print(&format, &headers, &[row], &mut std::io::stdout())?;
        Ok(0)
    }
}

/// Print the name of the current context
#[derive(Debug, Parser)]
#[command(name = "show", after_help = "Examples:\n  rbox context show")]
pub(crate) struct Show {}

impl Execute for Show {
    fn execute(self, _: &Global) -> anyhow::Result<u8> {
        say(DEFAULT)?;
        Ok(0)
    }
}

/// Display detailed information on one or more contexts
#[derive(Debug, Parser)]
#[command(
    name = "inspect",
    after_help = "Examples:\n  rbox context inspect\n  rbox context inspect -f '{{.Name}}'"
)]
pub(crate) struct Inspect {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,
    /// Names of contexts
    #[arg(value_name = "CONTEXT")]
    contexts: Vec<String>,
}

impl Execute for Inspect {
    fn execute(mut self, _: &Global) -> anyhow::Result<u8> {
        if self.contexts.is_empty() {
            self.contexts.push(DEFAULT.to_owned());
        }
        let mut found: Vec<Value> = Vec::new();
        let mut code = 0;
        for name in &self.contexts {
            match known(name) {
                Ok(()) => found.push(described()),
                Err(error) => code = code.max(report(&error).min(NOT_DONE)),
            }
        }
        match self.format.as_deref() {
            None | Some("") => say(&pretty(&found)?)?,
            Some("json") => say(&serde_json::to_string(&found)?)?,
            Some(text) => {
                let template = crate::inspect::parse(text)?;
                for one in &found {
                    say(&template.render(one)?)?;
                }
            }
        }
        Ok(code)
    }
}

fn described() -> Value {
    json!({
        "Name": DEFAULT,
        "Metadata": {},
        "Endpoints": { "docker": { "Host": "", "SkipTLSVerify": false } },
        "TLSMaterial": {},
        "Storage": { "MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>" },
    })
}

/// Set the current context: there is only 'default'
#[derive(Debug, Parser)]
#[command(name = "use", after_help = "Examples:\n  rbox context use default")]
pub(crate) struct Use {
    /// The context's name
    context: String,
}

impl Execute for Use {
    fn execute(self, _: &Global) -> anyhow::Result<u8> {
        known(&self.context)?;
        say(&self.context)?;
        table::write_all(&mut std::io::stderr(), &format!("Current context is now \"{}\"\n", self.context))?;
        Ok(0)
    }
}

/// Refuses the address of a daemon: the usual one of this host is what rbox stands for, and may be named.
pub(crate) fn is_this_host(flag: &str, address: &str) -> anyhow::Result<()> {
    match address.strip_prefix("unix://").unwrap_or(address) {
        "" | "/var/run/docker.sock" | "/run/docker.sock" => Ok(()),
        _ => Err(bad_input(format!(
            "{flag} {address} is not supported: rbox has no daemon to connect to, here or elsewhere"
        ))),
    }
}

/// Refuses any other than the one there is.
pub(crate) fn known(name: &str) -> anyhow::Result<()> {
    if name == DEFAULT {
        return Ok(());
    }
    anyhow::bail!("context \"{name}\": context not found: rbox has only \"{DEFAULT}\", this host")
}
