//! Where a cache elsewhere is: what `--cache-from` and `--cache-to` say.

use rbox_build::{CachePlace, CacheSource, CacheTarget, Which};
use rbox_engine::image::media::Compression;
use rbox_engine::spec::Reference;

use crate::builder::output::{split, truth};

/// What a directory's cache is called when nobody says.
const TAG: &str = "latest";

/// What `--cache-from` names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    Caches(Vec<CacheSource>),
    /// Of a type that is not read.
    Unused,
}

/// What `--cache-to` names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Targets {
    Caches(Vec<CacheTarget>),
    /// The image itself. `is_whole`: with the steps of all stages, which no image has.
    Inline {
        is_whole: bool,
    },
    /// Of a type that is not written.
    Unused,
}

/// Reads `type=local,src=DIR[,tag=NAME | ,digest=DIGEST]`, `type=registry,ref=NAME`, or names alone.
pub(crate) fn sources(text: &str) -> Result<Sources, String> {
    let fields = match Given::read(text)? {
        Given::Names(names) => {
            return Ok(Sources::Caches(names.into_iter().map(CacheSource::Registry).collect()));
        }
        Given::Fields(fields) => fields,
    };
    let one = match kind(&fields) {
        "local" => directory(fields)?,
        "registry" => {
            let mut name = None;
            for (key, value) in fields {
                match key.as_str() {
                    "type" => {}
                    "ref" => name = Some(reference(&value)?),
                    _ => return Err(unknown(&key)),
                }
            }
            CacheSource::Registry(name.ok_or("registry cache importer requires ref")?)
        }
        "" => return Err("type is required: type=local or type=registry".to_owned()),
        _ => return Ok(Sources::Unused),
    };
    Ok(Sources::Caches(vec![one]))
}

fn directory(fields: Vec<(String, String)>) -> Result<CacheSource, String> {
    let (mut dir, mut which) = (None, Which::Tag(TAG.to_owned()));
    for (key, value) in fields {
        match key.as_str() {
            "type" => {}
            "src" => dir = Some(value),
            "tag" => which = Which::Tag(value),
            "digest" => which = Which::Digest(value.parse().map_err(|_| format!("{value} is no digest"))?),
            _ => return Err(unknown(&key)),
        }
    }
    let dir = dir.filter(|dir| !dir.is_empty()).ok_or("local cache importer requires src")?;
    Ok(CacheSource::Directory { dir: dir.into(), which })
}

/// Reads `type=local,dest=DIR`, `type=registry,ref=NAME`, each with options, `type=inline`, or names alone.
pub(crate) fn targets(text: &str) -> Result<Targets, String> {
    let fields = match Given::read(text)? {
        Given::Names(names) => {
            let places = names.into_iter().map(CachePlace::Registry);
            return Ok(Targets::Caches(places.map(target_at).collect()));
        }
        Given::Fields(fields) => fields,
    };
    match kind(&fields) {
        "local" | "registry" => Ok(Targets::Caches(vec![target(fields)?])),
        "inline" => {
            let is_whole = fields.iter().any(|(key, value)| key == "mode" && value == "max");
            Ok(Targets::Inline { is_whole })
        }
        "" => Err("type is required: type=local, type=registry or type=inline".to_owned()),
        _ => Ok(Targets::Unused),
    }
}

fn target_at(place: CachePlace) -> CacheTarget {
    CacheTarget { place, all: false, compression: Compression::Zstd, ignore_error: false }
}

/// `[,mode=max][,tag=NAME][,compression=HOW][,ignore-error=true]`, and where it is.
fn target(fields: Vec<(String, String)>) -> Result<CacheTarget, String> {
    let is_local = kind(&fields) == "local";
    let (mut dir, mut tag, mut name) = (String::new(), TAG.to_owned(), None);
    let mut target = target_at(CachePlace::Directory { dir: "".into(), tag: String::new() });
    for (key, value) in fields {
        match (key.as_str(), value.as_str()) {
            ("type" | "force-compression", _) => {}
            ("dest", _) if is_local => dir = value,
            ("tag", _) if is_local => tag = value,
            ("ref", _) if !is_local => name = Some(reference(&value)?),
            ("mode", "min") => target.all = false,
            ("mode", "max") => target.all = true,
            ("compression", "uncompressed") => target.compression = Compression::None,
            ("compression", "gzip") => target.compression = Compression::Gzip,
            ("compression", "zstd") => target.compression = Compression::Zstd,
            ("ignore-error", _) => target.ignore_error = truth(&key, &value)?,
            // As it always is: a manifest of OCI's, whose layers are compressed as it says.
            ("oci-mediatypes" | "image-manifest", _) if truth(&key, &value)? => {}
            ("mode" | "compression" | "compression-level" | "oci-mediatypes" | "image-manifest", _) => {
                return Err(format!("{key}={value} is not supported"));
            }
            _ => return Err(unknown(&key)),
        }
    }
    target.place = if is_local {
        if dir.is_empty() {
            return Err("local cache exporter requires dest".to_owned());
        }
        CachePlace::Directory { dir: dir.into(), tag }
    } else {
        CachePlace::Registry(name.ok_or("registry cache exporter requires ref")?)
    };
    if matches!(&target.place, CachePlace::Registry(name) if name.digest().is_some()) {
        return Err("a cache is written under a tag, and no digest".to_owned());
    }
    Ok(target)
}

