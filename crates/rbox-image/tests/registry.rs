//! The normal path against Debian's `docker-registry`, filled by `skopeo`: plain, with a password, and as a mirror.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::format_push_string,
    clippy::result_large_err
)]
mod support;

use std::fs;
use std::process::Command;

use rbox_image::registry::Credentials;
use rbox_image::{ImageStore, Registries};

use support::{AUTH, Registry, have, layout, password_auth, pull_into};

#[test]
fn pulls_from_a_real_registry() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    let source = dir.path().join("source");
    layout(&source);
    registry.push(&source, "some/app:oci", "oci");
    registry.push(&source, "some/app:docker", "v2s2");
    let store = ImageStore::open(&dir.path().join("images")).unwrap();
    let mut ids = Vec::new();
    for tag in ["oci", "docker"] {
        let name = format!("localhost:{}/some/app:{tag}", registry.port);
        let pulled = pull_into(&store, &Registries::default(), &name, Credentials::none()).unwrap();
        assert!(!pulled.up_to_date);
        assert!(pull_into(&store, &Registries::default(), &name, Credentials::none()).unwrap().up_to_date);
        let data = fs::read(pulled.image.layers[0].dir.join("data")).unwrap();
        assert_eq!(data.len(), 1_000_000);
        let output = Command::new("skopeo")
            .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{name}")])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), pulled.digest.to_string());
        ids.push(pulled.image.layers);
    }
    assert_eq!(ids[0][0].dir, ids[1][0].dir, "layers are shared by diff ID");

    // The store is an OCI layout: skopeo reads it.
    let copy = dir.path().join("copy");
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--preserve-digests"])
        .arg(format!("oci:{}:oci", store.dir().display()))
        .arg(format!("oci:{}:x", copy.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let missing = format!("localhost:{}/some/app:none", registry.port);
    let error = pull_into(&store, &Registries::default(), &missing, Credentials::none()).unwrap_err();
    assert!(error.to_string().contains(&format!("manifest for {missing} not found")), "{error}");
}

#[test]
fn a_mirror_serves_dockers_names() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", "");
    let source = dir.path().join("source");
    layout(&source);
    registry.push(&source, "library/app:1", "v2s2");
    let file = dir.path().join("registries.json");
    let config =
        format!(r#"{{"registries":{{"docker.io":{{"mirrors":["http://127.0.0.1:{}"]}}}}}}"#, registry.port);
    fs::write(&file, config).unwrap();
    let store = ImageStore::open(&dir.path().join("images")).unwrap();
    let registries = Registries::from_file(&file).unwrap();
    let pulled = pull_into(&store, &registries, "app:1", Credentials::none()).unwrap();
    assert_eq!(pulled.image.references[0].full(), "docker.io/library/app:1");
    assert_eq!(store.find("app:1").unwrap().unwrap().id, pulled.image.id);
}

#[test]
fn a_password_is_asked_for_and_found() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path(), "", &password_auth(dir.path()));
    let source = dir.path().join("source");
    layout(&source);
    registry.push(&source, "some/app:1", "oci");
    let store = ImageStore::open(&dir.path().join("images")).unwrap();
    let name = format!("127.0.0.1:{}/some/app:1", registry.port);
    let error =
        pull_into(&store, &Registries::default(), &name, Credentials::none()).unwrap_err().to_string();
    let denied = format!("pull access denied for 127.0.0.1:{}/some/app,", registry.port);
    assert!(error.contains(&denied), "{error}");
    let file = dir.path().join("config.json");
    let write = |auth: &str| {
        fs::write(&file, format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"{auth}"}}}}}}"#, registry.port))
    };
    write("dXNlcjp3cm9uZw==").unwrap(); // user:wrong
    assert!(pull_into(&store, &Registries::default(), &name, Credentials::from_file(file.clone())).is_err());
    write(AUTH).unwrap();
    pull_into(&store, &Registries::default(), &name, Credentials::from_file(file.clone())).unwrap();
}
