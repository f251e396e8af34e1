//! What a process has open while it makes a tree of mounts, and the commands that put it there.

use std::collections::HashMap;

use crate::explain::args::{descriptor, field, split, text};
use crate::explain::event::Call;
use crate::explain::script::words::{Renamed, renamed, word};

/// What one process has open. Descriptors are copied by clone, so these are too.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// File systems that are being set up.
    contexts: HashMap<i32, Context>,
    /// Mounts, attached or not.
    mounts: HashMap<i32, Mount>,
    /// Directories of the tree.
    places: HashMap<i32, String>,
    /// A file that was made for the next mount.
    made_file: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Context {
    kind: String,
    source: String,
    options: Vec<(String, Option<String>)>,
}

#[derive(Clone, Debug)]
struct Mount {
    what: What,
    attributes: Vec<&'static str>,
    propagation: Option<&'static str>,
    /// What is done in it before it has a place, and where it is then.
    inside: Vec<Made>,
    at: Option<String>,
}

#[derive(Clone, Debug)]
enum What {
    New(Context),
    Bind { from: From, below: bool },
}

/// Where a bind mount comes from.
#[derive(Clone, Debug)]
enum From {
    Host(String),
    /// The container's own tree.
    Tree(String),
}

/// A node that is made in a mount.
#[derive(Clone, Debug)]
enum Made {
    Directory(String, String),
    Link(String, String),
    Device { name: String, mode: String, kind: char, major: u32, minor: u32 },
}

/// The container's tree as the script has it: its root is the working directory.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    /// Where the host has it while it is made.
    pub(super) stage: &'a str,
    pub(super) names: &'a [Renamed],
}

/// Calls that give a number, which nothing else has then.
const GIVES_NUMBER: [&str; 8] =
    ["openat2", "openat", "open", "socket", "fcntl", "fsopen", "fsmount", "open_tree"];

const ATTRIBUTES: [(&str, &str); 8] = [
    ("MOUNT_ATTR_RDONLY", "ro"),
    ("MOUNT_ATTR_NOSUID", "nosuid"),
    ("MOUNT_ATTR_NODEV", "nodev"),
    ("MOUNT_ATTR_NOEXEC", "noexec"),
    ("MOUNT_ATTR_NOATIME", "noatime"),
    ("MOUNT_ATTR_STRICTATIME", "strictatime"),
    ("MOUNT_ATTR_NODIRATIME", "nodiratime"),
    ("MOUNT_ATTR_NOSYMFOLLOW", "nosymfollow"),
];

/// The options of these attributes; none when one has no option.
fn attributes(flags: &str) -> Option<Vec<&'static str>> {
    let named = flags.split('|').filter(|flag| *flag != "0");
    named.map(|flag| ATTRIBUTES.iter().find(|(name, _)| *name == flag).map(|(_, option)| *option)).collect()
}

impl Open {
    /// The commands of a call that worked; none when it is no matter of mounts, or has no command.
    pub(super) fn call(&mut self, call: &Call, tree: &Tree<'_>) -> Option<Vec<String>> {
        let args = split(&call.args);
        if let Ok(number) = call.result.parse::<i32>()
            && GIVES_NUMBER.contains(&call.name.as_str())
        {
            self.opened(&args, number);
        }
        let arg = |at: usize| args.get(at).copied().unwrap_or_default();
        let number = |at: usize| descriptor(arg(at)).map(|(number, _)| number);
        let result = || call.result.parse::<i32>().ok();
        match call.name.as_str() {
            "fsopen" => {
                self.contexts.insert(result()?, Context { kind: text(arg(0))?, ..Context::default() });
            }
            "fsconfig" => {
                let context = self.contexts.get_mut(&number(0)?)?;
                match (arg(1), text(arg(2)), text(arg(3))) {
                    ("FSCONFIG_CMD_CREATE", ..) => {}
                    ("FSCONFIG_SET_FLAG", Some(key), _) => context.options.push((key, None)),
                    ("FSCONFIG_SET_STRING", Some(key), Some(value)) if key == "source" => {
                        context.source = value;
                    }
                    ("FSCONFIG_SET_STRING", Some(key), value @ Some(_)) => context.options.push((key, value)),
                    _ => return None,
                }
            }
            "fsmount" => {
                let context = self.contexts.remove(&number(0)?)?;
                self.mounts.insert(result()?, Mount::new(What::New(context), attributes(arg(2))?));
            }
            "open_tree" => {
                let from = match descriptor(arg(0)) {
                    Some((_, path)) => From::Tree(tree.inside(path?)?),
                    None => From::Host(text(arg(1)).filter(|path| !path.starts_with("/proc/self/"))?),
                };
                let what = What::Bind { from, below: arg(2).contains("AT_RECURSIVE") };
                self.mounts.insert(result()?, Mount::new(what, Vec::new()));
            }
            "mount_setattr" => return self.set_attributes(arg(0), arg(2), arg(3), tree),
            "openat2" | "openat" | "open" | "socket" | "fcntl" => {}
            "move_mount" => return self.attach(number(0)?, arg(2), tree),
            "mkdirat" => return self.make(arg(0), Made::Directory(text(arg(1))?, mode(arg(2))?), tree),
            "symlinkat" => return self.make(arg(1), Made::Link(text(arg(2))?, text(arg(0))?), tree),
            "mknodat" => {
                let (kind, mode) = arg(2).split_once("|0o")?;
                let numbers = arg(3).strip_prefix("makedev(")?.strip_suffix(')')?;
                let (major, minor) = numbers.split_once(", ")?;
                let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
                let kind = match kind {
                    "S_IFCHR" => 'c',
                    "S_IFBLK" => 'b',
                    _ => return None,
                };
                let device =
                    Made::Device { name: text(arg(1))?, mode: self::mode(mode)?, kind, major, minor };
                return self.make(arg(0), device, tree);
            }
            "mount" => return mount(&args),
            _ => return None,
        }
        Some(Vec::new())
    }

