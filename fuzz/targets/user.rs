//! USER, and the passwd and group files of an image that it is looked up in. Three parts, divided by NUL: the user, passwd, group.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbox_spec::user::{Identity, MAX_ID, UserSpec, group_entries, passwd_entries, resolve};

/// The number in a field of the first line of which another field is this: a plain reading, to compare with.
fn first(file: &[u8], key: (usize, &str), field: usize) -> Option<u32> {
    file.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<_> = std::str::from_utf8(line).ok()?.trim().split(':').collect();
        let numbers = if fields.len() > 3 && field != key.0 { 2..=field.max(2) } else { 2..=2 };
        let number = |at: usize| {
            let text = fields.get(at).filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))?;
            text.parse::<u32>().ok().filter(|id| *id <= MAX_ID)
        };
        (fields.len() > 2 && fields[0] != "" && numbers.clone().all(|at| number(at).is_some()))
            .then_some(())?;
        (fields[key.0] == key.1).then(|| number(field)).flatten()
    })
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (Ok(text), passwd, group) = (std::str::from_utf8(part()), part(), part()) else { return };
    assert!(passwd_entries(passwd).all(|e| e.uid <= MAX_ID && e.gid <= MAX_ID && !e.name.is_empty()));
    assert!(group_entries(group).all(|e| e.gid <= MAX_ID && !e.name.is_empty()));
    let Ok(spec) = text.parse::<UserSpec>() else { return };
    assert_eq!(spec.to_string().parse(), Ok(spec.clone()), "{spec}");
    for side in [&spec.user, &spec.group].into_iter().flatten() {
        let digits = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
        match side {
            Identity::Id(id) => assert!(*id <= MAX_ID),
            Identity::Name(name) => {
                assert!(!name.is_empty() && !digits(name) && !name.contains([':', '/', '\n']))
            }
        }
    }
    let Ok(user) = resolve(&spec, passwd, group, &[]) else { return };
    assert!(user.uid <= MAX_ID && user.gid <= MAX_ID && user.home.starts_with('/'));
    // The primary group is the first of the others, and each is there once.
    assert_eq!(user.supplementary.first(), Some(&user.gid));
    let mut once = user.supplementary.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), user.supplementary.len());
    match &spec.user {
        None => assert_eq!(user.uid, 0),
        Some(Identity::Id(id)) => assert_eq!(user.uid, *id),
        Some(Identity::Name(name)) => assert_eq!(Some(user.uid), first_user(passwd, name), "{name}"),
    }
    match &spec.group {
        Some(Identity::Id(id)) => assert_eq!(user.gid, *id),
        Some(Identity::Name(name)) => assert_eq!(Some(user.gid), first(group, (0, name), 2), "{name}"),
        None => {}
    }
});

fn first_user(passwd: &[u8], name: &str) -> Option<u32> {
    let both = |line: &&[u8]| first(line, (0, name), 3).is_some();
    first(passwd.split(|byte| *byte == b'\n').find(both)?, (0, name), 2)
}
