//! Who a process runs as: the `USER` string, and what an image's passwd(5) and group(5) make of it.
//!
//! Every byte here comes from an image. So there is one parser, numbers are checked and never wrapped, and
//! a line of the databases that is not well formed is no entry at all (rather than one with uid 0).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::kind::Kind;

/// The most bytes of an image's passwd or group file that are read. Larger ones are refused.
pub const MAX_DATABASE_BYTES: usize = 4 << 20;
/// The largest uid and gid, Docker's bound: the kernel's own minus the half that old tools take for negative.
pub const MAX_ID: u32 = i32::MAX as u32;
/// The most supplementary groups the kernel takes (`NGROUPS_MAX`, limits.h).
pub const MAX_GROUPS: usize = 65_536;

/// Why a user was refused. Wording is Docker's where Docker has any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // Each message says what its field is.
pub enum UserError {
    #[error(
        "invalid user {0:?}: it is user[:group], each a name or a number, without spaces or control characters"
    )]
    Syntax(String),
    #[error("uids and gids must be in range 0-{MAX_ID}")]
    Range,
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("the image's {0} is larger than {MAX_DATABASE_BYTES} bytes")]
    TooLarge(&'static str),
    #[error("user {0} is in more than {MAX_GROUPS} groups")]
    TooManyGroups(String),
}

impl UserError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoUser(_) | Self::NoGroup(_) => Kind::NotFound,
            Self::Syntax(_) | Self::Range => Kind::Invalid,
            Self::TooLarge(_) | Self::TooManyGroups(_) => Kind::Unsupported,
        }
    }
}

/// A user or a group: digits are always a number, also where a name of digits exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A uid or gid.
    Id(u32),
    /// A name to look up.
    Name(String),
}

impl Identity {
    fn parse(text: &str, whole: &str) -> Result<Self, UserError> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            // Also -1 and 4294967296: out of range, never a name, never wrapped.
            return match text.parse::<u32>() {
                Ok(id) if id <= MAX_ID && !text.starts_with('+') => Ok(Self::Id(id)),
                _ => Err(UserError::Range),
            };
        }
        let bad = |c: char| c.is_control() || c.is_whitespace() || c == '/' || c == ',';
        if text.is_empty() || text.len() > 256 || text.starts_with('-') || text.contains(bad) {
            return Err(UserError::Syntax(whole.to_owned()));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl FromStr for Identity {
    type Err = UserError;

    /// One name or number, as `--group-add` takes it.
    fn from_str(text: &str) -> Result<Self, UserError> {
        if text.contains(':') {
            return Err(UserError::Syntax(text.to_owned()));
        }
        Self::parse(text, text)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A `USER` of an image or `-u` of the command line: `user`, `user:group`, `:group` or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSpec {
    /// Absent: root.
    pub user: Option<Identity>,
    /// Absent: the user's own group, and with it the groups that list the user.
    pub group: Option<Identity>,
}

impl FromStr for UserSpec {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        if group.contains(':') {
            return Err(UserError::Syntax(text.to_owned()));
        }
        let part = |part: &str| (!part.is_empty()).then(|| Identity::parse(part, text)).transpose();
        Ok(Self { user: part(user)?, group: part(group)? })
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}")?;
        }
        if let Some(group) = &self.group {
            write!(f, ":{group}")?;
        }
        Ok(())
    }
}

/// What a process is started as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// For setuid(2).
    pub uid: u32,
    /// For setgid(2).
    pub gid: u32,
    /// For setgroups(2): the primary group first (without it, files denied to the group would open:
    /// CVE-2022-36109), then the others, each once.
    pub supplementary: Vec<u32>,
    /// For `HOME`; `/` when passwd has none.
    pub home: String,
    /// The name in passwd, when there is one.
    pub name: Option<String>,
}

/// One line of passwd(5), as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswdEntry<'a> {
    /// The login name.
    pub name: &'a str,
    /// The user.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its home directory.
    pub home: &'a str,
}

