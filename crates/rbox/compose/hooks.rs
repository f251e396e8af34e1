//! Commands that a service has run in its containers: after a start, and before a stop.

use std::collections::BTreeMap;

use rbox_compose::Instance;
use rbox_compose::model::Hook;
use rbox_engine::engine::{ExecRequest, ExecStdio};

use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;

/// Runs hooks in a container, one after the other, and waits for each. This process must have one thread. What they write is not
/// shown.
pub(crate) fn run(global: &Global, instance: &Instance, hooks: &[Hook]) -> anyhow::Result<()> {
    for hook in hooks {
        let Some(container) = global.engine.current(&instance.container.record.id) else { return Ok(()) };
        if !container.is_running() {
            return Ok(());
        }
        let process = global.engine.exec(&container, &request(hook), ExecStdio::Nowhere)?;
        let code = process.wait();
        if code != 0 {
            let message = format!("{} hook exited with status {code}", instance.service);
            return Err(Coded { message, code: NOT_DONE }.into());
        }
    }
    Ok(())
}

/// What a hook runs.
pub(crate) fn request(hook: &Hook) -> ExecRequest {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    ExecRequest {
        command: hook.command.clone().unwrap_or_default(),
        tty: false,
        env: pairs(&hook.environment),
        user: given(&hook.user),
        working_dir: given(&hook.working_dir),
        privileged: hook.privileged,
    }
}

/// `NAME=VALUE`; without a value it is this process's, if it has one.
fn pairs(environment: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let value = |name: &String, value: &Option<String>| value.clone().or_else(|| std::env::var(name).ok());
    let pair = |(name, given)| value(name, given).map(|value| format!("{name}={value}"));
    environment.iter().filter_map(pair).collect()
}
