//! What a build was made of, as statements about its images name it.

use std::collections::BTreeSet;

use rbox_image::Image;
use rbox_spec::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Something that a build was made of, and that came from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Material {
    pub(crate) uri: String,
    /// The algorithm of its digest, and that.
    pub(crate) digest: (String, String),
}

impl Material {
    fn new(uri: String, digest: &Digest) -> Self {
        Self { uri, digest: (digest.algorithm().name().to_owned(), digest.hex()) }
    }

    /// What a web server had. A user or a token before its host is nobody's business.
    pub(crate) fn file(url: &str, digest: &Digest) -> Self {
        Self::new(without_user(url), digest)
    }

    /// A commit of a repository, in the same way.
    pub(crate) fn commit(url: &str, commit: &str) -> Self {
        Self { uri: without_user(url), digest: ("sha1".to_owned(), commit.to_owned()) }
    }

    /// An image, by what the registry calls it where it came from one.
    pub(crate) fn image(name: &str, image: &Image) -> Option<Self> {
        let name = Reference::parse(name).ok()?.with_default_tag();
        let of_registry = image.repo_digests.iter().find(|known| known.same_repository(&name));
        let digest = of_registry.and_then(|known| known.digest().copied()).or(image.index);
        Some(Self::new(purl(&name, &image.platform), &digest.unwrap_or(image.manifest_digest)))
    }

    pub(crate) fn json(&self) -> Value {
        let (algorithm, digest) = &self.digest;
        json!({ "uri": self.uri, "digest": { algorithm: digest } })
    }
}

/// What a build has used so far, each with the place of the platform that it was for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(crate) materials: BTreeSet<(usize, Material)>,
    /// The ids of secrets, and whether steps do without.
    pub(crate) secrets: BTreeSet<(usize, String, bool)>,
    /// The same of agents.
    pub(crate) agents: BTreeSet<(usize, String, bool)>,
}

impl Used {
    pub(crate) fn extend(&mut self, other: Self) {
        self.materials.extend(other.materials);
        self.secrets.extend(other.secrets);
        self.agents.extend(other.agents);
    }
}

/// A web server's URL without its user.
fn without_user(url: &str) -> String {
    let Some((scheme @ ("http" | "https"), rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |end| rest.split_at(end));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// The package URL of an image. Source: `RefToPURL` of BuildKit's util/purl.
pub(crate) fn purl(name: &Reference, platform: &Platform) -> String {
    let familiar = name.familiar_name();
    // The one character of a name that is written as another in such a URL.
    let mut url = format!("pkg:docker/{}", familiar.replace(':', "%3A"));
    if let Some(tag) = name.tag() {
        url.push('@');
        url.push_str(tag);
    }
    let digest = name.digest().map(|digest| format!("digest={digest}&")).unwrap_or_default();
    let platform = platform.to_string().replace('/', "%2F");
    format!("{url}?{digest}platform={platform}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_no_user() {
        for (url, wanted) in [
            ("https://token@a.lan/b.git#main:c", "https://a.lan/b.git#main:c"),
            ("https://user:p@ss@a.lan:8080/b@c.git", "https://a.lan:8080/b@c.git"),
            ("https://a.lan/b.git?ref=@x", "https://a.lan/b.git?ref=@x"),
            ("git@a.lan:b.git", "git@a.lan:b.git"),
            ("ssh://git@a.lan/b.git", "ssh://git@a.lan/b.git"),
        ] {
            assert_eq!(without_user(url), wanted);
            assert_eq!(Material::commit(url, "c").uri, wanted);
            assert_eq!(Material::file(url, &rbox_image::hash::sha256(b"")).uri, wanted);
        }
    }

    #[test]
    fn package_urls_are_those_of_buildkit() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let platform: Platform = "linux/arm64".parse().unwrap();
        for (name, wanted) in [
            ("alpine", "pkg:docker/alpine@latest?platform=linux%2Farm64".to_owned()),
            ("docker.io/library/alpine:3", "pkg:docker/alpine@3?platform=linux%2Farm64".to_owned()),
            ("user/app:v2", "pkg:docker/user/app@v2?platform=linux%2Farm64".to_owned()),
            ("r.lan:5000/a/b:1", "pkg:docker/r.lan%3A5000/a/b@1?platform=linux%2Farm64".to_owned()),
            (
                &format!("alpine@{digest}"),
                format!("pkg:docker/alpine?digest={digest}&platform=linux%2Farm64"),
            ),
        ] {
            let name = Reference::parse(name).unwrap().with_default_tag();
            assert_eq!(purl(&name, &platform), wanted);
        }
    }
}
