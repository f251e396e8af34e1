//! `rbox why`: what keeps a container from running, from being healthy or from being reached, and what to try.

use std::fmt::Write as _;
use std::io::stdout;

use clap::Parser;
use jiff::Timestamp;
use rbox_engine::engine::{Cause, Container};
use serde_json::{Value, json};

use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::container::ps;
use crate::output::escape;
use crate::output::table::{self, Format, write_all};
use crate::output::template::Headers;

/// Say why a container does not run, is not healthy or is not reached, and what to try
///
/// It goes by what is on disk and in the kernel: how the container ended, the events, the last lines of its log, its program's file, who listens
/// in its network, mounts and disks. Nothing is changed.
#[derive(Debug, Parser)]
#[command(
    name = "why",
    after_help = "Examples:\n  rbox why web\n  rbox why $(rbox ps -aq)\n  rbox why --format json web\n  rbox why --format '{{.Name}}: {{range .Causes}}{{.Kind}} {{end}}' web"
)]
pub(crate) struct Why {
    /// Format output: 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Execute for Why {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let format = self.format.as_deref().filter(|format| !format.trim().is_empty());
        let format = format.map(|format| Format::parse(Some(format), COLUMNS));
        Ok(each(&self.containers, |name| {
            let container = global.engine.container(name)?;
            let causes = global.engine.why(&container);
            match &format {
                None => write_all(&mut stdout(), &told(&container, &causes))?,
                Some(format) => {
                    table::print(format, &headers(), &[row(&container, &causes)], &mut stdout())?;
                }
            }
            Ok(())
        }))
    }
}

const COLUMNS: &str = "{{.Name}}\t{{.Status}}\t{{.Why}}";

fn headers() -> Headers {
    Headers::from([
        ("Causes", "CAUSES"),
        ("ExitCode", "EXIT CODE"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Why", "WHY"),
    ])
}

fn row(container: &Container, causes: &[Cause]) -> Value {
    let name = container.record.name.as_str();
    let shown = |cause: &Cause| {
        let mut fields = json!(cause);
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("Text".into(), cause.text().into());
            fields.insert("Try".into(), cause.advice(name).into());
        }
        fields
    };
    json!({
        "Causes": causes.iter().map(shown).collect::<Vec<_>>(),
        "ExitCode": container.exit.as_ref().map_or(0, |exit| exit.exit_code),
        "ID": container.record.id.as_str(),
        "Name": name,
        "State": container.status.as_str(),
        "Status": ps::status(container, Timestamp::now()),
        "Why": causes.first().map(Cause::text).unwrap_or_default(),
    })
}

/// For people: what it is, why, what it wrote last, and what to try.
fn told(container: &Container, causes: &[Cause]) -> String {
    let name = container.record.name.as_str();
    let mut text = format!("{name}: {}\n", ps::status(container, Timestamp::now()));
    if causes.is_empty() {
        text.push_str("  nothing is seen that is wrong with it\n");
    }
    for cause in causes {
        let _ = writeln!(text, "  why: {}", escape::text(&cause.text()));
        if let Cause::Failed { last_words, .. } = cause {
            for line in last_words {
                let _ = writeln!(text, "       | {}", escape::text(line));
            }
        }
        for advice in cause.advice(name) {
            let _ = writeln!(text, "  try: {}", escape::text(&advice));
        }
    }
    text
}
