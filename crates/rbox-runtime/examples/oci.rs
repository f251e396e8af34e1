//! The five operations of the OCI runtime specification, from the command line: what the tests call, one process for each.
//!
//! ```text
//! oci --root DIR create ID BUNDLE        reads BUNDLE/config.json; the program has the caller's null device and BUNDLE/log
//! oci --root DIR start|state|delete ID
//! oci --root DIR delete --force ID
//! oci --root DIR kill ID SIGNAL
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "a command line")]

use std::error::Error;
use std::fs::File;
use std::path::Path;

use oci_spec::runtime::Spec;
use rbox_runtime::Stdio;
use rbox_runtime::cgroup::Hierarchy;
use rbox_runtime::oci::{Bundle, Containers, Group};
use rbox_runtime::security::seccomp::{Profile, filter_for};
use rbox_spec::Resources;
use rbox_spec::capability::CapSet;

fn main() {
    if let Err(error) = run() {
        let mut line = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            line = format!("{line}: {next}");
            cause = next.source();
        }
        eprintln!("oci: {line}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ["--root", root, operation, rest @ ..] = words.as_slice() else {
        return Err("usage: oci --root DIR create|start|state|kill|delete ...".into());
    };
    let containers = Containers::open(Path::new(root))?;
    let warnings = match (*operation, rest) {
        ("create", [id, bundle]) => {
            println!("{}", create(&containers, id, Path::new(bundle))?);
            Vec::new()
        }
        ("start", [id]) => containers.start(id)?,
        ("state", [id]) => {
            println!("{}", serde_json::to_string(&containers.state(id)?)?);
            Vec::new()
        }
        ("kill", [id, signal]) => {
            containers.kill(id, signal.parse()?)?;
            Vec::new()
        }
        ("delete", [id]) => containers.delete(id, false)?,
        ("delete", ["--force", id]) => containers.delete(id, true)?,
        _ => return Err(format!("{operation}: wrong arguments").into()),
    };
    for warning in warnings {
        eprintln!("oci: warning: {warning}");
    }
    Ok(())
}

fn create(containers: &Containers, id: &str, bundle: &Path) -> Result<i32, Box<dyn Error>> {
    let bundle = bundle.canonicalize()?;
    let spec = Spec::load(bundle.join("config.json"))?;
    let null = || File::options().read(true).write(true).open("/dev/null");
    let log = || File::options().append(true).create(true).open(bundle.join("log"));
    let seccomp = match spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        Some(filter) => filter_for(&Profile::parse(&serde_json::to_vec(filter)?)?, CapSet::EMPTY)?,
        None => None,
    };
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let path = path.map_or(format!("rbox-oci/{id}"), |path| path.to_string_lossy().into_owned());
    Hierarchy::detect()?;
    let waiting = containers.create(
        id,
        Bundle {
            path: &bundle,
            spec: &spec,
            group: Group::Make { path: &path, resources: &Resources::defaults() },
            seccomp: seccomp.as_ref(),
            stdio: Stdio::Fds([null()?.into(), log()?.into(), log()?.into()]),
        },
    )?;
    Ok(waiting.pid)
}
