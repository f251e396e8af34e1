//! Git repositories, by the `git` program: what a URL means, and getting it.
//!
//! Source: the documentation of Docker's `build` ("Git repositories") and of `ADD <git ref>`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rbox_sys::waiting::{self, Patience};

use super::error::{ContextError, io_error};

/// What of this process's environment git gets: where programs, keys, agents and proxies are.
const ENVIRONMENT: [&str; 11] = [
    "PATH",
    "HOME",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
];

/// Nothing of the host's or the user's configuration, nothing that asks a question, no protocol that runs a program of somebody's choice.
const HARDENED: [(&str, &str); 7] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ALLOW_PROTOCOL", "git:http:https:ssh"),
    ("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=30"),
    ("GIT_ASKPASS", "/bin/false"),
    ("LC_ALL", "C"),
];

/// A server that says nothing for a minute is given up.
const SETTINGS: [&str; 10] = [
    "-c",
    "http.lowSpeedLimit=1",
    "-c",
    "http.lowSpeedTime=60",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "init.defaultBranch=main",
    "-c",
    "advice.detachedHead=false",
];

/// What a URL of a repository says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Repository {
    /// Where it is, without what follows.
    pub(crate) url: String,
    /// A branch, a tag, a commit, or a whole reference.
    reference: Option<String>,
    /// A directory of it.
    subdir: Option<String>,
    /// The commit has to begin so.
    commit: Option<String>,
    keeps_git: bool,
    submodules: bool,
}

