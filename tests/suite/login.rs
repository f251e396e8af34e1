//! `login` and `logout` with a registry that wants a password.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::registry::PasswordRegistry;
use crate::harness::{Cmd, OwnRoots, Test, has, skipped};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn credentials_are_verified_kept_and_forgotten() {
    let Some(t) = Test::start() else { return };
    let Some(registry) = PasswordRegistry::start(&t.dir("registry")) else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let docker = own.dir.join("docker");
    let cmd = |args: &[&str]| own.cmd(args).env("DOCKER_CONFIG", &docker);
    let server = registry.name.as_str();

    let wrong = cmd(&["login", "-u", "user", "--password-stdin", server]).input("not this").run();
    assert!(!wrong.stderr.contains("not this") && !docker.join("config.json").exists(), "{wrong:?}");
    wrong.refused(1, &["login attempt to", "failed with status: 401 Unauthorized"]);

    let out = cmd(&["login", "-u", "user", "--password-stdin", server]).input("pa:ss word\n").run();
    assert!(out.stderr.contains("WARNING! Your credentials are stored unencrypted in '"), "{out:?}");
    assert_eq!(out.ok(), "Login Succeeded");
    let file = docker.join("config.json");
    let text = format!(
        "{{\n\t\"auths\": {{\n\t\t\"{server}\": {{\n\t\t\t\"auth\": \"dXNlcjpwYTpzcyB3b3Jk\"\n\t\t}}\n\t}}\n}}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!((mode(&docker), mode(&file)), (0o700, 0o600));

    // The same again changes nothing, and is not warned about; what is kept is enough.
    let out = cmd(&["login", "-u", "user", "-p", "pa:ss word", &format!("http://{server}/v2/")]).run();
    assert!(out.stderr.contains("WARNING! Using --password via the CLI is insecure."), "{out:?}");
    assert!(!out.stderr.contains("unencrypted"), "{out:?}");
    let out = cmd(&["login", server]).run();
    assert!(out.stderr.contains("Authenticating with existing credentials... [Username: user]"), "{out:?}");
    assert_eq!(out.ok(), "Login Succeeded");

    for _ in 0..2 {
        assert_eq!(cmd(&["logout", server]).run().ok(), format!("Removing login credentials for {server}"));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\n\t\"auths\": {}\n}");
    assert_eq!(cmd(&["logout"]).run().ok(), "Removing login credentials for https://index.docker.io/v1/");
}

#[test]
fn what_cannot_be_asked_for_or_written_is_refused() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let docker = own.dir.join("docker");
    let cmd = |args: &[&str]| own.cmd(args).env("DOCKER_CONFIG", &docker).input("x");
    let server = t.suite.registry.as_str();
    let no_terminal = "Error: Cannot perform an interactive login from a non TTY device";
    cmd(&["login", server]).run().refused(1, &[no_terminal]);
    cmd(&["login", "-u", "user", server]).run().refused(1, &[no_terminal]);
    let conflict = "conflicting options: cannot specify both --password and --password-stdin";
    cmd(&["login", "-u", "u", "-p", "x", "--password-stdin", server]).run().refused(1, &[conflict]);
    let lacking = "the --password-stdin option requires --username to be set";
    cmd(&["login", "--password-stdin", server]).run().refused(1, &[lacking]);
    fs::create_dir_all(&docker).unwrap();
    fs::write(docker.join("config.json"), "{bad").unwrap();
    cmd(&["login", "-u", "u", "--password-stdin", server]).run().refused(1, &["left as it is"]);
    assert_eq!(fs::read_to_string(docker.join("config.json")).unwrap(), "{bad");
}

/// The helper keeps the secret; the file says no more than that there is one.
#[test]
fn helpers_keep_and_give_secrets() {
    let Some(t) = Test::start() else { return };
    let Some(registry) = PasswordRegistry::start(&t.dir("registry")) else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let docker = own.dir.join("docker");
    fs::create_dir_all(&docker).unwrap();
    let program = own.dir.join("docker-credential-mine");
    let script = "#!/bin/sh\ncd \"$KEPT\" || exit 1\ncase $1 in\nstore) cat > secret ;;\nget) read -r s; [ -f secret ] && cat secret || { echo credentials not found in native keychain; exit 1; } ;;\nerase) cat > erased; rm -f secret ;;\nesac\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", own.dir.display(), std::env::var("PATH").unwrap());
    let cmd =
        |args: &[&str]| own.cmd(args).env("DOCKER_CONFIG", &docker).env("PATH", &path).env("KEPT", &own.dir);
    let server = registry.name.as_str();
    fs::write(docker.join("config.json"), format!("{{\"credHelpers\":{{\"{server}\":\"mine\"}}}}")).unwrap();
    let out = cmd(&["login", "-u", "user", "--password-stdin", server]).input("pa:ss word").run();
    assert!(!out.stderr.contains("unencrypted"), "{out:?}");
    out.ok();
    let kept: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(own.dir.join("secret")).unwrap()).unwrap();
    let wanted = serde_json::json!({"ServerURL": server, "Username": "user", "Secret": "pa:ss word"});
    assert_eq!(kept, wanted);
    let text = fs::read_to_string(docker.join("config.json")).unwrap();
    assert!(text.contains(&format!("\"{server}\": {{}}")) && !text.contains("dXNlcjpw"), "{text}");
    assert_eq!(cmd(&["login", server]).run().ok(), "Login Succeeded");
    cmd(&["logout", server]).run().ok();
    assert!(!own.dir.join("secret").exists() && own.dir.join("erased").exists());
    cmd(&["login", server]).run().refused(1, &["non TTY device"]);
}

/// What is typed as a password is not shown.
#[test]
fn a_terminal_is_asked_without_echo() {
    let Some(t) = Test::start() else { return };
    if !has("script") {
        return skipped("script is not installed");
    }
    let Some(registry) = PasswordRegistry::start(&t.dir("registry")) else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let binary = crate::harness::binary();
    // The pauses let it ask before it is answered: what comes earlier, the terminal itself would show.
    let line = format!(
        "(sleep 1; echo user; sleep 1; echo 'pa:ss word'; sleep 1) | script -qec '{} login {}' /dev/null",
        binary.display(),
        registry.name
    );
    let out = Cmd::new("sh", ["-c", &line])
        .env("DOCKER_CONFIG", own.dir.join("docker"))
        .env("RBOX_ROOT", &own.root)
        .env("RBOX_STATE", &own.state)
        .run();
    for part in ["Username: ", "Password: ", "Login Succeeded"] {
        assert!(out.stdout.contains(part), "no {part:?} in {out:?}");
    }
    assert!(!out.stdout.contains("pa:ss"), "{out:?}");
}
