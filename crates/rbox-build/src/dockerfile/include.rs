//! INCLUDE: the lines of another file in the place of one line, behind the directive `# extend=rbox`.
//!
//! All of it is done before a Dockerfile is read. What comes out is a text without any INCLUDE, and where each of its lines is from: so
//! whatever is told of a line names the file that it is in. BuildKit takes the directive for a comment, and INCLUDE for an error.

use std::path::{Component, Path, PathBuf};

use rbox_spec::Kind;

use super::error::{DockerfileError, Excerpt};
use super::flags::{Flags, Takes};
use super::lines::{self, MAX_BYTES, Node, Nodes};
use super::source::Lines;
use super::words;
use crate::text::shown;

/// How deep files include files.
pub const MAX_DEPTH: usize = 16;

/// How many files are included, each as often as it is.
pub const MAX_INCLUDES: usize = 1000;

/// The instruction.
const INCLUDE: &str = "INCLUDE";

/// What stands in the place of an INCLUDE, before and after the file: comments above one are none of what is in the other.
const SEAM: &str = "#\n";

/// A file that is included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// The context that it is in, by its name; without, that of the build.
    pub context: Option<String>,
    /// Its path there.
    pub path: PathBuf,
}

/// Why a file cannot be included.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IncludeError {
    message: String,
    /// The lines that it is about, as they are shown.
    pub excerpt: String,
}

impl IncludeError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

#[derive(Clone, Debug)]
struct SourceFile {
    name: String,
    text: String,
}

/// A Dockerfile with all that it includes in its place.
#[derive(Clone, Debug)]
pub struct Sources {
    text: String,
    /// The Dockerfile, and what it includes.
    files: Vec<SourceFile>,
    /// The file and the line there of each line of the text; none when nothing is included.
    places: Vec<(usize, usize)>,
}

/// Reads an included file, or says why not.
pub type ReadIncluded<'a> = &'a mut dyn FnMut(&Included) -> Result<Vec<u8>, String>;

impl Sources {
    /// A Dockerfile called `name`, with what it includes. `own`: its path below the context, if it is there.
    ///
    /// # Errors
    /// A file cannot be included. What else is wrong with the Dockerfile is not looked for.
    pub fn read(
        name: &str,
        text: String,
        own: Option<&Path>,
        read: ReadIncluded<'_>,
    ) -> Result<Self, IncludeError> {
        let plain = Self { text: String::new(), files: Vec::new(), places: Vec::new() };
        let has_some = lines::found(&text, '\\').is_ok_and(|found| found.extends);
        if !has_some {
            return Ok(Self {
                text: text.clone(),
                files: vec![SourceFile { name: name.to_owned(), text }],
                ..plain
            });
        }
        let here = Place {
            file: Included { context: None, path: own.map(clean).unwrap_or_default() },
            line: 0,
            name: name.to_owned(),
        };
        let mut joiner = Joiner { sources: plain, read, bytes: 0, escape: None, chain: Vec::new() };
        joiner.add(here, &text)?;
        Ok(joiner.sources)
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The Dockerfile as it was written, and each file that it includes: name and text.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|file| (file.name.as_str(), file.text.as_str()))
    }

    /// Which of [`files`](Self::files) a line of the text is from, and its number there.
    pub fn source_of(&self, line: usize) -> (usize, usize) {
        line.checked_sub(1).and_then(|at| self.places.get(at)).copied().unwrap_or((0, line))
    }

    /// The file that a line of the text is from, unless it is the Dockerfile itself, and its number there.
    pub fn place(&self, line: usize) -> (Option<&str>, usize) {
        match line.checked_sub(1).and_then(|at| self.places.get(at)) {
            Some((0, line)) => (None, *line),
            Some((file, line)) => (self.files.get(*file).map(|file| file.name.as_str()), *line),
            None => (None, line),
        }
    }

    /// The first line of the text that is from this one of the Dockerfile itself, or what comes after it.
    pub fn line_of(&self, line: usize) -> usize {
        let found = self.places.iter().position(|(file, of)| *file == 0 && *of >= line);
        match found {
            Some(at) => at + 1,
            None if self.places.is_empty() => line,
            None => self.places.len() + 1,
        }
    }

    /// These lines of the text as their file has them, with some around them.
    pub fn excerpt(&self, lines: Lines) -> Option<Excerpt<'_>> {
        let place = |line: usize| {
            let place = line.checked_sub(1).and_then(|at| self.places.get(at));
            place.copied().unwrap_or((0, line))
        };
        let ((file, start), (last, end)) = (place(lines.start), place(lines.end));
        let file_of = self.files.get(file)?;
        let end = if last == file { end.max(start) } else { start };
        Excerpt::of(&file_of.name, &file_of.text, Lines { start, end })
    }

    /// The same error, with the line and the file that it is in.
    pub fn told(&self, error: DockerfileError) -> DockerfileError {
        let Some(lines) = error.lines else { return error };
        let (file, line) = self.place(lines.start);
        let rest = error.message.strip_prefix(&parse_error(lines.start, None));
        match rest {
            Some(rest) => DockerfileError { message: parse_error(line, file) + rest, lines: error.lines },
            None => error,
        }
    }
}

