//! `--mount type=image`: what an image has, seen in a container.

use std::fs;
use std::path::Path;

use crate::harness::{BUSYBOX, OwnRoots, PYTHON, Project, Test};

/// Roots of its own with both images, since these tests remove them.
fn with_images(t: &Test) -> OwnRoots {
    let own = OwnRoots::new(t, "own", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    own.run(&["pull", "-q", PYTHON]).ok();
    own
}

fn mounts_below(dir: &Path) -> usize {
    let dir = dir.to_str().unwrap();
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(dir)).count()
}

#[test]
fn all_of_it_or_a_part_and_read_only() {
    let Some(t) = Test::start() else { return };
    let own = with_images(&t);
    let sh = |fields: &str, script: &str| {
        let mount = format!("type=image,source={PYTHON},target=/py{fields}");
        own.run(&["run", "--rm", "--mount", &mount, BUSYBOX, "sh", "-c", script])
    };
    let seen = sh("", "ls -d /py/usr /py/etc; grep ' /py ' /proc/mounts; touch /py/x || echo refused").ok();
    assert!(seen.starts_with("/py/etc\n/py/usr\noverlay /py overlay ro,"), "{seen}");
    assert!(seen.contains("nosuid") && seen.contains("nodev") && seen.ends_with("refused"), "{seen}");
    // A directory, a file, and what a link of the image leads to, inside of it.
    assert_eq!(sh(",image-subpath=etc", "cat /py/hostname /py/debian_version | wc -l").ok(), "1");
    let line = sh(",image-subpath=etc/passwd", "head -n 1 /py; test -f /py && echo file").ok();
    assert_eq!(line, "root:x:0:0:root:/root:/bin/bash\nfile");
    assert_eq!(sh(",image-subpath=bin", "test -x /py/bash && echo bash").ok(), "bash");
    sh(",image-subpath=no/such", "true")
        .refused(125, &[&format!("cannot access path no/such of image {PYTHON}: no such file or directory")]);
    sh(",image-subpath=../etc", "true").refused(125, &["subpath must be a relative path within the image"]);
    let out = own.run(&["create", "--mount", "type=image,source=nobody/has:this,target=/x", BUSYBOX]);
    out.refused(125, &["No such image: nobody/has:this"]);
    assert_eq!(own.run(&["ps", "-aq"]).ok(), "");
    assert_eq!(mounts_below(&own.root) + mounts_below(&own.state), 0);
}

