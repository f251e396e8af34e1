//! One thing that is not as it should be.

use std::path::PathBuf;

use rbox_image::{Image, Layer, LayerDamage};
use rbox_network::{ContainerRule, Network};
use rbox_spec::id::ContainerId;
use rbox_spec::{Platform, Reference, VolumeName};

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is there and belongs to nobody.
    Stray,
    /// It is not there, or not as it was made.
    Damaged,
}

impl Trouble {
    /// As it is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stray => "stray",
            Self::Damaged => "damaged",
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it was.
    Left,
    /// It is as it should be.
    Repaired,
    /// It could not be repaired, and why not.
    Failed(String),
}

/// One thing that is not as it should be.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What kind of trouble it is.
    pub trouble: Trouble,
    /// What has it.
    pub what: String,
    /// What is wrong.
    pub why: String,
    /// What to do, where it cannot be repaired.
    pub by_hand: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    pub(super) fix: Option<Fix>,
}

/// How it is repaired.
#[derive(Debug, Clone)]
pub(super) enum Fix {
    /// The control group of a container: ended and removed.
    Group(ContainerId),
    /// A container that runs, of which nothing is noted any more: ended.
    Unnoted(ContainerId),
    /// A container's own layer: made again, with nothing in it.
    OwnLayer(ContainerId),
    /// A volume's directory: made again, with nothing in it.
    Data(VolumeName),
    /// A bridge's link: deleted.
    Link(String, String),
    /// What the rules have for a container: taken out.
    Rule(ContainerRule),
    /// Bridges and rules: made again.
    Networks,
    /// Addresses held in a name: given back.
    Addresses(Box<Network>, String),
    /// A volume's file system: unmounted.
    Volume(VolumeName),
    /// A layer: unpacked or fetched again.
    Layer(Box<(Image, Layer, LayerDamage)>),
    /// An image: fetched again by its digest.
    Image(Reference, Option<Platform>),
    /// What is in the image store without a name: deleted.
    Unnamed(Vec<PathBuf>),
}

impl Finding {
    pub(super) fn repairable(
        trouble: Trouble,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: Fix,
    ) -> Self {
        let (what, why) = (what.into(), why.into());
        Self { trouble, what, why, by_hand: None, outcome: Outcome::Left, fix: Some(fix) }
    }

    pub(super) fn by_hand(
        trouble: Trouble,
        what: impl Into<String>,
        why: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        let (what, why, by_hand) = (what.into(), why.into(), Some(todo.into()));
        Self { trouble, what, why, by_hand, outcome: Outcome::Left, fix: None }
    }

    /// Whether `check --repair` takes care of it.
    pub fn is_repairable(&self) -> bool {
        self.fix.is_some()
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        (self.trouble, &self.what, &self.why) == (other.trouble, &other.what, &other.why)
    }
}
