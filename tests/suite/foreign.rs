//! Images of another architecture: refused with the reason, or run where `binfmt_misc` has a handler for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Output, Test, has, skipped};

const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// An architecture that is not this machine's.
struct Other {
    /// As images have it.
    platform: &'static str,
    /// As `uname -m` has it.
    machine: &'static str,
    /// As an ELF header has it.
    elf: u8,
}

const HOST: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
const OTHER: Other = if cfg!(target_arch = "aarch64") {
    Other { platform: "linux/amd64", machine: "x86_64", elf: 0x3e }
} else {
    Other { platform: "linux/arm64", machine: "aarch64", elf: 0xb7 }
};

/// The file of a handler for the other architecture's programs, as Debian's packages call it.
fn handler_file() -> PathBuf {
    Path::new(BINFMT).join(format!("qemu-{}", OTHER.machine))
}

/// Whether this host's kernel hands the other architecture's programs to an emulator.
fn emulates() -> bool {
    fs::read_to_string(handler_file()).is_ok_and(|text| text.starts_with("enabled"))
}

/// A handler that this test registered; it goes with it, and so does the mount when it was the test's.
struct Handler {
    mounted: bool,
}

impl Handler {
    /// None, having said why, where there cannot be one.
    fn register() -> Option<Self> {
        let emulator = format!("qemu-{}-static", OTHER.machine);
        if !has(&emulator) {
            skipped(&format!("no {emulator} (Debian's qemu-user-static)"));
            return None;
        }
        let register = Path::new(BINFMT).join("register");
        let mut handler = Self { mounted: false };
        if !register.exists() {
            // Built in or not there: the mount tells.
            let _ = Command::new("modprobe").arg("binfmt_misc").output();
            let out =
                Command::new("mount").args(["-t", "binfmt_misc", "binfmt_misc", BINFMT]).output().unwrap();
            if !out.status.success() {
                skipped(&format!("this kernel has no binfmt_misc: {}", String::from_utf8_lossy(&out.stderr)));
                return None;
            }
            handler.mounted = true;
        }
        // An ELF file of 64 bits, little endian, a program with fixed addresses or without, for that machine. F: the
        // emulator is opened now, in this mount namespace; containers do not have it.
        let magic = "\\x7fELF\\x02\\x01\\x01".to_owned()
            + &"\\x00".repeat(9)
            + "\\x02\\x00"
            + &format!("\\x{:02x}\\x00", OTHER.elf);
        let mask = "\\xff".repeat(7) + &"\\x00".repeat(9) + "\\xfe\\xff\\xff\\xff";
        let line = format!(":qemu-{}:M::{magic}:{mask}:/usr/bin/{emulator}:F", OTHER.machine);
        fs::write(&register, line).unwrap();
        Some(handler)
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let gone = fs::write(handler_file(), "-1");
        if self.mounted {
            let _ = Command::new("umount").arg(BINFMT).status();
        }
        assert!(gone.is_ok() || std::thread::panicking(), "unregister the handler: {gone:?}");
    }
}

/// What holds of the other architecture's image, `emulated` or not.
fn runs_or_says_why_not(t: &Test, emulated: bool) {
    let image = format!("{}/rbox/multi", t.suite.registry);
    let Other { platform: other, machine, .. } = OTHER;
    let expect = |out: Output| {
        if emulated {
            assert_eq!(out.code(0).stdout.trim(), machine);
        } else {
            let out = out.code(126);
            assert_eq!(out.stdout, "");
            let last = out.stderr.lines().last().unwrap_or_default();
            assert!(last.starts_with("rbox: exec: \"uname\": exec format error"), "{out:?}");
        }
    };
    t.ok(["pull", "-q", "--platform", other, &image]);
    // Asked for by name: no warning. Not asked for, and there is this one only: Docker's warning.
    let asked = t.rbox(["run", "--rm", "--platform", other, &image, "uname", "-m"]);
    assert!(!asked.stderr.contains("WARNING"), "{asked:?}");
    expect(asked);
    let silent = t.rbox(["run", "--rm", &image, "uname", "-m"]);
    let warning = format!(
        "WARNING: The requested image's platform ({other}) does not match the detected host platform ({HOST})"
    );
    assert!(silent.stderr.starts_with(&warning), "{silent:?}");
    expect(silent);
    let foreign = t.ok(["image", "inspect", "-f", "{{.Id}}", &image]);
    // A build for both platforms runs programs of both, or says what is missing.
    let both = format!("--platform={HOST},{other}");
    let built = t.name("built");
    let text = format!("FROM {image}\nRUN uname -m > /machine\n");
    let out = t.cmd(["build", &both, "-t", &built, "-"]).input(text).run();
    if emulated {
        out.code(0);
        t.ok(["rmi", "-f", &built]);
    } else {
        let why = format!("no program for {other} runs here, on {HOST}: binfmt_misc has no handler for it");
        let words = [&why, "install qemu-user-static", "exec format error"];
        assert!(out.code == 1 && words.iter().all(|word| out.stderr.contains(word)), "{out:?}");
    }
    // A container that cannot start is in the list and says so.
    let name = t.name("foreign");
    if emulated {
        t.ok(["run", "-d", "--name", &name, "--platform", other, &image, "sleep", "1000"]);
        assert_eq!(t.ok(["exec", &name, "uname", "-m"]), machine);
        t.ok(["rm", "-f", &name]);
    } else {
        t.rbox(["run", "-d", "--name", &name, "--platform", other, &image, "uname"])
            .refused(126, &["exec format error"]);
        assert_eq!(t.inspect(&name)["State"]["ExitCode"], 126);
        t.ok(["rm", &name]);
    }
    // The machine's own is fetched beside it, and there is nothing to warn of.
    let own = t.rbox(["run", "--rm", "--platform", HOST, &image, "sh", "-c", "echo $IMAGE_ARCH"]).code(0);
    assert_eq!(own.stdout.trim(), HOST.strip_prefix("linux/").unwrap_or_default());
    assert!(!own.stderr.contains("WARNING"), "{own:?}");
    assert_ne!(t.ok(["image", "inspect", "-f", "{{.Id}}", &image]), foreign);
    t.ok(["rmi", "-f", &image]);
    t.rbox(["image", "inspect", &foreign]).refused(1, &["No such image"]);
}

#[test]
fn images_of_another_architecture_run_where_the_kernel_can_or_say_why_not() {
    let Some(t) = Test::start() else { return };
    runs_or_says_why_not(&t, emulates());
}

#[test]
fn images_of_another_architecture_run_with_a_handler() {
    let Some(t) = Test::start() else { return };
    let _handler = if emulates() {
        None
    } else {
        let Some(handler) = Handler::register() else { return };
        Some(handler)
    };
    runs_or_says_why_not(&t, true);
}
