//! What a build makes images for: one platform or several, and what all of them share.
//!
//! A stage is carried out once for each platform. Each time is a *task*: its number is the place of the platform times the number of stages, plus the
//! stage's own. What of a stage is the same for all platforms (FROM with a `--platform` that is, up to the first instruction that is not) is a
//! task as well, at the place after the last platform. It is carried out once, and the stage of each platform goes on from there.

use rbox_spec::Platform;

/// A platform that an image is made for.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) platform: Platform,
    /// What images are asked for; none where the user named no platform.
    pub(crate) wanted: Option<Platform>,
    /// ARGs before the first FROM, and those that each build has.
    pub(crate) args: Vec<(String, String)>,
}

/// How much of a stage is the same for all platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// So many instructions, those of the base's ONBUILD first.
    pub(crate) instructions: usize,
    /// Which are all.
    pub(crate) is_whole: bool,
}

/// The platforms of a build, and the numbers of its tasks.
#[derive(Debug)]
pub(crate) struct Targets {
    all: Vec<Target>,
    /// How many stages the file has.
    stages: usize,
    /// How much of each stage is shared; nothing of any when there is one platform.
    shares: Vec<Option<Share>>,
    /// The place of the task that is carried out.
    at: usize,
}

impl Targets {
    /// `platforms`: as the user named them; none for this machine's.
    pub(crate) fn new(platforms: &[Platform], stages: usize) -> Self {
        let of = |wanted: Option<&Platform>| Target {
            platform: wanted.cloned().unwrap_or_else(Platform::host),
            wanted: wanted.cloned(),
            args: Vec::new(),
        };
        let mut all: Vec<Target> = Vec::new();
        for platform in platforms {
            if all.iter().all(|target| target.platform != *platform) {
                all.push(of(Some(platform)));
            }
        }
        if all.is_empty() {
            all.push(of(None));
        }
        Self { all, stages, shares: Vec::new(), at: 0 }
    }

    pub(crate) fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    pub(crate) fn all(&self) -> &[Target] {
        &self.all
    }

    pub(crate) fn all_mut(&mut self) -> &mut [Target] {
        &mut self.all
    }

    /// How many tasks there can be.
    pub(crate) fn tasks(&self) -> usize {
        let places = if self.are_several() { self.all.len() + 1 } else { 1 };
        places * self.stages
    }

    /// The platform at a place. For what is shared any would do.
    pub(crate) fn at_place(&self, place: usize) -> &Target {
        let place = if self.is_shared(place) { 0 } else { place };
        // There is one at least.
        #[allow(clippy::indexing_slicing, reason = "places are those of the platforms")]
        &self.all[place]
    }

    /// The platform of the task that is carried out.
    pub(crate) fn current(&self) -> &Target {
        self.at_place(self.at)
    }

    pub(crate) const fn place(&self) -> usize {
        self.at
    }

    /// Goes to another place; the one before.
    pub(crate) fn go_to(&mut self, place: usize) -> usize {
        std::mem::replace(&mut self.at, place)
    }

    /// Whether what all platforms share is carried out at this place.
    pub(crate) fn is_shared(&self, place: usize) -> bool {
        place >= self.all.len()
    }

    /// Where a task belongs, and its stage.
    pub(crate) fn split(&self, task: usize) -> (usize, usize) {
        let stages = self.stages.max(1);
        (task / stages, task % stages)
    }

    /// The task of a stage, seen from a place.
    pub(crate) fn task(&self, place: usize, stage: usize) -> usize {
        if self.share(stage).is_some_and(|share| share.is_whole) {
            return self.shared_task(stage);
        }
        place * self.stages + stage
    }

    /// The task that is what a stage shares.
    pub(crate) fn shared_task(&self, stage: usize) -> usize {
        self.all.len() * self.stages + stage
    }

    /// What all platforms share of a stage.
    pub(crate) fn share(&self, stage: usize) -> Option<Share> {
        self.shares.get(stage).copied().flatten()
    }

    /// Forgets what is shared.
    pub(crate) fn clear_shares(&mut self) {
        self.shares.clear();
    }

    /// Notes what is shared of the next stage.
    pub(crate) fn add_share(&mut self, share: Option<Share>) {
        self.shares.push(share);
    }

    /// What is before the names of steps that tell why they are not cached: those of one platform are not those of another. None where there
    /// is one.
    pub(crate) fn trace(&self, place: usize) -> Option<String> {
        let target = self.all.get(place);
        self.are_several().then(|| target.map_or_else(String::new, |target| format!("{} ", target.platform)))
    }

    /// Whether an ARG without a value has another one for each platform.
    pub(crate) fn differ(&self, name: &str) -> bool {
        let value = |target: &Target| {
            target.args.iter().rev().find(|(one, _)| one == name).map(|(_, value)| value.clone())
        };
        let mut values = self.all.iter().map(value);
        let first = values.next();
        values.any(|value| Some(value) != first)
    }
}
