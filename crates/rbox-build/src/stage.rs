//! A stage: what it stands on, what it has so far.

use std::path::PathBuf;

use rbox_image::media::Descriptor;
use rbox_image::{History, Image, ImageConfig};
use rbox_spec::{Digest, Platform};
use serde::{Deserialize, Serialize};

use crate::cache::{Key, StepResult};
use crate::image;

/// A layer of a stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StageLayer {
    pub(crate) diff_id: Digest,
    pub(crate) digest: Digest,
    pub(crate) blob_size: u64,
    pub(crate) media_type: String,
    /// Its directory.
    pub(crate) dir: PathBuf,
}

impl StageLayer {
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.blob_size)
    }
}

/// What a stage has so far; done, it is what others stand on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// Its place in the file.
    pub(crate) number: usize,
    /// For progress: empty for the only stage of a file.
    pub(crate) name: String,
    /// For the trace: it stays the same from build to build.
    pub(crate) id: String,
    /// When there are several platforms, what is before that in the trace: its own, or nothing of what they share. Its steps are told with
    /// a platform then.
    pub(crate) trace: Option<String>,
    pub(crate) layers: Vec<StageLayer>,
    /// How many of the lowest layers are hidden as a whole.
    pub(crate) hidden: usize,
    /// The image that it stands on in the end, and how many lines of history that has; none from scratch.
    pub(crate) base_image: Option<(Digest, usize)>,
    /// The configuration, without layers and history.
    pub(crate) image: ImageConfig,
    pub(crate) history: Vec<History>,
    pub(crate) platform: Platform,
    /// What its tree is found by.
    pub(crate) key: Key,
    /// The environment of RUN: ENV and ARG, in their order.
    pub(crate) env: Vec<(String, String)>,
    /// The ARGs there were, for history; without a value they have none.
    pub(crate) args: Vec<(String, Option<String>)>,
    /// A CMD came in this stage: an ENTRYPOINT leaves it.
    pub(crate) has_cmd: bool,
    pub(crate) steps: usize,
    pub(crate) step: usize,
    pub(crate) is_on_build: bool,
    pub(crate) no_cache: bool,
    /// What its steps came to, and those that it stands on, by their keys.
    pub(crate) made: Vec<(Key, StepResult)>,
    /// The keys of those that saw something of this host, which no other host has: see [`Prepared`](crate::steps::Prepared).
    pub(crate) of_host: Vec<Key>,
}

/// The ARGs that RUN has without a definition.
pub(crate) const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Whether a build argument means something without an ARG.
pub(crate) fn is_predefined(name: &str) -> bool {
    PROXIES.contains(&name) || name.starts_with("BUILDKIT_") || name == "SOURCE_DATE_EPOCH"
}

impl Stage {
    pub(crate) fn of_image(image: &Image) -> Self {
        let layers: Vec<StageLayer> = image
            .layers
            .iter()
            .map(|layer| StageLayer {
                diff_id: layer.diff_id,
                digest: layer.digest,
                blob_size: layer.blob_size,
                media_type: rbox_image::media::layer_compression(&layer.media_type).map_or_else(
                    |_| layer.media_type.clone(),
                    |compression| compression.layer_type().to_owned(),
                ),
                dir: layer.dir.clone(),
            })
            .collect();
        let mut stage = Self::empty(image.platform.clone());
        stage.key = Key::of_layers(image::chain_of(&diff_ids(&layers)).as_ref());
        stage.layers = layers;
        stage.hidden = image.hidden;
        stage.base_image = Some((image.id, image.history().len()));
        stage.history = image.history().to_vec();
        stage.image = inherited(&image.config);
        stage.env = pairs(&image.config.config.env);
        if !stage.env.iter().any(|(name, _)| name == "PATH") {
            stage.set_env("PATH", image::DEFAULT_PATH);
        }
        stage
    }

