//! Starting a container for a command that may stay with it, and what that command ends with.

use rbox_engine::engine::{Container, ContainerRecord};

use crate::command::error::Coded;
use crate::command::global::Global;
use crate::session::peers::Ended;

/// Passes a signal on to the container's PID 1, whoever that is by then.
pub(crate) fn signal_proxy<'a>(global: &'a Global, record: &'a ContainerRecord) -> impl Fn(i32) + 'a {
    move |signal| {
        if let (Some(container), Ok(signal)) = (global.engine.current(&record.id), signal.to_string().parse())
        {
            // It may have ended meanwhile: then there is nobody to tell.
            let _ = global.engine.kill(&container, signal);
        }
    }
}

/// What an attached command ends with.
pub(crate) fn exit_code(global: &Global, record: &ContainerRecord, ended: &Ended) -> anyhow::Result<u8> {
    match ended {
        Ended::Exit(code) => Ok(u8::try_from(*code).unwrap_or(255)),
        Ended::Detached => {
            global.engine.detached(record);
            Ok(0)
        }
        Ended::CutOff => {
            let message = format!(
                "this command took no output of container {} for too long and was cut off; the container goes on (rbox logs {} tells the rest)",
                record.name, record.name
            );
            Err(Coded { message, code: 125 }.into())
        }
        Ended::Lost => {
            let container = global.engine.current(&record.id);
            // An end that is on record is an end, whoever reported it.
            if let Some(exit) = container.as_ref().filter(|c| c.live.is_none()).and_then(|c| c.exit.as_ref())
            {
                return Ok(u8::try_from(exit.exit_code).unwrap_or(255));
            }
            // The monitor was killed. The program may go on without it.
            if let Some(container) = container.filter(Container::is_running) {
                let message = format!(
                    "lost the monitor of container {}: it was killed; the program runs on without log (rbox stop {} ends it)",
                    container.record.name, container.record.name
                );
                return Err(Coded { message, code: 125 }.into());
            }
            let message = format!("lost the monitor of container {}: it was killed", record.name);
            Err(Coded { message, code: 125 }.into())
        }
    }
}
