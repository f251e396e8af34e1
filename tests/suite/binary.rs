//! The file itself.

use std::fs;

use crate::harness::{Test, binary};

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

/// ELF-64: no interpreter (`PT_INTERP`) and no needed library (`DT_NEEDED`) means that nothing else is loaded.
#[test]
fn is_static() {
    let bytes = fs::read(binary()).unwrap();
    assert_eq!(&bytes[..4], b"\x7fELF");
    assert_eq!(bytes[4], 2, "64 bits");
    let (start, size, count) = (u64_at(&bytes, 32), u16_at(&bytes, 54) as usize, u16_at(&bytes, 56) as usize);
    for index in 0..count {
        let header = start + index * size;
        match u32_at(&bytes, header) {
            3 => panic!("has an interpreter"),
            2 => {
                let (offset, length) = (u64_at(&bytes, header + 8), u64_at(&bytes, header + 32));
                for entry in bytes[offset..offset + length].chunks_exact(16) {
                    assert_ne!(u64_at(entry, 0), 1, "needs a shared library");
                }
            }
            _ => {}
        }
    }
}

#[test]
fn says_its_version_and_its_commands() {
    let Some(t) = Test::start() else { return };
    let version = t.ok(["--version"]);
    assert!(version.starts_with("rbox "), "{version}");
    let help = t.ok(["--help"]);
    for command in [
        "run",
        "create",
        "start",
        "exec",
        "attach",
        "ps",
        "logs",
        "stop",
        "kill",
        "rm",
        "restart",
        "wait",
        "inspect",
        "rename",
        "port",
        "pause",
        "unpause",
        "top",
        "pull",
        "images",
        "rmi",
        "tag",
        "load",
        "save",
        "import",
        "history",
        "image",
        "container",
        "volume",
        "network",
        "system",
        "version",
        "info",
        "pid",
    ] {
        assert!(help.split_whitespace().any(|w| w == command), "--help does not name {command}:\n{help}");
    }
}

#[test]
fn every_command_has_help_with_examples() {
    let Some(t) = Test::start() else { return };
    for command in [
        "run", "create", "start", "exec", "ps", "logs", "stop", "kill", "rm", "pull", "images", "rmi",
        "inspect", "save", "load", "import",
    ] {
        let help = t.ok([command, "--help"]);
        assert!(help.contains("Usage:") && help.contains("rbox "), "{command}: {help}");
        assert!(help.to_lowercase().contains("example"), "{command} --help has no examples:\n{help}");
    }
}

#[test]
fn completions_and_manual_pages_come_out() {
    let Some(t) = Test::start() else { return };
    for shell in ["bash", "zsh", "fish"] {
        let text = t.ok(["completion", shell]);
        assert!(text.contains("rbox") && text.lines().count() > 20, "{shell}: {text}");
    }
    let dir = t.dir("man");
    t.ok(["man", dir.to_str().unwrap()]);
    let pages: Vec<_> =
        fs::read_dir(&dir).unwrap().flatten().map(|e| e.file_name().into_string().unwrap()).collect();
    assert!(pages.iter().any(|p| p == "rbox-run.1"), "{pages:?}");
}

#[test]
fn version_and_info_tell_about_this_host() {
    let Some(t) = Test::start() else { return };
    assert!(t.ok(["version"]).contains("linux/"));
    let json: serde_json::Value = serde_json::from_str(&t.ok(["version", "--format", "json"])).unwrap();
    assert!(json.is_object(), "{json}");
    let info = t.ok(["info"]);
    assert!(info.contains(t.suite.root.to_str().unwrap()), "info does not name its root:\n{info}");
    let images: i64 = t.ok(["info", "--format", "{{.Images}}"]).parse().unwrap();
    assert!(images >= 2, "{images}");
}
