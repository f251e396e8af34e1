//! What is told, as `--explain=json` prints it.

use serde::Deserialize;

use crate::output::escape;

/// Something told.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event {
    Step(Step),
    Call(Call),
    End(End),
    View { view: View },
}

/// A step is over.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct End {
    pub(crate) actor: String,
    #[serde(rename = "step")]
    pub(crate) name: String,
}

/// What the container's first process sees, before it is let go.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct View {
    /// Its number on the host.
    pub(crate) process: i32,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) mounts: Vec<Mount>,
}

/// A namespace that it is in.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) number: String,
    /// Whether it is the host's.
    pub(crate) shared: bool,
}

/// A mount in its tree.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Mount {
    pub(crate) at: String,
    /// The kind of file system.
    pub(crate) kind: String,
}

/// A step begins.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Step {
    /// Microseconds since rbox began.
    pub(crate) at_us: u64,
    /// Who does it: `rbox`, `monitor` or `container`.
    pub(crate) actor: String,
    #[serde(rename = "step")]
    pub(crate) name: String,
    /// One sentence.
    pub(crate) why: String,
}

/// A system call came back, or is one that does not.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Call {
    /// Microseconds since rbox began, at its end.
    pub(crate) at_us: u64,
    pub(crate) actor: String,
    /// The step that it is part of; none for one between steps.
    pub(crate) step: Option<String>,
    #[serde(rename = "syscall")]
    pub(crate) name: String,
    pub(crate) args: String,
    pub(crate) result: String,
    /// How long it took, in microseconds.
    pub(crate) us: u64,
}

impl Event {
    /// With nothing that a terminal acts on: paths are named by images and by programs.
    pub(crate) fn for_terminals(mut self) -> Self {
        let clean = |text: &mut String| *text = escape::text(text).into_owned();
        match &mut self {
            Self::Call(call) => [&mut call.args, &mut call.result].into_iter().for_each(clean),
            Self::View { view } => {
                view.mounts.iter_mut().flat_map(|mount| [&mut mount.at, &mut mount.kind]).for_each(clean);
            }
            Self::Step(_) | Self::End(_) => {}
        }
        self
    }
}

impl Call {
    /// Whether it did what it was to do.
    pub(crate) fn worked(&self) -> bool {
        !self.result.starts_with("-1 ")
    }

    /// Its arguments that are in quotes, without them.
    pub(crate) fn quoted(&self) -> Vec<&str> {
        self.args.split('"').skip(1).step_by(2).collect()
    }
}
