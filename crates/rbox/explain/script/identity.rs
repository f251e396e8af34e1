//! The last command of the script: who the program is, what it may do, and itself.

use std::collections::HashMap;

use crate::explain::args::{descriptor, field, list, split, text, unquoted};
use crate::explain::event::Call;
use crate::explain::script::lines::comment;
use crate::explain::script::words::word;

/// What was set for the program.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// Options of prlimit(1).
    limits: Vec<String>,
    /// Capabilities that are not in the bounding set.
    dropped: Vec<String>,
    inheritable: bool,
    no_new_privileges: bool,
    groups: Option<String>,
    group: Option<u32>,
    user: Option<u32>,
    dir: Option<String>,
    program: Option<Program>,
    /// Its words were too long to be told.
    is_cut: bool,
}

#[derive(Debug)]
struct Program {
    path: Vec<u8>,
    args: Vec<Vec<u8>>,
    env: Vec<Vec<u8>>,
}

impl Identity {
    /// Whether the call is one that this knows.
    pub(super) fn call(&mut self, call: &Call) -> bool {
        self.read(call).is_some()
    }

    fn read(&mut self, call: &Call) -> Option<()> {
        let args = split(&call.args);
        let first = *args.first()?;
        // What a process between does to itself is none of the program's.
        if call.actor != "container" || call.step.as_deref() == Some("join namespaces") {
            return None;
        }
        match call.name.as_str() {
            "execve" => {
                self.is_cut = call.args.ends_with('…');
                let (words, env) = (list(args.get(1)?)?, list(args.get(2)?)?);
                self.program = Some(Program { path: unquoted(first)?, args: words, env });
            }
            "setresuid" => self.user = Some(first.parse().ok()?),
            "setresgid" => self.group = Some(first.parse().ok()?),
            "setgroups" => self.groups = Some(call.args.trim_matches(['[', ']']).replace(' ', "")),
            "prlimit64" => {
                let name = args.get(1)?.strip_prefix("RLIMIT_")?.to_lowercase();
                let limit = |which: &str| {
                    let value = field(args.get(2)?, which)?;
                    Some(if value == "RLIM64_INFINITY" { "unlimited" } else { value })
                };
                self.limits.push(format!("--{name}={}:{}", limit("rlim_cur")?, limit("rlim_max")?));
            }
            "prctl" => match (first, args.get(1).copied()) {
                ("PR_CAP_AMBIENT", Some("PR_CAP_AMBIENT_CLEAR_ALL")) => {}
                ("PR_CAPBSET_DROP", Some(name)) => {
                    self.dropped.push(name.strip_prefix("CAP_")?.to_lowercase());
                }
                ("PR_SET_NO_NEW_PRIVS", _) => self.no_new_privileges = true,
                _ => return None,
            },
            "capset" => self.inheritable = field(first, "inheritable")? != "0",
            "chdir" => self.dir = Some(text(first)?),
            // The last one counts: pivot_root(2) is done from the tree's root.
            "fchdir" => self.dir = Some(descriptor(first)?.1?.to_owned()),
            _ => return None,
        }
        Some(())
    }

    /// What is left in the bounding set because the last command needs it.
    fn needed(&self) -> impl Iterator<Item = &str> {
        let of_user = self.user.is_some_and(|user| user != 0);
        let needs = move |name: &str| name == "sys_chroot" || (name == "setuid" && of_user);
        self.dropped.iter().map(String::as_str).filter(move |name| needs(name))
    }

    /// What a script cannot do as it was done.
    pub(super) fn missing(&self) -> Vec<String> {
        let kept = self
            .needed()
            .map(|name| format!("the last command needs {name}, which stays in the bounding set"));
        kept.collect()
    }

    /// From the tree that is ready to the program.
    pub(super) fn lines(&self, whys: &HashMap<String, String>) -> Vec<String> {
        let Some(program) = &self.program else {
            let why = if self.is_cut {
                "its words are too long to be told"
            } else {
                "there was no program to execute"
            };
            return vec![format!(r#"echo "$name: {why}" >&2; exit 127"#)];
        };
        let mut lines = Vec::new();
        for step in ["set resource limits", "drop the bounding set", "become the user", "execute the program"]
        {
            if let Some(why) = whys.get(step) {
                lines.extend(comment(&format!("{step}: {why}")));
            }
        }
        if !self.limits.is_empty() {
            lines.push(format!("prlimit --pid $$ {}", self.limits.join(" ")));
        }
        // What has no name would be taken for the program.
        let variables =
            program.env.iter().filter(|variable| variable.iter().position(|b| *b == b'=') > Some(0));
        lines.push("exec env -i -- \\".to_owned());
        lines.extend(variables.map(|variable| format!("    {} \\", word(variable))));
        lines.push(format!("    \"$setpriv\" {} \\", self.setpriv().join(" ")));
        let user =
            self.user.filter(|user| *user != 0).map_or_else(String::new, |user| format!(" --setuid={user}"));
        let dir = word(self.dir.as_deref().unwrap_or("/").as_bytes());
        lines.push(format!("    \"$unshare\" --root=. --wd={dir}{user} -- {}", program.words()));
        lines
    }

    fn setpriv(&self) -> Vec<String> {
        let mut options = Vec::new();
        let kept: Vec<&str> = self.needed().collect();
        let dropped =
            self.dropped.iter().filter(|name| !kept.contains(&name.as_str()) && name.parse::<u32>().is_err());
        let dropped: Vec<String> = dropped.map(|name| format!("-{name}")).collect();
        if !dropped.is_empty() {
            options.push(format!("--bounding-set={}", dropped.join(",")));
        }
        if !self.inheritable {
            options.push("--inh-caps=-all".to_owned());
        }
        if self.no_new_privileges {
            options.push("--no-new-privs".to_owned());
        }
        if let Some(group) = self.group {
            options.push(format!("--regid={group}"));
        }
        match self.groups.as_deref() {
            Some("") => options.push("--clear-groups".to_owned()),
            Some(groups) => options.push(format!("--groups={groups}")),
            None if self.group.is_some() => options.push("--keep-groups".to_owned()),
            None => {}
        }
        options
    }
}

impl Program {
    /// As it was named: most programs are found again under that name, and are told it.
    fn words(&self) -> String {
        let named = self.args.first().filter(|name| {
            !name.is_empty()
                && !name.contains(&b'/')
                && self.path.rsplit(|byte| *byte == b'/').next() == Some(name.as_slice())
        });
        let mut words = vec![word(named.unwrap_or(&self.path))];
        words.extend(self.args.iter().skip(1).map(|arg| word(arg)));
        words.join(" ")
    }
}