/// One line of group(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry<'a> {
    /// The group's name.
    pub name: &'a str,
    /// The group.
    pub gid: u32,
    members: &'a str,
}

impl GroupEntry<'_> {
    /// Whether `user` is listed.
    pub fn has_member(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member == user)
    }
}

/// The well-formed entries of a passwd file, in order.
pub fn passwd_entries(bytes: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    fields(bytes).filter_map(|line| {
        let mut parts = line.split(':');
        let (name, _password) = (parts.next()?, parts.next()?);
        let (uid, gid) = (id(parts.next()?)?, id(parts.next()?)?);
        let (_gecos, home) = (parts.next(), parts.next().unwrap_or_default());
        (!name.is_empty()).then_some(PasswdEntry { name, uid, gid, home })
    })
}

/// The well-formed entries of a group file, in order.
pub fn group_entries(bytes: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    fields(bytes).filter_map(|line| {
        let mut parts = line.split(':');
        let (name, _password) = (parts.next()?, parts.next()?);
        let gid = id(parts.next()?)?;
        (!name.is_empty()).then_some(GroupEntry { name, gid, members: parts.next().unwrap_or_default() })
    })
}

fn fields(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|b| *b == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).map(str::trim)
}

fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= MAX_ID)
}

/// Resolves `spec` against the image's databases; `extra` are the groups of `--group-add`.
///
/// As runc does: digits are an id even if a user is named so; the first matching entry wins; a number without
/// an entry is fine and gets gid 0; a name without an entry is refused; the groups that list the user count
/// only when the spec names no group itself.
pub fn resolve(
    spec: &UserSpec,
    passwd: &[u8],
    group: &[u8],
    extra: &[Identity],
) -> Result<ResolvedUser, UserError> {
    for (bytes, name) in [(passwd, "/etc/passwd"), (group, "/etc/group")] {
        if bytes.len() > MAX_DATABASE_BYTES {
            return Err(UserError::TooLarge(name));
        }
    }
    let wanted = spec.user.clone().unwrap_or(Identity::Id(0));
    let entry = passwd_entries(passwd).find(|entry| match &wanted {
        Identity::Id(uid) => entry.uid == *uid,
        Identity::Name(name) => entry.name == name,
    });
    let (uid, mut gid) = match (&wanted, &entry) {
        (_, Some(entry)) => (entry.uid, entry.gid),
        (Identity::Id(uid), None) => (*uid, 0),
        (Identity::Name(name), None) => return Err(UserError::NoUser(name.clone())),
    };
    let mut others = Vec::new();
    match (&spec.group, &entry) {
        (Some(named), _) => gid = group_id(named, group)?,
        (None, Some(entry)) => {
            others.extend(group_entries(group).filter(|g| g.has_member(entry.name)).map(|g| g.gid));
        }
        (None, None) => {}
    }
    for named in extra {
        others.push(group_id(named, group)?);
    }
    let mut seen = std::collections::HashSet::from([gid]);
    let mut supplementary = vec![gid];
    supplementary.extend(others.into_iter().filter(|other| seen.insert(*other)));
    if supplementary.len() > MAX_GROUPS {
        return Err(UserError::TooManyGroups(wanted.to_string()));
    }
    let home = entry.as_ref().map(|entry| entry.home).filter(|home| home.starts_with('/')).unwrap_or("/");
    Ok(ResolvedUser {
        uid,
        gid,
        supplementary,
        home: home.to_owned(),
        name: entry.as_ref().map(|entry| entry.name.to_owned()),
    })
}

