//! A compose file, and behind a NUL its `.env`. What `config` prints of it is a compose file that comes to the same.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rbox_compose::{Loaded, Options, load};

/// In memory. It goes with the machine.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Path::new("/dev/shm").join(format!("rbox-fuzz-compose-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
});

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let mut part = |name| fs::write(DIRECTORY.join(name), parts.next().unwrap_or_default()).unwrap();
    part("compose.yaml");
    part("variables");
    let Some(first) = project() else { return };
    // Of what is not in the words of YAML, such as a secret from a variable, nothing is printed.
    if let Ok(printed) = first.to_yaml() {
        fs::write(DIRECTORY.join("compose.yaml"), &printed).unwrap();
        if let Some(second) = project() {
            assert_eq!(second.to_yaml().map(|text| plain(&text)).ok(), Some(plain(&printed)));
        }
        assert!(first.to_json().is_ok());
    }
});

/// A dollar is doubled also in names of keys, where nothing makes it one again: Compose does so too.
fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    while text.contains("$$") {
        text = text.replace("$$", "$");
    }
    text
}

fn project() -> Option<Loaded> {
    let path = |name| DIRECTORY.join(name).display().to_string();
    let options = Options {
        directory: DIRECTORY.clone(),
        files: vec![path("compose.yaml")],
        env_files: vec![path("variables")],
        name: Some("fuzz".into()),
        ..Options::default()
    };
    match load(&options) {
        Ok(loaded) => Some(loaded),
        Err(error) => {
            assert!(error.to_string().len() < 40_000, "{error}");
            None
        }
    }
}
