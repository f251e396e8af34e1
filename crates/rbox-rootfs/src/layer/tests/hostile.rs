//! Layers made to harm: each is unpacked beside a canary, and whatever becomes of it, the canary stays as it was.

use std::fs;
use std::io::Read;
use std::process::Command;
use std::time::Instant;

use super::build::{Item, NAMES, Names, Tar, dir, file, item, link, record};
use super::tree::{Look, Scratch, assert_same, gnu_tar, have, tree};
use crate::layer::{Limits, UnpackError, unpack};
use std::os::fd::AsFd;

/// Every kind of entry that could do something to `name`.
fn kinds(name: &str) -> Vec<Item> {
    let mut chmod = dir(name);
    chmod.mode = 0o7777;
    let (directory, last) =
        name.rsplit_once('/').map_or((String::new(), name), |(d, l)| (format!("{d}/"), l));
    vec![
        file(name, "overwritten"),
        chmod,
        link(b'2', name, "target"),
        link(b'1', name, "plain"),
        item(b'6', name),
        Item { device: (1, 3), ..item(b'3', name) },
        file(format!("{directory}.wh.{last}"), ""),
        file(format!("{name}/.wh..wh..opq"), ""),
        file(name, "overwritten").pax("SCHILY.xattr.user.evil", "1"),
    ]
}

/// Names that say they are outside.
fn outside(scratch: &Scratch) -> Vec<String> {
    let canary = scratch.path("canary").display().to_string();
    vec![
        "../canary/secret".into(),
        "../canary".into(),
        "../new".into(),
        "..".into(),
        "/..".into(),
        "a/../../canary/secret".into(),
        "./../canary/secret".into(),
        ".//..//canary/secret".into(),
        "sub/../../canary/inner/file".into(),
        format!("{canary}/secret"),
        format!("//{canary}/secret"),
        format!("{canary}/new"),
    ]
}

/// Targets of a link that lead out, were they followed from the host's root.
fn targets(scratch: &Scratch) -> Vec<String> {
    let canary = scratch.path("canary").display().to_string();
    vec![
        canary.clone(),
        format!("{canary}/secret"),
        "../canary".into(),
        "../canary/secret".into(),
        "../../../../../../..".into(),
        "/".into(),
        "..".into(),
        "/proc/self/root".into(),
        format!("/proc/self/root{canary}"),
        format!("/proc/{}/cwd", std::process::id()),
        "/proc/self/fd/3".into(),
    ]
}

/// All the archives, each with words for a failure.
fn archives(scratch: &Scratch) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut push = |what: String, items: &[Item]| all.push((what, Tar::of(items).end()));
    let start = [file("plain", "plain"), dir("sub")];
    let with = |items: &[Item]| [&start[..], items].concat();
    for name in outside(scratch) {
        for (index, kind) in kinds(&name).into_iter().enumerate() {
            for names in NAMES {
                push(format!("{name} kind {index} {names:?}"), &with(&[kind.clone().named(names)]));
            }
        }
        push(
            format!("hard link to {name}"),
            &with(&[link(b'1', "hard", &name), file("hard", "overwritten")]),
        );
        push(
            format!("sparse name {name}"),
            &with(&[file("s", "")
                .pax("GNU.sparse.name", &name)
                .pax("GNU.sparse.size", "9")
                .pax("GNU.sparse.map", "")]),
        );
    }
    let canary = scratch.path("canary").display().to_string();
    for target in targets(scratch) {
        for through in [
            "l",
            "l/secret",
            "l/inner/file",
            "l/new",
            "l/new/newer",
            "l/canary/secret",
            &format!("l{canary}/secret"),
        ] {
            for (index, kind) in kinds(through).into_iter().enumerate() {
                push(
                    format!("l -> {target}, then {through} kind {index}"),
                    &with(&[link(b'2', "l", &target), kind]),
                );
            }
            push(
                format!("hard link through l -> {target} to {through}"),
                &with(&[link(b'2', "l", &target), link(b'1', "hard", through), file("hard", "x")]),
            );
        }
        let mut tricks = vec![
            link(b'2', "sub/l", &target),
            link(b'1', "copy", "sub/l"),
            file("copy", "through a hard link to a link"),
        ];
        tricks.push(Item { mode: 0o7777, ..dir("copy/") });
        push(format!("hard link to a link to {target}"), &with(&tricks));
        push(
            format!("directory swapped for a link to {target}"),
            &with(&[
                dir("d"),
                file("d/secret", "in"),
                link(b'2', "d", &target),
                file("d/secret", "out"),
                Item { mode: 0o7777, ..dir("d") },
            ]),
        );
        push(
            format!("directory's metadata behind a link to {target}"),
            &with(&[Item { mode: 0o7777, ..dir("d") }, link(b'2', "d", &target)]),
        );
    }
    all
}