    pub(crate) fn empty(platform: Platform) -> Self {
        let image = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            config: image::of_scratch(),
            ..ImageConfig::default()
        };
        Self {
            number: 0,
            name: String::new(),
            id: String::new(),
            trace: None,
            layers: Vec::new(),
            hidden: 0,
            base_image: None,
            env: pairs(&image.config.env),
            image,
            history: Vec::new(),
            platform,
            key: Key::of_layers(None),
            args: Vec::new(),
            has_cmd: false,
            steps: 0,
            step: 0,
            is_on_build: false,
            no_cache: false,
            made: Vec::new(),
            of_host: Vec::new(),
        }
    }

    /// The directories of its layers, base first, but for those that are hidden.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        self.layers.iter().skip(self.hidden).map(|layer| layer.dir.clone()).collect()
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        match self.env.iter_mut().find(|(one, _)| one == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.env.push((name.to_owned(), value.to_owned())),
        }
    }

    /// A line of history of something that made no layer.
    pub(crate) fn note(&mut self, line: String) {
        self.history.push(image::history(line, None, true));
    }

    /// Takes in what a step made. `tree`: what there is by then is found by this.
    pub(crate) fn take(&mut self, (key, result): (Key, &StepResult), tree: Key, line: String, dir: PathBuf) {
        self.layers.push(StageLayer {
            diff_id: result.diff_id,
            digest: result.digest,
            blob_size: result.blob_size,
            media_type: result.media_type.clone(),
            dir,
        });
        self.history.push(image::history(line, Some(result.created.clone()), false));
        self.key = tree;
        self.made.push((key, result.clone()));
    }

    /// The program and first arguments of a shell form.
    pub(crate) fn shell(&self) -> Vec<String> {
        match &self.image.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        }
    }

    /// What its next step is called.
    pub(crate) fn label(&mut self, text: &str) -> String {
        self.step += 1;
        let width = self.steps.to_string().len();
        let space = if self.name.is_empty() { "" } else { " " };
        let on_build = if self.is_on_build { "ONBUILD " } else { "" };
        let platform = self.told_platform();
        format!("[{platform}{}{space}{:width$}/{}] {on_build}{text}", self.name, self.step, self.steps)
    }

    /// `linux/amd64 `, or `linux/amd64->arm64 ` where it has asked what it makes things for and that is another one.
    ///
    /// Source: `formatTargetPlatform` and `platformFromEnv` of BuildKit's dockerfile2llb.
    fn told_platform(&self) -> String {
        if self.trace.is_none() {
            return String::new();
        }
        let own = &self.platform;
        let value =
            |name: &str| self.env.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str());
        let parts = (value("TARGETOS"), value("TARGETARCH"), value("TARGETVARIANT"));
        let whole = value("TARGETPLATFORM").and_then(|text| text.parse::<Platform>().ok());
        let target = match parts {
            _ if whole.is_some() => whole,
            (None, None, None) => None,
            (os, machine, variant) => {
                let given = |part: Option<&str>, own: &str| {
                    part.filter(|part| !part.is_empty()).unwrap_or(own).to_owned()
                };
                Some(Platform::new(&given(os, &own.os), &given(machine, &own.architecture), variant))
            }
        };
        match target {
            Some(target) if target.os != own.os => format!("{own}->{target} "),
            Some(target) if target.architecture != own.architecture => {
                let text = target.to_string();
                let machine = text.split_once('/').map_or(text.as_str(), |(_, machine)| machine);
                format!("{own}->{machine} ")
            }
            _ => format!("{own} "),
        }
    }
}

fn pairs(env: &[String]) -> Vec<(String, String)> {
    env.iter()
        .map(|line| line.split_once('=').unwrap_or((line, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The digests of layers.
pub(crate) fn diff_ids(layers: &[StageLayer]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.diff_id).collect()
}

/// The configuration without what only its base's builder knew.
pub(crate) fn inherited(config: &ImageConfig) -> ImageConfig {
    ImageConfig {
        created: None,
        parent: None,
        docker_version: None,
        comment: None,
        history: Vec::new(),
        ..config.clone()
    }
}