/// The beginning of what is wrong at a line.
pub(super) fn parse_error(line: usize, file: Option<&str>) -> String {
    let of = file.map(|file| format!(" of {file}")).unwrap_or_default();
    format!("dockerfile parse error on line {line}{of}: ")
}

/// A file on the way down, and the line of the INCLUDE that is being followed.
struct Place {
    file: Included,
    name: String,
    line: usize,
}

struct Joiner<'a> {
    sources: Sources,
    read: ReadIncluded<'a>,
    /// Bytes of all files that were read.
    bytes: usize,
    /// The escape character of the Dockerfile.
    escape: Option<char>,
    chain: Vec<Place>,
}

impl Joiner<'_> {
    /// Adds a file, with what it includes.
    fn add(&mut self, here: Place, text: &str) -> Result<(), IncludeError> {
        let number = self.sources.files.len();
        self.chain.push(here);
        let found = self.look_at(text, number);
        let name = self.chain.last().map(|place| place.name.clone()).unwrap_or_default();
        self.sources.files.push(SourceFile { name, text: text.to_owned() });
        let found = found.map_err(|(lines, why)| self.fault(number, lines, &why))?;
        self.escape.get_or_insert(found.escape);
        let mut lines = (1..).zip(text.split_inclusive('\n')).peekable();
        let is_include = |node: &Node| found.extends && node.keyword.eq_ignore_ascii_case(INCLUDE);
        for node in found.all.iter().filter(|node| is_include(node)) {
            while let Some((at, line)) = lines.next_if(|(at, _)| *at <= node.lines.end) {
                if at < node.lines.start {
                    self.push(line, (number, at));
                }
            }
            self.push(SEAM, (number, node.lines.start));
            self.follow(number, node, found.escape)?;
            self.push(SEAM, (number, node.lines.start));
        }
        for (at, line) in lines {
            self.push(line, (number, at));
        }
        self.chain.pop();
        Ok(())
    }

    /// Divides a file into its instructions, and says what a file that is included cannot have.
    fn look_at(&self, text: &str, number: usize) -> Result<Nodes, (Lines, String)> {
        let escape = self.escape.unwrap_or('\\');
        let all = Lines { start: 1, end: 1 };
        let found =
            lines::found(text, escape).map_err(|error| (error.lines.unwrap_or(all), error.message))?;
        if number == 0 {
            return Ok(found);
        }
        let last = Lines::one(text.lines().count().max(1));
        if found.escape != escape {
            return Err((
                all,
                format!("its escape is {}, and that of the Dockerfile {escape}", found.escape),
            ));
        }
        if found.is_open {
            return Err((last, "an instruction that is included has to end in its file".to_owned()));
        }
        Ok(found)
    }

    /// Adds what an INCLUDE names.
    fn follow(&mut self, number: usize, node: &Node, escape: char) -> Result<(), IncludeError> {
        let refused = |joiner: &Self, why: &str| joiner.fault(number, node.lines, &format!("INCLUDE{why}"));
        let included = self.included(node, escape).map_err(|why| refused(self, &why))?;
        let path = format!(" {}", shown(&name_of(&included)));
        if let Some(place) = self.chain.last_mut() {
            place.line = node.lines.start;
        }
        if self.chain.iter().any(|place| place.file == included) {
            let way: Vec<String> =
                self.chain.iter().map(|place| format!("{}:{}", place.name, place.line)).collect();
            return Err(refused(self, &format!("{path}: it includes itself: {} →{path}", way.join(" → "))));
        }
        if self.chain.len() > MAX_DEPTH || self.sources.files.len() > MAX_INCLUDES {
            let most = format!("{MAX_DEPTH} files deep, and {MAX_INCLUDES} at all");
            return Err(refused(self, &format!("{path}: files include files up to {most}")));
        }
        let bytes = (self.read)(&included).map_err(|why| refused(self, &format!("{path}: {why}")))?;
        self.bytes += bytes.len();
        if self.bytes + self.sources.text.len() > MAX_BYTES {
            return Err(refused(
                self,
                &format!("{path}: all files together have more than {MAX_BYTES} bytes"),
            ));
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut text = text.to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let name = shown(&name_of(&included));
        self.add(Place { file: included, name, line: 0 }, &text)
    }

    /// The file that an INCLUDE means, seen from the one that it is in.
    fn included(&self, node: &Node, escape: char) -> Result<Included, String> {
        let (flags, words) = words::of_unknown(&node.line, escape);
        let flags = Flags::parse(&flags, &[("from", Takes::Text)]).map_err(|why| format!(": {why}"))?;
        let [path] = &words[..] else { return Err(" requires exactly one argument: a path".to_owned()) };
        let fault = |why: &str| format!(" {}: {why}", shown(path));
        if path.contains('$') {
            return Err(fault("a path has no variables"));
        }
        let here = self.chain.last().map(|place| &place.file);
        let (context, dir) = match flags.text("from") {
            "" => (
                here.and_then(|file| file.context.clone()),
                here.and_then(|file| file.path.parent()).unwrap_or(Path::new("")),
            ),
            name => (Some(name.to_owned()), Path::new("")),
        };
        let mut found = if path.starts_with('/') { PathBuf::new() } else { dir.to_owned() };
        for part in Path::new(path).components() {
            match part {
                Component::Normal(name) => found.push(name),
                Component::ParentDir if !found.pop() => return Err(fault("it is outside the context")),
                _ => {}
            }
        }
        if found.as_os_str().is_empty() {
            return Err(fault("it is no file"));
        }
        Ok(Included { context, path: found })
    }

    fn push(&mut self, line: &str, place: (usize, usize)) {
        self.sources.text.push_str(line);
        self.sources.places.push(place);
    }

    /// What is wrong at lines of a file.
    fn fault(&self, number: usize, lines: Lines, why: &str) -> IncludeError {
        let file = self.sources.files.get(number);
        let name = file.map(|file| file.name.as_str()).filter(|_| number > 0);
        let why = why.strip_prefix(&parse_error(lines.start, None)).unwrap_or(why);
        let excerpt = file.and_then(|file| Excerpt::of(&file.name, &file.text, lines));
        IncludeError {
            message: parse_error(lines.start, name) + why,
            excerpt: excerpt.map(|excerpt| excerpt.to_string()).unwrap_or_default(),
        }
    }
}