#[test]
fn nothing_outside_is_touched() {
    let scratch = Scratch::new();
    let archives = archives(&scratch);
    // The places the names would be at, were the host's root the root.
    scratch.empty("root");
    let before = scratch.outside();
    let (mut unpacked, mut refused) = (0, 0);
    for (what, bytes) in &archives {
        match scratch.unpack("root", &bytes[..]) {
            Ok(_) => unpacked += 1,
            Err(_) => refused += 1,
        }
        assert_same(&scratch.outside(), &before, what);
    }
    println!("{} hostile archives: {refused} refused, {unpacked} unpacked inside", archives.len());
    assert!(archives.len() >= 300 && refused > 100 && unpacked > 100);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a list of cases")]
fn archives_that_readers_differ_on_are_refused() {
    let hidden = |tar: &mut Tar| {
        // What a reader that takes the wrong size would find inside the data.
        let inner = Tar::of([&file("hidden", "smuggled")]);
        tar.data(&inner.bytes);
        inner.bytes.len() as u64
    };
    let mut all: Vec<(&str, Tar)> = Vec::new();
    let mut with = |what, make: &dyn Fn(&mut Tar)| {
        let mut tar = Tar::of([&file("first", "1")]);
        make(&mut tar);
        tar.add(&file("last", "2"));
        all.push((what, tar));
    };
    let pax = |tar: &mut Tar, records: &[(&str, &str)]| {
        let data = records.iter().flat_map(|(key, value)| record(key, value.as_bytes())).collect();
        tar.raw(&Item { data, ..item(b'x', "p") });
    };
    with("PAX size over a header size of 0", &|tar| {
        pax(tar, &[("size", "1024")]);
        tar.raw(&file("f", ""));
        hidden(tar);
    });
    with("header size over a PAX size of 0", &|tar| {
        pax(tar, &[("size", "0")]);
        tar.raw(&Item { size: Some(1024), ..file("f", "") });
        hidden(tar);
    });
    for flag in [b'L', b'K', b'x', b'g'] {
        with("an extended header without the mark of a format", &move |tar| {
            let at = tar.bytes.len();
            let data = if flag == b'L' || flag == b'K' { b"name".to_vec() } else { record("path", b"n") };
            tar.raw(&Item { data, ..item(flag, "p") });
            // Its checksum is right; only the mark is gone.
            let header = &mut tar.bytes[at..at + 512];
            header[257..265].fill(0);
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            tar.raw(&file("f", ""));
        });
    }
    with("two PAX names", &|tar| {
        pax(tar, &[("path", "a"), ("path", "b")]);
        tar.raw(&file("f", ""));
    });
    with("two PAX sizes", &|tar| {
        pax(tar, &[("size", "3"), ("size", "1027")]);
        tar.raw(&file("f", "abc"));
    });
    with("a PAX size before a long name", &|tar| {
        pax(tar, &[("size", "3")]);
        tar.add(&file("n".repeat(120), "abc").named(Names::Gnu));
    });
    for (what, flag) in
        [("hard link", b'1'), ("symbolic link", b'2'), ("device", b'3'), ("directory", b'5'), ("FIFO", b'6')]
    {
        let what = Box::leak(format!("a {what} with data").into_boxed_str());
        with(what, &|tar| {
            tar.raw(&Item { size: Some(1024), link: b"first".to_vec(), device: (1, 3), ..item(flag, "f") });
            hidden(tar);
        });
    }
    with("two extended headers", &|tar| {
        pax(tar, &[("path", "one")]);
        pax(tar, &[("path", "two")]);
        tar.raw(&file("f", "abc"));
    });
    with("two names", &|tar| {
        tar.raw(&Item { data: b"gnu\0".to_vec(), ..item(b'L', "././@LongLink") });
        pax(tar, &[("path", "pax")]);
        tar.raw(&file("f", "abc"));
    });
    with("a global size", &|tar| {
        tar.raw(&Item { data: record("size", b"1024"), ..item(b'g', "g") });
        tar.raw(&file("f", ""));
        hidden(tar);
    });
    with("a global path", &|tar| tar.raw(&Item { data: record("path", b"all"), ..item(b'g', "g") }));
    with("a lone block of zeros", &|tar| tar.bytes.extend([0; 512]));
    with("a name with a NUL", &|tar| {
        tar.add(&file("a\0b", "x").named(Names::Pax));
    });
    with("a file named as a directory", &|tar| tar.raw(&file("f/", "")));
    with("an unknown type", &|tar| tar.raw(&item(b'Z', "f")));
    with("a sparse map that does not add up", &|tar| {
        tar.add(&file("f", "abcdef").pax("GNU.sparse.size", "100").pax("GNU.sparse.map", "0,3"));
    });
    with("a sparse map that ends early", &|tar| {
        tar.add(&file("f", "abc").pax("GNU.sparse.size", "100").pax("GNU.sparse.map", "0,3"));
    });
    with("a sparse 1.0 map that ends early", &|tar| {
        let data = format!("{:\0<512}abc", "1\n0\n3\n");
        let item = file("f", &data).pax("GNU.sparse.major", "1").pax("GNU.sparse.minor", "0");
        tar.add(&item.pax("GNU.sparse.realsize", "100"));
    });
    with("a sparse 1.0 map that goes on", &|tar| {
        let data = format!("{:\0<512}abc", "1\n0\n3\n3\n97\n");
        let item = file("f", &data).pax("GNU.sparse.major", "1").pax("GNU.sparse.minor", "0");
        tar.add(&item.pax("GNU.sparse.realsize", "3"));
    });
    with("an empty PAX path", &|tar| {
        tar.add(&file("f", "x").pax("path", ""));
    });
    with("an empty PAX target", &|tar| {
        tar.add(&link(b'2', "l", "t").pax("linkpath", ""));
    });
    for (what, flag) in [("an empty long name", b'L'), ("an empty long target", b'K')] {
        with(what, &|tar| {
            tar.raw(&Item { data: vec![0; 100], ..item(flag, "././@LongLink") });
            tar.add(&link(b'2', "l", "t"));
        });
    }
    with("an empty sparse name", &|tar| {
        let item = file("f", "abc").pax("GNU.sparse.name", "").pax("GNU.sparse.size", "3");
        tar.add(&item.pax("GNU.sparse.map", "0,3"));
    });
    let mut lonely = Tar::default();
    pax(&mut lonely, &[("path", "x")]);
    all.push(("an extended header at the end", lonely));
    let scratch = Scratch::new();
    for (what, tar) in &all {
        let made = scratch.unpack("root", &tar.end()[..]);
        assert!(
            matches!(made, Err(UnpackError::Header { .. } | UnpackError::Refused { .. })),
            "{what}: {made:?}"
        );
        if what.starts_with("an empty PAX ") {
            // Not for what the name would lead to.
            assert!(format!("{made:?}").contains("an empty PAX name"), "{what}: {made:?}");
        }
    }
}

/// Archives changed at random: what we accept, GNU tar and bsdtar must read as we do.
#[test]
fn what_is_accepted_is_read_alike_by_others() {
    if !have("bsdtar") {
        return;
    }
    let scratch = Scratch::new();
    let archive = scratch.path("a.tar");
    let mut random = Random(0x5eed);
    let (mut accepted, mut compared) = (0, 0);
    for round in 0..400 {
        let mut tar = Tar::default();
        let mut starts = Vec::new();
        for index in 0..4 {
            let names = NAMES[random.below(3)];
            let data = "d".repeat(random.below(1200));
            starts.push(tar.bytes.len());
            tar.add(&file(format!("f{index}"), &data).named(names));
        }
        let start = starts[random.below(4)];
        // One change to one header, its checksum made right again.
        let at = [
            124 + random.below(12),
            156,
            257 + random.below(8),
            345 + random.below(10),
            100 + random.below(7),
        ][random.below(5)];
        let byte = *b"\x00 0127xgLKS\x80\xffA/".get(random.below(16)).unwrap_or(&b'0');
        tar.bytes[start + at] = byte;
        let mut header: [u8; 512] = tar.bytes[start..start + 512].try_into().unwrap();
        let mut fixed = tar::Header::from_byte_slice(&header).clone();
        fixed.set_cksum();
        header.copy_from_slice(fixed.as_bytes());
        tar.bytes[start..start + 512].copy_from_slice(&header);
        fs::write(&archive, tar.end()).unwrap();
        if scratch.unpack("ours", &tar.end()[..]).is_err() {
            continue;
        }
        accepted += 1;
        let look = Look { times: false, holes: false };
        let ours = tree(&scratch.path("ours"), look);
        let what = format!("round {round}: byte {at} of the header at {start} is {byte:#x}");
        let theirs = scratch.empty("theirs");
        // A reader that refuses what we accept hides nothing; one that reads something else would.
        if gnu_tar(&archive, &theirs).status.success() {
            compared += 1;
            assert_same(&ours, &tree(&theirs, look), &format!("{what}, GNU tar"));
        }
        let theirs = scratch.empty("theirs");
        let read = Command::new("bsdtar")
            .args(["-x", "-p", "-f"])
            .arg(&archive)
            .arg("-C")
            .arg(&theirs)
            .output()
            .unwrap();
        if read.status.success() {
            compared += 1;
            assert_same(&ours, &tree(&theirs, look), &format!("{what}, bsdtar"));
        }
    }
    println!("{accepted} of 400 changed archives accepted, {compared} readings compared");
    assert!((50..400).contains(&accepted) && compared > 100, "{accepted} {compared}");
}

/// Any bytes at all: an answer, never a panic, never anything outside.
#[test]
fn noise_and_truncation_are_errors() {
    let scratch = Scratch::new();
    let whole = Tar::of([
        &dir("d"),
        &file("d/f", &"x".repeat(2000)).named(Names::Gnu),
        &link(b'2', "d/l", "/").named(Names::Pax),
        &file("s", "abc").pax("GNU.sparse.size", "10").pax("GNU.sparse.map", "3,3,10,0"),
    ]);
    scratch.empty("root");
    let before = scratch.outside();
    for cut in (1..whole.bytes.len()).step_by(97) {
        let made = scratch.unpack("root", &whole.bytes[..cut]);
        assert!(cut % 512 == 0 || made.is_err(), "cut at {cut}: {made:?}");
    }
    let mut random = Random(7);
    for _ in 0..600 {
        let mut bytes = whole.end();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        for header in (0..bytes.len()).step_by(512).map(|start| start..start + 512) {
            let mut fixed = tar::Header::from_byte_slice(&bytes[header.clone()]).clone();
            fixed.set_cksum();
            bytes[header].copy_from_slice(fixed.as_bytes());
        }
        let _ = scratch.unpack("root", &bytes[..]);
    }
    assert_same(&scratch.outside(), &before, "noise");
}

/// Limits: a bomb of any kind is an error that names the limit.
#[test]
fn bombs_meet_their_limits() {
    let scratch = Scratch::new();
    let limits = Limits {
        stream_bytes: 16 << 20,
        entries: 5000,
        file_bytes: 1 << 30,
        held_bytes: 1 << 20,
        ..Limits::default()
    };
    let header = |item: &Item| {
        let mut tar = Tar::default();
        tar.raw(item);
        tar.bytes
    };
    let many = |item: &Item| header(item).repeat(6000);
    let huge = |flag| header(&Item { size: Some(1 << 32), ..item(flag, "big") });
    let deep: Vec<u8> = (0..10)
        .flat_map(|top| Tar::of([&file(format!("{top}/{}f", "a/".repeat(1000)), "").named(Names::Pax)]).bytes)
        .collect();
    let directories: Vec<u8> = (0..4000)
        .flat_map(|n| Tar::of([&dir(format!("{n}")).pax("SCHILY.xattr.user.x", "v".repeat(1000))]).bytes)
        .collect();
    let bombs: Vec<(&str, Vec<u8>)> = vec![
        ("entries", many(&item(b'V', "label"))),
        ("entries", many(&dir("d"))),
        ("entries", many(&Item { data: record("comment", b"x"), ..item(b'g', "g") })),
        ("files and directories", deep),
        ("bytes in one file", huge(b'0')),
        (
            "bytes in one file",
            Tar::of([&file("s", "")
                .pax("GNU.sparse.size", "9999999999999")
                .pax("GNU.sparse.map", "9999999999999,0")])
            .bytes,
        ),
        ("bytes of directory and whiteout names", directories),
    ];
    for (of, bytes) in bombs {
        let path = scratch.empty("root");
        let root = fs::File::open(&path).unwrap();
        match unpack(&bytes[..], root.as_fd(), &limits) {
            Err(UnpackError::Limit { of: which, .. }) => assert_eq!(which, of),
            other => panic!("{of}: {other:?}"),
        }
    }
    let path = scratch.empty("root");
    let endless = header(&Item { size: Some(1 << 29), ..file("zeros", "") });
    let made =
        unpack((&endless[..]).chain(std::io::repeat(0)), fs::File::open(&path).unwrap().as_fd(), &limits);
    assert!(matches!(made, Err(UnpackError::Limit { of: "uncompressed bytes", .. })), "{made:?}");
    for flag in *b"xgLK" {
        let made = unpack(
            (&huge(flag)[..]).chain(std::io::repeat(b'x')),
            fs::File::open(&path).unwrap().as_fd(),
            &limits,
        );
        assert!(matches!(made, Err(UnpackError::Header { .. })), "{made:?}");
    }
    for name in ["n".repeat(256), format!("{}n", "n/".repeat(2100))] {
        let made = scratch.unpack("root", &Tar::of([&file(&name, "").named(Names::Pax)]).end()[..]);
        assert!(matches!(made, Err(UnpackError::Refused { .. })), "{made:?}");
    }
}

#[test]
fn many_links_to_walk_do_not_take_for_ever() {
    let scratch = Scratch::new();
    let mut items = vec![dir("d")];
    items.extend((0..39).map(|n| {
        link(b'2', format!("l{n}"), if n == 0 { "d".into() } else { format!("l{0}/../l{0}", n - 1) })
    }));
    items.push(file("l38/missing/x", ""));
    let begun = Instant::now();
    let made = scratch.unpack("root", &Tar::of(&items).end()[..]);
    assert!(made.is_err(), "{made:?}");
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

#[test]
fn names_in_errors_move_no_cursor() {
    let scratch = Scratch::new();
    let error =
        scratch.unpack("root", &Tar::of([&file("../\x1b]0;x\x07\r\u{202e}", "")]).end()[..]).unwrap_err();
    assert_eq!(error.to_string(), r"layer entry ../\x1b]0;x\x07\r\xe2\x80\xae: has `..` in its name");
}

/// A small generator with a seed, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Peak memory of unpacking what costs most to keep, alone in a process of its own.
#[test]
fn memory_stays_bounded() {
    const ALONE: &str = "RBOX_TEST_MEMORY";
    if std::env::var_os(ALONE).is_none() {
        let test = std::env::current_exe().unwrap();
        let name = "layer::tests::hostile::memory_stays_bounded";
        let run = Command::new(test).args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
        println!("{said}");
        return;
    }
    let scratch = Scratch::new();
    // Directories with the largest attributes there may be, until the limit; then a file in a million pieces.
    let value = "v".repeat(60_000);
    let mut number = 0;
    let endless = std::iter::from_fn(|| {
        number += 1;
        Some(Tar::of([&dir(format!("{number}")).pax("SCHILY.xattr.user.x", &value)]).bytes)
    });
    let made = scratch.unpack("root", Pieces { from: endless, rest: Vec::new(), at: 0 });
    assert!(matches!(made, Err(UnpackError::Limit { .. })), "{made:?}");
    let map: String = (0..1_000_000).flat_map(|n| [(2 * n).to_string(), "\n1\n".to_owned()]).collect();
    let mut data = format!("1000000\n{map}").into_bytes();
    data.resize(data.len().next_multiple_of(512), 0);
    data.resize(data.len() + 1_000_000, b'x');
    let pieces = Item { data, ..file("pieces", "") };
    let pieces = pieces
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0")
        .pax("GNU.sparse.realsize", "1999999");
    scratch.unpack("root", &Tar::of([&pieces]).end()[..]).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    println!("peak memory {peak}");
    let peak: u64 = peak.trim_end_matches(" kB").trim().parse().unwrap();
    assert!(peak < 256 << 10, "{peak} KiB");
}

/// A reader of what an iterator makes.
struct Pieces<I> {
    from: I,
    rest: Vec<u8>,
    at: usize,
}

impl<I: Iterator<Item = Vec<u8>>> Read for Pieces<I> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.rest.len() {
            let Some(next) = self.from.next() else { return Ok(0) };
            (self.rest, self.at) = (next, 0);
        }
        let count = buffer.len().min(self.rest.len() - self.at);
        buffer[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