    /// A number is given again: what had it is closed.
    fn opened(&mut self, args: &[&str], number: i32) {
        let how = args.get(2).copied().unwrap_or_default();
        let is_new = field(how, "flags").is_some_and(|flags| flags.split('|').any(|flag| flag == "O_CREATE"));
        let base = args.first().and_then(|arg| descriptor(arg)).and_then(|(base, _)| self.place(base));
        let place = match (base, args.get(1).and_then(|arg| text(arg))) {
            (Some(base), Some(name)) if name == "/" => Some(base),
            // Only what led through no link is where its name says.
            (Some(base), Some(name)) if !name.starts_with('/') && how.contains("RESOLVE_NO_SYMLINKS") => {
                checked(&below(&base, &name))
            }
            _ => None,
        };
        self.contexts.remove(&number);
        self.mounts.remove(&number);
        self.places.remove(&number);
        if is_new {
            self.made_file.clone_from(&place);
        }
        self.places.extend(place.map(|place| (number, place)));
    }

    /// Where the tree has what is behind this number.
    fn place(&self, number: i32) -> Option<String> {
        match self.mounts.get(&number) {
            Some(mount) => mount.at.clone(),
            None => self.places.get(&number).cloned(),
        }
    }

    fn set_attributes(&mut self, of: &str, flags: &str, how: &str, tree: &Tree<'_>) -> Option<Vec<String>> {
        let (number, path) = descriptor(of)?;
        let set = attributes(field(how, "attr_set")?)?;
        let below = flags.contains("AT_RECURSIVE");
        let propagation = match (field(how, "propagation")?, below) {
            ("MS_PRIVATE", true) => Some("--make-rprivate"),
            ("MS_PRIVATE", false) => Some("--make-private"),
            ("MS_SLAVE", true) => Some("--make-rslave"),
            ("MS_SLAVE", false) => Some("--make-slave"),
            ("MS_SHARED", true) => Some("--make-rshared"),
            ("MS_SHARED", false) => Some("--make-shared"),
            ("0", _) => None,
            _ => return None,
        };
        match self.mounts.get_mut(&number) {
            Some(mount) if mount.at.is_none() => {
                mount.attributes.extend(set);
                mount.propagation = propagation.or(mount.propagation);
                Some(Vec::new())
            }
            _ => {
                let at = tree.inside(path?)?;
                Some(remount(&set, propagation, &tree.word(&at)))
            }
        }
    }

    fn attach(&mut self, number: i32, to: &str, tree: &Tree<'_>) -> Option<Vec<String>> {
        let made_file = self.made_file.take();
        let at = tree.inside(descriptor(to)?.1?)?;
        let mount = self.mounts.get_mut(&number)?;
        let place = tree.word(&at);
        let mut lines = Vec::new();
        if made_file.as_ref() == Some(&at) {
            lines.push(format!(": > {place}"));
        }
        lines.extend(mount.lines(&place, tree));
        mount.at = Some(at.clone());
        for made in std::mem::take(&mut mount.inside) {
            lines.push(made.line(&at, tree)?);
        }
        Some(lines)
    }