fn unknown(key: &str) -> String {
    if key == "registry.insecure" {
        return "registry.insecure: what is said of registries in registries.json holds for caches too"
            .to_owned();
    }
    format!("unknown key {key:?}")
}

fn reference(text: &str) -> Result<Reference, String> {
    match Reference::parse(text) {
        Ok(name) => Ok(name.with_default_tag()),
        Err(error) => Err(format!("invalid ref {text:?}: {error}")),
    }
}

/// What stands in one option.
enum Given {
    /// Names of images, as buildx reads what has no `=`.
    Names(Vec<Reference>),
    Fields(Vec<(String, String)>),
}

impl Given {
    fn read(text: &str) -> Result<Self, String> {
        let all = split(text)?;
        if all.iter().all(|field| !field.contains('=')) {
            return all.iter().map(|name| reference(name)).collect::<Result<_, _>>().map(Self::Names);
        }
        let field = |field: String| match field.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_lowercase(), value.to_owned())),
            None => Err(format!("invalid field {field:?}, must be a key=value pair")),
        };
        all.into_iter().map(field).collect::<Result<_, _>>().map(Self::Fields)
    }
}

fn kind(fields: &[(String, String)]) -> &str {
    fields.iter().find(|(key, _)| key == "type").map_or("", |(_, value)| value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str) -> Reference {
        Reference::parse(text).unwrap().with_default_tag()
    }

    fn one(text: &str) -> CacheTarget {
        match targets(text).unwrap() {
            Targets::Caches(mut all) if all.len() == 1 => all.remove(0),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn where_caches_are_read() {
        let at = |dir: &str, tag: &str| CacheSource::Directory {
            dir: dir.into(),
            which: Which::Tag(tag.to_owned()),
        };
        let of = |text: &str| CacheSource::Registry(name(text));
        for (text, wanted) in [
            ("type=local,src=a/b", vec![at("a/b", "latest")]),
            ("src=a,tag=x,type=local", vec![at("a", "x")]),
            ("type=registry,ref=r.lan/a:c", vec![of("r.lan/a:c")]),
            ("r.lan/a", vec![of("r.lan/a:latest")]),
            ("a,r.lan/b:c", vec![of("a"), of("r.lan/b:c")]),
        ] {
            assert_eq!(sources(text).unwrap(), Sources::Caches(wanted), "{text}");
        }
        assert_eq!(sources("type=gha").unwrap(), Sources::Unused);
        for (text, why) in [
            ("type=local", "local cache importer requires src"),
            ("type=local,src=", "local cache importer requires src"),
            ("type=local,src=a,digest=b", "b is no digest"),
            ("type=local,src=a,mode=max", "unknown key \"mode\""),
            ("type=local,src", "must be a key=value pair"),
            ("type=registry", "registry cache importer requires ref"),
            ("type=registry,ref=UPPER", "invalid ref \"UPPER\""),
            ("type=registry,ref=a,registry.insecure=true", "registries.json"),
            ("ref=a", "type is required"),
            ("UPPER", "invalid ref"),
        ] {
            assert!(sources(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn where_caches_are_written() {
        let to = one("type=local,\"dest=a,b\",mode=max,compression=gzip,ignore-error=true");
        assert_eq!(to.place, CachePlace::Directory { dir: "a,b".into(), tag: "latest".to_owned() });
        assert_eq!((to.compression, to.all, to.ignore_error), (Compression::Gzip, true, true));
        let to = one("type=registry,ref=r.lan/a:c,image-manifest=true,oci-mediatypes=true");
        assert_eq!((&to.place, to.all), (&CachePlace::Registry(name("r.lan/a:c")), false));
        assert_eq!(one("r.lan/a:c"), to);
        assert_eq!(targets("type=inline").unwrap(), Targets::Inline { is_whole: false });
        assert_eq!(targets("type=inline,mode=max").unwrap(), Targets::Inline { is_whole: true });
        assert_eq!(targets("type=s3,bucket=b").unwrap(), Targets::Unused);
        for (text, why) in [
            ("type=local,mode=max", "local cache exporter requires dest"),
            ("type=local,dest=a,mode=most", "mode=most is not supported"),
            ("type=local,dest=a,compression=estargz", "compression=estargz is not supported"),
            ("type=local,dest=a,size=1", "unknown key \"size\""),
            ("type=registry,mode=max", "registry cache exporter requires ref"),
            ("type=registry,ref=a,image-manifest=false", "image-manifest=false is not supported"),
            ("type=registry,ref=a,tag=b", "unknown key \"tag\""),
        ] {
            assert!(targets(text).unwrap_err().contains(why), "{text}");
        }
        let digest = format!("type=registry,ref=a@sha256:{}", "0".repeat(64));
        assert!(targets(&digest).unwrap_err().contains("no digest"));
    }
}