fn group_id(named: &Identity, group: &[u8]) -> Result<u32, UserError> {
    match named {
        Identity::Id(gid) => Ok(*gid),
        Identity::Name(name) => group_entries(group)
            .find(|entry| entry.name == name)
            .map(|entry| entry.gid)
            .ok_or_else(|| UserError::NoGroup(name.clone())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        # comment\n\
        broken:x:zero:0::/:/bin/sh\n\
        huge:x:4294967296:0::/:/bin/sh\n\
        minus:x:-1:0::/:/bin/sh\n\
        short:x:9\n\
        1000:x:7:70:name of digits:/home/digits:/bin/sh\n\
        app:x:1000:1001:the app:/srv/app:/bin/sh\n\
        twin:x:1000:1002::/srv/twin:/bin/sh\n\
        nohome:x:50:50\n";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:app,other\nwheel:x:10:root\nweb:x:33:app\nappg:x:1001:app\n";

    fn user(spec: &str) -> Result<ResolvedUser, UserError> {
        resolve(&spec.parse()?, PASSWD, GROUP, &[])
    }

    fn ids(spec: &str) -> (u32, u32, Vec<u32>) {
        let user = user(spec).unwrap();
        (user.uid, user.gid, user.supplementary)
    }

    #[test]
    fn resolves_as_runc_does() {
        assert_eq!(ids(""), (0, 0, vec![0, 10]));
        assert_eq!(ids("app"), (1000, 1001, vec![1001, 4, 33]));
        // Digits are a uid even though a user is called 1000; the first entry with that uid wins.
        assert_eq!(ids("1000"), (1000, 1001, vec![1001, 4, 33]));
        assert_eq!(user("1000").unwrap().home, "/srv/app");
        // A group in the spec leaves the listed groups out.
        assert_eq!(ids("app:web"), (1000, 33, vec![33]));
        assert_eq!(ids("1000:0"), (1000, 0, vec![0]));
        assert_eq!(ids("4242"), (4242, 0, vec![0]));
        assert_eq!(ids("4242:77"), (4242, 77, vec![77]));
        assert_eq!(ids(":33"), (0, 33, vec![33]));
        assert_eq!(ids("app:"), ids("app"));
        assert_eq!(user("4242").unwrap().home, "/");
        assert_eq!(user("nohome").unwrap().home, "/");
        assert_eq!(ids("2147483647"), (2_147_483_647, 0, vec![0]));
    }

    #[test]
    fn refuses_what_it_cannot_be_sure_of() {
        assert_eq!(
            user("nobody").unwrap_err().to_string(),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            user("app:nogroup").unwrap_err().to_string(),
            "unable to find group nogroup: no matching entries in group file"
        );
        for spec in ["-1", "4294967296", "4294967295", "2147483648", "0:-1", "+5", "99999999999999999999999"]
        {
            assert_eq!(user(spec), Err(UserError::Range), "{spec}");
        }
        for spec in ["a:b:c", "a b", "a\n", "a\0", "::", "-x", "../x", " "] {
            assert!(matches!(user(spec), Err(UserError::Syntax(_))), "{spec:?}");
        }
        // Malformed lines are no entries: in particular not entries with uid 0.
        for spec in ["broken", "huge", "minus", "short", "# comment"] {
            assert!(user(spec).is_err(), "{spec}");
        }
        let large = vec![b'x'; MAX_DATABASE_BYTES + 1];
        assert!(matches!(resolve(&UserSpec::default(), &large, b"", &[]), Err(UserError::TooLarge(_))));
    }

    #[test]
    fn extra_groups_join_once() {
        let extra = ["web", "5000", "web"].map(|g| g.parse().unwrap());
        let user = resolve(&"app".parse().unwrap(), PASSWD, GROUP, &extra).unwrap();
        assert_eq!(user.supplementary, [1001, 4, 33, 5000]);
        let unknown = ["ghost".parse().unwrap()];
        assert!(resolve(&UserSpec::default(), PASSWD, GROUP, &unknown).is_err());
    }

    #[test]
    fn a_scratch_image_has_no_databases() {
        let root = resolve(&UserSpec::default(), b"", b"", &[]).unwrap();
        assert_eq!(
            (root.uid, root.gid, root.supplementary.as_slice(), root.home.as_str()),
            (0, 0, &[0][..], "/")
        );
        assert_eq!("app:web".parse::<UserSpec>().unwrap().to_string(), "app:web");
    }
}
