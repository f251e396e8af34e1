//! `build --output`.

use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::PathBuf;

use rbox_build::{Destination, Output};
use rbox_engine::engine::Engine;
use rbox_engine::image::archive::SaveFormat;
use rbox_engine::spec::Reference;

use crate::command::error::bad_input;
use crate::command::file::{ORDINARY, replace};
use crate::output::table::{STDOUT, unwritten};

/// What is done with what is built.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    /// What the build does.
    pub(crate) build: Vec<Output>,
    /// Archives of the image, made once it is there; without a path to standard output.
    pub(crate) archives: Vec<(Option<PathBuf>, SaveFormat)>,
    /// More names of the image.
    pub(crate) names: Vec<String>,
    /// It is pushed.
    pub(crate) push: bool,
    /// Nothing in its layers is younger than `SOURCE_DATE_EPOCH`.
    pub(crate) rewrite_timestamps: bool,
}

impl Outputs {
    /// Reads all of `--output`; without any, the image goes into the store.
    pub(crate) fn parse(texts: &[String]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        if texts.is_empty() {
            all.build.push(Output::Store);
        }
        for text in texts {
            all.add(text).map_err(|error| bad_input(format!("invalid output {text:?}: {error}")))?;
        }
        let to_stdout = all.build.iter().filter(|one| one.is_stdout()).count()
            + all.archives.iter().filter(|(path, _)| path.is_none()).count();
        if to_stdout > 1 {
            return Err(bad_input("only one output can go to standard output"));
        }
        if to_stdout > 0 && std::io::stdout().is_terminal() {
            return Err(bad_input("dest file is required for an archive. refusing to write to console"));
        }
        // An image is registered once.
        let is_stored = all.build.contains(&Output::Store);
        all.build.retain(|one| *one != Output::Store);
        if is_stored {
            all.build.insert(0, Output::Store);
        }
        Ok(all)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        if text == "-" {
            self.build.push(Output::files(Destination::Stdout));
            return Ok(());
        }
        if !text.contains('=') {
            self.build.push(Output::files(Destination::Directory(PathBuf::from(text))));
            return Ok(());
        }
        let fields = Fields::parse(text)?;
        let dest = fields.dest.filter(|dest| dest != "-").map(PathBuf::from);
        match fields.kind.as_str() {
            "local" => {
                let dir = dest.ok_or("dest is required for local output")?;
                self.build.push(Output::Files { to: Destination::Directory(dir), prefix: fields.prefix });
            }
            "tar" => {
                let to = dest.map_or(Destination::Stdout, Destination::Tar);
                self.build.push(Output::Files { to, prefix: fields.prefix });
            }
            "docker" if dest.is_none() => self.build.push(Output::Store),
            "docker" => self.archive(dest, SaveFormat::DockerArchive),
            "oci" => self.archive(dest, SaveFormat::OciArchive),
            "image" | "registry" => {
                self.build.push(Output::Store);
                self.push |= fields.push || fields.kind == "registry";
            }
            "cacheonly" => {}
            "" => return Err("type is required for output".to_owned()),
            other => return Err(format!("unsupported exporter type {other:?}")),
        }
        self.names.extend(fields.names);
        self.rewrite_timestamps |= fields.rewrite_timestamps;
        Ok(())
    }

    fn archive(&mut self, to: Option<PathBuf>, format: SaveFormat) {
        self.build.push(Output::Store);
        self.archives.push((to, format));
    }

    /// Refuses what is made of one platform only.
    pub(crate) fn check_several(&self) -> anyhow::Result<()> {
        // BuildKit's words.
        if self.archives.iter().any(|(_, format)| *format == SaveFormat::DockerArchive) {
            return Err(bad_input(
                "docker exporter does not currently support exporting manifest lists: type=oci is an archive of several platforms",
            ));
        }
        if self
            .build
            .iter()
            .any(|one| matches!(one, Output::Files { to: Destination::Tar(_) | Destination::Stdout, .. }))
        {
            return Err(bad_input(
                "type=tar is an archive of one platform's files: give one with --platform, or type=local,dest=DIRECTORY for a directory of each",
            ));
        }
        Ok(())
    }

