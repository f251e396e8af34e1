//! Where a cache elsewhere is: what `--cache-from` and `--cache-to` say.

use rbox_build::{CacheSource, CacheTarget, Which};
use rbox_engine::image::media::Compression;

use crate::builder::output::{split, truth};

/// What a directory's cache is called when nobody says.
const TAG: &str = "latest";

/// Whether it is a directory: of a text without a type BuildKit says that it is an image.
pub(crate) fn is_local(text: &str) -> bool {
    // One that cannot be read is told of when it is.
    split(text).map_or(true, |fields| fields.iter().any(|field| field.trim() == "type=local"))
}

/// Reads `type=local,src=DIR[,tag=NAME | ,digest=DIGEST]`.
pub(crate) fn source(text: &str) -> Result<CacheSource, String> {
    let (mut dir, mut which) = (None, Which::Tag(TAG.to_owned()));
    for (key, value) in fields(text)? {
        match key.as_str() {
            "type" => {}
            "src" => dir = Some(value),
            "tag" => which = Which::Tag(value),
            "digest" => which = Which::Digest(value.parse().map_err(|_| format!("{value} is no digest"))?),
            _ => return Err(format!("unknown key {key:?}")),
        }
    }
    let dir = dir.filter(|dir| !dir.is_empty()).ok_or("local cache importer requires src")?;
    Ok(CacheSource { dir: dir.into(), which })
}

/// Reads `type=local,dest=DIR[,mode=max][,tag=NAME][,compression=HOW][,ignore-error=true]`.
pub(crate) fn target(text: &str) -> Result<CacheTarget, String> {
    let mut target = CacheTarget {
        dir: "".into(),
        tag: TAG.to_owned(),
        all: false,
        compression: Compression::Zstd,
        ignore_error: false,
    };
    for (key, value) in fields(text)? {
        match (key.as_str(), value.as_str()) {
            ("type" | "force-compression", _) => {}
            ("dest", _) => target.dir = value.into(),
            ("tag", _) => target.tag = value,
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
            _ => return Err(format!("unknown key {key:?}")),
        }
    }
    if target.dir.as_os_str().is_empty() {
        return Err("local cache exporter requires dest".to_owned());
    }
    Ok(target)
}

fn fields(text: &str) -> Result<Vec<(String, String)>, String> {
    let field = |field: String| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_lowercase(), value.to_owned())),
        None => Err(format!("invalid field {field:?}, must be a key=value pair")),
    };
    split(text)?.into_iter().map(field).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn where_caches_are() {
        for (text, local) in [
            ("type=local,src=x", true),
            ("src=x,type=local", true),
            ("user/app", false),
            ("type=registry,ref=a/b", false),
            ("type=gha", false),
            ("type=inline", false),
        ] {
            assert_eq!(is_local(text), local, "{text}");
        }
        let from = source("type=local,src=a/b").unwrap();
        assert_eq!((from.dir.to_str(), from.which), (Some("a/b"), Which::Tag("latest".to_owned())));
        assert_eq!(source("type=local,src=a,tag=x").unwrap().which, Which::Tag("x".to_owned()));
        let to = target("type=local,\"dest=a,b\",mode=max,compression=gzip,ignore-error=true").unwrap();
        assert_eq!((to.dir.to_str(), to.all, to.ignore_error), (Some("a,b"), true, true));
        assert_eq!((to.compression, to.tag.as_str()), (Compression::Gzip, "latest"));
        assert!(!target("type=local,dest=a").unwrap().all);
        for (text, why) in [
            ("type=local", "local cache importer requires src"),
            ("type=local,src=", "local cache importer requires src"),
            ("type=local,src=a,digest=b", "b is no digest"),
            ("type=local,src=a,mode=max", "unknown key \"mode\""),
            ("type=local,src", "must be a key=value pair"),
        ] {
            assert!(source(text).unwrap_err().contains(why), "{text}");
        }
        for (text, why) in [
            ("type=local,mode=max", "local cache exporter requires dest"),
            ("type=local,dest=a,mode=most", "mode=most is not supported"),
            ("type=local,dest=a,compression=estargz", "compression=estargz is not supported"),
            ("type=local,dest=a,size=1", "unknown key \"size\""),
        ] {
            assert!(target(text).unwrap_err().contains(why), "{text}");
        }
    }
}