/// What a file is called: its path in its context.
fn name_of(file: &Included) -> String {
    match &file.context {
        Some(context) => format!("{context}:{}", file.path.display()),
        None => file.path.display().to_string(),
    }
}

fn clean(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dockerfile::Dockerfile;

    fn joined(main: &str, files: &[(&str, &str)]) -> Result<Sources, String> {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        let mut read = |included: &Included| {
            let name = name_of(included);
            files.get(name.as_str()).map(|text| text.as_bytes().to_vec()).ok_or("not there".to_owned())
        };
        Sources::read("Dockerfile", main.to_owned(), Some(Path::new("Dockerfile")), &mut read)
            .map_err(|error| format!("{error}\n{}", error.excerpt))
    }

    #[test]
    fn lines_stand_in_the_place_of_an_include() {
        let main = "# escape=`\n#extend=rbox\nINCLUDE a/one\nFROM x\n# about\ninclude `\n  # of it\n  a/two\nRUN <<E\nINCLUDE none\nE\n";
        let files = [
            ("a/one", "#extend=rbox\nINCLUDE ../b\nARG A"),
            ("b", "\u{feff}ARG B\r\n"),
            ("a/two", "RUN two"),
        ];
        let sources = joined(main, &files).unwrap();
        assert_eq!(
            sources.text(),
            "# escape=`\n#extend=rbox\n#\n#extend=rbox\n#\nARG B\r\n#\nARG A\n#\nFROM x\n# about\n#\nRUN two\n#\nRUN <<E\nINCLUDE none\nE\n"
        );
        let file = Dockerfile::parse(sources.text()).unwrap();
        assert_eq!((file.escape, file.args.len()), ('`', 2));
        let of = |line| sources.place(line);
        assert_eq!(of(file.args[0].lines.start), (Some("b"), 1));
        assert_eq!(of(file.args[1].lines.start), (Some("a/one"), 3));
        assert_eq!(of(file.stages[0].lines.start), (None, 4));
        assert_eq!(of(file.stages[0].instructions[0].lines.start), (Some("a/two"), 1));
        assert!(file.stages[0].instructions[0].comments.is_empty());
        assert_eq!(of(file.stages[0].instructions[1].lines.start), (None, 9));
        for (line, there) in [(1, 1), (3, 3), (4, 10), (6, 12), (9, 15), (99, 18)] {
            assert_eq!(sources.line_of(line), there, "{line}");
        }
        // Without the directive nothing is read, and BuildKit's words are what is told.
        let plain = joined("FROM x\nINCLUDE a\n# extend=rbox\n", &[]).unwrap();
        let said = Dockerfile::parse(plain.text()).unwrap_err().to_string();
        assert!(
            said.starts_with("dockerfile parse error on line 2: unknown instruction: INCLUDE ("),
            "{said}"
        );
        assert_eq!((plain.line_of(2), plain.place(2)), (2, (None, 2)));
    }

    #[test]
    fn errors_name_the_file_and_its_line() {
        let sources = joined("# extend=rbox\nFROM x\nINCLUDE a\n", &[("a", "\nRUN x\nFORM y\n")]).unwrap();
        let error = sources.told(Dockerfile::parse(sources.text()).unwrap_err());
        assert!(
            error.message.starts_with("dockerfile parse error on line 3 of a: unknown instruction: FORM"),
            "{error}"
        );
        let shown = sources.excerpt(error.lines.unwrap()).unwrap().to_string();
        assert!(shown.starts_with("a:3\n") && shown.contains("3 | >>> FORM y\n"), "{shown}");
        let deep: Vec<(String, String)> =
            (0..20).map(|at| (format!("d{at}"), format!("# extend=rbox\nINCLUDE d{}\n", at + 1))).collect();
        let deep: Vec<(&str, &str)> =
            deep.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let many = format!("# extend=rbox\n{}", "INCLUDE many2\n".repeat(100));
        let many2 = format!("# extend=rbox\n{}", "INCLUDE x\n".repeat(100));
        let large = "#".repeat(MAX_BYTES / 3);
        let more = [
            ("c1", "# extend=rbox\n\nINCLUDE c/2\n"),
            ("c/2", "# extend=rbox\nINCLUDE ../c1\n"),
            ("self", "# extend=rbox\nINCLUDE Dockerfile\n"),
            ("bare", "RUN x\nINCLUDE x\n"),
            ("x", "RUN x\n"),
            ("open", "RUN x\nRUN a \\\n"),
            ("doc", "RUN <<E\nx\n"),
            ("esc", "# escape=`\nRUN x\n"),
            ("order", "# extend=rbox\n# escape=`\n"),
            ("many", &many),
            ("many2", &many2),
            ("large", &large),
        ];
        let files = [&deep[..], &more].concat();
        for (include, why) in [
            ("none", "line 3: INCLUDE none: not there\nDockerfile:3\n"),
            (
                "c1",
                "line 2 of c/2: INCLUDE c1: it includes itself: Dockerfile:3 → c1:3 → c/2:2 → c1\nc/2:2\n",
            ),
            (
                "self",
                "line 2 of self: INCLUDE Dockerfile: it includes itself: Dockerfile:3 → self:2 → Dockerfile\n",
            ),
            ("../x", "line 3: INCLUDE ../x: it is outside the context\n"),
            ("a/../../x", "line 3: INCLUDE a/../../x: it is outside"),
            ("/", "line 3: INCLUDE /: it is no file\n"),
            ("", "line 3: INCLUDE requires exactly one argument"),
            ("a b", "line 3: INCLUDE requires exactly one argument"),
            ("--form=x a", "line 3: INCLUDE: unknown flag: --form (did you mean from?)"),
            ("--from=n x", "line 3: INCLUDE n:x: not there"),
            ("$A", "line 3: INCLUDE $A: a path has no variables"),
            ("open", "line 2 of open: an instruction that is included has to end in its file\nopen:2\n"),
            ("doc", "of doc: unterminated heredoc\ndoc:1\n"),
            ("esc", "line 1 of esc: its escape is `, and that of the Dockerfile \\\n"),
            ("order", "line 2 of order: the escape parser directive has to come before extend=rbox\n"),
            ("d0", "files include files up to 16 files deep"),
            ("many", "files include files up to 16 files deep, and 1000 at all"),
            (
                "large\nINCLUDE large\nINCLUDE large\nINCLUDE large",
                "all files together have more than 4194304 bytes",
            ),
        ] {
            let said = joined(&format!("# extend=rbox\nFROM x\nINCLUDE {include}\n"), &files).unwrap_err();
            assert!(
                said.starts_with("dockerfile parse error on ") && said.contains(why),
                "{include}: {said}"
            );
        }
        let bare = joined("# extend=rbox\nFROM x\nINCLUDE bare\n", &files).unwrap();
        let error = bare.told(Dockerfile::parse(bare.text()).unwrap_err());
        assert!(
            error
                .message
                .starts_with("dockerfile parse error on line 2 of bare: unknown instruction: INCLUDE"),
            "{error}"
        );
    }
}
