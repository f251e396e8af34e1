//! `rbox compose down`.

use clap::Parser;
use rbox_compose::run::{self, DownRequest, RemovedImages};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::compose::chosen::Chosen;
use crate::compose::narrator::Shown;
use crate::compose::progress::Progress;
use crate::compose::project::no_service;

/// Stop and remove containers and networks
#[derive(Debug, Parser)]
#[command(
    name = "down",
    after_help = "Examples:
  rbox compose down                 # volumes stay
  rbox compose down -v --rmi local  # nothing stays but images that have a name of their own
  rbox compose -p shop down         # without the files"
)]
pub(crate) struct Down {
    /// Also containers of services that are not in the files any more
    #[arg(long)]
    remove_orphans: bool,
    /// Images too: all that services use, or local: those without a name of their own
    #[arg(long, value_name = "WHICH", value_parser = ["all", "local"])]
    rmi: Option<String>,
    /// Seconds for a container to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// Volumes too: those of the files, and anonymous ones
    #[arg(short, long)]
    volumes: bool,
    /// Services; all when left out
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Down {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let Chosen { name, loaded, .. } = Chosen::read(global, &[])?;
        let project = loaded.map(|loaded| loaded.project);
        let is_known = |service: &String| {
            project.as_ref().is_none_or(|project| {
                project.services.contains_key(service) || project.disabled_services.contains_key(service)
            })
        };
        if let Some(unknown) = self.services.iter().find(|service| !is_known(service)) {
            return Err(no_service(unknown));
        }
        let request = DownRequest {
            services: self.services.into_iter().collect(),
            remove_orphans: self.remove_orphans,
            timeout: self.timeout,
            volumes: self.volumes,
            images: self
                .rmi
                .map(|which| if which == "all" { RemovedImages::All } else { RemovedImages::Local }),
            rehearsal: global.project.dry_run,
        };
        let progress = Progress::new(&global.project, "Running")?;
        run::down(&global.engine, &name, project.as_ref(), &request, &Shown(&progress))?;
        Ok(0)
    }
}
