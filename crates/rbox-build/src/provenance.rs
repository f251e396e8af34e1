//! What is stated of how an image was made: SLSA's provenance, in the fields that BuildKit fills.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rbox_image::{Attestation, Image, Statement};
use rbox_spec::{Digest, Platform, Reference};
use serde_json::{Map, Value, json};

use crate::builder::Builder;
use crate::context::{Context, NamedContext};
use crate::error::BuildError;
use crate::material::{Material, purl};
use crate::request::{BuildRequest, Provenance, SlsaVersion};
use crate::stage::Stage;

const BUILD_TYPE: &str = "https://mobyproject.org/buildkit@v1";
const BUILD_TYPE_V1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

impl Builder<'_> {
    /// Notes something for the platform whose stage is carried out.
    pub(crate) fn note_material(&mut self, material: Option<Material>) {
        let place = self.targets.place();
        self.used.materials.extend(material.map(|material| (place, material)));
    }

    /// What is stated of the images of a build, if anything is to be.
    pub(crate) fn attestations(
        &self,
        images: &[Image],
        stages: &[std::rc::Rc<Stage>],
    ) -> Result<Vec<Attestation>, BuildError> {
        let Some(wanted) = &self.request.provenance else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for (place, (image, stage)) in images.iter().zip(stages).enumerate() {
            let (predicate_type, predicate) = self.provenance_of(wanted, place, stage);
            let name = |name: &Reference| purl(&name.clone().with_default_tag(), &image.platform);
            let statement = Statement {
                predicate_type: predicate_type.to_owned(),
                predicate,
                subjects: self.request.names.iter().map(name).collect(),
            };
            let made = Attestation::new(&image.manifest_digest, &[statement]);
            all.push(made.map_err(|error| BuildError::Internal(error.to_string()))?);
        }
        Ok(all)
    }

    /// Whether files that are written somewhere come with a statement.
    pub(crate) fn states_files(&self) -> bool {
        self.request.provenance.as_ref().is_some_and(|wanted| !wanted.is_inline_only)
    }

    /// What is stated of the files of a stage: a document that goes along with them.
    pub(crate) fn statement_of_files(
        &self,
        (place, stage): (usize, &Stage),
        files: &[(String, Digest)],
    ) -> Result<Vec<u8>, BuildError> {
        let wanted = self.request.provenance.clone().unwrap_or_default();
        let (predicate_type, predicate) = self.provenance_of(&wanted, place, stage);
        let subjects = files.iter().map(|(name, digest)| (name.as_str(), digest));
        let statement = rbox_image::in_toto(predicate_type, &predicate, subjects);
        serde_json::to_vec_pretty(&statement).map_err(|error| BuildError::Internal(error.to_string()))
    }

    /// The type of the predicate, and that.
    fn provenance_of(&self, wanted: &Provenance, place: usize, stage: &Stage) -> (&'static str, Value) {
        let predicate = self.predicate(wanted, place, stage);
        match wanted.version {
            SlsaVersion::V02 => ("https://slsa.dev/provenance/v0.2", predicate),
            SlsaVersion::V1 => ("https://slsa.dev/provenance/v1", as_v1(&predicate)),
        }
    }

    /// The predicate of the image at a place.
    fn predicate(&self, wanted: &Provenance, place: usize, stage: &Stage) -> Value {
        let id = rbox_image::hash::sha256(format!("{}{}", self.begun, std::process::id()).as_bytes()).hex();
        let is_for = |one: usize| one == place || self.targets.is_shared(one);
        let materials = self.used.materials.iter().filter(|(one, _)| is_for(*one)).map(|(_, one)| one);
        let materials: BTreeSet<&Material> = materials.chain(context_material(self.request)).collect();
        let given = |all: &BTreeSet<(usize, String, bool)>| {
            let mut found: BTreeMap<&str, bool> = BTreeMap::new();
            for (_, id, optional) in all.iter().filter(|(one, ..)| is_for(*one)) {
                let known = found.entry(id).or_insert(true);
                *known &= *optional;
            }
            let one = |(id, optional)| {
                if optional { json!({ "id": id, "optional": true }) } else { json!({ "id": id }) }
            };
            found.into_iter().map(one).collect::<Vec<Value>>()
        };
        let (secrets, agents) = (given(&self.used.secrets), given(&self.used.agents));
        let mut parameters =
            json!({ "frontend": "dockerfile.v0", "args": arguments(self.request, wanted.is_whole) });
        let locals = locals(self.request);
        for (key, list) in [("secrets", secrets), ("ssh", agents), ("locals", locals.clone())] {
            if !list.is_empty() {
                parameters[key] = list.into();
            }
        }
        let has_hidden = !self.request.build_args.is_empty() || !self.request.labels.is_empty();
        let mut metadata = json!({
            "buildInvocationID": id.get(..25),
            "buildStartedOn": self.begun.to_string(),
            "buildFinishedOn": jiff::Timestamp::now().to_string(),
            "completeness": {
                "parameters": wanted.is_whole || !has_hidden,
                "environment": true,
                // What a directory of this host had, nobody else can look at.
                "materials": locals.is_empty() && stage.of_host.is_empty(),
            },
            "reproducible": wanted.is_reproducible,
        });
        if wanted.is_whole {
            let info = |(name, text): (&str, &str)| json!({ "filename": name, "language": "Dockerfile", "data": STANDARD.encode(text) });
            let infos: Vec<Value> = self.request.file.files().map(info).collect();
            let source = json!({ "infos": infos });
            metadata["https://mobyproject.org/buildkit@v1#metadata"] = json!({ "source": source });
        }
        json!({
            "builder": { "id": wanted.builder_id },
            "buildType": BUILD_TYPE,
            "materials": materials.into_iter().map(Material::json).collect::<Vec<_>>(),
            "invocation": {
                "configSource": config_source(self.request),
                "parameters": parameters,
                "environment": { "platform": Platform::host().to_string() },
            },
            "metadata": metadata,
        })
    }
}