impl Repository {
    /// Reads a URL; none when it is of no repository.
    ///
    /// # Errors
    /// It says something that has no meaning, in words.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, String>> {
        let (text, fragment) = match text.split_once('#') {
            Some((text, fragment)) => (text, Some(fragment)),
            None => (text, None),
        };
        let (url, query) = match text.split_once('?') {
            Some((url, query)) => (url, Some(query)),
            None => (text, None),
        };
        let is_web = url.starts_with("http://") || url.starts_with("https://");
        let has_path = |rest: &str| rest.contains(':') && !rest.contains("://");
        let url = if (is_web && url.trim_end_matches('/').strip_suffix(".git").is_some())
            || url.starts_with("git://")
            || url.starts_with("ssh://")
            || url.strip_prefix("git@").is_some_and(has_path)
        {
            url.to_owned()
        } else if url.starts_with("github.com/") {
            format!("https://{url}")
        } else {
            return None;
        };
        Some(Self { url, submodules: true, ..Self::default() }.with(fragment, query))
    }

    fn with(mut self, fragment: Option<&str>, query: Option<&str>) -> Result<Self, String> {
        let full = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        if let Some(fragment) = fragment {
            let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
            (self.reference, self.subdir) = (full(reference), full(subdir));
        }
        for field in query.into_iter().flat_map(|query| query.split('&')).filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let is_true = matches!(value, "" | "1" | "true");
            match key {
                "ref" | "branch" | "tag" if self.reference.is_some() => {
                    return Err(format!("{}: more than one ref is given", self.url));
                }
                "ref" => self.reference = full(value),
                "branch" => self.reference = full(value).map(|name| format!("refs/heads/{name}")),
                "tag" => self.reference = full(value).map(|name| format!("refs/tags/{name}")),
                "subdir" => self.subdir = full(value),
                "checksum" | "commit" => self.commit = full(value),
                "keep-git-dir" => self.keeps_git = is_true,
                "submodules" => self.submodules = is_true,
                _ => return Err(format!("{}: unexpected query {key:?}", self.url)),
            }
        }
        Ok(self)
    }

    /// The same, whose commit has to begin so.
    pub(crate) fn at(mut self, commit: &str) -> Self {
        if !commit.is_empty() {
            self.commit = Some(commit.to_owned());
        }
        self
    }

    /// The same, with `.git` kept or not; none: as the URL says.
    pub(crate) fn keeping_git(mut self, keep: Option<bool>) -> Self {
        self.keeps_git = keep.unwrap_or(self.keeps_git);
        self
    }

    /// Gets it into the new directory `into`: the directory of it that is wanted, and the commit.
    pub(crate) fn get(&self, into: &Path) -> Result<(PathBuf, String), ContextError> {
        rbox_sys::own::make_private(into).map_err(io_error("make directory", into))?;
        self.git(into, &["init", "--quiet", "--template=", "."])?;
        self.git(into, &["remote", "add", "origin", "--", &self.url])?;
        let commit = self.fetch(into)?;
        if let Some(wanted) = self.commit.as_ref().filter(|wanted| !commit.starts_with(*wanted)) {
            let reference = self.reference.as_deref().unwrap_or("HEAD");
            return Err(
                self.failed(&format!("expected checksum to match {wanted}, got {commit} for {reference}"))
            );
        }
        self.git(into, &["checkout", "--quiet", "--force", &commit])?;
        if self.submodules && into.join(".gitmodules").exists() {
            let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
            self.git(into, &update)?;
        }
        if !self.keeps_git {
            remove_git(into).map_err(io_error("remove .git of", into))?;
        }
        Ok((self.subdir(into)?, commit))
    }

    /// Which commit it is now, without fetching it. None where only fetching tells.
    pub(crate) fn resolve(&self, dir: &Path) -> Result<Option<String>, ContextError> {
        let reference = self.reference.as_deref().unwrap_or("HEAD");
        if reference.starts_with('-') {
            return Err(self.failed(&format!("{reference:?} is no ref")));
        }
        if is_whole_commit(reference) {
            return Ok(Some(reference.to_owned()).filter(|commit| self.is_wanted(commit)));
        }
        let names = ["", "refs/", "refs/tags/", "refs/heads/"].map(|begin| format!("{begin}{reference}"));
        let peeled = format!("refs/tags/{reference}^{{}}");
        let mut words = vec!["ls-remote", "--quiet", "--", self.url.as_str()];
        words.extend(names.iter().map(String::as_str).chain([peeled.as_str()]));
        let said = self.git(dir, &words)?;
        let commit = |name: &str| {
            let mut lines = said.lines().filter_map(|line| line.split_once('\t'));
            lines.find(|(_, found)| *found == name).map(|(commit, _)| commit)
        };
        let wanted =
            [names[0].as_str(), names[1].as_str(), peeled.as_str(), names[2].as_str(), names[3].as_str()];
        let found = wanted.into_iter().find_map(commit).filter(|commit| is_whole_commit(commit));
        Ok(found.filter(|commit| self.is_wanted(commit)).map(str::to_owned))
    }

    /// Whether a commit is the one that the URL asks for, if it does.
    fn is_wanted(&self, commit: &str) -> bool {
        self.commit.as_ref().is_none_or(|wanted| commit.starts_with(wanted))
    }

    /// Fetches what is wanted, and says which commit it is.
    fn fetch(&self, dir: &Path) -> Result<String, ContextError> {
        let reference = self.reference.as_deref().unwrap_or("HEAD");
        if reference.starts_with('-') {
            return Err(self.failed(&format!("{reference:?} is no ref")));
        }
        let is_commit = reference.len() >= 7 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        let by_name = |depth: &[&str]| {
            let words = [&["fetch", "--quiet", "--no-tags"], depth, &["origin", "--", reference]].concat();
            self.git(dir, &words)
        };
        // A web server without git knows no depth. Others may give by name only, and nobody by the beginning of a commit.
        let found = match by_name(&["--depth=1"]).or_else(|error| by_name(&[]).map_err(|_| error)) {
            Ok(_) => "FETCH_HEAD",
            Err(_) if is_commit => {
                self.git(dir, &["fetch", "--quiet", "--tags", "origin"])?;
                reference
            }
            Err(error) => return Err(error),
        };
        let commit = self.git(dir, &["rev-parse", "--verify", &format!("{found}^{{commit}}")])?;
        Ok(commit.trim().to_owned())
    }

    /// The directory of it that is wanted, which no link of the repository's leads out of.
    pub(super) fn subdir(&self, root: &Path) -> Result<PathBuf, ContextError> {
        let Some(subdir) = &self.subdir else { return Ok(root.to_owned()) };
        let whole = root.canonicalize().map_err(io_error("read", root))?;
        let path = whole.join(subdir.trim_start_matches('/'));
        match path.canonicalize() {
            Ok(found) if found.starts_with(&whole) && found.is_dir() => Ok(found),
            _ => Err(self.failed(&format!("it has no directory {subdir:?}"))),
        }
    }

    fn git(&self, dir: &Path, words: &[&str]) -> Result<String, ContextError> {
        let mut command = Command::new("git");
        command.env_clear().args(SETTINGS).args(words).current_dir(dir).envs(HARDENED);
        for name in ENVIRONMENT {
            command.envs(std::env::var_os(name).map(|value| (OsStr::new(name).to_owned(), value)));
        }
        let output = waiting::run(&mut command, b"", Patience::WORK).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => self.failed("the program git is not there: install git"),
            _ => self.failed(&format!("git: {error}")),
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        Err(self.failed(&format!("git {}: {line}", words.first().copied().unwrap_or_default())))
    }

    fn failed(&self, message: &str) -> ContextError {
        ContextError::Git {
            url: without_password(&self.url, &self.url),
            message: without_password(&self.url, message),
        }
    }
}

