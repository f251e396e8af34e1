//! Registries behind TLS: Debian's `docker-registry` with certificates of a CA made here, with a password, with tokens,
//! and with credentials that a helper program keeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::format_push_string,
    clippy::result_large_err
)]
mod support;
#[path = "support/token_server.rs"]
mod token_server;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rbox_image::registry::Credentials;
use rbox_image::{ImageStore, Registries};

use support::{AUTH, PathText, Registry, have, layout, password_auth, pull_into};
use token_server::TokenServer;

const PROGRAMS: [&str; 3] = ["docker-registry", "skopeo", "openssl"];

fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// `<name>.pem` and `<name>.key`: a certificate authority.
fn authority(dir: &Path, name: &str) {
    let usage = "-addext keyUsage=critical,keyCertSign";
    openssl(
        dir,
        &format!("req -x509 {KEY} -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name} {usage}"),
    );
}

/// `<name>.pem` and `<name>.key`: a server's certificate by that authority, for these names.
fn certificate(dir: &Path, by: &str, name: &str, names: &str, days: &str) {
    openssl(dir, &format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
    let extensions = format!("subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\n");
    fs::write(dir.join("extensions"), extensions).unwrap();
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -out {name}.pem {days} -extfile extensions"
        ),
    );
}

/// A directory with a CA, a certificate for localhost, and an image in a registry's storage.
fn prepared() -> Option<tempfile::TempDir> {
    if !have(&PROGRAMS) {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    authority(dir.path(), "ca");
    certificate(dir.path(), "ca", "localhost", "DNS:localhost,IP:127.0.0.1", "-days 2");
    let source = dir.path().join("source");
    layout(&source);
    Registry::start(dir.path(), "", "").push(&source, "some/app:1", "oci");
    Some(dir)
}

fn tls(dir: &Path, name: &str) -> String {
    let dir = dir.path_text();
    format!(", tls: {{certificate: {dir}/{name}.pem, key: {dir}/{name}.key}}")
}

/// Registries as a file says them: one, with TLS, and perhaps with a CA.
fn registries(dir: &Path, host: &str, ca: Option<&str>) -> Registries {
    let ca = ca.map(|ca| format!(r#", "ca-file": "{}/{ca}.pem""#, dir.path_text())).unwrap_or_default();
    let file = dir.join("registries.json");
    fs::write(&file, format!(r#"{{"registries":{{"{host}":{{"plain-http":false{ca}}}}}}}"#)).unwrap();
    Registries::from_file(&file).unwrap()
}

fn store(dir: &Path, name: &str) -> ImageStore {
    ImageStore::open(&dir.join(name)).unwrap()
}

/// The error of a pull, as the command line prints it.
fn refusal(dir: &Path, registries: &Registries, host: &str) -> String {
    let error =
        pull_into(&store(dir, "refused"), registries, &format!("{host}/some/app:1"), Credentials::none());
    let error = error.unwrap_err();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn a_certificate_is_believed_only_if_its_authority_is() {
    let Some(dir) = prepared() else { return };
    let dir = dir.path();
    let registry = Registry::start(dir, &tls(dir, "localhost"), "");
    for name in ["localhost", "127.0.0.1"] {
        let host = format!("{name}:{}", registry.port);
        let trusting = registries(dir, &host, Some("ca"));
        let store = store(dir, name);
        let image = format!("{host}/some/app:1");
        let pulled = pull_into(&store, &trusting, &image, Credentials::none()).unwrap();
        assert_eq!(fs::read(pulled.image.layers[0].dir.join("data")).unwrap().len(), 1_000_000);
        assert!(pull_into(&store, &trusting, &image, Credentials::none()).unwrap().up_to_date);

        let text = refusal(dir, &registries(dir, &host, None), &host);
        assert!(text.contains("unknown authority") && text.contains("ca-file"), "{text}");
        assert!(text.contains(&format!("{host:?}")) && text.contains("registries.json"), "{text}");
    }
    // The right name of the wrong authority.
    authority(dir, "other");
    let host = format!("localhost:{}", registry.port);
    let text = refusal(dir, &registries(dir, &host, Some("other")), &host);
    assert!(text.contains("unknown authority") && text.contains("other.pem"), "{text}");
}

#[test]
fn certificates_that_are_wrong_are_refused_with_the_reason() {
    let Some(dir) = prepared() else { return };
    let dir = dir.path();
    certificate(dir, "ca", "stranger", "DNS:stranger.example", "-days 2");
    let registry = Registry::start(dir, &tls(dir, "stranger"), "");
    let host = format!("localhost:{}", registry.port);
    let text = refusal(dir, &registries(dir, &host, Some("ca")), &host);
    assert!(text.contains("not for localhost") && text.contains("stranger.example"), "{text}");

    certificate(dir, "ca", "late", "DNS:localhost", "-days -1");
    let registry = Registry::start(dir, &tls(dir, "late"), "");
    let host = format!("localhost:{}", registry.port);
    let text = refusal(dir, &registries(dir, &host, Some("ca")), &host);
    assert!(text.contains("expired"), "{text}");

    // Self-signed, as `openssl req -x509` makes it when nothing else is said, and then with the extension that the line names.
    let own = "req -x509 -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost";
    for (extension, works) in [("", false), ("-addext basicConstraints=critical,CA:FALSE", true)] {
        openssl(dir, format!("{own} {KEY} -keyout own.key -out own.pem {extension}").trim_end());
        let registry = Registry::start(dir, &tls(dir, "own"), "");
        let host = format!("localhost:{}", registry.port);
        let trusting = registries(dir, &host, Some("own"));
        if works {
            let image = format!("{host}/some/app:1");
            pull_into(&store(dir, "own-store"), &trusting, &image, Credentials::none()).unwrap();
        } else {
            let text = refusal(dir, &trusting, &host);
            assert!(
                text.contains("an authority's and not a server's") && text.contains("CA:FALSE"),
                "{text}"
            );
        }
    }

    let registry = Registry::start(dir, "", "");
    let host = format!("localhost:{}", registry.port);
    let text = refusal(dir, &registries(dir, &host, Some("ca")), &host);
    assert!(text.contains("plain-http") && text.contains("registries.json"), "{text}");

    let text = refusal(dir, &registries(dir, &host, Some("absent")), &host);
    assert!(text.contains("absent.pem"), "{text}");
    fs::write(dir.join("empty.pem"), "nothing\n").unwrap();
    let text = refusal(dir, &registries(dir, &host, Some("empty")), &host);
    assert!(text.contains("no certificate"), "{text}");
}

/// A Docker configuration with this JSON in it.
fn docker_config(dir: &Path, json: &str) -> Credentials {
    let file = dir.join("config.json");
    fs::write(&file, json).unwrap();
    Credentials::from_file(file)
}

#[test]
fn a_password_goes_over_tls() {
    let Some(dir) = prepared() else { return };
    let dir = dir.path();
    let registry = Registry::start(dir, &tls(dir, "localhost"), &password_auth(dir));
    let host = format!("localhost:{}", registry.port);
    let registries = registries(dir, &host, Some("ca"));
    let text = refusal(dir, &registries, &host);
    assert!(text.contains(&format!("pull access denied for {host}/some/app,")), "{text}");
    let credentials = docker_config(dir, &format!(r#"{{"auths":{{"{host}":{{"auth":"{AUTH}"}}}}}}"#));
    pull_into(&store(dir, "images"), &registries, &format!("{host}/some/app:1"), credentials).unwrap();
}

#[test]
fn tokens_open_a_registry() {
    let Some(dir) = prepared() else { return };
    let dir = dir.path();
    let key = "-newkey rsa:2048 -nodes -keyout issuer.key -out issuer.pem";
    openssl(dir, &format!("req -x509 {key} -days 2 -subj /CN=issuer"));
    let tokens = TokenServer::start(dir, "user:pa:ss word", "refresh");
    let auth = format!(
        "auth: {{token: {{realm: 'https://localhost:{}/token', service: s, issuer: issuer, rootcertbundle: {}/issuer.pem}}}}\n",
        tokens.port,
        dir.path_text()
    );
    let registry = Registry::start(dir, &tls(dir, "localhost"), &auth);
    let host = format!("localhost:{}", registry.port);
    let registries = registries(dir, &host, Some("ca"));
    let name = format!("{host}/some/app:1");
    // The server gives tokens to anyone, but none that opens anything.
    let text = refusal(dir, &registries, &host);
    assert!(text.contains(&format!("pull access denied for {host}/some/app,")), "{text}");
    let wrong =
        docker_config(dir, &format!(r#"{{"auths":{{"{host}":{{"username":"user","password":"x"}}}}}}"#));
    let error = pull_into(&store(dir, "wrong"), &registries, &name, wrong).unwrap_err().to_string();
    assert!(error.contains(&format!("pull access denied for {host}/some/app,")), "{error}");
    for (kind, entry) in
        [("password", format!(r#""auth":"{AUTH}""#)), ("identity", r#""identitytoken":"refresh""#.into())]
    {
        let credentials = docker_config(dir, &format!(r#"{{"auths":{{"{host}":{{{entry}}}}}}}"#));
        let store = store(dir, kind);
        pull_into(&store, &registries, &name, credentials.clone()).unwrap();
        let before = tokens.served();
        assert!(pull_into(&store, &registries, &name, credentials).unwrap().up_to_date, "{kind}");
        assert_eq!(tokens.served(), before + 1, "one token a pull");
    }
}

/// The environment that tells the test below that it is the child; its value is the registry.
const CHILD: &str = "RBOX_TEST_HELPER_REGISTRY";

#[test]
#[ignore = "run by the test below, with another PATH"]
fn pull_as_docker_would() {
    let Ok(host) = env::var(CHILD) else { return };
    let dir = PathBuf::from(env::var_os("DOCKER_CONFIG").unwrap());
    let registries = registries(&dir, &host, Some("ca"));
    let pulled =
        pull_into(&store(&dir, "images"), &registries, &format!("{host}/some/app:1"), Credentials::docker());
    match pulled {
        Ok(_) => println!("PULLED"),
        Err(error) => println!("REFUSED {error}"),
    }
}

#[test]
fn a_helper_program_keeps_the_password() {
    let Some(dir) = prepared() else { return };
    let dir = dir.path();
    let registry = Registry::start(dir, &tls(dir, "localhost"), &password_auth(dir));
    let host = format!("localhost:{}", registry.port);
    let program = |name: &str, script: &str| {
        let file = dir.join(format!("docker-credential-{name}"));
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let answer = r#"echo '{"ServerURL":"x","Username":"user","Secret":"pa:ss word"}'"#;
    program("good", &format!("read server; [ \"$1 $server\" = \"get {host}\" ] || exit 9; {answer}"));
    program("none", "echo 'credentials not found in native keychain'; exit 1");
    program("locked", "echo 'the keychain is locked'; exit 1");
    program("mute", "echo 'no display' >&2; exit 3");
    program("babble", "echo hello");
    let run = |config: &str| -> String {
        fs::write(dir.join("config.json"), config.replace("HOST", &host)).unwrap();
        let path = format!("{}:{}", dir.path_text(), env::var("PATH").unwrap());
        let Output { stdout, stderr, .. } = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "pull_as_docker_would"])
            .env(CHILD, &host)
            .env("DOCKER_CONFIG", dir)
            .env("PATH", path)
            .output()
            .unwrap();
        let _ = fs::remove_dir_all(dir.join("images"));
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    };
    for config in [
        r#"{"credsStore":"good"}"#,
        r#"{"credHelpers":{"HOST":"good"},"credsStore":"locked"}"#,
        r#"{"credsStore":"none","auths":{"HOST":{"auth":"dXNlcjpwYTpzcyB3b3Jk"}}}"#,
    ] {
        let said = run(config);
        assert!(said.contains("PULLED"), "{config}: {said}");
    }
    for (config, why) in [
        (r#"{"credsStore":"locked"}"#, "docker-credential-locked: the keychain is locked"),
        (r#"{"credsStore":"mute"}"#, "docker-credential-mute: no display"),
        (r#"{"credsStore":"babble"}"#, "docker-credential-babble"),
        (r#"{"credsStore":"missing"}"#, "docker-credential-missing: No such file"),
        (r#"{"credsStore":"none"}"#, "no basic auth credentials"),
    ] {
        let said = run(config);
        assert!(said.contains("REFUSED") && said.contains(why), "{config}: {said}");
    }
}
