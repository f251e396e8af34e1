//! Commands that show what a container is made of while it runs: its namespaces, its group and its layers, as tables, JSON and diagrams.

pub(crate) mod cgroup;
pub(crate) mod fs;
pub(crate) mod ns;

use std::path::Path;

use rbox_engine::engine::Container;

use crate::command::global::Global;

/// The containers of these names, which must run; all that run where none is named.
///
/// # Errors
/// One is not there, or does not run.
fn running(global: &Global, names: &[String], has_none: &str) -> anyhow::Result<Vec<Container>> {
    if names.is_empty() {
        let mut all = global.engine.running()?;
        all.sort_by(|one, other| one.record.name.cmp(&other.record.name));
        return Ok(all);
    }
    let mut chosen = Vec::new();
    for name in names {
        let container = global.engine.container(name)?;
        if container.live.is_none() {
            anyhow::bail!("container {name} is not running: {has_none} (rbox start {name})");
        }
        if !chosen.iter().any(|known: &Container| known.record.id == container.record.id) {
            chosen.push(container);
        }
    }
    Ok(chosen)
}

/// Writes a diagram where `--svg` says; `-` is the standard output.
fn write_svg(path: &Path, drawn: &str) -> anyhow::Result<()> {
    if path == Path::new("-") {
        crate::output::table::write_all(&mut std::io::stdout(), drawn)?;
        return Ok(());
    }
    std::fs::write(path, drawn).map_err(|error| anyhow::anyhow!("cannot write {}: {error}", path.display()))
}
