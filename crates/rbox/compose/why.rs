//! `rbox compose why`: what the next `up` would do with a service, and what it waits for.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Parser;
use rbox_compose::Observed;
use rbox_compose::model::{Condition, Project, Service};
use rbox_compose::plan::{Action, Plan, Wanted};
use rbox_compose::run;

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::compose::project::{load, no_service, options};
use crate::output::escape;
use crate::output::table::write_all;

/// Say what the next up would do with services, which fields differ, and what they wait for
#[derive(Debug, Parser)]
#[command(
    name = "why",
    after_help = "Examples:\n  rbox compose why            # every service\n  rbox compose why web"
)]
pub(crate) struct Why {
    /// Services; all when left out
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Why {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let project = load(&options(global)?)?.project;
        if let Some(unknown) = self.services.iter().find(|name| !project.services.contains_key(*name)) {
            return Err(no_service(unknown));
        }
        let observed = Observed::of(&global.engine, &project.name)?;
        let plan = run::plan(&global.engine, &project, images(global, &project)?, &Wanted::default())?;
        let mut text = String::new();
        for service in rbox_compose::plan::in_order(&project) {
            if self.services.is_empty() || self.services.contains(&service.name) {
                tell(&mut text, service, &plan, &observed);
            }
        }
        Ok(write_all(&mut std::io::stdout(), &text).map(|()| 0)?)
    }
}

/// The ids of the images that are here, by service.
pub(crate) fn images(global: &Global, project: &Project) -> anyhow::Result<BTreeMap<String, String>> {
    let store = global.engine.images()?;
    let mut images = BTreeMap::new();
    for (name, service) in &project.services {
        if let Some(image) = store.find(&rbox_compose::image_name(project, service))? {
            images.insert(name.clone(), image.id.to_string());
        }
    }
    Ok(images)
}

fn tell(text: &mut String, service: &Service, plan: &Plan, observed: &Observed) {
    let _ = writeln!(text, "{}", service.name);
    let actions = plan.services.iter().filter(|one| one.service == service.name).flat_map(|one| &one.actions);
    for action in actions {
        match action {
            Action::Keep(one) if !one.container.is_running() => {
                let name = one.name();
                let _ = writeln!(text, "  {name}: {}; 'rbox why {name}' says why", state(one));
            }
            Action::Keep(one) => {
                let _ = writeln!(text, "  {}: {}, as the files say", one.name(), state(one));
            }
            Action::Create { name, .. } => {
                let _ = writeln!(text, "  {name}: is not there, and would be created");
            }
            Action::Recreate { old, why, .. } => {
                let _ = writeln!(text, "  {}: {}, would be made again", old.name(), state(old));
                for cause in why {
                    let _ = writeln!(text, "    {}", escape::text(&cause.to_string()));
                }
            }
            Action::Remove(one) => {
                let _ =
                    writeln!(text, "  {}: {}, is one too many and would be removed", one.name(), state(one));
            }
        }
    }
    for (name, on) in &service.depends_on {
        let wanted = match on.condition {
            Condition::Started => "runs",
            Condition::Healthy => "is healthy",
            Condition::CompletedSuccessfully => "has ended with 0",
        };
        let now: Vec<String> = observed.of_service(name).map(state).collect();
        let now = if now.is_empty() { "it is not there".to_owned() } else { now.join(", ") };
        let _ = writeln!(text, "  starts once {name} {wanted} (now: {now})");
    }
}

/// A container's state, in a few words.
fn state(one: &rbox_compose::Instance) -> String {
    let container = &one.container;
    let health = container.health.as_ref().filter(|_| container.is_running());
    match (container.is_active(), &container.exit) {
        (true, _) => match health {
            Some(health) => format!("{} ({})", container.status.as_str(), health.status.as_str()),
            None => container.status.as_str().to_owned(),
        },
        (false, Some(exit)) => format!("exited ({})", exit.exit_code),
        (false, None) => container.status.as_str().to_owned(),
    }
}
