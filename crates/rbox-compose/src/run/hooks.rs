//! Commands that a service has run in its containers: after a start, and before a stop.

use std::collections::BTreeMap;

use rbox_engine::engine::{Engine, ExecRequest, ExecStdio};

use crate::error::RunError;
use crate::model::Hook;
use crate::observed::Instance;

/// Runs hooks in a container, one after the other, and waits for each; `key` says of what they are. This process must have one thread.
/// What they write is not shown.
///
/// # Errors
/// One cannot be run, or does not end with 0.
pub fn run_hooks(engine: &Engine, instance: &Instance, hooks: &[Hook], key: &str) -> Result<(), RunError> {
    let record = &instance.container.record;
    let id = record.id.as_str();
    hooks.iter().try_for_each(|hook| run_hook(engine, id, instance.name(), hook, key, &|| ()))
}

/// The same for one, in a container that is known by its id. In one that does not run any more there is nothing to do. `tick` is
/// called now and then until it has ended: it has no time limit, but whoever called may end its container.
pub(super) fn run_hook(
    engine: &Engine,
    id: &str,
    name: &str,
    hook: &Hook,
    key: &str,
    tick: &dyn Fn(),
) -> Result<(), RunError> {
    let failed = |source| RunError::of_container(name, source);
    let container = engine.container(id).map_err(failed)?;
    if !container.is_running() {
        return Ok(());
    }
    let request = hook_request(hook);
    let process = engine.exec(&container, &request, ExecStdio::Nowhere).map_err(failed)?;
    match process.wait_with(tick) {
        0 => Ok(()),
        code => Err(RunError::NotReady(format!(
            "container {name}: its {key} hook {:?} ended with {code}",
            request.command.join(" ")
        ))),
    }
}

/// What a hook runs.
pub fn hook_request(hook: &Hook) -> ExecRequest {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    ExecRequest {
        command: hook.command.clone().unwrap_or_default(),
        env: pairs(&hook.environment),
        user: given(&hook.user),
        working_dir: given(&hook.working_dir),
        privileged: hook.privileged,
        ..ExecRequest::default()
    }
}

/// `NAME=VALUE`; without a value it is this process's, if it has one.
fn pairs(environment: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let pair = |(name, given): (&String, &Option<String>)| {
        value_of(name, given.as_ref()).map(|value| format!("{name}={value}"))
    };
    environment.iter().filter_map(pair).collect()
}

/// A variable of a hook, or this process's of that name.
pub(super) fn value_of(name: &str, given: Option<&String>) -> Option<String> {
    given.cloned().or_else(|| std::env::var(name).ok())
}