/// Where the context came from, if that is not this host.
fn context_material(request: &BuildRequest) -> Option<&Material> {
    match &request.context {
        Context::Fetched(fetched) => fetched.material(),
        _ => None,
    }
}

fn config_source(request: &BuildRequest) -> Value {
    let entry = request.file_in_context.as_deref().unwrap_or(&request.file_name);
    let mut source = context_material(request).map_or_else(|| json!({}), Material::json);
    source["entryPoint"] = entry.into();
    source
}

/// The directories of this host that were read.
fn locals(request: &BuildRequest) -> Vec<Value> {
    let mut all = Vec::new();
    if context_material(request).is_none() {
        let names: &[&str] = match &request.context {
            Context::Empty => &["dockerfile"],
            _ => &["context", "dockerfile"],
        };
        all.extend(names.iter().map(|name| json!({ "name": name })));
    }
    for (name, context) in &request.contexts {
        if matches!(context, NamedContext::Files(Context::Directory(_))) {
            all.push(json!({ "name": name }));
        }
    }
    all
}

/// What the frontend was given. What the user's words brought only if `all`: they may be nobody's business.
fn arguments(request: &BuildRequest, all: bool) -> Value {
    let mut args = Map::new();
    if let Some(target) = &request.target {
        args.insert("target".to_owned(), target.clone().into());
    }
    if request.no_cache {
        args.insert("no-cache".to_owned(), "".into());
    } else if !request.no_cache_stages.is_empty() {
        args.insert("no-cache".to_owned(), request.no_cache_stages.join(",").into());
    }
    for (name, context) in &request.contexts {
        let value = match context {
            NamedContext::Image(image) => format!("docker-image://{image}"),
            NamedContext::Files(Context::Fetched(fetched)) => {
                fetched.material().map_or_else(|| format!("local:{name}"), |one| one.uri.clone())
            }
            NamedContext::Files(_) => format!("local:{name}"),
        };
        args.insert(format!("context:{name}"), value.into());
    }
    if all {
        for (prefix, given) in [("build-arg", &request.build_args), ("label", &request.labels)] {
            for (name, value) in given {
                args.insert(format!("{prefix}:{name}"), value.clone().into());
            }
        }
    }
    args.into()
}

/// The same in the fields of version 1. Source: `ConvertSLSA02ToSLSA1` of BuildKit's provenance types.
fn as_v1(predicate: &Value) -> Value {
    let at = |path: &str| predicate.pointer(path).cloned().unwrap_or_default();
    let mut source = at("/invocation/configSource");
    if let Some(fields) = source.as_object_mut()
        && let Some(entry) = fields.remove("entryPoint")
    {
        fields.insert("path".to_owned(), entry);
    }
    let mut metadata = json!({
        "invocationId": at("/metadata/buildInvocationID"),
        "startedOn": at("/metadata/buildStartedOn"),
        "finishedOn": at("/metadata/buildFinishedOn"),
        "https://mobyproject.org/buildkit@v1#completeness": at("/metadata/completeness"),
        "https://mobyproject.org/buildkit@v1#reproducible": at("/metadata/reproducible"),
    });
    let own = "https://mobyproject.org/buildkit@v1#metadata";
    if let Some(more) = predicate["metadata"].get(own) {
        metadata[own] = more.clone();
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE_V1,
            "externalParameters": { "configSource": source, "request": at("/invocation/parameters") },
            "internalParameters": { "builderPlatform": at("/invocation/environment/platform") },
            "resolvedDependencies": at("/materials"),
        },
        "runDetails": { "builder": at("/builder"), "metadata": metadata },
    })
}
