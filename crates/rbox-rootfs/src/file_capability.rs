//! `security.capability`. The third version of it names the root of the user namespace that it counts in (capabilities(7)): a file in a
//! container has a plain one when it is seen from inside, and that of the container's root when it is seen from the host.

use rbox_spec::userns::IdMaps;

/// The attribute.
pub(crate) const NAME: &[u8] = b"security.capability";

/// `VFS_CAP_REVISION_2` and `_3`, the highest byte of the first word (`linux/capability.h`).
const REVISION: u32 = 0xff00_0000;
const TWO: u32 = 0x0200_0000;
const THREE: u32 = 0x0300_0000;
/// Bytes of the second version. The third has the id of a root behind them.
const LENGTH: usize = 20;

/// Whose root's it is, and the rest of its first word. None when it has another form.
fn parse(value: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().ok()?));
    let first = word(0)?;
    let root = match (first & REVISION, value.len()) {
        (TWO, LENGTH) => 0,
        (THREE, _) if value.len() == LENGTH + 4 => word(LENGTH)?,
        _ => return None,
    };
    Some((root, first & !REVISION))
}

fn made(value: &[u8], flags: u32, root: Option<u32>) -> Vec<u8> {
    let first = flags | if root.is_some() { THREE } else { TWO };
    let sets = value.get(4..LENGTH).unwrap_or_default();
    let root = root.map(u32::to_le_bytes);
    [&first.to_le_bytes()[..], sets, root.as_ref().map_or(&[][..], |root| root)].concat()
}

/// What is read of a file of a container with these ids, as it is inside.
pub(crate) fn inside(value: Vec<u8>, ids: &IdMaps) -> Vec<u8> {
    let Some((root, flags)) = parse(&value) else { return value };
    match ids.user_inside(root) {
        Some(0) => made(&value, flags, None),
        Some(root) => made(&value, flags, Some(root)),
        // It is not the container's, and a plain one is a file of the host's.
        None => value,
    }
}

/// The one to be written to a file of a container with these ids. The error is a user that the container has not.
pub(crate) fn on_host(value: &[u8], ids: &IdMaps) -> Result<Vec<u8>, u32> {
    let Some((root, flags)) = parse(value) else { return Ok(value.to_vec()) };
    let (uid, _) = ids.to_host((root, 0));
    Ok(made(value, flags, Some(uid.ok_or(root)?)))
}

#[cfg(test)]
mod tests {
    use rbox_spec::idmap::IdRange;

    use super::*;

    #[test]
    fn the_root_is_another_outside() {
        let uids = vec![IdRange { disk: 0, seen: 1000, count: 10 }];
        let ids = IdMaps { gids: uids.clone(), uids };
        let sets = [0x20_u8; 16];
        let of = |first: u32, root: &[u8]| [&first.to_le_bytes()[..], &sets, root].concat();
        let (two, three) = (of(0x0200_0001, &[]), |root: u32| of(0x0300_0001, &root.to_le_bytes()));
        assert_eq!(on_host(&two, &ids), Ok(three(1000)));
        assert_eq!(on_host(&three(0), &ids), Ok(three(1000)));
        assert_eq!(on_host(&three(3), &ids), Ok(three(1003)));
        assert_eq!(on_host(&three(10), &ids), Err(10));
        assert_eq!(inside(three(1000), &ids), two);
        assert_eq!(inside(three(1003), &ids), three(3));
        for other in [two, three(999), of(0x0100_0001, &[]), vec![], vec![0; 3]] {
            assert_eq!(inside(other.clone(), &ids), other);
        }
        assert_eq!(on_host(&[1, 2], &ids), Ok(vec![1, 2]));
    }
}
