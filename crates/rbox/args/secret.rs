//! `--secret`, of `run`, `create` and `build`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rbox_engine::spec::given::{Content, GivenFile, MOST, SECRETS};

use crate::command::error::bad_input;

/// Where a secret comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    File(String),
    Variable(String),
}

impl Source {
    /// All of it, which is `most` bytes at most.
    fn read(&self, id: &str, most: u64) -> anyhow::Result<Vec<u8>> {
        let path = match self {
            Self::File(path) => path,
            Self::Variable(name) => {
                let value = std::env::var_os(name)
                    .ok_or_else(|| bad_input(format!("secret {id}: the variable {name} is not set")))?;
                return Ok(value.into_encoded_bytes());
            }
        };
        let failed = |error| bad_input(format!("secret {id}: read {path}: {error}"));
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > most {
            return Err(bad_input(format!("secret {id}: {path} has more than {most} bytes")));
        }
        Ok(bytes)
    }
}

/// The fields that all commands have, and the others.
struct Fields {
    id: String,
    source: Source,
    /// Key and value.
    more: Vec<(String, String)>,
}

/// Takes one apart as buildx does: without a source it is the variable of that name, or else the file.
fn parse(text: &str) -> anyhow::Result<Fields> {
    let (mut id, mut source, mut env, mut is_env) = (None, None, None, false);
    let mut more = Vec::new();
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return Err(bad_input(format!("invalid field '{field}' must be a key=value pair")));
        };
        match key.to_lowercase().as_str() {
            "id" => id = Some(value.to_owned()),
            "source" | "src" => source = Some(value.to_owned()),
            "env" => env = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => is_env = value == "env",
            "type" => return Err(bad_input(format!("unsupported secret type {value:?}"))),
            other => more.push((other.to_owned(), value.to_owned())),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| bad_input(format!("secret {text:?} has no id")))?;
    if is_env && env.is_none() {
        env = source.take();
    }
    let source = match (source, env) {
        (Some(path), _) => Source::File(path),
        (None, Some(name)) => Source::Variable(name),
        (None, None) if std::env::var_os(&id).is_none() && Path::new(&id).exists() => {
            Source::File(id.clone())
        }
        (None, None) => Source::Variable(id.clone()),
    };
    Ok(Fields { id, source, more })
}

fn unexpected(key: &str, value: &str) -> anyhow::Error {
    bad_input(format!("unexpected key '{key}' in '{key}={value}'"))
}

/// A secret of a build: its id and what it is.
pub(crate) fn of_build(text: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let Fields { id, source, more } = parse(text)?;
    if let Some((key, value)) = more.first() {
        return Err(unexpected(key, value));
    }
    let content = source.read(&id, u64::MAX)?;
    Ok((id, content))
}

/// The secrets of a container, as files that it is given, and what is in each.
pub(crate) fn read_all(texts: &[String]) -> anyhow::Result<(Vec<GivenFile>, Vec<Content>)> {
    let mut files = Vec::with_capacity(texts.len());
    let mut contents = Vec::with_capacity(texts.len());
    for text in texts {
        let (file, source, id) = of_container(text)?;
        contents.push(Content(source.read(&id, MOST)?));
        files.push(file);
    }
    Ok((files, contents))
}

fn of_container(text: &str) -> anyhow::Result<(GivenFile, Source, String)> {
    let Fields { id, source, more } = parse(text)?;
    let mut file = GivenFile::readable("");
    let mut target = None;
    for (key, value) in &more {
        let number = || value.parse().map_err(|_| bad_input(format!("secret {id}: invalid {key} {value:?}")));
        match key.as_str() {
            "target" | "dst" | "destination" => target = Some(value.as_str()),
            "uid" => file.uid = number()?,
            "gid" => file.gid = number()?,
            "mode" => {
                file.mode =
                    u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
                        bad_input(format!("secret {id}: invalid mode {value:?}: octal digits, at most 0777"))
                    })?;
            }
            _ => return Err(unexpected(key, value)),
        }
    }
    let target = target.filter(|target| !target.is_empty());
    if target.is_none() && (id.contains('/') || matches!(id.as_str(), "." | "..")) {
        return Err(bad_input(format!("secret {id}: a name with / needs a target")));
    }
    file.target = match target.unwrap_or(&id) {
        whole if whole.starts_with('/') => whole.to_owned(),
        below => format!("{SECRETS}/{below}"),
    };
    file.flag = again(&id, &source, &file)?;
    Ok((file, source, id))
}

/// The words that give it again from anywhere.
fn again(id: &str, source: &Source, file: &GivenFile) -> anyhow::Result<String> {
    let from = match source {
        Source::File(path) => {
            let whole =
                std::path::absolute(path).map_err(|e| bad_input(format!("secret {id}: {path}: {e}")))?;
            format!("src={}", whole.display())
        }
        Source::Variable(name) => format!("env={name}"),
    };
    let mut words = vec![format!("id={id}"), from];
    let usual = GivenFile::readable(format!("{SECRETS}/{id}"));
    if file.target != usual.target {
        words.push(format!("target={}", file.target));
    }
    if (file.uid, file.gid) != (usual.uid, usual.gid) {
        words.push(format!("uid={},gid={}", file.uid, file.gid));
    }
    if file.mode != usual.mode {
        words.push(format!("mode={:04o}", file.mode));
    }
    Ok(words.join(","))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use super::*;

    #[test]
    fn secrets_of_containers() {
        let table = [
            ("id=a,src=/s", "/run/secrets/a 0:0 444"),
            ("id=a,source=/s,target=b", "/run/secrets/b 0:0 444"),
            ("id=a,src=/s,target=/etc/b,uid=1000,gid=7,mode=0400", "/etc/b 1000:7 400"),
            ("type=env,id=a,src=HOME", "/run/secrets/a 0:0 444"),
        ];
        for (text, wanted) in table {
            let (file, ..) = of_container(text).unwrap();
            let shown = format!("{} {}:{} {:o}", file.target, file.uid, file.gid, file.mode);
            assert_eq!(shown, wanted, "{text}");
            let (again, ..) = of_container(&file.flag).unwrap();
            assert_eq!(again, file, "{text}");
        }
        for bad in [
            "",
            "a",
            "src=/s",
            "id=,src=/s",
            "id=a/b,src=/s",
            "id=..,src=/s",
            "id=a,src=/s,mode=888",
            "id=a,src=/s,mode=4755",
            "id=a,src=/s,uid=x",
            "id=a,src=/s,uid=-1",
            "id=a,src=/s,colour=red",
            "type=tpm,id=a",
        ] {
            assert!(of_container(bad).is_err(), "{bad:?}");
        }
        let (_, source, _) = of_container("type=env,id=a,src=HOME").unwrap();
        assert_eq!(source, Source::Variable("HOME".into()));
    }
}