#[test]
fn the_container_keeps_it_as_it_was() {
    let Some(t) = Test::start() else { return };
    let own = with_images(&t);
    let mount = format!("type=image,source={PYTHON},target=/py,image-subpath=etc");
    own.run(&["create", "--name", "cc", "--mount", &mount, BUSYBOX, "cat", "/py/debian_version"]).ok();
    let version = own.run(&["start", "-a", "cc"]).ok();
    assert!(version.contains('.') || version.contains('/'), "{version}");
    let id = own.run(&["image", "inspect", "-f", "{{.Id}}", PYTHON]).ok();
    let shown = own.run(&["inspect", "-f", "{{json .Mounts}} {{json .HostConfig.Mounts}}", "cc"]).ok();
    for part in [
        "\"Type\":\"image\"",
        &format!("\"Name\":\"{PYTHON}\""),
        &format!("\"Source\":\"{id}\""),
        "\"RW\":false",
        "\"ImageOptions\":{\"Subpath\":\"etc\"}",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // The image is in use; with -f the name goes, and leads to another one; the container's stays.
    own.run(&["rmi", PYTHON]).refused(1, &["must force", "is using its referenced image"]);
    own.run(&["rmi", "-f", PYTHON]).ok();
    own.run(&["image", "prune", "-af"]).ok();
    own.run(&["tag", BUSYBOX, PYTHON]).ok();
    assert_eq!(own.run(&["start", "-a", "cc"]).ok(), version);
    // One that has the mounts of another has what it has.
    let shared = own.run(&["run", "--rm", "--volumes-from", "cc", BUSYBOX, "cat", "/py/debian_version"]);
    assert_eq!(shared.ok(), version);
    // It goes with the last container that has it.
    own.run(&["rmi", "-f", PYTHON, BUSYBOX]).ok();
    own.run(&["rm", "cc"]).ok();
    assert_eq!(fs::read_dir(own.root.join("image/layers")).map_or(0, Iterator::count), 0);
}

#[test]
fn files_are_copied_out_of_it_and_it_comes_later() {
    let Some(t) = Test::start() else { return };
    let own = with_images(&t);
    let mount = |at: &str, part: &str| {
        let part = if part.is_empty() { String::new() } else { format!(",image-subpath={part}") };
        format!("type=image,source={PYTHON},target={at}{part}")
    };
    own.run(&["create", "--name", "cc", "--mount", &mount("/py", "etc"), BUSYBOX, "sleep", "1000"]).ok();
    let out = t.dir("out");
    let to = out.join("file");
    let copy = |from: &str| own.run(&["cp", from, to.to_str().unwrap()]);
    copy("cc:/py/debian_version").ok();
    assert!(fs::metadata(&to).unwrap().len() > 2);
    own.run(&["cp", to.to_str().unwrap(), "cc:/py/new"]).refused(1, &["marked read-only"]);
    own.run(&["start", "cc"]).ok();
    fs::remove_file(&to).unwrap();
    copy("cc:/py/debian_version").ok();
    assert!(fs::metadata(&to).unwrap().len() > 2);
    own.run(&["mount", "add", "cc", &mount("/all", "")]).ok();
    own.run(&["mount", "add", "cc", &mount("/line", "etc/passwd")]).ok();
    assert_eq!(
        own.run(&["exec", "cc", "sh", "-c", "ls -d /all/usr; head -n 1 /line"]).ok(),
        "/all/usr\nroot:x:0:0:root:/root:/bin/bash"
    );
    own.run(&["mount", "rm", "cc", "/all"]).ok();
    own.run(&["exec", "cc", "ls", "/all/usr"]).code(1);
    own.run(&["restart", "-t", "0", "cc"]).ok();
    assert_eq!(own.run(&["exec", "cc", "head", "-n", "1", "/line"]).ok(), "root:x:0:0:root:/root:/bin/bash");
    assert_eq!(mounts_below(&own.root) + mounts_below(&own.state), 0);
    own.run(&["rm", "-f", "cc"]).ok();
}

#[test]
fn compose_mounts_images_and_follows_them() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(
        &t,
        &format!(
            "services:
  data:
    build: {{context: ., dockerfile_inline: \"FROM scratch\\nCOPY page /www/page\\n\"}}
    scale: 0
  web:
    image: busybox
    command: [sleep, '100000']
    stop_signal: KILL
    volumes:
      - {{type: image, source: data, target: /site, image: {{subpath: www}}}}
      - {{type: image, source: {PYTHON}, target: /py}}
"
        ),
    );
    project.write("page", "one");
    project.done(&["up", "-d"]);
    let page = || project.run(&["exec", "-T", "web", "cat", "/site/page"]).ok();
    assert_eq!(page(), "one");
    project.run(&["exec", "-T", "web", "ls", "/py/usr/bin"]).ok();
    let first = project.id("web");
    project.done(&["up", "-d"]);
    assert_eq!(project.id("web"), first);
    project.write("page", "two");
    let told = project.done(&["up", "-d", "--build"]);
    assert!(told.contains("-data: "), "{told}");
    assert_eq!(page(), "two");
    assert_ne!(project.id("web"), first);
    // Also where only the one that mounts it is asked for.
    let second = project.id("web");
    project.done(&["up", "-d", "web"]);
    assert_eq!((project.id("web"), page()), (second, "two".to_owned()));
    project.done(&["down", "--rmi", "local"]);
}
