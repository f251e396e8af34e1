//! `rbox mount`: more or fewer mounts of a container that exists, also while it runs.

use clap::Parser;
use rbox_engine::spec::mount::MountSpec;

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;

/// Mount something in a container that exists, also while it runs
#[derive(Debug, Parser)]
#[command(
    name = "add",
    after_help = "Examples:
  rbox mount add web \"$PWD\"/site:/srv/site:ro      # at once, without a restart, and from now on
  rbox mount add web data:/data                     # a volume, made when it is missing
  rbox mount add web type=tmpfs,target=/cache,tmpfs-size=64m"
)]
pub(crate) struct Add {
    /// Its name or id
    container: String,
    /// What to mount: [SOURCE:]TARGET[:OPTIONS] as -v has it, or fields as --mount has them
    #[arg(required = true, value_name = "MOUNT")]
    mounts: Vec<String>,
}

impl Execute for Add {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let cwd = std::env::current_dir().ok().map(|dir| dir.to_string_lossy().into_owned());
        let parse = |text: &String| {
            let is_fields = ["type=", "target=", "dst=", "destination=", "source=", "src="]
                .iter()
                .any(|key| text.starts_with(key));
            if is_fields {
                MountSpec::parse_mount(text, cwd.as_deref()).map_err(bad_input)
            } else {
                MountSpec::parse_volume(text, cwd.as_deref()).map_err(bad_input)
            }
        };
        let wanted = self.mounts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        global.engine.add_mounts(&global.engine.container(&self.container)?, &wanted)?;
        Ok(0)
    }
}

/// Take away what is mounted in a container, also while it runs
///
/// A program that has a file of it open keeps that file; the data of a volume stays.
#[derive(Debug, Parser)]
#[command(
    name = "rm",
    after_help = "Examples:\n  rbox mount rm web /srv/site\n  rbox mount rm web /data /cache"
)]
pub(crate) struct Rm {
    /// Its name or id
    container: String,
    /// Where it is mounted inside
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
}

impl Execute for Rm {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let container = global.engine.container(&self.container)?;
        for target in &self.targets {
            let target = match target.trim_end_matches('/') {
                "" => return Err(bad_input("the target must be an absolute path, and not /")),
                target => target,
            };
            global.engine.remove_mount(&container, target)?;
        }
        Ok(0)
    }
}