    /// Writes the archives of the image, under its names or its id.
    pub(crate) fn save(&self, engine: &Engine, id: &str, names: &[Reference]) -> anyhow::Result<()> {
        let mut called: Vec<String> = names.iter().map(Reference::full).collect();
        if called.is_empty() {
            called.push(id.to_owned());
        }
        for (path, format) in &self.archives {
            let Some(path) = path else {
                let mut out = BufWriter::with_capacity(128 << 10, std::io::stdout().lock());
                engine.save_images(&called, &mut out, *format)?;
                out.flush().map_err(|error| unwritten(STDOUT, &error))?;
                continue;
            };
            replace(path, ORDINARY, |file| engine.save_images(&called, file, *format))?;
        }
        Ok(())
    }
}

/// `key=value`, with commas between, and quotes around what has some.
#[derive(Debug, Default)]
struct Fields {
    kind: String,
    dest: Option<String>,
    names: Vec<String>,
    push: bool,
    rewrite_timestamps: bool,
    prefix: String,
}

impl Fields {
    fn parse(text: &str) -> Result<Self, String> {
        let mut all = Self::default();
        for field in split(text)? {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("invalid field {field:?}, must be a key=value pair"))?;
            match key.trim().to_lowercase().as_str() {
                "type" => value.clone_into(&mut all.kind),
                "dest" | "destination" => all.dest = Some(value.to_owned()),
                "name" => all.names.extend(value.split(',').map(str::to_owned)),
                "push" => all.push = truth(key, value)?,
                "attestation-prefix" if value.contains('/') => {
                    return Err(format!("{key}={value}: it begins a name, and a name has no slash"));
                }
                "attestation-prefix" => value.clone_into(&mut all.prefix),
                "rewrite-timestamp" => all.rewrite_timestamps = truth(key, value)?,
                // As it always is: the image goes into the store, unpacked; archives are archives.
                "store" | "unpack" | "tar" | "load" | "oci-mediatypes" if truth(key, value)? => {}
                "platform-split" if !truth(key, value)? => {}
                "push-by-digest"
                | "dangling-name-prefix"
                | "compression"
                | "compression-level"
                | "force-compression"
                | "store"
                | "unpack"
                | "tar"
                | "load"
                | "oci-mediatypes"
                | "platform-split" => {
                    return Err(format!("{key}={value} is not supported: leave it out"));
                }
                _ => return Err(format!("unknown key {key:?}")),
            }
        }
        Ok(all)
    }
}

pub(crate) fn truth(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{key}={value}: expected true or false")),
    }
}

/// The fields of `key=value,…`, without their quotes.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    for character in text.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if is_quoted {
        return Err("a quote has no end".to_owned());
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn where_it_goes() {
        use Destination::{Directory, Tar};
        let of = |text: &str| Outputs::parse(&[text.to_owned()]).map(|all| all.build);
        assert_eq!(Outputs::parse(&[]).unwrap().build, [Output::Store]);
        assert_eq!(of("out").unwrap(), [Output::files(Directory("out".into()))]);
        assert_eq!(of("type=local,dest=a/b").unwrap(), [Output::files(Directory("a/b".into()))]);
        let named = Output::Files { to: Directory("a".into()), prefix: "of-".to_owned() };
        assert_eq!(of("type=local,dest=a,attestation-prefix=of-").unwrap(), [named]);
        assert_eq!(of("type=tar,dest=x.tar").unwrap(), [Output::files(Tar("x.tar".into()))]);
        assert_eq!(of("type=cacheonly").unwrap(), []);
        assert_eq!(of("type=image,\"name=a,b\",push=true").unwrap(), [Output::Store]);
        let image = Outputs::parse(&["type=image,\"name=a,b\",push=true".to_owned()]).unwrap();
        assert_eq!((image.names, image.push), (vec!["a".to_owned(), "b".to_owned()], true));
        for (text, why) in [
            ("type=local", "dest is required for local output"),
            ("type=other", "unsupported exporter type"),
            ("dest=x", "type is required"),
            ("type=oci,dest=x,shape=round", "unknown key"),
            ("type=oci,dest=x,compression=zstd", "is not supported"),
            ("type=local,dest=x,attestation-prefix=../a", "a name has no slash"),
            ("type=tar,\"dest=x", "a quote has no end"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
