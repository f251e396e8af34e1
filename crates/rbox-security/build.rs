//! Compiles the default seccomp profile for the default capabilities into a constant, so that no start does.

#[path = "src/seccomp/compiler/mod.rs"]
// The library uses all of it, this program the half that the default profile needs.
#[allow(dead_code, unreachable_pub)]
mod compiler;
#[path = "src/defaults.rs"]
#[allow(unreachable_pub)]
mod defaults;

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

/// rbox needs `mount_setattr(2)`; a profile's conditions on the kernel are decided for the first to have it.
const OLDEST_KERNEL: (u32, u32) = (5, 12);

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=profiles/default.json");
    println!("cargo::rerun-if-changed=src/seccomp/compiler");
    println!("cargo::rerun-if-changed=src/defaults.rs");
    let native = match std::env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => compiler::arch::Arch::X86_64,
        "aarch64" => compiler::arch::Arch::Aarch64,
        other => return Err(format!("no seccomp tables for {other}").into()),
    };
    let profile = compiler::profile::Document::parse(&std::fs::read("profiles/default.json")?)?;
    let context =
        compiler::Context { capabilities: defaults::DEFAULT_CAPABILITIES, kernel: OLDEST_KERNEL, native };
    let program = compiler::compile(&profile, context)?;
    let mut text = String::from("&[\n");
    for word in program {
        let part = |shift: u32| word >> shift & 0xffff;
        writeln!(text, "    0x{:04x}_{:04x}_{:04x}_{:04x},", part(48), part(32), part(16), part(0))?;
    }
    text.push_str("]\n");
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("default_filter.rs"), text)?;
    Ok(())
}
