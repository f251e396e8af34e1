//! Lists of patterns.

use rbox_spec::lexical::clean;

use super::pattern::Pattern;
use super::tokens::PatternError;

/// The most patterns of a list.
const MAX_PATTERNS: usize = 10_000;

/// The most bytes of a `.dockerignore`.
const MAX_BYTES: usize = 1 << 20;

/// A list of patterns: the last one that matches a path, or a directory above it, decides. `!` before one takes back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

/// A directory on the way down a tree: which patterns match it. The top has [`Directory::default`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// For each pattern, whether it was asked and matched here or above. Empty at the top.
    matched: Vec<bool>,
    ignored: bool,
}

impl Directory {
    /// Whether the directory itself is ignored.
    pub fn is_ignored(&self) -> bool {
        self.ignored
    }
}

impl Ignore {
    /// Reads a `.dockerignore`: a pattern on each line, `#` at the beginning of a line makes it a comment.
    ///
    /// # Errors
    /// A pattern does not follow the grammar.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_BYTES {
            let bytes = text.len();
            return Err(PatternError::TooMuch(format!(
                "the ignore file has {bytes} bytes, more than {MAX_BYTES}"
            )));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let line = line.trim();
            let (mark, path) = line.strip_prefix('!').map_or(("", line), |rest| ("!", rest.trim()));
            if path.is_empty() {
                patterns.push(mark.to_owned());
                continue;
            }
            // Paths begin at the root of the context, with a slash or without.
            let path = clean(path);
            let path = path.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&path);
            patterns.push(format!("{mark}{path}"));
        }
        Self::new(patterns.iter().map(String::as_str))
    }

    /// A list of given patterns, such as those of `--exclude`. Empty ones are left out.
    ///
    /// # Errors
    /// A pattern does not follow the grammar.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut list = Self::default();
        for pattern in patterns.into_iter().map(str::trim).filter(|pattern| !pattern.is_empty()) {
            if list.patterns.len() == MAX_PATTERNS {
                return Err(PatternError::TooMuch(format!("there are more than {MAX_PATTERNS} patterns")));
            }
            let pattern = clean(pattern);
            list.patterns.push(match pattern.strip_prefix('!') {
                Some("") => return Err(PatternError::Bare),
                Some(pattern) => Pattern::parse(pattern, true)?,
                None => Pattern::parse(&pattern, false)?,
            });
        }
        Ok(list)
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a pattern takes paths back.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }

    /// Whether a pattern ignores everything at the top: `*`, `**` or `**/*`.
    pub fn takes_everything(&self) -> bool {
        self.patterns.iter().any(|pattern| !pattern.exception && pattern.takes_everything())
    }

    /// Whether the path is ignored: one below the root of the context, with slashes. Who walks a tree is quicker with [`Ignore::enter`].
    pub fn matches(&self, path: &str) -> bool {
        let path = path.trim_matches('/');
        let slashes = path.match_indices('/').map(|(at, _)| at);
        let mut directory = Directory::default();
        for end in slashes.chain([path.len()]) {
            directory = self.enter(&directory, &path[..end]);
        }
        directory.ignored
    }

    /// Looks at `path`, a file or directory right below `parent`, given from the root.
    ///
    /// A pattern is asked only if it can change what is known so far. So one that was not asked of a directory is asked of what is in it,
    /// but does not count for being a pattern of the directory: so does moby's walk of a context.
    #[must_use]
    pub fn enter(&self, parent: &Directory, path: &str) -> Directory {
        let mut here = Directory { matched: vec![false; self.patterns.len()], ignored: false };
        for (number, pattern) in self.patterns.iter().enumerate() {
            let above = parent.matched.get(number).copied().unwrap_or(false);
            if !above && pattern.exception != here.ignored {
                continue;
            }
            if above || pattern.matches(path) {
                here.matched[number] = true;
                here.ignored = !pattern.exception;
            }
        }
        here
    }

    /// Whether all that is below the directory `path`, which is `here`, is ignored too, so that nobody needs to look.
    pub fn skips(&self, here: &Directory, path: &str) -> bool {
        if !here.ignored {
            return false;
        }
        // What the last matching pattern ignores, only exceptions behind it can take back.
        let last = here.matched.iter().rposition(|matched| *matched).unwrap_or(0);
        !self.patterns.iter().skip(last + 1).any(|pattern| pattern.exception && pattern.reaches_below(path))
    }
}
