//! A Compose project in a directory of its own.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{Cmd, Output, Test};

/// A project in a directory of its own.
pub(crate) struct Project<'a> {
    /// Whose it is.
    t: &'a Test,
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// Its name.
    pub(crate) name: String,
}

impl<'a> Project<'a> {
    pub(crate) fn new(t: &'a Test, file: &str) -> Self {
        let name = t.name("p").to_lowercase();
        let project = Self { t, dir: t.dir("project"), name };
        project.write("compose.yaml", file);
        project
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `rbox compose …`.
    pub(crate) fn cmd(&self, args: &[&str]) -> Cmd {
        let file = self.dir.join("compose.yaml");
        self.t.cmd(["compose", "-f", file.to_str().unwrap(), "-p", &self.name]).args(args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.cmd(args).run()
    }

    /// What it tells of what it does.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) -> String {
        self.run(args).code(0).stderr
    }

    pub(crate) fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    pub(crate) fn id(&self, service: &str) -> String {
        self.inspect(service)["Id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn inspect(&self, service: &str) -> Value {
        self.t.inspect(&self.container(service))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        let text = self.t.ok(["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        let mut names: Vec<String> =
            text.lines().map(|line| line.replace(&format!("{}-", self.name), "")).collect();
        names.sort();
        names
    }
}
