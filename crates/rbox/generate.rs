//! `rbox completion` and `rbox man`: made from the same tree that reads the command line.

use std::path::{Path, PathBuf};

use clap::Parser;
use clap_complete::Shell;

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::output::lines::say;
use crate::output::table::write_all;

/// Generate the completion script for a shell
#[derive(Debug, Parser)]
#[command(
    name = "completion",
    after_help = "Examples:\n  rbox completion bash > /usr/share/bash-completion/completions/rbox\n  rbox completion zsh > /usr/share/zsh/vendor-completions/_rbox\n  rbox completion fish > /usr/share/fish/vendor_completions.d/rbox.fish"
)]
pub(crate) struct Completion {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_enum)]
    shell: Shell,
}

impl Execute for Completion {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut (global.tree)(), "rbox", &mut script);
        write_all(&mut std::io::stdout(), &String::from_utf8(script)?)?;
        Ok(0)
    }
}

/// Generate the manual pages
#[derive(Debug, Parser)]
#[command(
    name = "man",
    after_help = "Examples:\n  rbox man /usr/local/share/man/man1     # rbox.1, rbox-run.1, …\n  rbox man | man -l -                    # the first page, on standard output"
)]
pub(crate) struct Man {
    /// Where to write the pages, made when it is not there; the first goes to standard output when this is absent
    dir: Option<PathBuf>,
}

impl Execute for Man {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut root = (global.tree)();
        root.build();
        let Some(dir) = &self.dir else {
            write_all(&mut std::io::stdout(), &page(&root)?)?;
            return Ok(0);
        };
        std::fs::create_dir_all(dir)
            .map_err(|error| bad_input(format!("make directory {}: {error}", dir.display())))?;
        let count = write_pages(&root, "rbox", dir)?;
        say(&format!("{count} pages in {}", dir.display()))?;
        Ok(0)
    }
}

fn page(command: &clap::Command) -> anyhow::Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    Ok(String::from_utf8(text)?)
}

/// Writes the page of a command and of all below it; gives how many.
fn write_pages(command: &clap::Command, name: &str, dir: &Path) -> anyhow::Result<usize> {
    let path = dir.join(format!("{name}.1"));
    // clap keeps names for the life of the process; this one ends when the pages are written.
    let text = page(&command.clone().name(&*name.to_owned().leak()))?;
    std::fs::write(&path, text).map_err(|error| anyhow::anyhow!("write {}: {error}", path.display()))?;
    let mut count = 1;
    for below in command.get_subcommands() {
        count += write_pages(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dispatch::tree;

    #[test]
    fn each_command_has_a_page() {
        let mut root = tree();
        root.build();
        let text = page(&root).unwrap();
        assert!(text.contains(".TH") && text.contains("rbox"));
    }

    #[test]
    fn scripts_name_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut tree(), "rbox", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("inspect") && script.contains("prune"), "{shell}");
        }
    }
}