/// Whether it is a commit's whole name.
fn is_whole_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A text in which the password of a URL does not stand, as URLs get into logs.
pub fn without_password(url: &str, text: &str) -> String {
    let user = url.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
    match user.and_then(|(user, _)| user.split_once(':')).filter(|(_, password)| !password.is_empty()) {
        Some((_, password)) => text.replace(password, "xxxxx"),
        None => text.to_owned(),
    }
}

/// Removes the repository, and those of its submodules, and leaves the files.
fn remove_git(root: &Path) -> std::io::Result<()> {
    let modules = fs::read_to_string(root.join(".gitmodules")).unwrap_or_default();
    let paths = modules.lines().filter_map(|line| line.trim().strip_prefix("path")?.trim().strip_prefix('='));
    for path in paths {
        let inside = root.join(path.trim()).canonicalize();
        if let Ok(inside) = inside
            && inside.starts_with(root.canonicalize()?)
            && inside != root
        {
            remove_git(&inside)?;
        }
    }
    let git = root.join(".git");
    match fs::symlink_metadata(&git) {
        Ok(meta) if meta.is_dir() => rbox_sys::removal::remove_tree(&git),
        Ok(_) => fs::remove_file(&git),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_repositories() {
        let parsed =
            |text| Repository::parse(text).map(|found| found.map(|r| (r.url, r.reference, r.subdir)));
        let found = |url: &str, reference: Option<&str>, subdir: Option<&str>| {
            Some(Ok((url.to_owned(), reference.map(str::to_owned), subdir.map(str::to_owned))))
        };
        for (text, wanted) in [
            ("https://host/a/b.git", found("https://host/a/b.git", None, None)),
            ("https://host/a/b.git#main:dir", found("https://host/a/b.git", Some("main"), Some("dir"))),
            ("git://host/a#:dir", found("git://host/a", None, Some("dir"))),
            ("git@host:a/b#v1", found("git@host:a/b", Some("v1"), None)),
            ("ssh://git@host:22/a/b", found("ssh://git@host:22/a/b", None, None)),
            ("github.com/a/b", found("https://github.com/a/b", None, None)),
            (
                "https://host/b.git?tag=v1&subdir=x",
                found("https://host/b.git", Some("refs/tags/v1"), Some("x")),
            ),
            ("https://host/a/b", None),
            ("https://host/Dockerfile?x=b.git", None),
            ("dir/b.git", None),
        ] {
            assert_eq!(parsed(text), wanted, "{text}");
        }
        assert!(Repository::parse("git://host/a?other=1").unwrap().is_err());
        let url = "https://me:s3cret@host/a.git";
        assert_eq!(without_password(url, &format!("{url}: no")), "https://me:xxxxx@host/a.git: no");
        assert_eq!(without_password("ssh://git@host/a", "git@host"), "git@host");
        assert!(Repository::parse("git://host/a?tag=1#main").unwrap().is_err());
    }
}
