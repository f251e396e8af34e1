//! `run`: one more container of a service, for one command.

use rbox_engine::engine::{ContainerRecord, Engine, ObtainedImage};
use rbox_spec::container::Attached;
use rbox_spec::mount::MountSpec;
use rbox_spec::port::PortMapping;
use rbox_spec::restart::RestartPolicy;

use super::{Narrator, Stage, Thing, things};
use crate::error::RunError;
use crate::labels;
use crate::model::{Project, Service};
use crate::observed::Observed;
use crate::request::Making;

/// What makes one of `run` different from the service's own containers. What the service says itself is changed in the service.
#[derive(Clone, Debug, Default)]
pub struct OneOff {
    /// Its name; made up when none.
    pub name: Option<String>,
    /// It is removed when it has ended.
    pub auto_remove: bool,
    /// Nobody is attached.
    pub detached: bool,
    /// It answers to the service's name and aliases on its networks.
    pub aliases: bool,
    /// More mounts; each takes the place of the service's at its target.
    pub mounts: Vec<MountSpec>,
    /// More ports.
    pub ports: Vec<PortMapping>,
}

/// Makes the container. It is not started.
///
/// # Errors
/// The service asks for what cannot be, or the name is taken.
pub fn one_off(
    engine: &Engine,
    project: &Project,
    service: &Service,
    image: &ObtainedImage,
    wanted: OneOff,
    narrator: &dyn Narrator,
) -> Result<ContainerRecord, RunError> {
    // Networks and volumes of this service alone: those of others are nobody's business now.
    let mut alone = project.clone();
    alone.services.retain(|name, _| *name == service.name);
    let _alone = super::alone(engine, &project.name, narrator)?;
    let _networks = things::networks(engine, &alone, narrator)?;
    things::volumes(engine, &alone, narrator)?;
    let observed = Observed::of(engine, &project.name)?;
    let slug = random_slug();
    let name =
        wanted.name.unwrap_or_else(|| format!("{}-{}-run-{}", project.name, service.name, &slug[..12]));
    let image_id = image.image.id.to_string();
    let peer = |peer: &str| observed.of_service(peer).next().map(|one| one.container.record.id.to_string());
    let making = Making {
        project,
        service,
        number: 1,
        name: name.clone(),
        image_id: &image_id,
        kept: &[],
        peer: &peer,
        aliases: wanted.aliases,
    };
    let mut request = making.request()?;
    request.embedded = image.is_embedded;
    let own = &mut request.config.labels;
    own.insert(labels::ONE_OFF.into(), "True".into());
    own.insert(labels::SLUG.into(), slug);
    let stdin = request.config.open_stdin;
    request.config.attached = if wanted.detached { Attached::NONE } else { Attached::output_and(stdin) };
    request.host.auto_remove = wanted.auto_remove;
    request.host.restart = RestartPolicy::No;
    for mount in wanted.mounts {
        request.host.mounts.retain(|other| other.target != mount.target);
        request.host.mounts.push(mount);
    }
    request.host.ports.extend(wanted.ports);
    narrator.tell(Thing::Container, &name, Stage::Creating);
    let made = engine.create(request, &image.image).map_err(|source| {
        narrator.tell(Thing::Container, &name, Stage::Error);
        RunError::of_container(&name, source)
    })?;
    narrator.tell(Thing::Container, &name, Stage::Created);
    Ok(made)
}

/// 64 hex digits.
pub(super) fn random_slug() -> String {
    use std::fmt::Write as _;
    use std::hash::{BuildHasher as _, RandomState};
    let mut text = String::new();
    for part in 0..4_u8 {
        let _ = write!(text, "{:016x}", RandomState::new().hash_one(part));
    }
    text
}
