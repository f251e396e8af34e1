//! Bombs: layers that are small to fetch and large to unpack (SECURITY row 15). A test of its own process, whose memory it
//! looks at.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::error::Error;
use std::fs;
use std::io::{Cursor, Write};
use std::time::{Duration, Instant};

use rbox_image::ImageStore;
use rbox_image::store::Expected;

const MIB: usize = 1 << 20;

/// A tar header for a file of this size.
fn header(name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// 10 GiB of zeros in one file, as many members of one stream.
fn bomb(compress: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let zeros = compress(&vec![0; 64 * MIB]);
    [compress(&header("zeros", 10 << 30)), zeros.repeat(160), compress(&[0; 1024])].concat()
}

fn chain(error: &dyn Error) -> String {
    let next = error.source().map(chain).unwrap_or_default();
    format!("{error}: {next}")
}

/// The most memory this process ever had, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn bombs_are_refused_early_and_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&dir.path().join("images")).unwrap();
    let transaction = store.transaction().unwrap();
    for (name, compress) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd)] {
        let bomb = bomb(compress);
        assert!(bomb.len() < 12 * MIB, "{name}: {}", bomb.len());
        let started = Instant::now();
        let error = transaction.add_layer(Cursor::new(bomb), &Expected::default()).unwrap_err();
        let text = chain(&error);
        assert!(text.contains("500 times its size: a compression bomb"), "{name}: {text}");
        assert!(started.elapsed() < Duration::from_secs(30), "{name}: {:?}", started.elapsed());
        println!("{name}: refused after {:?}", started.elapsed());
    }
    // A frame that wants 2 GiB of memory to be read.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(31).unwrap();
    encoder.write_all(&[header("x", 0), vec![0; 1024]].concat()).unwrap();
    let window = encoder.finish().unwrap();
    let error = transaction.add_layer(Cursor::new(window), &Expected::default()).unwrap_err();
    assert!(chain(&error).to_lowercase().contains("memory"), "{}", chain(&error));
    let left = fs::read_dir(store.dir().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "nothing half-made stays");
    println!("peak memory: {} MiB", peak() / MIB);
    assert!(peak() < 256 * MIB, "{} MiB", peak() / MIB);
}