    fn make(&mut self, dir: &str, made: Made, tree: &Tree<'_>) -> Option<Vec<String>> {
        let (number, path) = descriptor(dir)?;
        match self.mounts.get_mut(&number) {
            Some(mount) if mount.at.is_none() => {
                mount.inside.push(made);
                Some(Vec::new())
            }
            _ => {
                let dir = self.place(number).or_else(|| tree.inside(path?));
                Some(vec![made.line(&dir?, tree)?])
            }
        }
    }
}

/// `mount(NULL, "/", NULL, MS_REC|MS_SLAVE, NULL)`.
fn mount(args: &[&str]) -> Option<Vec<String>> {
    match args {
        ["NULL", r#""/""#, "NULL", "MS_REC|MS_SLAVE", "NULL"] => {
            Some(vec!["mount --make-rslave /".to_owned()])
        }
        ["NULL", r#""/""#, "NULL", "MS_REC|MS_PRIVATE", "NULL"] => {
            Some(vec!["mount --make-rprivate /".to_owned()])
        }
        _ => None,
    }
}

/// An octal mode as chmod(1) takes it.
fn mode(text: &str) -> Option<String> {
    let mode = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok()?;
    Some(format!("{mode:o}"))
}

fn remount(attributes: &[&str], propagation: Option<&str>, place: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(propagation) = propagation {
        lines.push(format!("mount {propagation} {place}"));
    }
    if !attributes.is_empty() {
        lines.push(format!("mount -o remount,bind,{} {place}", attributes.join(",")));
    }
    lines
}

impl Mount {
    fn new(what: What, attributes: Vec<&'static str>) -> Self {
        Self { what, attributes, propagation: None, inside: Vec::new(), at: None }
    }

    fn lines(&self, place: &str, tree: &Tree<'_>) -> Vec<String> {
        match &self.what {
            What::New(context) => {
                let mut lines = vec![context.line(&self.attributes, place, tree)];
                lines.extend(remount(&[], self.propagation, place));
                lines
            }
            What::Bind { from, below } => {
                let from = match from {
                    From::Host(path) => renamed(path, tree.names),
                    From::Tree(path) => tree.word(path),
                };
                let mut lines =
                    vec![format!("mount {} {from} {place}", if *below { "--rbind" } else { "--bind" })];
                lines.extend(remount(&self.attributes, self.propagation, place));
                lines
            }
        }
    }
}

impl Context {
    fn line(&self, attributes: &[&str], place: &str, tree: &Tree<'_>) -> String {
        let mut options: Vec<String> = attributes.iter().map(|option| (*option).to_owned()).collect();
        let layers = self.options.iter().filter(|(key, _)| key == "lowerdir+");
        // The layers, the upper ones first; before Linux 6.7 in one string.
        let layers: Vec<&str> = layers.filter_map(|(_, value)| value.as_deref()).collect();
        if !layers.is_empty() {
            options.push(format!("lowerdir={}", layers.join(":")));
        }
        for (key, value) in self.options.iter().filter(|(key, _)| key != "lowerdir+") {
            options.push(value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}")));
        }
        let options = if options.is_empty() {
            String::new()
        } else {
            format!(" -o {}", renamed(&options.join(","), tree.names))
        };
        format!("mount -t {}{options} {} {place}", word(self.kind.as_bytes()), word(self.source.as_bytes()))
    }
}

impl Made {
    fn line(&self, dir: &str, tree: &Tree<'_>) -> Option<String> {
        let at = |name: &str| Some(tree.word(&checked(&below(dir, name))?));
        Some(match self {
            Self::Directory(name, mode) => format!("mkdir -m {mode} {}", at(name)?),
            Self::Link(name, to) => format!("ln -s {} {}", word(to.as_bytes()), at(name)?),
            Self::Device { name, mode, kind, major, minor } => {
                format!("mknod -m {mode} {} {kind} {major} {minor}", at(name)?)
            }
        })
    }
}

impl Tree<'_> {
    /// A path as the container has it, of one that the host has while the tree is made.
    pub(super) fn inside(&self, path: &str) -> Option<String> {
        let below = path.strip_prefix(self.stage)?;
        let path = if below.is_empty() { "/" } else { below };
        checked(path)
    }

    /// The word for a path of the container: its tree is the working directory.
    fn word(&self, path: &str) -> String {
        match path.trim_start_matches('/') {
            "" => ".".to_owned(),
            below if below.starts_with('-') => word(format!("./{below}").as_bytes()),
            below => renamed(below, self.names),
        }
    }
}

fn below(dir: &str, name: &str) -> String {
    format!("{}/{name}", dir.trim_end_matches('/'))
}

/// A path that stays below where it begins.
fn checked(path: &str) -> Option<String> {
    (path.starts_with('/') && !path.split('/').any(|part| part == "..")).then(|| path.to_owned())
}
